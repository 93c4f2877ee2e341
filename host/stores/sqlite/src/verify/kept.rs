//! What somebody kept of the chains outside of the record, looked for along the walk: hashes of entries, and heads with their places.

use std::collections::{BTreeMap, BTreeSet};

use ltmc_model::chain::{Chain, Link};
use ltmc_model::{RunId, Seq, TenantId, Timestamp};
use ltmc_ports::journal::{Audit, Damage, Kept};
use rusqlite::Connection;

use super::Deleted;
use crate::bind::found;
use crate::error::Error;
use crate::open::id_text;

/// Of a tenant's heads the place and the hash, and when it was the head.
type Places = BTreeMap<(u64, Link), Timestamp>;

/// What is still to be found.
pub(super) struct Wanted {
    since: BTreeSet<Link>,
    /// Of tenants whose chains were not walked yet.
    heads: BTreeMap<TenantId, Places>,
    /// This record's id, and others in whose place it is, with when the last of theirs was kept.
    instead: (Option<String>, BTreeMap<String, Timestamp>),
}

impl Wanted {
    /// And how many lines are of other records beside it: those are not looked for.
    pub(super) fn new(
        kept: &Kept,
        snapshot: &Connection,
        deleted: &Deleted,
    ) -> Result<(Self, BTreeMap<String, u64>), Error> {
        let id = found(snapshot, "select value from meta where key = 'id'", [])?.map(id_text);
        let since = kept.since.iter().copied().collect();
        let (own, foreign): (Vec<_>, Vec<_>) =
            kept.anchors.iter().partition(|anchors| id.as_ref() == Some(&anchors.record));
        let (mut others, mut last) = (BTreeMap::new(), BTreeMap::<String, Timestamp>::new());
        for anchors in &foreign {
            *others.entry(anchors.record.clone()).or_default() += 1;
            let last = last.entry(anchors.record.clone()).or_default();
            *last = anchors.at.max(*last);
        }
        // Of hosts that share a file each goes on beside the others. One that was there before this one, and not since, has made way.
        let first = own.iter().map(|anchors| anchors.at).min();
        last.retain(|_, last| first.is_none_or(|first| *last < first));
        others.retain(|record, _| !last.contains_key(record));
        let mut wanted = Self { since, heads: BTreeMap::new(), instead: (id, last) };
        for anchors in own {
            for head in anchors.heads.iter().filter(|head| !deleted.covers(&head.tenant, anchors.at)) {
                let of = wanted.heads.entry(head.tenant.clone()).or_default();
                of.entry((head.length, head.hash)).or_insert(anchors.at);
            }
        }
        Ok((wanted, others))
    }

    /// How many heads there are to be found.
    pub(super) fn heads(&self) -> u64 {
        self.heads.values().map(|heads| heads.len() as u64).sum()
    }

    /// An entry with this hash is there.
    pub(super) fn saw(&mut self, link: &Link) {
        self.since.remove(link);
    }

    /// The heads of a tenant whose chain is walked now.
    pub(super) fn take(&mut self, tenant: &TenantId) -> Heads {
        Heads(self.heads.remove(tenant).unwrap_or_default())
    }

    /// What was found nowhere.
    pub(super) fn finish(self, audit: &mut Audit) {
        let mut damage =
            |tenant, what| audit.damage.push(Damage { tenant, run: None::<RunId>, seq: None::<Seq>, what });
        let (id, records) = self.instead;
        for (record, at) in records {
            let what = format!(
                "what was kept elsewhere up to {at} is of the record {record}, and nothing since: this is {}, which was put in its place, \
                 or that one's host wrote there before and does not any more",
                id.as_deref().unwrap_or("one without an id")
            );
            damage(None, what);
        }
        for link in self.since {
            let what = format!(
                "no entry has the hash {link}: entries were changed or taken away since it was kept, or it was never in this record"
            );
            damage(None, what);
        }
        for (tenant, heads) in self.heads {
            let Some(((length, _), at)) = heads.last_key_value() else { continue };
            let what = format!("the tenant had {length} entries at {at}, as was kept elsewhere, and is gone");
            damage(Some(tenant), what);
        }
    }
}

/// A tenant's heads that are still to be found in its chain.
#[derive(Default)]
pub(super) struct Heads(Places);

impl Heads {
    /// The walk has come to an entry. What is wrong with its place; only the first that is wrong is told.
    pub(super) fn saw(&mut self, chain: &Chain) -> Option<String> {
        let mut wrong = None;
        while let Some(first) = self.0.first_entry()
            && first.key().0 <= chain.length
        {
            let ((length, hash), at) = first.remove_entry();
            if (length, hash) != (chain.length, chain.head) {
                wrong.get_or_insert_with(|| {
                    format!(
                        "entry {length} of the chain had the hash {hash} at {at}, as was kept elsewhere: it, or entries before it, \
                         were changed since"
                    )
                });
            }
        }
        if wrong.is_some() {
            self.0.clear();
        }
        wrong
    }

    /// The chain ends here. What is wrong with that.
    pub(super) fn ended(self, chain: &Chain) -> Option<String> {
        let ((length, hash), at) = self.0.into_iter().next_back()?;
        Some(format!(
            "the chain had {length} entries at {at}, the last with the hash {hash}, as was kept elsewhere, and has {} now: the record \
             was put back to an earlier state, or the last entries were taken away",
            chain.length
        ))
    }
}
