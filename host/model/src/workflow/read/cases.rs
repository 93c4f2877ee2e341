//! From a tree of values to cases: names are held against the document that they are of.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::super::cases::{Answer, Case, Cases, End, Expect, Gives};
use super::super::tree::{Kind, Tree};
use super::super::{Document, Faults, Node, Place, Source, StepName};
use super::{Fields, Reader, nearest};
use crate::failure::{Code, Failure};
use crate::{AgentName, Payload};

type Parts = BTreeMap<AgentName, Vec<Answer>>;

/// Reads a whole file of cases.
pub(in super::super) fn cases(tree: &Tree, document: &Document) -> Result<Cases, Faults> {
    let mut reader = Reader::default();
    let cases = reader.cases(tree, &Cast::of(document));
    reader.finish(cases)
}

/// Who and what there is in the document.
struct Cast<'d> {
    document: &'d Document,
    /// Every agent: whether it does a step, and whether it judges.
    agents: BTreeMap<&'d AgentName, (bool, bool)>,
    nodes: HashMap<&'d str, &'d Node>,
}

impl<'d> Cast<'d> {
    fn of(document: &'d Document) -> Self {
        let mut agents: BTreeMap<&AgentName, (bool, bool)> = BTreeMap::new();
        for (agent, _, judges) in document.agents() {
            let roles = agents.entry(&agent.name).or_default();
            *roles = (roles.0 | !judges, roles.1 | judges);
        }
        let named = |node: &'d Node| Some((node.id.as_ref()?.as_str(), node));
        Self { document, agents, nodes: document.nodes().into_iter().filter_map(named).collect() }
    }
}

impl Reader {
    fn cases(&mut self, tree: &Tree, cast: &Cast<'_>) -> Option<Cases> {
        let mut fields = self.object(tree, "a file of cases")?;
        if let Some(tree) = fields.take("workflow")
            && !matches!(&tree.kind, Kind::Text(text) if text == cast.document.name.as_str())
        {
            let message = format!("`workflow` is another one: the document beside it is of `{}`", cast.document.name);
            self.fault(tree.place, message);
        }
        let shared = fields.take("agents").map(|tree| self.roles(tree, cast)).unwrap_or_default();
        let items = match fields.take("cases") {
            Some(tree) => self.list(tree, "`cases` is a list").unwrap_or_default(),
            None => {
                self.fault(tree.place, "`cases` is missing: what is tried");
                &[]
            }
        };
        self.refuse_the_rest(fields, "a file of cases");
        if items.len() > Cases::MOST {
            let message = format!("a file has at most {} cases, this one has {}", Cases::MOST, items.len());
            self.fault(tree.place, message);
        }
        let mut names: HashMap<String, Place> = HashMap::new();
        let mut cases = Vec::new();
        for item in items.iter().take(Cases::MOST) {
            let Some((case, at)) = self.case(item, &shared, cast) else { continue };
            if let Some(first) = names.insert(case.name.clone(), at) {
                self.fault(at, format!("the case's name `{}` is taken by the one at {first}", case.name));
            }
            cases.push(case);
        }
        Some(Cases(cases))
    }

    /// A case, and where its name stands.
    fn case(&mut self, tree: &Tree, shared: &Parts, cast: &Cast<'_>) -> Option<(Case, Place)> {
        let mut fields = self.object(tree, "a case")?;
        let name = match fields.take("name") {
            Some(tree) => self.text(tree, "`name`").map(|name| (name, tree.place)),
            None => {
                self.fault(tree.place, "`name` is missing: what the case shows");
                None
            }
        };
        let input = match (fields.take("input"), fields.take("input-text")) {
            (None, None) => Payload::json(&serde_json::Value::Null),
            (Some(tree), None) => Payload::json(&tree.to_value()),
            (None, Some(tree)) => Payload::text(self.text(tree, "`input-text`").unwrap_or_default()),
            (Some(_), Some(_)) => {
                self.fault(tree.place, "a case has either `input` or `input-text`, not both");
                Payload::default()
            }
        };
        let mut agents = shared.clone();
        agents.extend(fields.take("agents").map(|tree| self.roles(tree, cast)).unwrap_or_default());
        let expect = fields.take("expect").and_then(|tree| self.expect(tree, cast)).unwrap_or_default();
        self.refuse_the_rest(fields, "a case");
        let (name, at) = name?;
        Some((Case { name, place: tree.place, input, agents, expect }, at))
    }

    fn text(&mut self, tree: &Tree, what: &str) -> Option<String> {
        match &tree.kind {
            Kind::Text(text) => Some(text.clone()),
            _ => {
                self.fault(tree.place, format!("{what} is a text, this is {}", tree.describe()));
                None
            }
        }
    }

