//! A run's journal with what came before it: of one that was forked the journals of those it comes from, each up to where the next
//! one left it.
//!
//! Invariant: whoever folds a run reads it here. A journal is only added to, so what a run was forked from stays as it was.

use ltmc_journal::History;
use ltmc_model::journal::{Event, Forked, Placed};
use ltmc_model::{RunId, Seq, TenantId};
use ltmc_ports::{Kind, ReadJournal, StoreError};

/// Entries read at once.
const PAGE: u32 = 512;
/// The number of an entry that no journal has.
pub(crate) const TO_THE_END: Seq = Seq(u64::MAX);

/// What comes next.
pub(crate) enum Told {
    /// An entry of this run's journal.
    Entry(RunId, Box<Placed>),
    /// Another run goes on from here.
    BranchesOff,
}

/// Reads a run's journal up to an entry, with all that came before it. `bytes`: about so many are in memory at once.
pub(crate) async fn each(
    read: &dyn ReadJournal,
    tenant: &TenantId,
    run: RunId,
    until: Seq,
    bytes: Option<usize>,
    each: &mut (dyn FnMut(Told) + Send),
) -> Result<(), StoreError> {
    let pages = Pages { read, tenant, bytes };
    let mut runs = vec![(run, until)];
    let mut first = pages.after(run, Seq(0), until).await?;
    while let Some(forked) = forked(&first) {
        if runs.len() > Forked::MOST {
            let why = format!("run {run} was forked more often than a run can be");
            return Err(StoreError::new(Kind::Corrupt, "run.lineage").because(why));
        }
        runs.push((forked.of, forked.at));
        first = pages.after(forked.of, Seq(0), forked.at).await?;
    }
    let mut first = Some(first);
    while let Some((run, until)) = runs.pop() {
        let mut after = Seq(0);
        loop {
            let entries = match first.take() {
                Some(first) => first,
                None => pages.after(run, after, until).await?,
            };
            let count = entries.len();
            let Some(last) = entries.last() else { break };
            after = last.seq;
            entries.into_iter().for_each(|placed| each(Told::Entry(run, Box::new(placed))));
            // Fewer than were asked for are the last ones, where they are not bounded otherwise.
            if bytes.is_none() && count < PAGE as usize {
                break;
            }
        }
        if !runs.is_empty() {
            each(Told::BranchesOff);
        }
    }
    Ok(())
}

/// Folds a run's journal up to an entry.
pub(crate) async fn fold(
    read: &dyn ReadJournal,
    tenant: &TenantId,
    run: RunId,
    until: Seq,
    mut history: History,
) -> Result<History, StoreError> {
    let mut fold = |told: Told| match told {
        Told::Entry(_, placed) => history.apply(&placed),
        Told::BranchesOff => history.branch_off(),
    };
    each(read, tenant, run, until, None, &mut fold).await?;
    Ok(history)
}

/// Reads a run's own journal from after an entry up to another one.
pub(crate) async fn own(
    read: &dyn ReadJournal,
    tenant: &TenantId,
    run: RunId,
    (mut after, until): (Seq, Seq),
    each: &mut (dyn FnMut(Placed) + Send),
) -> Result<(), StoreError> {
    let pages = Pages { read, tenant, bytes: None };
    loop {
        let entries = pages.after(run, after, until).await?;
        let count = entries.len();
        let Some(last) = entries.last() else { return Ok(()) };
        after = last.seq;
        entries.into_iter().for_each(&mut *each);
        if count < PAGE as usize {
            return Ok(());
        }
    }
}

struct Pages<'a> {
    read: &'a dyn ReadJournal,
    tenant: &'a TenantId,
    bytes: Option<usize>,
}

impl Pages<'_> {
    async fn after(&self, run: RunId, after: Seq, until: Seq) -> Result<Vec<Placed>, StoreError> {
        let left = u32::try_from(until.0.saturating_sub(after.0)).unwrap_or(PAGE).min(PAGE);
        match self.bytes {
            _ if left == 0 => Ok(Vec::new()),
            Some(bytes) => self.read.page(self.tenant, run, after, left, bytes).await,
            None => self.read.entries(self.tenant, run, after, left).await,
        }
    }
}

fn forked(page: &[Placed]) -> Option<Forked> {
    match &page.first()?.entry.event {
        Event::RunStarted(started) => started.forked,
        _ => None,
    }
}
