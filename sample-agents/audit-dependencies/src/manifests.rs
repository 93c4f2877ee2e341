//! Manifests of several package managers, read by their changed lines.

use std::collections::BTreeMap;

use findings::{File, Kind};
use regex_lite::Regex;

use crate::python;

/// A dependency as a manifest declares it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Declared {
    pub(crate) name: String,
    /// Empty: none is said.
    pub(crate) version: String,
    /// Where it comes from, if that is neither a registry nor the repository.
    pub(crate) source: Option<String>,
    /// Whether it may rightly have any version: it lies in the repository, or its user brings it.
    pub(crate) any_version: bool,
    pub(crate) plain_http: bool,
    pub(crate) line: u32,
}

/// A manifest's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Cargo,
    Npm,
    Requirements,
    Pyproject,
    Go,
    Maven,
}

impl Format {
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name {
            "Cargo.toml" => Some(Self::Cargo),
            "package.json" => Some(Self::Npm),
            "pyproject.toml" => Some(Self::Pyproject),
            "go.mod" => Some(Self::Go),
            "pom.xml" => Some(Self::Maven),
            name if name.starts_with("requirements") && name.ends_with(".txt") => Some(Self::Requirements),
            _ => None,
        }
    }

    /// Whether below 1.0 the second number says what breaks.
    pub(crate) fn zero_is_unstable(self) -> bool {
        matches!(self, Self::Cargo | Self::Npm)
    }
}

/// What the removed lines declare and what the added ones do, by name. Lines of context say which section a line is in.
pub(crate) fn declared(file: &File, format: Format) -> (BTreeMap<String, Declared>, BTreeMap<String, Declared>) {
    (side(file, format, Kind::Removed), side(file, format, Kind::Added))
}

fn side(file: &File, format: Format, wanted: Kind) -> BTreeMap<String, Declared> {
    let mut reader =
        Reader { format, path: &file.path, fields: None, section: Section::Unknown, table: None, artifact: None };
    let mut found: BTreeMap<String, Declared> = BTreeMap::new();
    for hunk in &file.hunks {
        (reader.section, reader.table, reader.artifact) = (Section::Unknown, None, None);
        reader.enter(hunk.section.trim());
        for line in hunk.lines().filter(|line| line.kind == wanted || line.kind == Kind::Context) {
            let text = line.content().trim();
            reader.enter(text);
            for mut declared in reader.read(text) {
                if line.kind == wanted {
                    declared.line = line.new.or(line.old).unwrap_or_default();
                    merge(&mut found, declared);
                }
            }
        }
    }
    found
}

/// A dependency with a table of its own is declared by several lines.
fn merge(found: &mut BTreeMap<String, Declared>, new: Declared) {
    let Some(old) = found.get_mut(&new.name) else {
        found.insert(new.name.clone(), new);
        return;
    };
    if !new.version.is_empty() {
        (old.version, old.line) = (new.version, new.line);
    }
    // Where it comes from matters more than its version.
    if new.source.is_some() {
        (old.source, old.line) = (new.source, new.line);
    }
    old.any_version |= new.any_version;
    old.plain_http |= new.plain_http;
}

/// What the section we are in holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Section {
    /// The diff does not say.
    Unknown,
    Dependencies,
    /// Those that the user of a package brings.
    Peers,
    Other,
}

struct Reader<'a> {
    format: Format,
    path: &'a str,
    /// What finds `field = "value"` within an inline table; compiled when first needed.
    fields: Option<Regex>,
    section: Section,
    /// The dependency whose own table we are in, as in `[dependencies.serde]`.
    table: Option<String>,
    /// Maven: the artifact whose version comes next.
    artifact: Option<String>,
}

