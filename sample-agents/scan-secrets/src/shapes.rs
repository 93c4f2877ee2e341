//! Tokens that their shape gives away.
//!
//! To add one: a line in [`SHAPES`] and one in the test of known shapes.

use std::cell::OnceCell;

use findings::Severity;
use regex_lite::Regex;

/// What tokens of a kind look like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) rule: &'static str,
    /// For people.
    pub(crate) what: &'static str,
    /// Whether nothing else looks like this, in tests neither.
    pub(crate) sure: bool,
    /// One of these is in every such token: a line without is not searched, which is what makes the scan fast.
    marks: &'static [&'static str],
    /// The first group is the token; what stands around it keeps longer words from matching in their middle.
    pattern: &'static str,
}

impl Shape {
    pub(crate) fn severity(&self) -> Severity {
        if self.sure || self.rule == "private-key" { Severity::Error } else { Severity::Warning }
    }
}

const fn sure(rule: &'static str, what: &'static str, marks: &'static [&'static str], pattern: &'static str) -> Shape {
    Shape { rule, what, sure: true, marks, pattern }
}

const fn likely(
    rule: &'static str,
    what: &'static str,
    marks: &'static [&'static str],
    pattern: &'static str,
) -> Shape {
    Shape { rule, what, sure: false, marks, pattern }
}

#[rustfmt::skip]
const SHAPES: [Shape; 15] = [
    likely("private-key", "a private key", &["PRIVATE KEY"], r"(-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----)(?:\s*$|(?:\\[nr])+[A-Za-z0-9])"),
    sure("aws-access-key", "an AWS access key", &["AKIA", "ASIA"], r"(?:^|[^A-Za-z0-9/+])((?:AKIA|ASIA)[A-Z2-7]{16})(?:$|[^A-Za-z0-9/+])"),
    likely("aws-secret-key", "an AWS secret key", &["ecret", "ECRET"], r#"(?i)aws_?secret_?(?:access_?)?key["']?\s*[:=]\s*["']?([A-Za-z0-9/+]{40})(?:$|[^A-Za-z0-9/+=])"#),
    sure("github-token", "a GitHub token", &["ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"], r"(?:^|[^A-Za-z0-9_])(gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})"),
    sure("gitlab-token", "a GitLab token", &["glpat-", "gldt-", "glrt-", "glptt-"], r"(?:^|[^A-Za-z0-9_])(gl(?:pat|dt|rt|ptt)-[A-Za-z0-9_-]{20,})"),
    sure("slack-token", "a Slack token", &["xox"], r"(?:^|[^A-Za-z0-9_])(xox[abeoprs]-[A-Za-z0-9-]{20,})"),
    likely("slack-webhook", "a Slack webhook", &["hooks.slack.com"], r"(https://hooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{20,})"),
    likely("google-api-key", "a Google API key", &["AIza"], r"(?:^|[^A-Za-z0-9_-])(AIza[A-Za-z0-9_-]{35})(?:$|[^A-Za-z0-9_-])"),
    sure("stripe-key", "a Stripe key", &["_live_"], r"(?:^|[^A-Za-z0-9_])((?:sk|rk)_live_[A-Za-z0-9]{20,})"),
    sure("anthropic-key", "an Anthropic key", &["sk-ant-"], r"(?:^|[^A-Za-z0-9_-])(sk-ant-[A-Za-z0-9_-]{32,})"),
    sure("openai-key", "an OpenAI key", &["T3BlbkFJ"], r"(?:^|[^A-Za-z0-9_-])(sk-[A-Za-z0-9_-]{20,}T3BlbkFJ[A-Za-z0-9_-]{20,})"),
    sure("npm-token", "an npm token", &["npm_"], r"(?:^|[^A-Za-z0-9_])(npm_[A-Za-z0-9]{36})(?:$|[^A-Za-z0-9])"),
    sure("pypi-token", "a PyPI token", &["pypi-AgE"], r"(?:^|[^A-Za-z0-9_-])(pypi-AgE[A-Za-z0-9_-]{50,})"),
    likely("jwt", "a signed JSON Web Token", &[".eyJ"], r"(?:^|[^A-Za-z0-9_.-])(eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,})"),
    likely("url-password", "a password in a URL,", &["://"], r"[a-z][a-z0-9+.-]+://[^\s/:@]+:([^\s/@${}<>*]{6,100})@[A-Za-z0-9]"),
];

/// The shapes, each compiled when a line first needs it.
#[derive(Default)]
pub(crate) struct Shapes {
    compiled: [OnceCell<Regex>; SHAPES.len()],
}

impl Shapes {
    /// The first token in a line.
    pub(crate) fn find<'a>(&self, line: &'a str) -> Option<(Shape, &'a str)> {
        SHAPES.iter().zip(&self.compiled).find_map(|(shape, compiled)| {
            if !shape.marks.iter().any(|mark| line.contains(mark)) {
                return None;
            }
            let pattern = compiled.get_or_init(|| Regex::new(shape.pattern).expect("a test compiles every pattern"));
            let token = pattern.captures(line)?.get(1)?.as_str();
            (shape.rule == "private-key" || !is_made_up(token)).then_some((*shape, token))
        })
    }
}

/// Made up, or to be filled in.
pub(crate) fn is_made_up(value: &str) -> bool {
    #[rustfmt::skip]
    const WORDS: [&str; 21] = [
        "example", "changeme", "change-me", "placeholder", "your", "xxxx", "dummy", "sample", "redacted", "insert", "todo",
        "fake", "password", "passwd", "secret", "0123456", "1234567890", "abcdef", "foobar", "test",
        // `1234567890`, as the best known of all JSON Web Tokens has it.
        "ixmjm0nty3odkwi",
    ];
    let lower = value.to_ascii_lowercase();
    WORDS.iter().any(|word| lower.contains(word))
        || ["${", "{{", "<", "...", "…", "%s", "{}"].iter().any(|hole| value.contains(hole))
        || value.chars().collect::<std::collections::BTreeSet<_>>().len() < 6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles_and_has_its_group() {
        for shape in SHAPES {
            let pattern = Regex::new(shape.pattern).unwrap_or_else(|error| panic!("{}: {error}", shape.rule));
            assert_eq!(pattern.captures_len(), 2, "{}", shape.rule);
            assert!(!shape.marks.is_empty(), "{}", shape.rule);
        }
    }
}
