//! Finds functions that a change makes too long or too deeply nested.
//!
//! Rust is parsed (by `syn`) where the change has the whole file, which is so for added files. Everything else, in Rust,
//! JavaScript, TypeScript, Go, Java, Kotlin, Swift, C, C++ and C#, is read by a scanner of braces that knows strings and
//! comments, and Python by one of indentation; both see as much of a function as the diff shows, so that what they find
//! is there, and what the diff hides they do not find.
//!
//! Invariants: linear in the change; no recursion that the change could make deeper than a bound.
//!
//! To add a language: an extension in [`functions`], and a line in the test of long functions.

mod bounds;
mod braces;
mod code;
mod heads;
mod indents;
mod rust;

use findings::{Change, File, Finding, Kind, Scan, Severity, Status};
use ltmc::{Agent, Failure, Json, Task};

/// Lines of a function from which on it is told, and from which on it is a warning.
const LONG: u32 = 60;
const VERY_LONG: u32 = 120;
/// Levels of nesting within a function that are still read at a glance.
const DEEP: u32 = 4;
/// Longer lines are no source that people write.
const LONGEST: usize = 10_000;

/// A function, as far as it is seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) first: u32,
    pub(crate) last: u32,
    /// Levels of nesting below its body.
    pub(crate) depth: u32,
    /// Where it is nested most.
    pub(crate) deepest: u32,
}

/// A line of the file as it is now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) number: u32,
    pub(crate) text: &'a str,
    pub(crate) added: bool,
}

/// Adds to a change the functions in it that are hard to read.
pub fn measure(change: &mut Change) {
    let mut found = Vec::new();
    for file in change.files.iter().filter(|file| !file.binary && !file.is_test() && !file.name().ends_with(".min.js"))
    {
        of_file(file, &mut found);
    }
    change.add(found);
}

fn of_file(file: &File, found: &mut Vec<Finding>) {
    let extension = file.extension();
    let whole = file.status == Status::Added && file.hunks.len() == 1;
    for hunk in &file.hunks {
        let lines = hunk.lines().filter(|line| line.kind != Kind::Removed);
        let seen: Vec<Seen<'_>> = lines
            .filter_map(|line| {
                let text = if line.text.len() > LONGEST { "" } else { line.content() };
                Some(Seen { number: line.new?, text, added: line.kind == Kind::Added })
            })
            .collect();
        let news = News::of(&seen);
        for function in functions(&extension, &seen, whole) {
            judge(file, &function, news.within(&function), found);
        }
    }
}

/// The functions in these lines; `whole`: they are all of the file.
fn functions(extension: &str, seen: &[Seen<'_>], whole: bool) -> Vec<Function> {
    match extension {
        "rs" => whole.then(|| rust::functions(seen)).flatten().unwrap_or_else(|| braces::functions(seen, true)),
        "js" | "jsx" | "mjs" | "cjs" | "ts" | "tsx" | "go" | "java" | "kt" | "swift" => braces::functions(seen, false),
        "c" | "h" | "cc" | "cpp" | "hpp" | "cs" => braces::functions(seen, false),
        "py" => indents::functions(seen),
        _ => Vec::new(),
    }
}

/// How many added lines there are up to each line, so that a function's are told by two look-ups.
struct News {
    first: u32,
    up_to: Vec<u32>,
}

impl News {
    fn of(seen: &[Seen<'_>]) -> Self {
        let mut count = 0;
        let mut up_to = vec![0];
        up_to.extend(seen.iter().map(|line| {
            count += u32::from(line.added);
            count
        }));
        Self { first: seen.first().map_or(0, |line| line.number), up_to }
    }

    /// The lines of a hunk follow each other without a gap.
    fn within(&self, function: &Function) -> u32 {
        let before = |line: u32| self.up_to.get((line - self.first) as usize).copied().unwrap_or_default();
        before(function.last + 1) - before(function.first)
    }
}

fn judge(file: &File, function: &Function, new: u32, found: &mut Vec<Finding>) {
    if new == 0 {
        return;
    }
    let Function { name, first, last, depth, deepest } = function;
    let lines = last - first + 1;
    let name: String = name.chars().take(80).collect();
    // One that was long before, and was only touched, is worth a note at most.
    let most = if new * 2 >= lines { Severity::Warning } else { Severity::Note };
    if lines > LONG {
        let severity = if lines > VERY_LONG { most } else { Severity::Note };
        let how_new = if new == lines { "all of them".to_owned() } else { format!("{new} of them") };
        let message = format!("`{name}` has {lines} lines, {how_new} new");
        let finding = Finding::new("complexity/long-function", severity, file, Some(*first), message);
        found.push(finding.up_to(*last).help("Name its parts, and move them into functions of their own."));
    }
    if *depth > DEEP {
        let message = format!("`{name}` nests {depth} levels deep");
        let finding = Finding::new("complexity/deep-nesting", most, file, Some(*deepest), message);
        found.push(finding.help("Return early, or move the inner part out."));
    }
}

/// Takes a [`Change`], gives the complex functions found in it.
#[ltmc::agent]
#[derive(Default)]
pub struct MeasureComplexity;

impl Agent for MeasureComplexity {
    type Input = Json<Change>;
    type Output = Json<Scan>;

    fn execute(&self, Json(mut change): Json<Change>, _task: &Task) -> Result<Json<Scan>, Failure> {
        measure(&mut change);
        ltmc::info!(found = change.findings.len(); "looked at {} files", change.files.len());
        Ok(Json(change.into()))
    }
}

#[cfg(test)]
mod tests;
