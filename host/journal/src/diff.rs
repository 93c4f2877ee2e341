//! Two runs beside each other, step by step: what each of them came to that the other did not.
//!
//! Invariants: by the journals alone. In the order of the tree, so that the first difference comes first. What is large is told by its
//! size and digest. Of many differences one page is made, however many there are.

use std::collections::BTreeMap;

use ltmc_model::failure::Failure;
use ltmc_model::journal::Forked;
use ltmc_model::run::{Run, State};
use ltmc_model::{AgentName, Digest, RunId, StepPath};
use serde::Serialize;

use crate::fold::{Status, Step};
use crate::node::Node;
use crate::place;
use crate::view::Outline;
use crate::why::Called;

/// An output of at most so many bytes is shown.
const SHOWN: usize = 1_024;

/// What differs between two runs.
#[derive(Debug, Clone, Serialize)]
pub struct Diff {
    /// The one.
    pub a: Side,
    /// The other.
    pub b: Side,
    /// Whether both do the same document.
    pub same_document: bool,
    /// Whether both work on the same input.
    pub same_input: bool,
    /// Agents of which they use different versions.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub agents: BTreeMap<AgentName, [Option<Digest>; 2]>,
    /// How many steps and other nodes came to the same in both.
    pub same: usize,
    /// How many did not.
    pub different: usize,
    /// These, or a page of them, in the order of the tree.
    pub items: Vec<Difference>,
}

/// One of both runs.
#[derive(Debug, Clone, Serialize)]
pub struct Side {
    /// The run's id.
    pub id: RunId,
    /// Where it stands.
    pub state: State,
    /// The run that it was forked from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forked: Option<Forked>,
    /// How it ended badly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// A step, or another node, that did not come to the same.
#[derive(Debug, Clone, Serialize)]
pub struct Difference {
    /// The step, or the other node.
    #[serde(flatten)]
    pub called: Called,
    /// What differs: `only-in-a`, `only-in-b`, `status`, `output`, `attempts`, `failure`, `agent`, `when`, `option`, `handler`, `items`, `rounds`,
    /// `winners`.
    pub differs: Vec<&'static str>,
    /// What it came to in the one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub a: Option<Stands>,
    /// What it came to in the other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub b: Option<Stands>,
}

/// What a step, or another node, came to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Stands {
    /// `completed`, `failed`, ...; none: it is no step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<&'static str>,
    /// How often it was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<usize>,
    /// What it gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Gave>,
    /// How it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The agent that was found for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// Whether its `when` holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<bool>,
    /// Of a choice: the option that was taken; none: none of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub option: Option<Option<u32>>,
    /// The handler of errors that was taken; none: none of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<Option<u32>>,
    /// Of a map: how many items, and the digest of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<(usize, Digest)>,
    /// Of a loop: how many rounds are over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rounds: Option<usize>,
    /// The branches that count, in the order in which they were done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub winners: Option<Vec<u32>>,
}

/// What a step gave: itself where it is small, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gave {
    /// Its content type.
    pub content_type: String,
    /// How many bytes it has.
    pub bytes: usize,
    /// Of them.
    pub digest: String,
    /// The text, where it is small and one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Diff {
    /// Of two runs, from their rows and outlines: so many differences after the first `skip`.
    pub fn new(a: (&Run, &Outline), b: (&Run, &Outline), skip: usize, limit: usize) -> Self {
        let outlines = [a.1, b.1];
        let roots = outlines.map(|outline| outline.history.started().and_then(|started| place::root(started)));
        let started = outlines.map(|outline| outline.history.started());
        let [one, other] = started.map(|started| started.map(|started| (started.document_digest, &started.target)));
        let mut diff = Self {
            a: Side::of(a),
            b: Side::of(b),
            same_document: one == other,
            same_input: a.1.input_digest() == b.1.input_digest(),
            agents: agents(outlines),
            same: 0,
            different: 0,
            items: Vec::new(),
        };
        for path in paths(outlines) {
            let [a, b] = outlines.map(|outline| Stands::of(outline, &path));
            let differs = differs(a.as_ref(), b.as_ref());
            if differs.is_empty() {
                diff.same += 1;
                continue;
            }
            diff.different += 1;
            if diff.different > skip && diff.items.len() < limit {
                let root = roots.iter().flatten().find(|root| place::at(root, &path).is_some());
                let called = Called::at(root, &path);
                diff.items.push(Difference { called, differs, a, b });
            }
        }
        diff
    }
}

