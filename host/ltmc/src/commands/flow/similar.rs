//! `ltmc flow similar`: workflows that were run before and are like a text, or like a document.

use serde_json::Value;

use super::super::{Context, text};
use super::source::Source;
use crate::client::encode;
use crate::ui;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What it is to be about, in words; or a document, F.yaml, F.yml or F.json
    #[arg(value_name = "TEXT|F.yaml")]
    like: String,
    /// At most so many, 1 to 50
    #[arg(long, default_value_t = 10)]
    limit: u32,
}

pub(crate) async fn run(args: &Args, context: &Context) -> anyhow::Result<()> {
    let is_document = [".yaml", ".yml", ".json"].iter().any(|end| args.like.ends_with(end));
    let like = match is_document {
        true => Source::read(args.like.as_ref())?.document()?.gist(),
        false => args.like.clone(),
    };
    let client = context.client("default")?;
    let path = format!("/v1/search/workflows?text={}&limit={}", encode(&like), args.limit);
    let found = client.get(&path).await?;
    let items = found["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if context.json {
        items.iter().for_each(ui::json);
        return Ok(());
    }
    let mut table = ui::Table::new(&["similarity", "workflow", "last run", "state", "completed", "ended"]);
    for item in items {
        let similarity = format!("{:.2}", item["similarity"].as_f64().unwrap_or(0.0));
        let number = |name: &str| item.get(name).and_then(Value::as_u64).unwrap_or(0);
        let completed = format!("{} of {}", number("completed"), number("runs"));
        let [workflow, run, state, ended] = ["workflow", "last_run", "state", "ended_at"].map(|name| text(item, name));
        table.row([&similarity, workflow, run, state, &completed, ended]);
    }
    table.print("No run of a workflow is over yet.");
    Ok(())
}
