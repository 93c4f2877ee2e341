//! What a tenant has on disk: counted as it is, bounded, and never in the way of those who make room.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytesize::ByteSize;
use ltmc_model::agent::Agent;
use ltmc_model::caller::Role;
use ltmc_model::delta::Delta;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::graph::Fact;
use ltmc_model::journal::{Act, Change, Entry, Event};
use ltmc_model::memory::Drawer;
use ltmc_model::recall::{EmbedderId, Note};
use ltmc_model::tenancy::{Ceiling, Key};
use ltmc_model::{Digest, Epoch, Position, Revision, TenantId};
use ltmc_ports::log::Interest;
use ltmc_ports::recall::Embedded;
use ltmc_ports::testing::sample::{Owner, at, delete, mailbox, put, sent, tenant, topic};
use ltmc_ports::{
    Append, Durability, Kind, ReadCatalog as _, ReadLog as _, Record as _, StoreError, WriteCatalog as _,
    WriteJournal as _, WriteVectors as _,
};
use ltmc_sqlite::{OpenOptions, Record};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use rusqlite::Connection;

const MIB: usize = 1 << 20;

async fn open(dir: &Path, quota: u64) -> Arc<Record> {
    Record::open(OpenOptions { quota, ..OpenOptions::new(dir) }).await.unwrap()
}

async fn used(record: &Record, of: &TenantId) -> u64 {
    record.disk_usage(of).await.unwrap().used
}

async fn write(record: &Record, append: Append) -> Result<(), StoreError> {
    record.append(append, Durability::Barrier).await
}

fn act(change: Change) -> Act {
    Act { by: None, change }
}

fn failed() -> Vec<Entry> {
    let failure = Failure::new(Code::DiskQuotaExceeded, "no more");
    vec![Entry { at: at(9), event: Event::RunFailed { failure } }]
}

fn fact(subject: &str, id: Revision) -> Delta {
    Delta::FactBegan(Fact {
        id,
        subject: subject.parse().unwrap(),
        relation: "knows".parse().unwrap(),
        object: "somebody".parse().unwrap(),
        properties: "{\"since\":1}".to_owned(),
        valid_from: at(1),
        valid_to: None,
        recorded_at: at(1),
        ended_at: None,
    })
}

fn key(name: char) -> Key {
    Key {
        id: format!("{name:a>12}").parse().unwrap(),
        tenant: tenant("acme"),
        role: Role::Viewer,
        hash: [7; 32],
        created_at: at(1),
        expires_at: None,
        revoked_at: None,
    }
}

/// What the record keeps of what a tenant has on disk, and the sum over its rows.
fn kept_and_summed(dir: &Path, tenant: &TenantId) -> (u64, u64) {
    // The same sums that a record of before was given when it was opened.
    let script = include_str!("../migrations/0005_usage.sql");
    let (sums, _) = script.split_once("create trigger").unwrap();
    let sums = sums.replace("alter table chains add column bytes integer not null default 0;", "");
    let sums = sums.replace("create index log_tenant on log (tenant, position);", "");
    let db = Connection::open(dir.join("record.db")).unwrap();
    let of = tenant.as_str();
    let kept = "select bytes, besides, log_rows, log_bytes from chains where tenant = ?";
    let row = |row: &rusqlite::Row<'_>| Ok([row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?]);
    let kept: [i64; 4] = db.query_row(kept, [of], row).unwrap();
    db.execute_batch(&format!("begin; {sums}")).unwrap();
    let summed = "select chains.bytes, usage.bytes, usage.log_rows, usage.log_bytes from chains join usage using (tenant) where tenant = ?";
    let summed: [i64; 4] = db.query_row(summed, [of], row).unwrap();
    db.execute_batch("rollback").unwrap();
    assert_eq!(kept, summed, "of {tenant}: journals, besides, rows and bytes of the log");
    let total = |both: [i64; 4]| u64::try_from(both[0] + both[1]).unwrap();
    (total(kept), total(summed))
}

