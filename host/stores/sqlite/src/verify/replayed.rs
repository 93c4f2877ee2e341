//! The tables that follow the ledgers and the journals of runs, made anew by what the writer makes them by, and held against those that
//! there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ltmc_model::journal::{Change, Entry, Event, RunStarted};
use ltmc_model::run::{Run, State};
use ltmc_model::{Epoch, RunId, Seq, TenantId, Timestamp};
use ltmc_ports::journal::{Audit, Damage};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Deleted, MOST_ROWS};
use crate::bind::{all, blob, tenant};
use crate::deltas::By;
use crate::error::Error;
use crate::{acts, frames, open, purge, questions, sessions, subscriptions};

/// Each table, with what says what is in it.
const TABLES: [(&str, &str); 14] = [
    ("tenants", LEDGER),
    ("ceilings", LEDGER),
    ("keys", LEDGER),
    ("agents", LEDGER),
    ("grants", LEDGER),
    ("workflows", LEDGER),
    ("schedules", LEDGER),
    ("triggers", LEDGER),
    ("session_archives", LEDGER),
    ("sessions", JOURNALS),
    ("turns", JOURNALS),
    ("session_times", JOURNALS),
    ("questions", JOURNALS),
    ("subscriptions", JOURNALS),
];
const LEDGER: &str = "the ledger";
const JOURNALS: &str = "the journals";

/// What was made anew so far.
pub(super) struct Replayed {
    pub(super) db: Connection,
    /// Runs that are turns, that ask, or that wait for events.
    runs: HashMap<(TenantId, RunId), Run>,
    /// Agents whose grants were set while these were a name's: what such an act made of later versions it does not say.
    unsaid: BTreeSet<(String, String)>,
}

impl Replayed {
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self { db: open::in_memory()?, runs: HashMap::new(), unsaid: BTreeSet::new() })
    }

    /// What the next entries of a run, or of a ledger, make of the tables; and who changes shared context with them.
    pub(super) fn follow(
        &mut self,
        snapshot: &Connection,
        (tenant, run): (&TenantId, RunId),
        entries: &[Entry],
    ) -> Result<By, Error> {
        if run == RunId::ledger() {
            let mut by = By::Anybody;
            for entry in entries {
                by = self.perform(tenant, entry)?;
            }
            return Ok(by);
        }
        let begins = entries.first().and_then(started).filter(|(_, started)| started.turn.is_some());
        let concerns = |entry: &Entry| matches!(entry.event, Event::Asked { .. } | Event::Subscribed { .. });
        let place = (tenant.clone(), run);
        if !self.runs.contains_key(&place) {
            let row = match begins {
                Some((at, started)) => Some(row(&place, at, started)),
                None if entries.iter().any(concerns) => first(snapshot, &place)?,
                None => None,
            };
            self.runs.extend(row.map(|row| (place.clone(), row)));
        }
        let Some(row) = self.runs.get_mut(&place) else { return Ok(By::Anybody) };
        row.state = state_after(entries);
        row.updated_at = entries.last().map_or(row.updated_at, |last| last.at);
        questions::follow(&self.db, row, entries)?;
        subscriptions::follow(&self.db, row, entries)?;
        sessions::follow(&self.db, row, entries)?;
        Ok(row.turn.map_or(By::Anybody, By::Turn))
    }

    fn perform(&mut self, tenant: &TenantId, entry: &Entry) -> Result<By, Error> {
        let Event::Act(act) = &entry.event else { return Ok(By::Anybody) };
        match &act.change {
            Change::GrantsSet { agent, carry: None, .. } => {
                self.unsaid.insert((tenant.to_string(), agent.to_string()));
            }
            Change::AgentDeleted { name } => {
                self.unsaid.remove(&(tenant.to_string(), name.to_string()));
            }
            _ => {}
        }
        acts::perform(&self.db, tenant, entry.at, act)?;
        Ok(By::of_act(&act.change))
    }

    /// Holds the tables that there are against those made anew.
    pub(super) fn compare(&self, snapshot: &Connection, deleted: &Deleted, audit: &mut Audit) -> Result<(), Error> {
        for (table, by) in TABLES {
            let (mut there, said) = (rows(snapshot, table)?, rows(&self.db, table)?);
            // What tenants left that are deleted goes piece by piece, and their chains say nothing.
            if table != "tenants" && !purge::AT_ONCE.contains(&table) {
                there.retain(|(of, _), _| !deleted.left.contains(of));
            }
            let mut differing = Vec::new();
            for (place, row) in said {
                match there.remove(&place) {
                    Some(found) if found == row => {}
                    Some(_) => differing.push((place, format!("is not what follows from {by}"))),
                    None => differing.push((place, format!("is missing, and follows from {by}"))),
                }
            }
            differing.extend(there.into_keys().map(|place| (place, format!("follows from nothing in {by}"))));
            differing.retain(|((tenant, agent), _)| {
                table != "grants"
                    || !self.unsaid.contains(&(tenant.clone(), agent.split(' ').next().unwrap_or_default().into()))
            });
            let run = (by == LEDGER).then(RunId::ledger);
            let more = differing.len().saturating_sub(MOST_ROWS);
            for ((of, name), what) in differing.into_iter().take(MOST_ROWS) {
                let what = format!("in `{table}`, `{}` {what}", if name.is_empty() { &of } else { &name });
                let tenant = tenant(of).unwrap_or_else(|_| TenantId::host());
                audit.damage.push(Damage { tenant: Some(tenant), run, seq: None, what });
            }
            if more > 0 {
                let what = format!("in `{table}`, {more} more rows are not what follows from {by}");
                audit.damage.push(Damage { tenant: Some(TenantId::host()), run, seq: None, what });
            }
        }
        Ok(())
    }
}

