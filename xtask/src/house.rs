//! The house's own tests: who may depend on whom, whether ARCHITECTURE.md still says what is there, and whether doc
//! comments say anything.
//!
//! They read manifests, folders and comments and nothing else, so they hold whatever the code does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A crate, as its manifest says.
#[derive(Debug)]
struct Crate {
    name: String,
    /// From the repository's root, with `/`.
    folder: String,
    layer: u64,
    /// Every workspace crate it names: dependencies, also of tests and build scripts, also of single targets.
    needs: Vec<Need>,
}

#[derive(Debug)]
struct Need {
    name: String,
    /// Only its tests need it.
    tests_only: bool,
}

/// Reached through ports: these are named by the binary and by tests alone.
fn is_adapter(folder: &str) -> bool {
    folder.starts_with("host/stores/")
        || matches!(folder, "host/sandbox" | "host/embedders" | "host/integrations" | "host/schemas")
}

/// May name adapters.
fn wires_adapters(folder: &str) -> bool {
    folder == "host/ltmc" || folder == "tests"
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask stands in the root").to_owned()
}

fn table(path: &Path) -> toml::Table {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn crates() -> Vec<Crate> {
    let workspace = table(&root().join("Cargo.toml"));
    let members = workspace["workspace"]["members"].as_array().expect("members");
    members.iter().map(|m| read(m.as_str().expect("a member's folder"))).collect()
}

fn read(folder: &str) -> Crate {
    let manifest = table(&root().join(folder).join("Cargo.toml"));
    let name = manifest["package"]["name"].as_str().expect("a name").to_owned();
    let layer = manifest["package"]
        .get("metadata")
        .and_then(|m| m.get("ltmc")?.get("layer")?.as_integer())
        .unwrap_or_else(|| panic!("{folder}/Cargo.toml declares no [package.metadata.ltmc] layer"));
    let mut needs = Vec::new();
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let places =
        std::iter::once(&manifest).chain(targets.into_iter().flat_map(|t| t.values().filter_map(|v| v.as_table())));
    for place in places {
        for (kind, tests_only) in [("dependencies", false), ("build-dependencies", false), ("dev-dependencies", true)] {
            let names = place.get(kind).and_then(toml::Value::as_table);
            needs.extend(names.into_iter().flat_map(|t| t.keys()).map(|n| Need { name: n.clone(), tests_only }));
        }
    }
    Crate { name, folder: folder.to_owned(), layer: layer.try_into().expect("a layer is not negative"), needs }
}

#[test]
fn every_dependency_of_the_workspace_is_some_member_s() {
    let needs: BTreeSet<String> = crates().into_iter().flat_map(|one| one.needs).map(|need| need.name).collect();
    let workspace = table(&root().join("Cargo.toml"));
    let named = workspace["workspace"]["dependencies"].as_table().expect("dependencies");
    let unused: Vec<&String> = named.keys().filter(|name| !needs.contains(*name)).collect();
    assert!(unused.is_empty(), "no member needs {unused:?}");
}

/// Every edge that the house forbids, in words.
fn forbidden(crates: &[Crate]) -> Vec<String> {
    let by_name: BTreeMap<&str, &Crate> = crates.iter().map(|c| (c.name.as_str(), c)).collect();
    let mut wrong = Vec::new();
    for from in crates {
        for need in &from.needs {
            let Some(to) = by_name.get(need.name.as_str()) else { continue };
            // a crate's own macros live in its folder and are a part of it
            let own_part = to.folder.starts_with(&format!("{}/", from.folder));
            if to.layer >= from.layer && !own_part && !need.tests_only {
                wrong.push(format!(
                    "{} (layer {}) depends on {} (layer {}): only strictly lower layers",
                    from.name, from.layer, to.name, to.layer
                ));
            }
            if is_adapter(&to.folder) && !wires_adapters(&from.folder) && !need.tests_only {
                wrong.push(format!("{} names the adapter {}: reach it through ports", from.name, to.name));
            }
        }
    }
    wrong
}

#[test]
fn a_crate_depends_only_on_strictly_lower_layers() {
    let wrong = forbidden(&crates());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_upward_edge_is_refused() {
    let one = |name: &str, folder: &str, layer, needs: &[&str]| Crate {
        name: name.into(),
        folder: folder.into(),
        layer,
        needs: needs.iter().map(|n| Need { name: (*n).into(), tests_only: false }).collect(),
    };
    let wrong = forbidden(&[
        one("model", "host/model", 0, &["api"]),
        one("api", "host/api", 5, &["model", "sandbox"]),
        one("sandbox", "host/sandbox", 4, &["model"]),
        one("sibling", "host/sibling", 4, &["other"]),
        one("other", "host/other", 4, &[]),
        one("sdk", "guest-sdk", 0, &["macros"]),
        one("macros", "guest-sdk/macros", 0, &[]),
    ]);
    assert_eq!(wrong.len(), 3, "{wrong:#?}");
    assert!(wrong[0].starts_with("model (layer 0) depends on api (layer 5)"));
    assert!(wrong[1].starts_with("api names the adapter sandbox"));
    assert!(wrong[2].starts_with("sibling (layer 4) depends on other (layer 4)"));
}

/// A heavy dependency has one home: who else names it has gone round a port.
#[test]
fn heavy_dependencies_have_one_home() {
    let homes = [
        ("wasmtime", &["host/sandbox", "tests"][..]),
        ("wasmtime-wasi", &["host/sandbox", "tests"]),
        ("sqlx", &["tests"]),
        ("rusqlite", &["host/stores/sqlite"]),
        ("jsonschema", &["host/schemas"]),
        ("axum", &["host/api", "tests"]),
        ("clap", &["host/ltmc", "xtask", "tests"]),
        ("figment", &["host/ltmc"]),
    ];
    for one in crates() {
        for need in one.needs.iter().filter(|n| !n.tests_only) {
            if let Some((_, homes)) = homes.iter().find(|(name, _)| *name == need.name) {
                assert!(homes.contains(&one.folder.as_str()), "{} names {}: only {homes:?} may", one.name, need.name);
            }
        }
    }
}

/// The words in backticks of ARCHITECTURE.md's code map that are paths: they end with `/` or have a `/` in them.
fn map() -> BTreeSet<String> {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md");
    let map = text.split_once("## Code map").expect("ARCHITECTURE.md has a section `## Code map`").1;
    let map = map.split("\n## ").next().unwrap_or_default();
    map.split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.contains('/') && !word.contains([' ', '*', ':', '<']))
        .map(|word| word.trim_end_matches('/').to_owned())
        .collect()
}

#[test]
fn what_the_code_map_names_exists() {
    let missing: Vec<String> = map().into_iter().filter(|path| !root().join(path).exists()).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md names what is not there: {missing:?}");
}

#[test]
fn every_crate_is_named_in_the_code_map() {
    let map = map();
    let named = |folder: &str| map.contains(folder);
    let missing: Vec<String> = folders_with_a_crate().into_iter().filter(|folder| !named(folder)).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md's code map does not name {missing:?}");
}

/// Folders up to two levels down that hold a crate (or, at the second level, hold crates), and every workspace member.
fn folders_with_a_crate() -> BTreeSet<String> {
    let mut found: BTreeSet<String> = crates().into_iter().map(|c| c.folder).collect();
    for top in folders(&root()) {
        if root().join(&top).join("Cargo.toml").exists() {
            found.insert(top.clone());
        }
        for second in folders(&root().join(&top)) {
            let folder = format!("{top}/{second}");
            if root().join(&folder).join("Cargo.toml").exists() {
                found.insert(folder);
            }
        }
    }
    // the agents of one workspace are named by their workspace
    found.into_iter().filter(|f| !f.starts_with("sample-agents/") && !f.starts_with("tests/guests/")).collect()
}

fn folders(of: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(of).into_iter().flatten().flatten();
    entries
        .filter(|e| e.path().is_dir())
        .filter_map(|e| e.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.') && name != "target" && name != "ltmc-data")
        .collect()
}

/// Documents that people are sent to exist, and links between them lead somewhere.
#[test]
fn links_between_documents_lead_somewhere() {
    let mut documents: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"].iter().map(|f| root().join(f)).collect();
    for folder in ["docs", "docs/adr"] {
        let entries = std::fs::read_dir(root().join(folder)).into_iter().flatten().flatten();
        documents.extend(entries.map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "md")));
    }
    let mut broken = Vec::new();
    for document in documents {
        let text = std::fs::read_to_string(&document).unwrap_or_else(|e| panic!("{}: {e}", document.display()));
        let folder = document.parent().expect("a file stands in a folder");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.contains("://") && !folder.join(path).exists() {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

/// Words that ask what a doc comment is to answer.
const QUESTIONS: [&str; 9] = ["how", "what", "when", "where", "which", "who", "whom", "whose", "why"];

/// Words that may stand before one: `By which event.`
const PREPOSITIONS: [&str; 13] =
    ["after", "at", "by", "for", "from", "in", "of", "on", "since", "to", "under", "until", "with"];

/// Whether a text tells nothing: one word, a question with at most one more, or a mere owner such as `The record's.`
fn says_nothing(text: &str) -> bool {
    let text = text.trim_end_matches(['.', ':']).to_lowercase();
    let words: Vec<&str> = text.split_whitespace().collect();
    let asks = |word: &str| QUESTIONS.contains(&word);
    match words[..] {
        [] | [_] | ["every" | "which", "one"] | ["its" | "the", "run"] => true,
        ["the", owner] => owner.ends_with("'s"),
        [first, second] => asks(first) || PREPOSITIONS.contains(&first) && asks(second),
        [first, second, _] => PREPOSITIONS.contains(&first) && asks(second),
        _ => false,
    }
}

/// The doc comments of a source: the line that each begins in, from 1 on, and its lines without what marks them.
fn doc_comments(source: &str) -> Vec<(usize, Vec<&str>)> {
    let mut found: Vec<(usize, Vec<&str>)> = Vec::new();
    let mut before = None;
    for (number, line) in (1..).zip(source.lines().map(str::trim)) {
        let mark = ["///", "//!"].into_iter().find(|mark| line.starts_with(*mark) && !line.starts_with("////"));
        if let Some(mark) = mark {
            let text = line[mark.len()..].trim();
            match found.last_mut() {
                Some((_, lines)) if before == Some(mark) => lines.push(text),
                _ => found.push((number, vec![text])),
            }
        }
        before = mark;
    }
    found
}

/// Doc comments of a source that tell nothing: the line of each, what it says, and what would be right.
fn empty_comments(source: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for (begin, lines) in doc_comments(source) {
        let whole = lines.join(" ");
        if says_nothing(&whole) {
            wrong.push(format!(
                "{begin}: `{whole}` says nothing: say what it is for, with its unit, shape or bound where it has one; \
                 where the item is private and its name says that already, leave the comment out"
            ));
        }
        let Some(heading) = lines.iter().position(|line| *line == "# Errors") else { continue };
        let section = lines[heading + 1..].iter().take_while(|line| !line.starts_with("# "));
        let errors = section.copied().collect::<Vec<_>>().join(" ");
        if says_nothing(&errors) {
            wrong.push(format!(
                "{}: `# Errors` followed by `{errors}` says nothing: say which failures a caller can get, such as \
                 \"[`StoreError`] where the record does not answer\"",
                begin + heading
            ));
        }
    }
    wrong
}

/// Every Rust source below a folder, but for what is built or stored there.
fn sources(of: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(of).into_iter().flatten().flatten().map(|e| e.path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.is_file() && path.extension().is_some_and(|e| e == "rs")).collect();
    found.extend(folders(of).into_iter().flat_map(|folder| sources(&of.join(folder))));
    found
}

#[test]
fn every_doc_comment_says_something() {
    let mut wrong = Vec::new();
    for path in sources(&root()) {
        let source = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let shown = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        wrong.extend(empty_comments(&source).into_iter().map(|what| format!("{shown}:{what}")));
    }
    wrong.sort();
    assert!(wrong.is_empty(), "doc comments that say nothing:\n{}", wrong.join("\n"));
}

#[test]
fn a_doc_comment_that_says_nothing_is_found_with_its_line() {
    for empty in ["", "Which.", "Bounds.", "`graph:read`", "Whose key.", "Since when.", "By which event.", "Its run."] {
        assert!(says_nothing(empty), "{empty}");
    }
    for told in ["The run's id.", "In lower case.", "See [`Lost`].", "As [`page`].", "What the step works on."] {
        assert!(!says_nothing(told), "{told}");
    }
    let source = ["//! A module.", "", "/// Saves it.", "///", "/// # Errors", "/// The store's.", "fn save() {}"];
    let wrong = empty_comments(&source.join("\n"));
    assert_eq!(wrong.len(), 1, "{wrong:#?}");
    assert!(wrong[0].starts_with("5: `# Errors` followed by `The store's.`"), "{wrong:#?}");
}
