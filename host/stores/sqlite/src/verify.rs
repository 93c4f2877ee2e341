//! The walk along every tenant's chain: each entry's bytes are hashed anew and held against the hash that stands with
//! them, and the last one against the chain's end. What the ledgers' acts add up to is held against the catalog, and each run's
//! row against the end of its journal. It sees the record as it was when the walk began, so that a host may go on writing
//! beside it.
//!
//! - [`kept`]: what somebody kept of the chains elsewhere; [`context`]: memory, notes, facts, mailboxes and idempotency keys against what the
//!   chain commits to; [`log`]: the log of changes, likewise; [`runs`]: rows of runs against their journals; [`snapshots`]: what is kept of
//!   runs' states, likewise; [`counts`]: what is counted against the rows

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ltmc_model::chain::{Chain, Link};
use ltmc_model::journal::{Change, Entry, Event};
use ltmc_model::{Digest, RunId, Seq, TenantId, Timestamp};
use ltmc_ports::journal::{Audit, Damage, Head, Kept};
use rusqlite::types::Value;
use rusqlite::{Connection, Row};

use crate::bind::{all, number, run_id, tenant};
use crate::error::{Error, wrong};
use crate::{acts, frames, open, purge};

mod context;
mod counts;
mod kept;
mod log;
mod runs;
mod snapshots;

use context::Committed;
use kept::{Heads, Wanted};
use log::Logged;

/// The catalog: what the ledgers' acts add up to.
const CATALOG: [&str; 10] = [
    "tenants",
    "ceilings",
    "keys",
    "agents",
    "grants",
    "workflows",
    "schedules",
    "sessions",
    "session_archives",
    "triggers",
];
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
    let mut walk =
        Walk { wanted, deleted, catalog: Replayed::new()?, chains: BTreeMap::new(), logged, is_known, now: kept.now };
    walk.entries(&snapshot, &mut audit)?;
    walk.ends(&snapshot, &mut audit)?;
    walk.wanted.finish(&mut audit);
    // A chain that is broken says nothing of what it added up to.
    if audit.damage.is_empty() && is_known {
        walk.catalog.compare(&snapshot, &mut audit)?;
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
    catalog: Replayed,
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
                && let Err((run, seq, what)) = self.row(&tenant, chain, &mut walked, row, audit)?
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
        tenant: &TenantId,
        mut chain: Chain,
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
            if run == RunId::ledger() {
                self.catalog.perform(tenant, bytes)?;
            }
            walked.committed.saw(chain.length, (run, seq), bytes);
            audit.verified += 1;
            seq = seq.next();
        }
        if seq.0 != last + 1 {
            return broken(seq, "the entry is missing");
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
            logged.finish(&tenant(name).unwrap_or_else(|_| TenantId::host()), true, audit);
        }
        Ok(())
    }
}

/// The catalog made anew from the ledgers, by what the writer performs acts by.
struct Replayed {
    db: Connection,
    /// Agents whose grants were set while these were a name's: what such an act made of later versions it does not say.
    unsaid: BTreeSet<(String, String)>,
}

impl Replayed {
    fn new() -> Result<Self, Error> {
        Ok(Self { db: open::in_memory()?, unsaid: BTreeSet::new() })
    }

    fn perform(&mut self, tenant: &TenantId, bytes: &[u8]) -> Result<(), Error> {
        let Ok(Entry { at, event: Event::Act(act) }) = Entry::from_bytes(bytes) else { return Ok(()) };
        match &act.change {
            Change::GrantsSet { agent, carry: None, .. } => {
                self.unsaid.insert((tenant.to_string(), agent.to_string()));
            }
            Change::AgentDeleted { name } => {
                self.unsaid.remove(&(tenant.to_string(), name.to_string()));
            }
            _ => {}
        }
        Ok(acts::perform(&self.db, tenant, at, &act)?)
    }

    fn compare(&self, snapshot: &Connection, audit: &mut Audit) -> Result<(), Error> {
        for table in CATALOG {
            let (mut there, said) = (rows(snapshot, table)?, rows(&self.db, table)?);
            let mut differing = Vec::new();
            for (place, row) in said {
                match there.remove(&place) {
                    Some(found) if found == row => {}
                    Some(_) => differing.push((place, "is not what the ledger says")),
                    None => differing.push((place, "is missing, and is in the ledger")),
                }
            }
            differing.extend(there.into_keys().map(|place| (place, "is in no act of the ledger")));
            differing.retain(|((tenant, agent), _)| {
                table != "grants"
                    || !self.unsaid.contains(&(tenant.clone(), agent.split(' ').next().unwrap_or_default().into()))
            });
            let more = differing.len().saturating_sub(MOST_ROWS);
            for ((of, name), what) in differing.into_iter().take(MOST_ROWS) {
                let what = format!("in `{table}`, `{}` {what}", if name.is_empty() { &of } else { &name });
                let tenant = tenant(of).unwrap_or_else(|_| TenantId::host());
                audit.damage.push(Damage { tenant: Some(tenant), run: Some(RunId::ledger()), seq: None, what });
            }
            if more > 0 {
                let what = format!("in `{table}`, {more} more rows are not what the ledger says");
                audit.damage.push(Damage {
                    tenant: Some(TenantId::host()),
                    run: Some(RunId::ledger()),
                    seq: None,
                    what,
                });
            }
        }
        Ok(())
    }
}

/// A table's rows by whose they are and what names them.
fn rows(db: &Connection, table: &str) -> Result<BTreeMap<(String, String), Vec<Value>>, Error> {
    let place = match table {
        "tenants" => "name, ''",
        "ceilings" => "tenant, ''",
        "keys" => "tenant, id",
        "agents" => "tenant, name || ' sha256:' || lower(hex(digest))",
        "grants" => "tenant, agent || ' sha256:' || lower(hex(digest))",
        "sessions" | "session_archives" | "triggers" => "tenant, id",
        "schedules" => "tenant, workflow || '/' || number",
        _ => "tenant, name",
    };
    // What became of a schedule's ticks, of a session's turns, and of events is in no act.
    let said = match table {
        "sessions" => "by_key, opened_at, settings, memory",
        "triggers" => "digest, settings, by_key, paused_at, paused_by, paused_why",
        "schedules" => "digest, timing, by_key, paused_at, paused_by, paused_why",
        _ => "*",
    };
    let sql = format!("select {place}, {said} from {table}");
    let read = |row: &Row<'_>| {
        let values = (2..row.as_ref().column_count()).map(|column| row.get(column)).collect::<Result<_, _>>()?;
        Ok(((row.get(0)?, row.get(1)?), values))
    };
    Ok(all(db, &sql, [], read)?.into_iter().collect())
}
