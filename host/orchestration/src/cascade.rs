//! An event's cascade: which subscriptions took it and why, which runs they started, and which events followed from those, as a tree.
//!
//! Invariants: bounded, in how many events are shown and how deep; what is left out is said. Breadth first, so that of a wide cascade every level is seen.

use std::collections::{BTreeMap, VecDeque};

use ltmc_model::caller::Caller;
use ltmc_model::filter::Filter;
use ltmc_model::message::{Event, Published, Topic};
use ltmc_model::run::{Run, Target};
use ltmc_model::trigger::{MAX_OF_A_TENANT, Stage, TriggerId};
use ltmc_model::{Position, Revision, RunId, TenantId};
use ltmc_policy::Action;
use ltmc_ports::cascades::Made;
use ltmc_ports::triggers::StoredTrigger;
use ltmc_tenancy::Error;

use crate::triggers::Triggers;

/// How deep a cascade is followed at most.
pub const MAX_DEPTH: u32 = 16;
/// How many events are shown at most.
pub const MAX_EVENTS: usize = 500;
/// How many subscriptions, and runs, are shown of an event.
const MAX_MADE: u32 = 2 * MAX_OF_A_TENANT;
/// Over how many runs it is looked for the one that an event started, from the one that published another.
const MAX_ABOVE: usize = 16;

/// How much of a cascade is shown.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Over how many events, each of which led to the next.
    pub depth: u32,
    /// How many events.
    pub events: usize,
}

/// An event, and what followed from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Traced {
    /// The event's place.
    pub position: Position,
    /// The topic that it was published on.
    pub topic: Topic,
    /// The event.
    pub event: Event,
    /// What each subscription that took it made of it.
    pub taken: Vec<Taken>,
    /// Subscriptions of its topic that did not take it.
    pub passed: Vec<Passed>,
    /// Events that followed, of which it is not known which of these runs published them.
    pub led_to: Vec<Self>,
    /// How many events that followed are not shown, at least.
    pub left_out: usize,
}

/// What a subscription made of an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// The subscription.
    pub by: TriggerId,
    /// Its filter, which the event fits; none: it takes all.
    pub filter: Option<Filter>,
    /// What it starts; none: it is not there any more.
    pub starts: Option<Target>,
    /// The run that was started.
    pub run: Option<Run>,
    /// Where the event stands that is not dealt with, and why it is a dead letter.
    pub stands: Option<(Stage, Option<String>)>,
    /// Events that the run published, or that runs did which it began.
    pub events: Vec<Traced>,
}

/// A subscription that did not take an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// The subscription.
    pub by: TriggerId,
    /// Why it did not, as people are told.
    pub why: &'static str,
}

/// An event whose followers are to be looked for.
struct Node {
    parent: Option<(usize, Option<RunId>)>,
    depth: u32,
    shown: Traced,
}

impl Triggers {
    /// The cascade of an event, by the id of its message.
    ///
    /// # Errors
    /// Where the event is not there, or not any more; `bad-query`: more is asked for than is shown.
    pub async fn trace(&self, caller: &Caller, id: Revision, extent: Extent) -> Result<Traced, Error> {
        self.authority().authorize(caller, Action::ReadContext).await?;
        self.authority().authorize(caller, Action::ReadRuns).await?;
        if !(1..=MAX_DEPTH).contains(&extent.depth) {
            let message = format!("`depth` is 1 to {MAX_DEPTH}, not {}", extent.depth);
            return Err(Error::invalid("bad-query", "depth", message));
        }
        if !(1..=MAX_EVENTS).contains(&extent.events) {
            let message = format!("`limit` is 1 to {MAX_EVENTS}, not {}", extent.events);
            return Err(Error::invalid("bad-query", "limit", message));
        }
        let tenant = &caller.tenant;
        let missing = || Error::not_found(format!("event {id}: topics are kept for a time, by default a day"));
        let first = self.cascades.event(tenant, id).await?.ok_or_else(missing)?;
        let triggers = self.read.triggers(tenant, None, MAX_OF_A_TENANT).await?;
        let mut nodes = vec![self.node(tenant, &triggers, first, None, 0).await?];
        let mut open = VecDeque::from([0]);
        while let Some(at) = open.pop_front() {
            let (cause, depth) = (cause(&nodes[at].shown.event), nodes[at].depth);
            let room = extent.events - nodes.len();
            let most = if depth + 1 < extent.depth { room } else { 0 };
            let limit = u32::try_from(most + 1).unwrap_or(u32::MAX);
            let mut found = self.cascades.following(tenant, &cause, Position(0), limit).await?;
            nodes[at].shown.left_out = found.len().saturating_sub(most);
            found.truncate(most);
            let mut known = BTreeMap::new();
            for next in found {
                let by = self.started_by(tenant, &nodes[at].shown.taken, &next.1.event, &mut known).await?;
                open.push_back(nodes.len());
                nodes.push(self.node(tenant, &triggers, next, Some((at, by)), depth + 1).await?);
            }
        }
        assembled(nodes).ok_or_else(missing)
    }

