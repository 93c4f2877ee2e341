//! What an error of Redis's means to those above, in words for an operator.

use ltmc_ports::{Kind, StoreError};
use redis::{ErrorKind, RedisError};

/// What is the matter with a Redis, and what to change. No secret is ever in it.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// Nobody there, or not in time.
    #[error("no Redis answers at {address} ({why}): is it running, and is that its address?")]
    Unreachable {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// The system's words.
        why: String,
    },
    /// The certificate is not trusted, or there is none.
    #[error(
        "no safe connection to Redis at {address} ({why}): give the file of the CA that signed its certificate, or write redis:// if it does not speak TLS"
    )]
    Tls {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// The library's words.
        why: String,
    },
    /// It ends the connection.
    #[error("{address} ends the connection ({why}): if it is a Redis that speaks TLS, write rediss://")]
    Ended {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// The system's words.
        why: String,
    },
    /// It speaks, but not the protocol.
    #[error(
        "what answers at {address} is no Redis: correct the host or the port (a Redis that speaks TLS is written rediss://)"
    )]
    NotRedis {
        /// The server's address, as `HOST:PORT`.
        address: String,
    },
    /// Wrong, or missing.
    #[error("Redis at {address} refuses the user or the password, or wants one: set both as its ACL has them")]
    Password {
        /// The server's address, as `HOST:PORT`.
        address: String,
    },
    /// The ACL forbids something.
    #[error("Redis at {address} forbids its user something ({why}): it needs `~ltmc:* +@all -@dangerous +info`")]
    Permission {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// Redis's words.
        why: String,
    },
    /// Before 7.0.
    #[error("Redis at {address} is version {found}: 7.0 or later is needed")]
    Version {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// What it is.
        found: String,
    },
    /// It follows another.
    #[error("Redis at {address} is a read-only replica: give the address of the server that it follows")]
    Replica {
        /// The server's address, as `HOST:PORT`.
        address: String,
    },
    /// `maxmemory` is reached.
    #[error("Redis at {address} is out of memory: raise its `maxmemory`, or remove what else it holds")]
    Memory {
        /// The server's address, as `HOST:PORT`.
        address: String,
    },
    /// It throws away keys when memory runs out.
    #[error(
        "Redis at {address} throws keys away when its memory is full (`maxmemory-policy {policy}`): set it to noeviction"
    )]
    Evicts {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// The value of its `maxmemory-policy`.
        policy: String,
    },
    /// It starts.
    #[error("Redis at {address} is loading its data: it answers when it has")]
    Loading {
        /// The server's address, as `HOST:PORT`.
        address: String,
    },
    /// It cannot write to its disk.
    #[error("Redis at {address} cannot save to its disk, and takes no writes: {why}")]
    Disk {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// Redis's words.
        why: String,
    },
    /// A node of a cluster that has these keys elsewhere.
    #[error(
        "Redis at {address} is a node of a cluster and has these keys on another ({why}): give a server of its own"
    )]
    Cluster {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// Redis's words.
        why: String,
    },
    /// What was there is gone.
    #[error("Redis at {address} has lost what it held of this tenant ({why}): it is built again from the record")]
    Lost {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// How the loss shows, in Redis's words.
        why: String,
    },
    /// Anything else.
    #[error("Redis at {address}: {why}")]
    Other {
        /// The server's address, as `HOST:PORT`.
        address: String,
        /// Redis's words.
        why: String,
    },
}

/// The same, as ports say it.
pub(crate) fn store(op: &'static str, address: &str, error: &RedisError) -> StoreError {
    let trouble = trouble(address, error);
    StoreError::new(kind(&trouble), op).because(trouble)
}

/// What was read is not what was written.
pub(crate) fn corrupt(op: &'static str, what: impl std::fmt::Display) -> StoreError {
    StoreError::new(Kind::Corrupt, op).because(what.to_string())
}

pub(crate) fn kind(trouble: &Trouble) -> Kind {
    match trouble {
        Trouble::Lost { .. } => Kind::Conflict,
        Trouble::Other { .. } => Kind::Internal,
        _ => Kind::Unavailable,
    }
}

pub(crate) fn trouble(address: &str, error: &RedisError) -> Trouble {
    let address = address.to_owned();
    let why = error.detail().map_or_else(|| error.to_string(), ToOwned::to_owned);
    match (error.kind(), error.code().unwrap_or_default()) {
        (ErrorKind::AuthenticationFailed, _) | (_, "NOAUTH" | "WRONGPASS") => Trouble::Password { address },
        (_, "NOPERM") => Trouble::Permission { address, why },
        (_, "OOM") => Trouble::Memory { address },
        (_, "READONLY") => Trouble::Replica { address },
        (_, "LOADING" | "MASTERDOWN") => Trouble::Loading { address },
        (_, "MISCONF") => Trouble::Disk { address, why },
        (_, "MOVED" | "ASK" | "CLUSTERDOWN" | "CROSSSLOT" | "TRYAGAIN") => Trouble::Cluster { address, why },
        (_, "UNAPPLIED" | "BEHIND" | "REBUILD") => Trouble::Lost { address, why },
        (_, "BUSY") => Trouble::Unreachable { address, why },
        (ErrorKind::Parse, _) => Trouble::NotRedis { address },
        (ErrorKind::Io, _) => io(address, error),
        _ => Trouble::Other { address, why },
    }
}

fn io(address: String, error: &RedisError) -> Trouble {
    let why = error.to_string();
    let lower = why.to_lowercase();
    if error.is_timeout() {
        Trouble::Unreachable { address, why: "it took too long".into() }
    } else if ["certificate", "corrupt message", "handshake", "tls"].iter().any(|word| lower.contains(word)) {
        Trouble::Tls { address, why }
    } else if error.is_connection_dropped() && !error.is_connection_refusal() {
        Trouble::Ended { address, why }
    } else {
        Trouble::Unreachable { address, why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_answers_is_put_in_words() {
        let said = |answer: &str| {
            let value = redis::parse_redis_value(format!("-{answer}\r\n").as_bytes()).unwrap();
            let error = value.extract_error().unwrap_err();
            let trouble = trouble("h:1", &error);
            (kind(&trouble), trouble.to_string())
        };
        for (answer, of, words) in [
            ("LOADING Redis is loading the dataset in memory", Kind::Unavailable, "is loading its data"),
            ("MASTERDOWN Link with MASTER is down", Kind::Unavailable, "is loading its data"),
            ("NOAUTH Authentication required.", Kind::Unavailable, "refuses the user or the password"),
            ("OOM command not allowed", Kind::Unavailable, "raise its `maxmemory`"),
            ("READONLY You can't write", Kind::Unavailable, "read-only replica"),
            ("MISCONF Errors writing to the AOF file", Kind::Unavailable, "cannot save to its disk"),
            ("MOVED 3999 h:2", Kind::Unavailable, "node of a cluster"),
            ("BUSY Redis is busy running a script", Kind::Unavailable, "busy running a script"),
            ("UNAPPLIED nothing is known", Kind::Conflict, "built again from the record"),
            ("ERR unknown", Kind::Internal, "unknown"),
        ] {
            let (kind, text) = said(answer);
            assert!(kind == of && text.contains(words), "{answer}: {kind:?}, {text}");
        }
    }
}
