//! The log's end, and who follows it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ltmc_model::Position;
use ltmc_model::delta::Topic;
use ltmc_model::run::Run;
use ltmc_ports::log::{Ends, Group};
use tokio::sync::{broadcast, watch};

use super::Writer;
use crate::deltas::Row;
use crate::revisions::Revisions;

/// The log's end, and who follows it.
#[derive(Clone)]
pub(crate) struct Tail {
    pub(crate) ends: watch::Sender<Ends>,
    pub(crate) news: broadcast::Sender<Arc<Group>>,
    pub(crate) newest: Arc<Newest>,
    pub(crate) revisions: Arc<Revisions>,
}

/// The newest place of each topic: who follows some of them sees at once whether there is anything for it.
#[derive(Debug, Default)]
pub(crate) struct Newest([AtomicU64; Topic::ALL.len()]);

impl Newest {
    fn saw(&self, rows: &[Row<'_>]) {
        for row in rows {
            self.0[row.delta.topic() as usize].fetch_max(row.position.0, Ordering::Release);
        }
    }

    pub(crate) fn of(&self, topics: &[Topic]) -> Position {
        let newest = topics.iter().map(|topic| self.0[*topic as usize].load(Ordering::Acquire)).max();
        Position(newest.unwrap_or(0))
    }
}

impl Writer {
    /// What was committed is known, synced soon where it is not yet, and told. The log's end comes first: whoever follows, and
    /// then looks at the end, either sees these rows there or is sent them.
    pub(super) fn committed<'a>(&mut self, rows: &[Row<'_>], runs: impl Iterator<Item = &'a Run>, durable: bool) {
        self.unsynced = !durable;
        if !durable {
            self.soon.ask();
        }
        if let Some(last) = rows.last() {
            self.known.position = last.position;
        }
        self.tail.newest.saw(rows);
        self.grown(durable);
        if self.tail.news.receiver_count() == 0 {
            return;
        }
        let commit = self.tail.ends.borrow().begun;
        let rows: Vec<_> = rows.iter().map(|row| Arc::new(row.logged())).collect();
        let runs: Vec<Run> = runs.cloned().collect();
        if !rows.is_empty() || !runs.is_empty() {
            let _ = self.tail.news.send(Arc::new(Group { commit, rows, runs }));
        }
    }

    /// Says how far the log goes now.
    pub(super) fn grown(&self, durable: bool) {
        let position = self.known.position;
        self.tail.ends.send_if_modified(|ends| {
            let before = *ends;
            ends.visible = position;
            if durable {
                (ends.durable, ends.synced) = (position, ends.begun);
            }
            *ends != before
        });
    }
}
