//! Languages with braces: functions and their nesting, told from the code between the braces.

use crate::code::Code;
use crate::heads::{Block, Head};
use crate::{Function, Seen};

/// A brace that is open.
struct Open {
    /// Where its function is among the open ones, if it is in one; its own place where it is a function.
    function: Option<usize>,
    /// The levels of nesting in that function.
    depth: u32,
    /// Of a function: itself, as far as it is seen.
    own: Option<Function>,
}

pub(crate) fn functions(seen: &[Seen<'_>], rust: bool) -> Vec<Function> {
    let mut found = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let (mut code, mut text) = (Code::new(rust), String::new());
    let mut head = Head::new(rust);
    for line in seen {
        code.of(line.text, &mut text);
        head.begin_line(&text);
        for c in text.chars().chain(['\n']) {
            match c {
                '{' => {
                    push(&mut open, head.block(), head.line(), line.number);
                    head.clear();
                }
                '}' => {
                    if let Some(Function { name, first, depth, deepest, .. }) = open.pop().and_then(|open| open.own) {
                        found.push(Function { name, first, last: line.number, depth, deepest });
                    }
                    head.clear();
                }
                ';' => head.clear(),
                c => head.push(c, line.number),
            }
        }
    }
    found
}

fn push(open: &mut Vec<Open>, block: Block, head_line: u32, line: u32) {
    let outer = open.last();
    let (function, depth) = outer.map_or((None, 0), |outer| (outer.function, outer.depth));
    let place = open.len();
    let next = match block {
        Block::Function(name) => {
            let own = Function { name, first: head_line, last: line, depth: 0, deepest: line };
            Open { function: Some(place), depth: 0, own: Some(own) }
        }
        Block::Level => {
            let depth = depth + 1;
            if let Some(own) = function.and_then(|place| open[place].own.as_mut()).filter(|own| own.depth < depth) {
                (own.depth, own.deepest) = (depth, line);
            }
            Open { function, depth, own: None }
        }
        Block::Other => Open { function, depth, own: None },
    };
    open.push(next);
}
