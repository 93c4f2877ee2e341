//! What is counted of runs' states that are written beside their journals.

use ltmc_ports::metered::Family;
use metrics::{Counter, counter};

/// By what became of each; whoever reads them counts that by the same name.
pub(crate) static SEALED: Family<Counter, 1> =
    Family::new(|[outcome]| counter!("ltmc_snapshots_total", "outcome" => outcome));
