//! A run's journal as server-sent events: what happened so far, then what happens, until the run is over. And what streams
//! of events have in common.
//!
//! Invariants: an event's id is its entry's number, so that whoever comes back misses nothing and gets nothing twice.
//! The seats for readers are bounded, and divided among tenants. A reader's key is looked at again for every batch: where it is
//! not good any more the stream ends. It ends after a while by itself, too, and the reader comes back.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse as _;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::StreamExt as _;
use ltmc_model::caller::Caller;
use ltmc_model::{RunId, Seq, TenantId};
use ltmc_orchestration::{Followed, Shown, Watch};
use ltmc_tenancy::Pot;
use ltmc_tenancy::compute::LARGE;
use ltmc_tenancy::pot::{Full, Share};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::answers::Room;
use crate::app::{Answer, Api};
use crate::extract::{Asked, At, By};
use crate::headers::last_event_id;
use crate::problem::{Problem, Result};
use crate::serve::Closing;

/// How often a quiet stream says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// After which a stream ends.
const LONGEST: Duration = Duration::from_secs(15 * 60);

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(events))
}

/// From which entry of the run's journal on the stream begins.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct From {
    /// The number of the entry to go on after; `Last-Event-ID` wins.
    after: Option<u64>,
}

/// Follow a run
///
/// Server-sent events: one for each entry of the journal, from the first or from `Last-Event-ID` on, its number as `id`
/// and its kind as `event`. Once the run is over comes an event `end`, whose data says the state, and the stream closes.
#[utoipa::path(
    get, path = "/v1/runs/{id}/events", tag = "runs",
    params(
        ("id" = String, Path, description = "The run"),
        From,
        ("Last-Event-ID" = Option<u64>, Header, description = "The number of the entry to go on after"),
    ),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"])), ("x-ltmc-codes" = json!(["busy"]))),
    responses((status = 200, description = "The data of each event is an entry of the journal", body = super::runs::EntryForm, content_type = "text/event-stream")),
)]
async fn events(
    State(api): State<Api>,
    By(caller): By,
    At(run): At<RunId>,
    Asked(from): Asked<From>,
    closing: Option<Extension<Closing>>,
    headers: HeaderMap,
) -> Answer {
    let after = last_event_id(&headers, "the number of an entry")?.or(from.after).unwrap_or_default();
    let watch = api.runs.watch(&caller, run, Seq(after)).await?;
    streamed(&api, &caller, closing, Run { run, watch, is_over: false })
}

/// A run's events.
struct Run {
    run: RunId,
    watch: Watch,
    is_over: bool,
}

impl Source for Run {
    async fn next(&mut self) -> Result<Option<Batch>> {
        if self.is_over {
            return Ok(None);
        }
        match self.watch.next().await? {
            Followed::Entries(entries) => {
                let events = entries.into_iter().map(|shown| event(self.run, shown));
                Ok(Some(Batch::of(events).await))
            }
            Followed::Over(state) => {
                self.is_over = true;
                let data = serde_json::json!({ "state": state });
                let end = Event::default().event("end").data(data.to_string());
                Ok(Some(Batch::of([(end, 0)]).await))
            }
        }
    }
}

fn event(run: RunId, shown: Shown) -> (Event, usize) {
    let event = Event::default().id(shown.seq.to_string()).event(shown.kind);
    let data = serde_json::to_string(&super::runs::Entry::of(run, shown)).unwrap_or_else(|_| "{}".into());
    let bytes = data.len();
    (event.data(data), bytes)
}

/// Events that are given out together, and the bytes of what they show.
#[derive(Default)]
pub(super) struct Batch {
    events: Vec<Event>,
    bytes: usize,
}

impl Batch {
    /// Of events that are made one after the other, with a pause for others after so many bytes.
    pub(super) async fn of(events: impl IntoIterator<Item = (Event, usize), IntoIter: Send>) -> Self {
        let (mut batch, mut at_once) = (Self::default(), 0);
        for (event, bytes) in events {
            batch.events.push(event);
            batch.bytes += bytes;
            at_once += bytes;
            if at_once > LARGE {
                at_once = 0;
                tokio::task::yield_now().await;
            }
        }
        batch
    }
}

