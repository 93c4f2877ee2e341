//! Does with recall what its input says; see `script`.
//!
//! Steps: `remember` (id, text, metadata), `forget` (id), `search` (question, limit, filter). Metadata and a filter are
//! objects of texts.

#[path = "script/mod.rs"]
mod script;

use std::collections::BTreeMap;

use ltmc::recall::{self, Hit};
use ltmc::serde_json::{Value, json};
use ltmc::{Agent, Error, Failure, Json, Task};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Step {
    Remember {
        id: String,
        text: String,
        #[serde(default)]
        metadata: BTreeMap<String, String>,
    },
    Forget {
        id: String,
    },
    Search {
        question: String,
        limit: u32,
        #[serde(default)]
        filter: BTreeMap<String, String>,
    },
}

#[ltmc::agent]
#[derive(Default)]
struct RecallScript;

impl Agent for RecallScript {
    type Input = Json<Vec<Value>>;
    type Output = Json<Vec<Value>>;

    fn execute(&self, Json(steps): Self::Input, task: &Task) -> Result<Self::Output, Failure> {
        script::play(steps, task, Step::perform)
    }
}

impl Step {
    fn perform(self) -> Result<Value, Error> {
        Ok(match self {
            Self::Remember { id, text, metadata } => json!(recall::remember_with(&id, &text, &pairs(&metadata))?),
            Self::Forget { id } => json!(recall::forget(&id)?),
            Self::Search { question, limit, filter } => {
                let found = recall::search_with(&question, limit, &pairs(&filter))?;
                let degraded = found.degraded;
                json!({ "hits": found.into_iter().map(hit).collect::<Value>(), "degraded": degraded })
            }
        })
    }
}

fn pairs(metadata: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

fn hit(hit: Hit) -> Value {
    json!({ "id": hit.id, "text": hit.text, "metadata": hit.metadata, "score": hit.score })
}
