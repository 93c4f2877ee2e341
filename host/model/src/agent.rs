//! An agent as the record knows it.

use serde::{Deserialize, Serialize};

use crate::manifest::Manifest;
use crate::{AgentName, Digest, Timestamp};

/// What a component exports that the host can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Export {
    /// `ltmc:agent/agent`
    Agent,
    /// `ltmc:agent/validator`
    Validator,
    /// `wasi:cli/run`: payload on standard input, result on standard output.
    Command,
}

/// One version of an agent: a component under a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Under which it is called.
    pub name: AgentName,
    /// Of the component's bytes.
    pub digest: Digest,
    /// What it says of itself and asks for.
    pub manifest: Manifest,
    /// What it exports that the host can run; at least one.
    pub exports: Vec<Export>,
    /// The component's bytes.
    pub size: u64,
    /// When this version was pushed.
    pub pushed_at: Timestamp,
}

/// Which version of an agent is meant: `name` (the newest) or `name@sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentRef {
    /// The name.
    pub name: AgentName,
    /// One version exactly; none: the newest.
    pub digest: Option<Digest>,
}

impl std::str::FromStr for AgentRef {
    type Err = crate::ids::InvalidId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('@') {
            None => Ok(Self { name: text.parse()?, digest: None }),
            Some((name, digest)) => Ok(Self { name: name.parse()?, digest: Some(digest.parse()?) }),
        }
    }
}

impl TryFrom<String> for AgentRef {
    type Error = crate::ids::InvalidId;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AgentRef> for String {
    fn from(agent: AgentRef) -> String {
        agent.to_string()
    }
}

impl std::fmt::Display for AgentRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.digest {
            Some(digest) => write!(f, "{}@{digest}", self.name),
            None => self.name.fmt(f),
        }
    }
}
