//! Which of a subscription's events start a run together: the last of several, so many at once, or those that belong together.
//!
//! Invariants: pure, and total. What is decided depends on the events that wait of one key, in their order, and on the time; what comes of it is recorded with the run that
//! is started, so that whoever looks again, also after a crash, goes on from there. What is to start once stays so as time goes by. Nothing waits for ever: each has a time after
//! which a run is started with what there is.
//!
//! To add one: a variant, what it makes of a key's events in [`Gather::decide`], and its word in `workflow/read/flow.rs`.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::filter::Filter;
use crate::message::Event;
use crate::{Position, Timestamp};

/// How many events of a batch there may be.
pub const MAX_BATCH: u32 = 100;
/// How many events a join may be of.
pub const MAX_PARTS: usize = 16;
/// The shortest time that is waited.
pub const LEAST_WAIT: Duration = Duration::from_secs(1);
/// The longest.
pub const MOST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);
/// After so many times the quiet that it waits for, a debounced key starts its run all the same.
pub const MOST_QUIETS: u32 = 10;

/// Which events of a key start a run together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Gather {
    /// The last one, once no other came for so long, in milliseconds; those before it start nothing.
    Debounce(u64),
    /// So many, or what there is after a time.
    Batch(Batch),
    /// Those that belong together.
    Join(Join),
}

/// Events that start a run together because there are so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// So many events of a key start the run at once.
    pub events: u32,
    /// After how many milliseconds from the first it is what there is.
    pub within: u64,
}

/// Events that start a run together because they belong together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Join {
    /// Of which kinds one each, by what the run's input calls them.
    pub of: BTreeMap<String, Filter>,
    /// How many of these are needed.
    pub need: u32,
    /// Where an event says with which others it belongs: names of fields, from the outside in.
    pub by: Vec<String>,
    /// After how many milliseconds from the first it is what there is.
    pub within: u64,
}

/// An event that waits.
#[derive(Debug, Clone, Copy)]
pub struct Waiting<'e> {
    /// Its place.
    pub position: Position,
    /// When it was taken in.
    pub at: Timestamp,
    /// The event.
    pub event: &'e Event,
}

/// What comes of a key's events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gathered {
    /// They start nothing before then.
    Waits(Timestamp),
    /// A run is started.
    Start(Group),
}

/// Events that start a run together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The places of those that start it, in order; at least one.
    pub of: Vec<Position>,
    /// The places of those that start nothing because of it.
    pub dropped: Vec<Position>,
}

impl Gather {
    /// Whether an event is one of those that are gathered at all.
    pub fn takes(&self, event: &Event) -> bool {
        match self {
            Self::Debounce(_) | Self::Batch(_) => true,
            Self::Join(join) => join.key(event).is_some() && join.of.values().any(|filter| filter.fits(event)),
        }
    }

    /// What an event is gathered by.
    pub fn key(&self, event: &Event) -> String {
        let own = match self {
            Self::Debounce(_) | Self::Batch(_) => None,
            Self::Join(join) => join.key(event),
        };
        own.unwrap_or_else(|| event.key().to_owned())
    }

