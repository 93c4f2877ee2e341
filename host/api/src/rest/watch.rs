//! Changes of memory, and topics, as server-sent events.
//!
//! Invariants: an event's id is its place in the record's log, so that whoever comes back with `Last-Event-ID` misses nothing
//! and gets nothing twice, also over a restart of the host. Where that is not possible any more the answer is `resync`.
//! Readers are bounded like those of runs' events, and a stream ends after a while by itself.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use ltmc_context::feed::{WatchError, Watcher};
use ltmc_model::Position;
use ltmc_model::caller::Caller;
use ltmc_model::memory::{Changed, Scope};
use ltmc_model::message::{MAX_TAKEN, Topic};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::context::{refused, resync};
use super::events::{HEARTBEAT, LONGEST, Seat};
use crate::app::{Answer, Api};
use crate::extract::{Asked, By};
use crate::headers::last_event_id;
use crate::problem::{Problem, Result};
use crate::serve::Closing;

/// How long one look at a topic waits.
const LOOK: Duration = Duration::from_secs(10);

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(changes)).routes(routes!(topic))
}

/// What is watched.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Watched {
    /// `global`, `session` or `agent`.
    #[param(value_type = String, example = "global")]
    scope: Scope,
    /// The session or the agent whose scope it is; none for `global`.
    owner: Option<String>,
    /// What the keys begin with.
    prefix: Option<String>,
    /// After the change at this place; `Last-Event-ID` wins; none: from now on.
    after: Option<u64>,
}

/// A change of a key.
#[derive(Serialize, ToSchema)]
struct Change {
    /// Its place: go on after it.
    position: u64,
    key: String,
    revision: u64,
    /// Whether the key was deleted, or had come to its end.
    deleted: bool,
    /// The value, where it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    json: Option<serde_json::Value>,
    /// The value as base64, where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// Watch keys
///
/// Server-sent events: one for each change, its place as `id`, and `put` or `delete` as `event`.
#[utoipa::path(
    get, path = "/v1/changes", tag = "context",
    params(Watched, ("Last-Event-ID" = Option<u64>, Header, description = "The place to go on after")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"])), ("x-ltmc-codes" = json!(["busy", "resync"]))),
    responses((status = 200, description = "The data of each event is a change", body = Change, content_type = "text/event-stream")),
)]
async fn changes(
    State(api): State<Api>,
    By(caller): By,
    Asked(watched): Asked<Watched>,
    closing: Option<Extension<Closing>>,
    headers: HeaderMap,
) -> Answer {
    let after = after(&headers, watched.after)?;
    let drawer = super::memory::drawer(watched.scope, watched.owner)?;
    let prefix = watched.prefix.unwrap_or_default();
    let watcher = api.clients.watch(&caller, &drawer, &prefix, after).await?.map_err(|at| resync(at.0))?;
    let seat = api.watchers.sit(&caller.tenant)?;
    let reader = Changes { api, watcher, ends: Ends::new(closing), _seat: seat };
    Ok(reader.streamed())
}

/// When a stream ends.
struct Ends {
    closing: Closing,
    until: Instant,
}

impl Ends {
    fn new(closing: Option<Extension<Closing>>) -> Self {
        let closing = closing.map(|Extension(closing)| closing).unwrap_or_default();
        Self { closing, until: Instant::now() + LONGEST }
    }

    async fn come(&self) {
        tokio::select! {
            () = self.closing.0.cancelled() => {}
            () = tokio::time::sleep_until(self.until) => {}
        }
    }
}

struct Changes {
    api: Api,
    watcher: Watcher,
    ends: Ends,
    _seat: Seat,
}

impl Reader for Changes {
    async fn next(&mut self) -> Option<Vec<Event>> {
        let found = tokio::select! {
            found = self.watcher.next(self.api.clients.feeds()) => found,
            () = self.ends.come() => return None,
        };
        match found {
            Ok(changes) => Some(changes.into_iter().map(change).collect()),
            // The client comes back by itself, and then gets the problem as an answer.
            Err(WatchError::Resync(_)) => None,
            Err(WatchError::Store(error)) => {
                Problem::from(error).log();
                None
            }
        }
    }
}

