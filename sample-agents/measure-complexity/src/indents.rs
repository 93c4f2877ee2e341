//! Python: functions by `def`, nesting by the indentation of what opens a block.

use crate::{Function, Seen};

/// Functions within functions, and blocks within blocks, that are still followed.
const MOST: usize = 100;

struct Open {
    own: Function,
    indent: usize,
    /// The indentations of the blocks that are open in it.
    blocks: Vec<usize>,
}

pub(crate) fn functions(seen: &[Seen<'_>]) -> Vec<Function> {
    let mut found = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut text: Option<&str> = None;
    let mut last = 0;
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
        // A line that only closes brackets belongs to the head or the call before it.
        let closes = trimmed.starts_with([')', ']', '}']);
        while let Some(mut function) = open.pop_if(|function| indent <= function.indent && !closes) {
            function.own.last = last;
            found.push(function.own);
        }
        last = line.number;
        text = ["\"\"\"", "'''"].into_iter().find(|quote| trimmed.matches(quote).count() % 2 == 1);
        if let Some(rest) = trimmed.strip_prefix("async def ").or_else(|| trimmed.strip_prefix("def ")) {
            if open.len() < MOST {
                let name = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let own = Function { name, first: line.number, last, depth: 0, deepest: line.number };
                open.push(Open { own, indent, blocks: Vec::new() });
            }
        } else if let Some(function) = open.last_mut() {
            function.blocks.retain(|block| *block < indent);
            let word = trimmed.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            let opens =
                ["if", "for", "while", "with", "try", "match", "async", "elif", "else", "except", "finally", "case"];
            if opens.contains(&word) && function.blocks.len() < MOST {
                function.blocks.push(indent);
                let depth = u32::try_from(function.blocks.len()).unwrap_or(u32::MAX);
                if depth > function.own.depth {
                    (function.own.depth, function.own.deepest) = (depth, line.number);
                }
            }
        }
    }
    for mut function in open {
        function.own.last = last;
        found.push(function.own);
    }
    found
}
