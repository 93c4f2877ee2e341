//! Python's requirements (PEP 508), as `requirements.txt` and `pyproject.toml` have them.

use crate::manifests::{Declared, is_name};

/// `name[extra]>=1.2 ; marker`, `-e git+https://…`, `name @ https://…`
pub(crate) fn requirement(text: &str) -> Option<Declared> {
    let text = text.split(" #").next().unwrap_or(text).split(';').next().unwrap_or(text).trim();
    let address = text.strip_prefix("-e ").unwrap_or(text);
    if text.starts_with('-') && address == text {
        return None;
    }
    if address.contains("://") {
        let name = match (address.split_once(" @ "), address.split_once("#egg=")) {
            (Some((name, _)), _) | (None, Some((_, name))) => name.trim(),
            (None, None) => address.rsplit('/').next().unwrap_or(address).trim_end_matches(".git"),
        };
        let source = Some(format!("`{address}`"));
        let plain_http = address.contains("http://");
        return Some(Declared { name: normal(name), source, plain_http, ..Declared::default() });
    }
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    if let Some(extras) = rest.strip_prefix('[') {
        rest = extras.split_once(']').map_or("", |(_, rest)| rest);
    }
    // A line that goes on has its hashes on the next.
    let version = rest.trim().trim_end_matches('\\').split(" --hash").next().unwrap_or_default();
    let version = version.trim().trim_matches(['(', ')']).to_owned();
    is_name(name).then(|| Declared { name: normal(name), version, ..Declared::default() })
}

/// A name as PEP 503 compares it.
fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}
