//! The record: which kind of store it is in, and what people are told where it cannot be opened. The only place that names a
//! record's adapter.
//!
//! To add one: a variant of [`RecordKind`] in the configuration, and its arm in [`at`].

use std::path::Path;
use std::sync::Arc;

use ltmc_ports::Record;
use ltmc_ports::record::{Backend, OpenError, Settings};

use crate::config::{Config, RecordKind};
use crate::exit::Problem;

/// Where the record of this configuration is kept.
pub(crate) fn of(config: &Config) -> Box<dyn Backend> {
    at(config.record.kind, &config.data)
}

/// Where a record of this kind is kept in a data directory.
pub(crate) fn at(kind: RecordKind, data: &Path) -> Box<dyn Backend> {
    match kind {
        RecordKind::Sqlite => Box::new(ltmc_sqlite::DataDirectory(data.to_owned())),
    }
}

/// Opens the record, and makes it where it is not there. `marks_runs`: databases follow how far runs come.
pub(crate) async fn open(config: &Config, marks_runs: bool) -> anyhow::Result<Arc<dyn Record>> {
    let (quota, reserve) = (config.limits.disk.as_u64(), config.limits.disk_reserve.as_u64());
    let opened = of(config).open(Settings { marks_runs, quota, reserve }).await;
    Ok(opened.map_err(explained)?)
}

/// Says so where another host has the record.
pub(crate) fn is_free(config: &Config) -> anyhow::Result<()> {
    match of(config).is_in_use() {
        true => Err(explained(OpenError::Locked { dir: config.data.clone() }).into()),
        false => Ok(()),
    }
}

/// Whether the record can be opened; the error: what is wrong with it, and what to do.
pub(crate) async fn look(config: &Config) -> Result<&'static str, (String, String)> {
    match of(config).open(Settings::default()).await {
        Ok(record) => {
            record.close().await;
            Ok("opens; `ltmc audit verify` walks its whole chain")
        }
        Err(OpenError::Locked { .. }) => Ok("in use by a running host"),
        Err(error) => {
            let otherwise = || "restore it from a copy, or name another directory with --data".to_owned();
            Err((error.to_string(), help(&error).unwrap_or_else(otherwise)))
        }
    }
}

/// The same for who has asked for something that needs it.
pub(crate) fn explained(error: OpenError) -> Problem {
    let help = help(&error).unwrap_or_else(|| "`ltmc doctor` looks at the data directory".to_owned());
    Problem::failed(error.to_string()).help(help)
}

/// What to do where a record cannot be opened; none: that is not known from this alone.
fn help(error: &OpenError) -> Option<String> {
    Some(match error {
        OpenError::Locked { .. } => {
            "stop the other host, or give this one a directory of its own with --data".to_owned()
        }
        OpenError::Shared { dir, .. } => {
            format!("`chmod -R go-w {}`; what is in it stays as it is", dir.display())
        }
        OpenError::Foreign { path, .. } => {
            format!("run the host as its owner, or chown {} once you know what it holds", path.display())
        }
        OpenError::Link { .. } => "put there what it leads to, or mount it there".to_owned(),
        OpenError::Newer { .. } => "use the newer version of ltmc that wrote it".to_owned(),
        _ => return None,
    })
}
