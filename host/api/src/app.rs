//! What the door is made of, and the router over it.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::response::Response;
use bytes::Bytes;
use ltmc_context::Clients;
use ltmc_orchestration::{Runs, Schedules, Sessions, Triggers, Workflows};
use ltmc_ports::Clock;
use ltmc_projections::Repairs;
use ltmc_tenancy::{Access, Agents, Compute, Deletions, Turns};
use serde::Serialize;

use crate::answers::Answers;
use crate::body::Bodies;
use crate::edge::Edge;
use crate::limits::HttpLimits;
use crate::meter::Meters;
use crate::rest::Watchers;
use crate::{edge, openapi, rest};

/// How many large requests are parsed at once: as many as there are processors, for more would only be
/// more threads among which these are divided; two at least, so that no tenant has all.
fn computed_at_once() -> usize {
    std::thread::available_parallelism().map_or(2, |processors| processors.get().max(2))
}

/// The use cases, and what else the routes need.
#[derive(Clone)]
pub struct App {
    /// Tenants, keys, ceilings.
    pub access: Arc<Access>,
    /// Tenants that are deleted.
    pub deletions: Arc<Deletions>,
    /// Agents and their grants.
    pub agents: Arc<Agents>,
    /// Calls and runs.
    pub runs: Arc<Runs>,
    /// Workflow documents.
    pub workflows: Arc<Workflows>,
    /// When they are started by themselves.
    pub schedules: Arc<Schedules>,
    /// Which events start runs.
    pub triggers: Arc<Triggers>,
    /// Conversations with agents: opening them, taking turns, closing them.
    pub sessions: Arc<Sessions>,
    /// Shared context.
    pub clients: Arc<Clients>,
    /// The databases that follow the record.
    pub repairs: Arc<Repairs>,
    /// Whether the host is ready.
    pub health: Arc<dyn Health>,
    /// The metrics as Prometheus reads them.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Whether `/metrics` may be read without the operator's key; its labels name tenants.
    pub metrics_public: bool,
    /// For expiries that are given as a duration.
    pub clock: Arc<dyn Clock>,
    /// The bounds on what clients may send and have open at once.
    pub limits: HttpLimits,
}

/// Says whether the host is ready to serve.
#[async_trait]
pub trait Health: Send + Sync {
    /// Looks at everything a request needs; quick, for it is asked often.
    async fn checks(&self) -> Vec<Check>;
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Check {
    /// What, such as `record`.
    #[schema(value_type = String, example = "record")]
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// If not: what is wrong, fit for the eyes of everybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Whether it is shown to who comes with an operator's key alone.
    #[serde(skip)]
    pub for_operators: bool,
}

/// The routes over these use cases. A metrics recorder is to be installed before.
pub fn router(app: App) -> Router {
    let (router, document) = openapi::split();
    let meters = Meters::new(document.paths.paths.keys().cloned());
    let edge = Edge::new(meters, app.limits.head, openapi::queries(&document));
    let json = serde_json::to_vec(&document).unwrap_or_default();
    let shared = Shared {
        bodies: Bodies::new(&app.limits),
        answers: Answers::new(app.limits.answers),
        watchers: Arc::new(Watchers::new(app.limits.watchers)),
        // bound: large requests
        compute: Compute::new(Turns::new(computed_at_once(), app.limits.connections)),
        document: json.into(),
        app,
    };
    router
        .method_not_allowed_fallback(rest::wrong_method)
        .fallback(rest::no_route)
        .with_state(Api(Arc::new(shared)))
        .layer(axum::middleware::from_fn_with_state(edge, edge::cross))
}

/// The state of every handler.
#[derive(Clone)]
pub(crate) struct Api(Arc<Shared>);

pub(crate) struct Shared {
    app: App,
    /// What all bodies under way hold.
    pub(crate) bodies: Arc<Bodies>,
    /// What answers under way hold that show what tenants stored.
    pub(crate) answers: Arc<Answers>,
    /// Room for readers of events.
    pub(crate) watchers: Arc<Watchers>,
    /// Threads for large requests.
    pub(crate) compute: Compute,
    /// The OpenAPI description, ready to be served as `/openapi.json`.
    pub(crate) document: Bytes,
}

impl std::ops::Deref for Api {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl std::ops::Deref for Shared {
    type Target = App;
    fn deref(&self) -> &App {
        &self.app
    }
}

/// What handlers return.
pub(crate) type Answer = crate::problem::Result<Response>;
