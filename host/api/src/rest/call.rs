//! What starts something: a call of an agent, a run of a workflow. And how it ended, as an answer.
//!
//! Invariants: the payload's bytes are passed on as they came, in and out. A client that goes away while it waits for a
//! call, without a bound and without a key to ask for it again, cancels the call; any other cancels nothing. (One that closes its
//! side of the connection has gone away, as far as can be told.) What an agent returned is never taken for a page: its
//! content type is checked, and a browser is told not to guess and not to run it.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use ltmc_model::agent::AgentRef;
use ltmc_model::caller::Caller;
use ltmc_model::{Digest, Payload, RunId, SessionId, WorkflowName};
use ltmc_orchestration::{CallRequest, StartRequest, Started};
use ltmc_policy::Action;
use ltmc_tenancy::compute::LARGE;
use serde::Serialize;
use sha2::Digest as _;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{Answer, Api};
use crate::body::Held;
use crate::crowd::Connection;
use crate::extract::{At, By, whole};
use crate::headers::{self, IDEMPOTENT_REPLAYED, LTMC_RUN, PREFERENCE_APPLIED, Prefer};
use crate::problem::{Problem, Result};

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(call)).routes(routes!(start))
}

/// Call an agent
///
/// Any body with its content type is the payload. The answer is the agent's payload in its own content type; the call
/// and everything it did is kept as a run, which `Ltmc-Run` names.
#[utoipa::path(
    post, path = "/v1/agents/{name}/call", tag = "agents",
    params(
        ("name" = String, Path, description = "A name, for its newest version, or `name@sha256:…`", example = "read-diff"),
        ("Ltmc-Session" = Option<String>, Header, description = "The session to work in; left out: a new one. One that a key of the role `caller` names is that key's own"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters. The same key and request within 24 hours mean the same run; the same key with another request is refused"),
        ("Prefer" = Option<String>, Header, description = "`respond-async`: 202 at once. `wait=30`: 202 if it takes longer, at most 60 seconds", example = "respond-async"),
        ("traceparent" = Option<String>, Header, description = "W3C Trace Context, kept with the run"),
        ("Ltmc-Run" = Option<String>, Header, description = "The run in which you work: what is begun follows from what that follows from"),
    ),
    request_body(description = "The payload", content(
        (Vec<u8> = "*/*"), (Object = "application/json"), (String = "text/plain"),
    )),
    extensions(
        ("x-ltmc-role" = json!(["admin", "author", "caller"])),
        ("x-ltmc-codes" = json!(["agent-error", "agent-trapped", "limit-cpu", "limit-memory", "busy", "cancelled"])),
    ),
    responses(
        (status = 200, description = "The agent's payload, in its content type", content((Vec<u8> = "*/*")),
            headers(("Ltmc-Run" = String, description = "The run"), ("Idempotent-Replayed" = String, description = "`true`: the answer is that of an earlier request"))),
        (status = 202, description = "It runs", body = Accepted, headers(("Location" = String, description = "The run"))),
    ),
)]
async fn call(
    State(api): State<Api>,
    By(caller): By,
    At(agent): At<AgentRef>,
    connection: Option<Extension<Arc<Connection>>>,
    request: Request,
) -> Answer {
    let prefer = Prefer::of(request.headers());
    let work = Work::read(request, &caller, "call", &agent, &api).await?;
    let wait = if prefer.respond_async { Wait::Not } else { prefer.wait.map_or(Wait::ToTheEnd, Wait::For) };
    let cancel_on_disconnect = matches!(wait, Wait::ToTheEnd) && work.idempotency.is_none();
    let request = CallRequest {
        agent,
        input: work.input,
        session: work.session,
        idempotency: work.idempotency,
        request_digest: work.digest,
        traceparent: work.traceparent,
        cancel_on_disconnect,
    };
    let answer = async {
        let started = api.runs.call(&caller, request).await?;
        finish(&api, &caller, started, wait, prefer).await
    };
    match connection {
        Some(Extension(connection)) if cancel_on_disconnect => tokio::select! {
            biased;
            answer = answer => answer,
            () = connection.half_closed().cancelled() => Err(Problem::new("cancelled", GONE)),
        },
        _ => answer.await,
    }
}

/// What a client learns that has only said that it sends nothing more: one that has gone says the same.
const GONE: &str = "The call ended because its client closed its side of the connection. \
                    Send `Prefer: wait` or an `Idempotency-Key` to have it go on.";

