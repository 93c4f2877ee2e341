//! Guests to components: an agent's crate is compiled to `wasm32-wasip2`, and its manifest goes inside.
//!
//! Invariants: the author's toolchain is not changed unless it lacks the target; which route was taken is said in one
//! line; where none can be, the error says what to install.
//!
//! - [`toolchain`]: rustup's target, or Debian's packages
//! - [`manifest`]: from `[package.metadata.ltmc]` to a section of the component
//! - [`template`]: what `ltmc new` writes

pub mod manifest;
pub mod template;
pub mod toolchain;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use cargo_metadata::{CrateType, Metadata, MetadataCommand, Package, Target};

pub use template::{Sdk, new_crate};
pub use toolchain::Toolchain;

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The package.
    pub package: String,
    /// The target within it, with `-` for `_`: the component's name.
    pub target: String,
    /// The component, with its manifest inside.
    pub wasm: PathBuf,
}

/// Builds every agent of the crate or workspace at `dir` in release: each `cdylib` and each binary becomes a component in
/// `ltmc/` below the target directory. `say` is given lines of progress; cargo's own go to standard error.
///
/// The target directory is the workspace's own, or the one that `LTMC_GUEST_TARGET` names.
///
/// # Errors
/// No toolchain, no agent in the crate, a manifest that does not parse, or cargo's.
pub fn build(dir: &Path, say: &mut dyn FnMut(&str)) -> anyhow::Result<Vec<Built>> {
    let toolchain = Toolchain::find_or_install(say)?;
    let metadata = metadata(dir)?;
    let packages = wanted(&metadata, dir)?;
    let target_dir = match std::env::var_os("LTMC_GUEST_TARGET") {
        Some(shared) => PathBuf::from(shared),
        None => metadata.target_directory.clone().into_std_path_buf(),
    };
    let mut cargo = toolchain.cargo_build();
    // Libraries of examples are made only when asked for, and then nothing else is unless it is asked for too.
    if packages.iter().any(|package| package.targets.iter().any(|target| target.is_example() && is_agent(target))) {
        cargo.args(["--bins", "--examples"]);
    }
    cargo.current_dir(dir).env("CARGO_TARGET_DIR", &target_dir);
    let status = cargo.status().with_context(|| format!("starting {}", toolchain.describe()))?;
    if !status.success() {
        bail!("cargo did not build {} ({status}); its words are above", dir.display());
    }
    let out = target_dir.join("ltmc");
    std::fs::create_dir_all(&out).with_context(|| format!("making {}", out.display()))?;
    let mut built = Vec::new();
    for package in packages {
        let manifest =
            manifest::of_package(package).with_context(|| format!("the manifest of package `{}`", package.name))?;
        for target in package.targets.iter().filter(|target| is_agent(target)) {
            let file = if target.is_bin() { target.name.clone() } else { target.name.replace('-', "_") };
            let release = target_dir.join("wasm32-wasip2/release");
            let place = if target.is_example() { release.join("examples") } else { release };
            let compiled = place.join(format!("{file}.wasm"));
            let wasm = std::fs::read(&compiled).with_context(|| format!("reading {}", compiled.display()))?;
            let name = target.name.replace('_', "-");
            let path = out.join(format!("{name}.wasm"));
            let with_manifest = manifest::embed(&wasm, &manifest)?;
            // Aside first: whoever reads it meanwhile reads all of it or the one before.
            let aside = out.join(format!(".{name}.wasm.{}", std::process::id()));
            std::fs::write(&aside, with_manifest)
                .and_then(|()| std::fs::rename(&aside, &path))
                .with_context(|| format!("writing {}", path.display()))?;
            built.push(Built { package: package.name.to_string(), target: name, wasm: path });
        }
    }
    Ok(built)
}

fn metadata(dir: &Path) -> anyhow::Result<Metadata> {
    let path = dir.join("Cargo.toml");
    if !path.is_file() {
        bail!("{} has no Cargo.toml: `ltmc new NAME` makes an agent's crate", dir.display());
    }
    let found = MetadataCommand::new().manifest_path(&path).no_deps().exec();
    found.with_context(|| format!("reading {}", path.display()))
}

/// The packages at `dir` that make an agent: the package there, or all of the workspace there.
fn wanted<'a>(metadata: &'a Metadata, dir: &Path) -> anyhow::Result<Vec<&'a Package>> {
    let here = dir.join("Cargo.toml").canonicalize()?;
    let is_here =
        |package: &&Package| package.manifest_path.as_std_path().canonicalize().is_ok_and(|path| path == here);
    let one: Vec<&Package> = metadata.workspace_packages().into_iter().filter(is_here).collect();
    let packages = if one.is_empty() { metadata.workspace_packages() } else { one };
    let agents: Vec<&Package> = packages.into_iter().filter(|package| package.targets.iter().any(is_agent)).collect();
    if agents.is_empty() {
        bail!(
            "{}: neither a library with `crate-type = [\"cdylib\"]` nor a program: nothing that makes a component",
            here.display()
        );
    }
    Ok(agents)
}

fn is_agent(target: &Target) -> bool {
    target.is_bin() || target.crate_types.contains(&CrateType::CDyLib)
}
