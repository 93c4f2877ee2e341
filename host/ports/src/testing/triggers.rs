//! Subscriptions that start runs, and the events they took in, in memory.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use ltmc_model::delta::Delta;
use ltmc_model::journal::{Change, Entry};
use ltmc_model::message::{Channel, Event, Message, Published, Topic};
use ltmc_model::run::Run;
use ltmc_model::trigger::{CASCADE, Feed, MAX_OF_A_TENANT, Planted, Stage, TriggerId, Verdict, Watched};
use ltmc_model::{Digest, KeyId, Position, Revision, RunId, TenantId, Timestamp, WorkflowName};

use super::MemoryRecord;
use crate::cascades::{Made, ReadCascades};
use crate::log::Interest;
use crate::schedules::Paused;
use crate::triggers::{
    Arrival, ArrivalFilter, Intake, Outcome, StoredTrigger, TriggeredStart, after_run, over_budget, root, seen,
    shortened,
};
use crate::{ReadTriggers, StoreError, WriteTriggers};

/// Every subscription, with what it took in and what it has seen.
#[derive(Debug, Default)]
pub(super) struct Triggers {
    held: BTreeMap<(TenantId, TriggerId), Held>,
    /// Runs that events started.
    starts: BTreeMap<(TenantId, Position, TriggerId, RunId), Timestamp>,
    /// How many events followed from one, and when the last was taken in.
    cascades: BTreeMap<(TenantId, [u8; 16]), (u32, Timestamp)>,
}

#[derive(Debug)]
struct Held {
    row: StoredTrigger,
    arrivals: BTreeMap<Position, Arrival>,
    seen: BTreeMap<[u8; 16], Position>,
}

/// What is written beside journals and acts.
#[derive(Debug, Clone)]
pub(super) enum Written {
    TakeIn(Digest, Intake),
    Bury(Position, String),
    Tell(Option<String>),
}

impl Held {
    /// Whether there may be something to do for it.
    fn is_due(&self) -> bool {
        let waits = self.count(|stage| stage == Stage::Waiting) > 0;
        self.row.paused.is_none() && (self.row.newest > self.row.position || waits)
    }

    fn count(&self, is: impl Fn(Stage) -> bool) -> u32 {
        u32::try_from(self.arrivals.values().filter(|arrival| is(arrival.stage)).count()).unwrap_or(u32::MAX)
    }

    fn shown(&self) -> StoredTrigger {
        let waiting = self.arrivals.values().filter(|arrival| arrival.stage == Stage::Waiting);
        StoredTrigger {
            waiting: self.count(|stage| stage == Stage::Waiting),
            waiting_bytes: waiting.map(|arrival| arrival.event.to_bytes().len() as u64).sum(),
            under_way: self.under_way(),
            dead: self.count(Stage::is_dead_letter),
            ..self.row.clone()
        }
    }

    /// How many runs are under way, each by one event or by several.
    fn under_way(&self) -> u32 {
        let under_way = self.arrivals.values().filter(|arrival| arrival.stage == Stage::UnderWay);
        let runs: BTreeSet<Option<RunId>> = under_way.map(|arrival| arrival.run).collect();
        u32::try_from(runs.len()).unwrap_or(u32::MAX)
    }

    /// Whether a start by several events finds them as it was decided: all wait, and are of one key of which no other is under way or parked.
    fn is_startable_together(&self, start: &TriggeredStart) -> bool {
        let Some(first) = self.arrivals.get(&start.position) else { return false };
        let waits = |position: &Position| {
            self.arrivals.get(position).is_some_and(|one| one.stage == Stage::Waiting && one.key == first.key)
        };
        let is_held_up = self
            .arrivals
            .values()
            .any(|one| one.key == first.key && matches!(one.stage, Stage::UnderWay | Stage::Parked));
        first.stage == Stage::Waiting && start.with.iter().chain(&start.dropped).all(waits) && !is_held_up
    }

    fn is_startable(&self, arrival: &Arrival) -> bool {
        let holds_up = |other: &Arrival| other.stage.is_open() && other.key == arrival.key;
        arrival.stage == Stage::Waiting && !self.arrivals.range(..arrival.position).any(|(_, other)| holds_up(other))
    }
}

