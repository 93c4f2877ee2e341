//! Sessions as time goes by: turns that take too long or were interrupted are ended, sessions without turns expire, and what is to become of one that
//! ends is done (`ended`).
//!
//! Invariants: what is due is what the record says. A turn's run is ended first; where it does not end, it loses its session, and whatever it does then
//! comes too late: so no run, however it hangs, holds a session for longer than that says. Tenants are attended to side by side, each in a round of its
//! own, and have turns: what of one tenant takes its time, or cannot be done yet, keeps nobody else's waiting; of its own, at most until
//! its tenant's next round, or until those that are being ended have been waited for.

use std::sync::Arc;
use std::time::Duration;

use ltmc_model::journal::Change;
use ltmc_model::session::{self, Active, Session};
use ltmc_model::{RunId, SessionId, TenantId, Timestamp};
use ltmc_policy::Turns;
use ltmc_ports::{Changes, Expect, Kind, StoreError};
use ltmc_tenancy::Error;
use tokio::time::Instant;

use crate::registry::Registry;
use crate::rounds::{self, AGAIN, Dealt, Due, LONGEST, PAGE, Round};
use crate::runs::{AT_REST, CANCEL};
use crate::sessions::Sessions;
use crate::stop::Cancelled;

/// Sessions attended to at once.
const AT_ONCE: usize = 16;
/// Of so many sessions of a tenant that were left so: of twice as many it is twice as long.
const LEFT: usize = 256;

impl Due for Sessions {
    const NAMED: &'static str = "sessions";
    const OF_A_TENANT: usize = 8;
    const READ: u32 = 8;
    type Row = Session;
    /// When it is due, and which it is.
    type Place = (Timestamp, SessionId);

    fn registry(&self) -> &Arc<Registry> {
        &self.runs.inner.registry
    }

    async fn coming(&self, after: Option<&TenantId>) -> Result<Vec<(TenantId, Duration)>, StoreError> {
        let now = self.now();
        // What comes later is for a later look.
        let page = self.read.coming_sessions(now.after(LONGEST), after, PAGE).await?;
        Ok(page.into_iter().map(|(tenant, comes)| (tenant, comes.since(now))).collect())
    }

    async fn due(&self, tenant: &TenantId, after: Option<&Self::Place>) -> Result<Vec<Session>, StoreError> {
        self.read.due_sessions(tenant, self.now(), after, Self::READ).await
    }

    fn place(session: &Session) -> Option<Self::Place> {
        Some((session.due_at?, session.id.clone()))
    }

    async fn deal_with(&self, session: Session) -> Dealt {
        if self.attend_to(session).await { Dealt::Done } else { Dealt::Waits }
    }

    fn rests(round: Round) -> Duration {
        match round.waits {
            0 => Duration::ZERO,
            left => AGAIN.saturating_mul(u32::try_from(left / LEFT + 1).unwrap_or(u32::MAX)).min(LONGEST),
        }
    }
}

impl Sessions {
    /// Does what is due, until the host stops.
    pub async fn attend(self: &Arc<Self>) {
        // bound: sessions
        let turns = Turns::new(AT_ONCE, Self::OF_A_TENANT);
        rounds::keep(self, turns, &self.news).await;
    }

    /// Does what is due about one; whether it is done.
    async fn attend_to(&self, session: Session) -> bool {
        let done = match session.due(self.now()) {
            None => return true,
            Some(session::Due::Expires) => self.expire(&session).await.map(|()| true),
            Some(session::Due::IsInterrupted(active)) => {
                self.end_interrupted(&session.tenant, &session.id).await;
                match active {
                    Some(active) => self.end_turn(&session, active, "it was interrupted").await,
                    None => self.has_none_due(&session).await,
                }
            }
            Some(session::Due::SumsUp) => self.sum_up(&session).await,
            Some(session::Due::Settles) => self.settle(&session).await,
            Some(session::Due::TakesTooLong(active)) => {
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

    /// Whether nothing is due of a session any more.
    async fn has_none_due(&self, session: &Session) -> Result<bool, StoreError> {
        let now = self.read.session(&session.tenant, &session.id).await?;
        Ok(now.is_none_or(|session| session.due(self.now()).is_none()))
    }

    async fn expire(&self, session: &Session) -> Result<(), StoreError> {
        let id = session.id.clone();
        let expects = vec![Expect::OpenSession { id: id.clone(), expires: Some(self.now()) }];
        let change = Change::SessionClosed { id, expired: true, now: false, why: None };
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
