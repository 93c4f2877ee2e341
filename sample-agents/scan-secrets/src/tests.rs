use findings::{Change, Severity};

use super::scan;

fn of(path: &str, line: &str) -> Change {
    let diff = format!("--- a/{path}\n+++ b/{path}\n@@ -1,1 +1,2 @@\n first\n+{line}\n");
    let mut change = read_diff::parse(&diff).unwrap();
    scan(&mut change);
    change
}

fn scanned(diff: &str) -> Change {
    let mut change = read_diff::parse(diff).unwrap();
    scan(&mut change);
    change
}

/// Looks drawn by chance. Tokens are put together here, so that this file is no finding itself.
const DRAWN: &str = "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY1zA2bC3dE4fG5hJ6kL7mN8pQ9";

fn token(prefix: &str, length: usize) -> String {
    let rest: String = DRAWN.chars().chain(DRAWN.chars().rev()).take(length).collect();
    format!("{prefix}{rest}")
}

#[test]
fn known_shapes_are_found_and_never_shown_whole() {
    let cases = [
        ("aws-access-key", ["AKIA", "QRSTUVWXYZ234567"].concat()),
        ("aws-secret-key", format!("aws_secret_access_key = {}", token("", 40))),
        ("github-token", token("ghp_", 36)),
        ("github-token", token("github_pat_", 82)),
        ("gitlab-token", token("glpat-", 20)),
        ("slack-token", token("xoxb-1234567-", 24)),
        ("slack-webhook", format!("https://hooks.slack.com/services/{}", token("T0AB1CD2E/B0FG3HI4J/", 24))),
        ("google-api-key", token("AIza", 35)),
        ("stripe-key", token("sk_live_", 24)),
        ("anthropic-key", token("sk-ant-api03-", 60)),
        ("openai-key", format!("{}{}", token("sk-proj-", 24), token("T3BlbkFJ", 24))),
        ("npm-token", token("npm_", 36)),
        ("pypi-token", token("pypi-AgEIcHlwaS5vcmc", 60)),
        ("private-key", ["-----BEGIN RSA PRIVATE", " KEY-----"].concat()),
        ("jwt", token("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9abc.", 43)),
        ("url-password", format!("postgres://app:{}@db.internal/x", token("", 14))),
        ("assigned", format!("db_password = \"{}\"", token("", 20))),
        ("assigned", format!("client.apiKey: '{}'", token("", 32))),
    ];
    for (rule, secret) in cases {
        let change = of("src/config.rs", &format!("let x = {secret}"));
        let found = change.findings.first().unwrap_or_else(|| panic!("{rule} was not found"));
        assert_eq!((found.rule.as_str(), found.line), (format!("secrets/{rule}").as_str(), Some(2)));
        assert!(!found.message.contains(&secret[secret.len() - 8..]), "{}", found.message);
    }
}

#[test]
fn values_without_quotes_are_found_where_files_have_them_so() {
    let value = token("", 24);
    for (path, line) in [
        (".env", format!("DB_PASSWORD={value}")),
        ("deploy/values.yaml", format!("  apiKey: {value} # live")),
        ("deploy.sh", format!("export AUTH_TOKEN={value}")),
        ("Dockerfile", format!("ENV CLIENT_SECRET={value}")),
    ] {
        assert_eq!(of(path, &line).findings.len(), 1, "{path}: {line}");
    }
    assert_eq!(of("src/a.py", &format!("token = {value}")).findings, [], "here it is a name");
}

