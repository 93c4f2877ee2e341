//! What a run publishes: the event that a node emits.
//!
//! In a branch that holds its messages it is held, too.
//!
//! Invariant: the event and the entry that says so become true together, so that it is published once, wherever the host dies.

use std::sync::Arc;

use ltmc_journal::RunLog;
use ltmc_journal::runlog::Commit;
use ltmc_model::delta::Delta;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::fork::{Done, Level};
use ltmc_model::journal;
use ltmc_model::message::{self, Channel, Event, Message};
use ltmc_model::run::Target;
use ltmc_model::workflow::{Does, Emit, Template};
use ltmc_model::{Payload, StepPath};
use ltmc_ports::Changes;
use ltmc_tenancy::Compute;

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
    let source = match &log.started().target {
        Target::Workflow(name) => format!("/workflows/{name}"),
        Target::Agent(agent) => format!("/agents/{}", agent.name),
    };
    let id = log.next_revision();
    let event = Event { id: id.to_string(), source, kind: kind.clone(), subject, time: log.now(), data };
    let sent = Message { id, channel: Channel::Topic(topic.clone()), event };
    let emitted = journal::Event::Emitted { node: at.clone(), topic: topic.clone(), id };
    let holds = levels.iter().rev().find(|level| level.messages);
    let bytes = sent.event.data.bytes.len() as u64;
    if holds.is_some() && !log.read(|history| history.forked().has_room(bytes)) {
        let why =
            "branches of this run hold as much as they may before they come together: there is no room for this event";
        return Err(Failure::new(Code::QuotaExceeded, why));
    }
    Ok((
        emitted,
        match holds {
            Some(level) => {
                let done = Done { step: at.clone(), of: level.of.clone(), changed: Vec::new(), sent: vec![sent] };
                Commit { before: vec![journal::Event::BranchChanged(Box::new(done))], ..Commit::default() }
            }
            None => Commit { changes: Changes::blind(vec![Delta::Sent(sent)]), ..Commit::default() },
        },
    ))
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
