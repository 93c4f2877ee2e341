//! Questions that runs ask: rows that follow the entries of journals, within their transaction; and read.

use async_trait::async_trait;
use ltmc_model::caller::Role;
use ltmc_model::journal::{Entry, Event};
use ltmc_model::question::{Asked, Question, Standing, Token};
use ltmc_model::run::{Run, State};
use ltmc_model::workflow::Node;
use ltmc_model::{StepPath, TenantId};
use ltmc_ports::questions::QuestionFilter;
use ltmc_ports::{ReadQuestions, StoreError};
use rusqlite::{Connection, Row, params};

use crate::Record;
use crate::bind::{all, blob, execute, json, one, parsed, run_id, stamp, time};
use crate::error::{Error, wrong};

/// What entries of a run make of its questions.
pub(crate) fn follow(db: &Connection, run: &Run, entries: &[Entry]) -> Result<(), rusqlite::Error> {
    let tenant = run.tenant.as_str();
    for entry in entries {
        match &entry.event {
            Event::Asked { node, token, question } => {
                let sql = "insert into questions (tenant, token, run, node, by_key, asked_at, of_role, title, state, question) \
                           values (?, ?, ?, ?, ?, ?, ?, ?, 0, ?)";
                let (run_id, by, of) = (blob(run.id), run.by.as_str(), question.of.to_string());
                let (token, node, bytes) = (token.as_str(), node.as_str(), question.to_bytes());
                execute(db, sql, params![tenant, token, run_id, node, by, time(entry.at), of, question.title, bytes])?;
            }
            Event::Answered { token, .. } => {
                let sql = "update questions set state = ?, question = x'' where tenant = ? and token = ?";
                execute(db, sql, params![number(Standing::Answered), tenant, token.as_str()])?;
            }
            Event::WaitCancelled { node } => {
                let sql = "update questions set state = ?, question = x'' where tenant = ? and run = ? and node = ? and state = 0";
                execute(db, sql, params![number(Standing::Withdrawn), tenant, blob(run.id), node.as_str()])?;
            }
            Event::RunFailing { .. } | Event::RunCancelling { .. } => close_own(db, run)?,
            _ => {}
        }
    }
    // One that is completed waits for nothing.
    if matches!(run.state, State::Failed | State::Cancelled | State::Quarantined) {
        let sql = "update questions set state = ?, question = x'' where tenant = ? and run = ? and state = 0";
        execute(db, sql, params![number(Standing::Over), tenant, blob(run.id)])?;
    }
    Ok(())
}

/// Closes what a run asks that is being undone. What undoes it may ask as well, and goes on to.
fn close_own(db: &Connection, run: &Run) -> Result<(), rusqlite::Error> {
    let (tenant, id) = (run.tenant.as_str(), blob(run.id));
    let sql = "select node from questions where tenant = ? and run = ? and state = 0";
    let mut statement = db.prepare_cached(sql)?;
    let open =
        statement.query_map(params![tenant, id], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let own = |node: &StepPath| !Node::is_undoing(node, &StepPath::root());
    for node in open.into_iter().filter_map(|node| StepPath::try_from(node).ok()).filter(own) {
        let sql =
            "update questions set state = ?, question = x'' where tenant = ? and run = ? and node = ? and state = 0";
        execute(db, sql, params![number(Standing::Over), tenant, blob(run.id), node.as_str()])?;
    }
    Ok(())
}

#[async_trait]
impl ReadQuestions for Record {
    async fn question(&self, tenant: &TenantId, token: &Token) -> Result<Option<Asked>, StoreError> {
        let sql = format!("select {COLUMNS}, question from questions where tenant = ? and token = ?");
        let values = params![tenant.as_str(), token.as_str()];
        self.readers.point("questions.get", |db| one(db, &sql, values, whole))
    }

    async fn questions(&self, tenant: &TenantId, filter: &QuestionFilter) -> Result<Vec<Asked>, StoreError> {
        let sql = format!(
            "select {COLUMNS} from questions where tenant = ?1 and state = 0 and (asked_at, token) > (?2, ?3) \
             and of_role in (select value from json_each(?4)) and (?5 is null or by_key = ?5) \
             order by asked_at, token limit ?6"
        );
        let (tenant_name, filter) = (tenant.clone(), filter.clone());
        let read = move |db: &Connection| {
            let (at, token) = filter.after.as_ref().map_or((-1, ""), |(at, token)| (time(*at), token.as_str()));
            let (of, by) = (json(&filter.of), filter.by.as_ref().map(|by| by.as_str()));
            all(db, &sql, params![tenant_name.as_str(), at, token, of, by, filter.limit], short)
        };
        self.readers.search("questions.list", tenant, read).await
    }
}

const COLUMNS: &str = "token, run, node, by_key, asked_at, of_role, title, state";

/// A question without what it shows.
fn short(row: &Row<'_>) -> Result<Asked, Error> {
    let of = row.get::<_, String>(5)?;
    let roles = [Role::Admin, Role::Author, Role::Caller];
    let of = roles.into_iter().find(|role| role.to_string() == of).ok_or_else(|| wrong("a role"))?;
    let state: i64 = row.get(7)?;
    let standing = Standing::ALL.into_iter().find(|standing| number(*standing) == state);
    Ok(Asked {
        token: parsed(row.get(0)?)?,
        run: run_id(row.get(1)?),
        node: parsed(row.get(2)?)?,
        by: parsed(row.get(3)?)?,
        at: stamp(row.get(4)?),
        standing: standing.ok_or_else(|| wrong("a question's state"))?,
        question: Question { title: row.get(6)?, of, show: None, schema: None, until: None },
    })
}

fn whole(row: &Row<'_>) -> Result<Asked, Error> {
    let asked = short(row)?;
    let bytes = row.get_ref(8)?.as_blob().map_err(|_| wrong("a question"))?;
    if bytes.is_empty() {
        return Ok(asked);
    }
    let question = Question::from_bytes(bytes).map_err(|_| wrong("a question"))?;
    Ok(Asked { question, ..asked })
}

fn number(standing: Standing) -> i64 {
    match standing {
        Standing::Open => 0,
        Standing::Answered => 1,
        Standing::Withdrawn => 2,
        Standing::Over => 3,
    }
}
