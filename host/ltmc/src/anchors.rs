//! The heads of the chains, kept outside of the record: told to whom the configuration names, and read back.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ltmc_integrations::anchor::{Anchoring, OpenError, Options, Ports, Webhook};
use ltmc_integrations::file::{self, Hand};
use ltmc_model::chain::{Anchors, Head};
use ltmc_model::{TenantId, Timestamp};
use ltmc_ports::Record;
use ltmc_ports::journal::ChainEnds;

use crate::config::Config;
use crate::databases::{left_out, secret};
use crate::exit::Problem;
use crate::record;
use crate::wire::SystemClock;

/// The longest line: 500 heads have some 80 KiB.
const MAX_LINE: u64 = 1 << 20;
/// The most heads that are read.
const MAX_HEADS: usize = 10_000_000;

/// How long the file may take to be read where a host starts, or is looked at.
const LONGEST: Duration = Duration::from_secs(10);
/// Tenants that are named at most.
const MOST_NAMED: usize = 10;

/// Begins to tell them, as configured.
pub(crate) fn start(config: &Config, record: &Arc<dyn Record>) -> anyhow::Result<Anchoring> {
    let ports = Ports { chains: record.clone(), record: record.record_id().to_owned(), clock: Arc::new(SystemClock) };
    Anchoring::start(options(config)?, ports).map_err(|error| match error {
        OpenError::LeftOut => left_out("audit.anchor_url", "webhooks", "webhooks"),
        error => Problem::usage(format!("audit.anchor_url: {error}")).help("see docs/run-a-host.md").into(),
    })
}

/// What a record lacks of what was kept of its chains elsewhere.
#[derive(Debug, Default)]
pub(crate) struct Lacking {
    /// Of each such chain what was kept of it, and how long it is now.
    pub(crate) heads: Vec<(Head, u64)>,
    /// The file has heads of other records alone: of so many.
    pub(crate) others: usize,
}

impl Lacking {
    /// For people; none: it lacks nothing.
    pub(crate) fn in_words(&self) -> Option<String> {
        if self.others > 0 {
            let others = self.others;
            return Some(format!(
                "the file has heads of {others} other records and none of this one: unless this host is new to it, its record was put in \
                 another's place"
            ));
        }
        let tenants: Vec<&str> = self.heads.iter().take(MOST_NAMED).map(|(then, _)| then.tenant.as_str()).collect();
        let more = self.heads.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 { format!(" and of {more} more") } else { String::new() };
        (!tenants.is_empty()).then(|| {
            format!(
                "the record does not have what was kept elsewhere of {}{more}: it was put back to an earlier state, or changed; \
                 `ltmc audit verify --anchors` tells more",
                tenants.join(", ")
            )
        })
    }
}

/// Says loudly where the record does not have the heads that the file of anchors ends with: it was put back, or changed. To be asked
/// before anything is appended there. The rest of the file is looked at by `ltmc audit verify --anchors`.
pub(crate) async fn look_back(config: &Config, record: &Arc<dyn Record>) -> anyhow::Result<Lacking> {
    let path = &config.audit.anchor_file;
    if path.is_empty() {
        return Ok(Lacking::default());
    }
    let mut kept = match last(Path::new(path)).await {
        Ok(kept) => kept,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Lacking::default()),
        Err(error) => {
            tracing::warn!(%path, %error, "the heads that were kept of the chains cannot be read");
            return Ok(Lacking::default());
        }
    };
    let ends = ChainEnds::of(&**record).await?;
    let lacking = lacking(&mut kept, ends);
    for (Head { tenant, length, hash }, now) in &lacking.heads {
        tracing::error!(
            %path, %tenant, length, %hash, now,
            "the record does not have the entry that was kept of it elsewhere: it was put back to an earlier state, or changed; \
             `ltmc audit verify --anchors` tells more"
        );
    }
    if lacking.others > 0 {
        tracing::warn!(%path, "{}", lacking.in_words().unwrap_or_default());
    }
    Ok(lacking)
}

