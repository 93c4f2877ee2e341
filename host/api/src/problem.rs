//! Problems: every answer that is no success, as RFC 9457 writes it.
//!
//! Invariants: a handler says what went wrong, [`crate::edge`] writes it out, so that each carries its request's id. The
//! cause goes to the log, once, and never to the client; 429 and 503 say when to come back.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ltmc_model::RunId;
use ltmc_model::failure::{self, Failure};
use ltmc_ports::{Kind, StoreError};
use ltmc_tenancy::error::{Detail, Error};
use serde::Serialize;
use utoipa::ToSchema;

use crate::codes::{self, Code};
use crate::headers::{self, LTMC_RUN, REQUEST_ID};

/// The most of one text that is passed on, in bytes.
const MAX_TEXT: usize = 8 << 10;
/// The most things wrong with one document that are listed.
const MAX_DETAILS: usize = 100;

/// Something went wrong.
#[derive(Debug, Clone)]
pub(crate) struct Problem(Box<Inner>);

#[derive(Debug, Clone)]
struct Inner {
    code: &'static Code,
    detail: Cow<'static, str>,
    field: Option<Cow<'static, str>>,
    details: Vec<Detail>,
    position: Option<u64>,
    run: Option<RunId>,
    failure: Option<Failure>,
    headers: HeaderMap,
    cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// What is done with a problem: nobody returns anything else.
pub(crate) type Result<T, E = Problem> = std::result::Result<T, E>;

impl Problem {
    /// One of [`codes::CODES`], and what was wrong, where, and what would be right.
    pub(crate) fn new(code: &str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            code: codes::of(code).unwrap_or_else(codes::internal),
            detail: detail.into(),
            field: None,
            details: Vec::new(),
            position: None,
            run: None,
            failure: None,
            headers: HeaderMap::new(),
            cause: None,
        }))
    }

    /// A fault of the host's own: the client learns that, the operator the rest.
    pub(crate) fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new("internal", "The host met a fault of its own; its log says more under this request's id.")
            .because(cause)
    }

    /// Too much at once.
    pub(crate) fn busy(detail: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        Self::new("busy", detail).retry_after(retry_after)
    }

    /// No good key.
    pub(crate) fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new("unauthorized", detail).header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// The field, parameter or header to blame.
    pub(crate) fn field(mut self, field: impl Into<Cow<'static, str>>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// The part of the request that it is within: leads the field to blame.
    pub(crate) fn within(mut self, part: String) -> Self {
        let field = self.0.field.take().map_or(part.clone(), |field| format!("{part}/{field}"));
        self.0.field = Some(field.into());
        self
    }

    /// The place in the log to go on after.
    pub(crate) fn position(mut self, position: u64) -> Self {
        self.0.position = Some(position);
        self
    }

    /// The run it is about.
    pub(crate) fn run(mut self, run: RunId) -> Self {
        self.0.run = Some(run);
        self
    }

    /// A header of the answer.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// After which the connection is closed.
    pub(crate) fn closing(self) -> Self {
        self.header(header::CONNECTION, HeaderValue::from_static("close"))
    }

    /// When to come back; at least a second.
    pub(crate) fn retry_after(self, after: Duration) -> Self {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        self.header(header::RETRY_AFTER, seconds.max(1).into())
    }

    fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.0.cause = Some(Arc::from(cause.into()));
        self
    }

    /// How a run ended badly.
    pub(crate) fn ending(run: RunId, failure: Failure) -> Self {
        let code = codes::of_ending(failure.code);
        let problem = match failure.code {
            failure::Code::Internal => Self::internal(failure.message.clone()),
            failure::Code::Unavailable => {
                Self::new(code.name, "A store does not answer. The run is kept and can be resumed.")
                    .because(failure.message.clone())
            }
            _ => Self::new(code.name, failure.message.clone()),
        };
        let problem = problem.run(run);
        Self(Box::new(Inner { failure: Some(failure), ..*problem.0 }))
    }

    /// Whether it is how a run ended: then the request was read whole.
    pub(crate) fn is_about_run(&self) -> bool {
        self.0.failure.is_some()
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.0.code.status
    }

    /// Says it once to the log, where it is the host's fault.
    pub(crate) fn log(&self) {
        let Some(cause) = &self.0.cause else { return };
        let code = self.0.code.name;
        let error = Chain(cause.as_ref());
        if self.status() == StatusCode::SERVICE_UNAVAILABLE {
            tracing::warn!(code, %error, "a request could not be served");
        } else {
            tracing::error!(code, %error, "a request failed");
        }
    }

    /// The whole answer.
    pub(crate) fn render(self, request_id: &str) -> Response {
        let (status, headers, body) = self.written(request_id);
        let mut response = (status, body).into_response();
        *response.headers_mut() = headers;
        response
    }

    /// The whole answer as it goes over an HTTP/1.1 connection that is then closed: where there is no request to answer.
    pub(crate) fn alone(self) -> Vec<u8> {
        let id = headers::request_id(&HeaderMap::new());
        let (status, headers, body) = self.written(id.to_str().unwrap_or_default());
        let mut answer = format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
        let fields = [(&REQUEST_ID, &id), (&header::CONNECTION, &HeaderValue::from_static("close"))];
        for (name, value) in fields.into_iter().chain(&headers) {
            answer.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
        }
        answer.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        let mut answer = answer.into_bytes();
        answer.extend_from_slice(&body);
        answer
    }

    fn written(self, request_id: &str) -> (StatusCode, HeaderMap, Vec<u8>) {
        let Inner { code, detail, field, details, position, run, failure, headers: own, .. } = *self.0;
        let failure = failure.as_ref();
        let agent = failure
            .filter(|f| f.code == failure::Code::AgentError)
            .map(|f| AgentProblem { code: f.agent_code.as_deref().map_or("", cut), message: cut(&f.message) });
        let body = Body {
            r#type: Address(code.name),
            title: code.title,
            status: code.status.as_u16(),
            code: code.name,
            detail: cut(&detail),
            request_id,
            field: field.as_deref().map(cut),
            details: &details[..details.len().min(MAX_DETAILS)],
            position,
            agent,
            run,
            step: failure.and_then(|f| f.step.as_ref()).map(|step| step.as_str()),
            at: failure.and_then(|f| f.at.as_deref()).map(cut),
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut to = HeaderMap::new();
        to.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if matches!(code.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            to.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(value) = run.and_then(|run| HeaderValue::try_from(run.to_string()).ok()) {
            to.insert(LTMC_RUN, value);
        }
        to.extend(own);
        (code.status, to, body)
    }
}

impl IntoResponse for Problem {
    /// A response that [`crate::edge`] recognizes and writes out.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::Unauthorized => Self::unauthorized("The key is missing, wrong, expired or revoked."),
            Error::Denied { why } => Self::new("denied", why),
            Error::NotFound { .. } => Self::new("not-found", error.to_string()),
            Error::Conflict { code, message } => Self::coded(code, "conflict", message),
            Error::Invalid { code, message, field, details } => {
                let problem = Self::coded(code, "bad-request", message);
                Self(Box::new(Inner { field: field.map(Cow::Owned), details, ..*problem.0 }))
            }
            Error::Busy { message, retry_after } => Self::busy(message, retry_after),
            Error::Store(error) => error.into(),
            Error::Internal { message } => Self::internal(message),
        }
    }
}

