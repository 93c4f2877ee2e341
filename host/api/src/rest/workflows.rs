//! Workflow documents: put, shown as they were sent, deleted; and runs of them.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse as _;
use ltmc_model::{Timestamp, WorkflowName};
use ltmc_policy::Action;
use ltmc_ports::catalog::StoredWorkflow;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answers::ONE;
use crate::app::{Answer, Api};
use crate::extract::{Asked, At, By, may, media_type, whole};
use crate::page::{Page, Paging};
use crate::problem::{Problem, Result};

const LIST: &str = "workflows";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(get, put, delete)).routes(routes!(schema))
}

/// A workflow, without its document.
#[derive(Serialize, ToSchema)]
struct Workflow {
    /// Its name.
    #[schema(value_type = String, example = "review")]
    name: WorkflowName,
    /// Of the document as it was sent.
    #[schema(example = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    digest: String,
    /// When it was put.
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

impl From<StoredWorkflow> for Workflow {
    fn from(workflow: StoredWorkflow) -> Self {
        Self { name: workflow.name, digest: workflow.digest.to_string(), updated_at: workflow.updated_at }
    }
}

/// List workflows
#[utoipa::path(
    get, path = "/v1/workflows", tag = "workflows", params(Paging),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"]))),
    responses((status = 200, body = Page<Workflow>)),
)]
async fn list(State(api): State<Api>, By(caller): By, Asked(paging): Asked<Paging>) -> Answer {
    let limit = paging.limit()?;
    let found = api.workflows.list(&caller, paging.after(LIST)?.as_ref(), limit + 1).await?;
    let page = Page::of(LIST, limit, found, |workflow| workflow.name.to_string(), Workflow::from);
    Ok(axum::Json(page).into_response())
}

/// Show a workflow's document
///
/// As it was sent.
#[utoipa::path(
    get, path = "/v1/workflows/{name}", tag = "workflows",
    params(("name" = String, Path, description = "Its name", example = "review")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"]))),
    responses((
        status = 200, description = "The document",
        content((String = "application/yaml", example = json!("name: review\nflow:\n  sequence:\n    - agent: read-diff\n")), (Object = "application/json")),
    )),
)]
async fn get(State(api): State<Api>, By(caller): By, At(name): At<WorkflowName>) -> Answer {
    let room = api.answers.room(&caller, ONE)?;
    let workflow = api.workflows.get(&caller, &name).await?;
    let json = workflow.source.trim_start().starts_with('{');
    let content_type = HeaderValue::from_static(if json { "application/json" } else { "application/yaml" });
    let etag = HeaderValue::try_from(format!("\"{}\"", workflow.digest)).map_err(Problem::internal)?;
    Ok(([(header::CONTENT_TYPE, content_type), (header::ETAG, etag)], room.around(workflow.source.into())?)
        .into_response())
}

/// Put a workflow's document
///
/// It is checked whole: every fault is listed, with line and column, and the agents it names are looked up.
#[utoipa::path(
    put, path = "/v1/workflows/{name}", tag = "workflows",
    params(("name" = String, Path, description = "The name to store it under", example = "review")),
    request_body(description = "The document", content(
        (String = "application/yaml", example = json!("name: review\nflow:\n  sequence:\n    - agent: read-diff\n")),
        (Object = "application/json"),
    )),
    extensions(
        ("x-ltmc-role" = json!(["admin", "author"])),
        ("x-ltmc-codes" = json!(["unsupported-media-type", "too-many-schedules", "too-many-subscriptions"])),
    ),
    responses((status = 201, description = "New", body = Workflow), (status = 200, description = "Replaced", body = Workflow)),
)]
async fn put(State(api): State<Api>, By(caller): By, At(name): At<WorkflowName>, request: Request) -> Answer {
    may(request.extensions(), Action::PutWorkflow, &api).await?;
    check_type(request.headers())?;
    let (bytes, _held) = whole(request, Action::PutWorkflow, api.limits.document, &api).await?;
    let source = String::from_utf8(bytes.into())
        .map_err(|e| Problem::new("bad-workflow", format!("The document is not UTF-8: {}.", e.utf8_error())))?;
    let put = api.workflows.put(&caller, name, source).await?;
    let status = if put.created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, axum::Json(Workflow::from(put.workflow))).into_response())
}

/// The JSON Schema of workflow documents
///
/// For editors, which then say what can stand where, and what is wrong.
#[utoipa::path(
    get, path = "/v1/schemas/workflow.json", tag = "workflows",
    responses((status = 200, description = "JSON Schema, draft 2020-12", body = Object, content_type = "application/schema+json")),
)]
async fn schema() -> axum::response::Response {
    static SCHEMA: LazyLock<Bytes> = LazyLock::new(|| ltmc_model::workflow::schema::schema().to_string().into());
    ([(header::CONTENT_TYPE, "application/schema+json")], SCHEMA.clone()).into_response()
}

/// YAML by any of its names, JSON, or nothing said: JSON is YAML too, so that one reader does for all.
fn check_type(headers: &HeaderMap) -> Result<()> {
    let wrong = "A workflow's document is `application/yaml` or `application/json`.";
    match (headers.get(header::CONTENT_TYPE), media_type(headers)) {
        (None, _) => Ok(()),
        (_, Some(mime)) if matches!(mime.subtype().as_str(), "yaml" | "x-yaml" | "json" | "plain") => Ok(()),
        _ => Err(Problem::new("unsupported-media-type", wrong)),
    }
}

/// Delete a workflow
///
/// Runs under way keep the document they began with.
#[utoipa::path(
    delete, path = "/v1/workflows/{name}", tag = "workflows",
    params(("name" = String, Path, description = "Its name", example = "review")),
    extensions(("x-ltmc-role" = json!(["admin", "author"]))),
    responses((status = 204, description = "Deleted")),
)]
async fn delete(State(api): State<Api>, By(caller): By, At(name): At<WorkflowName>) -> Answer {
    api.workflows.delete(&caller, &name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
