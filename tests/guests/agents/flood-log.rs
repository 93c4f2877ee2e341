//! Writes log lines for as long as it may.

use ltmc::log::{self, Level};
use ltmc::{Agent, Failure, Task};

#[ltmc::agent]
#[derive(Default)]
struct FloodLog;

impl Agent for FloodLog {
    type Input = String;
    type Output = String;

    fn execute(&self, _input: String, _task: &Task) -> Result<String, Failure> {
        let line = "all work and no play ".repeat(300);
        for _ in 0..20_000 {
            log::write(Level::Info, &line, &[])?;
        }
        Ok("done".into())
    }
}
