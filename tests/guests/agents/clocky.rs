//! Shows what it sees of the clock and of randomness, before and after an effect.

use std::time::{SystemTime, UNIX_EPOCH};

use ltmc::memory::{self, Scope};
use ltmc::{Agent, Failure, Json, Task, serde_json};

#[ltmc::agent]
#[derive(Default)]
struct Clocky;

impl Agent for Clocky {
    type Input = ();
    type Output = Json<serde_json::Value>;

    fn execute(&self, (): (), _task: &Task) -> Result<Json<serde_json::Value>, Failure> {
        let (before, random) = (millis(), random());
        memory::open(Scope::Agent)?.put("seen", before.to_string())?;
        Ok(Json(serde_json::json!({ "before": before, "random": random, "after": millis() })))
    }
}

fn millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// What the standard library seeds its hash maps with.
fn random() -> u64 {
    use std::hash::BuildHasher;
    std::collections::hash_map::RandomState::new().hash_one(0)
}
