//! Tenants: made and listed by operators.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use ltmc_model::tenancy;
use ltmc_model::{TenantId, Timestamp};
use ltmc_policy::Action;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{Answer, Api};
use crate::extract::{Asked, At, By, Document, Json};
use crate::page::{Page, Paging};

const LIST: &str = "tenants";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(list, create))
        .routes(routes!(delete))
        .routes(routes!(own_usage))
        .routes(routes!(usage))
}

/// A tenant.
#[derive(Serialize, ToSchema)]
struct Tenant {
    /// Its name.
    #[schema(value_type = String, example = "acme")]
    name: TenantId,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<tenancy::Tenant> for Tenant {
    fn from(tenant: tenancy::Tenant) -> Self {
        Self { name: tenant.name, created_at: tenant.created_at }
    }
}

/// How much a tenant has on disk.
#[derive(Serialize, ToSchema)]
struct Usage {
    /// Bytes of all of its things on disk: journals, memory, messages, facts, notes with their vectors, the log of changes, components,
    /// workflows.
    #[schema(example = 1_048_576)]
    used: u64,
    /// How many it may have: `disk` of its ceiling, or what the host's configuration says.
    #[schema(example = 17_179_869_184_u64)]
    allowed: u64,
}

impl From<tenancy::DiskUsage> for Usage {
    fn from(usage: tenancy::DiskUsage) -> Self {
        Self { used: usage.used, allowed: usage.allowed }
    }
}

/// A tenant to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct NewTenant {
    /// 1 to 63 of a-z, 0-9 and `-`, beginning with a letter.
    #[schema(value_type = String, example = "acme")]
    name: TenantId,
}

impl Document for NewTenant {
    const FOR: Action = Action::CreateTenant;
}

/// List tenants
#[utoipa::path(
    get, path = "/v1/tenants", tag = "tenants", params(Paging),
    extensions(("x-ltmc-role" = json!(["operator"]))),
    responses((status = 200, body = Page<Tenant>)),
)]
async fn list(State(api): State<Api>, By(caller): By, Asked(paging): Asked<Paging>) -> Answer {
    let limit = paging.limit()?;
    let found = api.access.tenants(&caller, paging.after(LIST)?.as_ref(), limit + 1).await?;
    let page = Page::of(LIST, limit, found, |tenant| tenant.name.to_string(), Tenant::from);
    Ok(axum::Json(page).into_response())
}

/// Make a tenant
///
/// It has no keys yet: make its first one with `POST /v1/keys`.
#[utoipa::path(
    post, path = "/v1/tenants", tag = "tenants", request_body = NewTenant,
    extensions(("x-ltmc-role" = json!(["operator"]))),
    responses((status = 201, body = Tenant)),
)]
async fn create(State(api): State<Api>, By(caller): By, Json(new): Json<NewTenant>) -> Answer {
    let tenant = api.access.create_tenant(&caller, new.name).await?;
    Ok((StatusCode::CREATED, axum::Json(Tenant::from(tenant))).into_response())
}

/// Delete a tenant
///
/// At once its keys are good no more, what is under way of it ends, and nothing of it is written. What it has goes in the background,
/// also over a restart: journals, shared context, components that nobody else has, and what the databases hold. Its name is free once
/// nothing is left; until then to make a tenant of that name is a conflict. That it was there, and who deleted it, stays in the audit. The only
/// tenant of a host is not deleted.
#[utoipa::path(
    delete, path = "/v1/tenants/{name}", tag = "tenants",
    params(("name" = String, Path, description = "Its name", example = "acme")),
    extensions(("x-ltmc-role" = json!(["operator"])), ("x-ltmc-codes" = json!(["conflict"]))),
    responses((status = 202, description = "Deleted; what it has goes")),
)]
async fn delete(State(api): State<Api>, By(caller): By, At(tenant): At<TenantId>) -> Answer {
    api.deletions.delete(&caller, &tenant).await?;
    Ok(StatusCode::ACCEPTED.into_response())
}

/// Show how much the key's own tenant has on disk
#[utoipa::path(
    get, path = "/v1/usage", tag = "tenants",
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"]))),
    responses((status = 200, body = Usage)),
)]
async fn own_usage(State(api): State<Api>, By(caller): By) -> Answer {
    let usage = api.access.disk_usage(&caller, None).await?;
    Ok(axum::Json(Usage::from(usage)).into_response())
}

/// Show how much a tenant has on disk
#[utoipa::path(
    get, path = "/v1/usage/{tenant}", tag = "tenants",
    params(("tenant" = String, Path, description = "The tenant's name", example = "acme")),
    extensions(("x-ltmc-role" = json!(["operator", "admin"]))),
    responses((status = 200, body = Usage)),
)]
async fn usage(State(api): State<Api>, By(caller): By, At(tenant): At<TenantId>) -> Answer {
    let usage = api.access.disk_usage(&caller, Some(&tenant)).await?;
    Ok(axum::Json(Usage::from(usage)).into_response())
}
