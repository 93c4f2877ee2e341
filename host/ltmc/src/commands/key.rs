//! `ltmc key`: keys. Each is one role in one tenant; its secret is seen once, when it is made.

use clap::ValueEnum;
use ltmc_model::{KeyId, TenantId, Timestamp};
use serde_json::{Value, json};

use super::{Context, text};
use crate::client::encode;
use crate::credentials::{Credentials, Secret};
use crate::exit::Problem;
use crate::ui;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a key and print it: the one time it is seen
    Create {
        /// What it may do
        #[arg(long)]
        role: Role,
        /// For which tenant [default: the one of the key this command comes with]
        #[arg(long)]
        tenant: Option<TenantId>,
        /// When it ends: 12h, 30days, or a time such as 2027-01-01T00:00:00Z
        #[arg(long, value_name = "WHEN", value_parser = expiry)]
        expires: Option<String>,
        /// Keep it in the data directory's credentials.toml under this name, rather than printing it
        #[arg(long, value_name = "NAME")]
        save: Option<String>,
    },
    /// List a tenant's keys, without their secrets
    List {
        /// Whose [default: the tenant of the key this command comes with]
        #[arg(long)]
        tenant: Option<TenantId>,
    },
    /// Take a key back: it is refused from now on
    #[command(visible_alias = "rm")]
    Revoke {
        /// Its id: what stands between the first and the second `_`
        id: KeyId,
        /// Whose it is, when the operator takes it back
        #[arg(long)]
        tenant: Option<TenantId>,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Role {
    /// Tenants, ceilings, health; never a tenant's data
    Operator,
    /// Agents, grants, keys of its tenant, and all below
    Admin,
    /// Push agents and workflows, run, read
    Author,
    /// Call, and read its own runs
    Caller,
    /// Look at agents, workflows, runs and shared context, and change nothing
    Viewer,
}

/// Looked at here so that what is wrong is wrong use; the host counts from its own clock.
fn expiry(text: &str) -> Result<String, String> {
    if humantime::parse_duration(text).is_ok() || serde_json::from_value::<Timestamp>(Value::from(text)).is_ok() {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is neither a span, such as 12h or 30days, nor a time in UTC, such as 2027-01-01T00:00:00Z"))
}

pub(crate) async fn run(command: Command, context: Context) -> anyhow::Result<()> {
    // whoever names a tenant means to act from outside of it
    let entry = |tenant: &Option<TenantId>| if tenant.is_some() { "operator" } else { "default" };
    match command {
        Command::Create { role, tenant, expires, save } => {
            let operator = matches!(role, Role::Operator);
            let client = context.client(if operator { "operator" } else { entry(&tenant) })?;
            let role = role.to_possible_value().map(|v| v.get_name().to_owned());
            let mut body = json!({"role": role});
            if let Some(tenant) = tenant {
                body["tenant"] = json!(tenant);
            }
            if let Some(expires) = expires {
                body["expires"] = json!(expires);
            }
            let made = client.post("/v1/keys", Some(&body)).await?.json()?;
            match save {
                Some(name) => keep(&context, &name, text(&made, "key"))?,
                None if context.json => ui::json(&made),
                None => {
                    ui::note("This is the one time the key is seen:");
                    ui::line(text(&made, "key"));
                }
            }
        }
        Command::List { tenant } => {
            let client = context.client(entry(&tenant))?;
            let query: Vec<_> = tenant.iter().map(|t| ("tenant", t.to_string())).collect();
            let keys = client.list("/v1/keys", &query, usize::MAX).await?;
            if context.json {
                keys.iter().for_each(ui::json);
                return Ok(());
            }
            let mut table = ui::Table::new(&["id", "tenant", "role", "created", "expires", "revoked"]);
            for key in &keys {
                table.row(["id", "tenant", "role", "created_at", "expires_at", "revoked_at"].map(|f| text(key, f)));
            }
            table.print("No keys.");
        }
        Command::Revoke { id, tenant } => {
            let client = context.client(entry(&tenant))?;
            client.delete(&format!("/v1/keys/{}", encode(id.as_str()))).await?;
            ui::note(format!("Took back the key {id}."));
        }
    }
    Ok(())
}

fn keep(context: &Context, name: &str, key: &str) -> anyhow::Result<()> {
    let data = &context.loaded.config.data;
    let key = Secret::parse(key).map_err(|why| Problem::failed(format!("the host sent no key: {why}")))?;
    let credentials = Credentials::read(data)?.unwrap_or_default().with(name, key);
    crate::wire::make_private(data)?;
    credentials.write(data)?;
    ui::note(format!(
        "Kept in {} as [{name}]: choose it with --as {name}.",
        data.join(crate::credentials::FILE).display()
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_is_a_span_or_a_time() {
        assert_eq!(expiry("12h").unwrap(), "12h");
        assert!(expiry("2027-01-01T00:00:00Z").is_ok());
        assert!(expiry("soon").unwrap_err().contains("30days"));
    }
}
