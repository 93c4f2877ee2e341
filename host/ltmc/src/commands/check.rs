//! `ltmc check`: what a component imports, exports and asks for, and whether a host would take it. No host is needed: the
//! same sandbox looks at it, in a directory that is gone afterwards.

use std::path::PathBuf;

use anyhow::Context as _;
use ltmc_model::manifest::Manifest;
use ltmc_ports::Components as _;
use ltmc_ports::runner::AdmitError;
use ltmc_sandbox::Sandbox;
use serde_json::json;

use super::{Context, build};
use crate::exit::{Exit, Problem};
use crate::{ui, wire};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The component, or an agent's crate, which is built first
    #[arg(value_name = "F.wasm|DIR")]
    what: PathBuf,
}

pub(crate) async fn run(args: Args, context: Context) -> anyhow::Result<()> {
    let path = build::component(&args.what)?;
    let bytes = std::fs::read(&path).map_err(|e| Problem::usage(format!("{} cannot be read: {e}", path.display())))?;
    let dir = tempfile::tempdir().context("making a directory for a moment")?;
    let mut config = context.loaded.config.clone();
    (config.sandbox.slots, config.sandbox.waiting) = (1, 1);
    let tenant = "default".parse()?;
    let sandbox = Sandbox::new(wire::sandbox_config(&config, dir.path().into())?)?;
    let found = sandbox.admit(&tenant, bytes.into()).await.map_err(|error| match &error {
        AdmitError::Refused { code, message } => Problem::new(Exit::Failed, *code, format!("{message} [{code}]")),
        AdmitError::Busy { .. } | AdmitError::Full | AdmitError::Failed { .. } => Problem::failed(error.to_string()),
    })?;
    let manifest = match &found.manifest {
        Some(json) => Manifest::parse(json).map_err(|why| {
            Problem::new(Exit::Failed, "bad-manifest", format!("the manifest inside: {why} [bad-manifest]"))
        })?,
        None => Manifest::default(),
    };
    let exports: Vec<String> = found.exports.iter().map(|export| format!("{export:?}").to_lowercase()).collect();
    let asks: Vec<String> = manifest.asks.iter().map(ToString::to_string).collect();
    if context.json {
        ui::json(&json!({
            "digest": found.digest, "exports": found.exports, "imports": found.imports, "manifest": manifest,
            "has_manifest": found.manifest.is_some(),
        }));
        return Ok(());
    }
    let line = |name: &str, value: &str| ui::line(format!("{name:<9} {}", ui::clean(value)));
    line("digest", &found.digest.to_string());
    line("exports", &exports.join(" "));
    line("asks", if asks.is_empty() { "nothing" } else { "" });
    asks.iter().for_each(|ask| line("", ask));
    line("imports", if found.imports.is_empty() { "nothing" } else { "" });
    found.imports.iter().for_each(|import| line("", import));
    ui::note("A host would take it.");
    Ok(())
}
