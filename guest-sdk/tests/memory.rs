//! Memory that several work on: updates by rules, changes from a position, watching.

use std::time::Duration;

use ltmc::Error;
use ltmc::memory::{
    self, Append, Change, Increment, IntoMerge, Merge, MergePatch, PutOptions, Scope, Set, Store, Union,
};
use ltmc::serde_json::json;
use ltmc::testing::Host;

fn host() -> Host {
    Host::new().grant("memory:read:session").grant("memory:write:session")
}

fn store() -> Store {
    memory::open(Scope::Session).unwrap()
}

/// What a rule makes of a key that holds `before`.
fn merged(before: Option<&str>, rule: impl IntoMerge) -> Result<String, Error> {
    let host = host();
    if let Some(before) = before {
        host.memory(Scope::Session).put("k", before);
    }
    host.within(|| store().update("k", rule)).map(|entry| String::from_utf8(entry.value).unwrap())
}

#[test]
fn each_rule_begins_with_its_own_nothing_and_goes_on() {
    let same = |got: Result<String, Error>, wanted: &str| assert_eq!(got.as_deref(), Ok(wanted));
    same(merged(Some("y"), Set("x")), "x");
    same(merged(None, Increment(2)), "2");
    same(merged(Some("1"), Increment(-3)), "-2");
    same(merged(Some("0.5"), Increment(1)), "1.5");
    same(merged(Some("18446744073709551614"), Increment(1)), "18446744073709551615");
    same(merged(None, Append("a")), "[\"a\"]");
    same(merged(Some("[1]"), Append(json!({"b": 2}))), "[1,{\"b\":2}]");
    same(merged(None, Union([1, 1, 2])), "[1,2]");
    same(merged(Some("[{\"a\":1,\"b\":2}]"), Union(json!([{"b": 2, "a": 1}, 3]))), "[{\"a\":1,\"b\":2},3]");
    same(merged(None, MergePatch(json!({"a": {"b": 1, "c": null}}))), "{\"a\":{\"b\":1}}");
    same(merged(Some("{\"a\":1,\"b\":2}"), MergePatch(json!({"a": null}))), "{\"b\":2}");
    same(merged(Some("[1,2]"), MergePatch(json!({"a": "b", "c": null}))), "{\"a\":\"b\"}");
    same(merged(Some("{\"a\":1}"), MergePatch("bar")), "\"bar\"");
}

#[test]
fn what_does_not_fit_is_said_and_nothing_is_written() {
    let deep = format!("{}{}", "[".repeat(101), "]".repeat(101));
    for (before, rule, why) in [
        ("\"x\"", Merge::Increment(1), "a JSON number where there is a string"),
        ("x", Merge::Increment(1), "the value that is there is not JSON"),
        ("9223372036854775807", Merge::Increment(1), "64 bits"),
        ("{}", Merge::Append("1".into()), "a JSON list where there is an object"),
        ("[]", Merge::Append("x".into()), "the value to append is not JSON"),
        ("[]", Merge::Append(deep), "deeper than 100"),
        ("[]", Merge::Union("1".into()), "takes a JSON list"),
    ] {
        let host = host();
        host.memory(Scope::Session).put("k", before);
        let error = host.within(|| store().update("k", rule.clone())).unwrap_err();
        assert!(matches!(&error, Error::Invalid(told) if told.contains(why)), "{rule:?} on {before}: {error}");
        assert_eq!(host.memory(Scope::Session).get("k"), Some(before.into()));
    }
}

#[test]
fn updates_are_bounded_as_puts_are() {
    host().within(|| {
        let store = store();
        assert!(matches!(store.update("", Increment(1)), Err(Error::Invalid(_))));
        assert!(store.update("k", Set(vec![b'x'; 1 << 20])).is_ok());
        assert!(matches!(store.update("k", Set(vec![b'x'; (1 << 20) + 1])), Err(Error::Invalid(_))));
        let most = "x".repeat((1 << 20) - 4);
        assert_eq!(store.update("list", Append(&most)).unwrap().value.len(), 1 << 20);
        assert!(matches!(store.update("list", Append(1)), Err(Error::Invalid(_))));
        assert!(matches!(store.update_with("k", Set(""), Duration::ZERO), Err(Error::Invalid(_))));
    });
}

