//! The walk along every tenant's chain: each entry's bytes are hashed anew and held against the hash that stands with
//! them, and the last one against the chain's end. What the ledgers and the journals add up to is held against the tables that follow
//! them, and each run's row against its journal. It sees the record as it was when the walk began, so that a host may go on writing
//! beside it.
//!
//! - [`replayed`]: the catalog, questions, waits for events, sessions and their turns, made anew; [`keeps`]: what sessions' memory held before
//!   turns, likewise; [`context`]: memory, notes, facts, mailboxes, events of topics and idempotency keys against what the chain commits to;
//!   [`log`]: the log of changes, likewise; [`arrivals`]: events that subscriptions took in, likewise; [`runs`]: rows of runs against their journals;
//!   [`snapshots`]: what is kept of runs' states, likewise; [`counts`]: what is counted against the rows; [`kept`]: what somebody kept of the chains elsewhere
//!
//! Not compared, for nothing says what they were: in whose hands messages are, how far schedules and subscriptions came and what they have seen, what of a run's row only
//! its host writes (its times, its epoch, when it wakes), the reason of a dead letter, and vectors.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ltmc_model::chain::{Chain, Link};
use ltmc_model::journal::Entry;
use ltmc_model::{Digest, RunId, Seq, TenantId, Timestamp};
use ltmc_ports::journal::{Audit, Damage, Head, Kept};
use rusqlite::{Connection, Row};

use crate::bind::{all, number, run_id, tenant};
use crate::error::{Error, wrong};
use crate::{frames, open, purge};

mod arrivals;
mod context;
mod counts;
mod keeps;
mod kept;
mod log;
mod replayed;
mod runs;
mod snapshots;

use context::Committed;
use keeps::Keeps;
use kept::{Heads, Wanted};
use log::Logged;
use replayed::Replayed;

/// From this schema on the journal's rows are in the order in which they were written.
const IN_ORDER: i64 = 8;
/// How many rows that differ are told of each table: more say nothing more.
const MOST_ROWS: usize = 20;

/// On a connection of its own. `kept`: what somebody kept of the chains elsewhere; all of it has to stand there still.
pub(crate) fn walk(db: &Connection, kept: &Kept) -> Result<Audit, Error> {
    // One transaction of reads is one snapshot.
    let snapshot = db.unchecked_transaction()?;
    let deleted = Deleted::read(&snapshot)?;
    let (wanted, others) = Wanted::new(kept, &snapshot, &deleted)?;
    let mut audit = Audit { verified: 0, damage: Vec::new(), heads: Vec::new(), anchors: wanted.heads(), others };
    let is_known = open::schema(db)? == open::KNOWN;
    let logged = if is_known { Logged::read(&snapshot)? } else { HashMap::new() };
    let keeps = if is_known { Keeps::read(&snapshot)? } else { Keeps::default() };
    let (replayed, now) = (Replayed::new()?, kept.now);
    let mut walk = Walk { wanted, deleted, replayed, keeps, chains: BTreeMap::new(), logged, is_known, now };
    walk.entries(&snapshot, &mut audit)?;
    walk.ends(&snapshot, &mut audit)?;
    walk.wanted.finish(&mut audit);
    // A chain that is broken says nothing of what it added up to.
    if audit.damage.is_empty() && is_known {
        walk.replayed.compare(&snapshot, &walk.deleted, &mut audit)?;
        walk.keeps.compare(&snapshot, &walk.replayed, &mut audit)?;
        arrivals::compare(&snapshot, &walk.deleted, &mut audit)?;
        runs::compare(&snapshot, &walk.deleted, &mut audit)?;
        snapshots::compare(&snapshot, &walk.deleted, &mut audit)?;
    }
    // What differs is counted otherwise, too, and that says nothing more.
    if audit.damage.is_empty() && is_known {
        counts::compare(&snapshot, &walk.deleted, &mut audit)?;
    }
    Ok(audit)
}

/// Tenants that were deleted, by name: their chains say nothing.
struct Deleted {
    /// Of these something is left: as the catalog has it, which is held against the ledger.
    left: BTreeSet<String>,
    /// Of these nothing is, since then: those of the same name are others.
    gone: BTreeMap<TenantId, Timestamp>,
}

impl Deleted {
    fn read(snapshot: &Connection) -> Result<Self, Error> {
        let is_known = open::schema(snapshot)? == open::KNOWN;
        let left = if is_known { purge::deleted(snapshot)? } else { Vec::new() };
        Ok(Self { left: left.iter().map(ToString::to_string).collect(), gone: purge::gone(snapshot)? })
    }

    /// Whether what was kept of a tenant at a time is of one that was deleted since.
    fn covers(&self, tenant: &TenantId, at: Timestamp) -> bool {
        self.left.contains(tenant.as_str()) || self.gone.get(tenant).is_some_and(|gone| at <= *gone)
    }
}

struct Walk {
    wanted: Wanted,
    deleted: Deleted,
    replayed: Replayed,
    keeps: Keeps,
    /// By name, for the record may have one that is no tenant's.
    chains: BTreeMap<String, Walked>,
    /// Rows of the log, of tenants whose chains were not walked yet.
    logged: HashMap<String, Logged>,
    /// Whether the tables are as this version makes them.
    is_known: bool,
    now: Option<Timestamp>,
}

/// A tenant's chain, as far as it was walked.
struct Walked {
    /// How far it is whole; none: it is broken, and that is told.
    chain: Option<Chain>,
    heads: Heads,
    committed: Committed,
}

/// Where a chain breaks, and why.
type Broken = (Option<RunId>, Option<Seq>, String);