fn change(changed: Changed) -> Event {
    let kind = if changed.value.is_some() { "put" } else { "delete" };
    let (json, base64) = changed.value.as_ref().map_or((None, None), |value| super::memory::shown(value));
    let deleted = changed.value.is_none();
    let (position, revision) = (changed.position.0, changed.revision.0);
    let data = Change { position, key: changed.key, revision, deleted, json, base64 };
    written(position, kind, &data)
}

/// What is read.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Read {
    /// The topic.
    #[param(value_type = String, example = "reviews")]
    topic: Topic,
    /// After the event at this place; `Last-Event-ID` wins; none: from now on.
    after: Option<u64>,
}

/// Follow a topic
///
/// Server-sent events: one for each event published, its place as `id` and its type as `event`.
#[utoipa::path(
    get, path = "/v1/events/follow", tag = "context",
    params(Read, ("Last-Event-ID" = Option<u64>, Header, description = "The place to go on after")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "viewer"])), ("x-ltmc-codes" = json!(["busy", "resync"]))),
    responses((status = 200, description = "The data of each event is one of the topic's", body = super::messages::Event, content_type = "text/event-stream")),
)]
async fn topic(
    State(api): State<Api>,
    By(caller): By,
    Asked(read): Asked<Read>,
    closing: Option<Extension<Closing>>,
    headers: HeaderMap,
) -> Answer {
    let from = match after(&headers, read.after)? {
        Some(after) => after,
        None => api.clients.now(),
    };
    // A cursor that is too old is answered before the stream begins.
    api.clients.events(&caller, &read.topic, Some(from), 1, Duration::ZERO).await?.map_err(refused)?;
    let seat = api.watchers.sit(&caller.tenant)?;
    let reader = Topics { api, caller, topic: read.topic, after: from, ends: Ends::new(closing), _seat: seat };
    Ok(reader.streamed())
}

struct Topics {
    api: Api,
    caller: Caller,
    topic: Topic,
    after: Position,
    ends: Ends,
    _seat: Seat,
}

impl Reader for Topics {
    async fn next(&mut self) -> Option<Vec<Event>> {
        let found = tokio::select! {
            found = self.api.clients.events(&self.caller, &self.topic, Some(self.after), MAX_TAKEN, LOOK) => found,
            () = self.ends.come() => return None,
        };
        match found {
            Ok(Ok(found)) => {
                self.after = found.next;
                let event = |one: ltmc_model::message::Published| {
                    let kind = one.event.kind.clone();
                    written(one.position.0, &kind, &super::messages::Event::of(one.position, one.event))
                };
                Some(found.events.into_iter().map(event).collect())
            }
            Ok(Err(_)) => None,
            Err(error) => {
                Problem::from(error).log();
                None
            }
        }
    }
}

fn written<T: Serialize>(position: u64, kind: &str, data: &T) -> Event {
    let data = serde_json::to_string(data).unwrap_or_else(|_| "{}".into());
    Event::default().id(position.to_string()).event(kind).data(data)
}

fn after(headers: &HeaderMap, asked: Option<u64>) -> Result<Option<Position>> {
    Ok(last_event_id(headers, "the place of an event")?.or(asked).map(Position))
}

/// One who reads a stream of events.
trait Reader: Send + Sized + 'static {
    /// What comes next; none: the stream stops here, and may be taken up again.
    fn next(&mut self) -> impl Future<Output = Option<Vec<Event>>> + Send;

    fn streamed(self) -> Response {
        let steps = futures::stream::unfold(self, async |mut reader| Some((reader.next().await?, reader)));
        let events = futures::StreamExt::flat_map(steps, |events| {
            futures::stream::iter(events.into_iter().map(Ok::<_, Infallible>))
        });
        Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("still here")).into_response()
    }
}
