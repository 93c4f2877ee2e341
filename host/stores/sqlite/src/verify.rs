//! The walk along every tenant's chain: each entry's bytes are hashed anew and held against the hash that stands with
//! them, and the last one against the chain's end. It sees the record as it was when the walk began, so that a host may go
//! on writing beside it.

use ltmc_model::chain::{Chain, Link};
use ltmc_model::{Digest, Seq, TenantId};
use ltmc_ports::journal::{Audit, Damage};
use rusqlite::{Connection, Row, params};

use crate::bind::{all, number, one, run_id, tenant};
use crate::error::{Error, wrong};
use crate::frames;

/// On a connection of its own.
pub(crate) fn walk(db: &Connection) -> Result<Audit, Error> {
    // One transaction of reads is one snapshot.
    let snapshot = db.unchecked_transaction()?;
    let mut audit = Audit { verified: 0, damage: Vec::new() };
    // Also tenants whose end is gone while their entries are there, and the other way round.
    let sql = "select tenant from chains union select distinct tenant from journal order by 1";
    for name in all(&snapshot, sql, [], |row| Ok(row.get::<_, String>(0)?))? {
        match tenant(name.clone()) {
            Ok(tenant) => chain(&snapshot, &tenant, &mut audit)?,
            Err(_) => {
                let what = format!("`{}` is no tenant's name", name.chars().take(80).collect::<String>());
                audit.damage.push(Damage { tenant: TenantId::host(), run: None, seq: None, what });
            }
        }
    }
    Ok(audit)
}

fn chain(snapshot: &Connection, tenant: &TenantId, audit: &mut Audit) -> Result<(), Error> {
    let mut chain = Chain::default();
    let damage = |run, seq, what: &str| Damage { tenant: tenant.clone(), run, seq, what: what.to_owned() };
    let sql = "select run, first, last, place, frames from journal where tenant = ? order by place";
    let mut statement = snapshot.prepare(sql)?;
    let mut rows = statement.query([tenant.as_str()])?;
    while let Some(row) = rows.next()? {
        let Ok(run) = row.get(0).map(run_id) else {
            audit.damage.push(damage(None, None, "a run's id is not as it was"));
            return Ok(());
        };
        let (first, last, place) = (number(row.get(1)?), number(row.get(2)?), number(row.get(3)?));
        let mut seq = Seq(first);
        if place != chain.length + 1 {
            audit.damage.push(damage(Some(run), Some(seq), "entries before this one are missing"));
            return Ok(());
        }
        for frame in frames::read(row.get_ref(4)?.as_blob().map_err(|_| wrong("a run's entries"))?) {
            let Ok((link, bytes)) = frame else {
                audit.damage.push(damage(Some(run), Some(seq), "the entry does not end where it should"));
                return Ok(());
            };
            if chain.link(tenant, run, seq, &Digest::of(bytes)) != link {
                audit.damage.push(damage(Some(run), Some(seq), "the entry, or its hash, is not as it was"));
                return Ok(());
            }
            audit.verified += 1;
            seq = seq.next();
        }
        if seq.0 != last + 1 {
            audit.damage.push(damage(Some(run), Some(seq), "the entry is missing"));
            return Ok(());
        }
    }
    let sql = "select length, head from chains where tenant = ?";
    let read = |row: &Row<'_>| Ok(Chain { length: number(row.get(0)?), head: Link(row.get(1)?) });
    let end = one(snapshot, sql, params![tenant.as_str()], read)?;
    if end != Some(chain) {
        audit.damage.push(damage(None, None, "the chain does not end where it should: its last entries are missing"));
    }
    Ok(())
}
