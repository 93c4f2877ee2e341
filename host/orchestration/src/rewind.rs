//! Sessions are taken back to an earlier turn, or forked at one: with their memory, and whoever held the conversation, as they were then.
//!
//! Invariants: what keys of a session's memory held before a turn changed them is kept by the record, of the last turns; all that is put back is one act,
//! between two turns. What turns did elsewhere stays, and is told. A fork has no queue, no timers and nothing open: only what was said, and memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ltmc_model::caller::{Caller, Role};
use ltmc_model::delta::{Delta, MemoryChange, MemoryValue};
use ltmc_model::effect::Refusal;
use ltmc_model::journal::{Change, Effect, Event};
use ltmc_model::memory::Drawer;
use ltmc_model::session::{
    Fork, IfBusy, MAX_BACK, MAX_FORKED, MAX_MOVED, MAX_MOVED_BYTES, Part, Remains, Session, Stage, Turn,
};
use ltmc_model::{Digest, Epoch, Seq, SessionId, StepPath, TenantId};
use ltmc_policy::Action;
use ltmc_ports::{Changes, Expect, Kind, StoreError};
use ltmc_tenancy::Error;

use crate::sessions::{Sessions, changed_meanwhile};

/// Keys that are put back or copied, one more than may be, and bytes.
const MOST: (u32, usize) = (MAX_MOVED as u32 + 1, MAX_MOVED_BYTES);
/// What stays is told of so many calls.
const TOLD: usize = 100;
/// Entries of a run that are looked at for what stays.
const LOOKED_AT: usize = 10_000;
/// How many of them are read at once, and how many bytes.
const PAGE: u32 = 1_000;
const PAGE_BYTES: usize = 8 << 20;

/// A session that was taken back.
#[derive(Debug)]
pub struct Rewound {
    /// As it stands.
    pub session: Session,
    /// How many keys of its memory are as they were.
    pub keys: usize,
    /// How many turns are no part of the conversation any more.
    pub turns: usize,
    /// What these did elsewhere, which stays; of much the first.
    pub stays: Vec<Stays>,
    /// How many more there are.
    pub more: usize,
}

/// Something that a turn did outside of its session's memory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stays {
    /// The turn's number in the session.
    pub turn: u32,
    /// By which host call, or entry of its journal.
    pub call: String,
    /// What that was about.
    pub about: String,
}

impl Sessions {
    /// Takes a session back to after a turn, 0 being before the first: its memory and the holder of its conversation are as they were, and later turns are
    /// no part of the conversation any more.
    ///
    /// # Errors
    /// Where it is not there, is over or busy, or the turn is none that it can be taken back to.
    pub async fn rewind(self: &Arc<Self>, caller: &Caller, id: &SessionId, to: u32) -> Result<Rewound, Error> {
        let (sessions, by, id) = (self.clone(), caller.clone(), id.clone());
        let work = async move {
            let session = sessions.between_turns(&by, &id, "take it back").await?;
            let turn = sessions.turn_that_counts(&by.tenant, &session, to, "to").await?;
            let undone = sessions.begun_since(&by.tenant, &session, turn, "to").await?;
            let changed = sessions.read.changed_since(&by.tenant, &id, turn, MOST).await?;
            check_moved(changed.iter().map(|(key, value)| (key, value.as_ref())))?;
            let (stays, more) = sessions.stays(&by.tenant, &undone).await?;
            let holder = undone.last().map_or(session.holder.clone(), |turn| turn.holder.clone());
            let (keys, turns) = (changed.len(), undone.len());
            let deltas = sessions.put_back((&by.tenant, &id), changed);
            let change = Change::SessionRewound {
                id: id.clone(),
                to,
                began: turn,
                holder: holder.map(Box::new),
                keys: u32::try_from(keys).unwrap_or(u32::MAX),
            };
            let mut expects = vec![Expect::Idle { session: id.clone(), epoch: session.epoch }];
            expects.extend(sessions.room_for(&by, &id, &deltas).await?);
            let done =
                sessions.authority().act_with(&by.tenant, Some(&by.key), change, Changes { deltas, expects }).await;
            done.map_err(|error| changed_meanwhile(error, &id))?;
            Ok(Rewound { session: sessions.one(&by.tenant, &id).await?, keys, turns, stays, more })
        };
        self.authority().perform(caller, Action::Run, work).await
    }

