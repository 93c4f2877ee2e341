//! What a deleted tenant left goes piece by piece, whoever dies meanwhile, and nothing of it comes back.

use std::path::Path;
use std::sync::Arc;

use ltmc_model::caller::Role;
use ltmc_model::chain::{Anchors, Head};
use ltmc_model::delta::Delta;
use ltmc_model::journal::{Act, Change};
use ltmc_model::memory::Drawer;
use ltmc_model::recall::{EmbedderId, Note};
use ltmc_model::schedule::{Overlap, Planned, Timing};
use ltmc_model::tenancy::{Ceiling, Key, Tenant};
use ltmc_model::{Digest, Revision, TenantId, Timestamp};
use ltmc_ports::journal::Kept;
use ltmc_ports::recall::Embedded;
use ltmc_ports::testing::sample::{Owner, at, mailbox, put, sent, tenant, topic};
use ltmc_ports::{
    Durability, Kind, Purge as _, ReadCatalog as _, ReadChains as _, ReadJournal as _, Record as _, WriteCatalog as _,
    WriteJournal as _, WriteVectors as _,
};
use ltmc_sqlite::{OpenOptions, Record};
use rusqlite::Connection;

fn act(change: Change) -> Act {
    Act { by: None, change }
}

fn embedder() -> EmbedderId {
    EmbedderId { name: "test".into(), dimensions: 4 }
}

async fn open(dir: &Path) -> Arc<Record> {
    Record::open(OpenOptions::new(dir)).await.unwrap()
}

async fn make(record: &Record, name: &str) {
    let change = Change::TenantCreated(Tenant { name: tenant(name), created_at: at(1) });
    record.act(&TenantId::host(), at(1), act(change)).await.unwrap();
}

/// Something in every table, and in some more than goes at once.
async fn furnish(record: &Record, of: &str) {
    let (name, barrier) = (tenant(of), Durability::Barrier);
    let next = || record.next_revision(&tenant("acme"));
    let key = Key {
        id: format!("{:a>12}", &of[..1]).parse().unwrap(),
        tenant: name.clone(),
        role: Role::Admin,
        hash: [7; 32],
        created_at: at(1),
        expires_at: None,
        revoked_at: None,
    };
    let source = "name: w".to_owned();
    for change in [
        Change::KeyCreated(key),
        Change::CeilingSet { tenant: name.clone(), ceiling: Ceiling::default() },
        Change::WorkflowPut {
            name: "w".parse().unwrap(),
            source,
            digest: Digest([0; 32]),
            schedules: vec![daily()],
            triggers: Vec::new(),
        },
    ] {
        record.act(&name, at(1), act(change)).await.unwrap();
    }
    let metadata = [("lang".to_owned(), "en".to_owned())].into();
    let note = Note { id: "n".into(), text: "a note".into(), metadata, revision: next(), kept_at: at(1) };
    let revision = note.revision;
    let deltas = vec![
        Delta::NoteKept(note),
        sent(mailbox("echo"), next().0, "a letter"),
        sent(topic("news"), next().0, "an event"),
    ];
    record.append(Owner::new(of, 1).change(deltas), barrier).await.unwrap();
    record.append(Owner::new(of, 2).under("key", Timestamp::NEVER), barrier).await.unwrap();
    for number in 3..100 {
        let change = put(&Drawer::Global, &format!("k{number}"), next(), vec![1; 100]);
        record.append(Owner::new(of, number).remember(vec![change]), Durability::Lazy).await.unwrap();
    }
    let passages = vec![((0, 1), vec![0.5; 4])];
    let embedded = Embedded { note: "n".into(), revision: Revision(revision.0), passages };
    record.keep_vectors(&name, &embedder(), vec![embedded], None).await.unwrap();
}

/// A workflow's schedule.
fn daily() -> Planned {
    let zone = "UTC".parse().unwrap();
    let timing = Timing::new("@daily".parse().unwrap(), zone, Overlap::Skip, Timing::CATCH_UP);
    Planned { digest: Digest([1; 32]), timing, next: at(1) }
}

/// How many rows there are of a tenant in all tables, its own row aside.
fn rows(dir: &Path, of: &str) -> u64 {
    let db = Connection::open(dir.join("record.db")).unwrap();
    let sql = "select m.name from sqlite_schema m join pragma_table_info(m.name) c where m.type = 'table' and c.name = 'tenant'";
    let mut statement = db.prepare(sql).unwrap();
    let tables =
        statement.query_map([], |row| row.get::<_, String>(0)).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let count = |table: &String| -> u64 {
        let sql = format!("select count(*) from {table} where tenant = ?");
        db.query_row(&sql, [of], |row| row.get::<_, i64>(0)).unwrap().try_into().unwrap()
    };
    tables.iter().map(count).sum()
}

async fn head(record: &Record, of: &str) -> Option<Head> {
    record.heads(None, 100).await.unwrap().into_iter().find(|head| head.tenant == tenant(of))
}

