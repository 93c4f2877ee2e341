//! The catalog: tenants, keys, agents, grants, workflows.

use async_trait::async_trait;
use ltmc_model::agent::{Agent, Grants};
use ltmc_model::caller::Role;
use ltmc_model::journal::Act;
use ltmc_model::tenancy::{Ceiling, DiskUsage, Key, Tenant};
use ltmc_model::{AgentName, Digest, KeyId, TenantId, Timestamp, WorkflowName};
use ltmc_ports::catalog::StoredWorkflow;
use ltmc_ports::{Changes, ReadCatalog, StoreError, WriteCatalog};
use rusqlite::{Connection, Row, params};

use crate::bind::{all, found, from_json, number, one, parsed, stamp, tenant};
use crate::error::{Error, wrong};
use crate::{Record, quota};

const KEY: &str = "id, tenant, role, hash, created_at, expires_at, revoked_at";
const AGENT: &str = "name, digest, manifest, exports, size, pushed_at";
const WORKFLOW: &str = "name, source, digest, updated_at";

#[async_trait]
impl WriteCatalog for Record {
    async fn act_with(&self, tenant: &TenantId, at: Timestamp, act: Act, changes: Changes) -> Result<(), StoreError> {
        self.writing.act(tenant, at, act, changes).await
    }
}

#[async_trait]
impl ReadCatalog for Record {
    async fn tenant(&self, name: &TenantId) -> Result<Option<Tenant>, StoreError> {
        let sql = "select name, created_at from tenants where name = ? and deleted_at is null";
        self.readers.point("catalog.tenant", |db| one(db, sql, params![name.as_str()], read_tenant))
    }

    async fn tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Tenant>, StoreError> {
        let sql = "select name, created_at from tenants where name > ? and deleted_at is null order by name limit ?";
        let values = params![after.map_or("", TenantId::as_str), limit];
        self.readers.point("catalog.tenants", |db| all(db, sql, values, read_tenant))
    }

    async fn ceiling(&self, tenant: &TenantId) -> Result<Ceiling, StoreError> {
        let sql = "select ceiling from ceilings where tenant = ?";
        let values = params![tenant.as_str()];
        let found = self.readers.point("catalog.ceiling", |db| one(db, sql, values, |row| from_json(row.get(0)?)))?;
        Ok(found.unwrap_or_default())
    }

    async fn key(&self, id: &KeyId) -> Result<Option<Key>, StoreError> {
        let sql = format!("select {KEY} from keys where id = ?");
        self.readers.point("catalog.key", |db| one(db, &sql, params![id.as_str()], read_key))
    }

    async fn keys(&self, tenant: &TenantId, after: Option<&KeyId>, limit: u32) -> Result<Vec<Key>, StoreError> {
        let sql = format!("select {KEY} from keys where tenant = ? and id > ? order by id limit ?");
        let values = params![tenant.as_str(), after.map_or("", KeyId::as_str), limit];
        self.readers.point("catalog.keys", |db| all(db, &sql, values, read_key))
    }

    async fn agent(
        &self,
        tenant: &TenantId,
        name: &AgentName,
        digest: Option<&Digest>,
    ) -> Result<Option<Agent>, StoreError> {
        const OP: &str = "catalog.agent";
        let (tenant, name) = (tenant.as_str(), name.as_str());
        let Some(digest) = digest else {
            let sql = format!("select {AGENT} from agents where tenant = ? and name = ? order by pushed desc limit 1");
            return self.readers.point(OP, |db| one(db, &sql, params![tenant, name], read_agent));
        };
        let sql = format!("select {AGENT} from agents where tenant = ? and name = ? and digest = ?");
        self.readers.point(OP, |db| one(db, &sql, params![tenant, name, &digest.0[..]], read_agent))
    }

    async fn agents(&self, tenant: &TenantId, after: Option<&AgentName>, limit: u32) -> Result<Vec<Agent>, StoreError> {
        let sql = format!(
            "select {AGENT} from agents a where tenant = ? and name > ? and pushed = \
             (select max(pushed) from agents b where b.tenant = a.tenant and b.name = a.name) order by name limit ?"
        );
        let whose = tenant;
        let (tenant, after) = (tenant.clone(), after.map_or_else(String::new, AgentName::to_string));
        let read = move |db: &Connection| all(db, &sql, params![tenant.as_str(), after, limit], read_agent);
        self.readers.search("catalog.agents", whose, read).await
    }

