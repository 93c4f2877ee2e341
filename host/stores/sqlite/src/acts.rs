//! What an act makes true of the catalog, besides its entry in the ledger.

use ltmc_model::agent::{Agent, Carry, Grants, VERSIONS_WITH_GRANTS};
use ltmc_model::journal::{Act, Change};
use ltmc_model::tenancy::Key;
use ltmc_model::{Capability, Digest, TenantId, Timestamp};
use ltmc_ports::schedules::Paused;
use rusqlite::{Connection, params};

use crate::bind::{execute, int, json, time};
use crate::{schedules, sessions, triggers};

/// Makes it true, within the transaction that is open.
#[expect(clippy::too_many_lines, reason = "a table: an arm for each kind of act")]
pub(crate) fn perform(db: &Connection, tenant: &TenantId, at: Timestamp, act: &Act) -> Result<(), rusqlite::Error> {
    let tenant = tenant.as_str();
    match &act.change {
        Change::TenantCreated(new) => {
            let sql = "insert into tenants (name, created_at) values (?, ?)";
            execute(db, sql, params![new.name.as_str(), time(new.created_at)])?;
        }
        Change::TenantDeleted { tenant } => delete_tenant(db, tenant, at)?,
        Change::TenantGone { head } => {
            execute(db, "delete from chains where tenant = ?", [head.tenant.as_str()])?;
            execute(db, "delete from tenants where name = ?", [head.tenant.as_str()])?;
        }
        Change::CeilingSet { tenant, ceiling } => {
            let sql = "insert into ceilings (tenant, ceiling) values (?, ?) \
                       on conflict (tenant) do update set ceiling = excluded.ceiling";
            execute(db, sql, params![tenant.as_str(), json(ceiling)])?;
        }
        Change::KeyCreated(key) => add_key(db, key)?,
        Change::KeyRevoked { key, at } => {
            let sql =
                "update keys set revoked_at = coalesce(revoked_at, ?1) where id = ?2 and (tenant = ?3 or ?3 = '_host')";
            execute(db, sql, params![time(*at), key.as_str(), tenant])?;
        }
        Change::AgentPushed(agent) => push(db, tenant, agent)?,
        Change::AgentUpgraded { agent, grants_of } => {
            push(db, tenant, agent)?;
            take_over(db, tenant, agent, grants_of)?;
        }
        Change::AgentDeleted { name } => {
            execute(db, "delete from agents where tenant = ? and name = ?", params![tenant, name.as_str()])?;
            execute(db, "delete from grants where tenant = ? and agent = ?", params![tenant, name.as_str()])?;
            triggers::forget_agent(db, tenant, name)?;
        }
        Change::GrantsSet { agent, grants, digest, carry } => {
            grant(db, tenant, (agent.as_str(), digest.as_ref()), grants, carry.unwrap_or_default())?;
        }
        Change::GrantRevoked { agent, grant } => {
            for_each_version(db, tenant, agent.as_str(), |held| held.capabilities.retain(|held| held != grant))?;
        }
        Change::WorkflowPut { name, source, digest, schedules, triggers } => {
            let sql = "insert into workflows (tenant, name, source, digest, updated_at) values (?, ?, ?, ?, ?) \
                       on conflict (tenant, name) do update set source = excluded.source, digest = excluded.digest, \
                       updated_at = excluded.updated_at";
            execute(db, sql, params![tenant, name.as_str(), source, &digest.0[..], time(at)])?;
            schedules::plan(db, tenant, name, schedules, act.by.as_ref())?;
            triggers::plan(db, tenant, name, triggers, act.by.as_ref())?;
        }
        Change::WorkflowDeleted { name } => {
            execute(db, "delete from workflows where tenant = ? and name = ?", params![tenant, name.as_str()])?;
            schedules::plan(db, tenant, name, &[], None)?;
            triggers::plan(db, tenant, name, &[], None)?;
        }
        Change::SchedulePaused { workflow, number, digest, why } => {
            let paused = Paused { at, by: act.by.clone(), why: why.clone() };
            schedules::pause(db, tenant, (workflow, *number, digest), &paused)?;
        }
        Change::ScheduleContinued { workflow, number, digest, next } => {
            schedules::go_on(db, tenant, (workflow, *number, digest), *next, act.by.as_ref())?;
        }
        Change::SubscriptionPut { id, planted } => triggers::put(db, tenant, id, planted, act.by.as_ref())?,
        Change::SubscriptionDeleted { id } => triggers::delete(db, tenant, id.as_str())?,
        Change::SubscriptionPaused { id, why } => {
            let paused = Paused { at, by: act.by.clone(), why: why.clone() };
            triggers::pause(db, tenant, id, &paused)?;
        }
        Change::SubscriptionContinued { id } => triggers::go_on(db, tenant, id, act.by.as_ref())?,
        Change::SubscriptionReplayed { id, after, force } => triggers::replay(db, tenant, id, *after, *force)?,
        Change::DeadEventSettled { id, position, verdict } => triggers::settle(db, tenant, id, *position, *verdict)?,
        Change::SessionOpened { id, settings, fork } => {
            sessions::open(db, tenant, id, act.by.as_ref(), at, (settings, fork.as_deref()))?;
        }
        Change::SessionRewound { id, began, holder, .. } => {
            sessions::rewind(db, tenant, id, *began, holder.as_deref())?
        }
        Change::SessionClosed { id, expired, now, why: _ } => sessions::close(db, tenant, id, (*expired, *now), at)?,
        Change::SessionForgotten { id, memory: Some(memory), archive, keys: _ } => {
            sessions::settle(db, tenant, id, *memory, archive.as_deref())?;
        }
        Change::SessionForgotten { memory: None, .. } => {}
        Change::SessionPart { session, key, part } => sessions::take_part(db, tenant, session, key, *part)?,
        Change::SessionHandedOver { session, to, .. } => sessions::hand_over(db, tenant, session, to, at)?,
        Change::TurnLost { session, number, run, .. } => sessions::lose(db, tenant, session, (*number, *run), at)?,
        Change::StateLapsed { .. } | Change::Context { .. } | Change::Refused { .. } | Change::Accessed { .. } => {}
    }
    Ok(())
}

