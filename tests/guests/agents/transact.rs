//! Does with everything that an attempt changes what its input says, and ends badly where its input says.
//!
//! The input: `steps`, done one after the other; `fail`, by the number of a try: after how many steps it ends, and how (`error`,
//! `panic`, `cpu`, `wall`); `tries`, a file in which tries are counted. That file is in the granted directory `/tries`: what
//! is written there is no part of a transaction, and so tells one try from another also where the host does not.
//!
//! Steps: `put` (key, value), `delete`, `touch` (ttl_ms), `increment` (by), `append` (item), `merge` (patch), `get`,
//! `get-put` and `list-put` (one more than is read, by two calls), `fill` (key, count, bytes), `gate` (key: waits until it holds
//! something), all in `scope`, `global` unless said otherwise; `relate`, `unrelate` (subject, relation, object), `facts` (entity);
//! `remember` (id, text), `forget` (id), `search` (question); `send` (to, data), `publish` (topic, data), `receive` (limit,
//! wait_ms), `ack` and `reject` (number, of those received); `checkpoint`, `sleep` (ms). One with `times` is done so often; one with
//! `soft` may be refused. The output is what each came to: a value, or `{"refused": CODE}`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use ltmc::graph::{self, Filter};
use ltmc::memory::{self, Append, Entry, Increment, MergePatch, Scope, Store};
use ltmc::messages::{self, Delivery, Draft};
use ltmc::recall;
use ltmc::serde_json::{Value, json};
use ltmc::{Agent, Error, Failure, Json, Task};
use serde::Deserialize;

#[derive(Deserialize)]
struct Input {
    steps: Vec<Step>,
    #[serde(default)]
    fail: BTreeMap<u64, (usize, String)>,
    tries: Option<String>,
}

#[derive(Deserialize)]
struct Step {
    #[serde(default)]
    scope: String,
    #[serde(default = "once")]
    times: u32,
    #[serde(default)]
    soft: bool,
    #[serde(flatten)]
    does: Does,
}

fn once() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Does {
    Put { key: String, value: String },
    Delete { key: String },
    Touch { key: String, ttl_ms: u64 },
    Increment { key: String, by: i64 },
    Append { key: String, item: Value },
    Merge { key: String, patch: Value },
    Get { key: String },
    GetPut { key: String },
    ListPut { key: String },
    Fill { key: String, count: u32, bytes: usize },
    Gate { key: String },
    Relate { subject: String, relation: String, object: String },
    Unrelate { subject: String, relation: String, object: String },
    Facts { entity: String },
    Remember { id: String, text: String },
    Forget { id: String },
    Search { question: String },
    Send { to: String, data: Value },
    Publish { topic: String, data: Value },
    Receive { limit: u32, wait_ms: u64 },
    Ack { number: usize },
    Reject { number: usize },
    Checkpoint,
    Sleep { ms: u64 },
}

#[ltmc::agent]
#[derive(Default)]
struct Transact;

impl Agent for Transact {
    type Input = Json<Input>;
    type Output = Json<Vec<Value>>;

    fn execute(&self, Json(input): Self::Input, task: &Task) -> Result<Self::Output, Failure> {
        let mut end = None;
        if let Some(name) = &input.tries {
            end = input.fail.get(&count(name)?).cloned();
        }
        let (mut out, mut hands) = (Vec::new(), Vec::new());
        for (done, step) in input.steps.iter().enumerate() {
            fail_at(&end, done)?;
            let mut came_to = Value::Null;
            for _ in 0..step.times {
                came_to = match step.perform(task, &mut hands) {
                    Err(error) if step.soft => json!({ "refused": error.code() }),
                    other => other?,
                };
            }
            out.push(came_to);
        }
        fail_at(&end, input.steps.len())?;
        Ok(Json(out))
    }
}

/// Counts one more try, and says which it is.
fn count(name: &str) -> Result<u64, Failure> {
    let path = format!("/tries/{name}");
    let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
    let counted = file.and_then(|mut file| {
        file.write_all(b"x")?;
        Ok(file.metadata()?.len())
    });
    counted.map_err(|error| Failure::new("no-count", format!("{path}: {error}")))
}

