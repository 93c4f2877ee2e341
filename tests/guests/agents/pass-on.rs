//! Hands its conversation to the other one of `ping` and `pong`, as often as the message says.

use ltmc::{Agent, Failure, Json, Task, hand_off};

#[ltmc::agent]
#[derive(Default)]
struct PassOn;

impl Agent for PassOn {
    type Input = Json<u32>;
    type Output = Json<u32>;

    fn execute(&self, Json(times): Json<u32>, task: &Task) -> Result<Json<u32>, Failure> {
        let passed = hand_off::received()?.and_then(|handed| handed.passed);
        let before: u32 = passed.and_then(|passed| serde_json::from_slice(&passed.bytes).ok()).unwrap_or(0);
        if before < times {
            let other = if task.agent == "ping" { "pong" } else { "ping" };
            hand_off::to_with(other, "go on", Json(before + 1))?;
        }
        Ok(Json(before))
    }
}
