//! Calls other agents as its input says; see `script`.
//!
//! Steps: `call` (agent, input), `fork` (calls, each an agent and an input), `begin` (agent, input), `join` (what was begun
//! before, all of it). Inputs are JSON. What an agent gave is its JSON, or its text; what it failed with is
//! `{"failed": CODE, "own": CODE, "message": TEXT}`.

#[path = "script/mod.rs"]
mod script;

use ltmc::coordination::{self, CallError, CallFailure, Child};
use ltmc::serde_json::{self, Value, json};
use ltmc::{Agent, Error, Failure, Json, Payload, Task};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Step {
    Call { agent: String, input: Value },
    Fork { calls: Vec<(String, Value)> },
    Begin { agent: String, input: Value },
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
            Self::Begin { agent, input } => {
                let child = coordination::begin(&agent, Json(input))?;
                let run = child.run().to_owned();
                begun.push(child);
                json!(run)
            }
            Self::Join => coordination::join(begun.drain(..))?.into_iter().map(told).collect(),
        })
    }
}

fn told(ended: Result<Payload, CallFailure>) -> Value {
    match ended {
        Ok(gave) => serde_json::from_slice(&gave.bytes)
            .unwrap_or_else(|_| String::from_utf8_lossy(&gave.bytes).into_owned().into()),
        Err(failure) => json!({"failed": failure.code, "own": failure.agent_code, "message": failure.message}),
    }
}
