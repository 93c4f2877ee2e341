//! Subscriptions that start runs: which events of a topic start an agent or a workflow, and in which order.
//!
//! People call them subscriptions; here they are triggers, for whoever watches, follows or waits has a subscription, too.
//!
//! Invariants: each event that fits starts one run of each trigger, or is among its dead letters with the reason. Events of one key (their
//! `partitionkey`, else their source) are started one after the other, in the order in which they were published.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::delta::MemoryChange;
use crate::filter::Filter;
use crate::gather::{Gather, Rate};
use crate::memory::{Drawer, MAX_KEY};
use crate::message::{Event, Topic};
use crate::run::Target;
use crate::{AgentName, Digest, Position, WorkflowName};

/// How many a tenant may have.
pub const MAX_OF_A_TENANT: u32 = 200;
/// How many runs of one may be under way at once.
pub const MAX_AT_ONCE: u32 = 100;
/// So many events wait at most: of more the topic is left where it is.
pub const MAX_WAITING: u32 = 1_000;
/// So many bytes of events wait at most, where it is more than one.
pub const MAX_WAITING_BYTES: u64 = 4 << 20;
/// So many events wait at most behind one that is parked: others of its key are dead letters.
pub const MAX_BEHIND: u32 = 100;
/// With so many dead letters it is paused.
pub const MAX_DEAD: u32 = 1_000;
/// So many events may follow from one, however far; of more none starts anything.
pub const MAX_CASCADE: u32 = 5_000;
/// For so long after the last one it is known how many did.
pub const CASCADE: Duration = Duration::from_secs(24 * 60 * 60);
/// Events by which a second one of the same source and id is known.
pub const WINDOW: u32 = 10_000;

text_name!(
    /// A subscription's name: a name of ours, or, of one that a workflow's document has, `WORKFLOW:NUMBER`, or of one that an agent's manifest asks for,
    /// `AGENT@NUMBER`.
    TriggerId,
    "a subscription's name",
    "a name of a-z, 0-9 and `-`, or WORKFLOW:NUMBER of one that stands in a workflow's document, or AGENT@NUMBER of one in a manifest",
    is_name
);

fn is_name(text: &str) -> bool {
    let (name, number) = text.split_once([':', '@']).map_or((text, None), |(name, number)| (name, Some(number)));
    let counts = |number: &str| number.parse::<u32>().is_ok_and(|n| n > 0 && n.to_string() == number);
    name.parse::<AgentName>().is_ok() && number.is_none_or(counts)
}

impl TriggerId {
    /// That of a workflow's document, by its number there, from 1 on.
    pub fn of_workflow(workflow: &WorkflowName, number: usize) -> Self {
        Self(format!("{workflow}:{number}").into())
    }

    /// That which an agent's manifest asks for, by its number there, from 1 on.
    pub fn of_agent(agent: &AgentName, number: usize) -> Self {
        Self(format!("{agent}@{number}").into())
    }

    /// Whether a manifest asks for it.
    pub fn is_of_manifest(&self) -> bool {
        self.0.contains('@')
    }

    /// Whether this agent's manifest asks for it.
    pub fn is_of_agent(&self, agent: &AgentName) -> bool {
        self.0.strip_prefix(agent.as_str()).is_some_and(|rest| rest.starts_with('@'))
    }

    /// Whether it stands in this workflow's document.
    pub fn is_of(&self, workflow: &WorkflowName) -> bool {
        self.0.strip_prefix(workflow.as_str()).is_some_and(|rest| rest.starts_with(':'))
    }

    /// Whether it stands in a workflow's document.
    pub fn is_of_workflow(&self) -> bool {
        self.0.contains(':')
    }
}

/// Which events start what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Trigger {
    /// What is looked through for events.
    #[serde(flatten)]
    pub feed: Feed,
    /// Those that fit; none: all.
    #[serde(default, rename = "where", skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// What they start.
    pub start: Target,
    /// How many runs are under way at once.
    pub at_once: u32,
    /// What becomes of the events of a key one of whose runs failed.
    pub on_poison: OnPoison,
    /// How many runs start in how long; none: as many as there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Which events start a run together; none: each starts its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gather: Option<Gather>,
}

/// What a subscription looks through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feed {
    /// A topic.
    Topic(Topic),
    /// Changes of memory.
    Memory(Watched),
}

