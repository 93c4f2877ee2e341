//! The catalog: tenants, keys, agents, grants, workflows.

use async_trait::async_trait;
use ltmc_model::agent::Agent;
use ltmc_model::caller::Role;
use ltmc_model::journal::Act;
use ltmc_model::tenancy::{Ceiling, Key, Tenant};
use ltmc_model::{AgentName, Capability, Digest, KeyId, TenantId, Timestamp, WorkflowName};
use ltmc_ports::catalog::StoredWorkflow;
use ltmc_ports::{Changes, ReadCatalog, StoreError, WriteCatalog};
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, Row as _};

use crate::Record;
use crate::error::store;
use crate::journal::{fixed, number, parsed, stamp, tenant, wrong};

const KEY: &str = "id, tenant, role, hash, created_at, expires_at, revoked_at";
const AGENT: &str = "name, digest, manifest, exports, size, pushed_at";
const WORKFLOW: &str = "name, source, digest, updated_at";

#[async_trait]
impl WriteCatalog for Record {
    async fn act_with(&self, tenant: &TenantId, at: Timestamp, act: Act, changes: Changes) -> Result<(), StoreError> {
        self.writing.act(tenant, at, act, changes).await
    }
}

impl Record {
    /// The rows of a list, each read by `read`.
    async fn list<T>(
        &self,
        op: &'static str,
        sql: String,
        texts: &[&str],
        limit: u32,
        read: impl Fn(&SqliteRow) -> Result<T, sqlx::Error>,
    ) -> Result<Vec<T>, StoreError> {
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for text in texts {
            query = query.bind((*text).to_owned());
        }
        let rows = query.bind(i64::from(limit)).fetch_all(&self.readers).await.map_err(|e| store(op, e))?;
        rows.iter().map(read).collect::<Result<_, _>>().map_err(|e| store(op, e))
    }

    async fn one<T>(
        &self,
        op: &'static str,
        sql: String,
        texts: &[&str],
        read: impl Fn(&SqliteRow) -> Result<T, sqlx::Error>,
    ) -> Result<Option<T>, StoreError> {
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for text in texts {
            query = query.bind((*text).to_owned());
        }
        let row = query.fetch_optional(&self.readers).await.map_err(|e| store(op, e))?;
        row.as_ref().map(read).transpose().map_err(|e| store(op, e))
    }
}

#[async_trait]
impl ReadCatalog for Record {
    async fn tenant(&self, name: &TenantId) -> Result<Option<Tenant>, StoreError> {
        let sql = "select name, created_at from tenants where name = ?".into();
        self.one("catalog.tenant", sql, &[name.as_str()], read_tenant).await
    }

    async fn tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Tenant>, StoreError> {
        let sql = "select name, created_at from tenants where name > ? order by name limit ?".into();
        self.list("catalog.tenants", sql, &[after.map_or("", TenantId::as_str)], limit, read_tenant).await
    }

    async fn ceiling(&self, tenant: &TenantId) -> Result<Ceiling, StoreError> {
        let sql = "select ceiling from ceilings where tenant = ?".into();
        let found = self.one("catalog.ceiling", sql, &[tenant.as_str()], |row| json(row.try_get(0)?)).await?;
        Ok(found.unwrap_or_default())
    }

    async fn key(&self, id: &KeyId) -> Result<Option<Key>, StoreError> {
        let sql = format!("select {KEY} from keys where id = ?");
        self.one("catalog.key", sql, &[id.as_str()], read_key).await
    }

    async fn keys(&self, tenant: &TenantId, after: Option<&KeyId>, limit: u32) -> Result<Vec<Key>, StoreError> {
        let sql = format!("select {KEY} from keys where tenant = ? and id > ? order by id limit ?");
        let texts = [tenant.as_str(), after.map_or("", KeyId::as_str)];
        self.list("catalog.keys", sql, &texts, limit, read_key).await
    }

    async fn agent(
        &self,
        tenant: &TenantId,
        name: &AgentName,
        digest: Option<&Digest>,
    ) -> Result<Option<Agent>, StoreError> {
        const OP: &str = "catalog.agent";
        let texts = [tenant.as_str(), name.as_str()];
        let Some(digest) = digest else {
            let sql = format!("select {AGENT} from agents where tenant = ? and name = ? order by pushed desc limit 1");
            return self.one(OP, sql, &texts, read_agent).await;
        };
        let sql = format!("select {AGENT} from agents where tenant = ? and name = ? and digest = ?");
        let row = sqlx::query(AssertSqlSafe(sql)).bind(tenant.as_str()).bind(name.as_str()).bind(digest.0.to_vec());
        let row = row.fetch_optional(&self.readers).await.map_err(|e| store(OP, e))?;
        row.as_ref().map(read_agent).transpose().map_err(|e| store(OP, e))
    }

