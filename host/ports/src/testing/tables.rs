//! What the in-memory record holds, and how an append or an act changes it.
//!
//! Invariant: every change is checked whole before anything of it is made.

use std::collections::{BTreeMap, BTreeSet};

use ltmc_model::agent::{Agent, Grants, VERSIONS_WITH_GRANTS};
use ltmc_model::chain::{Chain, Link};
use ltmc_model::delta::Delta;
use ltmc_model::journal::{Act, Change, Entry, Event};
use ltmc_model::memory::Drawer;
use ltmc_model::run::Run;
use ltmc_model::schedule::{MAX_OF_A_TENANT, Planned, ScheduleId};
use ltmc_model::session::Standing;
use ltmc_model::tenancy::{Ceiling, Key, Tenant};
use ltmc_model::trigger::Feed;
use ltmc_model::{AgentName, Digest, KeyId, RunId, Seq, TenantId, Timestamp, WorkflowName};

use super::context::Context;
use super::purge::Deleted;
use super::questions::Questions;
use super::sessions::Sessions;
use super::subscriptions::Subscriptions;
use super::triggers::Triggers;
use crate::catalog::StoredWorkflow;
use crate::journal::{Append, IdempotencyKey, Snapshot};
use crate::schedules::{LastStart, Paused, ScheduledStart, StoredSchedule, Ticked};
use crate::{Changes, Expect, Kind, StoreError};

/// An entry's hash, and whose it is.
type PlacedLink = (RunId, Seq, Link);

/// Who does something to a session's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// The run of this turn.
    Turn(u32),
    /// A client, or a run that is no turn.
    Anybody,
    /// Who puts back what was there, or makes a fork.
    Rewinding,
}

#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) runs: BTreeMap<(TenantId, RunId), Run>,
    pub(super) journal: BTreeMap<(TenantId, RunId), Vec<Entry>>,
    pub(super) snapshots: BTreeMap<(TenantId, RunId), Vec<Snapshot>>,
    pub(super) context: Context,
    pub(super) questions: Questions,
    pub(super) subscriptions: Subscriptions,
    pub(super) sessions: Sessions,
    pub(super) triggers: Triggers,
    pub(super) idempotency: BTreeMap<(TenantId, String), IdempotencyKey>,
    pub(super) links: BTreeMap<TenantId, (Chain, Vec<PlacedLink>)>,
    pub(super) tenants: BTreeMap<TenantId, Tenant>,
    pub(super) deleted: Deleted,
    pub(super) ceilings: BTreeMap<TenantId, Ceiling>,
    pub(super) keys: BTreeMap<KeyId, Key>,
    /// Versions of each agent, the newest last.
    pub(super) agents: BTreeMap<(TenantId, AgentName), Vec<Agent>>,
    pub(super) grants: BTreeMap<(TenantId, AgentName), BTreeMap<Digest, Grants>>,
    pub(super) workflows: BTreeMap<(TenantId, WorkflowName), StoredWorkflow>,
    pub(super) schedules: BTreeMap<(TenantId, ScheduleId), StoredSchedule>,
}

