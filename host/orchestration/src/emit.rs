//! What a run publishes: the event that a node emits, and those that remind people of what a node asks.
//!
//! In a branch that holds its messages it is held, too.
//!
//! Invariant: the event and the entry that says so become true together, so that it is published once, wherever the host dies.

use std::collections::BTreeMap;
use std::sync::Arc;

use ltmc_journal::RunLog;
use ltmc_journal::runlog::Commit;
use ltmc_model::delta::Delta;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::fork::{Done, Level};
use ltmc_model::journal;
use ltmc_model::message::{self, Channel, Event, Message, Topic};
use ltmc_model::run::Target;
use ltmc_model::workflow::{Ask, Does, Emit, Remind, Template};
use ltmc_model::{Payload, StepPath};
use ltmc_ports::Changes;
use ltmc_tenancy::Compute;
use serde_json::json;

use crate::input;
use crate::patterns::Input;
use crate::plan::Plan;

/// What the node at `at` publishes, and the entry that says so.
pub(crate) async fn event(
    compute: &Compute,
    plan: &Arc<Plan>,
    log: &RunLog,
    at: &StepPath,
    input: &Input,
    levels: &[Level],
) -> Result<(journal::Event, Commit), Failure> {
    let (node, _) = plan.node(at)?;
    let Does::Emit(emit) = &node.does else {
        return Err(Failure::new(Code::Internal, format!("the plan has nothing to be published at {at}")));
    };
    let Emit { topic, kind, subject, data } = emit.as_ref();
    let data = match data {
        Some(data) => input::filled(compute, plan, log, at, data).await?,
        None => input::resolve(compute, plan, log, input).await?,
    };
    let subject = match subject {
        Some(subject) => Some(text(&input::filled(compute, plan, log, at, subject).await?, subject)?),
        None => None,
    };
    let wrong = |why| Failure::new(Code::BadStep, format!("what is published to `{topic}` is no event: {why}"));
    message::check(kind, subject.as_deref(), &data).map_err(wrong)?;
    let sent = message(log, topic, kind, subject, data);
    let emitted = journal::Event::Emitted { node: at.clone(), topic: topic.clone(), id: sent.id };
    let Some(holds) = Level::holds_messages(levels) else { return Ok((emitted, published(sent))) };
    let bytes = sent.event.data.bytes.len() as u64;
    if !log.read(|history| history.forked().has_room(bytes)) {
        let why =
            "branches of this run hold as much as they may before they come together: there is no room for this event";
        return Err(Failure::new(Code::QuotaExceeded, why));
    }
    let done = Done { step: at.clone(), of: holds.clone(), changed: Vec::new(), sent: vec![sent] };
    Ok((emitted, Commit { before: vec![journal::Event::BranchChanged(Box::new(done))], ..Commit::default() }))
}

/// The event that reminds people of what the node at `at` asks, and the entry that says so. None: it asks nothing any more. It says which
/// question that is, and not what it is answered by: who reads a topic is not who may answer.
pub(crate) fn reminder(
    plan: &Arc<Plan>,
    log: &RunLog,
    at: &StepPath,
    number: u32,
) -> Result<Option<(journal::Event, Commit)>, Failure> {
    let (node, _) = plan.node(at)?;
    let ask = match &node.does {
        Does::Ask(ask) => ask.remind.as_ref().map(|remind| (ask, &remind.topic)),
        _ => None,
    };
    let Some((ask, topic)) = ask else {
        return Err(Failure::new(Code::Internal, format!("the plan has nobody to be reminded at {at}")));
    };
    let Ask { of, .. } = ask.as_ref();
    let asked = log.read(|history| {
        let node = history.node(at).filter(|node| node.is_waiting())?;
        let asks = node.asks.as_ref()?;
        Some((asks.at, asks.title.clone(), node.until))
    });
    let Some((asked_at, title, until)) = asked else { return Ok(None) };
    let run = log.run().to_string();
    let data = json!({ "run": run, "node": at, "title": title, "of": of, "asked_at": asked_at, "until": until, "number": number });
    // Also in a branch that holds its messages: people are asked before it comes to its end.
    let sent = message(log, topic, Remind::KIND, Some(run), Payload::json(&data));
    let reminded = journal::Event::Reminded { node: at.clone(), number, topic: topic.clone(), id: sent.id };
    Ok(Some((reminded, published(sent))))
}

/// With what a message is true at once.
fn published(sent: Message) -> Commit {
    Commit { changes: Changes::blind(vec![Delta::Sent(sent)]), ..Commit::default() }
}

fn message(log: &RunLog, topic: &Topic, kind: &str, subject: Option<String>, data: Payload) -> Message {
    let source = match &log.started().target {
        Target::Workflow(name) => format!("/workflows/{name}"),
        Target::Agent(agent) => format!("/agents/{}", agent.name),
    };
    let id = log.next_revision();
    let mut event = Event {
        id: id.to_string(),
        source,
        kind: kind.to_owned(),
        subject,
        time: log.now(),
        data,
        attributes: BTreeMap::new(),
        trail: log.read(|history| history.trail().cloned()).map(|trail| Box::new(trail.by(log.run()))),
    };
    event.trace(log.started().traceparent.as_deref());
    Message { id, channel: Channel::Topic(topic.clone()), event }
}

/// A text that stands in a document, or is picked.
pub(crate) fn text(found: &Payload, template: &Template) -> Result<String, Failure> {
    let text = found.to_value().ok().and_then(|value| value.as_str().map(str::to_owned));
    text.ok_or_else(|| {
        let what = match template {
            Template::Pick(pick) => format!("`{pick}`"),
            _ => "it".to_owned(),
        };
        Failure::new(Code::BadStep, format!("a subject is a text, and {what} is none"))
    })
}
