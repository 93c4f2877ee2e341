//! The hash chain that makes a changed record show: every entry's hash covers the one before it in its tenant's chain.
//!
//! Invariants: pure, and fixed for ever: what one version linked, every later one verifies. One chain per tenant (the
//! operator's acts have the host's own), in the order in which its entries were recorded, over all of its runs.

use sha2::{Digest as _, Sha256};

use crate::{Digest, RunId, Seq, TenantId, Timestamp};

/// An entry's hash: SHA-256 over the hash before it, its place, and the digest of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Link(pub [u8; 32]);

impl Link {
    /// What stands before a chain's first entry.
    pub const START: Self = Self([0; 32]);
}

/// A chain's end: what the next entry is linked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// How many entries it has.
    pub length: u64,
    /// The last one's hash.
    pub head: Link,
}

impl Default for Chain {
    fn default() -> Self {
        Self { length: 0, head: Link::START }
    }
}

impl Chain {
    /// Links the next entry: `digest` is that of its bytes as they are kept. The bytes themselves are hashed by whoever
    /// has them at hand, so that a chain's one writer never waits for a large one.
    pub fn link(&mut self, tenant: &TenantId, run: RunId, seq: Seq, digest: &Digest) -> Link {
        let mut hash = Sha256::new();
        hash.update(self.head.0);
        hash.update(run.0.as_bytes());
        hash.update(seq.0.to_be_bytes());
        hash.update(digest.0);
        // Last, because it alone has no fixed length.
        hash.update(tenant.as_str());
        self.head = Link(hash.finalize().into());
        self.length += 1;
        self.head
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl std::str::FromStr for Link {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut hash = [0; 32];
        match hex::decode_to_slice(text, &mut hash) {
            Ok(()) => Ok(Self(hash)),
            Err(_) => Err("an entry's hash is 64 hexadecimal digits, as `ltmc audit verify` prints them".to_owned()),
        }
    }
}

impl serde::Serialize for Link {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Link {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'_, str>>::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How a tenant's chain ends, or ended.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Head {
    /// The tenant whose chain it is.
    #[serde(deserialize_with = "recorded")]
    pub tenant: TenantId,
    /// How many entries it has.
    pub length: u64,
    /// The last one's hash.
    pub hash: Link,
}

fn recorded<'de, D: serde::Deserializer<'de>>(from: D) -> Result<TenantId, D::Error> {
    let text = <std::borrow::Cow<'_, str> as serde::Deserialize>::deserialize(from)?;
    TenantId::recorded(&text).map_err(serde::de::Error::custom)
}

/// How chains ended at a time: what is kept outside of the record, so that a record that was put back to an earlier state shows. As JSON it is
/// one line of a file of them, and the body that a webhook is sent.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Anchors {
    /// When the chains ended so.
    pub at: Timestamp,
    /// Of which record: the id that it has had since it was made.
    pub record: String,
    /// Of those tenants whose chain had grown.
    pub heads: Vec<Head>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    #[test]
    fn every_part_of_an_entry_and_all_that_came_before_it_shows() {
        let (run, other) = (RunId::ledger(), RunId::new(crate::Timestamp::from_millis(1), [1; 10]));
        let bytes = Digest::of(b"bytes");
        let before = {
            let mut chain = Chain::default();
            chain.link(&tenant("a"), run, Seq(1), &bytes);
            chain
        };
        let after =
            |mut chain: Chain, name: &str, run, seq, digest: &Digest| chain.link(&tenant(name), run, seq, digest);
        let right = after(before, "a", run, Seq(2), &bytes);
        assert_eq!(right, after(before, "a", run, Seq(2), &bytes));
        for wrong in [
            after(Chain::default(), "a", run, Seq(2), &bytes),
            after(before, "b", run, Seq(2), &bytes),
            after(before, "a", other, Seq(2), &bytes),
            after(before, "a", run, Seq(3), &bytes),
            after(before, "a", run, Seq(2), &Digest::of(b"Bytes")),
        ] {
            assert_ne!(right, wrong);
        }
    }

    #[test]
    fn anchors_read_back_from_the_line_that_they_are() {
        let head = |tenant, length| Head { tenant, length, hash: Link([7; 32]) };
        let heads = vec![head(TenantId::host(), 3), head(tenant("a"), 4)];
        let anchors = Anchors { at: Timestamp::from_millis(5), record: "00ff".to_owned(), heads };
        let line = serde_json::to_string(&anchors).unwrap();
        assert!(line.starts_with(
            r#"{"at":"1970-01-01T00:00:00.005Z","record":"00ff","heads":[{"tenant":"_host","length":3,"hash":"0707"#
        ));
        assert_eq!(serde_json::from_str::<Anchors>(&line).unwrap(), anchors);
        assert!(serde_json::from_str::<Anchors>(&line.replace("\"0707", "\"x707")).is_err());
    }

    #[test]
    fn a_chain_is_fixed_for_ever() {
        let mut chain = Chain::default();
        let link = chain.link(&tenant("a"), RunId::ledger(), Seq(1), &Digest::of(b""));
        assert_eq!(format!("{link:?}"), "8321649628cde3b5867c3a8f3e2341addc390f4ffa1a1722ded136d0ba2ee9cc");
        assert_eq!(chain.length, 1);
    }
}
