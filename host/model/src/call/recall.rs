//! The interface `ltmc:agent/recall`: notes that are found by their meaning.

use super::HostCall;
use super::form::{Request, Values};
use crate::Revision;
use crate::capability::Capability;
use crate::recall::{Hits, Metadata};

interface! {
    /// Calls on recall.
    Recall: RecallCall { Remember, Forget, Search }
}

/// `recall.remember`: keeps a note under an id, in the place of what was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remember {
    /// The note's id.
    pub id: String,
    /// Its text.
    pub text: String,
    /// What else is known of it.
    pub metadata: Metadata,
}

impl HostCall for Remember {
    type Reply = Revision;
    const NAME: &'static str = "recall.remember";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::RecallWrite]
    }

    fn about(&self) -> String {
        format!("{} ({} bytes)", self.id, self.text.len())
    }

    fn request(&self) -> Request {
        Request::new("recall-remember", &Values::new().with(&self.id).with(&self.text).with(&self.metadata))
    }
}

/// `recall.forget`: answers whether there was such a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forget {
    /// The note's id.
    pub id: String,
}

impl HostCall for Forget {
    type Reply = bool;
    const NAME: &'static str = "recall.forget";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::RecallWrite]
    }

    fn about(&self) -> String {
        self.id.clone()
    }

    fn request(&self) -> Request {
        Request::new("recall-forget", &Values::new().with(&self.id))
    }
}

/// `recall.search`: notes by what they mean, the nearest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// What is asked.
    pub query: String,
    /// Only notes that have all of these.
    pub filter: Metadata,
    /// At most so many, 1 to [`crate::recall::MAX_HITS`].
    pub limit: u32,
}

impl HostCall for Search {
    type Reply = Hits;
    const NAME: &'static str = "recall.search";
    const CHANGES: bool = false;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::RecallRead]
    }

    fn about(&self) -> String {
        self.query.clone()
    }

    fn request(&self) -> Request {
        Request::new("recall-search", &Values::new().with(&self.query).with(&self.filter).with(&self.limit))
    }
}
