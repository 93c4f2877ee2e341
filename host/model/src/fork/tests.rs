//! The laws of what comes together.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::memory::Item;
use crate::merge::Merge;

fn item(revision: u64, value: &str) -> Item {
    Item { key: "k".into(), value: value.to_owned().into(), revision: Revision(revision), expires_at: None }
}

fn put(value: &str) -> Side {
    let value = Some(MemoryValue { bytes: value.to_owned().into(), expires_at: None });
    Side { did: Did::Put, revision: Revision(9), value }
}

fn deleted() -> Side {
    Side { did: Did::Deleted, revision: Revision(9), value: None }
}

/// What a branch did with these updates, one after the other.
fn updated(base: Option<&Item>, merges: &[Merge]) -> Side {
    let mut side: Option<Side> = None;
    for merge in merges {
        let before =
            side.as_ref().map_or(base.map(|item| &item.value[..]), |side| side.bytes().map(|bytes| &bytes[..]));
        let value = Some(MemoryValue { bytes: merge.apply(before).unwrap(), expires_at: None });
        let next = Side { did: Did::of(merge), revision: Revision(9), value };
        side = Some(match side {
            Some(side) => side.then(next),
            None => next,
        });
    }
    side.unwrap()
}

fn joined(base: Option<&Item>, current: Option<&Item>, sides: &[Side]) -> Result<Option<Outcome>, Why> {
    let sides: Vec<(u32, &Side)> = (0..).zip(sides).collect();
    join(base, current, &sides)
}

fn value(outcome: Result<Option<Outcome>, Why>) -> Value {
    serde_json::from_slice(&outcome.unwrap().unwrap().value.unwrap().bytes).unwrap()
}

#[test]
fn what_merges_and_what_conflicts() {
    let (base, moved) = (item(1, "5"), item(2, "7"));
    let (base, moved) = (Some(&base), Some(&moved));
    let plus = |by| updated(base, &[Merge::Increment(by)]);
    // nobody, or one
    assert_eq!(joined(base, base, &[]), Ok(None));
    assert_eq!(value(joined(base, base, &[put("6")])), json!(6));
    assert_eq!(joined(base, base, &[deleted()]).unwrap().unwrap().value, None);
    assert_eq!(joined(base, moved, &[put("6")]), Err(Why::Moved));
    assert_eq!(joined(base, moved, &[deleted()]), Err(Why::Moved));
    assert_eq!(joined(base, None, &[plus(1)]), Err(Why::Moved), "who deleted it outside wins nothing");
    // what commutes
    assert_eq!(value(joined(base, base, &[plus(1), plus(1)])), json!(7), "not 6, though both hold 6");
    assert_eq!(value(joined(base, moved, &[plus(1), plus(2)])), json!(10), "anew to what is there now");
    assert_eq!(value(joined(base, moved, &[plus(1)])), json!(8));
    // the same
    assert_eq!(
        value(joined(base, base, &[put("{\"a\":1,\"b\":2}"), put("{\"b\": 2, \"a\": 1}")])),
        json!({"a": 1, "b": 2})
    );
    assert_eq!(joined(base, base, &[deleted(), deleted()]).unwrap().unwrap().value, None);
    assert_eq!(joined(base, moved, &[put("7"), put("7")]), Ok(None), "it is so already");
    assert_eq!(joined(base, moved, &[put("8"), put("8")]), Err(Why::Moved));
    // the rest
    assert_eq!(joined(base, base, &[put("1"), put("2")]), Err(Why::Several));
    assert_eq!(joined(base, base, &[plus(1), put("1")]), Err(Why::Several));
    assert_eq!(joined(base, base, &[plus(1), deleted()]), Err(Why::Deleted));
    assert_eq!(joined(base, base, &[put("6"), plus(1)]).unwrap().unwrap().did, Did::Put, "both hold 6");
    let text = item(3, "\"x\"");
    assert!(matches!(joined(base, Some(&text), &[plus(1), plus(2)]), Err(Why::Unfit(why)) if why.contains("a string")));
}

