//! What a step's input is made of.

use serde_json::Value;

use super::Pick;

/// What a step's input is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum With {
    /// Just this, whatever the step before gave.
    Pick(Pick),
    /// These fields, over those of the step before where it gave an object.
    Fields(Vec<(String, Template)>),
}

/// A value with picks in it.
#[derive(Debug, Clone, PartialEq)]
pub enum Template {
    /// A value without any.
    Constant(Value),
    /// What stands at a place.
    Pick(Pick),
    /// An object with picks in it.
    Object(Vec<(String, Template)>),
    /// A list with picks in it.
    Array(Vec<Template>),
}
