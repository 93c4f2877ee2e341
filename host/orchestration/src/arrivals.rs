//! Events of topics that start runs: taken in by the subscriptions that they fit, and started one after the other.
//!
//! Invariants: what is to be done is what the record says, whoever was there before; whoever is first to have it recorded has done it, and
//! nobody else does. Nothing of an event is in memory. A subscription that is full leaves its topic where it is. Each tenant's are dealt with in a round
//! of its own, and have turns: however many a tenant has, however long they take, others' begin when their events come.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use ltmc_model::TenantId;
use ltmc_model::caller::Caller;
use ltmc_model::journal::Change;
use ltmc_model::message::{Event, Published, Trail};
use ltmc_model::trigger::{MAX_BEHIND, MAX_DEAD, Trigger, TriggerId};
use ltmc_policy::Turns;
use ltmc_ports::triggers::{Arrival, Found, Intake, StoredTrigger, TriggeredStart};
use ltmc_ports::{Changes, Expect, Kind, StoreError};
use ltmc_tenancy::Error;

use crate::metered;
use crate::news::News;
use crate::registry::Registry;
use crate::rounds::{self, AGAIN, Dealt, Due, LONGEST, PAGE, Round, Tells};
use crate::runs::why_not_begun;
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
            self.say_why(row, "as many events wait as may: later ones stay in their topic").await?;
            return Ok(Dealt::Done);
        }
        let page = self.bus.events(tenant, &row.trigger.topic, after, room).await?;
        // Looked at afterwards: what was thrown away meanwhile may be missing in what was found.
        let is_lost = after < self.runs.inner.ports.subscriptions.log().trimmed(tenant).await?;
        let upto = page.events.last().map_or(row.newest, |last| last.position);
        let trouble = is_lost.then(|| {
            format!("events after place {} may have been thrown away by their age before it looked at them", after.0)
        });
        let behind = self.read.parked(tenant, &row.id).await?;
        let found = found(&row.trigger, page.events, behind);
        let dead: Vec<_> = found.iter().filter_map(|one| Some((one.position, one.dead.clone()?))).collect();
        let is_told = trouble.is_some();
        let intake = Intake { after, upto, found, at: self.now(), trouble };
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

    /// Starts what can be started.
    async fn start_ready(&self, row: &StoredTrigger, caller: &Caller) -> Result<Dealt, Error> {
        // Its ends tell of room.
        let room = row.trigger.at_once.saturating_sub(row.under_way);
        if room == 0 {
            return Ok(Dealt::Done);
        }
        let ready = self.read.startable(&row.tenant, &row.id, room).await?;
        let count = ready.len();
        let started = stream::iter(ready).map(|arrival| self.start_one(row, caller, arrival)).buffered(AT_ONCE);
        let started: Vec<Result<Dealt, Error>> = started.collect().await;
        let mut dealt = Dealt::Done;
        for one in started {
            if one? == Dealt::Waits {
                dealt = Dealt::Waits;
            }
        }
        // What one commit took in may be more than could be started at once.
        Ok(if dealt == Dealt::Done && count > 0 && count == room as usize { Dealt::More } else { dealt })
    }

    async fn start_one(&self, row: &StoredTrigger, caller: &Caller, arrival: Arrival) -> Result<Dealt, Error> {
        let (tenant, position) = (&row.tenant, arrival.position);
        let start = TriggeredStart { id: row.id.clone(), digest: row.digest, position };
        let late = self.now().since(arrival.event.time);
        let is_replay = position <= row.replay_to;
        match self.runs.start_triggered(caller, &row.trigger.start, (start, is_replay), &arrival.event).await {
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
                if self.write.bury(tenant, &row.id, position, error.to_string()).await? {
                    metered::EVENTS.of(["dead"]).increment(1);
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

/// What of these events a subscription takes in: those that fit, each with why it starts nothing, where it is so. `behind`: keys that are parked,
/// with how many events wait behind.
fn found(trigger: &Trigger, events: Vec<Published>, mut behind: BTreeMap<String, u32>) -> Vec<Found> {
    let fits = |event: &Event| trigger.filter.as_ref().is_none_or(|filter| filter.fits(event));
    let mut found = Vec::new();
    for Published { position, event } in events.into_iter().filter(|published| fits(&published.event)) {
        let dead = if event.hops() > Trail::MAX_HOPS {
            Some(format!(
                "loop: {} events led to this one, each to the next, which is more than {}",
                event.hops(),
                Trail::MAX_HOPS
            ))
        } else {
            behind.get_mut(event.key()).and_then(|behind| {
                *behind += 1;
                let is_over = *behind > MAX_BEHIND;
                is_over.then(|| format!("overflow: {MAX_BEHIND} events wait behind one of its key that is parked"))
            })
        };
        found.push(Found { position, event, dead });
    }
    found
}

#[cfg(test)]
mod tests {
    use ltmc_model::run::Target;
    use ltmc_model::trigger::OnPoison;
    use ltmc_model::{Payload, Position, Timestamp};

    use super::*;

    fn event(key: &str, hops: u32) -> Event {
        let trail = Trail { correlation: "s 1".into(), causation: "s 2".into(), hops };
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
            topic: "t".parse().unwrap(),
            filter: filter.map(|text| ltmc_model::filter::Filter::parse(text).unwrap()),
            start: Target::Workflow("w".parse().unwrap()),
            at_once: 1,
            on_poison: OnPoison::ParkKey,
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
