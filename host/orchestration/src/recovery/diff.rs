//! Two runs beside each other.

use ltmc_journal::Diff;
use ltmc_model::RunId;
use ltmc_model::caller::Caller;
use ltmc_policy::Action;
use ltmc_ports::Durability;
use ltmc_tenancy::Error;

use crate::runs::Runs;

impl Runs {
    /// What differs between two runs, step by step: so many differences after the first `skip`.
    ///
    /// # Errors
    /// Where one of them is not there.
    pub async fn diff(&self, caller: &Caller, runs: [RunId; 2], skip: usize, limit: usize) -> Result<Diff, Error> {
        self.inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        let mut rows = Vec::with_capacity(runs.len());
        for run in runs {
            self.settle(&caller.tenant, run, Durability::Barrier).await?;
            rows.push(self.seen(caller, run).await?);
        }
        let [one, other] = runs;
        let a = self.outline(&caller.tenant, one).await?;
        let b = self.outline(&caller.tenant, other).await?;
        Ok(Diff::new((&rows[0], &a), (&rows[1], &b), skip, limit))
    }
}
