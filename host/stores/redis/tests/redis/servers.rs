//! Servers that cannot be used say why, and what to change; the secret is never shown.

use std::time::Duration;

use ltmc_model::Position;
use ltmc_model::delta::Logged;
use ltmc_ports::testing::sample::tenant;
use ltmc_ports::{Kind, Projection as _, Retry};
use ltmc_redis::{Options, Redis};
use ltmc_test_servers::redis::{RedisOptions, no_redis};

use crate::rig::{Record, Server, mailbox, sent, why};

/// What is said of a server that is reached so.
async fn trouble(options: Options) -> String {
    let error = Redis::open(&options).unwrap().check().await.unwrap_err();
    assert_eq!((error.kind, error.retry), (Kind::Unavailable, Retry::Later), "{error:?}");
    assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
    why(&error)
}

fn at(url: impl Into<String>) -> Options {
    Options { timeout: Duration::from_secs(1), ..Options::new(url) }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_down_stops_nobody_and_is_used_when_it_is_up() {
    let mut server = Server::start();
    let redis = server.open();
    server.server.stop_now();
    assert!(why(&redis.check().await.unwrap_err()).contains("no Redis answers at 127.0.0.1:"));
    let down = redis.applied(&tenant("acme")).await.unwrap_err();
    assert_eq!((down.kind, down.op), (Kind::Unavailable, "redis.applied"));
    server.server.restart().unwrap();
    redis.check().await.unwrap();
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(redis.applied(&tenant("acme")).await.unwrap(), None);
    server.server.pause().unwrap();
    let slow =
        Redis::open(&Options { timeout: Duration::from_millis(300), ..Options::new(server.server.url()) }).unwrap();
    assert!(why(&slow.check().await.unwrap_err()).contains("it took too long"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_address_is_named() {
    let port = no_redis().unwrap();
    assert!(trouble(at(format!("redis://127.0.0.1:{port}"))).await.contains("is no Redis"));
    assert!(trouble(at(format!("redis://:hunter2@127.0.0.1:{port}"))).await.contains("is no Redis"));
    assert!(
        trouble(at("redis://:hunter2@nobody.invalid:6379")).await.contains("no Redis answers at nobody.invalid:6379")
    );
    let server = Server::start();
    let url = format!("{}/99", server.server.url());
    let error = Redis::open(&at(url)).unwrap().check().await.unwrap_err();
    assert!(why(&error).contains("out of range"), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_named_and_a_right_one_works() {
    let server = Server::with(RedisOptions { password: Some("hunter2".into()), ..RedisOptions::default() });
    let (url, port) = (server.server.url(), server.server.port());
    assert!(trouble(at(&url)).await.contains("refuses the user or the password"));
    for wrong in ["redis://:hunter2x@", "redis://alice:hunter2@"] {
        let said = trouble(at(format!("{wrong}127.0.0.1:{port}"))).await;
        assert!(said.contains("refuses the user or the password"), "{said}");
    }
    Redis::open(&at(format!("redis://:hunter2@127.0.0.1:{port}"))).unwrap().check().await.unwrap();
    let given_apart = Options { password: Some("hunter2".into()), ..at(&url) };
    let redis = Redis::open(&given_apart).unwrap();
    redis.check().await.unwrap();
    assert_eq!(redis.applied(&tenant("acme")).await.unwrap(), None);
    assert!(!format!("{redis:?} {given_apart:?}").contains("hunter2"));
    // One that was wrong and is put right at the server is noticed.
    let waiting = Redis::open(&Options { password: Some("later".into()), ..at(&url) }).unwrap();
    waiting.applied(&tenant("acme")).await.unwrap_err();
    server.say("CONFIG SET requirepass later");
    tokio::time::sleep(Duration::from_millis(250)).await;
    waiting.applied(&tenant("acme")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_of_the_acl_needs_no_more_than_is_said() {
    let user = "ltmc on >hunter2 ~ltmc:* +@all -@dangerous +info".to_owned();
    let server = Server::with(RedisOptions { user: Some(user), ..RedisOptions::default() });
    let login =
        |user: &str| Options { user: Some(user.into()), password: Some("hunter2".into()), ..at(server.server.url()) };
    assert!(trouble(at(server.server.url())).await.contains("refuses the user"));
    assert!(trouble(login("somebody")).await.contains("refuses the user"));
    let redis = Redis::open(&login("ltmc")).unwrap();
    redis.check().await.unwrap();
    let (acme, mut record) = (tenant("acme"), Record::new(31));
    redis.applied(&acme).await.unwrap();
    redis.set_applied(&acme, Position(0)).await.unwrap();
    let rows: Vec<Logged> = (0..300).map(|_| record.anything("acme")).collect();
    redis.apply(&acme, &rows, record.end()).await.unwrap();
    crate::rig::assert_same(&redis, &record, "acme", 100).await;
    redis.trim(&acme, Position(10)).await.unwrap();
    server.say("ACL SETUSER weak on >hunter2 ~other:* +@all");
    let said = trouble(login("weak")).await;
    assert!(said.contains("forbids its user something"), "{said}");
    server.say("ACL SETUSER weak ~ltmc:* -info");
    assert!(trouble(login("weak")).await.contains("+info"));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_checked() {
    let server = Server::with(RedisOptions { tls: true, ..RedisOptions::default() });
    let (url, port) = (server.server.url(), server.server.port());
    let said = trouble(at(&url)).await;
    assert!(said.contains("no safe connection") && said.contains("the file of the CA"), "{said}");
    let said = trouble(at(format!("redis://127.0.0.1:{port}"))).await;
    assert!(said.contains("write rediss://") || said.contains("is written rediss://"), "{said}");
    let ca = Some(server.server.ca());
    let redis = Redis::open(&Options { ca: ca.clone(), ..at(&url) }).unwrap();
    redis.check().await.unwrap();
    redis.applied(&tenant("acme")).await.unwrap();
    // Another authority's is not trusted.
    let other = Server::with(RedisOptions { tls: true, ..RedisOptions::default() });
    let said = trouble(Options { ca, ..at(other.server.url()) }).await;
    assert!(said.contains("no safe connection"), "{said}");
    // A server that does not speak TLS.
    let plain = Server::start();
    let said = trouble(at(plain.server.url().replace("redis://", "rediss://"))).await;
    assert!(said.contains("is written redis://"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_memory_nothing_is_half_applied() {
    let server = Server::start();
    let redis = server.open();
    let (acme, mut record) = (tenant("acme"), Record::new(32));
    redis.set_applied(&acme, Position(0)).await.unwrap();
    let row = record.add("acme", sent(mailbox("bob"), 1, "1"));
    redis.apply(&acme, &[row], record.end()).await.unwrap();
    server.say("CONFIG SET maxmemory 1");
    let rows: Vec<Logged> = (2..50).map(|id| record.add("acme", sent(mailbox("bob"), id, "x"))).collect();
    let full = redis.apply(&acme, &rows, record.end()).await.unwrap_err();
    assert_eq!((full.kind, full.retry), (Kind::Unavailable, Retry::Later));
    assert!(why(&full).contains("out of memory: raise its `maxmemory`"), "{}", why(&full));
    assert!(trouble(at(server.server.url())).await.contains("out of memory"));
    assert_eq!(
        (redis.applied(&acme).await.unwrap(), server.say("XLEN ltmc:{acme}:mailbox:bob").as_str()),
        (Some(Position(1)), "1")
    );
    // What makes room is possible.
    redis.trim(&acme, Position(1)).await.unwrap();
    server.say("CONFIG SET maxmemory 0");
    redis.check().await.unwrap();
    redis.apply(&acme, &rows, record.end()).await.unwrap();
    crate::rig::assert_same(&redis, &record, "acme", 100).await;
    // One that would throw keys away instead is not good either.
    server.say("CONFIG SET maxmemory 100mb");
    redis.check().await.unwrap();
    server.say("CONFIG SET maxmemory-policy allkeys-lru");
    assert!(trouble(at(server.server.url())).await.contains("set it to noeviction"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_not_written_to() {
    let server = Server::start();
    let replica = Server::with(RedisOptions { replica_of: Some(server.server.port()), ..RedisOptions::default() });
    assert!(trouble(at(replica.server.url())).await.contains("read-only replica"));
    let redis = replica.open();
    let refused = redis.set_applied(&tenant("acme"), Position(0)).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Unavailable);
    assert!(why(&refused).contains("give the address of the server that it follows"), "{}", why(&refused));
}
