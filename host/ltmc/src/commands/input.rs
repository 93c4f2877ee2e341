//! What a command is given to work on: a file, standard input, or nothing; and what kind of content it is.

use std::io::{IsTerminal as _, Read as _};

use bytes::Bytes;
use ltmc_model::Payload;

use crate::exit::Problem;

/// Where the payload comes from.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Input {
    /// What to work on: a file, or `-` for standard input [default: standard input, unless it is a terminal]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) input: Option<String>,
    /// What it is, such as application/json [default: told by the file's name or its content]
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Option<String>,
}

impl Input {
    /// Reads all of it.
    pub(crate) fn read(&self) -> anyhow::Result<Payload> {
        let (bytes, name) = match self.input.as_deref() {
            None if std::io::stdin().is_terminal() => (Vec::new(), None),
            None | Some("-") => {
                let mut bytes = Vec::new();
                let read = std::io::stdin().lock().read_to_end(&mut bytes);
                read.map_err(|e| Problem::usage(format!("standard input cannot be read: {e}")))?;
                (bytes, None)
            }
            Some(path) => {
                let bytes = std::fs::read(path).map_err(|e| Problem::usage(format!("{path} cannot be read: {e}")))?;
                (bytes, Some(path))
            }
        };
        let content_type = self.content_type.clone().unwrap_or_else(|| kind(name, &bytes).to_owned());
        Ok(Payload { content_type, bytes: Bytes::from(bytes) })
    }
}

/// JSON as it was typed, or as it stands in a file: `@FILE`. `what` it is, and what is typed `before` it, are for who typed something else.
pub(crate) fn json(what: &str, before: &str, given: &str) -> anyhow::Result<String> {
    let json = match given.strip_prefix('@') {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|e| Problem::usage(format!("{path} cannot be read: {e}")))?
        }
        None => given.to_owned(),
    };
    if let Err(why) = serde_json::from_str::<serde::de::IgnoredAny>(&json) {
        return Err(Problem::usage(format!("{what}: it is not JSON: {why}"))
            .help(format!("a text stands in quotes: {before}'\"text\"'; a file: {before}@out.json"))
            .into());
    }
    Ok(json)
}

fn kind(name: Option<&str>, bytes: &[u8]) -> &'static str {
    let extension = name.and_then(|n| n.rsplit_once('.')).map(|(_, e)| e.to_ascii_lowercase());
    match extension.as_deref() {
        Some("json") => "application/json",
        Some("yaml" | "yml") => "application/yaml",
        Some("diff" | "patch") => "text/x-diff",
        Some("md") => "text/markdown; charset=utf-8",
        Some("txt" | "log") => "text/plain; charset=utf-8",
        _ if bytes.is_empty() => "application/octet-stream",
        _ if serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok() => "application/json",
        _ if std::str::from_utf8(bytes).is_ok() => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_says_what_it_is_and_else_the_content() {
        assert_eq!(kind(Some("a.JSON"), b"x"), "application/json");
        assert_eq!(kind(Some("a.patch"), b"x"), "text/x-diff");
        assert_eq!(kind(None, b"{\"a\": 1}\n"), "application/json");
        assert_eq!(kind(None, b"hello"), "text/plain; charset=utf-8");
        assert_eq!(kind(None, b"\xff\xfe"), "application/octet-stream");
        assert_eq!(kind(None, b""), "application/octet-stream");
    }
}
