//! Entries of every kind to test with, as plain values.
//!
//! Invariant: none is left out. To add an event, or something that is decided: its name among the kinds below, which the compiler asks
//! for, and a sample, which the test at the end asks for.

use std::collections::BTreeSet;

use ltmc_model::agent::AgentRef;
use ltmc_model::caller::Role;
use ltmc_model::delta::MemoryValue;
use ltmc_model::effect::{Level, LogLine, Reply};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::fork::{Answer, Branch, Conflict, ConflictSide, Did, Done, Excerpt, Merged, Raised, Side};
use ltmc_model::hand_off::{Handed, HandedOff, Holds};
use ltmc_model::journal::{
    Act, Amended, Amendment, Candidate, Change, Count, Decided, Effect, Event, Input, Lost, Next, Replayed, RunStarted,
    Semantics,
};
use ltmc_model::memory::Item;
use ltmc_model::message::{self, Channel, Message, Trail};
use ltmc_model::question::{Question, Token};
use ltmc_model::run::{Target, Usage};
use ltmc_model::{Digest, Epoch, KeyId, Payload, Position, Revision, RunId, StepPath, Timestamp};

/// Names all variants of an enum: one that is missing does not compile.
macro_rules! kinds {
    ($kind:ident, $all:ident, $of:ident: $($variant:ident),* $(,)?) => {
        const $all: &[&str] = &[$(stringify!($variant)),*];

        fn $kind(of: &$of) -> &'static str {
            match of {
                $($of::$variant { .. } => stringify!($variant),)*
            }
        }
    };
}

kinds!(
    kind, KINDS, Event: RunStarted, RunClaimed, StepStarted, Effect, Checkpoint, Log, StepCompleted, StepFailed, StepJudged, NodeEnded,
    NodeStarted, NodeDecided, NodeGave, NodeFailed, ChildStarted, ChildEnded, NodeTimedOut, StepCancelled, Asked, Answered, Reminded,
    Emitted, Subscribed, EventTaken, WaitCancelled, RunSuspended, BasePinned, BranchChanged, ContextMerged, ConflictRaised, ContextConflicted, HandedOff,
    MergeAnswered, CompensationRegistered, CompensationStarted, Compensated, RunFailing, RunCancelling, RunPaused, RunContinued,
    RunStuck, RunCompleted, RunFailed, RunCancelled, RunQuarantined, Amended, AgentReplaced, RunResumed, Sealed, Act,
);

kinds!(
    decided_kind, DECIDED, Decided: When, Option, Handler, Agent, Planned, Items, Round, Turn, Joined, Voted, Until, Holds,
);

const PATHS: [&str; 8] = ["0", "0/0", "0/1", "0/0/0", "0/0/1", "0/1/0", "0/1/2", "0/0/13000"];

pub(super) fn at(number: usize) -> Timestamp {
    Timestamp::from_millis(1_000 + number as u64)
}

pub(super) fn started() -> Event {
    Event::RunStarted(Box::new(RunStarted {
        target: Target::Workflow("w".parse().unwrap()),
        agents: [("a".parse().unwrap(), Digest([1; 32]))].into(),
        document: Some("{}".into()),
        document_digest: Some(Digest([2; 32])),
        input: Payload::text("in"),
        session: "s".parse().unwrap(),
        by: by(),
        seed: [7; 32],
        traceparent: None,
        position: Some(Position(3)),
        forked: None,
        parent: None,
        scheduled: None,
        follows: None,
        turn: None,
        semantics: Semantics::CURRENT,
    }))
}

fn by() -> KeyId {
    "abcdefghijkl".parse().unwrap()
}

/// Some event of every kind that follows the first, by two numbers: which of the paths it is about, and how it is made.
pub(super) fn events(place: usize, number: u32) -> Vec<Event> {
    let path = |index: usize| -> StepPath { PATHS[index % PATHS.len()].parse().unwrap() };
    let (step, other) = (path(place), path(number as usize));
    let made = Made { step: step.clone(), other, number };
    [made.of_steps(), made.of_nodes(), made.heard_outside(), made.of_forks(), made.undone(), made.of_the_run()].concat()
}

