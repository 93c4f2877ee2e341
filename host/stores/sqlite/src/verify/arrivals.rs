//! Events that subscriptions took in: what they are against what was published, and how far they are against the journals of the runs that they
//! started.

use std::collections::HashSet;

use ltmc_model::journal::{Entry, Event, RunStarted};
use ltmc_model::run::State;
use ltmc_model::trigger::Stage;
use ltmc_model::{Digest, TenantId, commitment};
use ltmc_ports::journal::{Audit, Damage};
use rusqlite::{Connection, Row};

use super::{Deleted, MOST_ROWS};
use crate::bind::{all, number, run_id, state_of, tenant};
use crate::error::Error;
use crate::frames;
use crate::mail::event;

/// Those of a tenant's that are none of these: by their subscription and place.
pub(super) fn unknown(
    snapshot: &Connection,
    tenant: &TenantId,
    published: &HashSet<Digest>,
) -> Result<Vec<(String, u64)>, Error> {
    let sql = "select a.trigger_id, a.position, t.topic, a.event from arrivals a join triggers t \
               on t.tenant = a.tenant and t.id = a.trigger_id where a.tenant = ?";
    let rows = all(snapshot, sql, [tenant.as_str()], |row| {
        let topic: String = row.get(2)?;
        let content = commitment::event(&topic, row.get_ref(3)?.as_blob().unwrap_or_default());
        Ok((published.contains(&content), (row.get(0)?, number(row.get(1)?))))
    })?;
    Ok(rows.into_iter().filter_map(|(is_known, place)| (!is_known).then_some(place)).collect())
}

/// Each against the run that it started, and its key against itself.
pub(super) fn compare(snapshot: &Connection, deleted: &Deleted, audit: &mut Audit) -> Result<(), Error> {
    let sql = "select a.tenant, a.trigger_id, a.position, a.key, a.stage, a.run, a.event, r.state, \
               (select frames from journal j where j.tenant = a.tenant and j.run = a.run and j.first = 1), t.id is not null, \
               e.event is null or e.event = a.event \
               from arrivals a left join runs r on r.tenant = a.tenant and r.id = a.run \
               left join triggers t on t.tenant = a.tenant and t.id = a.trigger_id \
               left join events e on e.tenant = a.tenant and e.topic = t.topic and e.position = a.position";
    let mut statement = snapshot.prepare(sql)?;
    let (mut rows, mut told) = (statement.query([])?, 0);
    while let Some(row) = rows.next()?
        && told < MOST_ROWS
    {
        if deleted.left.contains(row.get_ref(0)?.as_str().unwrap_or_default()) {
            continue;
        }
        let Some(what) = differs(row)? else { continue };
        told += 1;
        let what =
            format!("in `arrivals`, what `{}` took in at {} {what}", row.get::<_, String>(1)?, number(row.get(2)?));
        let run = row.get::<_, Option<[u8; 16]>>(5)?.map(run_id);
        audit.damage.push(Damage { tenant: Some(tenant(row.get(0)?)?), run, seq: None, what });
    }
    Ok(())
}

/// What of a row is not as it should be.
fn differs(row: &Row<'_>) -> Result<Option<&'static str>, Error> {
    let (subscription, position): (String, u64) = (row.get(1)?, number(row.get(2)?));
    let Ok(event) = event(row, 6) else { return Ok(Some("does not read back")) };
    if event.key() != row.get::<_, String>(3)? {
        return Ok(Some("has another key than its event"));
    }
    if !row.get::<_, bool>(9)? {
        return Ok(Some("is of a subscription that is not there"));
    }
    if !row.get::<_, bool>(10)? {
        return Ok(Some("is another event than was published there"));
    }
    let stage = usize::try_from(row.get::<_, i64>(4)?).ok().and_then(|number| Stage::ALL.get(number).copied());
    let state = row.get::<_, Option<i64>>(7)?.map(state_of).transpose()?;
    let frames = row.get_ref(8)?.as_blob_or_null().ok().flatten().unwrap_or_default();
    let first = frames::read(frames).next().and_then(Result::ok).and_then(|(_, bytes)| Entry::from_bytes(bytes).ok());
    let is_its = |started: &RunStarted| {
        let arrived = started.follows.as_ref().and_then(|follows| follows.arrived.as_ref());
        arrived.is_some_and(|arrived| arrived.subscription.as_str() == subscription && arrived.position.0 == position)
    };
    let has_started = matches!(first, Some(Entry { event: Event::RunStarted(started), .. }) if is_its(&started));
    let has_run = row.get_ref(5)?.as_blob_or_null().ok().flatten().is_some();
    let is_final = state.is_some_and(State::is_final);
    Ok(match stage {
        None => Some("stands nowhere"),
        Some(_) if has_run && !has_started => Some("did not start the run that it names"),
        Some(Stage::Waiting) if has_run => Some("waits, and names a run"),
        Some(Stage::Waiting) => None,
        Some(Stage::UnderWay) if !has_run || is_final => Some("is under way, and its run is not"),
        // The run of a dead letter may have been resumed.
        Some(Stage::UnderWay | Stage::Parked | Stage::Dead) => None,
    })
}
