//! Writes a line at every level.

use ltmc::log::{self, Level};
use ltmc::{Agent, Failure, Task};

#[ltmc::agent]
#[derive(Default)]
struct Logger;

impl Agent for Logger {
    type Input = String;
    type Output = String;

    fn execute(&self, input: String, task: &Task) -> Result<String, Failure> {
        for level in [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error] {
            log::write(level, &input, &[("attempt", &task.attempt)])?;
        }
        Ok(input)
    }
}
