//! Rounds of a loop that are over are forgotten: of a run that goes on nobody asks for more of them than what the last one gave.
//!
//! Invariants: what is forgotten is over, and nobody can pick from it any more: a round sees what the one before it gave, and what comes
//! after the loop what the last one did. Where anything in the loop's rounds stands ready to undo something all of them stay, for
//! that may ask for what they were given. A step that is begun anew after it was forgotten has a number that it never had. What people change in
//! a round that was forgotten cannot be said from here: the history says that it is cut, and whoever needs it folds all of the journal.

use std::collections::BTreeSet;

use ltmc_model::StepPath;
use ltmc_model::workflow::Loop;
use serde::{Deserialize, Serialize};

use super::{History, Step};
use crate::node::Node;

/// So many of the last rounds are kept whole.
const KEPT: usize = 2;

/// What of rounds that are over is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Keeps {
    /// All of them: for whoever looks at all of a run.
    #[default]
    All,
    /// All until the run is resumed, and the last ones from then on: for whoever changes something in it.
    UntilResumed,
    /// The last ones: for a run that goes on.
    Recent,
}

/// What is known of the steps below a loop that were forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Worn {
    /// Those that were forgotten since the loop last began: none of them comes again.
    now: Highest,
    /// Those of before: each may come again.
    before: Highest,
}

/// The highest of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Highest {
    /// They were of rounds below this one.
    rounds: usize,
    /// The number of an attempt.
    attempt: u32,
    /// How often a node began a run.
    begun: u32,
}

impl Highest {
    fn or(self, other: Self) -> Self {
        Self {
            rounds: self.rounds.max(other.rounds),
            attempt: self.attempt.max(other.attempt),
            begun: self.begun.max(other.begun),
        }
    }
}

impl History {
    /// Forgets what nobody asks for any more of a loop's rounds, now that another is over.
    pub(super) fn forget_rounds(&mut self, at: &StepPath) {
        if self.keeps != Keeps::Recent || self.undoing.stands_below(at) {
            return;
        }
        let Some(rounds) = self.nodes.get_mut(at).map(|node| &mut node.rounds) else { return };
        if !rounds.forget_but(KEPT) {
            return;
        }
        let (until, given) = (rounds.forgotten(), rounds.given_by_forgotten().cloned());
        let kept = self.giving(given);
        let depth = at.way().count();
        let is_gone = |path: &StepPath| {
            let round = path.way().nth(depth).and_then(Loop::round);
            round.is_some_and(|round| round < until) && !kept.contains(path)
        };
        let mut worn = Highest { rounds: until, ..Highest::default() };
        let steps = self.steps.range(at..).take_while(|(path, _)| path.is_within(at));
        let steps = steps.filter(|(path, step)| is_gone(path) && !step.is_open() && step.took.is_empty());
        let steps: Vec<(StepPath, u32)> =
            steps.map(|(path, step)| (path.clone(), step.last().map_or(0, |last| last.number))).collect();
        for (path, attempt) in steps {
            self.steps.remove(&path);
            worn.attempt = worn.attempt.max(attempt);
        }
        let nodes = self.nodes.range(at..).take_while(|(path, _)| path.is_within(at));
        let nodes = nodes.filter(|(path, node)| is_gone(path) && !node.has_open_child());
        for path in nodes.map(|(path, _)| path.clone()).collect::<Vec<_>>() {
            self.nodes.remove(&path);
        }
        self.forked.forget(|path| path.is_within(at) && is_gone(path));
        let begun = self.begun.range(at..).take_while(|(path, _)| path.is_within(at));
        let begun: Vec<StepPath> = begun.map(|(path, _)| path).filter(|path| is_gone(path)).cloned().collect();
        for path in begun {
            worn.begun = worn.begun.max(self.begun.remove(&path).unwrap_or(0));
        }
        let within = self.worn.range(at..).take_while(|(path, _)| path.is_within(at));
        let within: Vec<StepPath> = within.map(|(path, _)| path).filter(|path| is_gone(path)).cloned().collect();
        for path in within {
            let inner = self.worn.remove(&path).unwrap_or_default();
            worn = Highest { rounds: until, ..worn.or(inner.now).or(inner.before) };
        }
        let known = self.worn.entry(at.clone()).or_default();
        known.now = known.now.or(worn);
    }

    /// Loops that are meant begin at their first round again.
    pub(super) fn wear(&mut self, is_meant: impl Fn(&StepPath) -> bool) {
        for (_, worn) in self.worn.iter_mut().filter(|(path, _)| is_meant(path)) {
            *worn = Worn { before: worn.before.or(worn.now), now: Highest::default() };
        }
    }

