//! What guests that do as their input says have in common: steps in, what each of them came to out.
//!
//! The input is a list of steps, `{"do": NAME, …}`; one with `"times": N` is done so often, and ends at its first error.
//! Every guest knows `{"do": "sleep", "ms": N}`, `{"do": "fail", "until": ATTEMPT}` (fails, to be tried again, before that
//! attempt; always without it) and `{"do": "panic"}`. The output is a list as long as the input: `{"ok": VALUE}`, or
//! `{"error": NAME, "message": TEXT}`, with `position`, `revision` or `capability` where the error has one.

use std::time::Duration;

use ltmc::serde_json::{self, Value, json};
use ltmc::{Error, Failure, Json, Task};
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Common {
    Sleep { ms: u64 },
    Fail { until: Option<u32> },
    Panic,
}

/// Does the steps one after the other.
pub fn play<S: DeserializeOwned>(
    steps: Vec<Value>,
    task: &Task,
    mut perform: impl FnMut(S) -> Result<Value, Error>,
) -> Result<Json<Vec<Value>>, Failure> {
    let mut out = Vec::new();
    for step in steps {
        if let Ok(common) = serde_json::from_value::<Common>(step.clone()) {
            out.push(json!({ "ok": common.perform(task)? }));
            continue;
        }
        let mut came_to = json!({ "ok": null });
        for _ in 0..step["times"].as_u64().unwrap_or(1) {
            let own = serde_json::from_value(step.clone())
                .map_err(|e| Failure::new(Failure::BAD_INPUT, format!("{step} is no step: {e}")))?;
            came_to = match perform(own) {
                Ok(value) => json!({ "ok": value }),
                Err(error) => told(&error),
            };
            if came_to.get("error").is_some() {
                break;
            }
        }
        out.push(came_to);
    }
    Ok(Json(out))
}

impl Common {
    fn perform(self, task: &Task) -> Result<Value, Failure> {
        match self {
            Self::Sleep { ms } => std::thread::sleep(Duration::from_millis(ms)),
            Self::Fail { until } if until.is_none_or(|until| task.attempt < until) => {
                return Err(Failure::new("as-asked", format!("this is attempt {}", task.attempt)).retryable());
            }
            Self::Fail { .. } => {}
            Self::Panic => panic!("as asked"),
        }
        Ok(Value::Null)
    }
}

fn told(error: &Error) -> Value {
    let mut told = json!({ "error": error.code(), "message": error.to_string() });
    match error {
        Error::AccessDenied(capability) => told["capability"] = json!(capability),
        Error::Resync(position) => told["position"] = json!(position),
        Error::Conflict(revision) => told["revision"] = json!(revision),
        _ => {}
    }
    told
}
