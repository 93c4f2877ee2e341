//! What is left of lines without strings and comments, for languages whose comments are C's.

/// Goes through the lines of a stretch in their order, because comments and some strings go on over a line's end.
#[derive(Debug, Default)]
pub(crate) struct Code {
    rust: bool,
    inside: Inside,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Inside {
    #[default]
    Code,
    Comment,
    /// By what it is closed.
    Text(char),
    /// Rust's raw string, and how many `#` close it.
    Raw(usize),
}

impl Code {
    /// `rust`: an apostrophe is a lifetime or one character, strings go on over lines, and there are raw ones.
    pub(crate) fn new(rust: bool) -> Self {
        Self { rust, inside: Inside::Code }
    }

    /// The line's code, into `out`.
    pub(crate) fn of(&mut self, line: &str, out: &mut String) {
        out.clear();
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            let after = &rest[c.len_utf8()..];
            rest = match self.inside {
                Inside::Code if rest.starts_with("//") => break,
                Inside::Code => self.code(c, after, out),
                Inside::Comment => match rest.strip_prefix("*/") {
                    Some(after) => self.enter(Inside::Code, after),
                    None => after,
                },
                Inside::Text(_) if c == '\\' => skip(after, 1),
                Inside::Text(quote) if c == quote => self.enter(Inside::Code, after),
                Inside::Raw(marks)
                    if c == '"' && after.bytes().take_while(|b| *b == b'#').take(marks).count() == marks =>
                {
                    self.enter(Inside::Code, &after[marks..])
                }
                Inside::Text(_) | Inside::Raw(_) => after,
            };
        }
        if matches!(self.inside, Inside::Text(quote) if quote != '`' && !self.rust) {
            self.inside = Inside::Code;
        }
    }

    fn enter<'a>(&mut self, inside: Inside, after: &'a str) -> &'a str {
        self.inside = inside;
        after
    }

    fn code<'a>(&mut self, c: char, after: &'a str, out: &mut String) -> &'a str {
        match c {
            '/' if after.starts_with('*') => self.enter(Inside::Comment, &after[1..]),
            '"' if self.rust => {
                let word = out.trim_end_matches('#');
                let inside = if word.ends_with('r') { Inside::Raw(out.len() - word.len()) } else { Inside::Text('"') };
                self.enter(inside, after)
            }
            '\'' if self.rust => match after.strip_prefix('\\') {
                Some(escape) => {
                    let body = skip(escape, 1);
                    body.find('\'').map_or(body, |end| &body[end + 1..])
                }
                None => skip(after, 1).strip_prefix('\'').unwrap_or(after),
            },
            '"' | '`' | '\'' => self.enter(Inside::Text(c), after),
            c => {
                out.push(c);
                after
            }
        }
    }
}

/// The text after so many characters.
fn skip(text: &str, count: usize) -> &str {
    text.char_indices().nth(count).map_or("", |(at, _)| &text[at..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(rust: bool, lines: &[&str]) -> Vec<String> {
        let mut code = Code::new(rust);
        let mut out = String::new();
        let each = lines.iter().map(|line| {
            code.of(line, &mut out);
            out.clone()
        });
        each.collect()
    }

    #[test]
    fn strings_and_comments_are_left_out() {
        assert_eq!(code(false, &["a(\"{\\\"{\"); // {", "b/* {", "{ */c('{', `{", "{`)"]), ["a(); ", "b", "c(, ", ")"]);
        assert_eq!(code(false, &["it's {", "open"]), ["it", "open"]);
    }

    #[test]
    fn rust_has_lifetimes_characters_and_raw_strings() {
        assert_eq!(code(true, &["f<'a>(&'a x, '{', '\\'', '\\u{7b}')"]), ["f<a>(&a x, , , )"]);
        assert_eq!(code(true, &["a(r#\"\"{\"#, \"{", "{\")", "b"]), ["a(r#, ", ")", "b"]);
    }
}
