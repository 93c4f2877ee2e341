//! Why a run stands where it does, for people: from the step that failed up to the root, with what was tried on each level and why
//! nothing handled it; what a run waits for; what can be done next.
//!
//! Invariants: derived from the journal and the document that it pins, and from nothing else. Bounded: of each list so many are
//! told, and how many more there are; a message is cut.
//!
//! To add something that a run can wait for: a line in [`Why::of_nodes`].

use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::Candidate;
use ltmc_model::run::{Run, State, Target};
use ltmc_model::workflow::{Does, Node as Planned, Then};
use ltmc_model::{RunId, StepPath, Timestamp};
use serde::Serialize;

use crate::fold::{History, Status, Step};
use crate::node::{Asks, Listens, Node};
use crate::place::{self, Is, Place};

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

/// A step or another node that failed, and what was done about it.
#[derive(Debug, Clone, Serialize)]
pub struct Link {
    /// The step, or the other node, that failed.
    #[serde(flatten)]
    pub called: Called,
    /// How it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The last tries of a step that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tries: Vec<Try>,
    /// How many tries there were before these.
    #[serde(skip_serializing_if = "is_nothing")]
    pub tries_left_out: usize,
    /// What was done about it, level by level, and why that did not handle it.
    pub levels: Vec<Level>,
}

/// Which step or other node, as people call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Called {
    /// Its place in the tree of patterns.
    pub step: StepPath,
    /// The name by which others pick from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it does: `agent`, `sequence`, `map`, ...
    pub pattern: &'static str,
    /// The agent whose step it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The item of a map that it is done for, from 0 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<usize>,
    /// The round of a loop that it is done in, from 1 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round: Option<usize>,
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

/// What was done on one level of errors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Level {
    /// `retry`, `validate`, `timeout`, `need`, `tolerate`, `fallback` or `on-error`.
    pub level: &'static str,
    /// What came of it.
    pub said: String,
    /// Where what was done in its place stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub step: Option<StepPath>,
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

/// What a person can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Next {
    /// The command, as it is typed.
    pub command: String,
    /// What comes of it.
    pub does: String,
}

