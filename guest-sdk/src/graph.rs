//! Entities, and facts that relate them. Reading needs the capability `graph:read`, writing `graph:write`.
//!
//! A fact is never overwritten: what is told anew ends the fact before, and what held at a time, or was known at a time, can
//! be asked for. An entity is 1 to 256 bytes of UTF-8 without control characters, a relation 1 to 64 of a-z, 0-9 and `-`.
//!
//! ```
//! use ltmc::graph::{self, Filter};
//!
//! let host = ltmc::testing::Host::new().grant("graph:read").grant("graph:write");
//! host.within(|| {
//!     graph::relate("api", "depends-on", "model")?;
//!     graph::relate("host", "depends-on", "api")?;
//!     assert_eq!(graph::dependents("model", "depends-on")?.entities(), ["api", "host"]);
//!     assert_eq!(graph::order("host", "depends-on")?.entities, ["model", "api", "host"]);
//!     for fact in graph::facts(Filter::of("api").relation("depends-on")) {
//!         assert_eq!(fact?.object, "model");
//!     }
//!     Ok::<_, ltmc::Error>(())
//! })
//! # .unwrap();
//! ```

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, host};

/// One fact: the subject is related to the object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fact {
    /// Unique in the tenant, and growing.
    pub id: u64,
    /// The entity that the fact is about.
    pub subject: String,
    /// How the subject is related to the object, such as `depends-on`.
    pub relation: String,
    /// The entity that the subject is related to.
    pub object: String,
    /// A JSON object; empty: none.
    pub properties: String,
    /// From when on it held, in milliseconds since the Unix epoch.
    pub valid_from_ms: u64,
    /// Until when, exclusive; none: it holds.
    pub valid_to_ms: Option<u64>,
    /// When it was recorded.
    pub recorded_at_ms: u64,
    /// When its end was recorded.
    pub ended_at_ms: Option<u64>,
}

impl Fact {
    /// Its properties; none: it has none.
    ///
    /// # Errors
    /// [`Error::Invalid`]: why they are not this JSON, and where.
    pub fn json<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        if self.properties.is_empty() {
            return Ok(None);
        }
        serde_json::from_str(&self.properties).map(Some).map_err(|e| {
            let Self { subject, relation, object, .. } = self;
            Error::Invalid(format!("the properties of `{subject} {relation} {object}` are not the JSON expected: {e}"))
        })
    }

    /// What stands at its other end, seen from `entity`.
    pub fn other(&self, entity: &str) -> &str {
        if self.subject == entity { &self.object } else { &self.subject }
    }
}

/// Which way facts are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// From subjects to objects.
    #[default]
    Out,
    /// From objects to subjects.
    In,
    /// Either way.
    Both,
}

/// A point from which facts are looked at. `AsOf::default()`: what holds, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AsOf {
    /// What held at this time, in milliseconds since the Unix epoch.
    pub valid_ms: Option<u64>,
    /// As it was known at this time.
    pub known_ms: Option<u64>,
}

/// How to relate. `RelateOptions::default()` relates from now on, without properties.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RelateOptions {
    /// A JSON object of at most 4 KiB; `null`: none.
    pub properties: Value,
    /// Since when it holds, in milliseconds since the Unix epoch; none: from now on.
    pub valid_from_ms: Option<u64>,
}

/// Which facts to list. `Filter::default()` takes everything that holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Filter {
    /// Facts of this entity; none: of every one.
    pub entity: Option<String>,
    /// Whether the entity is the subject, the object, or either.
    pub direction: Direction,
    /// Only this relation.
    pub relation: Option<String>,
    /// From where they are looked at.
    pub as_of: AsOf,
    /// Also what is over and superseded; `as_of` is then not looked at.
    pub history: bool,
}

impl Filter {
    /// Facts of which this entity is the subject.
    pub fn of(entity: impl Into<String>) -> Self {
        Self { entity: Some(entity.into()), ..Self::default() }
    }

    /// Whether the entity is the subject, the object, or either.
    #[must_use]
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// Only this relation.
    #[must_use]
    pub fn relation(mut self, relation: impl Into<String>) -> Self {
        self.relation = Some(relation.into());
        self
    }

