//! An entry of a run's journal as somebody is shown it: without what they may not read elsewhere either, and without what is
//! large, unless it is asked for alone.
//!
//! Invariants: where anything is left out its place says so: `{"redacted": "memory:read"}` names what may be read by those who
//! may, `{"large": …}` how much there is. The seed of a run's randomness is shown to nobody.
//!
//! To add a kind of event whose content is large or not everybody's: a line in [`Shown::of`].

use ltmc_model::effect::{Refusal, Reply};
use ltmc_model::fork::{Answer, Conflict, Done, Merged};
use ltmc_model::journal::{Amendment, Decided, Effect, Entry, Event, Placed, RunStarted};
use ltmc_model::question::Question;
use ltmc_model::workflow::Node;
use ltmc_model::{Digest, Payload, Seq, StepPath, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// Content of more bytes is shown only where it is asked for alone.
pub const LARGE: usize = 16 << 10;
/// JSON of more bytes is shown as a text: as a tree it would take many times its room.
const LARGE_TREE: usize = 1 << 20;

/// What somebody may read besides runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// Shared context: memory, graph, recall, messages.
    pub context: bool,
    /// Workflows' documents.
    pub definitions: bool,
}

/// How much of an entry is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// What is large is left out: one of many.
    Short,
    /// All of it: alone.
    Whole,
}

/// An entry as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Shown {
    /// Its number in the run, from 1 on.
    pub seq: Seq,
    /// By the host's clock.
    pub at: Timestamp,
    /// What happened: an object with one field, whose name is the kind.
    pub event: Value,
    /// Its kind.
    #[serde(skip)]
    pub kind: &'static str,
    /// Whether something large was left out.
    #[serde(skip)]
    pub is_short: bool,
}

impl Shown {
    /// An entry, to somebody of this sight.
    pub fn of(placed: Placed, sight: Sight, extent: Extent) -> Self {
        let Placed { seq, entry: Entry { at, mut event } } = placed;
        let kind = event.kind();
        let mut show = Show { sight, extent, is_short: false };
        let parts = show.parts(&mut event);
        let mut event = serde_json::to_value(&event).unwrap_or_default();
        if let Some(inside) = event.get_mut(kind).and_then(Value::as_object_mut) {
            inside.extend(parts);
        }
        Self { seq, at, event, kind, is_short: show.is_short }
    }
}

struct Show {
    sight: Sight,
    extent: Extent,
    is_short: bool,
}

/// Whether what is asked there is what becomes of a conflict, which shows what memory holds.
fn is_of_conflict(node: &StepPath) -> bool {
    node.way().any(Node::is_settling)
}

impl Show {
    /// What takes the place of an event's fields, taken out of it.
    fn parts(&mut self, event: &mut Event) -> Map<String, Value> {
        let mut parts = Map::new();
        match event {
            Event::RunStarted(started) => self.started(started, &mut parts),
            Event::StepCompleted { output, .. } | Event::NodeEnded { output, .. } => {
                parts.insert("output".into(), self.payload(std::mem::take(output)));
            }
            Event::HandedOff(handed) => {
                if let Some(passed) = handed.passed.take() {
                    parts.insert("passed".into(), self.payload(passed));
                }
            }
            Event::EventTaken { event, .. } => {
                let event = std::mem::take(event);
                let event = if self.sight.context { self.payload(event) } else { redacted("message:read") };
                parts.insert("event".into(), event);
            }
            Event::Answered { node, answer, .. } => {
                let answer = std::mem::take(answer);
                let is_hidden = is_of_conflict(node) && !self.sight.context;
                let answer = if is_hidden { redacted("memory:read") } else { self.payload(answer) };
                parts.insert("answer".into(), answer);
            }
            Event::Asked { node, question, .. } => {
                parts.insert("question".into(), self.question(node, question));
            }
            Event::ChildEnded { result: Ok(output), .. } => {
                let output = self.payload(std::mem::take(output));
                parts.insert("result".into(), json!({ "Ok": output }));
            }
            Event::NodeDecided { decided: Decided::Items(items), .. } => {
                let bytes = items.iter().map(|item| item.bytes.len()).sum();
                if self.leaves_out(bytes) {
                    let large = json!({"items": items.len(), "large": {"bytes": bytes}});
                    parts.insert("decided".into(), json!({ "items": large }));
                    items.clear();
                }
            }
            Event::Amended(amended) => {
                let (what, payload) = match &mut amended.change {
                    Amendment::Again => return parts,
                    Amendment::Output(payload) => ("output", payload),
                    Amendment::Gave(payload) => ("gave", payload),
                    Amendment::Input(payload) => ("input", payload),
                };
                let payload = self.payload(std::mem::take(payload));
                parts.insert("change".into(), json!({ what: payload }));
            }
            Event::BasePinned { base, .. } => {
                if let Some(base) = base.take() {
                    let bytes = base.value.len();
                    parts.insert("base".into(), self.of_context(&base, bytes, "memory:read"));
                }
            }
            Event::BranchChanged(done) => self.branch(done, &mut parts),
            Event::ContextMerged(merged) => self.merged(merged, &mut parts),
            Event::ContextConflicted { conflicts, .. } => self.conflicts(conflicts),
            Event::ConflictRaised(raised) => {
                if let Some(current) = raised.current.take() {
                    let bytes = current.value.len();
                    parts.insert("current".into(), self.of_context(&current, bytes, "memory:read"));
                }
                self.conflicts(std::slice::from_mut(&mut raised.conflict));
            }
            Event::MergeAnswered { answer: Answer::Value(json), .. } => {
                let json = std::mem::take(json);
                let value = self.of_context(&json, json.len(), "memory:read");
                parts.insert("answer".into(), json!({ "value": value }));
            }
            Event::Effect(effect) => {
                parts.insert("reply".into(), self.reply(effect));
            }
            _ => {}
        }
        parts
    }