/// Everything that a tenant can have, and what is thrown away of it again, is counted as a look at all of its rows counts it.
#[tokio::test]
async fn what_is_counted_is_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let (acme, record) = (tenant("acme"), open(dir.path(), u64::MAX).await);
    let mut owner = Owner::new("acme", 1);
    let next = || record.next_revision(&tenant("acme"));
    let note = |id: &str, text: String| {
        let metadata = [("lang".to_owned(), "en".to_owned())].into();
        Delta::NoteKept(Note { id: id.into(), text, metadata, revision: next(), kept_at: at(1) })
    };
    let letter = next();
    let deltas = vec![
        fact("x", next()),
        fact("y", next()),
        sent(mailbox("echo"), letter.0, "a letter that is processed"),
        Delta::Memory(put(&Drawer::Global, "a", next(), vec![1; 5_000])),
        Delta::Memory(put(&Drawer::Global, "a", next(), vec![1; 70])),
        Delta::Memory(put(&Drawer::Global, "b", next(), vec![1; 300])),
        Delta::Memory(delete(&Drawer::Global, "b", next())),
        note("n", "long ".repeat(1_000)),
        note("n", "short".into()),
        note("m", "gone".into()),
        Delta::NoteForgotten { id: "m".into(), revision: next() },
        sent(mailbox("echo"), next().0, "a letter"),
        sent(topic("news"), next().0, "an event"),
    ];
    write(&record, owner.change(deltas)).await.unwrap();
    let processed = Delta::Processed { agent: "echo".parse().unwrap(), message: letter };
    write(&record, owner.change(vec![processed])).await.unwrap();
    write(&record, Owner::new("acme", 2).under("key", at(99))).await.unwrap();
    let embedder = EmbedderId { name: "test".into(), dimensions: 4 };
    let embedded = |parts: usize| Embedded {
        note: "n".into(),
        revision: Revision(1),
        passages: vec![((0, 5), vec![0.5; 4]); parts],
    };
    record.keep_vectors(&acme, &embedder, vec![embedded(3)], None).await.unwrap();
    record.keep_vectors(&acme, &embedder, vec![embedded(1)], None).await.unwrap();
    let agent = |size| Agent {
        name: "echo".parse().unwrap(),
        digest: Digest([7; 32]),
        manifest: Default::default(),
        exports: Vec::new(),
        size,
        pushed_at: at(1),
    };
    let echo: ltmc_model::AgentName = "echo".parse().unwrap();
    let workflow = |source: &str| Change::WorkflowPut {
        name: "w".parse().unwrap(),
        source: source.into(),
        digest: Digest([0; 32]),
        schedules: Vec::new(),
        triggers: Vec::new(),
    };
    for change in [
        Change::AgentPushed(agent(1_000)),
        Change::AgentPushed(agent(2_000)),
        Change::GrantsSet { agent: echo.clone(), grants: vec!["log".parse().unwrap()], digest: None, carry: None },
        Change::GrantsSet { agent: echo.clone(), grants: Vec::new(), digest: None, carry: None },
        workflow("name: w"),
        workflow("name: w # with more to say"),
        Change::KeyCreated(key('b')),
        Change::KeyCreated(key('c')),
        Change::KeyRevoked { key: key('b').id, at: at(2) },
    ] {
        record.act(&acme, at(1), act(change)).await.unwrap();
    }
    what_goes_is_counted(dir.path(), &acme);
    let before = used(&record, &acme).await;
    let end = record.ends().borrow().durable;
    assert!(record.trim(Position(end.0 / 2), 1_000).await.unwrap() > 0);
    assert!(used(&record, &acme).await < before, "what is thrown away of the log is not counted any more");
    let (kept, summed) = kept_and_summed(dir.path(), &acme);
    assert_eq!(kept, summed, "with all of it there");
    record.act(&acme, at(1), act(Change::AgentDeleted { name: echo })).await.unwrap();
    record.act(&acme, at(1), act(Change::WorkflowDeleted { name: "w".parse().unwrap() })).await.unwrap();
    record.forget_embedder(&acme, &embedder).await.unwrap();
    let (kept, summed) = kept_and_summed(dir.path(), &acme);
    assert_eq!(kept, summed, "with some of it gone");
    assert_eq!(kept, used(&record, &acme).await);
    record.close().await;
}