impl Triggers {
    /// What an act makes of them; `newest`: where the newest of what is looked through stands.
    pub(super) fn act(
        &mut self,
        tenant: &TenantId,
        at: Timestamp,
        by: Option<&KeyId>,
        change: &Change,
        newest: impl Fn(&TenantId, &Feed) -> Position,
    ) {
        let place = |id: &TriggerId| (tenant.clone(), id.clone());
        match change {
            Change::TenantDeleted { tenant } => {
                self.held.retain(|(of, _), _| of != tenant);
                self.starts.retain(|(of, ..), _| of != tenant);
                self.cascades.retain(|(of, _), _| of != tenant);
            }
            Change::WorkflowPut { name, triggers, .. } => {
                for (number, planted) in (1..).zip(triggers) {
                    self.put(tenant, TriggerId::of_workflow(name, number), planted, by, &newest);
                }
                self.cut(tenant, name, triggers.len());
            }
            Change::WorkflowDeleted { name } => self.cut(tenant, name, 0),
            Change::AgentDeleted { name } => self.held.retain(|(of, id), _| of != tenant || !id.is_of_agent(name)),
            Change::SubscriptionPut { id, planted } => self.put(tenant, id.clone(), planted, by, &newest),
            Change::SubscriptionDeleted { id } => drop(self.held.remove(&place(id))),
            Change::SubscriptionPaused { id, why } => {
                if let Some(held) = self.held.get_mut(&place(id)) {
                    held.row.paused = Some(Paused { at, by: by.cloned(), why: why.clone() });
                }
            }
            Change::SubscriptionContinued { id } => {
                if let Some(held) = self.held.get_mut(&place(id)) {
                    (held.row.paused, held.row.trouble, held.row.by) = (None, None, by.cloned());
                }
            }
            Change::SubscriptionReplayed { id, after, force } => {
                let Some(held) = self.held.get_mut(&place(id)).filter(|held| held.row.position > *after) else {
                    return;
                };
                held.row.replay_to = held.row.replay_to.max(held.row.position);
                held.row.position = *after;
                if *force {
                    held.seen.retain(|_, position| *position <= *after);
                }
            }
            Change::DeadEventSettled { id, position, verdict } => {
                let Some(held) = self.held.get_mut(&place(id)) else { return };
                let Some(arrival) = held.arrivals.get_mut(position) else { return };
                match verdict {
                    Verdict::Release => {
                        (arrival.stage, arrival.run, arrival.reason) = (Stage::Waiting, None, None);
                    }
                    Verdict::Skip => drop(held.arrivals.remove(position)),
                }
            }
            _ => {}
        }
    }

    fn put(
        &mut self,
        tenant: &TenantId,
        id: TriggerId,
        Planted { trigger, after }: &Planted,
        by: Option<&KeyId>,
        newest: impl Fn(&TenantId, &Feed) -> Position,
    ) {
        let place = (tenant.clone(), id.clone());
        let new = StoredTrigger {
            tenant: tenant.clone(),
            id,
            digest: trigger.digest(),
            trigger: trigger.clone(),
            by: by.cloned(),
            paused: None,
            position: *after,
            replay_to: newest(tenant, &trigger.feed).max(*after),
            newest: newest(tenant, &trigger.feed).max(*after),
            waiting: 0,
            waiting_bytes: 0,
            under_way: 0,
            dead: 0,
            started: 0,
            duplicates: 0,
            superseded: 0,
            trouble: None,
        };
        match self.held.get_mut(&place).filter(|held| held.row.trigger.feed == trigger.feed) {
            Some(held) => {
                let paused = held.row.paused.take().filter(|paused| paused.by.is_some());
                let StoredTrigger { position, replay_to, newest, started, duplicates, superseded, .. } = held.row;
                held.row =
                    StoredTrigger { paused, position, replay_to, newest, started, duplicates, superseded, ..new };
            }
            None => drop(self.held.insert(place, Held { row: new, arrivals: BTreeMap::new(), seen: BTreeMap::new() })),
        }
    }

    /// Of a workflow's there are so many from now on.
    fn cut(&mut self, tenant: &TenantId, of: &WorkflowName, count: usize) {
        let stay: BTreeSet<TriggerId> = (1..=count).map(|number| TriggerId::of_workflow(of, number)).collect();
        self.held.retain(|(t, id), _| t != tenant || !id.is_of(of) || stay.contains(id));
    }

    /// An event stands in a topic, or memory changed.
    pub(super) fn published(&mut self, tenant: &TenantId, place: Position, delta: &Delta) {
        let is_of = |feed: &Feed| match (feed, delta) {
            (Feed::Topic(topic), Delta::Sent(Message { channel: Channel::Topic(to), .. })) => topic == to,
            (Feed::Memory(watched), Delta::Memory(change)) => watched.concerns(change),
            _ => false,
        };
        let of_it = self.held.values_mut().filter(|held| held.row.tenant == *tenant && is_of(&held.row.trigger.feed));
        of_it.for_each(|held| held.row.newest = place);
    }

