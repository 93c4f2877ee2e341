//! `ltmc grant`: what an agent may do. In force is what is granted and the tenant's ceiling allows.

use ltmc_model::{AgentName, Capability};
use reqwest::Method;
use serde_json::{Value, json};

use super::Context;
use crate::client::{Client, encode};
use crate::ui;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show what an agent was granted
    #[command(visible_alias = "list")]
    Show {
        /// The agent
        agent: AgentName,
    },
    /// Grant just these, and nothing else
    Set {
        /// The agent
        agent: AgentName,
        /// Such as log, memory:read:session, call:summarize
        capabilities: Vec<Capability>,
    },
    /// Grant these besides what was granted before
    Add {
        /// The agent
        agent: AgentName,
        /// Such as log, memory:read:session, call:summarize
        #[arg(required = true)]
        capabilities: Vec<Capability>,
    },
    /// Take these back: the agent's next host call notices
    Revoke {
        /// The agent
        agent: AgentName,
        /// As they were granted
        #[arg(required = true)]
        capabilities: Vec<Capability>,
    },
}

pub(crate) async fn run(command: Command, context: Context) -> anyhow::Result<()> {
    let client = context.client("default")?;
    let grants = match command {
        Command::Show { agent } => of(&client, &agent).await?,
        Command::Set { agent, capabilities } => set(&client, &agent, &capabilities).await?,
        Command::Add { agent, capabilities } => {
            let mut grants = of(&client, &agent).await?;
            grants.extend(
                capabilities.iter().map(ToString::to_string).filter(|c| !grants.contains(c)).collect::<Vec<_>>(),
            );
            let grants = grants.iter().map(|g| g.parse()).collect::<Result<Vec<Capability>, _>>()?;
            set(&client, &agent, &grants).await?
        }
        Command::Revoke { agent, capabilities } => {
            for capability in &capabilities {
                let path = format!("{}/{}", path(&agent), encode(&capability.to_string()));
                client.send(client.request(Method::DELETE, &path)).await?;
            }
            of(&client, &agent).await?
        }
    };
    if context.json {
        ui::json(&json!(grants));
    } else if grants.is_empty() {
        ui::note("Nothing is granted.");
    } else {
        grants.iter().for_each(ui::line);
    }
    Ok(())
}

/// Grants just these; what is granted then.
pub(crate) async fn set(client: &Client, agent: &AgentName, grants: &[Capability]) -> anyhow::Result<Vec<String>> {
    client.put(&path(agent), &json!(grants)).await?;
    of(client, agent).await
}

/// What an agent was granted.
pub(crate) async fn of(client: &Client, agent: &AgentName) -> anyhow::Result<Vec<String>> {
    let answer = client.get(&path(agent)).await?;
    let list = answer.as_array().or_else(|| answer.get("grants").and_then(Value::as_array));
    Ok(list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect())
}

fn path(agent: &AgentName) -> String {
    format!("/v1/agents/{}/grants", encode(agent.as_str()))
}
