//! What is told is held: also twice, after a rebuild, a repair, a restart, and not after a wipe.

use ltmc_model::Position;
use ltmc_model::delta::{Delta, Logged, MemoryChange, MemoryValue, Topic};
use ltmc_model::memory::Drawer;
use ltmc_model::run::State;
use ltmc_model::{Revision, TenantId};
use ltmc_ports::testing::sample::{at, run_id, tenant};
use ltmc_ports::testing::suite::projection::ProjectionFixture;
use ltmc_ports::{Kind, Projection as _};
use ltmc_redis::{Options, Redis};

use crate::rig::{Record, Server, assert_mail, assert_same, inventory, mailbox, mark, sent, taker, topic, why};

/// A server of its own for each.
struct OnRedis(std::sync::Mutex<Vec<Server>>);

#[async_trait::async_trait]
impl ProjectionFixture for OnRedis {
    async fn fresh(&self) -> std::sync::Arc<dyn ltmc_ports::Projection> {
        let server = Server::start();
        let redis = server.open();
        self.0.lock().unwrap().push(server);
        redis
    }
}

ltmc_ports::projection_contract!(OnRedis(std::sync::Mutex::default()));

async fn begin(redis: &Redis, of: &TenantId) {
    assert_eq!(redis.applied(of).await.unwrap(), None);
    redis.set_applied(of, Position(0)).await.unwrap();
}

