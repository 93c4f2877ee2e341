use super::*;

const GIT: &str = include_str!("../../tests/fixtures/git.diff");

fn file<'a>(change: &'a Change, path: &str) -> &'a File {
    change.files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("{path}: {change:#?}"))
}

#[test]
fn what_git_writes_is_read() {
    let change = parse(GIT).unwrap();
    let added = file(&change, "src/new.rs");
    assert_eq!((added.status, added.old_path.as_deref()), (Status::Added, None));
    assert_eq!(added.added_lines().next(), Some((1, "fn new() {}")));

    let renamed = file(&change, "docs/moved here.md");
    assert_eq!((renamed.status, renamed.old_path.as_deref()), (Status::Renamed, Some("docs/old.md")));

    let gone = file(&change, "gone.txt");
    assert_eq!((gone.status, gone.removed_lines().count()), (Status::Deleted, 2));

    let binary = file(&change, "logo.png");
    assert!(binary.binary && binary.hunks.is_empty());

    let mode = file(&change, "run.sh");
    assert_eq!(mode.modes, Some(("100644".into(), "100755".into())));

    let crlf = file(&change, "windows.txt");
    assert!(crlf.hunks[0].lines.iter().any(|line| line.text.ends_with('\r')));
    assert!(crlf.added_lines().all(|(_, text)| !text.ends_with('\r')));

    let open = file(&change, "no-end.txt");
    let last = open.hunks[0].lines.last().unwrap();
    assert!(last.no_newline && last.kind == Kind::Added);

    assert!(change.files.iter().any(|file| file.path == "tür.txt"), "{:?}", change.files.iter().map(|f| &f.path).collect::<Vec<_>>());
}

#[test]
fn line_numbers_are_those_of_the_files() {
    let diff = "--- a/x\n+++ b/x\n@@ -10,3 +20,4 @@ fn f()\n same\n-old\n+new\n+newer\n same\n";
    let change = parse(diff).unwrap();
    let hunk = &change.files[0].hunks[0];
    assert_eq!(hunk.section, "fn f()");
    let numbers: Vec<_> = hunk.lines.iter().map(|line| (line.old, line.new)).collect();
    assert_eq!(numbers, [(Some(10), Some(20)), (Some(11), None), (None, Some(21)), (None, Some(22)), (Some(12), Some(23))]);
}

#[test]
fn a_line_that_looks_like_a_head_is_a_line() {
    let diff = "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n--- not a file\n-@@ -1 +1 @@\n+++ nor this\n+@@ nor this\n--- a/y\n+++ b/y\n@@ -1 +1 @@\n-a\n+b\n";
    let change = parse(diff).unwrap();
    assert_eq!(change.files.len(), 2);
    assert_eq!(change.files[0].removed_lines().next(), Some((1, "-- not a file")));
}

#[test]
fn nothing_is_an_empty_change_and_text_around_is_passed_over() {
    assert_eq!(parse("").unwrap(), Change::default());
    assert_eq!(parse("commit 1234\nAuthor: a\n\n    message\n").unwrap(), Change::default());
}

#[test]
fn faults_name_their_line() {
    let fault = |diff: &str| parse(diff).unwrap_err();
    assert_eq!(fault("--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n same\n").line, 3);
    assert_eq!(fault("--- a/x\n+++ b/x\n@@ -a +b @@\n").line, 3);
    assert!(fault("diff --cc x\n").what.contains("combined"));
    assert!(fault("@@ -1 +1 @@\n-a\n+b\n").what.contains("before any file"));
}

#[test]
fn a_large_diff_is_read_in_linear_time() {
    let mut diff = String::from("--- a/x\n+++ b/x\n@@ -0,0 +1,200000 @@\n");
    (0..200_000).for_each(|n| diff.push_str(&format!("+line {n}\n")));
    assert_eq!(parse(&diff).unwrap().files[0].added_lines().count(), 200_000);
}
