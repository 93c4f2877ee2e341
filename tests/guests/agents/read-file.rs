//! Reads a file, or writes one, as it is told: what a granted directory lets through, and what not. With `pause_ms` it waits
//! between opening a file and reading it.

use std::io::Read as _;
use std::time::Duration;

use ltmc::serde_json::{Value, json};
use ltmc::{Agent, Failure, Json, Task};

#[ltmc::agent]
#[derive(Default)]
struct ReadFile;

impl Agent for ReadFile {
    type Input = Json<Value>;
    type Output = Json<Value>;

    fn execute(&self, Json(input): Json<Value>, _task: &Task) -> Result<Json<Value>, Failure> {
        let path = input["path"].as_str().unwrap_or_default();
        let done = match input["write"].as_str() {
            Some(text) => std::fs::write(path, text).map(|()| "written".to_owned()),
            None => std::fs::File::open(path).and_then(|mut file| {
                std::thread::sleep(Duration::from_millis(input["pause_ms"].as_u64().unwrap_or_default()));
                let mut text = String::new();
                file.read_to_string(&mut text).map(|_| text)
            }),
        };
        Ok(Json(match done {
            Ok(text) => json!({"text": text}),
            Err(error) => json!({"error": error.to_string()}),
        }))
    }
}
