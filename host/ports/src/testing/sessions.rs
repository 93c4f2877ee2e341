//! Sessions in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ltmc_model::delta::MemoryValue;
use ltmc_model::journal::{Change, Entry};
use ltmc_model::memory::{Drawer, Item};
use ltmc_model::run::Run;
use ltmc_model::session::{Remains, Session, Stage, Turn};
use ltmc_model::{Epoch, KeyId, RunId, SessionId, TenantId, Timestamp};

use super::MemoryRecord;
use crate::sessions::{MAX_UP, ReadSessions, SessionFilter, begins_anew, handed_on, is_fenced, place, writes_beside};
use crate::{Append, Kind, StoreError};

/// Every session, with its turns; what is kept of memory before these; and archives.
#[derive(Debug, Default)]
pub(super) struct Sessions(
    BTreeMap<(TenantId, SessionId), (Session, Vec<Turn>)>,
    BTreeMap<(TenantId, SessionId), Keeps>,
    BTreeMap<(TenantId, SessionId), String>,
);

/// What keys of a session's memory held before a turn first changed them, by the key and when the turn began.
type Keeps = BTreeMap<(String, Epoch), Option<MemoryValue>>;

impl Sessions {
    /// What an act makes of them.
    pub(super) fn act(
        &mut self,
        tenant: &TenantId,
        at: Timestamp,
        by: Option<&KeyId>,
        change: &Change,
    ) -> Option<RunId> {
        match (change, by) {
            (Change::SessionOpened { id, settings, fork }, Some(by)) => {
                let mut new = Session::opened(tenant.clone(), id.clone(), by.clone(), at, settings.as_ref().clone());
                let mut turns = Vec::new();
                if let Some(fork) = fork {
                    let of = self.0.get(&(tenant.clone(), fork.of.clone())).map(|(_, turns)| turns.as_slice());
                    let is_behind = |turn: &&Turn| {
                        let counts = turn.began.is_some_and(|began| began <= fork.began) && !turn.undone;
                        counts && turn.stage == Stage::Over
                    };
                    // What it has of the other one began before anything of its own.
                    let copied = of.unwrap_or_default().iter().filter(is_behind).cloned();
                    turns.extend(copied.map(|turn| Turn { began: Some(Epoch(0)), ..turn }));
                    new.forked(fork, turns.iter().map(|turn| turn.number).max().unwrap_or(0));
                }
                self.0.insert((tenant.clone(), id.clone()), (new, turns));
            }
            (Change::SessionRewound { id, began, holder, .. }, _) => {
                let place = (tenant.clone(), id.clone());
                let (session, turns) = self.0.get_mut(&place)?;
                session.rewind(holder.as_deref().cloned());
                let later = turns.iter_mut().filter(|turn| turn.began.is_some_and(|at| at > *began));
                later.for_each(|turn| turn.undone = true);
                self.1.entry(place).or_default().retain(|(_, at), _| at <= began);
            }
            (Change::SessionClosed { id, expired, now, .. }, _) => {
                let (session, _) = self.0.get_mut(&(tenant.clone(), id.clone()))?;
                if *expired { session.expire(at) } else { session.close(*now, at) }
            }
            (Change::SessionForgotten { id, memory: Some(memory), archive, .. }, _) => {
                let place = (tenant.clone(), id.clone());
                self.0.get_mut(&place)?.0.settle(*memory);
                if *memory != Remains::TooLarge {
                    self.1.remove(&place);
                }
                self.2.extend(archive.clone().map(|document| (place, document)));
            }
            (Change::SessionPart { session, key, part }, _) => {
                self.0.get_mut(&(tenant.clone(), session.clone()))?.0.take_part(key.clone(), *part);
            }
            (Change::SessionHandedOver { session, to, .. }, _) => {
                let (session, _) = self.0.get_mut(&(tenant.clone(), session.clone()))?;
                session.hand_over(to.clone(), at);
            }
            (Change::TurnLost { session, number, run, .. }, _) => {
                return self.end(tenant, session, *number, *run, at);
            }
            (Change::TenantDeleted { tenant }, _) => self.0.retain(|(of, _), _| of != tenant),
            _ => {}
        }
        None
    }

