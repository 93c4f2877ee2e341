//! Paths as git writes them: as they are, or quoted like a C string where they hold unusual bytes.

/// The longest path, in bytes.
const LONGEST: usize = 1_024;

/// The path of a `---` or `+++` line, without git's `a/` or `b/`; none: `/dev/null`.
pub(crate) fn of_side(text: &str) -> Result<Option<String>, String> {
    // A tab ends a path that is not quoted: `diff -u` puts a time after it.
    let text = if text.starts_with('"') { text } else { text.split('\t').next().unwrap_or(text) };
    let path = alone(text)?;
    if path == "/dev/null" {
        return Ok(None);
    }
    Ok(Some(path.strip_prefix("a/").or_else(|| path.strip_prefix("b/")).unwrap_or(&path).to_owned()))
}

/// A path that stands alone, as after `rename from`.
pub(crate) fn alone(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('\r');
    let path = if text.starts_with('"') { unquote(text).0 } else { text.to_owned() };
    if path.len() > LONGEST {
        return Err(format!("a path of {} bytes: at most {LONGEST} are read", path.len()));
    }
    Ok(path)
}

/// The path of a `diff --git` line, without its prefix; empty where both sides differ, which later lines tell apart. A
/// line whose paths are not quoted does not say where the first one ends, unless both are the same.
pub(crate) fn of_head(text: &str) -> Result<String, String> {
    let text = text.trim_end_matches('\r');
    let (old, new) = if text.starts_with('"') {
        let (old, rest) = unquote(text);
        (old, alone(rest.trim_start())?)
    } else if let Some(quote) = text.find(" \"") {
        (text[..quote].to_owned(), alone(&text[quote + 1..])?)
    } else {
        let middle = text.len() / 2;
        let halves = text.get(..middle).zip(text.get(middle..).and_then(|half| half.strip_prefix(' ')));
        let Some((old, new)) = halves else { return Ok(String::new()) };
        (old.to_owned(), alone(new)?)
    };
    let same: &str = match (prefixed(&old), prefixed(&new)) {
        (Some(old), Some(new)) if old == new => new,
        _ if old == new => &new,
        _ => "",
    };
    Ok(same.to_owned())
}

/// What comes after a prefix of git's: `a/` and `b/`, or by what is compared (commit, index, object, work tree).
fn prefixed(path: &str) -> Option<&str> {
    let (prefix, rest) = path.split_once('/')?;
    matches!(prefix, "a" | "b" | "c" | "i" | "o" | "w").then_some(rest)
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
        assert_eq!(of_side(r#""b/\303\244 \"x\".txt""#), Ok(Some("ä \"x\".txt".into())));
        assert_eq!(of_side("/dev/null"), Ok(None));
        assert_eq!(of_side("old.c\t2026-01-01 00:00:00"), Ok(Some("old.c".into())));
    }

    #[test]
    fn a_head_says_its_path_where_it_can() {
        for (head, path) in [
            ("a/x y.rs b/x y.rs", "x y.rs"),
            (r#""a/t\303\274r" "b/t\303\274r""#, "tür"),
            ("i/src/x.c w/src/x.c", "src/x.c"),
            ("src/x.c src/x.c", "src/x.c"),
            (r#""a/\t" b/z"#, ""),
            ("a/x b/y", ""),
            ("", ""),
            ("ä", ""),
        ] {
            assert_eq!(of_head(head).as_deref(), Ok(path), "{head}");
        }
    }

    #[test]
    fn a_path_has_a_longest() {
        assert!(of_side(&"x".repeat(2_000)).is_err());
        assert!(of_head(&format!("a/{0} b/{0}", "x".repeat(2_000))).is_err());
    }
}
