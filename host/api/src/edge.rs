//! The edge that every request crosses, once in and once out: its id, its span, its metrics, and its problem written out.
//!
//! Invariants: every answer that is no success is `application/problem+json`, whoever made it, a panic included; what is
//! the host's fault is logged here, once, with the request's id. It is the only layer, so that a call stays cheap.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::body::HttpBody as _;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt as _;
use ltmc_processor::Account;
use tracing::Instrument as _;

use crate::headers::{self, REQUEST_ID, TRACEPARENT};
use crate::meter::{self, Meters};
use crate::problem::{Problem, Result};

/// Marks an answer whose status is no success and whose body is nevertheless what was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Whole;

/// What the edge knows of the door.
pub(crate) struct Edge {
    meters: Arc<Meters>,
    longest_head: usize,
    /// Of each route that needs a key, the parameters its query may have.
    queries: HashMap<(Method, String), Vec<String>>,
}

impl Edge {
    pub(crate) fn new(
        meters: Meters,
        longest_head: usize,
        queries: HashMap<(Method, String), Vec<String>>,
    ) -> Arc<Self> {
        Arc::new(Self { meters: Arc::new(meters), longest_head, queries })
    }

    /// What is wrong with a request before anybody has looked at what it asks for.
    fn check(&self, request: &Request) -> Result<()> {
        headers::check(request, self.longest_head)?;
        let (Some(query), Some(route)) = (request.uri().query(), request.extensions().get::<MatchedPath>()) else {
            return Ok(());
        };
        // What is asked for by HEAD is what GET would give.
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        let place = (method.clone(), route.as_str().to_owned());
        let Some(known) = self.queries.get(&place) else { return Ok(()) };
        let names = query.split('&').map(|pair| pair.split('=').next().unwrap_or_default());
        // None of ours has anything in its name that is to be escaped.
        match names.filter(|name| !name.is_empty()).find(|name| !known.iter().any(|known| known == name)) {
            None => Ok(()),
            Some(_) if known.is_empty() => {
                Err(Problem::new("bad-query", "This route takes no parameters in its query."))
            }
            Some(name) => {
                let name = name.chars().filter(|c| !c.is_control()).take(64).collect::<String>();
                let known = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                let why = format!("This route does not take `{name}`; of parameters it takes {known}.");
                Err(Problem::new("bad-query", why).field(name))
            }
        }
    }
}

/// Takes a request in, and its answer out.
pub(crate) async fn cross(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let id = headers::request_id(request.headers());
    let traceparent = headers::traceparent(request.headers()).cloned();
    let crossing = Crossing::begin(edge.meters.clone(), &request);
    let wrong = edge.check(&request).err();
    let may_have_body = !request.body().is_end_stream() && request.version() < Version::HTTP_2;
    let id_text = id.to_str().unwrap_or_default().to_owned();
    let span = tracing::info_span!(
        "request",
        id = id_text,
        method = crossing.method.as_str(),
        route = crossing.route().unwrap_or("unmatched"),
        tenant = tracing::field::Empty,
    );
    // Whose it is turns out when its key is looked up.
    let account = Account::default();
    request.extensions_mut().insert(account.clone());
    let answer = async {
        let answer = match wrong {
            Some(wrong) => Ok(wrong.into_response()),
            None => {
                let work = next.run(request).in_current_span();
                AssertUnwindSafe(ltmc_processor::run(account, work)).catch_unwind().await
            }
        };
        let mut response = answer.unwrap_or_else(|panic| Problem::internal(said(panic.as_ref())).into_response());
        match problem_of(&mut response) {
            Some(problem) => {
                problem.log();
                let about_run = problem.is_about_run();
                let kept = std::mem::take(response.headers_mut());
                let mut written = problem.render(&id_text);
                if let Some(allow) = kept.get(header::ALLOW) {
                    written.headers_mut().insert(header::ALLOW, allow.clone());
                }
                if may_have_body && !about_run {
                    // A refusal may come before the body was read: no other request is to be sent after it.
                    written.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                written
            }
            None => response,
        }
    };
    let mut response = answer.instrument(span).await;
    finish(response.headers_mut(), id, traceparent);
    crossing.end(response.status());
    response
}

/// The problem an answer stands for: a handler's, or, where something else made it, what its status says.
fn problem_of(response: &mut Response) -> Option<Problem> {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        return Some(problem);
    }
    let status = response.status();
    let whole = response.extensions().get::<Whole>().is_some();
    if whole || !status.is_client_error() && !status.is_server_error() {
        return None;
    }
    Some(match status {
        StatusCode::NOT_FOUND => Problem::new("no-route", "There is no such route; `/openapi.json` lists them all."),
        StatusCode::METHOD_NOT_ALLOWED => {
            Problem::new("method-not-allowed", "This route does not take this method; `Allow` says which it takes.")
        }
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new("too-large", "The body is too large."),
        StatusCode::UNSUPPORTED_MEDIA_TYPE => Problem::new("unsupported-media-type", "This content type is not taken."),
        status if status.is_client_error() => Problem::new("bad-request", "The request is not well formed."),
        status => Problem::internal(format!("something below answered {status}")),
    })
}

