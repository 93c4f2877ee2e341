//! Reads and writes the tenant's memory in loops, with nothing around them: for benchmarks.

use ltmc::memory::{self, Scope};
use ltmc::serde_json::{Value, json};
use ltmc::state;
use ltmc::{Agent, Failure, Json, Task};
use serde::{Deserialize, Serialize};

/// How many keys it goes round.
const KEYS: u32 = 64;
const VALUE: [u8; 100] = [b'x'; 100];

#[derive(Deserialize)]
struct Input {
    #[serde(default)]
    puts: u32,
    #[serde(default)]
    gets: u32,
    /// Transitions of its own state, if it has one.
    #[serde(default)]
    moves: u32,
}

#[derive(Serialize)]
struct Output {
    /// Bytes that it read.
    read: usize,
}

#[ltmc::agent]
#[derive(Default)]
struct MemoryLoop;

impl Agent for MemoryLoop {
    type Input = Json<Input>;
    type Output = Json<Output>;

    fn execute(&self, Json(input): Json<Input>, _task: &Task) -> Result<Json<Output>, Failure> {
        let store = memory::open(Scope::Global)?;
        for n in 0..input.puts {
            store.put(&format!("key/{}", n % KEYS), VALUE)?;
        }
        let mut read = 0;
        for n in 0..input.gets {
            read += store.get(&format!("key/{}", n % KEYS))?.map_or(0, |entry| entry.value.len());
        }
        for n in 0..input.moves {
            state::transition::<String, Value>("go", &json!({"n": n}))?;
        }
        Ok(Json(Output { read }))
    }
}