impl Reader<'_> {
    fn enter(&mut self, text: &str) {
        match self.format {
            Format::Cargo | Format::Pyproject => self.enter_toml(text),
            Format::Npm if text.ends_with('{') => {
                let name = text.to_ascii_lowercase();
                self.section = match name.contains("dependencies\"") {
                    true if name.contains("peer") => Section::Peers,
                    true => Section::Dependencies,
                    false => Section::Other,
                };
            }
            Format::Npm if text.starts_with('}') => self.section = Section::Other,
            Format::Npm => {}
            Format::Requirements | Format::Go | Format::Maven => self.section = Section::Dependencies,
        }
    }

    fn enter_toml(&mut self, text: &str) {
        let is_head = text.starts_with('[')
            && text.ends_with(']')
            && text[1..].starts_with(|c: char| c.is_alphabetic() || c == '[');
        if is_head {
            let name = text.trim_matches(['[', ']']);
            let (before, last) = name.rsplit_once('.').unwrap_or(("", name));
            let holds = |name: &str| name.ends_with("dependencies") || name == "dependency-groups";
            self.table = holds(before).then(|| last.trim_matches('"').to_owned());
            let within = holds(name) || self.table.is_some();
            self.section = if within { Section::Dependencies } else { Section::Other };
            // Poetry's groups and the lists of extras are tables of dependencies, not dependencies.
            if self.format == Format::Pyproject {
                self.table = None;
            }
        } else if self.format == Format::Pyproject && self.section != Section::Dependencies {
            if let Some((name, _)) = text.split_once('=').filter(|(_, value)| value.trim().starts_with('[')) {
                let holds = matches!(name.trim(), "dependencies" | "requires");
                self.section = if holds { Section::Dependencies } else { Section::Other };
            }
        } else if self.format == Format::Pyproject && text == "]" {
            self.section = Section::Unknown;
        }
    }

    fn read(&mut self, text: &str) -> Vec<Declared> {
        if text.is_empty() || text.starts_with('#') || text.starts_with("//") || self.section == Section::Other {
            return Vec::new();
        }
        match self.format {
            Format::Cargo => self.cargo(text).into_iter().collect(),
            Format::Npm => self.npm(text).into_iter().collect(),
            Format::Requirements => python::requirement(text).into_iter().collect(),
            Format::Pyproject => self.pyproject(text),
            Format::Go => self.go(text).into_iter().collect(),
            Format::Maven => self.maven(text).into_iter().collect(),
        }
    }

    /// `name = "1.2"` or `name = { version = "1.2", … }`; `version = "1.2"` in a table of its own.
    fn cargo(&mut self, text: &str) -> Option<Declared> {
        let (key, value) = text.split_once('=')?;
        let (key, value) = (key.trim().trim_matches('"'), value.trim());
        if let Some(name) = self.table.clone() {
            return self.inline(&name, &format!("{{ {key} = {value} }}"));
        }
        // Without a section in sight, only what cannot be anything else is taken.
        let plain = value.trim_matches('"').trim_start_matches(['^', '=', '~', '>', '<', ' ', '*']);
        let is_version =
            value.starts_with('"') && (plain.is_empty() || plain.starts_with(|c: char| c.is_ascii_digit()));
        let no_names = ["version", "edition", "rust-version", "resolver", "package"];
        if !is_name(key)
            || self.section == Section::Unknown
                && (no_names.contains(&key) || !is_version && !value.contains("version"))
        {
            return None;
        }
        if value.starts_with('{') {
            return self.inline(key, value);
        }
        let version = value.strip_prefix('"')?.split('"').next()?.to_owned();
        Some(Declared { name: key.to_owned(), version, ..Declared::default() })
    }

    /// What an inline table says of a dependency; none: it stands elsewhere, in the workspace or beside this package.
    fn inline(&mut self, name: &str, table: &str) -> Option<Declared> {
        let mut fields = self.fields(table);
        let mut take = |field: &str| fields.remove(field);
        let (version, git, path) = (take("version"), take("git"), take("path").filter(|path| leaves(self.path, path)));
        let pinned = take("rev").or(take("tag"));
        if version.is_none() && git.is_none() && path.is_none() {
            return None;
        }
        let plain_http = git.as_ref().is_some_and(|git| git.starts_with("http:"));
        let source = match (git, path) {
            (Some(git), _) => Some(match pinned {
                Some(at) => format!("git (`{git}` at `{at}`)"),
                None => format!("git (`{git}`, at no revision)"),
            }),
            (None, path) => path.map(|path| format!("`{path}`, outside of the repository")),
        };
        Some(Declared {
            name: name.to_owned(),
            version: version.unwrap_or_default(),
            source,
            plain_http,
            ..Declared::default()
        })
    }

    /// The fields of an inline table whose values are strings.
    fn fields(&mut self, table: &str) -> BTreeMap<String, String> {
        let shape = || Regex::new(r#"([a-z-]+)\s*=\s*"([^"]*)""#).expect("a test compiles it");
        let pairs = self.fields.get_or_insert_with(shape).captures_iter(table);
        pairs.map(|groups| (groups[1].to_owned(), groups[2].to_owned())).collect()
    }

    /// `"name": "^1.2",`
    fn npm(&self, text: &str) -> Option<Declared> {
        if self.section == Section::Unknown {
            return None;
        }
        let (name, version) = text.trim_end_matches(',').split_once(':')?;
        let (name, version) = (name.trim().trim_matches('"'), version.trim().strip_prefix('"')?.trim_end_matches('"'));
        let remote = ["git+", "git:", "github:", "http:", "https:"].iter().any(|scheme| version.starts_with(scheme));
        let path = version.strip_prefix("file:").or_else(|| version.strip_prefix("link:"));
        let source = match path {
            Some(path) if leaves(self.path, path) => Some(format!("`{path}`, outside of the repository")),
            _ => remote.then(|| format!("`{version}`")),
        };
        let plain_http = version.starts_with("http:") || version.starts_with("git+http:");
        let any_version = self.section == Section::Peers || path.is_some();
        let version = if remote || path.is_some() { "" } else { version };
        (!name.is_empty()).then(|| Declared {
            name: name.into(),
            version: version.into(),
            source,
            any_version,
            plain_http,
            line: 0,
        })
    }

    /// A list of requirements, over lines or in one, or `name = "^1"` of poetry.
    fn pyproject(&mut self, text: &str) -> Vec<Declared> {
        if self.section == Section::Unknown {
            return Vec::new();
        }
        let list = text.split_once('=').map(|(_, value)| value.trim()).filter(|value| value.starts_with('['));
        if let Some(quoted) = list.or_else(|| text.starts_with(['"', '\'']).then_some(text)) {
            let quote = if quoted.contains('"') { '"' } else { '\'' };
            return quoted.split(quote).skip(1).step_by(2).filter_map(python::requirement).collect();
        }
        let Some((name, value)) = text.split_once('=') else { return Vec::new() };
        let (name, value) = (name.trim(), value.trim());
        if !is_name(name) || name == "python" {
            return Vec::new();
        }
        let version = value.strip_prefix('"').and_then(|value| value.split('"').next());
        let plain =
            version.map(|version| Declared { name: name.into(), version: version.into(), ..Declared::default() });
        plain.or_else(|| self.inline(name, value)).into_iter().collect()
    }

    /// `github.com/x/y v1.2.3`, also after `require`; `replace x => y`.
    fn go(&self, text: &str) -> Option<Declared> {
        if text.ends_with("// indirect") {
            return None;
        }
        let text = text.strip_prefix("require ").or_else(|| text.strip_prefix("replace ")).unwrap_or(text);
        if let Some((name, by)) = text.split_once("=>") {
            let (name, by) = (name.split_whitespace().next()?, by.split_whitespace().next()?);
            let local = by.starts_with('.') || by.starts_with('/');
            let source = (!local || leaves(self.path, by)).then(|| format!("a replacement (`{by}`)"));
            return Some(Declared { name: name.into(), source, any_version: true, ..Declared::default() });
        }
        let mut words = text.split_whitespace();
        let (name, version) = (words.next()?, words.next()?);
        let is_version = version.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        (name.contains('.') && is_version).then(|| Declared {
            name: name.into(),
            version: version.into(),
            ..Declared::default()
        })
    }

    /// `<artifactId>x</artifactId>` and then `<version>1</version>`
    fn maven(&mut self, text: &str) -> Option<Declared> {
        if let Some(artifact) = element(text, "artifactId") {
            self.artifact = Some(artifact);
            return None;
        }
        let version = element(text, "version")?;
        Some(Declared { name: self.artifact.take()?, version, ..Declared::default() })
    }
}

pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Whether a path that a manifest names lies outside of the manifest's repository.
fn leaves(manifest: &str, path: &str) -> bool {
    let mut depth = manifest.matches('/').count();
    let absolute = path.starts_with(['/', '~', '\\']) || path.get(1..2) == Some(":");
    absolute
        || path.split(['/', '\\']).any(|part| match part {
            ".." if depth == 0 => true,
            ".." => {
                depth -= 1;
                false
            }
            "" | "." => false,
            _ => {
                depth += 1;
                false
            }
        })
}

fn element(text: &str, name: &str) -> Option<String> {
    let inside = text.strip_prefix('<')?.strip_prefix(name)?.strip_prefix('>')?.split("</").next()?;
    Some(inside.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leaves_the_repository_or_does_not() {
        assert!(!leaves("crates/x/Cargo.toml", "../y") && !leaves("crates/x/Cargo.toml", "../../y"));
        assert!(leaves("crates/x/Cargo.toml", "../../../y") && leaves("Cargo.toml", "../y") && leaves("a/b", "/tmp/x"));
    }
}
