//! Events of topics that start runs: taken in by the subscriptions that they fit, and started one after the other.
//!
//! Invariants: what is to be done is what the record says, whoever was there before; whoever is first to have it recorded has done it, and
//! nobody else does. Nothing of an event is in memory. A subscription that is full leaves its topic where it is. Each tenant's are dealt with in a round
//! of its own, and have turns: however many a tenant has, however long they take, others' begin when their events come.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use ltmc_model::caller::Caller;
use ltmc_model::gather::{Gather, Gathered, Group, MAX_BATCH, Waiting};
use ltmc_model::journal::Change;
use ltmc_model::message::{Event, Events, Published, Trail};
use ltmc_model::trigger::{Feed, MAX_AT_ONCE, MAX_BEHIND, MAX_DEAD, MAX_WAITING, Stage, Trigger, TriggerId, Watched};
use ltmc_model::{Position, TenantId};
use ltmc_policy::Turns;
use ltmc_ports::log::{Interest, Rows};
use ltmc_ports::triggers::{Arrival, ArrivalFilter, Found, Intake, StoredTrigger, TriggeredStart};
use ltmc_ports::{Changes, Expect, Kind, StoreError};
use ltmc_tenancy::Error;

use crate::metered;
use crate::news::News;
use crate::registry::Registry;
use crate::rounds::{self, AGAIN, Dealt, Due, LONGEST, PAGE, Round, Tells};
use crate::runs::{Triggering, why_not_begun};
use crate::triggers::Triggers;

/// Events looked at, at once.
const EVENTS: u32 = 100;
/// Subscriptions that are dealt with at once.
const AT_ONCE: usize = 32;

impl Due for Triggers {
    const NAMED: &'static str = "subscriptions";
    const OF_A_TENANT: usize = 16;
    const READ: u32 = 16;
    type Row = StoredTrigger;
    type Place = TriggerId;

    fn registry(&self) -> &Arc<Registry> {
        &self.runs.inner.registry
    }

    async fn coming(&self, after: Option<&TenantId>) -> Result<Vec<(TenantId, Duration)>, StoreError> {
        if after.is_none() {
            self.watches_memory.store(self.read.watches_memory().await?, Ordering::Release);
        }
        let page = self.read.triggered_tenants(after, PAGE).await?;
        Ok(page.into_iter().map(|tenant| (tenant, Duration::ZERO)).collect())
    }

    async fn due(&self, tenant: &TenantId, after: Option<&TriggerId>) -> Result<Vec<StoredTrigger>, StoreError> {
        self.read.due_triggers(tenant, after, Self::READ).await
    }

    fn place(row: &StoredTrigger) -> Option<TriggerId> {
        Some(row.id.clone())
    }

    async fn deal_with(&self, row: StoredTrigger) -> Dealt {
        match self.dealt(&row).await {
            Ok(dealt) => dealt,
            // Somebody else was faster.
            Err(Error::Store(error)) if matches!(error.kind, Kind::Conflict | Kind::Stale | Kind::Fenced) => {
                Dealt::Waits
            }
            Err(error) => {
                tracing::error!(tenant = %row.tenant, subscription = %row.id, %error, "a subscription could not be dealt with yet");
                Dealt::Waits
            }
        }
    }

    fn rests(round: Round) -> Duration {
        match round {
            Round { is_more: true, .. } => Duration::ZERO,
            Round { waits: 0, .. } => LONGEST,
            Round { .. } => AGAIN,
        }
    }
}

/// What tells of events, of room, and of what was changed about subscriptions.
struct Heard<'a> {
    triggers: &'a Triggers,
    events: News,
}

impl Tells for Heard<'_> {
    fn looks(&mut self) {
        self.events.look();
    }

    async fn told(&mut self) -> Option<HashSet<TenantId>> {
        self.events.hear_memory(self.triggers.watches_memory.load(Ordering::Acquire));
        tokio::select! {
            () = self.triggers.changed.notified() => {}
            () = self.triggers.runs.inner.triggered.notified() => {}
            () = self.events.next() => {}
        }
        None
    }
}

impl Triggers {
    /// Starts runs as events come, until the host stops.
    pub async fn listen(self: &Arc<Self>) {
        let events = News::of(self.runs.inner.ports.subscriptions.log());
        // bound: subscriptions
        let turns = Turns::new(AT_ONCE, Self::OF_A_TENANT);
        rounds::keep(self, turns, Heard { triggers: self, events }).await;
    }

    async fn dealt(&self, row: &StoredTrigger) -> Result<Dealt, Error> {
        let caller = match self.in_whose_name(row).await? {
            Ok(caller) => caller,
            Err(why) => return self.set_aside(row, why).await.map(|()| Dealt::Done),
        };
        if row.dead >= MAX_DEAD {
            let why = format!("it has {} dead letters, which is the bound: release them or skip them", row.dead);
            return self.set_aside(row, why).await.map(|()| Dealt::Done);
        }
        let taken = self.take_in_more(row).await?;
        let started = self.start_ready(row, &caller).await?;
        Ok(taken.max(started))
    }

