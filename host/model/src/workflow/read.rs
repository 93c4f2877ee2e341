//! From a tree of values to a document: every check there is, each fault with its place.
//!
//! Invariant: reading never stops at a fault; what cannot be read is left out and the rest is still looked at.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use super::tree::{Key, Kind, Tree};
use super::{
    AgentStep, Document, Fault, Faults, MAX_DEPTH, MAX_FAULTS, MAX_STEPS, Node, Pick, Place, Retry, Source, StepName,
    Template, Validate, With,
};
use crate::agent::AgentRef;
use crate::{AgentName, WorkflowName};

/// Words that a node will mean one day.
const PATTERNS_TO_COME: &[&str] = &["parallel", "choice", "loop", "map", "on", "wait", "workflow"];
/// Words that a step will have one day.
const FIELDS_TO_COME: &[&str] = &["fallback", "timeout", "on-error"];

/// Reads a whole document.
pub(super) fn document(tree: &Tree, name: Option<&WorkflowName>) -> Result<Document, Faults> {
    let mut reader = Reader::default();
    let document = reader.document(tree, name);
    reader.check_picks();
    let mut faults = reader.faults;
    match document {
        Some(document) if faults.is_empty() => Ok(document),
        _ => {
            faults.sort_by_key(|fault| (fault.place.line, fault.place.column));
            if faults.len() > MAX_FAULTS {
                let more = faults.len() - MAX_FAULTS + 1;
                faults.truncate(MAX_FAULTS - 1);
                faults.push(Fault { place: Place::default(), message: format!("and {more} more") });
            }
            Err(Faults(faults))
        }
    }
}

#[derive(Default)]
struct Reader {
    faults: Vec<Fault>,
    /// Every step's name, with its number and place.
    names: HashMap<StepName, (usize, Place)>,
    /// Every agent's name, with the first form it stands in.
    agents: HashMap<AgentName, AgentRef>,
    /// Picks of steps, with the number of the step they stand in.
    picks: Vec<(StepName, usize, Place)>,
    steps: usize,
}

/// An object's fields, each taken once by whoever knows it; what is left is unknown.
struct Fields<'t> {
    left: Vec<(&'t Key, &'t Tree)>,
    known: Vec<&'static str>,
}

impl<'t> Fields<'t> {
    fn take(&mut self, name: &'static str) -> Option<&'t Tree> {
        self.take_pair(name).map(|(_, tree)| tree)
    }

    fn take_pair(&mut self, name: &'static str) -> Option<(&'t Key, &'t Tree)> {
        self.known.push(name);
        self.take_unadvertised(name)
    }

    /// The same for a word that hints must not offer.
    fn take_unadvertised(&mut self, name: &str) -> Option<(&'t Key, &'t Tree)> {
        let index = self.left.iter().position(|(key, _)| key.name == name)?;
        Some(self.left.remove(index))
    }
}

impl Reader {
    fn fault(&mut self, place: Place, message: impl Into<String>) {
        self.faults.push(Fault { place, message: message.into() });
    }

    fn document(&mut self, tree: &Tree, expected: Option<&WorkflowName>) -> Option<Document> {
        let mut fields = self.object(tree, "a workflow's document")?;
        let name = match fields.take("name") {
            Some(tree) => self.parsed::<WorkflowName>(tree, "`name`"),
            None => {
                self.fault(tree.place, "`name` is missing: the workflow's name");
                None
            }
        };
        if let (Some(name), Some(expected)) = (&name, expected)
            && name != expected
        {
            let place = self.place_of(tree, "name");
            self.fault(place, format!("the document is called `{name}` and is put under `{expected}`"));
        }
        let flow = match fields.take("flow") {
            Some(tree) => self.node(tree, 1),
            None => {
                self.fault(tree.place, "`flow` is missing: `agent` or `sequence`");
                None
            }
        };
        self.refuse_the_rest(fields, "a document");
        if self.steps > MAX_STEPS {
            let message = format!("a document has at most {MAX_STEPS} steps, this one has {}", self.steps);
            self.fault(tree.place, message);
        }
        Some(Document { name: name?, flow: flow? })
    }

    fn place_of(&self, tree: &Tree, field: &str) -> Place {
        match &tree.kind {
            Kind::Object(fields) => {
                fields.iter().find(|(key, _)| key.name == field).map_or(tree.place, |(_, value)| value.place)
            }
            _ => tree.place,
        }
    }

