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
use crate::extract::{Asked, By, Document, Json};
use crate::page::{Page, Paging};

const LIST: &str = "tenants";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(list, create))
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