fn is_nothing(count: &usize) -> bool {
    *count == 0
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

    /// What can be done about it, the likeliest first.
    fn next_steps(&self, failure: Option<&Failure>) -> Vec<Next> {
        let id = self.id;
        let next = |command: String, does: &str| Next { command: format!("ltmc {command}"), does: does.to_owned() };
        let mut all = Vec::new();
        // In an item or a round its name does not say which is meant.
        let step = self.chain.first().map(|link| &link.called);
        let step = step.map(|called| match (&called.name, called.item, called.round) {
            (Some(name), None, None) => name.clone(),
            _ => called.step.to_string(),
        });
        let is_step = self.chain.first().is_some_and(|link| link.called.agent.is_some());
        let changes = step.iter().filter(|_| is_step).flat_map(|step| {
            let (set, input) = (format!("--set {step}=@output.json"), format!("--input {step}=@input.json"));
            [
                next(format!("runs resume {id} {set}"), "goes on as if the step had given this"),
                next(format!("runs resume {id} {input}"), "makes the step again, on this"),
            ]
        });
        let changes: Vec<Next> = changes.collect();
        match self.state {
            State::Failed => {
                all.push(next(
                    format!("runs resume {id}"),
                    "makes again what failed, and goes on; what is done stays done, unless it was undone",
                ));
                all.extend(changes);
                if let Some(step) = step {
                    all.push(next(
                        format!("runs restart {id} --from {step}"),
                        "does the same in a new run, and leaves this one as it is",
                    ));
                }
            }
            State::Cancelled => {
                all.push(next(
                    format!("runs resume {id}"),
                    "goes on where it stopped; what is done stays done, unless it was undone",
                ));
            }
            State::Quarantined => {
                all.push(next(format!("runs resume {id}"), "takes it up again, once what the host died of is gone"));
                let what = "makes the step that it died of again, on something else";
                all.push(next(format!("runs resume {id} --input STEP=@input.json"), what));
                all.push(next(format!("runs cancel {id}"), "ends it; what it did is kept"));
            }
            State::Paused => {
                all.push(next(format!("runs continue {id}"), "goes on with it; what failed is tried again"));
                all.extend(changes);
                all.push(next(
                    format!("runs cancel {id}"),
                    "ends it; what it did is undone, where something undoes it",
                ));
            }
            State::Stuck => {
                all.push(next(format!("runs resume {id}"), "tries again what undoes its work"));
                all.push(next(format!("runs cancel {id}"), "gives up what is not undone"));
            }
            State::Completed => {
                all.push(next(
                    format!("runs restart {id} --from STEP"),
                    "does a step and what came after it again, in a new run",
                ));
            }
            State::Queued | State::Running | State::Waiting => {
                all.push(next(format!("runs events {id}"), "follows it until it is over"));
                all.push(next(
                    format!("runs cancel {id}"),
                    "ends it, and it can be resumed; what it did is kept, unless something undoes it",
                ));
            }
        }
        if failure.is_some_and(|failure| failure.code == Code::AgentMissing) {
            all.insert(0, next("push AGENT.wasm".into(), "puts the version that is missing back"));
        }
        if failure.is_some_and(|failure| failure.code == Code::MergeConflict) {
            let take = "goes on where its branches come together, with what that branch made of the key";
            all.insert(0, next(format!("runs conflicts {id}"), "lists where its branches conflict"));
            all.insert(1, next(format!("runs resume {id} --take KEY=BRANCH"), take));
        }
        all.push(next(format!("runs journal {id}"), "shows all that happened, entry by entry"));
        all
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

/// What failed, from `step` up to the root; of a run that waits for people because of it, up to what has it wait: a node with `then: pause`,
/// or what undoes a node's work.
fn chain_of(root: &Planned, step: &StepPath, state: State, history: &History) -> Vec<Link> {
    let places = place::way(root, step);
    let has_it_wait = |place: &Place<'_>| match state {
        State::Paused => place.node().is_some_and(|node| node.retry.then == Then::Pause),
        State::Stuck => place.is == Is::Compensation,
        _ => false,
    };
    let mut failing = None;
    let mut chain = Vec::new();
    let last = places.iter().rposition(has_it_wait).unwrap_or_default();
    for place in places.iter().skip(last).rev() {
        chain.push(Link::new(Called::by(Some(root), &place.path, history), place, failing.as_ref(), history));
        failing = Some(place.path.clone());
    }
    chain
}

impl Link {
    /// `failing`: which of its children failed.
    fn new(called: Called, place: &Place<'_>, failing: Option<&StepPath>, history: &History) -> Self {
        let (step, known) = (history.step(&place.path), history.node(&place.path));
        let failed = |attempt: &crate::fold::Attempt| {
            let failure = cut(attempt.failure.as_ref()?);
            Some(Try { number: attempt.number, ended_at: attempt.ended_at, failure })
        };
        let mut tries: Vec<Try> = step.iter().flat_map(|step| &step.attempts).filter_map(failed).collect();
        let tries_left_out = tries.len().saturating_sub(TRIES);
        tries.drain(..tries_left_out);
        let rejection =
            |verdict: Option<&Result<(), Failure>>| verdict.and_then(|verdict| verdict.as_ref().err()).map(cut);
        let of_step =
            step.and_then(|step| rejection(step.verdict.as_ref()).or_else(|| tries.last().map(|t| t.failure.clone())));
        let of_node =
            known.and_then(|node| rejection(node.verdict.as_ref()).or_else(|| node.failure.as_ref().map(cut)));
        let mut levels = Vec::new();
        if let Some(node) = place.node() {
            own_levels(node, step, known, failing, &mut levels);
            rescue_levels(node, &place.path, history, &mut levels);
        }
        Self { called, failure: of_node.or(of_step), tries, tries_left_out, levels }
    }
}

/// What a node's own work and its tries came to.
fn own_levels(
    node: &Planned,
    step: Option<&Step>,
    known: Option<&Node>,
    failing: Option<&StepPath>,
    levels: &mut Vec<Level>,
) {
    let mut say = |level, said: String| levels.push(Level { level, said, step: None });
    let is_step = node.is_step();
    if let Some(why) = known.and_then(|node| node.joined.as_ref()).and_then(|joined| joined.failure.as_ref()) {
        let level = if matches!(node.does, Does::Map(_)) { "tolerate" } else { "need" };
        say(level, short(&why.message));
    }
    if known.is_some_and(|node| node.is_timed_out) {
        say("timeout", "it took longer than it may, which is not tried again".into());
    }
    let verdict = step.and_then(|step| step.verdict.as_ref()).or(known.and_then(|node| node.verdict.as_ref()));
    if matches!(verdict, Some(Err(_))) {
        say("validate", "what it gave was judged wrong".into());
    }
    let tries = match step {
        Some(step) if is_step => step.tries(),
        _ => known.map_or(0, |node| node.failures) + 1,
    };
    let allowed = node.retry.attempts;
    if is_step || allowed > 1 || failing.is_none() {
        let times = if tries == 1 { "once".to_owned() } else { format!("{tries} times") };
        say(
            "retry",
            match (allowed, tries) {
                (1, _) => format!("it was tried {times}, and has no `retry`"),
                (allowed, tries) if tries >= allowed => {
                    format!("it was tried {times}, which is as often as `retry` says")
                }
                (allowed, _) => {
                    format!("it was tried {times} of {allowed}: after such a failure `retry` does not try again")
                }
            },
        );
    }
}

/// What was done in a node's place, or why nothing was.
fn rescue_levels(node: &Planned, at: &StepPath, history: &History, levels: &mut Vec<Level>) {
    for (number, _) in node.fallback.iter().enumerate() {
        let path = at.child(Planned::FALLBACK + number);
        let said = came_of(&path, history).unwrap_or_else(|| "it was not begun".into());
        levels.push(Level { level: "fallback", said, step: Some(path) });
    }
    let waits = node.retry.then == Then::Pause;
    if node.on_error.is_empty() {
        if waits {
            let said = "it waits for people: `then: pause`".into();
            levels.push(Level { level: "retry", said, step: None });
        } else if node.fallback.is_empty() {
            let said = "nothing is said to be done in its place".into();
            levels.push(Level { level: "on-error", said, step: None });
        }
        return;
    }
    let (said, step) = match history.node(at).and_then(|node| node.handler) {
        None => ("none was looked for".to_owned(), None),
        Some(None) => (format!("of its {} handlers none has a `when` that holds", node.on_error.len()), None),
        Some(Some(number)) => {
            let path = at.child(Planned::HANDLER + number as usize);
            (came_of(&path, history).unwrap_or_else(|| "it was not begun".into()), Some(path))
        }
    };
    levels.push(Level { level: "on-error", said, step });
}

/// What became of what was done in a node's place; none: it was not begun.
fn came_of(path: &StepPath, history: &History) -> Option<String> {
    if history.node(path).is_some_and(|node| node.when == Some(false)) {
        return Some("it was skipped: its `when` does not hold".into());
    }
    if !history.has_begun(path) {
        return None;
    }
    let failed = history.steps_within(path).filter(|(_, step)| step.status == Status::Failed).find_map(|(at, step)| {
        let failure = step.last()?.failure.as_ref()?;
        Some(format!("it failed at {at}: {}: {}", failure.code.as_str(), short(&failure.message)))
    });
    let rejected = history.steps_within(path).find_map(|(at, step)| match &step.verdict {
        Some(Err(rejection)) => Some(format!("what {at} gave was judged wrong: {}", short(&rejection.message))),
        _ => None,
    });
    let of_node = history.node(path).and_then(|node| node.failure.as_ref());
    let of_node = of_node.map(|failure| format!("it failed: {}: {}", failure.code.as_str(), short(&failure.message)));
    Some(rejected.or(failed).or(of_node).unwrap_or_else(|| "it was begun".into()))
}

impl Called {
    /// What stands at a path of a run's tree, with the agent that was found for it.
    fn by(root: Option<&Planned>, path: &StepPath, history: &History) -> Self {
        let found = history.node(path).and_then(|node| node.agent.as_ref());
        let called = Self::at(root, path);
        Self { agent: called.agent.or_else(|| found.map(ToString::to_string)), ..called }
    }

    /// What stands at a path of a run's tree.
    pub fn at(root: Option<&Planned>, path: &StepPath) -> Self {
        let way = root.map(|root| place::way(root, path)).unwrap_or_default();
        let place = way.last().filter(|place| place.path == *path);
        let item = |place: &Place<'_>| if let Is::Item(number) = place.is { Some(number) } else { None };
        let round = |place: &Place<'_>| if let Is::Round(number) = place.is { Some(number + 1) } else { None };
        Self {
            step: path.clone(),
            name: place.and_then(Place::name),
            pattern: place.map_or("step", Place::word),
            agent: place.and_then(Place::agent).map(ToString::to_string),
            item: way.iter().rev().find_map(item),
            round: way.iter().rev().find_map(round),
        }
    }
}

impl std::fmt::Display for Called {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.name, &self.agent) {
            (Some(name), _) => write!(f, "`{name}` ({})", self.step),
            (None, Some(agent)) => write!(f, "{} `{agent}` ({})", self.pattern, self.step),
            (None, None) => write!(f, "{} {}", self.pattern, self.step),
        }
    }
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
mod tests {
    use ltmc_model::journal::{Decided, Entry, Event, RunStarted};
    use ltmc_model::run::{TakenUp, Usage};
    use ltmc_model::{Digest, Epoch, Payload, Seq};

    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_000);

    fn why(flow: &str, state: State, events: Vec<Event>) -> Why {
        let source = format!("name: w\nflow: {flow}");
        let document = ltmc_model::workflow::Document::parse(&source, None).unwrap();
        let started = RunStarted {
            target: Target::Workflow("w".parse().unwrap()),
            agents: Default::default(),
            document: Some(document.to_json().into()),
            document_digest: Some(Digest::of(b"")),
            input: Payload::default(),
            session: "s".parse().unwrap(),
            by: "abcdefghijkl".parse().unwrap(),
            seed: [0; 32],
            traceparent: None,
            position: None,
            scheduled: None,
            follows: None,
            turn: None,
            forked: None,
            parent: None,
        };
        let mut history = History::new();
        for event in [Event::RunStarted(Box::new(started))].into_iter().chain(events) {
            history.advance(history.seq().next(), &Entry { at: AT, event });
        }
        assert_eq!(history.state(), state);
        let run = Run {
            tenant: "acme".parse().unwrap(),
            id: RunId::ledger(),
            target: Target::Workflow("w".parse().unwrap()),
            state,
            session: "s".parse().unwrap(),
            by: "abcdefghijkl".parse().unwrap(),
            created_at: AT,
            updated_at: AT,
            epoch: Epoch(1),
            seq: Seq(1),
            parent: None,
            wakes_at: None,
            turn: None,
            taken_up: TakenUp::default(),
        };
        Why::new(&run, &history)
    }

    fn path(path: &str) -> StepPath {
        path.parse().unwrap()
    }

    fn started(step: &str, attempt: u32) -> Event {
        Event::StepStarted {
            step: path(step),
            attempt,
            agent: None,
            version: None,
            needs: Vec::new(),
            transaction: true,
        }
    }

    fn failed(step: &str, attempt: u32, message: &str, retry_at: Option<Timestamp>) -> Event {
        let failure = Failure::new(Code::AgentError, message).in_step(&path(step));
        Event::StepFailed { step: path(step), attempt, failure, retry_at, usage: Usage::default() }
    }

    #[test]
    fn a_failure_is_followed_up_through_each_level_to_the_root() {
        let flow = "{parallel: {x: {sequence: [{agent: a, retry: {attempts: 2, backoff: 1ms}, fallback: [{agent: b}], \
                    on-error: [{when: {pick: $.error.code, equals: busy}, do: {agent: c}}]}]}, y: {agent: d}}}";
        let no = Failure::new(Code::AgentError, "no").in_step(&path("0/0/0"));
        let joined = Failure { message: "1 of 2 branches failed, and 2 are needed".into(), ..no.clone() };
        let why = why(
            flow,
            State::Failed,
            vec![
                started("0/0/0", 1),
                failed("0/0/0", 1, "first", Some(AT)),
                started("0/0/0", 2),
                failed("0/0/0", 2, "no", None),
                Event::NodeFailed { node: path("0/0/0"), failure: no.clone(), retry_at: None },
                started("0/0/0/11000", 1),
                failed("0/0/0/11000", 1, "neither", None),
                Event::NodeDecided { node: path("0/0/0"), decided: Decided::Handler(None) },
                Event::NodeDecided {
                    node: path("0"),
                    decided: Decided::Joined { winners: vec![], failure: Some(joined.clone()), lost: vec![] },
                },
                Event::RunFailed { failure: joined },
            ],
        );
        let steps: Vec<&str> = why.chain.iter().map(|link| link.called.step.as_str()).collect();
        assert_eq!(steps, ["0/0/0", "0/0", "0"]);
        let first = &why.chain[0];
        assert_eq!(first.tries.iter().map(|t| t.failure.message.as_str()).collect::<Vec<_>>(), ["first", "no"]);
        let levels: Vec<(&str, &str)> = first.levels.iter().map(|level| (level.level, level.said.as_str())).collect();
        assert_eq!(
            levels,
            [
                ("retry", "it was tried 2 times, which is as often as `retry` says"),
                ("fallback", "it failed at 0/0/0/11000: agent-error: neither"),
                ("on-error", "of its 1 handlers none has a `when` that holds"),
            ]
        );
        assert_eq!(why.chain[2].levels[0].level, "need");
        assert!(
            why.summary.contains("because `a` (0/0/0) failed, which nothing handled: agent-error"),
            "{}",
            why.summary
        );
        assert!(why.next[1].command.ends_with(" --set a=@output.json"), "{:?}", why.next);
    }

    #[test]
    fn what_is_waited_for_and_what_was_handled_is_told() {
        let until = AT.after(std::time::Duration::from_secs(9));
        let flow = "{sequence: [{agent: a, fallback: [{agent: b}]}, {agent: c, retry: {attempts: 3}, timeout: 1h}]}";
        let no = Failure::new(Code::AgentTrapped, "no");
        let output = Payload::text("b");
        let why = why(
            flow,
            State::Waiting,
            vec![
                started("0/0", 1),
                failed("0/0", 1, "no", None),
                Event::NodeFailed { node: path("0/0"), failure: no, retry_at: None },
                started("0/0/11000", 1),
                Event::StepCompleted { step: path("0/0/11000"), attempt: 1, output, usage: Usage::default() },
                Event::NodeGave { node: path("0/0"), of: path("0/0/11000") },
                Event::NodeStarted { node: path("0/1"), until: until.after(std::time::Duration::from_secs(1)) },
                started("0/1", 1),
                failed("0/1", 1, "no", Some(until)),
            ],
        );
        assert_eq!(why.handled[0].by, "`b` (0/0/11000) gave what it gives");
        let waits: Vec<(&str, Option<Timestamp>)> =
            why.waits.iter().map(|waits| (waits.what.as_str(), waits.until)).collect();
        assert_eq!(waits[0], ("its try number 2 after `agent-error`", Some(until)));
        assert!(waits[1].0.contains("time-out"), "{waits:?}");
        assert!(why.chain.is_empty() && why.summary.starts_with("It waits: `c` (0/1) for its try"), "{}", why.summary);
    }

    #[test]
    fn a_run_that_waits_for_people_says_at_which_step() {
        let no = || Failure::new(Code::AgentError, "no");
        let flow = "{sequence: [{agent: a}, {sequence: [{agent: b}], retry: {attempts: 1, then: pause}}, {agent: c}]}";
        let failed_at = |step: &str| vec![started(step, 1), failed(step, 1, "no", None)];
        let mut events = failed_at("0/1/0");
        events.push(Event::RunPaused { by: None, failure: Some(no().in_step(&path("0/1/0"))) });
        let told = why(flow, State::Paused, events);
        assert!(told.summary.starts_with("It is paused at `b` (0/1/0): "), "{}", told.summary);
        let chain: Vec<&str> = told.chain.iter().map(|link| link.called.step.as_str()).collect();
        assert_eq!(chain, ["0/1/0", "0/1"], "up to what has it wait");
        assert!(told.next.iter().any(|next| next.command.ends_with(" --set b=@output.json")), "{:?}", told.next);
        // Somebody paused it.
        let by = Event::RunPaused { by: Some("abcdefghijkl".parse().unwrap()), failure: None };
        let told = why(flow, State::Paused, vec![started("0/0", 1), by]);
        assert!(told.summary.starts_with("It is paused at `a` (0/0): somebody paused"), "{}", told.summary);
        // What undoes a step's work has failed.
        let flow = "{sequence: [{agent: a, compensate: {agent: u}}, {agent: b}]}";
        let mut events = failed_at("0/0/13000");
        events.push(Event::RunStuck { failure: no().in_step(&path("0/0/13000")) });
        let told = why(flow, State::Stuck, events);
        assert!(told.summary.starts_with("It is stuck at `u` (0/0/13000): "), "{}", told.summary);
        assert_eq!(told.chain.len(), 1);
    }

    #[test]
    fn it_is_bounded_whatever_the_journal_holds() {
        let flow = "{map: $.input, do: {agent: a, retry: {attempts: 3}}, at-once: 1000}";
        let mut events = vec![];
        for item in 0..1_000 {
            let step = format!("0/{item}");
            let message = "é".repeat(100_000);
            events.extend([
                started(&step, 1),
                failed(&step, 1, &message, Some(AT.after(std::time::Duration::from_secs(9)))),
            ]);
        }
        let why = why(flow, State::Waiting, events);
        assert_eq!((why.waits.len(), why.left_out), (TOLD, 1_000 - TOLD));
        assert!(serde_json::to_vec(&why).unwrap().len() < 100_000);
    }
}
