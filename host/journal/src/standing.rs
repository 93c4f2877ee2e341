//! Where the nodes of a run stand, as people are shown them: read from the run's document and its history, in the way its patterns
//! decide.
//!
//! Invariants: derived, from nothing else. What will not be done any more is not `pending`: what was not taken or is skipped, with all
//! below it, what stands below a node that is over, and everything in a run that is over. There nothing is under way either, and in a run that waits for
//! people nothing runs.
//!
//! To add a pattern that ends with what stands below it: its arm in [`by_pattern`].

use ltmc_model::StepPath;
use ltmc_model::journal::Next;
use ltmc_model::run::State;
use ltmc_model::workflow::{Collect, Does, Loop, Node as Planned};

use crate::fold::{History, Status, Step};
use crate::node::{Child, Node};

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// It has not begun.
    Pending,
    /// It is under way.
    Running,
    /// It waits: for a time, for what comes from outside, or to be tried again.
    Waiting,
    /// It was under way, and goes on when somebody goes on with its run.
    Paused,
    /// It gave something.
    Completed,
    /// It failed for good.
    Failed,
    /// It was ended: its outcome was not needed any more, or its run was over.
    Cancelled,
    /// It was not done, and will not be.
    Skipped,
}

impl Stands {
    /// As views name it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }

    /// Whether nothing more happens to it.
    pub(crate) fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Skipped)
    }

    /// The same, in what goes on no further than this.
    pub(crate) fn within(self, goes: Goes) -> Self {
        match (goes, self) {
            (Goes::NoMore, Self::Pending) => Self::Skipped,
            (Goes::NoMore, Self::Running | Self::Waiting | Self::Paused) => Self::Cancelled,
            (Goes::Later, Self::Running) => Self::Paused,
            (_, stands) => stands,
        }
    }

    /// Of a step, by its attempts alone.
    pub(crate) fn of_step(step: Option<&Step>) -> Self {
        match step.map(|step| step.status).unwrap_or_default() {
            Status::Pending => Self::Pending,
            Status::Running => Self::Running,
            Status::Waiting(_) => Self::Waiting,
            Status::Completed => Self::Completed,
            Status::Failed => Self::Failed,
            Status::Cancelled => Self::Cancelled,
        }
    }
}

/// Whether something goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Goes {
    /// It does.
    On,
    /// Once somebody goes on with the run.
    Later,
    /// It is over.
    NoMore,
}

impl Goes {
    /// Whether what undoes the work of a run in this state goes on.
    pub(crate) fn of(state: State) -> Self {
        match state {
            state if state.is_final() => Self::NoMore,
            state if state.is_set_aside() => Self::Later,
            _ => Self::On,
        }
    }

    /// Whether a run's own work does, of which this is known.
    pub(crate) fn of_work(state: State, history: &History) -> Self {
        if history.ending().is_some() { Self::NoMore } else { Self::of(state) }
    }

    /// Whether what stands below a node does.
    pub(crate) fn below(self, stands: Stands) -> Self {
        if stands.is_over() { Self::NoMore } else { self }
    }
}

/// Where a node stands by itself, whatever becomes of the one above it.
pub(crate) fn of(node: &Planned, path: &StepPath, history: &History) -> Stands {
    let known = history.node(path);
    if known.is_some_and(|known| known.when == Some(false)) {
        return Stands::Skipped;
    }
    let step = history.step(path).filter(|_| node.is_step());
    if is_rejected(node, step, known) {
        return Stands::Failed;
    }
    if let Some(stands) = known.and_then(by_itself) {
        return stands;
    }
    if node.is_step() {
        return Stands::of_step(step);
    }
    let is_delayed = known.and_then(|known| known.retry_at).is_some_and(|due| due > history.now());
    let begun = || if history.has_begun(path) { Stands::Running } else { Stands::Pending };
    by_pattern(node, path, history).unwrap_or_else(|| if is_delayed { Stands::Waiting } else { begun() })
}

/// Of a choice, or of a turn of a debate: whether what stands under a number is not what was taken.
pub(crate) fn is_passed_over(node: &Planned, path: &StepPath, number: usize, history: &History) -> bool {
    match &node.does {
        Does::Choice(_) => taken(node, path, history).is_some_and(|taken| taken != Some(number)),
        Does::Turn(turn) => {
            number >= turn.first() && taken(node, path, history).is_some_and(|taken| taken != Some(number))
        }
        _ => false,
    }
}

