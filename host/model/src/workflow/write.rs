//! The canonical form of a document: what is as by default is left out, so that a run is pinned to one form only.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{
    Ask, Collect, Condition, Debate, Document, Does, Emit, HandOff, Handler, Listen, MapItems, Moment, Need, Needed,
    Node, OnFailure, OnLoss, Parallel, Pass, Pick, Planning, Remind, Retry, Rule, Schedule, Since, Template, Test,
    Then, Tolerate, Validate, Vote, Wait, With,
};
use crate::child::OnParentEnd;
use crate::gather::{Batch, Gather, Join, Rate};
use crate::memory::Drawer;
use crate::trigger::{Feed, OnPoison, Trigger, Watched};

impl Document {
    /// The one form that a run is pinned to: what is as by default is left out.
    pub fn to_json(&self) -> String {
        let mut out = json!({ "name": self.name });
        if !self.schedules.is_empty() || !self.triggers.is_empty() {
            let heard = self.triggers.iter().map(|heard| heard_value(&heard.trigger));
            out["on"] = self.schedules.iter().map(Schedule::to_value).chain(heard).collect();
        }
        out["flow"] = self.flow.to_value();
        out.to_string()
    }
}

/// What starts a workflow, which is the one it stands in.
fn heard_value(trigger: &Trigger) -> Value {
    let Trigger { feed, filter, start: _, at_once, on_poison, rate, gather } = trigger;
    let mut out = match feed {
        Feed::Topic(topic) => json!({"topic": topic}),
        Feed::Memory(Watched { drawer: Drawer::Global, prefix }) => json!({"memory": prefix}),
        Feed::Memory(Watched { drawer, prefix }) => {
            json!({"memory": prefix, "scope": drawer.scope().to_string(), "owner": drawer.owner()})
        }
    };
    if let Some(filter) = filter {
        out["where"] = filter.source().clone();
    }
    if *at_once != Trigger::AT_ONCE {
        out["at-once"] = (*at_once).into();
    }
    if *on_poison != OnPoison::default() {
        out["on-poison"] = on_poison.as_str().into();
    }
    if let Some(Rate { starts, per }) = rate {
        out["rate"] = json!({"starts": starts, "per": duration(Duration::from_millis(*per))});
    }
    let lasts = |millis: &u64| duration(Duration::from_millis(*millis));
    match gather {
        None => {}
        Some(Gather::Debounce(quiet)) => out["debounce"] = lasts(quiet),
        Some(Gather::Batch(Batch { events, within })) => {
            out["batch"] = json!({"events": events, "within": lasts(within)});
        }
        Some(Gather::Join(Join { of, need, by, within })) => {
            let of: Map<String, Value> = of.iter().map(|(name, of)| (name.clone(), of.source().clone())).collect();
            let escaped = |part: &String| format!("/{}", part.replace('~', "~0").replace('/', "~1"));
            let by = format!("$.event{}", by.iter().map(escaped).collect::<String>());
            out["join"] = json!({"of": of, "need": need, "by": by, "within": lasts(within)});
        }
    }
    out
}

/// How a subscription starts runs, as a document says it: `rate`, `debounce`, `batch` and `join`, those that it has.
pub(super) fn flow_value(trigger: &Trigger) -> Value {
    let mut out = heard_value(trigger);
    if let Some(fields) = out.as_object_mut() {
        fields.retain(|name, _| ["rate", "debounce", "batch", "join"].contains(&name.as_str()));
    }
    out
}

impl Schedule {
    pub(super) fn to_value(&self) -> Value {
        let timing = &self.timing;
        let mut out = json!({
            "schedule": timing.cron().as_str(),
            "zone": timing.zone().as_str(),
            "overlap": timing.overlap().as_str(),
            "catch-up": duration(timing.catch_up()),
        });
        if let Some(until) = timing.until() {
            out["until"] = until.to_string().into();
        }
        if let Some(input) = &self.input {
            out["input"] = input.clone();
        }
        out
    }
}

