//! Does with messages what its input says; see `script`.
//!
//! Steps: `send` (to, and an event), `publish` (topic, and an event), `receive` (limit, wait_ms, then, reason, count), `ack`
//! (id), `reject` (id, reason), `read` (topic, after, limit, wait_ms). An event is `kind`, `data` (JSON; a text as it is
//! where there is a `content_type`) and `subject`. `then` is `ack` or `reject`, of everything received; with `count` each
//! adds one to this key of the agent's memory first, so that what is processed twice shows.

#[path = "script/mod.rs"]
mod script;

use std::time::Duration;

use ltmc::memory::{self, Increment, Scope};
use ltmc::messages::{self, Delivery, Draft, Event};
use ltmc::serde_json::{Value, json};
use ltmc::{Agent, Error, Failure, Json, Payload, Task};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Step {
    Send {
        to: String,
        #[serde(flatten)]
        event: Written,
    },
    Publish {
        topic: String,
        #[serde(flatten)]
        event: Written,
    },
    Receive {
        limit: u32,
        #[serde(default)]
        wait_ms: u64,
        then: Option<String>,
        #[serde(default)]
        reason: String,
        count: Option<String>,
    },
    Ack {
        id: u64,
    },
    Reject {
        id: u64,
        reason: String,
    },
    Read {
        topic: String,
        after: Option<u64>,
        limit: u32,
        #[serde(default)]
        wait_ms: u64,
    },
}

#[derive(Deserialize)]
struct Written {
    kind: String,
    #[serde(default)]
    data: Value,
    content_type: Option<String>,
    subject: Option<String>,
}

#[ltmc::agent]
#[derive(Default)]
struct MessageScript;

impl Agent for MessageScript {
    type Input = Json<Vec<Value>>;
    type Output = Json<Vec<Value>>;

    fn execute(&self, Json(steps): Self::Input, task: &Task) -> Result<Self::Output, Failure> {
        script::play(steps, task, Step::perform)
    }
}

impl Step {
    fn perform(self) -> Result<Value, Error> {
        Ok(match self {
            Self::Send { to, event } => json!(messages::send(&to, event.draft()?)?),
            Self::Publish { topic, event } => json!(messages::publish(&topic, event.draft()?)?),
            Self::Receive { limit, wait_ms, then, reason, count } => {
                let received = messages::receive(limit, Duration::from_millis(wait_ms))?;
                for delivery in &received {
                    if let Some(key) = &count {
                        memory::open(Scope::Agent)?.update(key, Increment(1))?;
                    }
                    match then.as_deref() {
                        Some("ack") => delivery.ack()?,
                        Some("reject") => delivery.reject(&reason)?,
                        _ => {}
                    }
                }
                received.iter().map(delivery).collect()
            }
            Self::Ack { id } => json!(messages::ack(id)?),
            Self::Reject { id, reason } => json!(messages::reject(id, &reason)?),
            Self::Read { topic, after, limit, wait_ms } => {
                let found = messages::read(&topic, after, limit, Duration::from_millis(wait_ms))?;
                let events = found.events.iter();
                let events = events.map(|one| json!({ "position": one.position, "event": event(&one.event) }));
                json!({ "events": events.collect::<Value>(), "next": found.next })
            }
        })
    }
}

impl Written {
    fn draft(self) -> Result<Draft, Error> {
        let draft = match self.content_type {
            None => Draft::json(self.kind, &self.data)?,
            Some(media) => Draft::new(self.kind, Payload::new(media, self.data.as_str().unwrap_or_default())),
        };
        Ok(match self.subject {
            Some(subject) => draft.subject(subject),
            None => draft,
        })
    }
}

fn delivery(delivery: &Delivery) -> Value {
    json!({ "id": delivery.id, "deliveries": delivery.deliveries, "event": event(&delivery.event) })
}

fn event(event: &Event) -> Value {
    json!({
        "id": event.id,
        "source": event.source,
        "kind": event.kind,
        "subject": event.subject,
        "time_ms": event.time_ms,
        "content_type": event.data.content_type,
        "data": event.json::<Value>().unwrap_or_else(|_| String::from_utf8_lossy(&event.data.bytes).into()),
    })
}