    async fn node(
        &self,
        tenant: &TenantId,
        triggers: &[StoredTrigger],
        (topic, Published { position, event }): (Topic, Published),
        parent: Option<(usize, Option<RunId>)>,
        depth: u32,
    ) -> Result<Node, Error> {
        let mut taken = Vec::new();
        for Made { by, run, stands } in self.cascades.made_of(tenant, position, MAX_MADE).await? {
            let row = triggers.iter().find(|row| row.id == by);
            let run = match run {
                Some(run) => self.runs.inner.ports.read.run(tenant, run).await?,
                None => None,
            };
            let (filter, starts) =
                (row.and_then(|row| row.trigger.filter.clone()), row.map(|row| row.trigger.start.clone()));
            taken.push(Taken { by, filter, starts, run, stands, events: Vec::new() });
        }
        let others = triggers
            .iter()
            .filter(|row| row.trigger.feed.topic() == Some(&topic) && !taken.iter().any(|one| one.by == row.id));
        let passed = others.map(|row| Passed { by: row.id.clone(), why: why_not(row, position, &event) }).collect();
        let shown = Traced { position, topic, event, taken, passed, led_to: Vec::new(), left_out: 0 };
        Ok(Node { parent, depth, shown })
    }

    /// Which of the runs that an event started published another: the one that did, or the nearest above it.
    async fn started_by(
        &self,
        tenant: &TenantId,
        taken: &[Taken],
        event: &Event,
        known: &mut BTreeMap<RunId, Option<RunId>>,
    ) -> Result<Option<RunId>, Error> {
        let Some(publisher) = event.trail.as_ref().and_then(|trail| trail.run) else { return Ok(None) };
        if let Some(found) = known.get(&publisher) {
            return Ok(*found);
        }
        let is_started = |run: RunId| taken.iter().any(|one| one.run.as_ref().is_some_and(|row| row.id == run));
        let (mut at, mut found) = (Some(publisher), None);
        for _ in 0..MAX_ABOVE {
            let Some(run) = at else { break };
            if is_started(run) {
                found = Some(run);
                break;
            }
            at = self.runs.inner.ports.read.run(tenant, run).await?.and_then(|row| row.parent);
        }
        known.insert(publisher, found);
        Ok(found)
    }
}

/// What an event is named by in those that follow from it.
fn cause(event: &Event) -> String {
    format!("{} {}", event.source, event.id)
}

/// Why a subscription did not take an event of its topic.
fn why_not(row: &StoredTrigger, position: Position, event: &Event) -> &'static str {
    let is_meant = row.trigger.filter.as_ref().is_none_or(|filter| filter.fits(event));
    match () {
        () if !is_meant => "its `where` does not fit",
        () if !row.trigger.fits(event) => "it is none of those that its `join` is of",
        () if row.position < position && row.paused.is_some() => "it is paused",
        () if row.position < position => "it has not looked so far yet",
        () => "it had this event before, was put after it, a later one took its place, or its dead letter was skipped",
    }
}

/// The tree, from its last events on, each of which hangs on one before.
fn assembled(mut nodes: Vec<Node>) -> Option<Traced> {
    while nodes.len() > 1 {
        let Node { parent, mut shown, .. } = nodes.pop()?;
        in_order(&mut shown);
        let (at, by) = parent?;
        let on = &mut nodes.get_mut(at)?.shown;
        let started = on.taken.iter_mut().find(|one| by.is_some() && one.run.as_ref().map(|run| run.id) == by);
        started.map_or(&mut on.led_to, |one| &mut one.events).push(shown);
    }
    let mut first = nodes.pop()?.shown;
    in_order(&mut first);
    Some(first)
}

/// Events were hung up from the last on.
fn in_order(shown: &mut Traced) {
    shown.led_to.reverse();
    shown.taken.iter_mut().for_each(|one| one.events.reverse());
}
