//! Finds what is to be mended in the Markdown of a granted directory.
//!
//! Invariants: documents are read in the order of their names, so that a call that is resumed finds the same; what stands in a block of
//! code is code. At most [`issues::MOST`] issues are told, of at most [`FILES`] documents.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use issues::{Found, Issue, Kind, MOST};
use ltmc::{Agent, Failure, Json, Task};

/// The most documents that are read.
const FILES: usize = 500;
/// The largest document, in bytes.
const FILE_BYTES: u64 = 1 << 20;
/// How deep directories are read.
const DEPTH: usize = 8;
/// From how many sections on a document is to have a table of contents.
const SECTIONS: usize = 6;

/// What there is to mend below a directory.
///
/// # Errors
/// Where a directory or a document cannot be read.
pub fn find(root: &Path) -> io::Result<Found> {
    let mut paths = Vec::new();
    collect(root, 0, &mut paths)?;
    let mut issues = Vec::new();
    for path in &paths {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(FILE_BYTES).read_to_end(&mut bytes)?;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        let file = path.strip_prefix(root).unwrap_or(path).to_string_lossy().into_owned();
        look(&file, &text, &mut issues);
    }
    issues.truncate(MOST);
    Ok(Found { files: paths.len(), issues })
}

fn collect(at: &Path, depth: usize, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(at)?.take(10_000).collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() && depth < DEPTH {
            collect(&path, depth + 1, paths)?;
        } else if kind.is_file() && path.extension().is_some_and(|end| end == "md") && paths.len() < FILES {
            paths.push(path);
        }
    }
    Ok(())
}

/// What there is to mend in a document.
fn look(file: &str, text: &str, issues: &mut Vec<Issue>) {
    let lines: Vec<&str> = text.lines().collect();
    let issue = |kind, at: usize, lines: Vec<String>| Issue { kind, file: file.to_owned(), line: at + 1, lines };
    let (mut fence, mut sections, mut has_contents) = (None, Vec::new(), false);
    for (at, line) in lines.iter().enumerate() {
        let marks = line.trim_start();
        if let Some(rest) = marks.strip_prefix("```") {
            match fence {
                Some(_) => fence = None,
                None => {
                    fence = Some(at);
                    if rest.trim().is_empty() {
                        let block = lines[at..].iter().take(4).map(|line| (*line).to_owned());
                        issues.push(issue(Kind::NoLanguage, at, block.collect()));
                    }
                }
            }
            continue;
        }
        if fence.is_some() {
            continue;
        }
        if line.starts_with("## ") {
            sections.push((at, (*line).to_owned()));
        }
        has_contents |= marks.starts_with("- [") && marks.contains("](#");
        if bare_link(line).is_some() {
            issues.push(issue(Kind::BareLink, at, vec![(*line).to_owned()]));
        }
    }
    if let (Some((first, heading)), false) = (sections.first(), has_contents)
        && sections.len() >= SECTIONS
    {
        let mut seen = vec![heading.clone()];
        seen.extend(sections.iter().map(|(_, heading)| heading.clone()));
        issues.push(issue(Kind::NoContents, *first, seen));
    }
}

/// Where an address stands in a line that is no link and no code.
fn bare_link(line: &str) -> Option<usize> {
    let (at, _) = line.match_indices("https://").find(|&(at, _)| {
        let before = &line[..at];
        let is_code = !before.matches('`').count().is_multiple_of(2);
        let has_host = line[at + "https://".len()..].starts_with(char::is_alphanumeric);
        has_host && !is_code && !before.ends_with(['(', '<', '"', '[', '`'])
    })?;
    Some(at)
}

/// Reads `/work`, whatever its input is; gives what it [`Found`].
#[ltmc::agent]
#[derive(Default)]
pub struct FindIssues;

impl Agent for FindIssues {
    type Input = ();
    type Output = Json<Found>;

    fn execute(&self, (): (), _task: &Task) -> Result<Json<Found>, Failure> {
        let found = find(Path::new("/work")).map_err(|error| {
            let what = format!("/work cannot be read: {error}; the agent needs `fs:read:work`");
            Failure::new("no-directory", what)
        })?;
        ltmc::info!(files = found.files, issues = found.issues.len(); "{} documents were looked at", found.files);
        Ok(Json(found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_mended_is_found_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let sections: String = (1..=6).map(|n| format!("## Part {n}\n\ntext\n")).collect();
        fs::write(dir.path().join("long.md"), format!("# Long\n\n{sections}")).unwrap();
        let small = "# Small\n\nsee https://example.org/a and `https://b`, [c](https://example.org/c)\n\nan https:// address\n```\n## code\nhttps://x\n```\n```sh\nls\n```\n";
        fs::create_dir(dir.path().join("deep")).unwrap();
        fs::write(dir.path().join("deep/small.md"), small).unwrap();
        fs::write(dir.path().join("other.txt"), "https://example.org").unwrap();
        let found = find(dir.path()).unwrap();
        let told: Vec<_> = found.issues.iter().map(|one| (one.kind, one.file.as_str(), one.line)).collect();
        assert_eq!(
            told,
            [
                (Kind::BareLink, "deep/small.md", 3),
                (Kind::NoLanguage, "deep/small.md", 6),
                (Kind::NoContents, "long.md", 3)
            ]
        );
        assert_eq!((found.files, found.issues[2].lines.len()), (2, 7));
    }
}
