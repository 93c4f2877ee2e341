//! What came out: a table for people, a JSON object a line for programs.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;

/// The figures of all rounds; never empty when it is read.
#[derive(Clone, Default)]
pub(crate) struct Series(Vec<f64>);

impl Series {
    pub(crate) fn add(&mut self, figure: f64) {
        self.0.push(figure);
        self.0.sort_by(f64::total_cmp);
    }

    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        match self.0.len() {
            0 => f64::NAN,
            n if n % 2 == 1 => self.0[middle],
            _ => f64::midpoint(self.0[middle - 1], self.0[middle]),
        }
    }

    fn shown(&self, unit: &str) -> String {
        let (lowest, highest) = (self.0.first().copied(), self.0.last().copied());
        let [median, lowest, highest] =
            [Some(self.median()), lowest, highest].map(|figure| number(figure.unwrap_or(f64::NAN)));
        format!("{median} {unit} ({lowest}..{highest})")
    }
}

/// What is to be reached.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// At most so many times the reference.
    AtMostTimes(f64),
    /// At least so many times the reference.
    AtLeastTimes(f64),
    /// Less than so much.
    Under(f64),
    /// So much, or more.
    AtLeast(f64),
}

/// One figure with its reference and its goal.
pub(crate) struct Line {
    pub(crate) bench: &'static str,
    pub(crate) case: String,
    pub(crate) unit: &'static str,
    pub(crate) measured: Series,
    pub(crate) reference: Option<(&'static str, Series)>,
    pub(crate) goal: Goal,
}

impl Line {
    fn ratio(&self) -> Option<f64> {
        self.reference.as_ref().map(|(_, reference)| self.measured.median() / reference.median())
    }

    fn met(&self) -> bool {
        let ratio = self.ratio().unwrap_or(f64::NAN);
        match self.goal {
            Goal::AtMostTimes(most) => ratio <= most,
            Goal::AtLeastTimes(least) => ratio >= least,
            Goal::Under(bound) => self.measured.median() < bound,
            Goal::AtLeast(bound) => self.measured.median() >= bound,
        }
    }

    fn goal(&self) -> String {
        match self.goal {
            Goal::AtMostTimes(most) => format!("at most {most:.2} x"),
            Goal::AtLeastTimes(least) => format!("at least {least:.2} x"),
            Goal::Under(bound) => format!("under {bound} {}", self.unit),
            Goal::AtLeast(bound) => format!("at least {bound}"),
        }
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "bench": self.bench,
            "case": self.case,
            "value": self.measured.median(),
            "unit": self.unit,
            "reference": self.reference.as_ref().map(|(name, _)| name),
            "reference_value": self.reference.as_ref().map(|(_, series)| series.median()),
            "ratio": self.ratio(),
            "goal": self.goal(),
            "met": self.met(),
        })
    }
}

/// Writes `target/bench/NAME.jsonl`.
pub(crate) fn keep(name: &str, lines: &[Line]) -> Result<()> {
    let path = crate::rig::dir()?.join(format!("{name}.jsonl"));
    let text: String = lines.iter().map(|line| format!("{}\n", line.json())).collect();
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
}

/// The table, on standard output.
pub(crate) fn table(lines: &[Line], quick: bool) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["BENCH", "CASE", "MEASURED", "REFERENCE", "RATIO", "GOAL", ""]);
    for line in lines {
        let reference = line.reference.as_ref();
        table.add_row([
            line.bench.to_owned(),
            line.case.clone(),
            line.measured.shown(line.unit),
            reference.map_or_else(|| "-".into(), |(name, series)| format!("{} {name}", series.shown(line.unit))),
            line.ratio().map_or_else(|| "-".into(), |ratio| format!("{ratio:.2} x")),
            line.goal(),
            if line.met() { "met".into() } else { "MISSED".into() },
        ]);
    }
    let missed = lines.iter().filter(|line| !line.met()).count();
    let verdict = match (quick, missed) {
        (true, _) => "A smoke test: these figures say nothing.".to_owned(),
        (false, 0) => "Every goal is met.".to_owned(),
        (false, missed) => format!("{missed} of {} goals MISSED.", lines.len()),
    };
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "\n{table}\n\nMedians of all rounds, and (lowest..highest). {verdict}");
}

/// A line of progress.
pub(crate) fn say(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Progress within a benchmark: what one round gave.
pub(crate) fn round(number: usize, of: usize, figures: &[(&str, f64, &str)]) {
    let figures: Vec<String> =
        figures.iter().map(|(name, figure, unit)| format!("{name} {} {unit}", self::number(*figure))).collect();
    say(format!("  round {}/{of}: {}", number + 1, figures.join(", ")));
}

/// Three digits or more, as people read them: `0.123`, `18.3`, `12,345`.
fn number(figure: f64) -> String {
    match figure.abs() {
        x if x < 10.0 => format!("{figure:.3}"),
        x if x < 1_000.0 => format!("{figure:.1}"),
        _ => {
            let digits = format!("{figure:.0}");
            let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().filter_map(|g| str::from_utf8(g).ok()).collect();
            groups.join(",")
        }
    }
}