impl Problem {
    fn coded(code: &'static str, otherwise: &'static str, detail: String) -> Self {
        Self::new(codes::of(code).map_or(otherwise, |code| code.name), detail)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let problem = match error.kind {
            Kind::Conflict | Kind::Stale => {
                return Self::new("conflict", "Somebody else changed it at the same moment; ask again.");
            }
            Kind::Fenced => Self::new("fenced", "The run has another owner now, and goes on there."),
            Kind::Displaced => Self::new("fenced", "The run is not the turn at work in its session."),
            Kind::Full => Self::new("storage-full", "The record has no room left: its operator must make some."),
            Kind::TooCostly => return Self::new("read-too-costly", error.reason()),
            Kind::OverQuota => return Self::new("disk-quota-exceeded", error.reason()),
            Kind::Unavailable => Self::new("unavailable", "The record does not answer; nothing was changed."),
            Kind::Corrupt | Kind::Internal => return Self::internal(error),
        };
        problem.because(error)
    }
}

/// A problem, as RFC 9457 writes it.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Body<'a> {
    /// Where the code is explained: an address on this host.
    #[schema(value_type = String, example = "/docs/errors#agent-error")]
    r#type: Address,
    /// The code in a few words.
    title: &'a str,
    /// The status of the answer.
    #[schema(example = 422)]
    status: u16,
    /// What kind of problem; stable, for programs.
    #[schema(example = "agent-error")]
    code: &'a str,
    /// What was wrong, where, and what would be right; for people.
    detail: &'a str,
    /// The id of the request, also in `X-Request-Id`.
    request_id: &'a str,
    /// The field, parameter, header or part to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
    /// Each of several things wrong with a document.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    #[schema(value_type = Vec<DetailForm>, required = false)]
    details: &'a [Detail],
    /// With the code `resync`: the place to go on after, once what is there now has been read.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    /// With the code `agent-error`: what the agent said.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<AgentProblem<'a>>,
    /// The run it is about, also in `Ltmc-Run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Uuid)]
    run: Option<RunId>,
    /// The step it happened in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "0/1")]
    step: Option<&'a str>,
    /// Where in a judged result, as JSON Pointer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/files/0/name")]
    at: Option<&'a str>,
}