    /// In whose name it starts runs; or why it may not.
    async fn in_whose_name(&self, row: &StoredTrigger) -> Result<Result<Caller, String>, Error> {
        let standing = match &row.by {
            Some(by) => self.authority().standing(&row.tenant, by).await?,
            None => Err("it is in nobody's name".to_owned()),
        };
        Ok(standing.and_then(|caller| {
            let may = ltmc_policy::authorize(&caller, ltmc_policy::Action::Run)
                .and_then(|()| ltmc_policy::authorize(&caller, ltmc_policy::Action::ReadContext));
            may.map(|()| caller).map_err(|e| e.to_string())
        }))
    }

    /// Looks through the next part of its topic.
    async fn take_in_more(&self, row: &StoredTrigger) -> Result<Dealt, Error> {
        let (tenant, after) = (&row.tenant, row.position);
        if row.newest <= after {
            return Ok(Dealt::Done);
        }
        let room = row.room().min(EVENTS);
        if room == 0 {
            // What waits starts runs first: their ends tell of it.
            metered::EVENTS.of(["full"]).increment(1);
            self.say_why(row, "as many events wait as may: later ones stay where they are").await?;
            return Ok(Dealt::Done);
        }
        let page = self.came(row, room).await?;
        // Looked at afterwards: what was thrown away meanwhile may be missing in what was found.
        let is_lost = after < self.runs.inner.ports.subscriptions.log().trimmed(tenant).await?;
        let upto = page.next;
        let trouble = is_lost.then(|| {
            format!("events after place {} may have been thrown away by their age before it looked at them", after.0)
        });
        let behind = self.read.parked(tenant, &row.id).await?;
        let found = found(&row.trigger, page.events, behind);
        let dead: Vec<_> = found.iter().filter_map(|one| Some((one.position, one.dead.clone()?))).collect();
        let is_told = trouble.is_some();
        let intake = Intake { after, upto, found, cascade: self.cascade, at: self.now(), trouble };
        // Where another host was there before, it has said all of this.
        if !self.write.take_in(tenant, &row.id, row.digest, intake).await? {
            return Ok(Dealt::Done);
        }
        for (position, why) in dead {
            metered::EVENTS.of(["dead"]).increment(1);
            tracing::info!(%tenant, subscription = %row.id, position = position.0, why, "an event starts nothing");
        }
        if is_told {
            tracing::warn!(%tenant, subscription = %row.id, "a subscription was too far behind its topic");
        }
        Ok(if upto < row.newest { Dealt::More } else { Dealt::Done })
    }

    /// What came to what it looks through, in order, and how far that is.
    async fn came(&self, row: &StoredTrigger, room: u32) -> Result<Events, Error> {
        let (tenant, after) = (&row.tenant, row.position);
        match &row.trigger.feed {
            Feed::Topic(topic) => {
                let Events { events, .. } = self.bus.events(tenant, topic, after, room).await?;
                let next = events.last().map_or(row.newest, |last| last.position);
                Ok(Events { events, next })
            }
            Feed::Memory(Watched { drawer, prefix }) => {
                let interest = Interest::Memory(drawer.clone(), prefix.clone());
                let log = self.runs.inner.ports.subscriptions.log();
                let Rows { rows, next } = log.rows(tenant, &interest, after, row.newest, room).await?;
                let now = self.now();
                let events = rows.iter().filter_map(|row| row.remembered(now)).collect();
                Ok(Events { events, next })
            }
        }
    }

    /// Starts what can be started.
    async fn start_ready(&self, row: &StoredTrigger, caller: &Caller) -> Result<Dealt, Error> {
        // Its ends tell of room.
        let room = row.trigger.at_once.saturating_sub(row.under_way);
        if room == 0 {
            return Ok(Dealt::Done);
        }
        let (tenant, id) = (&row.tenant, &row.id);
        let in_time = match row.trigger.rate {
            None => room,
            Some(rate) => {
                let since = rate.since(self.now());
                rate.starts.saturating_sub(self.read.started_since(tenant, id, since, rate.starts).await?)
            }
        };
        let room = room.min(in_time);
        if room == 0 {
            // Nobody tells of that: time goes by.
            return Ok(if row.waiting > 0 { Dealt::Waits } else { Dealt::Done });
        }
        let (ready, mut dealt) = match &row.trigger.gather {
            None => {
                let ready = self.read.startable(tenant, id, room).await?;
                (ready.into_iter().map(Together::of_one).collect(), Dealt::Done)
            }
            Some(gather) => self.gathered(row, gather, room).await?,
        };
        let count = ready.len();
        let started = stream::iter(ready).map(|together| self.start_one(row, caller, together)).buffered(AT_ONCE);
        let started: Vec<Result<Dealt, Error>> = started.collect().await;
        for one in started {
            if one? == Dealt::Waits {
                dealt = Dealt::Waits;
            }
        }
        // What one commit took in may be more than could be started at once.
        Ok(if dealt == Dealt::Done && count > 0 && count == room as usize { Dealt::More } else { dealt })
    }

