//! Runs that are quarantined, counted for the operator: by the log at a start, and by a metric from then on.

use std::sync::Arc;
use std::time::Duration;

use ltmc_ports::{Record, StoreError};

/// How often they are counted.
const EVERY: Duration = Duration::from_secs(60);
/// Tenants that are looked up at once.
const PAGE: u32 = 100;

/// Counts them until it is dropped.
pub(crate) async fn count(record: Arc<dyn Record>) {
    let mut is_start = true;
    loop {
        match count_once(&*record, is_start).await {
            Ok(runs) => {
                metrics::gauge!("ltmc_runs", "state" => "quarantined").set(runs as f64);
                is_start = false;
            }
            Err(error) => tracing::warn!(%error, "quarantined runs could not be counted; trying again"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// How many there are in all; at a start the log says whose.
async fn count_once(record: &dyn Record, is_start: bool) -> Result<u64, StoreError> {
    let (mut all, mut after) = (0, None);
    loop {
        let page = record.tenants(after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = Some(last.name.clone());
        for tenant in page {
            let runs = record.quarantined(&tenant.name).await?;
            all += runs;
            if is_start && runs > 0 {
                tracing::warn!(
                    tenant = %tenant.name,
                    runs,
                    "runs are quarantined, for a host died of them: `ltmc runs list --state quarantined` with a key of the tenant lists them"
                );
            }
        }
    }
}