    fn node(&mut self, tree: &Tree, depth: usize) -> Option<Node> {
        if depth > MAX_DEPTH {
            self.fault(tree.place, format!("patterns nest at most {MAX_DEPTH} deep"));
            return None;
        }
        let mut fields = self.object(tree, "a node of the flow")?;
        let mut reserved = false;
        for word in PATTERNS_TO_COME {
            if let Some((key, _)) = fields.take_unadvertised(word) {
                self.fault(key.place, format!("`{word}` is reserved for a pattern that this host does not know yet"));
                reserved = true;
            }
        }
        let sequence = fields.take_pair("sequence");
        let agent = fields.take("agent");
        match (agent, sequence) {
            (Some(agent), None) => self.step(tree, agent, fields),
            (None, Some((key, children))) => {
                self.refuse_the_rest(fields, "a sequence");
                self.sequence(key, children, depth)
            }
            (Some(_), Some((key, _))) => {
                self.fault(key.place, "a node is either `agent` or `sequence`, not both");
                None
            }
            (None, None) => {
                if !reserved {
                    let hint = fields.left.iter().find_map(|(key, _)| nearest(&key.name, ["agent", "sequence"]));
                    let hint = hint.map_or_else(String::new, |word| format!("; did you mean `{word}`?"));
                    self.fault(tree.place, format!("a node of the flow has `agent` or `sequence`{hint}"));
                }
                None
            }
        }
    }

    fn sequence(&mut self, key: &Key, tree: &Tree, depth: usize) -> Option<Node> {
        let Kind::List(children) = &tree.kind else {
            self.fault(tree.place, format!("`sequence` is a list of nodes, this is {}", tree.describe()));
            return None;
        };
        if children.is_empty() {
            self.fault(key.place, "`sequence` is empty: it has at least one node");
        }
        let nodes: Vec<Node> = children.iter().filter_map(|child| self.node(child, depth + 1)).collect();
        Some(Node::Sequence(nodes))
    }

    fn step(&mut self, tree: &Tree, agent: &Tree, mut fields: Fields<'_>) -> Option<Node> {
        let number = self.steps;
        self.steps += 1;
        let place = agent.place;
        let agent = self.agent(agent, "`agent`");
        let id = match fields.take("id") {
            Some(tree) => self.parsed::<StepName>(tree, "`id`").map(|id| (id, tree.place)),
            None => agent.as_ref().and_then(|a| Some((a.name.as_str().parse::<StepName>().ok()?, place))),
        };
        if let Some((id, place)) = &id {
            self.name(id, number, *place);
        }
        let with = fields.take("with").and_then(|tree| self.with(tree, number));
        let validate = fields.take("validate").and_then(|tree| self.validate(tree));
        let retry = fields.take("retry").map_or_else(Retry::none, |tree| self.retry(tree));
        for word in FIELDS_TO_COME {
            if let Some((key, _)) = fields.take_unadvertised(word) {
                self.fault(key.place, format!("`{word}` is reserved: this host does not know it yet"));
            }
        }
        self.refuse_the_rest(fields, "a step");
        let (id, _) = id?;
        let place = if place.line == 0 { tree.place } else { place };
        Some(Node::Agent(Box::new(AgentStep { agent: agent?, id, with, validate, retry, place })))
    }

    fn name(&mut self, id: &StepName, number: usize, place: Place) {
        match self.names.get(id) {
            Some((_, first)) => {
                let message = format!(
                    "the step's name `{id}` is taken by the one at {first}; name this one with `id:`, names are unique in a \
                     document"
                );
                self.fault(place, message);
            }
            None => drop(self.names.insert(id.clone(), (number, place))),
        }
    }

    fn agent(&mut self, tree: &Tree, what: &str) -> Option<AgentRef> {
        let agent: AgentRef = self.parsed(tree, what)?;
        let first = self.agents.entry(agent.name.clone()).or_insert_with(|| agent.clone());
        if *first != agent {
            let message = format!("one document uses one version of an agent: `{agent}` stands here, `{first}` above");
            self.fault(tree.place, message);
        }
        Some(agent)
    }

