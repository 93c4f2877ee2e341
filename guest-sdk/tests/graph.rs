//! The graph: facts told, superseded and asked for, walks along them.

use std::time::Duration;

use ltmc::Error;
use ltmc::graph::{self, AsOf, Direction, Fact, Filter, RelateOptions, Walk};
use ltmc::serde_json::{Value, json};
use ltmc::testing::Host;

fn host() -> Host {
    Host::new().grant("graph:read").grant("graph:write")
}

/// A host that knows these facts, each `depends-on`.
fn knows(facts: &[(&str, &str)]) -> Host {
    let host = host();
    for (subject, object) in facts {
        host.relate(subject, "depends-on", object);
    }
    host
}

fn since(properties: Value, valid_from_ms: Option<u64>) -> RelateOptions {
    RelateOptions { properties, valid_from_ms }
}

fn ids(facts: &[Fact]) -> Vec<u64> {
    facts.iter().map(|fact| fact.id).collect()
}

#[test]
fn what_holds_already_is_not_told_again() {
    let host = host();
    host.within(|| {
        let first = graph::relate("a", "depends-on", "b").unwrap();
        host.advance(Duration::from_secs(1));
        assert_eq!(graph::relate("a", "depends-on", "b"), Ok(first));
        assert_eq!(graph::relate_with("a", "depends-on", "b", since(json!({}), None)), Ok(first), "no properties");
        let other = graph::relate_with("a", "depends-on", "b", since(json!({"optional": true}), None)).unwrap();
        assert!(other > first);
    });
    let facts = host.facts();
    assert_eq!((facts[0].valid_to_ms, facts[0].ended_at_ms), (Some(host.now_ms()), Some(host.now_ms())));
    assert_eq!(facts[1].valid_from_ms, host.now_ms());
    assert_eq!(facts[1].json::<Value>(), Ok(Some(json!({"optional": true}))));
    assert_eq!(facts[0].json::<Value>(), Ok(None));
}

#[test]
fn what_held_and_what_was_known_can_be_asked_for() {
    let host = host();
    host.within(|| {
        let t0 = host.now_ms();
        let fact = graph::relate_with("ada", "works-on", "engine", since(Value::Null, Some(t0 - 1_000))).unwrap();
        host.advance(Duration::from_secs(10));
        assert_eq!(graph::unrelate_at("ada", "works-on", "engine", t0 + 2_000), Ok(true));
        assert_eq!(graph::unrelate("ada", "works-on", "engine"), Ok(false), "it is over already");
        let t10 = host.now_ms();
        let seen = |valid_ms, known_ms| {
            let page = graph::page(&Filter::of("ada").as_of(AsOf { valid_ms, known_ms }), None, 10).unwrap();
            page.facts.iter().any(|one| one.id == fact)
        };
        assert!(!seen(None, None), "it holds no more");
        assert!(seen(Some(t0 - 1_000), None) && seen(Some(t0 + 1_999), None));
        assert!(!seen(Some(t0 - 1_001), None) && !seen(Some(t0 + 2_000), None));
        assert!(seen(Some(t0 + 5_000), Some(t10 - 1)), "before its end was recorded it was thought to hold");
        assert!(!seen(Some(t0), Some(t0 - 1)), "before it was recorded nobody knew");
        let history = graph::page(&Filter::of("ada").history(), None, 10).unwrap();
        assert_eq!(ids(&history.facts), [fact]);
    });
}

#[test]
fn times_that_make_no_sense_are_refused() {
    let host = host();
    host.within(|| {
        let now = host.now_ms();
        let told = |properties, at| graph::relate_with("a", "is", "b", since(properties, Some(at)));
        assert!(matches!(told(Value::Null, now + 1), Err(Error::Invalid(_))));
        let first = told(Value::Null, now - 10).unwrap();
        assert_eq!(told(Value::Null, now - 10), Ok(first));
        assert!(matches!(told(json!({"x": 1}), now - 11), Err(Error::Invalid(_))), "before the one that holds");
        assert!(matches!(graph::unrelate_at("a", "is", "b", now - 11), Err(Error::Invalid(_))));
        assert!(matches!(graph::unrelate_at("a", "is", "b", now + 1), Err(Error::Invalid(_))));
    });
}

#[test]
fn names_and_properties_are_bounded() {
    host().within(|| {
        for entity in ["", "a\nb", &"e".repeat(257)] {
            assert!(matches!(graph::relate(entity, "is", "b"), Err(Error::Invalid(_))), "{entity}");
            assert!(matches!(graph::neighbours(entity), Err(Error::Invalid(_))), "{entity}");
            assert!(matches!(graph::path("a", entity), Err(Error::Invalid(_))), "{entity}");
        }
        for relation in ["", "Is", "is a", "1s", &"r".repeat(65)] {
            assert!(matches!(graph::relate("a", relation, "b"), Err(Error::Invalid(_))), "{relation}");
            assert!(matches!(graph::order("a", relation), Err(Error::Invalid(_))), "{relation}");
        }
        assert!(graph::relate(&"e".repeat(256), &"r".repeat(64), "docs/errors.md#what it means").is_ok());
        for properties in [json!([1]), json!("x"), json!({"x": "x".repeat(4 << 10)})] {
            assert!(matches!(graph::relate_with("a", "is", "b", since(properties, None)), Err(Error::Invalid(_))));
        }
        for limit in [0, 1_001] {
            assert!(matches!(graph::page(&Filter::default(), None, limit), Err(Error::Invalid(_))));
        }
        for depth in [0, 17] {
            assert!(matches!(graph::reach(Walk::from("a").depth(depth)), Err(Error::Invalid(_))));
            assert!(matches!(graph::path_with(Walk::from("a").depth(depth), "b"), Err(Error::Invalid(_))));
            assert!(matches!(graph::order_with(Walk::from("a").depth(depth)), Err(Error::Invalid(_))));
        }
    });
}

