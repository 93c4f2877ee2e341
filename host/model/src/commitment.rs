//! Commitments: what a change leaves in its place in shared context, as hashes that stand in the chain with the entry by which it becomes true.
//! What stands in the tables can so be held against the chain, which has no values of clients' changes.
//!
//! Invariants: pure, and fixed for ever: what one version committed to, every later one checks. Of messages in mailboxes the message itself is
//! committed to, not in whose hands it is. Events of topics are, and are missed by nobody: they are thrown away by their age. Marks of runs are not.

use sha2::{Digest as _, Sha256};

use crate::delta::{Delta, FactEnd, MemoryChange};
use crate::graph::Fact;
use crate::memory::Drawer;
use crate::message::Channel;
use crate::{Digest, Revision, RunId, Timestamp};

/// Names a place: of a key, a note, a fact, the end of a fact, a message, an event, or what a client's idempotency key stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(pub [u8; 16]);

/// What is left in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Commitment {
    /// The place in shared context that was changed.
    pub place: Place,
    /// Of what stands there; none: nothing does any more.
    pub content: Option<Digest>,
    /// From when on it is thrown away without an entry; none: never.
    pub ends_at: Option<Timestamp>,
}

/// What a hash is made of: texts with their lengths, numbers in eight bytes.
struct Form(Sha256);

impl Form {
    fn of(kind: &str) -> Self {
        Self(Sha256::new()).text(kind.as_bytes())
    }

    fn text(mut self, bytes: &[u8]) -> Self {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    fn number(mut self, number: u64) -> Self {
        self.0.update(number.to_be_bytes());
        self
    }

    fn time(self, at: Option<Timestamp>) -> Self {
        self.number(at.map_or(0, |at| at.millis().saturating_add(1)))
    }

    fn digest(self) -> Digest {
        Digest(self.0.finalize().into())
    }

    fn place(self) -> Place {
        let digest = self.digest().0;
        let mut place = [0; 16];
        place.copy_from_slice(&digest[..16]);
        Place(place)
    }
}

/// A key's place.
pub fn memory_place(drawer: &Drawer, key: &str) -> Place {
    let (scope, owner) = (drawer.scope().as_str(), drawer.owner());
    Form::of("memory").text(scope.as_bytes()).text(owner.as_bytes()).text(key.as_bytes()).place()
}

/// What a key holds.
pub fn memory(revision: Revision, expires_at: Option<Timestamp>, value: &[u8]) -> Digest {
    Form::of("value").number(revision.0).time(expires_at).text(value).digest()
}

/// A note's place.
pub fn note_place(id: &str) -> Place {
    Form::of("note").text(id.as_bytes()).place()
}

/// A note; its metadata as JSON of a sorted map.
pub fn note(revision: Revision, kept_at: Timestamp, metadata: &str, text: &[u8]) -> Digest {
    Form::of("text").number(revision.0).number(kept_at.millis()).text(metadata.as_bytes()).text(text).digest()
}

/// A fact's place.
pub fn fact_place(id: Revision) -> Place {
    Form::of("fact").number(id.0).place()
}

/// What of a fact stays as it began.
pub fn fact(fact: &Fact) -> Digest {
    Form::of("began")
        .text(fact.subject.as_str().as_bytes())
        .text(fact.relation.as_str().as_bytes())
        .text(fact.object.as_str().as_bytes())
        .text(fact.properties.as_bytes())
        .number(fact.valid_from.millis())
        .number(fact.recorded_at.millis())
        .digest()
}

/// The place of a fact's end.
pub fn fact_end_place(id: Revision) -> Place {
    Form::of("fact-end").number(id.0).place()
}

/// A fact's end; none: it holds.
pub fn fact_end(valid_to: Option<Timestamp>, ended_at: Option<Timestamp>) -> Option<Digest> {
    (valid_to.is_some() || ended_at.is_some()).then(|| Form::of("ended").time(valid_to).time(ended_at).digest())
}

/// A message's place.
pub fn mail_place(id: Revision) -> Place {
    Form::of("mail").number(id.0).place()
}

/// A message: to whom it was sent, and its event in the bytes that it is kept in.
pub fn mail(agent: &str, event: &[u8]) -> Digest {
    Form::of("message").text(agent.as_bytes()).text(event).digest()
}

/// The place of an event of a topic.
pub fn event_place(id: Revision) -> Place {
    Form::of("topic-event").number(id.0).place()
}

/// An event of a topic: where it was published, and the event in the bytes that it is kept in.
pub fn event(topic: &str, event: &[u8]) -> Digest {
    Form::of("event").text(topic.as_bytes()).text(event).digest()
}

/// From when on what is thrown away by its age may be gone: at any time.
const BY_AGE: Timestamp = Timestamp::from_millis(1);

/// The place of a client's idempotency key.
pub fn asked_place(key: &str) -> Place {
    Form::of("asked").text(key.as_bytes()).place()
}

/// What an idempotency key stands for.
pub fn asked(request: &Digest, run: RunId, expires_at: Timestamp) -> Digest {
    Form::of("request").text(&request.0).text(run.0.as_bytes()).number(expires_at.millis()).digest()
}

impl Commitment {
    /// What a client's idempotency key leaves.
    pub fn of_key(key: &str, request: &Digest, run: RunId, expires_at: Timestamp) -> Self {
        Self { place: asked_place(key), content: Some(asked(request, run, expires_at)), ends_at: Some(expires_at) }
    }

