//! The record in memory as one that takes its time: every operation waits before and after, and a write that was begun is
//! made also where who asked for it goes away, as a real store does that has handed it to its writer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use ltmc_model::agent::{Agent, Grants};
use ltmc_model::delta::{Logged, MemoryValue, Topic};
use ltmc_model::graph::{Entity, Fact, FactFilter, FactPage, Reached, Relation, Walk};
use ltmc_model::journal::{Act, Placed};
use ltmc_model::memory::{Drawer, Item, Page};
use ltmc_model::message::{self, DeadLetter, Delivery, Events, Taker};
use ltmc_model::question::{Asked, Token};
use ltmc_model::run::{Run, State};
use ltmc_model::schedule::ScheduleId;
use ltmc_model::session::{Session, Turn};
use ltmc_model::state::Timer;
use ltmc_model::tenancy::{Ceiling, DiskUsage, Key, Tenant};
use ltmc_model::trigger::TriggerId;
use ltmc_model::{
    AgentName, Digest, Epoch, KeyId, Position, Revision, RunId, Seq, SessionId, TenantId, Timestamp, WorkflowName,
};
use tokio::sync::{broadcast, watch};
use tokio::task::yield_now;

use super::MemoryRecord;
use crate::cascades::{Made, ReadCascades};
use crate::catalog::StoredWorkflow;
use crate::journal::{Audit, Head, IdempotencyKey, RunFilter, Snapshot, Suspended};
use crate::log::{Ends, Group, Interest, Rows};
use crate::mail::{Bus, ReadMail};
use crate::questions::QuestionFilter;
use crate::schedules::{Coming, StoredSchedule, Ticked};
use crate::sessions::SessionFilter;
use crate::triggers::{Arrival, ArrivalFilter, Intake, StoredTrigger};
use crate::{
    Append, Changes, Durability, Purge, ReadCatalog, ReadChains, ReadFacts, ReadGraph, ReadJournal, ReadLog,
    ReadMemory, ReadQuestions, ReadSchedules, ReadSessions, ReadStates, ReadTriggers, Receipt, StoreError,
    WriteCatalog, WriteJournal, WriteSchedules, WriteTriggers,
};

/// A record that takes its time.
#[derive(Debug, Clone)]
pub struct Slow(pub Arc<MemoryRecord>);

/// An operation's result, some moments later.
async fn later<T>(operation: impl Future<Output = T>) -> T {
    yield_now().await;
    let done = operation.await;
    yield_now().await;
    done
}

/// A write's result: once it is under way it is made, whoever waits for it.
async fn written<T: Send + 'static>(
    write: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    yield_now().await;
    tokio::spawn(later(write)).await.expect("a write does not panic")
}

/// Every method of a port, asked of the record in memory.
macro_rules! slowly {
    ($port:ident: $($method:ident($($name:ident: $type:ty),*) -> $gives:ty;)*) => {
        #[async_trait]
        impl $port for Slow {
            $(async fn $method(&self, $($name: $type),*) -> Result<$gives, StoreError> {
                later(self.0.$method($($name),*)).await
            })*
        }
    };
}

slowly! { ReadCatalog:
    tenant(name: &TenantId) -> Option<Tenant>;
    tenants(after: Option<&TenantId>, limit: u32) -> Vec<Tenant>;
    ceiling(tenant: &TenantId) -> Ceiling;
    key(id: &KeyId) -> Option<Key>;
    keys(tenant: &TenantId, after: Option<&KeyId>, limit: u32) -> Vec<Key>;
    agent(tenant: &TenantId, name: &AgentName, digest: Option<&Digest>) -> Option<Agent>;
    agents(tenant: &TenantId, after: Option<&AgentName>, limit: u32) -> Vec<Agent>;
    grants(tenant: &TenantId, agent: &AgentName, version: &Digest) -> Grants;
    granted_versions(tenant: &TenantId, agent: &AgentName) -> Vec<(Digest, Grants)>;
    workflow(tenant: &TenantId, name: &WorkflowName) -> Option<StoredWorkflow>;
    workflows(tenant: &TenantId, after: Option<&WorkflowName>, limit: u32) -> Vec<StoredWorkflow>;
    disk_usage(tenant: &TenantId) -> DiskUsage;
    versions(tenant: &TenantId, name: &AgentName) -> Vec<Digest>;
    component_in_use(digest: &Digest) -> bool;
}

slowly! { ReadJournal:
    entries(tenant: &TenantId, run: RunId, after: Seq, limit: u32) -> Vec<Placed>;
    page(tenant: &TenantId, run: RunId, after: Seq, limit: u32, bytes: usize) -> Vec<Placed>;
    snapshot(tenant: &TenantId, run: RunId, until: Seq) -> Option<Snapshot>;
    run(tenant: &TenantId, run: RunId) -> Option<Run>;
    runs(tenant: &TenantId, filter: &RunFilter) -> Vec<Run>;
    unfinished(after: Option<(TenantId, RunId)>, limit: u32) -> Vec<Run>;
    unfinished_of(tenant: &TenantId, from: RunId, limit: u32) -> Vec<Run>;
    sleepers(after: Option<&TenantId>, limit: u32) -> Vec<(TenantId, Timestamp)>;
    set_aside(tenant: &TenantId, state: State) -> u64;
    suspended(tenant: &TenantId, after: Option<Suspended>, limit: u32) -> Vec<Run>;
    idempotent(tenant: &TenantId, key: &str, now: Timestamp) -> Option<IdempotencyKey>;
    last(tenant: &TenantId, run: RunId) -> Seq;
    verify() -> Audit;
}

