//! Where a run stands, for whoever goes on with it: from what is sealed of its journal, and the entries since.
//!
//! Invariant: what is sealed is taken only where its entry commits to it in this version's form; otherwise the one before it is looked
//! at, and then the journal is folded from its start. What comes out is the same either way.

use ltmc_crossing::BegunAt;
use ltmc_journal::History;
use ltmc_journal::sealed::Unfit;
use ltmc_model::{RunId, Seq, StepPath, TenantId};
use ltmc_ports::journal::Snapshot;
use ltmc_ports::{ReadJournal, StoreError};

use crate::{lineage, metered};

/// Where a run stands as of entry `until`, with the effects of its open attempts that are not sealed.
pub(crate) async fn history(
    read: &dyn ReadJournal,
    tenant: &TenantId,
    run: RunId,
    until: Seq,
) -> Result<History, StoreError> {
    let history = newest(read, tenant, run, until).await?;
    if !history.is_cut() {
        return Ok(history);
    }
    // Somebody changed a round of a loop that was over long before.
    let whole = lineage::fold(read, tenant, run, until, History::for_replay()).await?;
    Ok(whole.forgetting())
}

async fn newest(read: &dyn ReadJournal, tenant: &TenantId, run: RunId, until: Seq) -> Result<History, StoreError> {
    let mut latest = until;
    while let Some(snapshot) = read.snapshot(tenant, run, latest).await? {
        let at = snapshot.at;
        match since(read, tenant, run, until, &snapshot).await? {
            Ok(history) => {
                metered::SNAPSHOTS.of(["read"]).increment(1);
                return Ok(history);
            }
            Err(why) if why.is_damage() => {
                metered::SNAPSHOTS.of(["damaged"]).increment(1);
                tracing::error!(%tenant, %run, entry = at.0, %why, "what is kept of a run's state is damaged; it is left aside");
            }
            Err(why) => {
                metered::SNAPSHOTS.of(["other-form"]).increment(1);
                tracing::info!(%tenant, %run, entry = at.0, %why, "what is kept of a run's state is left aside");
            }
        }
        let Some(before) = at.0.checked_sub(1) else { break };
        latest = Seq(before);
    }
    lineage::fold(read, tenant, run, until, History::for_replay().forgetting()).await
}

/// Where a run stands, with all its rounds, for whoever changes something in it.
pub(crate) async fn to_be_changed(
    read: &dyn ReadJournal,
    tenant: &TenantId,
    run: RunId,
    until: Seq,
) -> Result<History, StoreError> {
    lineage::fold(read, tenant, run, until, History::for_replay().for_changes()).await
}

/// Where a run stands, from a snapshot and the entries after it; the inner error: why the snapshot is of no use.
async fn since(
    read: &dyn ReadJournal,
    tenant: &TenantId,
    run: RunId,
    until: Seq,
    snapshot: &Snapshot,
) -> Result<Result<History, Unfit>, StoreError> {
    let before = Seq(snapshot.at.0.saturating_sub(1));
    let mut found = Err(Unfit::NotCommitted);
    let mut fold = |placed: ltmc_model::journal::Placed| {
        if placed.seq == snapshot.at {
            found = History::unsealed_from(&snapshot.bytes, &placed.entry.event, &History::for_replay().forgetting());
        }
        if let Ok(history) = &mut found {
            history.apply(&placed);
        }
    };
    lineage::own(read, tenant, run, (before, until), &mut fold).await?;
    Ok(found)
}

/// From where the open attempt of a step goes on, with the effects up to there: read from where they begin, `began`, where that is in the
/// run's own journal and nothing else comes of it than the run knows.
pub(crate) async fn begun_at(
    read: &dyn ReadJournal,
    tenant: &TenantId,
    run: RunId,
    step: &StepPath,
    known: &BegunAt,
    began: Option<Seq>,
) -> Result<BegunAt, StoreError> {
    if let Some(began) = began {
        let mut history = History::for_replay();
        let before = Seq(began.0.saturating_sub(1));
        lineage::own(read, tenant, run, (before, lineage::TO_THE_END), &mut |placed| history.apply(&placed)).await?;
        let found = BegunAt::of(&mut history, step);
        if found.checkpoint == known.checkpoint && found.replay.len() == found.checkpoint.effects as usize {
            return Ok(found);
        }
    }
    let mut whole = lineage::fold(read, tenant, run, lineage::TO_THE_END, History::for_replay()).await?;
    Ok(BegunAt::of(&mut whole, step))
}
