//! Ceilings: what a tenant's agents can have at most, whatever they are granted.

use axum::extract::State;
use axum::response::IntoResponse as _;
use ltmc_model::TenantId;
use ltmc_model::tenancy::Ceiling;
use ltmc_policy::Action;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{Answer, Api};
use crate::extract::{At, By, Document, Json};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(own)).routes(routes!(get, set))
}

/// A tenant's ceiling.
#[derive(Serialize, ToSchema)]
#[schema(as = Ceiling)]
struct CeilingForm {
    /// Capabilities that a grant can give.
    #[schema(example = json!(["log", "memory:read:*", "memory:write:*", "call:*"]))]
    capabilities: Vec<String>,
    /// Limits of one call; what is left out has the host's default.
    limits: Option<CallLimits>,
    /// Calls of the tenant that may run at once; the rest wait. One that waits for messages, changes or time does not count.
    #[schema(minimum = 1, default = 64)]
    concurrency: Option<u32>,
    /// Bytes of keys and values that the tenant's memory holds at most.
    #[schema(example = "1GiB")]
    storage: Option<String>,
    /// Bytes that all of the tenant's things take on disk at most; left out: what the host's configuration says.
    #[schema(example = "16GiB")]
    disk: Option<String>,
}

/// Limits of one call.
#[derive(Serialize, ToSchema)]
struct CallLimits {
    /// Linear memory.
    #[schema(example = "64MiB")]
    memory: Option<String>,
    /// CPU time.
    #[schema(example = "2s")]
    cpu: Option<String>,
    /// Wall time, waiting included.
    #[schema(example = "30s")]
    wall: Option<String>,
    /// The result's bytes.
    #[schema(example = "8MiB")]
    output: Option<String>,
}

/// Show the key's own tenant's ceiling
#[utoipa::path(
    get, path = "/v1/ceilings", tag = "tenants",
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"]))),
    responses((status = 200, body = CeilingForm)),
)]
async fn own(State(api): State<Api>, By(caller): By) -> Answer {
    let ceiling = api.access.ceiling(&caller, None).await?;
    Ok(axum::Json(ceiling).into_response())
}

/// Show a tenant's ceiling
#[utoipa::path(
    get, path = "/v1/ceilings/{tenant}", tag = "tenants",
    params(("tenant" = String, Path, description = "The tenant's name", example = "acme")),
    extensions(("x-ltmc-role" = json!(["operator", "admin"]))),
    responses((status = 200, body = CeilingForm)),
)]
async fn get(State(api): State<Api>, By(caller): By, At(tenant): At<TenantId>) -> Answer {
    let ceiling = api.access.ceiling(&caller, Some(&tenant)).await?;
    Ok(axum::Json(ceiling).into_response())
}

impl Document for Ceiling {
    const FOR: Action = Action::SetCeiling;
}

/// Set a tenant's ceiling
///
/// The whole of it. The next host call of a running agent notices.
#[utoipa::path(
    put, path = "/v1/ceilings/{tenant}", tag = "tenants", request_body = CeilingForm,
    params(("tenant" = String, Path, description = "The tenant's name", example = "acme")),
    extensions(("x-ltmc-role" = json!(["operator"]))),
    responses((status = 200, description = "The ceiling as it now is", body = CeilingForm)),
)]
async fn set(State(api): State<Api>, By(caller): By, At(tenant): At<TenantId>, Json(ceiling): Json<Ceiling>) -> Answer {
    api.access.set_ceiling(&caller, &tenant, ceiling.clone()).await?;
    Ok(axum::Json(ceiling).into_response())
}