fn started(entry: &Entry) -> Option<(Timestamp, &RunStarted)> {
    match &entry.event {
        Event::RunStarted(started) => Some((entry.at, started)),
        _ => None,
    }
}

/// How a run that began so stands in its row, as far as anything follows from that.
fn row((tenant, run): &(TenantId, RunId), at: Timestamp, started: &RunStarted) -> Run {
    Run {
        tenant: tenant.clone(),
        id: *run,
        target: started.target.clone(),
        parent: started.parent.as_ref().map(|parent| parent.run),
        state: State::Running,
        session: started.session.clone(),
        turn: started.turn.map(|place| place.number),
        by: started.by.clone(),
        created_at: at,
        updated_at: at,
        epoch: Epoch(0),
        seq: Seq(0),
        wakes_at: None,
        taken_up: Default::default(),
    }
}

/// The same of one that began before the entries at hand.
fn first(snapshot: &Connection, place: &(TenantId, RunId)) -> Result<Option<Run>, Error> {
    let sql = "select frames from journal where tenant = ? and run = ? and first = 1";
    let read = |row: &Row<'_>| row.get::<_, Vec<u8>>(0);
    let values = params![place.0.as_str(), blob(place.1)];
    let Some(frames) = snapshot.prepare_cached(sql)?.query_row(values, read).optional()? else { return Ok(None) };
    let entry = frames::read(&frames).next().and_then(Result::ok).and_then(|(_, bytes)| Entry::from_bytes(bytes).ok());
    Ok(entry.as_ref().and_then(started).map(|(at, started)| row(place, at, started)))
}

/// Where a run stands after these entries, as far as it is over.
fn state_after(entries: &[Entry]) -> State {
    let state = |entry: &Entry| match entry.event {
        Event::RunCompleted { .. } => Some(State::Completed),
        Event::RunFailed { .. } => Some(State::Failed),
        Event::RunCancelled { .. } => Some(State::Cancelled),
        Event::RunQuarantined { .. } => Some(State::Quarantined),
        Event::RunPaused { .. } => Some(State::Paused),
        Event::RunStuck { .. } => Some(State::Stuck),
        Event::RunResumed { .. } | Event::RunContinued { .. } => Some(State::Running),
        _ => None,
    };
    entries.iter().rev().find_map(state).unwrap_or(State::Running)
}

/// A table's rows by whose they are and what names them.
fn rows(db: &Connection, table: &str) -> Result<BTreeMap<(String, String), Vec<Value>>, Error> {
    let place = match table {
        "tenants" => "name, ''",
        "ceilings" | "session_times" => "tenant, ''",
        "keys" => "tenant, id",
        "agents" => "tenant, name || ' sha256:' || lower(hex(digest))",
        "grants" => "tenant, agent || ' sha256:' || lower(hex(digest))",
        "sessions" | "session_archives" | "triggers" => "tenant, id",
        "turns" => "tenant, session || '/' || number",
        "questions" => "tenant, token",
        "subscriptions" => "tenant, node || ' of ' || lower(hex(run))",
        "schedules" => "tenant, workflow || '/' || number",
        _ => "tenant, name",
    };
    // What became of a schedule's ticks and of events is in no act, nor which event came last that a run may wait for in any journal.
    let said = match table {
        "triggers" => "digest, settings, by_key, paused_at, paused_by, paused_why",
        "schedules" => "digest, timing, by_key, paused_at, paused_by, paused_why",
        "subscriptions" => "topic, subject, kind",
        _ => "*",
    };
    let sql = format!("select {place}, {said} from {table}");
    let read = |row: &Row<'_>| {
        let values = (2..row.as_ref().column_count()).map(|column| row.get(column)).collect::<Result<_, _>>()?;
        Ok(((row.get(0)?, row.get(1)?), values))
    };
    Ok(all(db, &sql, [], read)?.into_iter().collect())
}
