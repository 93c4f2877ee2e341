//! Why a run stands where it does, for people: from the step that failed up to the root, with what was tried on each level and why
//! nothing handled it; what a run waits for; what can be done next.
//!
//! Invariants: derived from the journal and the document that it pins, and from nothing else. Bounded: of each list so many are
//! told, and how many more there are; a message is cut.
//!
//! To add something that a run can wait for: a line in [`Why::of_nodes`].

use ltmc_model::failure::Failure;
use ltmc_model::journal::Candidate;
use ltmc_model::run::{Run, State, Target};
use ltmc_model::workflow::Node as Planned;
use ltmc_model::{RunId, StepPath, Timestamp};
use serde::Serialize;

use crate::fold::{History, Status};
use crate::node::{Asks, Listens, Node};
use crate::place;
use crate::view::is_nothing;

mod called;
mod chain;
mod next;

pub use called::Called;
use chain::chain_of;
pub use chain::{Level, Link};
pub use next::Next;

/// So many are told of each list.
const TOLD: usize = 50;
/// So many tries of a step are told: the last ones.
const TRIES: usize = 10;
/// So many agents that were looked at for a step are told.
const CANDIDATES: usize = 5;
/// So many characters of a message.
const MESSAGE: usize = 1_000;

/// Why a run stands where it does.
#[derive(Debug, Clone, Serialize)]
pub struct Why {
    /// The id of the run that is explained.
    pub id: RunId,
    /// Where it stands.
    pub state: State,
    /// The workflow, or the agent of a lone call.
    pub of: String,
    /// In a sentence.
    pub summary: String,
    /// From the step that failed up to the root: what was tried, and why nothing handled it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Link>,
    /// Failures that something else handled.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub handled: Vec<Handled>,
    /// What it waits for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<Waits>,
    /// The steps that are at work; of a run that is over those that it was cut off at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub at_work: Vec<AtWork>,
    /// The agents that were found for steps which say what they need, with those that were looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub found: Vec<Found>,
    /// How many more of `handled`, `waits`, `at_work` and `found` there are than are told.
    #[serde(skip_serializing_if = "is_nothing")]
    pub left_out: usize,
    /// What a person can do next.
    pub next: Vec<Next>,
}

/// A try that failed.
#[derive(Debug, Clone, Serialize)]
pub struct Try {
    /// From 1 on.
    pub number: u32,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// How the try failed.
    pub failure: Failure,
}

/// A failure that something else handled.
#[derive(Debug, Clone, Serialize)]
pub struct Handled {
    /// The step, or the other node, that failed.
    #[serde(flatten)]
    pub called: Called,
    /// How it failed.
    pub failure: Failure,
    /// What gave what it gives, or went on without it.
    pub by: String,
}

/// What is waited for.
#[derive(Debug, Clone, Serialize)]
pub struct Waits {
    /// The step, or the other node, that waits.
    #[serde(flatten)]
    pub called: Called,
    /// What it waits for, in words.
    #[serde(rename = "for")]
    pub what: String,
    /// From when on it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Until when; none: until it comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why it may wait in vain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_vain: Option<String>,
}

/// A step that an attempt of is open.
#[derive(Debug, Clone, Serialize)]
pub struct AtWork {
    /// The step whose attempt is open.
    #[serde(flatten)]
    pub called: Called,
    /// The attempt's number.
    pub attempt: u32,
    /// When it began.
    pub since: Timestamp,
    /// Its host calls so far.
    pub effects: u32,
}

/// Who was found for a step that says what it needs.
#[derive(Debug, Clone, Serialize)]
pub struct Found {
    /// Which step, and the agent that was found.
    #[serde(flatten)]
    pub called: Called,
    /// Those that were looked at, the best first, and why one could not be taken.
    pub candidates: Vec<Candidate>,
}

impl Why {
    /// Of a run, from its row and its history; outputs that are large may be empty in it.
    pub fn new(run: &Run, history: &History) -> Self {
        let root = history.started().and_then(|started| place::root(started));
        let of = match &run.target {
            Target::Agent(agent) => agent.to_string(),
            Target::Workflow(workflow) => workflow.to_string(),
        };
        let (chain, handled, waits, at_work, found) = Default::default();
        let (summary, next) = (String::new(), Vec::new());
        let mut why = Self {
            id: run.id,
            state: run.state,
            of,
            summary,
            chain,
            handled,
            waits,
            at_work,
            found,
            left_out: 0,
            next,
        };
        let failure = history.result().and_then(Result::err);
        if matches!(run.state, State::Failed | State::Paused | State::Stuck)
            && let (Some(root), Some(step)) = (&root, failure.as_ref().and_then(|failure| failure.step.as_ref()))
        {
            why.chain = chain_of(root, step, run.state, history);
        }
        why.of_steps(root.as_ref(), history);
        why.of_nodes(root.as_ref(), history);
        why.summary = why.summed_up(run, history, failure.as_ref());
        why.next = why.next_steps(failure.as_ref());
        why
    }

    fn of_steps(&mut self, root: Option<&Planned>, history: &History) {
        for (path, step) in history.steps() {
            let Some(last) = step.last() else { continue };
            match step.status {
                Status::Running if has_room(&self.at_work, &mut self.left_out) => self.at_work.push(AtWork {
                    called: Called::by(root, path, history),
                    attempt: last.number,
                    since: last.started_at,
                    effects: last.effects,
                }),
                Status::Waiting(until) if !self.state.is_over() && has_room(&self.waits, &mut self.left_out) => {
                    let why =
                        last.failure.as_ref().map_or_else(String::new, |f| format!(" after `{}`", f.code.as_str()));
                    let what = format!("its try number {}{why}", step.attempt());
                    let (since, until) = (last.ended_at, Some(until));
                    self.waits.push(Waits { called: Called::at(root, path), what, since, until, in_vain: None });
                }
                _ => {}
            }
        }
    }

