//! `ltmc call`: one call of an agent. Its result goes to standard output as it is.

use ltmc_model::agent::AgentRef;
use ltmc_model::{Payload, SessionId};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::json;

use super::Context;
use super::input::Input;
use crate::client::{Answer, content_type, encode};
use crate::ui;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its name, or name@sha256:… for one version exactly
    agent: AgentRef,
    #[command(flatten)]
    input: Input,
    #[command(flatten)]
    starting: Starting,
}

/// What is said of a run that is to begin.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Starting {
    /// Do not wait: print the run's id
    #[arg(long)]
    pub(crate) detach: bool,
    /// The session to work in [default: one of its own]
    #[arg(long, value_name = "ID")]
    pub(crate) session: Option<SessionId>,
    /// The same key and input start the same run, once
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

impl Starting {
    /// The request that starts it.
    pub(crate) fn request(
        &self,
        client: &crate::client::Client,
        path: &str,
        payload: Payload,
    ) -> reqwest::RequestBuilder {
        let request = client.request(Method::POST, path);
        let mut request = request.header(CONTENT_TYPE, payload.content_type).body(payload.bytes);
        if let Some(session) = &self.session {
            request = request.header("ltmc-session", session.as_str());
        }
        if let Some(key) = &self.idempotency_key {
            request = request.header("idempotency-key", key);
        }
        request
    }
}

pub(crate) async fn run(args: Args, context: Context) -> anyhow::Result<()> {
    let client = context.client("default")?;
    let path = format!("/v1/agents/{}/call", encode(&args.agent.to_string()));
    let request = args.starting.request(&client, &path, args.input.read()?);
    if args.starting.detach {
        let answer = client.send(request.header("prefer", "respond-async")).await?;
        started(&answer.run()?, context.json);
        return Ok(());
    }
    let progress = ui::Progress::start(format!("{} works", args.agent));
    let answer = client.send(request).await;
    drop(progress);
    print(&answer?, context.json);
    Ok(())
}

/// A run that goes on by itself.
pub(crate) fn started(run: &str, as_json: bool) {
    if as_json {
        ui::json(&json!({"run": run}));
    } else {
        ui::line(run);
    }
}

/// A result, as the host sent it.
pub(crate) fn print(answer: &Answer, as_json: bool) {
    if !as_json {
        return ui::content(&answer.body);
    }
    let output = Payload { content_type: content_type(answer), bytes: answer.body.clone() };
    ui::json(&json!({"run": answer.header("ltmc-run"), "output": output}));
}
