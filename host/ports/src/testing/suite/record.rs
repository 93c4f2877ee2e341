//! What every record does besides what its ports' own suites say: the log, what has come to its end, vectors, and being closed.
//! [`crate::record_contract`] makes a test of every case.

use std::collections::BTreeSet;

use ltmc_model::delta::{Delta, MemoryChange, MemoryValue, Topic};
use ltmc_model::memory::Drawer;
use ltmc_model::recall::{EmbedderId, Metadata, Note};
use ltmc_model::{Position, Revision};

use super::Fixture;
use crate::log::Interest;
use crate::recall::Embedded;
use crate::testing::sample::{Owner, at, put, tenant};
use crate::{Durability, Kind, ReadLog as _, ReadMemory as _, ReadNotes, Record, WriteJournal as _, WriteVectors};

/// Makes a test of every case: `ltmc_ports::record_contract!(MyFixture::default());`. The crate needs tokio's macros.
#[macro_export]
macro_rules! record_contract {
    ($fixture:expr) => {
        $crate::contract! { @port record, $fixture;
            who_follows_and_then_looks_misses_nothing
            the_log_tells_every_delta_in_order_and_forgets_what_is_trimmed
            what_has_come_to_its_end_is_deleted_and_said
            vectors_go_with_their_notes_and_come_back_as_they_were
            what_is_closed_refuses
        }
    };
}

/// Whoever follows first, and then looks how far the log goes, has each change from one or from the other: nobody waits for
/// what has come already.
pub async fn who_follows_and_then_looks_misses_nothing<F: Fixture>(fixture: &F)
where
    F::Store: Record,
{
    let record = fixture.fresh().await;
    // To wake others takes a while, between the one and the other.
    for _ in 0..32 {
        let mut news = record.follow();
        tokio::spawn(async move { while news.recv().await.is_ok() {} });
    }
    let (mut owner, ends, mut seen) = (Owner::new("acme", 1), record.ends(), Position(0));
    for n in 0..3_000_u64 {
        let change = put(&Drawer::Global, &n.to_string(), record.next_revision(&tenant("acme")), "x");
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

/// The log tells every delta in order, and forgets what is trimmed; a place is never used twice.
pub async fn the_log_tells_every_delta_in_order_and_forgets_what_is_trimmed<F: Fixture>(fixture: &F)
where
    F::Store: Record,
{
    let record = fixture.fresh().await;
    let (acme, beta) = (tenant("acme"), tenant("beta"));
    let mut owners = [Owner::new("acme", 1), Owner::new("beta", 2)];
    let mut news = record.follow();
    for n in 1..=50_u64 {
        let drawer = if n % 3 == 0 { Drawer::Session("s".parse().unwrap()) } else { Drawer::Global };
        let value = (n % 5 != 0).then(|| MemoryValue { bytes: format!("{n}").into(), expires_at: None });
        let change = MemoryChange {
            drawer,
            key: format!("k{}%_/{n}", n % 2),
            revision: record.next_revision(&tenant("acme")),
            value,
            trail: None,
        };
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
    assert_eq!(record.trimmed(&acme).await.unwrap(), Position(15));
    assert_eq!(record.trim(Position(50), 1_000).await.unwrap(), 35);
    record.append(owners[0].append(1), Durability::Barrier).await.unwrap();
    let record = fixture.crash(record).await;
    assert_eq!(record.trimmed(&acme).await.unwrap(), Position(50));
    assert_eq!(record.ends().borrow().durable, Position(50), "a place is never used twice");
}

/// What has come to its end is deleted by the record itself, soon, and the log says so.
pub async fn what_has_come_to_its_end_is_deleted_and_said<F: Fixture>(fixture: &F)
where
    F::Store: Record,
{
    let record = fixture.fresh().await;
    let (acme, mut owner) = (tenant("acme"), Owner::new("acme", 1));
    let value = Some(MemoryValue { bytes: "v".into(), expires_at: Some(at(5)) });
    let change = MemoryChange {
        drawer: Drawer::Global,
        key: "k".into(),
        revision: record.next_revision(&tenant("acme")),
        value,
        trail: None,
    };
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

/// Vectors go with their notes, and come back as they were, also after a crash.
pub async fn vectors_go_with_their_notes_and_come_back_as_they_were<F: Fixture>(fixture: &F)
where
    F::Store: ReadNotes + WriteVectors,
{
    let record = fixture.fresh().await;
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
    let before = record.vectors(&acme, &embedder, None, 10).await.unwrap();
    record.append(owner.append(1), Durability::Barrier).await.unwrap();
    let record = fixture.crash(record).await;
    assert_eq!(record.vectors(&acme, &embedder, None, 10).await.unwrap(), before);
    assert_eq!(record.embedders(&acme).await.unwrap(), std::slice::from_ref(&embedder));
    record.forget_embedder(&acme, &embedder).await.unwrap();
    assert!(record.vectors(&acme, &embedder, None, 10).await.unwrap().is_empty());
    assert_eq!(record.embedders(&acme).await.unwrap(), []);
}

/// What is closed refuses whoever writes, and says so.
pub async fn what_is_closed_refuses<F: Fixture>(fixture: &F)
where
    F::Store: Record,
{
    let record = fixture.fresh().await;
    record.check().await.unwrap();
    record.close().await;
    let refused = record.append(Owner::new("acme", 1).append(1), Durability::Lazy).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Unavailable);
    assert!(record.check().await.is_err());
}
