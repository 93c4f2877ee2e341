//! Rows of runs against their journals.

use ltmc_model::RunId;
use ltmc_model::chain::Link;
use ltmc_model::journal::{Entry, Event};
use ltmc_model::run::State;
use ltmc_ports::journal::{Audit, Damage};
use rusqlite::{Connection, Row, params};

use super::{Deleted, MOST_ROWS};
use crate::bind::{all, blob, number, run_id, state_of, target_text, tenant};
use crate::error::Error;
use crate::frames;
use crate::purge::DELETED;

/// Each run's row against the end of its journal.
pub(super) fn compare(snapshot: &Connection, deleted: &Deleted, audit: &mut Audit) -> Result<(), Error> {
    let sql = format!(
        "select r.tenant, r.id, r.seq, j.last from runs r left join \
         (select tenant, run, max(last) as last from journal group by tenant, run) j \
         on j.tenant = r.tenant and j.run = r.id where j.last is not r.seq and r.tenant not in {DELETED} limit ?"
    );
    let read = |row: &Row<'_>| Ok((tenant(row.get(0)?)?, run_id(row.get(1)?), number(row.get(2)?), row.get(3)?));
    for (tenant, run, seq, last) in all(snapshot, &sql, [MOST_ROWS as i64], read)? {
        let last: Option<i64> = last;
        let what = format!("the run's row says {seq} entries, its journal has {}", last.unwrap_or(0));
        audit.damage.push(Damage { tenant: Some(tenant), run: Some(run), seq: None, what });
    }
    let sql = format!(
        "select j.tenant, j.run from (select distinct tenant, run from journal) j left join runs r \
         on r.tenant = j.tenant and r.id = j.run where r.id is null and j.run <> ? and j.tenant not in {DELETED} limit ?"
    );
    let ledger = RunId::ledger();
    let read = |row: &Row<'_>| Ok((tenant(row.get(0)?)?, run_id(row.get(1)?)));
    for (tenant, run) in all(snapshot, &sql, params![&ledger.0.as_bytes()[..], MOST_ROWS as i64], read)? {
        let what = "the run has a journal and no row".to_owned();
        audit.damage.push(Damage { tenant: Some(tenant), run: Some(run), seq: None, what });
    }
    let sql = "select tenant, id, session, by_key, state, target, name, parent, \
               (select frames from journal j where j.tenant = r.tenant and j.run = r.id order by first limit 1), \
               (select frames from journal j where j.tenant = r.tenant and j.run = r.id order by first desc limit 1), \
               turn from runs r";
    let mut statement = snapshot.prepare(sql)?;
    let (mut rows, mut told) = (statement.query([])?, 0);
    while let Some(row) = rows.next()?
        && told < MOST_ROWS
    {
        if deleted.left.contains(row.get_ref(0)?.as_str().unwrap_or_default()) {
            continue;
        }
        let entries = |column| Ok::<_, Error>(row.get_ref(column)?.as_blob_or_null().ok().flatten().unwrap_or(&[]));
        let Some(what) = differs(row, entries(8)?, entries(9)?)? else { continue };
        told += 1;
        audit.damage.push(Damage {
            tenant: Some(tenant(row.get(0)?)?),
            run: Some(run_id(row.get(1)?)),
            seq: None,
            what,
        });
    }
    Ok(())
}

/// What of a run's row is not as its journal's first and last entries have it.
fn differs(row: &Row<'_>, first: &[u8], last: &[u8]) -> Result<Option<String>, Error> {
    let entry = |frame: Option<Result<(Link, &[u8]), frames::Cut>>| {
        let (_, bytes) = frame?.ok()?;
        Entry::from_bytes(bytes).ok()
    };
    let (session, by): (String, String) = (row.get(2)?, row.get(3)?);
    let (target, name): (String, String) = (row.get(5)?, row.get(6)?);
    if let Some(Entry { event: Event::RunStarted(started), .. }) = entry(frames::read(first).next()) {
        let turn: Option<u32> = row.get(10)?;
        if turn != started.turn.map(|place| place.number) {
            return Ok(Some("the run's row says that it is another turn than its journal".to_owned()));
        }
        let (of, key) = (&started.session, &started.by);
        if of.as_str() != session || key.as_str() != by {
            return Ok(Some(format!("the run's row says session {session} of key {by}, its journal {of} of {key}")));
        }
        let (parent, began) =
            (row.get::<_, Option<Vec<u8>>>(7)?, started.parent.as_ref().map(|parent| blob(parent.run)));
        if parent != began {
            return Ok(Some("the run's row says that another run began it than its journal".to_owned()));
        }
        let (runs, called) = target_text(&started.target);
        if (&runs, &called) != (&target, &name) {
            return Ok(Some(format!(
                "the run's row says `{target}` by the name `{name}`, its journal `{runs}`, `{called}`"
            )));
        }
    }
    let Some(Entry { event, .. }) = entry(frames::read(last).last()) else { return Ok(None) };
    let ended = match event {
        Event::RunCompleted { .. } => Some(State::Completed),
        Event::RunFailed { .. } => Some(State::Failed),
        Event::RunCancelled { .. } => Some(State::Cancelled),
        Event::RunQuarantined { .. } => Some(State::Quarantined),
        Event::RunPaused { .. } => Some(State::Paused),
        Event::RunStuck { .. } => Some(State::Stuck),
        _ => None,
    };
    let state = state_of(row.get(4)?)?;
    if state.is_over().then_some(state) == ended {
        return Ok(None);
    }
    let journals = ended.map_or("not over", State::as_str);
    Ok(Some(format!("the run's row says {}, its journal {journals}", state.as_str())))
}
