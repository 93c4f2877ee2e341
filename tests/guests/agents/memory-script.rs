//! Does with memory what its input says; see `script`.
//!
//! Steps, each with `"scope"`, `session` unless said otherwise: `get` (key), `put` (key, value, ttl_ms, revision; revision 0:
//! absent), `delete` (key), `list` (prefix), `update` (key, rule, ttl_ms), `touch` (key, ttl_ms), `changes` (prefix, after, limit, wait_ms),
//! `watch` (prefix, from, for_ms, most). A rule is `{"set": TEXT}`, `{"increment": N}`, `{"append": JSON}`, `{"union": JSON}`,
//! `{"merge-patch": JSON}`, or an operand as it is: `{"raw-append": TEXT}`, `{"raw-union": TEXT}`, `{"raw-merge-patch": TEXT}`.

#[path = "script/mod.rs"]
mod script;

use std::collections::BTreeMap;
use std::time::Duration;

use ltmc::memory::{
    self, Append, Change, Entry, Increment, IntoMerge as _, Merge, MergePatch, Precondition, PutOptions, Scope, Set,
    Store, Union,
};
use ltmc::serde_json::{Value, json};
use ltmc::{Agent, Error, Failure, Json, Task};
use serde::Deserialize;

#[derive(Deserialize)]
struct Step {
    #[serde(default = "session")]
    scope: String,
    #[serde(flatten)]
    does: Does,
}

fn session() -> String {
    "session".into()
}

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Does {
    Get { key: String },
    Put { key: String, value: String, ttl_ms: Option<u64>, revision: Option<u64> },
    Delete { key: String },
    List { prefix: String },
    Update { key: String, rule: Rule, ttl_ms: Option<u64> },
    Touch { key: String, ttl_ms: Option<u64> },
    Changes { prefix: String, after: Option<u64>, limit: u32, wait_ms: u64 },
    Watch { prefix: String, from: Option<u64>, for_ms: Option<u64>, most: Option<usize> },
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Rule {
    Set(String),
    Increment(i64),
    Append(Value),
    Union(Value),
    MergePatch(Value),
    RawAppend(String),
    RawUnion(String),
    RawMergePatch(String),
}

#[ltmc::agent]
#[derive(Default)]
struct MemoryScript;

impl Agent for MemoryScript {
    type Input = Json<Vec<Value>>;
    type Output = Json<Vec<Value>>;

    fn execute(&self, Json(steps): Self::Input, task: &Task) -> Result<Self::Output, Failure> {
        let mut opened = BTreeMap::new();
        script::play(steps, task, |step: Step| {
            let scope = match step.scope.as_str() {
                "global" => Scope::Global,
                "session" => Scope::Session,
                _ => Scope::Agent,
            };
            // Opened once, so that what is taken back later is denied by the step itself.
            if !opened.contains_key(&scope) {
                opened.insert(scope, memory::open(scope)?);
            }
            step.does.perform(&opened[&scope])
        })
    }
}

impl Does {
    fn perform(self, store: &Store) -> Result<Value, Error> {
        Ok(match self {
            Self::Get { key } => store.get(&key)?.map_or(Value::Null, entry),
            Self::Put { key, value, ttl_ms, revision } => {
                let precondition = match revision {
                    None => Precondition::Any,
                    Some(0) => Precondition::Absent,
                    Some(revision) => Precondition::Revision(revision),
                };
                let ttl = ttl_ms.map(Duration::from_millis);
                json!(store.put_with(&key, value, PutOptions { precondition, ttl })?)
            }
            Self::Delete { key } => json!(store.delete(&key)?),
            Self::List { prefix } => {
                let entries: Vec<Entry> = store.list(&prefix).collect::<Result<_, _>>()?;
                entries.into_iter().map(entry).collect()
            }
            Self::Update { key, rule, ttl_ms } => {
                let rule = rule.merge()?;
                entry(match ttl_ms {
                    None => store.update(&key, rule)?,
                    Some(ttl) => store.update_with(&key, rule, Duration::from_millis(ttl))?,
                })
            }
            Self::Touch { key, ttl_ms } => json!(store.touch(&key, ttl_ms.map(Duration::from_millis))?),
            Self::Changes { prefix, after, limit, wait_ms } => {
                let found = store.changes(&prefix, after, limit, Duration::from_millis(wait_ms))?;
                json!({ "changes": found.changes.into_iter().map(change).collect::<Value>(), "next": found.next })
            }
            Self::Watch { prefix, from, for_ms, most } => {
                let mut watch = match from {
                    None => store.watch(&prefix),
                    Some(position) => store.watch_from(&prefix, position),
                };
                if let Some(wait) = for_ms {
                    watch = watch.for_at_most(Duration::from_millis(wait));
                }
                let seen = watch.by_ref().take(most.unwrap_or(usize::MAX)).collect::<Result<Vec<Change>, _>>()?;
                json!({ "changes": seen.into_iter().map(change).collect::<Value>(), "position": watch.position() })
            }
        })
    }
}

impl Rule {
    fn merge(self) -> Result<Merge, Error> {
        match self {
            Self::Set(value) => Set(value).into_merge(),
            Self::Increment(by) => Increment(by).into_merge(),
            Self::Append(value) => Append(value).into_merge(),
            Self::Union(list) => Union(list).into_merge(),
            Self::MergePatch(patch) => MergePatch(patch).into_merge(),
            Self::RawAppend(text) => Ok(Merge::Append(text)),
            Self::RawUnion(text) => Ok(Merge::Union(text)),
            Self::RawMergePatch(text) => Ok(Merge::MergePatch(text)),
        }
    }
}

fn entry(entry: Entry) -> Value {
    json!({
        "key": entry.key,
        "value": String::from_utf8_lossy(&entry.value),
        "revision": entry.revision,
        "expires_at_ms": entry.expires_at_ms,
    })
}

fn change(change: Change) -> Value {
    json!({
        "position": change.position,
        "key": change.key,
        "revision": change.revision,
        "value": change.value.as_deref().map(String::from_utf8_lossy),
        "expires_at_ms": change.expires_at_ms,
    })
}
