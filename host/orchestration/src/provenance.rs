//! Where things come from: what depends on a step, and which runs a version of an agent had a part in.
//!
//! Invariants: answered by the graph's database once that has what is on disk now; in its place, and said to be, by the journals. What
//! is told of a run besides is the record's.

use std::sync::Arc;

use ltmc_journal::FromJournals;
use ltmc_model::agent::AgentRef;
use ltmc_model::caller::Caller;
use ltmc_model::journal::Event;
use ltmc_model::provenance::{self, Dependent, DependentsOf, RunsOf};
use ltmc_model::run::Run;
use ltmc_model::{AgentName, Digest, RunId, Seq, StepPath, TenantId};
use ltmc_policy::Action;
use ltmc_ports::{Durability, ReadJournal, ReadProvenance, StoreError};
use ltmc_projections::Follower;
use ltmc_tenancy::Error;
use serde::Serialize;

use crate::plan::Plan;
use crate::runs::{Runs, may_see};

/// A database that follows runs, and who leads it.
pub type Graph = (Arc<dyn ReadProvenance>, Arc<Follower>);

/// Who is asked.
pub(crate) struct Provenance {
    journals: FromJournals,
    database: Option<Graph>,
}

/// A step that depends on another one, as people look at it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DependentView {
    /// The step.
    pub step: StepPath,
    /// What its document calls it.
    pub name: Option<String>,
    /// How many steps away: 1 where it works on what the step itself gave.
    pub distance: u32,
    /// The steps, or other nodes, whose outputs it works on, of those by which it depends on the step.
    pub needs: Vec<StepPath>,
    /// Who does it.
    pub agent: Option<AgentName>,
    /// The version of the agent, by its component's digest.
    pub version: Option<Digest>,
    /// The run that it began, where it is a node that begins one.
    pub began: Option<RunId>,
}

/// A page of what depends on a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DependentsPage {
    /// The step, or another node.
    pub step: StepPath,
    /// The nearest first.
    pub items: Vec<DependentView>,
    /// How many there are in all; at most [`provenance::MAX_DEPENDENTS`].
    pub count: usize,
    /// Whether there are more.
    pub cut: bool,
    /// Whether the journals answered in the place of a graph database.
    #[serde(skip)]
    pub degraded: bool,
}

/// A page of runs that an agent had a part in.
#[derive(Debug)]
pub struct UsedPage {
    /// The newest first, each with the versions that did anything of it.
    pub runs: Vec<(Run, Vec<Digest>)>,
    /// Before which run to look on; none: that was all.
    pub next: Option<RunId>,
    /// Whether the journals answered in the place of a graph database.
    pub degraded: bool,
}

impl Provenance {
    pub(crate) fn new(read: Arc<dyn ReadJournal>, database: Option<Graph>) -> Self {
        Self { journals: FromJournals::new(read), database }
    }

    /// What the database answers, once it has what was written before; where there is none, or it does not, what the journals do. And
    /// whether they stood in for it.
    async fn ask<'a, T, F>(
        &'a self,
        what: &'static str,
        ask: impl Fn(&'a dyn ReadProvenance) -> F,
    ) -> Result<(T, bool), StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        if let Some((database, follower)) = &self.database
            && follower.caught_up().await
        {
            match ask(database.as_ref()).await {
                Ok(found) => return Ok((found, false)),
                Err(error) => {
                    metrics::counter!("ltmc_degraded_reads_total", "call" => what).increment(1);
                    tracing::warn!(%error, source = ?error.source, "the journals answer in the place of the graph's database");
                }
            }
        }
        Ok((ask(&self.journals).await?, self.database.is_some()))
    }
}

impl Runs {
    /// What depends on a step of a run, over `depth` steps at most: `limit` of it, after the first `skip`.
    ///
    /// # Errors
    /// Where the run, or the step, is not there.
    pub async fn dependents(
        &self,
        caller: &Caller,
        run: RunId,
        step: &str,
        depth: u32,
        (skip, limit): (usize, usize),
    ) -> Result<DependentsPage, Error> {
        let inner = &self.inner;
        inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        if !(1..=provenance::MAX_DEPTH).contains(&depth) {
            let message = format!("`depth` is 1 to {}, not {depth}", provenance::MAX_DEPTH);
            return Err(Error::invalid("bad-query", "depth", message));
        }
        self.settle(&caller.tenant, run, Durability::Barrier).await?;
        self.seen(caller, run).await?;
        let plan = self.plan_of(&caller.tenant, run).await?;
        let wrong = |why: String| Error::invalid("bad-query", "step", why);
        let step = plan.meant(step).map_err(wrong)?;
        if plan.find(&step).is_err() {
            return Err(wrong(format!("there is nothing at {step} in this run")));
        }
        let of = DependentsOf { run, step: step.clone(), depth };
        let asked = inner.provenance.ask("run.dependents", |who| who.dependents(&caller.tenant, &of)).await;
        let (found, degraded) = asked?;
        let view = |Dependent { step, distance, needs, agent, version, began }: Dependent| {
            let name = plan.node(&step).ok().and_then(|(node, _)| node.id.as_ref().map(ToString::to_string));
            DependentView { step, name, distance, needs, agent, version, began }
        };
        let count = found.found.len();
        let items = found.found.into_iter().skip(skip).take(limit).map(view).collect();
        Ok(DependentsPage { step, items, count, cut: found.cut, degraded })
    }

    /// Runs that an agent had a part in, in one version or in any, the newest first; of a key of the role `caller` its own.
    ///
    /// # Errors
    /// Where the agent is not there and never had a part in any; the record's.
    pub async fn runs_of(
        &self,
        caller: &Caller,
        agent: &AgentRef,
        before: Option<RunId>,
        limit: u32,
    ) -> Result<UsedPage, Error> {
        let inner = &self.inner;
        inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        let of = RunsOf { agent: agent.name.clone(), version: agent.digest, before, limit };
        let asked = inner.provenance.ask("agent.runs", |who| who.runs_of(&caller.tenant, &of)).await;
        let (page, degraded) = asked?;
        let is_nothing = before.is_none() && page.runs.is_empty() && page.next.is_none();
        if is_nothing && inner.ports.authority.agent(&caller.tenant, agent).await?.is_none() {
            return Err(Error::not_found(format!("agent `{agent}`, and it had no part in any run")));
        }
        let mut runs = Vec::with_capacity(page.runs.len());
        for part in page.runs {
            let row = inner.ports.read.run(&caller.tenant, part.run).await?;
            runs.extend(row.filter(|row| may_see(caller, &row.by)).map(|row| (row, part.versions)));
        }
        Ok(UsedPage { runs, next: page.next, degraded })
    }

    /// What a run does, as its journal pins it.
    async fn plan_of(&self, tenant: &TenantId, run: RunId) -> Result<Arc<Plan>, Error> {
        let first = self.inner.ports.read.entries(tenant, run, Seq(0), 1).await?;
        let started = first.into_iter().find_map(|placed| match placed.entry.event {
            Event::RunStarted(started) => Some(started),
            _ => None,
        });
        let started = started.ok_or_else(|| Error::not_found(format!("run `{run}`")))?;
        // bound: threads beside
        let plan = tokio::task::spawn_blocking(move || Plan::pinned(&started)).await;
        let plan = plan.map_err(|e| Error::Internal { message: e.to_string() })?;
        plan.map(Arc::new).map_err(|failure| Error::Internal { message: failure.to_string() })
    }
}
