//! The walk along every tenant's chain: each entry's bytes are hashed anew and held against the hash that stands with
//! them, and the last one against the chain's end. It sees the record as it was when the walk began, so that a host may go
//! on writing beside it.

use ltmc_model::chain::{Chain, Link};
use ltmc_model::{Digest, Seq, TenantId};
use ltmc_ports::journal::{Audit, Damage};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Row as _};

use crate::bind::int;
use crate::frames;
use crate::journal::{fixed, number, tenant, uuid};

/// Rows read at once.
const ROWS: u32 = 256;

/// On a connection of its own, which is not used for anything else: it is left in the middle of its transaction.
pub(crate) async fn walk(mut snapshot: SqliteConnection) -> Result<Audit, sqlx::Error> {
    // One transaction of reads is one snapshot.
    sqlx::query("begin").execute(&mut snapshot).await?;
    let mut audit = Audit { verified: 0, damage: Vec::new() };
    // Also tenants whose end is gone while their entries are there, and the other way round.
    let sql = "select tenant from chains union select distinct tenant from journal order by 1";
    for row in sqlx::query(sql).fetch_all(&mut snapshot).await? {
        let name: String = row.try_get(0)?;
        match tenant(name.clone()) {
            Ok(tenant) => chain(&mut snapshot, &tenant, &mut audit).await?,
            Err(_) => {
                let what = format!("`{}` is no tenant's name", name.chars().take(80).collect::<String>());
                audit.damage.push(Damage { tenant: TenantId::host(), run: None, seq: None, what });
            }
        }
    }
    snapshot.close().await?;
    Ok(audit)
}

async fn chain(snapshot: &mut SqliteConnection, tenant: &TenantId, audit: &mut Audit) -> Result<(), sqlx::Error> {
    let mut chain = Chain::default();
    let damage = |run, seq, what: &str| Damage { tenant: tenant.clone(), run, seq, what: what.to_owned() };
    loop {
        let sql =
            "select run, first, last, place, frames from journal where tenant = ? and place > ? order by place limit ?";
        let query = sqlx::query(sql).bind(tenant.as_str()).bind(int(chain.length)).bind(i64::from(ROWS));
        let rows = query.fetch_all(&mut *snapshot).await?;
        let count = rows.len();
        for row in rows {
            let run = match uuid(row.try_get(0)?) {
                Ok(run) => run,
                Err(_) => {
                    audit.damage.push(damage(None, None, "a run's id is not as it was"));
                    return Ok(());
                }
            };
            let (first, last, place) = (number(row.try_get(1)?), number(row.try_get(2)?), number(row.try_get(3)?));
            let mut seq = Seq(first);
            if place != chain.length + 1 {
                audit.damage.push(damage(Some(run), Some(seq), "entries before this one are missing"));
                return Ok(());
            }
            let kept: Vec<u8> = row.try_get(4)?;
            for frame in frames::read(&kept) {
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
        if count < ROWS as usize {
            break;
        }
    }
    let row = sqlx::query("select length, head from chains where tenant = ?").bind(tenant.as_str());
    let end = match row.fetch_optional(snapshot).await? {
        Some(row) => Some(Chain { length: number(row.try_get(0)?), head: Link(fixed(row.try_get(1)?)?) }),
        None => None,
    };
    if end != Some(chain) {
        audit.damage.push(damage(None, None, "the chain does not end where it should: its last entries are missing"));
    }
    Ok(())
}
