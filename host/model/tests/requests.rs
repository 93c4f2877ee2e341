//! The form 1 of every request. A run that is under way while its host is exchanged is compared by these bytes: a line of
//! [`GOLDEN`] is never changed, and none is removed. The lines up to `messages.read` are what the first version of the host wrote
//! (commit e03a8d3). A new call has an example and its line at the end; so has a value that a request gains later.

use std::collections::BTreeSet;

use bytes::Bytes;
use ltmc_model::call::{Call, attempt, coordination, form, graph, log, memory, messages, recall, session, state};
use ltmc_model::caller::Role;
use ltmc_model::effect::{Level, LogLine};
use ltmc_model::graph::{AsOf, Direction, FactFilter, Walk};
use ltmc_model::memory::{Precondition, Scope};
use ltmc_model::merge::Merge;
use ltmc_model::{Digest, Payload, Position, Revision, Timestamp};

fn at(n: u64) -> Timestamp {
    Timestamp::from_millis(n)
}

fn examples() -> Vec<Call> {
    let line = |fields| LogLine { level: Level::Warn, message: "hot".into(), fields };
    let walk = Walk {
        from: "docs/a.md".parse().unwrap(),
        direction: Direction::Both,
        relation: Some("depends-on".parse().unwrap()),
        depth: 16,
        as_of: AsOf { valid: Some(at(1_800_000_000_000)), known: None },
    };
    let bare = Walk {
        from: "b".parse().unwrap(),
        direction: Direction::Out,
        relation: None,
        depth: 1,
        as_of: AsOf::default(),
    };
    let event = messages::Draft {
        kind: "note.added".into(),
        subject: Some("docs/errors.md".into()),
        data: Payload { content_type: "application/json".into(), bytes: Bytes::from_static(b"{\"a\":1}") },
        given: None,
    };
    let silent = messages::Draft { kind: "k".into(), subject: None, data: Payload::default(), given: None };
    let update =
        |merge, ttl_ms| -> Call { memory::Update { scope: Scope::Session, key: "k".into(), merge, ttl_ms }.into() };
    let metadata: std::collections::BTreeMap<String, String> =
        [("file".into(), "a.md".into()), ("lang".into(), "en".into())].into();
    vec![
        log::Write(line(vec![])).into(),
        log::Write(line(vec![("a".into(), "1".into()), ("b".into(), String::new())])).into(),
        memory::Open(Scope::Global).into(),
        memory::Open(Scope::Session).into(),
        memory::Open(Scope::Agent).into(),
        memory::Get { scope: Scope::Session, key: "k".into() }.into(),
        memory::Put {
            scope: Scope::Agent,
            key: "k".into(),
            value: Bytes::from_static(&[0, 1, 255]),
            precondition: Precondition::Any,
            ttl_ms: None,
        }
        .into(),
        memory::Put {
            scope: Scope::Global,
            key: "é".repeat(100),
            value: Bytes::from(vec![7; 70_000]),
            precondition: Precondition::Absent,
            ttl_ms: Some(u64::from(u32::MAX) + 1),
        }
        .into(),
        memory::Put {
            scope: Scope::Global,
            key: "k".repeat(40),
            value: Bytes::from(vec![7; 300]),
            precondition: Precondition::Revision(Revision(70_000)),
            ttl_ms: Some(200),
        }
        .into(),
        memory::Delete { scope: Scope::Agent, key: "k".into(), precondition: Precondition::Revision(Revision(7)) }
            .into(),
        memory::Delete { scope: Scope::Agent, key: "k".into(), precondition: Precondition::Any }.into(),
        memory::List { scope: Scope::Session, prefix: String::new(), cursor: None, limit: 100 }.into(),
        memory::List { scope: Scope::Session, prefix: "a/".into(), cursor: Some("a/b".into()), limit: 1_000 }.into(),
        update(Merge::Set(Bytes::from_static(b"v")), None),
        update(Merge::Increment(5), Some(60_000)),
        update(Merge::Increment(-5), None),
        update(Merge::Increment(-1_000_000), None),
        update(Merge::Increment(i64::MIN), None),
        update(Merge::Increment(i64::MAX), None),
        update(Merge::Append("{\"a\":1}".into()), None),
        update(Merge::Union("[1]".into()), None),
        update(Merge::MergePatch("{\"a\":null}".into()), None),
        memory::Changes { scope: Scope::Global, prefix: "a/".into(), after: None, limit: 10, wait_ms: 30_000 }.into(),
        memory::Changes {
            scope: Scope::Global,
            prefix: String::new(),
            after: Some(Position(300)),
            limit: 10,
            wait_ms: 0,
        }
        .into(),
        graph::Relate {
            subject: "a".parse().unwrap(),
            relation: "depends-on".parse().unwrap(),
            object: "b".parse().unwrap(),
            properties: "{\"w\":1}".into(),
            valid_from: Some(at(1_800_000_000_000)),
        }
        .into(),
        graph::Relate {
            subject: "a".parse().unwrap(),
            relation: "r".parse().unwrap(),
            object: "b".parse().unwrap(),
            properties: String::new(),
            valid_from: None,
        }
        .into(),
        graph::Unrelate {
            subject: "a".parse().unwrap(),
            relation: "r".parse().unwrap(),
            object: "b".parse().unwrap(),
            valid_to: Some(at(5)),
        }
        .into(),
        graph::Facts(FactFilter {
            entity: Some("a".parse().unwrap()),
            direction: Direction::In,
            relation: Some("r".parse().unwrap()),
            as_of: AsOf { valid: None, known: Some(at(9)) },
            history: true,
            after: Some(Revision(12)),
            limit: 50,
        })
        .into(),
        graph::Facts(FactFilter {
            entity: None,
            direction: Direction::Out,
            relation: None,
            as_of: AsOf::default(),
            history: false,
            after: None,
            limit: 1,
        })
        .into(),
        graph::FindPath { walk: walk.clone(), to: "c".parse().unwrap() }.into(),
        graph::Reach(bare).into(),
        graph::Reach(walk.clone()).into(),
        graph::DependencyOrder(walk).into(),
        recall::Remember { id: "n1".into(), text: "a text".into(), metadata: metadata.clone() }.into(),
        recall::Remember { id: "n1".into(), text: "a text".into(), metadata: Default::default() }.into(),
        recall::Forget { id: "n1".into() }.into(),
        recall::Search { query: "what?".into(), filter: metadata, limit: 10 }.into(),
        messages::Send { to: "summarizer".parse().unwrap(), event: event.clone() }.into(),
        messages::Send { to: "summarizer".parse().unwrap(), event: silent }.into(),
        messages::Publish { topic: "builds/main".parse().unwrap(), event }.into(),
        messages::Receive { limit: 10, wait_ms: 5_000 }.into(),
        messages::Ack { id: Revision(77) }.into(),
        messages::Reject { id: Revision(77), reason: "no such file".into() }.into(),
        messages::Read { topic: "builds/main".parse().unwrap(), after: Some(Position(1)), limit: 100, wait_ms: 0 }
            .into(),
        messages::Read { topic: "builds/main".parse().unwrap(), after: None, limit: 100, wait_ms: 0 }.into(),
        memory::Touch { scope: Scope::Session, key: "k".into(), ttl_ms: None }.into(),
        memory::Touch { scope: Scope::Agent, key: "k".into(), ttl_ms: Some(30_000) }.into(),
        coordination::Call {
            agent: "summarizer".parse().unwrap(),
            input: Payload { content_type: "application/json".into(), bytes: Bytes::from_static(b"{\"a\":1}") },
        }
        .into(),
        coordination::Begin { agent: "summarizer".parse().unwrap(), input: Payload::default() }.into(),
        coordination::Join { children: vec!["0192f0c4-7d8a-7c3e-9b1a-3f0e8d5c2b1a".parse().unwrap(); 2] }.into(),
        session::History { last: 10 }.into(),
        coordination::HandOff {
            to: "refunds".parse().unwrap(),
            reason: "it is about money".into(),
            passed: Some(Payload { content_type: "text/plain".into(), bytes: b"4711".as_slice().into() }),
        }
        .into(),
        coordination::HandOff { to: "refunds".parse().unwrap(), reason: "so".into(), passed: None }.into(),
        coordination::HandBack { reason: "so".into(), passed: None }.into(),
        coordination::Received.into(),
        state::Get.into(),
        state::Transition { event: "start".into(), patch: "{}".into(), expected: None }.into(),
        state::Transition { event: "start".into(), patch: "{}".into(), expected: Some(Revision(7)) }.into(),
        attempt::Checkpoint.into(),
        coordination::Need {
            text: "sum up".into(),
            among: vec!["a".parse().unwrap(), "b".parse().unwrap()],
            at_least: Some(30),
            input: Payload { content_type: "text/plain".into(), bytes: b"x".as_slice().into() },
        }
        .into(),
        coordination::Need { text: "sum up".into(), among: Vec::new(), at_least: None, input: Payload::default() }
            .into(),
        coordination::Ask {
            title: "Publish?".into(),
            of: Role::Author,
            show: Some(Payload { content_type: "text/plain".into(), bytes: b"x".as_slice().into() }),
            schema: Some("true".into()),
            timeout_ms: Some(1_000),
        }
        .into(),
        coordination::Ask { title: "So?".into(), of: Role::Admin, show: None, schema: None, timeout_ms: None }.into(),
    ]
}

