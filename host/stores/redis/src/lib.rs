//! Redis: mailboxes, topics, the change feed, session data, runs that are not over, and counters, as the record has them.
//!
//! Invariants: it follows the record and decides nothing. One script applies a batch of a tenant's rows, with the place up
//! to which they go: all of it or nothing, also where memory is out. A Redis that was wiped, or went back to an older state,
//! refuses further rows (`Conflict`) until it has been asked how far it is, and built where it knows nothing. Every key of a
//! tenant has its name in it as a hash tag. Nothing above `stores/` knows a command of Redis's.
//!
//! - [`open`]: the address, and what can never work; [`link`]: connections; [`check`]: what is wrong with a server
//! - [`keys`]: every key, in a table; [`scripts`]: the Lua that writes them; [`rows`]: what it is told
//! - [`projection`], [`inventory`], [`bus`]: the ports; how a wiped server is noticed: `ltmc_ports::told`
//!
//! To hold something more: a row in [`rows`], a function in `scripts/apply.lua` and `scripts/put.lua`, a line in [`keys`],
//! and its keys in [`inventory`].

mod bus;
mod check;
mod error;
mod inventory;
mod keys;
mod link;
mod open;
mod projection;
mod rows;
mod scripts;

use std::collections::BTreeMap;
use std::sync::Arc;

use ltmc_model::message::Topic;
use ltmc_model::{Position, SessionId, TenantId};
use ltmc_ports::StoreError;
use ltmc_ports::told::Told;

pub use error::Trouble;
pub use open::{OpenError, Options};
pub use rows::Held;

/// Events that are removed at once: nobody else is served meanwhile.
const TRIMMED_AT_ONCE: u64 = 5_000;

/// One Redis server.
pub struct Redis {
    link: link::Link,
    told: Told<projection::Build>,
}

impl Redis {
    /// One that can be reached by these options. Nothing is connected yet: one that is down stops nobody.
    ///
    /// # Errors
    /// What can never work: see [`OpenError`].
    pub fn open(options: &Options) -> Result<Arc<Self>, OpenError> {
        let (client, address) = open::client(options)?;
        let link = link::Link::new(client, address, options.timeout);
        Ok(Arc::new(Self { link, told: Told::default() }))
    }

    /// Where it is: host and port.
    pub fn address(&self) -> &str {
        self.link.address()
    }

    /// Removes events of the tenant's topics up to `to`, that place included; how many it was.
    ///
    /// # Errors
    /// [`StoreError`] where Redis does not answer, or refuses the change.
    pub async fn trim(&self, tenant: &TenantId, to: Position) -> Result<u64, StoreError> {
        const OP: &str = "redis.trim";
        let keys = keys::Keys::of(tenant);
        let all = redis::cmd("ZRANGE").arg(keys.named("topics")).arg(0).arg(-1).to_owned();
        let topics: Vec<String> = self.link.ask(OP, &all).await?;
        let (first, mut removed) = (to.0.saturating_add(1), 0);
        for topic in topics.iter().filter_map(|name| name.trim_end_matches('/').parse::<Topic>().ok()) {
            let trim =
                |how: &str| redis::cmd("XTRIM").arg(keys.topic(&topic)).arg("MINID").arg(how).arg(first).to_owned();
            // Whole blocks, some at a time, and then what is left of the last.
            let blocks = trim("~").arg("LIMIT").arg(TRIMMED_AT_ONCE).to_owned();
            loop {
                let some: u64 = self.link.ask(OP, &blocks).await?;
                removed += some;
                if some == 0 {
                    break;
                }
            }
            removed += self.link.ask::<u64>(OP, &trim("=")).await?;
        }
        Ok(removed)
    }

    /// What is held under a key of a session.
    ///
    /// # Errors
    /// [`StoreError`] where Redis does not answer, or what it holds cannot be read.
    pub async fn session(&self, tenant: &TenantId, session: &SessionId, key: &str) -> Result<Option<Held>, StoreError> {
        let op = "redis.session";
        let mut cmd = redis::cmd("HGET");
        cmd.arg(keys::Keys::of(tenant).named(&format!("session:{session}"))).arg(key);
        let found: Option<Vec<u8>> = self.link.ask(op, &cmd).await?;
        found.map(|bytes| Held::parse(&bytes).ok_or_else(|| error::corrupt(op, "what a session holds"))).transpose()
    }

    /// The tenant's counters, exact since the place in the log that stands under `since`.
    ///
    /// # Errors
    /// [`StoreError`] where Redis does not answer.
    pub async fn counters(&self, tenant: &TenantId) -> Result<BTreeMap<String, u64>, StoreError> {
        self.link.ask("redis.counters", redis::cmd("HGETALL").arg(keys::Keys::of(tenant).named("metrics"))).await
    }
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redis").field("address", &self.address()).finish_non_exhaustive()
    }
}
