//! What is the record's own: its directory, its versions, a full disk, a changed byte.

use std::path::Path;
use std::task::{Context, Waker};
use std::time::Duration;

use ltmc_model::agent::{Carry, Grants};
use ltmc_model::memory::Drawer;
use ltmc_model::{Capability, RunId, Seq};
use ltmc_ports::journal::Kept;
use ltmc_ports::record::OpenError;
use ltmc_ports::testing::sample::{Owner, at, put, run_id, tenant};
use ltmc_ports::{
    Durability, Kind, ReadCatalog as _, ReadChains as _, ReadJournal as _, ReadLog as _, ReadMemory as _, Record as _,
    WriteJournal as _,
};
use ltmc_sqlite::{OpenOptions, Record};
use rusqlite::{Connection, params};

fn raw(dir: &Path) -> Connection {
    Connection::open(dir.join("record.db")).unwrap()
}

async fn write(dir: &Path, runs: u64) {
    let record = Record::open(OpenOptions::new(dir)).await.unwrap();
    for number in 1..=runs {
        let mut owner = Owner::new("acme", number);
        record.append(owner.append(3), Durability::Lazy).await.unwrap();
        record.append(owner.append(2), Durability::Barrier).await.unwrap();
    }
    record.close().await;
}

#[tokio::test]
async fn a_directory_belongs_to_one_host() {
    let dir = tempfile::tempdir().unwrap();
    let first = Record::open(OpenOptions::new(dir.path())).await.unwrap();
    assert!(matches!(Record::open(OpenOptions::new(dir.path())).await, Err(OpenError::Locked { .. })));
    first.close().await;
    drop(first);
    Record::open(OpenOptions::new(dir.path())).await.unwrap().close().await;
}

#[tokio::test]
async fn a_newer_versions_record_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1).await;
    raw(dir.path()).pragma_update(None, "user_version", 99).unwrap();
    let error = Record::open(OpenOptions::new(dir.path())).await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
    let error = Record::audit(dir.path(), Kept::default()).await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error}");
}

/// Records of before kept their version in a table of the driver's, and grants without a version.
#[tokio::test]
async fn a_record_of_before_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let db = raw(dir.path());
    for sql in [include_str!("../migrations/0001_record.sql"), include_str!("../migrations/0002_context.sql")] {
        db.execute_batch(sql).unwrap();
    }
    db.execute_batch(
        "create table _sqlx_migrations (version bigint primary key);
         insert into _sqlx_migrations values (1), (2);
         insert into agents values ('acme', 'echo', zeroblob(32), 1, '{}', '[\"agent\"]', 4, 1);
         insert into agents values ('acme', 'echo', cast(zeroblob(31) || x'01' as blob), 2, '{}', '[\"agent\"]', 4, 2);
         insert into grants values ('acme', 'echo', '[\"log\"]')",
    )
    .unwrap();
    drop(db);
    for _ in 0..2 {
        let record = Record::open(OpenOptions::new(dir.path())).await.unwrap();
        let granted = record.granted_versions(&tenant("acme"), &"echo".parse().unwrap()).await.unwrap();
        let log = Grants { capabilities: vec![Capability::Log], carry: Carry::Never };
        assert_eq!(granted.iter().map(|(_, held)| held).collect::<Vec<_>>(), [&log, &log], "all versions had it");
        record.close().await;
    }
    let newest = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap().count() as i64;
    let version: i64 = raw(dir.path()).pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, newest);
}

#[tokio::test]
async fn what_is_no_record_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("record.db"), "this is no database, whatever its name says, and long enough")
        .unwrap();
    let error = Record::open(OpenOptions::new(dir.path())).await.unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn only_its_owner_can_read_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    write(&data, 1).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&data.join("record.db"))), (0o700, 0o600));
}

