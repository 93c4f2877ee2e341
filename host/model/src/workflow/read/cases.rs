//! From a tree of values to cases: names are held against the document that they are of.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::super::cases::{Answer, Case, Cases, Coming, Emitted, End, Expect, Gives};
use super::super::tree::{Key, Kind, Tree};
use super::super::{Document, Does, Faults, Node, Part, Place, Source, StepName, Wait};
use super::{Fields, Reader, nearest};
use crate::failure::{Code, Failure};
use crate::memory::check_key;
use crate::message::{self, Topic};
use crate::{AgentName, Payload, WorkflowName};

type Parts = BTreeMap<AgentName, Vec<Answer>>;

/// What is played for a case.
#[derive(Default, Clone)]
struct Played {
    agents: Parts,
    needs: BTreeMap<StepName, AgentName>,
    workflows: BTreeMap<WorkflowName, Vec<Answer>>,
    questions: BTreeMap<StepName, Vec<Answer>>,
    /// None: nothing is said.
    events: Option<Vec<Coming>>,
}

impl Played {
    /// Another's takes the place of what is here, one by one; its events that of all.
    fn extend(&mut self, other: Self) {
        self.agents.extend(other.agents);
        self.needs.extend(other.needs);
        self.workflows.extend(other.workflows);
        self.questions.extend(other.questions);
        self.events = other.events.or(self.events.take());
    }
}

/// Reads a whole file of cases.
pub(in super::super) fn cases(tree: &Tree, document: &Document) -> Result<Cases, Faults> {
    let mut reader = Reader::default();
    let mut cast = Cast::of(document);
    cast.found(tree);
    let cases = reader.cases(tree, &cast);
    reader.finish(cases)
}

/// Who and what there is in the document.
struct Cast<'d> {
    document: &'d Document,
    /// Every agent: whether it does a step, and whether it judges.
    agents: BTreeMap<AgentName, (bool, bool)>,
    nodes: HashMap<&'d str, &'d Node>,
}

impl<'d> Cast<'d> {
    fn of(document: &'d Document) -> Self {
        let mut agents: BTreeMap<AgentName, (bool, bool)> = BTreeMap::new();
        for (agent, _, part) in document.agents() {
            let roles = agents.entry(agent.name.clone()).or_default();
            let judges = part == Part::Judge;
            *roles = (roles.0 | !judges, roles.1 | judges);
        }
        let named = |node: &'d Node| Some((node.id.as_ref()?.as_str(), node));
        Self { document, agents, nodes: document.nodes().into_iter().filter_map(named).collect() }
    }

    /// Agents that are found for what is needed, wherever a file of cases says so, take part too.
    fn found(&mut self, tree: &Tree) {
        let of = |tree: &'_ Tree, name: &str| match &tree.kind {
            Kind::Object(fields) => fields.iter().find(|(key, _)| key.name == name).map(|(_, tree)| tree.clone()),
            _ => None,
        };
        let cases = match of(tree, "cases").map(|tree| tree.kind) {
            Some(Kind::List(cases)) => cases,
            _ => Vec::new(),
        };
        let needs = cases.iter().chain([tree]).filter_map(|tree| of(tree, "needs"));
        let names = needs.filter_map(|needs| match needs.kind {
            Kind::Object(fields) => Some(fields),
            _ => None,
        });
        for (_, tree) in names.flatten() {
            if let Kind::Text(name) = &tree.kind
                && let Ok(name) = name.parse::<AgentName>()
            {
                self.agents.entry(name).or_default().0 = true;
            }
        }
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
        let shared = self.played(&mut fields, cast);
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
    fn case(&mut self, tree: &Tree, shared: &Played, cast: &Cast<'_>) -> Option<(Case, Place)> {
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
        let mut played = shared.clone();
        played.extend(self.played(&mut fields, cast));
        let is_open = |node: &&Node| matches!(&node.does, Does::Need(needed) if needed.among.is_empty());
        for node in cast.document.nodes().into_iter().filter(is_open) {
            if node.id.as_ref().is_none_or(|id| !played.needs.contains_key(id)) {
                let id = node.id.as_ref().map_or("ID", StepName::as_str);
                let message = format!("who is found for the `need` at {}? `needs: {{{id}: AGENT}}`", node.place);
                self.fault(tree.place, message);
            }
        }
        let expect = fields.take("expect").and_then(|tree| self.expect(tree, cast)).unwrap_or_default();
        self.refuse_the_rest(fields, "a case");
        let (name, at) = name?;
        let Played { agents, needs, workflows, questions, events } = played;
        let events = events.unwrap_or_default();
        Some((Case { name, place: tree.place, input, agents, needs, workflows, questions, events, expect }, at))
    }