impl Tables {
    pub(super) fn append(&mut self, append: &Append) -> Result<(), StoreError> {
        let fail = |kind| Err(StoreError::new(kind, "journal.append"));
        if self.deleted.contains(&append.run.tenant) {
            return Err(StoreError::new(Kind::Fenced, "journal.append").because("the tenant is deleted"));
        }
        if let Some(kind) = self.refuse(append) {
            return fail(kind);
        }
        if append.run.seq.0 != append.expected.0 + append.entries.len() as u64 {
            return Err(StoreError::new(Kind::Internal, "journal.append")
                .because("the row's length is not that of the journal after these entries"));
        }
        if append.scheduled.as_ref().is_some_and(|start| !self.allows(&append.run.tenant, start)) {
            return fail(Kind::Conflict);
        }
        if append
            .triggered
            .as_ref()
            .is_some_and(|start| !self.triggers.allows(&append.run.tenant, start, append.run.created_at))
        {
            return fail(Kind::Conflict);
        }
        if let Some(kind) = self.sessions.refuse(append, &self.runs) {
            return fail(kind);
        }
        if !self.hold(&append.run.tenant, append.run.updated_at, &append.changes) {
            return fail(Kind::Stale);
        }
        let key = (append.run.tenant.clone(), append.run.id);
        if let Some(key) = &append.idempotency {
            let place = (append.run.tenant.clone(), key.key.clone());
            if self.idempotency.get(&place).is_some_and(|old| old.expires_at > append.run.updated_at) {
                return fail(Kind::Conflict);
            }
            self.idempotency.insert(place, key.clone());
        }
        if let Some(start) = &append.scheduled
            && let Some(schedule) = self.schedules.get_mut(&(append.run.tenant.clone(), start.id.clone()))
        {
            schedule.start(append.run.id, start);
        }
        if let Some(start) = &append.triggered {
            self.triggers.start(&append.run, start);
        }
        self.triggers.follow(&append.run, &append.entries);
        for entry in &append.entries {
            self.enter(&append.run.tenant, append.run.id, entry.clone());
        }
        if let Some(snapshot) = &append.snapshot {
            let of = self.snapshots.entry(key.clone()).or_default();
            of.push(snapshot.clone());
            of.drain(..of.len().saturating_sub(Snapshot::KEPT));
        }
        self.questions.follow(&append.run, &append.entries);
        let mut run = append.run.clone();
        // An append says at most that the run got on.
        let counted = self.runs.get(&key).map(|row| row.taken_up).unwrap_or_default();
        if run.taken_up.is_suspect() {
            run.taken_up = counted;
        }
        if self.subscriptions.follow(&run, &append.entries) {
            run.wakes_at = Some(run.updated_at);
        }
        if run.state.is_over() {
            // What began it goes on, and what it began may have to end.
            let is_told =
                |row: &&mut Run| row.tenant == run.tenant && (Some(row.id) == run.parent || row.parent == Some(run.id));
            for row in self.runs.values_mut().filter(is_told) {
                row.wakes_at = row.wakes_at.map(|at| at.min(run.updated_at));
            }
        }
        self.runs.insert(key, run);
        let next = self.sessions.follow(&append.run, &append.entries);
        self.wake(&append.run.tenant, next, append.run.updated_at);
        self.apply(
            &append.run.tenant,
            append.run.updated_at,
            &append.changes.deltas,
            append.run.turn.map_or(By::Anybody, By::Turn),
        );
        Ok(())
    }

    /// Why a journal does not end where an append thinks it does; none: it does.
    fn refuse(&self, append: &Append) -> Option<Kind> {
        match (self.runs.get(&(append.run.tenant.clone(), append.run.id)), append.previous) {
            (None, None) if append.expected == Seq(0) => None,
            (None, None) | (Some(_), None) => Some(Kind::Conflict),
            // The writer knows of a run that the record does not have: its beginning was lost.
            (None, Some(_)) => Some(Kind::Fenced),
            (Some(row), Some(previous)) if row.epoch != previous || append.run.epoch < previous => Some(Kind::Fenced),
            // The writer knows of entries that the record does not have: they were lost.
            (Some(row), Some(_)) if row.seq < append.expected => Some(Kind::Fenced),
            (Some(row), Some(_)) if row.seq > append.expected => Some(Kind::Conflict),
            (Some(_), Some(_)) => None,
        }
    }

    /// A turn begins: its run is due.
    fn wake(&mut self, tenant: &TenantId, run: Option<RunId>, at: Timestamp) {
        if let Some(row) = run.and_then(|run| self.runs.get_mut(&(tenant.clone(), run))) {
            row.wakes_at = row.wakes_at.map(|wakes_at| wakes_at.min(at));
        }
    }

