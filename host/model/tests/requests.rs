//! The form 1 of every request, as the first version of the host wrote it. A run that is under way while its host is exchanged
//! is compared by these bytes: a line of `requests-v1.txt` is never changed, and none is removed. A new call has its line
//! there, and an example here; so has a new field, in an example of its own.

use bytes::Bytes;
use ltmc_model::call::{Call, form, graph, log, memory, messages, recall};
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
    };
    let silent = messages::Draft { kind: "k".into(), subject: None, data: Payload::default() };
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
    ]
}

/// A line of the file: the call's name, and its request in hexadecimal, or, of a long one, its digest.
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
    let golden: Vec<&str> = include_str!("requests-v1.txt").lines().collect();
    for (written, golden) in written.iter().zip(&golden) {
        assert_eq!(written, golden);
    }
    assert_eq!(written.len(), golden.len());
}

#[test]
fn each_request_is_known_by_a_digest_of_its_own() {
    let digests: std::collections::BTreeSet<String> =
        examples().iter().map(|call| call.request_in(1).unwrap().digest().to_string()).collect();
    assert_eq!(digests.len(), examples().len());
    assert!(
        examples().iter().all(|call| call.request_in(2).is_none()),
        "of a form that it does not know it knows nothing"
    );
}
