//! Suspended runs go on: each is a row of the record that says when, and nothing in memory.
//!
//! Invariants: what is due is what the record says, whoever suspended it and whenever: so a run goes on after a restart, and on
//! whichever host is there. Whoever is first to claim it has it. Tenants take turns; of one that has no room for more runs nothing is
//! read, and those of others go on before its own.

use std::collections::VecDeque;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream;
use ltmc_model::TenantId;
use ltmc_model::run::Run;
use ltmc_ports::journal::Suspended;
use ltmc_ports::{Kind, StoreError};
use ltmc_tenancy::Error;

use crate::news::News;
use crate::runs::Runs;

/// Tenants read at once.
const PAGE: u32 = 256;
/// Runs of a tenant's turn.
const TURN: u32 = 32;
/// Runs taken up at once: their claims share a commit.
const AT_ONCE: usize = 32;
/// How long until it is looked again where something due could not go on.
const AGAIN: Duration = Duration::from_secs(1);
/// How long messages are gathered before it is looked whether any made a run due.
const PUBLISHED: Duration = Duration::from_millis(20);
/// The longest time between two looks: another host may have suspended something, or published something.
const LONGEST: Duration = Duration::from_secs(10);

/// Until the host stops.
pub(crate) async fn wake(runs: &Runs) {
    let registry = runs.inner.registry.clone();
    let mut news = News::of(runs.inner.ports.subscriptions.log());
    while !registry.is_stopping() {
        let next = match take_up_due(runs).await {
            Ok(next) => next,
            Err(error) => {
                tracing::error!(%error, "suspended runs could not be looked up; trying again");
                AGAIN
            }
        };
        tokio::select! {
            () = tokio::time::sleep(next.min(LONGEST)) => {}
            () = runs.inner.sleepers.notified() => {}
            () = news.next() => {
                // Of many that come one after the other it is told once.
                tokio::time::sleep(PUBLISHED).await;
                news.look();
            }
            () = registry.stopping() => {}
        }
    }
}

/// Takes up every run that is due and has room, tenants in turns. For how long there is nothing to do then.
async fn take_up_due(runs: &Runs) -> Result<Duration, StoreError> {
    let inner = &runs.inner;
    let (now, mut next, mut stays) = (inner.ports.clock.now(), LONGEST, false);
    let mut turns: VecDeque<(TenantId, Option<Suspended>)> = VecDeque::new();
    let mut after = None;
    loop {
        let page = inner.ports.read.sleepers(after.as_ref(), PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        for (tenant, wakes_at) in page {
            match wakes_at <= now {
                true => turns.push_back((tenant, None)),
                false => next = next.min(wakes_at.since(now)),
            }
        }
    }
    while let Some((tenant, after)) = turns.pop_front()
        && !inner.registry.is_stopping()
    {
        // Nothing is read of one that has no room.
        if !inner.registry.has_room(&tenant) {
            stays = true;
            continue;
        }
        let mut page = inner.ports.read.suspended(&tenant, after, TURN).await?;
        let last = page.last().and_then(Suspended::of);
        let now = inner.ports.clock.now();
        let first_later = page.iter().position(|row| row.wakes_at.is_some_and(|at| at > now));
        match first_later.and_then(|first| page.get(first)?.wakes_at) {
            Some(later) => next = next.min(later.since(now)),
            None if last.is_some() => turns.push_back((tenant, last)),
            None => {}
        }
        page.truncate(first_later.unwrap_or(page.len()));
        page.retain(|row| !inner.registry.is_left_behind(&row.tenant, row.id));
        let due = runs.sift(page).await?.now;
        // bound: runs alive
        let stay = stream::iter(due).map(|row| take_up(runs, row)).buffer_unordered(AT_ONCE);
        stays |= stay.fold(false, |some, one| async move { some | one }).await;
    }
    Ok(if stays { next.min(AGAIN) } else { next })
}

/// Goes on with a run, if there is room for it; whether it stays suspended for now.
async fn take_up(runs: &Runs, row: Run) -> bool {
    let inner = &runs.inner;
    let Some(taken) = runs.claim(&row.tenant, row.id).await else { return false };
    if taken.is_err() {
        runs.not_taken_up(&row.tenant, row.id).await;
    }
    match taken {
        Ok(()) => false,
        // Somebody else was faster.
        Err(Error::Store(error)) if matches!(error.kind, Kind::Fenced | Kind::Conflict) => false,
        // There is no room after all, or it has not left its place here yet.
        Err(Error::Busy { .. } | Error::Conflict { .. }) => true,
        Err(error) => {
            tracing::error!(tenant = %row.tenant, run = %row.id, %error, "a suspended run could not be taken up");
            let may_pass = matches!(&error, Error::Store(error) if matches!(error.kind, Kind::Unavailable | Kind::Full | Kind::OverQuota));
            if !may_pass {
                inner.registry.leave_behind(&row.tenant, row.id);
            }
            may_pass
        }
    }
}
