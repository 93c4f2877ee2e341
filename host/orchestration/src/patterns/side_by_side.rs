//! What `parallel` and `map` have in common: branches side by side, so many at once, until enough of them are done or too many failed.
//!
//! Where branches have a context of their own, what they did comes together before the node says what they gave.
//!
//! Invariants: branches begin in the order of their numbers. Which of them count is journaled before anything becomes of it.

use std::sync::Arc;

use ltmc_journal::History;
use ltmc_journal::forked::Fork;
use ltmc_journal::node::{Branches, Joined};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Decided, Lost};
use ltmc_model::workflow::Node;
use ltmc_model::{Seq, StepPath};

use super::compensation::undo;
use super::settle::Settlers;
use super::{Decision, Todo};

/// So many characters are kept of the message of a branch that failed.
const LOST_MESSAGE: usize = 300;

/// How branches are dealt with.
pub(super) struct Terms {
    /// How many there are.
    pub(super) count: usize,
    pub(super) at_once: usize,
    pub(super) enough: Enough,
    /// Whether the others are cancelled once too many failed; otherwise they go on to their end before the node fails.
    pub(super) stops: bool,
    /// Whether those are cancelled that are not needed any more; otherwise their end is waited for.
    pub(super) cancels: bool,
    /// Who settles conflicts, where they have a context of their own.
    pub(super) apart: Option<Arc<Settlers>>,
    /// What branches are called in messages.
    pub(super) called: &'static str,
    /// The names of those that have one.
    pub(super) names: Arc<[Option<String>]>,
    /// Whether somebody is told of those that failed.
    pub(super) keeps_lost: bool,
}

/// When enough of them are done.
pub(super) enum Enough {
    /// When so many of those that are not skipped are: the first of them count.
    Of(fn(usize, f64) -> usize, f64),
    /// When all are over, of which so many may have failed.
    AllBut(usize),
}

/// What is next for branches.
pub(super) enum Next {
    /// This is to be done.
    Do(Vec<Todo>),
    /// They are over: what each of them gave.
    Over(Vec<Option<StepPath>>),
    /// Too few succeeded.
    Failed(Failure),
}

/// What is next. `branch`: what is next for one of them.
pub(super) fn next(
    at: &StepPath,
    history: &mut History,
    terms: &Terms,
    branch: &dyn Fn(usize, &mut History) -> Decision,
) -> Next {
    let joined = history.node(at).and_then(|node| node.joined.clone());
    if let Some(joined) = joined {
        return over(at, history, terms, &joined, branch);
    }
    let mut branches = std::mem::take(history.branches(at));
    let todos = go_on(at, history, terms, &mut branches, branch);
    let outcome = outcome(at, history, terms, &branches);
    *history.branches(at) = branches;
    match outcome {
        Some((winners, failure)) => {
            let lost = if terms.keeps_lost && failure.is_none() { lost_by_now(history, at) } else { Vec::new() };
            let decided = Decided::Joined { winners, failure, lost };
            // What is under way goes on until that is so.
            let record = Todo::Record { node: at.clone(), decided };
            Next::Do(todos.into_iter().filter(|todo| !is_new(history, todo)).chain([record]).collect())
        }
        None => Next::Do(todos),
    }
}

/// Looks at those that are open, and begins others while there is room.
fn go_on(
    at: &StepPath,
    history: &mut History,
    terms: &Terms,
    branches: &mut Branches,
    branch: &dyn Fn(usize, &mut History) -> Decision,
) -> Vec<Todo> {
    let mut todos = Vec::new();
    let mut look = |number, branches: &mut Branches, history: &mut History| match branch(number, history) {
        Decision::Do(more) => {
            branches.open.insert(number);
            todos.extend(more);
        }
        Decision::Done(given) => {
            branches.open.remove(&number);
            branches.done.push((number, given));
        }
        Decision::Skipped => {
            branches.open.remove(&number);
            branches.skipped += 1;
        }
        Decision::Failed(failure) => {
            branches.open.remove(&number);
            branches.failed.push((number, failure));
        }
    };
    for number in branches.open.clone() {
        look(number, branches, history);
    }
    while branches.begun < terms.count {
        let number = branches.begun;
        // Whatever has got on is looked at before it is said which were done first.
        let has_room = branches.open.len() < terms.at_once && !is_decided(terms, branches);
        if !has_room && !history.has_got_on(&at.child(number)) {
            break;
        }
        branches.begun += 1;
        look(number, branches, history);
    }
    todos
}

