//! What an error of Neo4j's means to those above, in words for an operator.

use ltmc_ports::{Kind, StoreError};
use neo4rs::Error;

/// What is the matter with a Neo4j, and what to change. No secret is ever in it.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Nobody there.
    #[error(
        "nothing answers at {address} ({why}): is Neo4j running (it takes a while to start), and is that its address?"
    )]
    Unreachable {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// The system's words.
        why: String,
    },
    /// Somebody there, who takes too long.
    #[error(
        "Neo4j at {address} did not answer in time: it is busy, is starting, or hangs; or what is there is no Neo4j"
    )]
    Slow {
        /// The server's address, as `HOST:PORT`.
        address: String,
    },
    /// All connections are in use.
    #[error("all connections to Neo4j at {address} are in use")]
    Busy {
        /// The server's address, as `HOST:PORT`.
        address: String,
    },
    /// The connection broke.
    #[error(
        "{address} ended the connection ({why}): Neo4j stops or starts there; or it wants TLS, which is written bolt+s://"
    )]
    Ended {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// The system's words.
        why: String,
    },
    /// No safe connection.
    #[error(
        "no safe connection to Neo4j at {address} ({why}): have the system trust the CA that signed its certificate, or write bolt:// if it does not speak TLS"
    )]
    Tls {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// The library's words.
        why: String,
    },
    /// It speaks HTTP.
    #[error(
        "what answers at {address} speaks HTTP: give the port of Bolt, which is 7687 by default (7474 is Neo4j's browser)"
    )]
    Http {
        /// The server's address, as `HOST:PORT`.
        address: String,
    },
    /// It does not speak Bolt.
    #[error("what answers at {address} is no Neo4j: it does not speak Bolt; correct the host or the port")]
    NotBolt {
        /// The server's address, as `HOST:PORT`.
        address: String,
    },
    /// It speaks Bolt, and is something else.
    #[error("what answers at {address} speaks Bolt and is no Neo4j: give the address of one")]
    NotNeo4j {
        /// The server's address, as `HOST:PORT`.
        address: String,
    },
    /// The versions have no protocol in common.
    #[error(
        "Neo4j at {address} speaks no version of Bolt that this host does: use Neo4j 5 (5.26 is its long-term version)"
    )]
    Bolt {
        /// The server's address, as `HOST:PORT`.
        address: String,
    },
    /// Too old.
    #[error("Neo4j at {address} is version {found}: 5.7 or later is needed")]
    Version {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// What it is.
        found: String,
    },
    /// Its schema was made by a newer host.
    #[error(
        "the schema in Neo4j at {address} is {found}; this version of the host knows up to {known}: update the host"
    )]
    Newer {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// The schema there.
        found: i64,
        /// The newest that is known.
        known: i64,
    },
    /// Wrong user or password.
    #[error("Neo4j at {address} refuses the user `{user}` or its password: correct them")]
    Password {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// The user that the host signs in as.
        user: String,
    },
    /// Too many wrong passwords.
    #[error(
        "Neo4j at {address} has seen too many wrong passwords of the user `{user}`: correct it; in some seconds it listens again"
    )]
    TooOften {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// The user that the host signs in as.
        user: String,
    },
    /// The first password has to be changed.
    #[error(
        "the password of the user `{user}` of Neo4j at {address} has to be changed before it can be used: ALTER CURRENT USER SET PASSWORD, in its browser or cypher-shell"
    )]
    Expired {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// The user that the host signs in as.
        user: String,
    },
    /// The user may not do what is needed.
    #[error(
        "the user `{user}` of Neo4j at {address} may not do what is needed ({why}): it reads, writes and makes indexes"
    )]
    Forbidden {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// The user that the host signs in as.
        user: String,
        /// Neo4j's words.
        why: String,
    },
    /// No such database.
    #[error(
        "Neo4j at {address} has no database `{database}`: correct its name, or make it (the Community edition has `neo4j` alone)"
    )]
    Database {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// The name of the database.
        database: String,
    },
    /// The database is not there yet, or no more.
    #[error("the database of Neo4j at {address} is not available ({why}): it is starting, or was stopped")]
    Starting {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// Neo4j's words.
        why: String,
    },
    /// It takes no writes.
    #[error("Neo4j at {address} takes no writes ({why}): give the server that leads")]
    ReadOnly {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// Neo4j's words.
        why: String,
    },
    /// It may pass.
    #[error("Neo4j at {address} cannot at the moment ({why})")]
    Transient {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// Neo4j's words.
        why: String,
    },
    /// What was there is gone.
    #[error("Neo4j at {address} has lost what it held of a tenant ({why}): it is to be built again from the record")]
    Lost {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// How the loss shows, for people.
        why: &'static str,
    },
    /// Another host was quicker.
    #[error("Neo4j at {address} has this constraint or index already")]
    Made {
        /// The server's address, as `HOST:PORT`.
        address: String,
    },
    /// An answer that is none.
    #[error("{op}: what was read cannot be understood: {why}")]
    Odd {
        /// What was asked.
        op: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// Anything else.
    #[error("Neo4j at {address}: {why}")]
    Other {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// Its words.
        why: String,
    },
}