    fn with(&mut self, tree: &Tree, step: usize) -> Option<With> {
        match &tree.kind {
            Kind::Text(text) if text.starts_with("$.") => self.pick(text, tree.place, step).map(With::Pick),
            Kind::Object(_) => match self.template(tree, step)? {
                Template::Object(fields) => Some(With::Fields(fields)),
                Template::Constant(Value::Object(fields)) => {
                    Some(With::Fields(fields.into_iter().map(|(k, v)| (k, Template::Constant(v))).collect()))
                }
                _ => None,
            },
            _ => {
                let message = format!("`with` is an object or a pick such as `$.input`, this is {}", tree.describe());
                self.fault(tree.place, message);
                None
            }
        }
    }

    fn template(&mut self, tree: &Tree, step: usize) -> Option<Template> {
        match &tree.kind {
            Kind::Text(text) => match text.strip_prefix('$') {
                Some(rest) if rest.starts_with('$') => Some(Template::Constant(rest.into())),
                Some(_) => self.pick(text, tree.place, step).map(Template::Pick),
                None => Some(Template::Constant(text.clone().into())),
            },
            Kind::List(items) => {
                let items: Vec<Template> = items.iter().filter_map(|item| self.template(item, step)).collect();
                let constants: Option<Vec<Value>> = items.iter().map(constant).collect();
                Some(constants.map_or(Template::Array(items), |values| Template::Constant(Value::Array(values))))
            }
            Kind::Object(fields) => {
                self.refuse_duplicates(fields);
                let fields: Vec<(String, Template)> = fields
                    .iter()
                    .filter_map(|(key, value)| Some((key.name.clone(), self.template(value, step)?)))
                    .collect();
                let constants: Option<serde_json::Map<String, Value>> =
                    fields.iter().map(|(name, value)| Some((name.clone(), constant(value)?))).collect();
                Some(constants.map_or(Template::Object(fields), |values| Template::Constant(Value::Object(values))))
            }
            Kind::Null | Kind::Bool(_) | Kind::Number(_) => Some(Template::Constant(tree.to_value())),
        }
    }

    fn pick(&mut self, text: &str, place: Place, step: usize) -> Option<Pick> {
        match text.parse::<Pick>() {
            Ok(pick) => {
                if let Source::Step(name) = &pick.source {
                    self.picks.push((name.clone(), step, place));
                }
                Some(pick)
            }
            Err(why) => {
                self.fault(place, why);
                None
            }
        }
    }

    /// A pick is of a step that comes before. The names are all known only once the whole document is read.
    fn check_picks(&mut self) {
        for (name, step, place) in std::mem::take(&mut self.picks) {
            match self.names.get(&name) {
                Some((number, _)) if *number < step => {}
                Some((number, _)) if *number == step => {
                    self.fault(place, format!("step `{name}` picks its own output: a cycle"));
                }
                Some((_, there)) => {
                    let message = format!(
                        "step `{name}` (at {there}) does not come before this one: a step picks from earlier ones, anything \
                         else would be a cycle"
                    );
                    self.fault(place, message);
                }
                None => {
                    let hint = nearest(name.as_str(), self.names.keys().map(StepName::as_str));
                    let hint = hint.map_or_else(String::new, |word| format!("; did you mean `{word}`?"));
                    self.fault(place, format!("there is no step `{name}` to pick from{hint}"));
                }
            }
        }
    }

    fn validate(&mut self, tree: &Tree) -> Option<Validate> {
        let mut fields = self.object(tree, "`validate`")?;
        let schema = fields.take("json-schema");
        let agent = fields.take("agent");
        self.refuse_the_rest(fields, "`validate`");
        match (schema, agent) {
            (Some(schema), None) => {
                if !matches!(schema.kind, Kind::Object(_) | Kind::Bool(_)) {
                    let message = format!("`json-schema` is a schema: an object, this is {}", schema.describe());
                    self.fault(schema.place, message);
                    return None;
                }
                Some(Validate::Schema { schema: schema.to_value(), place: schema.place })
            }
            (None, Some(agent)) => {
                Some(Validate::Agent { place: agent.place, agent: self.agent(agent, "`agent` of `validate`")? })
            }
            _ => {
                self.fault(tree.place, "`validate` has one of `json-schema` and `agent`");
                None
            }
        }
    }

