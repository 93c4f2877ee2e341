use findings::{Change, Severity};

use super::audit;

fn of(path: &str, body: &str) -> Vec<(String, Severity, Option<u32>)> {
    let old = body.lines().filter(|line| !line.starts_with('+')).count();
    let new = body.lines().filter(|line| !line.starts_with('-')).count();
    let diff = format!("--- a/{path}\n+++ b/{path}\n@@ -1,{old} +1,{new} @@\n{body}\n");
    let mut change: Change = read_diff::parse(&diff).unwrap();
    audit(&mut change);
    change.findings.into_iter().map(|f| (f.rule.trim_start_matches("dependencies/").to_owned(), f.severity, f.line)).collect()
}

fn rules(path: &str, body: &str) -> Vec<String> {
    of(path, body).into_iter().map(|(rule, ..)| rule).collect()
}

#[test]
fn cargo_manifests() {
    let body = " [dependencies]\n-serde = \"1\"\n-tokio = { version = \"0.2\", features = [\"full\"] }\n+tokio = { version = \"1.40\", features = [\"full\"] }\n+anything = \"*\"\n+own = { git = \"https://example.org/own\" }\n+here = { path = \"../here\" }\n+shared.workspace = true";
    let found = of("Cargo.toml", body);
    let names: Vec<&str> = found.iter().map(|(rule, ..)| rule.as_str()).collect();
    assert_eq!(names, ["added", "unpinned", "added", "unusual-source", "major-bump", "removed"]);
    assert_eq!(found[4], ("major-bump".into(), Severity::Warning, Some(2)));
    assert_eq!(rules("Cargo.toml", " [package]\n-version = \"0.1.0\"\n+version = \"0.2.0\""), [""; 0]);
    assert_eq!(rules("crates/x/Cargo.toml", " [dev-dependencies]\n-rand = \"0.8\"\n+rand = \"0.9\""), ["major-bump"]);
    assert_eq!(rules("Cargo.toml", " [dependencies]\n-rand = \"0.8.1\"\n+rand = \"0.8.9\""), [""; 0]);
}

#[test]
fn npm_manifests() {
    let body = "   \"dependencies\": {\n-    \"react\": \"^17.0.2\",\n+    \"react\": \"^18.2.0\",\n+    \"left-pad\": \"latest\",\n+    \"own\": \"git+https://example.org/own.git\"\n   },\n   \"scripts\": {\n+    \"build\": \"tsc\"";
    assert_eq!(rules("web/package.json", body), ["added", "unpinned", "added", "unusual-source", "major-bump"]);
}

#[test]
fn python_manifests() {
    let body = "-Django==3.2.1\n+django==4.2.0\n+requests>=2\n+flask\n+-e git+http://example.org/x.git#egg=x\n+numpy~=2.0";
    assert_eq!(
        rules("requirements.txt", body),
        ["major-bump", "added", "unpinned", "added", "added", "unpinned", "added", "unusual-source", "plain-http"]
    );
    let body = " dependencies = [\n+  \"httpx>=0.27,<1\",\n ]\n [tool.poetry.dependencies]\n+pendulum = \"*\"";
    assert_eq!(rules("pyproject.toml", body), ["added", "added", "unpinned"]);
}

#[test]
fn go_and_maven_manifests() {
    let body = " require (\n-\tgolang.org/x/net v0.1.0\n+\tgolang.org/x/net v0.2.0\n+\tgithub.com/a/b v1.0.0\n )\n+replace github.com/a/b => ../b";
    assert_eq!(rules("go.mod", body), ["unusual-source", "major-bump"].map(String::from).into_iter().fold(vec!["added".to_owned()], |mut all, rule| { all.push(rule); all }));
    let body = "   <artifactId>guava</artifactId>\n-  <version>31.1-jre</version>\n+  <version>32.0-jre</version>";
    assert_eq!(rules("pom.xml", body), ["major-bump"]);
}

#[test]
fn lock_files_are_one_note() {
    assert_eq!(of("Cargo.lock", " [[package]]\n-version = \"1.0.0\"\n+version = \"2.0.0\""), [("lock-file".into(), Severity::Note, None)]);
}

#[test]
fn other_files_are_not_looked_at() {
    assert_eq!(rules("src/main.rs", "+serde = \"*\""), [""; 0]);
}
