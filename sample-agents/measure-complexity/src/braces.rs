//! Languages with braces: functions and their nesting, told from the text with strings and comments left out.

use crate::{Function, Seen};

struct Open {
    function: Option<(String, u32)>,
    deepest: (u32, u32),
}

pub(crate) fn functions(seen: &[Seen<'_>]) -> Vec<Function> {
    let mut found = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut code = Code::default();
    // What stands before a brace since the last `;`, `{` or `}`: a function's head may take several lines.
    let mut head = String::new();
    let mut head_line = 0;
    for line in seen {
        for c in code.of(line.text).chars().chain(['\n']) {
            match c {
                '{' => {
                    let function = name_of(&head).map(|name| (name, head_line.max(1)));
                    open.push(Open { function, deepest: (0, line.number) });
                    note_depth(&mut open, line.number);
                    head.clear();
                }
                '}' => {
                    if let Some(Open { function: Some((name, first)), deepest: (depth, deepest) }) = open.pop() {
                        found.push(Function { name, first, last: line.number, depth, deepest });
                    }
                    head.clear();
                }
                ';' => head.clear(),
                c => {
                    if head.trim().is_empty() {
                        head_line = line.number;
                        head.clear();
                    }
                    if head.len() < 2_000 {
                        head.push(c);
                    }
                }
            }
        }
    }
    found
}

/// Tells the innermost function around a brace how deep it is now.
fn note_depth(open: &mut [Open], line: u32) {
    let Some(innermost) = open.iter().rposition(|one| one.function.is_some()) else { return };
    let depth = u32::try_from(open.len() - 1 - innermost).unwrap_or(u32::MAX);
    if depth > open[innermost].deepest.0 {
        open[innermost].deepest = (depth, line);
    }
}

/// The name of the function whose body comes next, if it is one.
fn name_of(head: &str) -> Option<String> {
    const NOT: [&str; 22] = [
        "if", "for", "while", "switch", "match", "catch", "else", "do", "loop", "return", "try", "struct", "enum", "class",
        "interface", "impl", "trait", "mod", "namespace", "union", "select", "with",
    ];
    let head = head.trim();
    let words: Vec<&str> = head.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).filter(|w| !w.is_empty()).collect();
    for keyword in ["fn", "func", "function", "fun"] {
        if let Some(at) = words.iter().position(|word| *word == keyword) {
            let after = head.split_once(keyword).map_or("", |(_, after)| after).trim_start();
            // `func (r *Receiver) Name(` and `function (`
            let named = if after.starts_with('(') { words.iter().skip(at + 1).rev().find(|_| keyword == "func") } else { words.get(at + 1) };
            return Some(named.map_or("(anonymous)", |name| name).to_owned()).map(|name| match (keyword, after.starts_with('(')) {
                ("func", true) => receiver_name(after).unwrap_or(name),
                _ => name,
            });
        }
    }
    if head.ends_with("=>") {
        let before = head.split('=').next().unwrap_or_default();
        let name = before.split_whitespace().last().filter(|w| w.chars().all(|c| c.is_alphanumeric() || c == '_'));
        return Some(name.unwrap_or("(anonymous)").to_owned());
    }
    // `type name(arguments)`, with what languages put after it
    let (before, _) = head.split_once('(')?;
    if !head.contains(')') || before.contains('=') {
        return None;
    }
    let name = before.split_whitespace().last()?.trim_start_matches(['*', '&']);
    let valid = name.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '~') && !NOT.contains(&name);
    let first = words.first().copied().unwrap_or_default();
    (valid && !NOT.contains(&first)).then(|| name.rsplit("::").next().unwrap_or(name).to_owned())
}

/// `(r *Receiver) Name(…)`
fn receiver_name(after: &str) -> Option<String> {
    let rest = after.split_once(')')?.1.trim_start();
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// What is left of lines without strings and comments.
#[derive(Default)]
struct Code {
    in_comment: bool,
    in_text: Option<char>,
}

impl Code {
    fn of(&mut self, line: &str) -> String {
        let mut out = String::with_capacity(line.len());
        let mut rest = line.chars().peekable();
        while let Some(c) = rest.next() {
            if self.in_comment {
                if c == '*' && rest.peek() == Some(&'/') {
                    rest.next();
                    self.in_comment = false;
                }
                continue;
            }
            if let Some(quote) = self.in_text {
                match c {
                    '\\' => drop(rest.next()),
                    c if c == quote => self.in_text = None,
                    _ => {}
                }
                continue;
            }
            match (c, rest.peek()) {
                ('/', Some('/')) => break,
                ('/', Some('*')) => {
                    rest.next();
                    self.in_comment = true;
                }
                ('"' | '`', _) => self.in_text = Some(c),
                // A character, or Rust's lifetime: only the first is closed again soon.
                ('\'', _) => {
                    let ahead: Vec<char> = rest.clone().take(4).collect();
                    let skip = match ahead.as_slice() {
                        ['\\', _, '\'', ..] => 3,
                        [_, '\'', ..] => 2,
                        _ if ahead.first().is_some_and(|c| c.is_alphabetic()) && out.ends_with(['&', '<', ' ', '+', '(', ',']) => 0,
                        _ => {
                            self.in_text = Some('\'');
                            0
                        }
                    };
                    (0..skip).for_each(|_| drop(rest.next()));
                }
                _ => out.push(c),
            }
        }
        // Only a template goes on over a line's end.
        if self.in_text.is_some_and(|quote| quote != '`') {
            self.in_text = None;
        }
        out
    }
}
