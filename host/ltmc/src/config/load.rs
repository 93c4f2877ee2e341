//! Configuration is read, layer upon layer: what is built in, a file, variables, options of the command.
//!
//! Invariant: whoever is told of a value that is wrong is told where it stands, and of a key that is unknown which one is like it.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Serialize;

use super::{CLIENT_VARIABLES, Config, DIRECTORIES, FILE, HIDDEN, KEYS, TEST_PREFIX};
use crate::exit::Problem;

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

#[cfg(test)]
mod tests;
