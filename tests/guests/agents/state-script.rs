//! Looks at its own state and moves it as its input says; see `script`.
//!
//! Steps: `get`, `move` (event, patch, revision). What was refused is `{"refused": RULE, "message": TEXT}`.

#[path = "script/mod.rs"]
mod script;

use ltmc::serde_json::{Value, json};
use ltmc::state::{self, Current, StateError};
use ltmc::{Agent, Error, Failure, Json, Task};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Step {
    Get,
    Move {
        event: String,
        #[serde(default)]
        patch: Option<Value>,
        revision: Option<u64>,
        /// The patch has a text of so many bytes.
        fill: Option<usize>,
    },
}

#[ltmc::agent]
#[derive(Default)]
struct StateScript;

impl Agent for StateScript {
    type Input = Json<Vec<Value>>;
    type Output = Json<Vec<Value>>;

    fn execute(&self, Json(steps): Self::Input, task: &Task) -> Result<Self::Output, Failure> {
        script::play(steps, task, Step::perform)
    }
}

impl Step {
    fn perform(self) -> Result<Value, Error> {
        let now: Result<Current, StateError> = match self {
            Self::Get => state::get(),
            Self::Move { event, patch, revision, fill } => {
                let patch = fill.map(|bytes| json!({"text": "x".repeat(bytes)})).or(patch).unwrap_or_else(|| json!({}));
                match revision {
                    Some(revision) => state::transition_at(revision, &event, &patch),
                    None => state::transition(&event, &patch),
                }
            }
        };
        match now {
            Ok(now) => {
                Ok(json!({"state": now.state, "data": now.data, "revision": now.revision, "version": now.version}))
            }
            Err(StateError::Refused(refusal)) => Ok(json!({"refused": refusal.rule, "message": refusal.message})),
            Err(StateError::Failed(error)) => Err(error),
        }
    }
}
