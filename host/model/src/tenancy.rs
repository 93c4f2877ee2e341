//! Tenants, their ceilings, and keys.

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::caller::Role;
use crate::limits::Wishes;
use crate::{Capability, KeyId, TenantId, Timestamp};

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its name.
    pub name: TenantId,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a tenant's agents can have at most, whatever they are granted. Set by the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceiling {
    /// Capabilities a grant can give: `log`, `call:*`, `ask:*`, `session:history`, `state`, and all of shared context (memory, graph, recall, messages) unless set otherwise, nothing outside the host.
    pub capabilities: Vec<Capability>,
    /// Limits of a call.
    #[serde(default)]
    pub limits: Wishes,
    /// Calls of the tenant that may run at once; the rest wait in the queue. One that waits for something else does not count.
    #[serde(default = "Ceiling::default_concurrency")]
    pub concurrency: u32,
    /// Bytes of keys and values that the tenant's memory holds at most, in all scopes.
    #[serde(default = "Ceiling::default_storage")]
    pub storage: ByteSize,
    /// Bytes that all of the tenant's things take on disk at most, journals included; none: what the host's configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<ByteSize>,
}

/// How much a tenant has on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct DiskUsage {
    /// Bytes that it has on disk.
    pub used: u64,
    /// How many it may have before what it writes is refused.
    pub allowed: u64,
}

impl Ceiling {
    fn default_concurrency() -> u32 {
        64
    }

    fn default_storage() -> ByteSize {
        ByteSize::gib(1)
    }
}

impl Default for Ceiling {
    fn default() -> Self {
        use crate::capability::Any;
        Self {
            capabilities: vec![
                Capability::Log,
                Capability::MemoryRead(Any::All),
                Capability::MemoryWrite(Any::All),
                Capability::GraphRead,
                Capability::GraphWrite,
                Capability::RecallRead,
                Capability::RecallWrite,
                Capability::MessageSend(Any::All),
                Capability::MessageReceive,
                Capability::MessagePublish(Any::All),
                Capability::MessageSubscribe(Any::All),
                Capability::SessionHistory,
                Capability::State,
                Capability::Call(Any::All),
                Capability::HandOff(Any::All),
                Capability::Ask(Any::All),
            ],
            limits: Wishes::default(),
            concurrency: Self::default_concurrency(),
            storage: Self::default_storage(),
            disk: None,
        }
    }
}

fn recorded<'de, D: serde::Deserializer<'de>>(from: D) -> Result<TenantId, D::Error> {
    TenantId::recorded(&String::deserialize(from)?).map_err(serde::de::Error::custom)
}

/// An API key as the record keeps it: of the secret only a hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The public half.
    pub id: KeyId,
    /// Whose it is; [`TenantId::host`] for an operator's.
    #[serde(deserialize_with = "recorded")]
    pub tenant: TenantId,
    /// What it may do.
    pub role: Role,
    /// SHA-256 of the secret half, which is 32 random bytes: nothing slower is needed against guessing.
    pub hash: [u8; 32],
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
}