    /// A new session that begins with what was said in another one up to a turn, and with its memory as it was then; without one said, up to its last turn
    /// that is over. The same `request` is the same session, once.
    ///
    /// # Errors
    /// Where it is not there, the turn is none that it can be forked at, or what answers is not there any more.
    pub async fn fork(
        self: &Arc<Self>,
        caller: &Caller,
        id: &SessionId,
        at: Option<u32>,
        title: Option<String>,
        request: Option<Digest>,
    ) -> Result<Session, Error> {
        let (sessions, by, id) = (self.clone(), caller.clone(), id.clone());
        let work = async move {
            let session = sessions.seen(&by, &id).await?;
            let new = sessions.named(&by, request.as_ref())?;
            if let Some(found) = sessions.read.session(&by.tenant, &new).await? {
                return Ok(found);
            }
            if by.role == Role::Caller && session.part_of(&by.key) != Some(Part::Contributor) {
                return Err(Error::Denied { why: format!("in session {id} this key only reads") });
            }
            if let Some(gone @ (Remains::Archived | Remains::Forgotten)) = session.memory {
                let message =
                    format!("the memory of session {id} is {}: what is not there is not copied", gone.as_str());
                return Err(Error::Conflict { code: "session-over", message });
            }
            let (turn, at) = match at {
                Some(at) => (sessions.turn_that_counts(&by.tenant, &session, at, "at").await?, at),
                None => sessions.last_that_is_over(&by.tenant, &session).await?,
            };
            if session.turns > MAX_FORKED {
                return Err(wrong_turn("at", format!("a session of more than {MAX_FORKED} turns is not forked")));
            }
            let since = sessions.begun_since(&by.tenant, &session, turn, "at").await?;
            if session.active.is_some_and(|active| active.number == at) {
                return Err(wrong_turn("at", format!("turn {at} is not over")));
            }
            let mut settings = ltmc_model::session::Settings {
                title: title.or(session.settings.title.clone()),
                ..session.settings.clone()
            };
            // Whose key was taken back meanwhile takes no part in what is new.
            for key in session.settings.participants.keys() {
                if sessions.authority().standing(&by.tenant, key).await?.is_err() {
                    settings.participants.remove(key);
                }
            }
            sessions.runs.is_there(&by, &settings.with, settings.if_busy == IfBusy::Rollback).await?;
            let kept = sessions.read.memory_after(&by.tenant, &id, turn, MOST).await?;
            check_moved(kept.iter().map(|(key, value)| (key, Some(value))))?;
            let holder = since.last().map_or(session.holder.clone(), |turn| turn.holder.clone());
            let deltas = sessions
                .put_back((&by.tenant, &new), kept.into_iter().map(|(key, value)| (key, Some(value))).collect());
            let fork = Some(Box::new(Fork { of: id.clone(), at, began: turn, holder }));
            let change = Change::SessionOpened { id: new.clone(), settings: Box::new(settings), fork };
            let mut expects = vec![
                Expect::SessionEpoch { session: id.clone(), epoch: session.epoch },
                Expect::NoSession { session: new.clone() },
            ];
            expects.extend(sessions.room_for(&by, &new, &deltas).await?);
            let done =
                sessions.authority().act_with(&by.tenant, Some(&by.key), change, Changes { deltas, expects }).await;
            match (done, sessions.read.session(&by.tenant, &new).await?) {
                // The same request was faster.
                (Err(error), Some(found)) if error.kind == Kind::Stale => return Ok(found),
                (done, _) => done.map_err(|error| changed_meanwhile(error, &id))?,
            }
            sessions.news.tell(&by.tenant);
            sessions.one(&by.tenant, &new).await
        };
        self.authority().perform(caller, Action::Run, work).await
    }

