//! A manifest: what an agent says of itself and what it asks for. It stands in the component's custom section
//! [`SECTION`], or comes beside it with the upload. Asking grants nothing.

use serde::{Deserialize, Serialize};

use crate::Capability;
use crate::limits::Wishes;

/// The custom section that holds it, as JSON.
pub const SECTION: &str = "ltmc:manifest";

/// The version of the manifest's form that this host reads.
pub const VERSION: u32 = 1;

/// Version 1. Unknown fields are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The form's version: [`VERSION`].
    pub manifest: u32,
    /// The package's name, where it has one. The name under which it is stored is the upload's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The package's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// One sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The capabilities it needs to do its work.
    #[serde(default)]
    pub asks: Vec<Capability>,
    /// The limits it would like.
    #[serde(default)]
    pub limits: Wishes,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            manifest: VERSION,
            name: None,
            version: None,
            description: None,
            asks: Vec::new(),
            limits: Wishes::default(),
        }
    }
}

impl Manifest {
    /// The largest text of one, in bytes.
    pub const MAX_LEN: usize = 64 << 10;
    /// How many capabilities one may ask for.
    pub const MAX_ASKS: usize = 128;

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it, where, and what would be right.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        if json.len() > Self::MAX_LEN {
            return Err(format!("a manifest has at most {} bytes, this one has {}", Self::MAX_LEN, json.len()));
        }
        let manifest: Self = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        if manifest.manifest != VERSION {
            return Err(format!(
                "this host reads manifests of version {VERSION}, this one is of {}",
                manifest.manifest
            ));
        }
        if manifest.asks.len() > Self::MAX_ASKS {
            return Err(format!(
                "`asks` has {} capabilities, at most {} are taken",
                manifest.asks.len(),
                Self::MAX_ASKS
            ));
        }
        Ok(manifest)
    }
}
