//! The `ltmc` command: the host, and everything people do with one.
//!
//! Invariants: the only crate that names adapters, reads the environment and ends the process. A command ends with one of
//! the codes of [`exit`]; what went wrong is said once, on standard error.
//!
//! - [`cli`]: what can be typed; [`commands`]: what it does, a file each
//! - [`config`]: what the host is told; [`wire`]: how it is put together, [`record`]: the record, [`context`]: shared
//!   context, [`databases`]: what follows the record
//! - [`health`]: whether it can serve; [`anchors`]: what is kept of the chains elsewhere; [`set_aside`]: runs that wait for people, counted

mod anchors;
mod cli;
mod client;
mod commands;
mod config;
mod context;
mod credentials;
mod databases;
mod exit;
mod health;
mod logs;
mod metrics;
mod record;
mod set_aside;
mod ui;
mod wire;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::exit::Exit;

/// Half of what a small call costs beside the guest is allocation, on whichever thread it happens to be. And it is C's and
/// C++'s allocator too: SQLite and FAISS free hundreds of megabytes when an index was built, which glibc would keep.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// How many turns a thread gives to what is ready before it looks whether anybody was sent anything.
const TURNS_UNHEARD: u32 = 4;

fn main() -> ExitCode {
    // The host starts these for components and for schemas: before anything else, and with nothing else.
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("compile-worker") => return ltmc_sandbox::compile_worker(&args.collect::<Vec<_>>()),
        Some(wire::SCHEMA_WORKER) => return ltmc_schemas::worker::run(),
        _ => {}
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Done.into() };
        }
    };
    let json = cli.global.json;
    match run(cli) {
        Ok(()) => Exit::Done.into(),
        Err(error) => ui::failure(&error, json).into(),
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let flags = match &cli.command {
        Command::Serve(args) => args.listen.iter().map(|listen| ("listen", "--listen", listen.clone())).collect(),
        _ => Vec::new(),
    };
    let context = commands::Context::new(&cli.global, flags, config::environment())?;
    // What takes long is not done here but in the lanes, from its second turn on. Its first may be one of a guest that computes, which
    // is 5 ms: at tokio's own 61 turns between two looks at the sockets nobody would be heard for long where many begin.
    let runtime = tokio::runtime::Builder::new_multi_thread().event_interval(TURNS_UNHEARD).enable_all().build()?;
    let done = runtime.block_on(commands::run_command(cli.command, context));
    // What still blocks (a compiler's child, a name lookup) does not keep the process.
    runtime.shutdown_background();
    done
}
