//! Sessions as time goes by: turns that take too long or were interrupted are ended, and sessions without turns expire.
//!
//! Invariants: what is due is what the record says. A turn's run is ended first; where it does not end, it loses its session, and whatever it does then
//! comes too late: so no run, however it hangs, holds a session for longer than that says. Tenants are attended to side by side, each in a round of its
//! own, and have turns: what of one tenant takes its time, or cannot be done yet, keeps nobody else's waiting; of its own, at most until
//! its tenant's next round, or until those that are being ended have been waited for.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{StreamExt as _, stream};
use ltmc_model::journal::Change;
use ltmc_model::session::{Active, Due, Session};
use ltmc_model::{RunId, SessionId, TenantId, Timestamp};
use ltmc_policy::Turns;
use ltmc_ports::{Changes, Expect, Kind, StoreError};
use ltmc_processor::Account;
use ltmc_tenancy::Error;
use tokio::time::Instant;

use crate::rounds::Rounds;
use crate::runs::{AT_REST, CANCEL};
use crate::sessions::Sessions;
use crate::stop::Cancelled;

/// Tenants read at once.
const PAGE: u32 = 256;
/// Sessions attended to at once.
const AT_ONCE: usize = 16;
/// Of one tenant's, and read at once: a tenant has half of the turns.
const OF_A_TENANT: u32 = 8;
/// How long until it is looked again where something due could not be done.
const AGAIN: Duration = Duration::from_secs(1);
/// Of so many sessions of a tenant that were left so: of twice as many it is twice as long.
const LEFT: usize = 256;
/// The longest time between two looks: another host may have opened something.
pub(crate) const LONGEST: Duration = Duration::from_secs(10);

/// A session's place among its tenant's that are due: when it is, and which it is.
type Place = (Timestamp, SessionId);

impl Sessions {
    /// Does what is due, until the host stops.
    pub async fn attend(self: &Arc<Self>) {
        let registry = self.runs.inner.registry.clone();
        // bound: sessions
        let turns = Turns::new(AT_ONCE, OF_A_TENANT as usize);
        let (mut rounds, mut going) = (Rounds::default(), FuturesUnordered::new());
        let mut look = Instant::now();
        while !registry.is_stopping() {
            if look <= Instant::now() {
                let next = match self.coming().await {
                    Ok(coming) => {
                        let now = self.now();
                        let coming = coming.into_iter().map(|(tenant, comes)| (tenant, comes.since(now)));
                        let (beginning, next) = rounds.begin(coming, LONGEST);
                        going.extend(beginning.into_iter().map(|tenant| self.clone().round(tenant, turns.clone())));
                        next
                    }
                    Err(error) => {
                        tracing::error!(%error, "sessions could not be looked up; trying again");
                        AGAIN
                    }
                };
                look = Instant::now() + next;
            }
            tokio::select! {
                () = tokio::time::sleep_until(look) => {}
                of = self.news.come() => {
                    rounds.hear(of);
                    look = Instant::now();
                }
                Some((tenant, rests)) = going.next() => look = look.min(rounds.end(tenant, rests)),
                () = registry.stopping() => {}
            }
        }
        while going.next().await.is_some() {}
    }

    /// Tenants with sessions about which something is to be done, each with when.
    async fn coming(&self) -> Result<Vec<(TenantId, Timestamp)>, StoreError> {
        let mut coming: Vec<(TenantId, Timestamp)> = Vec::new();
        loop {
            let page = self.read.coming_sessions(coming.last().map(|(tenant, _)| tenant), PAGE).await?;
            let is_last = page.len() < PAGE as usize;
            coming.extend(page);
            if is_last {
                return Ok(coming);
            }
        }
    }

    /// Does all that is due of a tenant's, a few at a time; how long until the next round, where something could not be done.
    async fn round(self: Arc<Self>, tenant: TenantId, turns: Arc<Turns>) -> (TenantId, Duration) {
        let of = (self.clone(), tenant.clone());
        let pages = stream::unfold(Some(None), move |place: Option<Option<Place>>| {
            let (sessions, tenant) = of.clone();
            async move { sessions.page(&tenant, place?).await }
        });
        let attended = pages.flat_map(stream::iter).map(|session| {
            let (sessions, turns) = (self.clone(), turns.clone());
            async move {
                let Some(session) = session else { return false };
                let Some(_turn) = turns.take(&session.tenant).await else { return false };
                if sessions.runs.inner.registry.is_stopping() {
                    return false;
                }
                let account = Account::of(&session.tenant);
                ltmc_processor::run(account, async move { sessions.attend_to(session).await }).await
            }
        });
        // bound: sessions
        let attended = attended.buffer_unordered(OF_A_TENANT as usize);
        let left = attended.fold(0, |left, is_done| async move { left + usize::from(!is_done) }).await;
        let rests = match left {
            0 => Duration::ZERO,
            left => AGAIN.saturating_mul(u32::try_from(left / LEFT + 1).unwrap_or(u32::MAX)).min(LONGEST),
        };
        (tenant, rests)
    }

    /// The next of a tenant's sessions that are due, after this place, and the place after them; a session that is none: they could not be read.
    async fn page(
        &self,
        tenant: &TenantId,
        after: Option<Place>,
    ) -> Option<(Vec<Option<Session>>, Option<Option<Place>>)> {
        if self.runs.inner.registry.is_stopping() {
            return None;
        }
        match self.read.due_sessions(tenant, self.now(), after.as_ref(), OF_A_TENANT).await {
            Ok(page) => {
                let last = page.last().and_then(|session| Some((session.due_at?, session.id.clone())))?;
                Some((page.into_iter().map(Some).collect(), Some(Some(last))))
            }
            Err(error) => {
                tracing::error!(%tenant, %error, "a tenant's sessions could not be looked up; trying again");
                Some((vec![None], None))
            }
        }
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
                    None => self.has_none_due(&session).await,
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

    /// Whether nothing is due of a session any more.
    async fn has_none_due(&self, session: &Session) -> Result<bool, StoreError> {
        let now = self.read.session(&session.tenant, &session.id).await?;
        Ok(now.is_none_or(|session| session.due(self.now()).is_none()))
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
