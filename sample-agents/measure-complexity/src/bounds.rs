//! How deep a parser of Rust may have to recurse, told from the tokens before it does: a parser that descends has no
//! bound of its own, and a stack that overflows ends the agent.
//!
//! Recursion grows with each token and ends where a construct must end: at `;`, at `=>`, at a `,` outside of `<…>` and
//! of a closure's head, and at a `}` after which something else begins. So the tokens since the last such end, each with
//! its cost and summed up over the brackets around, bound it. Of 2,000 files of well known crates 11 are beyond; what is
//! beyond is measured by its braces. At the bound `syn` needs at most 400 KiB of stack, optimised; an agent has 1 MiB.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Steps that a parser may still follow.
const MOST: usize = 400;
/// What a pair of brackets costs, in steps: expression, unary, postfix, atom, block, statement lie between two of them.
const BRACKETS: usize = 8;

/// Whether a parser may follow.
pub(crate) fn hold(tokens: &TokenStream) -> bool {
    within(tokens.clone(), 0)
}

fn within(tokens: TokenStream, outside: usize) -> bool {
    let mut steps = outside;
    // What a comma does not end: generic arguments, and a closure's head.
    let (mut angles, mut bars) = (0_usize, false);
    // The mark before, where what follows makes an arrow or an attribute of it.
    let mut open = ' ';
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let before = std::mem::replace(&mut open, ' ');
        // Attributes, and so the lines of documentation, are read in a loop.
        let in_attribute = before == '#' || matches!(&token, TokenTree::Punct(mark) if mark.as_char() == '#');
        steps += if in_attribute { 0 } else { cost(&token) };
        if steps > MOST {
            return false;
        }
        let mut ends = false;
        match &token {
            TokenTree::Group(group) => {
                if !within(group.stream(), steps + BRACKETS) {
                    return false;
                }
                ends = group.delimiter() == Delimiter::Brace && begins_anew(tokens.peek());
            }
            TokenTree::Punct(mark) => match (before, mark.as_char()) {
                ('=', '>') | (_, ';') => ends = true,
                ('-', '>') => {}
                (_, ',') if angles == 0 && !bars => ends = true,
                (_, '<') => angles += 1,
                (_, '>') => angles = angles.saturating_sub(1),
                (_, '|') => bars = true,
                ('#', '!') => open = '#',
                (_, mark @ ('=' | '-' | '#')) => open = mark,
                _ => {}
            },
            TokenTree::Ident(_) | TokenTree::Literal(_) => {}
        }
        if ends {
            (steps, angles, bars) = (outside, 0, false);
        }
    }
    true
}

/// The steps of a token. Keywords and operators begin what nests; names and values only stand in it.
fn cost(token: &TokenTree) -> usize {
    const KEYWORDS: [&str; 16] = [
        "as", "async", "break", "const", "dyn", "else", "fn", "for", "if", "let", "match", "move", "return", "unsafe",
        "while", "yield",
    ];
    match token {
        TokenTree::Punct(mark) => match mark.as_char() {
            '.' | ',' | ':' | ';' | '\'' | '?' => 1,
            '<' => 8,
            _ => 4,
        },
        TokenTree::Ident(word) if KEYWORDS.iter().any(|keyword| word == keyword) => 4,
        TokenTree::Ident(_) | TokenTree::Literal(_) | TokenTree::Group(_) => 1,
    }
}

/// Whether what comes after a `}` cannot go on with the expression before it.
fn begins_anew(next: Option<&TokenTree>) -> bool {
    match next {
        None => true,
        Some(TokenTree::Ident(word)) => word != "else" && word != "as",
        Some(TokenTree::Punct(mark)) => matches!(mark.as_char(), '#' | '\''),
        Some(TokenTree::Group(_) | TokenTree::Literal(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str) -> bool {
        hold(&text.parse().unwrap())
    }

    #[test]
    fn what_would_recurse_is_seen() {
        let (open, close) = ("(".repeat(100), ")".repeat(100));
        for (name, text) in [
            ("brackets", format!("fn f() {{ {open}1{close} }}")),
            ("unary", format!("fn f() {{ {}1 }}", "!".repeat(1_000))),
            ("operators", format!("fn f() {{ 1{} }}", " + 1".repeat(1_000))),
            ("literals of structs", format!("fn f() {{ x = S {{}}{} }}", " + S {}".repeat(1_000))),
            ("methods", format!("fn f() {{ a{} }}", ".b()".repeat(1_000))),
            ("else if", format!("fn f() {{ if a {{}} {} }}", "else if a {}".repeat(1_000))),
            ("heads", format!("fn f() {{ {} a {} }}", "if ".repeat(1_000), "{}".repeat(1_000))),
            ("closures", format!("fn f() {{ {} 1 }}", "|a, b|".repeat(1_000))),
            ("types", format!("fn f(a: {}u8) {{}}", "&".repeat(1_000))),
            ("generics", format!("type A = {}u8;", "B<C, ".repeat(1_000))),
            ("assignments", format!("fn f() {{ {} 1 }}", "a = ".repeat(1_000))),
            ("patterns", format!("fn f() {{ let {}a = 1; }}", "a @ ".repeat(1_000))),
            ("returns", format!("fn f() {{ {} }}", "return ".repeat(1_000))),
        ] {
            assert!(!holds(&text), "{name}");
        }
    }

    #[test]
    fn code_of_any_length_is_not() {
        for text in [
            "fn f() { work(1, 2); }\n".repeat(1_000),
            format!("fn f() {{ {} }}", "if a { b(); } let x = Some(|y| y + 1);".repeat(1_000)),
            format!("struct S {{ {} }}", "pub a: Option<Vec<u8>>, b: Box<dyn Fn(u8) -> u8>,".repeat(1_000)),
            format!("fn f() {{ match a {{ {} }} }}", "A | B if x < y => \"c\", D => { e }".repeat(1_000)),
            format!("{}struct S;", "/// a\n".repeat(1_000)),
            format!("{}struct S;", "//! a\n".repeat(1_000)),
            format!("const A: &[u8] = &[{}];", "1, ".repeat(10_000)),
        ] {
            assert!(holds(&text), "{text:.60}");
        }
    }
}
