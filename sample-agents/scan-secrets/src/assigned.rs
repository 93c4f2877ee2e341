//! Values that look drawn by chance, given to a name that says it is secret.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use findings::File;
use regex_lite::Regex;

use crate::shapes::is_made_up;

/// In lower case; one of them is in every name that is looked for.
const MARKS: [&str; 9] = ["passw", "passphrase", "secret", "token", "api", "access", "auth", "credential", "private"];

/// `name = "value"`, also with `:`, `:=` and `=>`.
const QUOTED: &str = r#"(?i)([a-z0-9_.-]*(?:passw(?:or)?d|passphrase|secret|token|(?:api|access|auth|private)[_-]?key|credential)[a-z0-9_.-]*)["']?\s*(?::=|=>|[:=])\s*["'`]([^"'`\s]{12,200})["'`]"#;
/// `name=value` and `name: value`, up to the line's end.
const BARE: &str = r#"(?i)^\s*(?:export\s+|env\s+|-\s+)?([a-z0-9_.-]*(?:passw(?:or)?d|passphrase|secret|token|(?:api|access|auth|private)[_-]?key|credential)[a-z0-9_.-]*)\s*[:=]\s*([^"'`\s#]{12,200})\s*(?:#.*)?$"#;

/// Whether values stand without quotes in this kind of file; elsewhere those are expressions.
pub(crate) fn is_bare(file: &File) -> bool {
    let name = file.name().to_ascii_lowercase();
    let extensions = ["env", "yml", "yaml", "ini", "properties", "cfg", "conf", "sh"];
    extensions.contains(&file.extension().as_str()) || name.starts_with(".env") || name.starts_with("dockerfile")
}

/// The two forms, each compiled when a line first needs it.
#[derive(Default)]
pub(crate) struct Assignments {
    quoted: OnceCell<Regex>,
    bare: OnceCell<Regex>,
}

impl Assignments {
    /// The name and the value in a line.
    pub(crate) fn find<'a>(&self, line: &'a str, bare: bool) -> Option<(&'a str, &'a str)> {
        if line.len() < 16 || !line.contains(['=', ':']) {
            return None;
        }
        let lower = line.to_ascii_lowercase();
        if !MARKS.iter().any(|mark| lower.contains(mark)) {
            return None;
        }
        let compile = |pattern| Regex::new(pattern).expect("a test compiles both");
        let quoted = self.quoted.get_or_init(|| compile(QUOTED)).captures(line);
        let groups = match quoted {
            None if bare => self.bare.get_or_init(|| compile(BARE)).captures(line)?,
            quoted => quoted?,
        };
        let (name, value) = (groups.get(1)?.as_str(), groups.get(2)?.as_str());
        looks_drawn(name, value).then_some((name, value))
    }
}

fn looks_drawn(name: &str, value: &str) -> bool {
    let mixed = value.bytes().any(|b| b.is_ascii_digit()) && value.bytes().any(|b| b.is_ascii_alphabetic());
    mixed
        && !is_made_up(value)
        && !is_hash(&name.to_ascii_lowercase(), value)
        && !is_reference(value)
        && entropy(value) > 3.4
}

/// Hashes, checksums and ids are no secrets, though they look drawn by chance.
fn is_hash(name: &str, value: &str) -> bool {
    let says_so = ["hash", "sha", "digest", "checksum", "integrity", "public", "_id", "uuid"];
    let hex = value.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    // A key in hexadecimal is no rarity; an id has 32 or 36 characters, a hash 40, 64, 96 or 128.
    (hex && matches!(value.len(), 32 | 36 | 40 | 64 | 96 | 128) && !name.contains("key"))
        || says_so.iter().any(|word| name.contains(word))
        || ["sha256-", "sha384-", "sha512-", "sha256:", "$2", "$argon2"].iter().any(|start| value.starts_with(start))
}

/// Names where a secret is, rather than being one: a path, an address, a variable, a call, words.
fn is_reference(value: &str) -> bool {
    let word =
        |part: &str| part.len() <= 14 && part.bytes().skip(1).all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    value.starts_with(['/', '.', '$', '%', '@', '#', '!', '&', '*'])
        || value.contains("://")
        || value.contains(['(', '[', '{', ' ', '\\'])
        || [".json", ".pem", ".key", ".txt", ".env"].iter().any(|end| value.ends_with(end))
        || value.split(['.', '-', '_', ':', '/']).filter(|part| !part.is_empty()).count() > 1
            && value.split(['.', '-', '_', ':', '/']).all(|part| part.is_empty() || word(part))
}

/// Shannon's, in bits a character.
fn entropy(value: &str) -> f64 {
    let mut counts = BTreeMap::new();
    value.chars().for_each(|c| *counts.entry(c).or_insert(0_u32) += 1);
    let all = f64::from(counts.values().sum::<u32>());
    counts.values().map(|count| f64::from(*count) / all).map(|share| -share * share.log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_patterns_compile() {
        for pattern in [QUOTED, BARE] {
            assert_eq!(Regex::new(pattern).unwrap().captures_len(), 3);
        }
    }

    #[test]
    fn entropy_is_in_bits() {
        assert!(entropy("aaaaaaaa") < 0.01);
        assert!((entropy("abcdefgh") - 3.0).abs() < 0.01);
    }
}
