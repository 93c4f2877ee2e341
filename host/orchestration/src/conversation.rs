//! The conversation whose turn a run is, as its agents are told it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ltmc_journal::RunLog;
use ltmc_model::session::{Exchange, Stage, Turn};
use ltmc_model::{Epoch, StepPath};
use ltmc_ports::{Held, Kind, StoreError};
use ltmc_tenancy::Error;

use crate::runs::{Inner, Runs};

/// What was said before one run's turn.
pub(crate) struct Conversation {
    runs: Runs,
    log: Arc<RunLog>,
}

impl Conversation {
    /// Of a run with this log.
    pub(crate) fn new(inner: &Arc<Inner>, log: &Arc<RunLog>) -> Arc<Self> {
        Arc::new(Self { runs: Runs { inner: inner.clone() }, log: log.clone() })
    }

    /// When the turn of this number began, as its session counts; none: nobody knows any more.
    async fn began(&self, number: u32) -> Result<Option<Epoch>, StoreError> {
        let (tenant, started) = (self.log.tenant(), self.log.started());
        let own = self.runs.inner.ports.sessions.turns(tenant, &started.session, number.saturating_sub(1), 1).await?;
        Ok(own.into_iter().next().filter(|own| own.number == number).and_then(|own| own.began))
    }

    async fn exchange(&self, turn: Turn) -> Result<Exchange, Error> {
        let tenant = self.log.tenant();
        let (_, started) = self.runs.begun(tenant, turn.run).await?;
        let answer = self.runs.result(tenant, turn.run).await?.and_then(Result::ok);
        Ok(Exchange { turn: turn.number, by: turn.by, message: started.input, answer })
    }
}

#[async_trait]
impl ltmc_ports::Conversation for Conversation {
    async fn history(&self, last: u32, after: u32) -> Result<Vec<Exchange>, StoreError> {
        let started = self.log.started();
        let Some(turn) = started.turn else { return Ok(Vec::new()) };
        let (tenant, sessions) = (self.log.tenant(), &self.runs.inner.ports.sessions);
        // Those that began before it: not all that have a smaller number.
        let began = self.began(turn.number).await?;
        let turns = sessions.begun(tenant, &started.session, None, began, last).await?;
        let mut newest_first: Vec<Exchange> = Vec::new();
        let counts = |turn: &Turn| turn.stage == Stage::Over && turn.number > after;
        for turn in turns.into_iter().filter(counts) {
            newest_first.push(self.exchange(turn).await.map_err(store)?);
            if ltmc_model::session::told(newest_first.iter().map(Exchange::size), last) < newest_first.len() {
                newest_first.pop();
                break;
            }
        }
        newest_first.reverse();
        Ok(newest_first)
    }

    async fn held(&self) -> Result<Option<Held>, StoreError> {
        let (tenant, started) = (self.log.tenant(), self.log.started());
        let Some(turn) = started.turn else { return Ok(None) };
        let ports = &self.runs.inner.ports;
        let found = ports.sessions.session(tenant, &started.session).await?;
        let Some(holder) = found.and_then(|session| session.holder) else { return Ok(None) };
        let before = ports.sessions.begun(tenant, &started.session, None, self.began(turn.number).await?, 1).await?;
        let mut idle = Duration::ZERO;
        if let Some(before) = before.first() {
            let row = ports.read.run(tenant, before.run).await?;
            idle = row.map_or(idle, |row| self.log.now().since(row.updated_at.max(holder.at)));
        }
        let mut handed = None;
        if let Some(run) = holder.run {
            let outline = self.runs.outline(tenant, run).await?;
            handed = outline.history.node(&StepPath::root()).and_then(ltmc_journal::node::Node::handed);
        }
        Ok(Some(Held { holder, handed, idle }))
    }
}

fn store(error: Error) -> StoreError {
    match error {
        Error::Store(error) => error,
        error => StoreError::new(Kind::Internal, "session.history").because(error.to_string()),
    }
}