/// All that lets anybody in, or anything run, goes at once.
fn delete_tenant(db: &Connection, tenant: &TenantId, at: Timestamp) -> Result<(), rusqlite::Error> {
    let sql = "update tenants set deleted_at = coalesce(deleted_at, ?1) where name = ?2";
    execute(db, sql, params![time(at), tenant.as_str()])?;
    for table in crate::purge::AT_ONCE {
        execute(db, &format!("delete from {table} where tenant = ?"), [tenant.as_str()])?;
    }
    Ok(())
}

fn add_key(db: &Connection, key: &Key) -> Result<(), rusqlite::Error> {
    let sql = "insert into keys (id, tenant, role, hash, created_at, expires_at, revoked_at) \
               values (?, ?, ?, ?, ?, ?, ?)";
    let (created, expires, revoked) = (time(key.created_at), key.expires_at.map(time), key.revoked_at.map(time));
    let (id, of, role) = (key.id.as_str(), key.tenant.as_str(), key.role.to_string());
    execute(db, sql, params![id, of, role, &key.hash[..], created, expires, revoked])?;
    Ok(())
}

/// Sets what a version of an agent is granted; of none that is named the newest, and older ones keep what is covered by it.
fn grant(
    db: &Connection,
    tenant: &str,
    (agent, digest): (&str, Option<&Digest>),
    grants: &[Capability],
    carry: Carry,
) -> Result<(), rusqlite::Error> {
    if digest.is_none() {
        for_each_version(db, tenant, agent, |held| held.cut_to(grants))?;
    }
    let sql = "insert into grants (tenant, agent, digest, grants, carry) \
               select tenant, name, digest, ?4, ?5 from agents where tenant = ?1 and name = ?2 and \
               digest = coalesce(?3, (select digest from agents where tenant = ?1 and name = ?2 \
               order by pushed desc limit 1)) \
               on conflict (tenant, agent, digest) do update set grants = excluded.grants, carry = excluded.carry";
    let version = digest.map(|digest| &digest.0[..]);
    execute(db, sql, params![tenant, agent, version, json(&grants), carry.as_str()])
}

/// The newest version of its name.
fn push(db: &Connection, tenant: &str, agent: &Agent) -> Result<(), rusqlite::Error> {
    let sql = "insert into agents (tenant, name, digest, pushed, manifest, exports, size, pushed_at) \
               values (?1, ?2, ?3, 1 + coalesce((select max(pushed) from agents where tenant = ?1 and name = ?2), 0), \
               ?4, ?5, ?6, ?7) \
               on conflict (tenant, name, digest) do update set pushed = excluded.pushed, \
               manifest = excluded.manifest, exports = excluded.exports, size = excluded.size, \
               pushed_at = excluded.pushed_at";
    let (manifest, exports) = (json(&agent.manifest), json(&agent.exports));
    let (size, pushed) = (int(agent.size), time(agent.pushed_at));
    let values = params![tenant, agent.name.as_str(), &agent.digest.0[..], manifest, exports, size, pushed];
    execute(db, sql, values)?;
    // Whatever changes the grants of all versions does so in the writer's transaction: there are never many.
    let sql = "delete from grants where tenant = ?1 and agent = ?2 and digest not in \
               (select digest from agents where tenant = ?1 and name = ?2 order by pushed desc limit ?3)";
    execute(db, sql, params![tenant, agent.name.as_str(), VERSIONS_WITH_GRANTS as i64])?;
    Ok(())
}

/// A version of an agent has what another one was granted.
fn take_over(db: &Connection, tenant: &str, agent: &Agent, grants_of: &Digest) -> Result<(), rusqlite::Error> {
    let sql = "insert into grants (tenant, agent, digest, grants, carry) \
               select tenant, agent, ?3, grants, carry from grants where tenant = ?1 and agent = ?2 and digest = ?4 \
               on conflict (tenant, agent, digest) do update set grants = excluded.grants, carry = excluded.carry";
    execute(db, sql, params![tenant, agent.name.as_str(), &agent.digest.0[..], &grants_of.0[..]])
}

/// Changes what each version of an agent was granted.
fn for_each_version(
    db: &Connection,
    tenant: &str,
    agent: &str,
    change: impl Fn(&mut Grants),
) -> Result<(), rusqlite::Error> {
    let sql = "select digest, grants from grants where tenant = ? and agent = ? and grants <> '[]'";
    let versions = db
        .prepare_cached(sql)?
        .query_map(params![tenant, agent], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(Vec<u8>, String)>, _>>()?;
    for (digest, text) in versions {
        // What does not parse grants nothing.
        let capabilities: Vec<Capability> = serde_json::from_str(&text).unwrap_or_default();
        let before = capabilities.len();
        // The rule stays as it is.
        let mut held = Grants { capabilities, ..Grants::default() };
        change(&mut held);
        if held.capabilities.len() == before {
            continue;
        }
        let sql = "update grants set grants = ? where tenant = ? and agent = ? and digest = ?";
        execute(db, sql, params![json(&held.capabilities), tenant, agent, digest])?;
    }
    Ok(())
}
