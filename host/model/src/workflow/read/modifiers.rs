//! What every node may have besides what it does.

use std::time::Duration;

use super::super::tree::{Key, Kind, Tree};
use super::super::{Condition, Does, Handler, Node, Place, Retry, StepName, Then, Validate, With};
use super::scope::{Level, Place as At};
use super::{Fields, Reader};
use crate::failure::Code;

/// The shortest time-out, and the shortest back-off.
pub(super) const SHORTEST: Duration = Duration::from_millis(1);

/// A node's modifiers, of which what is done where it fails, and what undoes it, is read after it.
pub(super) struct Modifiers<'t> {
    pub(super) id: Option<(StepName, Place)>,
    pub(super) when: Option<Condition>,
    with: Option<With>,
    pub(super) with_at: Option<Place>,
    validate: Option<Validate>,
    retry: Retry,
    timeout: Option<Duration>,
    fallback: &'t [Tree],
    on_error: &'t [Tree],
    compensate: Option<(&'t Key, &'t Tree)>,
}

/// What is done where a node fails, and what undoes its work.
pub(super) struct Rescues {
    fallback: Vec<Node>,
    on_error: Vec<Handler>,
    compensate: Option<Box<Node>>,
}

impl Modifiers<'_> {
    /// Whether the run may go on where the node's own work failed.
    pub(super) fn is_handled(&self) -> bool {
        !self.fallback.is_empty() || !self.on_error.is_empty()
    }

    pub(super) fn into_node(self, does: Does, id: Option<StepName>, rescues: Rescues, place: Place) -> Node {
        let Self { when, with, validate, retry, timeout, .. } = self;
        let Rescues { fallback, on_error, compensate } = rescues;
        Node { does, id, when, with, validate, retry, timeout, fallback, on_error, compensate, place }
    }
}

