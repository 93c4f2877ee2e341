//! Gives back what it got, as it came.

use ltmc::{Agent, Failure, Payload, Task};

#[ltmc::agent]
#[derive(Default)]
struct Echo;

impl Agent for Echo {
    type Input = Payload;
    type Output = Payload;

    fn execute(&self, input: Payload, _task: &Task) -> Result<Payload, Failure> {
        Ok(input)
    }
}