    fn retry(&mut self, tree: &Tree) -> Retry {
        let mut retry = Retry::default();
        let Some(mut fields) = self.object(tree, "`retry`") else { return retry };
        if let Some(tree) = fields.take("attempts") {
            match &tree.kind {
                Kind::Number(n) if n.as_u64().is_some_and(|n| (1..=u64::from(Retry::MAX_ATTEMPTS)).contains(&n)) => {
                    retry.attempts = n.as_u64().and_then(|n| n.try_into().ok()).unwrap_or(1);
                }
                _ => self.fault(
                    tree.place,
                    format!("`attempts` is a whole number from 1 to {}, all tries together", Retry::MAX_ATTEMPTS),
                ),
            }
        }
        if let Some(tree) = fields.take("factor") {
            match &tree.kind {
                Kind::Number(n) if n.as_f64().is_some_and(|n| (1.0..=Retry::MAX_FACTOR).contains(&n)) => {
                    retry.factor = n.as_f64().unwrap_or(1.0);
                }
                _ => self.fault(tree.place, format!("`factor` is a number from 1 to {}", Retry::MAX_FACTOR)),
            }
        }
        if let Some(wait) = fields.take("backoff").and_then(|tree| self.wait(tree, "`backoff`")) {
            retry.backoff = wait;
            retry.max = retry.max.max(wait);
        }
        if let Some(tree) = fields.take("max")
            && let Some(wait) = self.wait(tree, "`max`")
        {
            if wait < retry.backoff {
                let backoff = humantime::format_duration(retry.backoff);
                self.fault(tree.place, format!("`max` is at least as long as `backoff`, which is {backoff}"));
            }
            retry.max = wait;
        }
        self.refuse_the_rest(fields, "`retry`");
        retry
    }

    fn wait(&mut self, tree: &Tree, what: &str) -> Option<Duration> {
        let most = humantime::format_duration(Retry::MAX_WAIT);
        let wait = match &tree.kind {
            Kind::Text(text) => humantime::parse_duration(text).ok(),
            _ => None,
        };
        let wait = wait.filter(|wait| (Duration::from_millis(1)..=Retry::MAX_WAIT).contains(wait));
        if wait.is_none() {
            self.fault(tree.place, format!("{what} is a duration such as `200ms`, `2s` or `1m`, from 1ms to {most}"));
        }
        // Back-off counts in milliseconds, as the journal does.
        wait.map(|wait| Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
    }

    fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self, tree: &Tree, what: &str) -> Option<T> {
        let Kind::Text(text) = &tree.kind else {
            self.fault(tree.place, format!("{what} is a text, this is {}", tree.describe()));
            return None;
        };
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(tree.place, format!("{what}: {error}"));
                None
            }
        }
    }

    fn object<'t>(&mut self, tree: &'t Tree, what: &str) -> Option<Fields<'t>> {
        let Kind::Object(fields) = &tree.kind else {
            self.fault(tree.place, format!("{what} is an object, this is {}", tree.describe()));
            return None;
        };
        self.refuse_duplicates(fields);
        Some(Fields { left: fields.iter().map(|(key, value)| (key, value)).collect(), known: Vec::new() })
    }

    fn refuse_duplicates(&mut self, fields: &[(Key, Tree)]) {
        let mut seen: HashMap<&str, Place> = HashMap::new();
        for (key, _) in fields {
            if let Some(first) = seen.insert(&key.name, key.place) {
                self.fault(key.place, format!("`{}` stands here a second time, first at {first}", key.name));
            }
        }
    }

    fn refuse_the_rest(&mut self, fields: Fields<'_>, what: &str) {
        let Fields { left, known } = fields;
        let mut told: Vec<&str> = Vec::new();
        for (key, _) in left {
            // A second one of a known name has been told already.
            if known.contains(&key.name.as_str()) || told.contains(&key.name.as_str()) {
                continue;
            }
            told.push(&key.name);
            let name: String = key.name.chars().take(80).collect();
            let hint = match nearest(&key.name, known.iter().copied()) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("known are {}", known.join(", ")),
            };
            self.fault(key.place, format!("{what} has no field `{name}`; {hint}"));
        }
    }
}

fn constant(template: &Template) -> Option<Value> {
    match template {
        Template::Constant(value) => Some(value.clone()),
        Template::Pick(_) | Template::Object(_) | Template::Array(_) => None,
    }
}

/// The known word that was probably meant.
fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if given.len() > 64 {
        return None;
    }
    known
        .into_iter()
        .map(|word| (strsim::osa_distance(given, word), word))
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4)
        .min()
        .map(|(_, word)| word)
}
