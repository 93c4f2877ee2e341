//! What the host is told: defaults, then `ltmc.toml`, then `LTMC_*`, then flags; the later wins.
//!
//! Invariants: every key stands in [`KEYS`] and nothing else is taken, from whichever side; each value remembers where it
//! came from. Nothing below this crate reads the environment or a configuration file.
//!
//! To add a key: a field here with its default, and its line in [`KEYS`]; a test holds the two against each other.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use bytesize::ByteSize;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::exit::Problem;

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

/// A text that is not to be seen: it may hold a password.
#[derive(Clone, PartialEq, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Hidden(pub(crate) String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "(hidden)" })
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
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

/// What is in force, and where each value came from.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    figment: Figment,
}

/// Where to look besides the defaults.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// `--config`: this file, which must be there. Otherwise [`FILE`], if it is there.
    pub(crate) file: Option<PathBuf>,
    /// The environment's variables.
    pub(crate) environment: Vec<(String, String)>,
    /// Flags: the key, the flag as it was written, its value.
    pub(crate) flags: Vec<(&'static str, &'static str, String)>,
}

impl Loaded {
    /// Puts the layers on each other.
    ///
    /// # Errors
    /// Wrong use: an unknown key (with the nearest known one), a value of the wrong form, a file that cannot be read.
    pub(crate) fn new(sources: &Sources) -> anyhow::Result<Self> {
        let mut figment = Figment::from(Layer::of("default", &Config::default()));
        let file = sources.file.clone().or_else(|| Path::new(FILE).exists().then(|| FILE.into()));
        if let Some(path) = file {
            figment = figment.merge(from_file(&path)?);
        }
        for (name, value) in &sources.environment {
            if let Some(layer) = from_variable(name, value)? {
                figment = figment.merge(layer);
            }
        }
        for (key, flag, value) in &sources.flags {
            figment = figment.merge(Layer::single(flag, key, parse_value(value)));
        }
        let config: Config = figment.extract().map_err(|e| wrong_value(&figment, &e))?;
        config.check()?;
        Ok(Self { config, figment })
    }

    /// One line a key: its value, and where it came from. Reads as TOML.
    pub(crate) fn print(&self) -> String {
        use fmt::Write as _;
        let mut out = String::new();
        let mut section = "";
        for (key, _) in KEYS {
            let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
            if table != section {
                section = table;
                let _ = writeln!(out, "\n[{table}]");
            }
            let value = self.figment.find_value(key).map(|v| shown(&v)).unwrap_or_default();
            let value = if HIDDEN.contains(key) && value != "\"\"" { "\"(hidden)\"".to_owned() } else { value };
            let line = format!("{name} = {value}");
            let _ = writeln!(out, "{line:<40} # {}", self.origin(key));
        }
        if !self.config.directories.is_empty() {
            let _ = writeln!(out, "\n[directories]");
        }
        for (name, path) in &self.config.directories {
            let line = format!("{name} = {:?}", path.display().to_string());
            let _ = writeln!(out, "{line:<40} # {}", self.origin(&format!("{DIRECTORIES}{name}")));
        }
        out
    }

    /// The same for programs.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        KEYS.iter()
            .map(|(key, about)| {
                let value = self.figment.find_value(key).ok().and_then(|v| serde_json::to_value(v).ok());
                let hidden = HIDDEN.contains(key) && value.as_ref().is_some_and(|value| value != "");
                let value = if hidden { Some("(hidden)".into()) } else { value };
                ((*key).to_owned(), serde_json::json!({"value": value, "from": self.origin(key), "about": about}))
            })
            .collect::<serde_json::Map<_, _>>()
            .into()
    }

    /// Where a key's value came from: `default`, a file's name, a variable, a flag.
    pub(crate) fn origin(&self, key: &str) -> String {
        self.figment.find_metadata(key).map_or_else(|| "default".into(), |m| m.name.to_string())
    }
}

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

/// The process's own environment, as [`Sources`] take it. Only names with the prefix; what is not UTF-8 is no value of ours.
pub(crate) fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with("LTMC_"))
        .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
        .collect()
}

