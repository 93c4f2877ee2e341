//! The graph: facts told, ended and asked for.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use ltmc_context::clients::Owner;
use ltmc_model::Timestamp;
use ltmc_model::call::graph as call;
use ltmc_model::graph::{AsOf, Direction, Entity, FactFilter, Relation, Walk};
use ltmc_policy::Action;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::context::{marked, refused};
use crate::answers::PAGE;
use crate::app::{Answer, Api};
use crate::extract::{Asked, By, Document, Json};
use crate::page::{Page, Paging};
use crate::problem::{Problem, Result};

const LIST: &str = "facts";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(facts, relate, unrelate))
        .routes(routes!(path))
        .routes(routes!(reach))
        .routes(routes!(order))
}

/// A fact to be told.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewFact {
    #[schema(value_type = String, example = "host/api")]
    subject: Entity,
    #[schema(value_type = String, example = "depends-on")]
    relation: Relation,
    #[schema(value_type = String, example = "host/model")]
    object: Entity,
    /// A JSON object of at most 4 KiB.
    #[schema(value_type = Option<Object>)]
    properties: Option<serde_json::Map<String, serde_json::Value>>,
    /// From when on it holds; none: from now on.
    #[schema(value_type = Option<String>, format = DateTime)]
    valid_from: Option<Timestamp>,
}

impl Document for NewFact {
    const FOR: Action = Action::WriteContext;
}

impl NewFact {
    pub(super) fn call(self) -> call::Relate {
        let properties = self.properties.map(|map| serde_json::Value::Object(map).to_string()).unwrap_or_default();
        let Self { subject, relation, object, valid_from, .. } = self;
        call::Relate { subject, relation, object, properties, valid_from }
    }
}

/// The fact that holds now.
#[derive(Serialize, ToSchema)]
struct Told {
    /// Its id.
    id: u64,
}

/// Tell a fact
///
/// What holds already with the same properties is not told again; with others, the fact before ends where this one begins.
#[utoipa::path(
    post, path = "/v1/graph/facts", tag = "context", request_body = NewFact,
    extensions(("x-ltmc-role" = json!(["admin", "author"])), ("x-ltmc-codes" = json!(["invalid"]))),
    responses((status = 200, body = Told)),
)]
async fn relate(State(api): State<Api>, By(caller): By, Json(fact): Json<NewFact>) -> Answer {
    let id = api.clients.call(&caller, &Owner::default(), fact.call()).await?.map_err(refused)?;
    Ok(axum::Json(Told { id: id.0 }).into_response())
}

/// Which fact ends.
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Ending {
    #[param(value_type = String)]
    #[schema(value_type = String)]
    subject: Entity,
    #[param(value_type = String)]
    #[schema(value_type = String)]
    relation: Relation,
    #[param(value_type = String)]
    #[schema(value_type = String)]
    object: Entity,
    /// Until when it held; none: until now.
    #[param(value_type = Option<String>, format = DateTime)]
    #[schema(value_type = Option<String>, format = DateTime)]
    valid_to: Option<Timestamp>,
}

impl Ending {
    pub(super) fn call(self) -> call::Unrelate {
        let Self { subject, relation, object, valid_to } = self;
        call::Unrelate { subject, relation, object, valid_to }
    }
}

/// End a fact
#[utoipa::path(
    delete, path = "/v1/graph/facts", tag = "context", params(Ending),
    extensions(("x-ltmc-role" = json!(["admin", "author"])), ("x-ltmc-codes" = json!(["invalid", "not-found"]))),
    responses((status = 204, description = "It holds no more; it can still be asked for")),
)]
async fn unrelate(State(api): State<Api>, By(caller): By, Asked(ending): Asked<Ending>) -> Answer {
    match api.clients.call(&caller, &Owner::default(), ending.call()).await?.map_err(refused)? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Problem::new("not-found", "No such fact holds.")),
    }
}

/// Which facts are listed: what is not said restricts nothing.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// Of this entity; none: of every one.
    #[param(value_type = Option<String>)]
    entity: Option<Entity>,
    /// `out`: of which it is the subject; `in`: the object; `both`.
    #[param(value_type = Option<String>, example = "out")]
    direction: Option<Direction>,
    /// Only this relation.
    #[param(value_type = Option<String>)]
    relation: Option<Relation>,
    /// What held at this time; none: what holds.
    #[param(value_type = Option<String>, format = DateTime)]
    valid: Option<Timestamp>,
    /// As it was known at this time; none: as it is known now.
    #[param(value_type = Option<String>, format = DateTime)]
    known: Option<Timestamp>,
    /// Also what is over and superseded.
    history: Option<bool>,
    /// Items of a page, 1 to 500.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// A fact.
#[derive(Serialize, ToSchema)]
struct Fact {
    id: u64,
    subject: String,
    relation: String,
    object: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    properties: Option<serde_json::Value>,
    /// From when on it held, and until when.
    #[schema(value_type = String, format = DateTime)]
    valid_from: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    valid_to: Option<Timestamp>,
    /// When that, and its end, were recorded.
    #[schema(value_type = String, format = DateTime)]
    recorded_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    ended_at: Option<Timestamp>,
}

impl From<ltmc_model::graph::Fact> for Fact {
    fn from(fact: ltmc_model::graph::Fact) -> Self {
        Self {
            id: fact.id.0,
            subject: fact.subject.into(),
            relation: fact.relation.into(),
            object: fact.object.into(),
            properties: serde_json::from_str(&fact.properties).ok(),
            valid_from: fact.valid_from,
            valid_to: fact.valid_to,
            recorded_at: fact.recorded_at,
            ended_at: fact.ended_at,
        }
    }
}

