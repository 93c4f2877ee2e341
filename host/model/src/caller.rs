//! Who asks: every use case takes a `&Caller` first.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::message::Trail;
use crate::{KeyId, RunId, TenantId};

/// What a key may do. One role in one tenant; the operator stands outside of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Tenants, ceilings, health; never a tenant's data.
    Operator,
    /// Agents, grants, keys of its tenant, and all below.
    Admin,
    /// Push agents and workflows, run, read.
    Author,
    /// Call, and read its own runs.
    Caller,
    /// Look at agents, workflows, runs and shared context, and change nothing.
    Viewer,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Author => "author",
            Self::Caller => "caller",
            Self::Viewer => "viewer",
        })
    }
}

/// Who asks, once its key is known to be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The key's tenant; [`TenantId::host`] for the operator.
    pub tenant: TenantId,
    /// The key.
    pub key: KeyId,
    /// What it may do.
    pub role: Role,
    /// What it asks because of, where it says so.
    pub cause: Option<Box<Cause>>,
}

/// What a client's request follows from. Which run that is the client says; what that follows from, the record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cause {
    /// The run in which the client works.
    pub run: Option<RunId>,
    /// What events that it publishes, and runs that it begins, follow from; none: they begin anew.
    pub trail: Option<Trail>,
    /// The request's W3C trace context.
    pub traceparent: Option<String>,
}