impl Walk {
    /// All journals, in the order in which they were written: each chain in its own.
    fn entries(&mut self, snapshot: &Connection, audit: &mut Audit) -> Result<(), Error> {
        let order = if open::schema(snapshot)? < IN_ORDER { "tenant, place" } else { "id" };
        let sql = format!("select tenant, run, first, last, place, frames from journal order by {order}");
        let mut statement = snapshot.prepare(&sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            if self.deleted.left.contains(&name) {
                continue;
            }
            let mut walked = self.taken(&name);
            // A name that is no tenant's is told where its chain ends.
            if let (Ok(tenant), Some(chain)) = (tenant(name.clone()), walked.chain)
                && let Err((run, seq, what)) = self.row(snapshot, (&tenant, chain), &mut walked, row, audit)?
            {
                audit.damage.push(Damage { tenant: Some(tenant), run, seq, what });
                walked.chain = None;
            }
            self.chains.insert(name, walked);
        }
        Ok(())
    }

    /// What was walked of a chain so far.
    fn taken(&mut self, name: &str) -> Walked {
        self.chains.remove(name).unwrap_or_else(|| Walked {
            chain: Some(Chain::default()),
            heads: tenant(name.to_owned()).map(|tenant| self.wanted.take(&tenant)).unwrap_or_default(),
            committed: Committed::of(self.logged.remove(name).unwrap_or_default()),
        })
    }

    /// One row of a journal, as its tenant's chain goes on with it; or where that breaks, and why.
    fn row(
        &mut self,
        snapshot: &Connection,
        (tenant, mut chain): (&TenantId, Chain),
        walked: &mut Walked,
        row: &Row<'_>,
        audit: &mut Audit,
    ) -> Result<Result<(), Broken>, Error> {
        let Ok(run) = row.get(1).map(run_id) else {
            return Ok(Err((None, None, "a run's id is not as it was".to_owned())));
        };
        let (first, last, place) = (number(row.get(2)?), number(row.get(3)?), number(row.get(4)?));
        let mut seq = Seq(first);
        let broken = |seq, what: &str| Ok(Err((Some(run), Some(seq), what.to_owned())));
        if place != chain.length + 1 {
            return broken(seq, "entries before this one are missing");
        }
        let mut written = Vec::new();
        for frame in frames::read(row.get_ref(5)?.as_blob().map_err(|_| wrong("a run's entries"))?) {
            let Ok((link, bytes)) = frame else {
                return broken(seq, "the entry does not end where it should");
            };
            if chain.link(tenant, run, seq, &Digest::of(bytes)) != link {
                return broken(seq, "the entry, or its hash, is not as it was");
            }
            self.wanted.saw(&link);
            if let Some(what) = walked.heads.saw(&chain) {
                audit.damage.push(Damage { tenant: Some(tenant.clone()), run: Some(run), seq: Some(seq), what });
            }
            written.push((chain.length, seq, bytes));
            audit.verified += 1;
            seq = seq.next();
        }
        if seq.0 != last + 1 {
            return broken(seq, "the entry is missing");
        }
        // As the writer does: first what entries make of the tables that follow them, then what they change of shared context.
        let entries: Vec<Entry> = written.iter().filter_map(|(.., bytes)| Entry::from_bytes(bytes).ok()).collect();
        let by = self.replayed.follow(snapshot, (tenant, run), &entries)?;
        for (place, seq, bytes) in written {
            for change in walked.committed.saw(place, (run, seq), bytes) {
                self.keeps.saw(&self.replayed, tenant, by, change)?;
            }
        }
        walked.chain = Some(chain);
        Ok(Ok(()))
    }

    /// Each chain against its end; also tenants whose end is gone while their entries are there, and the other way round.
    fn ends(&mut self, snapshot: &Connection, audit: &mut Audit) -> Result<(), Error> {
        let sql = "select tenant, length, head from chains";
        let read = |row: &Row<'_>| Ok((row.get(0)?, Chain { length: number(row.get(1)?), head: Link(row.get(2)?) }));
        let mut ends: BTreeMap<String, Chain> = all(snapshot, sql, [], read)?.into_iter().collect();
        ends.retain(|name, _| !self.deleted.left.contains(name));
        for name in ends.keys() {
            let walked = self.taken(name);
            self.chains.insert(name.clone(), walked);
        }
        for (name, walked) in std::mem::take(&mut self.chains) {
            let end = ends.remove(&name);
            let damage = |tenant, what| Damage { tenant: Some(tenant), run: None, seq: None, what };
            let Ok(tenant) = tenant(name.clone()) else {
                let what = format!("`{}` is no tenant's name", name.chars().take(80).collect::<String>());
                audit.damage.push(damage(TenantId::host(), what));
                continue;
            };
            let Some(chain) = walked.chain else { continue };
            if end != Some(chain) {
                let what = "the chain does not end where it should: its last entries are missing".to_owned();
                audit.damage.push(damage(tenant.clone(), what));
            }
            if let Some(what) = walked.heads.ended(&chain) {
                audit.damage.push(damage(tenant.clone(), what));
            }
            if self.is_known && end == Some(chain) {
                if walked.committed.is_whole() {
                    self.keeps.is_said_by(tenant.clone());
                }
                walked.committed.compare(snapshot, &tenant, self.now, audit)?;
            }
            // Who has a key and has done nothing yet has no chain.
            if chain != Chain::default() {
                audit.heads.push(Head { tenant, length: chain.length, hash: chain.head });
            }
        }
        for (name, logged) in std::mem::take(&mut self.logged) {
            if self.deleted.left.contains(&name) {
                continue;
            }
            logged.finish(&tenant(name).unwrap_or_else(|_| TenantId::host()), true, true, audit);
        }
        Ok(())
    }
}