/// One of them.
pub(super) fn event(kind: usize, number: u32) -> Event {
    let all = events(kind + number as usize / 3, number);
    all[kind % all.len()].clone()
}

/// What samples are made of.
struct Made {
    step: StepPath,
    other: StepPath,
    number: u32,
}

impl Made {
    fn is_even(&self) -> bool {
        self.number.is_multiple_of(2)
    }

    fn failure(&self) -> Failure {
        Failure::new(Code::AgentError, format!("no {}", self.number)).in_step(&self.step)
    }

    fn output(&self) -> Payload {
        Payload::text(format!("out {}", self.number))
    }

    fn soon(&self) -> Timestamp {
        at(self.number as usize)
    }

    fn of_steps(&self) -> Vec<Event> {
        let (step, number, usage) = (self.step.clone(), self.number, Usage::default());
        let attempt = 1 + number % 3;
        let begun = |transaction| {
            let (step, needs) = (step.clone(), Vec::new());
            Event::StepStarted { step, attempt, agent: None, version: None, needs, transaction }
        };
        let effect = Effect {
            step: step.clone(),
            attempt,
            number,
            call: "memory.get".into(),
            about: "k".into(),
            form: 1,
            request: Digest([3; 32]),
            capability: None,
            withheld: false,
            clock: Vec::new(),
            reply: Ok(Reply::Begun(RunId::new(self.soon(), [4; 10]))),
        };
        let line = LogLine { level: Level::Info, message: "line".into(), fields: Vec::new() };
        let completed = Event::StepCompleted { step: step.clone(), attempt, output: self.output(), usage };
        let failed =
            |retry_at| Event::StepFailed { step: step.clone(), attempt, failure: self.failure(), retry_at, usage };
        vec![
            begun(true),
            begun(true),
            begun(false),
            completed.clone(),
            completed,
            failed(Some(self.soon())),
            failed(None),
            Event::Effect(effect),
            Event::Checkpoint { step: step.clone(), attempt, effects: number },
            Event::Log { step: step.clone(), attempt, number, line },
            Event::StepJudged { rejection: self.is_even().then(|| self.failure()), step: step.clone() },
            Event::StepCancelled { step, attempt },
        ]
    }

    fn of_nodes(&self) -> Vec<Event> {
        let (node, run) = (self.step.clone(), RunId::new(self.soon(), [5; 10]));
        let result = if self.is_even() { Ok(self.output()) } else { Err(self.failure()) };
        let decided = self.decided().into_iter().map(|decided| Event::NodeDecided { node: node.clone(), decided });
        let name = |name: &str| name.parse().unwrap();
        let handed = HandedOff {
            node: node.clone(),
            from: name("a"),
            to: name("b"),
            number: self.number % 2,
            reason: "so".into(),
            passed: self.is_even().then(|| self.output()),
            givers: vec![name("a")],
            back: self.is_even(),
        };
        let others = [
            Event::NodeStarted { node: node.clone(), until: self.soon() },
            Event::NodeEnded { node: node.clone(), output: self.output() },
            Event::NodeGave { of: node.child(self.number as usize % 3), node: node.clone() },
            Event::NodeFailed {
                failure: self.failure(),
                node: node.clone(),
                retry_at: self.is_even().then(|| self.soon()),
            },
            Event::NodeTimedOut { node: node.clone(), after: self.number.into() },
            Event::ChildStarted { node: node.clone(), run, needs: Vec::new(), planned: !self.is_even() },
            Event::ChildEnded { node: node.clone(), run, result },
            Event::HandedOff(Box::new(handed)),
        ];
        decided.chain(others).collect()
    }

