//! Child processes: run to their end, or kept under a guard that ends them whatever happens.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::steps::say;

/// This toolchain's cargo, in the repository's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    #[expect(clippy::disallowed_methods, reason = "cargo says by it which cargo runs this task")]
    let mut command = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    command.args(arguments).current_dir(crate::root());
    forget_xtask(&mut command);
    command
}

/// What cargo said about this package to this task is not the child's: a build script that looks at it (`ring`'s does) would be
/// run anew, and what needs it compiled anew, whenever somebody builds by cargo directly in between.
fn forget_xtask(command: &mut Command) {
    const OF_A_PACKAGE: [&str; 4] = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
    for (name, _) in std::env::vars_os() {
        if OF_A_PACKAGE.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
}

/// Agents of the crate or workspace at `dir`, compiled to WebAssembly by the binary `ltmc`: their components.
pub(crate) fn agents(ltmc: &Path, dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut command = Command::new(ltmc);
    command.args(["build", "--json"]).arg(dir);
    forget_xtask(&mut command);
    let built = output(command)?;
    let components = serde_json::Deserializer::from_slice(&built)
        .into_iter::<serde_json::Value>()
        .map(|one| one?["wasm"].as_str().map(PathBuf::from).context("`ltmc build --json` names no component"));
    let components = components.collect::<anyhow::Result<Vec<_>>>()?;
    say(format!("  {} components", components.len()));
    Ok(components)
}

/// Runs it to its end; its output is shown.
pub(crate) fn run(mut command: Command) -> anyhow::Result<()> {
    let shown = shown(&command);
    say(format!("  {}", console::style(&shown).dim()));
    let status = command.status().with_context(|| format!("starting `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` ended with {status}");
    }
    Ok(())
}

/// Runs it to its end; its standard output is the result.
pub(crate) fn output(mut command: Command) -> anyhow::Result<Vec<u8>> {
    let shown = shown(&command);
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("starting `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` ended with {}", output.status);
    }
    Ok(output.stdout)
}

fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let arguments = command.get_args().map(|a| a.to_string_lossy().into_owned());
    std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" ")
}

/// A host that stops with this process: when the guard is dropped, and also when this process is killed, because the
/// host's standard input is a pipe that closes then (`--lifeline`).
pub(crate) struct Host {
    child: Option<Child>,
    pub(crate) url: String,
    pub(crate) data: PathBuf,
    binary: PathBuf,
    /// What it was told, in a file.
    config: Option<PathBuf>,
    keep: bool,
}

impl Host {
    /// Starts one on a free port; its log goes to `<data>.log`, and what it is told besides, as TOML, to `<data>.toml`.
    pub(crate) fn start(binary: &Path, data: &Path, config: Option<&str>, keep: bool) -> anyhow::Result<Self> {
        let log_path = data.with_extension("log");
        // For its owner alone, as the host itself would make it.
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data)?;
        let log = std::fs::File::create(&log_path)?;
        let mut command = Command::new(binary);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).stdout(Stdio::null()).stderr(log);
        let config = config.map(|text| write(&data.with_extension("toml"), text)).transpose()?;
        if let Some(path) = &config {
            command.arg("--config").arg(path);
        }
        if keep {
            // a group of its own: Ctrl-C in this terminal is not meant for it
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            command.stdin(Stdio::null());
        } else {
            command.arg("--lifeline").stdin(Stdio::piped());
        }
        let child = command.spawn().with_context(|| format!("starting {}", binary.display()))?;
        let mut host = Self {
            child: Some(child),
            url: String::new(),
            data: data.to_owned(),
            binary: binary.to_owned(),
            config,
            keep: false,
        };
        let begun = Instant::now();
        loop {
            if let Ok(url) = std::fs::read_to_string(data.join("url")) {
                host.url = url.trim().to_owned();
                host.keep = keep;
                return Ok(host);
            }
            let ended = host.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            if ended.is_some() || begun.elapsed() > Duration::from_secs(30) {
                let log = std::fs::read_to_string(&log_path).unwrap_or_default();
                bail!(
                    "the host did not start ({}):\n{log}",
                    ended.map_or("no answer in 30 s".into(), |s| s.to_string())
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Kills it, as `kill -9` does, and starts it again on the data that is there.
    pub(crate) fn kill_and_restart(&mut self) -> anyhow::Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        std::fs::remove_file(self.data.join("url"))?;
        let config = self.config.as_ref().map(std::fs::read_to_string).transpose()?;
        *self = Self::start(&self.binary, &self.data, config.as_deref(), self.keep)?;
        Ok(())
    }

    /// The command line, speaking to this host.
    pub(crate) fn ltmc(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--data").arg(&self.data);
        if let Some(path) = &self.config {
            command.arg("--config").arg(path);
        }
        command
    }

    /// The host's process.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if self.keep {
            return;
        }
        drop(child.stdin.take());
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(15) {
            if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Writes a file that nobody else reads: there may be a password in it.
fn write(path: &Path, text: &str) -> anyhow::Result<PathBuf> {
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(options.write(true).create(true).truncate(true), 0o600);
    let mut file = options.open(path).with_context(|| format!("writing {}", path.display()))?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    Ok(path.to_owned())
}