/// The same of a record that may be in use; none: there is nothing to compare.
pub(crate) async fn compare(config: &Config) -> anyhow::Result<Option<Lacking>> {
    let path = Path::new(&config.audit.anchor_file);
    // The file first: what a host that runs appends to it meanwhile is of the record, too.
    let mut kept = last(path).await.with_context(|| format!("{} cannot be read", path.display()))?;
    let record = record::of(config);
    if kept.is_empty() || !record.exists() {
        return Ok(None);
    }
    Ok(Some(lacking(&mut kept, record.ends().await.map_err(record::explained)?)))
}

/// What of the heads that were kept a record lacks.
fn lacking(kept: &mut Last, ends: ChainEnds) -> Lacking {
    let ChainEnds { id, heads: now, gone, deleted } = ends;
    let Some(mut own) = kept.remove(&id) else { return Lacking { others: kept.len(), ..Lacking::default() } };
    // Of one that was deleted since there is nothing to be had.
    own.retain(|tenant, (at, _)| !deleted.contains(tenant) && gone.get(tenant).is_none_or(|gone| *gone < *at));
    let mut heads = Vec::new();
    for now in now {
        let Some((_, then)) = own.remove(&now.tenant) else { continue };
        if then.length > now.length || (then.length == now.length && then.hash != now.hash) {
            heads.push((then, now.length));
        }
    }
    heads.extend(own.into_values().map(|(_, then)| (then, 0)));
    Lacking { heads, others: 0 }
}

/// By record the heads of its chains, by tenant, and when they were.
type Last = BTreeMap<String, BTreeMap<TenantId, (Timestamp, Head)>>;

/// The heads that a file ends with. A file system that does not answer holds nobody up for long.
async fn last(path: &Path) -> std::io::Result<Last> {
    let path = path.to_owned();
    Hand::new(LONGEST).work(move || ends_with(&path)).await
}

fn ends_with(path: &Path) -> std::io::Result<Last> {
    let mut file = open(path)?;
    let from = file.metadata()?.len().saturating_sub(MAX_LINE);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    file.take(MAX_LINE).read_to_end(&mut end)?;
    let lines = end.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Anchors>(line).ok());
    let mut last = Last::new();
    for Anchors { at, record, heads } in lines {
        last.entry(record).or_default().extend(heads.into_iter().map(|head| (head.tenant.clone(), (at, head))));
    }
    Ok(last)
}

/// A file to be read, and nothing else: at the other end of a pipe there may never be anybody.
fn open(path: &Path) -> std::io::Result<File> {
    file::open(path, File::options().read(true))
}

fn options(config: &Config) -> anyhow::Result<Options> {
    let audit = &config.audit;
    let secret = secret("audit.anchor_secret", &audit.anchor_secret.0, &audit.anchor_secret_file)?;
    if secret.as_ref().is_some_and(String::is_empty) {
        return Err(Problem::usage("audit.anchor_secret_file: it is empty".to_owned()).into());
    }
    Ok(Options {
        file: Some(&audit.anchor_file).filter(|file| !file.is_empty()).map(Into::into),
        webhook: Some(audit.anchor_url.clone())
            .filter(|url| !url.is_empty())
            .map(|url| Webhook { url, secret: secret.unwrap_or_default() }),
        log: audit.anchor_log,
        every: audit.anchor_every.0,
    })
}