/// What is wrong with a head that could not be read, by the status the HTTP library has for it.
pub(crate) fn unreadable(status: StatusCode) -> Problem {
    match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => headers::too_large(),
        StatusCode::URI_TOO_LONG => headers::uri_too_long(),
        _ => Problem::new("bad-request", "The request's head is not well-formed HTTP."),
    }
}

fn finish(headers: &mut HeaderMap, id: HeaderValue, traceparent: Option<HeaderValue>) {
    headers.insert(REQUEST_ID, id);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Some(traceparent) = traceparent {
        headers.insert(TRACEPARENT, traceparent);
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without words"))
}

/// One request in the metrics, even where its client goes away half-way.
struct Crossing {
    meters: Arc<Meters>,
    matched: Option<MatchedPath>,
    method: Method,
    started: Instant,
    status: Option<StatusCode>,
}

impl Crossing {
    fn begin(meters: Arc<Meters>, request: &Request) -> Self {
        meters.begin();
        Self {
            meters,
            matched: request.extensions().get::<MatchedPath>().cloned(),
            method: request.method().clone(),
            started: Instant::now(),
            status: None,
        }
    }

    fn route(&self) -> Option<&str> {
        self.matched.as_ref().map(MatchedPath::as_str)
    }

    fn end(mut self, status: StatusCode) {
        self.status = Some(status);
    }
}

impl Drop for Crossing {
    fn drop(&mut self) {
        self.meters.end(self.route(), &self.method, meter::label(self.status), self.started.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use tower::ServiceExt as _;

    use super::*;

    async fn ask(request: Request) -> (axum::http::response::Parts, serde_json::Value) {
        let queries = HashMap::from([((Method::GET, "/good".to_owned()), vec!["limit".to_owned()])]);
        let edge = Edge::new(Meters::new(std::iter::empty()), 1_000, queries);
        let router = Router::new()
            .route("/good", get(async || "good"))
            .route("/panic", get(async || -> &'static str { panic!("secret {}", 7) }))
            .route("/plain/{status}", get(async |path: axum::extract::Path<u16>| StatusCode::from_u16(path.0).unwrap()))
            .route("/query", get(async |_: axum::extract::Query<std::collections::HashMap<String, u8>>| ()))
            .route("/json", axum::routing::post(async |_: axum::Json<u8>| ()))
            .layer(axum::middleware::from_fn_with_state(edge, cross));
        let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        (parts, serde_json::from_slice(&body).unwrap_or_default())
    }

    fn request(method: &str, path: &str) -> Request {
        Request::builder().method(method).uri(path).header("x-request-id", "me-1").body(Body::from("[")).unwrap()
    }

    #[tokio::test]
    async fn every_refusal_comes_out_as_a_problem() {
        for (method, path, status, code) in [
            ("GET", "/nowhere", 404, "no-route"),
            ("DELETE", "/good", 405, "method-not-allowed"),
            ("GET", "/query?a=x", 400, "bad-request"),
            ("GET", "/good?limit=1&limt=2", 400, "bad-query"),
            ("GET", "/good?limi%74=1", 400, "bad-query"),
            ("POST", "/json", 415, "unsupported-media-type"),
            ("GET", "/plain/413", 413, "too-large"),
            ("GET", "/plain/418", 400, "bad-request"),
            ("GET", "/plain/502", 500, "internal"),
            ("GET", "/panic", 500, "internal"),
        ] {
            let (parts, body) = ask(request(method, path)).await;
            assert_eq!(parts.status, status, "{path}");
            assert_eq!(parts.headers["content-type"], "application/problem+json", "{path}");
            assert_eq!(body["code"], code, "{path}");
            assert_eq!(body["request_id"], "me-1", "{path}");
            assert_eq!(body["status"], status, "{path}");
            assert!(!body.to_string().contains("secret"), "{body}");
        }
        for (name, value, status, code) in [
            ("transfer-encoding", "gzip, chunked", 501, "unsupported-transfer-coding"),
            ("transfer-encoding", "chunked, chunked", 501, "unsupported-transfer-coding"),
            ("content-encoding", "gzip", 415, "unsupported-media-type"),
        ] {
            let mut asked = request("POST", "/json");
            asked.headers_mut().insert(name, value.parse().unwrap());
            let (parts, body) = ask(asked).await;
            assert_eq!((parts.status.as_u16(), body["code"].as_str().unwrap()), (status, code), "{name}: {value}");
        }
        let mut asked = request("GET", "/good");
        asked.headers_mut().insert("transfer-encoding", "Chunked".parse().unwrap());
        asked.headers_mut().insert("content-encoding", "identity".parse().unwrap());
        assert_eq!(ask(asked).await.0.status, 200);
        let mut asked = request("GET", "/good");
        *asked.version_mut() = Version::HTTP_2;
        let (parts, body) = ask(asked).await;
        assert_eq!((parts.status.as_u16(), body["code"].as_str().unwrap()), (400, "bad-request"), "no host");
        let mut asked = request("GET", "http://one/good");
        *asked.version_mut() = Version::HTTP_2;
        for (host, status) in [("ONE", 200), ("other", 400)] {
            let mut asked = Request::builder().uri("http://one/good").version(Version::HTTP_2).header("host", host);
            assert_eq!(ask(asked.body(Body::empty()).unwrap()).await.0.status, status, "{host}");
            asked = Request::builder().uri("/good").version(Version::HTTP_2).header("host", host).header("host", host);
            assert_eq!(ask(asked.body(Body::empty()).unwrap()).await.0.status, 400, "twice {host}");
        }
        asked.headers_mut().insert("x-much", "x".repeat(1_000).parse().unwrap());
        let (parts, body) = ask(asked).await;
        assert_eq!((parts.status.as_u16(), body["code"].as_str().unwrap()), (431, "head-too-large"));
        assert_eq!(ask(request("GET", "/good?limit=1&")).await.0.status, 200);
        assert_eq!(ask(request("HEAD", "/good?limt=1")).await.0.status, 400);
        let (parts, _) = ask(request("DELETE", "/good")).await;
        assert_eq!(parts.headers["allow"], "GET,HEAD");
    }

    #[tokio::test]
    async fn ids_and_trace_contexts_are_passed_on() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut asked = request("GET", "/good");
        asked.headers_mut().insert(TRACEPARENT, trace.parse().unwrap());
        let (parts, _) = ask(asked).await;
        assert_eq!(parts.status, 200);
        assert_eq!(parts.headers["x-request-id"], "me-1");
        assert_eq!(parts.headers["traceparent"], trace);
        assert_eq!(parts.headers["x-content-type-options"], "nosniff");
        let (parts, _) = ask(Request::builder().uri("/good").body(Body::empty()).unwrap()).await;
        assert!(!parts.headers["x-request-id"].is_empty());
    }
}
