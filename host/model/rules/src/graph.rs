//! The graph's bounds.

/// The longest name of an entity, in bytes.
pub const MAX_ENTITY: usize = 256;
/// The longest name of a relation, in bytes.
pub const MAX_RELATION: usize = 64;
/// The most that a fact's properties have, in bytes of JSON.
pub const MAX_PROPERTIES: usize = 4 << 10;
/// The longest page of facts.
pub const MAX_PAGE: u32 = 1_000;
/// The longest way that is looked for, in facts.
pub const MAX_DEPTH: u32 = 16;
/// Facts that a walk (a path, an order, dependents) looks at; where there are more, it says so.
pub const MAX_VISITED: u32 = 10_000;
