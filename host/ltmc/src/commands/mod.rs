//! The commands, a file each: its arguments, and what it does. What speaks to a host does so by [`crate::client`] alone;
//! `serve`, `run`, `audit`, `doctor` and `repair` open things of this machine.
//!
//! To add a command: a file here, a line below, and a variant in [`crate::cli::Command`] and in [`run_command`].

pub(crate) mod agent;
pub(crate) mod approvals;
pub(crate) mod audit;
pub(crate) mod build;
pub(crate) mod call;
pub(crate) mod ceiling;
pub(crate) mod check;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod flow;
pub(crate) mod grant;
pub(crate) mod input;
pub(crate) mod key;
pub(crate) mod new;
pub(crate) mod publish;
pub(crate) mod push;
mod recovery;
pub(crate) mod repair;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod schedules;
pub(crate) mod serve;
pub(crate) mod session;
mod state;
pub(crate) mod subscriptions;
pub(crate) mod tenant;

use crate::cli::{Command, Global};
use crate::client::Client;
use crate::config::{Loaded, Sources};
use crate::credentials::Wanted;
use crate::exit::Problem;

/// What every command works with.
pub(crate) struct Context {
    /// Whether results are for programs.
    pub(crate) json: bool,
    /// The configuration in force.
    pub(crate) loaded: Loaded,
    /// Where the host may be, and as whom to come.
    pub(crate) wanted: Wanted,
}

impl Context {
    /// From the flags that every command takes, those of this command, and the environment.
    pub(crate) fn new(
        global: &Global,
        flags: Vec<(&'static str, &'static str, String)>,
        environment: Vec<(String, String)>,
    ) -> anyhow::Result<Self> {
        let variable = |wanted: &str| environment.iter().find(|(n, _)| n == wanted).map(|(_, v)| v.clone());
        let key = match (variable("LTMC_KEY"), variable("LTMC_KEY_FILE")) {
            (Some(_), Some(_)) => {
                return Err(Problem::usage("LTMC_KEY and LTMC_KEY_FILE are both set: one of them is to go").into());
            }
            (None, Some(path)) => Some(
                std::fs::read_to_string(&path)
                    .map_err(|e| Problem::usage(format!("LTMC_KEY_FILE: {path} cannot be read: {e}")))?,
            ),
            (key, None) => key,
        };
        let (url, name) = (variable("LTMC_URL"), variable("LTMC_AS"));
        let file = global.config.clone().or_else(|| variable("LTMC_CONFIG").map(Into::into));
        let data = global.data.iter().map(|d| ("data", "--data", d.to_string_lossy().into_owned()));
        let flags = flags.into_iter().chain(data).collect();
        let loaded = Loaded::new(&Sources { file, environment, flags })?;
        let wanted = Wanted {
            url: global.url.clone().or(url),
            name: global.name.clone().or(name),
            key,
            data: loaded.config.data.clone(),
        };
        Ok(Self { json: global.json, loaded, wanted })
    }

    /// A client with the key that was chosen, or else with the entry `default` of the credentials.
    pub(crate) fn client(&self, default: &str) -> anyhow::Result<Client> {
        Client::new(self.wanted.find(default)?)
    }
}

/// Does what was typed.
pub(crate) async fn run_command(command: Command, context: Context) -> anyhow::Result<()> {
    match command {
        Command::Serve(args) => serve::run(args, context).await,
        Command::New(args) => new::run(&args, &context),
        Command::Build(args) => build::run(&args, &context),
        Command::Check(args) => check::run(args, context).await,
        Command::Run(args) => run::run(args, context).await,
        Command::Push(args) => push::run(args, context).await,
        Command::Call(args) => call::run(args, context).await,
        Command::Flow(command) => flow::run(command, context).await,
        Command::Publish(args) => publish::run(args, context).await,
        Command::Events(command) => events::run(command, context).await,
        Command::Runs(command) => runs::run(command, context).await,
        Command::Schedules(command) => schedules::run(command, context).await,
        Command::Subscriptions(command) => subscriptions::run(command, context).await,
        Command::Session(command) => session::run(command, context).await,
        Command::Approvals(command) => approvals::run(command, context).await,
        Command::Agent(command) => agent::run(command, context).await,
        Command::Grant(command) => grant::run(command, context).await,
        Command::Key(command) => key::run(command, context).await,
        Command::Tenant(command) => tenant::run(command, context).await,
        Command::Ceiling(command) => ceiling::run(command, context).await,
        Command::Audit(command) => audit::run(command, context).await,
        Command::Repair(args) => repair::run(args, context).await,
        Command::Doctor(args) => doctor::run(args, context).await,
        // answered in `main`, before anything is read or started
        Command::CompileWorker => Ok(()),
    }
}

/// A field's text, or nothing.
pub(crate) fn text<'a>(value: &'a serde_json::Value, field: &str) -> &'a str {
    value.get(field).and_then(serde_json::Value::as_str).unwrap_or_default()
}

/// A field's texts, joined.
pub(crate) fn texts(value: &serde_json::Value, field: &str) -> String {
    let list = value.get(field).and_then(serde_json::Value::as_array);
    list.into_iter().flatten().filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join(" ")
}