impl Node {
    pub(super) fn to_value(&self) -> Value {
        let mut out = Map::new();
        self.pattern(&mut out);
        let own_name = match &self.does {
            Does::Agent(agent) => Some(agent.name.as_str()),
            _ => None,
        };
        if let Some(id) = self.id.as_ref().filter(|id| Some(id.as_str()) != own_name) {
            out.insert("id".into(), id.as_str().into());
        }
        match &self.with {
            Some(With::Pick(pick)) => drop(out.insert("with".into(), pick.to_value())),
            Some(With::Fields(fields)) => drop(out.insert("with".into(), fields_to_value(fields))),
            None => {}
        }
        match &self.validate {
            Some(Validate::Schema { schema, .. }) => {
                out.insert("validate".into(), json!({ "json-schema": schema }));
            }
            Some(Validate::Agent { agent, .. }) => {
                out.insert("validate".into(), json!({ "agent": agent.to_string() }));
            }
            None => {}
        }
        if self.retry != Retry::none() {
            out.insert("retry".into(), self.retry.to_value());
        }
        if let Some(when) = &self.when {
            out.insert("when".into(), when.to_value());
        }
        if let Some(timeout) = self.timeout {
            out.insert("timeout".into(), duration(timeout));
        }
        if !self.fallback.is_empty() {
            out.insert("fallback".into(), self.fallback.iter().map(Self::to_value).collect());
        }
        if !self.on_error.is_empty() {
            out.insert("on-error".into(), self.on_error.iter().map(Handler::to_value).collect());
        }
        if let Some(node) = &self.compensate {
            out.insert("compensate".into(), node.to_value());
        }
        Value::Object(out)
    }

    /// The pattern's word, and the fields that are its own.
    fn pattern(&self, out: &mut Map<String, Value>) {
        let mut put = |name: &str, value: Value| drop(out.insert(name.into(), value));
        match &self.does {
            Does::Agent(agent) => put("agent", agent.to_string().into()),
            Does::Need(needed) => {
                put("need", needed.text.as_str().into());
                if !needed.among.is_empty() {
                    put("among", needed.among.iter().map(|(agent, _)| agent.to_string()).collect());
                }
                if needed.at_least != Needed::AT_LEAST {
                    put("at-least", needed.at_least.into());
                }
            }
            Does::Sequence(children) => put("sequence", children.iter().map(Self::to_value).collect()),
            Does::Parallel(parallel) => parallel.put(&mut put),
            Does::Choice(choice) => {
                let options = choice.options.iter().map(Handler::to_value);
                let otherwise = choice.otherwise.iter().map(|node| json!({ "else": node.to_value() }));
                put("choice", options.chain(otherwise).collect());
            }
            Does::Map(map) => {
                put("map", map.over.to_value());
                if let Some(name) = &map.name {
                    put("as", name.as_str().into());
                }
                put("do", map.body.to_value());
                if map.at_once != MapItems::AT_ONCE {
                    put("at-once", map.at_once.into());
                }
                match map.tolerate {
                    Tolerate::Count(0) => {}
                    Tolerate::Count(count) => put("tolerate", count.into()),
                    Tolerate::Share(share) => put("tolerate", json!({ "share": share })),
                }
                if let Some(context) = &map.context {
                    put("context", context.to_value(|number| number.to_string()));
                }
                if map.collect != Collect::List {
                    put("collect", map.collect.to_value());
                }
            }
            Does::Loop(again) => {
                put("loop", again.body.to_value());
                if let Some(until) = &again.until {
                    put("until", until.to_value());
                }
                put("at-most", again.at_most.into());
                if let Some(stall) = again.stall {
                    put("stall", stall.into());
                }
            }
            Does::Debate(debate) => put("debate", debate.to_value()),
            Does::HandOff(goes) => put("hand-off", goes.to_value()),
            // They are written with their debate, and their policy.
            Does::Turn(_) | Does::Settle(_) => {}
            Does::Wait(wait) => put("wait", wait.to_value()),
            Does::Ask(ask) => put("ask", ask.to_value()),
            Does::Emit(emit) => put("emit", emit.to_value()),
            Does::Plan(planning) => {
                let mut plan = planning.planner.to_value();
                plan["may"] = planning.may.iter().map(|(agent, _)| agent.to_string()).collect();
                if planning.depth != Planning::DEPTH {
                    plan["depth"] = planning.depth.into();
                }
                if planning.at_most != Planning::AT_MOST {
                    plan["at-most"] = planning.at_most.into();
                }
                match planning.approve {
                    None => {}
                    Some(Planning::APPROVES) => plan["approve"] = true.into(),
                    Some(role) => plan["approve"] = json!(role),
                }
                put("plan", plan);
            }
            Does::Workflow(started) => {
                put("workflow", started.workflow.as_str().into());
                if started.on_parent_end == OnParentEnd::Abandon {
                    put("on-parent-end", "abandon".into());
                }
            }
        }
    }
}

