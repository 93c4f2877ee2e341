//! Speaks in a debate: how many turns there were, and who spoke last. As `chair` it gives the turn to those in `input.order`, one after
//! the other, and then ends it.

use ltmc::serde_json::{Value, json};
use ltmc::{Agent, Failure, Json, Task};

#[ltmc::agent]
#[derive(Default)]
struct Debater;

impl Agent for Debater {
    type Input = Json<Value>;
    type Output = Json<Value>;

    fn execute(&self, Json(given): Json<Value>, task: &Task) -> Result<Json<Value>, Failure> {
        let turns = given["turns"].as_array().ok_or_else(|| Failure::new("no-turns", "`turns` is missing"))?;
        if task.agent == "chair" {
            return Ok(Json(json!({"next": given["input"]["order"][turns.len()]})));
        }
        let after = turns.last().map(|turn| turn["agent"].clone());
        Ok(Json(json!({"n": turns.len(), "after": after, "of": given["input"]["topic"]})))
    }
}
