//! What people do with agents' states: they look at one, and at what it was before; they release what is quarantined, or set it by hand.
//!
//! Invariants: looking changes nothing, not even what time made of a state. Whoever releases or sets says why; it is an act in the
//! tenant's chain, with what it was decided on. What is released or set is one of the states that the newest version of the agent declares.

use std::sync::Arc;

use ltmc_journal::runlog::Commit;
use ltmc_model::agent::AgentRef;
use ltmc_model::caller::Caller;
use ltmc_model::delta::{Delta, MemoryChange};
use ltmc_model::effect::Refusal;
use ltmc_model::journal::Change;
use ltmc_model::state::{self, Declared, Kept, MAX_REASON, Machine, Standing};
use ltmc_model::{AgentName, Digest, Position, Revision, SessionId, TenantId, Timestamp};
use ltmc_policy::Action;
use ltmc_ports::log::Interest;
use ltmc_ports::{Changes, Expect};
use ltmc_tenancy::Error;
use serde_json::Value;

use crate::clients::{Clients, Owner, TRIES, contended, whose};
use crate::state::{Found, declared, value};

/// Names one state: an agent's, or an agent's in a session.
#[derive(Debug, Clone)]
pub struct Of {
    /// The agent that the state is of.
    pub agent: AgentName,
    /// In which session, where each has its own.
    pub session: Option<SessionId>,
}

/// A state, as people see it.
#[derive(Debug, Clone)]
pub struct StateView {
    /// What is kept; none: it is where it begins.
    pub kept: Option<Kept>,
    /// Its revision; 0: it was never changed.
    pub revision: Revision,
    /// How that stands to what the newest version of the agent declares.
    pub standing: Standing,
    /// The version that this declares.
    pub declared: u32,
    /// When it ends by itself, and what comes then.
    pub due: Option<(Timestamp, String)>,
}

/// What a state became at one place of the log; none: it does not read back.
pub type Became = (Position, Revision, Option<Kept>);

/// What is to become of a state.
#[derive(Debug, Clone)]
pub enum Mend {
    /// What is quarantined is no more.
    Release,
    /// It is this from now on.
    Set {
        /// Its name.
        state: String,
        /// Its data.
        data: Value,
    },
}

impl Clients {
    /// Where an agent stands.
    ///
    /// # Errors
    /// Where the caller may not, there is no such agent, or it has no states.
    pub async fn state(&self, caller: &Caller, of: &Of) -> Result<StateView, Error> {
        self.ports().authority.authorize(caller, Action::ReadContext).await?;
        self.note(caller);
        let (declared, key) = self.declared(caller, of).await?;
        let now = self.ports().clock.now();
        let found = self.found(caller, of, &key, now).await?;
        let standing = self.ports().context.stands(&caller.tenant, &declared, &found, now).await.map_err(refused)?;
        let due = match &standing {
            Standing::Sound(machine) if found.revision.is_some() => declared.declaration.due(machine),
            _ => None,
        };
        let due = due.map(|(at, to)| (Timestamp::from_millis(at), to.to_owned()));
        let (revision, declared) = (found.revision.unwrap_or_default(), declared.declaration.version);
        Ok(StateView { kept: found.kept.unwrap_or_default(), revision, standing, declared, due })
    }

