//! What the host is told: defaults, then `ltmc.toml`, then `LTMC_*`, then flags; the later wins.
//!
//! Invariants: every key stands in [`KEYS`] and nothing else is taken, from whichever side; each value remembers where it
//! came from. Nothing below this crate reads the environment or a configuration file.
//!
//! To add a key: a field here with its default, and its line in [`KEYS`]; a test holds the two against each other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use crate::exit::Problem;

mod hidden;
mod load;
mod span;

pub(crate) use hidden::Hidden;
pub(crate) use load::{Loaded, Sources, environment};
pub(crate) use span::Span;

/// Everything the host can be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) data: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) metrics_public: bool,
    pub(crate) shutdown_deadline: Span,
    pub(crate) record: Record,
    pub(crate) log: Log,
    pub(crate) limits: Limits,
    pub(crate) sandbox: Sandbox,
    pub(crate) context: Context,
    pub(crate) graph: Graph,
    pub(crate) redis: Redis,
    pub(crate) recall: Recall,
    pub(crate) audit: Audit,
    /// By the names that capabilities say. The one table whose keys are the operator's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) directories: BTreeMap<String, PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    pub(crate) kind: RecordKind,
}

/// Kinds of stores that can be the record; `crate::record` names the adapter of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RecordKind {
    Sqlite,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    pub(crate) retention: Span,
    pub(crate) log_rows: u64,
    pub(crate) backlog: u64,
}

/// Empty texts mean that nothing is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Graph {
    pub(crate) url: String,
    pub(crate) user: String,
    pub(crate) password: Hidden,
    pub(crate) password_file: String,
    pub(crate) database: String,
    pub(crate) history: Span,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Redis {
    pub(crate) url: Hidden,
    pub(crate) user: String,
    pub(crate) password: Hidden,
    pub(crate) password_file: String,
    pub(crate) ca_file: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recall {
    pub(crate) embedder: Embedder,
    pub(crate) model: String,
    pub(crate) url: String,
    pub(crate) api_key: Hidden,
    pub(crate) api_key_file: String,
    pub(crate) dimensions: u32,
    pub(crate) memory: ByteSize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Audit {
    pub(crate) anchor_file: String,
    pub(crate) anchor_url: String,
    pub(crate) anchor_secret: Hidden,
    pub(crate) anchor_secret_file: String,
    pub(crate) anchor_log: bool,
    pub(crate) anchor_every: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Embedder {
    Builtin,
    Minilm,
    Openai,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) format: Format,
    pub(crate) level: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    Text,
    Json,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) upload: ByteSize,
    pub(crate) body: ByteSize,
    pub(crate) document: ByteSize,
    pub(crate) bodies: ByteSize,
    pub(crate) connections: usize,
    pub(crate) watchers: usize,
    pub(crate) head_time: Span,
    pub(crate) idle: Span,
    pub(crate) body_stall: Span,
    pub(crate) write_stall: Span,
    pub(crate) disk: ByteSize,
    pub(crate) disk_reserve: ByteSize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sandbox {
    pub(crate) slots: u32,
    pub(crate) waiting: u32,
    pub(crate) waiting_memory: ByteSize,
    pub(crate) cache: ByteSize,
    pub(crate) memory: ByteSize,
    pub(crate) max_memory: ByteSize,
    pub(crate) queue_deadline: Span,
    pub(crate) queue_length: usize,
    pub(crate) file_threads: usize,
    pub(crate) compile_memory: ByteSize,
    pub(crate) compile_time: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "ltmc-data".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 7420)),
            metrics_public: false,
            shutdown_deadline: Span::seconds(10),
            record: Record { kind: RecordKind::Sqlite },
            log: Log { format: Format::Text, level: "info".into() },
            limits: Limits {
                upload: ByteSize::mib(64),
                body: ByteSize::mib(8),
                document: ByteSize::mib(1),
                bodies: ByteSize::mib(256),
                connections: 1024,
                watchers: 256,
                head_time: Span::seconds(10),
                idle: Span::seconds(75),
                body_stall: Span::seconds(10),
                write_stall: Span::seconds(30),
                disk: ByteSize::gib(16),
                disk_reserve: ByteSize::mib(64),
            },
            sandbox: Sandbox {
                slots: 256,
                waiting: 1024,
                waiting_memory: ByteSize::gib(1),
                cache: ByteSize::mib(256),
                memory: ByteSize::gib(4),
                max_memory: ByteSize::mib(64),
                queue_deadline: Span::seconds(5),
                queue_length: 4096,
                file_threads: 64,
                compile_memory: ByteSize::gib(4),
                compile_time: Span::seconds(120),
            },
            context: Context { retention: Span::seconds(24 * 60 * 60), log_rows: 1_000_000, backlog: 100_000 },
            graph: Graph {
                url: String::new(),
                user: "neo4j".into(),
                password: Hidden::default(),
                password_file: String::new(),
                database: String::new(),
                history: Span::seconds(30 * 24 * 60 * 60),
            },
            redis: Redis::default(),
            recall: Recall {
                embedder: Embedder::Builtin,
                model: String::new(),
                url: String::new(),
                api_key: Hidden::default(),
                api_key_file: String::new(),
                dimensions: 0,
                memory: ByteSize::mib(256),
            },
            audit: Audit {
                anchor_file: String::new(),
                anchor_url: String::new(),
                anchor_secret: Hidden::default(),
                anchor_secret_file: String::new(),
                anchor_log: false,
                anchor_every: Span::seconds(60),
            },
            directories: BTreeMap::new(),
        }
    }
}

