//! `ltmc publish`: an event to a topic.

use ltmc_model::message::Topic;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::json;

use super::{Context, input};
use crate::ui;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topic
    topic: Topic,
    /// What happened, such as order.paid
    #[arg(long, value_name = "TYPE")]
    r#type: String,
    /// What it is about
    #[arg(long)]
    subject: Option<String>,
    /// Its content, in JSON, or @FILE that holds it [default: none]
    #[arg(value_name = "DATA")]
    content: Option<String>,
}

pub(crate) async fn run(args: Args, context: Context) -> anyhow::Result<()> {
    let Args { topic, r#type, subject, content } = args;
    let data = content.map(|data| input::json("DATA", "", &data)).transpose()?;
    let mut fields = vec![format!("\"topic\":{}", json!(topic)), format!("\"type\":{}", json!(r#type))];
    fields.extend(subject.map(|subject| format!("\"subject\":{}", json!(subject))));
    // As it was given, to the last digit.
    fields.extend(data.map(|data| format!("\"data\":{}", data.trim())));
    let client = context.client("default")?;
    let request = client.request(Method::POST, "/v1/events").header(CONTENT_TYPE, "application/json");
    let answer = client.send(request.body(format!("{{{}}}", fields.join(",")))).await?.json()?;
    if context.json {
        ui::json(&answer);
    } else {
        ui::note(format!("Published to {topic}: event {}.", answer["id"]));
    }
    Ok(())
}
