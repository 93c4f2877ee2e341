//! What people do about runs that did not go as they should: why they stand where they do.

use axum::extract::State;
use ltmc_model::RunId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answers::ONE;
use crate::app::{Answer, Api};
use crate::extract::{At, By};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(why))
}

/// Tell why a run stands where it does
///
/// In a sentence (`summary`); from the step that failed up to the root, with its tries and what was done on each level of errors
/// (`chain`); failures that were `handled`, and by what; what it `waits` for and until when; what is at work (`at_work`); and what
/// can be done `next`, as commands.
#[utoipa::path(
    get, path = "/v1/runs/{id}/why", tag = "runs",
    params(("id" = String, Path, description = "The run")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"])), ("x-ltmc-codes" = json!(["busy"]))),
    responses((status = 200, body = Object)),
)]
async fn why(State(api): State<Api>, By(caller): By, At(run): At<RunId>) -> Answer {
    let room = api.answers.room(&caller, ONE)?;
    room.json(&api.runs.why(&caller, run).await?)
}