    /// A session that is open, whose turns are over, for who may change it.
    pub(crate) async fn between_turns(&self, caller: &Caller, id: &SessionId, what: &str) -> Result<Session, Error> {
        let session = self.seen(caller, id).await?;
        if caller.role == Role::Caller && session.by != caller.key {
            return Err(Error::Denied {
                why: format!("only who opened a session, and keys of the roles author and admin, may {what}"),
            });
        }
        if session.standing.is_over() || session.has_expired(self.now()) {
            return Err(self.refused(&session, 0));
        }
        if !session.is_idle() {
            let message = format!("session {id} has a turn at work: {what} when that is over, or end it first");
            return Err(Error::Busy { message, retry_after: Duration::from_secs(1) });
        }
        Ok(session)
    }

    /// When a turn began after which it is known what memory held; the beginning of all for 0, and for the last turn that a fork has of another session.
    async fn turn_that_counts(
        &self,
        tenant: &TenantId,
        session: &Session,
        turn: u32,
        field: &'static str,
    ) -> Result<Epoch, Error> {
        if turn < session.copied {
            let begins = session.copied;
            let why = format!(
                "up to turn {begins} its turns are those of the session that it is a fork of: take that one back, or fork it"
            );
            return Err(wrong_turn(field, why));
        }
        let Some(before) = turn.checked_sub(1) else { return Ok(Epoch(0)) };
        let found = self.read.turns(tenant, &session.id, before, 1).await?.into_iter().next();
        let Some(found) = found.filter(|found| found.number == turn) else {
            return Err(wrong_turn(field, format!("there is no turn {turn}: its last is {}", session.turns)));
        };
        match found.began {
            Some(began) if !found.undone => Ok(began),
            Some(_) => Err(wrong_turn(field, format!("turn {turn} is no part of its conversation any more"))),
            None => Err(wrong_turn(field, format!("turn {turn} has not begun"))),
        }
    }

    /// The last turn that counts and is over, with when it began.
    async fn last_that_is_over(&self, tenant: &TenantId, session: &Session) -> Result<(Epoch, u32), Error> {
        let newest = self.read.begun(tenant, &session.id, None, None, 2).await?;
        let last = newest.into_iter().find(|turn| turn.stage == Stage::Over);
        Ok(last.map_or((Epoch(0), session.copied), |turn| (turn.began.unwrap_or_default(), turn.number)))
    }

    /// The turns that began after one, and count, the last first: not more than it is known of what memory was before them.
    async fn begun_since(
        &self,
        tenant: &TenantId,
        session: &Session,
        began: Epoch,
        field: &'static str,
    ) -> Result<Vec<Turn>, Error> {
        let since = self.read.begun(tenant, &session.id, Some(began), None, MAX_BACK + 1).await?;
        if since.len() > MAX_BACK as usize {
            let why = format!("more than {MAX_BACK} turns began since: it is not known any more how memory was then");
            return Err(wrong_turn(field, why));
        }
        Ok(since)
    }

    /// Room for what a session's memory is to hold more than it does now: looked at by the record, too, where that is near.
    async fn room_for(&self, by: &Caller, id: &SessionId, deltas: &[Delta]) -> Result<Option<Expect>, Error> {
        let context = &self.runs.inner.ports.crossing.context;
        context.room_in_session(by, id, deltas, self.now()).await?.map_err(|refusal| match refusal {
            Refusal::Quota(message) => Error::Conflict { code: "quota-exceeded", message },
            other => Error::Internal { message: format!("room was not looked for: {other:?}") },
        })
    }

    /// What keys are to hold, or nothing.
    fn put_back(
        &self,
        (tenant, id): (&TenantId, &SessionId),
        values: Vec<(String, Option<MemoryValue>)>,
    ) -> Vec<Delta> {
        let (now, write) = (self.now(), &self.runs.inner.ports.write);
        let is_over = |value: &MemoryValue| value.expires_at.is_some_and(|at| at <= now);
        let change = |(key, value): (String, Option<MemoryValue>)| {
            let (drawer, revision) = (Drawer::Session(id.clone()), write.next_revision(tenant));
            Delta::Memory(MemoryChange {
                drawer,
                key,
                revision,
                value: value.filter(|value| !is_over(value)),
                trail: None,
            })
        };
        values.into_iter().map(change).collect()
    }

