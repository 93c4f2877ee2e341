//! Paths as git writes them: as they are, or quoted like a C string where they hold unusual bytes.

/// The path in `text`, which is the rest of a line, without git's `a/` or `b/`; none: `/dev/null`.
pub(crate) fn of_side(text: &str) -> Option<String> {
    // A tab ends a path that is not quoted: `diff -u` puts a time after it.
    let path = if text.starts_with('"') { unquote(text).0 } else { text.split('\t').next().unwrap_or(text).to_owned() };
    let path = path.trim_end_matches('\r');
    if path == "/dev/null" {
        return None;
    }
    Some(path.strip_prefix("a/").or_else(|| path.strip_prefix("b/")).unwrap_or(path).to_owned())
}

/// A path that stands alone, as after `rename from`.
pub(crate) fn alone(text: &str) -> String {
    let text = text.trim_end_matches('\r');
    if text.starts_with('"') { unquote(text).0 } else { text.to_owned() }
}

/// The two paths of a `diff --git` line, without their prefixes. Where neither is quoted the line does not say where one
/// ends: then both are the same, or it is not known.
pub(crate) fn of_head(text: &str) -> Option<(String, String)> {
    let text = text.trim_end_matches('\r');
    let strip = |path: String, prefix: &str| path.strip_prefix(prefix).map(str::to_owned).unwrap_or(path);
    if text.starts_with('"') {
        let (old, rest) = unquote(text);
        let new = alone(rest.trim_start());
        return Some((strip(old, "a/"), strip(new, "b/")));
    }
    if let Some((old, new)) = text.split_once(" \"") {
        let new = unquote(&format!("\"{new}")).0;
        return Some((strip(old.to_owned(), "a/"), strip(new, "b/")));
    }
    let middle = text.len() / 2;
    let (old, new) = (text.get(..middle)?, text.get(middle..)?.strip_prefix(' ')?);
    let (old, new) = (strip(old.to_owned(), "a/"), strip(new.to_owned(), "b/"));
    (old == new).then_some((old, new))
}

/// What stands between the quotes `text` begins with, and what comes after them.
fn unquote(text: &str) -> (String, &str) {
    let mut bytes = Vec::new();
    let mut rest = text[1..].char_indices();
    while let Some((at, c)) = rest.next() {
        match c {
            '"' => return (String::from_utf8_lossy(&bytes).into_owned(), &text[at + 2..]),
            '\\' => match rest.next() {
                Some((_, 'n')) => bytes.push(b'\n'),
                Some((_, 't')) => bytes.push(b'\t'),
                Some((_, 'r')) => bytes.push(b'\r'),
                Some((_, 'a')) => bytes.push(7),
                Some((_, 'b')) => bytes.push(8),
                Some((_, 'v')) => bytes.push(11),
                Some((_, 'f')) => bytes.push(12),
                Some((_, first @ '0'..='3')) => {
                    let mut value = first.to_digit(8).unwrap_or(0);
                    for _ in 0..2 {
                        value = value * 8 + rest.next().and_then(|(_, digit)| digit.to_digit(8)).unwrap_or(0);
                    }
                    bytes.push(u8::try_from(value).unwrap_or(b'?'));
                }
                Some((_, other)) => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
                None => break,
            },
            c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    (String::from_utf8_lossy(&bytes).into_owned(), "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_paths_are_read_byte_by_byte() {
        assert_eq!(of_side(r#""b/\303\244 \"x\".txt""#).as_deref(), Some("ä \"x\".txt"));
        assert_eq!(of_side("/dev/null"), None);
        assert_eq!(of_side("old.c\t2026-01-01 00:00:00").as_deref(), Some("old.c"));
    }

    #[test]
    fn a_head_says_its_paths_where_it_can() {
        assert_eq!(of_head("a/x y.rs b/x y.rs"), Some(("x y.rs".into(), "x y.rs".into())));
        assert_eq!(of_head(r#""a/\t" b/z"#), Some(("\t".into(), "z".into())));
        assert_eq!(of_head("a/x b/y"), None);
    }
}
