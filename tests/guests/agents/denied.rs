//! Tries everything it may not, and says what it was told.

use ltmc::log::{self, Level};
use ltmc::memory::{self, Scope};
use ltmc::{Agent, Failure, Task};

#[ltmc::agent]
#[derive(Default)]
struct Denied;

impl Agent for Denied {
    type Input = String;
    type Output = String;

    fn execute(&self, _input: String, _task: &Task) -> Result<String, Failure> {
        let mut told = Vec::new();
        for scope in [Scope::Global, Scope::Session, Scope::Agent] {
            match memory::open(scope) {
                Ok(_) => told.push("opened".to_owned()),
                Err(error) => told.push(error.to_string()),
            }
        }
        if let Err(error) = log::write(Level::Info, "anybody there?", &[]) {
            told.push(error.to_string());
        }
        Ok(told.join("\n"))
    }
}
