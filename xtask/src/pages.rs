//! What pages show that is no Rust: held against the code that reads it; and what docs/security.md claims: each claim names the tests that show
//! it (`<!-- test: FILE::NAME, … -->`), and these are there.

use std::collections::HashMap;

use ltmc_rules::state::Declaration;
use serde_json::Value;

use crate::house::root;

/// The blocks of a page in a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let page = std::fs::read_to_string(root().join(page)).expect("a page");
    let begins = format!("```{language}\n");
    page.split(&begins).skip(1).filter_map(|rest| rest.split("```").next().map(str::to_owned)).collect()
}

#[test]
fn the_declaration_of_states_that_is_shown_is_taken_and_its_next_version_is_too() {
    let read =
        |text: &str| toml::from_str::<Value>(text).expect("a manifest")["package"]["metadata"]["ltmc"]["state"].clone();
    let blocks = blocks("docs/agent-states.md", "toml");
    let [first, next] = blocks.as_slice() else { panic!("{} blocks", blocks.len()) };
    let mut state = read(first);
    Declaration::read(&state).expect("it is good");
    for (field, value) in read(next).as_object().expect("a table") {
        state[field] = value.clone();
    }
    assert_eq!(Declaration::read(&state).expect("it is good").version, 2);
    state["initial"] = Value::from("nowhere");
    assert!(Declaration::read(&state).is_err());
}

/// What stands before a claim's tests.
const MARK: &str = "<!-- test: ";
/// The sections of docs/security.md that make claims.
const CLAIMING: [&str; 5] = [
    "Who is trusted",
    "What a guest cannot do",
    "What a client cannot do",
    "What can be kept waiting, and for how long",
    "What is shared, and by what it is divided",
];

/// The claims of a section: its paragraphs, bullets and rows of tables, each with its comments. A paragraph that ends with a colon leads to what
/// comes after it, and a table's first row says what its columns are.
fn claims(section: &str) -> Vec<String> {
    let mut claims: Vec<String> = Vec::new();
    let (mut goes_on, mut in_table) = (false, false);
    for line in section.lines() {
        let is_row = line.starts_with("| ");
        let (is_head, is_rule) = (is_row && !in_table, line.starts_with("| ---"));
        match line {
            "" => {}
            _ if is_head || is_rule => {}
            _ if goes_on && !is_row && !line.starts_with("- ") => {
                claims.iter_mut().last().into_iter().for_each(|claim| claim.extend(["\n", line]));
            }
            _ => claims.push(line.to_owned()),
        }
        goes_on = !line.is_empty() && !is_row;
        in_table = is_row;
    }
    claims.retain(|claim| !claim.ends_with(':'));
    claims
}

/// The tests that a claim names.
fn named(claim: &str) -> Vec<&str> {
    let comments = claim.split(MARK).skip(1).filter_map(|rest| rest.split(" -->").next());
    comments.flat_map(|tests| tests.split(',')).map(str::trim).collect()
}

/// Whether a source has a test of this name: one by itself, or a case of a contract suite, which is one for each adapter.
fn has_test(file: &str, source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let begins = [format!("fn {name}("), format!("fn {name}<")];
    lines.iter().enumerate().any(|(number, line)| {
        let above = lines[..number].iter().rev().take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        let is_test = file.contains("/testing/suite/") || above.clone().any(|line| line.contains("test"));
        is_test && begins.iter().any(|begin| line.contains(begin.as_str()))
    })
}

/// What is wrong with a page's claims, given its sources by their paths.
fn unshown(page: &str, source: &mut impl FnMut(&str) -> Option<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for title in CLAIMING {
        let Some((_, section)) = page.split_once(&format!("\n## {title}\n")) else {
            wrong.push(format!("there is no section `{title}`"));
            continue;
        };
        for claim in claims(section.split("\n## ").next().unwrap_or_default()) {
            let begins: String = claim.chars().take(60).collect();
            let tests = named(&claim);
            if tests.is_empty() {
                wrong.push(format!("`{begins}` names no test"));
            }
            for test in tests {
                let is_there = test
                    .split_once("::")
                    .is_some_and(|(file, name)| source(file).is_some_and(|source| has_test(file, &source, name)));
                if !is_there {
                    wrong.push(format!("`{begins}` names `{test}`, which is no test"));
                }
            }
        }
    }
    wrong
}

#[test]
fn each_claim_about_security_names_tests_that_are_there() {
    let page = std::fs::read_to_string(root().join("docs/security.md")).expect("the page");
    let mut sources: HashMap<String, Option<String>> = HashMap::new();
    let mut source = |file: &str| {
        let read = || std::fs::read_to_string(root().join(file)).ok();
        sources.entry(file.to_owned()).or_insert_with(read).clone()
    };
    let wrong = unshown(&page, &mut source);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_claim_without_a_test_is_found_and_so_is_a_test_that_is_not_there() {
    let section = "\nIt is so:\n\n| a | b |\n| --- | --- |\n| one | two <!-- test: a.rs::there --> |\n| three | four |\n\n\
                   - A bullet\n  of two lines.\n  <!-- test: a.rs::there, a.rs::helper -->\n- Another.\n\nA paragraph.\n";
    let page: String = CLAIMING.iter().map(|title| format!("\n## {title}\n{section}")).collect();
    let source = "#[test]\nfn there() {}\n\nfn helper() {}\n";
    let wrong = unshown(&page, &mut |file| (file == "a.rs").then(|| source.to_owned()));
    let told = [
        "`| three | four |` names no test",
        "names `a.rs::helper`, which is no test",
        "`- Another.` names no test",
        "`A paragraph.` names no test",
    ];
    assert_eq!(wrong.len(), told.len() * CLAIMING.len(), "{wrong:#?}");
    assert!(told.iter().zip(&wrong).all(|(told, wrong)| wrong.contains(told)), "{wrong:#?}");
    assert!(unshown("no page", &mut |_| None)[0].contains("no section"));
}
