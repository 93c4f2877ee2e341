//! `cargo xtask test`: everything that must hold. Sets up what is missing first.

use std::path::{Path, PathBuf};

use crate::process::{cargo, run as run_process};
use crate::steps::Steps;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only tests whose name has this in it; format and lints are left out
    #[arg(long, value_name = "NAME")]
    filter: Option<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let whole = args.filter.is_none();
    let mut steps = Steps::new(if whole { 7 } else { 4 });
    if whole {
        steps.check("Format", format);
        steps.check("Lints", || {
            run_process(cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
        });
    }
    steps.step("Guests and sample agents, compiled to WebAssembly", || {
        guests()?;
        sample_agents()
    })?;
    steps.step("The host", || run_process(cargo(&["build", "-p", "ltmc"])))?;
    let environment = environment("debug")?;
    steps.check("Tests", || {
        let mut command = cargo(&["test", "--workspace"]);
        command.args(&args.filter).envs(environment);
        run_process(command)
    });
    steps.check("The sample agents' own tests", || {
        let mut command = cargo(&["test"]);
        command.args(&args.filter).current_dir(crate::root().join("sample-agents"));
        command.env("CARGO_TARGET_DIR", crate::target().join("native-agents"));
        run_process(command)
    });
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
