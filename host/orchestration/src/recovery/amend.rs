//! What people change in a run before it goes on: a step gave this, or works on that.
//!
//! Invariants: what is changed fits the run: the step is one that this run has come by, or may come by, an output is what the step's
//! schema wants, and a key is one about which branches conflict. What is asked for is read without a tree being made of it. All of it is
//! journaled, or nothing.

use ltmc_journal::History;
use ltmc_journal::place::{self, Is, Place, What};
use ltmc_model::agent::AgentRef;
use ltmc_model::fork::{Answer, Raised, Said};
use ltmc_model::journal::{Amended, Amendment, Event};
use ltmc_model::memory::MAX_VALUE;
use ltmc_model::question::Question;
use ltmc_model::run::State;
use ltmc_model::workflow::{Does, Node, Validate};
use ltmc_model::{Digest, KeyId, Payload, StepPath, TenantId};
use ltmc_tenancy::Error;

use crate::input::MAX_BUILT;
use crate::judge;
use crate::picked::{Json, name_of};
use crate::plan::Plan;
use crate::runs::Inner;

/// So many steps are changed at once.
const MAX_STEPS: usize = 32;
/// So many keys are settled at once.
const MAX_KEYS: usize = 100;
/// So many fields a request has.
const FIELDS: usize = 16;

/// What is changed in a run before it goes on.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Which step, by its name or its path, and what of it.
    pub steps: Vec<(String, Amendment)>,
    /// Agents whose steps are done by another version from then on.
    pub agents: Vec<AgentRef>,
    /// Keys whose branches conflict, with what is taken of each.
    pub merge: Vec<(String, Taken)>,
}

/// What is taken of a key whose branches conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// What this branch made of it.
    Branch(String),
    /// This JSON value.
    Value(String),
}

impl Changes {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.agents.is_empty() && self.merge.is_empty()
    }
}

impl From<Vec<(String, Amendment)>> for Changes {
    fn from(steps: Vec<(String, Amendment)>) -> Self {
        Self { steps, ..Self::default() }
    }
}

/// What somebody wants done with a run, as it was sent.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// What is changed in it first.
    pub changes: Changes,
    /// Its other fields, each in JSON.
    fields: Vec<(String, String)>,
}