#[test]
fn a_time_to_live_stays_as_it_was_unless_it_is_given() {
    let host = host();
    host.within(|| {
        let store = store();
        let first = store.update_with("k", Increment(1), Duration::from_secs(5)).unwrap();
        assert_eq!(first.expires_at_ms, Some(host.now_ms() + 5_000));
        host.advance(Duration::from_secs(1));
        let second = store.update("k", Increment(1)).unwrap();
        assert_eq!((second.expires_at_ms, second.json::<u32>()), (first.expires_at_ms, Ok(2)));
        assert!(second.revision > first.revision);
        let third = store.update_with("k", Increment(1), Duration::from_secs(5)).unwrap();
        assert_eq!(third.expires_at_ms, Some(host.now_ms() + 5_000));
        host.advance(Duration::from_secs(5));
        assert_eq!(store.update("k", Increment(1)).unwrap().json::<u32>(), Ok(1), "it had come to its end");
    });
}

#[test]
fn each_half_needs_its_capability() {
    let host = host();
    host.within(|| {
        let store = store();
        host.revoke("memory:write:session");
        let denied = Error::AccessDenied("memory:write:session".to_owned());
        assert_eq!(store.update("k", Increment(1)), Err(denied));
        assert!(store.changes("", None, 1, Duration::ZERO).is_ok());
        host.revoke("memory:read:session");
        let denied = Error::AccessDenied("memory:read:session".to_owned());
        assert_eq!(store.changes("", None, 1, Duration::ZERO), Err(denied.clone()));
        let told: Vec<Result<Change, Error>> = store.watch("").collect();
        assert_eq!(told, [Err(denied)]);
    });
}

fn seen(changes: &[Change]) -> Vec<(&str, Option<&[u8]>)> {
    changes.iter().map(|change| (change.key.as_str(), change.value.as_deref())).collect()
}

#[test]
fn changes_come_in_order_from_a_position_and_by_prefix() {
    host().within(|| {
        let store = store();
        let start = store.changes("", None, 10, Duration::ZERO).unwrap();
        assert!(start.changes.is_empty(), "from now on");
        store.put("plan/a", "1").unwrap();
        store.put("else", "2").unwrap();
        store.update("plan/a", Increment(1)).unwrap();
        store.delete("plan/a").unwrap();
        assert!(!store.delete("plan/a").unwrap(), "there was nothing, so nothing changed");
        let first = store.changes("plan/", Some(start.next), 2, Duration::ZERO).unwrap();
        assert_eq!(seen(&first.changes), [("plan/a", Some(&b"1"[..])), ("plan/a", Some(&b"2"[..]))]);
        let rest = store.changes("plan/", Some(first.next), 2, Duration::ZERO).unwrap();
        assert_eq!(seen(&rest.changes), [("plan/a", None)]);
        assert_eq!(rest.changes[0].json::<u32>(), Ok(None));
        assert!(store.changes("plan/", Some(rest.next), 2, Duration::ZERO).unwrap().changes.is_empty());
    });
}

#[test]
fn changes_are_bounded() {
    host().within(|| {
        let (store, second) = (store(), Duration::from_secs(1));
        for (prefix, limit, wait) in [("", 0, second), ("", 1_001, second), ("", 1, second * 31)] {
            assert!(matches!(store.changes(prefix, None, limit, wait), Err(Error::Invalid(_))), "{limit} {wait:?}");
        }
        assert!(matches!(store.changes(&"p".repeat(513), None, 1, second), Err(Error::Invalid(_))));
        assert!(store.changes(&"p".repeat(512), None, 1_000, second * 30).is_ok());
    });
}

#[test]
fn sessions_do_not_see_each_other_change() {
    let host = host();
    let other = host.clone().session("other");
    host.within(|| {
        let own = store();
        let mut watch = own.watch("");
        other.within(|| store().put("k", "theirs").map(drop)).unwrap();
        assert!(watch.next().is_none());
    });
}

#[test]
fn a_watch_misses_nothing_after_it_began_and_says_where_to_go_on() {
    host().within(|| {
        let store = store();
        store.put("k", "before").unwrap();
        let mut watch = store.watch("k");
        for n in 0..250 {
            store.put("k", n.to_string()).unwrap();
        }
        let first: Vec<u32> = watch.by_ref().take(130).map(|c| c.unwrap().json().unwrap().unwrap()).collect();
        assert_eq!(first, (0..130).collect::<Vec<u32>>());
        let rest: Vec<u32> =
            store.watch_from("k", watch.position()).map(|c| c.unwrap().json().unwrap().unwrap()).collect();
        assert_eq!(rest, (130..250).collect::<Vec<u32>>());
        assert_eq!(watch.count(), 120);
    });
}

