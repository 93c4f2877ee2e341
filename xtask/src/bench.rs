//! `cargo xtask bench`: benchmarks against references measured in the same run; see docs/performance.md.

use std::path::PathBuf;

use crate::process::{cargo, run as run_process};
use crate::steps::{Steps, say};

const NAMES: [&str; 24] = [
    "all",
    "call",
    "child",
    "rest",
    "flow",
    "fanout",
    "map",
    "loop",
    "overhead",
    "hot",
    "turn",
    "handoff",
    "cascade",
    "memory",
    "start",
    "waiting",
    "wake",
    "ops",
    "transition",
    "message",
    "watch",
    "recall",
    "project",
    "databases",
];

/// `wasmtime serve`, the reference of `rest`: of the version that the host has.
const WASMTIME: &str = "48.0.8";
/// What of it is compiled: what serving a component takes.
const WASMTIME_FEATURES: &str = "run,serve,cranelift,component-model-async,pooling-allocator,parallel-compilation";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The benchmark to run, or `all`
    #[arg(default_value = "all", value_parser = NAMES)]
    name: String,
    /// How often measured and reference take turns
    #[arg(long, value_name = "N")]
    rounds: Option<u16>,
    /// A smoke test: it runs through everything, and its figures say nothing
    #[arg(long)]
    quick: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    crate::setup::packages(&[crate::setup::HOST, crate::setup::SERVERS].concat())?;
    let rest = ["all", "rest"].contains(&args.name.as_str());
    let mut steps = Steps::new(3 + usize::from(rest));
    // Both at once, for the features of either: so that what both need is compiled once.
    let both = ["build", "--release", "--workspace", "--bin", "ltmc", "--bench", "ltmc"];
    steps.step("The host and the benchmarks, in release", || run_process(cargo(&both)))?;
    let ltmc = crate::target().join("release/ltmc");
    let guests = steps.step("Guests, compiled to WebAssembly", || crate::test::guests(&ltmc))?;
    let wasmtime = if rest { Some(steps.step("`wasmtime serve`", wasmtime)?) } else { None };
    steps.step("Measuring", || {
        let mut command = cargo(&["bench", "--workspace", "--bench", "ltmc", "--", &args.name]);
        command.env("LTMC_TEST_GUESTS", &guests).env("LTMC_TEST_BIN", &ltmc);
        if let Some(wasmtime) = &wasmtime {
            command.env("LTMC_TEST_WASMTIME", wasmtime);
        }
        if let Some(rounds) = args.rounds {
            command.args(["--rounds", &rounds.to_string()]);
        }
        if args.quick {
            command.arg("--quick");
        }
        run_process(command)
    })?;
    say(format!("\n  for programs: {}/NAME.jsonl", crate::target().join("bench").display()));
    steps.finish()
}

/// `wasmtime`, compiled once a target directory.
fn wasmtime() -> anyhow::Result<PathBuf> {
    let tools = crate::target().join("tools").join(format!("wasmtime-{WASMTIME}"));
    let wasmtime = tools.join("bin/wasmtime");
    if !wasmtime.exists() {
        let mut install =
            cargo(&["install", "--locked", "--version", WASMTIME, "wasmtime-cli", "--no-default-features"]);
        // In a directory of its own, which is not needed afterwards.
        let build = tools.join("build");
        install.args(["--features", WASMTIME_FEATURES, "--root"]).arg(&tools).env("CARGO_TARGET_DIR", &build);
        run_process(install)?;
        let _ = std::fs::remove_dir_all(build);
    }
    Ok(wasmtime)
}

#[test]
fn the_reference_has_the_host_s_wasmtime() {
    let lock = std::fs::read_to_string(crate::root().join("Cargo.lock")).expect("Cargo.lock");
    assert!(lock.contains(&format!("name = \"wasmtime\"\nversion = \"{WASMTIME}\"\n")), "the host has another");
}

#[test]
fn every_benchmark_can_be_asked_for() {
    let main = std::fs::read_to_string(crate::root().join("tests/benches/ltmc/main.rs")).expect("the benchmarks");
    let table = main.split("const BENCHES").nth(1).and_then(|rest| rest.split("];").next()).expect("the table");
    let known = table.lines().filter_map(|line| line.trim().strip_prefix("(\"")?.split('"').next());
    assert_eq!(std::iter::once("all").chain(known).collect::<Vec<_>>(), NAMES, "all of them, in the table's order");
}
