//! Routes about the host itself: whether it lives and is ready, its metrics, its document.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use ltmc_model::caller::Role;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{Answer, Api, Check};
use crate::extract::By;
use crate::problem::Problem;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(index))
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(metrics))
        .routes(routes!(document))
        .routes(routes!(errors))
}

/// Where to find what.
#[derive(Serialize, ToSchema)]
struct Index {
    /// Always `ltmc`.
    #[schema(value_type = String, example = "ltmc")]
    name: &'static str,
    /// The host's version.
    #[schema(value_type = String, example = "0.1.0")]
    version: &'static str,
    /// The description of all routes.
    #[schema(value_type = String, example = "/openapi.json")]
    openapi: &'static str,
    /// Every code of a problem, explained.
    #[schema(value_type = String, example = "/docs/errors")]
    errors: &'static str,
}

/// Where to find what
#[utoipa::path(get, path = "/", tag = "host", responses((status = 200, body = Index)))]
async fn index() -> axum::Json<Index> {
    axum::Json(Index {
        name: "ltmc",
        version: env!("CARGO_PKG_VERSION"),
        openapi: "/openapi.json",
        errors: "/docs/errors",
    })
}

/// How the process is.
#[derive(Serialize, ToSchema)]
struct Healthy {
    /// Always `ok`.
    #[schema(value_type = String, example = "ok")]
    status: &'static str,
}

/// Whether the process lives
///
/// Answers as long as the process takes requests at all, and looks at nothing else.
#[utoipa::path(get, path = "/healthz", tag = "host", responses((status = 200, body = Healthy)))]
async fn healthz() -> axum::Json<Healthy> {
    axum::Json(Healthy { status: "ok" })
}

/// Whether the host can serve.
#[derive(Serialize, ToSchema)]
struct Readiness {
    /// Whether every check is good.
    ready: bool,
    /// What was looked at.
    checks: Vec<Check>,
}

/// Whether the host can serve
///
/// 200 if everything a request needs answers, 503 if not; the body says which check failed. The path of a call is tried: a
/// read of the record, a slot with a component that does nothing, a thread for files. What was found is good for a second. With the
/// operator's key there is more: whether the record has what was kept of its chains elsewhere.
#[utoipa::path(
    get, path = "/readyz", tag = "host",
    responses((status = 200, body = Readiness), (status = 503, description = "Not ready", body = Readiness)),
)]
async fn readyz(State(api): State<Api>, request: Request) -> axum::response::Response {
    let mut checks = api.health.checks().await;
    // Whoever has no key, or a wrong one, is answered all the same.
    let is_private = |check: &Check| check.for_operators;
    if checks.iter().any(is_private) && !is_operator(request, &api).await {
        checks.retain(|check| !is_private(check));
    }
    let ready = checks.iter().all(|check| check.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut response = (status, axum::Json(Readiness { ready, checks })).into_response();
    response.extensions_mut().insert(crate::edge::Whole);
    response
}

async fn is_operator(request: Request, api: &Api) -> bool {
    let by = By::from_request_parts(&mut request.into_parts().0, api).await;
    by.is_ok_and(|By(caller)| caller.role == Role::Operator)
}

/// Metrics for Prometheus
///
/// Needs an operator's key, for its labels name tenants, unless the host is configured with `metrics_public`.
#[utoipa::path(
    get, path = "/metrics", tag = "host",
    extensions(("x-ltmc-role" = json!(["operator"]))),
    responses((status = 200, description = "Prometheus' text format", body = String, content_type = "text/plain")),
)]
async fn metrics(State(api): State<Api>, request: Request) -> Answer {
    if !api.metrics_public {
        let By(caller) = By::from_request_parts(&mut request.into_parts().0, &api).await?;
        if caller.role != Role::Operator {
            return Err(Problem::new("denied", "The metrics name tenants: they are for an operator's key."));
        }
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (api.metrics)()).into_response())
}

/// This document
#[utoipa::path(
    get, path = "/openapi.json", tag = "host",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json")),
)]
async fn document(State(api): State<Api>) -> axum::response::Response {
    ([(header::CONTENT_TYPE, "application/json")], api.document.clone()).into_response()
}

/// Every code of a problem, explained
///
/// The `type` of a problem leads here.
#[utoipa::path(
    get, path = "/docs/errors", tag = "host",
    responses((status = 200, description = "Markdown", body = String, content_type = "text/markdown")),
)]
async fn errors() -> axum::response::Response {
    ([(header::CONTENT_TYPE, "text/markdown; charset=utf-8")], crate::docs::ERRORS).into_response()
}
