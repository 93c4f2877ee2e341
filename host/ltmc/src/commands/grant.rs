//! `ltmc grant`: what a version of an agent may do. In force is what is granted and the tenant's ceiling allows.

use ltmc_model::agent::{AgentRef, Carry};
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
        /// The agent: NAME for its newest version, or NAME@sha256:…
        agent: AgentRef,
    },
    /// Grant just these, and nothing else
    Set {
        /// The agent: NAME@sha256:… for that version alone; with NAME its newest one has these, and older ones no more than these
        agent: AgentRef,
        /// Such as log, memory:read:session, call:summarize
        capabilities: Vec<Capability>,
        #[command(flatten)]
        rule: Rule,
    },
    /// Grant these besides what this version was granted before
    Add {
        /// The agent: NAME for its newest version, or NAME@sha256:…
        agent: AgentRef,
        /// Such as log, memory:read:session, call:summarize
        #[arg(required = true)]
        capabilities: Vec<Capability>,
        #[command(flatten)]
        rule: Rule,
    },
    /// Take these back, from every version: the agent's next host call notices
    Revoke {
        /// The agent
        agent: AgentName,
        /// As they were granted
        #[arg(required = true)]
        capabilities: Vec<Capability>,
    },
}

/// What becomes of grants when the next version is pushed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Rule {
    /// Whether the next version takes the grants over: never, or same-asks, where it asks for nothing that this one does not
    #[arg(long, value_name = "never|same-asks")]
    carry: Option<Carry>,
}

pub(crate) async fn run(command: Command, context: Context) -> anyhow::Result<()> {
    let client = context.client("default")?;
    let agent = match command {
        Command::Show { agent } => agent,
        Command::Set { agent, capabilities, rule } => {
            set(&client, &agent, &capabilities, rule).await?;
            agent
        }
        Command::Add { agent, capabilities, rule } => {
            add(&client, &agent, &capabilities, rule).await?;
            agent
        }
        Command::Revoke { agent, capabilities } => {
            for capability in &capabilities {
                let path = format!("/v1/agents/{}/grants/{}", encode(agent.as_str()), encode(&capability.to_string()));
                client.send(client.request(Method::DELETE, &path)).await?;
            }
            AgentRef { name: agent, digest: None }
        }
    };
    let shown = client.get(&format!("/v1/agents/{}", encode(&agent.to_string()))).await?;
    let grants = shown["grants"].as_array().cloned().unwrap_or_default();
    if context.json {
        ui::json(&Value::Array(grants));
        return Ok(());
    }
    if grants.is_empty() {
        ui::note("Nothing is granted.");
    }
    grants.iter().filter_map(Value::as_str).for_each(ui::line);
    super::agent::note_withheld(&shown);
    Ok(())
}

/// Grants these besides what that very version was granted. Others of its versions keep what they have.
pub(crate) async fn add(client: &Client, agent: &AgentRef, more: &[Capability], rule: Rule) -> anyhow::Result<()> {
    // Looked at once: should another version be pushed meanwhile, it is granted nothing.
    let shown = client.get(&format!("/v1/agents/{}", encode(&agent.to_string()))).await?;
    let digest = shown["digest"].as_str().map(str::parse).transpose()?;
    let version = AgentRef { name: agent.name.clone(), digest };
    let carry = match rule.carry {
        Some(carry) => carry,
        None => shown["carry"].as_str().unwrap_or_default().parse().unwrap_or_default(),
    };
    let held = shown["grants"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut grants = held.map(str::parse).collect::<Result<Vec<Capability>, _>>()?;
    grants.extend(more.iter().filter(|one| !grants.contains(one)).cloned().collect::<Vec<_>>());
    set(client, &version, &grants, Rule { carry: Some(carry) }).await
}

/// Grants just these.
async fn set(client: &Client, agent: &AgentRef, grants: &[Capability], rule: Rule) -> anyhow::Result<()> {
    let rule = rule.carry.unwrap_or_default().as_str();
    client.put(&format!("{}?carry={rule}", path(agent)), &json!(grants)).await?;
    Ok(())
}

fn path(agent: &AgentRef) -> String {
    format!("/v1/agents/{}/grants", encode(&agent.to_string()))
}
