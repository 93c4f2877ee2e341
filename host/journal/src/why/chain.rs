//! A failure, followed up from the step that failed through each level around it to the root.

use ltmc_model::StepPath;
use ltmc_model::failure::Failure;
use ltmc_model::run::State;
use ltmc_model::workflow::{Does, Node as Planned, Then};
use serde::Serialize;

use super::called::Called;
use super::{TRIES, Try, cut, short};
use crate::fold::{History, Status, Step};
use crate::node::Node;
use crate::place::{self, Is, Place};
use crate::view::is_nothing;

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

impl Link {
    /// `failing`: which of its children failed.
    pub(super) fn new(called: Called, place: &Place<'_>, failing: Option<&StepPath>, history: &History) -> Self {
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

/// What failed, from `step` up to the root; of a run that waits for people because of it, up to what has it wait: a node with `then: pause`,
/// or what undoes a node's work.
pub(super) fn chain_of(root: &Planned, step: &StepPath, state: State, history: &History) -> Vec<Link> {
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
