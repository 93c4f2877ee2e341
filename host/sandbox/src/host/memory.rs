//! The host's side of the interface `ltmc:agent/memory`.

use ltmc_model::call::memory as call;
use ltmc_model::memory::{Changed, Item, Precondition, Scope};
use ltmc_model::merge::Merge;
use ltmc_model::{Position, Revision};
use wasmtime::component::Resource;

use super::{Answered, wit};
use crate::guest::Guest;
use wit::memory::{Change, Changes, Entry, Page, PutOptions};

/// A scope that a guest has opened.
#[expect(unreachable_pub, reason = "the bindings re-export it")]
pub struct Opened(Scope);

impl Guest {
    fn opened(&self, store: &Resource<Opened>) -> wasmtime::Result<Scope> {
        Ok(self.table.get(store)?.0)
    }
}

impl wit::memory::Host for Guest {}

impl wit::memory::HostStore for Guest {
    async fn open(&mut self, scope: wit::memory::Scope) -> Answered<Resource<Opened>> {
        let scope = match scope {
            wit::memory::Scope::Global => Scope::Global,
            wit::memory::Scope::Session => Scope::Session,
            wit::memory::Scope::Agent => Scope::Agent,
        };
        match self.cross(call::Open(scope)).await? {
            Ok(()) => Ok(Ok(self.table.push(Opened(scope))?)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn get(&mut self, store: Resource<Opened>, key: String) -> Answered<Option<Entry>> {
        let scope = self.opened(&store)?;
        Ok(self.cross(call::Get { scope, key }).await?.map(|item| item.map(entry)))
    }

    async fn put(
        &mut self,
        store: Resource<Opened>,
        key: String,
        value: Vec<u8>,
        options: PutOptions,
    ) -> Answered<u64> {
        let scope = self.opened(&store)?;
        let precondition = precondition(options.precondition);
        let call = call::Put { scope, key, value: value.into(), precondition, ttl_ms: options.ttl_ms };
        Ok(self.cross(call).await?.map(|revision| revision.0))
    }

    async fn delete(
        &mut self,
        store: Resource<Opened>,
        key: String,
        condition: wit::memory::Precondition,
    ) -> Answered<bool> {
        let scope = self.opened(&store)?;
        self.cross(call::Delete { scope, key, precondition: precondition(condition) }).await
    }

    async fn list(
        &mut self,
        store: Resource<Opened>,
        prefix: String,
        cursor: Option<String>,
        limit: u32,
    ) -> Answered<Page> {
        let scope = self.opened(&store)?;
        let page = self.cross(call::List { scope, prefix, cursor, limit }).await?;
        Ok(page.map(|page| Page { entries: page.items.into_iter().map(entry).collect(), next: page.next }))
    }

    async fn update(
        &mut self,
        store: Resource<Opened>,
        key: String,
        rule: wit::memory::Merge,
        ttl_ms: Option<u64>,
    ) -> Answered<Entry> {
        let scope = self.opened(&store)?;
        Ok(self.cross(call::Update { scope, key, merge: merge(rule), ttl_ms }).await?.map(entry))
    }

    async fn touch(&mut self, store: Resource<Opened>, key: String, ttl_ms: Option<u64>) -> Answered<bool> {
        let scope = self.opened(&store)?;
        self.cross(call::Touch { scope, key, ttl_ms }).await
    }

    async fn changes(
        &mut self,
        store: Resource<Opened>,
        prefix: String,
        after: Option<u64>,
        limit: u32,
        wait_ms: u64,
    ) -> Answered<Changes> {
        let scope = self.opened(&store)?;
        let call = call::Changes { scope, prefix, after: after.map(Position), limit, wait_ms };
        let feed = self.cross_waiting(Ok(call), wait_ms).await?;
        Ok(feed.map(|feed| Changes { changes: feed.changes.into_iter().map(change).collect(), next: feed.next.0 }))
    }

    async fn drop(&mut self, store: Resource<Opened>) -> wasmtime::Result<()> {
        self.table.delete(store)?;
        Ok(())
    }
}

fn change(one: Changed) -> Change {
    Change {
        position: one.position.0,
        key: one.key,
        revision: one.revision.0,
        value: one.value.map(Vec::from),
        expires_at_ms: one.expires_at.map(|at| at.millis()),
    }
}

fn entry(item: Item) -> Entry {
    Entry {
        key: item.key,
        value: item.value.into(),
        revision: item.revision.0,
        expires_at_ms: item.expires_at.map(|at| at.millis()),
    }
}

fn merge(rule: wit::memory::Merge) -> Merge {
    match rule {
        wit::memory::Merge::Set(value) => Merge::Set(value.into()),
        wit::memory::Merge::Increment(by) => Merge::Increment(by),
        wit::memory::Merge::Append(value) => Merge::Append(value),
        wit::memory::Merge::Union(values) => Merge::Union(values),
        wit::memory::Merge::MergePatch(patch) => Merge::MergePatch(patch),
    }
}

fn precondition(condition: wit::memory::Precondition) -> Precondition {
    match condition {
        wit::memory::Precondition::Any => Precondition::Any,
        wit::memory::Precondition::Absent => Precondition::Absent,
        wit::memory::Precondition::Revision(revision) => Precondition::Revision(Revision(revision)),
    }
}
