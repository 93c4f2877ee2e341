//! An agent as the record knows it.

use serde::{Deserialize, Serialize};

use crate::manifest::Manifest;
use crate::{AgentName, Capability, Digest, Timestamp};

/// What a component exports that the host can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Export {
    /// The interface `ltmc:agent/agent`: does a step.
    Agent,
    /// The interface `ltmc:agent/validator`: judges a step's output.
    Validator,
    /// The interface `ltmc:agent/aggregator`: makes one output of what branches gave.
    Aggregator,
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

/// How many versions of an agent have grants: the newest. A run of an older one has nothing.
pub const VERSIONS_WITH_GRANTS: usize = 32;

/// What one version of an agent was granted: for the component that was looked at, not for whatever is pushed under its name next.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants {
    /// What it may do, in so far as the tenant's ceiling allows it.
    pub capabilities: Vec<Capability>,
    /// Whether the next version takes it over.
    pub carry: Carry,
}

impl Grants {
    /// Takes back what `most` does not cover.
    pub fn cut_to(&mut self, most: &[Capability]) {
        self.capabilities.retain(|held| most.iter().any(|one| one.covers(held)));
    }
}

/// By which rule a version that is pushed takes over what the one before was granted. Whoever grants chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carry {
    /// By none: it is granted nothing until somebody grants it something.
    #[default]
    Never,
    /// Where its manifest asks for nothing that the one before did not ask for.
    SameAsks,
}

impl Carry {
    /// All of them, by name.
    pub const ALL: [Self; 2] = [Self::Never, Self::SameAsks];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::SameAsks => "same-asks",
        }
    }

    /// Whether what `before` was granted with this rule is `next`'s too.
    pub fn allows(self, before: &Agent, next: &Agent) -> bool {
        let asked_before = |ask| before.manifest.asks.iter().any(|asked: &Capability| asked.covers(ask));
        match self {
            Self::Never => false,
            Self::SameAsks => next.manifest.asks.iter().all(asked_before),
        }
    }
}

impl std::str::FromStr for Carry {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|carry| carry.as_str() == text);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join("`, `");
            format!("`{text}` is no rule by which a new version takes over grants; there are `{known}`")
        })
    }
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
