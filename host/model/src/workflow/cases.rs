//! Cases: what is tried with a workflow while its agents' parts are played from a file, and what is to come of it.
//!
//! Invariants: as for a document, everything that is wrong is told at once with its place; every name in a case is one of the
//! document's, and who is to judge has violations to give.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use ltmc_rules::at;
use serde_json::Value;

use super::{Condition, Document, Faults, Place, StepName, read, tree};
use crate::failure::{Code, Failure};
use crate::message::Topic;
use crate::{AgentName, Payload, WorkflowName};

/// What is tried with one workflow.
#[derive(Debug, Clone)]
pub struct Cases(pub Vec<Case>);

/// One thing that is tried.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it is called.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// What the run works on.
    pub input: Payload,
    /// What each agent answers.
    pub agents: BTreeMap<AgentName, Vec<Answer>>,
    /// Who is found for what is needed, by the node's name.
    pub needs: BTreeMap<StepName, AgentName>,
    /// What workflows give that are started.
    pub workflows: BTreeMap<WorkflowName, Vec<Answer>>,
    /// What people answer to a node's questions; one that is not here is never answered.
    pub questions: BTreeMap<StepName, Vec<Answer>>,
    /// What others publish meanwhile; what comes first stands first.
    pub events: Vec<Coming>,
    /// What is to come of it.
    pub expect: Expect,
}

/// What an agent answers.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Only where this holds for what it is given.
    pub when: Option<Condition>,
    /// How long that takes it.
    pub takes: Duration,
    /// What it puts into the session's memory before that, key by key; null: the key is deleted.
    pub puts: Vec<(String, Value)>,
    /// The answer.
    pub gives: Gives,
}

/// An answer's content.
#[derive(Debug, Clone)]
pub enum Gives {
    /// A result.
    Output(Payload),
    /// What a validator finds: where, and what.
    Violations(Vec<(String, String)>),
    /// A failure.
    Fail(Failure),
    /// It hands the conversation that it holds to another agent.
    HandsOff {
        /// The agent that holds it next.
        to: AgentName,
        /// What the next one is told as the reason.
        reason: String,
        /// What passes besides the conversation.
        passed: Option<Payload>,
    },
}

/// An event that somebody else publishes while the run goes on.
#[derive(Debug, Clone)]
pub struct Coming {
    /// The topic that it is published on.
    pub topic: Topic,
    /// The event's type: what happened.
    pub kind: String,
    /// What it is about, if anything.
    pub subject: Option<String>,
    /// Where it happened; none: as if a key had published it.
    pub source: Option<String>,
    /// Its content.
    pub data: Payload,
    /// When: so long after the run began.
    pub after: Duration,
}

/// What is looked at of an event that the run published; what is not said is not.
#[derive(Debug, Clone)]
pub struct Emitted {
    /// The event's type: what happened.
    pub kind: Option<String>,
    /// What it is about; null: nothing.
    pub subject: Option<Value>,
    /// Its content.
    pub data: Option<Value>,
}

/// What is to come of a case. What is not said is not looked at, but for the run's end: it is completed unless it is said to fail.
#[derive(Debug, Clone, Default)]
pub struct Expect {
    /// How the run ends.
    pub end: End,
    /// Nodes that are done, in whichever order.
    pub ran: Vec<StepName>,
    /// Nodes that are not done at all.
    pub skipped: Vec<StepName>,
    /// How many attempts a step makes, over all items and rounds.
    pub attempts: Vec<(StepName, u32)>,
    /// What a step is given. One in a `map` or a `loop`: a list, in order.
    pub inputs: Vec<(StepName, Value)>,
    /// What a node gives. One in a `map` or a `loop`: a list, in order.
    pub outputs: Vec<(StepName, Value)>,
    /// What is decided about a node, in the words of a run's `nodes`.
    pub decided: Vec<(StepName, Vec<(String, Value)>)>,
    /// What keys of the session's memory hold in the end; null: nothing.
    pub memory: Vec<(String, Value)>,
    /// What the run publishes to a topic: all of it, in order.
    pub emitted: Vec<(Topic, Vec<Emitted>)>,
}

/// How a run is to end.
#[derive(Debug, Clone)]
pub enum End {
    /// Well; with this result, where one is named.
    Completed(Option<Value>),
    /// Badly; what is not said of its failure is not looked at.
    Failed {
        /// With this code.
        code: Code,
        /// In this step.
        step: Option<StepName>,
        /// With this in its message.
        message: Option<String>,
    },
}