    /// Why a turn's next entries cannot be written; none: they can.
    pub(super) fn refuse(&self, append: &Append, runs: &BTreeMap<(TenantId, RunId), Run>) -> Option<Kind> {
        let Some(turn) = append.run.turn else {
            let comes_late = writes_beside(append) && self.is_done_with(append, runs);
            return comes_late.then_some(Kind::Displaced);
        };
        let found = self.0.get(&(append.run.tenant.clone(), append.run.session.clone()));
        if let Some(place) = place(&append.entries) {
            let waiting = waiting(found, &append.run.by);
            let takes = found.is_some_and(|(session, _)| session.takes(place, append.run.updated_at, waiting));
            return (!takes).then_some(Kind::Conflict);
        }
        let stage = found.and_then(|(_, turns)| turns.iter().find(|one| one.number == turn)).map(|turn| turn.stage);
        (is_fenced(append) && stage != Some(Stage::Active)).then_some(Kind::Displaced)
    }

    /// Whether the turn that a run belongs to, as its child, is no part of its session any more, or that is over.
    fn is_done_with(&self, append: &Append, runs: &BTreeMap<(TenantId, RunId), Run>) -> bool {
        let Run { tenant, session: id, .. } = &append.run;
        let Some((session, turns)) = self.0.get(&(tenant.clone(), id.clone())) else { return false };
        let above = |run: &Run| runs.get(&(tenant.clone(), run.parent?)).filter(|above| above.session == *id);
        let line = std::iter::successors(above(&append.run), |run| above(run)).take(MAX_UP);
        let turn = line.filter_map(|run| run.turn).next();
        let is_undone = turns.iter().any(|one| Some(one.number) == turn && one.undone);
        session.standing.is_over() || is_undone
    }

    /// What entries of a run make of the session whose turn it is: the run of the turn that begins next.
    pub(super) fn follow(&mut self, run: &Run, entries: &[Entry]) -> Option<RunId> {
        let turn = run.turn?;
        if let Some(place) = place(entries) {
            let (session, turns) = self.0.get_mut(&(run.tenant.clone(), run.session.clone()))?;
            session.take(place, run.id, run.updated_at);
            let stage = if place.waits { Stage::Queued } else { Stage::Active };
            let (began, holder) = match place.waits {
                true => (None, None),
                false => (Some(session.epoch), session.holder.clone()),
            };
            turns.push(Turn { number: turn, run: run.id, by: run.by.clone(), stage, began, undone: false, holder });
        }
        if begins_anew(entries) {
            self.0.get_mut(&(run.tenant.clone(), run.session.clone()))?.0.holder = None;
        }
        for handed in handed_on(entries) {
            let (session, _) = self.0.get_mut(&(run.tenant.clone(), run.session.clone()))?;
            session.hand_off(handed, (turn, run.id), run.updated_at);
        }
        if !run.state.is_final() {
            return None;
        }
        self.end(&run.tenant, &run.session, turn, run.id, run.updated_at)
    }

    fn end(&mut self, tenant: &TenantId, id: &SessionId, turn: u32, run: RunId, at: Timestamp) -> Option<RunId> {
        let (session, turns) = self.0.get_mut(&(tenant.clone(), id.clone()))?;
        let stage = turns.iter().find(|one| one.number == turn)?.stage;
        match stage {
            Stage::Queued => session.leave(),
            Stage::Active if session.active.is_some_and(|active| active.run == run) => session.finish(at),
            Stage::Active | Stage::Over => return None,
        }
        let served = |by: &KeyId| {
            let theirs = turns.iter().filter(|one| one.by == *by && one.stage != Stage::Queued);
            theirs.map(|one| one.number).max().unwrap_or(0)
        };
        let from = session.interrupted;
        let waiting = turns.iter().filter(|one| one.stage == Stage::Queued && one.number != turn && one.number >= from);
        let waiting = waiting.filter(|_| session.active.is_none());
        let next = waiting.min_by_key(|one| (served(&one.by), one.number)).map(|one| (one.number, one.run));
        session.go_on(next, at);
        for one in turns {
            if one.number == turn {
                one.stage = Stage::Over;
            } else if next.is_some_and(|(number, _)| number == one.number) {
                one.stage = Stage::Active;
                one.holder.clone_from(&session.holder);
                one.began = Some(session.epoch);
            }
        }
        next.map(|(_, run)| run)
    }

