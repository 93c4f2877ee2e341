//! Does with the graph what its input says; see `script`.
//!
//! Steps: `relate` (subject, relation, object, properties, valid_from_ms), `unrelate` (subject, relation, object,
//! valid_to_ms), `facts` (entity, direction, relation, valid_ms, known_ms, history), `page` (the same, after, limit),
//! `neighbours` (entity), `path` (from, to, direction, relation, depth, valid_ms, known_ms), `reach` and `order` (the same
//! without `to`), `dependencies` and `dependents` (entity, relation). A direction is `out`, `in` or `both`.

#[path = "script/mod.rs"]
mod script;

use ltmc::graph::{self, AsOf, Direction, Fact, Filter, Reached, RelateOptions};
use ltmc::serde_json::{Value, json};
use ltmc::{Agent, Error, Failure, Json, Task};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
enum Step {
    Relate {
        subject: String,
        relation: String,
        object: String,
        #[serde(default)]
        properties: Value,
        valid_from_ms: Option<u64>,
    },
    Unrelate {
        subject: String,
        relation: String,
        object: String,
        valid_to_ms: Option<u64>,
    },
    Facts(Which),
    Page(Which),
    Neighbours {
        entity: String,
    },
    Path(Walk),
    Reach(Walk),
    Order(Walk),
    Dependencies {
        entity: String,
        relation: String,
    },
    Dependents {
        entity: String,
        relation: String,
    },
}

#[derive(Deserialize)]
struct Which {
    entity: Option<String>,
    direction: Option<String>,
    relation: Option<String>,
    valid_ms: Option<u64>,
    known_ms: Option<u64>,
    #[serde(default)]
    history: bool,
    after: Option<u64>,
    limit: Option<u32>,
}

#[derive(Deserialize)]
struct Walk {
    from: String,
    #[serde(default)]
    to: String,
    direction: Option<String>,
    relation: Option<String>,
    depth: Option<u32>,
    valid_ms: Option<u64>,
    known_ms: Option<u64>,
}

#[ltmc::agent]
#[derive(Default)]
struct GraphScript;

impl Agent for GraphScript {
    type Input = Json<Vec<Value>>;
    type Output = Json<Vec<Value>>;

    fn execute(&self, Json(steps): Self::Input, task: &Task) -> Result<Self::Output, Failure> {
        script::play(steps, task, Step::perform)
    }
}

impl Step {
    fn perform(self) -> Result<Value, Error> {
        Ok(match self {
            Self::Relate { subject, relation, object, properties, valid_from_ms } => {
                let options = RelateOptions { properties, valid_from_ms };
                json!(graph::relate_with(&subject, &relation, &object, options)?)
            }
            Self::Unrelate { subject, relation, object, valid_to_ms: None } => {
                json!(graph::unrelate(&subject, &relation, &object)?)
            }
            Self::Unrelate { subject, relation, object, valid_to_ms: Some(to) } => {
                json!(graph::unrelate_at(&subject, &relation, &object, to)?)
            }
            Self::Facts(which) => {
                let found: Vec<Fact> = graph::facts(which.filter()).collect::<Result<_, _>>()?;
                facts(&found)
            }
            Self::Page(which) => {
                let page = graph::page(&which.filter(), which.after, which.limit.unwrap_or(100))?;
                json!({ "facts": facts(&page.facts), "next": page.next, "degraded": page.degraded })
            }
            Self::Neighbours { entity } => reached(&graph::neighbours(&entity)?),
            Self::Path(walk) => {
                let path = graph::path_with(walk.walk(), &walk.to)?;
                json!({ "facts": path.facts.as_deref().map(facts), "degraded": path.degraded })
            }
            Self::Reach(walk) => reached(&graph::reach(walk.walk())?),
            Self::Order(walk) => {
                let order = graph::order_with(walk.walk())?;
                json!({
                    "entities": order.entities,
                    "cycles": order.cycles,
                    "cut": order.cut,
                    "degraded": order.degraded,
                })
            }
            Self::Dependencies { entity, relation } => reached(&graph::dependencies(&entity, &relation)?),
            Self::Dependents { entity, relation } => reached(&graph::dependents(&entity, &relation)?),
        })
    }
}

impl Which {
    fn filter(&self) -> Filter {
        let mut filter = Filter::default();
        filter.entity.clone_from(&self.entity);
        filter.relation.clone_from(&self.relation);
        filter.history = self.history;
        filter
            .direction(direction(self.direction.as_deref()))
            .as_of(AsOf { valid_ms: self.valid_ms, known_ms: self.known_ms })
    }
}

impl Walk {
    fn walk(&self) -> graph::Walk {
        let mut walk = graph::Walk::from(&self.from).direction(direction(self.direction.as_deref()));
        walk.relation.clone_from(&self.relation);
        walk.depth(self.depth.unwrap_or(graph::Walk::MAX_DEPTH))
            .as_of(AsOf { valid_ms: self.valid_ms, known_ms: self.known_ms })
    }
}

fn direction(text: Option<&str>) -> Direction {
    match text {
        Some("in") => Direction::In,
        Some("both") => Direction::Both,
        _ => Direction::Out,
    }
}

fn reached(reached: &Reached) -> Value {
    json!({
        "entities": reached.entities(),
        "facts": facts(&reached.facts),
        "cut": reached.cut,
        "degraded": reached.degraded,
    })
}

fn facts(facts: &[Fact]) -> Value {
    let fact = |fact: &Fact| {
        json!({
            "id": fact.id,
            "subject": fact.subject,
            "relation": fact.relation,
            "object": fact.object,
            "properties": fact.properties,
            "valid_from_ms": fact.valid_from_ms,
            "valid_to_ms": fact.valid_to_ms,
            "recorded_at_ms": fact.recorded_at_ms,
            "ended_at_ms": fact.ended_at_ms,
        })
    };
    facts.iter().map(fact).collect()
}
