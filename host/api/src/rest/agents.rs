//! Agents: pushed, looked at, deleted.

use axum::extract::{FromRequest as _, Multipart, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse as _;
use bytes::{Bytes, BytesMut};
use ltmc_model::agent::{AgentRef, Carry};
use ltmc_model::manifest::{Isolation, Manifest};
use ltmc_model::{AgentName, Timestamp};
use ltmc_policy::Action;
use ltmc_tenancy::agents::{self, AgentView};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answers::PAGE;
use crate::app::{Answer, Api};
use crate::body::{self, Interrupted};
use crate::extract::{Asked, At, By, has_come, incoming, may, media_type, whole};
use crate::page::{Page, Paging};
use crate::problem::{Problem, Result};

const LIST: &str = "agents";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(list)).routes(routes!(get, push, delete))
}

/// One version of an agent.
#[derive(Debug, Serialize, ToSchema)]
struct Agent {
    /// Under which it is called.
    #[schema(value_type = String, example = "read-diff")]
    name: AgentName,
    /// The package's version, where its manifest names one.
    #[schema(required, example = "0.1.0")]
    version: Option<String>,
    /// One sentence about it, where its manifest has one.
    #[schema(required)]
    description: Option<String>,
    /// Of the component's bytes; `name@digest` means this version for ever.
    #[schema(example = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08")]
    digest: String,
    /// The component's bytes.
    size: u64,
    /// What of its exports the host can run: `agent`, `validator`, `aggregator`, `command`.
    #[schema(value_type = Vec<String>, example = json!(["agent"]))]
    exports: Vec<ltmc_model::agent::Export>,
    /// What its attempts rely on of what they read: `read-committed`, or `serializable`, all of it.
    #[schema(value_type = String, example = "read-committed")]
    isolation: Isolation,
    /// What it asks to be woken by: subscriptions, each as an entry of `on` in a workflow's document. They start it once somebody accepts them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    subscriptions: Vec<serde_json::Value>,
    /// What it may do; a key of the role `caller` is not shown it.
    #[serde(flatten)]
    terms: Option<Terms>,
    /// Of a push: the version whose grants this one took over.
    #[serde(skip_serializing_if = "Option::is_none")]
    grants_of: Option<String>,
    /// When this version was pushed.
    #[schema(value_type = String, format = DateTime)]
    pushed_at: Timestamp,
}

/// What an agent may do.
#[derive(Debug, Serialize, ToSchema)]
struct Terms {
    /// The capabilities it asks for. Asking grants nothing.
    #[schema(example = json!(["memory:read:session"]))]
    asks: Vec<String>,
    /// The capabilities that this version was granted.
    #[schema(example = json!([]))]
    grants: Vec<String>,
    /// Whether the next version takes them over: `never`, or `same-asks`, where it asks for nothing that this one does not.
    #[schema(value_type = String, example = "never")]
    carry: Carry,
    /// What it asks for and is not in force: not granted, or withheld by the tenant's ceiling.
    #[schema(example = json!(["memory:read:session"]))]
    missing: Vec<String>,
    /// What of all that it asks for or was granted the tenant's ceiling withholds, whatever is granted: the operator sets it.
    #[schema(example = json!([]))]
    withheld: Vec<String>,
}

impl From<AgentView> for Agent {
    fn from(AgentView { agent, terms }: AgentView) -> Self {
        let text = |capabilities: Vec<_>| capabilities.into_iter().map(String::from).collect();
        let subscriptions = if terms.is_some() { agent.manifest.subscriptions } else { Vec::new() };
        let asks = agent.manifest.asks;
        let terms = terms.map(|agents::Terms { grants, carry, missing, withheld }| Terms {
            asks: text(asks),
            grants: text(grants),
            carry,
            missing: text(missing),
            withheld: text(withheld),
        });
        Self {
            name: agent.name,
            version: agent.manifest.version,
            description: agent.manifest.description,
            digest: agent.digest.to_string(),
            size: agent.size,
            exports: agent.exports,
            isolation: agent.manifest.isolation,
            subscriptions,
            terms,
            grants_of: None,
            pushed_at: agent.pushed_at,
        }
    }
}

/// List agents
///
/// The newest version of each, by name.
#[utoipa::path(
    get, path = "/v1/agents", tag = "agents", params(Paging),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"]))),
    responses((status = 200, body = Page<Agent>)),
)]
async fn list(State(api): State<Api>, By(caller): By, Asked(paging): Asked<Paging>) -> Answer {
    let limit = paging.limit()?;
    let room = api.answers.room(&caller, PAGE)?;
    let found = api.agents.list(&caller, paging.after(LIST)?.as_ref(), limit + 1).await?;
    let page = Page::of(LIST, limit, found, |view| view.agent.name.to_string(), Agent::from);
    room.json(&page)
}

/// Show an agent
#[utoipa::path(
    get, path = "/v1/agents/{name}", tag = "agents",
    params(("name" = String, Path, description = "A name, for its newest version, or `name@sha256:…`", example = "read-diff")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"]))),
    responses((status = 200, body = Agent)),
)]
async fn get(State(api): State<Api>, By(caller): By, At(agent): At<AgentRef>) -> Answer {
    let view = api.agents.get(&caller, &agent).await?;
    Ok(axum::Json(Agent::from(view)).into_response())
}

