//! Python: functions by `def`, nesting by the indentation of what opens a block.

use crate::{Function, Seen};

struct Open {
    name: String,
    first: u32,
    last: u32,
    indent: usize,
    /// The indentations of the blocks that are open in it.
    blocks: Vec<usize>,
    deepest: (u32, u32),
}

pub(crate) fn functions(seen: &[Seen<'_>]) -> Vec<Function> {
    let mut found = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut text: Option<&str> = None;
    for line in seen {
        let trimmed = line.text.trim();
        if let Some(quote) = text {
            if trimmed.contains(quote) {
                text = None;
            }
            continue;
        }
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let indent = line.text.chars().take_while(|c| c.is_whitespace()).map(|c| if c == '\t' { 8 } else { 1 }).sum();
        while open.last().is_some_and(|function| indent <= function.indent) {
            found.extend(open.pop().map(close));
        }
        if let Some(quote) = ["\"\"\"", "'''"].into_iter().find(|quote| trimmed.matches(quote).count() % 2 == 1) {
            text = Some(quote);
        }
        for function in &mut open {
            function.last = line.number;
        }
        if let Some(rest) = trimmed.strip_prefix("async def ").or_else(|| trimmed.strip_prefix("def ")) {
            let name = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let (first, last) = (line.number, line.number);
            open.push(Open { name, first, last, indent, blocks: Vec::new(), deepest: (0, line.number) });
        } else if let Some(function) = open.last_mut() {
            function.blocks.retain(|block| *block < indent);
            let word = trimmed.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            let opens = ["if", "for", "while", "with", "try", "match", "async", "elif", "else", "except", "finally", "case"];
            if opens.contains(&word) && trimmed.ends_with(':') {
                function.blocks.push(indent);
                let depth = u32::try_from(function.blocks.len()).unwrap_or(u32::MAX);
                if depth > function.deepest.0 {
                    function.deepest = (depth, line.number);
                }
            }
        }
    }
    while let Some(function) = open.pop() {
        found.push(close(function));
    }
    found
}

fn close(function: Open) -> Function {
    let Open { name, first, last, deepest: (depth, deepest), .. } = function;
    Function { name, first, last, depth, deepest }
}
