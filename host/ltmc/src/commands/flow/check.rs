//! `ltmc flow check`: everything that is wrong with documents, as a host would say it when they are put. Which agents there are
//! only a host knows.

use std::path::PathBuf;

use ltmc_model::TenantId;
use ltmc_model::workflow::{Document, Fault};
use ltmc_orchestration::workflows::check_schemas;
use ltmc_ports::Schemas;
use serde_json::{Value, json};

use super::source::Source;
use crate::commands::Context;
use crate::exit::{Exit, Problem};
use crate::{ui, wire};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The documents, YAML or JSON; `-` is standard input
    #[arg(value_name = "F.yaml", required = true)]
    files: Vec<PathBuf>,
}

pub(super) async fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let schemas = wire::schemas()?;
    // No tenant's: nobody shares with it who judges.
    let tenant = TenantId::host();
    let mut wrong = 0;
    for file in &args.files {
        let source = Source::read(file)?;
        let (document, faults) = match Document::parse(&source.text, None) {
            Ok(document) => {
                let faults = faults_of(&schemas, &tenant, &document).await?;
                (Some(document), faults)
            }
            Err(faults) => (None, faults.0),
        };
        wrong += usize::from(!faults.is_empty());
        if context.json {
            ui::json(&as_json(&source, document.as_ref(), &faults));
            continue;
        }
        faults.iter().for_each(|fault| ui::line(ui::clean(&source.line(fault))));
        if let (Some(document), true) = (&document, faults.is_empty()) {
            ui::note(format!("{}: {} is right, {} steps.", source.shown, document.name, document.steps().len()));
        }
    }
    match (wrong, args.files.len()) {
        (0, _) => Ok(()),
        (1, 1) => Err(failed("the document is not right [bad-workflow]".into())),
        (wrong, all) => Err(failed(format!("{wrong} of {all} documents are not right [bad-workflow]"))),
    }
}

async fn faults_of(schemas: &dyn Schemas, tenant: &TenantId, document: &Document) -> anyhow::Result<Vec<Fault>> {
    let looked = check_schemas(schemas, tenant, document).await;
    Ok(looked.map_err(|failure| Problem::new(Exit::Failed, failure.code.as_str(), failure.message))?)
}

fn failed(message: String) -> anyhow::Error {
    Problem::new(Exit::Failed, "bad-workflow", message).into()
}

fn as_json(source: &Source, document: Option<&Document>, faults: &[Fault]) -> Value {
    let faults: Vec<Value> = faults
        .iter()
        .map(|fault| json!({"line": fault.place.line, "column": fault.place.column, "message": fault.message}))
        .collect();
    json!({
        "file": source.shown,
        "workflow": document.map(|document| &document.name),
        "steps": document.map(|document| document.steps().len()),
        "faults": faults,
    })
}
