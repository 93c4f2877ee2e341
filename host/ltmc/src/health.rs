//! Whether the host can serve: the path of a call is tried, piece by piece.
//!
//! Invariants: whatever does not answer, an answer comes, for each piece has its bound; and however many ask, one at a time
//! looks, and what was found is good for a second.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ltmc_api::{Check, Health};
use ltmc_ports::Record;
use ltmc_sandbox::Sandbox;
use tokio::sync::Mutex;

use crate::anchors::Lacking;
use crate::context::Shared;

/// How long a piece may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// For so long what was found is told again.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// What is looked at.
pub(crate) struct Looked {
    pub(crate) record: Arc<dyn Record>,
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) shared: Arc<Shared>,
    /// What was found of the heads that were kept elsewhere.
    pub(crate) anchors: Arc<Anchored>,
    /// How many changes a database may be behind.
    pub(crate) backlog: u64,
}

/// What a start found of the heads that were kept of the chains elsewhere: it stands until the next one.
#[derive(Default)]
pub(crate) struct Anchored(OnceLock<String>);

impl Anchored {
    /// The start has found this.
    pub(crate) fn say(&self, lacking: &Lacking) {
        if let Some(words) = lacking.in_words() {
            self.0.get_or_init(|| words);
        }
    }

    fn check(&self) -> Option<Check> {
        let detail = format!("degraded: {}", self.0.get()?);
        Some(Check { name: "anchors", ok: true, detail: Some(detail), for_operators: true })
    }
}

/// Looks at it, where that is not known already.
pub(crate) struct Healthy {
    looked: Looked,
    last: Mutex<Option<(Instant, Vec<Check>)>>,
}

impl Healthy {
    pub(crate) fn new(looked: Looked) -> Self {
        Self { looked, last: Mutex::new(None) }
    }
}

#[async_trait]
impl Health for Healthy {
    async fn checks(&self) -> Vec<Check> {
        let mut last = self.last.lock().await;
        if let Some((at, checks)) = &*last
            && at.elapsed() < GOOD_FOR
        {
            return checks.clone();
        }
        let checks = self.looked.look().await;
        *last = Some((Instant::now(), checks.clone()));
        checks
    }
}

impl Looked {
    async fn look(&self) -> Vec<Check> {
        let (record, threads, tried) = tokio::join!(self.record(), threads(), self.sandbox.try_out(PATIENCE));
        let mut checks = vec![record, threads];
        checks.extend(tried.into_iter().map(|tried| Check {
            name: tried.name,
            ok: tried.ok,
            detail: tried.detail,
            for_operators: false,
        }));
        checks.extend(self.databases());
        checks.extend(self.anchors.check());
        checks
    }

    async fn record(&self) -> Check {
        let detail = match tokio::time::timeout(PATIENCE, self.record.check()).await {
            Ok(Ok(())) if self.record.has_room() => None,
            Ok(Ok(())) => Some(
                "the disk is full: only what frees room, ends runs or changes what tenants may is taken".to_owned(),
            ),
            Ok(Err(error)) => {
                tracing::warn!(%error, "the record is not well");
                Some("the record fails".to_owned())
            }
            Err(_) => Some("the record does not answer".to_owned()),
        };
        Check { name: "record", ok: detail.is_none(), detail, for_operators: false }
    }

    fn databases(&self) -> impl Iterator<Item = Check> {
        self.shared.statuses().into_iter().map(|status| {
            // One that is down delays itself; the host is not ready only where what waits for it grows past its bound.
            let ok = status.backlog <= self.backlog;
            let (up, behind) = (status.up, status.backlog);
            let detail = match (ok, up) {
                (true, true) => None,
                (true, false) => {
                    Some("degraded: it does not answer; what it is to be told waits in the record".to_owned())
                }
                (false, _) => Some(format!("{behind} changes wait for it, which is more than context.backlog")),
            };
            Check { name: status.name, ok, detail, for_operators: false }
        })
    }
}

/// The host's own threads for work that waits: uploads, recall and components need one.
async fn threads() -> Check {
    // bound: threads beside
    let asked = tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(|| ())).await;
    let detail = match asked {
        Ok(Ok(())) => None,
        _ => Some(format!("no thread of the host's own came free within {PATIENCE:?}")),
    };
    Check { name: "threads", ok: detail.is_none(), detail, for_operators: false }
}
