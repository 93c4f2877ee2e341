//! Following the record.

use async_trait::async_trait;
use ltmc_model::delta::{Delta, Logged, Topic};
use ltmc_model::{Position, TenantId, Timestamp};
use ltmc_ports::log::Item;
use ltmc_ports::projection::follows_another;
use ltmc_ports::told::{Known, Piece};
use ltmc_ports::{Bound, Kind, Projection, StoreError};
use serde::Deserialize;

use crate::error::{self, Trouble};
use crate::link::Transaction;
use crate::statement::{Statement, maybe, number, read};
use crate::{Neo4j, check, facts, mail, runs, schema};

/// A transaction is told of so many rows, or of so many bytes.
const PIECE: Piece = Piece { rows: 1_000, bytes: 8 << 20 };

#[async_trait]
impl Projection for Neo4j {
    fn name(&self) -> &'static str {
        "neo4j"
    }

    fn topics(&self) -> &'static [Topic] {
        &[Topic::Graph, Topic::Messages, Topic::Runs]
    }

    /// Facts, runs, and messages from one agent to another.
    fn holds(&self, topic: Topic, item: &Item) -> bool {
        match topic {
            Topic::Graph | Topic::Runs => true,
            Topic::Messages => {
                matches!(item.deltas.first(), Some(Delta::Sent(message)) if mail::between(message).is_some())
            }
            Topic::Memory | Topic::Recall => false,
        }
    }

    async fn check(&self) -> Result<(), StoreError> {
        check::check(&self.link).await
    }

    async fn bind(&self, record: &str, taken: bool) -> Result<Bound, StoreError> {
        const OP: &str = "neo4j.bind";
        #[derive(Deserialize)]
        struct Found {
            id: String,
            halfway: bool,
        }
        let text = match taken {
            true => {
                "MERGE (r:LtmcRecord {name: 'record'}) SET r.id = $id, r.halfway = true RETURN r.id AS id, true AS halfway"
            }
            false => {
                "MERGE (r:LtmcRecord {name: 'record'}) ON CREATE SET r.id = $id \
                 RETURN r.id AS id, coalesce(r.halfway, false) AS halfway"
            }
        };
        let found: Vec<Found> = self.link.ask(OP, Statement::about_the_database(text).with("id", record)).await?;
        match found.into_iter().next() {
            Some(found) if found.id != record => Err(follows_another(OP, &found.id, record)),
            Some(Found { halfway: true, .. }) => Ok(Bound::Halfway),
            Some(_) | None => Ok(Bound::Wholly),
        }
    }

    async fn bound(&self, record: &str, tenants: &[TenantId]) -> Result<(), StoreError> {
        const OP: &str = "neo4j.bound";
        let tenants: Vec<String> = tenants.iter().map(TenantId::to_string).collect();
        let text = "MATCH (r:LtmcRecord {name: 'record', id: $id}) REMOVE r.halfway WITH count(r) AS records \
                    MATCH (a:Applied) WHERE NOT a.tenant IN $tenants DELETE a";
        let statement = Statement::about_the_database(text).with("id", record).with("tenants", tenants);
        self.link.ask::<()>(OP, statement).await.map(drop)
    }

    /// Where nothing is known of a tenant, a build of it begins here; [`Projection::set_applied`] ends it, unless what was
    /// put is gone by then.
    async fn applied(&self, tenant: &TenantId) -> Result<Option<Position>, StoreError> {
        const OP: &str = "neo4j.applied";
        #[derive(Deserialize)]
        struct Found {
            position: i64,
        }
        let text = "MATCH (a:Applied {tenant: $tenant}) RETURN a.position AS position";
        let found: Vec<Found> = self.link.ask(OP, Statement::of(tenant, text)).await?;
        let applied = found.first().map(|found| Position(read(found.position)));
        if applied.is_none() {
            let (mut changes, _) = self.change(OP, tenant, None).await?;
            changes.run(Statement::of(tenant, "MERGE (:Build {tenant: $tenant})")).await?;
            changes.commit().await?;
        }
        self.told.asked(tenant, applied.map_or(Known::Building(()), Known::Applied));
        Ok(applied)
    }

    async fn apply(&self, tenant: &TenantId, rows: &[Logged], to: Position) -> Result<(), StoreError> {
        let weight = |row: &Logged| match &row.delta {
            Delta::Run(mark) => runs::weight(mark),
            _ => 1,
        };
        for (piece, to) in PIECE.divide_log(rows, to, weight) {
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
        const OP: &str = "neo4j.inventory";
        match topic {
            Topic::Graph => facts::inventory(&self.link, OP, tenant, after, limit).await,
            Topic::Runs => self.keys(OP, runs::INVENTORY, tenant, after, limit).await,
            Topic::Messages => self.keys(OP, mail::INVENTORY, tenant, after, limit).await,
            Topic::Memory | Topic::Recall => Ok(Vec::new()),
        }
    }

    async fn put(&self, tenant: &TenantId, items: &[Item]) -> Result<(), StoreError> {
        const OP: &str = "neo4j.put";
        let weight = |item: &Item| match item.deltas.first() {
            Some(Delta::Run(mark)) => runs::weight(mark),
            _ => 1,
        };
        let size = |item: &Item| item.deltas.iter().map(Delta::size).sum();
        for piece in PIECE.divide(items, weight, size) {
            let told = Told::of(piece.iter().flat_map(|item| &item.deltas));
            let (mut changes, _) = self.change(OP, tenant, None).await?;
            told.facts.write(tenant, &mut changes).await?;
            told.runs.put(tenant, &mut changes).await?;
            told.mail.put(tenant, &mut changes).await?;
            changes.commit().await?;
        }
        Ok(())
    }

    async fn discard(&self, tenant: &TenantId, topic: Topic, keys: &[String]) -> Result<(), StoreError> {
        const OP: &str = "neo4j.discard";
        for keys in keys.chunks(PIECE.rows) {
            let (mut changes, _) = self.change(OP, tenant, None).await?;
            match topic {
                Topic::Graph => facts::discard(tenant, &mut changes, keys).await?,
                Topic::Runs => runs::discard(tenant, &mut changes, keys).await?,
                Topic::Messages => mail::discard(tenant, &mut changes, keys).await?,
                Topic::Memory | Topic::Recall => return Ok(()),
            }
            changes.commit().await?;
        }
        Ok(())
    }

    async fn set_applied(&self, tenant: &TenantId, to: Position) -> Result<(), StoreError> {
        const OP: &str = "neo4j.set_applied";
        #[derive(Deserialize)]
        struct Found {
            builds: i64,
        }
        let (mut changes, _) = self.change(OP, tenant, None).await?;
        let text = "OPTIONAL MATCH (b:Build {tenant: $tenant}) WITH count(b) AS builds, collect(b) AS all \
                    FOREACH (b IN all | DELETE b) MERGE (a:Applied {tenant: $tenant}) SET a.position = $to \
                    RETURN builds";
        let found: Vec<Found> = changes.ask(Statement::of(tenant, text).with("to", number(to.0))).await?;
        let known = self.told.forget(tenant);
        if known == Some(Known::Building(())) && found.first().is_none_or(|found| found.builds == 0) {
            return Err(self.lost(OP, "it was emptied while it was built"));
        }
        changes.commit().await?;
        self.told.applied(tenant, to);
        Ok(())
    }
}

