//! Runs, looked at.
//!
//! Invariant: nothing about a run is told before it is on disk.

use ltmc_journal::view::Outline;
use ltmc_journal::{Extent, RunView, Shown, Sight};
use ltmc_model::caller::{Caller, Role};
use ltmc_model::failure::Failure;
use ltmc_model::journal::{Event, RunStarted};
use ltmc_model::message::Trail;
use ltmc_model::run::Run;
use ltmc_model::session::Stage;
use ltmc_model::{Payload, RunId, Seq, SessionId, TenantId};
use ltmc_policy::Action;
use ltmc_ports::journal::RunFilter;
use ltmc_ports::{Durability, StoreError};
use ltmc_tenancy::{Error, Read};

use super::begin::named_by;
use super::{PAGE_BYTES, Runs};
use crate::lineage::{self, Told};
use crate::take_up;

impl Runs {
    /// A tenant's runs, newest first; of a key of the role `caller` its own.
    ///
    /// # Errors
    /// Where the caller's role does not allow it, or the record does not answer.
    pub async fn list(&self, caller: &Caller, mut filter: RunFilter) -> Result<Vec<Run>, Error> {
        self.inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        if caller.role == Role::Caller {
            filter.by = Some(caller.key.clone());
            let is_a_runs = |session: &SessionId| session.as_str().parse::<RunId>().is_ok();
            filter.session = match filter.session {
                Some(session) if !is_a_runs(&session) => Some(named_by(caller, session)?),
                session => session,
            };
        }
        Ok(self.inner.ports.read.runs(&caller.tenant, &filter).await?)
    }

    /// What a client's request follows from that works in this run, as the record has it.
    ///
    /// # Errors
    /// Where the run is not there, or is not for the caller to see.
    pub async fn cause(&self, caller: &Caller, run: RunId) -> Result<Option<Trail>, Error> {
        let inner = &self.inner;
        self.row_or_live(caller, run).await?;
        if let Some(live) = inner.registry.get(&caller.tenant, run) {
            return Ok(live.log().read(|history| history.trail().cloned()));
        }
        let until = lineage::TO_THE_END;
        let history = take_up::history(inner.ports.read.as_ref(), &caller.tenant, run, until).await?;
        Ok(history.trail().cloned())
    }