/// Whatever goes is counted as it was when it came, table by table. Nothing is gone afterwards.
fn what_goes_is_counted(dir: &Path, tenant: &TenantId) {
    let db = Connection::open(dir.join("record.db")).unwrap();
    let counted = Arc::new(Mutex::new(0_i64));
    let at = counted.clone();
    let count = move |row: &rusqlite::functions::Context<'_>| {
        *at.lock().unwrap() += row.get::<i64>(2)?;
        Ok(None::<i64>)
    };
    db.create_scalar_function("counted", 3, rusqlite::functions::FunctionFlags::SQLITE_INNOCUOUS, count).unwrap();
    // What each row of a table takes, as a record of before was given it when it was opened.
    let sums = include_str!("../migrations/0005_usage.sql").lines();
    let sums = sums.filter_map(|line| line.trim().trim_start_matches("union all ").strip_prefix("select tenant, "));
    let sums = sums.filter_map(|line| line.rsplit_once(" from ")).filter(|(bytes, _)| !bytes.starts_with("sum("));
    let (mut went, mut took) = (BTreeMap::new(), BTreeMap::new());
    db.execute_batch("begin").unwrap();
    for (bytes, table) in sums {
        let bytes = bytes.trim_end_matches(" as bytes");
        let sql = format!("select sum({bytes}) from {table} where tenant = ?");
        took.insert(table, db.query_row(&sql, [tenant.as_str()], |row| row.get::<_, Option<i64>>(0)).unwrap());
        *counted.lock().unwrap() = 0;
        db.execute(&format!("delete from {table} where tenant = ?"), [tenant.as_str()]).unwrap();
        went.insert(table, Some(-*counted.lock().unwrap()));
    }
    db.execute_batch("rollback").unwrap();
    assert!(took.len() == 13 && took.values().all(Option::is_some), "not everything is there to be tried: {took:?}");
    assert_eq!(went, took, "what goes of each table, and what it took");
}

/// The same after work at random by many at once, of which some is refused and some breaks a group that others are in.
#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::print_stdout, reason = "a failing seed is to be seen")]
async fn what_is_counted_is_what_there_is_after_any_work() {
    let dir = tempfile::tempdir().unwrap();
    let tenants = ["acme", "beta", "gamma"].map(tenant);
    let seed: u64 = rand::random();
    println!("seed {seed}");
    for round in 0..3 {
        // A quota that is soon reached.
        let record = open(dir.path(), MIB as u64 / 2).await;
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..8_u64 {
            let (record, tenants) = (record.clone(), tenants.clone());
            let mut random = StdRng::seed_from_u64(seed.wrapping_add(100 * round + task));
            tasks.spawn(async move {
                let (mut written, mut refused) = (0, 0);
                for number in 0..40 {
                    let of = &tenants[random.random_range(0..tenants.len())];
                    match random_work(&record, of, number, &mut random).await {
                        Ok(()) => written += 1,
                        Err(error) => {
                            let expected = [Kind::Conflict, Kind::Stale, Kind::OverQuota];
                            assert!(expected.contains(&error.kind), "{error}");
                            refused += 1;
                        }
                    }
                }
                (written, refused)
            });
        }
        let outcomes = tasks.join_all().await;
        let (written, refused) = outcomes.into_iter().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        assert!(written > 100 && refused > 10, "{written} written, {refused} refused: this is not what is to be tried");
        for of in &tenants {
            let (kept, _) = kept_and_summed(dir.path(), of);
            assert_eq!(kept, used(&record, of).await);
        }
        record.close().await;
    }
}