/// Which keys of memory are watched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Watched {
    /// The scope, and whose memory in it.
    pub drawer: Drawer,
    /// What they begin with.
    pub prefix: String,
}

impl Watched {
    /// Whether a change is of one of them.
    pub fn concerns(&self, change: &MemoryChange) -> bool {
        self.drawer == change.drawer && change.key.starts_with(&self.prefix)
    }

    /// In a scope of which somebody is the owner, or nobody, as a document and a request say it.
    ///
    /// # Errors
    /// What is wrong with it: the field and why.
    pub fn of(scope: Option<&str>, owner: Option<&str>, prefix: &str) -> Result<Self, (&'static str, String)> {
        if prefix.len() > MAX_KEY {
            return Err(("memory", format!("what keys begin with has at most {MAX_KEY} bytes")));
        }
        let missing = |who: &str| ("owner", format!("`owner` is missing: which {who}'s memory it is"));
        let wrong = |why: &dyn std::fmt::Display| ("owner", why.to_string());
        let drawer = match (scope.unwrap_or("global"), owner) {
            ("global", None) => Drawer::Global,
            ("global", Some(_)) => return Err(("owner", "the tenant's memory has no `owner`".to_owned())),
            ("agent", None) => return Err(missing("agent")),
            ("agent", Some(name)) => Drawer::Agent(name.parse().map_err(|why| wrong(&why))?),
            ("session", None) => return Err(missing("session")),
            ("session", Some(id)) => Drawer::Session(id.parse().map_err(|why| wrong(&why))?),
            (other, _) => {
                let other: String = other.chars().take(40).collect();
                return Err(("scope", format!("`scope` is one of `global`, `agent`, `session`, not `{other}`")));
            }
        };
        Ok(Self { drawer, prefix: prefix.to_owned() })
    }
}

impl Feed {
    /// The topic, where it is one.
    pub fn topic(&self) -> Option<&Topic> {
        match self {
            Self::Topic(topic) => Some(topic),
            Self::Memory(_) => None,
        }
    }

    /// What of memory is watched, where it is that.
    pub fn watched(&self) -> Option<&Watched> {
        match self {
            Self::Topic(_) => None,
            Self::Memory(watched) => Some(watched),
        }
    }

    /// What it is called in an error: `its topic`, or `memory`.
    pub fn what(&self) -> &'static str {
        match self {
            Self::Topic(_) => "its topic",
            Self::Memory(_) => "memory's changes",
        }
    }
}

impl std::fmt::Display for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Topic(topic) => topic.fmt(f),
            Self::Memory(Watched { drawer, prefix }) => write!(f, "{} {prefix}", drawer.source()),
        }
    }
}

// What stands under `else` in a filter may be no number that equals itself: JSON has none.
impl Eq for Trigger {}

/// What becomes of an event whose run failed, and of those of its key that come after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnPoison {
    /// Its key waits until somebody releases it or skips it.
    #[default]
    ParkKey,
    /// It is a dead letter, and its key goes on.
    Skip,
}

impl OnPoison {
    /// All of them, by their words.
    pub const WORDS: [(&'static str, Self); 2] = [("park-key", Self::ParkKey), ("skip", Self::Skip)];

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ParkKey => "park-key",
            Self::Skip => "skip",
        }
    }

    /// Where an event stands that cannot be dealt with.
    pub fn stage(self) -> Stage {
        match self {
            Self::ParkKey => Stage::Parked,
            Self::Skip => Stage::Dead,
        }
    }
}

impl Trigger {
    /// How many runs are under way at once where nothing is said.
    pub const AT_ONCE: u32 = 8;

    /// Whether it takes an event in.
    pub fn fits(&self, event: &Event) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.fits(event))
            && self.gather.as_ref().is_none_or(|gather| gather.takes(event))
    }

    /// What an event is kept in order with.
    pub fn key(&self, event: &Event) -> String {
        self.gather.as_ref().map_or_else(|| event.key().to_owned(), |gather| gather.key(event))
    }

    /// Of all that it is.
    pub fn digest(&self) -> Digest {
        Digest::of(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }
}

/// One of a document that is put, or by itself, with where it begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Planted {
    /// What it is.
    pub trigger: Trigger,
    /// After which place of the log.
    pub after: Position,
}

