//! Timers of agents' states: rows that follow what is kept of the states, within its transaction; and read.

use async_trait::async_trait;
use ltmc_model::delta::MemoryChange;
use ltmc_model::state::Timer;
use ltmc_model::{TenantId, Timestamp};
use ltmc_ports::{ReadStates, StoreError, states};
use rusqlite::{Connection, params};

use crate::Record;
use crate::bind::{all, execute, one, parsed, stamp, tenant as tenant_of, time};
use crate::error::Error;
use crate::purge::DELETED;

#[async_trait]
impl ReadStates for Record {
    async fn coming_states(
        &self,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<(TenantId, Timestamp)>, StoreError> {
        let after = after.map_or("", TenantId::as_str);
        self.readers.point("states.coming", |db| coming(db, after, limit))
    }

    async fn due_states(
        &self,
        tenant: &TenantId,
        now: Timestamp,
        after: Option<&Timer>,
        limit: u32,
    ) -> Result<Vec<Timer>, StoreError> {
        let sql = format!(
            "select due_at, agent, key from state_timers indexed by state_timers_coming where tenant = ? and due_at <= ? \
             and (due_at, agent, key) > (?, ?, ?) and tenant not in {DELETED} order by due_at, agent, key limit ?"
        );
        let (at, agent, key) =
            after.map_or((-1, "", ""), |timer| (time(timer.at), timer.agent.as_str(), timer.key.as_str()));
        let values = params![tenant.as_str(), time(now), at, agent, key, limit];
        self.readers.point("states.due", |db| {
            all(db, &sql, values, |row| {
                Ok(Timer { at: stamp(row.get(0)?), agent: parsed(row.get(1)?)?, key: row.get(2)? })
            })
        })
    }
}

/// From one tenant's first to the next one's, by the index: those between are not looked at.
fn coming(db: &Connection, after: &str, limit: u32) -> Result<Vec<(TenantId, Timestamp)>, Error> {
    let sql = format!(
        "select tenant, due_at from state_timers indexed by state_timers_coming where tenant > ? and tenant not in {DELETED} \
         order by tenant, due_at limit 1"
    );
    let (mut found, mut after) = (Vec::new(), after.to_owned());
    while found.len() < limit as usize {
        let first = one(db, &sql, [&after], |row| Ok((tenant_of(row.get(0)?)?, stamp(row.get(1)?))))?;
        let Some(first) = first else { break };
        after = first.0.to_string();
        found.push(first);
    }
    Ok(found)
}

/// Has a timer follow what is kept of a state.
pub(crate) fn follow(db: &Connection, tenant: &str, change: &MemoryChange) -> Result<(), rusqlite::Error> {
    let Some((agent, due)) = states::timer(change) else { return Ok(()) };
    let (agent, key) = (agent.as_str(), change.key.as_str());
    match due {
        Some(due) => {
            let sql = "insert into state_timers (tenant, agent, key, due_at) values (?, ?, ?, ?) \
                       on conflict (tenant, agent, key) do update set due_at = excluded.due_at";
            execute(db, sql, params![tenant, agent, key, time(due)])
        }
        None => {
            let sql = "delete from state_timers where tenant = ? and agent = ? and key = ?";
            execute(db, sql, params![tenant, agent, key])
        }
    }
}