    /// Keeps what a key of a session's memory holds before a turn, the one that began last if none is said, changes it for the first time.
    pub(super) fn keep_before(
        &mut self,
        tenant: &TenantId,
        id: &SessionId,
        key: &str,
        turn: Option<u32>,
        before: Option<&Item>,
    ) {
        let place = (tenant.clone(), id.clone());
        let Some((_, turns)) = self.0.get(&place) else { return };
        let is_it = |one: &&Turn| turn.map_or(!one.undone, |turn| one.number == turn);
        let began = turns.iter().filter(is_it).filter_map(|turn| turn.began).max();
        if let Some(began) = began.filter(|began| began.0 > 0) {
            let before = before.map(|item| MemoryValue { bytes: item.value.clone(), expires_at: item.expires_at });
            self.1.entry(place).or_default().entry((key.to_owned(), began)).or_insert(before);
        }
    }

    /// What keys held after a turn that were changed since.
    fn changed_since(&self, tenant: &TenantId, id: &SessionId, began: Epoch) -> BTreeMap<String, Option<MemoryValue>> {
        let mut found = BTreeMap::new();
        let keeps = self.1.get(&(tenant.clone(), id.clone())).into_iter().flatten();
        for ((key, _), value) in keeps.filter(|((_, at), _)| *at > began) {
            found.entry(key.clone()).or_insert_with(|| value.clone());
        }
        found
    }

    /// A session.
    pub(super) fn get(&self, tenant: &TenantId, id: &SessionId) -> Option<&Session> {
        self.0.get(&(tenant.clone(), id.clone())).map(|(session, _)| session)
    }

    fn all(&self) -> impl Iterator<Item = &Session> {
        self.0.values().map(|(session, _)| session)
    }
}

/// How many turns of a key wait.
fn waiting(session: Option<&(Session, Vec<Turn>)>, by: &KeyId) -> u32 {
    let turns = session.map_or(&[][..], |(_, turns)| turns.as_slice());
    let waiting = turns.iter().filter(|turn| turn.by == *by && turn.stage == Stage::Queued);
    u32::try_from(waiting.count()).unwrap_or(u32::MAX)
}

#[async_trait]
impl ReadSessions for MemoryRecord {
    async fn session(&self, tenant: &TenantId, id: &SessionId) -> Result<Option<Session>, StoreError> {
        Ok(self.with_sessions(|sessions| sessions.get(tenant, id).cloned()))
    }

    async fn sessions(&self, tenant: &TenantId, filter: &SessionFilter) -> Result<Vec<Session>, StoreError> {
        let place = |session: &Session| (session.opened_at, session.id.clone());
        let mut found: Vec<Session> = self.with_sessions(|sessions| {
            let shown = sessions.all().filter(|session| {
                session.tenant == *tenant
                    && filter.standing.is_none_or(|standing| session.standing == standing)
                    && filter.of.as_ref().is_none_or(|key| session.part_of(key).is_some())
                    && filter.before.as_ref().is_none_or(|before| place(session) < *before)
            });
            shown.cloned().collect()
        });
        found.sort_by_key(|session| std::cmp::Reverse(place(session)));
        found.truncate(filter.limit as usize);
        Ok(found)
    }

    async fn turns(&self, tenant: &TenantId, id: &SessionId, after: u32, limit: u32) -> Result<Vec<Turn>, StoreError> {
        Ok(self.with_sessions(|sessions| {
            let Some((_, turns)) = sessions.0.get(&(tenant.clone(), id.clone())) else { return Vec::new() };
            turns.iter().filter(|turn| turn.number > after).take(limit as usize).cloned().collect()
        }))
    }