    /// What is played.
    fn played(&mut self, fields: &mut Fields<'_>, cast: &Cast<'_>) -> Played {
        let agents = fields.take("agents").map(|tree| self.roles(tree, cast)).unwrap_or_default();
        let mut played = Played { agents, ..Played::default() };
        for (key, tree) in self.entries(fields, "needs") {
            let is_need = |node: &Node| matches!(node.does, Does::Need(_));
            let name = self.node_of(&key, cast, is_need, "says what it needs");
            let agent = self.parsed::<AgentName>(tree, "who is found");
            played.needs.extend(name.zip(agent));
        }
        for (key, tree) in self.entries(fields, "workflows") {
            let known = cast.document.workflows().find(|(name, _)| name.as_str() == key.name);
            if known.is_none() {
                self.fault(
                    key.place,
                    format!("the workflow starts no `{}`", key.name.chars().take(80).collect::<String>()),
                );
            }
            let answers = self.outputs(tree, &format!("workflow `{}`", key.name));
            played.workflows.extend(known.map(|(name, _)| (name.clone(), answers)));
        }
        for (key, tree) in self.entries(fields, "questions") {
            let asks = |node: &Node| match &node.does {
                Does::Ask(_) => true,
                Does::Plan(planning) => planning.approve.is_some(),
                _ => false,
            };
            let name = self.node_of(&key, cast, asks, "asks people");
            let answers = self.outputs(tree, "an answer to a question");
            if answers.iter().any(|answer| !matches!(answer.gives, Gives::Output(_))) {
                self.fault(tree.place, "people answer with `output`, a value, or `text`");
            }
            played.questions.extend(name.map(|name| (name, answers)));
        }
        played.events = fields.take("events").and_then(|tree| self.events(tree, cast));
        played
    }

    /// What others publish, in the order in which it comes.
    fn events(&mut self, tree: &Tree, cast: &Cast<'_>) -> Option<Vec<Coming>> {
        let items =
            self.list(tree, "`events` is a list of what comes, such as `[{topic: orders, type: order.paid}]`")?;
        if items.len() > Cases::MAX_EVENTS {
            let message = format!("a case has at most {} events, this one {}", Cases::MAX_EVENTS, items.len());
            self.fault(tree.place, message);
        }
        let read = items.iter().take(Cases::MAX_EVENTS).filter_map(|tree| self.event(tree, cast));
        let mut events: Vec<Coming> = read.collect();
        events.sort_by_key(|event| event.after);
        Some(events)
    }

    fn event(&mut self, tree: &Tree, cast: &Cast<'_>) -> Option<Coming> {
        let mut fields = self.object(tree, "an event")?;
        let heard = |node: &Node| match &node.does {
            Does::Wait(Wait::Event(listen)) => vec![listen.topic.clone()],
            _ => Vec::new(),
        };
        let topic = match fields.take("topic") {
            Some(tree) => self
                .parsed::<Topic>(tree, "`topic`")
                .and_then(|topic| self.topic_of(topic.as_str(), tree.place, cast, heard, "waits for no events of")),
            None => {
                self.fault(tree.place, "`topic` of an event is missing: where it comes");
                None
            }
        };
        let kind = match fields.take("type") {
            Some(tree) => self.kind(tree),
            None => {
                self.fault(tree.place, "`type` is missing: what happened, such as `order.paid`");
                None
            }
        };
        let attribute = |reader: &mut Self, tree: &Tree, word: &str, fits: &dyn Fn(&str) -> Result<(), String>| {
            let text = reader.text(tree, word)?;
            fits(&text).map_err(|why| reader.fault(tree.place, why)).ok().map(|()| text)
        };
        let subject = fields.take("subject").and_then(|tree| {
            attribute(self, tree, "`subject`", &|text| message::check("any", Some(text), &Payload::default()))
        });
        let source = fields.take("source").and_then(|tree| {
            let most = message::MAX_ATTRIBUTE;
            let wrong = || format!("`source` is 1 to {most} bytes without control characters");
            attribute(self, tree, "`source`", &|text| {
                ltmc_rules::is_printable(text, most).then_some(()).ok_or_else(wrong)
            })
        });
        let data = match (fields.take("data"), fields.take("text")) {
            (None, None) => Payload::default(),
            (Some(tree), None) => Payload::json(&tree.to_value()),
            (None, Some(tree)) => Payload::text(self.text(tree, "`text`").unwrap_or_default()),
            (Some(_), Some(_)) => {
                self.fault(tree.place, "an event has either `data` or `text`, not both");
                Payload::default()
            }
        };
        if let Err(why) = message::check("any", None, &data) {
            self.fault(tree.place, why);
        }
        let after = fields
            .take("after")
            .and_then(|tree| self.wait(tree, "`after`", Cases::AT_ONCE, Node::MAX_TIMEOUT))
            .unwrap_or(Cases::AT_ONCE);
        self.refuse_the_rest(fields, "an event");
        Some(Coming { topic: topic?, kind: kind?, subject, source, data, after })
    }

