//! Writes keys that are made of the time it sees, and counts them: made twice, they would be too many.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ltmc::memory::{self, Scope};
use ltmc::{Agent, Failure, Task};

#[ltmc::agent]
#[derive(Default)]
struct ClockKeys;

impl Agent for ClockKeys {
    type Input = String;
    type Output = String;

    fn execute(&self, _input: String, _task: &Task) -> Result<String, Failure> {
        let store = memory::open(Scope::Agent)?;
        for _ in 0..40 {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
            store.put(&format!("at-{now}"), "x")?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(format!("{} keys", store.list("at-").count()))
    }
}