impl Asked {
    /// Reads `{"set": {STEP: OUTPUT}, "input": {STEP: INPUT}, "agents": [AGENT@DIGEST], "merge": {KEY: {"branch": BRANCH}}, …}`; of
    /// nothing, nothing is changed. `others`: the other fields that it may have.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn read(body: &Payload, others: &[&str]) -> Result<Self, Error> {
        if body.bytes.is_empty() {
            return Ok(Self::default());
        }
        let json = Payload { content_type: Payload::JSON.into(), bytes: body.bytes.clone() };
        let text = Json::of(&json, 0).map_err(|why| bad_json(None, format!("the body is {why}")))?;
        once(text.as_ref(), None, FIELDS)?;
        let fields = text.as_ref().map(|text| text.fields(FIELDS)).transpose();
        let fields = fields.map_err(|why| bad_json(None, format!("the body is {why}")))?.flatten();
        let fields = fields.ok_or_else(|| bad_json(None, "the body is no object"))?;
        let mut asked = Self::default();
        for (name, value) in fields {
            let name = name_of(name);
            match &*name {
                "set" => asked.changes(&name, value, Amendment::Output)?,
                "input" => asked.changes(&name, value, Amendment::Input)?,
                "agents" => asked.versions(value)?,
                "merge" => asked.merge(value)?,
                other if others.contains(&other) => asked.fields.push((other.to_owned(), value.to_owned())),
                other => {
                    let known: Vec<String> = ["set", "input", "agents", "merge"]
                        .iter()
                        .chain(others)
                        .map(|name| format!("`{name}`"))
                        .collect();
                    return Err(bad_json(
                        Some(other),
                        format!("there is no such field; there are {}", known.join(", ")),
                    ));
                }
            }
        }
        if asked.changes.steps.len() > MAX_STEPS {
            return Err(bad_json(None, format!("at most {MAX_STEPS} steps are changed at once")));
        }
        Ok(asked)
    }

    fn changes(&mut self, field: &str, value: &str, change: fn(Payload) -> Amendment) -> Result<(), Error> {
        let steps = Payload { content_type: Payload::JSON.into(), bytes: value.to_owned().into() };
        let text = Json::of(&steps, 0).map_err(|why| bad_json(Some(field), why))?;
        once(text.as_ref(), Some(field), MAX_STEPS)?;
        let steps = text.as_ref().map(|text| text.fields(MAX_STEPS)).transpose();
        let steps =
            steps.map_err(|_| bad_json(Some(field), format!("at most {MAX_STEPS} steps are changed at once")))?;
        let of = "it is an object with a field for each step, by its name or its path";
        for (step, value) in steps.flatten().ok_or_else(|| bad_json(Some(field), of))? {
            let payload = Payload { content_type: Payload::JSON.into(), bytes: value.to_owned().into() };
            self.changes.steps.push((name_of(step).into_owned(), change(payload)));
        }
        Ok(())
    }

    fn merge(&mut self, value: &str) -> Result<(), Error> {
        let wrong = || {
            let of = "it is an object with a field for each key, `{\"branch\": BRANCH}` or `{\"value\": VALUE}`";
            bad_json(Some("merge"), of)
        };
        let json = |text: &str| Payload { content_type: Payload::JSON.into(), bytes: text.to_owned().into() };
        let keys = json(value);
        let text = Json::of(&keys, 0).map_err(|why| bad_json(Some("merge"), why))?;
        once(text.as_ref(), Some("merge"), MAX_KEYS)?;
        let keys = text.as_ref().map(|text| text.fields(MAX_KEYS)).transpose();
        let keys = keys.map_err(|_| bad_json(Some("merge"), format!("at most {MAX_KEYS} keys are settled at once")))?;
        for (key, taken) in keys.flatten().ok_or_else(wrong)? {
            let taken = json(taken);
            let text = Json::of(&taken, 0).map_err(|why| bad_json(Some("merge"), why))?;
            once(text.as_ref(), Some("merge"), 2)?;
            let fields = text.as_ref().map(|text| text.fields(1)).transpose().map_err(|_| wrong())?.flatten();
            let taken = match fields.as_deref() {
                Some([(name, value)]) if &*name_of(name) == "branch" => {
                    Taken::Branch(serde_json::from_str(value).map_err(|_| wrong())?)
                }
                Some([(name, value)]) if &*name_of(name) == "value" => Taken::Value((*value).to_owned()),
                _ => return Err(wrong()),
            };
            self.changes.merge.push((name_of(key).into_owned(), taken));
        }
        Ok(())
    }

    fn versions(&mut self, value: &str) -> Result<(), Error> {
        let of = format!("it is a list of at most {MAX_STEPS} agents, each with a version: NAME@sha256:…");
        let wrong = || bad_json(Some("agents"), of.clone());
        let named: Vec<String> = serde_json::from_str(value).map_err(|_| wrong())?;
        let agents: Result<Vec<AgentRef>, _> = named.iter().map(|name| name.parse()).collect();
        self.changes.agents = agents.map_err(|_| wrong())?;
        let has_versions = self.changes.agents.iter().all(|agent| agent.digest.is_some());
        if !has_versions || named.len() > MAX_STEPS { Err(wrong()) } else { Ok(()) }
    }

    /// One of the other fields; none: it is not there.
    ///
    /// # Errors
    /// Where it is of another kind.
    pub fn field<T: serde::de::DeserializeOwned>(&self, name: &'static str, kind: &str) -> Result<Option<T>, Error> {
        let found = self.fields.iter().find(|(known, _)| known == name);
        let value = found.map(|(_, value)| serde_json::from_str(value)).transpose();
        value.map_err(|_| bad_json(Some(name), format!("it is {kind}")))
    }
}

/// What stands somewhere twice is nobody's to choose from.
fn once(text: Option<&Json<'_>>, field: Option<&str>, most: usize) -> Result<(), Error> {
    match text.and_then(|text| text.twice(most)) {
        Some(name) => {
            let name: String = name.chars().take(80).collect();
            Err(bad_json(field, format!("`{name}` stands there twice: say once what is meant")))
        }
        None => Ok(()),
    }
}

