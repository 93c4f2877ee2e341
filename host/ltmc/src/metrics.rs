//! Metrics: one recorder for every crate's counters, rendered for Prometheus when asked; it has no listener of its own.
//!
//! Gauges of the process (memory, CPU time, open files) are read when somebody looks, not before.

use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Durations from half a millisecond to half a minute; half of all calls of a small agent are under 0.1 ms.
const SECONDS: &[f64] =
    &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// What `/metrics` asks.
#[derive(Clone)]
pub(crate) struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Takes every metric of this process from here on.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("seconds".into()), SECONDS)?
            .build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| anyhow::anyhow!("metrics are being recorded already"))?;
        describe();
        Ok(Self { handle })
    }

    /// The exposition in Prometheus' text form.
    pub(crate) fn render(&self) -> String {
        process();
        self.handle.render()
    }

    /// Keeps histograms that nobody reads from growing; runs for ever.
    pub(crate) async fn upkeep(self) {
        let mut every = tokio::time::interval(Duration::from_secs(5));
        loop {
            every.tick().await;
            self.handle.run_upkeep();
        }
    }
}

fn describe() {
    metrics::describe_gauge!("process_resident_memory_bytes", metrics::Unit::Bytes, "Resident memory.");
    metrics::describe_gauge!("process_cpu_seconds_total", "CPU time of the process, user and system.");
    metrics::describe_gauge!("process_open_fds", "Open file descriptors.");
    metrics::describe_gauge!("ltmc_disk_full", "Whether the disk is full: what adds anything is refused.");
    metrics::describe_counter!(
        "ltmc_disk_quota_refusals_total",
        "Writes refused because a tenant has all that it may have on disk."
    );
    metrics::describe_counter!(
        "ltmc_recall_left_out_total",
        "Notes whose vectors were not kept because their tenant has all that it may have on disk."
    );
    metrics::describe_gauge!(
        "ltmc_runs",
        "Runs in a state: quarantined, stuck or paused, until somebody goes on with them or cancels them."
    );
    metrics::describe_counter!(
        "ltmc_recovered_total",
        "What deals with failures, by level: how often it was tried, and how often it helped."
    );
    metrics::describe_gauge!("process_threads", "Threads.");
    metrics::describe_gauge!(
        "ltmc_changes_under_way",
        "Changes that clients asked for and that are not done yet, also of clients that are gone."
    );
    metrics::describe_gauge!(
        "ltmc_changes_staged_bytes",
        metrics::Unit::Bytes,
        "What attempts and transactions under way have changed of shared context, and what is not true yet."
    );
    metrics::describe_gauge!(
        "ltmc_blocked_threads",
        "Threads for agents' files that did not come back when their call ended: a file system does not answer."
    );
}

/// Reads the process's own figures from /proc; where there is none they are left out.
fn process() {
    if let Some(bytes) = resident_memory() {
        metrics::gauge!("process_resident_memory_bytes").set(bytes as f64);
    }
    let usage = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    metrics::gauge!("process_cpu_seconds_total").set(usage.tv_sec as f64 + usage.tv_nsec as f64 / 1e9);
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        metrics::gauge!("process_open_fds").set(entries.count() as f64);
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/task") {
        metrics::gauge!("process_threads").set(entries.count() as f64);
    }
}

fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}