    /// Those that wait, as they start runs together; and whether others are to be looked at as time goes by.
    async fn gathered(&self, row: &StoredTrigger, gather: &Gather, room: u32) -> Result<(Vec<Together>, Dealt), Error> {
        let filter = ArrivalFilter {
            of: Some(row.id.clone()),
            limit: MAX_WAITING + MAX_DEAD + MAX_AT_ONCE * MAX_BATCH,
            ..ArrivalFilter::default()
        };
        let mut by_key: BTreeMap<String, (bool, Vec<Arrival>)> = BTreeMap::new();
        for arrival in self.read.arrivals(&row.tenant, &filter).await? {
            let (is_held_up, waiting) = by_key.entry(arrival.key.clone()).or_default();
            match arrival.stage {
                Stage::Waiting => waiting.push(arrival),
                // Its end tells of it, or somebody who settles it.
                Stage::UnderWay | Stage::Parked => *is_held_up = true,
                Stage::Dead => {}
            }
        }
        let mut keys: Vec<Vec<Arrival>> =
            by_key.into_values().filter(|(is_held_up, _)| !is_held_up).map(|(_, waiting)| waiting).collect();
        keys.sort_by_key(|waiting| waiting.first().map(|first| first.position));
        let (now, mut ready, mut dealt) = (self.now(), Vec::new(), Dealt::Done);
        for arrivals in keys {
            let shown: Vec<Waiting<'_>> =
                arrivals.iter().map(|one| Waiting { position: one.position, at: one.at, event: &one.event }).collect();
            match gather.decide(&shown, now) {
                Some(Gathered::Start(group)) if ready.len() < room as usize => {
                    ready.push(Together::of(arrivals, group))
                }
                Some(_) => dealt = Dealt::Waits,
                None => {}
            }
        }
        Ok((ready, dealt))
    }

    async fn start_one(&self, row: &StoredTrigger, caller: &Caller, together: Together) -> Result<Dealt, Error> {
        let Together { events, dropped } = together;
        let Some((position, last)) = events.last().map(|(position, event)| (*position, event)) else {
            return Ok(Dealt::Done);
        };
        let tenant = &row.tenant;
        let with: Vec<Position> = events[..events.len() - 1].iter().map(|(position, _)| *position).collect();
        let (id, digest, rate) = (row.id.clone(), row.digest, row.trigger.rate);
        let start = TriggeredStart { id, digest, position, with: with.clone(), dropped, rate };
        let late = self.now().since(last.time);
        let is_replay = position <= row.replay_to;
        let triggering = Triggering {
            input: row.trigger.gather.as_ref().map_or_else(|| last.to_value(), |gather| gather.input(&events)),
            trail: events.iter().fold(None, |trail, (_, event)| Trail::deeper(trail, Some(Trail::after(event)))),
            traceparent: last.attributes.get(Event::TRACE).cloned(),
            is_replay,
        };
        match self.runs.start_triggered(caller, &row.trigger.start, start, triggering).await {
            Ok(started) => {
                metered::EVENTS.of(["started"]).increment(1);
                metered::EVENTS_LATE.record(late);
                tracing::debug!(%tenant, subscription = %row.id, run = %started.run, position = position.0, "an event started a run");
                Ok(Dealt::Done)
            }
            Err(Error::Store(error)) if matches!(error.kind, Kind::Conflict | Kind::Fenced) => Ok(Dealt::Waits),
            // The next host starts it.
            Err(_) if self.runs.inner.registry.is_stopping() => Ok(Dealt::Done),
            Err(error @ (Error::Busy { .. } | Error::Store(_) | Error::Internal { .. })) => {
                self.say_why(row, &why_not_begun(&error)).await?;
                Ok(Dealt::Waits)
            }
            // Nothing of it passes by itself.
            Err(error) => {
                for position in with.into_iter().chain([position]) {
                    if self.write.bury(tenant, &row.id, position, error.to_string()).await? {
                        metered::EVENTS.of(["dead"]).increment(1);
                    }
                }
                Ok(Dealt::Done)
            }
        }
    }

    /// Says, once, why events wait.
    async fn say_why(&self, row: &StoredTrigger, why: &str) -> Result<(), StoreError> {
        if row.trouble.as_deref() == Some(why) {
            return Ok(());
        }
        self.write.tell(&row.tenant, &row.id, Some(why.to_owned())).await
    }

