use findings::{Change, Severity};

use super::{measure, rust};

fn added(path: &str, text: &str) -> Change {
    let body: String = text.lines().map(|line| format!("+{line}\n")).collect();
    let diff = format!("--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{} @@\n{body}", text.lines().count());
    measured(&diff)
}

fn measured(diff: &str) -> Change {
    let mut change = read_diff::parse(diff).unwrap();
    measure(&mut change);
    change
}

fn rules(change: &Change) -> Vec<(&str, Severity, Option<u32>)> {
    change.findings.iter().map(|f| (f.rule.trim_start_matches("complexity/"), f.severity, f.line)).collect()
}

#[test]
fn long_functions_are_told_in_every_language() {
    for (path, head, line, tail) in [
        ("a.rs", "fn long() {", "    work();", "}"),
        ("a.js", "const long = async (a) => {", "  work(a);", "};"),
        ("a.ts", "export function long(a: string): void {", "  work(a);", "}"),
        ("a.go", "func (s *Server) long(a int) error {", "\twork()", "}"),
        ("a.java", "  public static void long(String[] a) {", "    work();", "  }"),
        ("a.kt", "  fun long(a: Int): Int {", "    work()", "  }"),
        ("a.c", "static int long(int a)\n{", "  work();", "}"),
        ("a.cpp", "int Box::long(int a) const {", "  work();", "}"),
        ("a.cs", "  public async Task<int> long(int a)\n  {", "    Work();", "  }"),
        ("a.py", "def long(\n    a,\n):", "    work(a)", "\nlast = 1"),
    ] {
        let of = |lines: usize| added(path, &format!("{head}\n{}{tail}\n", format!("{line}\n").repeat(lines)));
        let change = of(70);
        assert_eq!(rules(&change), [("long-function", Severity::Note, Some(1))], "{path}: {:#?}", change.findings);
        assert!(change.findings[0].message.starts_with("`long` has "), "{path}: {}", change.findings[0].message);
        assert_eq!(rules(&of(130)), [("long-function", Severity::Warning, Some(1))], "{path}");
        assert_eq!(rules(&of(10)), [], "{path}");
    }
}

#[test]
fn deep_nesting_is_told_where_it_is_deepest() {
    let rust = "fn f(a: u8) {\n    for x in 0..a {\n        if x > 1 {\n            match x {\n                2 => loop {\n                    if a > x { return; }\n                },\n                _ => {}\n            }\n        }\n    }\n}\n";
    let go = "func f() {\n\tfor {\n\t\tif a {\n\t\t\tfor {\n\t\t\t\tif b {\n\t\t\t\t\tif c {\n\t\t\t\t\t}\n\t\t\t\t}\n\t\t\t}\n\t\t}\n\t}\n}\n";
    let python = "def f():\n    for a in b:\n        if a:\n            while c:\n                with d:\n                    if e:\n                        pass\n";
    for (path, text) in [("a.rs", rust), ("a.go", go), ("a.py", python)] {
        assert_eq!(rules(&added(path, text)), [("deep-nesting", Severity::Warning, Some(6))], "{path}");
    }
    let flat = "fn f(a: u8) {\n    if a == 1 {\n    } else if a == 2 {\n    } else if a == 3 {\n    } else if a == 4 {\n    } else if a == 5 {\n    }\n}\n";
    assert_eq!(rules(&added("a.rs", flat)), []);
}

#[test]
fn what_is_nested_but_no_control_flow_does_not_count() {
    let values = "fn f() -> A {\n    A { b: B { c: C { d: D { e: E { f: 1 } } } } }\n}\n";
    assert_eq!(rules(&added("a.rs", values)), []);
    let js = "const f = () => {\n  return { a: { b: { c: { d: { e: { f: 1 } } } } } };\n};\n";
    assert_eq!(rules(&added("a.js", js)), []);
    let suite = format!("describe('x', () => {{\n{}}});\n", "  it('y', () => { z(); });\n".repeat(100));
    assert_eq!(rules(&added("a.js", &suite)), [], "a call that takes a function is no function that is too long");
}

