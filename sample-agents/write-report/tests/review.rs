//! The agents of review.yaml, natively: over real changes, and over what is hostile to them.

#[path = "../examples/review.rs"]
mod example;

use std::time::Instant;

use ltmc::serde_json::{self, Value};
use ltmc::testing::Host;
use ltmc::{Failure, Payload};

/// All of it; no agent gives more than the host takes.
fn review(diff: impl Into<Vec<u8>>) -> Result<Value, Failure> {
    let host = Host::new().grant("log");
    let payloads = example::review(&host, Payload::new("text/x-diff", diff))?;
    for payload in &payloads {
        assert!(payload.bytes.len() < 8 << 20, "{} bytes", payload.bytes.len());
    }
    Ok(serde_json::from_slice(&payloads.last().unwrap().bytes).unwrap())
}

fn markdown(report: &Value) -> &str {
    report["markdown"].as_str().unwrap()
}

/// Everything that SARIF 2.1.0 asks of what is written here.
fn check_sarif(report: &Value) {
    let log = &report["sarif"];
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let driver = &run["tool"]["driver"];
    assert!(driver["name"].is_string());
    let rules = driver["rules"].as_array().unwrap();
    for result in run["results"].as_array().unwrap() {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        assert!(result["message"]["text"].is_string());
        let place = &result["locations"][0]["physicalLocation"];
        let uri = place["artifactLocation"]["uri"].as_str().unwrap();
        assert!(!uri.is_empty() && !uri.starts_with('/') && uri.is_ascii() && !uri.contains([' ', '\\', ':']), "{uri}");
        if let Some(region) = place.get("region") {
            assert!(
                region["startLine"].as_u64().unwrap() >= 1
                    && region["endLine"].as_u64() >= region["startLine"].as_u64()
            );
        }
    }
}

#[test]
fn a_real_change_is_reported_worst_first() {
    let token = ["ghp_", "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY1zA2"].concat();
    let dependencies = include_str!("../../audit-dependencies/tests/fixtures/dependencies.diff");
    let code = include_str!("../../measure-complexity/tests/fixtures/real.diff");
    let secret =
        format!("diff --git a/ci.sh b/ci.sh\n--- a/ci.sh\n+++ b/ci.sh\n@@ -1 +1,2 @@\n set -e\n+export T={token}\n");
    let report = review([dependencies, code, &secret].concat()).unwrap();
    let text = markdown(&report);
    assert!(text.starts_with("# Review\n\n**2 errors, "), "{text}");
    let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part}\n{text}"));
    assert!(
        place("`ci.sh:2` a GitHub token `ghp_…` of 40 characters")
            < place("`web/scheduler.ts:14` `plan` nests 5 levels deep")
    );
    assert!(place("## 2 errors") < place("`dependencies/major-bump`"));
    assert!(!report.to_string().contains(&token));
    check_sarif(&report);
}

#[test]
fn every_kind_of_file_of_git_goes_through() {
    let report = review(include_str!("../../read-diff/tests/fixtures/git.diff")).unwrap();
    let text = markdown(&report);
    assert!(text.contains("**Nothing to look at first** in 15 files"), "{text}");
    assert!(text.contains("| `docs/moved here.md` | renamed from `docs/old.md` | +1 −1 |"), "{text}");
    assert!(text.contains("| `run.sh` | changed, mode `100644` to `100755` | +0 −0 |"), "{text}");
    check_sarif(&report);
}

#[test]
fn what_is_no_diff_is_told_so() {
    assert!(markdown(&review("").unwrap()).contains("0 files"));
    for (input, code) in [
        (b"hello\nworld\n".to_vec(), "bad-diff"),
        (b"\xff\xfe\x00\x01".repeat(100), "bad-diff"),
        (include_bytes!("../../read-diff/tests/fixtures/merge.diff").to_vec(), "bad-diff"),
        (b"--- a/x\n+++ b/x\n@@ -1 +1,9 @@\n".to_vec(), "bad-diff"),
        (format!("--- a/x\n+++ b/x\n@@ -0,0 +1 @@\n+{}\n", "x".repeat(5 << 20)).into_bytes(), "diff-too-large"),
        (format!("--- a/x\n+++ b/x\n@@ -0,0 +1 @@\n+{}\n", "\u{1}".repeat(1 << 20)).into_bytes(), "diff-too-large"),
        (format!("--- a/x\n+++ b/x\n{}", "@@ -1 +1 @@\n-a\n+b\n".repeat(50_000)).into_bytes(), "bad-diff"),
    ] {
        let failure: Failure = review(input).unwrap_err();
        assert_eq!(failure.code, code, "{failure}");
    }
}

/// One file, all of it new.
fn added(path: &str, line: &str, count: usize) -> String {
    format!("--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{count} @@\n{}", format!("+{line}\n").repeat(count))
}

#[test]
fn large_and_hostile_changes_are_bounded_work() {
    let started = Instant::now();
    let secret = ["password = \"", "q8Zr2Lw9Xt4Bv7Nm1Kc6\""].concat();
    for (what, diff) in [
        ("a line that is long", added("a.rs", &"x".repeat(3 << 20), 1)),
        ("lines that are empty", added("a.js", "", 1_000_000)),
        ("a secret in every line", added("a.rs", &secret, 10_000)),
        ("braces", added("a.js", "function f() { if (a) {", 50_000)),
        ("Rust that nests", added("a.rs", "fn f() { (((((", 80_000)),
        ("dependencies", added("requirements.txt", "flask", 100_000)),
        (
            "different dependencies",
            (0..9_000).map(|n| added(&format!("{n}/go.mod"), "require a.b/c v1.0.0", 1)).collect(),
        ),
        ("names of files", (0..9_000).map(|n| added(&format!("{n}{}", "|`*".repeat(100)), "x", 1)).collect()),
    ] {
        let report = review(diff).unwrap_or_else(|failure| panic!("{what}: {failure}"));
        check_sarif(&report);
    }
    // Not optimised; a quadratic step would take minutes.
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}
