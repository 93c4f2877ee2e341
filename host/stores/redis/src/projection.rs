//! Following the record.

use std::collections::HashSet;

use async_trait::async_trait;
use ltmc_model::delta::{Delta, Logged, Topic};
use ltmc_model::memory::Drawer;
use ltmc_model::{Position, TenantId};
use ltmc_ports::log::Item;
use ltmc_ports::projection::follows_another;
use ltmc_ports::told::{Known, Piece};
use ltmc_ports::{Bound, Kind, Projection, StoreError};
use redis::Cmd;

use crate::keys::{self, Keys};
use crate::link::call;
use crate::{Redis, check, inventory, rows, scripts};

/// One call of a script is told of so many rows, or of so many bytes: nobody else is served meanwhile. Lua hands at most
/// some thousands of words to one command.
const PIECE: Piece = Piece { rows: 1_000, bytes: 4 << 20 };
/// Keys that are looked at by one call.
const KEYS: usize = 1_000;
/// What follows a record's id where this is being taken from another.
const HALFWAY: &str = " halfway";

/// The build of a tenant that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Build {
    token: String,
    /// How many calls it has made so far.
    calls: u64,
}

impl Build {
    /// As the server has it.
    fn word(&self) -> String {
        format!("{}:{}", self.token, self.calls)
    }
}

#[async_trait]
impl Projection for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::Memory, Topic::Messages, Topic::Runs]
    }

    /// Session data, messages, and runs that are not over.
    fn holds(&self, topic: Topic, item: &Item) -> bool {
        let first = item.deltas.first();
        match topic {
            Topic::Memory => {
                matches!(first, Some(Delta::Memory(change)) if matches!(change.drawer, Drawer::Session(_)))
            }
            Topic::Messages => true,
            Topic::Runs => matches!(first, Some(Delta::Run(mark)) if !mark.state.is_over()),
            Topic::Graph | Topic::Recall => false,
        }
    }

    async fn check(&self) -> Result<(), StoreError> {
        check::check(&self.link).await
    }

    async fn bind(&self, record: &str, taken: bool) -> Result<Bound, StoreError> {
        const OP: &str = "redis.bind";
        let mut set = redis::cmd("SET");
        set.arg(keys::RECORD);
        if taken {
            self.link.ask::<()>(OP, set.arg(format!("{record}{HALFWAY}"))).await?;
            return Ok(Bound::Halfway);
        }
        let found: Option<String> = self.link.ask(OP, set.arg(record).arg("NX").arg("GET")).await?;
        let Some(found) = found else { return Ok(Bound::Wholly) };
        match found.strip_suffix(HALFWAY) {
            Some(of) if of == record => Ok(Bound::Halfway),
            None if found == record => Ok(Bound::Wholly),
            Some(of) => Err(follows_another(OP, of, record)),
            None => Err(follows_another(OP, &found, record)),
        }
    }

    async fn bound(&self, record: &str, tenants: &[TenantId]) -> Result<(), StoreError> {
        const OP: &str = "redis.bound";
        let kept: HashSet<String> = tenants.iter().map(|tenant| Keys::of(tenant).applied()).collect();
        let mut cursor = 0_u64;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(keys::EVERY_APPLIED).arg("COUNT").arg(KEYS);
            let (next, found): (u64, Vec<String>) = self.link.ask(OP, &scan).await?;
            for key in found.iter().filter(|key| !kept.contains(*key)) {
                self.link.ask::<()>(OP, redis::cmd("DEL").arg(key)).await?;
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        self.link.ask(OP, redis::cmd("SET").arg(keys::RECORD).arg(record)).await
    }

    /// Where nothing is known of a tenant, a build of it begins here: what is put from now on belongs to it, and
    /// [`Projection::set_applied`] ends it, unless what was put is gone by then.
    async fn applied(&self, tenant: &TenantId) -> Result<Option<Position>, StoreError> {
        let op = "redis.applied";
        let key = Keys::of(tenant).applied();
        let found: Option<u64> = self.link.ask(op, redis::cmd("GET").arg(&key)).await?;
        let (found, token) = match found {
            Some(found) => (Some(found), String::new()),
            None => {
                let (found, token): (String, String) =
                    self.link.run(op, &scripts::BEGIN, &call(&scripts::BEGIN, &key)).await?;
                (found.parse().ok(), token)
            }
        };
        let applied = found.map(Position);
        self.told.asked(tenant, applied.map_or(Known::Building(Build { token, calls: 0 }), Known::Applied));
        Ok(applied)
    }

    /// `Conflict` where nothing is known of the tenant, or less than before: rows in the middle are not taken for a
    /// beginning. The log's very first row is one.
    async fn apply(&self, tenant: &TenantId, rows: &[Logged], to: Position) -> Result<(), StoreError> {
        for (piece, to) in PIECE.divide_log(rows, to, |_| 1) {
            self.apply_some(tenant, piece, to).await?;
        }
        Ok(())
    }

    async fn inventory(
        &self,
        tenant: &TenantId,
        topic: Topic,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        inventory::page(&self.link, &Keys::of(tenant), topic, after, limit).await
    }

    async fn put(&self, tenant: &TenantId, items: &[Item]) -> Result<(), StoreError> {
        let size = |item: &Item| item.deltas.iter().map(Delta::size).sum();
        for piece in PIECE.divide(items, |_| 1, size) {
            self.build("redis.put", tenant, &scripts::PUT, |cmd| {
                piece.iter().try_for_each(|item| rows::item(cmd, item))
            })
            .await?;
        }
        Ok(())
    }

    async fn discard(&self, tenant: &TenantId, topic: Topic, keys: &[String]) -> Result<(), StoreError> {
        for piece in PIECE.divide(keys, |_| 1, String::len) {
            self.build("redis.discard", tenant, &scripts::DISCARD, |cmd| {
                piece.iter().try_for_each(|key| discarded(cmd, topic, key))
            })
            .await?;
        }
        Ok(())
    }

    async fn set_applied(&self, tenant: &TenantId, to: Position) -> Result<(), StoreError> {
        let mut cmd = call(&scripts::SET, &Keys::of(tenant).applied());
        let was = if self.told.known(tenant).is_some() { "known" } else { "" };
        cmd.arg(to.0).arg(self.building(tenant)).arg(was);
        // Whatever comes of it, the server is asked before it is believed again.
        self.told.forget(tenant);
        self.link.run::<()>("redis.set_applied", &scripts::SET, &cmd).await?;
        self.told.applied(tenant, to);
        Ok(())
    }
}

