//! From a tree of values to a document: every check there is, each fault with its place.
//!
//! Invariant: reading never stops at a fault; what cannot be read is left out and the rest is still looked at.
//!
//! - `schedules`: when it is started by itself; `flow`: how fast, and by which events together
//! - `patterns`: what a node does
//! - `context`: what branches have to themselves
//! - `modifiers`: what every node may have
//! - `together`: what makes one of much
//! - `waits`: what a run waits for besides its own steps
//! - `values`: templates, picks, conditions
//! - `scope`: which names there are, and whether what is picked comes before
//! - `cases`: what is tried with a workflow, which is another file

use std::collections::HashMap;

use super::tree::{Key, Kind, Tree};
use super::{Document, Fault, Faults, MAX_FAULTS, MAX_NODES, MAX_STEPS, Place};
use crate::agent::AgentRef;
use crate::filter::Filter;
use crate::gather::{Gather, Rate};
use crate::run::Target;
use crate::trigger::Trigger;
use crate::{AgentName, WorkflowName};

mod cases;
mod context;
mod flow;
mod modifiers;
mod patterns;
mod schedules;
mod scope;
mod together;
mod values;
mod waits;

pub(super) use cases::cases;
use scope::Scope;

/// Reads a whole document.
pub(super) fn document(tree: &Tree, name: Option<&WorkflowName>) -> Result<Document, Faults> {
    Reader::default().whole(tree, name)
}

/// The same of one that a run is pinned to: what was right when it was put is not found wrong later.
pub(super) fn pinned(tree: &Tree) -> Result<Document, Faults> {
    Reader { is_pinned: true, ..Reader::default() }.whole(tree, None)
}

/// Reads what says which events are meant.
pub(super) fn filter(tree: &Tree) -> Result<Filter, Faults> {
    let mut reader = Reader::default();
    let read = reader.filter(tree);
    reader.finish(read)
}

#[derive(Default)]
struct Reader {
    faults: Vec<Fault>,
    scope: Scope,
    /// Every agent's name, with the first form it stands in.
    agents: HashMap<AgentName, AgentRef>,
    steps: usize,
    /// Nodes of all kinds.
    nodes: usize,
    /// Whether a run is pinned to the document.
    is_pinned: bool,
}

/// Reads a subscription by itself.
pub(super) fn subscription(tree: &Tree, start: Target) -> Result<Trigger, Faults> {
    let mut reader = Reader::default();
    let read = reader.heard(tree, Some(start));
    reader.finish(read)
}

/// Reads how a subscription starts runs.
pub(super) fn flow(tree: &Tree) -> Result<(Option<Rate>, Option<Gather>), Faults> {
    let mut reader = Reader::default();
    let read = reader.object(tree, "a subscription").map(|mut fields| {
        let read = (reader.rate(&mut fields), reader.gather(&mut fields));
        reader.refuse_the_rest(fields, "how a subscription starts runs");
        read
    });
    reader.finish(read)
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
    /// What was read, or everything that is wrong with it.
    fn finish<T>(self, read: Option<T>) -> Result<T, Faults> {
        let mut faults = self.faults;
        match read {
            Some(read) if faults.is_empty() => Ok(read),
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

    fn fault(&mut self, place: Place, message: impl Into<String>) {
        self.faults.push(Fault { place, message: message.into() });
    }

    fn whole(mut self, tree: &Tree, name: Option<&WorkflowName>) -> Result<Document, Faults> {
        let document = self.document(tree, name);
        self.check_picks();
        self.finish(document)
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
        let starts = fields.take("on").map_or_else(Default::default, |tree| self.starts(tree, name.as_ref()));
        let (schedules, triggers) = starts;
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
        if self.nodes > MAX_NODES {
            let message = format!("a document has at most {MAX_NODES} nodes, this one has {}", self.nodes);
            self.fault(tree.place, message);
        }
        let document = Document { name: name?, schedules, triggers, flow: flow? };
        for (started, place) in document.workflows().filter(|(started, _)| **started == document.name) {
            self.fault(place, format!("`{started}` starts itself, and would never end"));
        }
        Some(document)
    }

    fn place_of(&self, tree: &Tree, field: &str) -> Place {
        match &tree.kind {
            Kind::Object(fields) => {
                fields.iter().find(|(key, _)| key.name == field).map_or(tree.place, |(_, value)| value.place)
            }
            _ => tree.place,
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

    /// A whole number within bounds.
    fn count(&mut self, tree: &Tree, what: &str, least: u32, most: u32) -> Option<u32> {
        let number = match &tree.kind {
            Kind::Number(n) => n.as_u64().and_then(|n| u32::try_from(n).ok()),
            _ => None,
        };
        let number = number.filter(|n| (least..=most).contains(n));
        if number.is_none() {
            self.fault(tree.place, format!("{what} is a whole number from {least} to {most}"));
        }
        number
    }

    /// A word of several.
    fn word<T: Copy>(&mut self, tree: &Tree, what: &str, words: &[(&'static str, T)]) -> Option<T> {
        if let Kind::Text(text) = &tree.kind
            && let Some((_, found)) = words.iter().find(|(word, _)| word == text)
        {
            return Some(*found);
        }
        let meant = match &tree.kind {
            Kind::Text(text) => nearest(text, words.iter().map(|(word, _)| *word)),
            _ => None,
        };
        let hint = meant.map_or_else(String::new, |word| format!("; did you mean `{word}`?"));
        let words: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
        self.fault(tree.place, format!("{what} is one of {}{hint}", words.join(", ")));
        None
    }

    fn list<'t>(&mut self, tree: &'t Tree, what: &str) -> Option<&'t [Tree]> {
        let Kind::List(items) = &tree.kind else {
            self.fault(tree.place, format!("{what}, this is {}", tree.describe()));
            return None;
        };
        Some(items)
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
            let hint = such_as(what, &tree.kind).map_or_else(String::new, |right| format!("; write `{right}`"));
            self.fault(tree.place, format!("{what} is an object, this is {}{hint}", tree.describe()));
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
        #[cfg(test)]
        tests::taken(what, &known);
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

/// What was probably meant where something is no object.
fn such_as(what: &str, given: &Kind) -> Option<&'static str> {
    Some(match (what, given) {
        ("a node of the flow", Kind::List(_)) => "sequence: […]",
        ("a node of the flow", Kind::Text(_)) => "{agent: NAME}",
        ("`retry`", _) => "{attempts: 3}",
        ("`validate`", _) => "{agent: NAME}` or `{json-schema: …}",
        ("`ask`", _) => "{title: …, of: admin}",
        ("`emit`", _) => "{topic: …, type: …}",
        ("`plan`", _) => "{agent: NAME, may: [NAME, …]}",
        ("an option of `choice`", _) => "{when: …, do: …}` or `{else: …}",
        ("an entry of `on-error`", _) => "{when: …, do: …}",
        ("an entry of `on`", _) => "{schedule: \"0 6 * * *\"}` or `{topic: …}",
        _ => return None,
    })
}

/// The known word that was probably meant.
pub(super) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if given.len() > 64 {
        return None;
    }
    known
        .into_iter()
        .map(|word| (strsim::osa_distance(given, word), word))
        // One that has no letter in common is none.
        .filter(|(distance, word)| *distance <= 1 + word.len() / 4 && *distance < word.len().max(given.len()))
        .min()
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests;
