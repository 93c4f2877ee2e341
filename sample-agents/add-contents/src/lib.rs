//! Adds a table of contents before the first section of a document.

use issues::{Edit, Issue};
use ltmc::{Agent, Failure, Json, Task};

/// The edit that puts links to all sections before the first of them.
///
/// # Errors
/// `no-sections` where the issue names none.
pub fn mend(issue: Issue) -> Result<Edit, Failure> {
    let (first, sections) = issue.lines.split_first().ok_or_else(|| Failure::new("no-sections", "nothing to list"))?;
    let mut new: Vec<String> = sections.iter().map(|section| entry(section)).collect();
    new.extend([String::new(), first.clone()]);
    let why = format!("{} sections, and no table of contents", sections.len());
    Ok(Edit { file: issue.file, line: issue.line, old: vec![first.clone()], new, why })
}

fn entry(heading: &str) -> String {
    let title = heading.trim_start_matches('#').trim();
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    let anchor: String = kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect();
    format!("- [{title}](#{anchor})")
}

/// Takes an [`Issue`], gives an [`Edit`].
#[ltmc::agent]
#[derive(Default)]
pub struct AddContents;

impl Agent for AddContents {
    type Input = Json<Issue>;
    type Output = Json<Edit>;

    fn execute(&self, Json(issue): Json<Issue>, _task: &Task) -> Result<Json<Edit>, Failure> {
        issues::mended(issue.kind)?;
        mend(issue).map(Json)
    }
}

#[cfg(test)]
mod tests {
    use issues::Kind;

    use super::*;

    #[test]
    fn sections_are_listed_by_their_anchors() {
        let lines = ["## `a` and B-1", "## `a` and B-1", "## When it fails?"].map(str::to_owned).to_vec();
        let edit = mend(Issue { kind: Kind::NoContents, file: "a.md".into(), line: 3, lines }).unwrap();
        let listed = ["- [`a` and B-1](#a-and-b-1)", "- [When it fails?](#when-it-fails)", "", "## `a` and B-1"];
        assert_eq!(
            (edit.old.as_slice(), edit.new),
            (&["## `a` and B-1".to_owned()][..], listed.map(str::to_owned).to_vec())
        );
    }
}