/// List facts
///
/// In the order in which they were told. `Ltmc-Degraded: true` says that the record answered in the place of a graph
/// database that did not in time.
#[utoipa::path(
    get, path = "/v1/graph/facts", tag = "context", params(Which),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"])), ("x-ltmc-codes" = json!(["invalid"]))),
    responses((status = 200, body = Page<Fact>)),
)]
async fn facts(State(api): State<Api>, By(caller): By, Asked(which): Asked<Which>) -> Answer {
    let room = api.answers.room(&caller, PAGE)?;
    let paging = Paging { limit: which.limit, cursor: which.cursor };
    let limit = paging.limit()?;
    let filter = FactFilter {
        entity: which.entity,
        direction: which.direction.unwrap_or(Direction::Both),
        relation: which.relation,
        as_of: AsOf { valid: which.valid, known: which.known },
        history: which.history.unwrap_or_default(),
        after: paging.after::<u64>(LIST)?.map(ltmc_model::Revision),
        limit: limit + 1,
    };
    let found = api.clients.call(&caller, &Owner::default(), call::Facts(filter)).await?.map_err(refused)?;
    let page = Page::of(LIST, limit, found.facts, |fact| fact.id.to_string(), Fact::from);
    marked(room, found.degraded, &page)
}

/// A walk along what holds.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Along {
    /// From this entity.
    #[param(value_type = String)]
    from: Entity,
    /// Of a path: to this one.
    #[param(value_type = Option<String>)]
    to: Option<Entity>,
    /// `out` (along facts), `in` (against them), `both`.
    #[param(value_type = Option<String>, example = "out")]
    direction: Option<Direction>,
    /// Only along this relation.
    #[param(value_type = Option<String>)]
    relation: Option<Relation>,
    /// At most so many facts far.
    #[param(minimum = 1, maximum = 16, default = 8)]
    depth: Option<u32>,
    /// What held at this time; none: what holds.
    #[param(value_type = Option<String>, format = DateTime)]
    valid: Option<Timestamp>,
    /// As it was known at this time; none: as it is known now.
    #[param(value_type = Option<String>, format = DateTime)]
    known: Option<Timestamp>,
}

impl Along {
    fn walk(self) -> Result<Walk> {
        if self.to.is_some() {
            return Err(Problem::new("bad-query", "Only a path has a `to`.").field("to"));
        }
        Ok(Walk {
            from: self.from,
            direction: self.direction.unwrap_or_default(),
            relation: self.relation,
            depth: self.depth.unwrap_or(8),
            as_of: AsOf { valid: self.valid, known: self.known },
        })
    }
}

/// A way.
#[derive(Serialize, ToSchema)]
struct Way {
    /// The facts along a shortest way, in order; none: there is no way.
    #[schema(required)]
    facts: Option<Vec<Fact>>,
}

/// Find a way
#[utoipa::path(
    get, path = "/v1/graph/path", tag = "context", params(Along),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"])), ("x-ltmc-codes" = json!(["invalid"]))),
    responses((status = 200, body = Way)),
)]
async fn path(State(api): State<Api>, By(caller): By, Asked(mut along): Asked<Along>) -> Answer {
    let room = api.answers.room(&caller, PAGE)?;
    let to = along.to.take().ok_or_else(|| Problem::new("bad-query", "A path has a `to`.").field("to"))?;
    let call = call::FindPath { walk: along.walk()?, to };
    let path = api.clients.call(&caller, &Owner::default(), call).await?.map_err(refused)?;
    let facts = path.facts.map(|facts| facts.into_iter().map(Fact::from).collect());
    marked(room, path.degraded, &Way { facts })
}

/// What can be reached.
#[derive(Serialize, ToSchema)]
struct Reached {
    /// The facts walked along, nearest first.
    facts: Vec<Fact>,
    /// Whether there was more than a walk goes over.
    cut: bool,
}

/// See what can be reached
///
/// With `direction=in` along `depends-on`: what depends on a thing.
#[utoipa::path(
    get, path = "/v1/graph/reach", tag = "context", params(Along),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"])), ("x-ltmc-codes" = json!(["invalid"]))),
    responses((status = 200, body = Reached)),
)]
async fn reach(State(api): State<Api>, By(caller): By, Asked(along): Asked<Along>) -> Answer {
    let room = api.answers.room(&caller, PAGE)?;
    let found = api.clients.call(&caller, &Owner::default(), call::Reach(along.walk()?)).await?.map_err(refused)?;
    let facts = found.facts.into_iter().map(Fact::from).collect();
    marked(room, found.degraded, &Reached { facts, cut: found.cut })
}

/// An order.
#[derive(Serialize, ToSchema)]
struct Order {
    /// Everything after what it depends on; without what stands in a ring.
    entities: Vec<String>,
    /// What depends on itself: each a ring of entities.
    cycles: Vec<Vec<String>>,
    /// Whether there was more than a walk goes over.
    cut: bool,
}

/// Order what depends on each other
#[utoipa::path(
    get, path = "/v1/graph/order", tag = "context", params(Along),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"])), ("x-ltmc-codes" = json!(["invalid"]))),
    responses((status = 200, body = Order)),
)]
async fn order(State(api): State<Api>, By(caller): By, Asked(along): Asked<Along>) -> Answer {
    let room = api.answers.room(&caller, PAGE)?;
    let call = call::DependencyOrder(along.walk()?);
    let found = api.clients.call(&caller, &Owner::default(), call).await?.map_err(refused)?;
    let names = |entities: Vec<Entity>| entities.into_iter().map(String::from).collect();
    let cycles = found.cycles.into_iter().map(names).collect();
    marked(room, found.degraded, &Order { entities: names(found.entities), cycles, cut: found.cut })
}
