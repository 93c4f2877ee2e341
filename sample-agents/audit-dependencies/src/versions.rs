//! Versions, as far as a review needs to understand them.

/// Whether the second is a step that may break callers: a higher first number, or below 1.0 a higher second one, where
/// that is the custom.
pub(crate) fn is_major_step(old: &str, new: &str, zero_is_unstable: bool) -> bool {
    let (Some(before), Some(after)) = (numbers(old), numbers(new)) else { return false };
    after.0 > before.0 || zero_is_unstable && after.0 == 0 && before.0 == 0 && after.1 > before.1
}

/// First and second number of a version or of a requirement.
fn numbers(version: &str) -> Option<(u64, u64)> {
    let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    let mut parts = digits.split(|c: char| !c.is_ascii_digit());
    let first = parts.next()?.parse().ok()?;
    Some((first, parts.next().and_then(|second| second.parse().ok()).unwrap_or(0)))
}

/// Whether anything newer is taken as well, whatever it breaks. `open_is_usual`: that a library only says from which
/// version on is the custom.
pub(crate) fn is_unpinned(version: &str, open_is_usual: bool) -> bool {
    let version = version.trim();
    let open = version.starts_with('>') && !["<", ",", "==", "~="].iter().any(|bound| version.contains(bound));
    let words = ["", "*", "x", "latest", "next", "master", "main", "LATEST", "RELEASE"];
    words.contains(&version) || open && !open_is_usual
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps() {
        for (old, new, major) in [
            ("1.2.3", "2.0.0", true),
            ("^17.0.2", "^18.2.0", true),
            ("1.2", "1.9", false),
            ("2.0", "1.0", false),
            ("0.8.1", "0.9", true),
            ("31.1-jre", "32.0-jre", true),
            ("main", "2.0", false),
        ] {
            assert_eq!(is_major_step(old, new, true), major, "{old} {new}");
        }
        assert!(!is_major_step("v0.1.0", "v0.2.0", false));
    }

    #[test]
    fn pins() {
        for version in ["", "*", "latest", ">=2", ">1"] {
            assert!(is_unpinned(version, false), "{version}");
        }
        for version in ["1", "^1.2", "~1", ">=1,<2", "==1.0", "workspace:*", ">=1 <2"] {
            assert!(!is_unpinned(version, false), "{version}");
        }
        assert!(!is_unpinned(">=2", true));
    }
}