fn from_file(path: &Path) -> anyhow::Result<Layer> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|e| Problem::usage(format!("the configuration {name} cannot be read: {e}")))?;
    let table: toml::Table = toml::from_str(&text)
        .map_err(|e| Problem::usage(format!("{name} is not TOML: {}", e.to_string().trim_end())))?;
    let dict: Dict = Value::serialize(&table).context("a TOML table as values")?.into_dict().unwrap_or_default();
    for key in leaves(&dict, "") {
        if !KEYS.iter().any(|(known, _)| *known == key) && !is_directory(&key) {
            let line = line_of(&text, &key).map(|n| format!(":{n}")).unwrap_or_default();
            return Err(
                unknown(&format!("{name}{line}"), "key", &key, KEYS.iter().map(|(k, _)| (*k).to_owned())).into()
            );
        }
    }
    Ok(Layer { name, dict })
}

fn from_variable(name: &str, value: &str) -> anyhow::Result<Option<Layer>> {
    if CLIENT_VARIABLES.contains(&name) || name.starts_with(TEST_PREFIX) {
        return Ok(None);
    }
    match KEYS.iter().find(|(key, _)| variable(key) == name) {
        Some((key, _)) => Ok(Some(Layer::single(name, key, parse_value(value)))),
        None if name.starts_with("LTMC_DIRECTORIES_") => {
            let directory = name["LTMC_DIRECTORIES_".len()..].to_ascii_lowercase().replace('_', "-");
            Ok(Some(Layer::single(name, &format!("{DIRECTORIES}{directory}"), value.into())))
        }
        None => {
            let known =
                KEYS.iter().map(|(key, _)| variable(key)).chain(CLIENT_VARIABLES.iter().map(|v| (*v).to_owned()));
            Err(unknown("the environment", "variable", name, known).into())
        }
    }
}

/// Whether a key names a directory: `directories.NAME`.
fn is_directory(key: &str) -> bool {
    key.strip_prefix(DIRECTORIES).is_some_and(|name| !name.is_empty())
}

/// The variable of a key: `LTMC_SANDBOX_SLOTS`.
pub(crate) fn variable(key: &str) -> String {
    format!("LTMC_{}", key.replace('.', "_").to_ascii_uppercase())
}

fn unknown(place: &str, what: &str, given: &str, known: impl Iterator<Item = String>) -> Problem {
    let known: Vec<String> = known.collect();
    let nearest = known
        .iter()
        .map(|k| (strsim::jaro_winkler(k, given).max(last_part_likeness(k, given)), k))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|(likeness, _)| *likeness > 0.75);
    let problem = Problem::usage(format!("{place}: unknown {what} `{given}`"));
    match nearest {
        Some((_, nearest)) => problem.help(format!("did you mean `{nearest}`?")),
        None => problem.help(format!("known are {}", known.join(", "))),
    }
}

/// A right name in the wrong section is near as well.
fn last_part_likeness(known: &str, given: &str) -> f64 {
    let last = |text: &str| text.rsplit('.').next().unwrap_or_default().to_owned();
    if last(known) == last(given) { 0.9 } else { 0.0 }
}

fn leaves(dict: &Dict, prefix: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for (key, value) in dict {
        let full = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            // a section that is not known is named whole, not by what is in it
            Value::Dict(_, inner)
                if KEYS.iter().any(|(k, _)| k.starts_with(&format!("{full}.")))
                    || format!("{full}.") == DIRECTORIES =>
            {
                keys.extend(leaves(inner, &full));
            }
            _ => keys.push(full),
        }
    }
    keys
}

fn line_of(text: &str, key: &str) -> Option<usize> {
    let last = key.rsplit('.').next()?;
    text.lines()
        .position(|line| {
            let line = line.trim_start();
            line.strip_prefix(last).is_some_and(|rest| rest.trim_start().starts_with(['=', '.']))
                || line.trim_start_matches('[').trim_end().trim_end_matches(']') == key
        })
        .map(|n| n + 1)
}

/// A flag's or a variable's text as the value it looks like: a number, a truth value, or a text.
fn parse_value(text: &str) -> Value {
    if let Ok(number) = text.parse::<u64>() {
        return Value::from(number);
    }
    match text {
        "true" => Value::from(true),
        "false" => Value::from(false),
        _ => Value::from(text),
    }
}

fn wrong_value(figment: &Figment, error: &figment::Error) -> Problem {
    let key = error.path.join(".");
    let origin = figment.find_metadata(&key).map(|m| m.name.to_string()).unwrap_or_default();
    let about = KEYS.iter().find(|(k, _)| *k == key).map(|(_, about)| *about);
    let problem = Problem::usage(format!("{origin}: `{key}` has a wrong value: {}", error.kind).replace("``", "`"));
    match about {
        Some(about) => problem.help(format!("{key} is {about}")),
        None => problem,
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(_, text) => toml::Value::String(text.clone()).to_string(),
        other => serde_json::to_value(other).map(|v| v.to_string()).unwrap_or_default(),
    }
}

