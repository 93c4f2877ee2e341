//! The canonical form of a request: the bytes whose digest stands in the journal, and which a replay must ask for again.
//!
//! A request is MessagePack: a map of one entry, from the call's word (`memory-get`) to what it says; most say a list of
//! values, in the order in which the call writes them. The form is written down here and beside each call, value by value:
//! it is not what a Rust type happens to serialize to, and `tests/requests.rs` has every call's bytes as they were in the
//! first version.
//!
//! Invariants: what a form gives for a request never changes, so that a run which is under way while the host is exchanged
//! goes on. A value that a request gains later is written with [`Values::later`]: requests that do not use it stay as they were.

use std::collections::BTreeMap;

use bytes::Bytes;
use rmp::encode;

use crate::{AgentName, Digest, Payload, Position, Revision, RunId, Timestamp};

/// The form in which requests are written now; an entry of the journal without a word on it has form 1.
pub const CURRENT: u32 = 1;

/// A request, written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request(Vec<u8>);

impl Request {
    /// By the call's word, and what it says.
    pub fn new(word: &str, says: &impl Canonical) -> Self {
        let mut bytes = Vec::new();
        variant(&mut bytes, word, says);
        Self(bytes)
    }

    /// As written.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// What it is known by.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }
}

/// What has one way to be written.
pub trait Canonical {
    /// Writes it, in MessagePack.
    fn write(&self, to: &mut Vec<u8>);
}

/// Values in order: what most requests, and the records in them, are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Values {
    count: u32,
    bytes: Vec<u8>,
}

impl Values {
    /// Of nothing so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// And this value.
    #[must_use]
    pub fn with(mut self, value: &(impl Canonical + ?Sized)) -> Self {
        self.count += 1;
        value.write(&mut self.bytes);
        self
    }

    /// And this value, which was not there in the first version: as a pair of its name and itself, and only where it is not
    /// the default, so that requests which do not use it are written as before.
    #[must_use]
    pub fn later<T: Canonical + Default + PartialEq>(self, name: &str, value: &T) -> Self {
        if *value == T::default() { self } else { self.with(&Self::new().with(name).with(value)) }
    }
}

/// A choice that carries something: a map from its word to that.
pub(super) fn variant(to: &mut Vec<u8>, word: &str, carries: &impl Canonical) {
    written(encode::write_map_len(to, 1));
    word.write(to);
    carries.write(to);
}

impl Canonical for Values {
    fn write(&self, to: &mut Vec<u8>) {
        written(encode::write_array_len(to, self.count));
        to.extend_from_slice(&self.bytes);
    }
}

impl Canonical for str {
    fn write(&self, to: &mut Vec<u8>) {
        written(encode::write_str(to, self));
    }
}

impl Canonical for String {
    fn write(&self, to: &mut Vec<u8>) {
        self.as_str().write(to);
    }
}

impl Canonical for bool {
    fn write(&self, to: &mut Vec<u8>) {
        written(encode::write_bool(to, *self));
    }
}

impl Canonical for u64 {
    fn write(&self, to: &mut Vec<u8>) {
        written(encode::write_uint(to, *self));
    }
}

impl Canonical for u32 {
    fn write(&self, to: &mut Vec<u8>) {
        u64::from(*self).write(to);
    }
}

impl Canonical for i64 {
    fn write(&self, to: &mut Vec<u8>) {
        written(encode::write_sint(to, *self));
    }
}

impl Canonical for Bytes {
    fn write(&self, to: &mut Vec<u8>) {
        written(encode::write_bin(to, self));
    }
}

impl<T: Canonical> Canonical for Option<T> {
    fn write(&self, to: &mut Vec<u8>) {
        match self {
            Some(value) => value.write(to),
            None => written(encode::write_nil(to)),
        }
    }
}

/// In the order of the names.
impl Canonical for BTreeMap<String, String> {
    fn write(&self, to: &mut Vec<u8>) {
        written(encode::write_map_len(to, u32::try_from(self.len()).unwrap_or(u32::MAX)));
        for (name, value) in self {
            name.write(to);
            value.write(to);
        }
    }
}

impl Canonical for Revision {
    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
    }
}

impl Canonical for Position {
    fn write(&self, to: &mut Vec<u8>) {
        self.0.write(to);
    }
}

/// In milliseconds since the Unix epoch.
impl Canonical for Timestamp {
    fn write(&self, to: &mut Vec<u8>) {
        self.millis().write(to);
    }
}

impl Canonical for AgentName {
    fn write(&self, to: &mut Vec<u8>) {
        self.as_str().write(to);
    }
}

impl Canonical for RunId {
    fn write(&self, to: &mut Vec<u8>) {
        self.to_string().write(to);
    }
}

impl Canonical for Payload {
    fn write(&self, to: &mut Vec<u8>) {
        Values::new().with(&self.content_type).with(&self.bytes).write(to);
    }
}

fn written<T, E: std::fmt::Debug>(done: Result<T, E>) {
    done.expect("a vector takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(flag: bool, note: &str) -> Request {
        let list = Values::new().with("k").with(&7_u32).later("flag", &flag).later("note", &note.to_owned());
        Request::new("x", &list)
    }

    #[test]
    fn a_value_that_came_later_changes_only_requests_that_use_it() {
        assert_eq!(request(false, ""), Request::new("x", &Values::new().with("k").with(&7_u32)));
        assert_eq!(request(false, "").bytes(), b"\x81\xa1x\x92\xa1k\x07");
        assert_eq!(request(true, "").bytes(), b"\x81\xa1x\x93\xa1k\x07\x92\xa4flag\xc3");
        let all = [request(false, ""), request(true, ""), request(false, "a"), request(true, "a")];
        for (place, one) in all.iter().enumerate() {
            assert!(!all[..place].contains(one), "each says something else");
        }
    }
}