/// Of each example: the call's name, and its request in hexadecimal, or, of a long one, its digest.
const GOLDEN: &[&str] = &[
    "log.write 81a36c6f6792a47761726ea3686f74",
    "log.write 81a36c6f6793a47761726ea3686f749292a161a13192a162a0",
    "memory.open 81ab6d656d6f72792d6f70656ea6676c6f62616c",
    "memory.open 81ab6d656d6f72792d6f70656ea773657373696f6e",
    "memory.open 81ab6d656d6f72792d6f70656ea56167656e74",
    "memory.get 81aa6d656d6f72792d67657492a773657373696f6ea16b",
    "memory.put 81aa6d656d6f72792d70757495a56167656e74a16bc4030001ffa3616e79c0",
    "memory.put sha256:fc65d30c0772fe5ce1a46497c03915bc157878e4a3cd71bc44c34f812c624f64",
    "memory.put sha256:0fc0519e886fd96df1ed62644dcf4c5782b7f017b7c847747ab3e66c35444ea3",
    "memory.delete 81ad6d656d6f72792d64656c65746593a56167656e74a16b81a87265766973696f6e07",
    "memory.delete 81ad6d656d6f72792d64656c65746593a56167656e74a16ba3616e79",
    "memory.list 81ab6d656d6f72792d6c69737494a773657373696f6ea0c064",
    "memory.list 81ab6d656d6f72792d6c69737494a773657373696f6ea2612fa3612f62cd03e8",
    "memory.update 81ad6d656d6f72792d75706461746594a773657373696f6ea16b81a3736574c40176c0",
    "memory.update 81ad6d656d6f72792d75706461746594a773657373696f6ea16b81a9696e6372656d656e7405cdea60",
    "memory.update 81ad6d656d6f72792d75706461746594a773657373696f6ea16b81a9696e6372656d656e74fbc0",
    "memory.update 81ad6d656d6f72792d75706461746594a773657373696f6ea16b81a9696e6372656d656e74d2fff0bdc0c0",
    "memory.update 81ad6d656d6f72792d75706461746594a773657373696f6ea16b81a9696e6372656d656e74d38000000000000000c0",
    "memory.update 81ad6d656d6f72792d75706461746594a773657373696f6ea16b81a9696e6372656d656e74cf7fffffffffffffffc0",
    "memory.update 81ad6d656d6f72792d75706461746594a773657373696f6ea16b81a6617070656e64a77b2261223a317dc0",
    "memory.update 81ad6d656d6f72792d75706461746594a773657373696f6ea16b81a5756e696f6ea35b315dc0",
    "memory.update 81ad6d656d6f72792d75706461746594a773657373696f6ea16b81ab6d657267652d7061746368aa7b2261223a6e756c6c7dc0",
    "memory.changes 81ae6d656d6f72792d6368616e67657395a6676c6f62616ca2612fc00acd7530",
    "memory.changes 81ae6d656d6f72792d6368616e67657395a6676c6f62616ca0cd012c0a00",
    "graph.relate 81ac67726170682d72656c61746595a161aa646570656e64732d6f6ea162a77b2277223a317dcf000001a3185c5000",
    "graph.relate 81ac67726170682d72656c61746595a161a172a162a0c0",
    "graph.unrelate 81ae67726170682d756e72656c61746594a161a172a16205",
    "graph.facts 81ab67726170682d666163747397a161a2696ea17292c009c30c32",
    "graph.facts 81ab67726170682d666163747397c0a36f7574c092c0c0c2c001",
    "graph.path 81aa67726170682d706174689295a9646f63732f612e6d64a4626f7468aa646570656e64732d6f6e1092cf000001a3185c5000c0a163",
    "graph.reach 81ab67726170682d726561636895a162a36f7574c00192c0c0",
    "graph.reach 81ab67726170682d726561636895a9646f63732f612e6d64a4626f7468aa646570656e64732d6f6e1092cf000001a3185c5000c0",
    "graph.order 81ab67726170682d6f7264657295a9646f63732f612e6d64a4626f7468aa646570656e64732d6f6e1092cf000001a3185c5000c0",
    "recall.remember 81af726563616c6c2d72656d656d62657293a26e31a661207465787482a466696c65a4612e6d64a46c616e67a2656e",
    "recall.remember 81af726563616c6c2d72656d656d62657293a26e31a661207465787480",
    "recall.forget 81ad726563616c6c2d666f7267657491a26e31",
    "recall.search 81ad726563616c6c2d73656172636893a5776861743f82a466696c65a4612e6d64a46c616e67a2656e0a",
    "messages.send 81ac6d6573736167652d73656e6492aa73756d6d6172697a657293aa6e6f74652e6164646564ae646f63732f6572726f72732e6d6492b06170706c69636174696f6e2f6a736f6ec4077b2261223a317d",
    "messages.send 81ac6d6573736167652d73656e6492aa73756d6d6172697a657293a16bc092a0c400",
    "messages.publish 81af6d6573736167652d7075626c69736892ab6275696c64732f6d61696e93aa6e6f74652e6164646564ae646f63732f6572726f72732e6d6492b06170706c69636174696f6e2f6a736f6ec4077b2261223a317d",
    "messages.receive 81af6d6573736167652d72656365697665920acd1388",
    "messages.ack 81ab6d6573736167652d61636b914d",
    "messages.reject 81ae6d6573736167652d72656a656374924dac6e6f20737563682066696c65",
    "messages.read 81ac6d6573736167652d7265616494ab6275696c64732f6d61696e016400",
    "messages.read 81ac6d6573736167652d7265616494ab6275696c64732f6d61696ec06400",
    "memory.touch 81ac6d656d6f72792d746f75636893a773657373696f6ea16bc0",
    "memory.touch 81ac6d656d6f72792d746f75636893a56167656e74a16bcd7530",
    "coordination.call 81b1636f6f7264696e6174696f6e2d63616c6c92aa73756d6d6172697a657292b06170706c69636174696f6e2f6a736f6ec4077b2261223a317d",
    "coordination.begin 81b2636f6f7264696e6174696f6e2d626567696e92aa73756d6d6172697a657292a0c400",
    "coordination.join 81b1636f6f7264696e6174696f6e2d6a6f696e92d92430313932663063342d376438612d376333652d396231612d336630653864356332623161d92430313932663063342d376438612d376333652d396231612d336630653864356332623161",
    "session.history 81af73657373696f6e2d686973746f7279910a",
    "coordination.hand-off 81b5636f6f7264696e6174696f6e2d68616e642d6f666693a7726566756e6473b169742069732061626f7574206d6f6e657992aa746578742f706c61696ec40434373131",
    "coordination.hand-off 81b5636f6f7264696e6174696f6e2d68616e642d6f666693a7726566756e6473a2736fc0",
    "coordination.hand-back 81b6636f6f7264696e6174696f6e2d68616e642d6261636b92a2736fc0",
    "coordination.received 81b5636f6f7264696e6174696f6e2d726563656976656490",
    "state.get 81a973746174652d67657490",
    "state.transition 81b073746174652d7472616e736974696f6e93a57374617274a27b7dc0",
    "state.transition 81b073746174652d7472616e736974696f6e93a57374617274a27b7d07",
    "attempt.checkpoint 81b2617474656d70742d636865636b706f696e7490",
    "coordination.need 81b1636f6f7264696e6174696f6e2d6e65656494a673756d20757092a161a1621e92aa746578742f706c61696ec40178",
    "coordination.need 81b1636f6f7264696e6174696f6e2d6e65656494a673756d20757090c092a0c400",
    "coordination.ask 81b0636f6f7264696e6174696f6e2d61736b95a85075626c6973683fa6617574686f7292aa746578742f706c61696ec40178a474727565cd03e8",
    "coordination.ask 81b0636f6f7264696e6174696f6e2d61736b95a3536f3fa561646d696ec0c0c0",
];

