//! Pages of the documentation that the host itself serves: a problem's `type` leads to one.

/// docs/errors.md
pub(crate) const ERRORS: &str = include_str!("../../../docs/errors.md");