    /// The agents' parts.
    fn roles(&mut self, tree: &Tree, cast: &Cast<'_>) -> Parts {
        let Some(fields) = self.object(tree, "`agents`") else { return Parts::new() };
        let mut parts = Parts::new();
        for (key, tree) in fields.left {
            let known = key.name.parse::<AgentName>().ok().and_then(|name| Some((*cast.agents.get(&name)?, name)));
            let Some(((works, judges), name)) = known else {
                let hint = nearest(&key.name, cast.agents.keys().map(|name| name.as_str()));
                let hint = hint.map_or_else(String::new, |word| format!("; did you mean `{word}`?"));
                let given: String = key.name.chars().take(80).collect();
                self.fault(key.place, format!("the workflow has no agent `{given}`{hint}"));
                continue;
            };
            let answers = match &tree.kind {
                Kind::List(answers) => answers.as_slice(),
                _ => std::slice::from_ref(tree),
            };
            if answers.is_empty() {
                self.fault(tree.place, "an agent has at least one answer");
            }
            let read = answers.iter().filter_map(|tree| {
                let answer = self.answer(tree)?;
                let wrong = match &answer.gives {
                    Gives::Output(_) if !works => "`violations`: it judges; an empty list says that nothing is wrong",
                    Gives::Violations(_) if !judges => "`output` or `text`: it does not judge",
                    _ => return Some(answer),
                };
                self.fault(tree.place, format!("agent `{name}` gives {wrong}"));
                None
            });
            let read = read.collect();
            parts.insert(name, read);
        }
        parts
    }

    fn answer(&mut self, tree: &Tree) -> Option<Answer> {
        let mut fields = self.object(tree, "an answer")?;
        let when = fields.take("when").and_then(|tree| self.of_input(tree));
        let takes = fields
            .take("takes")
            .and_then(|tree| self.wait(tree, "`takes`", Duration::from_millis(1), Node::MAX_TIMEOUT));
        let output = fields.take("output").map(|tree| Some(Gives::Output(Payload::json(&tree.to_value()))));
        let text = fields.take("text").map(|tree| Some(Gives::Output(Payload::text(self.text(tree, "`text`")?))));
        let fail = fields.take("fail").map(|tree| self.failure(tree).map(Gives::Fail));
        let violations = fields.take("violations").map(|tree| self.violations(tree).map(Gives::Violations));
        self.refuse_the_rest(fields, "an answer");
        let mut given: Vec<Option<Gives>> = [output, text, fail, violations].into_iter().flatten().collect();
        if given.len() != 1 {
            self.fault(tree.place, "an answer has one of `output`, `text`, `fail` and `violations`");
            return None;
        }
        Some(Answer { when, takes: takes.unwrap_or(Duration::ZERO), gives: given.pop().flatten()? })
    }

    /// A condition on what an agent is given.
    fn of_input(&mut self, tree: &Tree) -> Option<super::super::Condition> {
        let condition = self.condition(tree)?;
        if condition.picks().iter().any(|pick| pick.source != Source::Input) {
            self.fault(tree.place, "an answer's `when` looks at `$.input` alone: what the agent is given");
        }
        Some(condition)
    }

    fn failure(&mut self, tree: &Tree) -> Option<Failure> {
        let mut fields = self.object(tree, "`fail`")?;
        let code = fields.take("code").map(|tree| self.code(tree, "`code`"));
        let message = fields.take("message").and_then(|tree| self.text(tree, "`message`"));
        let own = fields.take("agent-code").and_then(|tree| self.text(tree, "`agent-code`"));
        let retryable = fields.take("retryable").and_then(|tree| match &tree.kind {
            Kind::Bool(is) => Some(*is),
            _ => {
                self.fault(tree.place, format!("`retryable` is true or false, this is {}", tree.describe()));
                None
            }
        });
        self.refuse_the_rest(fields, "`fail`");
        let message = message.unwrap_or_else(|| "so the case says".to_owned());
        let failure = Failure::new(code.unwrap_or(Some(Code::AgentError))?, message);
        Some(Failure { agent_code: own, retryable: retryable.unwrap_or_default(), ..failure })
    }

