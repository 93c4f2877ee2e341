use findings::Kind;

use super::*;

const GIT: &str = include_str!("../../tests/fixtures/git.diff");
const UNIX: &str = include_str!("../../tests/fixtures/diff-u.diff");
const MAIL: &str = include_str!("../../tests/fixtures/mail.patch");
const MERGE: &str = include_str!("../../tests/fixtures/merge.diff");

fn file<'a>(change: &'a Change, path: &str) -> &'a File {
    change.files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("{path}: {change:#?}"))
}

#[test]
fn what_git_writes_is_read() {
    let change = parse(GIT).unwrap();
    assert_eq!(change.files.len(), GIT.matches("diff --git ").count());

    let added = file(&change, "src/new.rs");
    assert_eq!((added.status, added.old_path.as_deref()), (Status::Added, None));
    assert_eq!(added.added_lines().next(), Some((1, "fn new() {}")));

    let renamed = file(&change, "docs/moved here.md");
    assert_eq!((renamed.status, renamed.old_path.as_deref()), (Status::Renamed, Some("docs/old.md")));
    assert_eq!(renamed.counts(), (1, 1));
    let only_renamed = file(&change, "docs/same.md");
    assert_eq!((only_renamed.status, only_renamed.old_path.as_deref()), (Status::Renamed, Some("docs/was.md")));
    assert_eq!(only_renamed.hunks, []);
    let copied = file(&change, "src/copy.c");
    assert_eq!((copied.status, copied.old_path.as_deref()), (Status::Copied, Some("src/lib.c")));

    let gone = file(&change, "gone.txt");
    assert_eq!((gone.status, gone.counts()), (Status::Deleted, (0, 2)));
    let empty = file(&change, "empty.txt");
    assert_eq!((empty.status, empty.counts()), (Status::Added, (0, 0)));

    for (path, status) in [("logo.png", Status::Modified), ("new.bin", Status::Added)] {
        let binary = file(&change, path);
        assert!(binary.binary && binary.hunks.is_empty() && binary.status == status, "{binary:?}");
    }

    let mode = file(&change, "run.sh");
    assert_eq!(mode.modes, Some(("100644".into(), "100755".into())));

    let crlf = file(&change, "windows.txt");
    assert!(crlf.lines().all(|line| line.text.ends_with('\r')));
    assert_eq!(crlf.added_lines().next(), Some((2, "zwei")));

    assert!(file(&change, "no-end.txt").hunks[0].body.ends_with("+y\n\\ No newline at end of file\n"));
    assert_eq!(file(&change, "had-no-end.txt").counts(), (1, 1));
    assert_eq!(file(&change, "tür.txt").added_lines().next(), Some((1, "ö")));
    assert_eq!(file(&change, "a \"quoted\" name.txt").status, Status::Added);

    let several = file(&change, "src/lib.c");
    assert_eq!(several.hunks.len(), 2);
    assert_eq!(several.hunks[1].section, "int middle(int a)");
    let added: Vec<_> = several.added_lines().collect();
    assert_eq!(added, [(2, "int first(int a);"), (25, "    return last(a) + 1;")]);
}

#[test]
fn what_diff_u_writes_is_read() {
    let change = parse(UNIX).unwrap();
    let paths: Vec<_> =
        change.files.iter().map(|file| (file.old_path.as_deref(), file.path.as_str(), file.status)).collect();
    assert_eq!(
        paths,
        [
            (Some("old/one.txt"), "new/one.txt", Status::Modified),
            (Some("old/two words.txt"), "new/two words.txt", Status::Modified)
        ]
    );
    assert_eq!(change.files[1].added_lines().collect::<Vec<_>>(), [(2, "zwei")]);
}

#[test]
fn a_patch_in_a_mail_is_read() {
    let change = parse(MAIL).unwrap();
    let paths: Vec<_> = change.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["one.txt", "two.txt"]);
    assert_eq!(change.files[1].counts(), (1, 0));
}

#[test]
fn a_merge_is_told_what_to_do_about_it() {
    let fault = parse(MERGE).unwrap_err();
    assert!(fault.what.contains("one parent"), "{fault}");
}

#[test]
fn a_line_that_looks_like_a_head_is_a_line() {
    let diff = "--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n--- not a file\n-@@ -1 +1 @@\n+++ nor this\n+@@ nor this\n--- a/y\n+++ b/y\n@@ -1 +1 @@\n-a\n+b\n";
    let change = parse(diff).unwrap();
    assert_eq!(change.files.len(), 2);
    assert_eq!(change.files[0].lines().next().map(|line| line.text), Some("-- not a file"));
}

#[test]
fn nothing_is_an_empty_change_and_text_around_is_passed_over() {
    assert_eq!(parse("").unwrap(), Change::default());
    assert_eq!(parse("commit 1234\nAuthor: a\n\n    message\n").unwrap(), Change::default());
}

#[test]
fn a_cut_last_line_and_cut_spaces_are_read() {
    let change = parse("--- a/x\r\n+++ b/x\r\n@@ -1,2 +1,3 @@\r\n one\r\n\r\n+two").unwrap();
    assert_eq!(change.files[0].path, "x");
    assert_eq!(change.files[0].added_lines().collect::<Vec<_>>(), [(3, "two")]);
    assert_eq!(change.files[0].lines().filter(|line| line.kind == Kind::Context).count(), 2);
}

#[test]
fn faults_name_their_line() {
    let fault = |diff: &str| parse(diff).unwrap_err();
    assert_eq!(fault("--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n same\n").line, 3);
    assert_eq!(fault("--- a/x\n+++ b/x\n@@ -a +b @@\n").line, 3);
    assert_eq!(fault("--- a/x\n+++ b/x\n@@ -1 +4294967295 @@\n").line, 3);
    assert_eq!(fault("--- /dev/null\n+++ /dev/null\n").line, 2);
    assert!(fault("@@ -1 +1 @@\n-a\n+b\n").what.contains("before any file"));
}

#[test]
fn what_is_too_much_is_a_fault() {
    let hunk = "@@ -1 +1 @@\n-a\n+b\n";
    let fault = parse(&format!("--- a/x\n+++ b/x\n{}", hunk.repeat(MOST_HUNKS + 1))).unwrap_err();
    assert!(fault.what.contains("hunks"), "{fault}");
    let fault = parse(&"diff --git a/x b/x\n".repeat(MOST_FILES + 1)).unwrap_err();
    assert!(fault.what.contains("files"), "{fault}");
    assert!(parse(&format!("--- {}\n+++ b/x\n", "x".repeat(5_000))).unwrap_err().what.contains("path"));
}

#[test]
fn no_part_of_a_diff_makes_it_panic() {
    for diff in [GIT, UNIX, MAIL, MERGE] {
        for at in (0..diff.len()).filter(|at| diff.is_char_boundary(*at)) {
            let _ = parse(&diff[..at]);
            let _ = parse(&diff[at..]);
        }
    }
}