#[test]
fn what_only_looks_like_one_does_not_fire() {
    let sha = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    for line in [
        format!("checksum = \"{sha}\""),
        format!("token_hash: \"{sha}\""),
        format!("const TOKEN: &str = \"{sha}\";"),
        "secret = \"changeme-please-now\"".into(),
        "password = \"${DB_PASSWORD}\"".into(),
        "api_key = \"<your-api-key>\"".into(),
        "token = \"xxxxxxxxxxxxxxxxxxxx\"".into(),
        format!("{}EXAMPLE", "aws_access_key_id = AKIAIOSFODNN7"),
        "let token = \"memory:read:session\";".into(),
        "secret_name = \"projects/prod/secrets/db\"".into(),
        "secretName: \"db-credentials-v2\"".into(),
        "getToken: \"getAccessTokenFromStorage\"".into(),
        "\"integrity\": \"sha512-9x0Kc1qYv0Xk3mZ8yQ2bW5nR7tL4pJ6hF1dS0aG3uE8iO5vC2xB7zM4kN9qT6wY\"".into(),
        "id = \"0192f0c4-7d8a-7c3e-9b1a-3f0e8d5c2b1a\"".into(),
        "token = \"0192f0c4-7d8a-7c3e-9b1a-3f0e8d5c2b1a\"".into(),
        "token = \"access-token-for-the-session\"".into(),
        "password: z.string().min(12).max(100)".into(),
        "https://docs.rs/serde/latest/serde/".into(),
        "http://localhost:8080/@scope/package".into(),
        format!("<img src=\"data:image/png;base64,{}\">", DRAWN.repeat(20)),
        ["if text.contains(\"-----BEGIN PRIVATE", " KEY-----\") {"].concat(),
        format!("let vector = hex(\"{sha}{sha}\");"),
    ] {
        assert_eq!(of("src/config.rs", &line).findings, [], "{line}");
    }
    for line in ["password: {{ .Values.password }}", "secret: !vault/data/db2#password", "token: $CI_JOB_TOKEN_V2"] {
        assert_eq!(of("deploy.yaml", line).findings, [], "{line}");
    }
}

#[test]
fn lock_files_and_tests_do_not_fire() {
    let line = format!("password = \"{}\"", token("", 20));
    assert_eq!(of("src/a.rs", &line).findings[0].severity, Severity::Warning);
    for path in [
        "Cargo.lock",
        "web/package-lock.json",
        "go.sum",
        "tests/login.rs",
        "a/login_test.go",
        "fixtures/k.json",
        "a.svg",
    ] {
        assert_eq!(of(path, &line).findings, [], "{path}");
    }
    let real = format!("x = \"{}\"", token("ghp_", 36));
    assert_eq!(of("tests/login.rs", &real).findings.len(), 1, "a real token is one in a test, too");
}

#[test]
fn real_files_of_hashes_and_vectors_do_not_fire() {
    for diff in [include_str!("../tests/fixtures/locks.diff"), include_str!("../tests/fixtures/lookalikes.diff")] {
        let change = scanned(diff);
        assert_eq!(change.findings, []);
        assert!(change.files.iter().map(|file| file.counts().0).sum::<usize>() > 20);
    }
}

#[test]
fn a_change_with_several_secrets_tells_each_in_its_line() {
    let (aws, slack, password) = (["AKIA", "QRSTUVWXYZ234567"].concat(), token("xoxp-", 40), token("", 18));
    let key = ["-----BEGIN OPENSSH PRIVATE", " KEY-----"].concat();
    let diff = format!(
        "diff --git a/.env b/.env\nnew file mode 100644\n--- /dev/null\n+++ b/.env\n@@ -0,0 +1,4 @@\n+AWS_ACCESS_KEY_ID={aws}\n+\
         # of the bot\n+SLACK={slack}\n+DB_PASSWORD={password}\ndiff --git a/id b/id\nnew file mode 100600\n--- /dev/null\n\
         +++ b/id\n@@ -0,0 +1,2 @@\n+{key}\n+b3BlbnNzaC1rZXktdjEAAAAA\n"
    );
    let change = scanned(&diff);
    let found: Vec<_> = change.findings.iter().map(|f| (f.path.as_str(), f.line.unwrap(), f.rule.as_str())).collect();
    let mut expected = [
        (".env", 1, "secrets/aws-access-key"),
        (".env", 3, "secrets/slack-token"),
        (".env", 4, "secrets/assigned"),
        ("id", 1, "secrets/private-key"),
    ];
    expected.sort_by_key(|(.., rule)| *rule == "secrets/assigned");
    assert_eq!(found, expected);
}

#[test]
fn long_lines_are_passed_over() {
    let line = format!("password = \"{}\"{}", token("", 20), " ".repeat(20_000));
    assert_eq!(of("src/a.rs", &line).findings, []);
}

#[test]
fn removed_lines_are_not_looked_at() {
    let diff = format!("--- a/x.rs\n+++ b/x.rs\n@@ -1,2 +1,1 @@\n first\n-password = \"{}\"\n", token("", 20));
    assert_eq!(scanned(&diff).findings, []);
}
