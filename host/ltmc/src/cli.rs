//! What can be typed. Each command's work stands in `commands/`, in a file of its own name.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::{
    agent, approvals, audit, build, call, ceiling, check, doctor, events, flow, grant, key, new, publish, push, repair,
    run, runs, schedules, serve, session, subscriptions, tenant,
};

/// Runs WebAssembly agents: sandboxed, journaled and durable.
#[derive(Debug, Parser)]
#[command(name = "ltmc", version, disable_help_subcommand = true, max_term_width = 110, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 the job failed, 2 wrong use, 3 host not reached, 4 denied, 5 done in part.\n\
    The host is found by --url, LTMC_URL, or what a running host left in its data directory; the key by LTMC_KEY, \
    LTMC_KEY_FILE, or the data directory's credentials.toml.";

/// What every command takes.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// Print JSON, one value a line
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The host's data directory [default: ./ltmc-data]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The host's URL
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// The entry of credentials.toml to come as: operator, default, or another
    #[arg(id = "as", long = "as", global = true, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The configuration file [default: ./ltmc.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the host
    Serve(serve::Args),
    /// Make an agent's crate from the template
    New(new::Args),
    /// Build an agent's crate to a component with its manifest inside
    Build(build::Args),
    /// Show what a component imports, exports and asks for, and whether a host would take it
    Check(check::Args),
    /// Run a component once in a local sandbox, without a host
    Run(run::Args),
    /// Upload an agent
    Push(push::Args),
    /// Call an agent and print its result
    Call(call::Args),
    /// Workflows: check, draw, test, schema, push, run, list, show, rm
    #[command(subcommand)]
    Flow(flow::Command),
    /// Publish an event to a topic
    Publish(publish::Args),
    /// What followed from an event: trace
    #[command(subcommand)]
    Events(events::Command),
    /// Runs: list, show, output, why, cancel, pause, resume, fork, journal, events, …
    #[command(subcommand)]
    Runs(runs::Command),
    /// When workflows are started by themselves: list, pause, continue, run
    #[command(subcommand)]
    Schedules(schedules::Command),
    /// Which events start agents and workflows: put, accept, list, show, pause, continue, replay, rm, events, release, skip
    #[command(subcommand)]
    Subscriptions(subscriptions::Command),
    /// Conversations, turn by turn: open, say, list, show, history, cancel, hand-off, rewind, fork, export, close
    #[command(subcommand)]
    Session(session::Command),
    /// What runs ask people: list, show, answer
    #[command(subcommand)]
    Approvals(approvals::Command),
    /// Agents: list, show, state, rm
    #[command(subcommand)]
    Agent(agent::Command),
    /// What agents are granted: show, set, add, revoke
    #[command(subcommand)]
    Grant(grant::Command),
    /// Keys: create, list, revoke
    #[command(subcommand)]
    Key(key::Command),
    /// Tenants: create, list, show (operator)
    #[command(subcommand)]
    Tenant(tenant::Command),
    /// What a tenant's agents can have at most: show, set (operator)
    #[command(subcommand)]
    Ceiling(ceiling::Command),
    /// The audit trail: verify
    #[command(subcommand)]
    Audit(audit::Command),
    /// Compare the databases that follow the record with it, and put them right
    Repair(repair::Args),
    /// Say what is wrong with this installation and how to put it right
    Doctor(doctor::Args),
    /// Compile a component from standard input, for the host that started this process
    #[command(hide = true)]
    CompileWorker,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }
}
