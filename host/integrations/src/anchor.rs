//! The heads of the chains, told to places outside of the record: a file, a webhook, the log. Against them `ltmc audit verify --anchors`
//! finds a record that was put back to an earlier state, which by itself is whole.
//!
//! Each place has a task, and is told of those chains alone that have grown since it was last told. One that cannot be told is told later:
//! then of the newest heads, which say all that earlier ones would have.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ltmc_model::TenantId;
use ltmc_model::chain::{Anchors, Link};
use ltmc_ports::{Clock, ReadChains, StoreError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::file::{self, Hand};
#[cfg(feature = "webhooks")]
use crate::webhook::{Endpoint, Unanswered};

/// Heads of one line of the file, or of one body.
const HEADS: u32 = 500;
/// How long a webhook may take for one body, and the file for one line.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(10);
/// The first pause after a place could not be told; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(300);
/// How long the last heads may take when the host stops.
const LAST: Duration = Duration::from_secs(3);

/// Where heads are told, and how often.
#[derive(Default)]
pub struct Options {
    /// Appended to this file, a line each time.
    pub file: Option<PathBuf>,
    /// Posted to this address.
    pub webhook: Option<Webhook>,
    /// Written into the log.
    pub log: bool,
    /// How often it is looked whether there is anything to tell.
    pub every: Duration,
}

/// Whom heads are posted to.
pub struct Webhook {
    /// An `http` or `https` address.
    pub url: String,
    /// What bodies are signed with.
    pub secret: String,
}

/// Why heads cannot be told anybody by these options.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address.
    #[error("it is no http:// or https:// address with a host, and without a user or password in it")]
    Url,
    /// TLS cannot be set up; what the library says.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The crate was built without its feature `webhooks`.
    #[error("nothing that posts to it is in this build")]
    LeftOut,
}

/// What heads are read from.
pub struct Ports {
    /// The chains.
    pub chains: Arc<dyn ReadChains>,
    /// Which record it is.
    pub record: String,
    /// For the time of what is told.
    pub clock: Arc<dyn Clock>,
}

/// Tells heads, until it is stopped.
pub struct Anchoring {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Anchoring {
    /// Begins to tell every place.
    ///
    /// # Errors
    /// Where one of them could never be told.
    pub fn start(options: Options, ports: Ports) -> Result<Self, OpenError> {
        let mut places = Vec::new();
        places.extend(options.file.map(|path| Place::File(path, Hand::new(TIMEOUT))));
        if let Some(webhook) = options.webhook {
            places.push(Place::webhook(webhook)?);
        }
        places.extend(options.log.then_some(Place::Log));
        let anchoring = Self { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        let ports = Arc::new(ports);
        for place in places {
            let teller = Teller { place, ports: ports.clone(), told: HashMap::new() };
            anchoring.tasks.spawn(teller.run(options.every, anchoring.stop.clone()));
        }
        Ok(anchoring)
    }

    /// Tells what has moved last, if that does not take long, and no more. The record is still open.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(LAST, self.tasks.wait()).await.is_err() {
            tracing::warn!(
                "the last heads of the chains could not be told everybody in time; they are at the next start"
            );
        }
    }
}

/// Who is told.
enum Place {
    File(PathBuf, Hand),
    #[cfg(feature = "webhooks")]
    Webhook(Box<Endpoint>),
    Log,
}

impl Place {
    #[cfg(feature = "webhooks")]
    fn webhook(webhook: Webhook) -> Result<Self, OpenError> {
        Ok(Self::Webhook(Box::new(Endpoint::new(webhook)?)))
    }

    #[cfg(not(feature = "webhooks"))]
    fn webhook(_: Webhook) -> Result<Self, OpenError> {
        Err(OpenError::LeftOut)
    }