/// Heads that were kept in a file: each line as the host appended it, or as a webhook was sent it. And the numbers of lines that are none:
/// one that was broken off when its host died is.
pub(crate) fn read(path: &Path) -> anyhow::Result<(Vec<Anchors>, Vec<u64>)> {
    let wrong = |why: String| Problem::usage(format!("{}: {why}", path.display()));
    let mut file = BufReader::new(open(path).map_err(|e| wrong(format!("cannot be read: {e}")))?);
    let (mut kept, mut unread, mut heads, mut line) = (Vec::new(), Vec::new(), 0, Vec::new());
    for number in 1_u64.. {
        line.clear();
        let read = file.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if read.map_err(|e| wrong(format!("cannot be read: {e}")))? == 0 {
            break;
        }
        match serde_json::from_slice::<Anchors>(&line) {
            Ok(anchors) => {
                heads += anchors.heads.len();
                kept.push(anchors);
            }
            Err(_) if line.trim_ascii().is_empty() => {}
            Err(_) if line.len() as u64 == MAX_LINE => {
                return Err(wrong(format!("line {number} has more than {MAX_LINE} bytes: no heads of chains")).into());
            }
            Err(_) => unread.push(number),
        }
        if heads > MAX_HEADS {
            return Err(wrong(format!("it has more than {MAX_HEADS} heads: take a part of it")).into());
        }
    }
    if kept.is_empty() {
        let help = "name the file of `audit.anchor_file`, or one with a line for each body that a webhook was sent";
        return Err(wrong("there are no heads of chains in it".to_owned()).help(help).into());
    }
    Ok((kept, unread))
}

#[cfg(test)]
mod tests {
    use ltmc_model::chain::Link;

    use super::*;

    fn head(tenant: &str, length: u64, hash: u8) -> Head {
        Head { tenant: tenant.parse().unwrap(), length, hash: Link([hash; 32]) }
    }

    #[test]
    fn what_a_record_lacks_is_what_was_kept_and_is_not_there() {
        let kept = |record: &str, heads: Vec<Head>| -> Last {
            let at = Timestamp::from_millis(5);
            [(record.to_owned(), heads.into_iter().map(|head| (head.tenant.clone(), (at, head))).collect())].into()
        };
        let now = || ChainEnds {
            id: "r".to_owned(),
            heads: vec![head("acme", 5, 1), head("beta", 7, 2)],
            gone: [("early", 4), ("late", 5)]
                .map(|(name, at)| (name.parse().unwrap(), Timestamp::from_millis(at)))
                .into(),
            deleted: ["leaving".parse().unwrap()].into(),
        };
        let of = |heads: Vec<Head>| -> Vec<(String, u64)> {
            let found = lacking(&mut kept("r", heads), now());
            found.heads.into_iter().map(|(then, now)| (then.tenant.to_string(), now)).collect()
        };
        assert_eq!(of(vec![head("acme", 5, 1), head("beta", 6, 9)]), [], "it has grown since");
        assert_eq!(of(vec![head("acme", 6, 1)]), [("acme".to_owned(), 5)], "its last are gone");
        assert_eq!(of(vec![head("acme", 5, 3)]), [("acme".to_owned(), 5)], "it ends otherwise");
        assert_eq!(of(vec![head("gone", 1, 1)]), [("gone".to_owned(), 0)]);
        assert_eq!(of(vec![head("late", 9, 1), head("leaving", 9, 1)]), [], "they were deleted since");
        assert_eq!(of(vec![head("early", 9, 1)]), [("early".to_owned(), 0)], "that one came after the deleted one");
        let other = lacking(&mut kept("other", vec![head("acme", 1, 1)]), now());
        assert!((other.others, other.heads.len()) == (1, 0) && other.in_words().unwrap().contains("1 other records"));
        assert_eq!(lacking(&mut Last::new(), now()).in_words(), None);
    }

    /// Runs in a build with everything; in one without webhooks it is refused by their name.
    #[tokio::test]
    async fn what_posts_to_an_address_can_be_left_out_of_the_build() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config { data: dir.path().to_owned(), ..Config::default() };
        config.audit.anchor_url = "http://127.0.0.1:9/heads".to_owned();
        config.audit.anchor_secret.0 = "swordfish".to_owned();
        let record = record::open(&config, false).await.unwrap();
        let is_built = cfg!(feature = "webhooks");
        match start(&config, &record) {
            Ok(anchoring) => {
                assert!(is_built, "nobody posts to it");
                anchoring.stop().await;
            }
            Err(error) => {
                let problem = error.downcast_ref::<Problem>().expect("a problem");
                assert!(!is_built && problem.message.contains("the feature `webhooks`"), "{error:#}");
            }
        }
    }
}