    /// What an output stands in, with those that pass it on.
    fn giving(&self, given: Option<StepPath>) -> BTreeSet<StepPath> {
        let (mut giving, mut next) = (BTreeSet::new(), given);
        while let Some(path) = next {
            next = self.nodes.get(&path).and_then(|node| node.gave.clone()).filter(|of| *of != path);
            if !giving.insert(path) {
                break;
            }
        }
        giving
    }

    /// What is known of a step, or another node, that was forgotten and comes again.
    fn worn_at(&self, path: &StepPath) -> Highest {
        let mut known = Highest::default();
        let mut below = path.clone();
        while let (false, Some(above), Some(number)) = (self.worn.is_empty(), below.parent(), below.way().last()) {
            let worn = self.worn.get(&above).map(|worn| worn.before);
            let is_of_it = |worn: &Highest| Loop::round(number).is_some_and(|round| round < worn.rounds);
            known = known.or(worn.filter(is_of_it).unwrap_or_default());
            below = above;
        }
        known
    }

    /// The number that a step's next attempt has, or that the open one has.
    pub fn attempt(&self, step: &StepPath) -> u32 {
        self.steps.get(step).map_or_else(|| self.worn_at(step).attempt.saturating_add(1), Step::attempt)
    }

    /// How often a node began a run, or had it go on.
    pub fn begun(&self, node: &StepPath) -> u32 {
        self.begun.get(node).copied().unwrap_or_else(|| self.worn_at(node).begun)
    }

    /// How many rounds of a loop in a row gave the same as `gave` does, which comes after them, and it.
    pub fn in_a_row(&self, at: &StepPath, gave: Option<&StepPath>) -> u32 {
        let Some(output) = gave.and_then(|gave| self.output(gave)) else { return 0 };
        let last = self.nodes.get(at).and_then(|node| node.rounds.last());
        let last = last.filter(|last| last.gave.as_ref().and_then(|gave| self.output(gave)) == Some(output));
        last.map_or(0, |last| last.in_a_row).saturating_add(1)
    }

    /// Whether something was changed in what this has forgotten: where the run stands is then not to be said from here.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// This history, of which only the last rounds are kept from here on: for a run that goes on.
    #[must_use]
    pub fn forgetting(mut self) -> Self {
        self.keeps = Keeps::Recent;
        self
    }

    /// This history, of which all is kept until the run is resumed: for whoever changes something first.
    #[must_use]
    pub fn for_changes(mut self) -> Self {
        self.keeps = Keeps::UntilResumed;
        self
    }
}