#[test]
fn each_half_needs_its_capability() {
    Host::new().grant("graph:write").within(|| {
        let denied = |wanted: &str| Error::AccessDenied(wanted.to_owned());
        assert!(graph::relate("a", "is", "b").is_ok());
        assert_eq!(graph::facts(Filter::default()).next(), Some(Err(denied("graph:read"))));
        assert_eq!(graph::path("a", "b"), Err(denied("graph:read")));
        assert_eq!(graph::dependents("a", "is"), Err(denied("graph:read")));
        assert_eq!(graph::order("a", "is"), Err(denied("graph:read")));
    });
    Host::new().grant("graph:read").within(|| {
        let denied = Error::AccessDenied("graph:write".to_owned());
        assert_eq!(graph::relate("a", "is", "b"), Err(denied.clone()));
        assert_eq!(graph::unrelate("a", "is", "b"), Err(denied));
    });
}

#[test]
fn facts_span_pages_and_pass_their_filter() {
    let host = host();
    for n in 0..250 {
        host.relate("hub", "knows", &format!("spoke {n}"));
    }
    host.relate("spoke 1", "is", "hub");
    host.within(|| {
        let count = |filter: Filter| graph::facts(filter).map(Result::unwrap).count();
        assert_eq!(count(Filter::default()), 251);
        assert_eq!(count(Filter::of("hub")), 250);
        assert_eq!(count(Filter::of("hub").direction(Direction::In)), 1);
        assert_eq!(count(Filter::of("hub").direction(Direction::Both)), 251);
        assert_eq!(count(Filter::of("hub").relation("is")), 0);
        let first = graph::page(&Filter::of("hub"), None, 200).unwrap();
        let second = graph::page(&Filter::of("hub"), first.next, 200).unwrap();
        assert_eq!((first.facts.len(), second.facts.len(), second.next), (200, 50, None));
        assert!(!graph::facts(Filter::default()).degraded());
    });
}

#[test]
fn a_path_is_a_shortest_one() {
    let host = knows(&[("a", "b"), ("b", "c"), ("c", "d"), ("a", "c")]);
    host.relate("d", "is", "e");
    host.within(|| {
        let way = |walk: Walk, to: &str| {
            let facts = graph::path_with(walk, to).unwrap().facts;
            facts.map(|facts| facts.iter().map(|fact| format!("{}{}", fact.subject, fact.object)).collect::<Vec<_>>())
        };
        let steps = |steps: &[&str]| Some(steps.iter().map(|step| (*step).to_owned()).collect::<Vec<_>>());
        assert_eq!(way(Walk::from("a"), "e"), steps(&["ac", "cd", "de"]));
        assert_eq!(way(Walk::from("a"), "a"), steps(&[]), "a thing is on its own way");
        assert_eq!(way(Walk::from("a").relation("depends-on"), "e"), None);
        assert_eq!(way(Walk::from("a").depth(2), "e"), None);
        assert_eq!(way(Walk::from("e"), "a"), None);
        assert_eq!(way(Walk::from("e").direction(Direction::In), "a"), steps(&["de", "cd", "ac"]));
        assert_eq!(graph::path("a", "nobody").unwrap().facts, None);
    });
}

#[test]
fn what_depends_on_a_thing_is_found_near_and_far() {
    let host = knows(&[("api", "model"), ("host", "api"), ("host", "model"), ("model", "serde")]);
    host.relate("ada", "wrote", "model");
    host.within(|| {
        assert_eq!(graph::dependents("model", "depends-on").unwrap().entities(), ["api", "host"]);
        assert_eq!(graph::dependencies("host", "depends-on").unwrap().entities(), ["api", "model", "serde"]);
        let mut near: Vec<String> =
            graph::neighbours("model").unwrap().entities().iter().map(|entity| (*entity).to_owned()).collect();
        near.sort();
        assert_eq!(near, ["ada", "api", "host", "serde"]);
        let walk = Walk::from("model").direction(Direction::In).relation("depends-on").depth(1);
        let reached = graph::reach(walk).unwrap();
        assert_eq!((reached.entities().len(), reached.facts.len(), reached.cut), (2, 2, false));
        assert!(graph::reach(Walk::from("nobody")).unwrap().facts.is_empty());
    });
}

#[test]
fn an_order_puts_what_is_depended_on_first_and_shows_rings() {
    let host = knows(&[("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("d", "c"), ("a", "e"), ("e", "e"), ("b", "f")]);
    host.within(|| {
        let order = graph::order("a", "depends-on").unwrap();
        assert_eq!(order.entities, ["f", "b", "a"]);
        let mut rings = order.cycles.clone();
        rings.sort();
        assert_eq!(rings, [vec!["c", "d"], vec!["e"]]);
        assert_eq!(graph::order("nobody", "depends-on").unwrap().entities, ["nobody"]);
    });
}

#[test]
fn a_ring_is_told_in_its_order() {
    knows(&[("c", "a"), ("a", "b"), ("b", "c")]).within(|| {
        let order = graph::order("c", "depends-on").unwrap();
        assert_eq!(
            (order.entities.len(), order.cycles),
            (0, vec![vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]])
        );
    });
}
