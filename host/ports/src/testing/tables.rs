//! What the in-memory record holds, and how an append or an act changes it.
//!
//! Invariant: every change is checked whole before anything of it is made.

use std::collections::{BTreeMap, BTreeSet};

use ltmc_model::agent::{Agent, Grants, VERSIONS_WITH_GRANTS};
use ltmc_model::chain::{Chain, Link};
use ltmc_model::journal::{Act, Change, Entry, Event};
use ltmc_model::run::Run;
use ltmc_model::tenancy::{Ceiling, Key, Tenant};
use ltmc_model::{AgentName, Digest, KeyId, RunId, Seq, TenantId, Timestamp, WorkflowName};

use super::context::Context;
use crate::catalog::StoredWorkflow;
use crate::journal::{Append, IdempotencyKey};
use crate::{Changes, Expect, Kind, StoreError};

/// An entry's hash, and whose it is.
type PlacedLink = (RunId, Seq, Link);

#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) runs: BTreeMap<(TenantId, RunId), Run>,
    pub(super) journal: BTreeMap<(TenantId, RunId), Vec<Entry>>,
    pub(super) context: Context,
    pub(super) idempotency: BTreeMap<(TenantId, String), IdempotencyKey>,
    pub(super) links: BTreeMap<TenantId, (Chain, Vec<PlacedLink>)>,
    pub(super) tenants: BTreeMap<TenantId, Tenant>,
    pub(super) ceilings: BTreeMap<TenantId, Ceiling>,
    pub(super) keys: BTreeMap<KeyId, Key>,
    /// Versions of each agent, the newest last.
    pub(super) agents: BTreeMap<(TenantId, AgentName), Vec<Agent>>,
    pub(super) grants: BTreeMap<(TenantId, AgentName), BTreeMap<Digest, Grants>>,
    pub(super) workflows: BTreeMap<(TenantId, WorkflowName), StoredWorkflow>,
}

impl Tables {
    pub(super) fn append(&mut self, append: &Append) -> Result<(), StoreError> {
        let fail = |kind| Err(StoreError::new(kind, "journal.append"));
        let key = (append.run.tenant.clone(), append.run.id);
        match (self.runs.get(&key), append.previous) {
            (None, None) if append.expected == Seq(0) => {}
            (None, None) | (Some(_), None) => return fail(Kind::Conflict),
            // The writer knows of a run that the record does not have: its beginning was lost.
            (None, Some(_)) => return fail(Kind::Fenced),
            (Some(row), Some(previous)) if row.epoch != previous || append.run.epoch < previous => {
                return fail(Kind::Fenced);
            }
            // The writer knows of entries that the record does not have: they were lost.
            (Some(row), Some(_)) if row.seq < append.expected => return fail(Kind::Fenced),
            (Some(row), Some(_)) if row.seq > append.expected => return fail(Kind::Conflict),
            (Some(_), Some(_)) => {}
        }
        if append.run.seq.0 != append.expected.0 + append.entries.len() as u64 {
            return Err(StoreError::new(Kind::Internal, "journal.append")
                .because("the row's length is not that of the journal after these entries"));
        }
        if !self.hold(&append.run.tenant, append.run.updated_at, &append.changes) {
            return fail(Kind::Stale);
        }
        if let Some(key) = &append.idempotency {
            let place = (append.run.tenant.clone(), key.key.clone());
            if self.idempotency.get(&place).is_some_and(|old| old.expires_at > append.run.updated_at) {
                return fail(Kind::Conflict);
            }
            self.idempotency.insert(place, key.clone());
        }
        for entry in &append.entries {
            self.enter(&append.run.tenant, append.run.id, entry.clone());
        }
        for delta in &append.changes.deltas {
            self.context.apply(&append.run.tenant, delta);
        }
        let mut run = append.run.clone();
        // An append says at most that the run got on.
        let counted = self.runs.get(&key).map(|row| row.taken_up).unwrap_or_default();
        if run.taken_up.is_suspect() {
            run.taken_up = counted;
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
        Ok(())
    }

    pub(super) fn act(
        &mut self,
        tenant: &TenantId,
        at: Timestamp,
        act: &Act,
        changes: &Changes,
    ) -> Result<(), StoreError> {
        let conflict = match &act.change {
            Change::TenantCreated(new) => self.tenants.contains_key(&new.name),
            Change::KeyCreated(new) => self.keys.contains_key(&new.id),
            _ => false,
        };
        if conflict {
            return Err(StoreError::new(Kind::Conflict, "catalog.act"));
        }
        if !self.hold(tenant, at, changes) {
            return Err(StoreError::new(Kind::Stale, "catalog.act"));
        }
        match act.change.clone() {
            Change::TenantCreated(new) => drop(self.tenants.insert(new.name.clone(), new)),
            Change::TenantDeleted { tenant } => {
                self.tenants.remove(&tenant);
                self.ceilings.remove(&tenant);
                self.keys.retain(|_, key| key.tenant != tenant);
                self.agents.retain(|(of, _), _| *of != tenant);
                self.grants.retain(|(of, _), _| *of != tenant);
                self.workflows.retain(|(of, _), _| *of != tenant);
            }
            Change::TenantGone { .. } => {}
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
                let place = (tenant.clone(), agent);
                let versions = self.agents.get(&place).map(Vec::as_slice).unwrap_or_default();
                let version = match digest {
                    Some(digest) => versions.iter().find(|agent| agent.digest == digest),
                    None => versions.last(),
                };
                let version = version.map(|agent| agent.digest);
                let granted = self.grants.entry(place).or_default();
                if digest.is_none() {
                    granted.values_mut().for_each(|held| held.cut_to(&grants));
                }
                if let Some(version) = version {
                    granted.insert(version, Grants { capabilities: grants, carry: carry.unwrap_or_default() });
                }
            }
            Change::GrantRevoked { agent, grant } => {
                let granted = self.grants.get_mut(&(tenant.clone(), agent));
                let versions = granted.into_iter().flat_map(BTreeMap::values_mut);
                versions.for_each(|held| held.capabilities.retain(|held| *held != grant));
            }
            Change::WorkflowPut { name, source, digest } => {
                let stored = StoredWorkflow { name: name.clone(), source, digest, updated_at: at };
                self.workflows.insert((tenant.clone(), name), stored);
            }
            Change::WorkflowDeleted { name } => drop(self.workflows.remove(&(tenant.clone(), name))),
            Change::Context { .. } | Change::Refused { .. } | Change::Accessed { .. } => {}
        }
        for delta in &changes.deltas {
            self.context.apply(tenant, delta);
        }
        self.enter(tenant, RunId::ledger(), Entry { at, event: Event::Act(Box::new(act.clone())) });
        Ok(())
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
            Expect::UnderWay { run } => self.runs.get(&(tenant.clone(), *run)).is_some_and(|row| !row.state.is_over()),
            expect => self.context.holds(tenant, at, expect),
        });
        expected && changes.deltas.iter().all(|delta| self.context.is_newer(tenant, delta))
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
