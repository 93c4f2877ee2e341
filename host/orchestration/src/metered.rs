//! What runs are counted by.

use std::sync::LazyLock;

use ltmc_ports::metered::Family;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// Attempts, by how they ended.
pub(crate) static CALLS: Family<Counter, 1> =
    Family::new(|[outcome]| counter!("ltmc_calls_total", "outcome" => outcome));
pub(crate) static CALL_SECONDS: LazyLock<Histogram> = LazyLock::new(|| histogram!("ltmc_call_seconds"));
/// Runs, by how they ended.
pub(crate) static RUNS: Family<Counter, 1> = Family::new(|[state]| counter!("ltmc_runs_total", "state" => state));
/// How often each level that deals with failures was tried, and how often it helped.
pub(crate) static RECOVERED: Family<Counter, 2> =
    Family::new(|[level, outcome]| counter!("ltmc_recovered_total", "level" => level, "outcome" => outcome));
pub(crate) static ALIVE: LazyLock<Gauge> = LazyLock::new(|| gauge!("ltmc_runs_alive"));
/// Ticks of schedules, by what became of them.
pub(crate) static TICKS: Family<Counter, 1> =
    Family::new(|[outcome]| counter!("ltmc_schedule_ticks_total", "outcome" => outcome));
/// How long after its time a tick was started.
pub(crate) static TICKS_LATE: LazyLock<Histogram> = LazyLock::new(|| histogram!("ltmc_schedule_late_seconds"));
/// Events that subscriptions took in, by what became of them; `full`: how often one was left in its topic, for as many wait as may.
pub(crate) static EVENTS: Family<Counter, 1> =
    Family::new(|[outcome]| counter!("ltmc_subscription_events_total", "outcome" => outcome));
/// How long after its time an event started a run.
pub(crate) static EVENTS_LATE: LazyLock<Histogram> = LazyLock::new(|| histogram!("ltmc_subscription_late_seconds"));
/// How often what a run had decided on was changed by others.
pub(crate) static CONFLICTS: LazyLock<Counter> = LazyLock::new(|| counter!("ltmc_conflicts_total"));
/// States of runs that are kept beside their journals, by what became of each where it was read; whoever writes them counts on.
pub(crate) static SNAPSHOTS: Family<Counter, 1> =
    Family::new(|[outcome]| counter!("ltmc_snapshots_total", "outcome" => outcome));
