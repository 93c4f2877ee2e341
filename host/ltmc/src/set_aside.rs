//! Runs that wait for people, counted for the operator: by the log at a start, and by a metric from then on.

use std::sync::Arc;
use std::time::Duration;

use ltmc_model::run::State;
use ltmc_ports::{Record, StoreError};

/// How often they are counted.
const EVERY: Duration = Duration::from_secs(60);
/// Tenants that are looked up at once.
const PAGE: u32 = 100;
/// The states in which runs wait for people, and why they do.
const STATES: [(State, &str); 3] = [
    (State::Quarantined, "a host died of them"),
    (State::Stuck, "what undoes their work has failed"),
    (State::Paused, "somebody paused them, or something failed that is to wait for people"),
];

/// Counts them until it is dropped.
pub(crate) async fn count(record: Arc<dyn Record>) {
    let mut is_start = true;
    loop {
        match count_once(&*record, is_start).await {
            Ok(counts) => {
                for ((state, _), runs) in STATES.into_iter().zip(counts) {
                    metrics::gauge!("ltmc_runs", "state" => state.as_str()).set(runs as f64);
                }
                is_start = false;
            }
            Err(error) => tracing::warn!(%error, "runs that wait for people could not be counted; trying again"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// How many there are in all, state by state; at a start the log says whose.
async fn count_once(record: &dyn Record, is_start: bool) -> Result<[u64; STATES.len()], StoreError> {
    let (mut all, mut after) = ([0; STATES.len()], None);
    loop {
        let page = record.tenants(after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = Some(last.name.clone());
        for tenant in page {
            for ((state, why), all) in STATES.into_iter().zip(&mut all) {
                let runs = record.set_aside(&tenant.name, state).await?;
                *all += runs;
                if is_start && runs > 0 {
                    let (tenant, state) = (&tenant.name, state.as_str());
                    tracing::warn!(
                        %tenant,
                        runs,
                        "runs are {state}, for {why}: `ltmc runs list --state {state}` with a key of the tenant lists them"
                    );
                }
            }
        }
    }
}
