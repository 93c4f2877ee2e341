//! `cargo xtask test`: everything that must hold. Sets up what is missing first.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use crate::process::{agents, cargo, run as run_process};
use crate::steps::Steps;

/// The version of the tool that finds dependencies nobody uses.
const MACHETE: &str = "0.9.2";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name has this in it; format and lints are left out
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
    /// Leave out the lints, which compile everything a second time
    #[arg(long)]
    no_lints: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    crate::setup::packages(&[crate::setup::HOST, crate::setup::SERVERS].concat())?;
    let whole = args.filter.is_none();
    let lints = whole && !args.no_lints;
    let mut steps = Steps::new(4 + 3 * usize::from(whole) + usize::from(lints));
    if whole {
        steps.check("Format", format);
        steps.check("Unused dependencies", unused_dependencies);
    }
    // Host and tests in one go: the same features, so that nothing is compiled twice.
    steps.step("The host and its tests", || run_process(cargo(&["build", "--workspace", "--bins", "--tests"])))?;
    let ltmc = crate::target().join("debug/ltmc");
    let (samples, guests) = steps.step("Guests and sample agents, compiled to WebAssembly", || {
        Ok((agents(&ltmc, &crate::root().join("sample-agents"))?, guests(&ltmc)?))
    })?;
    steps.check("Tests", || {
        let mut command = cargo(&["test", "--workspace", "--no-fail-fast"]);
        command.args(&args.filter).env("LTMC_TEST_GUESTS", &guests).env("LTMC_TEST_BIN", &ltmc);
        run_process(command)
    });
    steps.check("The sample agents' own tests", || {
        let mut command = cargo(&["test"]);
        command.args(&args.filter).current_dir(crate::root().join("sample-agents"));
        command.env("CARGO_TARGET_DIR", crate::target().join("native-agents"));
        run_process(command)
    });
    if whole {
        steps.check("The demo's jobs", || crate::demo::every_job(&ltmc, &samples));
    }
    if lints {
        steps
            .check("Lints", || run_process(cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])));
    }
    steps.finish()
}

fn format() -> anyhow::Result<()> {
    run_process(cargo(&["fmt", "--check"]))?;
    for workspace in ["sample-agents", "tests/guests"] {
        let mut command = cargo(&["fmt", "--check"]);
        command.current_dir(crate::root().join(workspace));
        run_process(command)?;
    }
    Ok(())
}

/// Looks for dependencies that no source names, in all three workspaces: each manifest below the root. An exception stands in
/// the manifest's `metadata.cargo-machete`, with its reason.
fn unused_dependencies() -> anyhow::Result<()> {
    let tools = crate::target().join("tools").join(format!("cargo-machete-{MACHETE}"));
    let machete = tools.join("bin/cargo-machete");
    if !machete.exists() {
        let mut install = cargo(&["install", "--debug", "--locked", "--version", MACHETE, "cargo-machete", "--root"]);
        // In a directory of its own, which is not needed afterwards.
        let build = tools.join("build");
        install.arg(&tools).env("CARGO_TARGET_DIR", &build).env("CARGO_PROFILE_DEV_DEBUG", "0");
        run_process(install)?;
        let _ = std::fs::remove_dir_all(build);
    }
    let mut command = Command::new(machete);
    command.current_dir(crate::root());
    run_process(command)
}

/// Builds the tests' guests by the binary `ltmc`; the directory of their components.
pub(crate) fn guests(ltmc: &Path) -> anyhow::Result<PathBuf> {
    let built = agents(ltmc, &crate::root().join("tests/guests"))?;
    let first = built.first().context("tests/guests built nothing")?;
    Ok(first.parent().context("a component stands in a directory")?.to_owned())
}
