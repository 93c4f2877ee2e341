//! The toolchain that compiles guests: two routes to the same target, behind one entry point.
//!
//! First rustup's: `rustup target add wasm32-wasip2` and an ordinary build. Where rustup cannot download targets (a
//! distribution's builder, a site without a network), Debian's: its packages `rustc-web`, `cargo-web` and `rust-web-src`
//! build the standard library from source, against `wasi-libc` from backports and the linker of rustup's toolchain.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

const TARGET: &str = "wasm32-wasip2";
const PACKAGES: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// How guests are compiled on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toolchain {
    /// The toolchain in use has the target.
    Rustup,
    /// Debian's packages.
    Debian {
        /// wasi-libc's directory of libraries.
        libc: PathBuf,
        /// Where rust-lld and its wrappers are.
        linkers: Vec<PathBuf>,
    },
}

impl Toolchain {
    /// What is there already.
    pub fn find() -> Option<Self> {
        if has_target() {
            return Some(Self::Rustup);
        }
        let libc = libc_dir().ok()?;
        let complete = Path::new("/usr/bin/rustc").exists() && Path::new("/usr/bin/cargo").exists() && has_source();
        if !complete || !libc.join("libc.a").exists() {
            return None;
        }
        Some(Self::Debian { libc, linkers: linkers()? })
    }

    /// What is there, or what can be made to be there; says in a line which.
    ///
    /// # Errors
    /// What to install where nothing can be.
    pub fn find_or_install(say: &mut dyn FnMut(&str)) -> anyhow::Result<Self> {
        let toolchain = match Self::find() {
            Some(found) => found,
            None => Self::install(say)?,
        };
        say(&format!("guests are compiled by {}", toolchain.describe()));
        Ok(toolchain)
    }

    fn install(say: &mut dyn FnMut(&str)) -> anyhow::Result<Self> {
        say(&format!("the toolchain lacks the target {TARGET}: trying `rustup target add {TARGET}`"));
        let added = Command::new("rustup").args(["target", "add", TARGET]).stdin(Stdio::null()).output();
        if added.is_ok_and(|output| output.status.success()) && has_target() {
            return Ok(Self::Rustup);
        }
        let mut debian = || -> anyhow::Result<Self> {
            say(&format!("rustup could not; trying Debian's packages {}", PACKAGES.join(", ")));
            install_packages()?;
            install_libc()?;
            Self::find().context("the packages are installed, and still something is missing")
        };
        debian().with_context(|| {
            format!(
                "there is no Rust toolchain for {TARGET}. Either `rustup target add {TARGET}`, or on Debian 12 as root \
                 `apt-get install {}` and wasi-libc from bookworm-backports",
                PACKAGES.join(" ")
            )
        })
    }

    /// For people.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Rustup => "cargo, with rustup's target wasm32-wasip2",
            Self::Debian { .. } => "Debian's cargo, which builds the standard library for wasm32-wasip2 from source",
        }
    }

    /// `cargo build --release` for the target, to be pointed at a directory.
    pub(crate) fn cargo_build(&self) -> Command {
        let arguments = ["build", "--release", "--target", TARGET];
        match self {
            Self::Rustup => {
                let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                cargo.args(arguments);
                cargo
            }
            Self::Debian { libc, linkers } => {
                let mut path: Vec<PathBuf> = vec!["/usr/bin".into()];
                path.extend(linkers.iter().cloned());
                let inherited = std::env::var_os("PATH").unwrap_or_default();
                path.extend(std::env::split_paths(&inherited));
                let mut flags = OsString::from("-L native=");
                flags.push(libc);
                let mut cargo = Command::new("/usr/bin/cargo");
                cargo
                    .args(arguments)
                    .arg("-Zbuild-std=std,panic_abort")
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS", flags)
                    .env("PATH", std::env::join_paths(path).unwrap_or(inherited));
                // What a surrounding cargo of rustup's says of itself would mislead this one.
                for variable in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC_WRAPPER", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
                    cargo.env_remove(variable);
                }
                cargo
            }
        }
    }
}

fn has_target() -> bool {
    let printed = rustc_prints(&["--print", "target-libdir", "--target", TARGET]);
    let Some(dir) = printed else { return false };
    let mut entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-"))
}

fn rustc_prints(arguments: &[&str]) -> Option<PathBuf> {
    let output = Command::new("rustc").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().into())
}

/// Whether Debian's compiler has its library's source.
fn has_source() -> bool {
    let output = Command::new("/usr/bin/rustc").args(["--print", "sysroot"]).output();
    let sysroot = output.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    sysroot.is_some_and(|root| Path::new(root.trim()).join("lib/rustlib/src/rust/library/std/Cargo.toml").exists())
}