    /// As seen from this point.
    #[must_use]
    pub fn as_of(mut self, as_of: AsOf) -> Self {
        self.as_of = as_of;
        self
    }

    /// Also what is over and superseded: every fact there ever was.
    #[must_use]
    pub fn history(mut self) -> Self {
        self.history = true;
        self
    }
}

/// A walk along facts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Walk {
    /// Where it begins.
    pub from: String,
    /// Which way it goes.
    pub direction: Direction,
    /// Only along this relation.
    pub relation: Option<String>,
    /// At most so many facts far.
    pub depth: u32,
    /// From where facts are looked at.
    pub as_of: AsOf,
}

impl Walk {
    /// The furthest walk, in facts.
    pub const MAX_DEPTH: u32 = 16;

    /// From this entity, from subjects to objects, along every relation, as far as a walk goes.
    pub fn from(entity: impl Into<String>) -> Self {
        Self {
            from: entity.into(),
            direction: Direction::Out,
            relation: None,
            depth: Self::MAX_DEPTH,
            as_of: AsOf::default(),
        }
    }

    /// This way.
    #[must_use]
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// Only along this relation.
    #[must_use]
    pub fn relation(mut self, relation: impl Into<String>) -> Self {
        self.relation = Some(relation.into());
        self
    }

    /// At most so many facts far, 1 to 16.
    #[must_use]
    pub fn depth(mut self, depth: u32) -> Self {
        self.depth = depth;
        self
    }

    /// As seen from this point.
    #[must_use]
    pub fn as_of(mut self, as_of: AsOf) -> Self {
        self.as_of = as_of;
        self
    }
}

/// Part of a list of facts. `degraded`, here and below: the graph database did not answer in time, and the record did in
/// its place.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Page {
    /// In the order in which they were told.
    pub facts: Vec<Fact>,
    /// The fact to go on after; none: that was all.
    pub next: Option<u64>,
    /// See [`Page`].
    pub degraded: bool,
}

/// A way from one entity to another.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Path {
    /// The facts along a shortest way, in order; none: there is no way.
    pub facts: Option<Vec<Fact>>,
    /// See [`Page`].
    pub degraded: bool,
}

/// What a walk found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Reached {
    /// Where the walk began.
    pub from: String,
    /// The facts walked along, nearest first.
    pub facts: Vec<Fact>,
    /// Whether there was more than the 10,000 facts that a walk goes over.
    pub cut: bool,
    /// See [`Page`].
    pub degraded: bool,
}

impl Reached {
    /// Everything that was reached, nearest first, without where the walk began.
    pub fn entities(&self) -> Vec<&str> {
        let mut seen = std::collections::HashSet::from([self.from.as_str()]);
        let ends = self.facts.iter().flat_map(|fact| [fact.subject.as_str(), fact.object.as_str()]);
        ends.filter(|entity| seen.insert(entity)).collect()
    }
}

/// In which order things can be done that depend on each other.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Order {
    /// Everything after what it depends on; without what stands in a ring.
    pub entities: Vec<String>,
    /// What depends on itself: each a ring of entities.
    pub cycles: Vec<Vec<String>>,
    /// Whether there was more than the 10,000 facts that a walk goes over.
    pub cut: bool,
    /// See [`Page`].
    pub degraded: bool,
}

/// Tells that the subject is related to the object from now on; answers the fact's id. What holds already is not told
/// again; where it holds with properties, the fact before ends now.
///
/// # Errors
/// [`Error::AccessDenied`] without `graph:write`; [`Error::Invalid`] for an entity or a relation that is none.
pub fn relate(subject: &str, relation: &str, object: &str) -> Result<u64, Error> {
    relate_with(subject, relation, object, RelateOptions::default())
}