    pub(super) fn allows(&self, tenant: &TenantId, start: &TriggeredStart, at: Timestamp) -> bool {
        let Some(held) = self.held.get(&(tenant.clone(), start.id.clone())) else { return false };
        let is_startable = match held.row.trigger.gather {
            None => held.arrivals.get(&start.position).is_some_and(|arrival| held.is_startable(arrival)),
            Some(_) => held.is_startable_together(start),
        };
        let has_room = held.under_way() < held.row.trigger.at_once;
        let is_in_time =
            start.rate.is_none_or(|rate| self.started_since(tenant, &start.id, rate.since(at)) < rate.starts as usize);
        held.row.digest == start.digest && held.row.paused.is_none() && is_startable && has_room && is_in_time
    }

    /// How many runs a subscription has started since then.
    fn started_since(&self, tenant: &TenantId, id: &TriggerId, since: Timestamp) -> usize {
        let of = self.starts.iter().filter(|((of, _, by, _), at)| of == tenant && by == id && **at > since);
        of.map(|((.., run), _)| run).collect::<BTreeSet<_>>().len()
    }

    pub(super) fn start(&mut self, run: &Run, start: &TriggeredStart) {
        let Some(held) = self.held.get_mut(&(run.tenant.clone(), start.id.clone())) else { return };
        (held.row.started, held.row.trouble) = (held.row.started + 1, None);
        for position in start.with.iter().chain([&start.position]) {
            self.starts.insert((run.tenant.clone(), *position, start.id.clone(), run.id), run.created_at);
            if let Some(arrival) = held.arrivals.get_mut(position) {
                (arrival.stage, arrival.run, arrival.reason) = (Stage::UnderWay, Some(run.id), None);
            }
        }
        held.row.superseded += start.dropped.len() as u64;
        held.arrivals.retain(|position, _| !start.dropped.contains(position));
    }

    /// What a run's end makes of the event that started it.
    pub(super) fn follow(&mut self, run: &Run, entries: &[Entry]) {
        if !run.state.is_final() {
            return;
        }
        for held in self.held.values_mut().filter(|held| held.row.tenant == run.tenant) {
            let is_of_run = |arrival: &Arrival| arrival.run == Some(run.id);
            match after_run(run, entries, held.row.trigger.on_poison) {
                Outcome::Done => held.arrivals.retain(|_, arrival| !is_of_run(arrival)),
                Outcome::DeadLetter(stage, reason) => {
                    let under_way = |arrival: &&mut Arrival| is_of_run(arrival) && arrival.stage == Stage::UnderWay;
                    for arrival in held.arrivals.values_mut().filter(under_way) {
                        (arrival.stage, arrival.reason) = (stage, Some(reason.clone()));
                    }
                }
            }
        }
    }

    pub(super) fn write(&mut self, tenant: &TenantId, id: &TriggerId, written: &Written) -> bool {
        let Self { held, cascades, .. } = self;
        let Some(held) = held.get_mut(&(tenant.clone(), id.clone())) else { return false };
        match written {
            Written::TakeIn(digest, intake) => {
                let is_open =
                    held.row.digest == *digest && held.row.paused.is_none() && held.row.position == intake.after;
                if !is_open {
                    return false;
                }
                for found in &intake.found {
                    let seen = seen(&found.event);
                    if held.seen.contains_key(&seen) {
                        held.row.duplicates += 1;
                        continue;
                    }
                    held.seen.insert(seen, found.position);
                    let dead = match &found.dead {
                        None if !followed(cascades, tenant, &found.event, intake) => {
                            Some(over_budget(&found.event, intake.cascade))
                        }
                        dead => dead.clone(),
                    };
                    let stage = if dead.is_some() { Stage::Dead } else { Stage::Waiting };
                    let arrival = Arrival {
                        id: id.clone(),
                        position: found.position,
                        key: found.key.clone(),
                        event: found.event.clone(),
                        stage,
                        run: None,
                        reason: dead.as_deref().map(shortened),
                        at: intake.at,
                    };
                    held.arrivals.entry(found.position).or_insert(arrival);
                }
                (held.row.position, held.row.trouble) = (intake.upto, intake.trouble.as_deref().map(shortened));
                true
            }
            Written::Bury(position, reason) => {
                let on_poison = held.row.trigger.on_poison;
                let waits = |arrival: &&mut Arrival| arrival.stage == Stage::Waiting;
                let Some(arrival) = held.arrivals.get_mut(position).filter(waits) else { return false };
                (arrival.stage, arrival.reason) = (on_poison.stage(), Some(shortened(reason)));
                true
            }
            Written::Tell(trouble) => {
                held.row.trouble = trouble.as_deref().map(shortened);
                true
            }
        }
    }

