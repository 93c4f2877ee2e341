//! The databases that follow the record: how they follow, and their repair.

use axum::extract::State;
use axum::response::IntoResponse as _;
use ltmc_policy::Action;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{Answer, Api};
use crate::extract::{By, Document, Json};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(repair))
}

/// See how the databases follow
///
/// Each with whether it answers, how far it is behind, and what went wrong last.
#[utoipa::path(
    get, path = "/v1/databases", tag = "host",
    extensions(("x-ltmc-role" = json!(["operator"]))),
    responses((status = 200, body = Vec<Object>)),
)]
async fn list(State(api): State<Api>, By(caller): By) -> Answer {
    Ok(axum::Json(api.repairs.statuses(&caller).await?).into_response())
}

/// What a repair does.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Repair {
    /// Only compare, and say what differs.
    #[serde(default)]
    check: bool,
}

impl Document for Repair {
    const FOR: Action = Action::Repair;
}

/// Repair the databases
///
/// Compares each with the record, tenant by tenant, and puts it right. It takes as long as it takes: the connection stays
/// open.
#[utoipa::path(
    post, path = "/v1/databases/repair", tag = "host", request_body = Repair,
    extensions(("x-ltmc-role" = json!(["operator"]))),
    responses((status = 200, description = "What differed", body = Object)),
)]
async fn repair(State(api): State<Api>, By(caller): By, Json(repair): Json<Repair>) -> Answer {
    Ok(axum::Json(api.repairs.repair(&caller, !repair.check).await?).into_response())
}
