//! What a planner gave: a document like one that a person puts, checked as that is ([`crate::workflows`]), within the bounds that its `plan`
//! sets.
//!
//! Invariants: a plan names the agents that it may, in the versions that its run is pinned to, and no others; it starts no workflows and plans nothing further, so that what a
//! document can come to is seen from it; it asks nobody, publishes nothing, listens to nothing
//! and is started by nothing, which people alone have done in their name.

use std::collections::BTreeMap;

use ltmc_model::failure::{Code, Failure};
use ltmc_model::workflow::{Document, Does, Fault, Node, Planning};
use ltmc_model::{AgentName, Digest, Payload};

use crate::picked::Json;

/// How many of the things that are wrong are told.
const TOLD: usize = 5;

/// The versions that a run is pinned to.
pub(crate) type Pinned = BTreeMap<AgentName, Digest>;

/// The document that was given, as far as it is seen from it that it can be done.
///
/// # Errors
/// `bad-plan`, with all that is wrong with it.
pub(crate) fn document(planning: &Planning, pinned: &Pinned, output: &Payload) -> Result<Document, Failure> {
    let too_long = || bad(format!("it has more than {} bytes", Planning::MAX_LEN));
    if output.bytes.len() > Planning::MAX_LEN {
        return Err(too_long());
    }
    let source = match Json::of(output, Planning::MAX_LEN) {
        Ok(Some(json)) => json.text().to_owned(),
        Ok(None) => return Err(too_long()),
        Err(why) => return Err(bad(format!("it is {why}"))),
    };
    // A text is a document as people write it.
    let source = serde_json::from_str::<String>(&source).unwrap_or(source);
    let mut document = Document::parse(&source, None).map_err(|faults| faulty(&faults.0))?;
    restrict(&mut document.flow, planning);
    let wrong = wrong(&document, planning, pinned);
    if wrong.is_empty() { Ok(document) } else { Err(bad(wrong.join("; "))) }
}

/// What is said of a plan that has these faults.
pub(crate) fn faulty(faults: &[Fault]) -> Failure {
    let told: Vec<String> =
        faults.iter().take(TOLD).map(|fault| format!("{}: {}", fault.place, fault.message)).collect();
    bad(told.join("; "))
}

fn bad(why: String) -> Failure {
    Failure::new(Code::BadPlan, format!("what the planner gave cannot be done: {why}"))
}

/// A need that names nobody is one among those that may stand in the plan.
fn restrict(node: &mut Node, planning: &Planning) {
    if let Does::Need(needed) = &mut node.does
        && needed.among.is_empty()
    {
        needed.among.clone_from(&planning.may);
    }
    node.each_mut(&mut |below| restrict(below, planning));
}

fn wrong(document: &Document, planning: &Planning, pinned: &Pinned) -> Vec<String> {
    let mut wrong = Vec::new();
    let may = |name| planning.may.iter().any(|(agent, _)| agent.name == name);
    for (agent, place, _) in document.agents() {
        if !may(agent.name.clone()) {
            wrong.push(format!("{place}: agent `{}` is not among those that may stand in it", agent.name));
        } else if agent.digest.is_some() && agent.digest != pinned.get(&agent.name).copied() {
            let name = &agent.name;
            wrong.push(format!(
                "{place}: `{agent}` is not the version that this run is pinned to, which is meant by `{name}`"
            ));
        }
    }
    for node in document.nodes() {
        if !node.acts().is_empty() {
            wrong.push(format!("{}: a plan has no `{}`", node.place, node.word()));
        }
    }
    if !document.schedules.is_empty() || !document.triggers.is_empty() {
        wrong.push("a plan has no `on`: it is done once, by the run that has it planned".to_owned());
    }
    let (depth, steps) = (document.flow.depth(), document.steps().len());
    if depth > planning.depth as usize {
        wrong.push(format!("its patterns nest {depth} deep, at most {} are allowed", planning.depth));
    }
    if steps > planning.at_most as usize {
        wrong.push(format!("it has {steps} steps, at most {} are allowed", planning.at_most));
    }
    wrong.truncate(TOLD);
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planning(yaml: &str) -> Box<Planning> {
        let document = Document::parse(&format!("name: p\nflow: {{plan: {yaml}}}"), None).unwrap();
        let Does::Plan(planning) = document.flow.does else { panic!("a plan") };
        planning
    }

    #[test]
    fn a_plan_keeps_within_its_bounds() {
        let planning = planning("{agent: planner, may: [a, b], depth: 2, at-most: 2}");
        let pinned = Pinned::from([("a".parse().unwrap(), Digest([1; 32]))]);
        let given = |text: &str| document(&planning, &pinned, &Payload::text(text)).map_err(|failure| failure.message);
        let taken = given("name: x\nflow: {sequence: [{agent: a}, {need: something}]}").unwrap();
        assert_eq!(
            taken.to_json(),
            r#"{"name":"x","flow":{"sequence":[{"agent":"a"},{"need":"something","among":["a","b"]}]}}"#
        );
        let version = |digest| format!("name: x\nflow: {{agent: \"a@{}\"}}", Digest(digest));
        assert!(given(&version([1; 32])).is_ok(), "it is that version");
        for (text, why) in [
            ("name: x\nflow: {agent: c}", "`c` is not among those"),
            ("name: x\nflow: {need: x, among: [a, d]}", "`d` is not among those"),
            ("name: x\nflow: {sequence: [{agent: a}, {agent: b}, {agent: b, id: c}]}", "has 3 steps, at most 2"),
            ("name: x\nflow: {sequence: [{sequence: [{agent: a}]}]}", "nest 3 deep, at most 2"),
            ("name: x\nflow: {agent: a, compensate: {sequence: [{agent: b}]}}", "nest 3 deep, at most 2"),
            ("name: x\nflow: {parallel: [{agent: a}], context: {fork: [session], merge: {k: ask}}}", "has no `ask`"),
            (
                "name: x\nflow: {parallel: [{agent: a}], context: {fork: [session], merge: {k: {agent: c}}}}",
                "`c` is not among those",
            ),
            ("name: x\nflow: {workflow: other}", "has no `workflow`"),
            ("name: x\nflow: {plan: {agent: a, may: [b]}}", "has no `plan`"),
            ("name: x\non: [{schedule: '@daily'}]\nflow: {agent: a}", "has no `on`"),
            (version([2; 32]).as_str(), "is not the version that this run is pinned to"),
            ("name: x\nflow: {ask: {title: Well?, of: author}}", "has no `ask`"),
            ("name: x\nflow: {emit: {topic: t, type: t}}", "has no `emit`"),
            ("name: x\nflow: {wait: {topic: t}}", "has no `wait`"),
            ("flow: [", "line 1"),
            ("hello", "is an object"),
        ] {
            let said = given(text).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
        let long = "x".repeat(Planning::MAX_LEN + 1);
        assert!(given(&long).unwrap_err().contains("more than 65536 bytes"));
    }
}