fn line(call: &Call) -> String {
    let bytes = call.request_in(form::CURRENT).unwrap().bytes().to_owned();
    match bytes.len() {
        0..=200 => format!("{} {}", call.name(), hex::encode(bytes)),
        _ => format!("{} {}", call.name(), Digest::of(&bytes)),
    }
}

#[test]
fn every_request_is_written_as_it_always_was() {
    let written: Vec<String> = examples().iter().map(line).collect();
    for (written, golden) in written.iter().zip(GOLDEN) {
        assert_eq!(written, golden);
    }
    assert_eq!(written.len(), GOLDEN.len(), "{:#?}", written.get(GOLDEN.len()..));
}

#[test]
fn every_call_has_an_example() {
    let examples: BTreeSet<&str> = examples().iter().map(Call::name).collect();
    let names: BTreeSet<&str> = Call::names().collect();
    assert_eq!(examples, names);
    assert_eq!(names.len(), Call::names().count(), "two calls have one name");
}

#[test]
fn each_request_is_known_by_a_digest_of_its_own() {
    let digests: BTreeSet<String> =
        examples().iter().map(|call| call.request_in(1).unwrap().digest().to_string()).collect();
    assert_eq!(digests.len(), examples().len());
    assert!(
        examples().iter().all(|call| call.request_in(2).is_none()),
        "of a form that it does not know it knows nothing"
    );
}
