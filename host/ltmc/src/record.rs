//! The record's adapter: the only place that names it. To add one: its arm in [`exists`], [`open`], [`audit`], [`ends`] and [`look`], chosen
//! by the configuration, of which they are given the data directory alone today.

use std::path::Path;
use std::sync::Arc;

use ltmc_ports::Record;
use ltmc_ports::journal::{Audit, Kept};
pub(crate) use ltmc_sqlite::ChainEnds;
use ltmc_sqlite::{OpenError, OpenOptions};

use crate::config::Config;
use crate::exit::Problem;

/// Whether a data directory has a record.
pub(crate) fn exists(data: &Path) -> bool {
    ltmc_sqlite::exists(data)
}

/// Whether a data directory has a record whose host is gone.
pub(crate) fn is_abandoned(data: &Path) -> bool {
    ltmc_sqlite::is_abandoned(data)
}

/// Says so where another host has the data directory.
pub(crate) fn is_free(data: &Path) -> anyhow::Result<()> {
    match ltmc_sqlite::is_in_use(data) {
        true => Err(explained(OpenError::Locked { dir: data.to_owned() }).into()),
        false => Ok(()),
    }
}

/// Which record a data directory has, and how its chains end; it may be in use.
pub(crate) async fn ends(data: &Path) -> anyhow::Result<ChainEnds> {
    Ok(ltmc_sqlite::Record::ends(data).await.map_err(explained)?)
}

/// Opens the record of the data directory, and makes it where it is not there. `marks_runs`: databases follow how far runs come.
pub(crate) async fn open(config: &Config, marks_runs: bool) -> anyhow::Result<Arc<dyn Record>> {
    let (quota, reserve) = (config.limits.disk.as_u64(), config.limits.disk_reserve.as_u64());
    let options = OpenOptions { marks_runs, quota, reserve, ..OpenOptions::new(&config.data) };
    let opened = ltmc_sqlite::Record::open(options).await;
    Ok(opened.map_err(explained)?)
}

/// Walks the chains of a data directory's record, which may be in use; what somebody kept of them has to stand there still.
pub(crate) async fn audit(data: &Path, kept: Kept) -> anyhow::Result<Audit> {
    Ok(ltmc_sqlite::Record::audit(data, kept).await.map_err(explained)?)
}

/// Whether a data directory's record can be opened; the error: what is wrong with it, and what to do.
pub(crate) async fn look(data: &Path) -> Result<&'static str, (String, &'static str)> {
    match ltmc_sqlite::Record::open(OpenOptions::new(data)).await {
        Ok(record) => {
            record.close().await;
            Ok("opens; `ltmc audit verify` walks its whole chain")
        }
        Err(OpenError::Locked { .. }) => Ok("in use by a running host"),
        Err(error @ OpenError::Newer { .. }) => Err((error.to_string(), "use the newer version of ltmc")),
        Err(error @ OpenError::Shared { .. }) => {
            Err((error.to_string(), "`chmod -R go-w` it; what is in it stays as it is"))
        }
        Err(error @ OpenError::Link { .. }) => {
            Err((error.to_string(), "put there what it leads to, or mount it there"))
        }
        Err(error) => Err((error.to_string(), "restore it from a copy, or name another directory with --data")),
    }
}

fn explained(error: OpenError) -> Problem {
    let problem = Problem::failed(error.to_string());
    match &error {
        OpenError::Locked { .. } => {
            problem.help("stop the other host, or give this one a directory of its own with --data")
        }
        OpenError::Shared { dir, .. } => problem.help(format!("chmod go-w {}", dir.display())),
        OpenError::Link { .. } => problem.help("put there what it leads to, or mount it there"),
        OpenError::Newer { .. } => problem.help("use the newer version of ltmc that wrote it"),
        _ => problem.help("`ltmc doctor` looks at the data directory"),
    }
}