    fn started(&mut self, started: &mut RunStarted, parts: &mut Map<String, Value>) {
        parts.insert("seed".into(), redacted("run:seed"));
        parts.insert("input".into(), self.payload(std::mem::take(&mut started.input)));
        if let Some(document) = started.document.take() {
            let document = if self.sight.definitions { self.text(&document) } else { redacted("workflow:read") };
            parts.insert("document".into(), document);
        }
    }

    /// What is asked, with what is shown beside it.
    fn question(&mut self, node: &StepPath, question: &mut Question) -> Value {
        let is_hidden = is_of_conflict(node) && !self.sight.context;
        let show = question.show.take().map(|show| match is_hidden {
            true => redacted("memory:read"),
            false => self.payload(show),
        });
        let mut asked = serde_json::to_value(&*question).unwrap_or_default();
        if let (Some(show), Some(asked)) = (show, asked.as_object_mut()) {
            asked.insert("show".into(), show);
        }
        asked
    }

    /// What was done in a branch of a fork.
    fn branch(&mut self, done: &mut Done, parts: &mut Map<String, Value>) {
        let bytes = done.size();
        let (changed, sent) = (std::mem::take(&mut done.changed), std::mem::take(&mut done.sent));
        for (name, count, value, right) in [
            ("changed", changed.len(), json!(changed), "memory:read"),
            ("sent", sent.len(), json!(sent), "message:read"),
        ] {
            if count > 0 {
                parts.insert(name.into(), self.of_context(&value, bytes, right));
            }
        }
    }

    /// What branches came to together.
    fn merged(&mut self, merged: &mut Merged, parts: &mut Map<String, Value>) {
        let changed = std::mem::take(&mut merged.changed);
        let bytes = changed.iter().map(|(key, side)| key.len() + side.size()).sum();
        if !changed.is_empty() {
            parts.insert("changed".into(), self.of_context(&changed, bytes, "memory:read"));
        }
        self.conflicts(&mut merged.conflicts);
    }

    /// What is of shared context, to those who may look at that.
    fn of_context(&mut self, value: &impl Serialize, bytes: usize, right: &str) -> Value {
        if !self.sight.context {
            return redacted(right);
        }
        if self.leaves_out(bytes) {
            return json!({"large": {"bytes": bytes}});
        }
        serde_json::to_value(value).unwrap_or_default()
    }

    fn conflicts(&self, conflicts: &mut [Conflict]) {
        if !self.sight.context {
            conflicts.iter_mut().for_each(Conflict::redact);
        }
    }

    fn payload(&mut self, payload: Payload) -> Value {
        if self.leaves_out(payload.bytes.len()) {
            let large = json!({"bytes": payload.bytes.len(), "digest": Digest::of(&payload.bytes).to_string()});
            return json!({"content-type": payload.content_type, "large": large});
        }
        match std::str::from_utf8(&payload.bytes) {
            Ok(text) if text.len() > LARGE_TREE => json!({"content-type": payload.content_type, "text": text}),
            _ => serde_json::to_value(&payload).unwrap_or_default(),
        }
    }

    fn text(&mut self, text: &str) -> Value {
        match self.leaves_out(text.len()) {
            true => json!({"large": {"bytes": text.len()}}),
            false => text.into(),
        }
    }

    fn reply(&mut self, effect: &mut Effect) -> Value {
        let reply = std::mem::replace(&mut effect.reply, Err(Refusal::NotFound));
        let Ok(reply) = reply else { return serde_json::to_value(&reply).unwrap_or_default() };
        if !self.sight.context && holds_context(&reply) {
            let interface = effect.call.split('.').next().unwrap_or_default();
            return json!({"Ok": redacted(&format!("{interface}:read"))});
        }
        let bytes = usize::try_from(reply.size()).unwrap_or(usize::MAX);
        if self.leaves_out(bytes) {
            return json!({"Ok": {"large": {"bytes": bytes}}});
        }
        json!({"Ok": serde_json::to_value(&reply).unwrap_or_default()})
    }

    fn leaves_out(&mut self, bytes: usize) -> bool {
        let leaves_out = self.extent == Extent::Short && bytes > LARGE;
        self.is_short |= leaves_out;
        leaves_out
    }
}

fn redacted(what: &str) -> Value {
    json!({ "redacted": what })
}

