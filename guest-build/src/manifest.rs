//! The manifest: from a package's `Cargo.toml` to the component's custom section `ltmc:manifest`.

use std::borrow::Cow;

use anyhow::{Context as _, bail};
use cargo_metadata::Package;
use serde_json::{Map, Value, json};
use wasm_encoder::{CustomSection, Encode as _, Section as _};
use wasmparser::{Parser, Payload};

/// The section's name.
pub const SECTION: &str = "ltmc:manifest";

/// A package's manifest, as JSON. The host reads it strictly; here only what the author would otherwise learn too late
/// is looked at.
///
/// # Errors
/// An unknown field in `[package.metadata.ltmc]`.
pub fn of_package(package: &Package) -> anyhow::Result<Vec<u8>> {
    let own = match package.metadata.get("ltmc") {
        None => Map::new(),
        Some(Value::Object(own)) => own.clone(),
        Some(_) => bail!("[package.metadata.ltmc] is a table"),
    };
    let mut manifest =
        json!({ "manifest": 1, "name": package.name.to_string(), "version": package.version.to_string() });
    if let Some(description) = &package.description {
        manifest["description"] = description.as_str().into();
    }
    for (field, value) in own {
        match field.as_str() {
            "asks" | "accepts" | "input" | "isolation" | "limits" | "state" | "subscriptions" => {
                manifest[field] = value
            }
            _ => {
                bail!(
                    "[package.metadata.ltmc] has an unknown field `{field}`; known are asks, accepts, input, isolation, limits, state, subscriptions"
                )
            }
        }
    }
    Ok(serde_json::to_vec(&manifest)?)
}

/// A component with this manifest in it, in the place of one that was there.
///
/// # Errors
/// Where it is no component.
pub fn embed(wasm: &[u8], manifest: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(wasm.len() + manifest.len() + 32);
    let mut kept = 0;
    for payload in top_level(wasm) {
        if let (Payload::CustomSection(section), start) = payload?
            && section.name() == SECTION
        {
            out.extend_from_slice(&wasm[kept..start]);
            kept = section.range().end;
        }
    }
    out.extend_from_slice(&wasm[kept..]);
    let section = CustomSection { name: SECTION.into(), data: Cow::Borrowed(manifest) };
    out.push(section.id());
    section.encode(&mut out);
    Ok(out)
}

/// The manifest in a component, if there is one.
pub fn read(wasm: &[u8]) -> Option<Vec<u8>> {
    let mut found = None;
    for payload in top_level(wasm) {
        if let Ok((Payload::CustomSection(section), _)) = payload
            && section.name() == SECTION
        {
            found = Some(section.data().to_vec());
        }
    }
    found
}

/// What stands in the component itself, not in what is nested in it, each with the place it begins at.
fn top_level(wasm: &[u8]) -> impl Iterator<Item = anyhow::Result<(Payload<'_>, usize)>> {
    let mut depth = 0_usize;
    let mut at = 0;
    Parser::new(0).parse_all(wasm).filter_map(move |payload| {
        let payload = match payload.context("not a component that can be read") {
            Ok(payload) => payload,
            Err(error) => return Some(Err(error)),
        };
        let outermost = depth == 0;
        let start = at;
        match &payload {
            Payload::Version { range, .. } => at = range.end,
            Payload::ModuleSection { unchecked_range, .. } | Payload::ComponentSection { unchecked_range, .. } => {
                depth += 1;
                at = unchecked_range.start;
                return None;
            }
            Payload::End(offset) => {
                depth = depth.saturating_sub(1);
                at = *offset;
                return None;
            }
            other => {
                if let Some((_, range)) = other.as_section() {
                    at = range.end;
                }
            }
        }
        outermost.then_some(Ok((payload, start)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn a_manifest_is_read_back_and_replaced() {
        assert_eq!(read(EMPTY), None);
        let once = embed(EMPTY, b"{}").unwrap();
        assert_eq!(read(&once), Some(b"{}".to_vec()));
        let twice = embed(&once, b"{\"manifest\":1}").unwrap();
        assert_eq!(read(&twice), Some(b"{\"manifest\":1}".to_vec()));
        assert_eq!(twice, embed(EMPTY, b"{\"manifest\":1}").unwrap(), "the one before is gone");
    }

    #[test]
    fn what_is_no_component_is_refused() {
        assert!(embed(b"\x7fELF\x02\x01\x01\0", b"{}").is_err());
        assert_eq!(read(b"nothing"), None);
    }
}