    fn name(&self) -> &'static str {
        match self {
            Self::File(..) => "file",
            #[cfg(feature = "webhooks")]
            Self::Webhook(_) => "webhook",
            Self::Log => "log",
        }
    }

    async fn tell(&mut self, anchors: &Anchors) -> Result<(), Failure> {
        let text = || serde_json::to_string(anchors).expect("plain values, which JSON can write");
        match self {
            Self::File(path, hand) => {
                let (path, line) = (path.clone(), text());
                hand.work(move || append(&path, line)).await.map_err(Failure::File)
            }
            #[cfg(feature = "webhooks")]
            Self::Webhook(endpoint) => Ok(endpoint.post(text().into()).await?),
            Self::Log => {
                for head in &anchors.heads {
                    let (record, hash) = (&anchors.record, head.hash);
                    tracing::info!(%record, tenant = %head.tenant, length = head.length, %hash, "the head of a chain");
                }
                Ok(())
            }
        }
    }
}

/// Why a place could not be told.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the record cannot be read: {0}")]
    Record(#[from] StoreError),
    #[error("{0}")]
    File(std::io::Error),
    #[cfg(feature = "webhooks")]
    #[error("{0}")]
    Webhook(#[from] Unanswered),
}

/// Leads one place.
struct Teller {
    place: Place,
    ports: Arc<Ports>,
    /// The heads that it has.
    told: HashMap<TenantId, Link>,
}

impl Teller {
    async fn run(mut self, every: Duration, stop: CancellationToken) {
        let mut failures = 0_u32;
        loop {
            // Looked at before: what is written until then is told.
            let is_last = stop.is_cancelled();
            let to = self.place.name();
            match self.tell().await {
                Ok(()) => {
                    if failures > 0 {
                        tracing::info!(to, "heads of the chains are told again");
                    }
                    failures = 0;
                }
                Err(error) => {
                    metrics::counter!("ltmc_anchor_failures_total", "to" => to).increment(1);
                    if failures == 0 {
                        tracing::warn!(to, %error, "heads of the chains cannot be told; trying again");
                    }
                    failures = failures.saturating_add(1);
                }
            }
            metrics::gauge!("ltmc_anchor_up", "to" => to).set(f64::from(u8::from(failures == 0)));
            if is_last {
                return;
            }
            let pause = if failures == 0 { every } else { pause(failures) };
            stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    /// Tells what has moved since.
    async fn tell(&mut self) -> Result<(), Failure> {
        let mut after = None;
        loop {
            let mut heads = self.ports.chains.heads(after.as_ref(), HEADS).await?;
            let Some(last) = heads.last() else { return Ok(()) };
            after = Some(last.tenant.clone());
            heads.retain(|head| self.told.get(&head.tenant) != Some(&head.hash));
            if heads.is_empty() {
                continue;
            }
            let anchors = Anchors { at: self.ports.clock.now(), record: self.ports.record.clone(), heads };
            self.place.tell(&anchors).await?;
            self.told.extend(anchors.heads.into_iter().map(|head| (head.tenant, head.hash)));
        }
    }
}

/// Between half of it and the whole: who failed at once does not come back at once.
fn pause(failures: u32) -> Duration {
    let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(MAX_PAUSE);
    pause.mul_f64(rand::random_range(0.5..1.0))
}

/// Appends a line, on disk on return. A line that was broken off before is ended first, so that it takes no other along.
fn append(path: &Path, mut line: String) -> std::io::Result<()> {
    line.push('\n');
    let mut file = file::open(path, OpenOptions::new().create(true).append(true).read(true).mode(0o600))?;
    let mut last = [b'\n'];
    if file.seek(SeekFrom::End(0))? > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    if last != [b'\n'] {
        line.insert(0, '\n');
    }
    file.write_all(line.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use ltmc_model::chain::Head;
    use ltmc_ports::testing::{ManualClock, sample};

    use super::*;

    /// Chains, each with how long it is.
    struct Chains(Mutex<Vec<u64>>);

    #[async_trait]
    impl ReadChains for Chains {
        async fn heads(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Head>, StoreError> {
            let heads = self
                .0
                .lock()
                .unwrap()
                .iter()
                .enumerate()
                .map(|(number, length)| {
                    let (number, length) = (number as u64, *length);
                    let hash = Link([u8::try_from(length).unwrap(); 32]);
                    Head { tenant: sample::tenant(&format!("t{number:04}")), length, hash }
                })
                .collect::<Vec<_>>();
            let later = heads.into_iter().filter(|head| after.is_none_or(|after| head.tenant > *after));
            Ok(later.take(limit as usize).collect())
        }
    }

    /// Of each line that was told, whose heads it has and how long their chains were.
    fn told(path: &Path) -> Vec<Vec<(String, u64)>> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let line = |line: &str| {
            let anchors: Anchors = serde_json::from_str(line).unwrap();
            anchors.heads.into_iter().map(|head| (head.tenant.to_string(), head.length)).collect()
        };
        text.lines().map(line).collect()
    }

    #[tokio::test]
    async fn a_place_is_told_all_that_has_moved_since_it_was_told_and_nothing_else() {
        let (dir, many) = (tempfile::tempdir().unwrap(), HEADS as usize + 2);
        let (file, missing) = (dir.path().join("anchors"), dir.path().join("missing/anchors"));
        let chains = Arc::new(Chains(Mutex::new(vec![1; many])));
        let clock = Arc::new(ManualClock::at(sample::at(0)));
        let ports = Arc::new(Ports { chains: chains.clone(), record: "r".to_owned(), clock });
        let to = |path: &Path| Place::File(path.to_owned(), Hand::new(TIMEOUT));
        let mut teller = Teller { place: to(&missing), ports, told: HashMap::new() };
        teller.tell().await.unwrap_err();
        // What could not be told is told later.
        teller.place = to(&file);
        teller.tell().await.unwrap();
        assert_eq!(told(&file).iter().map(Vec::len).collect::<Vec<_>>(), [HEADS as usize, 2], "a line each page");
        teller.tell().await.unwrap();
        assert_eq!(told(&file).len(), 2, "nothing has moved");
        // The last of the second page, while on the first nothing moves; then one of each.
        let last = format!("t{:04}", many - 1);
        chains.0.lock().unwrap()[many - 1] = 2;
        teller.tell().await.unwrap();
        chains.0.lock().unwrap()[0] = 2;
        chains.0.lock().unwrap()[many - 1] = 3;
        teller.tell().await.unwrap();
        let expected = [vec![(last.clone(), 2)], vec![("t0000".to_owned(), 2)], vec![(last, 3)]];
        assert_eq!(told(&file)[2..], expected);
        // A head may be told twice, and none is left out because it was tried once.
        teller.place = to(dir.path());
        chains.0.lock().unwrap()[0] = 3;
        teller.tell().await.unwrap_err();
        teller.place = to(&file);
        teller.tell().await.unwrap();
        assert_eq!(told(&file)[5..], [vec![("t0000".to_owned(), 3)]]);
    }

    /// What keeps nothing is not told: heads that went there would count as kept. A pipe is not waited for either.
    #[tokio::test]
    async fn heads_are_told_to_regular_files_alone() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, mode, 0).unwrap();
        for path in [pipe.as_path(), Path::new("/dev/null")] {
            let clock = Arc::new(ManualClock::at(sample::at(0)));
            let chains = Arc::new(Chains(Mutex::new(vec![1])));
            let ports = Arc::new(Ports { chains, record: "r".to_owned(), clock });
            let place = Place::File(path.to_owned(), Hand::new(TIMEOUT));
            let mut teller = Teller { place, ports, told: HashMap::new() };
            let refused = teller.tell().await.unwrap_err().to_string();
            assert!(refused.contains("no regular file"), "{}: {refused}", path.display());
            assert!(teller.told.is_empty());
        }
    }

    #[test]
    fn a_line_that_was_broken_off_takes_no_other_along() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("anchors");
        append(&path, "one".into()).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"bro").unwrap();
        append(&path, "two".into()).unwrap();
        append(&path, "three".into()).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\nbro\ntwo\nthree\n");
    }

    #[test]
    fn pauses_grow_and_end() {
        for (failures, longest) in [(1, 1), (2, 2), (5, 16), (100, 300)] {
            let longest = Duration::from_secs(longest);
            let pause = pause(failures);
            assert!(pause <= longest && pause >= longest / 2, "{failures}: {pause:?}");
        }
    }
}