    /// What an agent's state became after the place `after` (none: since what is kept of the log begins), at most `limit`; and where to
    /// go on, where there may be more.
    ///
    /// # Errors
    /// As [`Self::state`]; the inner error: that place is not kept any more.
    pub async fn state_history(
        &self,
        caller: &Caller,
        of: &Of,
        after: Option<Position>,
        limit: u32,
    ) -> Result<Result<(Vec<Became>, Option<Position>), Refusal>, Error> {
        self.ports().authority.authorize(caller, Action::ReadContext).await?;
        let (_, key) = self.declared(caller, of).await?;
        let after = match after {
            Some(after) => after,
            None => self.ports().subscriptions.log().trimmed(&caller.tenant).await?,
        };
        let interest = Interest::Memory(state::drawer(&of.agent), key.clone());
        let mut rows = match self.subscribe(caller, interest, Some(after)).await? {
            Ok(rows) => rows,
            Err(lost) => return Ok(Err(lost)),
        };
        let found = match rows.read(limit).await {
            Ok(found) => found,
            Err(lost) => return Ok(Err(lost.refusal()?)),
        };
        let mut became = Vec::new();
        for row in &found {
            // Keys that begin so may go on.
            let Some(changed) = row.changed().filter(|changed| changed.key == key) else { continue };
            let kept = changed.value.as_ref().and_then(|value| Kept::from_bytes(value).ok());
            became.push((changed.position, changed.revision, kept));
        }
        Ok(Ok((became, rows.goes_on())))
    }

    /// Releases a state, or sets it, for this reason. What it is then.
    ///
    /// # Errors
    /// Where the caller may not, there is no such agent, what is to be released is not quarantined or still fits no declaration, or what
    /// is to be set is none of its states.
    pub async fn mend_state(
        self: &Arc<Self>,
        caller: &Caller,
        of: &Of,
        mend: Mend,
        reason: String,
    ) -> Result<StateView, Error> {
        self.ports().authority.authorize(caller, Action::MendState).await?;
        if reason.trim().is_empty() || reason.len() > MAX_REASON || reason.chars().any(char::is_control) {
            let message = format!("`reason` says why, in a line of 1 to {MAX_REASON} bytes");
            return Err(Error::invalid("invalid", "reason", message));
        }
        for _ in 0..TRIES {
            let (declared, key) = self.declared(caller, of).await?;
            let now = self.ports().clock.now();
            let found = self.found(caller, of, &key, now).await?;
            let tenant = &caller.tenant;
            let kept = match &mend {
                Mend::Release => self.released(tenant, &declared, &found, now).await?,
                Mend::Set { state, data } => self.set(tenant, &declared, &found, state, data, now).await?,
            };
            let by = Some(caller.key.clone());
            let (timed, dropped, why) = (false, Vec::new(), Some(reason.clone()));
            let kept = Kept { at: now, event: None, timed, dropped, run: None, by, reason: why, ..kept };
            let (call, verb) = match &mend {
                Mend::Release => ("state.release", "released".to_owned()),
                Mend::Set { state, .. } => ("state.set", format!("set to `{state}`")),
            };
            let about = format!("{} {verb}: {reason}", of.agent);
            let request = Digest::of(format!("{call} {}/{key} {}", of.agent, kept.data).as_bytes());
            let change = Change::Context { call: call.to_owned(), about, request };
            let (drawer, revision) = (state::drawer(&of.agent), self.ports().journal.next_revision(&caller.tenant));
            let expected = Expect::Key { drawer: drawer.clone(), key: key.clone(), revision: found.revision };
            let written = MemoryChange { drawer, key, revision, value: Some(value(&kept)), trail: None };
            let owner = Owner::default();
            let room = self.ports().context.room(whose(caller, &owner), &written, &found).await?.map_err(refused)?;
            let expects = std::iter::once(expected).chain(room).collect();
            let changes = Changes { deltas: vec![Delta::Memory(written)], expects };
            if self.came_true(caller, &change, Commit { changes, ..Commit::default() }).await? {
                return self.state(caller, of).await;
            }
        }
        Err(contended())
    }

