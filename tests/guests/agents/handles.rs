//! Opens a million scopes and keeps them.

use ltmc::memory::{self, Scope};
use ltmc::{Agent, Failure, Task};

#[ltmc::agent]
#[derive(Default)]
struct Handles;

impl Agent for Handles {
    type Input = String;
    type Output = String;

    fn execute(&self, _input: String, _task: &Task) -> Result<String, Failure> {
        let kept = (0..1_000_000).map(|_| memory::open(Scope::Agent)).collect::<Result<Vec<_>, _>>()?;
        Ok(kept.len().to_string())
    }
}
