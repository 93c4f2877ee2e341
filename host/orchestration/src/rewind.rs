//! Sessions are taken back to an earlier turn, or forked at one: with their memory, and whoever held the conversation, as they were then.
//!
//! Invariants: what keys of a session's memory held before a turn changed them is kept by the record, of the last turns; all that is put back is one act,
//! between two turns. What turns did elsewhere stays, and is told. A fork has no queue, no timers and nothing open: only what was said, and memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ltmc_model::caller::{Caller, Role};
use ltmc_model::delta::{Delta, MemoryChange, MemoryValue};

use ltmc_model::journal::{Change, Effect, Event};
use ltmc_model::memory::Drawer;
use ltmc_model::session::{Fork, IfBusy, MAX_BACK, MAX_FORKED, MAX_MOVED, MAX_MOVED_BYTES, Part, Session, Turn};
use ltmc_model::{Seq, SessionId, StepPath, TenantId};
use ltmc_policy::Action;
use ltmc_ports::{Changes, Expect, StoreError};
use ltmc_tenancy::Error;

use crate::sessions::{Sessions, changed_meanwhile};

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
    /// Which turn.
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
            if to >= session.latest() {
                return Err(wrong_turn(
                    "to",
                    match to == session.latest() {
                        true => format!("turn {to} is its last: it is there already"),
                        false => format!("there is no turn {to}: its last is {}", session.latest()),
                    },
                ));
            }
            sessions.check_turn(&by.tenant, &session, to, "to").await?;
            let limit = u32::try_from(MAX_MOVED + 1).unwrap_or(u32::MAX);
            let changed = sessions.read.changed_since(&by.tenant, &id, to, limit).await?;
            check_moved(changed.iter().map(|(key, value)| (key, value.as_ref())))?;
            let undone = sessions.undone_by(&by.tenant, &session, to).await?;
            let (stays, more) = sessions.stays(&by.tenant, &undone).await?;
            let holder = undone.first().map_or(session.holder.clone(), |turn| turn.holder.clone());
            let (keys, turns) = (changed.len(), undone.len());
            let deltas = sessions.put_back(&id, changed);
            let change = Change::SessionRewound {
                id: id.clone(),
                to,
                holder: holder.map(Box::new),
                keys: u32::try_from(keys).unwrap_or(u32::MAX),
            };
            let expects = vec![Expect::Idle { session: id.clone(), epoch: session.epoch }];
            let done =
                sessions.authority().act_with(&by.tenant, Some(&by.key), change, Changes { deltas, expects }).await;
            done.map_err(|error| changed_meanwhile(error, &id))?;
            Ok(Rewound { session: sessions.one(&by.tenant, &id).await?, keys, turns, stays, more })
        };
        self.authority().perform(caller, Action::Run, work).await
    }

    /// A new session that begins with what was said in another one up to a turn, and with its memory as it was then; without one said, up to its last turn
    /// that is over.
    ///
    /// # Errors
    /// Where it is not there, the turn is none that it can be forked at, or what answers is not there any more.
    pub async fn fork(
        self: &Arc<Self>,
        caller: &Caller,
        id: &SessionId,
        at: Option<u32>,
        title: Option<String>,
    ) -> Result<Session, Error> {
        let (sessions, by, id) = (self.clone(), caller.clone(), id.clone());
        let work = async move {
            let session = sessions.seen(&by, &id).await?;
            if by.role == Role::Caller && session.part_of(&by.key) != Some(Part::Contributor) {
                return Err(Error::Denied { why: format!("in session {id} this key only reads") });
            }
            let over = session.active.map_or(session.turns, |active| active.number - 1);
            let at = match at {
                Some(at) if at > over => {
                    return Err(wrong_turn("at", format!("its last turn that is over is {over}, not {at}")));
                }
                Some(at) => at,
                None => sessions.last_that_counts(&by.tenant, &session, over).await?,
            };
            if at > MAX_FORKED {
                return Err(wrong_turn("at", format!("a session is forked with at most {MAX_FORKED} turns")));
            }
            sessions.check_turn(&by.tenant, &session, at, "at").await?;
            let settings = ltmc_model::session::Settings {
                title: title.or(session.settings.title.clone()),
                ..session.settings.clone()
            };
            sessions.runs.is_there(&by, &settings.with, settings.if_busy == IfBusy::Rollback).await?;
            let limit = u32::try_from(MAX_MOVED + 1).unwrap_or(u32::MAX);
            let kept = sessions.read.memory_after(&by.tenant, &id, at, limit).await?;
            check_moved(kept.iter().map(|(key, value)| (key, Some(value))))?;
            let holder = sessions.undone_by(&by.tenant, &session, at).await?;
            let holder = holder.first().map_or(session.holder.clone(), |turn| turn.holder.clone());
            let new = sessions.drawn()?;
            let deltas = sessions.put_back(&new, kept.into_iter().map(|(key, value)| (key, Some(value))).collect());
            let fork = Some(Box::new(Fork { of: id.clone(), at, holder }));
            let change = Change::SessionOpened { id: new.clone(), settings: Box::new(settings), fork };
            let changes = Changes { deltas, expects: Vec::new() };
            sessions.authority().act_with(&by.tenant, Some(&by.key), change, changes).await?;
            sessions.changed.notify_one();
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

    /// Whether a turn is one of those after which it is known what memory held, and counts.
    async fn check_turn(
        &self,
        tenant: &TenantId,
        session: &Session,
        turn: u32,
        field: &'static str,
    ) -> Result<(), Error> {
        let (earliest, latest) = (session.earliest(), session.latest());
        if turn < session.copied {
            let begins = session.copied;
            let why = format!(
                "up to turn {begins} its turns are those of the session that it is a fork of: take that one back, or fork it"
            );
            return Err(wrong_turn(field, why));
        }
        if turn < earliest || turn > latest {
            let why =
                format!("it is known how it was after turns {earliest} to {latest}, the last {MAX_BACK}, not {turn}");
            return Err(wrong_turn(field, why));
        }
        let Some(before) = turn.checked_sub(1) else { return Ok(()) };
        let found = self.read.turns(tenant, &session.id, before, 1).await?.into_iter().next();
        match found.filter(|found| found.number == turn && !found.undone) {
            Some(_) => Ok(()),
            None => Err(wrong_turn(field, format!("turn {turn} is no part of its conversation any more"))),
        }
    }

    /// The last turn up to `over` that counts; 0: none does.
    async fn last_that_counts(&self, tenant: &TenantId, session: &Session, over: u32) -> Result<u32, Error> {
        let from = over.saturating_sub(MAX_BACK);
        let turns = self.read.turns(tenant, &session.id, from, over - from).await?;
        Ok(turns.into_iter().rev().find(|turn| !turn.undone).map_or(session.earliest(), |turn| turn.number))
    }

    /// The turns after one that count.
    async fn undone_by(&self, tenant: &TenantId, session: &Session, to: u32) -> Result<Vec<Turn>, StoreError> {
        let turns = self.read.turns(tenant, &session.id, to, session.turns.saturating_sub(to)).await?;
        Ok(turns.into_iter().filter(|turn| !turn.undone).collect())
    }

    /// What keys are to hold, or nothing.
    fn put_back(&self, id: &SessionId, values: Vec<(String, Option<MemoryValue>)>) -> Vec<Delta> {
        let (now, write) = (self.now(), &self.runs.inner.ports.write);
        let is_over = |value: &MemoryValue| value.expires_at.is_some_and(|at| at <= now);
        let change = |(key, value): (String, Option<MemoryValue>)| {
            let (drawer, revision) = (Drawer::Session(id.clone()), write.next_revision());
            Delta::Memory(MemoryChange { drawer, key, revision, value: value.filter(|value| !is_over(value)) })
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
    CHANGES.contains(&effect.call.as_str()) && !effect.about.starts_with("session/")
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
