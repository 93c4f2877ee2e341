use findings::{Change, File, Finding, Scan, Severity, Status};

use super::{Found, Report, Review};

/// The report of a change with all that was found by one agent.
fn report(change: Change) -> Report {
    let files = change.files.clone();
    super::report(Review { files, scans: [("all".to_owned(), Found::At(change.into()))].into() })
}

fn file(path: &str) -> File {
    let (status, hunks) = (Status::Added, Vec::new());
    File { old_path: None, path: path.into(), status, binary: false, modes: None, hunks }
}

fn finding(rule: &str, severity: Severity, path: &str, line: u32) -> Finding {
    Finding::new(rule, severity, &file(path), Some(line), format!("about `{path}` <b>")).help("Do something.")
}

fn change() -> Change {
    Change {
        files: vec![file("src/a b.rs"), file("x|y.md")],
        findings: vec![
            finding("z/note", Severity::Note, "x|y.md", 3),
            finding("a/error", Severity::Error, "src/a b.rs", 7),
            finding("a/error", Severity::Error, "src/a b.rs", 2).up_to(5),
        ],
        omitted: 0,
    }
}

#[test]
fn people_see_the_worst_first() {
    let expected = "\
# Review

**2 errors, 1 note** in 2 files (+0 −0 lines).

## 2 errors

`a/error`: Do something.

- `src/a b.rs:2` about `src/a b.rs` \\<b\\>
- `src/a b.rs:7` about `src/a b.rs` \\<b\\>

## 1 note

`z/note`: Do something.

- `x|y.md:3` about `x|y.md` \\<b\\>

## Files

| file | what | lines |
| --- | --- | ---: |
| `src/a b.rs` | added | +0 −0 |
| `x\\|y.md` | added | +0 −0 |
";
    assert_eq!(report(change()).markdown, expected);
}

#[test]
fn nothing_of_a_diff_becomes_markup() {
    let mut hostile = finding("a/b", Severity::Note, "a`b](http://x)\u{1b}[2J\u{202e}\n# no", 1);
    hostile.message = "`a`b` ![x](http://y) @all".into();
    let text = report(Change { findings: vec![hostile], ..Change::default() }).markdown;
    assert!(text.contains("`a'b](http://x)\\u{1b}[2J\\u{202e}\\u{a}# no:1`"), "{text}");
    assert!(text.contains("`a`b \\!\\[x\\](http://y) \\@all"), "{text}");
}

#[test]
fn many_are_counted() {
    let findings = (1..=50).map(|line| finding("a/b", Severity::Warning, "x.rs", line)).collect();
    let report = report(Change { findings, omitted: 7, ..Change::default() });
    assert!(report.markdown.contains("- and 20 more, in the SARIF log"), "{}", report.markdown);
    assert!(report.markdown.contains("7 more findings left out"), "{}", report.markdown);
    assert_eq!(report.sarif["runs"][0]["results"].as_array().unwrap().len(), 50);
}

#[test]
fn programs_find_every_rule_where_the_result_says() {
    let sarif = report(change()).sarif;
    assert_eq!(sarif["version"], "2.1.0");
    assert!(sarif["$schema"].as_str().unwrap().ends_with("sarif-schema-2.1.0.json"));
    let run = &sarif["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert_eq!((rules.len(), results.len()), (2, 3));
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
    }
    let place = &results[0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "src/a%20b.rs");
    assert_eq!((&place["region"]["startLine"], &place["region"]["endLine"]), (&2.into(), &5.into()));
}

#[test]
fn a_place_is_a_relative_reference_and_a_line_is_from_1_on() {
    let mut change = Change::default();
    change.findings.push(finding("a/b", Severity::Note, "/abs/tür%#?.rs", 0));
    let sarif = report(change).sarif;
    let place = &sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "abs/t%C3%BCr%25%23%3F.rs");
    assert!(place.get("region").is_none());
}

#[test]
fn a_clean_change_says_so() {
    let clean = report(Change::default());
    assert_eq!(clean.markdown, "# Review\n\n**Nothing to look at first** in 0 files (+0 −0 lines).\n");
    assert_eq!(clean.sarif["runs"][0]["results"].as_array().unwrap().len(), 0);
}

#[test]
fn what_was_not_looked_at_is_said() {
    let gap = |why: &str| Scan { gap: Some(why.to_owned()), ..Scan::default() };
    let scan = Scan { findings: vec![finding("a/b", Severity::Note, "x.rs", 1)], omitted: 2, gap: None };
    let scans = [
        ("secrets".to_owned(), Found::At(gap("no `rules` <b>"))),
        ("complexity".to_owned(), Found::ByFile(vec![Some(scan.clone()), None, Some(scan)])),
    ];
    let text = super::report(Review { files: Vec::new(), scans: scans.into() }).markdown;
    let expected = "# Review\n\n**2 notes** in 0 files (+0 −0 lines).\n\nNot looked at:\n\n- complexity: 1 of 3 files\n- secrets: no `rules` \\<b\\>\n";
    assert!(text.starts_with(expected), "{text}");
    assert!(text.contains("4 more findings left out"), "{text}");
}
