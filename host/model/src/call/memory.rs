//! The interface `ltmc:agent/memory`: keys and values.

use bytes::Bytes;

use super::HostCall;
use super::form::{Canonical, Request, Values, variant};
use crate::capability::{Any, Capability};
use crate::memory::{Feed, Item, Page, Precondition, Scope};
use crate::merge::Merge;
use crate::{Position, Revision};

interface! {
    /// Calls on memory.
    Memory: MemoryCall { Open, Get, Put, Delete, List, Update, Touch, Changes }
}

fn read(scope: Scope) -> Vec<Capability> {
    vec![Capability::MemoryRead(Any::One(scope))]
}

fn write(scope: Scope) -> Vec<Capability> {
    vec![Capability::MemoryWrite(Any::One(scope))]
}

/// `memory.open`: asks whether the scope may be used at all, and does nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open(pub Scope);

impl HostCall for Open {
    type Reply = ();
    const NAME: &'static str = "memory.open";
    const CHANGES: bool = false;

    fn needs(&self) -> Vec<Capability> {
        [read(self.0), write(self.0)].concat()
    }

    fn about(&self) -> String {
        self.0.to_string()
    }

    fn request(&self) -> Request {
        Request::new("memory-open", &self.0)
    }
}

/// `memory.get`: what a key holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Get {
    /// The scope whose memory it is.
    pub scope: Scope,
    /// The key.
    pub key: String,
}

impl HostCall for Get {
    type Reply = Option<Item>;
    const NAME: &'static str = "memory.get";
    const CHANGES: bool = false;

    fn needs(&self) -> Vec<Capability> {
        read(self.scope)
    }

    fn about(&self) -> String {
        format!("{}/{}", self.scope, self.key)
    }

    fn request(&self) -> Request {
        Request::new("memory-get", &Values::new().with(&self.scope).with(&self.key))
    }
}

/// `memory.put`: a key's new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// The scope whose memory it is.
    pub scope: Scope,
    /// The key.
    pub key: String,
    /// The new value.
    pub value: Bytes,
    /// What must be so.
    pub precondition: Precondition,
    /// Milliseconds until it ends.
    pub ttl_ms: Option<u64>,
}

impl HostCall for Put {
    type Reply = Revision;
    const NAME: &'static str = "memory.put";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        write(self.scope)
    }

    fn about(&self) -> String {
        format!("{}/{} ({} bytes)", self.scope, self.key, self.value.len())
    }

    fn request(&self) -> Request {
        Request::new(
            "memory-put",
            &Values::new()
                .with(&self.scope)
                .with(&self.key)
                .with(&self.value)
                .with(&self.precondition)
                .with(&self.ttl_ms),
        )
    }
}

/// `memory.delete`: answers whether there was something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// The scope whose memory it is.
    pub scope: Scope,
    /// The key.
    pub key: String,
    /// What must be so.
    pub precondition: Precondition,
}

impl HostCall for Delete {
    type Reply = bool;
    const NAME: &'static str = "memory.delete";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        write(self.scope)
    }

    fn about(&self) -> String {
        format!("{}/{}", self.scope, self.key)
    }

    fn request(&self) -> Request {
        Request::new("memory-delete", &Values::new().with(&self.scope).with(&self.key).with(&self.precondition))
    }
}

/// `memory.list`: a page of keys, with what they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// The scope whose memory it is.
    pub scope: Scope,
    /// What the keys begin with.
    pub prefix: String,
    /// The key to go on after.
    pub cursor: Option<String>,
    /// Entries of a page, 1 to [`crate::memory::MAX_PAGE`].
    pub limit: u32,
}

impl HostCall for List {
    type Reply = Page;
    const NAME: &'static str = "memory.list";
    const CHANGES: bool = false;

    fn needs(&self) -> Vec<Capability> {
        read(self.scope)
    }

    fn about(&self) -> String {
        format!("{}/{}*", self.scope, self.prefix)
    }

    fn request(&self) -> Request {
        Request::new(
            "memory-list",
            &Values::new().with(&self.scope).with(&self.prefix).with(&self.cursor).with(&self.limit),
        )
    }
}

/// `memory.update`: a value that is made of the one before; answers with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The scope whose memory it is.
    pub scope: Scope,
    /// The key.
    pub key: String,
    /// How the new value is made of the one before.
    pub merge: Merge,
    /// Milliseconds until it ends; none: as before.
    pub ttl_ms: Option<u64>,
}

impl HostCall for Update {
    type Reply = Item;
    const NAME: &'static str = "memory.update";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        write(self.scope)
    }

    fn about(&self) -> String {
        format!("{}/{} ({})", self.scope, self.key, self.merge.as_str())
    }

    fn request(&self) -> Request {
        Request::new(
            "memory-update",
            &Values::new().with(&self.scope).with(&self.key).with(&self.merge).with(&self.ttl_ms),
        )
    }
}

/// `memory.touch`: a new time to live for what a key holds; answers whether there was something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// The scope whose memory it is.
    pub scope: Scope,
    /// The key.
    pub key: String,
    /// Milliseconds until it ends; none: it does not end.
    pub ttl_ms: Option<u64>,
}

impl HostCall for Touch {
    type Reply = bool;
    const NAME: &'static str = "memory.touch";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        write(self.scope)
    }

    fn about(&self) -> String {
        format!("{}/{}", self.scope, self.key)
    }

    fn request(&self) -> Request {
        Request::new("memory-touch", &Values::new().with(&self.scope).with(&self.key).with(&self.ttl_ms))
    }
}

/// `memory.changes`: what changed, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The scope whose memory it is.
    pub scope: Scope,
    /// What the keys begin with.
    pub prefix: String,
    /// After which change; none: from now on.
    pub after: Option<Position>,
    /// At most so many, 1 to [`crate::memory::MAX_PAGE`].
    pub limit: u32,
    /// How long to wait for the first.
    pub wait_ms: u64,
}

impl HostCall for Changes {
    type Reply = Feed;
    const NAME: &'static str = "memory.changes";
    const CHANGES: bool = false;

    fn needs(&self) -> Vec<Capability> {
        read(self.scope)
    }

    fn about(&self) -> String {
        format!("{}/{}*", self.scope, self.prefix)
    }

    fn request(&self) -> Request {
        Request::new(
            "memory-changes",
            &Values::new().with(&self.scope).with(&self.prefix).with(&self.after).with(&self.limit).with(&self.wait_ms),
        )
    }
}

impl Canonical for Scope {
    fn write(&self, to: &mut Vec<u8>) {
        self.as_str().write(to);
    }
}

impl Canonical for Precondition {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Any => "any".write(to),
            Self::Absent => "absent".write(to),
            Self::Revision(revision) => variant(to, "revision", revision),
        }
    }
}

impl Canonical for Merge {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Self::Set(value) => variant(to, "set", value),
            Self::Increment(by) => variant(to, "increment", by),
            Self::Append(value) => variant(to, "append", value),
            Self::Union(values) => variant(to, "union", values),
            Self::MergePatch(patch) => variant(to, "merge-patch", patch),
        }
    }
}
