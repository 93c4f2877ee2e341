use findings::{Change, Severity};

use super::scan;

fn of(path: &str, line: &str) -> Change {
    let diff = format!("--- a/{path}\n+++ b/{path}\n@@ -1,1 +1,2 @@\n first\n+{line}\n");
    let mut change = read_diff::parse(&diff).unwrap();
    scan(&mut change);
    change
}

/// Tokens are put together here, so that this file is no finding itself.
fn token(prefix: &str, rest: &str) -> String {
    format!("{prefix}{rest}")
}

#[test]
fn known_shapes_are_found_and_never_shown_whole() {
    let letters = "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY1zA2bC3dE4fG5hJ6kL7mN8pQ9";
    let cases = [
        ("aws-access-key", token("AKIA", "QRSTUVWXYZ234567")),
        ("github-token", token("ghp_", &letters[..36])),
        ("gitlab-token", token("glpat-", &letters[..20])),
        ("slack-token", token("xoxb-", &format!("1234567890-{}", &letters[..24]))),
        ("google-api-key", token("AIza", &letters[..35])),
        ("stripe-key", token("sk_live_", &letters[..24])),
        ("npm-token", token("npm_", &letters[..36])),
        ("private-key", token("-----BEGIN RSA ", "PRIVATE KEY-----")),
        ("jwt", token("eyJhbGciOiJIUzI1NiJ9", &format!(".eyJzdWIiOiI0MiJ9abc.{}", &letters[..43]))),
        ("url-password", format!("postgres://app:{}@db.internal/x", &letters[..14])),
        ("generic", format!("db_password = \"{}\"", &letters[..20])),
    ];
    for (rule, secret) in cases {
        let change = of("src/config.rs", &format!("let x = {secret};"));
        let found = change.findings.first().unwrap_or_else(|| panic!("{rule} was not found"));
        assert_eq!((found.rule.as_str(), found.line), (format!("secrets/{rule}").as_str(), Some(2)));
        assert!(!found.message.contains(&secret[secret.len() - 8..]), "{}", found.message);
    }
}

#[test]
fn what_only_looks_like_one_does_not_fire() {
    let sha = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for line in [
        format!("checksum = \"{sha}\""),
        format!("token_hash: \"{sha}\""),
        "secret = \"changeme-please-now\"".into(),
        "password = \"${DB_PASSWORD}\"".into(),
        "api_key = \"<your-api-key>\"".into(),
        "token = \"xxxxxxxxxxxxxxxxxxxx\"".into(),
        format!("{}EXAMPLE", "aws_access_key_id = AKIAIOSFODNN7"),
        "let token = \"memory:read:session\";".into(),
        "secret_name = \"projects/prod/secrets/db\"".into(),
        "\"integrity\": \"sha512-9x0Kc1qYv0Xk3mZ8yQ2bW5nR7tL4pJ6hF1dS0aG3uE8iO5vC2xB7zM4kN9qT6wY\"".into(),
        "id = \"0192f0c4-7d8a-7c3e-9b1a-3f0e8d5c2b1a\"".into(),
        "token = \"access-token-for-the-session\"".into(),
        "https://docs.rs/serde/latest/serde/".into(),
    ] {
        let change = of("src/config.rs", &line);
        assert_eq!(change.findings, [], "{line}");
    }
}

#[test]
fn lock_files_and_test_vectors_do_not_fire() {
    let line = "password = \"q8Zr2Lw9Xt4Bv7Nm1Kc6\"";
    assert_eq!(of("src/a.rs", line).findings[0].severity, Severity::Warning);
    for path in ["Cargo.lock", "web/package-lock.json", "go.sum", "tests/login.rs", "src/login_test.go", "fixtures/keys.json", "a.svg"] {
        assert_eq!(of(path, line).findings, [], "{path}");
    }
    let real = format!("x = \"{}\"", token("ghp_", "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY1zA2"));
    assert_eq!(of("tests/login.rs", &real).findings.len(), 1, "a real token is one in a test, too");
}

#[test]
fn long_lines_are_passed_over() {
    let line = format!("password = \"q8Zr2Lw9Xt4Bv7Nm1Kc6\"{}", " ".repeat(20_000));
    assert_eq!(of("src/a.rs", &line).findings, []);
}

#[test]
fn removed_lines_are_not_looked_at() {
    let diff = "--- a/x.rs\n+++ b/x.rs\n@@ -1,2 +1,1 @@\n first\n-password = \"q8Zr2Lw9Xt4Bv7Nm1Kc6\"\n";
    let mut change = read_diff::parse(diff).unwrap();
    scan(&mut change);
    assert_eq!(change.findings, []);
}
