//! Memory: keys and values of a tenant, of a session, of an agent; with revisions as entity tags, and changes as events.

use std::str::FromStr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use ltmc_context::clients::Owner;
use ltmc_model::call::memory as call;
use ltmc_model::memory::{Drawer, Item, MAX_VALUE, Precondition, Scope};
use ltmc_model::merge::Merge;
use ltmc_model::{AgentName, Revision, SessionId};
use ltmc_policy::Action;
use ltmc_tenancy::compute::LARGE;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::context::refused;
use crate::answers::{ONE, PAGE};
use crate::app::{Answer, Api};
use crate::extract::{Asked, At, AtBoth, By, media_type, parsed, whole};
use crate::page::{Page, Paging};
use crate::problem::{Problem, Result};

const LIST: &str = "memory";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(get, put, patch, delete))
}

/// Whose memory a key is in, and how long a new value lives.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Of {
    /// The session or the agent whose scope it is; none for `global`.
    owner: Option<String>,
    /// Of a new value: how long it lives, such as `30s`; none: for ever.
    ttl: Option<String>,
}

/// Which entries of a scope's memory are listed, a page at a time.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Which {
    /// The session or the agent whose scope it is; none for `global`.
    owner: Option<String>,
    /// What the keys begin with.
    prefix: Option<String>,
    /// Items of a page, 1 to 500.
    #[param(minimum = 1, maximum = 500, default = 50)]
    limit: Option<u32>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// A key and what it holds.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = MemoryEntry)]
pub(super) struct Entry {
    key: String,
    /// As JSON, where it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    json: Option<serde_json::Value>,
    /// As base64, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    /// Its version, which is its entity tag too.
    revision: u64,
    /// When it ends; none: stays until deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<ltmc_model::Timestamp>,
}

impl From<Item> for Entry {
    fn from(item: Item) -> Self {
        let (json, base64) = shown(&item.value);
        Self { key: item.key, json, base64, revision: item.revision.0, expires_at: item.expires_at }
    }
}

/// A value in JSON: itself, or base64.
pub(super) fn shown(value: &[u8]) -> (Option<serde_json::Value>, Option<String>) {
    use base64::Engine as _;
    match serde_json::from_slice::<serde_json::Value>(value) {
        Ok(json) if !json.is_null() => (Some(json), None),
        _ => (None, Some(base64::engine::general_purpose::STANDARD.encode(value))),
    }
}

/// The new version of a key.
#[derive(Debug, Serialize, ToSchema)]
struct Written {
    /// Its version, which is its entity tag too.
    revision: u64,
}

/// List keys
///
/// In the byte order of the keys.
#[utoipa::path(
    get, path = "/v1/memory/{scope}", tag = "context",
    params(("scope" = String, Path, description = "`global`, `session` or `agent`", example = "global"), Which),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"])), ("x-ltmc-codes" = json!(["invalid"]))),
    responses((status = 200, body = Page<Entry>)),
)]
async fn list(State(api): State<Api>, By(caller): By, At(scope): At<Scope>, Asked(which): Asked<Which>) -> Answer {
    let paging = Paging { limit: which.limit, cursor: which.cursor };
    let limit = paging.limit()?;
    let owner = owner(scope, which.owner)?;
    let prefix = which.prefix.unwrap_or_default();
    let room = api.answers.room(&caller, PAGE)?;
    let call = call::List { scope, prefix, cursor: paging.after(LIST)?, limit: limit + 1 };
    let found = api.clients.call(&caller, &owner, call).await?.map_err(refused)?;
    // The store's page may be shorter than asked for, for it is bounded in bytes too.
    let (more, count) = (found.next.is_some(), u32::try_from(found.items.len()).unwrap_or(limit));
    let limit = if more { limit.min(count) } else { limit };
    let mut page = Page::of(LIST, limit, found.items, |item| item.key.clone(), Entry::from);
    if more && page.next.is_none() {
        page.next = found.next.map(|key| crate::page::seal(LIST, &key));
    }
    room.json(&page)
}

/// Read a key
///
/// The value as it is. `ETag` is its revision.
#[utoipa::path(
    get, path = "/v1/memory/{scope}/{key}", tag = "context",
    params(
        ("scope" = String, Path, description = "`global`, `session` or `agent`", example = "global"),
        ("key" = String, Path, description = "The key, percent-encoded", example = "plan%2Ftoday"), Of,
    ),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"])), ("x-ltmc-codes" = json!(["invalid"]))),
    responses((status = 200, description = "The value", body = String, content_type = "application/octet-stream")),
)]
async fn get(
    State(api): State<Api>,
    By(caller): By,
    AtBoth(scope, key): AtBoth<Scope, String>,
    Asked(of): Asked<Of>,
    headers: HeaderMap,
) -> Answer {
    let room = api.answers.room(&caller, ONE)?;
    let call = call::Get { scope, key: key.clone() };
    match api.clients.call(&caller, &owner(scope, of.owner)?, call).await?.map_err(refused)? {
        Some(item) => {
            let tag = tag(item.revision);
            if headers.get_all(header::IF_NONE_MATCH).iter().any(|known| *known == tag) {
                return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
            }
            let kind = HeaderValue::from_static("application/octet-stream");
            let mut response =
                ([(header::CONTENT_TYPE, kind), (header::ETAG, tag)], room.around(item.value)?).into_response();
            if let Some(at) = item.expires_at.and_then(|at| HeaderValue::try_from(at.to_string()).ok()) {
                response.headers_mut().insert("ltmc-expires-at", at);
            }
            Ok(response)
        }
        None => Err(Problem::new("not-found", format!("The key `{key}` holds nothing."))),
    }
}

