//! Calls other agents as its input says; see `script`.
//!
//! Steps: `call` (agent, input), `fork` (calls, each an agent and an input), `begin` (agent, input), `join` (what was begun
//! before, all of it), `need` (text, among, at-least, input) and `ask` (title, of, show, schema, ms), whose children are joined like
//! those of `begin`. Inputs are JSON. What an agent gave is its JSON, or its text; what it failed with is
//! `{"failed": CODE, "own": CODE, "message": TEXT}`.

#[path = "script/mod.rs"]
mod script;

use std::time::Duration;

use ltmc::coordination::{self, CallError, CallFailure, Child, Need, Question, Role};
use ltmc::serde_json::{self, Value, json};
use ltmc::{Agent, Error, Failure, Json, Payload, Task};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
enum Step {
    Call { agent: String, input: Value },
    Fork { calls: Vec<(String, Value)> },
    Begin { agent: String, input: Value },
    Need { text: String, among: Option<Vec<String>>, at_least: Option<u8>, input: Value },
    Ask { title: String, of: String, show: Option<Value>, schema: Option<String>, ms: Option<u64> },
    Join,
}

#[ltmc::agent]
#[derive(Default)]
struct CallScript;

impl Agent for CallScript {
    type Input = Json<Vec<Value>>;
    type Output = Json<Vec<Value>>;

    fn execute(&self, Json(steps): Self::Input, task: &Task) -> Result<Self::Output, Failure> {
        let mut begun: Vec<Child> = Vec::new();
        script::play(steps, task, |step: Step| step.perform(&mut begun))
    }
}

impl Step {
    fn perform(self, begun: &mut Vec<Child>) -> Result<Value, Error> {
        Ok(match self {
            Self::Call { agent, input } => match coordination::call(&agent, Json(input)) {
                Ok(gave) => told(Ok(gave)),
                Err(CallError::Failed(failure)) => told(Err(failure)),
                Err(CallError::Refused(error)) => return Err(error),
            },
            Self::Fork { calls } => {
                let calls = calls.iter().map(|(agent, input)| (agent.as_str(), Json(input.clone())));
                coordination::fork(calls)?.into_iter().map(told).collect()
            }
            Self::Begin { agent, input } => kept(begun, coordination::begin(&agent, Json(input))?),
            Self::Need { text, among, at_least, input } => {
                let need = Need::of(text).among(among.iter().flatten().map(String::as_str));
                let need = at_least.map_or(need.clone(), |hundredths| need.at_least(hundredths));
                kept(begun, coordination::need(need, Json(input))?)
            }
            Self::Ask { title, of, show, schema, ms } => {
                let of = match of.as_str() {
                    "admin" => Role::Admin,
                    "author" => Role::Author,
                    _ => Role::Caller,
                };
                let mut question = Question::to(of, title);
                if let Some(show) = show {
                    question = question.shows(Json(show))?;
                }
                if let Some(schema) = schema {
                    question = question.fits(schema);
                }
                if let Some(ms) = ms {
                    question = question.for_at_most(Duration::from_millis(ms));
                }
                kept(begun, coordination::ask(question)?)
            }
            Self::Join => coordination::join(begun.drain(..))?.into_iter().map(told).collect(),
        })
    }
}

/// A child, to be joined later; its run.
fn kept(begun: &mut Vec<Child>, child: Child) -> Value {
    let run = child.run().to_owned();
    begun.push(child);
    json!(run)
}

fn told(ended: Result<Payload, CallFailure>) -> Value {
    match ended {
        Ok(gave) => serde_json::from_slice(&gave.bytes)
            .unwrap_or_else(|_| String::from_utf8_lossy(&gave.bytes).into_owned().into()),
        Err(failure) => json!({"failed": failure.code, "own": failure.agent_code, "message": failure.message}),
    }
}