    pub(super) fn fit(&self, tenant: &TenantId, of: Option<&WorkflowName>, more: u32) -> bool {
        let is_of = |id: &TriggerId| of.is_some_and(|of| id.is_of(of));
        let others = self.held.keys().filter(|(t, id)| t == tenant && !is_of(id)).count();
        others + more as usize <= MAX_OF_A_TENANT as usize
    }

    pub(super) fn is_paused(&self, tenant: &TenantId, id: &TriggerId) -> Option<bool> {
        self.held.get(&(tenant.clone(), id.clone())).map(|held| held.row.paused.is_some())
    }

    pub(super) fn is_dead(&self, tenant: &TenantId, id: &TriggerId, position: Position) -> bool {
        let held = self.held.get(&(tenant.clone(), id.clone()));
        let arrival = held.and_then(|held| held.arrivals.get(&position));
        arrival.is_some_and(|arrival| arrival.stage.is_dead_letter())
    }
}

/// Counts an event to those that followed from the one that all of it began with; whether there is room for it among them.
fn followed(
    cascades: &mut BTreeMap<(TenantId, [u8; 16]), (u32, Timestamp)>,
    tenant: &TenantId,
    event: &Event,
    intake: &Intake,
) -> bool {
    let Some(root) = root(event) else { return true };
    cascades.retain(|(of, other), (_, at)| of != tenant || *other == root || at.after(CASCADE) >= intake.at);
    let (followed, at) = cascades.entry((tenant.clone(), root)).or_default();
    if *followed >= intake.cascade {
        return false;
    }
    (*followed, *at) = (*followed + 1, intake.at);
    true
}

#[async_trait]
impl ReadCascades for MemoryRecord {
    async fn event(&self, tenant: &TenantId, id: Revision) -> Result<Option<(Topic, Published)>, StoreError> {
        Ok(self.published(tenant, |message| message.id == id).pop())
    }

    async fn following(
        &self,
        tenant: &TenantId,
        cause: &str,
        after: Position,
        limit: u32,
    ) -> Result<Vec<(Topic, Published)>, StoreError> {
        let is_meant = |message: &Message| message.event.trail.as_ref().is_some_and(|trail| trail.causation == cause);
        let mut found = self.published(tenant, is_meant);
        found.retain(|(_, published)| published.position > after);
        found.truncate(limit as usize);
        Ok(found)
    }

    async fn made_of(&self, tenant: &TenantId, position: Position, limit: u32) -> Result<Vec<Made>, StoreError> {
        Ok(self.with_triggers(|triggers| {
            let started = triggers.starts.keys().filter(|(of, at, ..)| of == tenant && *at == position);
            let started = started.map(|(_, _, by, run)| Made { by: by.clone(), run: Some(*run), stands: None });
            let held = triggers.held.values().filter(|held| held.row.tenant == *tenant);
            let arrived = held.filter_map(|held| held.arrivals.get(&position));
            let stands = arrived.filter(|arrival| arrival.stage != Stage::UnderWay).map(|arrival| Made {
                by: arrival.id.clone(),
                run: None,
                stands: Some((arrival.stage, arrival.reason.clone())),
            });
            started.chain(stands).take(limit as usize).collect()
        }))
    }
}

#[async_trait]
impl WriteTriggers for MemoryRecord {
    async fn take_in(
        &self,
        tenant: &TenantId,
        id: &TriggerId,
        digest: Digest,
        intake: Intake,
    ) -> Result<bool, StoreError> {
        self.write_trigger(tenant, id, Written::TakeIn(digest, intake))
    }

    async fn bury(
        &self,
        tenant: &TenantId,
        id: &TriggerId,
        position: Position,
        reason: String,
    ) -> Result<bool, StoreError> {
        self.write_trigger(tenant, id, Written::Bury(position, reason))
    }

    async fn tell(&self, tenant: &TenantId, id: &TriggerId, trouble: Option<String>) -> Result<(), StoreError> {
        self.write_trigger(tenant, id, Written::Tell(trouble)).map(drop)
    }
}

#[async_trait]
impl ReadTriggers for MemoryRecord {
    async fn trigger(&self, tenant: &TenantId, id: &TriggerId) -> Result<Option<StoredTrigger>, StoreError> {
        Ok(self.with_triggers(|triggers| triggers.held.get(&(tenant.clone(), id.clone())).map(Held::shown)))
    }

