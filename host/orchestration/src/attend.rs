//! Sessions as time goes by: turns that take too long or were interrupted are ended, and sessions without turns expire.
//!
//! Invariants: what is due is what the record says. A turn's run is ended first; where it does not end, it loses its session, and whatever it does then
//! comes too late: so no run, however it hangs, holds a session for longer than that says.

use std::sync::Arc;
use std::time::Duration;

use ltmc_model::RunId;
use ltmc_model::journal::Change;
use ltmc_model::session::{Active, Due, Session};
use ltmc_ports::{Changes, Expect, Kind, StoreError};
use ltmc_processor::Account;
use ltmc_tenancy::Error;
use tokio::time::Instant;

use futures::{StreamExt as _, stream};

use crate::runs::{AT_REST, CANCEL};
use crate::sessions::Sessions;
use crate::stop::Cancelled;

/// Sessions read at once.
const PAGE: u32 = 256;
/// Sessions attended to at once.
const AT_ONCE: usize = 16;
/// How long until it is looked again where something due could not be done.
const AGAIN: Duration = Duration::from_secs(1);
/// The longest time between two looks: another host may have opened something.
pub(crate) const LONGEST: Duration = Duration::from_secs(10);

impl Sessions {
    /// Does what is due, until the host stops.
    pub async fn attend(self: &Arc<Self>) {
        let registry = self.runs.inner.registry.clone();
        while !registry.is_stopping() {
            let next = match self.attend_to_due().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(%error, "sessions could not be looked up; trying again");
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

    /// Does all that is due; for how long there is nothing to do then.
    async fn attend_to_due(self: &Arc<Self>) -> Result<Duration, StoreError> {
        let due = self.read.due_sessions(self.now(), PAGE).await?;
        let there_may_be_more = due.len() == PAGE as usize;
        let done = stream::iter(due).map(|session| {
            let (account, sessions) = (Account::of(&session.tenant), self.clone());
            ltmc_processor::run(account, async move { sessions.attend_to(session).await })
        });
        let is_done = done.buffer_unordered(AT_ONCE).fold(true, |all, one| async move { all && one }).await;
        let next = self.read.next_due_session().await?.map_or(LONGEST, |at| at.since(self.now()));
        Ok(match (is_done, there_may_be_more) {
            (false, _) => next.max(AGAIN),
            (true, true) => Duration::ZERO,
            (true, false) => next,
        })
    }

    /// Does what is due about one; whether it is done.
    async fn attend_to(&self, session: Session) -> bool {
        let done = match session.due(self.now()) {
            None => return true,
            Some(Due::Expires) => self.expire(&session).await.map(|()| true),
            Some(Due::IsInterrupted(active)) => {
                self.end_interrupted(&session.tenant, &session.id).await;
                match active {
                    Some(active) => self.end_turn(&session, active, "it was interrupted").await,
                    None => Ok(true),
                }
            }
            Some(Due::TakesTooLong(active)) => {
                let longest = humantime::format_duration(Duration::from_millis(session.settings.turn));
                self.end_turn(&session, active, &format!("a turn of its session may take {longest}")).await
            }
        };
        match done {
            Ok(is_done) => is_done,
            // Somebody else was faster.
            Err(error) if error.kind == Kind::Stale => true,
            Err(error) => {
                tracing::warn!(tenant = %session.tenant, session = %session.id, %error, "a session could not be attended to yet");
                false
            }
        }
    }

    async fn expire(&self, session: &Session) -> Result<(), StoreError> {
        let id = session.id.clone();
        let expects = vec![Expect::OpenSession { id: id.clone(), expires: Some(self.now()) }];
        let change = Change::SessionClosed { id, expired: true, now: false };
        self.authority().act_with(&session.tenant, None, change, Changes { deltas: Vec::new(), expects }).await
    }

    /// Ends a turn's run; whether that is done. What undoes its work has its time; where the run does not end, or cannot be undone, the session
    /// is taken from it.
    async fn end_turn(&self, session: &Session, active: Active, why: &str) -> Result<bool, StoreError> {
        let (tenant, run) = (&session.tenant, active.run);
        if self.is_stuck(tenant, run).await {
            // It is for people to give it up; the session has it for as long as a turn may take.
            if self.now() < active.since.after(Duration::from_millis(session.settings.turn)) {
                return Ok(false);
            }
        } else {
            match self.ended(session, run, why).await {
                Ok(Cancelled::Over) | Err(Error::NotFound { .. }) => return Ok(true),
                Ok(Cancelled::BeingUndone) if self.now() < session.undoes_until(&active) => return Ok(false),
                Ok(Cancelled::BeingUndone) | Err(_) => {}
            }
        }
        let change = Change::TurnLost { session: session.id.clone(), number: active.number, run, why: why.to_owned() };
        let expects = vec![Expect::AtWork { session: session.id.clone(), run }];
        self.authority().act_with(tenant, None, change, Changes { deltas: Vec::new(), expects }).await?;
        tracing::warn!(%tenant, session = %session.id, %run, why, "a turn has lost its session");
        self.runs.inner.sleepers.notify_one();
        Ok(true)
    }

    /// Ends a run, also one that is taken up, or suspended, at this very moment.
    async fn ended(&self, session: &Session, run: RunId, why: &str) -> Result<Cancelled, Error> {
        let begun = Instant::now();
        loop {
            match self.runs.end(&session.tenant, run, None, why).await {
                Err(Error::Busy { .. }) if begun.elapsed() < CANCEL => tokio::time::sleep(AT_REST).await,
                ended => return ended,
            }
        }
    }
}
