//! What `ltmc new` writes: an agent of a dozen lines, and its native test.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Where a new crate finds the SDK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sdk {
    /// In this directory.
    Path(PathBuf),
    /// This version of it.
    Version(String),
}

/// Writes a new agent's crate named `name` into `dir`, which is made and must not be there yet.
///
/// # Errors
/// A name that no agent can have, a directory that is there, or the file system's.
pub fn new_crate(name: &str, dir: &Path, sdk: &Sdk) -> anyhow::Result<()> {
    let fits = (1..=63).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !fits {
        bail!(
            "`{name}` is not an agent's name: 1 to 63 of a-z, 0-9 and `-`, beginning with a letter, not ending with `-`"
        );
    }
    if dir.exists() && std::fs::read_dir(dir).map_or(true, |mut entries| entries.next().is_some()) {
        bail!("{} is there already, and not an empty directory", dir.display());
    }
    let sdk = match sdk {
        Sdk::Path(path) => {
            let path = path.canonicalize().with_context(|| format!("the SDK's directory {}", path.display()))?;
            format!("{{ path = {:?} }}", path.display().to_string())
        }
        Sdk::Version(version) => format!("{version:?}"),
    };
    let write = |file: &str, text: String| {
        let path = dir.join(file);
        std::fs::create_dir_all(path.parent().unwrap_or(dir))
            .and_then(|()| std::fs::write(&path, text))
            .with_context(|| format!("writing {}", path.display()))
    };
    let fill = |text: &str| text.replace("{{name}}", name).replace("{{sdk}}", &sdk).replace("{{Struct}}", &camel(name));
    write("Cargo.toml", fill(CARGO))?;
    write("src/lib.rs", fill(LIB))?;
    write("README.md", fill(README))?;
    // A host that is started here keeps its keys here.
    write(".gitignore", "/target\n/ltmc-data\n".into())
}

fn camel(name: &str) -> String {
    let parts = name.split('-').filter(|part| !part.is_empty());
    parts.map(|part| format!("{}{}", part[..1].to_ascii_uppercase(), &part[1..])).collect()
}

const CARGO: &str = r#"[package]
name = "{{name}}"
version = "0.1.0"
edition = "2024"
description = "Greets, and counts how often."
publish = false

# What it asks for. Asking grants nothing: `ltmc push --grant asked` does, or `ltmc grant`.
[package.metadata.ltmc]
asks = ["memory:read:agent", "memory:write:agent"]

[lib]
crate-type = ["cdylib", "rlib"]

[dependencies]
ltmc-sdk = {{sdk}}
serde = { version = "1", features = ["derive"] }

[profile.release]
opt-level = "s"
strip = true

# A workspace of its own, wherever it stands.
[workspace]
"#;

const LIB: &str = r#"//! Greets, and counts how often.

use ltmc::memory::{self, Scope};
use ltmc::{Agent, Failure, Json, Task};

#[ltmc::agent]
#[derive(Default)]
pub struct {{Struct}};

impl Agent for {{Struct}} {
    type Input = String;
    type Output = Json<String>;

    fn execute(&self, name: String, _task: &Task) -> Result<Json<String>, Failure> {
        let seen = memory::open(Scope::Agent)?;
        let times = seen.get_json::<u32>("times")?.unwrap_or(0) + 1;
        seen.put_json("times", &times)?;
        Ok(Json(format!("Hello, {}! ({times})", name.trim())))
    }
}

#[cfg(test)]
mod tests {
    use ltmc::testing::Host;

    use super::*;

    #[test]
    fn it_greets_and_counts() {
        let host = Host::new().grant("memory:read:agent").grant("memory:write:agent");
        assert_eq!(host.call::<{{Struct}}>("Ada".into()), Ok(Json("Hello, Ada! (1)".into())));
        assert_eq!(host.call::<{{Struct}}>("Ada".into()), Ok(Json("Hello, Ada! (2)".into())));
    }
}
"#;

const README: &str = r"# {{name}}

    cargo test                                   # natively, against the SDK's in-memory host
    ltmc build                                   # to a component, with its manifest inside
    echo Ada | ltmc run target/ltmc/{{name}}.wasm --grant memory:read:agent --grant memory:write:agent
    ltmc push --grant asked                      # to a host (`ltmc serve`)
    echo Ada | ltmc call {{name}}
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_types() {
        assert_eq!(camel("read-diff"), "ReadDiff");
        assert_eq!(camel("a"), "A");
    }

    #[test]
    fn names_that_no_agent_can_have_are_refused_before_anything_is_written() {
        let dir = std::env::temp_dir().join(format!("ltmc-template-{}", std::process::id()));
        for name in ["", "-a", "a-", "A", "a_b", "../x"] {
            assert!(new_crate(name, &dir, &Sdk::Version("0.1".into())).is_err(), "{name}");
        }
        assert!(!dir.exists());
    }
}
