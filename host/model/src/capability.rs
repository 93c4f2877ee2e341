//! Capabilities: what an agent may be granted. Grammar: `kind[:verb][:object]`, `*` only as the last part of an object.
//!
//! Invariant: what the grammar does not know does not parse. To add a kind: a variant, its line in `FromStr`, `Display`,
//! `covers`, and the table of the tests below.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::caller::Role;
use crate::ids::AgentName;
use crate::memory::Scope;
use crate::message::Topic;
use crate::workflow::Ask;

/// One thing an agent may do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Capability {
    /// `log`: write log lines.
    Log,
    /// `memory:read:SCOPE`, SCOPE one of global, session, agent, `*`.
    MemoryRead(Any<Scope>),
    /// `memory:write:SCOPE`, SCOPE as for reading.
    MemoryWrite(Any<Scope>),
    /// `graph:read`: read facts.
    GraphRead,
    /// `graph:write`: tell facts, and end them.
    GraphWrite,
    /// `recall:read`: search notes.
    RecallRead,
    /// `recall:write`: keep notes, and forget them.
    RecallWrite,
    /// `message:send:AGENT`: put messages into an agent's mailbox.
    MessageSend(Any<AgentName>),
    /// `message:receive`: take messages from its own mailbox.
    MessageReceive,
    /// `message:publish:TOPIC`: publish events on a topic.
    MessagePublish(Any<Topic>),
    /// `message:subscribe:TOPIC`: read the events of a topic.
    MessageSubscribe(Any<Topic>),
    /// `session:history`: read what was said before in the conversation whose turn it is.
    SessionHistory,
    /// `state`: read and change the agent's own state, as its manifest declares it.
    State,
    /// `call:AGENT`, AGENT a name or `*`.
    Call(Any<AgentName>),
    /// `hand-off:AGENT`: hand a conversation that it holds to an agent.
    HandOff(Any<AgentName>),
    /// `ask:ROLE`, ROLE one of admin, author, caller, `*`: put questions to people of this role.
    Ask(Any<Role>),
    /// `http:HOST:PORT`, HOST a name, `*.example.com` never: `*` stands alone or as the port.
    Http {
        /// A DNS name or address in lower case.
        host: String,
        /// A port, or any.
        port: Any<u16>,
    },
    /// `fs:read:DIRECTORY`: a directory the operator has named.
    FsRead(Any<AgentName>),
    /// `fs:write:DIRECTORY`: the same, to write to.
    FsWrite(Any<AgentName>),
}

/// One of them, or `*`: every one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Any<T> {
    /// `*`: every one there is.
    All,
    /// This one.
    One(T),
}

impl<T: PartialEq> Any<T> {
    fn covers(&self, other: &Self) -> bool {
        matches!(self, Self::All) || self == other
    }
}

impl<T: fmt::Display> fmt::Display for Any<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::One(one) => one.fmt(f),
        }
    }
}

/// A text that is no capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is not a capability: {why}")]
pub struct InvalidCapability {
    /// The offending text, cut to 120 characters.
    pub given: String,
    /// What was wrong, and what would be right.
    pub why: String,
}

const KNOWN: &str = "known are log, memory:read:SCOPE, memory:write:SCOPE, graph:read, graph:write, recall:read, \
                     recall:write, message:send:AGENT, message:receive, message:publish:TOPIC, message:subscribe:TOPIC, \
                     session:history, state, call:AGENT, hand-off:AGENT, ask:ROLE, http:HOST:PORT, fs:read:DIRECTORY, fs:write:DIRECTORY";

impl Capability {
    /// The longest text of one, in bytes.
    pub const MAX_LEN: usize = 300;

