//! `ltmc flow`: workflows, and runs of them.
//!
//! What an author needs no host for stands in files of their own: [`check`], [`draw`], [`test`].

use std::path::PathBuf;
use std::time::Duration;

use ltmc_model::{Payload, WorkflowName};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::call::{Starting, started};
use super::input::Input;
use super::{Context, runs, text};
use crate::client::{Client, content_type, encode};
use crate::exit::{Exit, Problem};
use crate::ui;

mod check;
pub(crate) mod draw;
mod similar;
mod source;
mod test;

use source::Source;

/// How often a run that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Say everything that is wrong with documents, each with its line and column; no host is needed
    Check(check::Args),
    /// Draw one, as text or as SVG; no host is needed
    Draw(draw::Args),
    /// Try one with agents whose parts are played from a file; no host is needed
    Test(test::Args),
    /// Print the JSON Schema of documents, for editors; no host is needed
    Schema,
    /// Upload a document; everything that is wrong with it is told at once
    Push {
        /// The document, YAML or JSON
        #[arg(value_name = "F.yaml")]
        file: PathBuf,
    },
    /// Run one; waits and shows progress
    Run(Run),
    /// List them
    List,
    /// Find those that were run before and are like a text, or like a document
    Similar(similar::Args),
    /// Show a document as it was sent
    Show {
        /// Its name
        name: WorkflowName,
    },
    /// Remove one
    #[command(visible_alias = "remove")]
    Rm {
        /// Its name
        name: WorkflowName,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// Its name
    name: WorkflowName,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    starting: Starting,
}

pub(crate) async fn run(command: Command, context: Context) -> anyhow::Result<()> {
    let client = || context.client("default");
    match command {
        Command::Check(args) => check::run(&args, &context).await,
        Command::Draw(args) => draw::run(&args, &context),
        Command::Test(args) => test::run(args, context).await,
        Command::Schema => {
            let schema = ltmc_model::workflow::schema::schema();
            if context.json {
                ui::json(&schema);
            } else {
                ui::line(serde_json::to_string_pretty(&schema)?);
            }
            Ok(())
        }
        Command::Push { file } => push(&client()?, &file, context.json).await,
        Command::Run(args) => start(&client()?, args, context.json).await,
        Command::List => list(&client()?, context.json).await,
        Command::Similar(args) => similar::run(&args, &context).await,
        Command::Show { name } => {
            let client = client()?;
            let answer = client.send(client.request(Method::GET, &path(&name))).await?;
            ui::content(&answer.body);
            Ok(())
        }
        Command::Rm { name } => {
            client()?.delete(&path(&name)).await?;
            ui::note(format!("Removed {name}."));
            Ok(())
        }
    }
}

async fn list(client: &Client, as_json: bool) -> anyhow::Result<()> {
    let flows = client.list("/v1/workflows", &[], usize::MAX).await?;
    if as_json {
        flows.iter().for_each(ui::json);
        return Ok(());
    }
    let mut table = ui::Table::new(&["name", "digest", "updated"]);
    for flow in &flows {
        table.row([text(flow, "name"), &ui::short(text(flow, "digest"), 20), text(flow, "updated_at")]);
    }
    table.print("No workflows yet: `ltmc flow push F.yaml` uploads one.");
    Ok(())
}

fn path(name: &WorkflowName) -> String {
    format!("/v1/workflows/{}", encode(name.as_str()))
}

async fn push(client: &Client, file: &std::path::Path, as_json: bool) -> anyhow::Result<()> {
    let source = Source::read(file)?;
    // The name is in the document, so it is read here as well as on the host.
    let document = source.document()?;
    let request =
        client.request(Method::PUT, &path(&document.name)).header(CONTENT_TYPE, "application/yaml").body(source.text);
    let answer = client.send(request).await?;
    if as_json {
        ui::json(&answer.json()?);
    } else {
        let how = if answer.status == reqwest::StatusCode::CREATED { "Pushed" } else { "Replaced" };
        ui::note(format!("{how} {}: {} steps.", document.name, document.steps().len()));
    }
    Ok(())
}

