//! Fails until attempt number `until`.

use ltmc::{Agent, Failure, Json, Task, serde_json};
use serde::Deserialize;

#[derive(Deserialize)]
struct Input {
    until: u32,
}

#[ltmc::agent]
#[derive(Default)]
struct Flaky;

impl Agent for Flaky {
    type Input = Json<Input>;
    type Output = Json<serde_json::Value>;

    fn execute(&self, Json(input): Json<Input>, task: &Task) -> Result<Self::Output, Failure> {
        if task.attempt < input.until {
            return Err(Failure::new("not-yet", format!("this is attempt {}", task.attempt)).retryable());
        }
        Ok(Json(serde_json::json!({ "attempt": task.attempt })))
    }
}