impl Reader {
    /// Reads them. `is_step`: they are those of a step, which works on what its `with` says each time it is tried.
    pub(super) fn modifiers<'t>(&mut self, fields: &mut Fields<'t>, is_step: bool) -> Modifiers<'t> {
        let id = fields.take("id").and_then(|tree| Some((self.parsed::<StepName>(tree, "`id`")?, tree.place)));
        let with = fields.take("with");
        let (validate, retry) = (fields.take("validate"), fields.take("retry"));
        self.scope.is_tried_again = is_step && validate.is_some() && retry.is_some();
        let (with_at, with) = (with.map(|tree| tree.place), with.and_then(|tree| self.with(tree)));
        self.scope.is_tried_again = false;
        let validate = validate.and_then(|tree| self.validate(tree));
        let retry = retry.map_or_else(Retry::none, |tree| self.retry(tree));
        let when = fields.take("when").and_then(|tree| self.condition(tree));
        let timeout = fields.take("timeout").and_then(|tree| self.wait(tree, "`timeout`", SHORTEST, Node::MAX_TIMEOUT));
        let fallback = self.several(fields, "fallback", "`fallback` is a list of nodes");
        let on_error = self.several(fields, "on-error", "`on-error` is a list of `{when, do}`");
        let compensate = fields.take_pair("compensate");
        Modifiers { id, when, with, with_at, validate, retry, timeout, fallback, on_error, compensate }
    }

    fn several<'t>(&mut self, fields: &mut Fields<'t>, name: &'static str, what: &str) -> &'t [Tree] {
        let Some(tree) = fields.take(name) else { return &[] };
        let items = self.list(tree, what).unwrap_or_default();
        if matches!(tree.kind, Kind::List(_)) && !(1..=Node::MAX_RESCUES).contains(&items.len()) {
            self.fault(tree.place, format!("`{name}` has 1 to {} entries", Node::MAX_RESCUES));
        }
        items
    }

    /// Reads what is done where a node fails, and what undoes it, after the node itself.
    pub(super) fn rescues(&mut self, modifiers: &Modifiers<'_>, depth: usize) -> Rescues {
        self.scope.errors += 1;
        let mut rescues = Rescues { fallback: Vec::new(), on_error: Vec::new(), compensate: None };
        for (number, tree) in (Node::FALLBACK..).zip(modifiers.fallback) {
            let node = self.within(At::Body, number, true, |reader| reader.node(tree, depth + 1));
            rescues.fallback.extend(node);
        }
        for (number, tree) in (Node::HANDLER..).zip(modifiers.on_error) {
            let Some(mut fields) = self.object(tree, "an entry of `on-error`") else { continue };
            let condition =
                |reader: &mut Self, tree: &Tree| reader.within(At::Body, number, true, |r| r.condition(tree));
            let when = fields.take("when").map(|tree| condition(self, tree));
            let node = self.body(&mut fields, tree, At::Body, number, depth);
            self.refuse_the_rest(fields, "an entry of `on-error`");
            // One whose condition could not be read is left out.
            if let (Some(node), true) = (node, when.as_ref().is_none_or(Option::is_some)) {
                rescues.on_error.push(Handler { when: when.flatten(), node });
            }
        }
        rescues.compensate = modifiers.compensate.and_then(|(key, tree)| self.compensation(key, tree, depth));
        self.scope.errors -= 1;
        rescues
    }

    fn compensation(&mut self, key: &Key, tree: &Tree, depth: usize) -> Option<Box<Node>> {
        if self.scope.is_undoing {
            let message = "`compensate` stands within a `compensate`: what undoes something is not undone itself";
            self.fault(key.place, message);
            return None;
        }
        self.scope.is_undoing = true;
        self.scope.enter(Level { at: At::Compensation, number: Node::COMPENSATION, may_be_missing: true });
        let node = self.node(tree, depth + 1);
        self.scope.leave();
        self.scope.is_undoing = false;
        node.map(Box::new)
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
        if let Some(wait) =
            fields.take("backoff").and_then(|tree| self.wait(tree, "`backoff`", SHORTEST, Retry::MAX_WAIT))
        {
            retry.backoff = wait;
            retry.max = retry.max.max(wait);
        }
        if let Some(tree) = fields.take("max")
            && let Some(wait) = self.wait(tree, "`max`", SHORTEST, Retry::MAX_WAIT)
        {
            if wait < retry.backoff {
                let backoff = humantime::format_duration(retry.backoff);
                self.fault(tree.place, format!("`max` is at least as long as `backoff`, which is {backoff}"));
            }
            retry.max = wait;
        }
        retry.on = fields.take("on").map_or_else(Vec::new, |tree| self.codes(tree));
        if let Some(tree) = fields.take("then") {
            retry.then = self.word(tree, "`then`", &[("fail", Then::Fail), ("pause", Then::Pause)]).unwrap_or_default();
            if retry.then == Then::Pause && self.scope.is_undoing {
                let message =
                    "`then: pause` stands within a `compensate`: where that fails the run is `stuck` for people anyway";
                self.fault(tree.place, message);
            }
        }
        self.refuse_the_rest(fields, "`retry`");
        retry
    }

    fn codes(&mut self, tree: &Tree) -> Vec<Code> {
        let items = self.list(tree, "`on` is a list of codes of failures").unwrap_or_default();
        let words: Vec<(&'static str, Code)> = Code::ALL.iter().map(|code| (code.as_str(), *code)).collect();
        let mut codes = Vec::new();
        for item in items {
            if let Some(code) = self.word(item, "a code of `on`", &words)
                && !codes.contains(&code)
            {
                codes.push(code);
            }
        }
        if matches!(tree.kind, Kind::List(_)) && items.is_empty() {
            self.fault(tree.place, "`on` is empty: it has at least one code, or is left out");
        }
        codes
    }

    /// A duration within bounds.
    pub(super) fn wait(&mut self, tree: &Tree, what: &str, least: Duration, most: Duration) -> Option<Duration> {
        let wait = match &tree.kind {
            Kind::Text(text) => humantime::parse_duration(text).ok(),
            _ => None,
        };
        let wait = wait.filter(|wait| (least..=most).contains(wait));
        if wait.is_none() {
            let [least, most] = [least, most].map(humantime::format_duration);
            let message = format!("{what} is a duration such as `200ms`, `2s` or `1m`, from {least} to {most}");
            self.fault(tree.place, message);
        }
        // Durations count in milliseconds, as the journal does.
        wait.map(|wait| Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
    }
}
