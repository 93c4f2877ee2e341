//! Manifests of several package managers, read by their changed lines.

use findings::{File, Kind};
use regex_lite::Regex;

/// A dependency as a line declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) name: String,
    /// Empty: none is said.
    pub(crate) version: String,
    /// Where it comes from, if that is no registry.
    pub(crate) source: Option<String>,
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
}

pub(crate) fn is_lock(name: &str) -> bool {
    matches!(
        name,
        "Cargo.lock" | "package-lock.json" | "npm-shrinkwrap.json" | "yarn.lock" | "pnpm-lock.yaml" | "poetry.lock" | "uv.lock" | "go.sum"
    )
}

/// What the added lines declare, or the removed ones. Lines of context say which section a line is in.
pub(crate) fn declared(file: &File, format: Format, added: bool) -> Vec<Declared> {
    let wanted = if added { Kind::Added } else { Kind::Removed };
    let mut reader = Reader { format, section: None, artifact: None };
    let mut found = Vec::new();
    for hunk in &file.hunks {
        reader.section = None;
        reader.enter(&hunk.section);
        for line in hunk.lines.iter().filter(|line| line.kind == wanted || line.kind == Kind::Context) {
            let text = line.text.trim();
            reader.enter(text);
            let number = line.new.or(line.old).unwrap_or(0);
            if let Some(mut declared) = reader.read(text).filter(|_| line.kind == wanted) {
                declared.line = number;
                found.push(declared);
            }
        }
    }
    found
}

struct Reader {
    format: Format,
    /// Whether the section we are in holds dependencies; none: the diff does not say.
    section: Option<bool>,
    /// Maven: the artifact whose version comes next.
    artifact: Option<String>,
}

impl Reader {
    fn enter(&mut self, text: &str) {
        let text = text.trim();
        match self.format {
            Format::Cargo | Format::Pyproject => {
                if text.starts_with('[') && text.ends_with(']') && !text.contains('"') {
                    let name = text.trim_matches(['[', ']']);
                    self.section = Some(name.split('.').any(|part| part.ends_with("dependencies")));
                } else if self.format == Format::Pyproject && text.ends_with('[') {
                    self.section = Some(text.contains("dependencies") || text.contains("requires"));
                }
            }
            Format::Npm => {
                if text.ends_with('{') {
                    self.section = Some(text.to_ascii_lowercase().contains("dependencies"));
                } else if text.starts_with('}') {
                    self.section = Some(false);
                }
            }
            Format::Requirements | Format::Go | Format::Maven => self.section = Some(true),
        }
    }

    fn read(&mut self, text: &str) -> Option<Declared> {
        if text.is_empty() || text.starts_with('#') || text.starts_with("//") {
            return None;
        }
        match self.format {
            Format::Cargo => self.cargo(text),
            Format::Npm => self.npm(text),
            Format::Requirements => python(text),
            Format::Pyproject => self.pyproject(text),
            Format::Go => go(text),
            Format::Maven => self.maven(text),
        }
    }

    /// `name = "1.2"` or `name = { version = "1.2", … }`
    fn cargo(&self, text: &str) -> Option<Declared> {
        let (name, value) = text.split_once('=')?;
        let (name, value) = (name.trim().trim_matches('"'), value.trim());
        if self.section == Some(false) || !is_name(name) {
            return None;
        }
        let field = |field: &str| field_of(value, field);
        let inline = value.starts_with('{');
        // Without a section in sight, only what cannot be anything else is taken.
        let known = ["version", "edition", "name", "rust-version", "license", "description", "publish", "path", "features", "resolver", "members", "default", "layer"];
        if self.section.is_none() && (known.contains(&name) || !(inline || value.starts_with('"'))) {
            return None;
        }
        if name.ends_with(".workspace") || field("workspace").is_some() {
            return None;
        }
        let source = match (field("git"), field("rev").or(field("tag")), field("path")) {
            (Some(git), None, _) => Some(format!("git ({git}), at no revision")),
            (Some(git), Some(at), _) => Some(format!("git ({git} at {at})")),
            // Within a repository a path is where a dependency should be.
            (None, _, _) => None,
        };
        let is_path = field("path").is_some();
        let version = if inline { field("version").unwrap_or_default() } else { value.trim_matches('"').to_owned() };
        if is_path && version.is_empty() {
            return None;
        }
        let plain_http = value.contains("http://");
        Some(Declared { name: name.into(), version, source, plain_http, line: 0 })
    }