/// What is wrong with a record, by what was kept of its chains at some times.
async fn damage(dir: &Path, kept: &[(u64, Head)]) -> Vec<String> {
    let db = Connection::open(dir.join("record.db")).unwrap();
    let id: i64 = db.query_row("select value from meta where key = 'id'", [], |row| row.get(0)).unwrap();
    let line = |(millis, head): &(u64, Head)| Anchors {
        at: at(*millis),
        record: format!("{id:016x}"),
        heads: vec![head.clone()],
    };
    let kept = Kept { anchors: kept.iter().map(line).collect(), ..Kept::default() };
    let audit = Record::audit(dir, kept).await.unwrap();
    audit.damage.into_iter().map(|damage| format!("{:?}: {}", damage.tenant, damage.what)).collect()
}

#[tokio::test]
async fn a_deleted_tenant_goes_piece_by_piece_and_whoever_has_its_name_is_another() {
    let (dir, host) = (tempfile::tempdir().unwrap(), TenantId::host());
    let (acme, beta) = (tenant("acme"), tenant("beta"));
    let mut record = open(dir.path()).await;
    for name in ["acme", "beta"] {
        make(&record, name).await;
        furnish(&record, name).await;
    }
    let (of_beta, kept) = (rows(dir.path(), "beta"), (50, head(&record, "acme").await.unwrap()));
    assert_eq!(damage(dir.path(), std::slice::from_ref(&kept)).await, Vec::<String>::new());
    assert!(!record.purge(&acme).await.unwrap(), "nobody deleted it");
    assert_eq!(rows(dir.path(), "acme"), of_beta);

    record.act(&host, at(60), act(Change::TenantDeleted { tenant: acme.clone() })).await.unwrap();
    assert_eq!(record.tenant(&acme).await.unwrap(), None);
    assert_eq!(record.tenants(None, 9).await.unwrap().len(), 1);
    assert!(record.key(&"aaaaaaaaaaaa".parse().unwrap()).await.unwrap().is_none());
    assert!(record.unfinished(None, 1_000).await.unwrap().iter().all(|run| run.tenant == beta));
    // Its name is taken, and nothing of it is written.
    let anew = Change::TenantCreated(Tenant { name: acme.clone(), created_at: at(61) });
    assert_eq!(record.act(&host, at(61), act(anew)).await.unwrap_err().kind, Kind::Conflict);
    let (mut before, mut pieces) = (rows(dir.path(), "acme"), 0);
    loop {
        let append = Owner::new("acme", 1_000 + pieces).append(1);
        assert_eq!(record.append(append, Durability::Barrier).await.unwrap_err().kind, Kind::Fenced);
        let change = Change::WorkflowPut {
            name: "w".parse().unwrap(),
            source: String::new(),
            digest: Digest([0; 32]),
            schedules: Vec::new(),
            triggers: Vec::new(),
        };
        assert_eq!(record.act(&acme, at(62), act(change)).await.unwrap_err().kind, Kind::Fenced);
        let refused = record.keep_vectors(&acme, &embedder(), Vec::new(), None).await;
        assert_eq!(refused.unwrap_err().kind, Kind::Fenced);
        assert_eq!(
            damage(dir.path(), std::slice::from_ref(&kept)).await,
            Vec::<String>::new(),
            "after {pieces} pieces"
        );
        if !record.purge(&acme).await.unwrap() {
            break;
        }
        pieces += 1;
        let now = rows(dir.path(), "acme");
        assert!(now < before, "piece {pieces} took nothing");
        before = now;
        if pieces % 3 == 0 {
            // The host dies, and the next one goes on with it.
            drop(record);
            record = open(dir.path()).await;
            assert_eq!(record.deleted().await.unwrap(), std::slice::from_ref(&acme));
        }
    }
    assert!(pieces > 12, "{pieces} pieces");
    let ended = head(&record, "acme").await.unwrap();
    assert_eq!((rows(dir.path(), "acme"), &ended), (1, &kept.1), "the end of its chain, as it was when it was deleted");
    record.act(&host, at(70), act(Change::TenantGone { head: ended })).await.unwrap();
    assert_eq!((rows(dir.path(), "acme"), rows(dir.path(), "beta")), (0, of_beta));
    assert!(record.deleted().await.unwrap().is_empty());
    assert_eq!(record.gone().await.unwrap(), [(acme.clone(), at(70))].into());
    assert_eq!(damage(dir.path(), std::slice::from_ref(&kept)).await, Vec::<String>::new());

    // Another of its name, in this process and in the next.
    make(&record, "acme").await;
    assert_eq!(record.disk_usage(&acme).await.unwrap().used, 0);
    assert_eq!(record.last(&acme, ltmc_model::RunId::ledger()).await.unwrap().0, 0);
    furnish(&record, "acme").await;
    let newer = (80, head(&record, "acme").await.unwrap());
    assert_eq!(rows(dir.path(), "acme"), of_beta);
    assert_eq!(damage(dir.path(), &[kept.clone(), newer.clone()]).await, Vec::<String>::new());
    record.close().await;
    drop(record);
    let record = open(dir.path()).await;
    record.append(Owner::new("acme", 2_000).append(2), Durability::Barrier).await.unwrap();
    assert_eq!(damage(dir.path(), &[kept, newer.clone()]).await, Vec::<String>::new());
    // What was kept since then is of this one.
    let forged = Head { length: newer.1.length + 1_000, ..newer.1 };
    assert!(damage(dir.path(), &[(90, forged)]).await[0].contains("put back to an earlier state"));
    record.close().await;
}