#[test]
fn patches_go_together_where_they_touch_different_places() {
    let base = item(1, r#"{"a":{"x":1,"y":1},"b":1}"#);
    let patch = |text: &str| updated(Some(&base), &[Merge::MergePatch(text.into())]);
    let both = |one: &str, other: &str| joined(Some(&base), Some(&base), &[patch(one), patch(other)]);
    assert_eq!(value(both(r#"{"a":{"x":2}}"#, r#"{"a":{"y":3}}"#)), json!({"a": {"x": 2, "y": 3}, "b": 1}));
    assert_eq!(value(both(r#"{"a":{"x":null}}"#, r#"{"b":null}"#)), json!({"a": {"y": 1}}));
    for (one, other) in [
        (r#"{"a":{"x":2}}"#, r#"{"a":{"x":3}}"#),
        (r#"{"a":{"x":2}}"#, r#"{"a":null}"#),
        (r#"{"a":7}"#, r#"{"a":{"y":3}}"#),
        (r#"{"b":2}"#, "[1]"),
    ] {
        assert_eq!(both(one, other), Err(Why::Several), "{one} {other}");
    }
    // What happened outside is of no matter where it is elsewhere.
    let elsewhere = item(2, r#"{"a":{"x":1,"y":9},"b":2}"#);
    let of_one = |current: &Item| joined(Some(&base), Some(current), &[patch(r#"{"a":{"x":2}}"#)]);
    assert_eq!(value(of_one(&elsewhere)), json!({"a": {"x": 2, "y": 9}, "b": 2}));
    assert_eq!(of_one(&item(2, r#"{"a":{"x":4}}"#)), Err(Why::Moved));
    assert_eq!(of_one(&item(2, r#"{"a":7}"#)), Err(Why::Moved));
}

#[test]
fn policies_take_what_they_say() {
    let (base, moved) = (item(1, "0"), item(2, "9"));
    let sides = [put("1"), put("\"two\""), deleted()];
    let sides: Vec<(u32, &Side)> = (0..).zip(&sides).collect();
    let taken = |policy: Policy, current: &Item| {
        let outcome = policy.resolve(Some(&base), Some(current), &sides, &[2, 0, 1], |number| format!("b{number}"))?;
        Some(outcome.value.map_or(Value::Null, |value| serde_json::from_slice(&value.bytes).unwrap()))
    };
    assert_eq!(taken(Policy::Fail, &base), None);
    assert_eq!(taken(Policy::First, &base), Some(Value::Null), "the one that deleted it was done first");
    assert_eq!(taken(Policy::Last, &base), Some(json!("two")));
    assert_eq!(taken(Policy::Prefer(vec![7, 1]), &moved), Some(json!("two")));
    assert_eq!(taken(Policy::Prefer(vec![7]), &base), None, "a branch that did nothing is not preferred");
    let all = json!([{"branch": "b0", "value": 1}, {"branch": "b1", "value": "two"}, {"branch": "b2", "value": null}]);
    assert_eq!(taken(Policy::KeepAll, &base), Some(all.clone()));
    let with_whose = taken(Policy::KeepAll, &moved).unwrap();
    assert_eq!(with_whose[0], json!({"branch": null, "value": 9}));
    assert_eq!(with_whose.as_array().unwrap()[1..], all.as_array().unwrap()[..]);
}

#[test]
fn the_policy_of_the_longest_beginning_counts() {
    let of = |prefix: &str, policy| (prefix.to_owned(), policy);
    let policies = Policies(vec![of("plan/", Policy::First), of("", Policy::Last), of("plan/x", Policy::KeepAll)]);
    for (key, policy) in [("plan/a", Policy::First), ("plan/xy", Policy::KeepAll), ("pla", Policy::Last)] {
        assert_eq!(policies.of(key), &policy);
    }
    assert_eq!(Policies::default().of("x"), &Policy::Fail);
}

/// Updates of one kind, which commute.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Increment,
    Append,
    Union,
    MergePatch,
}

/// What a branch of a number does of a kind: patches touch members of its own.
fn updates(kind: Kind, branch: usize, numbers: &[u8]) -> Vec<Merge> {
    let update = |number: &u8| match kind {
        Kind::Increment => Merge::Increment(i64::from(*number) - 100),
        Kind::Append => Merge::Append(format!("{{\"n\":{number}}}")),
        Kind::Union => Merge::Union(format!("[{}, {}]", number % 8, number % 5)),
        Kind::MergePatch if number.is_multiple_of(3) => {
            Merge::MergePatch(format!("{{\"b{branch}\":{{\"m{}\":null}}}}", number % 4))
        }
        Kind::MergePatch => Merge::MergePatch(format!("{{\"b{branch}\":{{\"m{}\":{number}}}}}", number % 4)),
    };
    numbers.iter().map(update).collect()
}

fn base_of(kind: Kind) -> Item {
    item(
        1,
        match kind {
            Kind::Increment => "40",
            Kind::Append | Kind::Union => "[1,2]",
            Kind::MergePatch => r#"{"b0":{"m1":1,"m2":2},"rest":1}"#,
        },
    )
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![Kind::Increment, Kind::Append, Kind::Union, Kind::MergePatch])
}

proptest! {
    /// What commutes comes to the same as if the branches had worked one after the other on what is there now, whoever
    /// changed that meanwhile in the same way.
    #[test]
    fn what_commutes_is_done_anew_in_the_order_of_the_branches(
        kind in kinds(),
        scripts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..5), 1..6),
        outside in prop::collection::vec(any::<u8>(), 0..3),
    ) {
        let base = base_of(kind);
        let scripts: Vec<Vec<Merge>> = scripts.iter().enumerate().map(|(n, script)| updates(kind, n, script)).collect();
        let sides: Vec<Side> = scripts.iter().map(|script| updated(Some(&base), script)).collect();
        let outside = updates(kind, 99, &outside);
        let current = match outside.is_empty() {
            true => base.clone(),
            false => Item { value: updated(Some(&base), &outside).bytes().unwrap().clone(), ..item(2, "") },
        };
        let one_after_the_other = updated(Some(&current), &scripts.concat());
        let outcome = joined(Some(&base), Some(&current), &sides).unwrap().unwrap();
        let [came, wanted] = [outcome.value.unwrap().bytes, one_after_the_other.bytes().unwrap().clone()];
        prop_assert_eq!(came, wanted);
    }

    /// A fork within a branch of another comes to what all branches in one fork come to.
    #[test]
    fn forks_within_forks_are_associative_for_what_commutes(
        kind in kinds(),
        scripts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..4), 3..7),
        at in any::<prop::sample::Index>(),
    ) {
        let base = base_of(kind);
        let sides: Vec<Side> = scripts.iter().enumerate().map(|(n, script)| updated(Some(&base), &updates(kind, n, script))).collect();
        let flat = joined(Some(&base), Some(&base), &sides).unwrap().unwrap();
        let (first, within) = sides.split_at(1 + at.index(sides.len() - 2));
        let inner = joined(Some(&base), Some(&base), within).unwrap().unwrap();
        let inner = Side { did: inner.did, revision: Revision(10), value: inner.value };
        let nested: Vec<Side> = first.iter().cloned().chain([inner]).collect();
        prop_assert_eq!(joined(Some(&base), Some(&base), &nested).unwrap().unwrap(), flat);
    }

    /// Operations put together come to what they came to one after the other.
    #[test]
    fn operations_put_together_are_the_operations(kind in kinds(), numbers in prop::collection::vec(any::<u8>(), 1..20)) {
        let base = base_of(kind);
        let side = updated(Some(&base), &updates(kind, 0, &numbers));
        prop_assert_eq!(side.did.anew(Some(&base.value)).unwrap(), side.bytes().unwrap().clone());
    }

    /// The answer does not depend on the order in which the branches were done, but where the policy says so.
    #[test]
    fn who_was_faster_is_of_no_matter(
        sides in prop::collection::vec((0_u8..4, any::<u8>()), 2..5),
        shuffled in Just((0..5_u32).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let base = item(1, "[1]");
        let side = |(what, number): &(u8, u8)| match what {
            0 => deleted(),
            1 => put(&format!("[{}]", number % 2)),
            2 => updated(Some(&base), &[Merge::Append((number % 2).to_string())]),
            _ => updated(Some(&base), &[Merge::Union(format!("[{}]", number % 2))]),
        };
        let sides: Vec<Side> = sides.iter().map(side).collect();
        let sides: Vec<(u32, &Side)> = (0..).zip(&sides).collect();
        let in_order: Vec<u32> = (0..5).collect();
        for policy in [Policy::Fail, Policy::Prefer(vec![1, 0]), Policy::KeepAll] {
            let resolve = |order: &[u32]| policy.resolve(Some(&base), Some(&base), &sides, order, |n| n.to_string());
            prop_assert_eq!(resolve(&in_order), resolve(&shuffled));
        }
        let first = Policy::First.resolve(Some(&base), Some(&base), &sides, &shuffled, |n| n.to_string()).unwrap();
        let fastest = shuffled.iter().find(|number| **number < sides.len() as u32).unwrap();
        prop_assert_eq!(first.value, sides[*fastest as usize].1.value.clone());
    }
}
