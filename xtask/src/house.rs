//! The house's own tests: who may depend on whom, and whether ARCHITECTURE.md still says what is there.
//!
//! They read manifests and folders and nothing else, so they hold whatever the code does.

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

/// A decision that the list lacks is found by nobody.
#[test]
fn every_decision_is_listed() {
    let list = std::fs::read_to_string(root().join("docs/adr/README.md")).expect("the list of decisions");
    let entries = std::fs::read_dir(root().join("docs/adr")).expect("the decisions").flatten();
    let pages = entries.filter_map(|e| e.file_name().into_string().ok()).filter(|name| name != "README.md");
    let missing: Vec<String> = pages.filter(|name| !list.contains(&format!("]({name})"))).collect();
    assert!(missing.is_empty(), "docs/adr/README.md does not list {missing:?}");
}

/// Every Rust source below a folder, but for what is built or stored there.
pub(crate) fn sources(of: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(of).into_iter().flatten().flatten().map(|e| e.path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.is_file() && path.extension().is_some_and(|e| e == "rs")).collect();
    found.extend(folders(of).into_iter().flat_map(|folder| sources(&of.join(folder))));
    found
}

/// The record's adapter is chosen by one `match`, and no file of the host besides it knows one of the record's by name.
#[test]
fn one_arm_names_the_record_s_adapter() {
    let (mut named, mut files) = (Vec::new(), Vec::new());
    let above = |c: &&Crate| c.folder.starts_with("host/") && !c.folder.starts_with("host/stores/");
    for member in crates().iter().filter(above) {
        for source in sources(&root().join(&member.folder).join("src")) {
            let text = std::fs::read_to_string(&source).expect("a source");
            // What tests say stands last.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let shown = source.strip_prefix(root()).expect("below the root").display().to_string();
            named.extend(
                code.lines()
                    .filter(|line| line.contains("ltmc_sqlite"))
                    .map(|line| (shown.clone(), line.trim().to_owned())),
            );
            files.extend(Some(shown).filter(|_| code.contains("record.db")));
        }
    }
    assert_eq!(files, Vec::<String>::new(), "these know a file of the record's");
    let [(file, line)] = &named[..] else { panic!("the record's adapter is named by {named:#?}") };
    assert!(file == "host/ltmc/src/record.rs" && line.contains("=>"), "{file}: {line}");
}
