//! Keeps one note: a single write of memory, and nothing else.

use ltmc::memory::{self, Scope};
use ltmc::{Agent, Failure, Json, Task};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Input {
    key: String,
}

#[derive(Serialize)]
struct Output {
    revision: u64,
}

#[ltmc::agent]
#[derive(Default)]
struct Note;

impl Agent for Note {
    type Input = Json<Input>;
    type Output = Json<Output>;

    fn execute(&self, Json(input): Json<Input>, task: &Task) -> Result<Json<Output>, Failure> {
        let revision = memory::open(Scope::Session)?.put(&input.key, task.step.as_bytes())?;
        Ok(Json(Output { revision }))
    }
}
