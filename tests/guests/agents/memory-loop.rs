//! Reads and writes the tenant's memory in loops, with nothing around them: for benchmarks.

use ltmc::memory::{self, Scope};
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
        Ok(Json(Output { read }))
    }
}
