//! The official Python SDK of CloudEvents, as a client for tests.
//!
//! Invariant: fetched once, into the user's cache; whoever finds the directory finds it whole.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::minilm::{cache, succeed};

/// The package.
const PACKAGE: &str = "cloudevents==1.12.0";

/// A directory for `PYTHONPATH` that has it. Fetched where it is not there yet.
///
/// # Errors
/// Without Python's pip, or without a package index that it can reach.
pub fn directory() -> anyhow::Result<PathBuf> {
    let cache = cache()?.join("python");
    let directory = cache.join(PACKAGE.replace("==", "-"));
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let lock = File::create(cache.join("lock")).context("cannot make the lock of the cache")?;
    lock.lock().context("cannot lock the cache")?;
    if !directory.exists() {
        let work = tempfile::Builder::new().prefix("fetch.").tempdir_in(&cache)?;
        let into = work.path().join("whole");
        let mut command = Command::new("python3");
        command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
        succeed(command.arg(&into).arg(PACKAGE))
            .context("cannot fetch the CloudEvents SDK: install Python 3 with pip (`apt-get install python3-pip`)")?;
        std::fs::rename(into, &directory)?;
    }
    Ok(directory)
}
