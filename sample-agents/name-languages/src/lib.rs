//! Says in which language a block of code is written.

use issues::{Edit, Issue};
use ltmc::{Agent, Failure, Json, Task};

/// The edit that names the language after the opening marks of a block.
///
/// # Errors
/// `no-block` where the issue has none.
pub fn mend(issue: Issue) -> Result<Edit, Failure> {
    let (marks, code) = issue.lines.split_first().ok_or_else(|| Failure::new("no-block", "nothing to mend"))?;
    let language = language(code);
    let new = vec![format!("{}{language}", marks.trim_end())];
    let why = format!("a block of code without its language, which looks like `{language}`");
    Ok(Edit { file: issue.file, line: issue.line, old: vec![marks.clone()], new, why })
}

fn language(code: &[String]) -> &'static str {
    let first = code.iter().map(|line| line.trim()).find(|line| !line.is_empty() && !line.starts_with("```"));
    let Some(first) = first else { return "text" };
    let begins = |with: &[&str]| with.iter().any(|word| first.starts_with(word));
    match () {
        () if begins(&["$ ", "cargo ", "ltmc ", "git ", "curl ", "sudo ", "cd "]) => "sh",
        () if begins(&["fn ", "use ", "pub ", "impl ", "let ", "struct "]) => "rust",
        () if begins(&["{"]) => "json",
        () if begins(&["["]) && first.ends_with(']') => "toml",
        () if first.ends_with(':') || begins(&["name: "]) => "yaml",
        () => "text",
    }
}

/// Takes an [`Issue`], gives an [`Edit`].
#[ltmc::agent]
#[derive(Default)]
pub struct NameLanguages;

impl Agent for NameLanguages {
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
    fn the_first_line_says_the_language() {
        for (code, named) in
            [("cargo test", "```sh"), ("{\"a\": 1}", "```json"), ("[a.b]", "```toml"), ("10: x ──▶", "```text")]
        {
            let lines = ["```", code, "```"].map(str::to_owned).to_vec();
            let issue = Issue { kind: Kind::NoLanguage, file: "a.md".into(), line: 1, lines };
            assert_eq!(mend(issue).unwrap().new, [named]);
        }
    }
}
