//! `ltmc agent`: the agents of a tenant.

use ltmc_model::AgentName;
use ltmc_model::agent::AgentRef;
use serde_json::Value;

use super::{Context, state, text, texts};
use crate::client::encode;
use crate::ui;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the newest version of each
    List,
    /// Show one: what it exports, asks for, was granted, and lacks
    Show {
        /// Its name, or name@sha256:… for one version exactly
        agent: AgentRef,
    },
    /// List the runs that one had a part in, the newest first
    Runs {
        /// Its name, or name@sha256:… for one version exactly
        agent: AgentRef,
        /// At most so many
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Show where one stands, of those whose manifest declares states; --history: what it was before
    State(state::Show),
    /// Release a state that is quarantined
    Release(state::Release),
    /// Set a state by hand
    SetState(state::Set),
    /// Remove one, with all its versions and grants
    #[command(visible_alias = "remove")]
    Rm {
        /// Its name
        agent: AgentName,
    },
}

pub(crate) async fn run(command: Command, context: Context) -> anyhow::Result<()> {
    let client = context.client("default")?;
    match command {
        Command::List => {
            let agents = client.list("/v1/agents", &[], usize::MAX).await?;
            if context.json {
                agents.iter().for_each(ui::json);
                return Ok(());
            }
            let mut table = ui::Table::new(&["name", "version", "digest", "exports", "missing"]);
            for agent in &agents {
                table.row([
                    text(agent, "name"),
                    text(agent, "version"),
                    &ui::short(text(agent, "digest"), 20),
                    &texts(agent, "exports"),
                    &texts(agent, "missing"),
                ]);
            }
            table.print("No agents yet: `ltmc push` uploads one.");
        }
        Command::Show { agent } => {
            let shown = client.get(&format!("/v1/agents/{}", encode(&agent.to_string()))).await?;
            if context.json {
                ui::json(&shown);
            } else {
                print(&shown);
                note_withheld(&shown);
            }
        }
        Command::Runs { agent, limit } => {
            let runs = client.list(&format!("/v1/agents/{}/runs", encode(&agent.to_string())), &[], limit).await?;
            if context.json {
                runs.iter().for_each(ui::json);
                return Ok(());
            }
            let mut table = ui::Table::new(&["id", "state", "of", "version", "started"]);
            for run in &runs {
                let of = Some(text(run, "workflow")).filter(|name| !name.is_empty()).unwrap_or(text(run, "agent"));
                let versions = ui::short(&texts(run, "versions"), 20);
                table.row([text(run, "id"), text(run, "state"), of, &versions, text(run, "created_at")]);
            }
            table.print("It had no part in any run.");
        }
        Command::State(show) => state::show(show, context).await?,
        Command::Release(release) => state::release(release, context).await?,
        Command::SetState(set) => state::set(set, context).await?,
        Command::Rm { agent } => {
            client.delete(&format!("/v1/agents/{}", encode(agent.as_str()))).await?;
            ui::note(format!("Removed {agent}."));
        }
    }
    Ok(())
}

/// What the tenant's ceiling withholds of what an agent asks for or was granted; and what to do about it.
pub(crate) fn note_withheld(agent: &Value) {
    let withheld = texts(agent, "withheld");
    if !withheld.is_empty() {
        ui::note(format!(
            "The tenant's ceiling withholds, whatever is granted: {withheld}. The operator can change that: \
             ltmc ceiling set TENANT --add …"
        ));
    }
}

/// An agent, as `show` and `push` print it.
pub(crate) fn print(agent: &Value) {
    let line = |name: &str, value: &str| {
        if !value.is_empty() {
            ui::line(format!("{name:<12} {}", ui::clean(value)));
        }
    };
    for field in ["name", "version", "description", "digest"] {
        line(field, text(agent, field));
    }
    if let Some(size) = agent.get("size").and_then(Value::as_u64) {
        line("size", &bytesize::ByteSize(size).to_string());
    }
    line("pushed", text(agent, "pushed_at"));
    // What is not said otherwise is read-committed.
    line("isolation", Some(text(agent, "isolation")).filter(|level| *level != "read-committed").unwrap_or_default());
    for field in ["exports", "asks", "grants", "missing", "withheld"] {
        line(field, &texts(agent, field));
    }
    for asked in agent["subscriptions"].as_array().into_iter().flatten() {
        line("woken by", &asked.to_string());
    }
    if let Some(limits) = agent.get("limits").and_then(Value::as_object) {
        let limits: Vec<String> = limits
            .iter()
            .map(|(k, v)| format!("{k} {}", v.as_str().map_or_else(|| v.to_string(), str::to_owned)))
            .collect();
        line("limits", &limits.join(", "));
    }
}