/// How many have to be done, as far as is known.
fn needed(terms: &Terms, branches: &Branches) -> usize {
    let counted = terms.count - branches.skipped;
    match terms.enough {
        Enough::Of(needed, by) => needed(counted, by),
        Enough::AllBut(tolerated) => counted.saturating_sub(tolerated),
    }
}

fn is_out_of_reach(terms: &Terms, branches: &Branches) -> bool {
    let possible = terms.count - branches.skipped - branches.failed.len();
    possible < needed(terms, branches)
}

/// Whether what comes of them is known, so that no other has to begin.
fn is_decided(terms: &Terms, branches: &Branches) -> bool {
    let are_all_over = branches.begun == terms.count && branches.open.is_empty();
    match terms.enough {
        _ if is_out_of_reach(terms, branches) => terms.stops || are_all_over,
        // One that is skipped later leaves no more to be needed.
        Enough::Of(..) => branches.done.len() >= needed(terms, branches),
        Enough::AllBut(_) => are_all_over,
    }
}

/// Which count, or how it failed; none: that is not known yet.
fn outcome(
    at: &StepPath,
    history: &History,
    terms: &Terms,
    branches: &Branches,
) -> Option<(Vec<u32>, Option<Failure>)> {
    if !is_decided(terms, branches) {
        return None;
    }
    let mut done: Vec<_> = branches.done.iter().map(|(number, given)| (history.gave_at(given), *number)).collect();
    done.sort_unstable();
    let failure = is_out_of_reach(terms, branches).then(|| too_few(at, terms, branches));
    if let (Enough::Of(..), None) = (&terms.enough, &failure) {
        done.truncate(needed(terms, branches));
    }
    let winners = done.into_iter().filter_map(|(_, number)| u32::try_from(number).ok()).collect();
    Some((winners, failure))
}

/// The branches that have failed so far, in the order of their numbers.
fn lost_by_now(history: &mut History, at: &StepPath) -> Vec<Lost> {
    let lost = |(number, failure): &(usize, Failure)| {
        let message = failure.message.chars().take(LOST_MESSAGE).collect();
        Some(Lost { branch: u32::try_from(*number).ok()?, failure: Failure { message, ..failure.clone() } })
    };
    let mut all: Vec<Lost> = history.branches(at).failed.iter().filter_map(lost).collect();
    all.sort_unstable_by_key(|lost| lost.branch);
    all
}

fn too_few(at: &StepPath, terms: &Terms, branches: &Branches) -> Failure {
    let Terms { count, called, names, .. } = terms;
    let (failed, needed) = (branches.failed.len(), needed(terms, branches));
    let skipped = match branches.skipped {
        0 => String::new(),
        skipped => format!(", {skipped} skipped"),
    };
    let counted = format!("{failed} of {count} {called} failed{skipped}, and {needed} are needed");
    match branches.failed.iter().min_by_key(|(number, _)| *number) {
        // Of one alone its failure is all that there is to say.
        Some((_, first)) if *count == 1 => first.clone(),
        Some((number, first)) => {
            // As people call it; one that has no name, by where it stands.
            let name = match names.get(*number).and_then(Option::as_ref) {
                Some(name) => format!("`{name}`"),
                None => format!("the one at {}", at.child(*number)),
            };
            let message = format!("{counted}; of those that failed the first is {name}: {}", first.message);
            Failure { message, ..first.clone() }
        }
        None => Failure::new(Code::BadStep, counted),
    }
}

