//! Shared context in SQLite: whatever deltas come, it holds what the plainest store in memory holds.

use std::sync::Arc;

use ltmc_model::delta::{Delta, Topic};
use ltmc_model::message::{Channel, Event, Message, Taker};
use ltmc_model::{AgentName, Payload, Position, Revision, StepPath, TenantId};
use ltmc_ports::testing::MemoryRecord;
use ltmc_ports::testing::sample::{Owner, at, run_id, tenant};
use ltmc_ports::{Bus as _, Durability, ReadContext as _, ReadMail, WriteJournal};
use ltmc_sqlite::{OpenOptions, Record};

/// Numbers that look drawn, the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

async fn record() -> (Arc<Record>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Record::open(OpenOptions::new(dir.path())).await.unwrap(), dir)
}

fn agent(n: u64) -> AgentName {
    format!("agent-{n}").parse().unwrap()
}

fn taker(n: u64) -> Taker {
    Taker { run: run_id(n), step: StepPath::root(), attempt: 1, part: 0 }
}

fn message(id: u64, channel: Channel, source: u64) -> Delta {
    let event = Event {
        id: id.to_string(),
        source: format!("/agents/agent-{source}"),
        kind: "k".into(),
        subject: None,
        time: at(id),
        data: Payload::text(format!("message {id}")),
        attributes: std::collections::BTreeMap::new(),
        trail: None,
    };
    Delta::Sent(Message { id: Revision(id), channel, event })
}

/// What can happen next to mailboxes, as the messages' own rules have it.
async fn next(dice: &mut Dice, oracle: &MemoryRecord, acme: &TenantId, id: u64) -> Delta {
    let of = agent(dice.roll(3));
    let waiting = oracle.ready(acme, &of, 3, &[]).await.unwrap();
    let taken = oracle.context(|context| {
        let taken = context.mail.iter().filter(|((t, a, _), kept)| t == acme && *a == of && kept.taken.is_some());
        taken.map(|(_, kept)| (kept.message.id, kept.taken.clone().unwrap())).collect::<Vec<_>>()
    });
    let dead = oracle.dead_letters(acme, Some(&of), None, 1).await.unwrap();
    match dice.roll(8) {
        0 | 1 if !waiting.is_empty() => {
            let (places, messages) = waiting.iter().map(|(place, delivery)| (*place, delivery.id)).unzip();
            Delta::Taken { agent: of, messages, places, by: taker(dice.roll(4)) }
        }
        2 if !taken.is_empty() => Delta::Processed { agent: of, message: taken[0].0 },
        3 if !taken.is_empty() => Delta::Buried { agent: of, message: taken[0].0, reason: "why".into(), at: at(id) },
        4 | 5 if !taken.is_empty() => Delta::Released { by: taken[0].1.clone(), at: at(id) },
        6 if !dead.is_empty() => Delta::Revived { agent: of, message: dead[0].message.id },
        7 => message(id, Channel::Topic("news".parse().unwrap()), dice.roll(3)),
        _ => message(id, Channel::Mailbox(of), dice.roll(3)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mailboxes_come_to_the_same_as_in_memory() {
    for seed in 1..=3 {
        let (record, _dir) = record().await;
        let oracle = MemoryRecord::new();
        let (acme, mut dice) = (tenant("acme"), Dice(seed));
        let mut owners = (Owner::new("acme", 1), Owner::new("acme", 1));
        for id in 1..=400 {
            let delta = next(&mut dice, &oracle, &acme, id).await;
            oracle.append(owners.0.change(vec![delta.clone()]), Durability::Barrier).await.unwrap();
            record.append(owners.1.change(vec![delta]), Durability::Lazy).await.unwrap();
            if id % 20 != 0 {
                continue;
            }
            for n in 0..3 {
                let of = agent(n);
                let both = (
                    record.ready(&acme, &of, 100, &[]).await.unwrap(),
                    oracle.ready(&acme, &of, 100, &[]).await.unwrap(),
                );
                assert_eq!(both.0, both.1, "seed {seed}, after {id}");
                let dead = record.dead_letters(&acme, Some(&of), None, 100).await.unwrap();
                assert_eq!(
                    dead,
                    oracle.dead_letters(&acme, Some(&of), None, 100).await.unwrap(),
                    "seed {seed}, after {id}"
                );
                let waiting = record.waiting(&acme, &of, 1_000).await.unwrap();
                assert_eq!(waiting, oracle.waiting(&acme, &of, 1_000).await.unwrap());
            }
        }
        let news = "news".parse().unwrap();
        let both = (
            record.events(&acme, &news, Position(0), 1_000).await.unwrap(),
            oracle.events(&acme, &news, Position(0), 1_000).await.unwrap(),
        );
        assert_eq!(both.0, both.1);
        // Items, one after another, are everything, in the order of their keys.
        let (mut keys, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = record.context(&acme, Topic::Messages, after.as_deref(), 7).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.key.clone());
            keys.extend(page.into_iter().map(|item| item.key));
        }
        assert!(keys.is_sorted(), "{keys:?}");
        let kept = oracle.context(|context| context.mail.len() + context.topics.len());
        assert_eq!(keys.len(), kept);
    }
}
