//! What secrets look like.

use regex_lite::Regex;

/// What was found in a line.
pub(crate) struct Hit<'a> {
    pub(crate) rule: &'static str,
    pub(crate) what: &'static str,
    pub(crate) secret: &'a str,
    /// Whether nothing else looks like this.
    pub(crate) sure: bool,
}

pub(crate) struct Scanner {
    shapes: Vec<(&'static str, &'static str, Regex)>,
    assignment: Regex,
}

/// Rule, name, shape; the first group is the secret. What stands before keeps longer words from matching in their middle.
const SHAPES: &[(&str, &str, &str)] = &[
    ("private-key", "a private key", r"(-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----)"),
    ("aws-access-key", "an AWS access key", r"(?:^|[^A-Za-z0-9/+])((?:AKIA|ASIA)[A-Z2-7]{16})(?:$|[^A-Za-z0-9/+])"),
    ("aws-secret-key", "an AWS secret key", r#"(?i)aws_?secret_?(?:access_?)?key["']?\s*[:=]\s*["']?([A-Za-z0-9/+]{40})(?:$|[^A-Za-z0-9/+=])"#),
    ("github-token", "a GitHub token", r"(?:^|[^A-Za-z0-9_])((?:gh[pousr]_[A-Za-z0-9]{36,251})|(?:github_pat_[A-Za-z0-9_]{60,255}))"),
    ("gitlab-token", "a GitLab token", r"(?:^|[^A-Za-z0-9_])(gl(?:pat|dt|rt|ptt)-[A-Za-z0-9_-]{20,64})"),
    ("slack-token", "a Slack token", r"(?:^|[^A-Za-z0-9_])(xox[abeoprs]-[A-Za-z0-9-]{20,250})"),
    ("slack-webhook", "a Slack webhook", r"(https://hooks\.slack\.com/services/T[A-Z0-9]{6,}/B[A-Z0-9]{6,}/[A-Za-z0-9]{20,})"),
    ("google-api-key", "a Google API key", r"(?:^|[^A-Za-z0-9_-])(AIza[A-Za-z0-9_-]{35})(?:$|[^A-Za-z0-9_-])"),
    ("stripe-key", "a Stripe key", r"(?:^|[^A-Za-z0-9_])((?:sk|rk)_live_[A-Za-z0-9]{20,247})"),
    ("anthropic-key", "an Anthropic key", r"(?:^|[^A-Za-z0-9_-])(sk-ant-[A-Za-z0-9_-]{32,})"),
    ("openai-key", "an OpenAI key", r"(?:^|[^A-Za-z0-9_-])(sk-(?:proj-|svcacct-)?[A-Za-z0-9_-]{20,}T3BlbkFJ[A-Za-z0-9_-]{20,})"),
    ("npm-token", "an npm token", r"(?:^|[^A-Za-z0-9_])(npm_[A-Za-z0-9]{36})(?:$|[^A-Za-z0-9])"),
    ("pypi-token", "a PyPI token", r"(?:^|[^A-Za-z0-9_-])(pypi-AgE[A-Za-z0-9_-]{50,})"),
    ("jwt", "a signed JSON Web Token", r"(?:^|[^A-Za-z0-9_.-])(eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{20,})"),
    ("url-password", "a password in a URL", r"[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{1,80}:([^\s/@${}<>*]{6,100})@[A-Za-z0-9]"),
];

/// Rules that fire in tests as well, and at once: nobody makes these up.
const SURE: [&str; 9] = [
    "aws-access-key", "github-token", "gitlab-token", "slack-token", "stripe-key", "anthropic-key", "openai-key", "npm-token",
    "pypi-token",
];

const ASSIGNMENT: &str = r#"(?i)([a-z0-9_.-]*(?:passw(?:or)?d|passphrase|secret|token|api_?-?key|access_?-?key|auth_?-?key|credential)[a-z0-9_.-]*)["']?\s*(?::=|=>|[:=])\s*["'`]([^"'`\s]{12,200})["'`]"#;

impl Scanner {
    pub(crate) fn new() -> Self {
        let compile = |shape: &str| Regex::new(shape).expect("the shapes are regular expressions; a test compiles them all");
        Self {
            shapes: SHAPES.iter().map(|(rule, what, shape)| (*rule, *what, compile(shape))).collect(),
            assignment: compile(ASSIGNMENT),
        }
    }

    /// The first secret in a line. `lenient`: in a test, where secrets are mostly made up.
    pub(crate) fn find<'a>(&self, line: &'a str, lenient: bool) -> Option<Hit<'a>> {
        for (rule, what, shape) in &self.shapes {
            let sure = SURE.contains(rule);
            if lenient && !sure {
                continue;
            }
            let found = shape.captures(line).and_then(|groups| groups.get(1)).map(|group| group.as_str());
            if let Some(secret) = found.filter(|secret| *rule == "private-key" || !is_placeholder(secret)) {
                return Some(Hit { rule, what, secret, sure: sure || *rule == "private-key" });
            }
        }
        if lenient {
            return None;
        }
        let groups = self.assignment.captures(line)?;
        let (name, value) = (groups.get(1)?.as_str(), groups.get(2)?.as_str());
        let drawn = !is_placeholder(value) && !is_hash(name, value) && !is_reference(value) && entropy(value) > 3.4;
        drawn.then_some(Hit { rule: "generic", what: "what looks like a secret", secret: value, sure: false })
    }
}

/// Made up, or to be filled in.
fn is_placeholder(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    let words = ["example", "changeme", "change-me", "placeholder", "your", "xxxx", "dummy", "sample", "redacted", "insert", "todo", "fake", "password", "secret123", "0123456789", "abcdefgh", "1234567890", "foobar", "test"];
    words.iter().any(|word| lower.contains(word))
        || value.contains("${")
        || value.contains("{{")
        || value.contains('<')
        || value.contains("...")
        || value.contains('…')
        || distinct(value) < 6
}

/// Hashes, checksums and ids are no secrets, though they look as if drawn by chance.
fn is_hash(name: &str, value: &str) -> bool {
    let hex = value.len() >= 32 && value.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let says_so = ["hash", "sha", "digest", "checksum", "integrity", "public"].iter().any(|word| name.to_ascii_lowercase().contains(word));
    // A key in hexadecimal is no rarity, an id is one of 32 or 36, a hash of 40, 64 or 128.
    (hex && matches!(value.len(), 32 | 36 | 40 | 64 | 96 | 128) && !name.to_ascii_lowercase().contains("key")) || says_so || value.starts_with("sha256-") || value.starts_with("sha512-") || value.starts_with("sha256:")
}

/// Names where a secret is, rather than being one: a path, an address, a variable, a call, words.
fn is_reference(value: &str) -> bool {
    value.starts_with(['/', '.', '$', '%', '@', '#'])
        || value.contains("://")
        || value.contains(['(', '[', ' '])
        || value.ends_with(".json")
        || value.ends_with(".pem")
        || value.split(['.', '-', '_', ':', '/']).all(|part| part.bytes().all(|b| b.is_ascii_alphabetic()) && part.len() <= 14)
}

fn distinct(value: &str) -> usize {
    value.chars().collect::<std::collections::BTreeSet<_>>().len()
}

/// Shannon's, in bits a character.
pub(crate) fn entropy(value: &str) -> f64 {
    let mut counts = std::collections::BTreeMap::new();
    value.chars().for_each(|c| *counts.entry(c).or_insert(0_u32) += 1);
    let all = f64::from(counts.values().sum::<u32>());
    counts.values().map(|count| f64::from(*count) / all).map(|share| -share * share.log2()).sum()
}