/// Tells a fact with properties, or of the past; answers its id. What holds already with the same properties is not told
/// again; with others, the fact before ends where this one begins.
///
/// ```
/// # use ltmc::graph::{self, RelateOptions};
/// # use ltmc::serde_json::json;
/// # ltmc::testing::Host::new().grant("graph:write").within(|| {
/// graph::relate_with(
///     "ada",
///     "works-on",
///     "engine",
///     RelateOptions { properties: json!({"role": "author"}), valid_from_ms: Some(1_700_000_000_000) },
/// )?;
/// # Ok::<_, ltmc::Error>(())
/// # }).unwrap();
/// ```
///
/// # Errors
/// As [`relate`], and [`Error::Invalid`] for properties that are no JSON object or too many, for a time in the future, and
/// for one before the fact that holds.
pub fn relate_with(subject: &str, relation: &str, object: &str, options: RelateOptions) -> Result<u64, Error> {
    let properties = match options.properties {
        Value::Null => String::new(),
        properties => properties.to_string(),
    };
    host::graph::relate(subject, relation, object, &properties, options.valid_from_ms)
}

/// Ends a fact now; answers whether there was one.
///
/// # Errors
/// As [`relate`].
pub fn unrelate(subject: &str, relation: &str, object: &str) -> Result<bool, Error> {
    host::graph::unrelate(subject, relation, object, None)
}

/// Ends a fact as of a time in the past, in milliseconds since the Unix epoch; answers whether there was one.
///
/// # Errors
/// As [`relate`], and [`Error::Invalid`] for a time in the future or before the fact.
pub fn unrelate_at(subject: &str, relation: &str, object: &str, valid_to_ms: u64) -> Result<bool, Error> {
    host::graph::unrelate(subject, relation, object, Some(valid_to_ms))
}

/// Every fact that passes the filter, in the order in which they were told, fetched a page at a time.
pub fn facts(filter: Filter) -> Facts {
    Facts { filter, page: Vec::new().into_iter(), next: Some(None), degraded: false }
}

/// At most `limit` (1 to 1,000) facts that pass the filter, after the fact `after`.
///
/// # Errors
/// [`Error::AccessDenied`] without `graph:read`; [`Error::Invalid`] for a limit out of bounds, and for an entity or a
/// relation that is none.
pub fn page(filter: &Filter, after: Option<u64>, limit: u32) -> Result<Page, Error> {
    host::graph::facts(filter, after, limit)
}

/// Facts next to an entity, either way and by every relation; [`Reached::entities`] are its neighbours.
///
/// # Errors
/// As [`page`].
pub fn neighbours(entity: &str) -> Result<Reached, Error> {
    reach(Walk::from(entity).direction(Direction::Both).depth(1))
}

/// A shortest way from one entity to another, from subjects to objects, along every relation.
///
/// # Errors
/// As [`page`].
pub fn path(from: &str, to: &str) -> Result<Path, Error> {
    path_with(Walk::from(from), to)
}

/// A shortest way from where the walk begins to `to`.
///
/// # Errors
/// As [`page`], and [`Error::Invalid`] for a walk that goes too far.
pub fn path_with(walk: Walk, to: &str) -> Result<Path, Error> {
    host::graph::path(&walk, to)
}

/// Everything that can be reached.
///
/// # Errors
/// As [`path_with`].
pub fn reach(walk: Walk) -> Result<Reached, Error> {
    host::graph::reach(walk)
}

/// What a thing depends on, near and far: what can be reached from it by this relation.
///
/// # Errors
/// As [`page`].
pub fn dependencies(entity: &str, relation: &str) -> Result<Reached, Error> {
    reach(Walk::from(entity).relation(relation))
}

/// What depends on a thing, near and far: from what it can be reached by this relation.
///
/// # Errors
/// As [`page`].
pub fn dependents(entity: &str, relation: &str) -> Result<Reached, Error> {
    reach(Walk::from(entity).relation(relation).direction(Direction::In))
}

/// A thing and all it depends on by this relation, in the order in which it can be done: what is depended on first.
///
/// # Errors
/// As [`page`].
pub fn order(entity: &str, relation: &str) -> Result<Order, Error> {
    order_with(Walk::from(entity).relation(relation))
}

/// Where the walk begins and everything it reaches, in the order in which it can be done: objects before subjects.
///
/// # Errors
/// As [`path_with`].
pub fn order_with(walk: Walk) -> Result<Order, Error> {
    host::graph::order(&walk)
}

