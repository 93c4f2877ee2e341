//! How often what deals with failures is tried, level by level, and how often it helps.
//!
//! To add a level: its name in [`of`], where an entry of the journal says that it is tried, or that it helped.

use ltmc_journal::History;
use ltmc_model::StepPath;
use ltmc_model::journal::{Decided, Event};
use ltmc_model::workflow::Node;

use crate::metered;
use crate::plan::Plan;

/// It is tried.
pub(crate) const TRIED: &str = "tried";
/// It helped.
pub(crate) const RECOVERED: &str = "recovered";

/// Counts what an entry says that is added to this history.
pub(crate) fn count(event: &Event, history: &History, plan: &Plan) {
    if let Some(labels) = of(event, history, |node| plan.node(node).is_ok_and(|(node, _)| !node.fallback.is_empty())) {
        metered::RECOVERED.of(labels).increment(1);
    }
}

/// Which level an entry is about, and what it says of it.
fn of(event: &Event, history: &History, has_fallback: impl Fn(&StepPath) -> bool) -> Option<[&'static str; 2]> {
    let failures = |node: &StepPath| history.node(node).map_or(0, |node| node.failures);
    Some(match event {
        Event::StepFailed { retry_at: Some(_), .. } | Event::NodeFailed { retry_at: Some(_), .. } => ["retry", TRIED],
        Event::StepCompleted { step, .. } if history.step(step).is_some_and(|step| step.tries() > 1) => {
            ["retry", RECOVERED]
        }
        Event::NodeFailed { node, retry_at: None, .. } | Event::NodeTimedOut { node, .. } if has_fallback(node) => {
            ["fallback", TRIED]
        }
        Event::NodeDecided { decided: Decided::Handler(Some(_)), .. } => ["on-error", TRIED],
        Event::NodeGave { node, of } if history.node(node).is_some_and(|node| node.failure.is_some()) => {
            match of.way().nth(node.way().count()) {
                Some(number) if number >= Node::HANDLER && Node::is_beside(number) => ["on-error", RECOVERED],
                _ => ["fallback", RECOVERED],
            }
        }
        Event::NodeGave { node, .. } | Event::NodeEnded { node, .. } if failures(node) > 0 => ["retry", RECOVERED],
        Event::CompensationStarted { .. } => ["compensation", TRIED],
        Event::Compensated { .. } => ["compensation", RECOVERED],
        Event::RunCompleted { .. } if history.was_resumed() => ["people", RECOVERED],
        _ => return None,
    })
}

/// Counts that somebody took a run up again.
pub(crate) fn by_people() {
    metered::RECOVERED.of(["people", TRIED]).increment(1);
}

/// Counts that a start took a run up that was under way when a host ended, or tried to.
pub(crate) fn by_host(outcome: &'static str) {
    metered::RECOVERED.of(["host", outcome]).increment(1);
}

#[cfg(test)]
mod tests {
    use ltmc_model::failure::{Code, Failure};
    use ltmc_model::journal::Entry;
    use ltmc_model::run::Usage;
    use ltmc_model::{Payload, Timestamp};

    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_000);

    /// What is counted of these entries, one after the other.
    fn counted(events: impl IntoIterator<Item = Event>) -> Vec<[&'static str; 2]> {
        let (mut history, mut found) = (History::new(), Vec::new());
        for event in events {
            found.extend(of(&event, &history, |_| true));
            history.advance(history.seq().next(), &Entry { at: AT, event });
        }
        found
    }

    #[test]
    fn each_level_counts_what_was_tried_and_what_helped() {
        let (root, step, usage) = (StepPath::root(), StepPath::root().child(0), Usage::default());
        let failure = || Failure::new(Code::AgentError, "no");
        let begins = |attempt| Event::StepStarted {
            step: step.clone(),
            attempt,
            agent: None,
            version: None,
            needs: Vec::new(),
            transaction: true,
        };
        let fails =
            |attempt, retry_at| Event::StepFailed { step: step.clone(), attempt, failure: failure(), retry_at, usage };
        let completes =
            |attempt| Event::StepCompleted { step: step.clone(), attempt, output: Payload::text(""), usage };
        assert_eq!(counted([begins(1), completes(1)]), [[""; 2]; 0]);
        let retried = [begins(1), fails(1, Some(AT)), begins(2), completes(2)];
        assert_eq!(counted(retried), [["retry", TRIED], ["retry", RECOVERED]]);
        let gave = |number| Event::NodeGave { node: root.clone(), of: root.child(number) };
        let failed = || Event::NodeFailed { node: root.clone(), failure: failure(), retry_at: None };
        assert_eq!(counted([failed(), gave(11_000)]), [["fallback", TRIED], ["fallback", RECOVERED]]);
        let handler = Event::NodeDecided { node: root.clone(), decided: Decided::Handler(Some(0)) };
        let handled = counted([failed(), handler, gave(12_000)]);
        assert_eq!(handled, [["fallback", TRIED], ["on-error", TRIED], ["on-error", RECOVERED]]);
        let (node, within) = (root.clone(), root.clone());
        let in_vain = Event::CompensationStarted { node, within, failure: failure() };
        let undone = counted([in_vain, Event::Compensated { node: root.clone() }]);
        assert_eq!(undone, [["compensation", TRIED], ["compensation", RECOVERED]]);
        let resumed =
            [Event::RunResumed { by: "abcdefghijkl".parse().unwrap() }, Event::RunCompleted { step: root.clone() }];
        assert_eq!(counted(resumed), [["people", RECOVERED]]);
    }
}