    fn apply(&mut self, tenant: &TenantId, at: Timestamp, deltas: &[Delta], by: By) {
        for delta in deltas {
            if let Delta::Memory(change) = delta
                && let Drawer::Session(session) = &change.drawer
                && by != By::Rewinding
            {
                let turn = if let By::Turn(turn) = by { Some(turn) } else { None };
                let before = self.context.memory.get(&(tenant.clone(), change.drawer.clone(), change.key.clone()));
                self.sessions.keep_before(tenant, session, &change.key, turn, before);
            }
            self.context.apply(tenant, delta);
            self.triggers.published(tenant, self.context.end(), delta);
            for run in self.subscriptions.published(tenant, self.context.end(), delta) {
                let due = self.runs.get_mut(&(tenant.clone(), run)).filter(|row| !row.state.is_over());
                if let Some(row) = due.filter(|row| row.wakes_at.is_some_and(|wakes_at| wakes_at > at)) {
                    row.wakes_at = Some(at);
                }
            }
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table: an arm for each kind of act")]
    pub(super) fn act(
        &mut self,
        tenant: &TenantId,
        at: Timestamp,
        act: &Act,
        changes: &Changes,
    ) -> Result<(), StoreError> {
        if self.deleted.contains(tenant) {
            return Err(StoreError::new(Kind::Fenced, "catalog.act").because("the tenant is deleted"));
        }
        let conflict = match &act.change {
            Change::TenantCreated(new) => self.tenants.contains_key(&new.name) || self.deleted.contains(&new.name),
            Change::KeyCreated(new) => self.keys.contains_key(&new.id),
            _ => false,
        };
        if conflict {
            return Err(StoreError::new(Kind::Conflict, "catalog.act"));
        }
        if !self.hold(tenant, at, changes) {
            return Err(StoreError::new(Kind::Stale, "catalog.act"));
        }
        let newest = |tenant: &TenantId, feed: &Feed| match feed {
            Feed::Topic(topic) => {
                let of = self.context.topics.keys().filter(|(of, name, _)| of == tenant && name == topic);
                of.map(|(_, _, position)| *position).max().unwrap_or_default()
            }
            Feed::Memory(watched) => self.context.remembered(tenant, watched),
        };
        self.triggers.act(tenant, at, act.by.as_ref(), &act.change, newest);
        match act.change.clone() {
            Change::TenantCreated(new) => drop(self.tenants.insert(new.name.clone(), new)),
            Change::TenantDeleted { tenant } => {
                self.delete(&tenant);
                self.sessions.act(&tenant, at, None, &act.change);
            }
            Change::TenantGone { head } => {
                self.deleted.remove(&head.tenant);
                self.links.remove(&head.tenant);
            }
            Change::CeilingSet { tenant, ceiling } => drop(self.ceilings.insert(tenant, ceiling)),
            Change::KeyCreated(new) => drop(self.keys.insert(new.id.clone(), new)),
            Change::KeyRevoked { key, at } => {
                let may = |key: &&mut Key| key.tenant == *tenant || *tenant == TenantId::host();
                if let Some(key) = self.keys.get_mut(&key).filter(may) {
                    key.revoked_at.get_or_insert(at);
                }
            }
            Change::AgentPushed(new) => self.push(tenant, new),
            Change::AgentUpgraded { agent, grants_of } => {
                let granted = self.grants.entry((tenant.clone(), agent.name.clone())).or_default();
                if let Some(carried) = granted.get(&grants_of).cloned() {
                    granted.insert(agent.digest, carried);
                }
                self.push(tenant, agent);
            }
            Change::AgentDeleted { name } => {
                self.agents.remove(&(tenant.clone(), name.clone()));
                self.grants.remove(&(tenant.clone(), name));
            }
            Change::GrantsSet { agent, grants, digest, carry } => {
                let granted = Grants { capabilities: grants, carry: carry.unwrap_or_default() };
                self.grant((tenant.clone(), agent), digest, granted);
            }
            Change::GrantRevoked { agent, grant } => {
                let granted = self.grants.get_mut(&(tenant.clone(), agent));
                let versions = granted.into_iter().flat_map(BTreeMap::values_mut);
                versions.for_each(|held| held.capabilities.retain(|held| *held != grant));
            }
            Change::WorkflowPut { name, source, digest, schedules, triggers: _ } => {
                let stored = StoredWorkflow { name: name.clone(), source, digest, updated_at: at };
                self.workflows.insert((tenant.clone(), name.clone()), stored);
                self.plan(tenant, &name, &schedules, act.by.as_ref());
            }
            Change::WorkflowDeleted { name } => {
                self.workflows.remove(&(tenant.clone(), name.clone()));
                self.plan(tenant, &name, &[], None);
            }
            Change::SchedulePaused { workflow, number, digest, why } => {
                if let Some(schedule) = self.schedule(tenant, workflow, number, digest) {
                    schedule.paused = Some(Paused { at, by: act.by.clone(), why });
                }
            }
            Change::ScheduleContinued { workflow, number, digest, next } => {
                if let Some(schedule) = self.schedule(tenant, workflow, number, digest) {
                    (schedule.paused, schedule.trouble, schedule.next) = (None, None, next);
                    schedule.by.clone_from(&act.by);
                }
            }
            change @ (Change::SessionOpened { .. }
            | Change::SessionClosed { .. }
            | Change::SessionForgotten { .. }
            | Change::SessionPart { .. }
            | Change::SessionHandedOver { .. }
            | Change::SessionRewound { .. }
            | Change::TurnLost { .. }) => {
                let next = self.sessions.act(tenant, at, act.by.as_ref(), &change);
                self.wake(tenant, next, at);
            }
            Change::SubscriptionPut { .. }
            | Change::SubscriptionDeleted { .. }
            | Change::SubscriptionPaused { .. }
            | Change::SubscriptionContinued { .. }
            | Change::SubscriptionReplayed { .. }
            | Change::DeadEventSettled { .. }
            | Change::StateLapsed { .. }
            | Change::Context { .. }
            | Change::Refused { .. }
            | Change::Accessed { .. } => {}
        }
        let by = match &act.change {
            Change::SessionRewound { .. } | Change::SessionOpened { .. } | Change::SessionForgotten { .. } => {
                By::Rewinding
            }
            _ => By::Anybody,
        };
        self.apply(tenant, at, &changes.deltas, by);
        self.enter(tenant, RunId::ledger(), Entry { at, event: Event::Act(Box::new(act.clone())) });
        Ok(())
    }

    /// A tenant is deleted: all that lets anybody in, or anything run, is gone.
    fn delete(&mut self, tenant: &TenantId) {
        if self.tenants.remove(tenant).is_some() {
            self.deleted.insert(tenant.clone());
        }
        self.ceilings.remove(tenant);
        self.keys.retain(|_, key| key.tenant != *tenant);
        self.agents.retain(|(of, _), _| of != tenant);
        self.grants.retain(|(of, _), _| of != tenant);
        self.workflows.retain(|(of, _), _| of != tenant);
        self.schedules.retain(|(of, _), _| of != tenant);
    }

    /// A version of an agent is granted this; of none that is named the newest, and older ones keep what is covered by it.
    fn grant(&mut self, place: (TenantId, AgentName), digest: Option<Digest>, grants: Grants) {
        let versions = self.agents.get(&place).map(Vec::as_slice).unwrap_or_default();
        let version = match digest {
            Some(digest) => versions.iter().find(|agent| agent.digest == digest),
            None => versions.last(),
        };
        let version = version.map(|agent| agent.digest);
        let granted = self.grants.entry(place).or_default();
        if digest.is_none() {
            granted.values_mut().for_each(|held| held.cut_to(&grants.capabilities));
        }
        if let Some(version) = version {
            granted.insert(version, grants);
        }
    }

    /// Whether everything that changes were decided on is so.
    fn hold(&self, tenant: &TenantId, at: Timestamp, changes: &Changes) -> bool {
        let expected = changes.expects.iter().all(|expect| match expect {
            Expect::Grants { agent, version, grants } => {
                let granted = self.grants.get(&(tenant.clone(), agent.clone())).and_then(|of| of.get(version));
                let granted = granted.cloned().unwrap_or_default();
                let set = |grants: &Grants| grants.capabilities.iter().cloned().collect::<BTreeSet<_>>();
                granted.carry == grants.carry && set(&granted) == set(grants)
            }
            Expect::Waiters { topic, subject, most } => {
                self.subscriptions.waiting(tenant, topic, subject.as_deref()) < *most as usize
            }
            Expect::OpenSession { id, expires } => {
                let found = self.sessions.get(tenant, id).filter(|session| session.standing == Standing::Open);
                found.is_some_and(|session| expires.is_none_or(|by| session.has_expired(by)))
            }
            Expect::Unfinished { session } => {
                self.sessions.get(tenant, session).is_none_or(|session| !session.standing.is_over())
            }
            Expect::RoomInSession { session, key } => {
                self.sessions.get(tenant, session).is_some_and(|session| session.has_room_for(key))
            }
            Expect::NoSession { session } => self.sessions.get(tenant, session).is_none(),
            Expect::Unsettled { session } => {
                let found = self.sessions.get(tenant, session).filter(|session| session.standing.is_over());
                found.is_some_and(|session| session.memory.is_none())
            }
            Expect::ToBeSummedUp { session } => {
                self.sessions.get(tenant, session).is_some_and(|session| session.is_to_be_summed_up())
            }
            Expect::Idle { session, epoch } => {
                let found = self.sessions.get(tenant, session).filter(|session| session.standing == Standing::Open);
                found.is_some_and(|session| session.is_idle() && session.epoch == *epoch)
            }
            Expect::SessionEpoch { session, epoch } => {
                self.sessions.get(tenant, session).is_some_and(|session| session.epoch == *epoch)
            }
            Expect::AtWork { session, run } => {
                let found = self.sessions.get(tenant, session).and_then(|session| session.active);
                found.is_some_and(|active| active.run == *run)
            }
            Expect::Workflow { name, digest } => {
                let found = self.workflows.get(&(tenant.clone(), name.clone()));
                found.map(|found| found.digest) == *digest
            }
            Expect::UnderWay { run } => self.runs.get(&(tenant.clone(), *run)).is_some_and(|row| !row.state.is_over()),
            Expect::Schedules { of, more } => {
                let others = self.schedules.keys().filter(|(t, id)| t == tenant && id.workflow != *of).count();
                others + *more as usize <= MAX_OF_A_TENANT as usize
            }
            Expect::Schedule { id, digest, is_paused } => {
                let found = self.schedules.get(&(tenant.clone(), id.clone()));
                found.is_some_and(|found| found.digest == *digest && found.paused.is_some() == *is_paused)
            }
            Expect::Subscriptions { of, more } => self.triggers.fit(tenant, of.as_ref(), *more),
            Expect::Subscription { id, is_paused } => self.triggers.is_paused(tenant, id) == *is_paused,
            Expect::DeadEvent { id, position } => self.triggers.is_dead(tenant, id, *position),
            expect => self.context.holds(tenant, at, expect),
        });
        expected && changes.deltas.iter().all(|delta| self.context.is_newer(tenant, delta))
    }

    /// Whether a schedule allows a start.
    fn allows(&self, tenant: &TenantId, start: &ScheduledStart) -> bool {
        let Some(schedule) = self.schedules.get(&(tenant.clone(), start.id.clone())) else { return false };
        let is_over =
            |last: LastStart| self.runs.get(&(tenant.clone(), last.run)).is_none_or(|run| run.state.is_over());
        schedule.allows(start) && (!start.is_alone || schedule.last.is_none_or(is_over))
    }

    /// Deals with due ticks of a schedule that start nothing; whether it did.
    pub(super) fn tick(&mut self, tenant: &TenantId, id: &ScheduleId, digest: &Digest, ticked: &Ticked) -> bool {
        let found = self.schedules.get_mut(&(tenant.clone(), id.clone()));
        let is_open = |s: &&mut StoredSchedule| s.digest == *digest && s.paused.is_none() && s.next == ticked.due;
        found.filter(is_open).map(|schedule| schedule.tick(ticked)).is_some()
    }

    /// A workflow's schedules are these from now on.
    fn plan(&mut self, tenant: &TenantId, of: &WorkflowName, planned: &[Planned], by: Option<&KeyId>) {
        let is_of = |(t, id): &(TenantId, ScheduleId)| t == tenant && id.workflow == *of;
        let before: Vec<StoredSchedule> =
            self.schedules.iter().filter(|(place, _)| is_of(place)).map(|(_, row)| row.clone()).collect();
        self.schedules.retain(|place, _| !is_of(place));
        for (number, planned) in (1..).zip(planned) {
            let id = ScheduleId { workflow: of.clone(), number };
            let before = before.iter().find(|row| row.digest == planned.digest);
            let row = StoredSchedule::planned(tenant, id.clone(), planned, by, before);
            self.schedules.insert((tenant.clone(), id), row);
        }
    }

    fn schedule(
        &mut self,
        tenant: &TenantId,
        workflow: WorkflowName,
        number: u32,
        digest: Digest,
    ) -> Option<&mut StoredSchedule> {
        let found = self.schedules.get_mut(&(tenant.clone(), ScheduleId { workflow, number }));
        found.filter(|row| row.digest == digest)
    }

    /// The newest version of its name.
    fn push(&mut self, tenant: &TenantId, new: Agent) {
        let versions = self.agents.entry((tenant.clone(), new.name.clone())).or_default();
        versions.retain(|old| old.digest != new.digest);
        let place = (tenant.clone(), new.name.clone());
        versions.push(new);
        if let Some(granted) = self.grants.get_mut(&place) {
            let newest = versions.iter().rev().take(VERSIONS_WITH_GRANTS);
            let newest: BTreeSet<Digest> = newest.map(|agent| agent.digest).collect();
            granted.retain(|digest, _| newest.contains(digest));
        }
    }

    fn enter(&mut self, tenant: &TenantId, run: RunId, entry: Entry) {
        let journal = self.journal.entry((tenant.clone(), run)).or_default();
        let seq = Seq(journal.len() as u64 + 1);
        let (chain, links) = self.links.entry(tenant.clone()).or_default();
        let link = chain.link(tenant, run, seq, &Digest::of(&entry.to_bytes()));
        links.push((run, seq, link));
        journal.push(entry);
    }

    pub(super) fn components(&self) -> BTreeSet<Digest> {
        self.agents.values().flatten().map(|agent| agent.digest).collect()
    }
}