/// The facts of [`facts()`]. Ends after the first error.
#[derive(Debug)]
pub struct Facts {
    filter: Filter,
    page: std::vec::IntoIter<Fact>,
    /// The fact to go on after; none: that was all.
    next: Option<Option<u64>>,
    degraded: bool,
}

impl Facts {
    const PAGE: u32 = 100;

    /// Whether any page so far was the record's, in the place of the graph database.
    pub fn degraded(&self) -> bool {
        self.degraded
    }
}

impl Iterator for Facts {
    type Item = Result<Fact, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(fact) = self.page.next() {
                return Some(Ok(fact));
            }
            let after = self.next.take()?;
            match page(&self.filter, after, Self::PAGE) {
                Ok(page) => {
                    self.next = page.next.map(Some);
                    self.degraded |= page.degraded;
                    self.page = page.facts.into_iter();
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Over the host's imports: conversions and nothing else. `testing/graph.rs` has the same names in memory.
#[cfg(target_arch = "wasm32")]
pub(crate) mod guest {
    use super::{AsOf, Direction, Fact, Filter, Order, Page, Path, Reached, Walk};
    use crate::Error;
    use crate::bindings::host::ltmc::agent::graph as wit;

    pub(crate) fn relate(
        subject: &str,
        relation: &str,
        object: &str,
        properties: &str,
        valid_from_ms: Option<u64>,
    ) -> Result<u64, Error> {
        Ok(wit::relate(subject, relation, object, properties, valid_from_ms)?)
    }

    pub(crate) fn unrelate(
        subject: &str,
        relation: &str,
        object: &str,
        valid_to_ms: Option<u64>,
    ) -> Result<bool, Error> {
        Ok(wit::unrelate(subject, relation, object, valid_to_ms)?)
    }

    pub(crate) fn facts(filter: &Filter, after: Option<u64>, limit: u32) -> Result<Page, Error> {
        let page = wit::facts(&wit::Filter {
            entity: filter.entity.clone(),
            direction: direction(filter.direction),
            relation: filter.relation.clone(),
            as_of: as_of(filter.as_of),
            history: filter.history,
            after,
            limit,
        })?;
        Ok(Page { facts: facts_of(page.facts), next: page.next, degraded: page.degraded })
    }

    pub(crate) fn path(from: &Walk, to: &str) -> Result<Path, Error> {
        let path = wit::find_path(&walk(from), to)?;
        Ok(Path { facts: path.facts.map(facts_of), degraded: path.degraded })
    }

    pub(crate) fn reach(from: Walk) -> Result<Reached, Error> {
        let reached = wit::reach(&walk(&from))?;
        Ok(Reached { from: from.from, facts: facts_of(reached.facts), cut: reached.cut, degraded: reached.degraded })
    }

    pub(crate) fn order(from: &Walk) -> Result<Order, Error> {
        let wit::Order { entities, cycles, cut, degraded } = wit::dependency_order(&walk(from))?;
        Ok(Order { entities, cycles, cut, degraded })
    }

    fn walk(walk: &Walk) -> wit::Walk {
        wit::Walk {
            from: walk.from.clone(),
            direction: direction(walk.direction),
            relation: walk.relation.clone(),
            depth: walk.depth,
            as_of: as_of(walk.as_of),
        }
    }

    fn direction(direction: Direction) -> wit::Direction {
        match direction {
            Direction::Out => wit::Direction::Out,
            Direction::In => wit::Direction::In,
            Direction::Both => wit::Direction::Both,
        }
    }

    fn as_of(as_of: AsOf) -> wit::AsOf {
        wit::AsOf { valid_ms: as_of.valid_ms, known_ms: as_of.known_ms }
    }

    fn facts_of(facts: Vec<wit::Fact>) -> Vec<Fact> {
        facts.into_iter().map(fact).collect()
    }

    fn fact(wit: wit::Fact) -> Fact {
        Fact {
            id: wit.id,
            subject: wit.subject,
            relation: wit.relation,
            object: wit.object,
            properties: wit.properties,
            valid_from_ms: wit.valid_from_ms,
            valid_to_ms: wit.valid_to_ms,
            recorded_at_ms: wit.recorded_at_ms,
            ended_at_ms: wit.ended_at_ms,
        }
    }
}