fn fail_at(end: &Option<(usize, String)>, done: usize) -> Result<(), Failure> {
    let Some((_, how)) = end.as_ref().filter(|(after, _)| *after == done) else { return Ok(()) };
    match how.as_str() {
        "error" => Err(Failure::new("as-asked", format!("after {done} steps")).retryable()),
        "panic" => panic!("as asked, after {done} steps"),
        "cpu" => loop {
            std::hint::black_box(done);
        },
        "wall" => loop {
            std::thread::sleep(Duration::from_secs(1));
        },
        other => Err(Failure::new(Failure::BAD_INPUT, format!("{other:?} is no end"))),
    }
}

impl Step {
    fn perform(&self, task: &Task, hands: &mut Vec<Delivery>) -> Result<Value, Error> {
        let store = || {
            memory::open(match self.scope.as_str() {
                "agent" => Scope::Agent,
                "session" => Scope::Session,
                _ => Scope::Global,
            })
        };
        Ok(match &self.does {
            Does::Put { key, value } => json!(store()?.put(key, value.as_str())?),
            Does::Delete { key } => json!(store()?.delete(key)?),
            Does::Touch { key, ttl_ms } => json!(store()?.touch(key, Some(Duration::from_millis(*ttl_ms)))?),
            Does::Increment { key, by } => text(&store()?.update(key, Increment(*by))?),
            Does::Append { key, item } => text(&store()?.update(key, Append(item))?),
            Does::Merge { key, patch } => text(&store()?.update(key, MergePatch(patch))?),
            Does::Get { key } => store()?.get(key)?.as_ref().map_or(Value::Null, text),
            Does::GetPut { key } => {
                let store = store()?;
                let found = store.get(key)?;
                one_more(&store, key, found)?
            }
            Does::ListPut { key } => {
                let store = store()?;
                let found = store.list(key).collect::<Result<Vec<_>, _>>()?.into_iter().find(|found| found.key == *key);
                one_more(&store, key, found)?
            }
            Does::Fill { key, count, bytes } => {
                let store = store()?;
                for n in 0..*count {
                    store.put(&format!("{key}/{n}"), "x".repeat(*bytes))?;
                }
                Value::Null
            }
            Does::Gate { key } => {
                let store = store()?;
                loop {
                    if let Some(found) = store.get(key)? {
                        break text(&found);
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            Does::Relate { subject, relation, object } => json!(graph::relate(subject, relation, object)?),
            Does::Unrelate { subject, relation, object } => json!(graph::unrelate(subject, relation, object)?),
            Does::Facts { entity } => {
                let found = graph::facts(Filter::of(entity)).collect::<Result<Vec<_>, _>>()?;
                found.iter().map(|fact| json!([fact.subject, fact.relation, fact.object])).collect()
            }
            Does::Remember { id, text } => json!(recall::remember(id, text)?),
            Does::Forget { id } => json!(recall::forget(id)?),
            Does::Search { question } => recall::search(question, 10)?.into_iter().map(|hit| json!(hit.id)).collect(),
            Does::Send { to, data } => json!(messages::send(to, Draft::json("test.sent", data)?)?),
            Does::Publish { topic, data } => json!(messages::publish(topic, Draft::json("test.published", data)?)?),
            Does::Receive { limit, wait_ms } => {
                let received = messages::receive(*limit, Duration::from_millis(*wait_ms))?;
                let seen = received.iter().map(|one| json!([one.event.json::<Value>().ok(), one.deliveries])).collect();
                hands.extend(received);
                seen
            }
            Does::Ack { number } => match hands.get(*number) {
                Some(delivery) => json!(delivery.ack()?),
                None => return Err(Error::NotFound),
            },
            Does::Reject { number } => match hands.get(*number) {
                Some(delivery) => json!(delivery.reject("as asked")?),
                None => return Err(Error::NotFound),
            },
            Does::Checkpoint => json!(task.checkpoint()?),
            Does::Sleep { ms } => {
                std::thread::sleep(Duration::from_millis(*ms));
                Value::Null
            }
        })
    }
}

fn one_more(store: &Store, key: &str, found: Option<Entry>) -> Result<Value, Error> {
    let count = found.map_or(Ok(0), |found| found.json::<u64>())? + 1;
    store.put_json(key, &count)?;
    Ok(json!(count))
}

fn text(entry: &Entry) -> Value {
    String::from_utf8_lossy(&entry.value).into()
}