#[tokio::test]
async fn one_changed_byte_is_found_and_its_place_is_told() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 3).await;
    // Every entry of the second run has five; the byte is in the entry, in its hash, and in its length.
    for offset in [60_usize, 8, 0] {
        let connection = raw(dir.path());
        let id = run_id(2).0.as_bytes().to_vec();
        let sql = "select first, frames from journal where run = ? and first = 4";
        let (first, before): (i64, Vec<u8>) =
            connection.query_row(sql, [&id], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let mut changed = before.clone();
        changed[offset] ^= 1;
        let update = "update journal set frames = ? where run = ? and first = ?";
        connection.execute(update, params![changed, id, first]).unwrap();
        drop(connection);

        let record = Record::open(OpenOptions::new(dir.path())).await.unwrap();
        let audit = record.verify().await.unwrap();
        record.close().await;
        drop(record);
        let damage = &audit.damage[0];
        assert_eq!((damage.run, damage.seq), (Some(run_id(2)), Some(Seq(4))), "byte {offset}: {audit:?}");

        raw(dir.path()).execute(update, params![before, id, first]).unwrap();
    }
    let record = Record::open(OpenOptions::new(dir.path())).await.unwrap();
    assert_eq!(record.verify().await.unwrap().damage, []);
}

#[tokio::test]
async fn a_missing_end_is_found() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 2).await;
    let last = "delete from journal where place = (select max(place) from journal)";
    raw(dir.path()).execute(last, []).unwrap();
    let record = Record::open(OpenOptions::new(dir.path())).await.unwrap();
    let audit = record.verify().await.unwrap();
    assert_eq!((audit.verified, audit.damage.len()), (8, 1), "{audit:?}");
}

#[tokio::test]
async fn a_full_disk_leaves_nothing_half_written() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1).await;
    let pages: u32 = raw(dir.path()).pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    let options = OpenOptions { max_pages: Some(pages + 20), ..OpenOptions::new(dir.path()) };
    let record = Record::open(options).await.unwrap();
    let mut written = 0;
    let error = loop {
        let mut owner = Owner::new("acme", 100 + written);
        let change = put(&Drawer::Global, &format!("{written}"), record.next_revision(&tenant("acme")), vec![7; 4_000]);
        match record.append(owner.remember(vec![change]), Durability::Barrier).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1_000, "the disk is never full");
    };
    assert_eq!(error.kind, Kind::Full, "{error}");
    let acme = tenant("acme");
    assert_eq!(record.run(&acme, run_id(100 + written)).await.unwrap(), None);
    assert_eq!(record.get(&acme, &Drawer::Global, &written.to_string(), at(0)).await.unwrap(), None);
    assert_eq!(record.verify().await.unwrap().damage, []);
    record.close().await;
    drop(record);
    let record = Record::open(OpenOptions::new(dir.path())).await.unwrap();
    let mut owner = Owner::new("acme", 100 + written);
    record.append(owner.append(1), Durability::Barrier).await.unwrap();
    assert_eq!(record.verify().await.unwrap().damage, []);
}

