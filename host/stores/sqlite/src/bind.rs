//! Values as SQLite keeps them, written and read back; statements whose text is parsed once a connection.

use std::str::FromStr as _;

use ltmc_model::agent::AgentRef;
use ltmc_model::memory::Scope;
use ltmc_model::run::{State, TakenUp, Target, Trial};
use ltmc_model::{RunId, TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Params, Row};

use crate::error::{Error, wrong};

/// Executes a statement.
pub(crate) fn execute(db: &Connection, sql: &str, values: impl Params) -> Result<(), rusqlite::Error> {
    db.prepare_cached(sql)?.execute(values).map(drop)
}

/// The number that such a query finds.
pub(crate) fn found(db: &Connection, sql: &str, values: impl Params) -> Result<Option<i64>, rusqlite::Error> {
    db.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()
}

/// The first row, if there is one.
pub(crate) fn one<T>(
    db: &Connection,
    sql: &str,
    values: impl Params,
    read: impl FnOnce(&Row<'_>) -> Result<T, Error>,
) -> Result<Option<T>, Error> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(values)?;
    rows.next()?.map(read).transpose()
}

/// All rows.
pub(crate) fn all<T>(
    db: &Connection,
    sql: &str,
    values: impl Params,
    read: impl FnMut(&Row<'_>) -> Result<T, Error>,
) -> Result<Vec<T>, Error> {
    db.prepare_cached(sql)?.query(values)?.and_then(read).collect()
}

pub(crate) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Of each tenant after `after`, at most `limit`, the first row: `sql` gives it of the first tenant after one, with a time. So it goes by an
/// index from one tenant's first to the next one's, and those between are not looked at.
pub(crate) fn first_of_each(
    db: &Connection,
    sql: &str,
    after: &str,
    limit: u32,
) -> Result<Vec<(TenantId, Timestamp)>, Error> {
    let (mut found, mut after) = (Vec::new(), after.to_owned());
    while found.len() < limit as usize {
        let first = one(db, sql, [&after], |row| Ok((tenant(row.get(0)?)?, stamp(row.get(1)?))))?;
        let Some(first) = first else { break };
        after = first.0.to_string();
        found.push(first);
    }
    Ok(found)
}

/// [`int`], read back.
pub(crate) fn number(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(crate) fn time(at: Timestamp) -> i64 {
    int(at.millis())
}

/// [`time`], read back.
pub(crate) fn stamp(millis: i64) -> Timestamp {
    Timestamp::from_millis(number(millis))
}

pub(crate) fn blob(run: RunId) -> Vec<u8> {
    run.0.as_bytes().to_vec()
}

/// [`blob`], read back.
pub(crate) fn run_id(bytes: [u8; 16]) -> RunId {
    RunId(uuid::Uuid::from_bytes(bytes))
}

/// A name, which the host's own ledger has too.
pub(crate) fn parsed<T: TryFrom<String>>(text: String) -> Result<T, Error> {
    T::try_from(text).map_err(|_| wrong("a name"))
}

/// A tenant's name, or the host's own.
pub(crate) fn tenant(text: String) -> Result<TenantId, Error> {
    TenantId::recorded(&text).map_err(|_| wrong("a tenant's name"))
}

pub(crate) fn scope(scope: Scope) -> i64 {
    match scope {
        Scope::Global => 0,
        Scope::Session => 1,
        Scope::Agent => 2,
        Scope::State => 3,
    }
}

/// Plain values, as JSON.
pub(crate) fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain values, which JSON can write")
}

/// [`json`], read back.
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(text: String) -> Result<T, Error> {
    serde_json::from_str(&text).map_err(|e| Error::Corrupt(format!("JSON does not read back: {e}")))
}

pub(crate) fn state_number(state: State) -> i64 {
    match state {
        State::Queued => 0,
        State::Running => 1,
        State::Waiting => 2,
        State::Completed => 3,
        State::Failed => 4,
        State::Cancelled => 5,
        State::Quarantined => 6,
        State::Paused => 7,
        State::Stuck => 8,
    }
}

/// [`state_number`], read back.
pub(crate) fn state_of(number: i64) -> Result<State, Error> {
    State::ALL.into_iter().find(|state| state_number(*state) == number).ok_or_else(|| wrong("a run's state"))
}

pub(crate) fn trial_number(trial: Trial) -> i64 {
    match trial {
        Trial::None => 0,
        Trial::Alone => 1,
        Trial::Bounded => 2,
    }
}

/// How a run was taken up: the number of times, and [`trial_number`], read back.
pub(crate) fn taken_up_of(times: i64, trial: i64) -> TakenUp {
    let trials = [Trial::None, Trial::Alone, Trial::Bounded];
    let trial = trials.into_iter().find(|one| trial_number(*one) == trial).unwrap_or_default();
    TakenUp { times: u32::try_from(times).unwrap_or(u32::MAX), trial }
}

/// A target as `agent NAME[@DIGEST]` or `workflow NAME`; and the bare name.
pub(crate) fn target_text(target: &Target) -> (String, String) {
    match target {
        Target::Agent(agent) => (format!("agent {agent}"), agent.name.to_string()),
        Target::Workflow(workflow) => (format!("workflow {workflow}"), workflow.to_string()),
    }
}

/// [`target_text`], read back.
pub(crate) fn target_of(text: &str) -> Result<Target, Error> {
    let target = match text.split_once(' ') {
        Some(("agent", name)) => AgentRef::from_str(name).ok().map(Target::Agent),
        Some(("workflow", name)) => name.parse().ok().map(Target::Workflow),
        _ => None,
    };
    target.ok_or_else(|| wrong("a run's target"))
}