/// Something that a tenant's could do.
async fn random_work(record: &Record, of: &TenantId, number: u64, random: &mut StdRng) -> Result<(), StoreError> {
    let some = |random: &mut StdRng, most: usize| vec![7; random.random_range(0..most)];
    let next = || record.next_revision(&tenant("acme"));
    let key = format!("k{}", random.random_range(0..6));
    // Few, so that some are there already: their first entry breaks the group.
    let mut owner = Owner::new(of.as_str(), random.random_range(0..200));
    match random.random_range(0..9) {
        0 => write(record, owner.append(1 + random.random_range(0..3))).await,
        1 => write(record, owner.under(&key, at(99))).await,
        2 | 3 => {
            let put = put(&Drawer::Global, &key, next(), some(random, 20_000));
            write(record, owner.remember(vec![put])).await
        }
        4 => {
            let deltas = vec![
                Delta::Memory(delete(&Drawer::Global, &key, next())),
                Delta::NoteForgotten { id: key, revision: next() },
            ];
            let context = Change::Context { call: "memory.delete".into(), about: "k".into(), request: Digest([0; 32]) };
            record.act_with(of, at(2), act(context), ltmc_ports::Changes::blind(deltas)).await
        }
        5 => {
            let text = "x".repeat(random.random_range(0..2_000));
            let metadata = [("lang".to_owned(), text.chars().take(10).collect())].into();
            let note = Note { id: key, text, metadata, revision: next(), kept_at: at(1) };
            write(record, owner.change(vec![Delta::NoteKept(note)])).await
        }
        6 => {
            let letter = sent(mailbox("echo"), next().0, "a letter");
            write(record, owner.change(vec![letter, sent(topic("news"), next().0, "an event")])).await
        }
        7 => {
            let source = "x".repeat(random.random_range(0..2_000));
            let put = Change::WorkflowPut {
                name: "w".parse().unwrap(),
                source,
                digest: Digest([0; 32]),
                schedules: Vec::new(),
                triggers: Vec::new(),
            };
            record.act(of, at(1), act(put)).await
        }
        _ => {
            let end = record.ends().borrow().durable;
            let limit = u32::try_from(number % 7).unwrap();
            match number % 2 {
                0 => record.trim_shares(5, end, limit).await.map(drop),
                _ => record.trim(Position(end.0 / 2), limit).await.map(drop),
            }
        }
    }
}

#[tokio::test]
async fn who_has_all_that_it_may_have_is_refused_and_nobody_else_is() {
    let dir = tempfile::tempdir().unwrap();
    let (acme, record) = (tenant("acme"), open(dir.path(), 2 * MIB as u64).await);
    let mut owner = Owner::new("acme", 1);
    let value =
        |n: u64| put(&Drawer::Global, &format!("k{n}"), record.next_revision(&tenant("acme")), vec![0; MIB / 8]);
    let mut written = 0;
    let refused = loop {
        let before = owner.clone();
        match write(&record, owner.remember(vec![value(written)])).await {
            Ok(()) => written += 1,
            Err(error) => {
                owner = before;
                break error;
            }
        }
        assert!(written < 100, "it is never refused");
    };
    assert_eq!(refused.kind, Kind::OverQuota);
    let usage = record.disk_usage(&acme).await.unwrap();
    assert!(usage.used <= usage.allowed && usage.allowed == 2 * MIB as u64, "{usage:?}");
    let said = refused.reason();
    assert!(said.contains(&usage.used.to_string()) && said.contains(&usage.allowed.to_string()), "{said}");

    // Fill it to the brim: then nothing comes that adds anything, neither a run nor a message nor an agent.
    let mut number = 100;
    while write(&record, Owner::new("acme", number).append(1)).await.is_ok() {
        number += 1;
    }
    let before = used(&record, &acme).await;
    let letter =
        Owner::new("acme", 50_000).change(vec![sent(topic("news"), record.next_revision(&tenant("acme")).0, "x")]);
    assert_eq!(write(&record, letter).await.unwrap_err().kind, Kind::OverQuota);
    let put_workflow = Change::WorkflowPut {
        name: "w".parse().unwrap(),
        source: "x".repeat(1_000),
        digest: Digest([0; 32]),
        schedules: Vec::new(),
        triggers: Vec::new(),
    };
    assert_eq!(record.act(&acme, at(1), act(put_workflow)).await.unwrap_err().kind, Kind::OverQuota);
    assert_eq!(used(&record, &acme).await, before, "what is refused leaves nothing");

    // Whoever else there is notices nothing.
    write(&record, Owner::new("beta", 1).append(3)).await.unwrap();

    // Its runs end, and can be claimed first; it can delete; the operator can act.
    write(&record, owner.write(failed())).await.unwrap();
    let claimed = Entry { at: at(9), event: Event::RunClaimed { epoch: Epoch(2) } };
    write(&record, Owner::claim(&owner.row).write(vec![claimed])).await.unwrap();
    let ceiling = Ceiling { disk: Some(ByteSize::mib(3)), ..Ceiling::default() };
    let deletion = Delta::Memory(delete(&Drawer::Global, "k0", record.next_revision(&tenant("acme"))));
    let context = Change::Context { call: "memory.delete".into(), about: "k0".into(), request: Digest([0; 32]) };
    let changes = ltmc_ports::Changes::blind(vec![deletion]);
    record.act_with(&acme, at(2), act(context), changes).await.unwrap();
    assert!(used(&record, &acme).await < before, "what was deleted makes room");
    let set = Change::CeilingSet { tenant: acme.clone(), ceiling };
    record.act(&acme, at(2), act(set)).await.unwrap();
    assert_eq!(record.disk_usage(&acme).await.unwrap().allowed, 3 * MIB as u64);
    write(&record, Owner::new("acme", 60_000).remember(vec![value(200)])).await.expect("it may have more now");
    record.close().await;
    drop(record);

    // It is the same for the next host.
    let record = open(dir.path(), 2 * MIB as u64).await;
    let mut more = Owner::new("acme", 70_000);
    let mut count = 0;
    while write(
        &record,
        more.remember(vec![put(&Drawer::Global, "z", record.next_revision(&tenant("acme")), vec![0; MIB / 8])]),
    )
    .await
    .is_ok()
    {
        count += 1;
        assert!(count < 20);
    }
    assert!(used(&record, &acme).await <= 3 * MIB as u64);
}