    fn code(&mut self, tree: &Tree, what: &str) -> Option<Code> {
        let words: Vec<(&'static str, Code)> = Code::ALL.iter().map(|code| (code.as_str(), *code)).collect();
        self.word(tree, what, &words)
    }

    fn violations(&mut self, tree: &Tree) -> Option<Vec<(String, String)>> {
        let items = self.list(tree, "`violations` is a list of `{at, message}`")?;
        let mut violations = Vec::new();
        for item in items {
            let Some(mut fields) = self.object(item, "a violation") else { continue };
            let at = fields.take("at").and_then(|tree| self.text(tree, "`at`")).unwrap_or_default();
            let message = fields.take("message").and_then(|tree| self.text(tree, "`message`")).unwrap_or_default();
            self.refuse_the_rest(fields, "a violation");
            violations.push((at, message));
        }
        Some(violations)
    }

    fn expect(&mut self, tree: &Tree, cast: &Cast<'_>) -> Option<Expect> {
        let mut fields = self.object(tree, "`expect`")?;
        let end = match (fields.take("result"), fields.take("failed")) {
            (None, None) => End::default(),
            (Some(tree), None) => End::Completed(Some(tree.to_value())),
            (None, Some(tree)) => self.failed(tree, cast).unwrap_or_default(),
            (Some(_), Some(_)) => {
                self.fault(tree.place, "a case expects either `result` or `failed`, not both");
                End::default()
            }
        };
        let ran = self.nodes(&mut fields, "ran", cast);
        let skipped = self.nodes(&mut fields, "skipped", cast);
        let attempts = self.of_nodes(&mut fields, "attempts", true, cast, |reader, tree| {
            reader.count(tree, "how many attempts a step makes", 0, 1_000_000)
        });
        let value = |_: &mut Self, tree: &Tree| Some(tree.to_value());
        let inputs = self.of_nodes(&mut fields, "inputs", true, cast, value);
        let outputs = self.of_nodes(&mut fields, "outputs", false, cast, value);
        let decided = self.of_nodes(&mut fields, "decided", false, cast, Self::decided);
        self.refuse_the_rest(fields, "`expect`");
        Some(Expect { end, ran, skipped, attempts, inputs, outputs, decided })
    }

    /// A code, or `{code, step, message}`.
    fn failed(&mut self, tree: &Tree, cast: &Cast<'_>) -> Option<End> {
        if matches!(tree.kind, Kind::Text(_)) {
            return self.code(tree, "`failed`").map(|code| End::Failed { code, step: None, message: None });
        }
        let mut fields = self.object(tree, "`failed` is a code or an object, which")?;
        let code = match fields.take("code") {
            Some(tree) => self.code(tree, "`code` of `failed`"),
            None => {
                self.fault(tree.place, "`code` of `failed` is missing");
                None
            }
        };
        let step = fields.take("step").and_then(|tree| self.known(tree, cast));
        let message = fields.take("message").and_then(|tree| self.text(tree, "`message`"));
        self.refuse_the_rest(fields, "`failed`");
        Some(End::Failed { code: code?, step, message })
    }

    fn decided(&mut self, tree: &Tree) -> Option<Vec<(String, serde_json::Value)>> {
        let mut fields = self.object(tree, "what is decided about a node")?;
        let found: Vec<_> = Cases::DECIDED
            .iter()
            .filter_map(|word| Some(((*word).to_owned(), fields.take(word)?.to_value())))
            .collect();
        self.refuse_the_rest(fields, "what is decided about a node");
        Some(found)
    }

    fn nodes(&mut self, fields: &mut Fields<'_>, word: &'static str, cast: &Cast<'_>) -> Vec<StepName> {
        let Some(tree) = fields.take(word) else { return Vec::new() };
        let items = self.list(tree, &format!("`{word}` is a list of nodes' names")).unwrap_or_default();
        items.iter().filter_map(|tree| self.known(tree, cast)).collect()
    }

    /// Something for each of several nodes.
    fn of_nodes<T>(
        &mut self,
        fields: &mut Fields<'_>,
        word: &'static str,
        steps_only: bool,
        cast: &Cast<'_>,
        read: impl Fn(&mut Self, &Tree) -> Option<T>,
    ) -> Vec<(StepName, T)> {
        let Some(found) = fields.take(word).and_then(|tree| self.object(tree, &format!("`{word}`"))) else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for (key, tree) in found.left {
            let Some(name) = self.node_named(&key.name, key.place, cast) else { continue };
            let is_step = cast.nodes.get(name.as_str()).is_some_and(|node| node.is_step());
            if steps_only && !is_step {
                self.fault(key.place, format!("`{name}` is no agent's step, and `{word}` is of such alone"));
                continue;
            }
            if let Some(value) = read(self, tree) {
                all.push((name, value));
            }
        }
        all
    }

    fn known(&mut self, tree: &Tree, cast: &Cast<'_>) -> Option<StepName> {
        let name = self.text(tree, "a node's name")?;
        self.node_named(&name, tree.place, cast)
    }

    fn node_named(&mut self, name: &str, place: Place, cast: &Cast<'_>) -> Option<StepName> {
        if cast.nodes.contains_key(name) {
            return name.parse().ok();
        }
        let hint = nearest(name, cast.nodes.keys().copied());
        let hint = hint.map_or_else(String::new, |word| format!("; did you mean `{word}`?"));
        let name: String = name.chars().take(80).collect();
        self.fault(place, format!("there is no node `{name}` in the workflow{hint}"));
        None
    }
}
