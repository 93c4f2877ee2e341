//! Cases: what is tried with a workflow while its agents' parts are played from a file, and what is to come of it.
//!
//! Invariants: as for a document, everything that is wrong is told at once with its place; every name in a case is one of the
//! document's, and who is to judge has violations to give.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::{Condition, Document, Faults, Place, StepName, read, tree};
use crate::failure::{Code, Failure};
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
}

/// How a run is to end.
#[derive(Debug, Clone)]
pub enum End {
    /// Well; with this result, where one is named.
    Completed(Option<Value>),
    /// Badly.
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
        let find = |pick: &super::Pick| find(input, &pick.path).cloned().or_else(|| pick.or_else.clone());
        let fits: Vec<&Self> =
            answers.iter().filter(|answer| answer.when.as_ref().is_none_or(|when| when.holds(&find))).collect();
        let number = attempt.saturating_sub(1) as usize;
        fits.get(number).or(fits.last()).copied()
    }
}

fn find<'a>(value: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, part| match value {
        Value::Object(fields) => fields.get(part),
        Value::Array(items) => items.get(part.parse::<usize>().ok()?),
        _ => None,
    })
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
            Gives::Violations(_) => panic!("a step"),
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