/// What ends runs is let through whatever a tenant has; what is larger than an end, and more claims than there are runs, are not.
#[tokio::test]
async fn nobody_has_more_than_it_may_by_ends_and_claims() {
    let dir = tempfile::tempdir().unwrap();
    let record = open(dir.path(), 64 << 10).await;
    let mut owner = Owner::new("acme", 1);
    write(&record, owner.append(1)).await.unwrap();
    let mut number = 100;
    while write(&record, Owner::new("acme", number).append(1)).await.is_ok() {
        number += 1;
    }
    let ending = |bytes: usize| {
        let failure = Failure::new(Code::DiskQuotaExceeded, "x".repeat(bytes));
        vec![Entry { at: at(9), event: Event::RunFailed { failure } }]
    };
    let large = write(&record, owner.clone().write(ending(300 << 10))).await;
    assert_eq!(large.unwrap_err().kind, Kind::OverQuota, "that is more than an end");
    // Claims, each with as much besides as goes through: 16 MiB beyond what it may have, and no more.
    let (mut row, mut refused) = (owner.row.clone(), None);
    for epoch in 2..100 {
        let mut claimant = Owner::claim(&row);
        let mut entries = ending(200 << 10);
        entries.push(Entry { at: at(9), event: Event::RunClaimed { epoch: Epoch(epoch) } });
        match write(&record, claimant.write(entries)).await {
            Ok(()) => row = claimant.row,
            Err(error) => {
                refused = Some((epoch, error.kind));
                break;
            }
        }
    }
    let (epoch, kind) = refused.expect("claims are refused at last");
    assert_eq!(kind, Kind::OverQuota);
    assert!((80..85).contains(&epoch), "after {epoch} claims of 200 KiB");
    write(&record, Owner::claim(&row).write(ending(200 << 10))).await.expect("and yet it ends");
    record.close().await;
}

