//! Schedules' ticks: what is due starts a run, or is counted as what became of it.
//!
//! Invariants: what is due is what the record says, whoever was there before; whoever is first to have a tick recorded has dealt with
//! it, and nobody else does. Nothing of a tick is in memory. Tenants take turns.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use ltmc_model::journal::Change;
use ltmc_model::schedule::{Outcome, Overlap, Passed, Trouble};
use ltmc_model::{TenantId, Timestamp};
use ltmc_ports::schedules::{Coming, ScheduledStart, StoredSchedule, Ticked};
use ltmc_ports::{Changes, Expect, Kind, StoreError};
use ltmc_processor::Account;
use ltmc_tenancy::Error;

use crate::due::{self, Decision, decide};
use crate::metered;
use crate::runs::why_not_begun;
use crate::schedules::Schedules;

/// Tenants read at once.
const PAGE: u32 = 256;
/// Schedules of a tenant's turn.
const TURN: u32 = 32;
/// Runs started at once: their beginnings share a commit.
const AT_ONCE: usize = 32;
/// How long until it is looked again where something due has to wait.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest time between two looks: another host may have planned something.
const LONGEST: Duration = Duration::from_secs(10);

impl Schedules {
    /// Starts runs as their ticks come, until the host stops.
    pub async fn tick(self: &Arc<Self>) {
        let registry = self.runs.inner.registry.clone();
        while !registry.is_stopping() {
            let next = match self.deal_with_due().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(%error, "schedules could not be looked up; trying again");
                    AGAIN
                }
            };
            tokio::select! {
                () = tokio::time::sleep(next.min(LONGEST)) => {}
                () = self.changed.notified() => {}
                () = registry.stopping() => {}
            }
        }
    }

    /// Deals with every tick that is due, tenants in turns. For how long there is nothing to do then.
    async fn deal_with_due(self: &Arc<Self>) -> Result<Duration, StoreError> {
        let (now, mut next, mut waits) = (self.now(), LONGEST, false);
        let mut turns: VecDeque<(TenantId, Option<Coming>)> = VecDeque::new();
        let mut after = None;
        loop {
            let page = self.read.coming(after.as_ref(), PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (tenant, comes) in page {
                match comes <= now {
                    true => turns.push_back((tenant, None)),
                    false => next = next.min(comes.since(now)),
                }
            }
        }
        while let Some((tenant, after)) = turns.pop_front()
            && !self.runs.inner.registry.is_stopping()
        {
            let mut page = self.read.due(&tenant, after.as_ref(), TURN).await?;
            let (now, last) = (self.now(), page.last().map(StoredSchedule::place));
            match page.iter().position(|row| row.next > now) {
                Some(first_later) => {
                    next = next.min(page[first_later].next.since(now));
                    page.truncate(first_later);
                }
                None if last.is_some() => turns.push_back((tenant, last)),
                None => {}
            }
            let dealt = stream::iter(page).map(|row| {
                let (account, schedules) = (Account::of(&row.tenant), self.clone());
                ltmc_processor::run(account, async move { schedules.deal_with(row).await })
            });
            // bound: schedules
            let dealt = dealt.buffer_unordered(AT_ONCE);
            let soonest = dealt.fold(LONGEST, |soonest, next| async move { soonest.min(next) }).await;
            next = next.min(soonest);
            waits |= soonest == Duration::ZERO;
        }
        Ok(if waits { AGAIN } else { next })
    }

    /// Deals with what is due of one schedule; how long until the next of it, and zero where something due waits.
    async fn deal_with(&self, row: StoredSchedule) -> Duration {
        match self.dealt(&row).await {
            Ok(next) => next.map_or(Duration::ZERO, |next| next.since(self.now())),
            // Somebody else was faster.
            Err(Error::Store(error)) if matches!(error.kind, Kind::Conflict | Kind::Stale) => Duration::ZERO,
            Err(error) => {
                tracing::error!(tenant = %row.tenant, schedule = %row.id, %error, "a schedule's tick could not be dealt with yet");
                Duration::ZERO
            }
        }
    }

    /// Deals with what is due; the first tick that is open then, or none where one that is due waits.
    async fn dealt(&self, row: &StoredSchedule) -> Result<Option<Timestamp>, Error> {
        let is_free = !due::is_alone(row) || self.last_is_over(row).await?;
        let (tick, ticked) = match decide(row, self.now(), is_free) {
            Decision::Nothing => return Ok(Some(row.next)),
            Decision::Pass(ticked) => return self.pass(row, ticked).await.map(Some),
            Decision::Wait { tick } => {
                self.say_why(row, tick, "the run of the tick before is under way").await?;
                return Ok(None);
            }
            Decision::Start { tick, ticked } => (tick, ticked),
        };
        let tenant = &row.tenant;
        let authority = &self.runs.inner.ports.authority;
        let standing = match &row.by {
            Some(by) => authority.standing(tenant, by).await?,
            None => Err("it is in nobody's name".to_owned()),
        };
        let caller = standing.and_then(|caller| {
            ltmc_policy::authorize(&caller, ltmc_policy::Action::Run).map(|()| caller).map_err(|e| e.to_string())
        });
        let caller = match caller {
            Ok(caller) => caller,
            Err(why) => return self.set_aside(row, why).await,
        };
        let start = ScheduledStart {
            id: row.id.clone(),
            digest: row.digest,
            tick,
            due: Some(ticked.clone()),
            is_alone: row.timing.overlap() != Overlap::Parallel,
        };
        match self.runs.start_scheduled(&caller, start, None).await {
            Ok(started) => {
                metered::TICKS.of(["started"]).increment(1);
                count(ticked.passed);
                let late = self.now().since(tick);
                metered::TICKS_LATE.record(late);
                tracing::debug!(%tenant, schedule = %row.id, run = %started.run, %tick, "a schedule started a run");
                Ok(Some(ticked.next))
            }
            Err(Error::Store(error)) if matches!(error.kind, Kind::Conflict | Kind::Fenced) => Err(error.into()),
            // The next host starts it.
            Err(_) if self.runs.inner.registry.is_stopping() => Ok(None),
            Err(error) => {
                self.say_why(row, tick, &why_not_begun(&error)).await?;
                Ok(None)
            }
        }
    }

    async fn last_is_over(&self, row: &StoredSchedule) -> Result<bool, StoreError> {
        let Some(last) = row.last else { return Ok(true) };
        let run = self.runs.inner.ports.read.run(&row.tenant, last.run).await?;
        Ok(run.is_none_or(|run| run.state.is_over()))
    }

    /// Deals with due ticks that start nothing; the first that is open then.
    async fn pass(&self, row: &StoredSchedule, ticked: Ticked) -> Result<Timestamp, Error> {
        let (passed, next) = (ticked.passed, ticked.next);
        if let Some(trouble) = &ticked.trouble {
            let outcome = trouble.outcome.as_str();
            tracing::debug!(tenant = %row.tenant, schedule = %row.id, tick = %trouble.tick, outcome, why = trouble.why, "a tick started nothing");
        }
        if self.write.tick(&row.tenant, &row.id, row.digest, ticked).await? {
            count(passed);
        }
        Ok(next)
    }

    /// Says, once, why a tick waits.
    async fn say_why(&self, row: &StoredSchedule, tick: Timestamp, why: &str) -> Result<(), StoreError> {
        let trouble = Trouble::new(tick, Outcome::Waits, why);
        if row.trouble.as_ref() == Some(&trouble) {
            return Ok(());
        }
        tracing::debug!(tenant = %row.tenant, schedule = %row.id, %tick, why, "a schedule's tick waits");
        let ticked = Ticked { due: row.next, next: row.next, passed: Passed::default(), trouble: Some(trouble) };
        self.write.tick(&row.tenant, &row.id, row.digest, ticked).await.map(drop)
    }

    /// Lets a schedule start nothing more, for the key in whose name it did may not any more.
    async fn set_aside(&self, row: &StoredSchedule, why: String) -> Result<Option<Timestamp>, Error> {
        tracing::info!(tenant = %row.tenant, schedule = %row.id, why, "a schedule is set aside");
        let StoredSchedule { tenant, id, digest, .. } = row;
        let expect = Expect::Schedule { id: id.clone(), digest: *digest, is_paused: false };
        let (workflow, number) = (id.workflow.clone(), id.number);
        let change = Change::SchedulePaused { workflow, number, digest: *digest, why: Some(why) };
        let changes = Changes { deltas: Vec::new(), expects: vec![expect] };
        self.runs.inner.ports.authority.act_with(tenant, None, change, changes).await?;
        Ok(Some(Timestamp::from_millis(u64::MAX)))
    }
}

fn count(passed: Passed) {
    metered::TICKS.of(["skipped"]).increment(passed.skipped.into());
    metered::TICKS.of(["missed"]).increment(passed.missed.into());
}