impl Parallel {
    fn put(&self, put: &mut impl FnMut(&str, Value)) {
        let is_named = self.branches.iter().any(|(name, _)| name.is_some());
        if is_named {
            let named = |(name, node): &(Option<super::StepName>, Node)| {
                Some((name.as_ref()?.as_str().to_owned(), node.to_value()))
            };
            put("parallel", Value::Object(self.branches.iter().filter_map(named).collect()));
        } else {
            put("parallel", self.branches.iter().map(|(_, node)| node.to_value()).collect());
        }
        match self.need {
            Need::All => {}
            Need::Any => put("need", "any".into()),
            Need::Count(count) => put("need", count.into()),
            Need::Share(share) => put("need", json!({ "share": share })),
        }
        if self.on_failure == OnFailure::Continue {
            put("on-failure", "continue".into());
        }
        if self.on_loss == OnLoss::Finish {
            put("on-loss", "finish".into());
        }
        if let Some(at_once) = self.at_once {
            put("at-once", at_once.into());
        }
        if let Some(context) = &self.context {
            let called =
                |number: u32| self.name(number as usize).map_or_else(|| number.to_string(), ToString::to_string);
            put("context", context.to_value(called));
        }
        match (&self.collect, is_named) {
            (Collect::List, false) | (Collect::Object, true) => {}
            (collect, _) => put("collect", collect.to_value()),
        }
    }
}

impl Collect {
    fn to_value(&self) -> Value {
        match self {
            Self::List => "list".into(),
            Self::Object => "object".into(),
            Self::Merge => "merge".into(),
            Self::First => "first".into(),
            Self::Agent(node) => node.to_value(),
            Self::Vote(vote) => vote.to_value(),
        }
    }
}

impl Vote {
    fn to_value(&self) -> Value {
        let mut out = json!({ "vote": self.pointer() });
        if self.rule != Rule::default() {
            out["rule"] = self.rule.as_str().into();
        }
        if let Some(node) = &self.tie {
            out["tie"] = node.to_value();
        }
        out
    }
}

impl Debate {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        out.insert("among".into(), self.among().iter().map(Node::to_value).collect());
        if let Some(chair) = self.chair() {
            out.insert("next".into(), chair.to_value());
        }
        out.insert("rounds".into(), self.rounds.into());
        if let Some(until) = &self.until {
            out.insert("until".into(), until.to_value());
        }
        if let Some(close) = &self.close {
            out.insert("close".into(), close.to_value());
        }
        out.into()
    }
}

impl HandOff {
    fn to_value(&self) -> Value {
        let start = self.names().get(self.start).map_or_else(String::new, ToString::to_string);
        let among: Vec<Value> = self.among().iter().map(Node::to_value).collect();
        let mut out = json!({ "start": start, "among": among });
        match &self.pass {
            Pass::Full => {}
            Pass::Summary => out["pass"] = "summary".into(),
            Pass::Last(turns) => out["pass"] = json!({ "last": turns }),
            Pass::Fields(fields) => out["pass"] = json!({ "fields": fields }),
        }
        if self.at_most != ltmc_rules::hand_off::AT_MOST {
            out["at-most"] = self.at_most.into();
        }
        if self.per_pair != ltmc_rules::hand_off::PER_PAIR {
            out["per-pair"] = self.per_pair.into();
        }
        if let Some(idle) = self.idle {
            out["idle"] = duration(idle);
        }
        out
    }
}

impl Ask {
    fn to_value(&self) -> Value {
        let mut out = json!({ "title": self.title, "of": self.of });
        if let Some(show) = &self.show {
            out["show"] = show.to_value();
        }
        if let Some((schema, _)) = &self.schema {
            out["schema"] = schema.clone();
        }
        if let Some(remind) = &self.remind {
            out["remind"] = remind.to_value();
        }
        out
    }
}

impl Remind {
    pub(super) fn to_value(&self) -> Value {
        json!({ "every": duration(self.every), "topic": self.topic })
    }
}

