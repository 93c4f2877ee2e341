//! The heads of the chains, kept outside of the record: told to whom the configuration names, and read back.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::sync::Arc;

use ltmc_integrations::anchor::{Anchoring, Options, Ports, Webhook};
use ltmc_model::chain::Anchors;
use ltmc_ports::Record;

use crate::config::Config;
use crate::databases::secret;
use crate::exit::Problem;
use crate::wire::SystemClock;

/// The longest line: 500 heads have some 80 KiB.
const MAX_LINE: u64 = 1 << 20;
/// The most heads that are read.
const MAX_HEADS: usize = 10_000_000;

/// Begins to tell them, as configured.
pub(crate) fn start(config: &Config, record: &Arc<dyn Record>) -> anyhow::Result<Anchoring> {
    let ports = Ports { chains: record.clone(), record: record.record_id().to_owned(), clock: Arc::new(SystemClock) };
    let started = Anchoring::start(options(config)?, ports);
    Ok(started.map_err(|e| Problem::usage(format!("audit.anchor_url: {e}")).help("see docs/run-a-host.md"))?)
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