/// Push an agent
///
/// The body is a WebAssembly component. A form's part `manifest` wins over the manifest inside the component; a version that is there already keeps the one it has
/// where none comes beside it. A new version
/// can do nothing until it is granted what it asks for, unless it takes over what the one before was granted, by the rule
/// these grants were given with.
#[utoipa::path(
    put, path = "/v1/agents/{name}", tag = "agents",
    params(("name" = String, Path, description = "The name to store it under", example = "read-diff")),
    request_body(
        description = "The component, alone or with its manifest",
        content(
            (Vec<u8> = "application/wasm"),
            (Form = "multipart/form-data"),
        ),
    ),
    extensions(("x-ltmc-role" = json!(["admin", "author"]))),
    responses(
        (status = 201, description = "A new version", body = Agent),
        (status = 200, description = "This version was there already", body = Agent),
    ),
)]
async fn push(State(api): State<Api>, By(caller): By, At(name): At<AgentName>, request: Request) -> Answer {
    let upload = Upload::read(request, &api).await?;
    let pushed = api.agents.push(&caller, name, upload.component, upload.manifest).await?;
    let status = if pushed.created { StatusCode::CREATED } else { StatusCode::OK };
    let mut headers = HeaderMap::new();
    if pushed.created
        && let Ok(location) = format!("/v1/agents/{}", pushed.view.agent.name).try_into()
    {
        headers.insert(header::LOCATION, location);
    }
    let grants_of = pushed.grants_of.map(|version| version.to_string());
    Ok((status, headers, axum::Json(Agent { grants_of, ..pushed.view.into() })).into_response())
}

/// Delete an agent
///
/// With all its versions and grants. Runs under way keep what they began with.
#[utoipa::path(
    delete, path = "/v1/agents/{name}", tag = "agents",
    params(("name" = String, Path, description = "Its name", example = "read-diff")),
    extensions(("x-ltmc-role" = json!(["admin"]))),
    responses((status = 204, description = "Deleted")),
)]
async fn delete(State(api): State<Api>, By(caller): By, At(name): At<AgentName>) -> Answer {
    api.agents.delete(&caller, &name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A component with its manifest.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the form in the document")]
struct Form {
    /// The component.
    #[schema(content_media_type = "application/wasm")]
    component: Vec<u8>,
    /// Its manifest, as JSON.
    #[schema(value_type = Option<Object>, content_media_type = "application/json")]
    manifest: Option<String>,
}

/// What came with a push.
struct Upload {
    /// The bytes count as long as they are held: the push goes on where its client goes away.
    component: Bytes,
    manifest: Option<Manifest>,
}

impl Upload {
    async fn read(request: Request, api: &Api) -> Result<Self> {
        may(request.extensions(), Action::PushAgent, api).await?;
        match media_type(request.headers()).as_ref().map(mime::Mime::essence_str) {
            Some("application/wasm") => {
                let (component, held) = whole(request, Action::PushAgent, api.limits.upload, api).await?;
                Ok(Self { component: held.around(component), manifest: None })
            }
            Some("multipart/form-data") => Self::read_form(request, api).await,
            _ => Err(Problem::new(
                "unsupported-media-type",
                "An agent is pushed as `Content-Type: application/wasm`, or as `multipart/form-data` with the parts \
                 `component` and `manifest`.",
            )),
        }
    }

    async fn read_form(request: Request, api: &Api) -> Result<Self> {
        let (mut head, incoming) = incoming(request, Action::PushAgent, api.limits.upload, api).await?;
        let held = incoming.held();
        let asked = head.clone();
        head.extensions.clear();
        let mut request = Request::from_parts(head, axum::body::Body::from_stream(incoming));
        axum::extract::DefaultBodyLimit::disable().apply(&mut request);
        let mut form = Multipart::from_request(request, &()).await.map_err(|e| bad_form(&e))?;
        let (mut component, mut manifest) = (None, None);
        while let Some(mut field) = form.next_field().await.map_err(|e| bad_form(&e))? {
            let name = field.name().unwrap_or_default().to_owned();
            let (into, limit) = match name.as_str() {
                "component" => (&mut component, api.limits.upload),
                "manifest" => (&mut manifest, Manifest::MAX_LEN as u64),
                _ => return Err(wrong_form("A form has the parts `component` and `manifest`, and no others.")),
            };
            let mut part = BytesMut::new();
            while let Some(chunk) = field.chunk().await.map_err(|e| bad_form(&e))? {
                if (part.len() + chunk.len()) as u64 > limit {
                    return Err(body::too_large(limit).field(name));
                }
                part.extend_from_slice(&chunk);
            }
            if into.replace(part.freeze()).is_some() {
                return Err(wrong_form("A part stands in the form twice.").field(name));
            }
        }
        has_come(&asked, api).await?;
        let component = component.ok_or_else(|| wrong_form("The form has no part `component`.").field("component"))?;
        let manifest = manifest
            .map(|json| Manifest::parse(&json).map_err(|why| Problem::new("bad-manifest", why).field("manifest")));
        Ok(Self { component: held.around(component), manifest: manifest.transpose()? })
    }
}

fn wrong_form(why: &'static str) -> Problem {
    Problem::new("bad-multipart", why)
}

/// The form's reader wraps what the body said: that comes first.
fn bad_form(error: &(dyn std::error::Error + 'static)) -> Problem {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(Interrupted(problem)) = error.downcast_ref() {
            return problem.clone();
        }
        source = error.source();
    }
    Problem::new("bad-multipart", format!("The form does not parse: {error}."))
}