slowly! { ReadSchedules:
    schedule(tenant: &TenantId, id: &ScheduleId) -> Option<StoredSchedule>;
    schedules(tenant: &TenantId, of: Option<&WorkflowName>, after: Option<&ScheduleId>, limit: u32) -> Vec<StoredSchedule>;
    coming(after: Option<&TenantId>, limit: u32) -> Vec<(TenantId, Timestamp)>;
    due(tenant: &TenantId, after: Option<&Coming>, limit: u32) -> Vec<StoredSchedule>;
}

slowly! { ReadStates:
    coming_states(after: Option<&TenantId>, limit: u32) -> Vec<(TenantId, Timestamp)>;
    due_states(tenant: &TenantId, now: Timestamp, after: Option<&Timer>, limit: u32) -> Vec<Timer>;
}

slowly! { ReadSessions:
    session(tenant: &TenantId, id: &SessionId) -> Option<Session>;
    sessions(tenant: &TenantId, filter: &SessionFilter) -> Vec<Session>;
    turns(tenant: &TenantId, id: &SessionId, after: u32, limit: u32) -> Vec<Turn>;
    waiting_turns(tenant: &TenantId, id: &SessionId, by: &KeyId) -> u32;
    begun(tenant: &TenantId, id: &SessionId, after: Option<Epoch>, before: Option<Epoch>, limit: u32) -> Vec<Turn>;
    changed_since(tenant: &TenantId, id: &SessionId, began: Epoch, most: (u32, usize)) -> Vec<(String, Option<MemoryValue>)>;
    memory_after(tenant: &TenantId, id: &SessionId, began: Epoch, most: (u32, usize)) -> Vec<(String, MemoryValue)>;
    archive(tenant: &TenantId, id: &SessionId) -> Option<String>;
    coming_sessions(by: Timestamp, after: Option<&TenantId>, limit: u32) -> Vec<(TenantId, Timestamp)>;
    due_sessions(tenant: &TenantId, now: Timestamp, after: Option<&(Timestamp, SessionId)>, limit: u32) -> Vec<Session>;
}

slowly! { ReadMemory:
    get(tenant: &TenantId, drawer: &Drawer, key: &str, now: Timestamp) -> Option<Item>;
    usage(tenant: &TenantId) -> u64;
    list(tenant: &TenantId, drawer: &Drawer, prefix: &str, after: Option<&str>, limit: u32, now: Timestamp) -> Page;
}

slowly! { ReadGraph:
    facts(tenant: &TenantId, filter: &FactFilter) -> FactPage;
    path(tenant: &TenantId, walk: &Walk, to: &Entity) -> Option<Vec<Fact>>;
    reach(tenant: &TenantId, walk: &Walk) -> Reached;
}

slowly! { ReadFacts:
    holding(tenant: &TenantId, subject: &Entity, relation: &Relation, object: &Entity) -> Option<Fact>;
    next_to(tenant: &TenantId, walk: &Walk, front: &BTreeSet<Entity>, limit: usize) -> Vec<Fact>;
}

slowly! { ReadMail:
    ready(tenant: &TenantId, agent: &AgentName, limit: u32, gone: &[Revision]) -> Vec<(Position, Delivery)>;
    in_hands(tenant: &TenantId, agent: &AgentName, by: &Taker, limit: u32) -> Vec<Delivery>;
    waiting(tenant: &TenantId, agent: &AgentName, most: u32) -> u32;
    dead_letters(tenant: &TenantId, agent: Option<&AgentName>, after: Option<Revision>, limit: u32) -> Vec<DeadLetter>;
    dead_letter(tenant: &TenantId, id: Revision) -> Option<DeadLetter>;
}

slowly! { ReadQuestions:
    question(tenant: &TenantId, token: &Token) -> Option<Asked>;
    questions(tenant: &TenantId, filter: &QuestionFilter) -> Vec<Asked>;
}

slowly! { ReadTriggers:
    trigger(tenant: &TenantId, id: &TriggerId) -> Option<StoredTrigger>;
    triggers(tenant: &TenantId, after: Option<&TriggerId>, limit: u32) -> Vec<StoredTrigger>;
    triggered_tenants(after: Option<&TenantId>, limit: u32) -> Vec<TenantId>;
    watches_memory() -> bool;
    due_triggers(tenant: &TenantId, after: Option<&TriggerId>, limit: u32) -> Vec<StoredTrigger>;
    startable(tenant: &TenantId, id: &TriggerId, limit: u32) -> Vec<Arrival>;
    parked(tenant: &TenantId, id: &TriggerId) -> BTreeMap<String, u32>;
    arrivals(tenant: &TenantId, filter: &ArrivalFilter) -> Vec<Arrival>;
    started_since(tenant: &TenantId, id: &TriggerId, since: Timestamp, most: u32) -> u32;
    lag(tenant: &TenantId, id: &TriggerId, most: u32) -> u32;
}