    fn of_nodes(&mut self, root: Option<&Planned>, history: &History) {
        for (path, node) in history.nodes() {
            if node.agent.is_some() && has_room(&self.found, &mut self.left_out) {
                let candidates = node.candidates.iter().take(CANDIDATES).cloned().collect();
                self.found.push(Found { called: Called::by(root, path, history), candidates });
            }
            if let (Some(failure), Some(of)) = (&node.failure, &node.gave)
                && has_room(&self.handled, &mut self.left_out)
            {
                let by = format!("{} gave what it gives", Called::at(root, of));
                self.handled.push(Handled { called: Called::at(root, path), failure: cut(failure), by });
            }
            if self.state.is_over() || node.has_ended() || node.failure.is_some() {
                continue;
            }
            let retries = node.retry_at.filter(|_| node.failures > 0 && !history.is_open_within(path));
            let retries =
                retries.map(|until| (format!("all of it to be done anew, after {} failures", node.failures), until));
            let outside = from_outside(node).map(|what| (what, node.waits_since, node.waits_until.or(node.until)));
            let ends = node.until.filter(|_| outside.is_none());
            let ends = ends.map(|until| ("its end, which is its time-out at the latest".to_owned(), until));
            let child = node.child.as_ref().filter(|child| child.ended.is_none());
            let child =
                child.map(|child| (format!("the end of run {}, which it began", child.run), node.waits_since, None));
            let dated = retries.into_iter().chain(ends).map(|(what, until)| (what, None, Some(until)));
            for (what, since, until) in outside.into_iter().chain(dated).chain(child) {
                if has_room(&self.waits, &mut self.left_out) {
                    self.waits.push(Waits { called: Called::at(root, path), what, since, until, in_vain: None });
                }
            }
        }
    }

    fn summed_up(&self, run: &Run, history: &History, failure: Option<&Failure>) -> String {
        let told = |failure: &Failure| format!("{}: {}", failure.code.as_str(), short(&failure.message));
        match (run.state, failure) {
            (State::Failed, Some(failure)) => match self.chain.first() {
                Some(link) => {
                    format!("It failed because {} failed, which nothing handled: {}", link.called, told(failure))
                }
                None => format!("It failed: {}", told(failure)),
            },
            (State::Cancelled | State::Quarantined | State::Paused | State::Stuck, Some(failure)) => {
                let at = match self.chain.first() {
                    Some(link) => format!(" at {}", link.called),
                    None if run.state == State::Cancelled => String::new(),
                    None => self.stopped_at(history),
                };
                format!("It is {}{at}: {}", run.state.as_str(), short(&failure.message))
            }
            (State::Completed, _) => match history.completed() {
                Some(step) => format!("It is completed: its result is what {} gave", self.called(history, step)),
                None => "It is completed".to_owned(),
            },
            (State::Queued, _) => "It is recorded, and has not begun".to_owned(),
            (_, _) if !self.at_work.is_empty() => {
                format!("It is at work on {}", some(&self.at_work, |step| step.called.to_string()))
            }
            (_, _) if !self.waits.is_empty() => {
                format!("It waits: {}", some(&self.waits, |waits| format!("{} for {}", waits.called, waits.what)))
            }
            _ => "It is under way, between two steps".to_owned(),
        }
    }

    /// Where a run stands that goes on no further for now: its open steps, and what it waits for.
    fn stopped_at(&self, history: &History) -> String {
        let root = StepPath::root();
        let steps = history.open_within(&root).map(|(path, _)| path).chain(history.waiting_within(&root));
        let open = steps.chain(history.open_children(&root).map(|(path, _)| path));
        let open: Vec<Called> = open.map(|path| self.called(history, path)).collect();
        if open.is_empty() { String::new() } else { format!(" at {}", some(&open, Called::to_string)) }
    }

    fn called(&self, history: &History, step: &StepPath) -> Called {
        let root = history.started().and_then(|started| place::root(started));
        Called::at(root.as_ref(), step)
    }
}

/// What a node waits for that is a time, or comes from outside.
fn from_outside(node: &Node) -> Option<String> {
    if !node.is_waiting() {
        return None;
    }
    if let Some(asks) = &node.asks {
        let Asks { token, title, of, .. } = asks;
        return Some(format!("an answer of the role {of} to \"{title}\" (`ltmc approvals show {token}`)"));
    }
    if let Some(Listens { topic, subject, kind, .. }) = &node.listens {
        let kind = kind.as_ref().map_or_else(String::new, |kind| format!(" of type `{kind}`"));
        let subject = subject.as_ref().map_or_else(String::new, |subject| format!(" about `{subject}`"));
        return Some(format!("an event of topic `{topic}`{kind}{subject}"));
    }
    node.waits_until.map(|_| "its time".to_owned())
}

fn has_room<T>(list: &[T], left_out: &mut usize) -> bool {
    let has_room = list.len() < TOLD;
    *left_out += usize::from(!has_room);
    has_room
}

/// The first of them, and how many more there are.
fn some<T>(list: &[T], say: impl Fn(&T) -> String) -> String {
    let first: Vec<String> = list.iter().take(3).map(say).collect();
    let more = list.len().saturating_sub(first.len());
    let and_more = if more > 0 { format!(" and {more} more") } else { String::new() };
    first.join(", ") + &and_more
}

fn cut(failure: &Failure) -> Failure {
    Failure { message: short(&failure.message), ..failure.clone() }
}

fn short(message: &str) -> String {
    match message.char_indices().nth(MESSAGE) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests;