async fn build(redis: &Redis, record: &Record, of: &TenantId) {
    assert_eq!(redis.applied(of).await.unwrap(), None);
    for topic in redis.topics() {
        let items: Vec<_> = record.items(of, *topic).into_iter().filter(|item| redis.holds(*topic, item)).collect();
        for some in items.chunks(7) {
            redis.put(of, some).await.unwrap();
        }
    }
    redis.set_applied(of, record.end()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_become_what_the_record_holds_also_when_told_twice() {
    for seed in [1, 20, 300] {
        let (server, mut record) = (Server::start(), Record::new(seed));
        let redis = server.open();
        let mut told = Vec::new();
        for of in ["acme", "beta"] {
            begin(&redis, &tenant(of)).await;
        }
        for batch in 0..30 {
            let of = ["acme", "beta"][record.number(2) as usize];
            let rows: Vec<Logged> = (0..record.number(60)).map(|_| record.anything(of)).collect();
            let to = record.end();
            redis.apply(&tenant(of), &rows, to).await.unwrap();
            told.extend(rows.iter().filter(|row| row.tenant.as_str() == of).cloned());
            redis.apply(&tenant(of), &rows, to).await.unwrap();
            if batch % 10 == 9 {
                let all: Vec<Logged> = told.iter().filter(|row| row.tenant.as_str() == of).cloned().collect();
                redis.apply(&tenant(of), &all, to).await.unwrap();
            }
            assert_eq!(redis.applied(&tenant(of)).await.unwrap(), Some(to), "seed {seed}");
        }
        for of in ["acme", "beta"] {
            for limit in [1, 3, 1_000] {
                assert_same(&redis, &record, of, limit).await;
            }
            assert_mail(&server, &record, of).await;
            let count = |what: &dyn Fn(&Delta) -> u64| -> u64 {
                let mine = record.context.log.iter().filter(|row| row.tenant.as_str() == of);
                mine.map(|row| what(&row.delta)).sum()
            };
            let counters = redis.counters(&tenant(of)).await.unwrap();
            let counted = |name: &str| counters.get(name).copied().unwrap_or(0);
            let is_mail = |delta: &Delta| matches!(delta, Delta::Sent(m) if m.channel.clone() != topic("x") && matches!(m.channel, ltmc_model::message::Channel::Mailbox(_)));
            assert_eq!(counted("messages-sent"), count(&|delta| u64::from(is_mail(delta))));
            assert_eq!(
                counted("messages-processed"),
                count(&|delta| u64::from(matches!(delta, Delta::Processed { .. })))
            );
            assert_eq!(
                counted("runs-completed"),
                count(&|delta| u64::from(matches!(delta, Delta::Run(mark) if mark.state == State::Completed)))
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_built_is_as_if_it_had_been_followed_and_follows_on() {
    for seed in [4, 50] {
        let (server, mut record) = (Server::start(), Record::new(seed));
        let redis = server.open();
        for _ in 0..600 {
            record.anything("acme");
        }
        build(&redis, &record, &tenant("acme")).await;
        for limit in [2, 1_000] {
            assert_same(&redis, &record, "acme", limit).await;
        }
        assert_mail(&server, &record, "acme").await;
        let rows: Vec<Logged> = (0..300).map(|_| record.anything("acme")).collect();
        redis.apply(&tenant("acme"), &rows, record.end()).await.unwrap();
        assert_same(&redis, &record, "acme", 100).await;
        assert_mail(&server, &record, "acme").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_build_had_seen_change_nothing() {
    let (server, mut record) = (Server::start(), Record::new(6));
    let redis = server.open();
    let acme = tenant("acme");
    let mut rows: Vec<Logged> = (1..=9).map(|id| record.add("acme", sent(mailbox("bob"), id, "x"))).collect();
    let agent = || "bob".parse().unwrap();
    for delta in [
        record.context.taken(&acme, &agent(), vec![Revision(1), Revision(2), Revision(3)], taker(1)),
        Delta::Processed { agent: agent(), message: Revision(1) },
        Delta::Buried { agent: agent(), message: Revision(2), reason: "wrong".into(), at: at(1) },
        Delta::Revived { agent: agent(), message: Revision(2) },
        sent(topic("news"), 10, "x"),
        mark(run_id(1), 1, State::Running, 2),
        mark(run_id(1), 2, State::Completed, 0),
        mark(run_id(2), 1, State::Running, 1),
    ] {
        rows.push(record.add("acme", delta));
    }
    build(&redis, &record, &acme).await;
    // The build began before any of them.
    redis.set_applied(&acme, Position(0)).await.unwrap();
    redis.apply(&acme, &rows, record.end()).await.unwrap();
    assert_same(&redis, &record, "acme", 100).await;
    assert_mail(&server, &record, "acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_right_is_put_right() {
    let (server, mut record) = (Server::start(), Record::new(7));
    let redis = server.open();
    let acme = tenant("acme");
    begin(&redis, &acme).await;
    let mut rows = Vec::new();
    for id in 1..=20 {
        rows.push(record.add("acme", sent(mailbox("bob"), id, "x")));
        rows.push(record.add("acme", sent(topic("news"), 100 + id, "x")));
    }
    let messages = (4..=8).map(Revision).collect();
    let taken = record.context.taken(&acme, &"bob".parse().unwrap(), messages, taker(1));
    rows.push(record.add("acme", taken));
    redis.apply(&acme, &rows, record.end()).await.unwrap();
    // Somebody's hand slips.
    for words in [
        "XDEL ltmc:{acme}:mailbox:bob 5-3 11-6 13-7",
        "HDEL ltmc:{acme}:places:bob 3 6",
        "XDEL ltmc:{acme}:topic:news 2-0 20-0",
    ] {
        server.say(words);
    }
    for of in [Topic::Messages] {
        let theirs = inventory(&redis, &acme, of, 100).await;
        let ours = record.items(&acme, of);
        let wrong: Vec<_> =
            ours.iter().filter(|item| !theirs.contains(&(item.key.clone(), item.version))).cloned().collect();
        assert_eq!(wrong.len(), 4);
        // One has its place still, and not its entry.
        redis.put(&acme, &ours).await.unwrap();
    }
    assert_same(&redis, &record, "acme", 100).await;
    assert_mail(&server, &record, "acme").await;
    assert_eq!(server.say("XLEN ltmc:{acme}:topic:news"), "20");
    // What should not be there is removed.
    let keys: Vec<String> = record.items(&acme, Topic::Messages).into_iter().map(|item| item.key).collect();
    redis.discard(&acme, Topic::Messages, &keys).await.unwrap();
    assert_eq!(inventory(&redis, &acme, Topic::Messages, 100).await, []);
    assert_eq!(server.say("XLEN ltmc:{acme}:topic:news"), "0");
    assert_eq!(server.say("XPENDING ltmc:{acme}:mailbox:bob agents - + 10"), "");
    for wrong in ["bob", "mailbox/bob/x", "letter/bob/1"] {
        assert!(redis.discard(&acme, Topic::Messages, &[wrong.into()]).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_server_is_not_told_on() {
    let (server, mut record) = (Server::start(), Record::new(8));
    let redis = server.open();
    let acme = tenant("acme");
    begin(&redis, &acme).await;
    let mut batch = async |redis: &Redis| {
        let rows: Vec<Logged> = (0..20).map(|_| record.anything("acme")).collect();
        let applied = redis.apply(&acme, &rows, record.end()).await;
        (applied, record.items(&acme, Topic::Messages), record.end())
    };
    batch(&redis).await.0.unwrap();
    server.server.flush_all().unwrap();
    let (refused, items, end) = batch(&redis).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind, Kind::Conflict);
    assert!(why(&refused).contains("has lost what it held"), "{}", why(&refused));
    assert_eq!(server.say("DBSIZE"), "0", "nothing of it was applied");
    assert_eq!(batch(&server.open()).await.0.unwrap_err().kind, Kind::Conflict, "whoever asks");

    // Wiped again, while it is built: the build does not count as done.
    assert_eq!(redis.applied(&acme).await.unwrap(), None);
    redis.put(&acme, &items[..5]).await.unwrap();
    server.server.flush_all().unwrap();
    assert_eq!(redis.put(&acme, &items[5..]).await.unwrap_err().kind, Kind::Conflict);
    assert_eq!(redis.applied(&acme).await.unwrap(), None);
    redis.put(&acme, &items).await.unwrap();
    server.server.flush_all().unwrap();
    assert_eq!(redis.set_applied(&acme, end).await.unwrap_err().kind, Kind::Conflict);
    assert_eq!(redis.applied(&acme).await.unwrap(), None);
    redis.put(&acme, &items).await.unwrap();
    redis.set_applied(&acme, end).await.unwrap();
    assert_eq!(redis.applied(&acme).await.unwrap(), Some(end));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_went_back_is_not_told_on_before_it_was_asked() {
    let (server, mut record) = (Server::start(), Record::new(9));
    let redis = server.open();
    let acme = tenant("acme");
    begin(&redis, &acme).await;
    let first: Vec<Logged> = (0..20).map(|_| record.anything("acme")).collect();
    redis.apply(&acme, &first, record.end()).await.unwrap();
    let before = record.end();
    server.say("SET ltmc:{acme}:applied 3");
    let more: Vec<Logged> = (0..20).map(|_| record.anything("acme")).collect();
    assert_eq!(redis.apply(&acme, &more, record.end()).await.unwrap_err().kind, Kind::Conflict);
    assert_eq!(redis.applied(&acme).await.unwrap(), Some(Position(3)));
    server.say(&format!("SET ltmc:{{acme}}:applied {before}"));
    redis.apply(&acme, &more, record.end()).await.unwrap();
    assert_same(&redis, &record, "acme", 100).await;
}

/// Tells everything that it does not say it has, as the core does: after any failure it is asked again.
async fn catch_up(redis: &Redis, record: &Record, of: &TenantId) {
    for _ in 0..50 {
        let told = async {
            let applied = redis.applied(of).await?.expect("it knows the tenant");
            let rows: Vec<Logged> = record.context.log.iter().filter(|row| row.position > applied).cloned().collect();
            redis.apply(of, &rows, record.end()).await
        };
        match told.await {
            Ok(()) => return,
            Err(error) => assert!(matches!(error.kind, Kind::Unavailable | Kind::Conflict), "{error:?}"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("it does not catch up");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_batches_or_stopped_within_one_it_loses_and_doubles_nothing() {
    let (mut server, mut record) = (Server::start(), Record::new(10));
    let options = Options { timeout: std::time::Duration::from_millis(400), ..Options::new(server.server.url()) };
    let redis = Redis::open(&options).unwrap();
    let acme = tenant("acme");
    begin(&redis, &acme).await;
    for round in 0..6 {
        let rows: Vec<Logged> = (0..50).map(|_| record.anything("acme")).collect();
        match round % 3 {
            0 => redis.apply(&acme, &rows, record.end()).await.unwrap(),
            1 => {
                server.server.stop_now();
                let down = redis.apply(&acme, &rows, record.end()).await.unwrap_err();
                assert_eq!(down.kind, Kind::Unavailable);
                server.server.restart().unwrap();
            }
            _ => {
                server.server.pause().unwrap();
                let slow = redis.apply(&acme, &rows, record.end()).await.unwrap_err();
                assert_eq!((slow.kind, why(&slow).contains("took too long")), (Kind::Unavailable, true));
                server.server.resume().unwrap();
            }
        }
        // What it had acknowledged may be gone: it answers before all is in its file. Then it says so.
        catch_up(&redis, &record, &acme).await;
        redis.apply(&acme, &rows, record.end()).await.unwrap();
    }
    assert_same(&redis, &record, "acme", 100).await;
    assert_mail(&server, &record, "acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_held_but_for_their_large_values() {
    let (server, mut record) = (Server::start(), Record::new(11));
    let redis = server.open();
    let (acme, session) = (tenant("acme"), "s1".parse().unwrap());
    begin(&redis, &acme).await;
    let change = |key: &str, revision: u64, size: Option<usize>| {
        let value = size.map(|size| MemoryValue { bytes: vec![b'x'; size].into(), expires_at: Some(at(revision)) });
        let drawer = Drawer::Session("s1".parse().unwrap());
        Delta::Memory(MemoryChange { drawer, key: key.into(), revision: Revision(revision), value, trail: None })
    };
    let deltas = [change("a", 1, Some(3)), change("b", 2, Some(64 << 10)), change("c", 3, Some((64 << 10) + 1))];
    let rows: Vec<Logged> = deltas.into_iter().map(|delta| record.add("acme", delta)).collect();
    redis.apply(&acme, &rows, record.end()).await.unwrap();
    for (key, revision, size) in [("a", 1, Some(3)), ("b", 2, Some(64 << 10)), ("c", 3, None)] {
        let held = redis.session(&acme, &session, key).await.unwrap().unwrap();
        assert_eq!((held.revision, held.expires_at), (Revision(revision), Some(at(revision))));
        assert_eq!(held.value.map(|value| value.len()), size);
    }
    assert_same(&redis, &record, "acme", 100).await;
    let row = record.add("acme", change("a", 4, None));
    redis.apply(&acme, &[row], record.end()).await.unwrap();
    assert_eq!(redis.session(&acme, &session, "a").await.unwrap(), None);
    assert_same(&redis, &record, "acme", 100).await;
    assert_eq!(server.say("XLEN ltmc:{acme}:changes"), "4");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_are_held_while_they_are_not_over() {
    let (server, mut record) = (Server::start(), Record::new(12));
    let redis = server.open();
    let acme = tenant("acme");
    begin(&redis, &acme).await;
    let run = run_id(1);
    let deltas = [mark(run, 1, State::Running, 2), mark(run, 2, State::Waiting, 2)];
    let rows: Vec<Logged> = deltas.into_iter().map(|delta| record.add("acme", delta)).collect();
    redis.apply(&acme, &rows, record.end()).await.unwrap();
    let held: serde_json::Value = serde_json::from_str(&server.say(&format!("HGET ltmc:{{acme}}:runs {run}"))).unwrap();
    assert_eq!((held["state"].as_str(), held["seq"].as_u64()), (Some("waiting"), Some(2)));
    let step: serde_json::Value =
        serde_json::from_str(&server.say(&format!("HGET ltmc:{{acme}}:steps:{run} 0/1"))).unwrap();
    assert_eq!((step["agent"].as_str(), step["at"].as_str()), (Some("bob"), Some(at(2).to_string().as_str())));
    let row = record.add("acme", mark(run, 3, State::Completed, 1));
    redis.apply(&acme, &[row], record.end()).await.unwrap();
    assert_eq!(inventory(&redis, &acme, Topic::Runs, 10).await, []);
    assert_eq!(server.say(&format!("EXISTS ltmc:{{acme}}:steps:{run} ltmc:{{acme}}:runs")), "0");
    assert_eq!(redis.counters(&acme).await.unwrap()["runs-completed"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_trimmed_when_asked() {
    let (server, mut record) = (Server::start(), Record::new(13));
    let redis = server.open();
    let acme = tenant("acme");
    begin(&redis, &acme).await;
    let rows: Vec<Logged> =
        (1..=12_000).map(|id| record.add("acme", sent(topic(["a", "a/b"][id as usize % 2]), id, "x"))).collect();
    redis.apply(&acme, &rows, record.end()).await.unwrap();
    assert_eq!(redis.trim(&acme, Position(11_990)).await.unwrap(), 11_990);
    assert_eq!(redis.trim(&acme, Position(11_990)).await.unwrap(), 0);
    assert_eq!(inventory(&redis, &acme, Topic::Messages, 3).await.len(), 10);
    assert_eq!(server.say("XLEN ltmc:{acme}:topic:a/b"), "5");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_of_changes_is_bounded() {
    let (server, mut record) = (Server::start(), Record::new(14));
    let redis = server.open();
    let acme = tenant("acme");
    begin(&redis, &acme).await;
    let change = |id: u64| {
        let value = Some(MemoryValue { bytes: "v".into(), expires_at: None });
        Delta::Memory(MemoryChange {
            drawer: Drawer::Global,
            key: format!("k{id}"),
            revision: Revision(id),
            value,
            trail: None,
        })
    };
    let rows: Vec<Logged> = (1..=12_000).map(|id| record.add("acme", change(id))).collect();
    redis.apply(&acme, &rows, record.end()).await.unwrap();
    let length: u64 = server.say("XLEN ltmc:{acme}:changes").parse().unwrap();
    assert!((10_000..11_000).contains(&length), "{length}");
    assert_eq!(inventory(&redis, &acme, Topic::Memory, 10).await, []);
}