slowly! { ReadCascades:
    event(tenant: &TenantId, id: Revision) -> Option<(message::Topic, message::Published)>;
    following(tenant: &TenantId, cause: &str, after: Position, limit: u32) -> Vec<(message::Topic, message::Published)>;
    made_of(tenant: &TenantId, position: Position, limit: u32) -> Vec<Made>;
}

slowly! { ReadChains:
    heads(after: Option<&TenantId>, limit: u32) -> Vec<Head>;
}

slowly! { Bus:
    events(tenant: &TenantId, topic: &message::Topic, after: Position, limit: u32) -> Events;
}

#[async_trait]
impl WriteSchedules for Slow {
    async fn tick(
        &self,
        tenant: &TenantId,
        id: &ScheduleId,
        digest: Digest,
        ticked: Ticked,
    ) -> Result<bool, StoreError> {
        let (record, tenant, id) = (self.0.clone(), tenant.clone(), id.clone());
        written(async move { record.tick(&tenant, &id, digest, ticked).await }).await
    }
}

#[async_trait]
impl WriteTriggers for Slow {
    async fn take_in(
        &self,
        tenant: &TenantId,
        id: &TriggerId,
        digest: Digest,
        intake: Intake,
    ) -> Result<bool, StoreError> {
        let (record, tenant, id) = (self.0.clone(), tenant.clone(), id.clone());
        written(async move { record.take_in(&tenant, &id, digest, intake).await }).await
    }

    async fn bury(
        &self,
        tenant: &TenantId,
        id: &TriggerId,
        position: Position,
        reason: String,
    ) -> Result<bool, StoreError> {
        let (record, tenant, id) = (self.0.clone(), tenant.clone(), id.clone());
        written(async move { record.bury(&tenant, &id, position, reason).await }).await
    }

    async fn tell(&self, tenant: &TenantId, id: &TriggerId, trouble: Option<String>) -> Result<(), StoreError> {
        let (record, tenant, id) = (self.0.clone(), tenant.clone(), id.clone());
        written(async move { record.tell(&tenant, &id, trouble).await }).await
    }
}

#[async_trait]
impl Purge for Slow {
    async fn deleted(&self) -> Result<Vec<TenantId>, StoreError> {
        later(self.0.deleted()).await
    }

    async fn purge(&self, tenant: &TenantId) -> Result<bool, StoreError> {
        let (record, tenant) = (self.0.clone(), tenant.clone());
        written(async move { record.purge(&tenant).await }).await
    }

    async fn gone(&self) -> Result<BTreeMap<TenantId, Timestamp>, StoreError> {
        later(self.0.gone()).await
    }
}

#[async_trait]
impl WriteCatalog for Slow {
    async fn act_with(&self, tenant: &TenantId, at: Timestamp, act: Act, changes: Changes) -> Result<(), StoreError> {
        let (record, tenant) = (self.0.clone(), tenant.clone());
        written(async move { record.act_with(&tenant, at, act, changes).await }).await
    }
}

#[async_trait]
impl WriteJournal for Slow {
    async fn hand_over(&self, append: Append, durability: Durability) -> Receipt {
        let record = self.0.clone();
        yield_now().await;
        let written = tokio::spawn(later(async move { record.append(append, durability).await }));
        Box::pin(async move { written.await.expect("a write does not panic") })
    }

    fn next_revision(&self, tenant: &TenantId) -> Revision {
        self.0.next_revision(tenant)
    }
}

#[async_trait]
impl ReadLog for Slow {
    async fn log(
        &self,
        tenant: Option<&TenantId>,
        topics: &[Topic],
        after: Position,
        to: Position,
        limit: u32,
    ) -> Result<Vec<Logged>, StoreError> {
        later(self.0.log(tenant, topics, after, to, limit)).await
    }

    async fn rows(
        &self,
        tenant: &TenantId,
        interest: &Interest,
        after: Position,
        to: Position,
        limit: u32,
    ) -> Result<Rows, StoreError> {
        later(self.0.rows(tenant, interest, after, to, limit)).await
    }

    fn record_id(&self) -> &str {
        self.0.record_id()
    }

    async fn trimmed(&self, tenant: &TenantId) -> Result<Position, StoreError> {
        later(self.0.trimmed(tenant)).await
    }

    async fn trim(&self, to: Position, limit: u32) -> Result<u64, StoreError> {
        later(self.0.trim(to, limit)).await
    }

    fn ends(&self) -> watch::Receiver<Ends> {
        self.0.ends()
    }

    fn follow(&self) -> broadcast::Receiver<Arc<Group>> {
        self.0.follow()
    }

    fn newest(&self, topics: &[Topic]) -> Position {
        self.0.newest(topics)
    }

    async fn tenants_with_context(&self) -> Result<Vec<TenantId>, StoreError> {
        later(self.0.tenants_with_context()).await
    }
}
