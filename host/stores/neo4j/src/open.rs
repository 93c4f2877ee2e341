//! Options, and what can be said of them before there is a connection.

use std::sync::Arc;
use std::time::Duration;

use ltmc_ports::told::Told;

use crate::link::Link;

/// How a Neo4j is reached.
#[derive(Clone)]
pub struct Options {
    /// `bolt://HOST[:PORT]`, or `neo4j://`; with `+s` behind the scheme for TLS. The port is 7687 where none is said.
    pub url: String,
    /// The user to sign in as.
    pub user: String,
    /// The user's password.
    pub password: String,
    /// Which of its databases; none: `neo4j`.
    pub database: Option<String>,
    /// At most so many connections at once.
    pub max_connections: usize,
    /// How long a connection or an answer is waited for. Changes get at least half a minute.
    pub timeout: Duration,
}

impl Options {
    /// With defaults for the rest.
    pub fn new(url: impl Into<String>, user: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            user: user.into(),
            password: password.into(),
            database: None,
            max_connections: 8,
            timeout: Duration::from_secs(5),
        }
    }
}

impl std::fmt::Debug for Options {
    /// Without the password; and without the URL, in which somebody may have written one.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("user", &self.user).field("database", &self.database).finish_non_exhaustive()
    }
}

/// What can never work.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is none of a Neo4j. What was written is not repeated: it may hold a password.
    #[error("the URL of Neo4j cannot be used: {0}")]
    Url(String),
    /// An option is out of bounds.
    #[error("{0}")]
    Option(&'static str),
}

/// A Neo4j. Connections are made when they are needed, so that one that is down keeps nobody from starting.
pub struct Neo4j {
    pub(crate) link: Link,
    pub(crate) told: Told<()>,
}

impl Neo4j {
    /// Takes the options. Whether the server answers, [`ltmc_ports::Projection::check`] says.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(options: Options) -> Result<Arc<Self>, OpenError> {
        let address = address(&options.url)?;
        if options.user.is_empty() || options.password.is_empty() {
            return Err(OpenError::Option("Neo4j wants a user and a password: set both"));
        }
        if !(1..=1_000).contains(&options.max_connections) {
            return Err(OpenError::Option("Neo4j gets 1 to 1,000 connections"));
        }
        if options.timeout < Duration::from_millis(1) {
            return Err(OpenError::Option("Neo4j needs some time to answer: a time-out of 1 ms at least"));
        }
        if options.url.contains("+s") {
            install_cryptography();
        }
        Ok(Arc::new(Self { link: Link::new(options, address), told: Told::default() }))
    }
}

impl std::fmt::Debug for Neo4j {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Neo4j").field("address", &self.link.address()).finish_non_exhaustive()
    }
}

/// The host and port of a URL, for people to read.
fn address(url: &str) -> Result<String, OpenError> {
    let wrong = |why: String| Err(OpenError::Url(why));
    let Some((scheme, rest)) = url.split_once("://") else {
        return wrong("it has no scheme; write bolt://HOST:PORT".into());
    };
    match scheme {
        "bolt" | "neo4j" | "bolt+s" | "neo4j+s" => {}
        "bolt+ssc" | "neo4j+ssc" => {
            return wrong(
                "certificates that nobody signed are not taken: have the system trust its CA, and write bolt+s://"
                    .into(),
            );
        }
        "http" | "https" => {
            return wrong(format!(
                "`{scheme}` is its browser's; write bolt://HOST:PORT, where the port is 7687 by default"
            ));
        }
        other if (1..=16).contains(&other.len()) && other.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+') => {
            return wrong(format!("`{other}` is no scheme of its: write bolt://, neo4j://, bolt+s:// or neo4j+s://"));
        }
        _ => return wrong("it has no scheme; write bolt://HOST:PORT".into()),
    }
    if rest.contains('@') {
        return wrong("user and password do not stand in it: they are options of their own".into());
    }
    let place = rest.strip_suffix('/').unwrap_or(rest);
    if place.contains(['/', '?', '#']) {
        return wrong("nothing follows its host and port: the database is an option of its own".into());
    }
    let (host, port) = match place.rsplit_once(':') {
        _ if place.ends_with(']') => (place, None),
        Some((host, port)) => (host, Some(port)),
        None => (place, None),
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    let six = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match six {
        Some(address) if address.parse::<std::net::Ipv6Addr>().is_ok() => {}
        None if !host.is_empty() && host.len() <= 253 && host.bytes().all(plain) => {}
        _ if host.is_empty() => return wrong("it names no host".into()),
        _ => return wrong("its host is neither a name nor an address".into()),
    }
    match port.map_or(Ok(7687), str::parse::<u16>) {
        Ok(port) if port > 0 => Ok(format!("{host}:{port}")),
        _ => wrong("its port is no number from 1 to 65535".into()),
    }
}

/// TLS needs one implementation of its cryptography in the process; whoever comes first chooses.
fn install_cryptography() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody else may have come first by now: then theirs is used.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(url: &str) -> Result<String, String> {
        let options = Options::new(url, "neo4j", "hunter2");
        Neo4j::open(options).map(|it| it.link.address().to_owned()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_can_never_work_is_refused_in_words_that_hold_no_secret() {
        let cases = [
            ("", "has no scheme"),
            ("localhost:7687", "has no scheme"),
            ("hunter2 bolt://localhost", "has no scheme"),
            ("blot://localhost:7687", "`blot` is no scheme"),
            ("http://localhost:7474", "7687 by default"),
            ("bolt+ssc://localhost", "bolt+s://"),
            ("bolt://", "names no host"),
            ("bolt://:7687", "names no host"),
            ("bolt://localhost:", "port is no number"),
            ("bolt://localhost:768seven", "port is no number"),
            ("bolt://localhost:70000", "port is no number"),
            ("bolt://local host", "neither a name nor an address"),
            ("bolt://[::g]:7687", "neither a name nor an address"),
            ("bolt://neo4j:hunter2@localhost", "options of their own"),
            ("bolt://localhost/graph", "database is an option"),
        ];
        for (url, words) in cases {
            let error = open(url).unwrap_err();
            assert!(error.contains(words), "`{url}`: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        for (url, address) in [
            ("bolt://localhost", "localhost:7687"),
            ("neo4j://10.0.0.1:17687/", "10.0.0.1:17687"),
            ("bolt+s://[::1]:1", "[::1]:1"),
            ("neo4j+s://db.example", "db.example:7687"),
        ] {
            assert_eq!(open(url).unwrap(), address);
        }
    }

    #[test]
    fn options_are_bounded_and_hide_what_is_secret() {
        let options = Options::new("bolt://hunter2@localhost", "neo4j", "hunter2");
        assert!(!format!("{options:?}").contains("hunter2"));
        let options = Options::new("bolt://localhost", "neo4j", "");
        assert!(Neo4j::open(options.clone()).is_err());
        let options = Options { password: "x".into(), max_connections: 0, ..options };
        assert!(Neo4j::open(options.clone()).is_err());
        assert!(Neo4j::open(Options { max_connections: 1, timeout: Duration::ZERO, ..options }).is_err());
    }
}