/// Write a key
///
/// `If-Match` with the entity tag that was read writes only where nobody wrote since, `If-None-Match: *` only where there
/// is nothing.
#[utoipa::path(
    put, path = "/v1/memory/{scope}/{key}", tag = "context",
    params(
        ("scope" = String, Path, description = "`global`, `session` or `agent`", example = "global"),
        ("key" = String, Path, description = "The key, percent-encoded", example = "plan%2Ftoday"), Of,
        ("If-Match" = Option<String>, Header, description = "Its entity tag"),
        ("If-None-Match" = Option<String>, Header, description = "`*`"),
    ),
    request_body(content = String, content_type = "application/octet-stream", description = "The value, at most 1 MiB"),
    extensions(("x-ltmc-role" = json!(["admin", "author"])), ("x-ltmc-codes" = json!(["invalid", "precondition-failed", "quota-exceeded"]))),
    responses((status = 200, body = Written)),
)]
async fn put(
    State(api): State<Api>,
    By(caller): By,
    AtBoth(scope, key): AtBoth<Scope, String>,
    Asked(of): Asked<Of>,
    request: Request,
) -> Answer {
    let (owner, ttl_ms) = (owner(scope, of.owner)?, ttl(of.ttl.as_deref())?);
    let precondition = precondition(request.headers())?;
    let (value, _held) = whole(request, Action::WriteContext, MAX_VALUE as u64, &api).await?;
    let call = call::Put { scope, key, value, precondition, ttl_ms };
    let revision = api.clients.call(&caller, &owner, call).await?.map_err(refused)?;
    Ok(written(revision, &Written { revision: revision.0 }))
}

/// Update a key
///
/// Makes the new value of the one before, in one step that nobody can come between. The body is a JSON merge patch
/// (`application/merge-patch+json`), or an object with one of `increment`, `append`, `union`, `merge-patch`, `set`.
#[utoipa::path(
    patch, path = "/v1/memory/{scope}/{key}", tag = "context",
    params(
        ("scope" = String, Path, description = "`global`, `session` or `agent`", example = "global"),
        ("key" = String, Path, description = "The key, percent-encoded", example = "count"), Of,
    ),
    request_body(content = Object, content_type = "application/json", description = "A rule", example = json!({"increment": 1})),
    extensions(("x-ltmc-role" = json!(["admin", "author"])), ("x-ltmc-codes" = json!(["invalid", "unsupported-media-type", "quota-exceeded"]))),
    responses((status = 200, description = "The entry as it now is", body = Entry)),
)]
async fn patch(
    State(api): State<Api>,
    By(caller): By,
    AtBoth(scope, key): AtBoth<Scope, String>,
    Asked(of): Asked<Of>,
    request: Request,
) -> Answer {
    let (owner, ttl_ms) = (owner(scope, of.owner)?, ttl(of.ttl.as_deref())?);
    let essence = media_type(request.headers()).map(|mime| mime.essence_str().to_owned());
    let (body, _held) = whole(request, Action::WriteContext, MAX_VALUE as u64, &api).await?;
    let text = std::str::from_utf8(&body).map_err(|_| Problem::new("bad-json", "The body is not UTF-8."))?;
    let merge = match essence.as_deref() {
        Some("application/merge-patch+json") => Merge::MergePatch(text.to_owned()),
        Some("application/json") if body.len() > LARGE => {
            let rule = body.clone();
            api.compute.run(&caller.tenant, move || parsed::<Rule>(&rule).map(Merge::from)).await??
        }
        Some("application/json") => parsed::<Rule>(&body)?.into(),
        _ => {
            let takes = "This route takes `application/json` or `application/merge-patch+json`.";
            return Err(Problem::new("unsupported-media-type", takes));
        }
    };
    let call = call::Update { scope, key, merge, ttl_ms };
    let item = api.clients.call(&caller, &owner, call).await?.map_err(refused)?;
    Ok(written(item.revision, &Entry::from(item)))
}

/// A merge rule, as a body writes it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Rule {
    Set(serde_json::Value),
    Increment(i64),
    Append(serde_json::Value),
    Union(Vec<serde_json::Value>),
    MergePatch(serde_json::Value),
}