    /// `"name": "^1.2",`
    fn npm(&self, text: &str) -> Option<Declared> {
        if self.section != Some(true) {
            return None;
        }
        let (name, version) = text.trim_end_matches(',').split_once(':')?;
        let (name, version) = (name.trim().trim_matches('"'), version.trim().trim_matches('"'));
        let source = ["git+", "git:", "github:", "http:", "https:", "file:", "link:"]
            .iter()
            .any(|scheme| version.starts_with(scheme))
            .then(|| version.to_owned());
        let plain_http = version.starts_with("http:") || version.starts_with("git+http:");
        (!name.is_empty()).then(|| Declared { name: name.into(), version: version.into(), source, plain_http, line: 0 })
    }

    /// A string of a list of requirements, or `name = "^1"` of poetry.
    fn pyproject(&self, text: &str) -> Option<Declared> {
        if self.section != Some(true) {
            return None;
        }
        if let Some(quoted) = text.strip_prefix('"').or_else(|| text.strip_prefix('\'')) {
            return python(quoted.trim_end_matches([',', '"', '\'']));
        }
        let (name, value) = text.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        if !is_name(name) || name == "python" || value.starts_with('[') {
            return None;
        }
        let version = if value.starts_with('{') { field_of(value, "version").unwrap_or_default() } else { value.trim_matches('"').to_owned() };
        let source = field_of(value, "git").map(|git| format!("git ({git})"));
        Some(Declared { name: name.into(), version, source, plain_http: value.contains("http://"), line: 0 })
    }

    /// `<artifactId>x</artifactId>` and then `<version>1</version>`
    fn maven(&mut self, text: &str) -> Option<Declared> {
        if let Some(artifact) = element(text, "artifactId") {
            self.artifact = Some(artifact);
            return None;
        }
        let version = element(text, "version")?;
        let name = self.artifact.take()?;
        Some(Declared { name, version, source: None, plain_http: false, line: 0 })
    }
}

/// `name[extra]>=1.2 ; marker`, `-e git+https://…`, `name @ https://…`
fn python(text: &str) -> Option<Declared> {
    let text = text.split(" #").next().unwrap_or(text).split(';').next().unwrap_or(text).trim();
    let address = text.strip_prefix("-e ").unwrap_or(text);
    if address.contains("://") {
        let name = match (address.split_once(" @ "), address.split_once("#egg=")) {
            (Some((name, _)), _) | (None, Some((_, name))) => name.trim().to_owned(),
            (None, None) => address.rsplit('/').next().unwrap_or(address).trim_end_matches(".git").to_owned(),
        };
        let plain_http = address.contains("http://");
        return Some(Declared { name, version: String::new(), source: Some(address.to_owned()), plain_http, line: 0 });
    }
    if text.starts_with('-') {
        return None;
    }
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    if let Some(extras) = rest.strip_prefix('[') {
        rest = extras.split_once(']').map_or("", |(_, rest)| rest);
    }
    let version = rest.trim().trim_matches(['(', ')']).to_owned();
    is_name(name).then(|| Declared { name: name.to_ascii_lowercase(), version, source: None, plain_http: false, line: 0 })
}

/// `github.com/x/y v1.2.3` or `require github.com/x/y v1.2.3`
fn go(text: &str) -> Option<Declared> {
    let text = text.strip_prefix("require ").unwrap_or(text);
    if let Some(replaced) = text.strip_prefix("replace ") {
        let (name, by) = replaced.split_once("=>")?;
        let (name, by) = (name.split_whitespace().next()?, by.trim());
        return Some(Declared { name: name.into(), version: String::new(), source: Some(format!("a replacement ({by})")), plain_http: false, line: 0 });
    }
    let mut words = text.split_whitespace();
    let (name, version) = (words.next()?, words.next()?);
    let valid = name.contains('.') && version.starts_with('v') && version[1..].starts_with(|c: char| c.is_ascii_digit());
    valid.then(|| Declared { name: name.into(), version: version.into(), source: None, plain_http: false, line: 0 })
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// `field = "value"` within an inline table.
fn field_of(table: &str, field: &str) -> Option<String> {
    let shape = Regex::new(&format!(r#"(?:^|[{{,\s]){field}\s*=\s*(?:"([^"]*)"|(true))"#)).ok()?;
    let groups = shape.captures(table)?;
    Some(groups.get(1).or(groups.get(2))?.as_str().to_owned())
}

fn element(text: &str, name: &str) -> Option<String> {
    let inside = text.strip_prefix(&format!("<{name}>"))?.split("</").next()?;
    Some(inside.trim().to_owned())
}
