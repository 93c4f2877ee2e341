use std::collections::BTreeSet;
use std::fs;

use ltmc::graph::Fact;
use ltmc::memory::Scope;
use ltmc::testing::Host;
use tempfile::TempDir;

use super::*;

const ASKS: [&str; 5] = ["recall:write", "graph:write", "memory:read:agent", "memory:write:agent", "log"];

fn host() -> Host {
    ASKS.iter().fold(Host::new(), |host, capability| host.grant(capability))
}

fn docs(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, text)| write(&dir, name, text.as_bytes()));
    dir
}

fn write(dir: &TempDir, name: &str, bytes: &[u8]) {
    let path = dir.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn read_all(host: &Host, dir: &TempDir) -> Outcome {
    host.within(|| read(dir.path(), &Bounds::default())).unwrap()
}

fn ids(host: &Host) -> Vec<String> {
    host.notes().into_iter().map(|note| note.id).collect()
}

fn holding(host: &Host, relation: &str) -> BTreeSet<(String, String)> {
    let holds = |fact: &Fact| fact.relation == relation && fact.valid_to_ms.is_none();
    host.facts().into_iter().filter(holds).map(|fact| (fact.subject, fact.object)).collect()
}

fn pairs(of: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    of.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect()
}

#[test]
fn sections_are_remembered_with_their_place() {
    let dir = docs(&[
        ("a.md", "first\n\n# Top\n\n## Sub\ntext\n\n```\n# no heading\n```\n"),
        ("x/B.MD", "# B\nb\n"),
        ("c.txt", "# C\nc\n"),
    ]);
    let host = host();
    let outcome = read_all(&host, &dir);
    assert_eq!((outcome.files, outcome.sections, outcome.unchanged, outcome.forgotten), (2, 3, 0, 0));
    assert_eq!(ids(&host), ["docs/a.md#", "docs/a.md#sub", "docs/x/B.MD#b"]);
    let sub = &host.notes()[1];
    assert_eq!(sub.text, "Top › Sub\n\ntext\n\n```\n# no heading\n```");
    let metadata: Vec<(&str, &str)> =
        sub.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(metadata, [("file", "docs/a.md"), ("heading", "Top › Sub"), ("kind", "section"), ("line", "5")]);
    let expected =
        pairs(&[("docs/a.md", "docs/a.md#"), ("docs/a.md", "docs/a.md#sub"), ("docs/x/B.MD", "docs/x/B.MD#b")]);
    assert_eq!(holding(&host, "has-section"), expected);
}

#[test]
fn links_are_related_and_broken_ones_named() {
    let dir = docs(&[
        (
            "a.md",
            "# A\n[b](x/b.md#b-two) [whole](x/b.md) [dir](x) [self](#a) [empty](x/b.md#b) [top](#top)\n![i](i.png)\n",
        ),
        (
            "x/b.md",
            "# B\n## B two\n[up](../a.md) [out](../../README.md) [web](https://example.org/x.md) [txt](../t.txt)\n\n[dup](../a.md#a)\n",
        ),
        ("x/README.md", "index [gone](gone.md)\n[bad](../a.md#nowhere)\n![lost](lost.png)\n"),
        ("t.txt", ""),
        ("i.png", ""),
    ]);
    let host = host();
    let outcome = read_all(&host, &dir);
    let expected = pairs(&[
        ("docs/a.md#a", "docs/x/b.md#b-two"),
        ("docs/a.md#a", "docs/x/b.md"),
        ("docs/a.md#a", "docs/x/README.md"),
        ("docs/a.md#a", "docs/a.md"),
        ("docs/x/b.md#b-two", "docs/a.md"),
        ("docs/x/b.md#b-two", "docs/a.md#a"),
    ]);
    assert_eq!(holding(&host, "links-to"), expected);
    assert_eq!((outcome.links, outcome.outside, outcome.broken_links_omitted), (6, 1, 0));
    let broken: Vec<(&str, usize, &str)> =
        outcome.broken_links.iter().map(|link| (link.file.as_str(), link.line, link.target.as_str())).collect();
    let readme = "docs/x/README.md";
    assert_eq!(broken, [(readme, 1, "gone.md"), (readme, 2, "../a.md#nowhere"), (readme, 3, "lost.png")]);
    assert_eq!(outcome.broken_links[0].why, "there is no docs/x/gone.md");
    assert_eq!(outcome.broken_links[1].why, "docs/a.md has no heading for #nowhere");
}

#[test]
fn a_second_time_there_is_nothing_to_do() {
    let dir = docs(&[("a.md", "# A\n[b](b.md)\n"), ("b.md", "# B\nb\n")]);
    let host = host();
    let first = read_all(&host, &dir);
    // What would be told or written now would be denied.
    for capability in ["recall:write", "graph:write"] {
        host.revoke(capability);
    }
    let second = read_all(&host, &dir);
    assert_eq!(second, Outcome { unchanged: 2, ..first });
}

#[test]
fn what_changes_is_remembered_anew_and_what_is_gone_is_forgotten() {
    let dir = docs(&[("a.md", "# A\n[x](b.md#x)\n"), ("b.md", "# X\nx\n# Y\ny\n"), ("c.md", "# C\n[a](a.md)\n")]);
    let host = host();
    read_all(&host, &dir);
    write(&dir, "b.md", b"new\n# Y\nother\n");
    fs::remove_file(dir.path().join("c.md")).unwrap();
    let outcome = read_all(&host, &dir);
    assert_eq!(ids(&host), ["docs/a.md#a", "docs/b.md#", "docs/b.md#y"]);
    assert_eq!(host.notes()[2].text, "Y\n\nother");
    assert_eq!(host.notes()[2].metadata["line"], "2");
    assert_eq!(holding(&host, "links-to"), pairs(&[]));
    assert_eq!(holding(&host, "has-section").len(), 3);
    // The document with the link is as it was, and its link is broken all the same.
    assert_eq!((outcome.unchanged, outcome.forgotten, outcome.broken_links.len()), (0, 2, 1));
    assert_eq!(read_all(&host, &dir).unchanged, 2);
    // All gone: nothing stays, in memory neither.
    let empty = docs(&[]);
    let outcome = read_all(&host, &empty);
    assert_eq!((outcome.files, outcome.forgotten), (0, 3));
    assert!(ids(&host).is_empty() && holding(&host, "has-section").is_empty());
    assert_eq!(host.memory(Scope::Agent).get_json::<ltmc::serde_json::Value>("file/docs/a.md"), None);
}

#[test]
fn a_call_that_was_ended_in_the_middle_is_made_up_for() {
    let dir = docs(&[("a.md", "# A\na\n# B\n[c](c.md)\n"), ("c.md", "c\n")]);
    let whole = host();
    read_all(&whole, &dir);
    // It fails at its first fact: a note is there that nobody would know of if it had not been listed before.
    let host = host();
    host.revoke("graph:write");
    // Kept as a checkpoint there would keep it.
    let failure = host.within(|| Ok::<_, Failure>(read(dir.path(), &Bounds::default()).unwrap_err())).unwrap();
    assert_eq!((failure.code.as_str(), ids(&host).len()), ("access-denied", 1));
    write(&dir, "a.md", b"# B\n[c](c.md)\n");
    let host = host.grant("graph:write");
    let outcome = read_all(&host, &dir);
    assert_eq!((outcome.forgotten, ids(&host)), (1, vec!["docs/a.md#b".to_owned(), "docs/c.md#".to_owned()]));
    assert_eq!(holding(&host, "links-to"), holding(&whole, "links-to"));
}

#[test]
fn what_is_no_text_is_skipped_and_said() {
    let dir = docs(&[
        ("good.md", "# G\ng\n"),
        ("empty.md", ""),
        ("blank.md", " \r\n\n"),
        (".hidden.md", "# H\nh"),
        (".git/x.md", "# H\nh"),
    ]);
    write(&dir, "latin.md", b"# Gr\xf6\xdfe\n");
    write(&dir, "sub/bad\tname.md", b"# x\nx\n");
    let host = host();
    let outcome = read_all(&host, &dir);
    assert_eq!(ids(&host), ["docs/good.md#g"]);
    assert_eq!(outcome.files, 3);
    let skipped: Vec<(&str, &str)> = outcome.skipped.iter().map(|one| (one.file.as_str(), one.why.as_str())).collect();
    assert_eq!(
        skipped,
        [
            ("docs/latin.md", "not UTF-8: byte 4 begins no character"),
            ("docs/sub/bad\tname.md", "a name has at most 160 bytes without control characters"),
        ]
    );
    assert_eq!(read_all(&host, &dir).unchanged, 3);
}

#[cfg(unix)]
#[test]
fn links_of_the_file_system_are_not_followed() {
    let dir = docs(&[("a.md", "# A\n[l](link.md) [gone](other.md)\n")]);
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link.md")).unwrap();
    std::os::unix::fs::symlink(".", dir.path().join("ring")).unwrap();
    let outcome = read_all(&host(), &dir);
    assert_eq!((outcome.files, outcome.skipped.len(), outcome.broken_links.len()), (1, 1, 1));
    assert_eq!(outcome.skipped[0].why, "a symbolic link");
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_opened() {
    let dir = docs(&[("a.md", "# A\n[p](pipe.md)\n")]);
    assert!(std::process::Command::new("mkfifo").arg(dir.path().join("pipe.md")).status().unwrap().success());
    let outcome = read_all(&host(), &dir);
    assert_eq!((outcome.files, outcome.skipped.len()), (1, 1));
    assert_eq!((&*outcome.skipped[0].file, &*outcome.skipped[0].why), ("docs/pipe.md", "no regular file"));
}

#[test]
fn everything_is_bounded() {
    let long = format!("# Long\n{}\n", "word ".repeat(20_000));
    let dir = docs(&[
        ("a.md", "# A\n[x](d/e/f.md) [y](b.md)\n# B\nb\n# C\nc\n"),
        ("b.md", "# B\nb\n"),
        ("d/e/f.md", "# F\nf\n"),
        ("c.md", &long),
    ]);
    let tight = |bounds: Bounds| host().within(|| read(dir.path(), &bounds)).unwrap();
    let all = tight(Bounds::default());
    assert_eq!((all.files, all.skipped.len()), (4, 1));
    assert_eq!(
        all.skipped[0],
        Skipped { file: "docs/c.md#long".into(), why: "only its first 48 KiB are remembered".into() }
    );
    assert_eq!(tight(Bounds { files: 2, ..Bounds::default() }).files, 2);
    assert_eq!(tight(Bounds { file_bytes: 100, ..Bounds::default() }).files, 3);
    assert_eq!(tight(Bounds { bytes: 60, ..Bounds::default() }).files, 3);
    assert_eq!(tight(Bounds { sections: 2, ..Bounds::default() }).sections, 4);
    assert_eq!(tight(Bounds { links: 1, ..Bounds::default() }).links, 1);
    // What was not seen may be there.
    let shallow = tight(Bounds { depth: 2, ..Bounds::default() });
    assert_eq!((shallow.files, shallow.broken_links), (3, vec![]));
    let few = tight(Bounds { entries: 3, ..Bounds::default() });
    assert!(few.files < 4 && few.broken_links.is_empty() && !few.skipped.is_empty(), "{few:?}");
}

#[test]
fn long_and_odd_headings_become_entities_all_the_same() {
    let long = "word ".repeat(100);
    let source = format!("# {long}\na\n# {long}\nb\n# x {{#{}}}\nc\n[to](#{})\n", "y".repeat(300), "y".repeat(300));
    let dir = docs(&[(&format!("{}.md", "n".repeat(150)), source.as_str())]);
    let host = host();
    let outcome = read_all(&host, &dir);
    assert_eq!((outcome.sections, outcome.broken_links.len()), (3, 0));
    let ids: BTreeSet<String> = ids(&host).into_iter().collect();
    assert!(ids.len() == 3 && ids.iter().all(|id| id.len() <= 256), "{ids:?}");
    assert!(host.notes().iter().all(|note| note.metadata["heading"].chars().count() <= 101));
}

#[test]
fn without_the_directory_it_says_what_is_missing() {
    let failure = host().within(|| read(Path::new("/no/such/directory"), &Bounds::default())).unwrap_err();
    assert_eq!((failure.code.as_str(), failure.retryable), ("no-directory", false));
    assert!(failure.message.contains("fs:read:docs"), "{}", failure.message);
}

#[test]
fn this_repositorys_own_documents() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let host = host();
    let outcome = host.within(|| read(&root, &Bounds::default())).unwrap();
    assert!(outcome.files >= 14 && outcome.sections > 50 && outcome.links > 5, "{outcome:?}");
    assert_eq!((outcome.skipped, outcome.broken_links), (vec![], vec![]));
    let store = host.notes().into_iter().find(|note| note.id == "docs/add-a-store.md#add-a-store").unwrap();
    assert!(store.text.starts_with("Add a store\n\nThe core reaches"), "{}", store.text);
    // Headings in fences of the documents are none.
    assert!(host.notes().iter().all(|note| !note.id.contains("what-is-wrong-with-this-installation")));
    let again = host.within(|| read(&root, &Bounds::default())).unwrap();
    assert_eq!((again.unchanged, again.forgotten), (outcome.files, 0));
}
