//! `--full`: real Neo4j and Redis behind the host, and what they hold at the end.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use ltmc_test_servers::{Neo4j, Redis};
use serde_json::Value;

use crate::process::Host;
use crate::steps::{Steps, say};

/// Steps of this part.
pub(super) const STEPS: usize = 2;
/// How long the databases may take to be told everything.
const PATIENCE: Duration = Duration::from_secs(120);

/// Both servers. They end with this, and with this process.
pub(super) struct Databases {
    // First, so that the servers are gone before their directory is.
    servers: ltmc_test_servers::Databases,
    _dir: Directory,
}

/// A directory that goes with this value.
struct Directory(std::path::PathBuf);

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Databases {
    /// Starts them with their data in `dir`.
    pub(super) fn start(dir: &Path) -> anyhow::Result<Self> {
        let guard = Directory(dir.to_owned());
        let redis = Redis::start(&dir.join("redis"))?;
        say(format!("  Redis answers on {}", redis.url()));
        say(format!("  Neo4j {} starts; the first time on a machine it is fetched", ltmc_test_servers::neo4j::VERSION));
        let neo4j = Neo4j::start(&dir.join("neo4j"))?;
        say(format!("  Neo4j answers on {}", neo4j.url()));
        Ok(Self { servers: ltmc_test_servers::Databases { neo4j, redis }, _dir: guard })
    }

    /// The lines that have a host use them.
    pub(super) fn config(&self) -> String {
        self.servers.config()
    }

    /// Shows that they hold what the record holds.
    pub(super) fn show(&self, steps: &mut Steps, host: &Host) -> anyhow::Result<()> {
        let outcome = steps.step("What the databases hold", || settled(host))?;
        for report in outcome["reports"].as_array().into_iter().flatten() {
            let text = |field: &str| report[field].as_str().unwrap_or_default();
            let (database, topic, tenant) = (text("database"), text("topic"), text("tenant"));
            say(format!(
                "  {database:<8} {topic:<12} {:>6} items of tenant {tenant}, as in the record",
                report["compared"]
            ));
        }
        // It also says what is to be said of this machine, which is no part of the demonstration.
        let _ = host.ltmc(&["doctor"]).status().context("starting `ltmc doctor`")?;
        Ok(())
    }
}

/// Waits until every database holds what the record holds; the comparison that found it.
fn settled(host: &Host) -> anyhow::Result<Value> {
    let begun = Instant::now();
    let mut said = String::new();
    loop {
        let mut command = host.ltmc(&["repair", "--check", "--json"]);
        let output = command.stderr(Stdio::piped()).output().context("starting `ltmc repair --check`")?;
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).context("`ltmc repair --json` printed something else");
        }
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if begun.elapsed() > PATIENCE {
            bail!("the databases do not hold what the record holds:\n{why}");
        }
        if why != said {
            say(format!("  not yet: {}", why.lines().next().unwrap_or_default()));
            said = why;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}