/// The number of what a choice took, or under which who speaks stands; the inner none: nothing, the outer: that is not known yet.
fn taken(node: &Planned, path: &StepPath, history: &History) -> Option<Option<usize>> {
    let said = || Some(history.node(path)?.option?.map(|taken| taken as usize));
    match &node.does {
        // One after the other, by the turn's number.
        Does::Turn(turn) if turn.is_in_order() => Some(path.way().last()?.checked_rem(turn.among.len())),
        _ => said(),
    }
}

/// Whether what it gave was judged wrong, and it is not tried again.
fn is_rejected(node: &Planned, step: Option<&Step>, known: Option<&Node>) -> bool {
    let of_step = step.filter(|step| step.status == Status::Completed).and_then(|step| step.verdict.as_ref());
    let verdict = of_step.or_else(|| known.and_then(|known| known.verdict.as_ref()));
    let Some(Err(rejection)) = verdict else { return false };
    let tries = step.map_or_else(|| known.map_or(0, |known| known.failures) + 1, Step::tries);
    let is_again = tries < node.retry.attempts && node.retry.covers(rejection);
    !is_again && !known.is_some_and(Node::is_rescued)
}

/// By what is known of a node itself; none: that does not say.
fn by_itself(known: &Node) -> Option<Stands> {
    let joined = known.joined.as_ref().and_then(|joined| joined.failure.as_ref());
    match known {
        known if known.has_ended() => Some(Stands::Completed),
        known if known.failure.is_some() || joined.is_some() => Some(Stands::Failed),
        Node { child: Some(Child { ended: Some(Err(_)), .. }), .. } => Some(Stands::Failed),
        Node { is_cancelled: true, .. } => Some(Stands::Cancelled),
        known if known.waits_until.is_some() || known.is_waiting() => Some(Stands::Waiting),
        Node { is_emitted: true, .. } => Some(Stands::Completed),
        _ => None,
    }
}

/// Of a node that ends with what stands below it; none: it is not over.
fn by_pattern(node: &Planned, path: &StepPath, history: &History) -> Option<Stands> {
    let below = |number: usize, child: &Planned| of(child, &path.child(number), history);
    // Of what ends with it only where it is over, and badly.
    let ended = |number: usize, child: &Planned| {
        Some(below(number, child)).filter(|stands| matches!(stands, Stands::Failed | Stands::Cancelled))
    };
    let rounds = history.node(path).map(|known| &known.rounds);
    let (round, last) = rounds.map_or((0, None), |rounds| (rounds.len(), rounds.last().map(|last| last.next)));
    match &node.does {
        Does::Sequence(children) => {
            let mut last = Stands::Skipped;
            for (number, child) in children.iter().enumerate() {
                match below(number, child) {
                    Stands::Skipped => {}
                    Stands::Completed => last = Stands::Completed,
                    stands => return stands.is_over().then_some(stands),
                }
            }
            Some(last)
        }
        Does::Choice(_) | Does::Turn(_) => {
            let chair = || match &node.does {
                Does::Turn(turn) => turn.chair.as_ref().and_then(|chair| ended(0, chair)),
                _ => None,
            };
            let Some(taken) = taken(node, path, history) else { return chair() };
            let Some(number) = taken else { return Some(Stands::Skipped) };
            let child = node.children().into_iter().nth(number)?;
            Some(below(number, child)).filter(|stands| stands.is_over())
        }
        Does::Loop(again) => match last {
            Some(Next::Done) => Some(Stands::Completed),
            Some(Next::Exhausted | Next::Stalled) => Some(Stands::Failed),
            Some(Next::Again) | None => ended(Loop::number(round), &again.body),
        },
        Does::Debate(debate) => match (last, &debate.close) {
            (Some(Next::Again) | None, _) => ended(round, &debate.turn),
            (Some(_), None) => Some(Stands::Completed),
            (Some(_), Some(close)) => match below(Planned::CLOSING, close) {
                Stands::Skipped => Some(Stands::Completed),
                stands => stands.is_over().then_some(stands),
            },
        },
        Does::HandOff(goes) => {
            let turn = history.node(path).map_or(0, |known| known.hand_offs.len());
            Some(below(turn, &goes.turn)).filter(|stands| stands.is_over())
        }
        Does::Parallel(parallel) => collected(&parallel.collect, path, history, &below),
        Does::Map(map) => collected(&map.collect, path, history, &below),
        Does::Plan(_) => node.children().first().and_then(|planner| ended(0, planner)),
        _ => None,
    }
}

