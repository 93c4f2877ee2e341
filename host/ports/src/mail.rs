//! Mailboxes and topics: written only with the journal, read here.

use async_trait::async_trait;
use ltmc_model::message::{DeadLetter, Delivery, Events, Taker, Topic};
use ltmc_model::{AgentName, Position, Revision, TenantId};

use crate::StoreError;

/// For those who decide what becomes of messages: the record's own word.
#[async_trait]
pub trait ReadMail: Send + Sync {
    /// Messages of a mailbox that can be handed out, oldest first, at most `limit` and 4 MiB, each with its place and its
    /// next number of deliveries: none is in anybody's hands, and of its sender no earlier one is, but for those that are as
    /// good as `gone` to who asks.
    async fn ready(
        &self,
        tenant: &TenantId,
        agent: &AgentName,
        limit: u32,
        gone: &[Revision],
    ) -> Result<Vec<(Position, Delivery)>, StoreError>;

    /// Messages of a mailbox that are in these hands, oldest first, at most `limit` and 4 MiB, each with its number of
    /// deliveries.
    async fn in_hands(
        &self,
        tenant: &TenantId,
        agent: &AgentName,
        by: &Taker,
        limit: u32,
    ) -> Result<Vec<Delivery>, StoreError>;

    /// How many messages wait in a mailbox, dead letters aside; no further than `most` is counted.
    async fn waiting(&self, tenant: &TenantId, agent: &AgentName, most: u32) -> Result<u32, StoreError>;

    /// Dead letters of a mailbox, or of every one, after `after`, oldest first.
    async fn dead_letters(
        &self,
        tenant: &TenantId,
        agent: Option<&AgentName>,
        after: Option<Revision>,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, StoreError>;

    /// One dead letter.
    async fn dead_letter(&self, tenant: &TenantId, id: Revision) -> Result<Option<DeadLetter>, StoreError>;
}

/// Serves topics: the record itself, or a database that follows it.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Events of a topic after `after`, in order, at most `limit` and 4 MiB. That some after `after` were thrown away is no
    /// error here: what is left is answered.
    async fn events(&self, tenant: &TenantId, topic: &Topic, after: Position, limit: u32)
    -> Result<Events, StoreError>;
}