impl Side {
    fn of((run, outline): (&Run, &Outline)) -> Self {
        let history = &outline.history;
        let forked = history.started().and_then(|started| started.forked);
        Self { id: run.id, state: run.state, forked, error: history.result().and_then(Result::err) }
    }
}

/// Every place of which anything is known in either, in the order of the tree.
fn paths(outlines: [&Outline; 2]) -> Vec<StepPath> {
    let known = outlines.into_iter().flat_map(|outline| {
        let history = &outline.history;
        history.steps().map(|(path, _)| path).chain(history.nodes().map(|(path, _)| path))
    });
    let mut paths: Vec<(Vec<usize>, &StepPath)> = known.map(|path| (path.way().collect(), path)).collect();
    paths.sort_unstable();
    paths.dedup();
    paths.into_iter().map(|(_, path)| path.clone()).collect()
}

fn agents(outlines: [&Outline; 2]) -> BTreeMap<AgentName, [Option<Digest>; 2]> {
    let mut versions: BTreeMap<AgentName, [Option<Digest>; 2]> = BTreeMap::new();
    for (side, outline) in outlines.into_iter().enumerate() {
        for (name, digest) in outline.history.started().iter().flat_map(|started| &started.agents) {
            versions.entry(name.clone()).or_default()[side] = Some(*digest);
        }
    }
    versions.retain(|_, [a, b]| a != b);
    versions
}

/// What differs; nothing: they came to the same.
fn differs(a: Option<&Stands>, b: Option<&Stands>) -> Vec<&'static str> {
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (Some(_), None) => return vec!["only-in-a"],
        (None, Some(_)) => return vec!["only-in-b"],
        (None, None) => return Vec::new(),
    };
    let all = [
        ("status", a.status != b.status),
        ("output", a.output != b.output),
        ("attempts", a.attempts != b.attempts),
        ("failure", a.failure != b.failure),
        ("agent", a.agent != b.agent),
        ("when", a.when != b.when),
        ("option", a.option != b.option),
        ("handler", a.handler != b.handler),
        ("items", a.items != b.items),
        ("rounds", a.rounds != b.rounds),
        ("winners", a.winners != b.winners),
    ];
    all.into_iter().filter_map(|(what, differs)| differs.then_some(what)).collect()
}

impl Stands {
    /// None: nothing is known of it, or nothing that matters.
    fn of(outline: &Outline, path: &StepPath) -> Option<Self> {
        let history = &outline.history;
        let mut stands = Self::default();
        if let Some(step) = history.step(path) {
            stands.of_step(step);
        }
        if let Some(node) = history.node(path) {
            stands.of_node(node);
        }
        let gave = history.step(path).and_then(|step| step.output.as_ref());
        let gave = gave.or_else(|| history.node(path).and_then(|node| node.output.as_ref()));
        stands.output = gave.map(|output| outline.gave(path, output));
        (stands != Self::default()).then_some(stands)
    }

    fn of_step(&mut self, step: &Step) {
        self.status = Some(match step.status {
            Status::Pending => "pending",
            Status::Running => "running",
            Status::Waiting(_) => "waiting",
            Status::Completed => "completed",
            Status::Failed => "failed",
            Status::Cancelled => "cancelled",
        });
        self.attempts = Some(step.attempts.len());
        let rejection = step.verdict.as_ref().and_then(|verdict| verdict.as_ref().err());
        let last = step.last().and_then(|last| last.failure.as_ref()).filter(|_| step.status != Status::Completed);
        self.failure = rejection.or(last).map(told);
    }

    fn of_node(&mut self, node: &Node) {
        (self.when, self.option, self.handler) = (node.when, node.option, node.handler);
        self.agent = node.agent.as_ref().map(ToString::to_string);
        self.items = node.items.as_ref().map(|items| {
            // An outline has the digest of each for it.
            let bytes: Vec<u8> = items.iter().flat_map(|item| item.bytes.iter().copied()).collect();
            (items.len(), Digest::of(&bytes))
        });
        self.rounds = (!node.rounds.is_empty()).then_some(node.rounds.len());
        self.winners = node.joined.as_ref().map(|joined| joined.winners.to_vec());
        if let Some(failure) = node.failure.as_ref().or(node.joined.as_ref().and_then(|joined| joined.failure.as_ref()))
        {
            self.failure = Some(told(failure));
        }
    }
}

fn told(failure: &Failure) -> String {
    let message: String = failure.message.chars().take(300).collect();
    format!("{}: {message}", failure.code.as_str())
}