    /// What comes of a key's events that wait, in their order; of none nothing does.
    pub fn decide(&self, waiting: &[Waiting<'_>], now: Timestamp) -> Option<Gathered> {
        let (first, last) = (waiting.first()?, waiting.last()?);
        let places = |of: &[Waiting<'_>]| of.iter().map(|one| one.position).collect::<Vec<_>>();
        let after = |from: Timestamp, millis: u64| from.after(Duration::from_millis(millis));
        let (is_full, until, group) = match self {
            Self::Debounce(quiet) => {
                let longest = after(first.at, quiet.saturating_mul(u64::from(MOST_QUIETS)));
                let (before, last_one) = waiting.split_at(waiting.len() - 1);
                (false, after(last.at, *quiet).min(longest), Group { of: places(last_one), dropped: places(before) })
            }
            Self::Batch(batch) => {
                let most = usize::try_from(batch.events).unwrap_or(usize::MAX);
                let group = Group { of: places(&waiting[..waiting.len().min(most)]), dropped: Vec::new() };
                (waiting.len() >= most, after(first.at, batch.within), group)
            }
            Self::Join(join) => {
                let found = join.found(waiting.iter().map(|one| (one.position, one.event)));
                let mut of: Vec<Position> = found.values().copied().collect();
                of.sort_unstable();
                let is_full = of.len() >= usize::try_from(join.need).unwrap_or(usize::MAX);
                // Also one that fits no more, because the subscription was changed, is not left waiting.
                let of = if of.is_empty() { vec![first.position] } else { of };
                (is_full, after(first.at, join.within), Group { of, dropped: Vec::new() })
            }
        };
        let is_due = is_full || now >= until;
        Some(if is_due { Gathered::Start(group) } else { Gathered::Waits(until) })
    }

    /// What a run is given that these events start.
    pub fn input(&self, events: &[(Position, Event)]) -> Value {
        let all = || events.iter().map(|(_, event)| event.to_value()).collect::<Vec<Value>>();
        match self {
            Self::Debounce(_) => events.last().map(|(_, event)| event.to_value()).unwrap_or_default(),
            Self::Batch(_) => json!({ "events": all() }),
            Self::Join(join) => {
                let found = join.found(events.iter().map(|(position, event)| (*position, event)));
                let of = |position: &Position| events.iter().find(|(at, _)| at == position);
                let named =
                    found.iter().filter_map(|(name, position)| Some(((*name).to_owned(), of(position)?.1.to_value())));
                let missing: Vec<&String> = join.of.keys().filter(|name| !found.contains_key(name.as_str())).collect();
                json!({ "events": named.collect::<Map<String, Value>>(), "missing": missing })
            }
        }
    }
}

impl Join {
    /// With which others an event belongs: a text or a number that stands where it says.
    fn key(&self, event: &Event) -> Option<String> {
        let shown = event.to_value();
        match ltmc_rules::at(&shown, &self.by)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        }
    }

    /// The first of each kind; each event is one of them at most.
    fn found<'e>(&self, events: impl Iterator<Item = (Position, &'e Event)>) -> BTreeMap<&str, Position> {
        let mut found = BTreeMap::new();
        for (position, event) in events {
            let fits = |(name, filter): &(&String, &Filter)| !found.contains_key(name.as_str()) && filter.fits(event);
            if let Some((name, _)) = self.of.iter().find(fits) {
                found.insert(name.as_str(), position);
            }
        }
        found
    }
}

/// How many runs start in how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How many runs start at most.
    pub starts: u32,
    /// In how many milliseconds, wherever these begin.
    pub per: u64,
}

impl Rate {
    /// How many it may be at most.
    pub const MAX_STARTS: u32 = 1_000;
    /// The longest time that is looked back over.
    pub const MAX_PER: Duration = Duration::from_secs(60 * 60);

