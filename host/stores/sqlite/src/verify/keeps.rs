//! What keys of sessions' memory held before turns, made anew from what the chain commits to, and held against what is kept of them. The chain
//! has hashes alone, so that is what is compared.

use std::collections::{HashMap, HashSet};

use ltmc_model::commitment::{self, Place};
use ltmc_model::memory::Drawer;
use ltmc_model::{Digest, Revision, SessionId, TenantId, Timestamp};
use ltmc_ports::journal::{Audit, Damage};
use rusqlite::{Connection, Row, params};

use super::MOST_ROWS;
use super::context::Changed;
use super::replayed::Replayed;
use crate::bind::{all, execute, number, parsed, stamp, tenant as tenant_of, time};
use crate::deltas::By;
use crate::error::Error;
use crate::sessions;

/// Keys of sessions' memory that there are, or were before turns.
#[derive(Default)]
pub(super) struct Keeps {
    keys: HashMap<(TenantId, Place), (SessionId, String)>,
    /// What such a key held at any time that comes to its end by itself, which no entry says.
    ended: HashSet<(TenantId, Place, Digest)>,
    /// Tenants whose chains commit to all that they changed.
    said: HashSet<TenantId>,
}

/// What was kept: of which session's key, before the turn that began so.
type At = (TenantId, SessionId, i64, String);

impl Keeps {
    pub(super) fn read(snapshot: &Connection) -> Result<Self, Error> {
        let sql = "select tenant, owner, key from memory where scope = 1 union select tenant, session, key from session_keeps";
        let read = |row: &Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?));
        let mut keeps = Self::default();
        for (of, session, key) in all(snapshot, sql, [], read)? {
            // What does not read back is told where its table is compared.
            if let (Ok(of), Ok(session)) = (tenant_of(of), parsed::<SessionId>(session)) {
                let place = place(&session, &key);
                keeps.keys.insert((of, place), (session, key));
            }
        }
        Ok(keeps)
    }

    /// A tenant's chain commits to all that it changed.
    pub(super) fn is_said_by(&mut self, tenant: TenantId) {
        self.said.insert(tenant);
    }

    /// Something changed in shared context.
    pub(super) fn saw(
        &mut self,
        replayed: &Replayed,
        tenant: &TenantId,
        by: By,
        Changed { place, before, after }: Changed,
    ) -> Result<(), Error> {
        let Some((session, key)) = self.keys.get(&(tenant.clone(), place)) else { return Ok(()) };
        if let Some(after) = after.filter(|after| after.ends_at.is_some()) {
            self.ended.insert((tenant.clone(), place, after.content));
        }
        let Some(began) = sessions::kept_for(&replayed.db, tenant.as_str(), session, by)? else { return Ok(()) };
        let sql = "insert or ignore into session_keeps (tenant, session, began, key, value, expires_at) values (?, ?, ?, ?, ?, ?)";
        let (content, ends_at) = before.map(|before| (before.content.0, before.ends_at.map(time))).unzip();
        let values = params![tenant.as_str(), session.as_str(), began, key, content, ends_at.flatten()];
        Ok(execute(&replayed.db, sql, values)?)
    }

    /// Holds what is kept against what was made anew.
    pub(super) fn compare(&self, snapshot: &Connection, replayed: &Replayed, audit: &mut Audit) -> Result<(), Error> {
        let sql = "select tenant, session, began, key, value, expires_at, revision from session_keeps";
        let there = all(snapshot, sql, [], |row| {
            let (at, ends_at, revision) = (at(row)?, row.get::<_, Option<i64>>(5)?, row.get::<_, Option<i64>>(6)?);
            let ends_at = ends_at.map(stamp);
            let value = row.get_ref(4)?.as_blob_or_null().unwrap_or_default();
            let hash = |value| commitment::memory(Revision(revision.map_or(0, number)), ends_at, value);
            Ok((at, Held { content: value.map(hash), ends_at }))
        })?;
        let sql = "select tenant, session, began, key, value, expires_at from session_keeps";
        let said = all(&replayed.db, sql, [], |row| {
            let content = row.get::<_, Option<[u8; 32]>>(4)?.map(Digest);
            Ok((at(row)?, Held { content, ends_at: row.get::<_, Option<i64>>(5)?.map(stamp) }))
        })?;
        let mut said: HashMap<At, Held> = said.into_iter().collect();
        let mut wrong = Vec::new();
        for (at, held) in there {
            let is_right = match said.remove(&at) {
                Some(said) => held.content == said.content || (held.content.is_none() && said.ends_at.is_some()),
                // One that came to its end changed by that, which no entry says.
                None => held.ends_at.is_some() && held.content.is_some_and(|content| self.has_ended(&at, content)),
            };
            if !is_right {
                wrong.push((at, "is not what the chain commits to"));
            }
        }
        wrong.extend(said.into_keys().map(|at| (at, "is missing")));
        wrong.retain(|((tenant, ..), _)| self.said.contains(tenant));
        wrong.sort_unstable();
        for ((tenant, session, began, key), what) in wrong.into_iter().take(MOST_ROWS) {
            let what = format!("in `session_keeps`, what `{key}` of {session} held before {began} {what}");
            audit.damage.push(Damage { tenant: Some(tenant), run: None, seq: None, what });
        }
        Ok(())
    }

    /// Whether a key held this, which comes to its end by itself.
    fn has_ended(&self, (tenant, session, _, key): &At, content: Digest) -> bool {
        self.ended.contains(&(tenant.clone(), place(session, key), content))
    }
}

/// What a key held: by its hash, and until when.
struct Held {
    content: Option<Digest>,
    ends_at: Option<Timestamp>,
}

fn at(row: &Row<'_>) -> Result<At, Error> {
    Ok((tenant_of(row.get(0)?)?, parsed(row.get(1)?)?, row.get(2)?, row.get(3)?))
}

fn place(session: &SessionId, key: &str) -> Place {
    commitment::memory_place(&Drawer::Session(session.clone()), key)
}