    fn decided(&self) -> Vec<Decided> {
        let (number, gave) = (self.number, (!self.number.is_multiple_of(3)).then(|| self.other.clone()));
        let next = [Next::Again, Next::Done, Next::Exhausted, Next::Stalled][number as usize % 4];
        let digest = Some(Digest([6; 32]));
        let candidate = Candidate {
            agent: "a".parse().unwrap(),
            score: 0.5,
            likeness: 0.25,
            similar_tasks: self.is_even().then_some(0.75),
            success: 1.0,
            load: number % 3,
            refused: (!self.is_even()).then(|| "it is not to be called".into()),
        };
        let lost = Lost { branch: number, failure: self.failure() };
        let name = |name: &str| name.parse().unwrap();
        let handed = Handed { from: name("g"), reason: "so".into(), passed: Some(self.output()) };
        let count = Count { value: serde_json::json!({"n": number}), votes: 1 + number };
        vec![
            Decided::When(self.is_even()),
            Decided::Option(self.is_even().then_some(number)),
            Decided::Handler(self.is_even().then_some(number)),
            Decided::Agent { agent: AgentRef { name: "a".parse().unwrap(), digest }, candidates: vec![candidate] },
            Decided::Planned("{}".into()),
            Decided::Items(vec![self.output(), self.output()]),
            Decided::Round { round: number, gave: gave.clone(), next },
            Decided::Turn { turn: number, gave, next },
            Decided::Joined { winners: vec![0, number], failure: Some(self.failure()), lost: vec![lost] },
            Decided::Voted { counts: vec![count], of: number, is_won: self.is_even() },
            Decided::Until(self.soon()),
            Decided::Holds(Holds {
                number,
                givers: vec![name("g")],
                since: number,
                handed: self.is_even().then(|| handed.into()),
            }),
        ]
    }

    /// What is asked, published and waited for.
    fn heard_outside(&self) -> Vec<Event> {
        let (node, topic) = (self.step.clone(), || "t".parse().unwrap());
        let token: Token = format!("{:032x}", self.number).parse().unwrap();
        let question = Question { title: "Well?".into(), of: Role::Author, show: None, schema: None, until: None };
        let answer = Payload::json(&serde_json::json!(self.is_even()));
        let (subject, after, id) = (Some("s".into()), Position(self.number.into()), Revision(self.number.into()));
        let (correlation, causation) = ("/s 1".to_owned(), "/s 2".to_owned());
        let trail = Box::new(Trail { correlation, causation, hops: self.number, run: None });
        vec![
            Event::Asked { node: node.clone(), token: token.clone(), question: Box::new(question) },
            Event::Reminded { node: node.clone(), number: self.number, topic: topic(), id },
            Event::Answered { node: node.clone(), token, by: by(), answer, comment: Some("so".into()) },
            Event::Emitted { node: node.clone(), topic: topic(), id },
            Event::Subscribed { node: node.clone(), topic: topic(), subject, kind: None, after },
            Event::EventTaken { node: node.clone(), position: after, event: self.output(), trail: Some(trail) },
            Event::WaitCancelled { node },
            Event::RunSuspended { until: self.soon(), heard: Some(after) },
        ]
    }

