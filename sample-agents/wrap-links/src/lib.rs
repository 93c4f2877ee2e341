//! Makes links of bare addresses.

use issues::{Edit, Issue};
use ltmc::{Agent, Failure, Json, Task};

/// The edit that puts every bare address of a line into angle brackets.
///
/// # Errors
/// `no-line` where the issue has none.
pub fn mend(issue: Issue) -> Result<Edit, Failure> {
    let line = issue.lines.first().ok_or_else(|| Failure::new("no-line", "nothing to mend"))?;
    let (mut new, mut rest, mut is_code) = (String::new(), line.as_str(), false);
    while let Some(at) = rest.find("https://") {
        let (before, address) = rest.split_at(at);
        new.push_str(before);
        is_code ^= !before.matches('`').count().is_multiple_of(2);
        let ends = |c: char| c.is_whitespace() || "`<>)]\"".contains(c);
        let length = address.find(ends).unwrap_or(address.len());
        let length = address[..length].trim_end_matches(['.', ',', ';', ':', '!', '?']).len();
        let has_host = length > "https://".len();
        let is_bare = has_host && !is_code && !new.ends_with(['(', '<', '"', '[', '`']);
        let link = &address[..length];
        new.push_str(&if is_bare { format!("<{link}>") } else { link.to_owned() });
        rest = &address[length..];
    }
    new.push_str(rest);
    Ok(Edit {
        file: issue.file,
        line: issue.line,
        old: vec![line.clone()],
        new: vec![new],
        why: "an address that is no link".into(),
    })
}

/// Takes an [`Issue`], gives an [`Edit`].
#[ltmc::agent]
#[derive(Default)]
pub struct WrapLinks;

impl Agent for WrapLinks {
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
    fn addresses_become_links_and_code_stays_code() {
        for (line, mended) in [
            ("see https://example.org/a.", "see <https://example.org/a>."),
            ("`https://a` https://b, [c](https://c)", "`https://a` <https://b>, [c](https://c)"),
            ("none, nor https:// alone", "none, nor https:// alone"),
        ] {
            let issue = Issue { kind: Kind::BareLink, file: "a.md".into(), line: 1, lines: vec![line.into()] };
            assert_eq!(mend(issue).unwrap().new, [mended]);
        }
    }
}
