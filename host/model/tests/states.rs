//! Agents' states against a model: random machines, random events, and a second opinion that knows nothing of how the first one works.

use std::collections::BTreeSet;

use ltmc_rules::state::{Asked, Came, Current, Declaration, Deferred, MAX_DEFERRED, Rule};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A machine over the states `s0` to `s5` and the events `e0` to `e3`. Its data has a number, `n`, which is less than `bound`.
#[derive(Debug, Clone)]
struct Machine {
    states: usize,
    finals: BTreeSet<usize>,
    /// From, event, to, and the least number that has to come with the event.
    ways: Vec<(usize, usize, usize, Option<i64>)>,
    /// From, to: after a minute.
    timeouts: Vec<(usize, usize)>,
    bound: i64,
    unhandled: Unhandled,
}

/// What becomes of an event that a state does nothing with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unhandled {
    Reject,
    Ignore,
    Defer,
}

/// An event with the number that came with it.
type Event = (usize, Option<i64>);

/// What an event comes to by the second opinion.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Comes {
    To(usize, i64),
    Nothing,
    Later,
}

fn unhandled() -> impl Strategy<Value = Unhandled> {
    prop_oneof![Just(Unhandled::Reject), Just(Unhandled::Ignore), Just(Unhandled::Defer)]
}

fn machines() -> impl Strategy<Value = Machine> {
    let way = (0..6_usize, 0..4_usize, 0..6_usize, prop::option::of(0..4_i64));
    let ways = prop::collection::vec(way, 1..16);
    let timeouts = prop::collection::vec((0..6_usize, 0..6_usize), 0..3);
    (1..7_usize, prop::collection::btree_set(0..6_usize, 0..3), ways, timeouts, 1..6_i64, unhandled()).prop_map(
        |(states, finals, ways, timeouts, bound, unhandled)| Machine {
            states,
            finals,
            ways,
            timeouts,
            bound,
            unhandled,
        },
    )
}

impl Machine {
    fn declared(&self) -> Value {
        let mut states = serde_json::Map::new();
        for state in 0..self.states {
            let timeout = self.timeouts.iter().find(|(from, _)| *from == state);
            let mut lasts = match timeout {
                Some((_, to)) => json!({"timeout": "60s", "to": format!("s{to}")}),
                None => json!({}),
            };
            if self.finals.contains(&state) {
                lasts["final"] = json!(true);
            }
            states.insert(format!("s{state}"), lasts);
        }
        let way = |(from, on, to, least): &(usize, usize, usize, Option<i64>)| {
            let mut way = json!({"from": format!("s{from}"), "on": format!("e{on}"), "to": format!("s{to}")});
            if let Some(least) = least {
                way["when"] = json!({"pick": "$.event.n", "at-least": least});
            }
            way
        };
        json!({
            "version": 1, "initial": "s0", "data": {"n": 0}, "states": states,
            "transitions": self.ways.iter().map(way).collect::<Vec<_>>(),
            "invariants": [{"pick": "$.state.n", "less": self.bound}],
            "unhandled": format!("{:?}", self.unhandled).to_lowercase(),
        })
    }

    /// Whether it should be taken, by the words of the documentation.
    fn is_good(&self) -> bool {
        let known = |state: usize| state < self.states;
        let timeout = |of: usize| self.timeouts.iter().find(|(from, _)| *from == of).map(|(_, to)| *to);
        let next = |of: usize| {
            let ways = self.ways.iter().filter(|way| way.0 == of).map(|way| way.2);
            ways.chain(timeout(of)).collect::<BTreeSet<usize>>()
        };
        let all_known = self.ways.iter().all(|way| known(way.0) && known(way.2))
            && (0..self.states).all(|state| timeout(state).is_none_or(known));
        let finals_end =
            (0..self.states).filter(|state| self.finals.contains(state)).all(|state| next(state).is_empty());
        let mut reached = BTreeSet::from([0]);
        for _ in 0..self.states {
            reached = reached.iter().flat_map(|state| next(*state)).chain(reached.iter().copied()).collect();
        }
        let all_reached = (0..self.states).all(|state| reached.contains(&state));
        let no_dead_end =
            (0..self.states).all(|state| self.finals.contains(&state) || next(state).iter().any(|to| *to != state));
        let told_apart = self.ways.iter().enumerate().all(|(number, one)| {
            self.ways[..number].iter().all(|other| (one.0, one.1, one.3) != (other.0, other.1, other.3))
        });
        let no_ring = (0..self.states).all(|begin| {
            let mut at = begin;
            for _ in 0..=self.states {
                match timeout(at) {
                    Some(to) => at = to,
                    None => return true,
                }
            }
            false
        });
        all_known && finals_end && all_reached && no_dead_end && told_apart && no_ring
    }

    /// What becomes of state and number by an event, and by which rule not.
    fn step(&self, (state, n): (usize, i64), (event, given): Event) -> Result<Comes, Rule> {
        let ways: Vec<_> = self.ways.iter().filter(|way| way.0 == state && way.1 == event).collect();
        if ways.is_empty() {
            let is_known = self.ways.iter().any(|way| way.1 == event);
            return match (self.unhandled, self.finals.contains(&state)) {
                (Unhandled::Ignore, _) => Ok(Comes::Nothing),
                (_, true) => Err(Rule::Final),
                (Unhandled::Defer, false) if is_known => Ok(Comes::Later),
                (_, false) => Err(Rule::NoTransition),
            };
        }
        let holding: Vec<_> =
            ways.iter().filter(|way| way.3.is_some_and(|least| given.is_some_and(|n| n >= least))).collect();
        let otherwise = ways.iter().find(|way| way.3.is_none());
        let way = match (holding.len(), otherwise) {
            (1, _) => holding[0],
            (0, Some(otherwise)) => otherwise,
            _ => return Err(Rule::Guard),
        };
        let n = given.unwrap_or(n);
        if n < self.bound { Ok(Comes::To(way.2, n)) } else { Err(Rule::Invariant) }
    }