impl Node {
    fn has_open_child(&self) -> bool {
        self.child.as_ref().is_some_and(crate::node::Child::is_open)
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::failure::{Code, Failure};
    use ltmc_model::journal::{Amended, Amendment, Decided, Entry, Event, Input, Next};
    use ltmc_model::run::Usage;
    use ltmc_model::{Payload, Timestamp};

    use super::*;
    use crate::fold::Status;

    const AT: Timestamp = Timestamp::from_millis(1_000);

    fn path(path: &str) -> StepPath {
        path.parse().unwrap()
    }

    fn add(history: &mut History, event: Event) {
        history.advance(history.seq().next(), &Entry { at: AT, event });
    }

    /// A round of the loop at `0/0`, in which one step gives this; none: it is skipped.
    fn round(history: &mut History, round: usize, gives: Option<&str>) {
        let step = path("0/0").child(Loop::number(round)).child(0);
        if let Some(gives) = gives {
            let attempt = history.attempt(&step);
            add(
                history,
                Event::StepStarted {
                    step: step.clone(),
                    attempt,
                    agent: None,
                    version: None,
                    needs: Vec::new(),
                    transaction: true,
                },
            );
            let output = Payload::text(gives.to_owned());
            add(history, Event::StepCompleted { step: step.clone(), attempt, output, usage: Usage::default() });
        }
        let (gave, round) = (gives.map(|_| step), u32::try_from(round).unwrap());
        let decided = Decided::Round { round, gave, next: Next::Again };
        add(history, Event::NodeDecided { node: path("0/0"), decided });
    }

    fn rounds(history: &History) -> &crate::node::Rounds {
        &history.node(&path("0/0")).unwrap().rounds
    }

    #[test]
    fn what_is_kept_of_a_loop_does_not_grow_with_its_rounds() {
        let (mut history, mut whole) = (History::new().forgetting(), History::new());
        let mut bytes = Vec::new();
        for number in 0..20_000 {
            round(&mut history, number, Some("the same"));
            if number < 100 {
                round(&mut whole, number, Some("the same"));
            }
            if [100, 10_001, 19_999].contains(&number) {
                bytes.push(history.sealed().unwrap().bytes.len());
                assert_eq!(
                    history.steps().count(),
                    KEPT + 1,
                    "after {number}: the last ones, and what those before gave"
                );
            }
        }
        assert!(bytes.iter().max() < bytes.iter().min().map(|least| least + 100).as_ref(), "{bytes:?}");
        assert_eq!((rounds(&history).len(), rounds(&whole).len(), whole.steps().count()), (20_000, 100, 100));
        assert_eq!(rounds(&history).given(), Some(&path("0/0/29999/0")), "behind what else stands below the loop");
        assert_eq!(history.in_a_row(&path("0/0"), rounds(&history).given()), 20_001);
    }

    #[test]
    fn what_a_round_is_given_stays_however_many_are_skipped() {
        let mut history = History::new().forgetting();
        round(&mut history, 0, Some("other"));
        round(&mut history, 1, Some("given"));
        (2..50).for_each(|number| round(&mut history, number, None));
        let given = rounds(&history).given().unwrap().clone();
        assert_eq!((&given, history.output(&given)), (&path("0/0/1/0"), Some(&Payload::text("given"))));
        assert_eq!(history.steps().count(), 1);
        round(&mut history, 50, Some("next"));
        (51..60).for_each(|number| round(&mut history, number, None));
        let steps: Vec<_> = history.steps().map(|(path, _)| path.clone()).collect();
        assert_eq!(steps, [path("0/0/50/0")]);
    }

    #[test]
    fn what_passes_on_what_came_before_it_is_not_looked_through_again_and_again() {
        let mut history = History::new().forgetting();
        round(&mut history, 0, Some("given"));
        for number in 1..50_usize {
            let node = path("0/0").child(number);
            let of = rounds(&history).given().unwrap().clone();
            add(&mut history, Event::NodeGave { node: node.clone(), of });
            let decided = Decided::Round { round: number as u32, gave: Some(node), next: Next::Again };
            add(&mut history, Event::NodeDecided { node: path("0/0"), decided });
        }
        let given = rounds(&history).given().unwrap();
        assert_eq!((history.giver(given), history.output(given)), (&path("0/0/0/0"), Some(&Payload::text("given"))));
        assert!(history.nodes().count() <= KEPT + 3, "{}", history.nodes().count());
    }

    #[test]
    fn a_step_that_is_begun_anew_after_it_was_forgotten_has_another_number() {
        let mut history = History::new().forgetting();
        (0..10).for_each(|number| round(&mut history, number, Some("out")));
        let failure = Failure::new(Code::LoopExhausted, "no");
        add(&mut history, Event::NodeFailed { node: path("0/0"), failure, retry_at: Some(AT) });
        assert!(rounds(&history).is_empty());
        assert_eq!((history.attempt(&path("0/0/3/0")), history.attempt(&path("0/0/10/0"))), (2, 1));
        (0..10).for_each(|number| round(&mut history, number, Some("out")));
        let failure = Failure::new(Code::LoopExhausted, "no");
        add(&mut history, Event::NodeFailed { node: path("0/0"), failure, retry_at: Some(AT) });
        assert_eq!((history.attempt(&path("0/0/3/0")), history.attempt(&path("0/0/10/0"))), (3, 1));
    }

    #[test]
    fn a_change_of_what_is_forgotten_is_found() {
        let changed = |mut history: History, step: &str| {
            (0..10).for_each(|number| round(&mut history, number, Some("out")));
            let (by, step) = ("abcdefghijkl".parse().unwrap(), path(step));
            let after = vec![step.parent().unwrap()];
            let amended = Amended { by, step, change: Amendment::Again, was: None, after };
            add(&mut history, Event::Amended(Box::new(amended)));
            add(&mut history, Event::RunResumed { by: "abcdefghijkl".parse().unwrap() });
            history
        };
        assert!(changed(History::new().forgetting(), "0/0/3/0").is_cut());
        assert!(!changed(History::new().forgetting(), "0/0/8/0").is_cut());
        let mut whole = changed(History::new().for_changes(), "0/0/3/0");
        assert!(!whole.is_cut());
        assert_eq!((rounds(&whole).len(), whole.step(&path("0/0/3/0")).unwrap().status), (3, Status::Pending));
        (3..10).for_each(|number| round(&mut whole, number, Some("out")));
        assert_eq!(whole.steps().count(), KEPT + 1, "from then on they are forgotten");
    }

    #[test]
    fn where_anything_stands_ready_to_be_undone_all_of_it_stays() {
        let mut history = History::new().forgetting();
        (0..10).for_each(|number| round(&mut history, number, Some("out")));
        let node = path("0/0/10/0");
        add(&mut history, Event::CompensationRegistered { node, given: Input::Output(path("0/0/9/0")) });
        (10..20).for_each(|number| round(&mut history, number, Some("out")));
        assert_eq!(history.steps().count(), KEPT + 1 + 10);
    }
}