/// Every key, with what it means.
pub(crate) const KEYS: &[(&str, &str)] = &[
    ("data", "the directory with the record, the components and the credentials"),
    ("listen", "address and port of the REST interface; port 0 takes a free one"),
    ("metrics_public", "whether /metrics answers without the operator's key"),
    (
        "shutdown_deadline",
        "how long runs under way may take to end when the host is told to stop; 5 s later the process has ended, whatever keeps it",
    ),
    ("record.kind", "which store is the record: sqlite (a database in the data directory)"),
    ("log.format", "text or json"),
    ("log.level", "off, error, warn, info, debug or trace, or by module: info,ltmc_sandbox=debug"),
    ("limits.upload", "the largest upload: component and manifest together"),
    ("limits.body", "the largest payload of a call or a run"),
    ("limits.document", "the largest document: a workflow, grants, a ceiling"),
    (
        "limits.bodies",
        "bytes of all the bodies under way together, but for 64 KiB of each, divided among tenants; a key has a quarter at most",
    ),
    ("limits.connections", "connections at once: those without a key have half of them, and make room for others"),
    ("limits.watchers", "readers of events at once, divided among tenants"),
    ("limits.head_time", "how long a client may take to send a request's head"),
    ("limits.idle", "how long a connection may be idle between requests"),
    ("limits.body_stall", "how long a request's body may stand still"),
    ("limits.write_stall", "how long a client may leave its answer unread"),
    ("limits.disk", "bytes that each tenant's things take on disk at most, where its ceiling says nothing else"),
    ("limits.disk_reserve", "bytes of the disk kept for ends and for the operator when it is full; 0: none"),
    ("sandbox.slots", "agents that run at once"),
    ("sandbox.waiting", "agents that wait without a slot at once, divided among tenants; more wait in theirs"),
    ("sandbox.waiting_memory", "linear memory of those that wait without a slot, divided among tenants"),
    ("sandbox.cache", "bytes of compiled components kept loaded"),
    ("sandbox.memory", "linear memory of all agents that run or wait, divided among tenants"),
    ("sandbox.max_memory", "the most linear memory any ceiling can give an agent"),
    ("sandbox.queue_deadline", "how long a call waits for a slot before it is answered 429"),
    ("sandbox.queue_length", "calls that may wait for a slot, divided among tenants"),
    (
        "sandbox.file_threads",
        "threads that work on files of granted directories; a tenant has at most a quarter of them",
    ),
    ("sandbox.compile_memory", "memory of the process that compiles an uploaded component"),
    ("sandbox.compile_time", "time that compiling one component may take"),
    ("context.retention", "how long changes and events can be read again by who watches and follows"),
    ("context.log_rows", "how many changes and events of each tenant are kept at most, whatever their age"),
    ("context.backlog", "how many changes a database may be behind before /readyz says that the host is not ready"),
    ("graph.url", "bolt:// or neo4j:// address of Neo4j; empty: the graph is in the record"),
    ("graph.user", "the user for Neo4j"),
    ("graph.password", "the password for Neo4j"),
    ("graph.password_file", "a file that holds it"),
    ("graph.database", "the database in Neo4j; empty: its default one"),
    ("graph.history", "how long Neo4j keeps messages that were processed"),
    ("redis.url", "redis:// or rediss:// address of Redis; empty: messages and hot state are in the record"),
    ("redis.user", "the ACL user for Redis, where the address names none"),
    ("redis.password", "the password for Redis, where the address has none"),
    ("redis.password_file", "a file that holds it"),
    ("redis.ca_file", "a file with the certificate that a rediss:// server's is signed by; empty: the public ones"),
    ("recall.embedder", "builtin (words and their parts), minilm (a model in a directory), openai (an endpoint)"),
    ("recall.model", "minilm: the model's directory; openai: the model's name"),
    ("recall.url", "openai: the address before /embeddings"),
    ("recall.api_key", "openai: the key"),
    ("recall.api_key_file", "openai: a file that holds it"),
    ("recall.dimensions", "openai: numbers of a vector; 0: as many as the endpoint answers"),
    ("recall.memory", "bytes of vectors kept loaded"),
    ("audit.anchor_file", "a file outside of the data directory that the chains' heads are appended to; empty: none"),
    ("audit.anchor_url", "an http:// or https:// address that they are posted to; empty: none"),
    ("audit.anchor_secret", "what is posted is signed with this (HMAC-SHA256)"),
    ("audit.anchor_secret_file", "a file that holds it"),
    ("audit.anchor_log", "whether they stand in the host's log"),
    ("audit.anchor_every", "how often, where there is anything new"),
];

