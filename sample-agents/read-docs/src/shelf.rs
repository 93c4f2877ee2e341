//! What is remembered of each document, in the agent's memory, and how it becomes what is wanted.

use std::collections::{BTreeMap, BTreeSet};

use ltmc::memory::{self, Scope, Store};
use ltmc::{Error, graph, recall};
use serde::{Deserialize, Serialize};

use crate::plan::{Plan, Wanted, below};

/// The keys of documents begin with this.
const PREFIX: &str = "file/";
/// Documents whose state is fetched at once.
const PAGE: u32 = 20;
/// How a document and its sections are related.
const HAS_SECTION: &str = "has-section";
/// How what has a link and what it leads to are related.
const LINKS_TO: &str = "links-to";
/// Tells these notes from those of other agents.
const KIND: (&str, &str) = ("kind", "section");

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) unchanged: usize,
    pub(crate) forgotten: usize,
}

/// What is remembered.
pub(crate) struct Shelf {
    store: Store,
    kept: BTreeMap<String, Kept>,
}

/// What is remembered of one document.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Kept {
    /// Of the content for which everything is done; none: a call was at it, and did not come to its end.
    hash: Option<String>,
    sections: BTreeSet<String>,
    links: BTreeSet<(String, String)>,
}

impl Shelf {
    pub(crate) fn open() -> Result<Self, Error> {
        let store = memory::open(Scope::Agent)?;
        let mut kept = BTreeMap::new();
        let mut cursor = None;
        loop {
            let page = store.page(PREFIX, cursor.as_deref(), PAGE)?;
            for entry in page.entries {
                let file = entry.key.strip_prefix(PREFIX).unwrap_or(&entry.key).to_owned();
                kept.insert(file, entry.json()?);
            }
            cursor = page.next;
            if cursor.is_none() {
                return Ok(Self { store, kept });
            }
        }
    }

    /// Makes what is remembered what is wanted.
    pub(crate) fn make_up(&self, plan: &Plan) -> Result<Done, Error> {
        let mut done = Done::default();
        let gone = |file: &&String| !plan.documents.contains_key(*file) && !below(&plan.unreadable, file);
        for file in self.kept.keys().filter(gone) {
            done.forgotten += self.document(file, &Wanted::default())?.unwrap_or_default();
            self.store.delete(&key(file))?;
        }
        for (file, wanted) in &plan.documents {
            match self.document(file, wanted)? {
                Some(forgotten) => done.forgotten += forgotten,
                None => done.unchanged += 1,
            }
        }
        Ok(done)
    }

    /// Sees to one document; how many of its sections were forgotten, none where there was nothing to do.
    fn document(&self, file: &str, wanted: &Wanted) -> Result<Option<usize>, Error> {
        let now = Kept {
            hash: Some(wanted.hash.clone()),
            sections: wanted.notes.iter().map(|note| note.id.clone()).collect(),
            links: wanted.links.clone(),
        };
        let kept = self.kept.get(file).cloned().unwrap_or_default();
        if kept == now {
            return Ok(None);
        }
        let between = Kept {
            hash: None,
            sections: kept.sections.union(&now.sections).cloned().collect(),
            links: kept.links.union(&now.links).cloned().collect(),
        };
        self.store.put_json(&key(file), &between)?;
        for (from, to) in kept.links.difference(&now.links) {
            graph::unrelate(from, LINKS_TO, to)?;
        }
        let mut forgotten = 0;
        for section in kept.sections.difference(&now.sections) {
            graph::unrelate(file, HAS_SECTION, section)?;
            forgotten += usize::from(recall::forget(section)?);
        }
        // A call that was ended in the middle may have listed what it did not come to do.
        let sure = kept.hash.is_some();
        if kept.hash != now.hash {
            for note in &wanted.notes {
                let line = note.line.to_string();
                let metadata = [KIND, ("file", file), ("heading", note.heading.as_str()), ("line", line.as_str())];
                recall::remember_with(&note.id, &note.text, &metadata)?;
                if !(sure && kept.sections.contains(&note.id)) {
                    graph::relate(file, HAS_SECTION, &note.id)?;
                }
            }
            ltmc::debug!(sections = wanted.notes.len(), forgotten = forgotten; "{file}");
        }
        for link in now.links.iter().filter(|link| !(sure && kept.links.contains(*link))) {
            graph::relate(&link.0, LINKS_TO, &link.1)?;
        }
        self.store.put_json(&key(file), &now)?;
        Ok(Some(forgotten))
    }
}

fn key(file: &str) -> String {
    format!("{PREFIX}{file}")
}