/// The same, as ports say it.
pub(crate) fn store(op: &'static str, trouble: Trouble) -> StoreError {
    let kind = match &trouble {
        Trouble::Lost { .. } => Kind::Conflict,
        Trouble::Odd { .. } => Kind::Corrupt,
        Trouble::Other { .. } => Kind::Internal,
        _ => Kind::Unavailable,
    };
    StoreError::new(kind, op).because(trouble)
}

/// What was read is not what was written.
pub(crate) fn odd(op: &'static str, why: impl std::fmt::Display) -> StoreError {
    store(op, Trouble::Odd { op, why: why.to_string() })
}

/// What the driver's error means.
pub(crate) fn trouble(address: &str, user: &str, database: Option<&str>, error: &Error) -> Trouble {
    let (address, user) = (address.to_owned(), user.to_owned());
    match error {
        Error::IOError { detail } => io(address, detail),
        Error::UnsupportedVersion(words) => handshake(address, words),
        Error::AuthenticationError(words) => {
            let words = words.to_lowercase();
            if words.contains("too many") {
                Trouble::TooOften { address, user }
            } else if ["unauthorized", "authentication", "credentials"].iter().any(|word| words.contains(word)) {
                Trouble::Password { address, user }
            } else {
                Trouble::Starting { address, why: words }
            }
        }
        Error::Neo4j(error) => said(address, user, database, error.code(), error.message()),
        // The driver shows what it did not expect in Rust's words; the server's code is among them.
        Error::UnexpectedMessage(words) => match code(words) {
            Some(code) => said(address, user, database, code, message(words).unwrap_or(code)),
            None => Trouble::Transient { address, why: "it broke off".into() },
        },
        Error::ConnectionError => Trouble::Unreachable { address, why: "no connection".into() },
        other => Trouble::Other { address, why: other.to_string() },
    }
}

fn io(address: String, detail: &std::io::Error) -> Trouble {
    use std::io::ErrorKind as Io;
    let why = detail.to_string();
    let lower = why.to_lowercase();
    match detail.kind() {
        Io::InvalidData => Trouble::Tls { address, why },
        Io::UnexpectedEof if lower.contains("tls") => Trouble::Tls { address, why },
        Io::UnexpectedEof | Io::ConnectionReset | Io::ConnectionAborted | Io::BrokenPipe => {
            Trouble::Ended { address, why }
        }
        _ if lower.contains("certificate") => Trouble::Tls { address, why },
        _ => Trouble::Unreachable { address, why },
    }
}

/// The driver tells the four bytes of an answer that it does not understand as a number.
fn handshake(address: String, words: &str) -> Trouble {
    let number = words.split(' ').find_map(|word| word.parse::<u32>().ok());
    match number.map(u32::to_be_bytes) {
        Some([b'H', b'T', b'T', b'P']) => Trouble::Http { address },
        Some([0, 0, ..]) => Trouble::Bolt { address },
        _ => Trouble::NotBolt { address },
    }
}

