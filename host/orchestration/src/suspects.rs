//! Suspects: runs of which the host may have died, because it was taking them up when it did.
//!
//! Invariants: before anything of a run is read to take it up, the record counts that it is, at one go for many; a run that gets on
//! is counted no more ([`TakenUp`]). So after a death what was being taken up is known: suspects, of which one may be guilty. They go
//! on after all others and one after the other, each for so long as it takes to get on, or for its time on trial, which doubles from one
//! to the next: of what the host dies then is known. Who is found guilty is set aside, from its row alone: nothing else of it is
//! read. What is suspended was not being taken up, and is no suspect; a guest that sleeps within its step is.
//!
//! [`TakenUp`]: ltmc_model::run::TakenUp

use std::collections::{HashMap, VecDeque};
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashSet;
use ltmc_model::journal::{Entry, Event};
use ltmc_model::run::{Run, State, Trial};
use ltmc_model::{RunId, TenantId};
use ltmc_ports::{Append, Changes, Durability, Kind, StoreError};
use ltmc_tenancy::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::metered;
use crate::runs::Runs;

/// How long a suspect is given the first time before the next one is taken up beside it, and at most.
const TRIAL: Duration = Duration::from_secs(5);
const LONGEST_TRIAL: Duration = Duration::from_secs(60);
/// How long between two looks at whether it got on.
const LOOK: Duration = Duration::from_millis(10);
/// How long until it is looked again where there was no room, or the record did not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Those that are known in this process.
#[derive(Default)]
pub(crate) struct Suspects {
    /// Had by the one that is on trial, and by who takes up all the others at a start.
    pub(crate) turn: Mutex<()>,
    waiting: DashSet<(TenantId, RunId)>,
    queue: std::sync::Mutex<Queue>,
}

impl Suspects {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Suspects that wait for their turn. Tenants take turns; of each tenant's those that were on trial the least come first, so that
/// whoever kills the host again and again does not always meet the same one.
#[derive(Default)]
struct Queue {
    turns: VecDeque<TenantId>,
    of: HashMap<TenantId, VecDeque<(u32, RunId)>>,
    /// Whether there is a task that takes them up.
    is_served: bool,
}

impl Queue {
    fn push(&mut self, tenant: TenantId, times: u32, run: RunId) {
        let own = self.of.entry(tenant.clone()).or_default();
        if own.is_empty() {
            self.turns.push_back(tenant);
        }
        let place = own.partition_point(|(others, _)| *others <= times);
        own.insert(place, (times, run));
    }

    fn pop(&mut self) -> Option<(TenantId, u32, RunId)> {
        let tenant = self.turns.pop_front()?;
        let own = self.of.get_mut(&tenant)?;
        let (times, run) = own.pop_front()?;
        match own.is_empty() {
            true => drop(self.of.remove(&tenant)),
            false => self.turns.push_back(tenant.clone()),
        }
        Some((tenant, times, run))
    }
}

/// What became of runs that were to be taken up.
#[derive(Default)]
pub(crate) struct Sifted {
    /// These are taken up now, and are counted.
    pub(crate) now: Vec<Run>,
    /// So many are suspects, and go on in their turn.
    pub(crate) suspects: usize,
    /// So many were set aside.
    pub(crate) quarantined: usize,
}

impl Runs {
    /// Counts that runs are about to be taken up; suspects among them go on by themselves, and the guilty are set aside.
    pub(crate) async fn sift(&self, rows: Vec<Run>) -> Result<Sifted, StoreError> {
        let (mut sifted, mut suspects) = (Sifted::default(), Vec::new());
        for row in rows {
            if row.taken_up.is_guilty() && !self.is_waiting_alone(&row) {
                // It is not taken up in any case, and keeps nobody else from going on.
                match self.set_aside(row).await {
                    Ok(is_ours) => sifted.quarantined += usize::from(is_ours),
                    Err(error) => tracing::error!(%error, "a run of which the host died could not be set aside yet"),
                }
            } else if row.taken_up.is_suspect() {
                suspects.push(row);
            } else {
                sifted.now.push(row);
            }
        }
        sifted.suspects = self.try_alone(suspects);
        if !sifted.now.is_empty() {
            let runs: Vec<_> = sifted.now.iter().map(place).collect();
            self.inner.ports.take_ups.take_up(&runs, 1, Trial::None).await?;
        }
        Ok(sifted)
    }

