//! Which places of an object merge patches touch: patches that touch none of the same come to the same in whatever order.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A place, and those below it.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Whether it is given a value, or taken away, itself.
    whole: bool,
    below: BTreeMap<String, Touched>,
}

impl Touched {
    /// By these patches, each of an object. One that cannot be read touches everything.
    pub(super) fn by(patches: &[String]) -> Self {
        let mut touched = Self::default();
        for patch in patches {
            match serde_json::from_str::<Map<String, Value>>(patch) {
                Ok(patch) => touched.members(&patch),
                Err(_) => touched.whole = true,
            }
        }
        touched
    }

    fn members(&mut self, patch: &Map<String, Value>) {
        for (name, value) in patch {
            let place = self.below.entry(name.clone()).or_default();
            match value {
                Value::Object(members) if !members.is_empty() => place.members(members),
                _ => place.whole = true,
            }
        }
    }

    /// What another one touches, too.
    pub(super) fn add(&mut self, other: Self) {
        self.whole |= other.whole;
        for (name, place) in other.below {
            self.below.entry(name).or_default().add(place);
        }
    }

    /// Whether no place is touched by both.
    pub(super) fn is_apart_from(&self, other: &Self) -> bool {
        let (shorter, longer) = if self.below.len() <= other.below.len() { (self, other) } else { (other, self) };
        let is_below = |one: &Self, two: &Self| one.whole && (two.whole || !two.below.is_empty());
        !is_below(self, other)
            && !is_below(other, self)
            && shorter.below.iter().all(|(name, one)| longer.below.get(name).is_none_or(|two| one.is_apart_from(two)))
    }

    /// Whether every place that is touched holds the same in both.
    pub(super) fn is_alike(&self, one: Option<&Value>, other: Option<&Value>) -> bool {
        if self.whole || one == other {
            return one == other;
        }
        // Nothing is an object without members to a patch, and so no other thing than that.
        let is_open = |value: Option<&Value>| value.is_none_or(Value::is_object);
        is_open(one)
            && is_open(other)
            && self.below.iter().all(|(name, place)| {
                let [one, other] = [one, other].map(|value| value.and_then(|value| value.get(name)));
                place.is_alike(one, other)
            })
    }
}
