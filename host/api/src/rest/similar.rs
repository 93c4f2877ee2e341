//! Workflows that were run before and are like something.

use axum::extract::State;
use axum::response::IntoResponse as _;
use ltmc_model::run::State as RunState;
use ltmc_model::{RunId, Timestamp, WorkflowName};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{Answer, Api};
use crate::extract::{Asked, By};

/// How many are told where nothing is said.
const FEW: u32 = 10;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(similar))
}

/// Like what.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// What it is to be about, in words; 1 to 8,192 bytes.
    #[param(example = "summarise a contract")]
    text: String,
    /// At most so many, 1 to 50.
    #[param(minimum = 1, maximum = 50, default = 10)]
    limit: Option<u32>,
}

/// A workflow that was run before.
#[derive(Serialize, ToSchema)]
struct Similar {
    /// Its name.
    #[schema(value_type = String, example = "review")]
    workflow: WorkflowName,
    /// How near what it is about is to the text, from 0 to 1.
    similarity: f64,
    /// The last of its runs that is over.
    #[schema(value_type = String, format = Uuid)]
    last_run: RunId,
    /// How that ended: `completed`, `failed` or `cancelled`.
    #[schema(value_type = String, example = "completed")]
    state: RunState,
    /// When that ended.
    #[schema(value_type = String, format = DateTime)]
    ended_at: Timestamp,
    /// How many of its runs are known.
    runs: u64,
    /// How many of them were completed.
    completed: u64,
}

/// Workflows, the nearest first.
#[derive(Serialize, ToSchema)]
struct Found {
    items: Vec<Similar>,
}

/// Find workflows like a text
///
/// Among those of which a run is over (the newest 1,000 of the tenant's), by what they are about: their name, what their steps are called,
/// need and ask. The nearest first. A key of the role `caller` finds those that it ran itself.
#[utoipa::path(
    get, path = "/v1/search/workflows", tag = "workflows", params(Which),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"])), ("x-ltmc-codes" = json!(["busy", "unavailable"]))),
    responses((status = 200, body = Found)),
)]
async fn similar(State(api): State<Api>, By(caller): By, Asked(which): Asked<Which>) -> Answer {
    let found = api.runs.similar(&caller, &which.text, which.limit.unwrap_or(FEW)).await?;
    let one = |one: ltmc_orchestration::Similar| {
        let ltmc_orchestration::Similar { workflow, similarity, last_run, state, ended_at, runs, completed } = one;
        Similar { workflow, similarity, last_run, state, ended_at, runs, completed }
    };
    Ok(axum::Json(Found { items: found.into_iter().map(one).collect() }).into_response())
}
