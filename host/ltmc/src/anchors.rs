//! The heads of the chains, kept outside of the record: told to whom the configuration names, and read back.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;

use ltmc_integrations::anchor::{Anchoring, Options, Ports, Webhook};
use ltmc_model::TenantId;
use ltmc_model::chain::{Anchors, Head};
use ltmc_ports::Record;

use crate::config::Config;
use crate::databases::secret;
use crate::exit::Problem;
use crate::wire::SystemClock;

/// The longest line: 500 heads have some 80 KiB.
const MAX_LINE: u64 = 1 << 20;
/// The most heads that are read.
const MAX_HEADS: usize = 10_000_000;

/// Chains that are looked up at once.
const HEADS: u32 = 500;

/// Begins to tell them, as configured.
pub(crate) fn start(config: &Config, record: &Arc<dyn Record>) -> anyhow::Result<Anchoring> {
    let ports = Ports { chains: record.clone(), record: record.record_id().to_owned(), clock: Arc::new(SystemClock) };
    let started = Anchoring::start(options(config)?, ports);
    Ok(started.map_err(|e| Problem::usage(format!("audit.anchor_url: {e}")).help("see docs/run-a-host.md"))?)
}

/// Says loudly where the record does not have the heads that the file of anchors ends with: it was put back, or changed. To be asked
/// before anything is appended there. The rest of the file is looked at by `ltmc audit verify --anchors`.
pub(crate) async fn look_back(config: &Config, record: &Arc<dyn Record>) -> anyhow::Result<()> {
    let path = &config.audit.anchor_file;
    if path.is_empty() {
        return Ok(());
    }
    let mut kept = match last(Path::new(path), record.record_id()) {
        Ok(kept) => kept,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            tracing::warn!(%path, %error, "the heads that were kept of the chains cannot be read");
            return Ok(());
        }
    };
    let mut after = None;
    loop {
        let heads = record.heads(after.as_ref(), HEADS).await?;
        let Some(end) = heads.last() else { break };
        after = Some(end.tenant.clone());
        for now in heads {
            let Some(then) = kept.remove(&now.tenant) else { continue };
            if then.length > now.length || (then.length == now.length && then.hash != now.hash) {
                contradicted(path, &then, now.length);
            }
        }
    }
    kept.values().for_each(|then| contradicted(path, then, 0));
    Ok(())
}

fn contradicted(path: &str, then: &Head, now: u64) {
    let (tenant, length, hash) = (&then.tenant, then.length, then.hash);
    tracing::error!(
        %path, %tenant, length, %hash, now,
        "the record does not have the entry that was kept of it elsewhere: it was put back to an earlier state, or changed; \
         `ltmc audit verify --anchors` tells more"
    );
}

/// The heads of a record that a file ends with, by tenant.
fn last(path: &Path, record: &str) -> std::io::Result<BTreeMap<TenantId, Head>> {
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(MAX_LINE);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    file.take(MAX_LINE).read_to_end(&mut end)?;
    let lines = end.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<Anchors>(line).ok());
    let own = lines.filter(|anchors| anchors.record == record);
    Ok(own.flat_map(|anchors| anchors.heads).map(|head| (head.tenant.clone(), head)).collect())
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
    let mut file = BufReader::new(File::open(path).map_err(|e| wrong(format!("cannot be read: {e}")))?);
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