    /// What becomes of a state that has just begun by what waits for it: the first that it does something with, one after the other.
    fn settle(&self, mut at: (usize, i64), waiting: &mut Vec<Event>) -> (usize, i64) {
        loop {
            let does = |one: &Event| {
                self.finals.contains(&at.0) || self.ways.iter().any(|way| way.0 == at.0 && way.1 == one.0)
            };
            let Some(place) = waiting.iter().position(does) else { return at };
            let one = waiting.remove(place);
            if let Ok(Comes::To(state, n)) = self.step(at, one) {
                at = (state, n);
            }
        }
    }
}

/// The state that has just begun, with what waited for it given.
fn recalled(declaration: &Declaration, mut current: Current, waiting: &mut Vec<Deferred>, now: u64) -> Current {
    while let Some((_, came)) = declaration.recalled(&current, waiting, now) {
        current = came.unwrap_or(current);
    }
    current
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, max_global_rejects: 1_000_000, ..ProptestConfig::default() })]

    #[test]
    fn a_declaration_is_taken_where_the_second_opinion_takes_it(machine in machines()) {
        let read = Declaration::read(&machine.declared());
        prop_assert_eq!(read.is_ok(), machine.is_good(), "{:?}", read);
    }

    #[test]
    fn events_and_time_lead_where_the_second_opinion_says(
        (states, bound, unhandled) in (2..6_usize, 1..6_i64, unhandled()),
        least in prop::collection::vec(prop::option::of(0..4_i64), 12),
        steps in prop::collection::vec((0..4_usize, prop::option::of(0..7_i64), 0..90_u64), 1..40),
    ) {
        // A ring of states, with shortcuts that are guarded, one that ends by itself, and a final one.
        let last = states - 1;
        let mut ways = Vec::new();
        for state in 0..last {
            ways.push((state, 0, state + 1, least[state]));
            ways.push((state, 1, 0, least[state + 6].map(|least| least + 1)));
            ways.push((state, 1, state + 1, None));
            // Of the odd ones this event comes too early, or never.
            if state % 2 == 0 {
                ways.push((state, 2, state, Some(1)));
                ways.push((state, 2, 0, Some(3)));
            }
        }
        let (finals, timeouts) = (BTreeSet::from([last]), vec![(0, 1)]);
        let mut machine = Machine { states, finals, ways, timeouts, bound, unhandled };
        let mut seen = BTreeSet::new();
        machine.ways.retain(|way| seen.insert((way.0, way.1, way.3)));
        let declaration = Declaration::read(&machine.declared());
        prop_assert_eq!(declaration.is_ok(), machine.is_good(), "{:?}", declaration);
        let Ok(declaration) = declaration else { return Ok(()) };

        let (mut now, mut current, mut waiting) = (0, declaration.first(0), Vec::new());
        let (mut naive, mut naive_waiting) = ((0, 0), Vec::new());
        for (event, given, seconds) in steps {
            let before = now;
            now += seconds * 1_000;
            let entered = current.since_ms;
            // Its timer fires, and what waits is given then.
            while let Some(next) = declaration.ended(&current, now) {
                prop_assert_eq!(next.since_ms, current.since_ms + 60_000, "it ended when it was to, not when somebody looked");
                current = recalled(&declaration, next, &mut waiting, now);
            }
            let mut since = entered;
            while naive.0 == 0 && now >= since + 60_000 {
                naive = machine.settle((1, naive.1), &mut naive_waiting);
                since = now;
            }
            prop_assert!(current.since_ms <= now && before <= now);
            let patch = given.map_or(json!({}), |n| json!({"n": n}));
            let name = format!("e{event}");
            let asked = Asked { event: &name, patch: &patch, expected: None };
            let came = declaration.transition(&current, 1, &asked, now);
            let wanted = machine.step(naive, (event, given));
            match (came, wanted) {
                (Ok(Came::To(next)), Ok(Comes::To(state, n))) => {
                    current = recalled(&declaration, next, &mut waiting, now);
                    naive = machine.settle((state, n), &mut naive_waiting);
                    prop_assert!(declaration.fits(&current).is_ok());
                }
                (Ok(Came::Ignored), Ok(Comes::Nothing)) => {}
                (Ok(Came::Deferred), Ok(Comes::Later)) => {
                    let kept = Deferred::push(&mut waiting, &asked);
                    prop_assert_eq!(kept.is_ok(), naive_waiting.len() < MAX_DEFERRED);
                    if kept.is_ok() {
                        naive_waiting.push((event, given));
                    }
                }
                (Err(refused), Err(rule)) => prop_assert_eq!(refused.rule, rule),
                (came, wanted) => prop_assert!(false, "{:?} and {:?}", came, wanted),
            }
            let Current { state, data, .. } = &current;
            prop_assert_eq!((state.clone(), data.clone()), (format!("s{}", naive.0), json!({"n": naive.1})));
            let names: Vec<_> = waiting.iter().map(|one| one.event.clone()).collect();
            prop_assert_eq!(names, naive_waiting.iter().map(|one| format!("e{}", one.0)).collect::<Vec<_>>());
        }
    }
}