impl Gave {
    /// Of an output that is in memory.
    pub(crate) fn small(content_type: &str, bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= SHOWN).map(str::to_owned);
        let digest = Digest::of(bytes).to_string();
        Self { content_type: content_type.to_owned(), bytes: bytes.len(), digest, text }
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::journal::{Decided, Entry, Event, Placed, RunStarted, Semantics};
    use ltmc_model::run::{TakenUp, Target, Usage};
    use ltmc_model::{Epoch, Payload, Seq, Timestamp};

    use super::*;

    const AT: Timestamp = Timestamp::from_millis(1_000);
    const FLOW: &str = "{sequence: [{agent: a}, {choice: [{when: {pick: $.input, equals: 1}, do: {agent: b}}, {else: {agent: c}}]}, {map: $.input, do: {agent: d}}]}";

    fn outline(events: Vec<Event>) -> Outline {
        let document = ltmc_model::workflow::Document::parse(&format!("name: w\nflow: {FLOW}"), None).unwrap();
        let started = RunStarted {
            target: Target::Workflow("w".parse().unwrap()),
            agents: BTreeMap::default(),
            document: Some(document.to_json().into()),
            document_digest: Some(Digest::of(b"")),
            input: Payload::text("in"),
            session: "s".parse().unwrap(),
            by: "abcdefghijkl".parse().unwrap(),
            seed: [0; 32],
            traceparent: None,
            position: None,
            scheduled: None,
            follows: None,
            turn: None,
            semantics: Semantics::CURRENT,
            forked: None,
            parent: None,
        };
        let mut outline = Outline::default();
        let events = [Event::RunStarted(Box::new(started))].into_iter().chain(events);
        for (seq, event) in (1..).map(Seq).zip(events) {
            outline.apply(RunId::ledger(), Placed { seq, entry: Entry { at: AT, event } });
        }
        outline
    }

    fn run() -> Run {
        Run {
            tenant: "acme".parse().unwrap(),
            id: RunId::ledger(),
            target: Target::Workflow("w".parse().unwrap()),
            state: State::Running,
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
        }
    }

    fn done(step: &str, output: &str) -> [Event; 2] {
        let step: StepPath = step.parse().unwrap();
        let started = Event::StepStarted {
            step: step.clone(),
            attempt: 1,
            agent: None,
            version: None,
            needs: Vec::new(),
            transaction: true,
        };
        let output = Payload::text(output.to_owned());
        [started, Event::StepCompleted { step, attempt: 1, output, usage: Usage::default() }]
    }

    fn took(option: u32) -> Event {
        Event::NodeDecided { node: "0/1".parse().unwrap(), decided: Decided::Option(Some(option)) }
    }

    #[test]
    fn the_first_difference_comes_first_and_what_is_the_same_is_counted() {
        let large = "x".repeat(100_000);
        let one = outline([&done("0/0", "same")[..], &[took(0)], &done("0/1/0", "b"), &done("0/2/2", &large)].concat());
        let other = outline(
            [&done("0/0", "same")[..], &[took(1)], &done("0/1/1", "c"), &done("0/2/2", "d"), &done("0/2/10", "e")]
                .concat(),
        );
        let run = run();
        let diff = |skip, limit| Diff::new((&run, &one), (&run, &other), skip, limit);
        let all = diff(0, 100);
        let shown: Vec<_> = all.items.iter().map(|item| (item.called.step.as_str(), item.differs.join(" "))).collect();
        let wanted = [
            ("0/1", "option"),
            ("0/1/0", "only-in-a"),
            ("0/1/1", "only-in-b"),
            ("0/2/2", "output"),
            ("0/2/10", "only-in-b"),
        ];
        assert_eq!(shown, wanted.map(|(step, what)| (step, what.to_owned())));
        assert_eq!((all.same, all.different, all.same_document, all.same_input), (1, 5, true, true));
        let output = all.items[3].a.as_ref().unwrap().output.as_ref().unwrap();
        assert_eq!(
            (output.bytes, output.text.as_deref(), output.digest.as_str()),
            (100_000, None, Digest::of(large.as_bytes()).to_string().as_str())
        );
        assert_eq!(all.items[3].b.as_ref().unwrap().output.as_ref().unwrap().text.as_deref(), Some("d"));
        let page = diff(2, 2);
        assert_eq!(page.items.iter().map(|item| item.called.step.as_str()).collect::<Vec<_>>(), ["0/1/1", "0/2/2"]);
        assert_eq!(page.different, 5);
        assert_eq!(Diff::new((&run, &one), (&run, &one), 0, 9).different, 0, "a run is as itself");
    }
}
