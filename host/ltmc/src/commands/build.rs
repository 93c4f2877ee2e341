//! `ltmc build`: an agent's crate to a component with its manifest inside.

use std::path::{Path, PathBuf};

use ltmc_guest_build::Built;
use ltmc_model::AgentName;
use ltmc_model::manifest::Manifest;

use super::Context;
use crate::exit::Problem;
use crate::ui;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The crate, or a workspace of several
    #[arg(default_value = ".", value_name = "DIR")]
    dir: PathBuf,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    for Built { package, target, wasm } in build(&args.dir)? {
        let bytes = std::fs::read(&wasm)?;
        let manifest = ltmc_guest_build::manifest::read(&bytes).unwrap_or_default();
        Manifest::parse(&manifest).map_err(|why| {
            Problem::failed(format!("package `{package}`: a host would refuse its manifest: {why}"))
                .help("look at [package.metadata.ltmc] in its Cargo.toml")
        })?;
        if context.json {
            ui::json(&serde_json::json!({"package": package, "name": target, "wasm": wasm, "size": bytes.len()}));
        } else {
            ui::line(format!("{}  {}", wasm.display(), bytesize::ByteSize(bytes.len() as u64)));
        }
    }
    Ok(())
}

fn build(dir: &Path) -> anyhow::Result<Vec<Built>> {
    ltmc_guest_build::build(dir, &mut |line| ui::note(line)).map_err(|e| Problem::failed(format!("{e:#}")).into())
}

/// The component that `what` is: itself, or what its crate builds to.
pub(crate) fn component(what: &Path) -> anyhow::Result<PathBuf> {
    if !what.is_dir() {
        return Ok(what.to_owned());
    }
    let mut built = build(what)?;
    match (built.pop(), built.len()) {
        (Some(one), 0) => Ok(one.wasm),
        (Some(last), _) => {
            built.push(last);
            let names: Vec<String> = built.iter().map(|b| b.wasm.display().to_string()).collect();
            Err(Problem::usage(format!("{} makes several components: {}", what.display(), names.join(", ")))
                .help("push them one by one")
                .into())
        }
        (None, _) => Err(Problem::failed(format!("{} makes no component", what.display())).into()),
    }
}

/// The name an agent is called by when nobody says another: its manifest's, else its file's.
pub(crate) fn name_of(component: &Path, bytes: &[u8]) -> anyhow::Result<AgentName> {
    let manifest = ltmc_guest_build::manifest::read(bytes).and_then(|json| Manifest::parse(&json).ok());
    let file = || component.file_stem().map(|stem| stem.to_string_lossy().replace('_', "-"));
    let name = manifest.and_then(|manifest| manifest.name).or_else(file).unwrap_or_default();
    name.parse().map_err(|e| Problem::usage(format!("{e}")).help("give it a name with --name").into())
}
