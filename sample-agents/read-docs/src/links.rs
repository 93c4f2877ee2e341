//! Where links lead.

use percent_encoding::percent_decode_str;

/// Where a link leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Not to a file next to the documents: `https:`, `mailto:`.
    Elsewhere,
    /// To a file that cannot be seen from here.
    Outside,
    /// To this path, and this anchor in it; an empty anchor: to the whole of it.
    Inside(String, String),
}

/// Reads a link that stands in the document `from`. `root` is the name under which the directory is seen.
pub(crate) fn target(root: &str, from: &str, link: &str) -> Target {
    let link = link.trim();
    if link.starts_with("//") || has_scheme(link) {
        return Target::Elsewhere;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    let Some(anchor) = decoded(anchor) else { return Target::Outside };
    if path.is_empty() {
        return Target::Inside(from.to_owned(), anchor);
    }
    // What a path from a site's root means, only the site knows.
    let Some(path) = decoded(path).filter(|path| !path.starts_with('/')) else { return Target::Outside };
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return Target::Outside;
                }
            }
            part => parts.push(part),
        }
    }
    if parts.first() == Some(&root) { Target::Inside(parts.join("/"), anchor) } else { Target::Outside }
}

fn has_scheme(link: &str) -> bool {
    link.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    })
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_from_where_they_stand() {
        let inside = |path: &str, anchor: &str| Target::Inside(path.to_owned(), anchor.to_owned());
        for (link, expected) in [
            ("b.md", inside("docs/x/b.md", "")),
            ("./b.md#c-d", inside("docs/x/b.md", "c-d")),
            ("../b.md?plain=1#c", inside("docs/b.md", "c")),
            ("../../docs/b.md", inside("docs/b.md", "")),
            ("#here", inside("docs/x/a.md", "here")),
            ("", inside("docs/x/a.md", "")),
            ("my%20file.md#%C3%BCber", inside("docs/x/my file.md", "über")),
            ("y/", inside("docs/x/y", "")),
            ("a:b.md", Target::Elsewhere),
            ("../../README.md", Target::Outside),
            ("../../../../etc/passwd", Target::Outside),
            ("/b.md", Target::Outside),
            ("%2Fb.md", Target::Outside),
            ("%FF.md", Target::Outside),
            ("https://example.org/b.md", Target::Elsewhere),
            ("//example.org/b.md", Target::Elsewhere),
            ("MAILTO:a@example.org", Target::Elsewhere),
        ] {
            assert_eq!(target("docs", "docs/x/a.md", link), expected, "{link}");
        }
    }
}
