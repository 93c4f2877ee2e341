//! The host, as the command speaks to it: REST with a key. What the host answers with is turned into results and
//! [`Problem`]s here, and nowhere else.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use reqwest::header::{CONTENT_TYPE, HeaderMap, LOCATION, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;

use crate::credentials::Found;
use crate::exit::{Exit, Problem};
use crate::ui;

/// A host and a key to it.
pub(crate) struct Client {
    http: reqwest::Client,
    found: Found,
}

/// A list that is read page by page.
pub(crate) struct Pages<'a> {
    client: &'a Client,
    path: String,
    query: String,
    /// None: that was all.
    cursor: Option<String>,
}

impl Pages<'_> {
    /// The next items, about so many; none: that was all.
    pub(crate) async fn next(&mut self, limit: usize) -> anyhow::Result<Option<Vec<Value>>> {
        let Some(cursor) = self.cursor.take() else { return Ok(None) };
        let cursor = if cursor.is_empty() { cursor } else { format!("&cursor={}", encode(&cursor)) };
        let limit = limit.clamp(1, 100);
        let mut answer = self.client.get(&format!("{}?limit={limit}{}{cursor}", self.path, self.query)).await?;
        self.cursor = answer.get("next").and_then(Value::as_str).map(str::to_owned);
        Ok(Some(answer.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take).unwrap_or_default()))
    }
}

/// What the host answered, once it was not an error.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body)
            .map_err(|e| Problem::failed(format!("the host answered with something that is not JSON: {e}")).into())
    }

    /// A header's text.
    pub(crate) fn header(&self, name: impl reqwest::header::AsHeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// The id of the run that `Location` (or `Ltmc-Run`) names.
    pub(crate) fn run(&self) -> anyhow::Result<String> {
        let named = self.header("ltmc-run").or_else(|| self.header(LOCATION)?.rsplit('/').next());
        named.map(str::to_owned).ok_or_else(|| Problem::failed("the host did not say which run it started").into())
    }
}