/// Run a workflow
///
/// Any body with its content type is the workflow's input. With `Prefer: wait=30` the answer is the result, if it is
/// there by then.
#[utoipa::path(
    post, path = "/v1/workflows/{name}/runs", tag = "workflows",
    params(
        ("name" = String, Path, description = "The workflow's name", example = "review"),
        ("Ltmc-Session" = Option<String>, Header, description = "The session to work in; left out: a new one. One that a key of the role `caller` names is that key's own"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters. The same key and request within 24 hours mean the same run; the same key with another request is refused"),
        ("Prefer" = Option<String>, Header, description = "`wait=30`: the result, if it is there within so many seconds, at most 60", example = "wait=30"),
        ("traceparent" = Option<String>, Header, description = "W3C Trace Context, kept with the run"),
        ("Ltmc-Run" = Option<String>, Header, description = "The run in which you work: what is begun follows from what that follows from"),
    ),
    request_body(description = "The input", content(
        (Vec<u8> = "*/*"), (Object = "application/json"), (String = "text/plain"),
    )),
    extensions(
        ("x-ltmc-role" = json!(["admin", "author", "caller"])),
        ("x-ltmc-codes" = json!(["agent-error", "agent-trapped", "limit-cpu", "limit-memory", "busy", "cancelled"])),
    ),
    responses(
        (status = 200, description = "The result, in its content type", content((Vec<u8> = "*/*")), headers(("Ltmc-Run" = String, description = "The run"))),
        (status = 202, description = "It runs", body = Accepted, headers(("Location" = String, description = "The run"))),
    ),
)]
async fn start(State(api): State<Api>, By(caller): By, At(workflow): At<WorkflowName>, request: Request) -> Answer {
    let prefer = Prefer::of(request.headers());
    let work = Work::read(request, &caller, "run", &workflow, &api).await?;
    let started = api
        .runs
        .start(
            &caller,
            StartRequest {
                workflow,
                input: work.input,
                session: work.session,
                idempotency: work.idempotency,
                request_digest: work.digest,
                traceparent: work.traceparent,
            },
        )
        .await?;
    let wait = if prefer.respond_async { Wait::Not } else { prefer.wait.map_or(Wait::Not, Wait::For) };
    finish(&api, &caller, started, wait, prefer).await
}

/// What is to be done, from a request's head and body.
pub(super) struct Work {
    pub(super) input: Payload,
    pub(super) session: Option<SessionId>,
    pub(super) idempotency: Option<String>,
    pub(super) digest: Digest,
    pub(super) traceparent: Option<String>,
    /// The input's bytes count until the run has them.
    _held: Held,
}

impl Work {
    pub(super) async fn read(
        request: Request,
        caller: &Caller,
        verb: &'static str,
        target: &impl std::fmt::Display,
        api: &Api,
    ) -> Result<Self> {
        let head = request.headers();
        let content_type = headers::content_type(head)?;
        let session = headers::session(head)?;
        let idempotency = headers::idempotency_key(head)?;
        let traceparent = headers::traceparent(head).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (bytes, held) = whole(request, Action::Run, api.limits.payload, api).await?;
        let input = Payload { content_type, bytes };
        let digest = match &idempotency {
            Some(_) if input.bytes.len() > LARGE => {
                let (target, session, input) = (target.to_string(), session.clone(), input.clone());
                let digest = move || digest(verb, &target, session.as_ref(), &input);
                api.compute.run(&caller.tenant, digest).await?
            }
            Some(_) => digest(verb, target, session.as_ref(), &input),
            // compared with nothing
            None => Digest([0; 32]),
        };
        Ok(Self { input, session, idempotency, digest, traceparent, _held: held })
    }
}

/// What makes two requests the same.
pub(super) fn digest(
    verb: &str,
    target: &impl std::fmt::Display,
    session: Option<&SessionId>,
    input: &Payload,
) -> Digest {
    let session = session.map_or("", SessionId::as_str);
    let mut hash = sha2::Sha256::new();
    // none of the first four holds a line feed
    let content_type = same(&input.content_type);
    hash.update(format!("{verb}\n{target}\n{session}\n{content_type}\n"));
    hash.update(&input.bytes);
    Digest(hash.finalize().into())
}

/// A content type, as two of them are the same: a text that says nothing of its charset is in UTF-8.
fn same(content_type: &str) -> String {
    let Ok(mime) = content_type.parse::<mime::Mime>() else { return content_type.to_owned() };
    let mut same = mime.essence_str().to_owned();
    // How they are set apart says nothing.
    mime.params().for_each(|(name, value)| same.extend(["; ", name.as_str(), "=", value.as_str()]));
    if mime.type_() == mime::TEXT && mime.get_param(mime::CHARSET).is_none() {
        same.push_str("; charset=utf-8");
    }
    same.to_ascii_lowercase()
}

/// For how long to wait for the end.
pub(super) enum Wait {
    Not,
    For(Duration),
    ToTheEnd,
}

