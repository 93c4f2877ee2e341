//! What is kept of runs' states: counted as the tenant's, left out where it has no room, and held against the journal.

use std::path::Path;
use std::sync::Arc;

use ltmc_model::journal::{Entry, Event};
use ltmc_model::{Digest, Payload, Seq, StepPath};
use ltmc_ports::journal::{Kept, Snapshot};
use ltmc_ports::testing::sample::{Owner, at, tenant};
use ltmc_ports::{Append, Durability, ReadCatalog as _, ReadJournal as _, Record as _, WriteJournal as _};
use ltmc_sqlite::{OpenOptions, Record};
use rusqlite::Connection;

const LARGE: usize = 100_000;

async fn open(dir: &Path, quota: u64) -> Arc<Record> {
    Record::open(OpenOptions { quota, ..OpenOptions::new(dir) }).await.unwrap()
}

/// The next append, which seals its run.
fn sealing(owner: &mut Owner, bytes: usize) -> Append {
    let state = vec![owner.row.seq.0 as u8; bytes];
    let sealed = Event::Sealed { form: 1, digest: Digest::of(&state), bytes: bytes as u64 };
    let goes_on = Event::NodeEnded { node: StepPath::root(), output: Payload::text("on") };
    let entries = [sealed, goes_on].map(|event| Entry { at: at(2), event });
    let append = owner.write(entries.into());
    let snapshot = Snapshot { at: append.expected.next(), bytes: state.into() };
    Append { snapshot: Some(snapshot), ..append }
}

async fn damage(dir: &Path) -> Vec<String> {
    let audit = Record::audit(dir, Kept::default()).await.unwrap();
    audit.damage.into_iter().map(|damage| damage.what).collect()
}

#[tokio::test]
async fn what_is_kept_is_the_tenants_and_does_not_add_up() {
    let dir = tempfile::tempdir().unwrap();
    let (acme, record) = (tenant("acme"), open(dir.path(), u64::MAX).await);
    let mut owner = Owner::new("acme", 1);
    record.append(owner.append(1), Durability::Lazy).await.unwrap();
    let mut used = Vec::new();
    for _ in 0..5 {
        record.append(sealing(&mut owner, LARGE), Durability::Barrier).await.unwrap();
        used.push(record.disk_usage(&acme).await.unwrap().used as usize);
    }
    assert!(used[1] - used[0] > LARGE, "it is counted: {used:?}");
    assert!(used[4] - used[1] < LARGE / 10, "of more than two the oldest goes: {used:?}");
    record.close().await;
    assert_eq!(damage(dir.path()).await, [""; 0]);
}

#[tokio::test]
async fn a_tenant_that_has_no_room_for_it_goes_on_without() {
    let dir = tempfile::tempdir().unwrap();
    let (acme, record) = (tenant("acme"), open(dir.path(), LARGE as u64).await);
    let mut owner = Owner::new("acme", 1);
    record.append(owner.append(1), Durability::Lazy).await.unwrap();
    record.append(sealing(&mut owner, 1_000), Durability::Lazy).await.unwrap();
    let length = owner.row.seq;
    record.append(sealing(&mut owner, LARGE), Durability::Barrier).await.unwrap();
    let kept = record.snapshot(&acme, owner.row.id, Seq(u64::MAX)).await.unwrap().unwrap();
    assert_eq!((kept.bytes.len(), record.last(&acme, owner.row.id).await.unwrap()), (1_000, owner.row.seq));
    assert!(kept.at < length, "the one before stays");
    record.close().await;
    assert_eq!(damage(dir.path()).await, [""; 0]);
}

#[tokio::test]
async fn one_changed_byte_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let record = open(dir.path(), u64::MAX).await;
    let mut owner = Owner::new("acme", 1);
    record.append(owner.append(1), Durability::Lazy).await.unwrap();
    record.append(sealing(&mut owner, 100), Durability::Barrier).await.unwrap();
    record.close().await;
    let changed = |sql: &str| {
        let db = Connection::open(dir.path().join("record.db")).unwrap();
        assert_eq!(db.execute(sql, []).unwrap(), 1);
    };
    assert_eq!(damage(dir.path()).await, [""; 0]);
    changed("update snapshots set state = cast(x'00' || substr(state, 2) as blob)");
    let found = damage(dir.path()).await;
    assert!(found.len() == 1 && found[0].contains("not what the entry commits to"), "{found:?}");
    changed("update snapshots set state = cast(x'01' || substr(state, 2) as blob)");
    assert_eq!(damage(dir.path()).await, [""; 0]);
    changed("update snapshots set at = at + 1");
    assert_eq!(damage(dir.path()).await.len(), 1, "at another entry, too");
}
