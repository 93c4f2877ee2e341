//! Adds `times` ones to a key of a scope, one after the other, and says what it comes to.

use ltmc::memory::{self, Scope};
use ltmc::{Agent, Failure, Json, Task};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Input {
    #[serde(default = "n")]
    key: String,
    #[serde(default = "agent")]
    scope: String,
    #[serde(default = "one")]
    times: u32,
}

fn n() -> String {
    "n".into()
}

fn agent() -> String {
    "agent".into()
}

fn one() -> u32 {
    1
}

#[derive(Serialize)]
struct Output {
    value: u64,
}

#[ltmc::agent]
#[derive(Default)]
struct Counter;

impl Agent for Counter {
    type Input = Json<Input>;
    type Output = Json<Output>;

    fn execute(&self, Json(input): Json<Input>, _task: &Task) -> Result<Json<Output>, Failure> {
        let scope = match input.scope.as_str() {
            "global" => Scope::Global,
            "session" => Scope::Session,
            _ => Scope::Agent,
        };
        let store = memory::open(scope)?;
        let mut value = store.get_json::<u64>(&input.key)?.unwrap_or(0);
        for _ in 0..input.times {
            value += 1;
            store.put_json(&input.key, &value)?;
        }
        Ok(Json(Output { value }))
    }
}
