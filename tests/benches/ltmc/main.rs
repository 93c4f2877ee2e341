//! Benchmarks against references that are measured in the same run, in turns with what they are compared to:
//! `cargo xtask bench [name]`. What each says, and what it is to reach, stands in docs/performance.md.
//!
//! Invariants: everything is bounded in count and time; load comes from a process of its own, as `load` says; hosts listen
//! on loopback and end with this program; data is on the disk of the target directory, because what is measured is durable.
//!
//! To add a benchmark: a module with `run(&Plan) -> Result<Vec<Line>>`, and its line in [`BENCHES`].

mod call;
mod cascade;
mod child;
mod client;
mod databases;
mod fanout;
mod flow;
mod handoff;
mod hot;
mod inside;
mod load;
mod loops;
mod map;
mod memory;
mod message;
mod ops;
mod overhead;
mod project;
mod recall;
mod reference;
mod report;
mod rest;
mod rig;
mod start;
mod transition;
mod turn;
mod waiting;
mod wake;
mod watch;

use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser as _;

use crate::report::Line;

type Bench = fn(&Plan) -> Result<Vec<Line>>;

const BENCHES: &[(&str, Bench)] = &[
    ("call", call::run),
    ("child", child::run),
    ("rest", rest::run),
    ("flow", flow::run),
    ("fanout", fanout::run),
    ("map", map::run),
    ("loop", loops::run),
    ("overhead", overhead::run),
    ("hot", hot::run),
    ("turn", turn::run),
    ("handoff", handoff::run),
    ("cascade", cascade::run),
    ("memory", memory::run),
    ("start", start::run),
    ("waiting", waiting::run),
    ("wake", wake::run),
    ("ops", ops::run),
    ("transition", transition::run),
    ("message", message::run),
    ("watch", watch::run),
    ("recall", recall::run),
    ("project", project::run),
    ("databases", databases::run),
];

#[derive(clap::Parser)]
#[command(about = "Benchmarks against references measured in the same run")]
struct Cli {
    /// Which; left out or `all`: every one
    name: Option<String>,
    /// How often measured and reference take turns
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: u16,
    /// A smoke test: it runs through everything, and its figures say nothing
    #[arg(long)]
    quick: bool,
    /// What cargo says to benchmarks
    #[arg(long, hide = true)]
    bench: bool,
    /// Be the reference of `rest`, until standard input ends
    #[arg(long, hide = true)]
    serve_reference: bool,
    /// Be the load
    #[arg(long, hide = true)]
    load: bool,
}

/// How much is measured.
pub(crate) struct Plan {
    /// Rounds of measured and reference.
    pub(crate) rounds: usize,
    /// How long a load lasts, in each round.
    pub(crate) window: Duration,
    /// Calls in a round of `call`.
    pub(crate) calls: usize,
    /// Agents registered, and runs that are over, where these matter.
    pub(crate) agents: usize,
    pub(crate) past_runs: u64,
    /// Runs that wait.
    pub(crate) waiting: u64,
    /// Vectors, where these matter.
    pub(crate) vectors: usize,
}

impl Plan {
    fn new(cli: &Cli) -> Self {
        if cli.quick {
            let window = Duration::from_millis(300);
            return Self { rounds: 2, window, calls: 500, agents: 20, past_runs: 100, waiting: 200, vectors: 6_000 };
        }
        let window = Duration::from_secs(3);
        Self {
            rounds: cli.rounds.into(),
            window,
            calls: 10_000,
            agents: 1_000,
            past_runs: 10_000,
            waiting: 100_000,
            vectors: 100_000,
        }
    }
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    if cli.serve_reference {
        return reference::serve();
    }
    if cli.load {
        return load::run();
    }
    let wanted = cli.name.as_deref().filter(|name| *name != "all");
    let benches: Vec<_> = BENCHES.iter().filter(|(name, _)| wanted.is_none_or(|wanted| *name == wanted)).collect();
    anyhow::ensure!(!benches.is_empty(), "no benchmark has this name; there are {}", names());
    let plan = Plan::new(&cli);
    let mut lines = Vec::new();
    for (name, bench) in benches {
        report::say(format!("{name}:"));
        let measured = bench(&plan).with_context(|| format!("benchmark `{name}`"))?;
        report::keep(name, &measured)?;
        lines.extend(measured);
    }
    report::table(&lines, cli.quick);
    Ok(())
}

fn names() -> String {
    BENCHES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}
