//! `ltmc ceiling`: what a tenant's agents can have at most, whatever they are granted. The operator's.

use std::time::Duration;

use bytesize::ByteSize;
use ltmc_model::tenancy::Ceiling;
use ltmc_model::{Capability, TenantId};
use serde_json::Value;

use super::{Context, texts};
use crate::client::encode;
use crate::ui;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show a tenant's
    Show {
        /// Whose [default: the tenant of the key this command comes with]
        tenant: Option<TenantId>,
    },
    /// Change a tenant's: what is not named stays, and `default` as a bound's value takes it back to the host's default
    Set(Box<Set>),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Set {
    /// The tenant whose ceiling is set
    tenant: TenantId,
    /// A capability that grants can give; the ones named replace all that were there
    #[arg(long = "capability", value_name = "CAP")]
    capabilities: Vec<Capability>,
    /// No capability at all
    #[arg(long, conflicts_with_all = ["capabilities", "added"])]
    no_capabilities: bool,
    /// A capability besides those there are
    #[arg(long = "add", value_name = "CAP", conflicts_with = "capabilities")]
    added: Vec<Capability>,
    /// Linear memory of a call, such as 64MiB
    #[arg(long)]
    memory: Option<Bound<ByteSize>>,
    /// CPU time of a call, such as 2s
    #[arg(long, value_parser = span)]
    cpu: Option<Bound<Duration>>,
    /// Wall time of a call, such as 30s
    #[arg(long, value_parser = span)]
    wall: Option<Bound<Duration>>,
    /// Bytes of a result, such as 8MiB
    #[arg(long)]
    output: Option<Bound<ByteSize>>,
    /// Calls that run at once
    #[arg(long)]
    concurrency: Option<Bound<u32>>,
    /// Bytes that the tenant's memory holds at most, such as 1GiB
    #[arg(long)]
    storage: Option<Bound<ByteSize>>,
    /// Bytes that all of the tenant's things take on disk at most, such as 16GiB
    #[arg(long)]
    disk: Option<Bound<ByteSize>>,
}

/// A bound, or that there is to be the host's default again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound<T> {
    Default,
    Of(T),
}

impl<T> Bound<T> {
    fn read<E>(text: &str, read: impl FnOnce(&str) -> Result<T, E>) -> Result<Self, E> {
        if text == "default" { Ok(Self::Default) } else { read(text).map(Self::Of) }
    }

    /// None: the host's default.
    fn set(self) -> Option<T> {
        match self {
            Self::Default => None,
            Self::Of(value) => Some(value),
        }
    }
}

impl<T: std::str::FromStr> std::str::FromStr for Bound<T> {
    type Err = T::Err;
    fn from_str(text: &str) -> Result<Self, T::Err> {
        Self::read(text, str::parse)
    }
}

fn span(text: &str) -> Result<Bound<Duration>, humantime::DurationError> {
    Bound::read(text, humantime::parse_duration)
}

pub(crate) async fn run(command: Command, context: Context) -> anyhow::Result<()> {
    let shown = match command {
        Command::Show { tenant } => {
            let entry = if tenant.is_some() { "operator" } else { "default" };
            context.client(entry)?.get(&path(tenant.as_ref())).await?
        }
        Command::Set(set) => {
            let client = context.client("operator")?;
            let path = path(Some(&set.tenant));
            let mut ceiling: Ceiling = serde_json::from_value(client.get(&path).await?)?;
            set.apply(&mut ceiling);
            client.put(&path, &serde_json::to_value(&ceiling)?).await?.json()?
        }
    };
    if context.json {
        ui::json(&shown);
    } else {
        print(&shown);
    }
    Ok(())
}

