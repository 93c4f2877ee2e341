//! Keys on this machine: `<data>/credentials.toml`, and how a command finds the host and the key it is to use.
//!
//! Invariants: a key of a data directory goes only to where a host that runs on it said that it listens ([`UrlFile`]), or where whoever types the
//! command says; never to an address of the configuration, which anybody on the machine may listen on. The file is never readable by others (mode 0600, made so before anything is in it), appears whole or not
//! at all, and is on disk before the host takes its first request. A key is never printed by [`std::fmt::Debug`].

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};

use crate::exit::{Exit, Problem};

/// The file's name in the data directory.
pub(crate) const FILE: &str = "credentials.toml";
/// The name of [`UrlFile`] in the data directory.
const URL_FILE: &str = "url";
/// A URL takes no more bytes.
const LONGEST_URL: u64 = 256;

/// A key's text.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// Reads a key's text, `ltmc_<id>_<secret>`; the error says what a key looks like.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let wrong = || "a key looks like ltmc_<id>_<secret>".to_owned();
        let (id, secret) = text.strip_prefix("ltmc_").and_then(|rest| rest.split_once('_')).ok_or_else(wrong)?;
        let plain =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if plain(id) && plain(secret) { Ok(Self(text.to_owned())) } else { Err(wrong()) }
    }

    /// The text itself, to be sent.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Named keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Credentials {
    entries: BTreeMap<String, Secret>,
}

impl Credentials {
    /// Reads a data directory's; `None` where there is none.
    pub(crate) fn read(data: &Path) -> anyhow::Result<Option<Self>> {
        let path = data.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&text).with_context(|| path.display().to_string()).map(Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Problem::usage(format!("{} cannot be read: {e}", path.display()))
                .help("it belongs to the user who started the host: use that user, or LTMC_URL and LTMC_KEY")
                .into()),
        }
    }

    /// From the file's text.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let table: toml::Table = toml::from_str(text).map_err(|e| Problem::usage(format!("not TOML: {e}")))?;
        let mut entries = BTreeMap::new();
        for (name, entry) in table {
            let key = entry.get("key").and_then(toml::Value::as_str);
            let key = key.ok_or_else(|| Problem::usage(format!("[{name}] has no `key = \"ltmc_…\"`")))?;
            let key = Secret::parse(key).map_err(|why| Problem::usage(format!("[{name}]: {why}")))?;
            entries.insert(name, key);
        }
        Ok(Self { entries })
    }

    /// The same with one more, or another one under the same name.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, key: Secret) -> Self {
        self.entries.insert(name.to_owned(), key);
        self
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Secret> {
        self.entries.get(name)
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    fn to_toml(&self) -> String {
        let mut text = String::from("# Keys of this host. Whoever reads this file can do what they can.\n");
        for (name, key) in &self.entries {
            text.push_str(&format!("\n[{name}]\nkey = \"{}\"\n", key.expose()));
        }
        text
    }

    /// Writes the data directory's: a temporary file of mode 0600, synced, renamed, and the rename synced.
    pub(crate) fn write(&self, data: &Path) -> anyhow::Result<()> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let path = data.join(FILE);
        let temporary = data.join(format!(".{FILE}.new"));
        let what = || format!("writing {}", path.display());
        match std::fs::remove_file(&temporary) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).with_context(what),
            _ => {}
        }
        let mut file =
            std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).with_context(what)?;
        file.write_all(self.to_toml().as_bytes()).with_context(what)?;
        file.sync_all().with_context(what)?;
        std::fs::rename(&temporary, &path).with_context(what)?;
        File::open(data).and_then(|dir| dir.sync_all()).with_context(what)?;
        Ok(())
    }
}

/// What a command says about where the host is and as whom it comes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// `--url` or `LTMC_URL`.
    pub(crate) url: Option<String>,
    /// `--as` or `LTMC_AS`.
    pub(crate) name: Option<String>,
    /// `LTMC_KEY`, or the content of `LTMC_KEY_FILE`.
    pub(crate) key: Option<String>,
    /// The data directory in force.
    pub(crate) data: PathBuf,
}

/// Where the host is, and the key to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) url: String,
    pub(crate) key: Secret,
}

impl Wanted {
    /// The URL: what was said, else what the host that runs on the data directory says.
    pub(crate) fn url(&self) -> Option<String> {
        let url = self.url.clone().or_else(|| UrlFile::read(&self.data))?;
        Some(url.trim_end_matches('/').to_owned())
    }

    /// URL and key; `default` names the entry where nobody chose one.
    pub(crate) fn find(&self, default: &str) -> anyhow::Result<Found> {
        if let (Some(key), None) = (&self.key, &self.name) {
            let key = Secret::parse(key).map_err(|why| Problem::usage(format!("LTMC_KEY: {why}")))?;
            // Where the host is might be said by a directory that somebody else filled, who would be sent the key.
            let (Some(_), Some(url)) = (&self.url, self.url()) else {
                return Err(Problem::usage("LTMC_KEY is set, and nothing says which host it is for")
                    .help("set LTMC_URL, or give --url; without LTMC_KEY the keys of the data directory are used")
                    .into());
            };
            return Ok(Found { url, key });
        }
        let key = self.kept(self.name.as_deref().unwrap_or(default))?;
        let url = self.url().ok_or_else(|| {
            let data = self.data.display();
            Problem::new(Exit::Unreached, "unreached", format!("no host runs on {data}"))
                .help(format!("start one with `ltmc serve --data {data}`, or say where it is with --url or LTMC_URL"))
        })?;
        Ok(Found { url, key })
    }