impl Redis {
    /// The build under way, as the server has it; empty: none.
    fn building(&self, tenant: &TenantId) -> String {
        self.told.building(tenant).map(|build| build.word()).unwrap_or_default()
    }

    async fn apply_some(&self, tenant: &TenantId, rows: &[Logged], to: Position) -> Result<(), StoreError> {
        let mut cmd = call(&scripts::APPLY, &Keys::of(tenant).applied());
        match self.told.known(tenant) {
            Some(at) => cmd.arg(at.0),
            None => cmd.arg(""),
        };
        cmd.arg(to.0).arg(rows.first().map_or(0, |row| row.position.0));
        rows::all(&mut cmd, rows)?;
        match self.link.run::<()>("redis.apply", &scripts::APPLY, &cmd).await {
            Ok(()) => {
                self.told.applied(tenant, to);
                Ok(())
            }
            Err(error) => {
                if error.kind == Kind::Conflict {
                    self.told.forget(tenant);
                }
                Err(error)
            }
        }
    }

    /// A call that belongs to the tenant's build, if there is one.
    async fn build(
        &self,
        op: &'static str,
        tenant: &TenantId,
        script: &redis::Script,
        arguments: impl FnOnce(&mut Cmd) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut cmd = call(script, &Keys::of(tenant).applied());
        cmd.arg(self.building(tenant));
        arguments(&mut cmd)?;
        self.link.run::<()>(op, script, &cmd).await?;
        self.told.built(tenant, |build| build.calls += 1);
        Ok(())
    }
}

fn discarded(cmd: &mut Cmd, topic: Topic, key: &str) -> Result<(), StoreError> {
    let odd =
        || StoreError::new(Kind::Internal, "redis.discard").because(format!("`{key}` is no key of {}", topic.as_str()));
    match topic {
        Topic::Memory => {
            let (owner, key) = key.split_once('/').ok_or_else(odd)?;
            cmd.arg("session").arg(owner).arg(key);
        }
        Topic::Messages => {
            let (channel, number) = key.rsplit_once('/').ok_or_else(odd)?;
            let number: u64 = number.parse().map_err(|_| odd())?;
            match channel.split_once('/').ok_or_else(odd)? {
                ("mailbox", agent) => cmd.arg("mail").arg(agent).arg(number),
                ("topic", topic) => cmd.arg("topic").arg(topic).arg(number),
                _ => return Err(odd()),
            };
        }
        Topic::Runs => {
            cmd.arg("run").arg(key).arg("");
        }
        Topic::Graph | Topic::Recall => return Err(odd()),
    }
    Ok(())
}