/// Whether a reply holds anything of shared context, rather than what became of a change.
fn holds_context(reply: &Reply) -> bool {
    match reply {
        Reply::Done | Reply::Revision(_) | Reply::Existed(_) | Reply::Item(None) => false,
        // Who may look at a run may look at those that it began.
        Reply::Begun(_) | Reply::Ended(_) | Reply::Joined(_) => false,
        // Who has a turn in a session may read the session.
        Reply::History(_) | Reply::Handed(_) => false,
        // What a refusal says is in the declaration.
        Reply::State(told) => told.is_ok(),
        Reply::Item(Some(_))
        | Reply::Page(_)
        | Reply::Feed(_)
        | Reply::Facts(_)
        | Reply::Path(_)
        | Reply::Reached(_)
        | Reply::Order(_)
        | Reply::Hits(_)
        | Reply::Deliveries(_)
        | Reply::Events(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::memory::Item;
    use ltmc_model::run::Usage;
    use ltmc_model::{Position, Revision, StepPath};

    use super::*;

    const ALL: Sight = Sight { context: true, definitions: true };
    const OWN: Sight = Sight { context: false, definitions: false };

    fn placed(event: Event) -> Placed {
        Placed { seq: Seq(7), entry: Entry { at: Timestamp::from_millis(0), event } }
    }

    fn read(bytes: usize) -> Placed {
        let item = Item { key: "k".into(), value: vec![b'x'; bytes].into(), revision: Revision(1), expires_at: None };
        placed(Event::Effect(Effect {
            step: StepPath::root(),
            attempt: 1,
            number: 1,
            call: "memory.get".into(),
            about: "global/k".into(),
            form: 1,
            request: Digest([0; 32]),
            capability: None,
            withheld: false,
            clock: Vec::new(),
            reply: Ok(Reply::Item(Some(item))),
        }))
    }

    fn completed(output: Payload) -> Placed {
        placed(Event::StepCompleted { step: StepPath::root(), attempt: 1, output, usage: Usage::default() })
    }

    #[test]
    fn what_may_not_be_read_elsewhere_is_not_read_here() {
        let shown = Shown::of(read(10), OWN, Extent::Whole);
        assert_eq!(shown.event["effect"]["reply"], json!({"Ok": {"redacted": "memory:read"}}));
        assert_eq!((shown.kind, shown.event["effect"]["about"].as_str()), ("effect", Some("global/k")));
        let shown = Shown::of(read(10), ALL, Extent::Short);
        assert_eq!(shown.event["effect"]["reply"]["Ok"]["item"]["key"], "k");
        assert!(!shown.is_short);
    }

    /// Who may not read events finds none in the journal of its own run that waited for one.
    #[test]
    fn an_event_that_was_waited_for_is_shown_to_those_who_may_read_events() {
        let event = Payload::json(&json!({"data": {"secret": 7}}));
        let taken = || {
            let (node, event) = (StepPath::root(), event.clone());
            placed(Event::EventTaken { node, position: Position(3), event, trail: None })
        };
        let shown = Shown::of(taken(), OWN, Extent::Whole);
        assert_eq!(shown.event["event-taken"]["event"], json!({"redacted": "message:read"}));
        assert_eq!(shown.event["event-taken"]["position"], 3);
        assert!(!shown.event.to_string().contains("secret"));
        let plain = serde_json::to_value(taken()).unwrap();
        assert_eq!(serde_json::to_value(Shown::of(taken(), ALL, Extent::Short)).unwrap(), plain);
    }

    #[test]
    fn what_is_small_is_shown_as_it_is() {
        let small = completed(Payload::json(&json!({"a": 1})));
        let (plain, shown) = (serde_json::to_value(&small).unwrap(), Shown::of(small, OWN, Extent::Short));
        assert_eq!(serde_json::to_value(&shown).unwrap(), plain);
    }

    #[test]
    fn what_is_large_is_shown_alone() {
        let payload = Payload::text("x".repeat(LARGE + 1));
        let short = Shown::of(completed(payload.clone()), ALL, Extent::Short);
        let large = &short.event["step-completed"]["output"]["large"];
        assert_eq!(large["bytes"], LARGE + 1);
        assert_eq!(large["digest"], Digest::of(&payload.bytes).to_string());
        assert!(short.is_short && short.event.to_string().len() < 1_000);
        let whole = Shown::of(completed(payload), ALL, Extent::Whole);
        assert_eq!(whole.event["step-completed"]["output"]["text"].as_str().unwrap().len(), LARGE + 1);
        let short = Shown::of(read(LARGE + 1), ALL, Extent::Short);
        assert!(short.is_short && short.event["effect"]["reply"]["Ok"]["large"]["bytes"].as_u64() > Some(LARGE as u64));
    }

    #[test]
    fn a_large_tree_is_a_text() {
        let tree = format!("[{}1]", "1,".repeat(LARGE_TREE));
        let payload = Payload { content_type: Payload::JSON.into(), bytes: tree.into() };
        let whole = Shown::of(completed(payload), ALL, Extent::Whole);
        assert!(whole.event["step-completed"]["output"]["text"].is_string());
    }
}