    /// What a state is once it is released.
    async fn released(
        &self,
        tenant: &TenantId,
        declared: &Declared,
        found: &Found,
        now: Timestamp,
    ) -> Result<Kept, Error> {
        let kept = match &found.kept {
            Ok(Some(kept)) => Kept { from: Some(kept.state.clone()), quarantined: None, ..kept.clone() },
            Ok(None) => return Err(not_quarantined()),
            Err(why) => return Err(unfit(why)),
        };
        if let Ok(Some(before)) = &found.kept
            && before.quarantined.is_none()
            && !matches!(self.stands_now(tenant, declared, found, now).await?, Standing::Quarantined(_))
        {
            return Err(not_quarantined());
        }
        let released = Found { kept: Ok(Some(kept.clone())), revision: found.revision, bytes: found.bytes };
        match self.stands_now(tenant, declared, &released, now).await? {
            Standing::Quarantined(why) => Err(unfit(&why)),
            // It is timed again from when it came to be.
            Standing::Sound(_) => {
                let due = declared.declaration.due(&kept.machine()).map(|(at, _)| Timestamp::from_millis(at));
                Ok(Kept { due, ..kept })
            }
            // Of an older version it is migrated when it is looked at next.
            Standing::Older(_) | Standing::Newer(_) => Ok(kept),
        }
    }

    /// What a state is once it is set.
    async fn set(
        &self,
        tenant: &TenantId,
        declared: &Declared,
        found: &Found,
        state: &str,
        data: &Value,
        now: Timestamp,
    ) -> Result<Kept, Error> {
        let machine = Machine { state: state.to_owned(), data: data.clone(), since_ms: now.millis() };
        let wrong = |why: String| Error::invalid("invalid", "data", why);
        declared.declaration.fits(&machine).map_err(|refused| wrong(refused.message))?;
        if let Some(why) = self.ports().context.judged(tenant, declared, data).await.map_err(refused)? {
            return Err(wrong(why));
        }
        let from = found.kept.as_ref().ok().and_then(Option::as_ref).map(|kept| kept.state.clone());
        Ok(declared.kept(machine, from, now))
    }

    async fn stands_now(
        &self,
        tenant: &TenantId,
        declared: &Declared,
        found: &Found,
        now: Timestamp,
    ) -> Result<Standing, Error> {
        self.ports().context.stands(tenant, declared, found, now).await.map_err(refused)
    }

    async fn found(&self, caller: &Caller, of: &Of, key: &str, now: Timestamp) -> Result<Found, Error> {
        let owner = Owner::default();
        let (whose, drawer) = (whose(caller, &owner), state::drawer(&of.agent));
        Ok(Found::of(self.ports().context.memory.item(whose, &drawer, key, now).await?.as_ref()))
    }

    async fn declared(&self, caller: &Caller, of: &Of) -> Result<(Declared, String), Error> {
        let agent = AgentRef { name: of.agent.clone(), digest: None };
        let authority = &self.ports().authority;
        if authority.agent(&caller.tenant, &agent).await?.is_none() {
            return Err(Error::not_found(format!("agent `{agent}`")));
        }
        let found = declared(authority, &caller.tenant, &agent).await?;
        let declared = found.map_err(|why| Error::not_found(format!("state of agent `{agent}`: {why}")))?;
        let key = declared.key(of.session.as_ref()).ok_or_else(|| {
            let message =
                format!("each session of agent `{agent}` has a state of its own: `session` says whose is meant");
            Error::invalid("invalid", "session", message)
        })?;
        Ok((declared, key))
    }
}

fn not_quarantined() -> Error {
    Error::Conflict { code: "conflict", message: "the state is not quarantined: there is nothing to release".into() }
}

fn unfit(why: &str) -> Error {
    let message =
        format!("the state fits no declaration in force yet, so it stays quarantined: {why}; set it to one that does");
    Error::Conflict { code: "conflict", message }
}

/// What a guest would be told, as a client is.
fn refused(refusal: Refusal) -> Error {
    match refusal {
        Refusal::Unavailable { message, retry_after_ms } => {
            Error::Busy { message, retry_after: std::time::Duration::from_millis(retry_after_ms) }
        }
        Refusal::Quota(which) => Error::Conflict { code: "quota-exceeded", message: which },
        other => Error::Internal { message: format!("a state was not judged: {other:?}") },
    }
}