    /// What turns did elsewhere, and how much more than is told. Of a long journal the beginning is looked at.
    async fn stays(&self, tenant: &TenantId, turns: &[Turn]) -> Result<(Vec<Stays>, usize), StoreError> {
        let mut found = Vec::new();
        for turn in turns {
            let (mut after, mut looked_at) = (Seq(0), 0);
            let mut open = Open::new();
            while looked_at < LOOKED_AT {
                let entries = self.runs.inner.ports.read.page(tenant, turn.run, after, PAGE, PAGE_BYTES).await?;
                let Some(last) = entries.last() else { break };
                (after, looked_at) = (last.seq, looked_at + entries.len());
                entries.into_iter().for_each(|placed| note(&mut open, placed.entry.event, turn.number, &mut found));
            }
        }
        let more = found.len().saturating_sub(TOLD);
        found.truncate(TOLD);
        Ok((found, more))
    }
}

/// What attempts did that are not over.
type Open = BTreeMap<(StepPath, u32), Vec<Effect>>;

/// Takes note of what an entry says that stays: of an attempt what it did once that is true.
fn note(open: &mut Open, event: Event, turn: u32, found: &mut Vec<Stays>) {
    match event {
        Event::Effect(effect) => open.entry((effect.step.clone(), effect.attempt)).or_default().push(effect),
        Event::StepCompleted { step, attempt, .. } | Event::Checkpoint { step, attempt, .. } => {
            let effects = open.remove(&(step, attempt)).unwrap_or_default();
            let outside = effects.into_iter().filter(|effect| effect.reply.is_ok() && stays(effect));
            found.extend(outside.map(|effect| Stays { turn, call: effect.call, about: effect.about }));
        }
        Event::StepFailed { step, attempt, .. } | Event::StepCancelled { step, attempt } => {
            drop(open.remove(&(step, attempt)));
        }
        Event::Emitted { topic, .. } => found.push(Stays { turn, call: "emit".into(), about: topic.to_string() }),
        Event::ChildStarted { run, .. } => found.push(Stays { turn, call: "run".into(), about: run.to_string() }),
        _ => {}
    }
}

/// Whether a call of this name changes something that is not the session's memory.
fn stays(effect: &Effect) -> bool {
    const CHANGES: [&str; 14] = [
        "memory.put",
        "memory.delete",
        "memory.update",
        "memory.touch",
        "graph.relate",
        "graph.unrelate",
        "recall.remember",
        "recall.forget",
        "messages.send",
        "messages.publish",
        "messages.ack",
        "messages.reject",
        "coordination.call",
        "coordination.begin",
    ];
    let is_the_sessions = effect.call.starts_with("memory.") && effect.about.starts_with("session/");
    CHANGES.contains(&effect.call.as_str()) && !is_the_sessions
}

fn wrong_turn(field: &'static str, why: String) -> Error {
    Error::invalid("invalid", field, why)
}

/// Whether so much of memory can be put back, or copied, at once.
fn check_moved<'a>(moved: impl ExactSizeIterator<Item = (&'a String, Option<&'a MemoryValue>)>) -> Result<(), Error> {
    let keys = moved.len();
    let bytes: usize = moved.map(|(key, value)| key.len() + value.map_or(0, |value| value.bytes.len())).sum();
    if keys <= MAX_MOVED && bytes <= MAX_MOVED_BYTES {
        return Ok(());
    }
    let message = format!(
        "at most {MAX_MOVED} keys of a session's memory, and {MAX_MOVED_BYTES} bytes, are put back or copied at once, and here it is more"
    );
    Err(Error::Conflict { code: "conflict", message })
}