    async fn begun(
        &self,
        tenant: &TenantId,
        id: &SessionId,
        after: Option<Epoch>,
        before: Option<Epoch>,
        limit: u32,
    ) -> Result<Vec<Turn>, StoreError> {
        let is_meant = |turn: &&Turn| {
            turn.began.is_some_and(|at| after.is_none_or(|after| at > after) && before.is_none_or(|before| at < before))
                && !turn.undone
        };
        let mut found: Vec<Turn> = self.with_sessions(|sessions| {
            let turns = sessions.0.get(&(tenant.clone(), id.clone())).map(|(_, turns)| turns.as_slice());
            turns.unwrap_or_default().iter().filter(is_meant).cloned().collect()
        });
        found.sort_by_key(|turn| std::cmp::Reverse((turn.began, turn.number)));
        found.truncate(limit as usize);
        Ok(found)
    }

    async fn changed_since(
        &self,
        tenant: &TenantId,
        id: &SessionId,
        began: Epoch,
        (limit, _): (u32, usize),
    ) -> Result<Vec<(String, Option<MemoryValue>)>, StoreError> {
        let found = self.with_sessions(|sessions| sessions.changed_since(tenant, id, began));
        Ok(found.into_iter().take(limit as usize).collect())
    }

    async fn memory_after(
        &self,
        tenant: &TenantId,
        id: &SessionId,
        began: Epoch,
        (limit, _): (u32, usize),
    ) -> Result<Vec<(String, MemoryValue)>, StoreError> {
        let since = self.with_sessions(|sessions| sessions.changed_since(tenant, id, began));
        let drawer = Drawer::Session(id.clone());
        let mut found: BTreeMap<String, Option<MemoryValue>> = self.with_memory(|memory| {
            let ours = memory.iter().filter(|((of, place, _), _)| of == tenant && *place == drawer);
            let value = |item: &Item| MemoryValue { bytes: item.value.clone(), expires_at: item.expires_at };
            ours.map(|((.., key), item)| (key.clone(), Some(value(item)))).collect()
        });
        found.extend(since);
        Ok(found.into_iter().filter_map(|(key, value)| Some((key, value?))).take(limit as usize).collect())
    }

    async fn archive(&self, tenant: &TenantId, id: &SessionId) -> Result<Option<String>, StoreError> {
        Ok(self.with_sessions(|sessions| sessions.2.get(&(tenant.clone(), id.clone())).cloned()))
    }

    async fn waiting_turns(&self, tenant: &TenantId, id: &SessionId, by: &KeyId) -> Result<u32, StoreError> {
        Ok(self.with_sessions(|sessions| waiting(sessions.0.get(&(tenant.clone(), id.clone())), by)))
    }

    async fn coming_sessions(
        &self,
        by: Timestamp,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<(TenantId, Timestamp)>, StoreError> {
        let mut first = BTreeMap::new();
        self.with_sessions(|sessions| {
            for session in sessions.all() {
                if let Some(at) = session.due_at {
                    first.entry(session.tenant.clone()).and_modify(|first| *first = at.min(*first)).or_insert(at);
                }
            }
        });
        let is_meant = |(tenant, at): &(TenantId, Timestamp)| *at <= by && after.is_none_or(|after| tenant > after);
        Ok(first.into_iter().filter(is_meant).take(limit as usize).collect())
    }

    async fn due_sessions(
        &self,
        tenant: &TenantId,
        now: Timestamp,
        after: Option<&(Timestamp, SessionId)>,
        limit: u32,
    ) -> Result<Vec<Session>, StoreError> {
        let place = |session: &Session| session.due_at.map(|at| (at, session.id.clone()));
        let is_meant = |session: &&Session| {
            let comes = place(session).filter(|(at, _)| session.tenant == *tenant && *at <= now);
            comes.is_some_and(|place| after.is_none_or(|after| place > *after))
        };
        let mut due: Vec<Session> = self.with_sessions(|sessions| sessions.all().filter(is_meant).cloned().collect());
        due.sort_by_key(place);
        due.truncate(limit as usize);
        Ok(due)
    }
}
