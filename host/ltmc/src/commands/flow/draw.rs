//! `ltmc flow draw`: a document as a picture.

use std::path::PathBuf;

use ltmc_draw::Figure;
use serde_json::json;

use super::source::Source;
use crate::commands::Context;
use crate::exit::Problem;
use crate::ui;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The document, YAML or JSON; `-` is standard input
    #[arg(value_name = "F.yaml")]
    file: PathBuf,
    #[command(flatten)]
    picture: Picture,
    /// Print it as text, also where an SVG file is written
    #[arg(long)]
    text: bool,
}

/// Where a picture goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Picture {
    /// Write it there as SVG
    #[arg(long, value_name = "OUT.svg")]
    pub(crate) svg: Option<PathBuf>,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let document = Source::read(&args.file)?.document()?;
    let (figure, name) = (Figure::of(&document), document.name.as_str());
    if context.json {
        ui::json(&json!({"workflow": name, "text": figure.text(name), "svg": figure.svg(name)}));
    } else if args.text || args.picture.svg.is_none() {
        ui::line(figure.text(name).trim_end());
    }
    args.picture.write(&figure, name)
}

impl Picture {
    /// Writes the file, where one is wanted.
    pub(crate) fn write(&self, figure: &Figure, name: &str) -> anyhow::Result<()> {
        let Some(path) = &self.svg else { return Ok(()) };
        std::fs::write(path, figure.svg(name))
            .map_err(|e| Problem::failed(format!("{} cannot be written: {e}", path.display())))?;
        ui::note(format!("Drawn: {}", path.display()));
        Ok(())
    }
}
