//! `ltmc new`: an agent's crate from the template.

use std::path::{Path, PathBuf};

use ltmc_guest_build::{Sdk, new_crate};

use super::Context;
use crate::exit::Problem;
use crate::ui;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent's name
    name: String,
    /// Where to make it [default: a directory of its name]
    #[arg(long, value_name = "DIR")]
    path: Option<PathBuf>,
    /// The SDK's directory [default: that of the checkout this command was built from]
    #[arg(long, value_name = "DIR", env = "LTMC_SDK")]
    sdk: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let dir = args.path.clone().unwrap_or_else(|| args.name.clone().into());
    let checkout = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../guest-sdk"));
    let sdk = match &args.sdk {
        Some(path) => Sdk::Path(path.clone()),
        None if checkout.join("Cargo.toml").exists() => Sdk::Path(checkout.to_owned()),
        None => Sdk::Version(env!("CARGO_PKG_VERSION").to_owned()),
    };
    new_crate(&args.name, &dir, &sdk).map_err(|e| Problem::usage(format!("{e:#}")))?;
    if context.json {
        ui::json(&serde_json::json!({"name": args.name, "path": dir}));
        return Ok(());
    }
    let dir = dir.display();
    ui::note(format!("Made {dir}. Next:"));
    for line in [
        format!("cd {dir}"),
        "cargo test                 # natively".into(),
        "ltmc build                 # to a component".into(),
        format!(
            "echo Ada | ltmc run target/ltmc/{}.wasm --grant 'memory:read:agent' --grant 'memory:write:agent'",
            args.name
        ),
    ] {
        ui::note(format!("  {line}"));
    }
    Ok(())
}
