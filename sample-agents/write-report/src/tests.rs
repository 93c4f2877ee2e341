use findings::{Change, File, Finding, Severity, Status};

use super::report;

fn finding(rule: &str, severity: Severity, path: &str, line: u32) -> Finding {
    Finding {
        rule: rule.into(),
        severity,
        message: format!("about `{path}` <b>"),
        path: path.into(),
        line: Some(line),
        end_line: None,
        agent: "test".into(),
        help: Some("Do something.".into()),
    }
}

fn change() -> Change {
    let file = |path: &str| File {
        old_path: None,
        path: path.into(),
        status: Status::Added,
        binary: false,
        modes: None,
        hunks: vec![],
    };
    Change {
        files: vec![file("src/a b.rs"), file("x|y.md")],
        findings: vec![
            finding("z/note", Severity::Note, "x|y.md", 3),
            finding("a/error", Severity::Error, "src/a b.rs", 7),
            finding("a/error", Severity::Error, "src/a b.rs", 2),
        ],
    }
}

#[test]
fn people_see_the_worst_first_and_no_markup_of_others() {
    let text = report(&change()).markdown;
    let place = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part}\n{text}"));
    assert!(place("src/a b.rs:2") < place("src/a b.rs:7"));
    assert!(place("## Errors") < place("## Notes"));
    assert!(text.contains("x\\|y.md") && text.contains("\\<b\\>"), "{text}");
    assert!(text.contains("| Errors | 2 |"), "{text}");
}

#[test]
fn programs_find_every_rule_where_the_result_says() {
    let sarif = report(&change()).sarif;
    assert_eq!(sarif["version"], "2.1.0");
    let run = &sarif["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert_eq!((rules.len(), results.len()), (2, 3));
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
    }
    assert_eq!(results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "src/a%20b.rs");
    assert_eq!(results[0]["locations"][0]["physicalLocation"]["region"]["startLine"], 2);
}

#[test]
fn a_clean_change_says_so() {
    let clean = report(&Change::default());
    assert!(clean.markdown.contains("Nothing was found"));
    assert_eq!(clean.sarif["runs"][0]["results"].as_array().unwrap().len(), 0);
}