/// It is decided: what is still open comes to its end, and then the node does.
fn over(
    at: &StepPath,
    history: &mut History,
    terms: &Terms,
    joined: &Joined,
    branch: &dyn Fn(usize, &mut History) -> Decision,
) -> Next {
    let cancels = if joined.failure.is_some() { terms.stops } else { terms.cancels };
    // Once their conflicts are settled, or one is made of what they gave, it is that alone which is open.
    let is_settling = history.forked().of(at).is_some_and(|fork| !fork.raised().is_empty());
    let is_closing = is_settling || history.has_begun(&at.child(Node::CLOSING));
    if cancels && !is_closing && history.is_open_within(at) {
        return Next::Do(vec![Todo::Cancel { node: at.clone() }]);
    }
    let winners: Vec<usize> = joined.winners.iter().map(|number| *number as usize).collect();
    // Of branches that came to their end, and do not count, what they did stays.
    let mut kept = winners.clone();
    if !cancels {
        let mut todos = Vec::new();
        for number in (0..terms.count).filter(|number| !winners.contains(number)) {
            if history.has_begun(&at.child(number)) {
                match branch(number, history) {
                    Decision::Do(more) => todos.extend(more),
                    Decision::Done(_) | Decision::Skipped => kept.push(number),
                    Decision::Failed(_) => {}
                }
            }
        }
        if !todos.is_empty() {
            return Next::Do(todos);
        }
    }
    if let Some(failure) = &joined.failure {
        return Next::Failed(failure.clone());
    }
    if let Some(Decision::Do(undone)) = lost(at, history, &kept) {
        return Next::Do(undone);
    }
    let (mut gave, mut todos) = (vec![None; terms.count], Vec::new());
    for number in winners {
        match (branch(number, history), gave.get_mut(number)) {
            (Decision::Done(given), Some(place)) => *place = Some(given),
            // Of one that is resumed there may be something to be journaled still.
            (Decision::Do(more), _) => todos.extend(more),
            _ => {}
        }
    }
    if !todos.is_empty() {
        return Next::Do(todos);
    }
    if let Some(settlers) = terms.apart.as_ref().filter(|_| !history.forked().of(at).is_some_and(Fork::is_merged)) {
        return match settlers.next(at, history) {
            Err(todos) => Next::Do(todos),
            Ok(settled) => {
                let done = in_their_order(history, kept, branch);
                Next::Do(vec![Todo::Merge { node: at.clone(), done, settled }])
            }
        };
    }
    Next::Over(gave)
}

/// Branches that came to their end, in the order in which they did by the journal.
fn in_their_order(
    history: &mut History,
    kept: Vec<usize>,
    branch: &dyn Fn(usize, &mut History) -> Decision,
) -> Vec<u32> {
    let mut done: Vec<(Seq, usize)> = Vec::with_capacity(kept.len());
    for number in kept {
        match branch(number, history) {
            Decision::Done(given) => done.push((history.gave_at(&given), number)),
            Decision::Do(_) | Decision::Skipped | Decision::Failed(_) => {}
        }
    }
    done.sort_unstable();
    done.into_iter().filter_map(|(_, number)| u32::try_from(number).ok()).collect()
}

/// What undoes next what branches did in vain.
fn lost(at: &StepPath, history: &History, kept: &[usize]) -> Option<Decision> {
    let number = |path: &StepPath| path.way().nth(at.way().count());
    let is_lost = |path: &StepPath| {
        let is_branch = |number: usize| number < Node::VALIDATOR && !kept.contains(&number);
        path != at && path.is_within(at) && number(path).is_some_and(is_branch)
    };
    let within = at.child(number(history.next_to_undo(is_lost)?)?);
    let failure = Failure::new(Code::Cancelled, "what the branch did is not needed any more").in_step(&within);
    undo(history, &within, &failure, |path| path.is_within(&within))
}

/// Whether it is something that has not begun.
fn is_new(history: &History, todo: &Todo) -> bool {
    match todo {
        Todo::Attempt { step, .. } => !history.step(step).is_some_and(|step| step.is_open()),
        Todo::Begin { .. } | Todo::Ask { .. } | Todo::Remind { .. } | Todo::Subscribe { .. } | Todo::Emit { .. } => {
            true
        }
        _ => false,
    }
}
