//! Heads of blocks: what stands before a brace, over one line or several, and what it says of the block.

/// The longest head, in bytes, that is looked at.
const LONGEST: usize = 2_000;

/// What a brace opens.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Block {
    /// By its name.
    Function(String),
    /// Control flow, or a function without a name: one level more.
    Level,
    /// A type, a value, an arm.
    Other,
}

/// What stands before a brace since the last statement.
#[derive(Default)]
pub(crate) struct Head {
    rust: bool,
    text: String,
    line: u32,
    /// Parentheses and brackets that are open in it.
    brackets: usize,
}

impl Head {
    pub(crate) fn new(rust: bool) -> Self {
        Self { rust, ..Self::default() }
    }

    /// In most languages a line's end may end a statement; Rust always has a `;` or a brace.
    pub(crate) fn begin_line(&mut self, code: &str) {
        let code = code.trim_start();
        let goes_on = code.is_empty()
            || code.starts_with(['{', '}', ':', ',', '.', '?', '&', '|', '-', '+', '=', ')'])
            || ["throws", "where", "const", "override", "noexcept"].iter().any(|word| code.starts_with(word))
            || self.text.trim_end().ends_with([',', '=', ':', '&', '|', '+', '>']);
        if !self.rust && self.brackets == 0 && !goes_on {
            self.clear();
        }
    }

    pub(crate) fn push(&mut self, c: char, line: u32) {
        if self.text.is_empty() {
            if c.is_whitespace() {
                return;
            }
            self.line = line;
        }
        match c {
            '(' | '[' => self.brackets += 1,
            ')' | ']' => self.brackets = self.brackets.saturating_sub(1),
            _ => {}
        }
        if self.text.len() < LONGEST {
            self.text.push(c);
        }
    }

    pub(crate) fn clear(&mut self) {
        self.text.clear();
        self.brackets = 0;
    }

    /// In which line it begins.
    pub(crate) fn line(&self) -> u32 {
        self.line
    }

    pub(crate) fn block(&self) -> Block {
        block_of(&self.text, self.rust)
    }
}

const CONTROL: [&str; 14] = [
    "if", "for", "while", "switch", "match", "catch", "else", "do", "loop", "try", "select", "with", "when", "foreach",
];
const TYPES: [&str; 14] = [
    "struct",
    "enum",
    "class",
    "interface",
    "impl",
    "trait",
    "mod",
    "namespace",
    "union",
    "record",
    "object",
    "extension",
    "return",
    "new",
];

/// What the block is whose head this is.
fn block_of(head: &str, rust: bool) -> Block {
    let head = head.trim();
    let mut words = head.split(|c: char| !(is_word(c))).filter(|word| !word.is_empty());
    let keyword = if rust { "fn" } else { "func" };
    if words.clone().any(|word| word == keyword || !rust && ["function", "fun"].contains(&word)) {
        return declared(head).map_or(Block::Level, Block::Function);
    }
    if head.ends_with("=>") {
        return match assigned(head) {
            _ if rust => Block::Other,
            Some(name) => Block::Function(name),
            None => Block::Level,
        };
    }
    // `impl A for B` is no loop.
    if rust && words.clone().any(|word| word == "impl") {
        return Block::Other;
    }
    // A label or an assignment may come before, as in `let x = if a {`.
    if words.clone().any(|word| CONTROL.contains(&word)) {
        return Block::Level;
    }
    if rust {
        return if head.ends_with('|') { Block::Level } else { Block::Other };
    }
    if words.any(|word| TYPES.contains(&word)) {
        return Block::Other;
    }
    method(head).map_or(Block::Other, Block::Function)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// The name after `fn`, `func`, `function` or `fun`; of Go's methods the one after the receiver.
fn declared(head: &str) -> Option<String> {
    let (_, after) = ["fn ", "function", "func", "fun "].iter().find_map(|keyword| head.split_once(keyword))?;
    let after = after.trim_start_matches(['*', ' ']);
    let named = match after.strip_prefix('(') {
        Some(receiver) => receiver.split_once(") ").map_or("", |(_, name)| name).trim_start(),
        None => after,
    };
    let name: String = named.chars().take_while(|c| is_word(*c)).collect();
    // `func(a int) error {` has a type where a method has its name and its arguments.
    let anonymous = name.is_empty() || after.starts_with('(') && !named[name.len()..].starts_with(['(', '[']);
    if anonymous { assigned(head) } else { Some(name) }
}

/// The name a function without one is given: `const name = (a) =>`, `name: function (a)`.
fn assigned(head: &str) -> Option<String> {
    let (before, after) = head.split_once(['=', ':'])?;
    let name = before.split_whitespace().last()?;
    let after = after.trim_start_matches(['=', ' ']);
    let is_function = after.starts_with(['(', '<']) || ["async", "func"].iter().any(|word| after.starts_with(word));
    let single = after.split_once("=>").is_some_and(|(argument, _)| argument.trim().chars().all(is_word));
    (name.chars().all(is_word) && (is_function || single)).then(|| name.to_owned())
}

/// `type name(arguments)`, with what languages put after it.
fn method(head: &str) -> Option<String> {
    let (before, arguments) = head.split_once('(')?;
    let name = before.split_whitespace().last()?.trim_start_matches(['*', '&']);
    let name = name.rsplit("::").next().unwrap_or(name);
    let is_name = name.starts_with(|c: char| c.is_alphabetic() || c == '_' || c == '~' || c == '#');
    let is_head =
        arguments.contains(')') && !before.contains(['=', '.', ',', '"', '?']) && !head.ends_with([',', '(', '=']);
    (is_name && is_head).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_tell_what_a_block_is() {
        let named = |name: &str| Block::Function(name.to_owned());
        for (head, block) in [
            ("func (s *Server) Serve(a int) error", named("Serve")),
            ("func main()", named("main")),
            ("go func()", Block::Level),
            ("return func(w http.ResponseWriter) error", Block::Level),
            ("handle := func(a int) error", named("handle")),
            ("export default async function load(a: string): Promise<void>", named("load")),
            ("const load = async (a) =>", named("load")),
            ("const load = a =>", named("load")),
            ("describe('x', () =>", Block::Level),
            ("items.map((item) =>", Block::Level),
            ("public static void main(String[] a) throws E", named("main")),
            ("int Box::area(int a) const", named("area")),
            ("static int f(int a)\n", named("f")),
            ("fun load(a: Int): Int", named("load")),
            ("class A extends B", Block::Other),
            ("new Thread(a)", Block::Other),
            ("} else if (a)", Block::Level),
            ("switch (a)", Block::Level),
            ("const a =", Block::Other),
            ("call(a,", Block::Other),
            ("var list = new List<int>()", Block::Other),
        ] {
            assert_eq!(block_of(head, false), block, "{head}");
        }
        for (head, block) in [
            ("pub(crate) fn f<'a>(a: &'a str) -> Option<&'a str>", named("f")),
            ("let x = match y", Block::Level),
            ("Some(x) =>", Block::Other),
            ("items.map(|item|", Block::Level),
            ("impl A for B", Block::Other),
            ("Point", Block::Other),
        ] {
            assert_eq!(block_of(head, true), block, "{head}");
        }
    }
}