fn bad_json(field: Option<&str>, message: impl Into<String>) -> Error {
    let (message, field) = (message.into(), field.map(str::to_owned));
    Error::Invalid { code: "bad-json", message, field, details: Vec::new() }
}

/// What is asked for does not fit the run.
pub(crate) fn unfit(field: impl Into<String>, message: impl Into<String>) -> Error {
    let field = Some(field.into());
    Error::Invalid { code: "bad-recovery", message: message.into(), field, details: Vec::new() }
}

/// What is changed in a run, as it is journaled.
pub(crate) struct Amend<'a> {
    pub(crate) inner: &'a Inner,
    pub(crate) tenant: &'a TenantId,
    pub(crate) by: &'a KeyId,
    pub(crate) plan: &'a Plan,
    pub(crate) history: &'a History,
}

impl Amend<'_> {
    /// The events that say so.
    ///
    /// # Errors
    /// Where one of them does not fit the run.
    pub(crate) async fn events(&self, asked: &Changes) -> Result<Vec<Event>, Error> {
        let mut events = Vec::with_capacity(asked.steps.len() + asked.agents.len());
        let mut known: Vec<StepPath> = Vec::new();
        for (name, change) in &asked.steps {
            let field = match change {
                Amendment::Output(_) | Amendment::Gave(_) => format!("set.{name}"),
                Amendment::Input(_) => format!("input.{name}"),
                Amendment::Again => "from".to_owned(),
            };
            let step = self.plan.meant(name).map_err(|why| unfit(&field, why))?;
            let is_it = |(other, change): &(String, Amendment)| {
                *change != Amendment::Again && self.plan.meant(other).is_ok_and(|found| found == step)
            };
            if *change == Amendment::Again && asked.steps.iter().any(is_it) {
                // What is said of it besides has it done again, or done.
                continue;
            }
            let after = self.checked(&step, change).map_err(|why| unfit(&field, why))?;
            if known.contains(&step) {
                return Err(unfit(field, format!("step {step} is changed twice")));
            }
            if let Amendment::Output(output) | Amendment::Input(output) = change {
                let bytes = output.bytes.len();
                if bytes > MAX_BUILT {
                    return Err(unfit(field, format!("it has {bytes} bytes; a step is given at most {MAX_BUILT}")));
                }
            }
            if let Amendment::Output(output) = change {
                self.judged(&field, &step, output).await?;
            }
            let is_waiting = self.history.node(&step).is_some_and(ltmc_journal::node::Node::is_waiting);
            if is_waiting && matches!(change, Amendment::Output(_)) {
                // What was asked is open no more.
                events.push(Event::WaitCancelled { node: step.clone() });
            }
            let was = self.history.output(&step).map(|output| Digest::of(&output.bytes));
            let is_step = place::at(self.plan.root(), &step).as_ref().and_then(Place::node).is_some_and(Node::is_step);
            let change = match change.clone() {
                Amendment::Output(output) if !is_step => Amendment::Gave(output),
                change => change,
            };
            let by = self.by.clone();
            known.push(step.clone());
            events.push(Event::Amended(Box::new(Amended { by, step, change, was, after })));
        }
        for agent in &asked.agents {
            events.push(self.replaced(agent).await?);
        }
        for (key, taken) in &asked.merge {
            events.extend(self.answered(key, taken).map_err(|why| unfit(format!("merge.{key}"), why))?);
        }
        Ok(events)
    }

    /// What is taken of a key, in every fork whose branches conflict about it.
    fn answered(&self, key: &str, taken: &Taken) -> Result<Vec<Event>, String> {
        let mut events = Vec::new();
        for (node, fork) in self.history.forked().all() {
            // What was said of a key before may be said anew.
            let is_settled = fork.is_conflicted() && fork.answer(key).is_some();
            if !fork.may_conflict_about(key) && !is_settled {
                continue;
            }
            let branches = fork.changed_by(key);
            if branches.is_empty() {
                continue;
            }
            let answer = match taken {
                Taken::Value(json) if json.len() > MAX_VALUE => {
                    return Err(format!("a value has at most {MAX_VALUE} bytes, this one has {}", json.len()));
                }
                Taken::Value(json) => Answer::Value(json.clone()),
                Taken::Branch(name) => {
                    let (planned, _) = self.plan.node(node).map_err(|failure| failure.message)?;
                    let called = |number: &&u32| planned.called(**number) == *name || number.to_string() == *name;
                    let Some(number) = branches.iter().find(called) else {
                        let names: Vec<String> = branches.iter().map(|n| format!("`{}`", planned.called(*n))).collect();
                        return Err(format!("branch `{name}` did not change it; {} did", names.join(", ")));
                    };
                    Answer::Branch(*number)
                }
            };
            let (by, node, key) = (self.by.clone(), node.clone(), key.to_owned());
            events.push(Event::MergeAnswered { by, node, key, answer });
        }
        if events.is_empty() {
            return Err("no branches of this run conflict about this key".into());
        }
        Ok(events)
    }

    /// That an agent's steps are done by another version from now on. Whether it can go on with what is in the middle of its work is seen
    /// by [`super::rehearse`].
    async fn replaced(&self, agent: &AgentRef) -> Result<Event, Error> {
        let unfit = |why: String| unfit("agents", why);
        let name = &agent.name;
        let pinned = self.history.started().and_then(|started| started.agents.get(name).copied());
        let from = pinned.ok_or_else(|| unfit(format!("no step of this run is done by an agent `{name}`")))?;
        let found = self.inner.ports.authority.agent(self.tenant, agent).await?;
        let to = found.ok_or_else(|| unfit(format!("there is no version {agent}: push it first")))?.digest;
        if from == to {
            return Err(unfit(format!("`{name}` is of that version in this run already")));
        }
        Ok(Event::AgentReplaced { by: self.by.clone(), agent: name.clone(), from, to, replayed: Vec::new() })
    }

    /// The nodes above the step after which others are done again; the error says why the step cannot be changed so.
    fn checked(&self, step: &StepPath, change: &Amendment) -> Result<Vec<StepPath>, String> {
        let way = place::way(self.plan.root(), step);
        let Some(last) = way.last().filter(|last| last.path == *step) else {
            return Err(format!("there is nothing at {step} in this run"));
        };
        match last.what {
            What::Validator(_) => {
                return Err(format!("at {step} an output is judged: change the step whose output that is"));
            }
            What::Node(node) if matches!(change, Amendment::Output(_)) && is_given(node) => {
                let child = self.history.node(step).and_then(|node| node.child.as_ref());
                let is_aside = matches!(self.history.state(), State::Paused | State::Quarantined);
                if let Some(child) = child.filter(|child| child.is_open() && is_aside) {
                    let run = child.run;
                    return Err(format!("at {step} run {run} was begun, which is not over: cancel that one first"));
                }
            }
            What::Node(node) if !node.is_step() && *change != Amendment::Again => {
                let has_steps = !node.children().is_empty() || node.template().is_some();
                let what = if has_steps {
                    "change the steps in it"
                } else {
                    "it is no agent's step, and only these are changed"
                };
                return Err(format!("at {step} stands `{}`: {what}", node.word()));
            }
            // Work that is done anew is undone anew, by what is done then.
            What::Node(_) if Node::is_undoing(step, &StepPath::root()) && self.history.state() != State::Stuck => {
                return Err(format!(
                    "step {step} undoes something: it is changed only while the run is stuck because it failed"
                ));
            }
            What::Node(_) => {}
        }
        let mut after = Vec::new();
        for pair in way.windows(2) {
            let [above, place] = pair else { continue };
            self.is_come_by(above, place)?;
            // In a turn of a debate who speaks comes after its chair.
            let is_in_sequence =
                above.node().is_some_and(|node| matches!(node.does, Does::Sequence(_)) || is_chair(node, place.is));
            if matches!(place.is, Is::Round(_)) || is_in_sequence && matches!(place.is, Is::Child(_)) {
                after.push(place.path.clone());
            }
        }
        let is_skipped =
            |place: &&Place<'_>| self.history.node(&place.path).is_some_and(|node| node.when == Some(false));
        match way.iter().find(is_skipped) {
            Some(skipped) => Err(format!("{} is skipped in this run: its `when` does not hold", skipped.path)),
            None => Ok(after),
        }
    }

    /// Whether the run has come, or may come, from a node to one below it.
    fn is_come_by(&self, above: &Place<'_>, place: &Place<'_>) -> Result<(), String> {
        let (at, node) = (&above.path, self.history.node(&above.path));
        match place.is {
            Is::Item(number) => match node.and_then(|node| node.items.as_ref()).map(|items| items.len()) {
                Some(count) if number < count => Ok(()),
                Some(count) => Err(format!(
                    "the map at {at} has {count} items, of which {number} is none: they are counted from 0 on"
                )),
                None => Err(format!("the map at {at} has no items yet")),
            },
            Is::Round(number) => {
                let made = node.map_or(0, |node| node.rounds.len());
                match number <= made {
                    true => Ok(()),
                    false => Err(format!(
                        "the {} at {at} has come to number {made}, and {number} is none of these: counted from 0 on",
                        above.node().map_or("node", Node::word)
                    )),
                }
            }
            Is::Settles(number) => {
                let fork = at.parent().and_then(|fork| self.history.forked().of(&fork));
                let is_of_it = |raised: &Raised| raised.number as usize == number && place.path == raised.place();
                match fork {
                    Some(fork) if fork.raised().iter().any(is_of_it) => Ok(()),
                    Some(fork) if fork.is_merged() => {
                        Err("its branches have come together: what was taken of their keys is true".into())
                    }
                    _ => Err(format!("no conflict {number} was put to it")),
                }
            }
            is if above.node().is_some_and(|node| is_chair(node, is)) => Ok(()),
            Is::Child(number) => match node.and_then(|node| node.option) {
                Some(taken) if taken.map(|taken| taken as usize) != Some(number) => {
                    let took = |taken| format!("the one at {}", at.child(taken as usize));
                    let took = taken.map_or("none of its options".to_owned(), took);
                    Err(format!("the choice at {at} took {took}, not the one at {}", at.child(number)))
                }
                _ => Ok(()),
            },
            Is::Root | Is::Validator | Is::Fallback(_) | Is::Handler(_) | Is::Compensation => Ok(()),
        }
    }

    /// Looks at an output as the step's schema does. An agent that judges does so once the run goes on.
    async fn judged(&self, field: &str, step: &StepPath, output: &Payload) -> Result<(), Error> {
        let found = place::at(self.plan.root(), step);
        let Some(node) = found.as_ref().and_then(Place::node) else { return Ok(()) };
        if let Does::Ask(ask) = &node.does {
            let (bytes, most) = (output.bytes.len(), Question::MAX_ANSWER);
            if bytes > most {
                return Err(unfit(field, format!("an answer has at most {most} bytes, this has {bytes}")));
            }
            if Plan::settles(step).is_some() {
                Said::by_people(output).map_err(|why| unfit(field, why))?;
            }
            if let Some((schema, _)) = &ask.schema {
                self.fits(field, schema, output).await?;
            }
        }
        match &node.validate {
            Some(Validate::Schema { schema, .. }) => self.fits(field, schema, output).await,
            Some(Validate::Agent { .. }) | None => Ok(()),
        }
    }

    /// Whether an output is what a schema wants.
    async fn fits(&self, field: &str, schema: &serde_json::Value, output: &Payload) -> Result<(), Error> {
        let judged = self.inner.ports.schemas.judge(self.tenant, &schema.to_string(), output).await;
        let found = judged.map_err(|failure| match failure.retryable {
            true => judge::trouble(failure),
            false => unfit(field, failure.message),
        })?;
        match judge::rejection(&found) {
            Some(rejection) => Err(unfit(field, format!("the step's schema does not take it: {}", rejection.message))),
            None => Ok(()),
        }
    }
}

