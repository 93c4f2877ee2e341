//! Does something else each time, as no agent should: its keys hang on the clock it sees after its last effect.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ltmc::memory::{self, Scope};
use ltmc::{Agent, Failure, Task};

#[ltmc::agent]
#[derive(Default)]
struct Unsteady;

impl Agent for Unsteady {
    type Input = String;
    type Output = String;

    fn execute(&self, _input: String, _task: &Task) -> Result<String, Failure> {
        let store = memory::open(Scope::Agent)?;
        for _ in 0..40 {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
            store.put(&format!("at-{now}"), "x")?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok("steady after all".into())
    }
}