impl Default for End {
    fn default() -> Self {
        Self::Completed(None)
    }
}

impl Cases {
    /// How many there may be in a file.
    pub const MOST: usize = 1_000;
    /// How many keys an answer puts, and a case looks at.
    pub const MAX_KEYS: usize = 100;
    /// How many events come in a case, and how many are looked at of a topic.
    pub const MAX_EVENTS: usize = 1_000;
    /// When an event comes of which nothing is said: once everything waits for the first time. No time passes before.
    pub const AT_ONCE: Duration = Duration::from_millis(1);
    /// What can be expected of what was decided about a node.
    pub const DECIDED: [&'static str; 7] = ["status", "option", "items", "rounds", "winners", "failures", "rescued"];

    /// Reads YAML or JSON.
    ///
    /// # Errors
    /// Everything that is wrong with it at once.
    pub fn parse(source: &str, document: &Document) -> Result<Self, Faults> {
        read::cases(&tree::parse(source).map_err(|fault| Faults(vec![fault]))?, document)
    }
}

impl Answer {
    /// Of an agent's answers the one for an attempt: those that are for what it is given, one an attempt, the last for every further one.
    pub fn choose<'a>(answers: &'a [Self], input: &Value, attempt: u32) -> Option<&'a Self> {
        let otherwise = |pick: &super::Pick| pick.or_else.clone().map(Cow::Owned);
        let find = |pick: &super::Pick| at(input, &pick.path).map(Cow::Borrowed).or_else(|| otherwise(pick));
        let fits: Vec<&Self> =
            answers.iter().filter(|answer| answer.when.as_ref().is_none_or(|when| when.holds(&find))).collect();
        let number = attempt.saturating_sub(1) as usize;
        fits.get(number).or(fits.last()).copied()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FLOW: &str = "
name: review
flow:
  sequence:
    - {agent: read, validate: {agent: check}}
    - {map: $.steps.read.output.files, do: {agent: look, id: each}, id: all}
    - {agent: report, timeout: 5s}
";

    fn faults(source: &str) -> Vec<String> {
        let document = Document::parse(FLOW, None).unwrap();
        let faults = Cases::parse(source, &document).expect_err("it should have been refused");
        faults.0.iter().map(|f| format!("{}:{} {}", f.place.line, f.place.column, f.message)).collect()
    }

    #[test]
    fn a_case_has_what_stands_above_all_of_them_and_its_own() {
        let document = Document::parse(FLOW, None).unwrap();
        let source = "
workflow: review
agents:
  read: {output: {files: [a, b]}}
  check: {violations: []}
  look: [{when: {pick: $.input, equals: a}, output: 1}, {fail: {message: no}, takes: 3s}, {output: 2}]
cases:
  - name: good
    input: {diff: x}
    agents: {report: {text: done}}
    expect:
      result: done
      ran: [read, all]
      attempts: {each: 3}
      decided: {all: {items: 2}}
  - name: bad
    input-text: x
    agents: {look: {output: 9}, report: {fail: {code: limit-wall, message: too long, retryable: true}}}
    expect: {failed: {code: timed-out, step: report}}
";
        let Cases(cases) = Cases::parse(source, &document).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(cases.len(), 2);
        let look = &cases[0].agents[&"look".parse().unwrap()];
        let chosen = |input: Value, attempt| match &Answer::choose(look, &input, attempt).unwrap().gives {
            Gives::Output(output) => output.to_value().unwrap(),
            Gives::Fail(failure) => failure.message.clone().into(),
            Gives::Violations(_) | Gives::HandsOff { .. } => panic!("a step"),
        };
        let given: Vec<Value> = (1..5).map(|attempt| chosen(json!("a"), attempt)).collect();
        assert_eq!(given, [json!(1), json!("no"), json!(2), json!(2)]);
        assert_eq!((chosen(json!("b"), 1), chosen(json!("b"), 2)), (json!("no"), json!(2)));
        assert_eq!(look[1].takes, Duration::from_secs(3));
        assert_eq!(cases[1].agents[&"look".parse().unwrap()].len(), 1);
        assert!(cases[1].input.bytes.as_ref() == b"x" && !cases[1].input.is_json());
        assert!(matches!(&cases[1].expect.end, End::Failed { code: Code::TimedOut, step: Some(_), message: None }));
    }

