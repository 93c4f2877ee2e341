//! Finds functions that a change makes too long or too deeply nested.
//!
//! Rust is parsed (by `syn`) where the change has the whole file, which is so for added files. Everything else, in Rust,
//! JavaScript, TypeScript, Go, Java, C, C++ and C#, is read by a scanner of braces that knows strings and comments, and
//! Python by one of indentation; both see as much of a function as the diff shows, so that what they find is there, and
//! what the diff hides they do not find.

mod braces;
mod indents;
mod rust;

use findings::{Change, File, Finding, Kind, Severity, Status};
use ltmc::{Agent, Failure, Json, Task};

const AGENT: &str = "measure-complexity";
/// Lines of a function from which on it is told, and from which on it is an error.
const LONG: u32 = 60;
const VERY_LONG: u32 = 120;
/// Levels of nesting within a function that are still read at a glance.
const DEEP: u32 = 4;
/// Longer files, and longer lines, are not measured.
const MAX_LINES: usize = 50_000;
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
    let found: Vec<Finding> = change.files.iter().filter(|file| !file.binary).flat_map(of_file).collect();
    change.findings.extend(found);
}

fn of_file(file: &File) -> Vec<Finding> {
    let mut found = Vec::new();
    let is_new = file.status == Status::Added && file.hunks.len() == 1;
    let lines = |hunks: &[findings::Hunk]| -> usize { hunks.iter().map(|hunk| hunk.lines.len()).sum() };
    if lines(&file.hunks) > MAX_LINES || file.name().ends_with(".min.js") {
        return found;
    }
    let extension = file.extension();
    for hunk in &file.hunks {
        let seen: Vec<Seen<'_>> = hunk
            .lines
            .iter()
            .filter(|line| line.kind != Kind::Removed && line.text.len() <= LONGEST)
            .filter_map(|line| {
                Some(Seen { number: line.new?, text: line.text.trim_end_matches('\r'), added: line.kind == Kind::Added })
            })
            .collect();
        let functions = match extension.as_str() {
            "rs" if is_new => rust::functions(&seen).unwrap_or_else(|| braces::functions(&seen)),
            "rs" | "js" | "jsx" | "mjs" | "ts" | "tsx" | "go" | "java" | "kt" | "c" | "h" | "cc" | "cpp" | "hpp" | "cs" | "swift" => {
                braces::functions(&seen)
            }
            "py" => indents::functions(&seen),
            _ => return found,
        };
        for function in functions {
            judge(file, &function, &seen, &mut found);
        }
    }
    found
}

fn judge(file: &File, function: &Function, seen: &[Seen<'_>], found: &mut Vec<Finding>) {
    let within = |line: &&Seen<'_>| (function.first..=function.last).contains(&line.number);
    let added = u32::try_from(seen.iter().filter(within).filter(|line| line.added).count()).unwrap_or(u32::MAX);
    if added == 0 {
        return;
    }
    let lines = function.last - function.first + 1;
    // One that was long before, and was only touched, is worth a note at most.
    let mostly_new = added * 2 >= lines;
    let mut tell = |rule: &str, severity: Severity, message: String, line: u32, help: &str| {
        found.push(Finding {
            rule: format!("complexity/{rule}"),
            severity: if mostly_new { severity } else { Severity::Note },
            message,
            path: file.path.clone(),
            line: Some(line),
            end_line: (line == function.first).then_some(function.last),
            agent: AGENT.into(),
            help: Some(help.into()),
        });
    };
    if lines > LONG {
        let severity = if lines > VERY_LONG { Severity::Error } else { Severity::Warning };
        let message = format!("`{}` has {lines} lines, {added} of them new", function.name);
        tell("long-function", severity, message, function.first, "Name its parts, and move them into functions of their own.");
    }
    if function.depth > DEEP {
        let message = format!("`{}` nests {} levels deep", function.name, function.depth);
        tell("deep-nesting", Severity::Warning, message, function.deepest, "Return early, or move the inner part out.");
    }
}

/// Takes a [`Change`], gives it with its complex functions found.
#[ltmc::agent]
#[derive(Default)]
pub struct MeasureComplexity;

impl Agent for MeasureComplexity {
    type Input = Json<Change>;
    type Output = Json<Change>;

    fn execute(&self, Json(mut change): Json<Change>, _task: &Task) -> Result<Json<Change>, Failure> {
        measure(&mut change);
        Ok(Json(change))
    }
}

#[cfg(test)]
mod tests;
