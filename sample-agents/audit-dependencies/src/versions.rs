//! Versions, as far as a review needs to understand them.

/// The versions, if the second is a step that may break callers: a higher first number, or below 1.0 a higher second one.
pub(crate) fn major_step<'a>(old: &'a str, new: &'a str) -> Option<(&'a str, &'a str)> {
    let (before, after) = (numbers(old)?, numbers(new)?);
    let breaks = after.0 > before.0 || (after.0 == 0 && before.0 == 0 && after.1 > before.1);
    breaks.then_some((old, new))
}

/// First and second number of a version or of a requirement.
fn numbers(version: &str) -> Option<(u64, u64)> {
    let digits = version.trim_start_matches(|c: char| !c.is_ascii_digit());
    let mut parts = digits.split(|c: char| !c.is_ascii_digit());
    let first = parts.next()?.parse().ok()?;
    Some((first, parts.next().and_then(|second| second.parse().ok()).unwrap_or(0)))
}

/// Whether anything newer is taken as well, whatever it breaks.
pub(crate) fn is_unpinned(version: &str) -> bool {
    let version = version.trim();
    let bounded = version.contains('<') || version.contains(',') || version.contains("==") || version.contains("~=");
    version.is_empty()
        || matches!(version, "*" | "latest" | "x" | "master" | "main" | "LATEST" | "RELEASE")
        || (version.starts_with('>') && !bounded)
}