impl From<Rule> for Merge {
    fn from(rule: Rule) -> Self {
        match rule {
            Rule::Set(value) => Self::Set(value.to_string().into()),
            Rule::Increment(by) => Self::Increment(by),
            Rule::Append(value) => Self::Append(value.to_string()),
            Rule::Union(values) => Self::Union(serde_json::Value::Array(values).to_string()),
            Rule::MergePatch(patch) => Self::MergePatch(patch.to_string()),
        }
    }
}

/// Delete a key
#[utoipa::path(
    delete, path = "/v1/memory/{scope}/{key}", tag = "context",
    params(
        ("scope" = String, Path, description = "`global`, `session` or `agent`", example = "global"),
        ("key" = String, Path, description = "The key, percent-encoded", example = "plan%2Ftoday"), Of,
        ("If-Match" = Option<String>, Header, description = "Its entity tag"),
    ),
    extensions(("x-ltmc-role" = json!(["admin", "author"])), ("x-ltmc-codes" = json!(["invalid", "precondition-failed"]))),
    responses((status = 204, description = "Deleted")),
)]
async fn delete(
    State(api): State<Api>,
    By(caller): By,
    AtBoth(scope, key): AtBoth<Scope, String>,
    Asked(of): Asked<Of>,
    headers: HeaderMap,
) -> Answer {
    let call = call::Delete { scope, key: key.clone(), precondition: precondition(&headers)? };
    match api.clients.call(&caller, &owner(scope, of.owner)?, call).await?.map_err(refused)? {
        true => Ok(StatusCode::NO_CONTENT.into_response()),
        false => Err(Problem::new("not-found", format!("The key `{key}` holds nothing."))),
    }
}

/// Whose scope is meant.
pub(super) fn owner(scope: Scope, owner: Option<String>) -> Result<Owner> {
    fn named<T: FromStr<Err: std::fmt::Display>>(owner: Option<String>, what: &str) -> Result<Option<T>> {
        let owner = owner.ok_or_else(|| {
            Problem::new("bad-query", format!("`owner` names the {what} whose memory is meant.")).field("owner")
        })?;
        owner.parse().map(Some).map_err(|e| Problem::new("bad-query", format!("{e}")).field("owner"))
    }
    match scope {
        Scope::Global if owner.is_some() => {
            Err(Problem::new("bad-query", "The scope `global` is the tenant's: it has no `owner`.").field("owner"))
        }
        Scope::Global => Ok(Owner::default()),
        Scope::Session => Ok(Owner { session: named::<SessionId>(owner, "session")?, agent: None }),
        Scope::Agent => Ok(Owner { session: None, agent: named::<AgentName>(owner, "agent")? }),
        Scope::State => {
            Err(Problem::new("invalid", "States of agents are read and set at `/v1/agents/{name}/state`.")
                .field("scope"))
        }
    }
}

/// The drawer of a scope.
pub(super) fn drawer(scope: Scope, of: Option<String>) -> Result<Drawer> {
    let owner = owner(scope, of)?;
    Ok(match (owner.session, owner.agent) {
        (Some(session), _) => Drawer::Session(session),
        (_, Some(agent)) => Drawer::Agent(agent),
        _ => Drawer::Global,
    })
}

pub(super) fn ttl(text: Option<&str>) -> Result<Option<u64>> {
    let Some(text) = text else { return Ok(None) };
    let ttl: Duration = humantime::parse_duration(text).map_err(|_| {
        Problem::new("bad-query", format!("`{text}` is not a duration, such as `30s` or `2h`.")).field("ttl")
    })?;
    Ok(Some(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)))
}

fn tag(revision: Revision) -> HeaderValue {
    HeaderValue::try_from(format!("\"{revision}\"")).unwrap_or(HeaderValue::from_static("\"0\""))
}

fn written<T: Serialize>(revision: Revision, body: &T) -> Response {
    ([(header::ETAG, tag(revision))], axum::Json(body)).into_response()
}

fn precondition(headers: &HeaderMap) -> Result<Precondition> {
    let one =
        |name: &header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default().trim().to_owned());
    match (one(&header::IF_MATCH), one(&header::IF_NONE_MATCH)) {
        (None, None) => Ok(Precondition::Any),
        (None, Some(any)) if any == "*" => Ok(Precondition::Absent),
        (None, Some(_)) => Err(Problem::new("bad-header", "`If-None-Match` is `*` here.").field("If-None-Match")),
        (Some(tag), None) => {
            let revision = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).and_then(|tag| tag.parse().ok());
            revision.map(|revision| Precondition::Revision(Revision(revision))).ok_or_else(|| {
                Problem::new("bad-header", "`If-Match` is an entity tag as it was answered, such as `\"17\"`.")
                    .field("If-Match")
            })
        }
        (Some(_), Some(_)) => {
            Err(Problem::new("bad-header", "One of `If-Match` and `If-None-Match`, not both.").field("If-Match"))
        }
    }
}