    /// Says that a run was not taken up after all.
    pub(crate) async fn not_taken_up(&self, tenant: &TenantId, run: RunId) {
        if self.inner.registry.get(tenant, run).is_some() {
            return;
        }
        if let Err(error) = self.inner.ports.take_ups.take_up(&[(tenant.clone(), run)], -1, Trial::None).await {
            tracing::warn!(%tenant, %run, %error, "that a run was not taken up could not be said");
        }
    }

    /// Whether a run is taken up alone once it is its turn, or is on trial.
    pub(crate) fn is_waiting_alone(&self, row: &Run) -> bool {
        self.inner.suspects.waiting.contains(&place(row))
    }

    /// Takes suspects up when it is their turn, on one task for all of them; how many were not waiting for that already.
    fn try_alone(&self, mut rows: Vec<Run>) -> usize {
        rows.retain(|row| self.inner.suspects.waiting.insert(place(row)));
        let mut queue = self.inner.suspects.queue();
        for row in &rows {
            queue.push(row.tenant.clone(), row.taken_up.times, row.id);
        }
        if !rows.is_empty() && !std::mem::replace(&mut queue.is_served, true) {
            tokio::spawn(self.clone().try_all());
        }
        rows.len()
    }

    /// Until none waits any more. One that cannot be taken up yet lets the others go first.
    async fn try_all(self) {
        let suspects = &self.inner.suspects;
        let mut later = Vec::new();
        loop {
            let next = {
                let mut queue = suspects.queue();
                let next = queue.pop();
                queue.is_served = next.is_some() || !later.is_empty();
                next
            };
            let Some((tenant, times, run)) = next else {
                if later.is_empty() {
                    return;
                }
                tokio::time::sleep(AGAIN).await;
                let mut queue = suspects.queue();
                later.drain(..).for_each(|(tenant, times, run)| queue.push(tenant, times, run));
                continue;
            };
            let turn = suspects.turn.lock().await;
            let tried = self.on_trial(&tenant, run).await;
            drop(turn);
            match tried {
                Ok(()) => drop(suspects.waiting.remove(&(tenant, run))),
                Err(error) => {
                    tracing::debug!(%tenant, %run, %error, "a run that is to be taken up alone cannot be yet");
                    later.push((tenant, times, run));
                }
            }
        }
    }

    /// Takes a suspect up, and stays with it until it gets on, or for its time. An error: not yet, for it may pass.
    async fn on_trial(&self, tenant: &TenantId, run: RunId) -> Result<(), Error> {
        let inner = &self.inner;
        let Some(row) = inner.ports.read.run(tenant, run).await? else { return Ok(()) };
        let (registry, take_ups) = (&inner.registry, &inner.ports.take_ups);
        // Also where the host stops.
        if row.state.is_over() || registry.is_left_behind(tenant, run) || registry.get(tenant, run).is_some() {
            return Ok(());
        }
        if !registry.has_room(tenant) {
            return Err(Error::Busy { message: "there is no room for it".into(), retry_after: AGAIN });
        }
        let this = [(tenant.clone(), run)];
        tracing::warn!(%tenant, %run, "the host died while it took this run up, perhaps of it: it is taken up alone");
        take_ups.take_up(&this, 1, Trial::Alone).await?;
        match self.claim(tenant, run).await {
            None | Some(Ok(())) => {}
            Some(Err(_)) if registry.get(tenant, run).is_some() => {}
            // Another host was faster.
            Some(Err(Error::Store(error))) if error.kind == Kind::Fenced => return Ok(()),
            Some(Err(error)) => {
                self.not_taken_up(tenant, run).await;
                let passes = match &error {
                    Error::Store(error) => may_pass(error.kind),
                    Error::Busy { .. } | Error::Conflict { .. } => true,
                    _ => false,
                };
                if passes {
                    return Err(error);
                }
                tracing::error!(%tenant, %run, %error, "a run could not be taken up again; it stays as it is");
                registry.leave_behind(tenant, run);
                return Ok(());
            }
        }
        let doublings = row.taken_up.times.saturating_sub(1).min(8);
        let until = Instant::now() + (TRIAL * 2_u32.pow(doublings)).min(LONGEST_TRIAL);
        let mut is_bounded = false;
        while Instant::now() < until
            && let Some(live) = registry.get(tenant, run)
        {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = live.ended() => {}
                () = registry.stopping() => return Ok(()),
            }
            if !is_bounded && live.is_bounded() {
                is_bounded = true;
                self.is_at(&this, Trial::Bounded).await;
            }
            if let Ok(Some(row)) = inner.ports.read.run(tenant, run).await
                && !row.taken_up.is_suspect()
            {
                return Ok(());
            }
        }
        self.is_at(&this, Trial::None).await;
        Ok(())
    }