    fn of_forks(&self) -> Vec<Event> {
        let (node, key, revision) = (self.step.clone(), format!("k{}", self.number % 3), Revision(self.number.into()));
        let of = Branch { fork: node.clone(), number: self.number % 3 };
        let value = MemoryValue { bytes: "1".into(), expires_at: None };
        let did = if self.is_even() { Did::Put } else { Did::Increment(1) };
        let changed = vec![(key.clone(), Side { did, revision, value: Some(value.clone()) })];
        let event = message::Event {
            id: "e".into(),
            source: "/agents/a".into(),
            kind: "k".into(),
            subject: None,
            time: self.soon(),
            data: self.output(),
            attributes: Default::default(),
            trail: None,
        };
        let sent = vec![Message { id: revision, channel: Channel::Topic("t".parse().unwrap()), event }];
        let base = Item { key: key.clone(), value: value.bytes, revision, expires_at: None };
        let side = ConflictSide { branch: 0, name: "one".into(), did: "put".into(), value: Some(Excerpt::of(b"1")) };
        let (current, resolved) = (Some(Excerpt::of(b"2")), self.is_even().then(|| "first".into()));
        let conflict =
            Conflict { key: key.clone(), why: "so".into(), base: None, current, sides: vec![side], resolved };
        let raised = Raised {
            node: node.clone(),
            by: 0,
            number: self.number % 3,
            branches: vec![0, self.number % 3],
            current: self.is_even().then(|| base.clone()),
            conflict: conflict.clone(),
        };
        let merged = Merged {
            node: node.clone(),
            branches: vec![0, self.number],
            keys: 1,
            messages: 1,
            into: self.is_even().then(|| Branch { fork: self.other.clone(), number: 1 }),
            changed: changed.clone(),
            holds: self.is_even().then(|| Branch { fork: self.other.clone(), number: 1 }),
            conflicts: vec![conflict.clone()],
        };
        let answer = if self.is_even() { Answer::Branch(1) } else { Answer::Value("1".into()) };
        vec![
            Event::BasePinned { fork: node.clone(), key: key.clone(), base: self.is_even().then_some(base) },
            Event::BranchChanged(Box::new(Done { step: node.child(0), of, changed, sent })),
            Event::ContextMerged(Box::new(merged)),
            Event::ConflictRaised(Box::new(raised)),
            Event::ContextConflicted { node: node.clone(), conflicts: vec![conflict], count: 2 },
            Event::MergeAnswered { by: by(), node, key, answer },
        ]
    }

    fn undone(&self) -> Vec<Event> {
        let (node, within) = (self.step.clone(), self.other.clone());
        let given = Input::With { node: within.clone(), input: Box::new(Input::Run) };
        vec![
            Event::CompensationRegistered { node: node.clone(), given },
            Event::CompensationStarted { within, failure: self.failure(), node: node.clone() },
            Event::Compensated { node },
            Event::RunFailing { failure: self.failure() },
            Event::RunCancelling { by: Some(by()), reason: "so".into() },
            Event::RunStuck { failure: self.failure() },
        ]
    }

    /// What becomes of the run, and what people do about it.
    fn of_the_run(&self) -> Vec<Event> {
        let (step, failure) = (self.step.clone(), self.failure());
        let output = || self.output();
        let change =
            [Amendment::Again, Amendment::Output(output()), Amendment::Input(output()), Amendment::Gave(output())];
        let change = change[self.number as usize % 4].clone();
        let amended = Amended { by: by(), step: step.clone(), change, was: None, after: vec![step.clone()] };
        let name = || "a".parse().unwrap();
        vec![
            Event::RunClaimed { epoch: Epoch(self.number.into()) },
            Event::RunPaused { by: self.is_even().then(by), failure: Some(failure.clone()) },
            Event::RunContinued { by: by() },
            Event::RunCompleted { step },
            Event::RunFailed { failure },
            Event::RunCancelled { by: None, reason: "so".into() },
            Event::RunQuarantined { taken_up: self.number },
            Event::Amended(Box::new(amended)),
            Event::AgentReplaced {
                by: by(),
                agent: name(),
                from: Digest([1; 32]),
                to: Digest([8; 32]),
                replayed: vec![Replayed { step: self.step.clone(), calls: self.number }],
            },
            Event::RunResumed { by: by() },
            Event::RunResumed { by: by() },
            Event::Sealed { form: super::FORM, digest: Digest([9; 32]), bytes: self.number.into() },
            Event::Act(Box::new(Act { by: None, change: Change::AgentDeleted { name: name() } })),
        ]
    }
}

#[test]
fn none_is_left_out() {
    let mut made = vec![started()];
    made.extend(events(1, 1));
    let found: BTreeSet<&str> = made.iter().map(kind).collect();
    assert_eq!(found, KINDS.iter().copied().collect());
    let decided = made.iter().filter_map(|event| match event {
        Event::NodeDecided { decided, .. } => Some(decided_kind(decided)),
        _ => None,
    });
    assert_eq!(decided.collect::<BTreeSet<&str>>(), DECIDED.iter().copied().collect());
}