/// On a disk on which nothing is left, what makes room and what the operator has to do is done from a reserve.
#[tokio::test]
async fn on_a_full_disk_there_is_a_reserve_for_those_who_make_room() {
    // More is to be kept than any disk has: it is as full as a disk can be.
    let dir = tempfile::tempdir().unwrap();
    let (acme, record) = (tenant("acme"), open(dir.path(), u64::MAX).await);
    let mut owner = Owner::new("acme", 1);
    write(&record, owner.append(2)).await.unwrap();
    assert!(record.has_room());
    record.close().await;
    drop(record);
    let record = Record::open(OpenOptions { reserve: 1 << 60, ..OpenOptions::new(dir.path()) }).await.unwrap();
    assert!(!record.has_room());
    let mut claimant = Owner::claim(&owner.row);
    let adding = [
        owner.clone().append(1),
        Owner::new("acme", 2).append(1),
        claimant.clone().write(vec![Entry { at: at(9), event: Event::RunClaimed { epoch: Epoch(2) } }]),
    ];
    for append in adding {
        assert_eq!(write(&record, append).await.unwrap_err().kind, Kind::Full);
    }
    let embedder = EmbedderId { name: "test".into(), dimensions: 4 };
    assert_eq!(record.keep_vectors(&acme, &embedder, Vec::new(), None).await.unwrap_err().kind, Kind::Full);
    let mut ending = failed();
    ending.insert(0, Entry { at: at(9), event: Event::RunClaimed { epoch: Epoch(2) } });
    write(&record, claimant.write(ending)).await.unwrap();
    let echo: ltmc_model::AgentName = "echo".parse().unwrap();
    for change in [
        Change::CeilingSet { tenant: acme.clone(), ceiling: Ceiling::default() },
        Change::AgentDeleted { name: echo.clone() },
        Change::KeyCreated(key('b')),
        Change::KeyRevoked { key: key('b').id, at: at(2) },
        Change::GrantsSet { agent: echo, grants: Vec::new(), digest: None, carry: None },
    ] {
        record.act(&acme, at(2), act(change)).await.unwrap();
    }
    record.check().await.unwrap();
}

/// A flood throws away rows of the log of whoever floods, and nobody else's; whoever reads on is told so where it concerns him.
#[tokio::test]
async fn a_flood_of_one_tenant_throws_away_its_own_rows_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (acme, beta, record) = (tenant("acme"), tenant("beta"), open(dir.path(), u64::MAX).await);
    let topic_of_news = || Interest::Topic("news".parse().unwrap());
    let news = |of: &str, number: u64| {
        Owner::new(of, number).change(vec![sent(topic("news"), record.next_revision(&tenant("acme")).0, "x")])
    };
    for number in 0..5 {
        write(&record, news("beta", number)).await.unwrap();
    }
    for number in 0..50 {
        write(&record, news("acme", 100 + number)).await.unwrap();
    }
    let end = record.ends().borrow().durable;
    assert_eq!(record.trim_shares(10, end, 30).await.unwrap(), 30, "some at a time");
    assert_eq!(record.trim_shares(10, end, 30).await.unwrap(), 10);
    assert_eq!(record.trim_shares(10, end, 30).await.unwrap(), 0);
    let check = async |record: &Record| {
        assert_eq!(record.trimmed(&beta).await.unwrap(), Position(0));
        let of_beta = record.rows(&beta, &topic_of_news(), Position(0), end, 100).await.unwrap();
        assert_eq!(of_beta.rows.len(), 5, "all that came before the flood");
        let trimmed = record.trimmed(&acme).await.unwrap();
        assert_eq!(trimmed, Position(45));
        let of_acme = record.rows(&acme, &topic_of_news(), trimmed, end, 100).await.unwrap();
        assert_eq!(of_acme.rows.len(), 10, "the newest");
        assert_eq!(record.ends().borrow().durable, end);
    };
    check(&record).await;
    record.close().await;
    drop(record);
    let record = open(dir.path(), u64::MAX).await;
    check(&record).await;
    // What is old goes whoever it is of, and then who reads on is told.
    record.trim(Position(3), 100).await.unwrap();
    assert_eq!(record.trimmed(&beta).await.unwrap(), Position(3));
    assert_eq!(record.trimmed(&acme).await.unwrap(), Position(45));
    drop(record);

    // The same by bytes: a quarter of what a tenant may have on disk.
    let dir = tempfile::tempdir().unwrap();
    let record = open(dir.path(), 4 * MIB as u64).await;
    for number in 0..20 {
        let change = put(&Drawer::Global, "same", record.next_revision(&tenant("acme")), vec![0; MIB / 8]);
        write(&record, Owner::new("acme", number).remember(vec![change])).await.unwrap();
        record.trim_shares(1_000, record.ends().borrow().durable, 100).await.unwrap();
    }
    let usage = record.disk_usage(&acme).await.unwrap();
    assert!(usage.used < 2 * MIB as u64, "writing the same key again and again does not use it up: {usage:?}");
}