/// Whether it is no step, and what it gives can be said in its place: what people answer, or what a run of its own does.
fn is_given(node: &Node) -> bool {
    matches!(node.does, Does::Ask(_) | Does::Workflow(_) | Does::Plan(_))
}

/// Whether something is the chair of the turn above it.
fn is_chair(above: &Node, is: Is) -> bool {
    matches!(&above.does, Does::Turn(turn) if turn.chair.is_some()) && is == Is::Child(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Asked, Error> {
        Asked::read(&Payload::text(body.to_owned()), &["from", "at"])
    }

    #[test]
    fn what_is_sent_is_read_piece_by_piece() {
        let asked =
            read(r#"{"set": {"a": {"n" : 1.50}, "0/1": null}, "input": {"b": [1]}, "from": "c", "at": 7}"#).unwrap();
        let json = |text: &'static str| Payload { content_type: Payload::JSON.into(), bytes: text.into() };
        assert_eq!(
            asked.changes.steps,
            [
                ("a".into(), Amendment::Output(json(r#"{"n" : 1.50}"#))),
                ("0/1".into(), Amendment::Output(json("null"))),
                ("b".into(), Amendment::Input(json("[1]"))),
            ]
        );
        assert_eq!(asked.field::<String>("from", "a step").unwrap().as_deref(), Some("c"));
        assert_eq!(asked.field::<u64>("at", "a number").unwrap(), Some(7));
        let asked = read(r#"{"merge": {"plan/x": {"branch": "legal"}, "n": {"value": {"a":  1}}}}"#).unwrap();
        let taken = [Taken::Branch("legal".into()), Taken::Value(r#"{"a":  1}"#.into())];
        assert_eq!(asked.changes.merge, ["plan/x", "n"].map(str::to_owned).into_iter().zip(taken).collect::<Vec<_>>());
        assert!(read("").unwrap().changes.steps.is_empty() && read("{}").unwrap().changes.steps.is_empty());
    }

    #[test]
    fn what_is_something_else_is_told_with_its_field() {
        for (body, field, says) in [
            ("{", None, "not JSON"),
            ("[]", None, "no object"),
            (r#"{"st": {}}"#, Some("st"), "`set`, `input`, `agents`, `merge`, `from`, `at`"),
            (r#"{"merge": {"k": "a"}}"#, Some("merge"), "`{\"branch\": BRANCH}`"),
            (r#"{"merge": {"k": {"branch": "a", "value": 1}}}"#, Some("merge"), "`{\"value\": VALUE}`"),
            (r#"{"set": 1}"#, Some("set"), "a field for each step"),
            (r#"{"set": {"a": 1, "\u0061": 2}}"#, Some("set"), "`a` stands there twice"),
            (r#"{"input": {"a": 1, "b": 1, "a": 1}}"#, Some("input"), "`a` stands there twice"),
            (r#"{"set": {}, "set": {"a": 1}}"#, None, "`set` stands there twice"),
            (r#"{"merge": {"k": {"value": 1}, "k": {"branch": "a"}}}"#, Some("merge"), "`k` stands there twice"),
            (r#"{"merge": {"k": {"branch": "a", "branch": "b"}}}"#, Some("merge"), "`branch` stands there twice"),
            (r#"{"at": "x"}"#, Some("at"), "it is a number"),
            (r#"{"agents": ["a"]}"#, Some("agents"), "NAME@sha256:"),
            (r#"{"agents": {"a": 1}}"#, Some("agents"), "it is a list"),
        ] {
            let asked = read(body).and_then(|asked| asked.field::<u64>("at", "a number"));
            let Err(Error::Invalid { code, message, field: found, .. }) = asked else { panic!("{body} is taken") };
            assert_eq!((code, found.as_deref()), ("bad-json", field), "{body}");
            assert!(message.contains(says), "{body}: {message}");
        }
        let many: Vec<String> = (0..=MAX_STEPS).map(|n| format!("\"s{n}\": 1")).collect();
        assert!(read(&format!("{{\"set\": {{{}}}}}", many.join(","))).is_err());
        let keys = |count: usize| {
            let keys: Vec<String> = (0..count).map(|n| format!("\"k{n}\": {{\"value\": 1}}")).collect();
            read(&format!("{{\"merge\": {{{}}}}}", keys.join(",")))
        };
        assert_eq!(keys(MAX_KEYS).unwrap().changes.merge.len(), 100);
        assert!(format!("{:?}", keys(MAX_KEYS + 1).unwrap_err()).contains("at most 100 keys"));
    }
}