    async fn triggers(
        &self,
        tenant: &TenantId,
        after: Option<&TriggerId>,
        limit: u32,
    ) -> Result<Vec<StoredTrigger>, StoreError> {
        let is_meant = |(of, id): &(TenantId, TriggerId)| of == tenant && after.is_none_or(|after| id > after);
        Ok(self.with_triggers(|triggers| {
            let found = triggers.held.iter().filter(|(place, _)| is_meant(place));
            found.take(limit as usize).map(|(_, held)| held.shown()).collect()
        }))
    }

    async fn triggered_tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<TenantId>, StoreError> {
        Ok(self.with_triggers(|triggers| {
            let due = triggers.held.iter().filter(|(_, held)| held.is_due()).map(|((of, _), _)| of);
            let mut found: Vec<TenantId> = due.filter(|of| after.is_none_or(|after| *of > after)).cloned().collect();
            found.dedup();
            found.truncate(limit as usize);
            found
        }))
    }

    async fn watches_memory(&self) -> Result<bool, StoreError> {
        Ok(self.with_triggers(|triggers| triggers.held.values().any(|held| held.row.trigger.feed.watched().is_some())))
    }

    async fn due_triggers(
        &self,
        tenant: &TenantId,
        after: Option<&TriggerId>,
        limit: u32,
    ) -> Result<Vec<StoredTrigger>, StoreError> {
        let is_meant = |(of, id): &(TenantId, TriggerId)| of == tenant && after.is_none_or(|after| id > after);
        Ok(self.with_triggers(|triggers| {
            let found = triggers.held.iter().filter(|(place, held)| is_meant(place) && held.is_due());
            found.take(limit as usize).map(|(_, held)| held.shown()).collect()
        }))
    }

    async fn startable(&self, tenant: &TenantId, id: &TriggerId, limit: u32) -> Result<Vec<Arrival>, StoreError> {
        Ok(self.with_triggers(|triggers| {
            let Some(held) = triggers.held.get(&(tenant.clone(), id.clone())) else { return Vec::new() };
            let found = held.arrivals.values().filter(|arrival| held.is_startable(arrival));
            found.take(limit as usize).cloned().collect()
        }))
    }

    async fn parked(&self, tenant: &TenantId, id: &TriggerId) -> Result<BTreeMap<String, u32>, StoreError> {
        Ok(self.with_triggers(|triggers| {
            let Some(held) = triggers.held.get(&(tenant.clone(), id.clone())) else { return BTreeMap::new() };
            let of = |stage| held.arrivals.values().filter(move |arrival| arrival.stage == stage);
            let behind = |key: &str| of(Stage::Waiting).filter(|arrival| arrival.key == key).count();
            let key = |arrival: &Arrival| arrival.key.clone();
            let count = |key: String| (key.clone(), u32::try_from(behind(&key)).unwrap_or(u32::MAX));
            of(Stage::Parked).map(key).map(count).collect()
        }))
    }

    async fn arrivals(&self, tenant: &TenantId, filter: &ArrivalFilter) -> Result<Vec<Arrival>, StoreError> {
        let ArrivalFilter { of, dead, after, limit } = filter;
        let is_meant = |arrival: &&Arrival| {
            let place = (arrival.id.clone(), arrival.position);
            (!dead || arrival.stage.is_dead_letter()) && after.as_ref().is_none_or(|after| place > *after)
        };
        Ok(self.with_triggers(|triggers| {
            let own = triggers.held.iter().filter(|((t, id), _)| t == tenant && of.as_ref().is_none_or(|of| of == id));
            let found = own.flat_map(|(_, held)| held.arrivals.values()).filter(is_meant);
            found.take(*limit as usize).cloned().collect()
        }))
    }

    async fn started_since(
        &self,
        tenant: &TenantId,
        id: &TriggerId,
        since: Timestamp,
        most: u32,
    ) -> Result<u32, StoreError> {
        let count = self.with_triggers(|triggers| triggers.started_since(tenant, id, since));
        Ok(u32::try_from(count).unwrap_or(most).min(most))
    }

    async fn lag(&self, tenant: &TenantId, id: &TriggerId, most: u32) -> Result<u32, StoreError> {
        use crate::{Bus as _, ReadLog as _};
        let Some(row) = self.trigger(tenant, id).await? else { return Ok(0) };
        let count = match &row.trigger.feed {
            Feed::Topic(topic) => self.events(tenant, topic, row.position, most).await?.events.len(),
            Feed::Memory(Watched { drawer, prefix }) => {
                let interest = Interest::Memory(drawer.clone(), prefix.clone());
                self.rows(tenant, &interest, row.position, row.newest, most).await?.rows.len()
            }
        };
        Ok(u32::try_from(count).unwrap_or(most))
    }
}
