//! Gives 20 MiB.

use ltmc::{Agent, Failure, Task};

#[ltmc::agent]
#[derive(Default)]
struct HugeResult;

impl Agent for HugeResult {
    type Input = String;
    type Output = Vec<u8>;

    fn execute(&self, _input: String, _task: &Task) -> Result<Vec<u8>, Failure> {
        Ok(vec![b'x'; 20 << 20])
    }
}