pub(super) async fn finish(api: &Api, caller: &Caller, started: Started, wait: Wait, prefer: Prefer) -> Answer {
    let waited = |patience| api.access.while_good(caller, api.runs.wait(caller, &started, patience));
    let ending = match wait {
        // Also one that nobody waits for: what is accepted is on disk.
        Wait::Not => api.runs.wait(caller, &started, Some(Duration::ZERO)).await?.filter(|_| false),
        // Who waits is told only what he may still ask for; a call that ends with its client ends with its key.
        Wait::For(span) => waited(Some(span)).await??,
        Wait::ToTheEnd => waited(None).await??,
    };
    let mut response = match ending {
        None => accepted(started.run)?,
        Some(Ok(output)) => returned(started.run, output),
        Some(Err(failure)) => return Err(Problem::ending(started.run, failure)),
    };
    let headers = response.headers_mut();
    if started.attached {
        headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    if prefer.respond_async {
        headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static("respond-async"));
    } else if let Some(wait) = prefer.wait {
        let applied = HeaderValue::try_from(format!("wait={}", wait.as_secs()));
        headers.insert(PREFERENCE_APPLIED, applied.map_err(Problem::internal)?);
    }
    Ok(response)
}

/// A run that goes on without its client.
#[derive(Serialize, ToSchema)]
pub(super) struct Accepted {
    /// The run; `Location` leads to it.
    #[schema(value_type = String, format = Uuid)]
    run: RunId,
}

pub(super) fn accepted(run: RunId) -> Answer {
    accepted_with(run, Accepted { run })
}

/// The same, with more to be said of it.
pub(super) fn accepted_with(run: RunId, body: impl Serialize) -> Answer {
    let location = HeaderValue::try_from(format!("/v1/runs/{run}")).map_err(Problem::internal)?;
    let headers = [(header::LOCATION, location), (LTMC_RUN, run_header(run))];
    Ok((StatusCode::ACCEPTED, headers, axum::Json(body)).into_response())
}

/// A run's result as it came from the agent.
pub(super) fn returned(run: RunId, output: Payload) -> Response {
    let mut response = Response::new(Body::from(output.bytes));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, content_type(&output.content_type));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox"));
    headers.insert(LTMC_RUN, run_header(run));
    response
}

/// What an agent said its result is, if it can stand in a header.
fn content_type(said: &str) -> HeaderValue {
    let bytes = HeaderValue::from_static("application/octet-stream");
    if said == Payload::JSON {
        return HeaderValue::from_static(Payload::JSON);
    }
    match said.parse::<mime::Mime>() {
        Ok(_) if said.len() <= Payload::MAX_CONTENT_TYPE => HeaderValue::try_from(said).unwrap_or(bytes),
        _ => bytes,
    }
}

fn run_header(run: RunId) -> HeaderValue {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    HeaderValue::from_str(run.0.hyphenated().encode_lower(&mut text)).unwrap_or(HeaderValue::from_static("unnamed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_agent_says_its_result_is_stands_in_the_header_only_if_it_can() {
        for good in ["application/json", "text/plain; charset=utf-8", "image/svg+xml"] {
            assert_eq!(content_type(good), good);
        }
        for bad in ["", "text", "text/html\r\nSet-Cookie: a=b", "text/ä", &format!("a/{}", "b".repeat(300))] {
            assert_eq!(content_type(bad), "application/octet-stream", "{bad}");
        }
    }

    #[test]
    fn a_text_is_the_same_with_its_charset_and_without() {
        let of = |content_type: &str| {
            digest("say", &"s", None, &Payload { content_type: content_type.into(), bytes: "hello".into() })
        };
        for like in ["text/plain; charset=utf-8", "Text/Plain;charset=UTF-8"] {
            assert_eq!(of("text/plain"), of(like), "{like}");
        }
        for other in ["text/plain; charset=latin1", "text/markdown", "application/json"] {
            assert_ne!(of("text/plain"), of(other), "{other}");
        }
    }

    #[test]
    fn an_agents_page_is_not_run() {
        let run = RunId::ledger();
        let page = Payload { content_type: "text/html".into(), bytes: "<script>".into() };
        let response = returned(run, page);
        assert_eq!(response.headers()["content-security-policy"], "default-src 'none'; sandbox");
        assert_eq!(response.headers()["ltmc-run"], run.to_string());
    }

    #[test]
    fn requests_are_the_same_only_if_everything_is() {
        let agent: AgentRef = "a".parse().unwrap();
        let session: SessionId = "s".parse().unwrap();
        let input = Payload::text("x");
        let all = [
            digest("call", &agent, None, &input),
            digest("run", &agent, None, &input),
            digest("call", &"b", None, &input),
            digest("call", &agent, Some(&session), &input),
            digest("call", &agent, None, &Payload::text("y")),
            digest("call", &agent, None, &Payload { content_type: "text/html".into(), ..input.clone() }),
        ];
        assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), all.len());
        assert_eq!(all[0], digest("call", &agent, None, &input));
    }
}
