//! The interface `ltmc:agent/graph`: facts that relate two entities.

use super::HostCall;
use super::form::{Canonical, Request, Values};
use crate::capability::Capability;
use crate::graph::{AsOf, Direction, Entity, FactFilter, FactPage, Order, Path, Reached, Relation, Walk};
use crate::{Revision, Timestamp};

interface! {
    /// Calls on the graph.
    Graph: GraphCall { Relate, Unrelate, Facts, FindPath, Reach, DependencyOrder }
}

/// `graph.relate`: tells a fact; answers its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relate {
    /// The entity that the fact is about.
    pub subject: Entity,
    /// How the subject is related to the object, such as `depends-on`.
    pub relation: Relation,
    /// The entity that the subject is related to.
    pub object: Entity,
    /// A JSON object; empty: none.
    pub properties: String,
    /// From when on it holds; none: from now on.
    pub valid_from: Option<Timestamp>,
}

impl HostCall for Relate {
    type Reply = Revision;
    const NAME: &'static str = "graph.relate";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::GraphWrite]
    }

    fn about(&self) -> String {
        format!("{} {} {}", self.subject, self.relation, self.object)
    }

    fn request(&self) -> Request {
        Request::new(
            "graph-relate",
            &Values::new()
                .with(&self.subject)
                .with(&self.relation)
                .with(&self.object)
                .with(&self.properties)
                .with(&self.valid_from),
        )
    }
}

/// `graph.unrelate`: ends a fact; answers whether there was one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unrelate {
    /// The entity that the fact is about.
    pub subject: Entity,
    /// How the subject is related to the object.
    pub relation: Relation,
    /// The entity that the subject is related to.
    pub object: Entity,
    /// Until when it held; none: until now.
    pub valid_to: Option<Timestamp>,
}

impl HostCall for Unrelate {
    type Reply = bool;
    const NAME: &'static str = "graph.unrelate";
    const CHANGES: bool = true;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::GraphWrite]
    }

    fn about(&self) -> String {
        format!("{} {} {}", self.subject, self.relation, self.object)
    }

    fn request(&self) -> Request {
        Request::new(
            "graph-unrelate",
            &Values::new().with(&self.subject).with(&self.relation).with(&self.object).with(&self.valid_to),
        )
    }
}

/// `graph.facts`: a page of facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts(pub FactFilter);

impl HostCall for Facts {
    type Reply = FactPage;
    const NAME: &'static str = "graph.facts";
    const CHANGES: bool = false;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::GraphRead]
    }

    fn about(&self) -> String {
        self.0.entity.as_ref().map_or("*", Entity::as_str).to_owned()
    }

    fn request(&self) -> Request {
        Request::new("graph-facts", &self.0)
    }
}

/// `graph.path`: the shortest way from one entity to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FindPath {
    /// From where, and which way.
    pub walk: Walk,
    /// The entity that the path is to end at.
    pub to: Entity,
}

impl HostCall for FindPath {
    type Reply = Path;
    const NAME: &'static str = "graph.path";
    const CHANGES: bool = false;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::GraphRead]
    }

    fn about(&self) -> String {
        format!("{} to {}", self.walk.from, self.to)
    }

    fn request(&self) -> Request {
        Request::new("graph-path", &Values::new().with(&self.walk).with(&self.to))
    }
}

/// `graph.reach`: what depends on a thing, or on what it depends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach(pub Walk);

impl HostCall for Reach {
    type Reply = Reached;
    const NAME: &'static str = "graph.reach";
    const CHANGES: bool = false;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::GraphRead]
    }

    fn about(&self) -> String {
        self.0.from.to_string()
    }

    fn request(&self) -> Request {
        Request::new("graph-reach", &self.0)
    }
}

/// `graph.order`: what is reached, so that what is depended on comes first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DependencyOrder(pub Walk);

impl HostCall for DependencyOrder {
    type Reply = Order;
    const NAME: &'static str = "graph.order";
    const CHANGES: bool = false;

    fn needs(&self) -> Vec<Capability> {
        vec![Capability::GraphRead]
    }

    fn about(&self) -> String {
        self.0.from.to_string()
    }

    fn request(&self) -> Request {
        Request::new("graph-order", &self.0)
    }
}

impl Canonical for Entity {
    fn write(&self, to: &mut Vec<u8>) {
        self.as_str().write(to);
    }
}

impl Canonical for Relation {
    fn write(&self, to: &mut Vec<u8>) {
        self.as_str().write(to);
    }
}

impl Canonical for Direction {
    fn write(&self, to: &mut Vec<u8>) {
        let word = match self {
            Self::Out => "out",
            Self::In => "in",
            Self::Both => "both",
        };
        word.write(to);
    }
}

impl Canonical for AsOf {
    fn write(&self, to: &mut Vec<u8>) {
        Values::new().with(&self.valid).with(&self.known).write(to);
    }
}

impl Canonical for FactFilter {
    fn write(&self, to: &mut Vec<u8>) {
        let Self { entity, direction, relation, as_of, history, after, limit } = self;
        let first = Values::new().with(entity).with(direction).with(relation).with(as_of);
        first.with(history).with(after).with(limit).write(to);
    }
}

impl Canonical for Walk {
    fn write(&self, to: &mut Vec<u8>) {
        let Self { from, direction, relation, depth, as_of } = self;
        Values::new().with(from).with(direction).with(relation).with(depth).with(as_of).write(to);
    }
}