    /// The data directory's key of this name.
    fn kept(&self, name: &str) -> anyhow::Result<Secret> {
        let path = self.data.join(FILE);
        let Some(credentials) = Credentials::read(&self.data)? else {
            return Err(Problem::usage(format!("no key: {} is not there, and LTMC_KEY is not set", path.display()))
                .help(
                    "start a host with `ltmc serve`, point --data at its data directory, or set LTMC_URL and LTMC_KEY",
                )
                .into());
        };
        credentials.get(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = credentials.names().collect();
            Problem::usage(format!("{} has no entry [{name}]", path.display()))
                .help(format!("choose with --as one of: {}", known.join(", ")))
                .into()
        })
    }
}

/// Where a host says under which URL it listens: a file in its data directory that it holds a lock on for as long as it runs. It is put there
/// locked and whole, so one that is not locked is what a killed host left.
pub(crate) struct UrlFile {
    path: PathBuf,
    _locked: File,
}

impl UrlFile {
    /// For a host that has the data directory.
    pub(crate) fn write(data: &Path, url: &str) -> anyhow::Result<Self> {
        let (path, temporary) = (data.join(URL_FILE), data.join(format!(".{URL_FILE}.new")));
        let make = || {
            let _ = std::fs::remove_file(&temporary);
            let mut file = File::create_new(&temporary)?;
            flock(&file, FlockOperation::NonBlockingLockExclusive)?;
            writeln!(file, "{url}")?;
            std::fs::rename(&temporary, &path)?;
            Ok(file)
        };
        let locked = make().map_err(|e: std::io::Error| anyhow::anyhow!("writing {}: {e}", path.display()))?;
        Ok(Self { path, _locked: locked })
    }

    /// What the host that runs on this directory wrote; none where none runs.
    fn read(data: &Path) -> Option<String> {
        let file = File::open(data.join(URL_FILE)).ok()?;
        // Shared: those who look are not in each other's way.
        if flock(&file, FlockOperation::NonBlockingLockShared) != Err(rustix::io::Errno::WOULDBLOCK) {
            return None;
        }
        let mut url = String::new();
        file.take(LONGEST_URL).read_to_string(&mut url).ok()?;
        Some(url.trim().to_owned()).filter(|url| !url.is_empty())
    }
}

impl Drop for UrlFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{Exit, exit_of};

    fn two() -> Credentials {
        Credentials::default()
            .with("operator", Secret::parse("ltmc_abcdefghijkl_0123").unwrap())
            .with("default", Secret::parse("ltmc_bbcdefghijkl_4567").unwrap())
    }

    #[test]
    fn what_is_written_is_read_and_nobody_else_can_read_it() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Credentials::read(dir.path()).unwrap(), None);
        two().write(dir.path()).unwrap();
        let mode = std::fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Credentials::read(dir.path()).unwrap(), Some(two()));
        let third = two().with("acme", Secret::parse("ltmc_cbcdefghijkl_89").unwrap());
        third.write(dir.path()).unwrap();
        assert_eq!(Credentials::read(dir.path()).unwrap(), Some(third));
    }

    #[test]
    fn a_wrong_file_is_wrong_use_and_says_where() {
        for text in ["[operator]\n", "[operator]\nkey = \"secret\"\n", "key = \"ltmc_a_b\"\n", "[", "[a]\nkey = 7\n"] {
            let error = Credentials::parse(text).unwrap_err();
            assert_eq!(exit_of(&error), Exit::Usage, "{text}");
        }
    }

    #[test]
    fn a_key_is_chosen_by_name_or_taken_from_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let mut wanted = Wanted { data: dir.path().into(), ..Wanted::default() };
        assert_eq!(exit_of(&wanted.find("default").unwrap_err()), Exit::Usage);
        two().write(dir.path()).unwrap();
        assert_eq!(exit_of(&wanted.find("default").unwrap_err()), Exit::Unreached, "no host runs there");
        std::fs::write(dir.path().join(URL_FILE), "http://127.0.0.1:4711\n").unwrap();
        assert_eq!(exit_of(&wanted.find("default").unwrap_err()), Exit::Unreached, "a killed host left that");
        let host = UrlFile::write(dir.path(), "http://127.0.0.1:4711").unwrap();
        let found = wanted.find("default").unwrap();
        assert_eq!((found.url.as_str(), found.key.expose()), ("http://127.0.0.1:4711", "ltmc_bbcdefghijkl_4567"));
        wanted.name = Some("operator".into());
        let found = wanted.find("default").unwrap();
        assert_eq!((found.url.as_str(), found.key.expose()), ("http://127.0.0.1:4711", "ltmc_abcdefghijkl_0123"));
        wanted.name = Some("acme".into());
        let error = wanted.find("default").unwrap_err();
        assert!(crate::exit::problem_in(&error).unwrap().help.as_ref().unwrap().contains("default, operator"));
        wanted.name = None;
        wanted.key = Some("ltmc_dbcdefghijkl_ff\n".into());
        let error = wanted.find("default").unwrap_err();
        assert_eq!(exit_of(&error), Exit::Usage, "the directory's `url` is not where this key goes: {error}");
        wanted.url = Some("http://elsewhere:1/".into());
        let found = wanted.find("default").unwrap();
        assert_eq!((found.url.as_str(), found.key.expose()), ("http://elsewhere:1", "ltmc_dbcdefghijkl_ff"));
        (wanted.key, wanted.url) = (None, None);
        drop(host);
        assert_eq!(exit_of(&wanted.find("default").unwrap_err()), Exit::Unreached, "it has stopped");
    }

    #[test]
    fn a_key_is_not_shown_by_debug() {
        assert!(!format!("{:?}", two()).contains("0123"));
    }
}
