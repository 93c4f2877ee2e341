//! What is kept of runs' states against the entries that commit to it.

use ltmc_model::journal::{Entry, Event};
use ltmc_model::{Digest, RunId, Seq, TenantId};
use ltmc_ports::journal::{Audit, Damage};
use rusqlite::Connection;

use super::{Deleted, MOST_ROWS};
use crate::bind::{number, run_id, tenant};
use crate::error::{Error, wrong};
use crate::journal::{Most, stretch};

/// Each of them. One that is not there is no damage: the run is then taken up from its journal.
pub(super) fn compare(snapshot: &Connection, deleted: &Deleted, audit: &mut Audit) -> Result<(), Error> {
    let mut statement = snapshot.prepare("select tenant, run, at, state from snapshots order by tenant, run, at")?;
    let (mut rows, mut told) = (statement.query([])?, 0);
    while let Some(row) = rows.next()?
        && told < MOST_ROWS
    {
        if deleted.left.contains(row.get_ref(0)?.as_str().unwrap_or_default()) {
            continue;
        }
        let (of, run, at) = (tenant(row.get(0)?)?, run_id(row.get(1)?), Seq(number(row.get(2)?)));
        let state = row.get_ref(3)?.as_blob().map_err(|_| wrong("a run's state"))?;
        if committed(snapshot, &of, run, at)? == Some((Digest::of(state), state.len() as u64)) {
            continue;
        }
        told += 1;
        let what = "what is kept of the run's state as of this entry is not what the entry commits to".to_owned();
        audit.damage.push(Damage { tenant: Some(of), run: Some(run), seq: Some(at), what });
    }
    Ok(())
}

/// What an entry commits to of a run's state.
fn committed(db: &Connection, tenant: &TenantId, run: RunId, at: Seq) -> Result<Option<(Digest, u64)>, Error> {
    let mut found = Vec::new();
    stretch(db, tenant, run, Seq(at.0.saturating_sub(1)), Most { entries: 1, bytes: 0 }, &mut found)?;
    Ok(found.into_iter().find(|placed| placed.seq == at).and_then(|placed| match placed.entry {
        Entry { event: Event::Sealed { digest, bytes, .. }, .. } => Some((digest, bytes)),
        _ => None,
    }))
}
