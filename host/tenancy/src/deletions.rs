//! Tenants are deleted: at once nobody comes in with their keys and nothing of them is written any more, and what they have goes in the
//! background, piece by piece.
//!
//! Invariants: that a tenant is deleted, and that nothing is left of it, are acts in the host's ledger. In between it is deleted and its
//! name is taken; whatever breaks that off, the next start goes on with it. Each step may be made again. The name is free once nothing
//! of it is left anywhere: who has it then sees nothing of the one before.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ltmc_model::TenantId;
use ltmc_model::caller::Caller;
use ltmc_model::chain::{Head, Link};
use ltmc_model::journal::Change;
use ltmc_policy::Action;
use ltmc_ports::{Purge, ReadCatalog, ReadChains, StoreError};
use tokio::sync::{Mutex, Notify};

use crate::{Authority, Error, Pins};

/// How long until it is tried again where something could not be done, such as by a database that is down.
const AGAIN: Duration = Duration::from_secs(5);
/// Chains looked up at once.
const HEADS: u32 = 500;

/// What has something of tenants besides the record.
#[async_trait]
pub trait Holds: Send + Sync {
    /// Ends, or forgets, all that it has of a tenant that is deleted.
    ///
    /// # Errors
    /// It has some of it still, and is to be asked again.
    async fn let_go(&self, tenant: &TenantId) -> Result<(), StoreError>;
}

/// What it takes.
pub struct Ports {
    /// To look tenants up.
    pub catalog: Arc<dyn ReadCatalog>,
    /// What deleted tenants left.
    pub purge: Arc<dyn Purge>,
    /// How their chains end.
    pub chains: Arc<dyn ReadChains>,
    /// To ask, and to change things.
    pub authority: Arc<Authority>,
    /// Keeps components that are in use, and removes those that nobody needs.
    pub pins: Arc<Pins>,
    /// What is alive of them: it lets go before the record does.
    pub alive: Arc<dyn Holds>,
    /// What follows the record: it lets go after it.
    pub followers: Vec<Arc<dyn Holds>>,
}

/// The use case, and what goes on behind it.
pub struct Deletions {
    ports: Ports,
    /// One at a time, so that one is left.
    turn: Mutex<()>,
    news: Notify,
}

impl Deletions {
    /// Over these ports.
    pub fn new(ports: Ports) -> Arc<Self> {
        Arc::new(Self { ports, turn: Mutex::default(), news: Notify::new() })
    }

    /// Deletes a tenant: when it returns its keys are good no more, and nothing of it is written. What it has goes afterwards.
    ///
    /// # Errors
    /// Where it is not there; `Conflict` where it is the only one.
    pub async fn delete(self: &Arc<Self>, caller: &Caller, tenant: &TenantId) -> Result<(), Error> {
        let (deletions, by, tenant) = (self.clone(), caller.clone(), tenant.clone());
        let work = async move {
            let Ports { catalog, authority, .. } = &deletions.ports;
            let _turn = deletions.turn.lock().await;
            if catalog.tenant(&tenant).await?.is_none() {
                return Err(Error::not_found(format!("tenant `{tenant}`")));
            }
            // A host without any would take its next start for its first.
            if catalog.tenants(None, 2).await?.len() < 2 {
                let message = format!("tenant `{tenant}` is the only one, and a host has one: make another first");
                return Err(Error::Conflict { code: "conflict", message });
            }
            let changing = authority.changing(&tenant);
            let change = Change::TenantDeleted { tenant: tenant.clone() };
            let deleted = authority.act(&by.tenant, Some(&by.key), change).await;
            drop(changing);
            deletions.news.notify_one();
            Ok(deleted?)
        };
        self.ports.authority.perform(caller, Action::DeleteTenant, work).await
    }

    /// Throws away what deleted tenants left, those of before this start too. It never ends.
    pub async fn run(&self) {
        loop {
            let is_left = match self.ports.purge.deleted().await {
                Ok(deleted) => self.finish_all(deleted).await,
                Err(error) => {
                    tracing::warn!(%error, "deleted tenants could not be looked up; trying again");
                    true
                }
            };
            if is_left {
                drop(tokio::time::timeout(AGAIN, self.news.notified()).await);
            } else {
                self.news.notified().await;
            }
        }
    }

    /// Whether anything is left.
    async fn finish_all(&self, deleted: Vec<TenantId>) -> bool {
        let mut is_left = false;
        for tenant in deleted {
            match self.finish(&tenant).await {
                Ok(()) => tracing::info!(%tenant, "nothing is left of a tenant that was deleted"),
                Err(error) => {
                    is_left = true;
                    tracing::warn!(%tenant, reason = error.reason(), "a deleted tenant is not all gone yet; trying again");
                }
            }
        }
        is_left
    }

    async fn finish(&self, tenant: &TenantId) -> Result<(), StoreError> {
        let Ports { purge, authority, pins, alive, followers, .. } = &self.ports;
        alive.let_go(tenant).await?;
        while purge.purge(tenant).await? {
            tokio::task::yield_now().await;
        }
        for follower in followers {
            follower.let_go(tenant).await?;
        }
        pins.sweep_all().await?;
        let head = self.head(tenant).await?;
        let _changing = authority.changing(tenant);
        authority.act(&TenantId::host(), None, Change::TenantGone { head }).await
    }

    /// How a tenant's chain ends.
    async fn head(&self, tenant: &TenantId) -> Result<Head, StoreError> {
        let mut after = None;
        loop {
            let heads = self.ports.chains.heads(after.as_ref(), HEADS).await?;
            let Some(last) = heads.last() else {
                return Ok(Head { tenant: tenant.clone(), length: 0, hash: Link([0; 32]) });
            };
            after = Some(last.tenant.clone());
            if let Some(head) = heads.into_iter().find(|head| head.tenant == *tenant) {
                return Ok(head);
            }
        }
    }
}

impl std::fmt::Debug for Deletions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deletions").finish_non_exhaustive()
    }
}
