//! What somebody kept of the chains outside of the record, looked for along the walk: hashes of entries, and heads with their places.

use std::collections::{BTreeMap, BTreeSet};

use ltmc_model::chain::{Chain, Link};
use ltmc_model::{RunId, Seq, TenantId, Timestamp};
use ltmc_ports::journal::{Audit, Damage, Kept};
use rusqlite::Connection;

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
    /// The records that the heads are of.
    records: BTreeMap<String, Timestamp>,
}

impl Wanted {
    pub(super) fn new(kept: &Kept) -> Self {
        let mut wanted =
            Self { since: kept.since.iter().copied().collect(), heads: BTreeMap::new(), records: BTreeMap::new() };
        for anchors in &kept.anchors {
            wanted.records.insert(anchors.record.clone(), anchors.at);
            for head in &anchors.heads {
                let of = wanted.heads.entry(head.tenant.clone()).or_default();
                of.entry((head.length, head.hash)).or_insert(anchors.at);
            }
        }
        wanted
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
    pub(super) fn finish(self, snapshot: &Connection, audit: &mut Audit) -> Result<(), Error> {
        let id = found(snapshot, "select value from meta where key = 'id'", [])?.map(id_text);
        let mut damage =
            |tenant, what| audit.damage.push(Damage { tenant, run: None::<RunId>, seq: None::<Seq>, what });
        for (record, at) in self.records {
            if id.as_ref() != Some(&record) {
                let what = format!(
                    "what was kept elsewhere at {at} is of the record {record}, this is {}: another was put in its place, or these \
                     are another host's",
                    id.as_deref().unwrap_or("one without an id")
                );
                damage(TenantId::host(), what);
            }
        }
        for link in self.since {
            let what =
                format!("no entry has the hash {link} any more: entries were changed or taken away since it was kept");
            damage(TenantId::host(), what);
        }
        for (tenant, heads) in self.heads {
            let Some(((length, _), at)) = heads.last_key_value() else { continue };
            let what = format!("the tenant had {length} entries at {at}, as was kept elsewhere, and is gone");
            damage(tenant, what);
        }
        Ok(())
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
