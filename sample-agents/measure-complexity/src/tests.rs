use findings::{Change, Severity};

use super::measure;

fn added(path: &str, text: &str) -> Change {
    let lines: Vec<&str> = text.lines().collect();
    let body: String = lines.iter().map(|line| format!("+{line}\n")).collect();
    let diff = format!("diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{} @@\n{body}", lines.len());
    let mut change = read_diff::parse(&diff).unwrap();
    measure(&mut change);
    change
}

fn rules(change: &Change) -> Vec<(&str, Severity, Option<u32>)> {
    change.findings.iter().map(|f| (f.rule.trim_start_matches("complexity/"), f.severity, f.line)).collect()
}

fn body(lines: usize, line: &str) -> String {
    (0..lines).map(|_| format!("{line}\n")).collect()
}

#[test]
fn long_functions_are_told_in_every_language() {
    for (path, head, line, tail) in [
        ("a.rs", "fn long() {", "    work();", "}"),
        ("a.js", "const long = async (a) => {", "  work(a);", "};"),
        ("a.ts", "export function long(a: string): void {", "  work(a);", "}"),
        ("a.go", "func (s *Server) long(a int) error {", "\twork()", "}"),
        ("a.java", "  public static void long(String[] a) {", "    work();", "  }"),
        ("a.c", "static int long_one(int a)\n{", "  work();", "}"),
        ("a.py", "def long(a):", "    work(a)", "\nlast = 1"),
    ] {
        let change = added(path, &format!("{head}\n{}{tail}\n", body(70, line)));
        assert_eq!(rules(&change), [("long-function", Severity::Warning, Some(1))], "{path}: {:#?}", change.findings);
        let change = added(path, &format!("{head}\n{}{tail}\n", body(130, line)));
        assert_eq!(rules(&change)[0].1, Severity::Error, "{path}");
        let change = added(path, &format!("{head}\n{}{tail}\n", body(10, line)));
        assert_eq!(rules(&change), [], "{path}");
    }
}

#[test]
fn deep_nesting_is_told_where_it_is_deepest() {
    let rust = "fn f(a: u8) {\n    for x in 0..a {\n        if x > 1 {\n            match x {\n                2 => loop {\n                    if a > x { return; }\n                },\n                _ => {}\n            }\n        }\n    }\n}\n";
    assert_eq!(rules(&added("a.rs", rust)), [("deep-nesting", Severity::Warning, Some(6))]);
    let flat = "fn f(a: u8) {\n    if a == 1 {\n    } else if a == 2 {\n    } else if a == 3 {\n    } else if a == 4 {\n    } else if a == 5 {\n    }\n}\n";
    assert_eq!(rules(&added("a.rs", flat)), []);
    let go = "func f() {\n\tfor {\n\t\tif a {\n\t\t\tfor {\n\t\t\t\tif b {\n\t\t\t\t\tif c {\n\t\t\t\t\t}\n\t\t\t\t}\n\t\t\t}\n\t\t}\n\t}\n}\n";
    assert_eq!(rules(&added("a.go", go)), [("deep-nesting", Severity::Warning, Some(6))]);
    let python = "def f():\n    for a in b:\n        if a:\n            while c:\n                with d:\n                    if e:\n                        pass\n";
    assert_eq!(rules(&added("a.py", python)), [("deep-nesting", Severity::Warning, Some(6))]);
}

#[test]
fn braces_in_strings_and_comments_do_not_count() {
    let js = "function f() {\n  a(\"{{{{{{\");\n  // {{{{{{\n  /* {{{{{{ */\n  b('{', `{{\n{{`);\n}\n";
    assert_eq!(rules(&added("a.js", js)), []);
    let rust = "fn f<'a>(x: &'a str) -> char {\n    let _ = \"{\"; // {\n    '{'\n}\n";
    assert_eq!(rules(&added("a.rs", rust)), []);
}

#[test]
fn one_that_was_long_before_is_a_note() {
    let context = body(40, "     work();");
    let diff = format!("--- a/a.go\n+++ b/a.go\n@@ -1,82 +1,83 @@\n func f() {{\n{context}+    more()\n{context} }}\n");
    let mut change = read_diff::parse(&diff).unwrap();
    measure(&mut change);
    assert_eq!(rules(&change), [("long-function", Severity::Note, Some(1))]);
}

#[test]
fn what_is_no_source_is_not_measured() {
    assert_eq!(rules(&added("a.md", &body(500, "{ {"))), []);
    assert_eq!(rules(&added("a.rs", &"(".repeat(9_000))), []);
}