    /// Says how far the one on trial is.
    async fn is_at(&self, this: &[(TenantId, RunId)], trial: Trial) {
        if let Err(error) = self.inner.ports.take_ups.take_up(this, 0, trial).await {
            tracing::warn!(%error, "how far a run on trial is could not be said");
        }
    }

    /// Sets a run aside, until somebody resumes it; whether nobody else has it by now.
    async fn set_aside(&self, row: Run) -> Result<bool, StoreError> {
        let Run { tenant, id, taken_up, seq, epoch, .. } = row.clone();
        let at = self.inner.ports.clock.now();
        let event = Event::RunQuarantined { taken_up: taken_up.times };
        let run = Run {
            state: State::Quarantined,
            epoch: epoch.next(),
            seq: seq.next(),
            updated_at: at,
            wakes_at: None,
            turn: None,
            ..row
        };
        let (expected, previous, entries, changes) = (seq, Some(epoch), vec![Entry { at, event }], Changes::default());
        let (idempotency, scheduled, triggered, snapshot) = (None, None, None, None);
        let append = Append { run, expected, previous, entries, changes, idempotency, scheduled, triggered, snapshot };
        match self.inner.ports.write.append(append, Durability::Barrier).await {
            Ok(()) => {}
            Err(error) if matches!(error.kind, Kind::Fenced | Kind::Conflict) => return Ok(false),
            Err(error) => return Err(error),
        }
        metered::RUNS.of([State::Quarantined.as_str()]).increment(1);
        tracing::error!(
            %tenant,
            run = %id,
            taken_up = taken_up.times,
            "the host died of taking this run up: it is set aside until somebody resumes or cancels it"
        );
        Ok(true)
    }
}

/// Whether a record that refuses a claim so may take it later: there is room again, or the tenant may have more.
pub(crate) fn may_pass(kind: Kind) -> bool {
    matches!(kind, Kind::Unavailable | Kind::Full | Kind::OverQuota)
}

fn place(row: &Run) -> (TenantId, RunId) {
    (row.tenant.clone(), row.id)
}

#[cfg(test)]
mod tests {
    use ltmc_ports::testing::sample::{run_id, tenant};

    use super::*;

    #[test]
    fn tenants_take_turns_whatever_page_their_runs_were_on() {
        let mut queue = Queue::default();
        for (of, times, number) in [("acme", 2, 1), ("acme", 1, 2), ("acme", 1, 3)] {
            queue.push(tenant(of), times, run_id(number));
        }
        let next = |queue: &mut Queue| queue.pop().map(|(_, _, run)| run);
        assert_eq!(next(&mut queue), Some(run_id(2)), "who was on trial the least");
        for (of, times, number) in [("acme", 1, 4), ("beta", 3, 5), ("beta", 1, 6)] {
            queue.push(tenant(of), times, run_id(number));
        }
        let rest: Vec<_> = std::iter::from_fn(|| next(&mut queue)).collect();
        assert_eq!(rest, [3, 6, 4, 5, 1].map(run_id));
        assert!(queue.of.is_empty() && queue.turns.is_empty());
    }
}
