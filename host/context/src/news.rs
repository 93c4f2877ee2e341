//! News of messages: for who waits until something has come to a mailbox or a topic.
//!
//! Nothing reaches the record but through this host, so that its log is all that has to be watched.

use std::time::Duration;

use ltmc_model::delta::{Delta, Logged, Topic};
use ltmc_model::message::Channel;
use ltmc_model::{Position, TenantId};
use ltmc_ports::ReadLog;

/// Rows of the log that somebody who waits looks at; where there are more he looks at the channel itself.
const LOOK: u32 = 256;

/// Waits until something may have come to the channel since `since`; at most for `patience`.
pub(crate) async fn wait(log: &dyn ReadLog, tenant: &TenantId, of: &Channel, since: Position, patience: Duration) {
    let mut news = log.follow();
    let is_news = |logged: &Logged| logged.tenant == *tenant && concerns(&logged.delta, of);
    let visible = log.ends().borrow().visible;
    if visible > since {
        match log.log(Some(tenant), &[Topic::Messages], since, visible, LOOK).await {
            Ok(rows) if rows.len() < LOOK as usize && !rows.iter().any(is_news) => {}
            _ => return,
        }
    }
    // Whoever is too slow to be told looks for himself.
    let comes = async { while news.recv().await.is_ok_and(|group| !group.iter().any(is_news)) {} };
    let _ = tokio::time::timeout(patience, comes).await;
}

