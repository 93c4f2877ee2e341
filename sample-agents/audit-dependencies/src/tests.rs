use findings::{Change, Severity};

use super::audit;

/// Of a file of which these are all the lines: each finding's rule, severity, line and message.
fn of(path: &str, body: &str) -> Vec<(String, Severity, Option<u32>, String)> {
    let old = body.lines().filter(|line| !line.starts_with('+')).count();
    let new = body.lines().filter(|line| !line.starts_with('-')).count();
    let diff = format!("--- a/{path}\n+++ b/{path}\n@@ -1,{old} +1,{new} @@\n{body}\n");
    audited(&diff).into_iter().map(|(_, rule, severity, line, message)| (rule, severity, line, message)).collect()
}

fn audited(diff: &str) -> Vec<(String, String, Severity, Option<u32>, String)> {
    let mut change: Change = read_diff::parse(diff).unwrap();
    audit(&mut change);
    let short = |rule: &str| rule.trim_start_matches("dependencies/").to_owned();
    change.findings.into_iter().map(|f| (f.path, short(&f.rule), f.severity, f.line, f.message)).collect()
}

fn rules(path: &str, body: &str) -> Vec<String> {
    of(path, body).into_iter().map(|(rule, ..)| rule).collect()
}

/// `rule:line message`, in the order of the lines.
fn told(diff: &str, path: &str) -> Vec<String> {
    let mut all: Vec<_> = audited(diff).into_iter().filter(|(of, ..)| of == path).collect();
    all.sort_by_key(|(_, rule, _, line, _)| (*line, rule.clone()));
    let line = |line: Option<u32>| line.map(|line| line.to_string()).unwrap_or_default();
    all.into_iter().map(|(_, rule, _, at, message)| format!("{rule}:{} {message}", line(at))).collect()
}

const REAL: &str = include_str!("../tests/fixtures/dependencies.diff");

#[test]
fn a_real_change_of_cargo() {
    assert_eq!(
        told(REAL, "Cargo.toml"),
        [
            "removed: removes `hex`",
            "major-bump:7 `itoa` goes from `0.4` to `1`",
            "added:9 adds `anyhow *`, `local 0.1`",
            "unpinned:9 `anyhow` is not pinned: `*`",
            "unusual-source:10 `local` comes from `../elsewhere/local`, outside of the repository, not from a registry",
            "major-bump:13 `cfg-if` goes from `0.1` to `1`",
            "major-bump:16 `ryu` goes from `0.2` to `1`",
        ]
    );
    assert_eq!(
        told(REAL, "Cargo.lock"),
        [
            "lock-file: locked packages: 3 of a higher major version (`cfg-if 1.0.5` after `0.1.10`, `itoa 1.0.19` after `0.4.8`, \
          `ryu 1.0.23` after `0.2.8`); 1 added (`anyhow 1.0.105`); 1 removed (`hex 0.4.3`)"
        ]
    );
}

#[test]
fn a_real_change_of_npm() {
    assert_eq!(
        told(REAL, "web/package.json"),
        [
            "removed: removes `isarray`",
            "major-bump:14 `is-odd` goes from `^0.1.2` to `^3.0.1`",
            "added:15 adds `left-pad latest`, `own`, `react *`",
            "unpinned:15 `left-pad` is not pinned: `latest`",
            "unusual-source:16 `own` comes from `git+https://example.org/own.git`, not from a registry",
        ]
    );
    assert_eq!(
        told(REAL, "web/package-lock.json"),
        [
            "lock-file: locked packages: 2 of a higher major version (`is-number 6.0.0` after `3.0.0`, `is-odd 3.0.1` after `0.1.2`); \
          3 removed (`is-buffer 1.1.6`, `isarray 1.0.0`, `kind-of 3.2.2`)"
        ]
    );
}

#[test]
fn a_real_change_of_python() {
    assert_eq!(
        told(REAL, "py/requirements.txt"),
        [
            "major-bump:1 `django` goes from `==3.2.25` to `==4.2.0`",
            "unpinned:2 `requests` is not pinned: `>=2`",
            "added:3 adds `flask`, `x`",
            "unpinned:3 `flask` is not pinned: no version",
            "plain-http:4 `x` is fetched over plain http",
            "unusual-source:4 `x` comes from `git+http://example.org/x.git#egg=x`, not from a registry",
        ]
    );
    assert_eq!(
        told(REAL, "py/pyproject.toml"),
        [
            "removed: removes `ruff`",
            "major-bump:6 `click` goes from `>=7` to `>=8`",
            "added:7 adds `attrs`, `mypy`",
            "unpinned:7 `attrs` is not pinned: no version",
            "major-bump:11 `pytest` goes from `>=7` to `>=8`",
            "unpinned:11 `mypy` is not pinned: no version",
        ]
    );
}

#[test]
fn a_real_change_of_go() {
    assert_eq!(
        told(REAL, "svc/go.mod"),
        [
            "added:9 adds `rsc.io/quote/v3 v3.1.0`",
            "unusual-source:13 `rsc.io/quote` comes from a replacement (`../../quote`), not from a registry",
        ]
    );
    assert_eq!(
        told(REAL, "svc/go.sum"),
        ["lock-file: locked packages: 2 added (`rsc.io/quote v1.5.2`, `rsc.io/quote/v3 v3.1.0`)"]
    );
}

