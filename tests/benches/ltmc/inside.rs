//! The host's inside, put together in this process as far as a benchmark needs it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use ltmc_model::journal::{RunStarted, Semantics};
use ltmc_model::run::Target;
use ltmc_model::{Digest, Payload, RunId, Timestamp};
use ltmc_ports::Clock;
use ltmc_sqlite::{OpenOptions, Record};
use ltmc_tenancy::Authority;

/// A record in a directory, and who may.
pub(crate) struct Inside {
    pub(crate) record: Arc<Record>,
    pub(crate) authority: Arc<Authority>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Inside {
    pub(crate) async fn open(dir: &Path) -> Result<Self> {
        let record = Record::open(OpenOptions::new(dir.join("record"))).await?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let authority = Arc::new(Authority::new(record.clone(), record.clone(), clock.clone()));
        Ok(Self { record, authority, clock })
    }
}

/// How a lone call of `echo` begins.
pub(crate) fn started(component: Digest, input: Payload, run: RunId) -> Result<RunStarted> {
    Ok(RunStarted {
        target: Target::Agent("echo".parse()?),
        agents: BTreeMap::from([("echo".parse()?, component)]),
        document: None,
        document_digest: None,
        input,
        session: run.to_string().parse()?,
        by: "benchmarking".parse()?,
        seed: [7; 32],
        traceparent: None,
        position: None,
        forked: None,
        parent: None,
        scheduled: None,
        turn: None,
        semantics: Semantics::CURRENT,
        follows: None,
    })
}

/// The time of the machine.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the same clock as the host's")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}