    /// What a change leaves.
    pub fn of(delta: &Delta) -> Vec<Self> {
        let put = |place, content| Self { place, content: Some(content), ends_at: None };
        let gone = |place| Self { place, content: None, ends_at: None };
        match delta {
            Delta::Memory(MemoryChange { drawer, key, revision, value, trail: _ }) => {
                let place = memory_place(drawer, key);
                let Some(value) = value else { return vec![gone(place)] };
                let content = memory(*revision, value.expires_at, &value.bytes);
                vec![Self { place, content: Some(content), ends_at: value.expires_at }]
            }
            Delta::NoteKept(kept) => {
                let metadata = kept.metadata_text();
                vec![put(note_place(&kept.id), note(kept.revision, kept.kept_at, &metadata, kept.text.as_bytes()))]
            }
            Delta::NoteForgotten { id, .. } => vec![gone(note_place(id))],
            Delta::FactBegan(began) => {
                let end = fact_end(began.valid_to, began.ended_at).map(|end| put(fact_end_place(began.id), end));
                std::iter::once(put(fact_place(began.id), fact(began))).chain(end).collect()
            }
            Delta::FactEnded(FactEnd { id, valid_to, ended_at, .. }) => fact_end(Some(*valid_to), Some(*ended_at))
                .map(|end| put(fact_end_place(*id), end))
                .into_iter()
                .collect(),
            Delta::Sent(message) => match &message.channel {
                Channel::Mailbox(agent) => {
                    vec![put(mail_place(message.id), mail(agent.as_str(), &message.event.to_bytes()))]
                }
                Channel::Topic(topic) => {
                    let content = event(topic.as_str(), &message.event.to_bytes());
                    vec![Self { place: event_place(message.id), content: Some(content), ends_at: Some(BY_AGE) }]
                }
            },
            Delta::Processed { message, .. } => vec![gone(mail_place(*message))],
            Delta::Taken { .. }
            | Delta::Buried { .. }
            | Delta::Revived { .. }
            | Delta::Released { .. }
            | Delta::Run(_) => Vec::new(),
        }
    }

    /// How many bytes one has where it is kept.
    pub(crate) const BYTES: usize = 16 + 32 + 8;

    /// Several, as they stand in an entry: place, content (zeros: nothing), and when it ends (0: never).
    pub fn to_bytes(several: &[Self]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(several.len() * Self::BYTES);
        for one in several {
            bytes.extend(one.place.0);
            bytes.extend(one.content.map_or([0; 32], |content| content.0));
            bytes.extend(one.ends_at.map_or(0, Timestamp::millis).to_be_bytes());
        }
        bytes
    }

    /// The same, read back; what does not fit is left out.
    pub fn from_bytes(bytes: &[u8]) -> impl Iterator<Item = Self> {
        bytes.chunks_exact(Self::BYTES).map(|one| {
            let (mut place, mut content, mut ends) = ([0; 16], [0; 32], [0; 8]);
            place.copy_from_slice(&one[..16]);
            content.copy_from_slice(&one[16..48]);
            ends.copy_from_slice(&one[48..]);
            let ends_at = Some(u64::from_be_bytes(ends)).filter(|ends| *ends > 0).map(Timestamp::from_millis);
            let content = Some(Digest(content)).filter(|content| content.0 != [0; 32]);
            Self { place: Place(place), content, ends_at }
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::delta::MemoryValue;

    fn change(key: &str, revision: u64, value: Option<&str>, expires_at: Option<u64>) -> Delta {
        let expires_at = expires_at.map(Timestamp::from_millis);
        let value = value.map(|value| MemoryValue { bytes: Bytes::copy_from_slice(value.as_bytes()), expires_at });
        Delta::Memory(MemoryChange {
            drawer: Drawer::Global,
            key: key.to_owned(),
            revision: Revision(revision),
            value,
            trail: None,
        })
    }

    #[test]
    fn everything_that_a_key_holds_shows() {
        let of = |delta: &Delta| Commitment::of(delta)[0];
        let right = of(&change("k", 1, Some("v"), None));
        assert_eq!(of(&change("k", 1, Some("v"), None)), right);
        for (other, same_place) in [
            (change("k", 2, Some("v"), None), true),
            (change("k", 1, Some("w"), None), true),
            (change("k", 1, Some("v"), Some(0)), true),
            (change("k", 1, None, None), true),
            (change("l", 1, Some("v"), None), false),
        ] {
            let other = of(&other);
            assert_ne!(other, right);
            assert_eq!(other.place == right.place, same_place);
        }
    }

    #[test]
    fn commitments_read_back_and_are_fixed_for_ever() {
        let several: Vec<Commitment> = [
            change("k", 7, Some("v"), Some(1_000)),
            change("k", 8, None, None),
            Delta::NoteForgotten { id: "n".to_owned(), revision: Revision(9) },
        ]
        .iter()
        .flat_map(Commitment::of)
        .collect();
        let bytes = Commitment::to_bytes(&several);
        assert_eq!(Commitment::from_bytes(&bytes).collect::<Vec<_>>(), several);
        // Computed apart, from what the module says.
        assert_eq!(
            Digest::of(&bytes).to_string(),
            "sha256:8e5ccefe68c6fb5dd3de873296c98cb24e63303c1a620efd45a202ddd0bf7a90"
        );
    }
}
