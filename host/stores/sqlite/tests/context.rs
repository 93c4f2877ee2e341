//! Shared context in SQLite: whatever deltas come, it holds what the plainest store in memory holds.

use std::collections::BTreeSet;
use std::sync::Arc;

use ltmc_model::delta::{Delta, MemoryChange, MemoryValue, Topic};
use ltmc_model::memory::Drawer;
use ltmc_model::message::{Channel, Event, Message, Taker};
use ltmc_model::recall::{EmbedderId, Metadata, Note};
use ltmc_model::{AgentName, Payload, Position, Revision, Seq, StepPath, TenantId};
use ltmc_ports::log::Interest;
use ltmc_ports::recall::Embedded;
use ltmc_ports::testing::MemoryRecord;
use ltmc_ports::testing::sample::{self, Owner, at, put, run_id, tenant};
use ltmc_ports::{
    Bus as _, Durability, ReadContext as _, ReadLog as _, ReadMail, ReadMemory as _, ReadNotes as _, Record as _,
    WriteJournal, WriteVectors as _,
};
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

/// Whoever follows first, and then looks how far the log goes, has each change from one or from the other: nobody waits for
/// what has come already.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_and_then_looks_misses_nothing() {
    let (record, _dir) = record().await;
    // To wake others takes a while, between the one and the other.
    for _ in 0..32 {
        let mut news = record.follow();
        tokio::spawn(async move { while news.recv().await.is_ok() {} });
    }
    let (mut owner, ends, mut seen) = (Owner::new("acme", 1), record.ends(), Position(0));
    for n in 0..3_000_u64 {
        let change = put(&Drawer::Global, &n.to_string(), record.next_revision(), "x");
        let (writer, append) = (record.clone(), owner.remember(vec![change]));
        let writing = tokio::spawn(async move { writer.append(append, Durability::Lazy).await.unwrap() });
        // At another moment of the commit each time.
        let begun = std::time::Instant::now();
        while begun.elapsed() < std::time::Duration::from_micros(n % 200) {
            std::hint::spin_loop();
        }
        let mut news = record.follow();
        let visible = ends.borrow().visible;
        seen = if visible > seen {
            visible
        } else {
            let came = tokio::time::timeout(std::time::Duration::from_secs(5), news.recv()).await;
            came.unwrap_or_else(|_| panic!("what came after {seen:?} was told to nobody")).unwrap().rows[0].position
        };
        writing.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_tells_every_delta_in_order_and_forgets_what_is_trimmed() {
    let (record, dir) = record().await;
    let (acme, beta) = (tenant("acme"), tenant("beta"));
    let mut owners = [Owner::new("acme", 1), Owner::new("beta", 2)];
    let mut news = record.follow();
    for n in 1..=50_u64 {
        let drawer = if n % 3 == 0 { Drawer::Session("s".parse().unwrap()) } else { Drawer::Global };
        let value = (n % 5 != 0).then(|| MemoryValue { bytes: format!("{n}").into(), expires_at: None });
        let change = MemoryChange { drawer, key: format!("k{}%_/{n}", n % 2), revision: record.next_revision(), value };
        let owner = &mut owners[(n % 2) as usize];
        record.append(owner.change(vec![Delta::Memory(change)]), Durability::Lazy).await.unwrap();
    }
    assert_eq!(record.ends().borrow().visible, Position(50));
    record.append(owners[0].append(1), Durability::Barrier).await.unwrap();
    assert_eq!(record.ends().borrow().durable, Position(50));
    let mut told = 0;
    while let Ok(group) = news.try_recv() {
        for row in &group.rows {
            told += 1;
            assert_eq!(row.position, Position(told));
        }
    }
    assert_eq!(told, 50);
    let all = record.log(None, &Topic::ALL, Position(0), Position(50), 1_000).await.unwrap();
    assert_eq!(all.iter().map(|row| row.position.0).collect::<Vec<_>>(), (1..=50).collect::<Vec<_>>());
    let own = record.log(Some(&beta), &[Topic::Memory], Position(10), Position(40), 1_000).await.unwrap();
    assert!(own.iter().all(|row| row.tenant == beta) && own.len() == 15, "{}", own.len());
    let keys = |prefix: &str| Interest::Memory(Drawer::Global, prefix.to_owned());
    let feed = record.rows(&beta, &keys("k1%_/"), Position(0), Position(50), 5).await.unwrap();
    assert_eq!(
        feed.rows.iter().map(|row| row.changed().unwrap().key).collect::<Vec<_>>(),
        ["k1%_/1", "k1%_/5", "k1%_/7", "k1%_/11", "k1%_/13"]
    );
    assert_eq!(feed.next, feed.rows[4].position);
    let rest = record.rows(&beta, &keys("k1%_/"), feed.next, Position(50), 500).await.unwrap();
    assert_eq!(rest.next, Position(50));
    assert!(rest.rows.iter().any(|row| row.changed().unwrap().value.is_none()));
    let none = record.rows(&acme, &keys("k1"), Position(0), Position(50), 5).await.unwrap();
    assert_eq!((none.rows.len(), none.next), (0, Position(50)));

    assert_eq!(record.trim(Position(20), 15).await.unwrap(), 15);
    assert_eq!(record.trimmed().await.unwrap(), Position(15));
    assert_eq!(record.trim(Position(50), 1_000).await.unwrap(), 35);
    record.close().await;
    drop(record);
    let record = Record::open(OpenOptions::new(dir.path())).await.unwrap();
    assert_eq!(record.trimmed().await.unwrap(), Position(50));
    assert_eq!(record.ends().borrow().durable, Position(50), "a place is never used twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_come_to_its_end_is_deleted_and_said() {
    let (record, _dir) = record().await;
    let (acme, mut owner) = (tenant("acme"), Owner::new("acme", 1));
    let value = Some(MemoryValue { bytes: "v".into(), expires_at: Some(at(5)) });
    let change = MemoryChange { drawer: Drawer::Global, key: "k".into(), revision: record.next_revision(), value };
    record.append(owner.change(vec![Delta::Memory(change)]), Durability::Lazy).await.unwrap();
    // Time is what is written: an append much later sweeps.
    let mut late = owner.append(1);
    late.run.updated_at = at(60_000);
    record.append(late, Durability::Barrier).await.unwrap();
    let mut ends = record.ends();
    let found =
        tokio::time::timeout(std::time::Duration::from_secs(10), ends.wait_for(|ends| ends.durable >= Position(2)));
    found.await.expect("the sweep is soon").unwrap();
    let all = Interest::Memory(Drawer::Global, String::new());
    let feed = record.rows(&acme, &all, Position(0), Position(9), 10).await.unwrap();
    let values = feed.rows.iter().map(|row| row.changed().unwrap().value.is_some());
    assert_eq!(values.collect::<Vec<_>>(), [true, false]);
    assert_eq!(
        record.get(&acme, &Drawer::Global, "k", at(0)).await.unwrap(),
        None,
        "also for whoever asks in the past"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vectors_go_with_their_notes_and_come_back_as_they_were() {
    let (record, _dir) = record().await;
    let (acme, mut owner) = (tenant("acme"), Owner::new("acme", 1));
    let embedder = EmbedderId { name: "test-1".into(), dimensions: 3 };
    let note = |id: &str, file: &str, revision: u64| {
        let metadata = Metadata::from([("file".to_owned(), file.to_owned())]);
        Note { id: id.into(), text: format!("text of {id}"), metadata, revision: Revision(revision), kept_at: at(1) }
    };
    let kept = [note("a", "x.md", 1), note("b", "y.md", 2), note("c", "x.md", 3)];
    record.append(owner.change(kept.iter().cloned().map(Delta::NoteKept).collect()), Durability::Lazy).await.unwrap();
    assert_eq!(record.embedded(&acme, &embedder).await.unwrap(), None);
    let made = |note: &Note| Embedded {
        note: note.id.clone(),
        revision: note.revision,
        passages: vec![((0, 4), vec![1.0, 0.0, -0.5]), ((4, 8), vec![0.25, f32::MIN_POSITIVE, 1.0])],
    };
    let all = kept.iter().map(made).collect();
    let (added, gone) = record.keep_vectors(&acme, &embedder, all, Some(Position(3))).await.unwrap();
    assert_eq!((added.len(), gone.len()), (6, 0));
    assert_eq!(record.embedded(&acme, &embedder).await.unwrap(), Some(Position(3)));
    let read = record.vectors(&acme, &embedder, None, 100).await.unwrap();
    assert_eq!(read, added);
    let filter = Metadata::from([("file".to_owned(), "x.md".to_owned())]);
    let (ids, more) = record.passages_with(&acme, &embedder, &filter, 100).await.unwrap();
    assert_eq!((ids.len(), more), (4, false));
    assert!(record.passages_with(&acme, &embedder, &filter, 3).await.unwrap().1, "there are more");
    let found = record.passages(&acme, &embedder, &ids).await.unwrap();
    let notes: BTreeSet<&str> = found.iter().map(|(_, note)| note.id.as_str()).collect();
    assert_eq!(notes, BTreeSet::from(["a", "c"]));

    // A note that was kept anew is not found by what was made of the one before.
    record.append(owner.change(vec![Delta::NoteKept(note("a", "z.md", 9))]), Durability::Lazy).await.unwrap();
    let found = record.passages(&acme, &embedder, &ids).await.unwrap();
    assert!(found.iter().all(|(_, note)| note.id != "a"), "{found:?}");
    let forgotten = Embedded { note: "b".into(), revision: Revision(u64::MAX), passages: Vec::new() };
    let (added, gone) =
        record.keep_vectors(&acme, &embedder, vec![made(&note("a", "z.md", 9)), forgotten], None).await.unwrap();
    assert_eq!((added.len(), gone.len()), (2, 4));
    assert_eq!(record.embedded(&acme, &embedder).await.unwrap(), Some(Position(3)), "it stays where nothing is said");
    let notes = record.embedded_notes(&acme, &embedder, None, 10).await.unwrap();
    assert_eq!(notes, [("a".to_owned(), 9), ("c".to_owned(), 3)]);
    record.forget_embedder(&acme, &embedder).await.unwrap();
    assert!(record.vectors(&acme, &embedder, None, 10).await.unwrap().is_empty());
    assert_eq!(record.embedders(&acme).await.unwrap(), []);
}

/// Each interest has its rows, whatever else is in the log, a page at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_of_interest_is_found_in_the_log() {
    let (record, _dir) = record().await;
    let (acme, mut owner) = (tenant("acme"), Owner::new("acme", 1));
    let names = ["a", "b"];
    for n in 1..=300_u64 {
        let name = names[(n % 2) as usize];
        let deltas = vec![
            sample::sent(sample::topic(name), 10 * n, "x"),
            sample::sent(sample::mailbox(name), 10 * n + 1, "x"),
            Delta::Memory(put(&Drawer::Global, name, Revision(10 * n + 2), "x")),
        ];
        record.append(owner.change(deltas), Durability::Lazy).await.unwrap();
    }
    let end = record.ends().borrow().visible;
    let interests = [
        Interest::Topic("a".parse().unwrap()),
        Interest::Mailbox("a".parse().unwrap()),
        Interest::Memory(Drawer::Global, "a".into()),
    ];
    for (nth, interest) in (1..).zip(interests) {
        let (mut after, mut found) = (Position(0), Vec::new());
        while after < end {
            let page = record.rows(&acme, &interest, after, end, 100).await.unwrap();
            assert!(page.next > after && page.rows.len() <= 100, "{interest:?} after {after:?}");
            after = page.next;
            found.extend(page.rows.into_iter().map(|row| row.position.0));
        }
        let wanted: Vec<u64> = (1..=150).map(|n| 3 * (2 * n - 1) + nth).collect();
        assert_eq!(found, wanted, "{interest:?}");
        let of_beta = record.rows(&tenant("beta"), &interest, Position(0), end, 100).await.unwrap();
        assert_eq!((of_beta.rows.len(), of_beta.next), (0, end));
    }
    let run = Interest::Run(run_id(1));
    let found = record.rows(&acme, &run, Position(0), end, 100).await.unwrap();
    assert!(matches!(&found.rows[..], [row] if row.position == Position(300)), "{found:?}");
    assert!(record.rows(&acme, &run, Position(300), end, 100).await.unwrap().rows.is_empty());
}

/// Also appends that leave no row in the log are told, and whoever has seen something can wait until it is on disk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_append_is_told_and_comes_to_disk_by_itself() {
    let (record, dir) = record().await;
    let (mut owner, mut news) = (Owner::new("acme", 1), record.follow());
    record.append(owner.append(2), Durability::Lazy).await.unwrap();
    let told = news.recv().await.unwrap();
    assert_eq!((told.rows.len(), told.runs[0].id, told.runs[0].seq), (0, run_id(1), Seq(2)));
    assert!(told.commit > record.ends().borrow().synced, "nobody asked for it");
    let soon = std::time::Duration::from_secs(5);
    tokio::time::timeout(soon, record.settled()).await.expect("it is synced soon, by itself");
    assert!(told.commit <= record.ends().borrow().synced);
    // What is refused, or comes to nothing, keeps nobody waiting.
    let mut wrong = owner.clone();
    wrong.row.seq = Seq(7);
    record.append(wrong.append(1), Durability::Lazy).await.unwrap_err();
    tokio::time::timeout(soon, record.settled()).await.expect("there is nothing to wait for");
    drop(dir);
}