impl Client {
    /// For one command.
    pub(crate) fn new(found: Found) -> anyhow::Result<Self> {
        if !found.url.starts_with("http://") {
            return Err(Problem::usage(format!(
                "`{}` is not a URL this command can reach: it speaks plain http",
                found.url
            ))
            .help("run the command on the host's machine, or through a tunnel (ssh -L 7420:127.0.0.1:7420)")
            .into());
        }
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .user_agent(concat!("ltmc/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .build()?;
        Ok(Self { http, found })
    }

    /// A request with the key; `path` begins with `/`.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.found.url)).bearer_auth(self.found.key.expose())
    }

    /// Sends it, and reads the whole answer.
    pub(crate) async fn send(&self, request: RequestBuilder) -> anyhow::Result<Answer> {
        let response = self.begin(request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let body = response.bytes().await.map_err(|e| self.unreached(&e))?;
        Ok(Answer { status, headers, body })
    }

    /// Sends it, and answers once the head is there and it is no error.
    pub(crate) async fn begin(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.map_err(|e| self.unreached(&e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let retry = response.headers().get(RETRY_AFTER).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let run = response.headers().get("ltmc-run").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let body = response.bytes().await.unwrap_or_default();
        Err(refused(status, retry.as_deref(), run.as_deref(), &body).into())
    }

    /// GET, JSON.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(self.request(Method::GET, path)).await?.json()
    }

    /// POST without a body, or with a JSON one.
    pub(crate) async fn post(&self, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        let request = self.request(Method::POST, path);
        self.send(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    /// PUT, JSON.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> anyhow::Result<Answer> {
        self.send(self.request(Method::PUT, path).json(body)).await
    }

    /// DELETE without a body.
    pub(crate) async fn delete(&self, path: &str) -> anyhow::Result<Answer> {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// A list's items, page by page, at most `limit` of them.
    pub(crate) async fn list(&self, path: &str, query: &[(&str, String)], limit: usize) -> anyhow::Result<Vec<Value>> {
        let (mut items, mut pages) = (Vec::new(), self.pages(path, query));
        while items.len() < limit
            && let Some(mut page) = pages.next(limit - items.len()).await?
        {
            items.append(&mut page);
        }
        items.truncate(limit);
        Ok(items)
    }

    /// A list, page by page.
    pub(crate) fn pages(&self, path: &str, query: &[(&str, String)]) -> Pages<'_> {
        let query = query.iter().map(|(name, value)| format!("&{name}={}", encode(value))).collect();
        Pages { client: self, path: path.to_owned(), query, cursor: Some(String::new()) }
    }

    /// A run's events, from number `after` on, until the stream ends: the host ends it when the run is over.
    /// `each` is given the event's number, its name and its data; it says whether to go on.
    pub(crate) async fn events(
        &self,
        run: &str,
        after: &mut u64,
        mut each: impl AsyncFnMut(&str, Value) -> anyhow::Result<bool>,
    ) -> anyhow::Result<()> {
        let request = self.request(Method::GET, &format!("/v1/runs/{}/events", encode(run)));
        let request = request.header("accept", "text/event-stream").header("last-event-id", after.to_string());
        let mut stream = self.begin(request).await?.bytes_stream();
        let mut waiting = Vec::new();
        while let Some(chunk) = stream.next().await {
            waiting.extend_from_slice(&chunk.map_err(|e| self.unreached(&e))?);
            while let Some(end) = waiting.windows(2).position(|w| w == b"\n\n") {
                let block: Vec<u8> = waiting.drain(..end + 2).collect();
                let event = Event::parse(&String::from_utf8_lossy(&block));
                if let Some(id) = event.id {
                    *after = id;
                }
                if !event.data.is_empty() {
                    let data = serde_json::from_str(&event.data).unwrap_or(Value::String(event.data));
                    if !each(&event.name, data).await? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn unreached(&self, error: &reqwest::Error) -> anyhow::Error {
        let mut why: &dyn std::error::Error = error;
        while let Some(source) = why.source() {
            why = source;
        }
        let (code, message) = if error.is_connect() || error.is_timeout() {
            ("unreached", format!("the host at {} was not reached: {why}", self.found.url))
        } else {
            ("interrupted", format!("the host at {} stopped answering: {why}", self.found.url))
        };
        Problem::new(Exit::Unreached, code, message)
            .help("is it running? `ltmc serve` starts one; --url, LTMC_URL or --data say where to look")
            .into()
    }
}

/// A server-sent event.
#[derive(Debug, Default, PartialEq, Eq)]
struct Event {
    id: Option<u64>,
    name: String,
    data: String,
}

impl Event {
    fn parse(block: &str) -> Self {
        let mut event = Self::default();
        for line in block.lines() {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "id" => event.id = value.parse().ok(),
                "event" => value.clone_into(&mut event.name),
                "data" => {
                    if !event.data.is_empty() {
                        event.data.push('\n');
                    }
                    event.data.push_str(value);
                }
                _ => {}
            }
        }
        event
    }
}

/// An answer that is an error, as a problem: its class decides the exit code.
fn refused(status: StatusCode, retry: Option<&str>, run: Option<&str>, body: &[u8]) -> Problem {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |field: &str| problem.get(field).and_then(Value::as_str).map(ui::clean);
    let code = text("code").unwrap_or_else(|| format!("http-{}", status.as_u16()));
    let said = text("detail").or_else(|| text("title"));
    let message = said.unwrap_or_else(|| format!("the host answered {status}"));
    let exit = match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
        _ => Exit::Failed,
    };
    let message = match text("field") {
        Some(field) => format!("{message} (in `{field}`)"),
        None => message,
    };
    let own = crate::commands::runs::own_code(&problem["agent"]["code"]);
    let mut out = Problem::new(exit, code.clone(), format!("{message}{own} [{code}]"));
    out.details = details(&problem);
    out.help = match (status, retry, run) {
        (StatusCode::UNAUTHORIZED, ..) => {
            Some("the key is wrong, expired or revoked: choose another with --as, or set LTMC_KEY".into())
        }
        (StatusCode::FORBIDDEN, ..) if code == "denied" => Some("another key may: choose one with --as".into()),
        (_, Some(seconds), _) => Some(format!("try again in {seconds} s")),
        (_, _, Some(run)) => Some(format!("`ltmc runs show {run}` shows what happened")),
        _ => None,
    };
    out
}

/// Several things wrong with one document, each with its place.
fn details(problem: &Value) -> Vec<String> {
    let list = ["errors", "details"].iter().find_map(|field| problem.get(field)?.as_array());
    let one = |detail: &Value| {
        let message = detail.get("message").and_then(Value::as_str).map_or_else(|| detail.to_string(), ui::clean);
        let place = |field: &str| detail.get(field).and_then(Value::as_u64).filter(|n| *n > 0);
        match (place("line"), place("column")) {
            (Some(line), Some(column)) => format!("{line}:{column}: {message}"),
            (Some(line), None) => format!("{line}: {message}"),
            _ => message,
        }
    };
    list.into_iter().flatten().map(one).collect()
}

/// A text as one segment of a path, or as a value in a query.
pub(crate) fn encode(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// The content type of an answer's body.
pub(crate) fn content_type(answer: &Answer) -> String {
    answer.header(CONTENT_TYPE).unwrap_or("application/octet-stream").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_answer_decides_the_exit_code() {
        let body = br#"{"code":"denied","detail":"the role viewer may not push","status":403}"#;
        let problem = refused(StatusCode::FORBIDDEN, None, None, body);
        assert_eq!((problem.exit, problem.code.as_str()), (Exit::Denied, "denied"));
        assert_eq!(refused(StatusCode::UNAUTHORIZED, None, None, b"").exit, Exit::Denied);
        let trapped =
            refused(StatusCode::BAD_GATEWAY, None, Some("r1"), br#"{"code":"agent-trapped","detail":"it broke"}"#);
        assert_eq!(trapped.exit, Exit::Failed);
        assert!(trapped.help.unwrap().contains("ltmc runs show r1"));
        assert_eq!(refused(StatusCode::BAD_GATEWAY, None, None, b"<html>").code, "http-502");
        let body =
            br#"{"code":"agent-error","detail":"it has none","agent":{"code":"no-diff","message":"it has none"}}"#;
        let failed = refused(StatusCode::UNPROCESSABLE_ENTITY, None, None, body);
        assert_eq!(failed.to_string(), "it has none (no-diff) [agent-error]");
    }

    #[test]
    fn every_error_of_a_document_is_shown_with_its_place() {
        let body = br#"{"code":"bad-workflow","detail":"2 errors","errors":[{"line":3,"column":7,"message":"unknown agent"},{"line":0,"column":0,"message":"no flow"}]}"#;
        let problem = refused(StatusCode::UNPROCESSABLE_ENTITY, None, None, body);
        assert_eq!(problem.details, ["3:7: unknown agent", "no flow"]);
    }

    #[test]
    fn events_are_read_field_by_field() {
        let event = Event::parse("id: 7\nevent: step-started\ndata: {\"a\":\ndata: 1}\n\n");
        assert_eq!(event, Event { id: Some(7), name: "step-started".into(), data: "{\"a\":\n1}".into() });
        assert_eq!(Event::parse(": keep-alive\n\n"), Event::default());
    }

    #[test]
    fn what_is_put_into_a_path_stays_one_segment() {
        assert_eq!(encode("memory:read:*/.."), "memory%3Aread%3A%2A%2F..");
    }
}