/// Of branches of which one is made by what stands below them, or one is taken; none: it is not over, or ends by itself.
fn collected(
    collect: &Collect,
    path: &StepPath,
    history: &History,
    below: &dyn Fn(usize, &Planned) -> Stands,
) -> Option<Stands> {
    match collect {
        Collect::Agent(closing) => Some(below(Planned::CLOSING, closing)).filter(|stands| stands.is_over()),
        Collect::First => {
            let joined = history.node(path)?.joined.as_ref()?;
            Some(if joined.winners.is_empty() { Stands::Skipped } else { Stands::Completed })
        }
        Collect::List | Collect::Object | Collect::Merge | Collect::Vote(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::journal::{Decided, Entry, Event};
    use ltmc_model::run::Usage;
    use ltmc_model::workflow::Document;
    use ltmc_model::{Payload, Timestamp};

    use super::*;

    fn path(path: &str) -> StepPath {
        path.parse().unwrap()
    }

    fn started(step: &str) -> Event {
        let (step, needs) = (path(step), Vec::new());
        Event::StepStarted { step, attempt: 1, agent: None, version: None, needs, transaction: true }
    }

    fn completed(step: &str) -> Event {
        let usage = Usage::default();
        Event::StepCompleted { step: path(step), attempt: 1, output: Payload::text("out"), usage }
    }

    fn decided(node: &str, decided: Decided) -> Event {
        Event::NodeDecided { node: path(node), decided }
    }

    /// How the node at `at` stands after these events.
    fn stands(flow: &str, events: &[Event], at: &str) -> &'static str {
        let root = Document::parse(&format!("name: w\nflow: {flow}"), None).unwrap().flow;
        let mut history = History::new();
        for event in events {
            let at = Timestamp::from_millis(1_000);
            history.advance(history.seq().next(), &Entry { at, event: event.clone() });
        }
        let place = crate::place::at(&root, &path(at)).unwrap();
        of(place.node().unwrap(), &path(at), &history).as_str()
    }

    #[test]
    fn a_choice_is_over_with_the_option_that_it_took() {
        let flow = "{sequence: [{choice: [{when: {pick: $.input, equals: 1}, do: {agent: a}}, {else: {agent: b}}]}, {agent: c}]}";
        let mut events = vec![decided("0/0", Decided::Option(Some(1))), started("0/0/1")];
        assert_eq!(stands(flow, &events, "0/0"), "running");
        events.push(completed("0/0/1"));
        assert_eq!(stands(flow, &events, "0/0"), "completed");
        assert_eq!((stands(flow, &events, "0"), stands(flow, &events, "0/1")), ("running", "pending"));
        events.extend([started("0/1"), completed("0/1")]);
        assert_eq!(stands(flow, &events, "0"), "completed");
        assert_eq!(stands(flow, &[decided("0/0", Decided::Option(None))], "0/0"), "skipped");
    }

    #[test]
    fn loops_and_debates_are_over_with_their_last_round() {
        let round = |round, next| decided("0", Decided::Round { round, gave: Some(path("0/0")), next });
        let flow = "{loop: {agent: a}, at-most: 2, until: {pick: $.last, equals: 1}}";
        let mut events = vec![started("0/0"), completed("0/0"), round(0, Next::Again)];
        assert_eq!(stands(flow, &events, "0"), "running");
        events.extend([started("0/1"), completed("0/1"), round(1, Next::Exhausted)]);
        assert_eq!(stands(flow, &events, "0"), "failed");
        let flow = "{debate: {among: [a, b], rounds: 1, close: {agent: c}}}";
        let turn = |turn, next| decided("0", Decided::Turn { turn, gave: Some(path("0/0/0")), next });
        let mut events = vec![started("0/0/0"), completed("0/0/0"), turn(0, Next::Again), started("0/1/1")];
        assert_eq!((stands(flow, &events, "0"), stands(flow, &events, "0/0")), ("running", "completed"));
        events.extend([completed("0/1/1"), turn(1, Next::Done), started("0/10001")]);
        assert_eq!(stands(flow, &events, "0"), "running");
        events.push(completed("0/10001"));
        assert_eq!(stands(flow, &events, "0"), "completed");
    }

    #[test]
    fn what_goes_no_further_neither_runs_nor_is_to_come() {
        use Stands::{Cancelled, Completed, Paused, Pending, Running, Skipped, Waiting};
        for (stands, later, no_more) in [
            (Pending, Pending, Skipped),
            (Running, Paused, Cancelled),
            (Waiting, Waiting, Cancelled),
            (Completed, Completed, Completed),
        ] {
            assert_eq!((stands.within(Goes::Later), stands.within(Goes::NoMore)), (later, no_more));
        }
    }
}