impl Emit {
    fn to_value(&self) -> Value {
        let mut out = json!({ "topic": self.topic, "type": self.kind });
        for (name, template) in [("subject", &self.subject), ("data", &self.data)] {
            if let Some(template) = template {
                out[name] = template.to_value();
            }
        }
        out
    }
}

impl Wait {
    fn to_value(&self) -> Value {
        match self {
            Self::For(long) => duration(*long),
            Self::Until(Moment::At(at)) => json!({ "until": at }),
            Self::Until(Moment::Picked(pick)) => json!({ "until": pick.to_value() }),
            Self::Event(listen) => listen.to_value(),
        }
    }
}

impl Listen {
    fn to_value(&self) -> Value {
        let mut out = json!({ "topic": self.topic });
        let mut matches = Map::new();
        if let Some(subject) = &self.subject {
            matches.insert("subject".into(), subject.to_value());
        }
        if let Some(kind) = &self.kind {
            matches.insert("type".into(), kind.as_str().into());
        }
        if !matches.is_empty() {
            out["match"] = matches.into();
        }
        if let Some(filter) = &self.filter {
            out["where"] = filter.to_value();
        }
        if self.since == Since::Run {
            out["since"] = "run".into();
        }
        out
    }
}

impl Handler {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        if let Some(when) = &self.when {
            out.insert("when".into(), when.to_value());
        }
        out.insert("do".into(), self.node.to_value());
        Value::Object(out)
    }
}

/// Conditions are a type of the rules': what writes them is a trait of this file's.
trait Written {
    fn to_value(&self) -> Value;
}

impl Written for Condition {
    fn to_value(&self) -> Value {
        let list = |parts: &[Self]| parts.iter().map(Self::to_value).collect::<Value>();
        let (pick, test) = match self {
            Self::All(parts) => return json!({ "all": list(parts) }),
            Self::Any(parts) => return json!({ "any": list(parts) }),
            Self::Not(part) => return json!({ "not": part.to_value() }),
            Self::Test { pick, test } => (pick, test),
        };
        let mut out = json!({ "pick": pick.to_string() });
        if let Some(or_else) = &pick.or_else {
            out["else"] = or_else.clone();
        }
        let (word, value) = match test {
            Test::Equals(value) => ("equals", value.clone()),
            Test::In(values) => ("in", values.clone().into()),
            Test::Less(number) => ("less", number.clone().into()),
            Test::AtLeast(number) => ("at-least", number.clone().into()),
            Test::Prefix(text) => ("prefix", text.as_str().into()),
            Test::Suffix(text) => ("suffix", text.as_str().into()),
            Test::Exists(there) => ("exists", (*there).into()),
            Test::Fits(schema) => ("json-schema", schema.clone()),
        };
        out[word] = value;
        out
    }
}

impl Pick {
    fn to_value(&self) -> Value {
        match &self.or_else {
            Some(or_else) => json!({ "pick": self.to_string(), "else": or_else }),
            None => self.to_string().into(),
        }
    }
}

impl Template {
    fn to_value(&self) -> Value {
        match self {
            Self::Constant(value) => escaped(value),
            Self::Pick(pick) => pick.to_value(),
            Self::Object(fields) => fields_to_value(fields),
            Self::Array(items) => Value::Array(items.iter().map(Self::to_value).collect()),
        }
    }
}

/// A constant, with its texts written so that they are none of them picks.
fn escaped(value: &Value) -> Value {
    match value {
        Value::String(text) if text.starts_with('$') => format!("${text}").into(),
        Value::Array(items) => items.iter().map(escaped).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), escaped(value))).collect(),
        value => value.clone(),
    }
}

fn fields_to_value(fields: &[(String, Template)]) -> Value {
    Value::Object(fields.iter().map(|(name, value)| (name.clone(), value.to_value())).collect())
}

impl Retry {
    fn to_value(&self) -> Value {
        let mut out = json!({
            "attempts": self.attempts,
            "backoff": duration(self.backoff),
            "factor": self.factor,
            "max": duration(self.max),
        });
        if !self.on.is_empty() {
            out["on"] = self.on.iter().map(|code| code.as_str()).collect();
        }
        if self.then == Then::Pause {
            out["then"] = "pause".into();
        }
        out
    }
}

pub(super) fn duration(duration: Duration) -> Value {
    humantime::format_duration(duration).to_string().into()
}
