//! That there may be something to do because of a message, or a change of memory: a hint to those who read from the record itself what there is to do. It
//! shows nobody a row; who is to be told of rows has a subscription (`context/src/subscription.rs`).

use std::sync::Arc;

use ltmc_model::Position;
use ltmc_model::delta::Topic;
use ltmc_ports::ReadLog;
use ltmc_ports::log::Ends;
use tokio::sync::watch;

const MESSAGES: &[Topic] = &[Topic::Messages];
const WITH_MEMORY: &[Topic] = &[Topic::Messages, Topic::Memory];

/// Messages and events of all tenants, and changes of memory where these are heard, too, as far as somebody has looked for what they make due.
pub(crate) struct News {
    log: Arc<dyn ReadLog>,
    topics: &'static [Topic],
    ends: watch::Receiver<Ends>,
    seen: Position,
}

impl News {
    /// Those that come from now on.
    pub(crate) fn of(log: &Arc<dyn ReadLog>) -> Self {
        Self { ends: log.ends(), seen: log.newest(MESSAGES), topics: MESSAGES, log: log.clone() }
    }

    /// From now on changes of memory are news, too, or are not: they are many, and concern nobody where no subscription watches them.
    pub(crate) fn hear_memory(&mut self, hears: bool) {
        self.topics = if hears { WITH_MEMORY } else { MESSAGES };
    }

    /// Somebody looks now: what came before is none any more. To be called before the look, so that what comes meanwhile is news.
    pub(crate) fn look(&mut self) {
        self.seen = self.log.newest(WITH_MEMORY);
    }

    /// Comes once there are any; never, where the log has ended.
    pub(crate) async fn next(&mut self) {
        while self.log.newest(self.topics) <= self.seen {
            if self.ends.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}
