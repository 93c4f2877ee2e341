//! What a task needs of the machine: Debian packages, installed where they are missing.
//!
//! Invariant: nothing is asked of anybody, and nothing is said, where everything is there. On systems without Debian's
//! packages nobody can tell what is there: what is needed is said, and the build shows whether it is.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::process::run;
use crate::steps::say;

/// What the host's build needs besides Rust and a C compiler. FAISS is C++ with OpenMP (which comes with the compiler), is
/// built by CMake and make, and is linked with BLAS and LAPACK; what the host asks of it does not call them, so the small
/// ones do.
pub(crate) const HOST: &[&str] = &["g++", "cmake", "make", "libblas-dev", "liblapack-dev"];

/// What the servers and the model that tests use need: Redis itself, what fetches and runs Neo4j, certificates for TLS, and
/// what fetches the model.
pub(crate) const SERVERS: &[&str] = &["redis-server", "maven", "openjdk-17-jre-headless", "openssl", "python3-pip"];

/// Sees to it that these packages are installed.
pub(crate) fn packages(names: &[&str]) -> anyhow::Result<()> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${Package} ${db:Status-Status}\n"]).args(names);
    // It ends with an error where it does not know a package, which is no error here.
    let known = match query.stderr(Stdio::null()).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            say(format!("  this is no Debian: the build needs what Debian calls {}", names.join(", ")));
            return Ok(());
        }
        Err(error) => return Err(error).context("starting `dpkg-query`"),
    };
    let missing = missing(names, &known);
    if missing.is_empty() {
        return Ok(());
    }
    let by_hand = format!("apt-get install {}", missing.join(" "));
    let Some(as_root) = as_root() else {
        bail!("{} missing, and this is neither root nor is there `sudo`: as root, `{by_hand}`", are(&missing));
    };
    say(format!("  {} missing: installed now", are(&missing)));
    let apt = |arguments: &[&str]| {
        let mut words = as_root.iter().copied().chain(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        let mut command = Command::new(words.next().unwrap_or("env"));
        command.args(words).args(arguments);
        run(command)
    };
    apt(&["update", "--quiet"])
        .and_then(|()| apt(&[&["install", "--quiet", "--yes", "--no-install-recommends"], &missing[..]].concat()))
        .with_context(|| format!("{} missing: as root, `{by_hand}`", are(&missing)))
}

/// Those of `names` that are not installed; `known` is what dpkg-query says.
fn missing<'a>(names: &[&'a str], known: &str) -> Vec<&'a str> {
    let installed: BTreeSet<&str> = known.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    names.iter().copied().filter(|name| !installed.contains(name)).collect()
}

/// What goes before a command that only root may run; none: this user may not.
fn as_root() -> Option<&'static [&'static str]> {
    let answers = |command: &mut Command| command.stderr(Stdio::null()).output().ok().filter(|o| o.status.success());
    if answers(Command::new("id").arg("-u"))?.stdout.trim_ascii() == b"0" {
        return Some(&[]);
    }
    answers(Command::new("sudo").arg("--version")).map(|_| &["sudo"][..])
}

fn are(names: &[&str]) -> String {
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unknown_or_only_configured_is_missing() {
        let known = "g++ installed\ncmake config-files\nlibblas-dev installed\nlibblas-dev installed\n";
        assert_eq!(missing(&["g++", "cmake", "make", "libblas-dev"], known), ["cmake", "make"]);
        assert!(missing(&["g++"], known).is_empty());
        assert_eq!(are(&["make"]), "make is");
        assert_eq!(are(&["cmake", "make"]), "cmake, make are");
    }
}