/// What rows or items say, sorted by what they say it of. In each the order stays.
#[derive(Default)]
struct Told {
    facts: facts::Told,
    runs: runs::Told,
    mail: mail::Told,
}

impl Told {
    fn of<'a>(deltas: impl Iterator<Item = &'a Delta>) -> Self {
        let mut told = Self::default();
        for delta in deltas {
            match delta {
                Delta::FactBegan(fact) => told.facts.begins(fact),
                Delta::FactEnded(end) => told.facts.ends(end),
                Delta::Run(mark) => told.runs.came(mark),
                message => told.mail.hears(message),
            }
        }
        told
    }
}

impl Neo4j {
    /// Removes a tenant's messages that were processed, and sent before `before`; how many it was.
    ///
    /// # Errors
    /// [`StoreError`] where Neo4j does not answer, or refuses the change.
    pub async fn trim(&self, tenant: &TenantId, before: Timestamp) -> Result<u64, StoreError> {
        const OP: &str = "neo4j.trim";
        const LIMIT: u64 = 10_000;
        let mut removed = 0;
        loop {
            let (mut changes, _) = self.change(OP, tenant, None).await?;
            let some = mail::forget(tenant, &mut changes, before, LIMIT).await?;
            changes.commit().await?;
            removed += some;
            if some < LIMIT {
                return Ok(removed);
            }
        }
    }