    async fn grants(&self, tenant: &TenantId, agent: &AgentName, version: &Digest) -> Result<Grants, StoreError> {
        let sql = "select grants, carry from grants where tenant = ? and agent = ? and digest = ?";
        let values = params![tenant.as_str(), agent.as_str(), &version.0[..]];
        let found = self.readers.point("catalog.grants", |db| one(db, sql, values, |row| read_grants(row, 0)))?;
        Ok(found.unwrap_or_default())
    }

    async fn granted_versions(
        &self,
        tenant: &TenantId,
        agent: &AgentName,
    ) -> Result<Vec<(Digest, Grants)>, StoreError> {
        let sql = "select digest, grants, carry from grants where tenant = ? and agent = ? and grants <> '[]'";
        let values = params![tenant.as_str(), agent.as_str()];
        let read = |row: &Row<'_>| Ok((Digest(row.get(0)?), read_grants(row, 1)?));
        self.readers.point("catalog.granted-versions", |db| all(db, sql, values, read))
    }

    async fn workflow(&self, tenant: &TenantId, name: &WorkflowName) -> Result<Option<StoredWorkflow>, StoreError> {
        let sql = format!("select {WORKFLOW} from workflows where tenant = ? and name = ?");
        let values = params![tenant.as_str(), name.as_str()];
        self.readers.point("catalog.workflow", |db| one(db, &sql, values, read_workflow))
    }

    async fn workflows(
        &self,
        tenant: &TenantId,
        after: Option<&WorkflowName>,
        limit: u32,
    ) -> Result<Vec<StoredWorkflow>, StoreError> {
        // Their documents are not read: a page of them has up to 500 MiB.
        let columns = WORKFLOW.replace("source", "''");
        let sql = format!("select {columns} from workflows where tenant = ? and name > ? order by name limit ?");
        let values = params![tenant.as_str(), after.map_or("", WorkflowName::as_str), limit];
        self.readers.point("catalog.workflows", |db| all(db, &sql, values, read_workflow))
    }

    async fn disk_usage(&self, tenant: &TenantId) -> Result<DiskUsage, StoreError> {
        let used = self.readers.point("catalog.disk-usage", |db| Ok(quota::used(db, tenant)?))?;
        let allowed = quota::allowed(&self.ceiling(tenant).await?, self.quota);
        Ok(DiskUsage { used: used.iter().sum(), allowed })
    }

    async fn versions(&self, tenant: &TenantId, name: &AgentName) -> Result<Vec<Digest>, StoreError> {
        let sql = "select digest from agents where tenant = ? and name = ? order by pushed";
        let values = params![tenant.as_str(), name.as_str()];
        self.readers.point("catalog.versions", |db| all(db, sql, values, |row| Ok(Digest(row.get(0)?))))
    }

    async fn component_in_use(&self, digest: &Digest) -> Result<bool, StoreError> {
        let sql = "select exists (select 1 from agents where digest = ?)";
        let found = self.readers.point("catalog.component-in-use", |db| Ok(found(db, sql, params![&digest.0[..]])?))?;
        Ok(found == Some(1))
    }
}

fn read_grants(row: &Row<'_>, first: usize) -> Result<Grants, Error> {
    let carry: String = row.get(first + 1)?;
    let carry = carry.parse().map_err(|_| wrong("a rule for grants"))?;
    Ok(Grants { capabilities: from_json(row.get(first)?)?, carry })
}

fn read_tenant(row: &Row<'_>) -> Result<Tenant, Error> {
    Ok(Tenant { name: parsed(row.get(0)?)?, created_at: stamp(row.get(1)?) })
}

fn read_key(row: &Row<'_>) -> Result<Key, Error> {
    let role: String = row.get(2)?;
    let time = |value: Option<i64>| value.map(stamp);
    Ok(Key {
        id: parsed(row.get(0)?)?,
        tenant: tenant(row.get(1)?)?,
        role: serde_json::from_value::<Role>(role.into()).map_err(|_| wrong("a key's role"))?,
        hash: row.get(3)?,
        created_at: stamp(row.get(4)?),
        expires_at: time(row.get(5)?),
        revoked_at: time(row.get(6)?),
    })
}

fn read_agent(row: &Row<'_>) -> Result<Agent, Error> {
    Ok(Agent {
        name: parsed(row.get(0)?)?,
        digest: Digest(row.get(1)?),
        manifest: from_json(row.get(2)?)?,
        exports: from_json(row.get(3)?)?,
        size: number(row.get(4)?),
        pushed_at: stamp(row.get(5)?),
    })
}

fn read_workflow(row: &Row<'_>) -> Result<StoredWorkflow, Error> {
    Ok(StoredWorkflow {
        name: parsed(row.get(0)?)?,
        source: row.get(1)?,
        digest: Digest(row.get(2)?),
        updated_at: stamp(row.get(3)?),
    })
}