/// Where a stream's events come from.
pub(super) trait Source: Send + 'static {
    /// What comes next; none: there is no more of it.
    fn next(&mut self) -> impl Future<Output = Result<Option<Batch>>> + Send;
}

/// A stream of events, if there is a seat for its reader. Where it stops it may be taken up again.
pub(super) fn streamed(api: &Api, caller: &Caller, closing: Option<Extension<Closing>>, source: impl Source) -> Answer {
    let seat = api.watchers.sit(&caller.tenant)?;
    let closing = closing.map(|Extension(closing)| closing).unwrap_or_default();
    let until = Instant::now() + LONGEST;
    let reader = Reader { api: api.clone(), caller: caller.clone(), closing, until, room: None, _seat: seat };
    let steps = futures::stream::unfold((source, reader), async |(mut source, mut reader)| {
        // The client comes back by itself, and then gets the problem as an answer.
        let events = reader.next(&mut source).await.unwrap_or_else(|problem| {
            problem.log();
            None
        });
        Some((events?, (source, reader)))
    });
    let events = steps.flat_map(|events| futures::stream::iter(events.into_iter().map(Ok::<_, Infallible>)));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("still here")).into_response())
}

/// Who reads a stream.
struct Reader {
    api: Api,
    caller: Caller,
    closing: Closing,
    until: Instant,
    /// What the last batch holds until the next is asked for.
    room: Option<Room>,
    _seat: Share,
}

impl Reader {
    /// What comes next, asked for with a key that is good when it is given out; none: that was all.
    async fn next(&mut self, source: &mut impl Source) -> Result<Option<Vec<Event>>> {
        self.room = None;
        let next = tokio::select! {
            next = self.api.access.while_good(&self.caller, source.next()) => next,
            () = self.closing.0.cancelled() => return Ok(None),
            () = tokio::time::sleep_until(self.until) => return Ok(None),
        };
        let Some(batch) = next?? else { return Ok(None) };
        self.room = Some(self.api.answers.room(&self.caller, batch.bytes as u64)?);
        Ok(Some(batch.events))
    }
}

/// The seats for readers of events, which tenants share.
#[derive(Debug)]
pub(crate) struct Watchers(Pot);

impl Watchers {
    pub(crate) fn new(most: usize) -> Self {
        // bound: seats for readers of events
        Self(Pot::divided(most as u64))
    }

    /// A seat, until it is dropped.
    fn sit(&self, tenant: &TenantId) -> Result<Share> {
        self.0.take(tenant, 1).map_err(|full| {
            let whose = match full {
                Full::Own => "Your tenant follows",
                Full::All => "Everybody together follows",
            };
            let why = format!(
                "{whose} as many streams of events at once as there are seats for; end one, or read in steps: a run's journal, \
                 the list of changes, a topic's events."
            );
            Problem::busy(why, HEARTBEAT)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_tenants_that_take_all_the_seats_they_can_leave_one_for_each_that_comes_later() {
        let watchers = Watchers::new(256);
        let seats = |tenant: &str| {
            let tenant = tenant.parse().unwrap();
            std::iter::from_fn(|| watchers.sit(&tenant).ok()).collect::<Vec<_>>()
        };
        let taken = [seats("a"), seats("b")];
        assert_eq!(watchers.sit(&"a".parse().unwrap()).unwrap_err().status(), 429);
        let later: Vec<_> = (0..64).map(|number| watchers.sit(&format!("later-{number}").parse().unwrap())).collect();
        assert!(later.iter().all(std::result::Result::is_ok));
        assert_eq!(taken.map(|seats| seats.len()), [96, 48]);
        assert_eq!(watchers.0.out(), 64);
        drop(later);
        assert_eq!(watchers.0.out(), 0);
    }
}