/// By which event of which subscription a run was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Arrived {
    /// The name of the subscription.
    pub subscription: TriggerId,
    /// Where in the log the event stands.
    pub position: Position,
    /// Whether the event was there before the subscription was put, or it was told to look through its topic anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replay: bool,
}

/// How far an event of a subscription is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It is to start a run.
    Waiting,
    /// Its run is under way.
    UnderWay,
    /// A dead letter that holds up its key.
    Parked,
    /// A dead letter.
    Dead,
}

impl Stage {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Waiting, Self::UnderWay, Self::Parked, Self::Dead];

    /// Whether events of the same key wait for it.
    pub fn is_open(self) -> bool {
        self != Self::Dead
    }

    /// Whether somebody is to say what becomes of it.
    pub fn is_dead_letter(self) -> bool {
        matches!(self, Self::Parked | Self::Dead)
    }

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::UnderWay => "under-way",
            Self::Parked => "parked",
            Self::Dead => "dead",
        }
    }
}

/// What people say of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It starts a run anew.
    Release,
    /// It is thrown away.
    Skip,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_has_a_name_of_its_own_or_its_workflows() {
        for name in ["triage", "triage:1", "a-b:12"] {
            assert_eq!(name.parse::<TriggerId>().unwrap().as_str(), name);
        }
        let of = TriggerId::of_agent(&"triage".parse().unwrap(), 2);
        assert_eq!((of.as_str(), of.is_of_manifest(), of.is_of_workflow()), ("triage@2", true, false));
        assert!(of.is_of_agent(&"triage".parse().unwrap()) && !of.is_of_agent(&"tri".parse().unwrap()));
        for name in [
            "triage@0",
            "triage@1:2",
            "triage:1@2",
            "@1",
            "",
            "Triage",
            "triage:",
            "triage:0",
            "triage:01",
            "triage:1:2",
            "a/b",
            ":1",
        ] {
            name.parse::<TriggerId>().unwrap_err();
        }
        let of = TriggerId::of_workflow(&"triage".parse().unwrap(), 3);
        assert_eq!((of.as_str(), of.is_of_workflow()), ("triage:3", true));
        assert!(of.is_of(&"triage".parse().unwrap()));
        assert!(!of.is_of(&"tri".parse().unwrap()) && !of.is_of(&"triage-2".parse().unwrap()));
    }

    #[test]
    fn it_is_written_in_one_form() {
        let trigger = Trigger {
            feed: Feed::Topic("reports".parse().unwrap()),
            filter: Some(Filter::parse("{exact: {type: a}}").unwrap()),
            start: Target::Workflow("w".parse().unwrap()),
            at_once: 2,
            on_poison: OnPoison::Skip,
            rate: None,
            gather: None,
        };
        let json = serde_json::to_string(&trigger).unwrap();
        assert_eq!(
            json,
            r#"{"topic":"reports","where":"{\"exact\":{\"type\":\"a\"}}","start":{"workflow":"w"},"at-once":2,"on-poison":"skip"}"#
        );
        assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), trigger);
        let feed = Feed::Memory(Watched::of(Some("agent"), Some("triage"), "board/").unwrap());
        let watching = Trigger { feed, filter: None, ..trigger };
        let json = serde_json::to_string(&watching).unwrap();
        assert_eq!(
            json,
            r#"{"memory":{"drawer":{"agent":"triage"},"prefix":"board/"},"start":{"workflow":"w"},"at-once":2,"on-poison":"skip"}"#
        );
        assert_eq!(serde_json::from_str::<Trigger>(&json).unwrap(), watching);
    }

    #[test]
    fn memory_that_is_watched_has_an_owner_where_its_scope_does() {
        for (scope, owner, field) in [
            (None, Some("a"), "owner"),
            (Some("agent"), None, "owner"),
            (Some("agent"), Some("A b"), "owner"),
            (Some("session"), None, "owner"),
            (Some("state"), Some("a"), "scope"),
        ] {
            assert_eq!(Watched::of(scope, owner, "k").unwrap_err().0, field, "{scope:?} {owner:?}");
        }
        assert_eq!(Watched::of(None, None, &"k".repeat(MAX_KEY + 1)).unwrap_err().0, "memory");
        assert_eq!(Watched::of(Some("session"), Some("s:1"), "").unwrap().drawer.source(), "/memory/sessions/s:1");
    }
}