    /// Whether a grant of `self` allows what `wanted` needs.
    pub fn covers(&self, wanted: &Self) -> bool {
        match (self, wanted) {
            (Self::Log, Self::Log)
            | (Self::GraphRead, Self::GraphRead)
            | (Self::GraphWrite, Self::GraphWrite)
            | (Self::RecallRead, Self::RecallRead)
            | (Self::RecallWrite, Self::RecallWrite)
            | (Self::SessionHistory, Self::SessionHistory)
            | (Self::State, Self::State)
            | (Self::MessageReceive, Self::MessageReceive) => true,
            (Self::MessagePublish(a), Self::MessagePublish(b))
            | (Self::MessageSubscribe(a), Self::MessageSubscribe(b)) => a.covers(b),
            (Self::MemoryRead(a), Self::MemoryRead(b)) | (Self::MemoryWrite(a), Self::MemoryWrite(b)) => a.covers(b),
            (Self::Call(a), Self::Call(b))
            | (Self::HandOff(a), Self::HandOff(b))
            | (Self::MessageSend(a), Self::MessageSend(b))
            | (Self::FsRead(a), Self::FsRead(b))
            | (Self::FsWrite(a), Self::FsWrite(b)) => a.covers(b),
            (Self::Ask(a), Self::Ask(b)) => a.covers(b),
            (Self::Http { host, port }, Self::Http { host: wanted, port: wanted_port }) => {
                (host == "*" || host == wanted) && port.covers(wanted_port)
            }
            _ => false,
        }
    }
}

impl FromStr for Capability {
    type Err = InvalidCapability;

    fn from_str(text: &str) -> Result<Self, InvalidCapability> {
        let wrong = |why: String| InvalidCapability { given: text.chars().take(120).collect(), why };
        if text.len() > Self::MAX_LEN {
            return Err(wrong(format!("it is longer than {} bytes", Self::MAX_LEN)));
        }
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            ["log"] => Ok(Self::Log),
            ["memory", "read", scope] => any(scope).map(Self::MemoryRead).map_err(wrong),
            ["memory", "write", scope] => any(scope).map(Self::MemoryWrite).map_err(wrong),
            ["graph", "read"] => Ok(Self::GraphRead),
            ["graph", "write"] => Ok(Self::GraphWrite),
            ["recall", "read"] => Ok(Self::RecallRead),
            ["recall", "write"] => Ok(Self::RecallWrite),
            ["message", "send", agent] => any(agent).map(Self::MessageSend).map_err(wrong),
            ["message", "receive"] => Ok(Self::MessageReceive),
            ["message", "publish", topic] => any(topic).map(Self::MessagePublish).map_err(wrong),
            ["message", "subscribe", topic] => any(topic).map(Self::MessageSubscribe).map_err(wrong),
            ["session", "history"] => Ok(Self::SessionHistory),
            ["state"] => Ok(Self::State),
            ["call", agent] => any(agent).map(Self::Call).map_err(wrong),
            ["hand-off", agent] => any(agent).map(Self::HandOff).map_err(wrong),
            ["ask", "*"] => Ok(Self::Ask(Any::All)),
            ["ask", role] => match Ask::ROLES.iter().find(|(word, _)| word == role) {
                Some((_, role)) => Ok(Self::Ask(Any::One(*role))),
                None => Err(wrong(format!("`{role}` is none of admin, author and caller, who can be asked, nor `*`"))),
            },
            ["fs", "read", directory] => any(directory).map(Self::FsRead).map_err(wrong),
            ["fs", "write", directory] => any(directory).map(Self::FsWrite).map_err(wrong),
            ["http", host, port] => {
                let valid = *host == "*"
                    || (!host.is_empty()
                        && host.len() <= 253
                        && host
                            .bytes()
                            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.')));
                if !valid {
                    return Err(wrong(format!("`{host}` is no host name in lower case, nor `*`")));
                }
                let port = any::<u16>(port).map_err(|e| wrong(format!("its port is a number or `*`: {e}")))?;
                Ok(Self::Http { host: (*host).to_owned(), port })
            }
            _ => Err(wrong(KNOWN.to_owned())),
        }
    }
}

