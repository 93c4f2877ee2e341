//! Says what was said before in its session, and how often it was answered.

use ltmc::{Agent, Failure, Json, Task, session};
use serde::Serialize;

#[derive(Serialize)]
struct Output {
    said: Vec<String>,
    answered: usize,
}

#[ltmc::agent]
#[derive(Default)]
struct Reminisce;

impl Agent for Reminisce {
    type Input = String;
    type Output = Json<Output>;

    fn execute(&self, input: String, _task: &Task) -> Result<Json<Output>, Failure> {
        let last = input.strip_prefix("last ").and_then(|number| number.parse().ok()).unwrap_or(10);
        let before = session::history(last)?;
        let said = before.iter().map(|it| String::from_utf8_lossy(&it.message.bytes).into_owned()).collect();
        Ok(Json(Output { said, answered: before.iter().filter(|it| it.answer.is_some()).count() }))
    }
}