#[test]
fn cargo_manifests() {
    let own = " [dependencies]\n+own = { git = \"https://example.org/own\" }\n+at = { git = \"http://example.org/at\", rev = \"12ab\" }\n\
               +here = { path = \"./here\" }\n+shared.workspace = true\n+other = { workspace = true, features = [\"x\"] }";
    let found = of("Cargo.toml", own);
    let told: Vec<_> = found.iter().map(|(rule, _, line, _)| (rule.as_str(), line.unwrap())).collect();
    assert_eq!(told, [("plain-http", 3), ("unusual-source", 3), ("unusual-source", 2), ("added", 2)]);
    assert!(found[2].3.contains("at no revision"), "{}", found[2].3);
    assert_eq!(rules("Cargo.toml", " [package]\n-version = \"0.1.0\"\n+version = \"0.2.0\""), [""; 0]);
    assert_eq!(
        rules(
            "Cargo.toml",
            "-version = \"0.1.0\"\n+version = \"2.0.0\"\n-rust-version = \"1.80\"\n+rust-version = \"2\""
        ),
        [""; 0]
    );
    assert_eq!(rules("Cargo.toml", " anyhow = \"1\"\n-rand = \"0.8\"\n+rand = \"0.9\""), ["major-bump"]);
    assert_eq!(rules("Cargo.toml", " [dependencies]\n-rand = \"0.8.1\"\n+rand = \"0.8.9\""), [""; 0]);
    let tables = " [dependencies.serde]\n-version = \"1\"\n+version = \"2\"\n+git = \"https://example.org/serde\"\n+[features]\n+x = [\"serde\"]";
    assert_eq!(rules("Cargo.toml", tables), ["unusual-source"]);
    let profile = " [profile.release]\n+opt-level = \"s\"\n+[lints.rust]\n+unsafe_code = \"deny\"";
    assert_eq!(rules("Cargo.toml", profile), [""; 0]);
}

#[test]
fn many_names_are_counted() {
    let lines: String = (0..40).map(|n| format!("+dep{n} = \"1\"\n")).collect();
    let found = of("Cargo.toml", &format!(" [dependencies]\n{}", lines.trim_end()));
    assert_eq!(found.len(), 1);
    assert!(found[0].3.ends_with("and 28 more"), "{}", found[0].3);
}

#[test]
fn maven_and_poetry_manifests() {
    let body = "   <artifactId>guava</artifactId>\n-  <version>31.1-jre</version>\n+  <version>32.0-jre</version>";
    assert_eq!(rules("pom.xml", body), ["major-bump"]);
    let body = " [tool.poetry.dependencies]\n+pendulum = \"*\"\n+own = { git = \"https://example.org/own.git\" }\n+python = \"*\"";
    assert_eq!(rules("pyproject.toml", body), ["unusual-source", "unpinned", "added"]);
}

#[test]
fn lock_files_in_their_forms() {
    let locked =
        |path: &str, body: &str| of(path, body).into_iter().map(|(_, _, _, message)| message).collect::<Vec<_>>();
    let yarn = " \"a@^1\":\n-  version \"1.0.0\"\n+  version \"2.0.0\"\n+  resolved \"http://example.org/a.tgz\"";
    assert_eq!(rules("yarn.lock", yarn), ["plain-http", "lock-file"]);
    let pnpm = " packages:\n-  '@s/a@1.0.0':\n+  '@s/a@1.2.0':\n+  b@2.0.0(c@1):";
    assert_eq!(
        locked("pnpm-lock.yaml", pnpm),
        ["locked packages: 1 added (`b 2.0.0`); 1 of another version (`@s/a 1.2.0` after `1.0.0`)"]
    );
    let poetry = " [[package]]\n name = \"a\"\n-version = \"1.0\"\n+version = \"1.1\"";
    assert_eq!(locked("poetry.lock", poetry), ["locked packages: 1 of another version (`a 1.1` after `1.0`)"]);
    let two = " [[package]]\n name = \"syn\"\n version = \"2.0.1\"\n source = \"registry+x\"\n+\n+[[package]]\n+name = \"syn\"\n+version = \"3.0.1\"\n+source = \"git+https://example.org/syn\"";
    assert_eq!(rules("Cargo.lock", two), ["unusual-source", "lock-file"]);
    assert!(locked("Cargo.lock", two)[1].contains("1 added (`syn 3.0.1`)"));
}

#[test]
fn other_files_are_not_looked_at() {
    assert_eq!(rules("src/main.rs", "+serde = \"*\""), [""; 0]);
    assert_eq!(rules("x/testdata/Cargo.toml", " [dependencies]\n+serde = \"*\""), [""; 0]);
    assert_eq!(rules("tests/Cargo.toml", " [dependencies]\n+serde = \"*\""), ["unpinned", "added"]);
}