/// What was committed without a barrier is on disk a little later, by itself, however often; only then may it be shown outside.
#[tokio::test]
async fn what_is_lazy_is_durable_soon() {
    let dir = tempfile::tempdir().unwrap();
    let record = Record::open(OpenOptions::new(dir.path())).await.unwrap();
    let mut ends = record.ends();
    let mut owner = Owner::new("acme", 1);
    for round in 0..3 {
        let change = put(&Drawer::Global, "k", record.next_revision(&tenant("acme")), vec![round]);
        record.append(owner.remember(vec![change]), Durability::Lazy).await.unwrap();
        let visible = ends.borrow_and_update().visible;
        let soon = ends.wait_for(|ends| ends.durable >= visible);
        tokio::time::timeout(Duration::from_secs(5), soon).await.expect("nobody has to ask for it").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_a_bad_part_takes_the_good_ones() {
    let dir = tempfile::tempdir().unwrap();
    let record = Record::open(OpenOptions::new(dir.path())).await.unwrap();
    record.append(Owner::new("acme", 1).append(1), Durability::Lazy).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1..=40 {
        let record = record.clone();
        tasks.spawn(
            async move { (number, record.append(Owner::new("acme", number).append(1), Durability::Lazy).await) },
        );
    }
    for (number, result) in tasks.join_all().await {
        assert_eq!(result.is_ok(), number != 1, "{number}: {result:?}");
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(record.verify().await.unwrap().verified, 40);
    assert!(record.entries(&tenant("acme"), RunId::ledger(), Seq(0), 1).await.unwrap().is_empty());
}

/// A tenant that writes large values has those of others wait for one of them at most, which may be under way.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_large_values_holds_up_nobody_elses_small_ones() {
    let dir = tempfile::tempdir().unwrap();
    let record = Record::open(OpenOptions::new(dir.path())).await.unwrap();
    let mut flood = Vec::new();
    for number in 0..30 {
        let put = put(&Drawer::Global, "large", record.next_revision(&tenant("acme")), vec![7; 4 << 20]);
        flood.push(record.hand_over(Owner::new("acme", number).remember(vec![put]), Durability::Lazy).await);
    }
    let written = |flood: &mut Vec<_>| {
        flood.retain_mut(|receipt: &mut ltmc_ports::Receipt| {
            let polled = receipt.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            polled.map(Result::unwrap).is_pending()
        });
        30 - flood.len()
    };
    for number in 0..5 {
        let before = written(&mut flood);
        record.append(Owner::new("beta", number).append(1), Durability::Barrier).await.unwrap();
        let meanwhile = written(&mut flood) - before;
        assert!(meanwhile <= 2, "{meanwhile} of the flood went before it");
    }
    assert!(written(&mut flood) < 30, "there was no flood any more");
    record.close().await;
    assert_eq!(written(&mut flood), 30, "what waits is written before it is closed");
}

/// Whoever can write the data directory can have the host load what he likes.
#[tokio::test]
async fn a_directory_that_others_may_write_or_that_has_links_is_refused() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1).await;
    let inner = dir.path().join("sandbox/components");
    std::fs::create_dir_all(&inner).unwrap();
    for path in [dir.path(), &inner] {
        let mode = |mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        for others in [0o770, 0o777, 0o1777, 0o702] {
            mode(others);
            let error = Record::open(OpenOptions::new(dir.path())).await.unwrap_err();
            assert!(matches!(&error, OpenError::Shared { dir, mode } if dir == path && *mode == others), "{error}");
        }
        mode(0o755);
        Record::open(OpenOptions::new(dir.path())).await.unwrap().close().await;
        let link = path.join("link");
        symlink("elsewhere", &link).unwrap();
        let error = Record::open(OpenOptions::new(dir.path())).await.unwrap_err();
        assert!(matches!(&error, OpenError::Link { path } if *path == link), "{error}");
        std::fs::remove_file(&link).unwrap();
    }
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::rename(dir.path().join("record.db"), elsewhere.path().join("record.db")).unwrap();
    symlink(elsewhere.path().join("record.db"), dir.path().join("record.db")).unwrap();
    assert!(matches!(Record::open(OpenOptions::new(dir.path())).await, Err(OpenError::Link { .. })));
}

/// So can whoever owns what is in it, whatever its mode is.
#[tokio::test]
async fn a_directory_of_another_user_is_refused() {
    use std::os::unix::fs::{MetadataExt as _, chown};
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1).await;
    let inner = dir.path().join("sandbox/components");
    std::fs::create_dir_all(&inner).unwrap();
    std::fs::write(inner.join("artifact"), "code").unwrap();
    let own = std::fs::metadata(dir.path()).unwrap().uid();
    Record::open(OpenOptions::new(dir.path())).await.unwrap().close().await;
    if own != 0 {
        // Only the superuser can give anything away.
        return;
    }
    for path in [dir.path(), &inner, &inner.join("artifact"), &dir.path().join("record.db")] {
        chown(path, Some(4_321), None).unwrap();
        let error = Record::open(OpenOptions::new(dir.path())).await.unwrap_err();
        let is_told = |error: &OpenError| matches!(error, OpenError::Foreign { path: found, owner: 4_321, own: 0 } if found == path);
        assert!(is_told(&error), "{error}");
        chown(path, Some(own), None).unwrap();
        Record::open(OpenOptions::new(dir.path())).await.unwrap().close().await;
    }
}

/// What is told elsewhere of a chain is on disk: after a power cut the record would be found to be behind it.
#[tokio::test]
async fn a_head_is_told_once_it_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let record = Record::open(OpenOptions::new(dir.path())).await.unwrap();
    let mut waited = 0;
    for number in 1..=5 {
        record.append(Owner::new("acme", number).append(1), Durability::Lazy).await.unwrap();
        let before = *record.ends().borrow();
        let heads = record.heads(None, 10).await.unwrap();
        assert_eq!(heads[0].length, number, "also what is not on disk yet is waited for");
        assert!(record.ends().borrow().synced >= before.begun, "it is told, and a power cut may take it back");
        waited += u32::from(before.synced < before.begun);
    }
    assert!(waited > 0, "nothing had to be waited for: this is not what is to be tried");
    record.close().await;
}
