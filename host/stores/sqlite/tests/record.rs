//! What is the record's own: its directory, its versions, a full disk, a changed byte.

use std::path::Path;
use std::time::Duration;

use ltmc_model::memory::Drawer;
use ltmc_model::{RunId, Seq};
use ltmc_ports::testing::sample::{Owner, at, put, run_id, tenant};
use ltmc_ports::{Durability, Kind, ReadJournal as _, ReadLog as _, ReadMemory as _, Record as _, WriteJournal as _};
use ltmc_sqlite::{OpenError, OpenOptions, Record};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

async fn raw(dir: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(dir.join("record.db")).connect().await.unwrap()
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
    let mut connection = raw(dir.path()).await;
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
                 values (99, 'from the future', 1, x'00', 0)";
    sqlx::query(newer).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let error = Record::open(OpenOptions::new(dir.path())).await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 99, known: 2, .. }), "{error}");
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
        let mut connection = raw(dir.path()).await;
        let id = run_id(2).0.as_bytes().to_vec();
        let (first, before): (i64, Vec<u8>) =
            sqlx::query_as("select first, frames from journal where run = ? and first = 4")
                .bind(id.clone())
                .fetch_one(&mut connection)
                .await
                .unwrap();
        let mut changed = before.clone();
        changed[offset] ^= 1;
        let update = "update journal set frames = ? where run = ? and first = ?";
        sqlx::query(update).bind(changed).bind(id.clone()).bind(first).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();

        let record = Record::open(OpenOptions::new(dir.path())).await.unwrap();
        let audit = record.verify().await.unwrap();
        record.close().await;
        drop(record);
        let damage = &audit.damage[0];
        assert_eq!((damage.run, damage.seq), (Some(run_id(2)), Some(Seq(4))), "byte {offset}: {audit:?}");

        let mut connection = raw(dir.path()).await;
        sqlx::query(update).bind(before).bind(id).bind(first).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
    let record = Record::open(OpenOptions::new(dir.path())).await.unwrap();
    assert_eq!(record.verify().await.unwrap().damage, []);
}

#[tokio::test]
async fn a_missing_end_is_found() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 2).await;
    let mut connection = raw(dir.path()).await;
    sqlx::query("delete from journal where place = (select max(place) from journal)")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let record = Record::open(OpenOptions::new(dir.path())).await.unwrap();
    let audit = record.verify().await.unwrap();
    assert_eq!((audit.verified, audit.damage.len()), (8, 1), "{audit:?}");
}

#[tokio::test]
async fn a_full_disk_leaves_nothing_half_written() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), 1).await;
    let pages = {
        let mut connection = raw(dir.path()).await;
        let pages: i64 = sqlx::query_scalar("pragma page_count").fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        u32::try_from(pages).unwrap() + 20
    };
    let options = OpenOptions { max_pages: Some(pages), ..OpenOptions::new(dir.path()) };
    let record = Record::open(options).await.unwrap();
    let mut written = 0;
    let error = loop {
        let mut owner = Owner::new("acme", 100 + written);
        let change = put(&Drawer::Global, &format!("{written}"), record.next_revision(), vec![7; 4_000]);
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
        let change = put(&Drawer::Global, "k", record.next_revision(), vec![round]);
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