/// What the server says itself, by its code.
fn said(address: String, user: String, database: Option<&str>, code: &str, why: &str) -> Trouble {
    let mut parts = code.split('.').skip(1);
    let [class, group, what] = [parts.next(), parts.next(), parts.next()].map(Option::unwrap_or_default);
    let why = why.chars().take(500).collect::<String>();
    match (class, group, what) {
        (_, "Security", "Unauthorized") => Trouble::Password { address, user },
        (_, "Security", "AuthenticationRateLimit") => Trouble::TooOften { address, user },
        (_, "Security", "CredentialsExpired") => Trouble::Expired { address, user },
        (_, "Security", _) => Trouble::Forbidden { address, user, why },
        (_, "Database", "DatabaseNotFound") => {
            Trouble::Database { address, database: database.unwrap_or("neo4j").to_owned() }
        }
        (_, "Schema", what) if what.ends_with("AlreadyExists") => Trouble::Made { address },
        (_, _, "DatabaseUnavailable") => Trouble::Starting { address, why },
        (_, "Cluster", "NotALeader") | (_, _, "ForbiddenOnReadOnlyDatabase" | "WriteOnReadOnlyAccessDatabase") => {
            Trouble::ReadOnly { address, why }
        }
        (_, "Transaction", "TransactionTimedOut" | "TransactionTimedOutClientConfiguration") => {
            Trouble::Slow { address }
        }
        // A disk that is full, a log that cannot be written: it is for its operator to mend, and then goes on.
        ("TransientError", ..) | ("DatabaseError", ..) | (_, "Transaction", _) => Trouble::Transient { address, why },
        _ => Trouble::Other { address, why: format!("{code}: {why}") },
    }
}

/// The first code, `Neo.Class.Group.What`, that stands in these words.
fn code(words: &str) -> Option<&str> {
    let from = words.find("Neo.")?;
    let rest = &words[from..];
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.').unwrap_or(rest.len());
    Some(&rest[..end])
}

/// The server's message, as Rust shows it.
fn message(words: &str) -> Option<&str> {
    let (_, rest) = words.split_once("\"message\"")?;
    let (_, rest) = rest.split_once("value: \"")?;
    rest.split_once("\" }").map(|(message, _)| message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(error: Error) -> String {
        trouble("db:7687", "me", None, &error).to_string()
    }

    #[test]
    fn errors_say_what_to_change() {
        let io = |kind: std::io::ErrorKind, words: &str| Error::IOError { detail: std::io::Error::new(kind, words) };
        use std::io::ErrorKind as Io;
        let cases = [
            (io(Io::ConnectionRefused, "connection refused"), "is Neo4j running"),
            (io(Io::Other, "failed to lookup address information"), "its address"),
            (io(Io::UnexpectedEof, "early eof"), "bolt+s://"),
            (io(Io::InvalidData, "invalid peer certificate: UnknownIssuer"), "trust the CA"),
            (Error::UnsupportedVersion("version 1213486160 is not supported".into()), "speaks HTTP"),
            (Error::UnsupportedVersion("version 0 is not supported".into()), "use Neo4j 5"),
            (Error::UnsupportedVersion("version 760377682 is not supported".into()), "is no Neo4j"),
            (Error::AuthenticationError("The client is unauthorized due to authentication failure.".into()), "`me`"),
            (Error::AuthenticationError("incorrect authentication details too many times in a row".into()), "too many"),
        ];
        for (error, expected) in cases {
            let words = words(error);
            assert!(words.contains(expected) && words.contains("db:7687"), "{words}");
        }
    }

    #[test]
    fn what_the_driver_did_not_expect_is_read_for_the_servers_code() {
        let shown = |code: &str| {
            let failure = format!(
                "unexpected response for BEGIN: Failure(Failure {{ metadata: BoltMap {{ value: {{BoltString {{ value: \"code\" }}: \
                 String(BoltString {{ value: \"{code}\" }}), BoltString {{ value: \"message\" }}: String(BoltString {{ value: \
                 \"the server's words\" }})}} }} }})"
            );
            trouble("db:7687", "me", Some("graph"), &Error::UnexpectedMessage(failure))
        };
        assert!(shown("Neo.ClientError.Database.DatabaseNotFound").to_string().contains("no database `graph`"));
        assert!(shown("Neo.TransientError.General.DatabaseUnavailable").to_string().contains("(the server's words)"));
        assert!(matches!(shown("Neo.TransientError.Transaction.DeadlockDetected"), Trouble::Transient { .. }));
        assert!(matches!(shown("Neo.ClientError.Security.CredentialsExpired"), Trouble::Expired { .. }));
        assert!(matches!(shown("Neo.ClientError.Statement.SyntaxError"), Trouble::Other { .. }));
    }
}
