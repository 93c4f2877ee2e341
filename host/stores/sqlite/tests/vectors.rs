//! What is made of notes counts as what their tenant has on disk, and is bounded by it.

use ltmc_model::delta::Delta;
use ltmc_model::journal::{Act, Change};
use ltmc_model::recall::{EmbedderId, Note};
use ltmc_model::tenancy::Ceiling;
use ltmc_model::{Position, Revision};
use ltmc_ports::recall::Embedded;
use ltmc_ports::testing::sample::{Owner, at, tenant};
use ltmc_ports::{
    Durability, ReadCatalog as _, ReadNotes as _, WriteCatalog as _, WriteJournal as _, WriteVectors as _,
};
use ltmc_sqlite::{OpenOptions, Record};

/// What a passage is counted as, of a note whose id has one byte.
const PASSAGE: u64 = 4 * 256 + 1 + 128;

fn embedded(note: &str, revision: Revision, passages: usize) -> Embedded {
    Embedded { note: note.into(), revision, passages: vec![((0, 4), vec![0.5; 256]); passages] }
}

#[tokio::test]
async fn what_a_tenant_has_no_room_for_is_left_out_whole_and_the_rest_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let record = Record::open(OpenOptions { quota: u64::MAX, ..OpenOptions::new(dir.path()) }).await.unwrap();
    let (acme, embedder) = (tenant("acme"), EmbedderId { name: "test".into(), dimensions: 256 });
    let notes = ["a", "b", "c", "d"].map(|id| (id, record.next_revision(&tenant("acme"))));
    let kept = notes.map(|(id, revision)| {
        Delta::NoteKept(Note {
            id: id.into(),
            text: "text".into(),
            metadata: Default::default(),
            revision,
            kept_at: at(1),
        })
    });
    record.append(Owner::new("acme", 1).change(kept.into()), Durability::Barrier).await.unwrap();
    let used = async || record.disk_usage(&acme).await.unwrap().used;
    let allow = async |bytes: u64| {
        let ceiling = Ceiling { disk: Some(bytesize::ByteSize(bytes)), ..Ceiling::default() };
        let act = Act { by: None, change: Change::CeilingSet { tenant: acme.clone(), ceiling } };
        record.act(&acme, at(1), act).await.unwrap();
    };
    let known = async || {
        let found = record.embedded_notes(&acme, &embedder, None, 10).await.unwrap();
        found.into_iter().map(|(note, _)| note).collect::<Vec<_>>()
    };
    let [a, b, c, d] = notes.map(|(_, revision)| revision);
    // Room for three passages, and for the act that sets it.
    allow(1 << 40).await;
    let before = used().await;
    allow(1 << 40).await;
    let act = used().await - before;
    allow(used().await + act + 3 * PASSAGE + 100).await;
    let all = vec![embedded("a", a, 2), embedded("b", b, 2), embedded("c", c, 1)];
    let (added, gone) = record.keep_vectors(&acme, &embedder, all, Some(Position(7))).await.unwrap();
    assert_eq!(added.iter().map(|passage| passage.note.as_str()).collect::<Vec<_>>(), ["a", "a", "c"]);
    assert!(gone.is_empty());
    assert_eq!(known().await, ["a", "c"], "a repair finds that one is missing");
    assert_eq!(record.embedded(&acme, &embedder).await.unwrap(), Some(Position(7)), "whoever follows goes on");
    let before = used().await;
    assert!(before <= record.disk_usage(&acme).await.unwrap().allowed);
    let (added, _) = record.keep_vectors(&acme, &embedder, vec![embedded("d", d, 1)], None).await.unwrap();
    assert!(added.is_empty());
    // What takes the place of something has its room.
    let (added, gone) = record.keep_vectors(&acme, &embedder, vec![embedded("a", a, 2)], None).await.unwrap();
    assert_eq!((added.len(), gone.len(), used().await), (2, 2, before));
    allow(before + act + 3 * PASSAGE + 100).await;
    let rest = vec![embedded("b", b, 2), embedded("d", d, 1)];
    assert_eq!(record.keep_vectors(&acme, &embedder, rest, None).await.unwrap().0.len(), 3);
    assert_eq!(known().await, ["a", "b", "c", "d"]);
}
