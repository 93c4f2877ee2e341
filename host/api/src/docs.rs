//! Pages of the documentation that the host itself serves: a problem's `type` leads to one.

/// The page `docs/errors.md`, which explains every problem's `type`.
pub(crate) const ERRORS: &str = include_str!("../../../docs/errors.md");
