//! Where things come from, found in the journals themselves: where no graph database follows them, or in its place.
//!
//! Invariants: it answers as a graph does that was told the same. Bounded: of a run so many entries are read, and for a page of runs so
//! many of them are looked through; where that is not enough the page says where to look on.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use ltmc_model::delta::StepMark;
use ltmc_model::journal::{Event, Forked};
use ltmc_model::provenance::{Dependents, DependentsOf, Made, PartIn, RunsOf, RunsPage, dependents};
use ltmc_model::{Digest, RunId, Seq, StepPath, TenantId};
use ltmc_ports::journal::RunFilter;
use ltmc_ports::marks::Marks;
use ltmc_ports::{Kind, ReadJournal, ReadProvenance, StoreError};

/// Entries read at once, and about how many bytes of them.
const PAGE: u32 = 512;
const PAGE_BYTES: usize = 1 << 20;
/// How many entries of a run, and of those it was forked from, are looked at.
const MAX_ENTRIES: u64 = 200_000;
/// For a page of runs so many are looked through at most, and so many entries of theirs.
const MAX_RUNS: usize = 500;
const MAX_ENTRIES_OF_RUNS: u64 = 50_000;

/// Answers from the journals.
pub struct FromJournals {
    read: Arc<dyn ReadJournal>,
}

impl FromJournals {
    /// Of these journals.
    pub fn new(read: Arc<dyn ReadJournal>) -> Self {
        Self { read }
    }

    /// Tells what a run's journal says of its steps, up to an entry. How many entries were read; at most `most`.
    async fn each(
        &self,
        tenant: &TenantId,
        (run, until): (RunId, Seq),
        most: u64,
        each: &mut (dyn FnMut(StepMark) + Send),
    ) -> Result<(u64, Option<Forked>), StoreError> {
        let (mut marks, mut after, mut forked, mut count) = (Marks::default(), Seq(0), None, 0);
        while after < until && count < most {
            let limit = u32::try_from(until.0 - after.0).unwrap_or(PAGE).min(PAGE);
            let page = self.read.page(tenant, run, after, limit, PAGE_BYTES).await?;
            let Some(last) = page.last() else { break };
            after = last.seq;
            count += page.len() as u64;
            for placed in page {
                if let Event::RunStarted(started) = &placed.entry.event {
                    forked = started.forked;
                }
                marks.take(placed.seq, &placed.entry);
            }
            marks.steps().for_each(&mut *each);
        }
        Ok((count, forked))
    }

    /// The versions of an agent that did a step of a run, and how many entries that took to find.
    async fn versions(&self, tenant: &TenantId, of: &RunsOf, run: RunId) -> Result<(Vec<Digest>, u64), StoreError> {
        let mut versions = Vec::new();
        let mut each = |mark: StepMark| {
            if let (Some(agent), Some(version)) = (&mark.agent, mark.version)
                && *agent == of.agent
                && !versions.contains(&version)
            {
                versions.push(version);
            }
        };
        let (count, _) = self.each(tenant, (run, Seq(u64::MAX)), MAX_ENTRIES_OF_RUNS, &mut each).await?;
        versions.sort_unstable();
        Ok((versions, count))
    }
}

#[async_trait]
impl ReadProvenance for FromJournals {
    async fn dependents(&self, tenant: &TenantId, of: &DependentsOf) -> Result<Dependents, StoreError> {
        let mut made: BTreeMap<StepPath, Made> = BTreeMap::new();
        let (mut next, mut left) = (Some(Forked { of: of.run, at: Seq(u64::MAX) }), MAX_ENTRIES);
        // From the run itself back to those it was forked from: what is newer is known by then.
        for forks in 0.. {
            let Some(Forked { of: run, at }) = next else { break };
            if forks > Forked::MOST {
                return Err(too_long(of.run));
            }
            let mut own: BTreeMap<StepPath, Made> = BTreeMap::new();
            let mut each = |mark: StepMark| add(&mut own, mark);
            let (count, forked) = self.each(tenant, (run, at), left, &mut each).await?;
            left = left.checked_sub(count).filter(|left| *left > 0).ok_or_else(|| too_long(of.run))?;
            next = forked;
            for (path, older) in own {
                made.entry(path).or_default().with_older(older);
            }
        }
        Ok(dependents(&made, &of.step, of.depth))
    }

    async fn runs_of(&self, tenant: &TenantId, of: &RunsOf) -> Result<RunsPage, StoreError> {
        let (mut page, mut before, mut looked, mut entries) = (RunsPage::default(), of.before, 0, 0);
        loop {
            let filter = RunFilter { before, limit: PAGE.min(100), ..RunFilter::default() };
            let runs = self.read.runs(tenant, &filter).await?;
            if runs.is_empty() {
                return Ok(page);
            }
            for run in runs {
                if page.runs.len() >= of.limit as usize || looked >= MAX_RUNS || entries >= MAX_ENTRIES_OF_RUNS {
                    page.next = before;
                    return Ok(page);
                }
                let (versions, count) = self.versions(tenant, of, run.id).await?;
                (before, looked, entries) = (Some(run.id), looked + 1, entries + count);
                if of.version.map_or(!versions.is_empty(), |wanted| versions.contains(&wanted)) {
                    page.runs.push(PartIn { run: run.id, versions });
                }
            }
        }
    }
}

fn too_long(run: RunId) -> StoreError {
    let why = format!(
        "run {run} has more than {MAX_ENTRIES} entries, or was forked more than {} times: a graph database that follows this host \
         answers for it (graph.url)",
        Forked::MOST
    );
    StoreError::new(Kind::TooCostly, "run.dependents").because(why)
}

/// What a mark says of a step.
fn add(made: &mut BTreeMap<StepPath, Made>, mark: StepMark) {
    if mark.agent.is_none() && mark.began.is_none() && mark.needs.is_empty() {
        return;
    }
    let step = made.entry(mark.step).or_default();
    step.needs.extend(mark.needs);
    step.agent = mark.agent.or(step.agent.take());
    step.version = mark.version.or(step.version.take());
    step.began = mark.began.map(|(run, _)| run).or(step.began.take());
}

impl std::fmt::Debug for FromJournals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FromJournals").finish_non_exhaustive()
    }
}