fn any<T: FromStr<Err: fmt::Display>>(text: &str) -> Result<Any<T>, String> {
    if text == "*" { Ok(Any::All) } else { text.parse().map(Any::One).map_err(|e| format!("{e}, or `*`")) }
}

impl Capability {
    /// What it is without its object, such as `memory:read`: by this refusals are counted.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::MemoryRead(_) => "memory:read",
            Self::MemoryWrite(_) => "memory:write",
            Self::GraphRead => "graph:read",
            Self::GraphWrite => "graph:write",
            Self::RecallRead => "recall:read",
            Self::RecallWrite => "recall:write",
            Self::MessageSend(_) => "message:send",
            Self::MessageReceive => "message:receive",
            Self::MessagePublish(_) => "message:publish",
            Self::MessageSubscribe(_) => "message:subscribe",
            Self::SessionHistory => "session:history",
            Self::State => "state",
            Self::Call(_) => "call",
            Self::HandOff(_) => "hand-off",
            Self::Ask(_) => "ask",
            Self::Http { .. } => "http",
            Self::FsRead(_) => "fs:read",
            Self::FsWrite(_) => "fs:write",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Self::MemoryRead(scope) | Self::MemoryWrite(scope) => write!(f, ":{scope}"),
            Self::MessageSend(agent) | Self::Call(agent) | Self::HandOff(agent) => write!(f, ":{agent}"),
            Self::Ask(role) => write!(f, ":{role}"),
            Self::MessagePublish(topic) | Self::MessageSubscribe(topic) => write!(f, ":{topic}"),
            Self::Http { host, port } => write!(f, ":{host}:{port}"),
            Self::FsRead(directory) | Self::FsWrite(directory) => write!(f, ":{directory}"),
            Self::Log
            | Self::GraphRead
            | Self::GraphWrite
            | Self::RecallRead
            | Self::RecallWrite
            | Self::MessageReceive
            | Self::SessionHistory
            | Self::State => Ok(()),
        }
    }
}

impl TryFrom<String> for Capability {
    type Error = InvalidCapability;
    fn try_from(text: String) -> Result<Self, InvalidCapability> {
        text.parse()
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> String {
        capability.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_was_read() {
        for text in [
            "log",
            "memory:read:session",
            "memory:write:*",
            "message:send:mender",
            "message:receive",
            "message:publish:news",
            "message:subscribe:*",
            "graph:read",
            "recall:write",
            "session:history",
            "state",
            "call:summarize",
            "call:*",
            "hand-off:refunds",
            "ask:author",
            "ask:*",
            "http:api.example.com:443",
            "http:*:*",
            "fs:read:input",
            "fs:write:*",
        ] {
            assert_eq!(text.parse::<Capability>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_the_grammar_does_not_know_is_refused() {
        for text in [
            "",
            "*",
            "log:",
            "Log",
            "memory",
            "state:",
            "state:read",
            "memory:read",
            "memory:*:session",
            "memory:read:all",
            "call:",
            "call:a*",
            "hand-off",
            "ask",
            "ask:viewer",
            "ask:operator",
            "http:API.example.com:443",
            "http:a:65536",
            "http:*.a:1",
            "fs:read:../x",
            "fs:exec:x",
            "memory:read:session:x",
            " log",
        ] {
            assert!(text.parse::<Capability>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_star_covers_every_object_and_no_other_verb() {
        let cap = |text: &str| text.parse::<Capability>().unwrap();
        assert!(cap("memory:read:*").covers(&cap("memory:read:agent")));
        assert!(!cap("memory:read:*").covers(&cap("memory:write:agent")));
        assert!(!cap("memory:read:agent").covers(&cap("memory:read:*")));
        assert!(cap("ask:*").covers(&cap("ask:admin")));
        assert!(!cap("ask:author").covers(&cap("ask:admin")) && !cap("ask:author").covers(&cap("ask:caller")));
        assert!(cap("http:a.example:*").covers(&cap("http:a.example:80")));
        assert!(!cap("http:a.example:*").covers(&cap("http:b.example:80")));
    }
}