/// One source of values, under the name that people are shown.
struct Layer {
    name: String,
    dict: Dict,
}

impl Layer {
    fn of(name: &str, values: &impl Serialize) -> Self {
        let dict = Value::serialize(values).ok().and_then(Value::into_dict).unwrap_or_default();
        Self { name: name.to_owned(), dict }
    }

    fn single(name: &str, key: &str, value: Value) -> Self {
        let dict = figment::util::nest(key, value).into_dict().unwrap_or_default();
        Self { name: name.to_owned(), dict }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.dict.clone())]))
    }
}

/// A duration as people write it: `200ms`, `2s`, `1m 30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) struct Span(pub(crate) Duration);

impl Span {
    const fn seconds(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Text(String),
            Number(u64),
        }
        let text = match Given::deserialize(from)? {
            Given::Text(text) => text,
            Given::Number(n) => n.to_string(),
        };
        humantime::parse_duration(&text).map(Self).map_err(|_| {
            serde::de::Error::custom(format!("`{text}` is not a duration, such as `200ms`, `2s` or `1m 30s`"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ltmc.toml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    fn message(error: &anyhow::Error) -> String {
        let problem = error.downcast_ref::<Problem>().expect("a problem");
        format!("{} {}", problem.message, problem.help.clone().unwrap_or_default())
    }

    #[test]
    fn a_word_that_is_no_level_is_refused() {
        let with = |level: &str| {
            let flags = vec![("log.level", "--level", level.to_owned())];
            Loaded::new(&Sources { flags, ..Sources::default() })
        };
        for level in ["loud", "inf", "verbose", "", "info,loud", "=info", "ltmc_sandbox=loud", "info,", "a[b]=info"] {
            let error = with(level).unwrap_err();
            assert!(error.to_string().starts_with("log.level: `"), "{level}: {error}");
        }
        for level in ["info", "WARN", "off", "info,ltmc_sandbox=debug", "warn, ltmc_api::serve=trace"] {
            let filter = with(level).unwrap().config.log.level.parse::<tracing_subscriber::filter::Targets>();
            assert!(filter.is_ok(), "{level}");
        }
    }

    #[test]
    fn every_field_is_a_known_key_and_every_known_key_a_field() {
        let defaults = Layer::of("default", &Config::default());
        let mut found = leaves(&defaults.dict, "");
        let mut known: Vec<String> = KEYS.iter().map(|(k, _)| (*k).to_owned()).collect();
        found.sort();
        known.sort();
        assert_eq!(found, known);
    }

    /// The table of docs/run-a-host.md between its two marks.
    #[test]
    fn every_key_stands_in_the_page_for_operators() {
        let loaded = Loaded::new(&Sources::default()).unwrap();
        let row = |(key, about): &(&str, &str)| {
            let value = loaded.figment.find_value(key).map(|value| shown(&value)).unwrap_or_default();
            format!("| `{key}` | `{}` | {about} |\n", value.trim_matches('"'))
        };
        let table: String = KEYS.iter().map(row).collect();
        let wanted = format!(
            "<!-- keys: begin -->\n| key | default | what it means |\n| --- | --- | --- |\n{table}<!-- keys: end -->"
        );
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/run-a-host.md");
        let text = std::fs::read_to_string(page).unwrap();
        assert!(text.contains(&wanted), "docs/run-a-host.md should have this:\n{wanted}");
    }

    /// What the image and compose.yaml set is taken: the host would refuse to start otherwise.
    #[test]
    fn every_variable_of_the_container_is_a_key() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut environment = Vec::new();
        for file in ["Dockerfile", "compose.yaml"] {
            let text = std::fs::read_to_string(root.join(file)).unwrap();
            let in_lines = text.lines().filter_map(|line| line.trim().split_once(": "));
            let in_words = text.split_whitespace().filter_map(|word| word.split_once('='));
            let ours = in_lines.chain(in_words).filter(|(name, _)| name.starts_with("LTMC_"));
            environment.extend(ours.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        assert_eq!(environment.len(), 6, "{environment:?}");
        Loaded::new(&Sources { environment, ..Sources::default() }).unwrap();
    }

    #[test]
    fn later_layers_win_and_are_named() {
        let (_dir, path) = file("listen = \"127.0.0.1:1\"\n[sandbox]\nslots = 7\ncache = \"1MiB\"\n");
        let loaded = Loaded::new(&Sources {
            file: Some(path.clone()),
            environment: vec![
                ("LTMC_SANDBOX_SLOTS".into(), "9".into()),
                ("LTMC_SHUTDOWN_DEADLINE".into(), "1m 30s".into()),
                ("LTMC_KEY".into(), "not the host's".into()),
            ],
            flags: vec![("listen", "--listen", "127.0.0.1:2".into())],
        })
        .unwrap();
        assert_eq!(loaded.config.listen.port(), 2);
        assert_eq!(loaded.config.sandbox.slots, 9);
        assert_eq!(loaded.config.sandbox.cache, ByteSize::mib(1));
        assert_eq!(loaded.config.shutdown_deadline.0, Duration::from_secs(90));
        assert_eq!(loaded.origin("listen"), "--listen");
        assert_eq!(loaded.origin("sandbox.slots"), "LTMC_SANDBOX_SLOTS");
        assert_eq!(loaded.origin("sandbox.cache"), path.display().to_string());
        assert_eq!(loaded.origin("limits.body"), "default");
    }

    #[test]
    fn what_is_printed_reads_back_as_the_same_configuration() {
        let environment = vec![("LTMC_LOG_LEVEL".to_owned(), "debug".to_owned())];
        let loaded = Loaded::new(&Sources { environment, ..Sources::default() }).unwrap();
        let printed = loaded.print();
        assert!(printed.contains("# LTMC_LOG_LEVEL"), "{printed}");
        assert_eq!(toml::from_str::<Config>(&printed).unwrap(), loaded.config, "{printed}");
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        for (text, expected) in [
            ("[sandbox]\nslot = 1\n", "ltmc.toml:2: unknown key `sandbox.slot` did you mean `sandbox.slots`?"),
            ("slots = 1\n", "ltmc.toml:1: unknown key `slots` did you mean `sandbox.slots`?"),
            ("[sandbx]\nslots = 1\n", "ltmc.toml:1: unknown key `sandbx`"),
            ("quux = 1\n", "known are data, listen"),
        ] {
            let (_dir, path) = file(text);
            let error = Loaded::new(&Sources { file: Some(path), ..Sources::default() }).unwrap_err();
            assert!(message(&error).contains(expected), "{text}: {}", message(&error));
        }
        let environment = vec![("LTMC_LISTN".to_owned(), "x".to_owned())];
        let error = Loaded::new(&Sources { environment, ..Sources::default() }).unwrap_err();
        assert!(message(&error).contains("did you mean `LTMC_LISTEN`?"), "{}", message(&error));
    }

    #[test]
    fn a_wrong_value_is_named_with_its_place() {
        for (name, value, expected) in [
            ("LTMC_SANDBOX_SLOTS", "many", "LTMC_SANDBOX_SLOTS: `sandbox.slots` has a wrong value"),
            ("LTMC_SHUTDOWN_DEADLINE", "soon", "`soon` is not a duration"),
            ("LTMC_SHUTDOWN_DEADLINE", "5", "`5` is not a duration"),
            ("LTMC_LISTEN", "here", "LTMC_LISTEN: `listen` has a wrong value"),
            ("LTMC_LOG_FORMAT", "xml", "LTMC_LOG_FORMAT: `log.format`"),
            ("LTMC_RECORD_KIND", "oracle", "LTMC_RECORD_KIND: `record.kind` has a wrong value"),
            ("LTMC_RECORD_KIND", "oracle", "record.kind is which store is the record: sqlite"),
            ("LTMC_SANDBOX_SLOTS", "0", "at least 1"),
            ("LTMC_LIMITS_BODY", "8 potatoes", "LTMC_LIMITS_BODY: `limits.body`"),
        ] {
            let environment = vec![(name.to_owned(), value.to_owned())];
            let error = Loaded::new(&Sources { environment, ..Sources::default() }).unwrap_err();
            assert!(message(&error).contains(expected), "{name}={value}: {}", message(&error));
        }
    }

    #[test]
    fn a_file_that_is_named_must_be_there() {
        let sources = Sources { file: Some("no-such/ltmc.toml".into()), ..Sources::default() };
        assert!(message(&Loaded::new(&sources).unwrap_err()).contains("cannot be read"));
    }
}