    /// Lets a subscription start nothing until somebody continues it.
    async fn set_aside(&self, row: &StoredTrigger, why: String) -> Result<(), Error> {
        tracing::info!(tenant = %row.tenant, subscription = %row.id, why, "a subscription is set aside");
        let expects = vec![Expect::Subscription { id: row.id.clone(), is_paused: Some(false) }];
        let change = Change::SubscriptionPaused { id: row.id.clone(), why: Some(why) };
        let changes = Changes { deltas: Vec::new(), expects };
        self.authority().act_with(&row.tenant, None, change, changes).await?;
        Ok(())
    }
}

/// Events that start a run together, each with its place, in order; and the places of those that start nothing because of it.
struct Together {
    events: Vec<(Position, Event)>,
    dropped: Vec<Position>,
}

impl Together {
    fn of_one(arrival: Arrival) -> Self {
        Self { events: vec![(arrival.position, arrival.event)], dropped: Vec::new() }
    }

    fn of(arrivals: Vec<Arrival>, group: Group) -> Self {
        let is_of = |arrival: &Arrival| group.of.contains(&arrival.position);
        let events = arrivals.into_iter().filter(is_of).map(|arrival| (arrival.position, arrival.event)).collect();
        Self { events, dropped: group.dropped }
    }
}

/// What of these events a subscription takes in: those that fit, each with why it starts nothing, where it is so. `behind`: keys that are parked,
/// with how many events wait behind.
fn found(trigger: &Trigger, events: Vec<Published>, mut behind: BTreeMap<String, u32>) -> Vec<Found> {
    let mut found = Vec::new();
    for Published { position, event } in events.into_iter().filter(|published| trigger.fits(&published.event)) {
        let key = trigger.key(&event);
        let dead = if event.hops() > Trail::MAX_HOPS {
            Some(format!(
                "loop: {} events led to this one, each to the next, which is more than {}",
                event.hops(),
                Trail::MAX_HOPS
            ))
        } else {
            behind.get_mut(&key).and_then(|behind| {
                *behind += 1;
                let is_over = *behind > MAX_BEHIND;
                is_over.then(|| format!("overflow: {MAX_BEHIND} events wait behind one of its key that is parked"))
            })
        };
        found.push(Found { position, key, event, dead });
    }
    found
}

#[cfg(test)]
mod tests {
    use ltmc_model::run::Target;
    use ltmc_model::trigger::OnPoison;
    use ltmc_model::{Payload, Timestamp};

    use super::*;

    fn event(key: &str, hops: u32) -> Event {
        let trail = Trail { correlation: "s 1".into(), causation: "s 2".into(), hops, run: None };
        Event {
            id: "1".into(),
            source: "s".into(),
            kind: "k".into(),
            subject: None,
            time: Timestamp::default(),
            data: Payload::default(),
            attributes: [(Event::KEY.to_owned(), key.to_owned())].into(),
            trail: (hops > 0).then(|| Box::new(trail)),
        }
    }

    fn trigger(filter: Option<&str>) -> Trigger {
        Trigger {
            feed: Feed::Topic("t".parse().unwrap()),
            filter: filter.map(|text| ltmc_model::filter::Filter::parse(text).unwrap()),
            start: Target::Workflow("w".parse().unwrap()),
            at_once: 1,
            on_poison: OnPoison::ParkKey,
            rate: None,
            gather: None,
        }
    }

    fn published(events: Vec<Event>) -> Vec<Published> {
        (1..).zip(events).map(|(n, event)| Published { position: Position(n), event }).collect()
    }

    #[test]
    fn what_fits_is_taken_and_what_follows_from_too_many_is_dead() {
        let events = published(vec![event("a", 0), event("b", 10), event("b", 11), event("c", 40)]);
        let taken = found(&trigger(Some("{not: {exact: {partitionkey: a}}}")), events, BTreeMap::new());
        let told: Vec<(u64, bool)> = taken.iter().map(|one| (one.position.0, one.dead.is_some())).collect();
        assert_eq!(told, [(2, false), (3, true), (4, true)]);
        assert!(taken[1].dead.as_ref().unwrap().starts_with("loop: 11 events"));
    }

    #[test]
    fn behind_a_key_that_is_parked_only_so_many_wait() {
        let events = published((0..5).flat_map(|_| [event("bad", 0), event("good", 0)]).collect());
        let behind = BTreeMap::from([("bad".to_owned(), MAX_BEHIND - 2)]);
        let taken = found(&trigger(None), events, behind);
        let dead: Vec<u64> = taken.iter().filter(|one| one.dead.is_some()).map(|one| one.position.0).collect();
        assert_eq!((taken.len(), dead), (10, vec![5, 7, 9]));
    }
}
