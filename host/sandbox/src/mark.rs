//! What an artifact of the compiler bears, so that only what this host wrote for a component is loaded as that component's code: a keyed hash
//! of both, in a file beside it.
//!
//! Invariants: the key is drawn once for a data directory, and only its owner can read it. What is loaded are the very bytes that were looked at.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit as _, Mac as _};
use ltmc_model::Digest;
use sha2::Sha256;

/// The key's file in the data directory.
const FILE: &str = "artifacts.key";
/// So that the key is good for nothing else.
const PURPOSE: &[u8] = b"ltmc artifact 1";

/// A data directory's key.
pub(crate) struct Marks(Hmac<Sha256>);

/// How an artifact stands.
#[derive(Debug)]
pub(crate) enum Marked {
    /// It is what this host wrote: its bytes.
    Own(Vec<u8>),
    /// It bears nothing: an earlier version wrote it, or somebody took that away.
    Bare,
    /// It is not what this host wrote for the component.
    Foreign,
}

impl Marks {
    /// The key of this directory, which is drawn where there is none yet.
    pub(crate) fn open(dir: &Path) -> std::io::Result<Self> {
        let path = dir.join(FILE);
        let key = match read(&path) {
            Ok(key) => key,
            Err(error) if error.kind() == ErrorKind::NotFound => draw(dir, &path)?,
            Err(error) => return Err(error),
        };
        Ok(Self(Hmac::new_from_slice(&key).map_err(std::io::Error::other)?))
    }

    /// Writes beside an artifact what it bears.
    pub(crate) fn write(&self, component: &Digest, artifact: &Path) -> std::io::Result<()> {
        let mark = self.of(component, &std::fs::read(artifact)?).finalize().into_bytes();
        std::fs::write(beside(artifact), mark)
    }

    /// Reads an artifact, and looks whether it is what was written for this component.
    pub(crate) fn look(&self, component: &Digest, artifact: &Path) -> std::io::Result<Marked> {
        let bytes = std::fs::read(artifact)?;
        let mark = match std::fs::read(beside(artifact)) {
            Ok(mark) => mark,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Marked::Bare),
            Err(error) => return Err(error),
        };
        Ok(match self.of(component, &bytes).verify_slice(&mark) {
            Ok(()) => Marked::Own(bytes),
            Err(_) => Marked::Foreign,
        })
    }

    fn of(&self, component: &Digest, artifact: &[u8]) -> Hmac<Sha256> {
        self.0.clone().chain_update(PURPOSE).chain_update(component.0).chain_update(artifact)
    }
}

/// The file in which stands what an artifact bears.
pub(crate) fn beside(artifact: &Path) -> PathBuf {
    artifact.with_extension("mark")
}

fn read(path: &Path) -> std::io::Result<[u8; 32]> {
    let (mut file, mut key) = (File::open(path)?, [0; 32]);
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        return Err(std::io::Error::other("others than its owner may read it: it is to have the mode 0600"));
    }
    file.read_exact(&mut key)?;
    Ok(key)
}

/// Whole or not there: what a host that was killed left is under another name.
fn draw(dir: &Path, path: &Path) -> std::io::Result<[u8; 32]> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(std::io::Error::other)?;
    let aside = dir.join(format!(".{FILE}.part"));
    match std::fs::remove_file(&aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(&key).and_then(|()| file.sync_all())?;
    std::fs::rename(&aside, path)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_for_a_component_with_this_key_is_its_own() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (marks, artifact) = (Marks::open(dir.path()).unwrap(), dir.path().join("a.cwasm"));
        let [one, two] = [Digest::of(b"one"), Digest::of(b"two")];
        std::fs::write(&artifact, "code").unwrap();
        assert!(matches!(marks.look(&one, &artifact).unwrap(), Marked::Bare));
        marks.write(&one, &artifact).unwrap();
        assert!(matches!(marks.look(&one, &artifact).unwrap(), Marked::Own(bytes) if bytes == b"code"));
        assert!(matches!(marks.look(&two, &artifact).unwrap(), Marked::Foreign), "of another component");
        let again = Marks::open(dir.path()).unwrap();
        assert!(matches!(again.look(&one, &artifact).unwrap(), Marked::Own(_)), "the key is drawn once");
        let elsewhere = Marks::open(other.path()).unwrap();
        assert!(matches!(elsewhere.look(&one, &artifact).unwrap(), Marked::Foreign), "each directory has its own");
        std::fs::write(&artifact, "evil").unwrap();
        assert!(matches!(marks.look(&one, &artifact).unwrap(), Marked::Foreign));
    }

    #[test]
    fn the_key_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        Marks::open(dir.path()).unwrap();
        let key = dir.path().join(FILE);
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Marks::open(dir.path()).is_err());
    }
}
