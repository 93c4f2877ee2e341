//! Why a run stands where it does.

use ltmc_journal::Why;
use ltmc_model::RunId;
use ltmc_model::caller::Caller;
use ltmc_policy::Action;
use ltmc_ports::Durability;
use ltmc_tenancy::Error;

use crate::runs::Runs;

impl Runs {
    /// Why a run stands where it does, what it waits for, and what can be done next.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn why(&self, caller: &Caller, run: RunId) -> Result<Why, Error> {
        self.inner.ports.authority.authorize(caller, Action::ReadRuns).await?;
        self.settle(&caller.tenant, run, Durability::Barrier).await?;
        let row = self.seen(caller, run).await?;
        Ok(Why::new(&row, &self.outline(&caller.tenant, run).await?.history))
    }
}
