//! `ltmc:agent/memory`.

use ltmc_model::effect::{Call, Reply};
use ltmc_model::memory::{Changed, Item, Precondition, Scope};
use ltmc_model::merge::Merge;
use ltmc_model::{Position, Revision};
use wasmtime::component::Resource;

use super::{unexpected, wit};
use crate::guest::Guest;
use wit::memory::{Change, Changes, Entry, Page, PutOptions};
use wit::types::Error;

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
    async fn open(&mut self, scope: wit::memory::Scope) -> wasmtime::Result<Result<Resource<Opened>, Error>> {
        let scope = match scope {
            wit::memory::Scope::Global => Scope::Global,
            wit::memory::Scope::Session => Scope::Session,
            wit::memory::Scope::Agent => Scope::Agent,
        };
        match self.cross(Call::MemoryOpen(scope)).await? {
            Ok(Reply::Done) => Ok(Ok(self.table.push(Opened(scope))?)),
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn get(&mut self, store: Resource<Opened>, key: String) -> wasmtime::Result<Result<Option<Entry>, Error>> {
        let scope = self.opened(&store)?;
        match self.cross(Call::MemoryGet { scope, key }).await? {
            Ok(Reply::Item(item)) => Ok(Ok(item.map(entry))),
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn put(
        &mut self,
        store: Resource<Opened>,
        key: String,
        value: Vec<u8>,
        options: PutOptions,
    ) -> wasmtime::Result<Result<u64, Error>> {
        let scope = self.opened(&store)?;
        let call = Call::MemoryPut {
            scope,
            key,
            value: value.into(),
            precondition: precondition(options.precondition),
            ttl_ms: options.ttl_ms,
        };
        match self.cross(call).await? {
            Ok(Reply::Revision(revision)) => Ok(Ok(revision.0)),
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn delete(
        &mut self,
        store: Resource<Opened>,
        key: String,
        condition: wit::memory::Precondition,
    ) -> wasmtime::Result<Result<bool, Error>> {
        let scope = self.opened(&store)?;
        match self.cross(Call::MemoryDelete { scope, key, precondition: precondition(condition) }).await? {
            Ok(Reply::Existed(existed)) => Ok(Ok(existed)),
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn list(
        &mut self,
        store: Resource<Opened>,
        prefix: String,
        cursor: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<Page, Error>> {
        let scope = self.opened(&store)?;
        match self.cross(Call::MemoryList { scope, prefix, cursor, limit }).await? {
            Ok(Reply::Page(page)) => {
                Ok(Ok(Page { entries: page.items.into_iter().map(entry).collect(), next: page.next }))
            }
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn update(
        &mut self,
        store: Resource<Opened>,
        key: String,
        rule: wit::memory::Merge,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<Entry, Error>> {
        let scope = self.opened(&store)?;
        match self.cross(Call::MemoryUpdate { scope, key, merge: merge(rule), ttl_ms }).await? {
            Ok(Reply::Item(Some(item))) => Ok(Ok(entry(item))),
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn changes(
        &mut self,
        store: Resource<Opened>,
        prefix: String,
        after: Option<u64>,
        limit: u32,
        wait_ms: u64,
    ) -> wasmtime::Result<Result<Changes, Error>> {
        let scope = self.opened(&store)?;
        match self.cross(Call::MemoryChanges { scope, prefix, after: after.map(Position), limit, wait_ms }).await? {
            Ok(Reply::Feed(feed)) => {
                let change = |one: Changed| Change {
                    position: one.position.0,
                    key: one.key,
                    revision: one.revision.0,
                    value: one.value.map(Vec::from),
                    expires_at_ms: one.expires_at.map(|at| at.millis()),
                };
                Ok(Ok(Changes { changes: feed.changes.into_iter().map(change).collect(), next: feed.next.0 }))
            }
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn drop(&mut self, store: Resource<Opened>) -> wasmtime::Result<()> {
        self.table.delete(store)?;
        Ok(())
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
