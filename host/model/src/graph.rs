//! The graph: entities, and facts that relate them, each with the time for which it held and the time at which that was
//! recorded.
//!
//! Invariant: a fact is never overwritten. What is told anew ends the fact before, and both can be asked for.

use ltmc_rules::Name;
pub use ltmc_rules::graph::{MAX_DEPTH, MAX_ENTITY, MAX_PAGE, MAX_PROPERTIES, MAX_RELATION, MAX_VISITED};
use serde::{Deserialize, Serialize};

use crate::{Revision, Timestamp};

text_name!(
    /// A thing of which facts are told, such as `crate ltmc-model` or `docs/errors.md`.
    Entity,
    Name::ENTITY.what,
    Name::ENTITY.rule,
    Name::ENTITY.fits
);
text_name!(
    /// How two entities are related, such as `depends-on`.
    Relation,
    Name::RELATION.what,
    Name::RELATION.rule,
    Name::RELATION.fits
);

/// A fact: `subject` is related to `object`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// Which fact: unique in the tenant, and growing.
    pub id: Revision,
    /// The entity that the fact is about.
    pub subject: Entity,
    /// How the subject is related to the object, such as `depends-on`.
    pub relation: Relation,
    /// The entity that the subject is related to.
    pub object: Entity,
    /// A JSON object; empty: none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub properties: String,
    /// From when on it held.
    pub valid_from: Timestamp,
    /// Until when, exclusive; none: it holds.
    pub valid_to: Option<Timestamp>,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// When its end was recorded.
    pub ended_at: Option<Timestamp>,
}

/// A point from which facts are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AsOf {
    /// What held at this time; none: what holds, as far as is known.
    pub valid: Option<Timestamp>,
    /// As the record knew it at this time; none: as it knows it now.
    pub known: Option<Timestamp>,
}

impl Fact {
    /// Whether it is seen from `as_of`.
    pub fn seen(&self, as_of: AsOf) -> bool {
        let known = as_of.known.is_none_or(|known| self.recorded_at <= known);
        let valid_to = match (as_of.known, self.ended_at) {
            (Some(known), Some(ended)) if ended > known => None,
            _ => self.valid_to,
        };
        known
            && match as_of.valid {
                Some(at) => self.valid_from <= at && valid_to.is_none_or(|to| at < to),
                None => valid_to.is_none(),
            }
    }

    /// Whether it is followed from `entity` by whoever goes this way.
    pub fn leads_from(&self, entity: &Entity, direction: Direction) -> bool {
        match direction {
            Direction::Out => self.subject == *entity,
            Direction::In => self.object == *entity,
            Direction::Both => self.subject == *entity || self.object == *entity,
        }
    }
}

/// Which way facts are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From subjects to objects.
    #[default]
    Out,
    /// From objects to subjects.
    In,
    /// Either way.
    Both,
}

/// Which facts a list shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactFilter {
    /// Those of this entity; none: of every one.
    pub entity: Option<Entity>,
    /// Where the entity is the subject, the object, or either.
    pub direction: Direction,
    /// Only this relation.
    pub relation: Option<Relation>,
    /// Seen from here.
    pub as_of: AsOf,
    /// Also what is over and superseded: every fact there ever was. `as_of` is then not looked at.
    pub history: bool,
    /// After this fact.
    pub after: Option<Revision>,
    /// At most so many.
    pub limit: u32,
}

impl FactFilter {
    /// Whether the list shows this fact, as far as its limit goes.
    pub fn admits(&self, fact: &Fact) -> bool {
        self.entity.as_ref().is_none_or(|entity| fact.leads_from(entity, self.direction))
            && (self.history || fact.seen(self.as_of))
            && self.relation.as_ref().is_none_or(|relation| fact.relation == *relation)
            && self.after.is_none_or(|after| fact.id > after)
    }
}

/// A walk along facts of what holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walk {
    /// The entity that the walk begins at.
    pub from: Entity,
    /// Along facts that lead from an entity, to it, or both.
    pub direction: Direction,
    /// Only along this relation.
    pub relation: Option<Relation>,
    /// At most so many facts far, 1 to [`MAX_DEPTH`].
    pub depth: u32,
    /// Seen from here.
    pub as_of: AsOf,
}

/// A page of facts.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FactPage {
    /// In the order in which they were told.
    pub facts: Vec<Fact>,
    /// The fact to go on after; none: that was all.
    pub next: Option<Revision>,
    /// Whether the graph database did not answer in time and the record did in its place.
    #[serde(default)]
    pub degraded: bool,
}

/// A way from one entity to another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Path {
    /// The facts along it, in order; none: there is no way.
    pub facts: Option<Vec<Fact>>,
    /// As of [`FactPage::degraded`].
    #[serde(default)]
    pub degraded: bool,
}

/// What a walk found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reached {
    /// The facts walked along, nearest first; each fact once.
    pub facts: Vec<Fact>,
    /// Whether there was more than [`MAX_VISITED`].
    pub cut: bool,
    /// As of [`FactPage::degraded`].
    #[serde(default)]
    pub degraded: bool,
}

/// In which order things can be done that depend on each other.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Order {
    /// Everything after what it depends on; without what stands in a cycle.
    pub entities: Vec<Entity>,
    /// What depends on itself: each a ring of entities.
    pub cycles: Vec<Vec<Entity>>,
    /// Whether there was more than [`MAX_VISITED`].
    pub cut: bool,
    /// As of [`FactPage::degraded`].
    #[serde(default)]
    pub degraded: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn fact(subject: &str, object: &str) -> Fact {
        Fact {
            id: Revision(1),
            subject: subject.parse().unwrap(),
            relation: "depends-on".parse().unwrap(),
            object: object.parse().unwrap(),
            properties: String::new(),
            valid_from: at(10),
            valid_to: None,
            recorded_at: at(20),
            ended_at: None,
        }
    }

    #[test]
    fn a_fact_is_seen_while_it_holds_and_as_it_was_known() {
        let ended = Fact { valid_to: Some(at(30)), ended_at: Some(at(40)), ..fact("a", "b") };
        let seen =
            |valid: Option<u64>, known: Option<u64>| ended.seen(AsOf { valid: valid.map(at), known: known.map(at) });
        assert!(!seen(None, None), "it is over");
        assert!(seen(Some(29), None) && !seen(Some(30), None) && !seen(Some(9), None));
        assert!(seen(Some(35), Some(39)), "before its end was recorded it was thought to hold");
        assert!(!seen(Some(29), Some(19)), "before it was recorded nobody knew");
    }

    #[test]
    fn names_are_parsed_at_the_edge() {
        assert!("docs/add a store.md#ports".parse::<Entity>().is_ok());
        for wrong in ["", "a\nb", &"a".repeat(257)] {
            assert!(wrong.parse::<Entity>().is_err());
        }
        for wrong in ["", "Depends", "depends on", "1a", "-a", &"a".repeat(65)] {
            assert!(wrong.parse::<Relation>().is_err(), "{wrong}");
        }
    }
}