    #[test]
    fn what_is_found_started_and_asked_is_held_against_the_document() {
        let flow = "
name: whole
flow:
  sequence:
    - {need: sum it up, id: sum}
    - {workflow: audit, id: audited}
    - {ask: {title: Well?, of: admin}, id: ok}
    - {agent: look}
";
        let document = Document::parse(flow, None).unwrap();
        let good = "needs: {sum: brief}\nagents: {brief: {output: 1}}\ncases: [{name: a, workflows: {audit: {fail: {}}}, questions: {ok: {text: x}}}]";
        let Cases(cases) = Cases::parse(good, &document).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!((cases[0].needs.len(), cases[0].workflows.len(), cases[0].questions.len()), (1, 1, 1));
        let bad = "needs: {look: brief}
workflows: {audti: {output: 1}, audit: {violations: []}}
questions: {look: {output: 1}, ok: {fail: {}}, other: {output: 1}}
cases:
  - {name: a}
";
        let faults = Cases::parse(bad, &document).expect_err("it should have been refused");
        let told: Vec<String> =
            faults.0.iter().map(|f| format!("{}:{} {}", f.place.line, f.place.column, f.message)).collect();
        for (at, words) in [
            ("1:9", "is no node that says what it needs"),
            ("2:13", "starts no `audti`"),
            ("2:40", "gives `output` or `text`"),
            ("3:13", "is no node that asks people"),
            ("3:36", "people answer with `output`"),
            ("3:48", "there is no node `other`"),
            ("5:5", "who is found for the `need` at line 5"),
        ] {
            assert!(
                told.iter().any(|fault| fault.starts_with(&format!("{at} ")) && fault.contains(words)),
                "{at} {words}: {told:#?}"
            );
        }
        assert_eq!(told.len(), 7, "{told:#?}");
    }

    #[test]
    fn events_are_held_against_the_topics_of_the_document() {
        let flow = "
name: ship
flow:
  sequence:
    - {wait: {topic: orders, match: {type: order.paid}}, id: paid}
    - {ask: {title: Well?, of: admin, remind: {every: 1h, topic: reminders}}, id: ok}
    - {emit: {topic: shipped, type: order.shipped}, id: told}
";
        let document = Document::parse(flow, None).unwrap();
        let good = "
events:
  - {topic: orders, type: late, after: 2h}
  - {topic: orders, type: order.paid, subject: A-17, source: /keys/shop, data: {sum: 12}}
  - {topic: orders, type: order.paid, text: paid, after: 2h}
cases:
  - {name: all of them, expect: {emitted: {shipped: [{type: order.shipped, subject: null, data: 1}, {}], reminders: []}}}
  - {name: its own, events: []}
";
        let Cases(cases) = Cases::parse(good, &document).unwrap_or_else(|faults| panic!("{faults}"));
        let [first, second, third] = &cases[0].events[..] else { panic!("{:?}", cases[0].events) };
        assert_eq!((first.subject.as_deref(), first.source.as_deref()), (Some("A-17"), Some("/keys/shop")));
        assert_eq!((first.after, first.data.to_value().unwrap()), (Cases::AT_ONCE, json!({"sum": 12})));
        // Of those that come together the one that stands first comes first.
        assert_eq!((second.kind.as_str(), second.data.bytes.len(), second.subject.as_deref()), ("late", 0, None));
        assert!(third.data.bytes.as_ref() == b"paid" && !third.data.is_json());
        assert!(cases[1].events.is_empty(), "a case's own take the place of all");
        let shipped = &cases[0].expect.emitted[0].1;
        assert_eq!((shipped[0].subject.clone(), shipped[0].data.clone()), (Some(Value::Null), Some(json!(1))));
        assert!(shipped[1].kind.is_none() && shipped[1].subject.is_none() && shipped[1].data.is_none());

        let bad = "events:
  - {topic: odrers, type: order.paid}
  - {topic: shipped, type: order.paid}
  - {type: order.paid}
  - {topic: orders}
  - {topic: orders, type: '', subject: ''}
  - {topic: orders, type: a, data: 1, text: x, after: 0s}
  - {topic: orders, type: a, source: '', at: 1s}
cases:
  - {name: a, events: {topic: orders}}
  - {name: b, expect: {emitted: {shiped: [], orders: [], shipped: {type: x}}}}
  - {name: c, expect: {emitted: {shipped: [{typ: x}, {subject: 1}, 7]}}}
";
        let faults = Cases::parse(bad, &document).expect_err("it should have been refused");
        let told: Vec<String> =
            faults.0.iter().map(|f| format!("{}:{} {}", f.place.line, f.place.column, f.message)).collect();
        for (at, words) in [
            ("2:13", "waits for no events of `odrers`; did you mean `orders`?"),
            ("3:13", "waits for no events of `shipped`"),
            ("4:5", "`topic` of an event is missing"),
            ("5:5", "`type` is missing"),
            ("6:27", "type is 1 to 256 bytes"),
            ("6:40", "subject, where it has one, is 1 to 256 bytes"),
            ("7:5", "either `data` or `text`"),
            ("7:55", "`after` is a duration"),
            ("8:38", "`source` is 1 to 256 bytes"),
            ("8:42", "an event has no field `at`"),
            ("10:23", "`events` is a list"),
            ("11:34", "publishes nothing to `shiped`; did you mean `shipped`?"),
            ("11:46", "publishes nothing to `orders`"),
            ("11:67", "a list of events"),
            ("12:45", "has no field `typ`"),
            ("12:64", "`subject` is a text, or null where there is none"),
            ("12:68", "is an object"),
        ] {
            assert!(
                told.iter().any(|fault| fault.starts_with(&format!("{at} ")) && fault.contains(words)),
                "no fault at {at} with `{words}` in {told:#?}"
            );
        }
        assert_eq!(told.len(), 17, "{told:#?}");
    }