/// rust-lld, its wrapper wasm-ld, and wasm-component-ld come with rustup's toolchain.
fn linkers() -> Option<Vec<PathBuf>> {
    let sysroot = rustc_prints(&["--print", "sysroot"])?;
    let rustlib = std::fs::read_dir(sysroot.join("lib/rustlib")).ok()?;
    rustlib.flatten().map(|entry| entry.path().join("bin")).find_map(|bin| {
        let whole = bin.join("rust-lld").exists() && bin.join("wasm-component-ld").exists();
        whole.then(|| vec![bin.join("gcc-ld"), bin])
    })
}

fn install_packages() -> anyhow::Result<()> {
    if Path::new("/usr/bin/rustc").exists() && Path::new("/usr/bin/cargo").exists() && has_source() {
        return Ok(());
    }
    let get = |arguments: &[&str]| {
        let mut apt = as_root("apt-get");
        apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
        let status = apt.status().context("starting apt-get")?;
        if status.success() { Ok(()) } else { bail!("apt-get {} ended with {status}", arguments.join(" ")) }
    };
    get(&["update", "-q"])?;
    let mut install = vec!["install", "-qy", "--no-install-recommends"];
    install.extend(PACKAGES);
    get(&install)
}

fn as_root(program: &str) -> Command {
    if rustix_is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", program]);
    sudo
}

fn rustix_is_root() -> bool {
    let output = Command::new("id").arg("-u").output();
    output.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

fn cache() -> anyhow::Result<PathBuf> {
    let base = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => PathBuf::from(home).join(".cache"),
        (None, None) => bail!("neither XDG_CACHE_HOME nor HOME is set: there is no place for a cache"),
    };
    Ok(base.join("ltmc"))
}

fn libc_dir() -> anyhow::Result<PathBuf> {
    Ok(cache()?.join("wasi-libc/usr/lib").join(TARGET))
}

/// Fetches wasi-libc from backports, which a stock Debian 12 does not list: by a list of sources of its own, so that the
/// machine's are not changed, verified by the archive's signature.
fn install_libc() -> anyhow::Result<()> {
    if libc_dir()?.join("libc.a").exists() {
        return Ok(());
    }
    let work = cache()?.join(format!("wasi-libc.{}", std::process::id()));
    std::fs::create_dir_all(work.join("lists/partial"))?;
    let archive = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI) $(SIGNED_BY)", "Codename: bookworm"])
        .output()
        .context("starting apt-get")?;
    let text = String::from_utf8_lossy(&archive.stdout).into_owned();
    let line = text.lines().next().context("apt knows no archive of Debian 12 (bookworm)")?;
    let (uri, signed_by) = line.split_once(' ').unwrap_or((line, ""));
    let signed_by = match signed_by.trim() {
        key if key.starts_with('/') => key,
        // Not said; or this apt does not know the word, and gives it back as it was.
        _ => "/usr/share/keyrings/debian-archive-keyring.gpg",
    };
    let sources = work.join("backports.list");
    std::fs::write(&sources, format!("deb [signed-by={signed_by}] {uri} bookworm-backports main\n"))?;
    let apt = |arguments: &[&str]| -> anyhow::Result<()> {
        let status = Command::new("apt-get")
            .arg("-o")
            .arg(format!("Dir::Etc::sourcelist={}", sources.display()))
            .args(["-o", "Dir::Etc::sourceparts=-"])
            .arg("-o")
            .arg(format!("Dir::State::lists={}", work.join("lists").display()))
            .args(["-o", "APT::Sandbox::User=root", "-q"])
            .args(arguments)
            .current_dir(&work)
            .stdout(Stdio::null())
            .status()?;
        if status.success() { Ok(()) } else { bail!("apt-get {} ended with {status}", arguments.join(" ")) }
    };
    apt(&["update"])?;
    apt(&["download", "wasi-libc"])?;
    let package = std::fs::read_dir(&work)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get downloaded no package")?;
    let unpacked = work.join("unpacked");
    let status = Command::new("dpkg").arg("-x").arg(&package).arg(&unpacked).status().context("starting dpkg")?;
    if !status.success() {
        bail!("dpkg could not unpack {}", package.display());
    }
    let to = cache()?.join("wasi-libc");
    let _ = std::fs::remove_dir_all(&to);
    std::fs::rename(&unpacked, &to)?;
    let _ = std::fs::remove_dir_all(&work);
    Ok(())
}