    async fn agents(&self, tenant: &TenantId, after: Option<&AgentName>, limit: u32) -> Result<Vec<Agent>, StoreError> {
        let sql = format!(
            "select {AGENT} from agents a where tenant = ? and name > ? and pushed = \
             (select max(pushed) from agents b where b.tenant = a.tenant and b.name = a.name) order by name limit ?"
        );
        let texts = [tenant.as_str(), after.map_or("", AgentName::as_str)];
        self.list("catalog.agents", sql, &texts, limit, read_agent).await
    }

    async fn grants(&self, tenant: &TenantId, agent: &AgentName) -> Result<Vec<Capability>, StoreError> {
        let sql = "select grants from grants where tenant = ? and agent = ?".into();
        let texts = [tenant.as_str(), agent.as_str()];
        let found = self.one("catalog.grants", sql, &texts, |row| json(row.try_get(0)?)).await?;
        Ok(found.unwrap_or_default())
    }

    async fn workflow(&self, tenant: &TenantId, name: &WorkflowName) -> Result<Option<StoredWorkflow>, StoreError> {
        let sql = format!("select {WORKFLOW} from workflows where tenant = ? and name = ?");
        self.one("catalog.workflow", sql, &[tenant.as_str(), name.as_str()], read_workflow).await
    }

    async fn workflows(
        &self,
        tenant: &TenantId,
        after: Option<&WorkflowName>,
        limit: u32,
    ) -> Result<Vec<StoredWorkflow>, StoreError> {
        let sql = format!("select {WORKFLOW} from workflows where tenant = ? and name > ? order by name limit ?");
        let texts = [tenant.as_str(), after.map_or("", WorkflowName::as_str)];
        self.list("catalog.workflows", sql, &texts, limit, read_workflow).await
    }

    async fn component_in_use(&self, digest: &Digest) -> Result<bool, StoreError> {
        let sql = "select exists (select 1 from agents where digest = ?) or \
                   exists (select 1 from runs where wakes_at is not null)";
        let row = sqlx::query(sql).bind(digest.0.to_vec());
        let found: Result<i64, _> = row.fetch_one(&self.readers).await.and_then(|row| row.try_get(0));
        found.map(|found| found != 0).map_err(|e| store("catalog.component-in-use", e))
    }
}

fn read_tenant(row: &SqliteRow) -> Result<Tenant, sqlx::Error> {
    Ok(Tenant { name: parsed(row.try_get(0)?)?, created_at: stamp(row.try_get(1)?) })
}

fn read_key(row: &SqliteRow) -> Result<Key, sqlx::Error> {
    let role: String = row.try_get(2)?;
    let time = |value: Option<i64>| value.map(stamp);
    Ok(Key {
        id: parsed(row.try_get(0)?)?,
        tenant: tenant(row.try_get(1)?)?,
        role: serde_json::from_value::<Role>(role.into()).map_err(|_| wrong("a key's role"))?,
        hash: fixed(row.try_get(3)?)?,
        created_at: stamp(row.try_get(4)?),
        expires_at: time(row.try_get(5)?),
        revoked_at: time(row.try_get(6)?),
    })
}

fn read_agent(row: &SqliteRow) -> Result<Agent, sqlx::Error> {
    Ok(Agent {
        name: parsed(row.try_get(0)?)?,
        digest: Digest(fixed(row.try_get(1)?)?),
        manifest: json(row.try_get(2)?)?,
        exports: json(row.try_get(3)?)?,
        size: number(row.try_get(4)?),
        pushed_at: stamp(row.try_get(5)?),
    })
}

fn read_workflow(row: &SqliteRow) -> Result<StoredWorkflow, sqlx::Error> {
    Ok(StoredWorkflow {
        name: parsed(row.try_get(0)?)?,
        source: row.try_get(1)?,
        digest: Digest(fixed(row.try_get(2)?)?),
        updated_at: stamp(row.try_get(3)?),
    })
}

fn json<T: serde::de::DeserializeOwned>(text: String) -> Result<T, sqlx::Error> {
    serde_json::from_str(&text).map_err(|e| sqlx::Error::Decode(Box::new(e)))
}
