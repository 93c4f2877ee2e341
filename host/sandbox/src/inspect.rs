//! Looks into a component's bytes: what it imports, exports, and says of itself. Runs in the child process, since the
//! bytes are hostile until shown otherwise.

use ltmc_model::agent::Export;
use ltmc_model::manifest::{self, Manifest};
use serde::{Deserialize, Serialize};
use wasmparser::{Parser, Payload};

/// What was found.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) exports: Vec<Export>,
    pub(crate) imports: Vec<String>,
    pub(crate) manifest: Option<Vec<u8>>,
}

/// Why a component is refused: a stable code, and words.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) code: String,
    pub(crate) message: String,
}

impl Refused {
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

/// The name of an export that the host can run, whatever its patch version.
pub(crate) fn runnable(name: &str) -> Option<Export> {
    if name == "ltmc:agent/agent@0.1.0" {
        Some(Export::Agent)
    } else if name == "ltmc:agent/validator@0.1.0" {
        Some(Export::Validator)
    } else if name == "ltmc:agent/aggregator@0.1.0" {
        Some(Export::Aggregator)
    } else if name.starts_with("wasi:cli/run@0.2.") {
        Some(Export::Command)
    } else {
        None
    }
}

/// The first eight bytes tell what it is: a cheap look before anything else.
pub(crate) fn preamble(wasm: &[u8]) -> Result<(), Refused> {
    if wasm.is_empty() {
        return Err(Refused::new("empty", "the upload is empty; it should be a WebAssembly component"));
    }
    match wasm.get(..8) {
        Some([0, b'a', b's', b'm', 0x0d, 0, 1, 0]) => Ok(()),
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Err(Refused::new(
            "core-module",
            "this is a core WebAssembly module; a component is needed: build for wasm32-wasip2, or wrap it with \
             `wasm-tools component new`",
        )),
        _ => Err(Refused::new("not-wasm", "this is not WebAssembly: it does not begin as a component does")),
    }
}

/// Looks into a component.
pub(crate) fn look(wasm: &[u8]) -> Result<Found, Refused> {
    preamble(wasm)?;
    let malformed = |e: wasmparser::BinaryReaderError| {
        Refused::new(
            "malformed",
            format!("the component is damaged or cut off at byte {}: {}", e.offset(), e.message()),
        )
    };
    let mut found = Found { exports: Vec::new(), imports: Vec::new(), manifest: None };
    let mut depth = 0_u32;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(malformed)? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    found.imports.push(import.map_err(malformed)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    found.exports.extend(runnable(export.map_err(malformed)?.name.name));
                }
            }
            Payload::CustomSection(section) if depth == 0 && section.name() == manifest::SECTION => {
                if section.data().len() > Manifest::MAX_LEN {
                    let message = format!("the manifest section has more than {} bytes", Manifest::MAX_LEN);
                    return Err(Refused::new("bad-manifest", message));
                }
                found.manifest = Some(section.data().to_vec());
            }
            _ => {}
        }
    }
    found.exports.sort();
    found.exports.dedup();
    if found.exports.is_empty() {
        return Err(Refused::new(
            "no-export",
            "the component exports nothing that can be run: it should export ltmc:agent/agent@0.1.0, \
             ltmc:agent/validator@0.1.0, ltmc:agent/aggregator@0.1.0 or wasi:cli/run@0.2",
        ));
    }
    Ok(found)
}