/// Whether there may be something to do on the channel after this delta.
fn concerns(delta: &Delta, channel: &Channel) -> bool {
    match (delta, channel) {
        (Delta::Sent(message), _) => message.channel == *channel,
        // What is let go can be taken by another.
        (
            Delta::Processed { agent, .. } | Delta::Buried { agent, .. } | Delta::Revived { agent, .. },
            Channel::Mailbox(of),
        ) => agent == of,
        (Delta::Released { .. }, Channel::Mailbox(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ltmc_model::message::Taker;
    use ltmc_model::{Revision, StepPath};
    use ltmc_ports::testing::MemoryRecord;
    use ltmc_ports::testing::sample::{self, Owner, at, mailbox, run_id, tenant, topic};
    use ltmc_ports::{Durability, WriteJournal as _};
    use tokio::task::JoinHandle;
    use tokio::time::{Instant, timeout};

    use super::*;

    /// Longer than any case takes.
    const LONG: Duration = Duration::from_secs(60);
    /// Sooner than this is prompt.
    const PROMPT: Duration = Duration::from_secs(5);
    /// So long is waited for what does not come.
    const SHORT: Duration = Duration::from_millis(300);

    /// A record, and one run of each of two tenants that write it.
    struct Told {
        record: Arc<MemoryRecord>,
        owners: [Owner; 2],
    }

    impl Told {
        fn new() -> Self {
            Self { record: MemoryRecord::new(), owners: [Owner::new("acme", 1), Owner::new("beta", 2)] }
        }

        /// Makes these true; the end of the log then.
        async fn apply(&mut self, of: &str, deltas: Vec<Delta>) -> Position {
            let owner = self.owners.iter_mut().find(|owner| owner.row.tenant == tenant(of)).unwrap();
            self.record.append(owner.change(deltas), Durability::Barrier).await.unwrap();
            self.record.ends().borrow().visible
        }

        fn wait(&self, of: &Channel, since: Position, patience: Duration) -> JoinHandle<Duration> {
            let (record, of) = (self.record.clone(), of.clone());
            tokio::spawn(async move {
                let begun = Instant::now();
                wait(&*record, &tenant("acme"), &of, since, patience).await;
                begun.elapsed()
            })
        }
    }

    fn sent(channel: &Channel, id: u64) -> Delta {
        sample::sent(channel.clone(), id, "x")
    }

    #[tokio::test]
    async fn what_has_come_already_is_news_at_once() {
        let mut told = Told::new();
        told.apply("acme", vec![sent(&topic("news"), 1), sent(&mailbox("bob"), 2)]).await;
        let end = told.apply("acme", vec![sent(&topic("news"), 3), sent(&mailbox("bob"), 4)]).await;
        for since in [0, 1, end.0 - 2] {
            for of in [topic("news"), mailbox("bob")] {
                timeout(PROMPT, told.wait(&of, Position(since), LONG)).await.expect("it is there").unwrap();
            }
        }
        // Too much to look at is news, whatever it is.
        let others = (10..10 + u64::from(LOOK)).map(|id| sent(&mailbox("eve"), id)).collect();
        told.apply("acme", others).await;
        timeout(PROMPT, told.wait(&mailbox("bob"), end, LONG)).await.expect("he looks for himself").unwrap();
    }

    #[tokio::test]
    async fn what_comes_is_news_promptly_to_everybody_who_waits() {
        let mut told = Told::new();
        let mut since = told.apply("acme", vec![sent(&topic("news"), 1), sent(&mailbox("bob"), 2)]).await;
        // Nothing has ever come to the last two.
        for (id, of) in (3..).zip([topic("news"), mailbox("bob"), topic("more/news"), mailbox("eve")]) {
            let waiting: Vec<_> = (0..64).map(|_| told.wait(&of, since, LONG)).collect();
            tokio::time::sleep(SHORT).await;
            assert!(waiting.iter().all(|one| !one.is_finished()), "nothing has come: {id}");
            since = told.apply("acme", vec![sent(&of, id)]).await;
            for one in waiting {
                timeout(PROMPT, one).await.expect("it is waited for").unwrap();
            }
        }
    }

    #[tokio::test]
    async fn what_is_let_go_is_news_for_another_may_have_it() {
        let mut told = Told::new();
        let (bob, by) =
            (|| "bob".parse().unwrap(), Taker { run: run_id(1), step: StepPath::root(), attempt: 1, part: 0 });
        let last = told.apply("acme", (1..=4).map(|id| sent(&mailbox("bob"), id)).collect()).await;
        let (messages, places) = (1..=3).map(|id| (Revision(id), Position(last.0 - 4 + id))).unzip();
        let mut since = told.apply("acme", vec![Delta::Taken { agent: bob(), messages, places, by: by.clone() }]).await;
        for delta in [
            Delta::Processed { agent: bob(), message: Revision(1) },
            Delta::Buried { agent: bob(), message: Revision(2), reason: "wrong".into(), at: at(1) },
            Delta::Revived { agent: bob(), message: Revision(2) },
            Delta::Released { by, at: at(2) },
        ] {
            let waiting = told.wait(&mailbox("bob"), since, LONG);
            tokio::time::sleep(SHORT).await;
            assert!(!waiting.is_finished(), "nothing was let go: {delta:?}");
            since = told.apply("acme", vec![delta.clone()]).await;
            timeout(PROMPT, waiting).await.unwrap_or_else(|_| panic!("{delta:?}")).unwrap();
        }
    }

    #[tokio::test]
    async fn what_comes_to_others_is_no_news_and_patience_ends() {
        let mut told = Told::new();
        let since = told.apply("acme", vec![sent(&mailbox("bob"), 1), sent(&topic("bob"), 2)]).await;
        let waiting = [mailbox("bob"), topic("bob")].map(|of| told.wait(&of, since, 3 * SHORT));
        tokio::time::sleep(SHORT / 3).await;
        told.apply("beta", vec![sent(&mailbox("bob"), 1), sent(&topic("bob"), 2)]).await;
        told.apply("acme", vec![sent(&mailbox("bo"), 3), sent(&topic("bob/2"), 4)]).await;
        for one in waiting {
            let took = timeout(PROMPT, one).await.expect("patience ends").unwrap();
            assert!(took >= 3 * SHORT, "there was news after {took:?}");
        }
        let none = told.wait(&mailbox("nobody"), since, Duration::ZERO);
        timeout(PROMPT, none).await.expect("there is no patience").unwrap();
    }
}