    /// A topic with which nodes of the document have to do.
    fn topic_of(
        &mut self,
        name: &str,
        place: Place,
        cast: &Cast<'_>,
        of: impl Fn(&Node) -> Vec<Topic>,
        what: &str,
    ) -> Option<Topic> {
        let known: BTreeSet<Topic> = cast.document.nodes().into_iter().flat_map(of).collect();
        let found = known.iter().find(|topic| topic.as_str() == name).cloned();
        if found.is_none() {
            let hint = nearest(name, known.iter().map(Topic::as_str));
            let hint = hint.map_or_else(String::new, |word| format!("; did you mean `{word}`?"));
            let name: String = name.chars().take(80).collect();
            self.fault(place, format!("the workflow {what} `{name}`{hint}"));
        }
        found
    }

    fn entries<'t>(&mut self, fields: &mut Fields<'t>, word: &'static str) -> Vec<(Key, &'t Tree)> {
        let Some(tree) = fields.take(word) else { return Vec::new() };
        let found = self.object(tree, &format!("`{word}`"));
        found.map_or_else(Vec::new, |found| found.left.into_iter().map(|(key, tree)| (key.clone(), tree)).collect())
    }

    /// The name of a node of a kind.
    fn node_of(&mut self, key: &Key, cast: &Cast<'_>, is: impl Fn(&Node) -> bool, what: &str) -> Option<StepName> {
        let name = self.node_named(&key.name, key.place, cast)?;
        if !cast.nodes.get(name.as_str()).is_some_and(|node| is(node)) {
            self.fault(key.place, format!("`{name}` is no node that {what}"));
            return None;
        }
        Some(name)
    }

    /// An answer, or several.
    fn outputs(&mut self, tree: &Tree, what: &str) -> Vec<Answer> {
        let answers = match &tree.kind {
            Kind::List(answers) => answers.as_slice(),
            _ => std::slice::from_ref(tree),
        };
        if answers.is_empty() {
            self.fault(tree.place, format!("{what} has at least one answer"));
        }
        let read = answers.iter().filter_map(|tree| {
            let answer = self.answer(tree)?;
            if !answer.puts.is_empty() {
                self.fault(tree.place, format!("{what} puts nothing into memory: agents do"));
                return None;
            }
            if matches!(answer.gives, Gives::Violations(_) | Gives::HandsOff { .. }) {
                self.fault(
                    tree.place,
                    format!("{what} gives `output` or `text`: it neither judges nor hands anything on"),
                );
                return None;
            }
            Some(answer)
        });
        read.collect()
    }

    pub(super) fn text(&mut self, tree: &Tree, what: &str) -> Option<String> {
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
                    Gives::HandsOff { .. } if !works => "`violations`: it judges, and holds no conversation",
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
        let puts = self.keys(&mut fields, "puts");
        let fail = fields.take("fail").map(|tree| self.failure(tree).map(Gives::Fail));
        let violations = fields.take("violations").map(|tree| self.violations(tree).map(Gives::Violations));
        let hands_off = fields.take("hand-off").map(|tree| self.hands_off(tree));
        self.refuse_the_rest(fields, "an answer");
        let given = [output, text, fail, violations, hands_off];
        let mut given: Vec<Option<Gives>> = given.into_iter().flatten().collect();
        if given.len() != 1 {
            self.fault(tree.place, "an answer has one of `output`, `text`, `fail`, `violations` and `hand-off`");
            return None;
        }
        Some(Answer { when, takes: takes.unwrap_or(Duration::ZERO), puts, gives: given.pop().flatten()? })
    }

    fn hands_off(&mut self, tree: &Tree) -> Option<Gives> {
        let mut fields = self.object(tree, "`hand-off`")?;
        let to = match fields.take("to") {
            Some(tree) => self.parsed::<AgentName>(tree, "`to`"),
            None => {
                self.fault(tree.place, "`to` is missing: the agent that holds the conversation next");
                None
            }
        };
        let reason = fields.take("reason").and_then(|tree| self.text(tree, "`reason`"));
        let passed = fields.take("passed").map(|tree| Payload::json(&tree.to_value()));
        self.refuse_the_rest(fields, "`hand-off`");
        Some(Gives::HandsOff { to: to?, reason: reason.unwrap_or_else(|| "as the case says".into()), passed })
    }

    /// Keys of the session's memory, each with a value.
    fn keys(&mut self, fields: &mut Fields<'_>, word: &'static str) -> Vec<(String, serde_json::Value)> {
        let Some(tree) = fields.take(word) else { return Vec::new() };
        let Some(found) = self.object(tree, &format!("`{word}`")) else { return Vec::new() };
        if found.left.len() > Cases::MAX_KEYS {
            let message = format!("`{word}` names at most {} keys, this one {}", Cases::MAX_KEYS, found.left.len());
            self.fault(tree.place, message);
        }
        let mut keys = Vec::new();
        for (key, tree) in found.left.into_iter().take(Cases::MAX_KEYS) {
            match check_key(&key.name) {
                Ok(()) => keys.push((key.name.clone(), tree.to_value())),
                Err(why) => self.fault(key.place, why),
            }
        }
        keys
    }

    /// A condition on what an agent is given.
    fn of_input(&mut self, tree: &Tree) -> Option<super::super::Condition> {
        let condition = self.condition(tree)?;
        if condition.picks().iter().any(|pick| pick.source != Source::Input) {
            self.fault(tree.place, "an answer's `when` looks at `$.input` alone: what the agent is given");
        }
        if !condition.schemas().is_empty() {
            self.fault(tree.place, "an answer's `when` has no `json-schema`");
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
        let memory = self.keys(&mut fields, "memory");
        let emitted = self.emitted(&mut fields, cast);
        self.refuse_the_rest(fields, "`expect`");
        Some(Expect { end, ran, skipped, attempts, inputs, outputs, decided, memory, emitted })
    }

    /// What is published, topic by topic.
    fn emitted(&mut self, fields: &mut Fields<'_>, cast: &Cast<'_>) -> Vec<(Topic, Vec<Emitted>)> {
        let told = |node: &Node| match &node.does {
            Does::Emit(emit) => vec![emit.topic.clone()],
            Does::Ask(ask) => ask.remind.iter().map(|remind| remind.topic.clone()).collect(),
            _ => Vec::new(),
        };
        let mut all = Vec::new();
        for (key, tree) in self.entries(fields, "emitted") {
            let topic = self.topic_of(&key.name, key.place, cast, told, "publishes nothing to");
            let items = self.list(tree, "what is published to a topic is a list of events").unwrap_or_default();
            if items.len() > Cases::MAX_EVENTS {
                let message = format!("at most {} events of a topic are looked at", Cases::MAX_EVENTS);
                self.fault(tree.place, message);
            }
            let read = items.iter().take(Cases::MAX_EVENTS).filter_map(|tree| {
                let mut fields = self.object(tree, "an event that is published")?;
                let kind = fields.take("type").and_then(|tree| self.kind(tree));
                let subject = fields.take("subject").and_then(|tree| match &tree.kind {
                    Kind::Text(_) | Kind::Null => Some(tree.to_value()),
                    _ => {
                        self.fault(tree.place, "`subject` is a text, or null where there is none");
                        None
                    }
                });
                let data = fields.take("data").map(Tree::to_value);
                self.refuse_the_rest(fields, "an event that is published");
                Some(Emitted { kind, subject, data })
            });
            let events: Vec<Emitted> = read.collect();
            all.extend(topic.map(|topic| (topic, events)));
        }
        all
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
