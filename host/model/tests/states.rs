//! Agents' states against a model: random machines, random events, and a second opinion that knows nothing of how the first one works.

use std::collections::BTreeSet;

use ltmc_rules::state::{Asked, Current, Declaration, Rule};
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
    ignores: bool,
}

fn machines() -> impl Strategy<Value = Machine> {
    let way = (0..6_usize, 0..4_usize, 0..6_usize, prop::option::of(0..4_i64));
    let ways = prop::collection::vec(way, 1..16);
    let timeouts = prop::collection::vec((0..6_usize, 0..6_usize), 0..3);
    (1..7_usize, prop::collection::btree_set(0..6_usize, 0..3), ways, timeouts, 1..6_i64, any::<bool>()).prop_map(
        |(states, finals, ways, timeouts, bound, ignores)| Machine { states, finals, ways, timeouts, bound, ignores },
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
            "unhandled": if self.ignores { "ignore" } else { "reject" },
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
    fn step(&self, (state, n): (usize, i64), event: usize, given: Option<i64>) -> Result<(usize, i64), Rule> {
        let ways: Vec<_> = self.ways.iter().filter(|way| way.0 == state && way.1 == event).collect();
        if ways.is_empty() {
            return match (self.ignores, self.finals.contains(&state)) {
                (true, _) => Ok((state, n)),
                (false, true) => Err(Rule::Final),
                (false, false) => Err(Rule::NoTransition),
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
        if n < self.bound { Ok((way.2, n)) } else { Err(Rule::Invariant) }
    }
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
        (states, bound, ignores) in (2..6_usize, 1..6_i64, any::<bool>()),
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
            ways.push((state, 2, state, Some(1)));
            ways.push((state, 2, 0, Some(3)));
        }
        let (finals, timeouts) = (BTreeSet::from([last]), vec![(0, 1)]);
        let mut machine = Machine { states, finals, ways, timeouts, bound, ignores };
        let mut seen = BTreeSet::new();
        machine.ways.retain(|way| seen.insert((way.0, way.1, way.3)));
        let declaration = Declaration::read(&machine.declared());
        prop_assert_eq!(declaration.is_ok(), machine.is_good(), "{:?}", declaration);
        let Ok(declaration) = declaration else { return Ok(()) };

        let (mut now, mut current) = (0, declaration.first(0));
        let mut naive = (0, 0);
        for (event, given, seconds) in steps {
            let before = now;
            now += seconds * 1_000;
            let entered = current.since_ms;
            current = declaration.lapsed(current, now);
            if naive.0 == 0 && now >= entered + 60_000 {
                naive.0 = 1;
                prop_assert_eq!(current.since_ms, entered + 60_000, "it ended when it was to, not when somebody looked");
            }
            prop_assert!(current.since_ms <= now && before <= now);
            let patch = given.map_or(json!({}), |n| json!({"n": n}));
            let name = format!("e{event}");
            let asked = Asked { event: &name, patch: &patch, expected: None };
            let came = declaration.transition(&current, 1, &asked, now);
            let wanted = machine.step(naive, event, given);
            match (came, wanted) {
                (Ok(next), Ok(wanted)) => {
                    current = next.unwrap_or(current);
                    naive = wanted;
                    prop_assert!(declaration.fits(&current).is_ok());
                }
                (Err(refused), Err(rule)) => prop_assert_eq!(refused.rule, rule),
                (came, wanted) => prop_assert!(false, "{:?} and {:?}", came, wanted),
            }
            let Current { state, data, .. } = &current;
            prop_assert_eq!((state.clone(), data.clone()), (format!("s{}", naive.0), json!({"n": naive.1})));
        }
    }
}