#[test]
fn a_function_begins_where_its_head_does() {
    let long = "\twork()\n".repeat(70);
    let go = format!("package a\n\nimport (\n\t\"b\"\n)\n\nvar x = 1\n\nfunc f(\n\ta int,\n) error {{\n{long}}}\n");
    assert_eq!(rules(&added("a.go", &go)), [("long-function", Severity::Note, Some(9))]);
    let js = format!("const a = 1\nlet b = (c)\n\nfunction f (a,\n    b) {{\n{long}}}\n");
    assert_eq!(rules(&added("a.js", &js)), [("long-function", Severity::Note, Some(4))]);
    let cpp = format!("Box::Box(int a)\n    : a_(a)\n{{\n{long}}}\n");
    let change = added("a.cpp", &cpp);
    assert_eq!(rules(&change), [("long-function", Severity::Note, Some(1))]);
    assert!(change.findings[0].message.starts_with("`Box`"));
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
    let context = "     work();\n".repeat(70);
    let change = measured(&format!(
        "--- a/a.go\n+++ b/a.go\n@@ -1,142 +1,143 @@\n func f() {{\n{context}+    more()\n{context} }}\n"
    ));
    assert_eq!(rules(&change), [("long-function", Severity::Note, Some(1))]);
    assert_eq!(change.findings[0].message, "`f` has 143 lines, 1 of them new");
}

#[test]
fn a_real_change_is_measured_in_its_lines() {
    let change = measured(include_str!("../tests/fixtures/real.diff"));
    let told: Vec<_> = change.findings.iter().map(|f| (f.path.as_str(), f.line, f.message.as_str())).collect();
    assert_eq!(
        told,
        [
            ("web/scheduler.ts", Some(14), "`plan` nests 5 levels deep"),
            ("host/ltmc/src/commands/run.rs", Some(39), "`run` has 61 lines, all of them new"),
        ]
    );
}

#[test]
fn what_is_no_source_or_a_test_is_not_measured() {
    assert_eq!(rules(&added("a.md", &"{ {\n".repeat(500))), []);
    let long = format!("fn f() {{\n{}}}\n", "    work();\n".repeat(200));
    assert_eq!(rules(&added("tests/a.rs", &long)), []);
    assert_eq!(rules(&added("src/a.rs", &format!("#[cfg(test)]\nmod tests {{\n{long}}}\n"))), []);
}

#[test]
fn hostile_nesting_is_bounded_work() {
    for (path, text) in [
        ("a.rs", "(".repeat(9_000)),
        ("a.rs", format!("fn f() {{ {}", "{\n".repeat(60_000))),
        ("a.rs", format!("fn f() {{ {}1 }}", "!\n".repeat(60_000))),
        ("a.rs", format!("fn f() {{ {}1 }}", "a +\n".repeat(60_000))),
        ("a.js", "function f() {\n".repeat(40_000)),
        ("a.c", "if (a) {\n".repeat(60_000)),
        ("a.ts", format!("x{}\n", " ".repeat(9_000)).repeat(200)),
        ("a.js", "'".repeat(2_000_000)),
        ("a.py", (0..2_000).map(|n| format!("{}if a:\n", " ".repeat(n))).collect()),
        ("a.py", (0..2_000).map(|n| format!("{}def a():\n", " ".repeat(n))).collect()),
    ] {
        added(path, &text);
    }
}

/// Under optimisation it is a tenth of this.
#[test]
fn what_is_parsed_fits_the_stack() {
    let families: [(&str, &str, &str); 10] = [
        ("fn f() { ", "(", "1 }"),
        ("fn f() { ", "if a {", "}"),
        ("fn f() { ", "|a| ", "1 }"),
        ("fn f() { ", "!", "1 }"),
        ("fn f() { ", "break ", "}"),
        ("fn f() { a", ".b()", "}"),
        ("fn f() { if a {}", "else if a {}", "}"),
        ("type A = ", "B<", "u8;"),
        ("type A = ", "&", "u8;"),
        ("type A = ", "fn() -> ", "u8;"),
    ];
    let parse = move || {
        for (before, middle, after) in families {
            for count in (1..200).step_by(3) {
                let close = match middle.trim_end().chars().last() {
                    Some('(') => ")",
                    Some('<') => ">",
                    Some('{') => "}",
                    _ => "",
                };
                let (text, close) = (middle.repeat(count), close.repeat(count));
                let end = after.len() - after.trim_start_matches(|c: char| c.is_alphanumeric()).len();
                let line = format!("{before}{text}{}{close}{}", &after[..end], &after[end..]);
                rust::functions(&[super::Seen { number: 1, text: &line, added: true }]);
            }
        }
    };
    std::thread::Builder::new().stack_size(4 << 20).spawn(parse).unwrap().join().unwrap();
}
