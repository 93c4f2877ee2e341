//! What pages show that is no Rust: held against the code that reads it.

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