/// An agent's own error.
#[derive(Serialize, ToSchema)]
struct AgentProblem<'a> {
    /// The agent's own code.
    #[schema(example = "no-such-file")]
    code: &'a str,
    /// The agent's own words.
    message: &'a str,
}

/// One of several things wrong with a document.
#[derive(ToSchema)]
#[schema(as = Detail)]
#[expect(dead_code, reason = "describes the use cases' type in the document")]
struct DetailForm {
    /// From 1; 0 where it has no place.
    line: u32,
    /// From 1; 0 where it has no place.
    column: u32,
    /// What is wrong there, and what would be right.
    message: String,
}

/// Where the code is explained: on this host.
struct Address(&'static str);

impl Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("/docs/errors#{}", self.0))
    }
}

/// An error with all its sources, in one line.
struct Chain<'a>(&'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self.0, f)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn json(problem: Problem) -> (axum::http::response::Parts, serde_json::Value) {
        let (parts, body) = problem.render("req-1").into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        (parts, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn a_problem_says_what_rfc_9457_asks_and_who_asked() {
        let (parts, body) = json(Problem::new("bad-query", "`limit` is 1 to 500").field("limit")).await;
        assert_eq!(parts.status, 400);
        assert_eq!(parts.headers["content-type"], "application/problem+json");
        assert_eq!(
            body,
            serde_json::json!({
                "type": "/docs/errors#bad-query", "title": "The query string does not parse", "status": 400,
                "code": "bad-query", "detail": "`limit` is 1 to 500", "request_id": "req-1", "field": "limit",
            })
        );
    }

    #[tokio::test]
    async fn an_agents_own_error_stands_inside() {
        let mut failure =
            Failure::new(failure::Code::AgentError, "no such file").in_step(&ltmc_model::StepPath::root());
        failure.agent_code = Some("not-there".into());
        let run = RunId::ledger();
        let (parts, body) = json(Problem::ending(run, failure)).await;
        assert_eq!(parts.status, 422);
        assert_eq!(parts.headers["ltmc-run"], run.to_string());
        assert_eq!(body["agent"], serde_json::json!({"code": "not-there", "message": "no such file"}));
        assert_eq!(body["step"], "0");
    }

    #[tokio::test]
    async fn what_the_operator_is_told_the_client_is_not() {
        let secret = "/var/lib/ltmc/record.db";
        let store = || std::io::Error::other(secret);
        for problem in [
            Problem::internal(store()),
            Problem::from(Error::Internal { message: secret.into() }),
            Problem::from(StoreError::new(Kind::Corrupt, "journal.append").because(store())),
            Problem::from(StoreError::new(Kind::Unavailable, "journal.append").because(store())),
            Problem::from(StoreError::new(Kind::Full, "journal.append").because(store())),
            Problem::ending(RunId::ledger(), Failure::new(failure::Code::Internal, secret)),
            Problem::ending(RunId::ledger(), Failure::new(failure::Code::Unavailable, secret)),
        ] {
            assert!(problem.0.cause.is_some(), "{problem:?}");
            let (parts, body) = json(problem).await;
            assert!(parts.status.is_server_error());
            assert!(!body.to_string().contains("record.db"), "{body}");
            assert!(!body.to_string().contains("journal.append"), "{body}");
        }
    }

    #[tokio::test]
    async fn whoever_is_to_come_back_learns_when() {
        let (parts, _) = json(Problem::busy("queue", Duration::from_millis(2_100))).await;
        assert_eq!(parts.headers["retry-after"], "3");
        let (parts, _) = json(Problem::new("unavailable", "")).await;
        assert_eq!(parts.headers["retry-after"], "1");
        let (parts, _) = json(Problem::unauthorized("")).await;
        assert_eq!(parts.headers["www-authenticate"], "Bearer");
    }

    #[tokio::test]
    async fn several_errors_of_one_document_are_listed_up_to_a_bound() {
        let details = vec![Detail { line: 1, column: 2, message: "x".into() }; 1_000];
        let error = Error::Invalid { code: "bad-json", message: "m".into(), field: None, details };
        let (_, body) = json(error.into()).await;
        assert_eq!(body["details"].as_array().unwrap().len(), MAX_DETAILS);
        assert_eq!(body["details"][0], serde_json::json!({"line": 1, "column": 2, "message": "x"}));
        let (_, body) = json(Problem::new("bad-json", "ä".repeat(MAX_TEXT))).await;
        assert!(body["detail"].as_str().unwrap().len() <= MAX_TEXT);
    }
}
