//! Plans how issues are mended: a workflow's document, with a step for each kind of them that there is. Who does a step is left to the host,
//! which is told what is needed.

use issues::{Found, Kind};
use ltmc::{Agent, Failure, Json, Task};
use serde_json::{Value, json};

/// The document for what was found.
pub fn plan(found: &Found) -> Value {
    let is_there = |kind: &Kind| found.issues.is_empty() || found.issues.iter().any(|issue| issue.kind == *kind);
    let options: Vec<Value> = Kind::ALL.into_iter().filter(is_there).map(option).collect();
    json!({
        "name": "fixes",
        // Each is mended in a context of its own: what they count in the session's memory comes together once all are done.
        "flow": {
            "map": "$.input.issues", "as": "issue", "do": { "choice": options }, "at-once": 4,
            "context": { "fork": ["session"] },
        },
    })
}

fn option(kind: Kind) -> Value {
    let need = match kind {
        Kind::NoContents => "add a table of contents to a long Markdown document",
        Kind::BareLink => "make a link of a bare address in a Markdown document",
        Kind::NoLanguage => "say the language of a block of code in a Markdown document",
    };
    json!({
        "when": { "pick": "$.item.issue.kind", "equals": kind.name() },
        "do": { "need": need, "at-least": 0.6 },
    })
}

/// Takes what was [`Found`], gives a document.
#[ltmc::agent]
#[derive(Default)]
pub struct PlanFixes;

impl Agent for PlanFixes {
    type Input = Json<Found>;
    type Output = Json<Value>;

    fn execute(&self, Json(found): Json<Found>, _task: &Task) -> Result<Json<Value>, Failure> {
        Ok(Json(plan(&found)))
    }
}

#[cfg(test)]
mod tests {
    use issues::Issue;

    use super::*;

    #[test]
    fn there_is_a_step_for_each_kind_that_there_is() {
        let issue = |kind| Issue { kind, file: "a.md".into(), line: 1, lines: Vec::new() };
        let kinds = [Kind::BareLink, Kind::BareLink, Kind::NoLanguage];
        let options = |found: &Found| plan(found)["flow"]["do"]["choice"].as_array().unwrap().len();
        assert_eq!(options(&Found { files: 1, issues: kinds.map(issue).to_vec() }), 2);
        assert_eq!(options(&Found { files: 1, issues: Vec::new() }), 3);
    }
}