async fn start(client: &Client, args: Run, as_json: bool) -> anyhow::Result<()> {
    let path = format!("{}/runs", path(&args.name));
    let answer = client.send(args.starting.request(client, &path, args.input.read()?)).await?;
    let id = answer.run()?;
    if args.starting.detach {
        started(&id, as_json);
        return Ok(());
    }
    finish(client, &id, as_json).await
}

/// Waits for a run's end, and prints its result.
pub(crate) async fn finish(client: &Client, id: &str, as_json: bool) -> anyhow::Result<()> {
    let run = with_output(client, wait(client, id).await?).await?;
    let (output, error) = (run.get("output").cloned(), run.get("error").cloned());
    if as_json {
        ui::json(&json!({"run": id, "state": run["state"], "output": output, "error": error}));
    }
    if text(&run, "state") != "completed" {
        let error = error.unwrap_or_default();
        let code = text(&error, "code");
        let step = error.get("step").and_then(Value::as_str).map(|step| format!("step {step}: ")).unwrap_or_default();
        let own = runs::own_code(&error["agent_code"]);
        let message = format!("{step}{}{own} [{code}]", ui::clean(text(&error, "message")));
        return Err(Problem::new(Exit::Failed, code, message)
            .help(format!("`ltmc runs show {id}` shows what happened"))
            .into());
    }
    if !as_json {
        let payload: Payload = serde_json::from_value(output.unwrap_or_default())?;
        ui::content(&payload.bytes);
    }
    Ok(())
}

/// A run with its result, also where that is so large that the host shows it alone.
pub(crate) async fn with_output(client: &Client, mut run: Value) -> anyhow::Result<Value> {
    let Some(href) = run.get("output_href").and_then(Value::as_str) else { return Ok(run) };
    let answer = client.send(client.request(Method::GET, href)).await?;
    let output = Payload { content_type: content_type(&answer), bytes: answer.body };
    run["output"] = serde_json::to_value(output)?;
    Ok(run)
}

/// What a node that waits is called.
fn waiting(node: &Value) -> String {
    let name = if text(node, "name").is_empty() { text(node, "pattern") } else { text(node, "name") };
    format!("{name} waiting")
}

/// Waits for a run's end, and says what it does meanwhile.
async fn wait(client: &Client, id: &str) -> anyhow::Result<Value> {
    let progress = ui::Progress::start(format!("run {id}"));
    // Also for whoever goes away, or loses the host: the run goes on.
    progress.above(format!("run {id}"));
    let mut told = std::collections::BTreeSet::new();
    loop {
        let run = client.get(&format!("/v1/runs/{id}")).await?;
        let steps = run["steps"].as_array().cloned().unwrap_or_default();
        for step in &steps {
            let done = matches!(text(step, "status"), "completed" | "failed");
            if done && told.insert(text(step, "path").to_owned()) {
                progress.above(runs::step_line(step));
            }
        }
        let nodes = run["nodes"].as_array().cloned().unwrap_or_default();
        let asks = |node: &&Value| text(node, "status") == "waiting" && node["waits_for"].is_object();
        for node in nodes.iter().filter(asks) {
            let key = format!("{} {}", text(node, "path"), node["waits_for"]);
            if let Some(line) = runs::node_line(node).filter(|_| told.insert(key)) {
                progress.above(line);
            }
        }
        let at_work = |step: &&Value| matches!(text(step, "status"), "running" | "waiting");
        let step = steps.iter().find(at_work).map(|step| format!("{} {}", text(step, "name"), text(step, "status")));
        let node = || nodes.iter().find(|node| text(node, "status") == "waiting").map(waiting);
        progress.say(step.or_else(node).unwrap_or_else(|| format!("run {id}")));
        if matches!(text(&run, "state"), "completed" | "failed" | "cancelled" | "quarantined" | "paused" | "stuck") {
            return Ok(run);
        }
        tokio::time::sleep(LOOK).await;
    }
}