/// The table of directories that can be granted, with its point: its keys are names that the operator gives.
const DIRECTORIES: &str = "directories.";
/// Keys whose values are not shown.
const HIDDEN: &[&str] = &["graph.password", "redis.url", "redis.password", "recall.api_key", "audit.anchor_secret"];

/// Variables of the same prefix that are the client's, not the host's.
pub(crate) const CLIENT_VARIABLES: &[&str] =
    &["LTMC_URL", "LTMC_KEY", "LTMC_KEY_FILE", "LTMC_AS", "LTMC_CONFIG", "LTMC_SDK", "LTMC_GUEST_TARGET"];

/// The prefix of variables that are for this project's own tests and are let through.
const TEST_PREFIX: &str = "LTMC_TEST_";
/// The file that is read where none is named.
pub(crate) const FILE: &str = "ltmc.toml";

impl Config {
    /// What the forms of single values cannot say.
    fn check(&self) -> anyhow::Result<()> {
        let wrong = |key: &str, why: &str| Err(Problem::usage(format!("{key}: {why}")).into());
        if self.sandbox.slots == 0 {
            return wrong("sandbox.slots", "at least 1 agent must be able to run");
        }
        if self.sandbox.waiting == 0 {
            return wrong("sandbox.waiting", "at least 1 agent must be able to wait");
        }
        if self.sandbox.waiting_memory.as_u64() / 4 * 3 < self.sandbox.max_memory.as_u64() {
            let why = "at least a third more than `sandbox.max_memory`, so that any agent can wait without a slot";
            return wrong("sandbox.waiting_memory", why);
        }
        if self.sandbox.memory.as_u64() / 4 * 3 < self.sandbox.max_memory.as_u64() {
            let why = "at least a third more than `sandbox.max_memory`, so that any agent can run";
            return wrong("sandbox.memory", why);
        }
        if !(1..=512).contains(&self.sandbox.file_threads) {
            return wrong("sandbox.file_threads", "from 1 to 512");
        }
        if self.limits.connections == 0 {
            return wrong("limits.connections", "at least 1");
        }
        let largest = self.limits.upload.max(self.limits.body).as_u64();
        if self.limits.bodies.as_u64() / 8 * 3 < largest {
            let why = "a tenant has three eighths of it at most, and one body has to fit: at least 8/3 of `limits.upload` and `limits.body`";
            return wrong("limits.bodies", why);
        }
        if self.sandbox.max_memory > ByteSize::gib(4) {
            return wrong("sandbox.max_memory", "a linear memory has at most 4 GiB");
        }
        for (secret, inline, file) in [
            ("graph.password", &self.graph.password, &self.graph.password_file),
            ("redis.password", &self.redis.password, &self.redis.password_file),
            ("recall.api_key", &self.recall.api_key, &self.recall.api_key_file),
            ("audit.anchor_secret", &self.audit.anchor_secret, &self.audit.anchor_secret_file),
        ] {
            if !inline.0.is_empty() && !file.is_empty() {
                return wrong(secret, &format!("set it or {secret}_file, not both"));
            }
        }
        if self.recall.embedder != Embedder::Builtin && self.recall.model.is_empty() {
            return wrong("recall.model", "minilm wants a model's directory, openai a model's name");
        }
        if self.recall.embedder == Embedder::Openai && self.recall.url.is_empty() {
            return wrong("recall.url", "openai wants an endpoint's address, such as https://api.openai.com/v1");
        }
        let audit = &self.audit;
        if !audit.anchor_url.is_empty() && audit.anchor_secret.0.is_empty() && audit.anchor_secret_file.is_empty() {
            return wrong(
                "audit.anchor_secret",
                "what is posted to `audit.anchor_url` is signed: set it, or audit.anchor_secret_file",
            );
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60)).contains(&audit.anchor_every.0) {
            return wrong("audit.anchor_every", "from 1 s to 1 day");
        }
        if !audit.anchor_file.is_empty() && real(Path::new(&audit.anchor_file)).starts_with(real(&self.data)) {
            let why = "it is in the data directory: who can put back the record there can put it back as well; name a file elsewhere";
            return wrong("audit.anchor_file", why);
        }
        if let Some(part) = self.log.level.split(',').map(str::trim).find(|part| !is_level(part)) {
            let known = "off, error, warn, info, debug, trace, or MODULE=LEVEL, with commas between several";
            return wrong("log.level", &format!("`{part}` is no level; right is {known}"));
        }
        Ok(())
    }
}

/// A path as the file system has it, without links; of what is not there yet, as far as it is there.
fn real(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (std::fs::canonicalize(&path), path.parent(), path.file_name()) {
        (Ok(real), _, _) => real,
        (Err(_), Some(parent), Some(name)) => real(parent).join(name),
        (Err(_), _, _) => path,
    }
}

/// Whether it is `LEVEL` or `MODULE=LEVEL`. A word alone would be taken for a module, and nothing else be logged.
fn is_level(part: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let (module, level) = part.split_once('=').map_or((None, part), |(module, level)| (Some(module), level));
    let is_path = |module: &str| module.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'-'));
    module.is_none_or(|module| !module.is_empty() && is_path(module))
        && LEVELS.contains(&level.to_ascii_lowercase().as_str())
}
