//! The rows of the journal, of runs, chains and idempotency keys.

use ltmc_model::chain::Chain;
use ltmc_model::run::{Run, Trial};
use ltmc_model::{RunId, Seq, TenantId, Timestamp};
use ltmc_ports::journal::IdempotencyKey;
use rusqlite::{Connection, Error, params};

use crate::bind::{blob, execute, int, state_number, target_text, time, trial_number};

/// A run's entries `from` the first to the last, as frames; `place` is where the first stands in the tenant's chain.
pub(crate) fn journal(
    db: &Connection,
    tenant: &TenantId,
    run: RunId,
    (first, last): (Seq, Seq),
    place: u64,
    frames: &[u8],
) -> Result<(), Error> {
    let sql = "insert into journal (tenant, run, first, last, place, frames) values (?, ?, ?, ?, ?, ?)";
    execute(db, sql, params![tenant.as_str(), blob(run), int(first.0), int(last.0), int(place), frames])
}

/// The end of a tenant's chain, and what its journals take.
pub(crate) fn chain(db: &Connection, tenant: &TenantId, chain: &Chain, bytes: u64) -> Result<(), Error> {
    let sql = "insert into chains (tenant, length, head, bytes) values (?, ?, ?, ?) \
               on conflict (tenant) do update set length = excluded.length, head = excluded.head, bytes = excluded.bytes";
    execute(db, sql, params![tenant.as_str(), int(chain.length), &chain.head.0[..], int(bytes)])
}

/// A run's row.
pub(crate) fn run(db: &Connection, run: &Run) -> Result<(), Error> {
    let sql = "insert into runs (tenant, id, target, name, state, session, by_key, created_at, updated_at, epoch, seq, \
               wakes_at, taken_up, parent, turn) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
               on conflict (tenant, id) do update set state = excluded.state, updated_at = excluded.updated_at, \
               epoch = excluded.epoch, seq = excluded.seq, wakes_at = excluded.wakes_at, \
               taken_up = case excluded.taken_up when 0 then 0 else taken_up end";
    let (target, name) = target_text(&run.target);
    let (created, updated) = (time(run.created_at), time(run.updated_at));
    let (state, epoch, seq) = (state_number(run.state), int(run.epoch.0), int(run.seq.0));
    let (wakes_at, parent) = (run.wakes_at.map(time), run.parent.map(blob));
    // That it got on is all that an append says of it.
    let taken_up = i64::from(run.taken_up.times);
    let (tenant, id, session, by) = (run.tenant.as_str(), blob(run.id), run.session.as_str(), run.by.as_str());
    execute(
        db,
        sql,
        params![
            tenant, id, target, name, state, session, by, created, updated, epoch, seq, wakes_at, taken_up, parent,
            run.turn
        ],
    )
}

/// Now that a run is over, the one that began it and those that it began are due, where they are suspended.
pub(crate) fn wake(db: &Connection, over: &Run) -> Result<(), Error> {
    let (tenant, run, at) = (over.tenant.as_str(), blob(over.id), time(over.updated_at));
    // By itself SQLite goes through all that is suspended.
    let children =
        "update runs indexed by runs_children set wakes_at = ?3 where tenant = ?1 and parent = ?2 and wakes_at > ?3";
    execute(db, children, params![tenant, run, at])?;
    let Some(parent) = over.parent.map(blob) else { return Ok(()) };
    let parents = "update runs set wakes_at = ?3 where tenant = ?1 and id = ?2 and wakes_at > ?3";
    execute(db, parents, params![tenant, parent, at])
}

/// How runs that are not over were taken up.
pub(crate) fn take_up(db: &Connection, runs: &[(TenantId, RunId)], more: i32, trial: Trial) -> Result<(), Error> {
    let sql = "update runs set taken_up = max(taken_up + ?, 0), trial = ? where tenant = ? and id = ? and state < 3";
    let (more, trial) = (i64::from(more), trial_number(trial));
    runs.iter().try_for_each(|(tenant, run)| execute(db, sql, params![more, trial, tenant.as_str(), blob(*run)]))
}

/// Forgets how runs were taken up.
pub(crate) fn forget_take_ups(db: &Connection) -> Result<(), Error> {
    execute(db, "update runs set taken_up = 0, trial = 0 where taken_up > 0 and state < 3", [])
}

/// An idempotency key; one that has expired makes room.
pub(crate) fn idempotency(
    db: &Connection,
    tenant: &TenantId,
    key: &IdempotencyKey,
    now: Timestamp,
) -> Result<(), Error> {
    let sql = "delete from idempotency where tenant = ? and key = ? and expires_at <= ?";
    execute(db, sql, params![tenant.as_str(), key.key, time(now)])?;
    let sql = "insert into idempotency (tenant, key, request, run, expires_at) values (?, ?, ?, ?, ?)";
    let (request, run, expires) = (&key.request.0[..], blob(key.run), time(key.expires_at));
    execute(db, sql, params![tenant.as_str(), key.key, request, run, expires])
}

/// Throws away idempotency keys that have expired by `now`; at most so many.
pub(crate) fn forget_idempotency(db: &Connection, now: Timestamp, most: usize) -> Result<(), Error> {
    let sql = "delete from idempotency where (tenant, key) in \
               (select tenant, key from idempotency where expires_at <= ? limit ?)";
    execute(db, sql, params![time(now), int(most as u64)])
}

/// Something to write, for a commit that has nothing else and is to be synced.
pub(crate) fn touch(db: &Connection) -> Result<(), Error> {
    execute(db, "update meta set value = value + 1 where key = 'barrier'", [])
}