    /// From when on starts count, now.
    pub fn since(&self, now: Timestamp) -> Timestamp {
        Timestamp::from_millis(now.millis().saturating_sub(self.per))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::Payload;

    fn event(kind: &str) -> Event {
        Event {
            id: "1".into(),
            source: "s".into(),
            kind: kind.into(),
            subject: Some("o".into()),
            time: Timestamp::default(),
            data: Payload::default(),
            attributes: BTreeMap::new(),
            trail: None,
        }
    }

    fn kinds() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("a"), Just("b"), Just("c")]
    }

    fn gathers() -> impl Strategy<Value = Gather> {
        let part = |kind: &str| (kind.to_owned(), Filter::parse(&format!("{{exact: {{type: {kind}}}}}")).unwrap());
        let join = move |(need, within)| {
            let of = ["a", "b", "c"].map(part).into();
            Gather::Join(Join { of, need, by: vec!["subject".into()], within })
        };
        prop_oneof![
            (1..50u64).prop_map(Gather::Debounce),
            (1..6u32, 1..50u64).prop_map(|(events, within)| Gather::Batch(Batch { events, within })),
            (1..4u32, 1..50u64).prop_map(join),
        ]
    }

    proptest! {
        /// Whatever comes whenever, and however often it is looked: each event starts one run or is dropped, once, and none waits for ever.
        #[test]
        fn each_event_is_dealt_with_once_and_none_waits_for_ever(
            gather in gathers(),
            coming in prop::collection::vec((kinds(), 0..20u64, any::<bool>()), 1..40),
        ) {
            let (mut waiting, mut now): (Vec<(Position, Timestamp, Event)>, u64) = (Vec::new(), 1);
            let mut done = BTreeSet::new();
            let mut look = |waiting: &mut Vec<(Position, Timestamp, Event)>, now: u64| -> Result<bool, TestCaseError> {
                let shown: Vec<Waiting<'_>> =
                    waiting.iter().map(|(position, at, event)| Waiting { position: *position, at: *at, event }).collect();
                let now = Timestamp::from_millis(now);
                let Some(decided) = gather.decide(&shown, now) else { return Ok(false) };
                match decided {
                    Gathered::Waits(until) => {
                        prop_assert!(until > now);
                        // What is due then is due whenever it is looked later.
                        let later = gather.decide(&shown, until.after(Duration::from_secs(9)));
                        prop_assert!(matches!(later, Some(Gathered::Start(_))));
                        Ok(false)
                    }
                    Gathered::Start(Group { of, dropped }) => {
                        prop_assert!(!of.is_empty() && of.is_sorted());
                        match &gather {
                            Gather::Debounce(_) => {
                                prop_assert_eq!(of.clone(), vec![shown.last().unwrap().position]);
                                prop_assert_eq!(dropped.len(), shown.len() - 1);
                            }
                            Gather::Batch(batch) => prop_assert!(of.len() <= batch.events as usize && dropped.is_empty()),
                            Gather::Join(join) => prop_assert!(of.len() <= join.of.len() && dropped.is_empty()),
                        }
                        let events: Vec<(Position, Event)> = waiting
                            .iter()
                            .filter(|(position, ..)| of.contains(position))
                            .map(|(position, _, event)| (*position, event.clone()))
                            .collect();
                        prop_assert!(gather.input(&events).is_object());
                        for position in of.iter().chain(&dropped) {
                            prop_assert!(done.insert(*position), "{:?} twice", position);
                        }
                        waiting.retain(|(position, ..)| !of.contains(position) && !dropped.contains(position));
                        Ok(true)
                    }
                }
            };
            let all = coming.len();
            for (number, (kind, later, looks)) in (1..).zip(coming) {
                now += later;
                waiting.push((Position(number), Timestamp::from_millis(now), event(kind)));
                while looks && look(&mut waiting, now)? {}
            }
            now += 10_000;
            while look(&mut waiting, now)? {}
            prop_assert!(waiting.is_empty());
            prop_assert_eq!(done.len(), all);
        }
    }

    #[test]
    fn a_join_takes_the_first_of_each_and_says_what_is_missing() {
        let part = |kind: &str| (kind.to_owned(), Filter::parse(&format!("{{exact: {{type: {kind}}}}}")).unwrap());
        let of = [part("a"), part("b")].into();
        let join = Gather::Join(Join { of, need: 2, by: vec!["subject".into()], within: 1_000 });
        let events = [event("a"), event("a"), event("b"), event("c")];
        assert!(join.takes(&events[0]) && !join.takes(&events[3]));
        assert!(!join.takes(&Event { subject: None, ..event("a") }), "it says nothing of what it belongs to");
        let waiting: Vec<Waiting<'_>> = (1..)
            .zip(&events[..3])
            .map(|(n, event)| Waiting { position: Position(n), at: Timestamp::default(), event })
            .collect();
        let wanted = Group { of: vec![Position(1), Position(3)], dropped: Vec::new() };
        assert_eq!(join.decide(&waiting, Timestamp::default()), Some(Gathered::Start(wanted)));
        let alone = [(Position(2), event("a"))];
        let input = join.input(&alone);
        assert_eq!((&input["events"]["a"]["type"], &input["missing"]), (&json!("a"), &json!(["b"])));
    }
}