impl Set {
    fn apply(&self, ceiling: &mut Ceiling) {
        if self.no_capabilities || !self.capabilities.is_empty() {
            ceiling.capabilities.clone_from(&self.capabilities);
        }
        for capability in &self.added {
            if !ceiling.capabilities.contains(capability) {
                ceiling.capabilities.push(capability.clone());
            }
        }
        let (limits, default) = (&mut ceiling.limits, Ceiling::default());
        limits.memory = self.memory.map_or(limits.memory, Bound::set);
        limits.cpu = self.cpu.map_or(limits.cpu, Bound::set);
        limits.wall = self.wall.map_or(limits.wall, Bound::set);
        limits.output = self.output.map_or(limits.output, Bound::set);
        ceiling.disk = self.disk.map_or(ceiling.disk, Bound::set);
        if let Some(concurrency) = self.concurrency {
            ceiling.concurrency = concurrency.set().unwrap_or(default.concurrency);
        }
        if let Some(storage) = self.storage {
            ceiling.storage = storage.set().unwrap_or(default.storage);
        }
    }
}

/// A ceiling, as `show` prints it.
pub(crate) fn print(ceiling: &Value) {
    ui::line(format!("capabilities {}", texts(ceiling, "capabilities")));
    for limit in ["memory", "cpu", "wall", "output"] {
        let value = ceiling.get("limits").and_then(|l| l.get(limit));
        let value =
            value.map_or("(the host's default)".into(), |v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
        ui::line(format!("{limit:<12} {value}"));
    }
    ui::line(format!("concurrency  {}", ceiling.get("concurrency").unwrap_or(&Value::Null)));
    ui::line(format!("storage      {}", ceiling.get("storage").and_then(Value::as_str).unwrap_or_default()));
    let disk = ceiling.get("disk").and_then(Value::as_str).unwrap_or("(the host's default)");
    ui::line(format!("disk         {disk}"));
}

/// Where a tenant's ceiling stands; that of the key's own tenant where none is named.
pub(crate) fn path(tenant: Option<&TenantId>) -> String {
    tenant.map_or_else(|| "/v1/ceilings".into(), |tenant| format!("/v1/ceilings/{}", encode(tenant.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_stays() {
        let mut ceiling = Ceiling::default();
        let set = Set {
            tenant: "acme".parse().unwrap(),
            capabilities: Vec::new(),
            added: Vec::new(),
            no_capabilities: false,
            memory: Some(Bound::Of(ByteSize::mib(16))),
            cpu: None,
            wall: None,
            output: None,
            concurrency: Some(Bound::Of(2)),
            storage: None,
            disk: None,
        };
        set.apply(&mut ceiling);
        assert_eq!(ceiling.capabilities, Ceiling::default().capabilities);
        assert_eq!((ceiling.limits.memory, ceiling.concurrency), (Some(ByteSize::mib(16)), 2));
        Set { no_capabilities: true, ..set }.apply(&mut ceiling);
        assert!(ceiling.capabilities.is_empty());
    }

    #[test]
    fn default_takes_a_bound_back() {
        let parsed = |arguments: &[&str]| {
            let set = <Set as clap::Args>::augment_args(clap::Command::new("set"));
            let matches = set.try_get_matches_from([&["set", "acme"], arguments].concat()).unwrap();
            <Set as clap::FromArgMatches>::from_arg_matches(&matches).unwrap()
        };
        let bounds = ["--memory", "--cpu", "--wall", "--output", "--concurrency", "--storage", "--disk"];
        let values = ["16MiB", "1s", "2s", "1MiB", "2", "1MiB", "2MiB"];
        let mut ceiling = Ceiling::default();
        parsed(&bounds.iter().zip(values).flat_map(|(bound, value)| [*bound, value]).collect::<Vec<_>>())
            .apply(&mut ceiling);
        assert_eq!((ceiling.limits.wall, ceiling.concurrency), (Some(Duration::from_secs(2)), 2));
        parsed(&bounds.iter().flat_map(|bound| [*bound, "default"]).collect::<Vec<_>>()).apply(&mut ceiling);
        assert_eq!(ceiling, Ceiling::default());
    }
}
