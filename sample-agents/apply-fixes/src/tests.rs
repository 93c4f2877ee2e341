use ltmc::testing::Host;

use super::*;

fn host() -> Host {
    Host::new().grant("memory:read:session").grant("memory:write:session")
}

fn edit(line: usize, old: &str, new: &[&str]) -> Edit {
    let new = new.iter().map(|line| (*line).to_owned()).collect();
    Edit { file: "a.md".into(), line, old: vec![old.into()], new, why: "better".into() }
}

fn work(edits: Vec<Edit>) -> Work {
    Work { edits: edits.into_iter().map(Some).chain([None]).collect() }
}

#[test]
fn edits_are_made_and_undone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.md");
    fs::write(&path, "one\ntwo\nthree\n").unwrap();
    let host = host();
    let kinds = [issues::Kind::BareLink, issues::Kind::BareLink, issues::Kind::NoLanguage];
    host.within(|| kinds.into_iter().try_for_each(issues::mended)).unwrap();
    let edits = || work(vec![edit(3, "three", &["3", "4"]), edit(1, "one", &["1"])]);
    let done = host.tries(1, |task| apply(dir.path(), edits(), task)).unwrap();
    assert_eq!((done.files, done.edits), (1, 2));
    assert_eq!(done.mended, [("bare-link".to_owned(), 2), ("no-language".to_owned(), 1)].into());
    assert_eq!(done.diff, "a.md\n@@ line 1: better\n-one\n+1\n@@ line 3: better\n-three\n+3\n+4\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\ntwo\n3\n4\n");
    // Made again, as after a crash: it begins with what was there.
    host.tries(1, |task| apply(dir.path(), edits(), task)).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "1\ntwo\n3\n4\n");
    for restored in [1, 0] {
        assert_eq!(host.within(|| undo_fixes::undo(dir.path())).unwrap().restored, restored);
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
    }
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.md");
    fs::write(&path, "one\ntwo\n").unwrap();
    let host = host();
    let elsewhere = Edit { file: "../a.md".into(), ..edit(1, "one", &[]) };
    for edits in [vec![edit(1, "one", &["1"]), edit(2, "three", &[])], vec![edit(9, "one", &[])], vec![elsewhere]] {
        let failure = host.tries(1, |task| apply(dir.path(), work(edits.clone()), task)).unwrap_err();
        assert_eq!(failure.code, "bad-edit");
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\n");
    }
}