    #[test]
    fn the_events_of_a_case_are_bounded() {
        let document = Document::parse("{name: n, flow: {wait: {topic: t}}}", None).unwrap();
        let events = vec!["{topic: t, type: x}"; Cases::MAX_EVENTS + 1].join(", ");
        let faults = Cases::parse(&format!("cases: [{{name: a, events: [{events}]}}]"), &document).unwrap_err();
        assert!(faults.0[0].message.contains("at most 1000 events"), "{faults}");
        let large = "x".repeat(crate::message::MAX_DATA + 1);
        let source = format!("cases: [{{name: a, events: [{{topic: t, type: x, text: {large}}}]}}]");
        let faults = Cases::parse(&source, &document).unwrap_err();
        assert!(faults.0[0].message.contains("data has at most"), "{faults}");
    }

    #[test]
    fn every_fault_of_a_file_of_cases_is_told_with_its_place() {
        let told = faults(
            "workflow: revue
agents:
  raed: {output: 1}
  check: {output: 1}
  read: {violations: []}
  look: []
  report: [{}, {output: 1, fail: {}}, {when: {pick: $.steps.read.output, equals: 1}, output: 2, takes: soon}]
cases:
  - input: 1
    input-text: x
    expect: {ran: [reed], attempts: {all: 1, read: x}, decided: {all: {optoin: 1}}, result: 1, failed: timed-out}
  - {name: a, expect: {failed: {code: late, step: nobody}}, extra: 1}
  - {name: a}
",
        );
        for (at, words) in [
            ("1:11", "is of `review`"),
            ("3:3", "did you mean `read`?"),
            ("4:10", "gives `violations`"),
            ("5:9", "gives `output`"),
            ("6:9", "at least one answer"),
            ("7:12", "has one of"),
            ("7:16", "has one of"),
            ("7:46", "`$.input` alone"),
            ("7:104", "`takes` is a duration"),
            ("9:5", "`name` is missing"),
            ("9:5", "either `input` or `input-text`"),
            ("11:20", "did you mean `read`?"),
            ("11:38", "is no agent's step"),
            ("11:52", "whole number"),
            ("11:72", "did you mean `option`?"),
            ("11:13", "either `result` or `failed`"),
            ("12:39", "one of `agent-error`"),
            ("12:51", "there is no node `nobody`"),
            ("12:61", "has no field `extra`"),
            ("13:12", "taken by the one at line 12"),
        ] {
            assert!(
                told.iter().any(|fault| fault.starts_with(&format!("{at} ")) && fault.contains(words)),
                "no fault at {at} with `{words}` in {told:#?}"
            );
        }
        assert_eq!(told.len(), 20, "{told:#?}");
        assert!(faults("agents: {}")[0].contains("`cases` is missing"));
    }
}