    /// Keys and versions that a statement finds after `after`.
    async fn keys(
        &self,
        op: &'static str,
        text: &'static str,
        tenant: &TenantId,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, u64)>, StoreError> {
        #[derive(Deserialize)]
        struct Found {
            key: String,
            version: i64,
        }
        let statement =
            Statement::of(tenant, text).with("after", after.unwrap_or_default()).with("limit", i64::from(limit));
        let found: Vec<Found> = self.link.ask(op, statement).await?;
        Ok(found.into_iter().map(|found| (found.key, read(found.version))).collect())
    }

    async fn apply_some(&self, tenant: &TenantId, rows: &[Logged], to: Position) -> Result<(), StoreError> {
        const OP: &str = "neo4j.apply";
        let (mut changes, applied) = self.change(OP, tenant, Some(to)).await?;
        let known = self.told.get(tenant);
        let applied = match (applied, known) {
            (Some(applied), Some(Known::Applied(known))) if applied < known => {
                return Err(self.forget(OP, tenant, "it has been told less than it was"));
            }
            (Some(applied), _) => applied,
            // The log's very first row has nothing before it.
            (None, None | Some(Known::Building(()))) if rows.first().is_some_and(|row| row.position == Position(1)) => {
                let text = "MERGE (a:Applied {tenant: $tenant}) SET a.position = $to";
                changes.run(Statement::of(tenant, text).with("to", number(to.0))).await?;
                Position(0)
            }
            (None, _) => return Err(self.forget(OP, tenant, "nothing is known of it there")),
        };
        let new = rows.iter().filter(|row| row.position > applied);
        let told = Told::of(new.map(|row| &row.delta));
        told.facts.write(tenant, &mut changes).await?;
        told.runs.write(tenant, &mut changes).await?;
        told.mail.write(tenant, &mut changes).await?;
        changes.commit().await?;
        self.told.applied(tenant, to.max(applied));
        Ok(())
    }

    /// Begins changes of a tenant, which nobody else changes meanwhile. With how far it was told before; with them it will
    /// have been told up to `to`, where it is known at all.
    async fn change(
        &self,
        op: &'static str,
        tenant: &TenantId,
        to: Option<Position>,
    ) -> Result<(Transaction<'_>, Option<Position>), StoreError> {
        #[derive(Deserialize)]
        struct Found {
            schema: Option<i64>,
            position: Option<i64>,
        }
        // Writing to the node takes the lock on it: only then is its position read.
        let text = "OPTIONAL MATCH (s:LtmcSchema) WITH max(s.version) AS schema \
                    OPTIONAL MATCH (a:Applied {tenant: $tenant}) SET a.locked = true \
                    WITH schema, a, a.position AS position \
                    SET a.position = CASE WHEN $to > position THEN $to ELSE position END \
                    RETURN schema, position";
        for _ in 0..2 {
            let mut changes = self.link.begin(op).await?;
            let to = maybe(to.map(|to| number(to.0)));
            let found: Vec<Found> = changes.ask(Statement::of(tenant, text).with("to", to)).await?;
            let Some(found) = found.first() else { return Err(error::odd(op, "no row where there is always one")) };
            if found.schema == Some(schema::KNOWN) {
                return Ok((changes, found.position.map(|position| Position(read(position)))));
            }
            // Behind the same address there is another database now, or it was emptied.
            self.link.unprepare();
        }
        Err(StoreError::new(Kind::Unavailable, op).because("the schema is not what it was made a moment ago"))
    }

    fn forget(&self, op: &'static str, tenant: &TenantId, why: &'static str) -> StoreError {
        self.told.forget(tenant);
        self.lost(op, why)
    }

    fn lost(&self, op: &'static str, why: &'static str) -> StoreError {
        error::store(op, Trouble::Lost { address: self.link.address().to_owned(), why })
    }
}