    /// A run, with its steps and its result.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn get(&self, caller: &Caller, run: RunId) -> Result<RunView, Error> {
        self.inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        self.settle(&caller.tenant, run, Durability::Barrier).await?;
        let row = self.seen(caller, run).await?;
        let limit = u32::try_from(RunView::CHILDREN + 1).unwrap_or(u32::MAX);
        let filter = RunFilter { parent: Some(run), limit, ..RunFilter::default() };
        let mut children = self.inner.ports.read.runs(&caller.tenant, &filter).await?;
        children.sort_by_key(|child| (child.created_at, child.id));
        Ok(RunView::new(&row, &self.outline(&caller.tenant, run).await?, &children))
    }

    /// A run's result; none: it is not over.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn output(&self, caller: &Caller, run: RunId) -> Result<Option<Result<Payload, Failure>>, Error> {
        self.inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        self.settle(&caller.tenant, run, Durability::Barrier).await?;
        self.seen(caller, run).await?;
        self.result(&caller.tenant, run).await
    }

    /// A page of a run's journal after entry `after`: at most `limit` entries and about 1 MiB, without what is large in them and
    /// what the caller may not read elsewhere; and the entry to go on after, where there are more.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn journal(
        &self,
        caller: &Caller,
        run: RunId,
        after: Seq,
        limit: u32,
    ) -> Result<(Vec<Shown>, Option<Seq>), Error> {
        self.inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        self.settle(&caller.tenant, run, Durability::Barrier).await?;
        let row = self.seen(caller, run).await?;
        let page = self.inner.ports.read.page(&caller.tenant, run, after, limit, PAGE_BYTES).await?;
        let next = page.last().map(|last| last.seq).filter(|last| *last < row.seq);
        Ok((page.into_iter().map(|placed| Shown::of(placed, sight(caller), Extent::Short)).collect(), next))
    }

    /// One entry of a run's journal, all of it that the caller may read elsewhere.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn entry(&self, caller: &Caller, run: RunId, seq: Seq) -> Result<Shown, Error> {
        self.inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        self.settle(&caller.tenant, run, Durability::Barrier).await?;
        self.seen(caller, run).await?;
        let missing = || Error::not_found(format!("entry {seq} of run `{run}`"));
        let before = Seq(seq.0.checked_sub(1).ok_or_else(missing)?);
        let found = self.inner.ports.read.entries(&caller.tenant, run, before, 1).await?;
        let placed = found.into_iter().next().ok_or_else(missing)?;
        Ok(Shown::of(placed, sight(caller), Extent::Whole))
    }

    /// How far the turn is that a run is; none: it is no turn.
    pub(crate) async fn stage(&self, row: &Run) -> Result<Option<Stage>, StoreError> {
        let Some(before) = row.turn.and_then(|turn| turn.checked_sub(1)) else { return Ok(None) };
        let found = self.inner.ports.sessions.turns(&row.tenant, &row.session, before, 1).await?;
        Ok(found.into_iter().next().map(|turn| turn.stage))
    }

    /// A run's row, and how it began.
    ///
    /// # Errors
    /// Where it is not there.
    pub(crate) async fn begun(&self, tenant: &TenantId, run: RunId) -> Result<(Run, RunStarted), Error> {
        let missing = || Error::not_found(format!("run `{run}`"));
        let row = self.inner.ports.read.run(tenant, run).await?.ok_or_else(missing)?;
        let first = self.inner.ports.read.entries(tenant, run, Seq(0), 1).await?.into_iter().next();
        match first.map(|placed| placed.entry.event) {
            Some(Event::RunStarted(started)) => Ok((row, *started)),
            _ => Err(missing()),
        }
    }

    /// A run's row for who looks at the run: the audit tells who looks at another key's.
    pub(crate) async fn seen(&self, caller: &Caller, run: RunId) -> Result<Run, Error> {
        let row = self.row(caller, run).await?;
        // Nobody waited for the disk when it was over; of one that is alive here what is so far was written just now.
        if row.parent.is_some() && self.live(&caller.tenant, run).is_none() {
            self.inner.ports.subscriptions.log().settled().await;
        }
        if row.by != caller.key {
            self.inner.ports.authority.note_read(&caller.tenant, &caller.key, Read::OthersRuns);
        }
        Ok(row)
    }

    pub(crate) async fn row(&self, caller: &Caller, run: RunId) -> Result<Run, Error> {
        let row = self.inner.ports.read.run(&caller.tenant, run).await?;
        row.filter(|row| may_see(caller, &row.by)).ok_or_else(|| Error::not_found(format!("run `{run}`")))
    }

    /// Where a run stands, for those who look at it.
    pub(crate) async fn outline(&self, tenant: &TenantId, run: RunId) -> Result<Outline, StoreError> {
        let mut outline = Outline::default();
        let mut apply = |told: Told| match told {
            Told::Entry(of, placed) => outline.apply(of, *placed),
            Told::BranchesOff => outline.history.branch_off(),
        };
        let (read, until) = (self.inner.ports.read.as_ref(), lineage::TO_THE_END);
        lineage::each(read, tenant, run, until, Some(PAGE_BYTES), &mut apply).await?;
        Ok(outline)
    }
}

/// What a caller may read besides runs.
pub(crate) fn sight(caller: &Caller) -> Sight {
    let may = |action| ltmc_policy::authorize(caller, action).is_ok();
    Sight { context: may(Action::ReadContext), definitions: may(Action::ReadDefinitions) }
}

pub(crate) fn may_see(caller: &Caller, by: &ltmc_model::KeyId) -> bool {
    caller.role != Role::Caller || *by == caller.key
}
