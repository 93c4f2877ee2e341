//! `cargo xtask bench [NAME]`: runs the benchmarks in release, shows a table, and keeps `target/bench/NAME.jsonl`.
//!
//! A benchmark is a program `bench-NAME` of the crate `ltmc-tests` that prints one JSON object a line; every other line it
//! prints is shown as it is.

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};

use crate::process::{cargo, output};
use crate::steps::{Steps, out, say};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// One of them [default: all, one after the other]
    name: Option<String>,
}

/// One measurement, beside its reference of the same run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Measured {
    bench: String,
    case: String,
    value: f64,
    unit: String,
    /// What it is compared with; none for an absolute goal.
    #[serde(default)]
    reference: Option<String>,
    #[serde(default)]
    reference_value: Option<f64>,
    #[serde(default)]
    ratio: Option<f64>,
    /// In words, such as "at most 1.25".
    #[serde(default)]
    goal: Option<serde_json::Value>,
    #[serde(default)]
    met: Option<bool>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let known = benches()?;
    let chosen = match &args.name {
        Some(name) if known.contains(name) => vec![name.clone()],
        Some(name) => bail!("there is no benchmark `{name}`; there are {}", known.join(", ")),
        None => known,
    };
    let folder = crate::target().join("bench");
    std::fs::create_dir_all(&folder)?;
    let mut steps = Steps::new(chosen.len() + 2);
    steps.step("Guests", || crate::test::guests().map(drop))?;
    steps.step("Build in release", || {
        crate::process::run(cargo(&["build", "--release", "-p", "ltmc", "-p", "ltmc-tests", "--bins"]))
    })?;
    let built = crate::test::environment("release")?;
    let mut all = Vec::new();
    for name in &chosen {
        let measured = steps.step(name, || {
            let mut command = cargo(&["run", "--release", "--quiet", "-p", "ltmc-tests", "--bin", &format!("bench-{name}")]);
            command.envs(built.iter().map(|(k, v)| (k, v)));
            measured(&output(command)?)
        })?;
        let lines: Vec<String> = measured.iter().map(serde_json::to_string).collect::<Result<_, _>>()?;
        std::fs::write(folder.join(format!("{name}.jsonl")), lines.join("\n") + "\n")?;
        all.extend(measured);
    }
    out(table(&all).as_bytes());
    let missed = all.iter().filter(|m| m.met == Some(false)).count();
    say(format!("\n{} measured, {missed} goals missed; kept in {}", all.len(), folder.display()));
    Ok(())
}

/// The names of the programs `bench-NAME` of the crate of tests.
fn benches() -> anyhow::Result<Vec<String>> {
    let metadata = output(cargo(&["metadata", "--format-version=1", "--no-deps"]))?;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata)?;
    let packages = metadata["packages"].as_array().context("cargo names no packages")?;
    let targets = packages.iter().filter(|p| p["name"] == "ltmc-tests").flat_map(|p| p["targets"].as_array());
    let names = targets.flatten().filter_map(|t| t["name"].as_str()?.strip_prefix("bench-").map(str::to_owned));
    Ok(names.collect())
}

fn measured(output: &[u8]) -> anyhow::Result<Vec<Measured>> {
    let mut all = Vec::new();
    for line in String::from_utf8_lossy(output).lines() {
        if line.starts_with('{') {
            all.push(serde_json::from_str(line).with_context(|| format!("a benchmark printed `{line}`"))?);
        } else {
            say(line);
        }
    }
    Ok(all)
}

fn table(all: &[Measured]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_header(["BENCH", "CASE", "VALUE", "REFERENCE", "RATIO", "GOAL", ""]);
    for m in all {
        let goal = m.goal.as_ref().map(|g| g.as_str().map_or_else(|| g.to_string(), str::to_owned));
        table.add_row([
            m.bench.clone(),
            m.case.clone(),
            format!("{} {}", number(m.value), m.unit),
            match (&m.reference, m.reference_value) {
                (Some(name), Some(value)) => format!("{} ({name})", number(value)),
                (Some(name), None) => name.clone(),
                _ => String::new(),
            },
            m.ratio.map(|r| format!("{r:.2}")).unwrap_or_default(),
            goal.unwrap_or_default(),
            m.met.map(|met| if met { "met" } else { "MISSED" }).unwrap_or_default().to_owned(),
        ]);
    }
    format!("{table}\n")
}

fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1_000.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_are_measurements_and_others_are_shown() {
        let printed = b"warming up\n{\"bench\":\"call\",\"case\":\"empty\",\"value\":20.5,\"unit\":\"us\",\"reference\":\"bare\",\"reference_value\":17.0,\"ratio\":1.2,\"goal\":\"at most 1.25\",\"met\":true}\n";
        let all = measured(printed).unwrap();
        assert_eq!(all.len(), 1);
        let table = table(&all);
        assert!(table.contains("20.5 us") && table.contains("1.20") && table.contains("met"), "{table}");
        assert!(measured(b"{\"bench\":1}\n").is_err());
    }
}