#[test]
fn a_watch_waits_for_as_long_as_it_may_and_no_longer() {
    let host = host();
    host.within(|| {
        let store = store();
        let begun = host.now_ms();
        assert_eq!(store.watch("").count(), 0);
        assert_eq!(host.now_ms() - begun, 30_000, "unless it is said otherwise");
        assert_eq!(store.watch("").for_at_most(Duration::from_secs(70)).count(), 0);
        assert_eq!(host.now_ms() - begun, 100_000);
        let watch = store.watch("").for_at_most(Duration::ZERO);
        store.put("k", "there").unwrap();
        assert_eq!(watch.count(), 1, "what is there needs no wait");
        assert_eq!(host.now_ms() - begun, 100_000);
    });
}

#[test]
fn what_comes_to_its_end_is_a_change() {
    let host = host();
    host.within(|| {
        let store = store();
        let ttl = |seconds| PutOptions { ttl: Some(Duration::from_secs(seconds)), ..PutOptions::default() };
        let mut watch = store.watch("lease/");
        store.put_with("lease/b", "", ttl(20)).unwrap();
        store.put_with("lease/a", "", ttl(10)).unwrap();
        let begun = host.now_ms();
        let changes: Vec<Change> = watch.by_ref().take(4).map(Result::unwrap).collect();
        assert_eq!(seen(&changes[2..]), [("lease/a", None), ("lease/b", None)]);
        assert_eq!(host.now_ms() - begun, 20_000, "it waited until the last of them");
        assert!(store.get("lease/a").unwrap().is_none());
        assert!(watch.next().is_none());
        assert_eq!(host.now_ms() - begun, 30_000);
    });
}

#[test]
fn a_position_that_is_kept_no_more_is_told_to_begin_anew() {
    let host = host();
    host.within(|| {
        let store = store();
        let watch = store.watch("");
        let position = watch.position();
        store.put("k", "1").unwrap();
        host.trim();
        let told: Vec<_> = watch.collect();
        let [Err(Error::Resync(from))] = told.as_slice() else { panic!("{told:?}") };
        store.put("k", "2").unwrap();
        let values: Vec<_> = store.watch_from("", *from).map(|change| change.unwrap().value).collect();
        assert_eq!(values, [Some(b"2".to_vec())]);
        let later = *from + 100;
        for wrong in [position, later] {
            assert!(matches!(store.changes("", Some(wrong), 1, Duration::ZERO), Err(Error::Resync(_))), "{wrong}");
        }
    });
}

#[test]
fn a_touched_key_lives_longer_and_stays_what_it_is() {
    let host = host();
    let past = |seconds: u64| host.advance(Duration::from_secs(seconds));
    let touch = |ttl: Option<u64>| host.within(|| store().touch("lease", ttl.map(Duration::from_secs)));
    assert_eq!(touch(Some(30)), Ok(false), "there is nothing");
    let lease = PutOptions { ttl: Some(Duration::from_secs(30)), ..PutOptions::default() };
    host.within(|| store().put_with("lease", "ada", lease)).unwrap();
    past(20);
    assert_eq!(touch(Some(30)), Ok(true));
    past(20);
    let entry = host.within(|| store().get("lease")).unwrap().unwrap();
    assert_eq!(entry.value, b"ada");
    past(20);
    assert_eq!(touch(Some(30)), Ok(false), "it has come to its end");

    host.memory(Scope::Session).put("lease", "grace");
    assert_eq!(touch(Some(30)), Ok(true));
    assert_eq!(touch(None), Ok(true));
    past(60);
    assert_eq!(host.memory(Scope::Session).get("lease"), Some(b"grace".into()), "it lives for ever again");
    assert!(matches!(touch(Some(0)), Err(Error::Invalid(_))));
    let reads = Host::new().grant("memory:read:session");
    assert_eq!(reads.within(|| store().touch("k", None)), Err(Error::AccessDenied("memory:write:session".into())));
}
