//! The repository's own tasks: `cargo xtask demo`, `cargo xtask test` and `cargo xtask bench`.
//!
//! Each sets up what is missing and says what it does. To add a task: a file here and a variant in [`Task`].

mod bench;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod comments;
mod demo;
#[cfg(test)]
mod house;
#[cfg(test)]
mod lengths;
#[cfg(test)]
mod pages;
mod process;
mod setup;
mod steps;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;

#[derive(clap::Parser)]
#[command(name = "cargo xtask", about = "Tasks of this repository", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Build everything, start a host, and have the sample agents do a job: review a diff, or answer a question
    Demo(demo::Args),
    /// Format check, unused dependencies, lints, and every test
    Test(test::Args),
    /// Benchmarks against references measured in the same run
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().task {
        Task::Demo(args) => demo::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => bench::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            steps::say(format!("\n{} {error:#}", console::style("error:").red().bold()));
            ExitCode::FAILURE
        }
    }
}

/// The repository's root: that of the checkout in which `cargo xtask` was typed, also where two share a target directory.
fn root() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "a task is no host: nothing here is ever replayed")]
    let manifest = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").to_owned());
    Path::new(&manifest).parent().map(Path::to_owned).unwrap_or_default()
}

/// Where cargo puts what it builds.
fn target() -> PathBuf {
    #[expect(clippy::disallowed_methods, reason = "a task is no host: nothing here is ever replayed")]
    let set = std::env::var("CARGO_TARGET_DIR");
    set.map_or_else(|_| root().join("target"), |dir| root().join(dir))
}
