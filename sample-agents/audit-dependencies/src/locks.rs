//! Lock files: the packages whose entries change, with the versions before and after.

use std::collections::BTreeMap;

use findings::{File, Kind};

/// A package's name and version. One name may be locked in several versions.
pub(crate) type Package = (String, String);

/// Where a package is fetched from, and in which line it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Place {
    /// Empty: the diff does not say.
    pub(crate) source: String,
    pub(crate) line: u32,
}

/// What a change does to the packages of a lock file.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    pub(crate) added: Vec<(Package, Place)>,
    pub(crate) removed: Vec<Package>,
    /// Each with the version before.
    pub(crate) changed: Vec<(String, Package, Place)>,
}

/// What a line of a lock file says.
#[derive(Default)]
struct Says {
    name: Option<String>,
    version: Option<String>,
    source: Option<String>,
}

/// What a change does to a lock file; none: it is none.
pub(crate) fn steps(file: &File) -> Option<Steps> {
    let read: fn(&str) -> Option<Says> = match file.name() {
        "Cargo.lock" | "poetry.lock" | "uv.lock" => toml,
        "package-lock.json" | "npm-shrinkwrap.json" => npm,
        "yarn.lock" => yarn,
        "pnpm-lock.yaml" => pnpm,
        "go.sum" => go,
        _ => return None,
    };
    let (mut before, mut after) = (Side::default(), Side::default());
    for hunk in &file.hunks {
        (before.name, after.name) = (None, None);
        for line in hunk.lines() {
            let Some(says) = read(line.content()) else { continue };
            let number = line.new.or(line.old).unwrap_or_default();
            if line.kind != Kind::Added {
                before.hear(&says, number);
            }
            if line.kind != Kind::Removed {
                after.hear(&says, number);
            }
        }
    }
    // Cargo has no source for the packages of the workspace itself.
    let is_own = |place: &Place| file.name() == "Cargo.lock" && place.source.is_empty();
    before.packages.retain(|_, place| !is_own(place));
    after.packages.retain(|_, place| !is_own(place));
    Some(compare(before.packages, after.packages))
}

/// One side of the change, as far as it is read.
#[derive(Default)]
struct Side {
    packages: BTreeMap<Package, Place>,
    name: Option<String>,
    last: Option<Package>,
}

impl Side {
    fn hear(&mut self, says: &Says, line: u32) {
        if let Some(name) = &says.name {
            (self.name, self.last) = (Some(name.clone()), None);
        }
        if let (Some(version), Some(name)) = (&says.version, &self.name) {
            let package = (name.clone(), version.clone());
            self.packages.insert(package.clone(), Place { source: String::new(), line });
            self.last = Some(package);
        }
        if let (Some(source), Some(last)) = (&says.source, &self.last)
            && let Some(place) = self.packages.get_mut(last)
        {
            source.clone_into(&mut place.source);
        }
    }
}

fn compare(before: BTreeMap<Package, Place>, after: BTreeMap<Package, Place>) -> Steps {
    let mut steps = Steps::default();
    let mut gone: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, version) in before.keys().filter(|package| !after.contains_key(*package)) {
        gone.entry(name.clone()).or_default().push(version.clone());
    }
    for ((name, version), place) in after.into_iter().filter(|(package, _)| !before.contains_key(package)) {
        match gone.get_mut(&name).and_then(Vec::pop) {
            Some(old) => steps.changed.push((old, (name, version), place)),
            None => steps.added.push(((name, version), place)),
        }
    }
    steps.removed =
        gone.into_iter().flat_map(|(name, all)| all.into_iter().map(move |one| (name.clone(), one))).collect();
    steps
}

/// `name = "x"`, `version = "1"`, `source = "registry+https://…"`
fn toml(line: &str) -> Option<Says> {
    let (key, value) = line.split_once(" = ")?;
    let value = value.trim_matches('"').to_owned();
    match key {
        "name" => Some(Says { name: Some(value), ..Says::default() }),
        "version" => Some(Says { version: Some(value), ..Says::default() }),
        "source" => Some(Says { source: Some(value), ..Says::default() }),
        _ => None,
    }
}

/// `"node_modules/x": {`, `"version": "1",`, `"resolved": "https://…"`
fn npm(line: &str) -> Option<Says> {
    let (key, value) = line.trim().trim_end_matches(',').split_once(": ")?;
    let (key, value) = (key.trim_matches('"'), value.trim_matches('"').to_owned());
    match key {
        "version" => Some(Says { version: Some(value), ..Says::default() }),
        "resolved" => Some(Says { source: Some(value), ..Says::default() }),
        _ => {
            let (_, name) = key.rsplit_once("node_modules/").filter(|_| value == "{")?;
            Some(Says { name: Some(name.to_owned()), ..Says::default() })
        }
    }
}

/// `"x@^1", "x@^1.2":`, `  version "1"`, `  resolved "https://…"`
fn yarn(line: &str) -> Option<Says> {
    if let Some(head) = line.strip_suffix(':').filter(|head| !head.starts_with([' ', '#'])) {
        let (name, _) = head.split(',').next()?.trim_matches('"').rsplit_once('@')?;
        return Some(Says { name: Some(name.to_owned()), ..Says::default() });
    }
    let (key, value) = line.trim().split_once(' ')?;
    let value = value.trim_matches('"').to_owned();
    match key.trim_end_matches(':') {
        "version" => Some(Says { version: Some(value), ..Says::default() }),
        "resolved" => Some(Says { source: Some(value), ..Says::default() }),
        _ => None,
    }
}

/// `  x@1.2.3:`, also `  /x@1.2.3(peer@1):` and `  '@scope/x@1.2.3':`
fn pnpm(line: &str) -> Option<Says> {
    let head = line.strip_prefix("  ").filter(|head| !head.starts_with(' '))?.strip_suffix(':')?;
    let head = head.trim_matches('\'').trim_start_matches('/').split('(').next()?;
    let (name, version) = head.rsplit_once('@').filter(|(name, _)| !name.is_empty())?;
    Some(Says { name: Some(name.to_owned()), version: Some(version.to_owned()), source: None })
}

/// `example.org/x v1.2.3 h1:…`
fn go(line: &str) -> Option<Says> {
    let mut words = line.split(' ');
    let (name, version) = (words.next()?, words.next()?);
    let whole = !version.ends_with("/go.mod");
    whole.then(|| Says { name: Some(name.to_owned()), version: Some(version.to_owned()), source: None })
}
