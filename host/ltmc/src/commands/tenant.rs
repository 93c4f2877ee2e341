//! `ltmc tenant`: the operator's. Tenants share nothing but the machine.

use bytesize::ByteSize;
use ltmc_model::TenantId;
use serde_json::json;

use super::{Context, text};
use crate::exit::Problem;
use crate::ui;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a tenant; `ltmc key create --tenant NAME --role admin` then makes its first key
    Create {
        /// Its name
        name: TenantId,
    },
    /// Delete one, with all that it has; its keys stop at once, and nothing brings it back
    Delete {
        /// Its name
        name: TenantId,
        /// That it is meant
        #[arg(long)]
        yes: bool,
    },
    /// List all
    List,
    /// Show one, with its ceiling, and what it has on disk
    Show {
        /// Its name
        name: TenantId,
    },
}

pub(crate) async fn run(command: Command, context: Context) -> anyhow::Result<()> {
    let client = context.client("operator")?;
    match command {
        Command::Create { name } => {
            let made = client.post("/v1/tenants", Some(&json!({"name": name}))).await?.json()?;
            if context.json {
                ui::json(&made);
            } else {
                ui::note(format!(
                    "Made the tenant {name}. Its first key: ltmc key create --tenant {name} --role admin"
                ));
            }
        }
        Command::Delete { name, yes } => {
            if !yes {
                let message =
                    format!("this deletes the tenant {name} with everything it has, and nothing brings it back");
                return Err(Problem::usage(message).help(format!("ltmc tenant delete {name} --yes")).into());
            }
            client.delete(&format!("/v1/tenants/{}", crate::client::encode(name.as_str()))).await?;
            ui::note(format!(
                "Deleted the tenant {name}: its keys are good no more. What it has goes in the background; then its name is free."
            ));
        }
        Command::List => {
            let tenants = client.list("/v1/tenants", &[], usize::MAX).await?;
            if context.json {
                tenants.iter().for_each(ui::json);
                return Ok(());
            }
            let mut table = ui::Table::new(&["name", "created"]);
            for tenant in &tenants {
                table.row([text(tenant, "name"), text(tenant, "created_at")]);
            }
            table.print("No tenants.");
        }
        Command::Show { name } => {
            let ceiling = client.get(&super::ceiling::path(Some(&name))).await?;
            let usage = client.get(&format!("/v1/usage/{}", crate::client::encode(name.as_str()))).await?;
            let tenants = client.list("/v1/tenants", &[], usize::MAX).await?;
            let mut tenant = tenants.into_iter().find(|t| text(t, "name") == name.as_str()).unwrap_or_default();
            if context.json {
                tenant["ceiling"] = ceiling;
                tenant["disk"] = usage;
                ui::json(&tenant);
            } else {
                ui::line(format!("name         {}", text(&tenant, "name")));
                ui::line(format!("created      {}", text(&tenant, "created_at")));
                super::ceiling::print(&ceiling);
                let bytes = |field| ByteSize(usage.get(field).and_then(serde_json::Value::as_u64).unwrap_or_default());
                ui::line(format!("on disk      {} of {}", bytes("used"), bytes("allowed")));
            }
        }
    }
    Ok(())
}
