//! Counts to `n`, a checkpoint and a sleep after each: something to be killed in the middle of.

use std::hash::BuildHasher as _;
use std::time::Duration;

use ltmc::memory::{self, Precondition, PutOptions, Scope};
use ltmc::{Agent, Error, Failure, Json, Task};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Input {
    n: u32,
    sleep_ms: u64,
    scope: String,
}

#[derive(Serialize)]
struct Output {
    count: u64,
}

#[ltmc::agent]
#[derive(Default)]
struct SlowEffects;

impl Agent for SlowEffects {
    type Input = Json<Input>;
    type Output = Json<Output>;

    fn execute(&self, Json(input): Json<Input>, task: &Task) -> Result<Json<Output>, Failure> {
        let store = memory::open(if input.scope == "global" { Scope::Global } else { Scope::Agent })?;
        let mut count = store.get_json::<u64>("count")?.unwrap_or(0);
        for _ in 0..input.n {
            let mut conflicts = 0;
            // Others count as well: whoever comes second looks again.
            loop {
                let found = store.get("count")?;
                count = found.as_ref().map(|entry| entry.json::<u64>()).transpose()?.unwrap_or(0) + 1;
                let options =
                    PutOptions { precondition: Precondition::unchanged(found.as_ref()), ..PutOptions::default() };
                match store.put_json_with("count", &count, options) {
                    Ok(_) => break,
                    Err(Error::Conflict { .. }) => {
                        // Not all at once again: each waits for another while.
                        conflicts += 1;
                        std::thread::sleep(Duration::from_millis(random() % (10 * conflicts)));
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            // True now: nobody else has to wait for the others of it.
            task.checkpoint()?;
            std::thread::sleep(Duration::from_millis(input.sleep_ms));
        }
        Ok(Json(Output { count }))
    }
}

/// What the standard library seeds its hash maps with.
fn random() -> u64 {
    std::collections::hash_map::RandomState::new().hash_one(0)
}
