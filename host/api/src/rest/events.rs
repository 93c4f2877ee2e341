//! A run's journal as server-sent events: what happened so far, then what happens, until the run is over.
//!
//! Invariants: an event's id is its entry's number, so that whoever comes back misses nothing and gets nothing twice.
//! Readers are bounded, also for each tenant. A stream ends after a while by itself: the reader comes back, and its key is
//! looked at anew.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse as _;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures::Stream;
use ltmc_model::caller::Caller;
use ltmc_model::journal::Placed;
use ltmc_model::{RunId, Seq, TenantId};
use ltmc_orchestration::Watch;
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::{Answer, Api};
use crate::extract::{Asked, At, By};
use crate::headers::last_event_id;
use crate::problem::{Problem, Result};
use crate::serve::Closing;

/// How often a quiet stream says that it lives.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);
/// After which a stream ends.
pub(super) const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Entries read at once.
const PAGE: u32 = 256;

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default().routes(routes!(events))
}

/// From where on.
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
    let watch = api.runs.watch(&caller, run).await?;
    let seat = api.watchers.sit(&caller.tenant)?;
    let closing = closing.map(|Extension(closing)| closing).unwrap_or_default();
    let reader =
        Reader { api, caller, run, after: Seq(after), watch, closing, until: Instant::now() + LONGEST, _seat: seat };
    let stream = Sse::new(reader.stream()).keep_alive(KeepAlive::new().interval(HEARTBEAT).text("still here"));
    Ok(stream.into_response())
}

/// One who reads a run's events.
struct Reader {
    api: Api,
    caller: Caller,
    run: RunId,
    after: Seq,
    watch: Watch,
    closing: Closing,
    until: Instant,
    _seat: Seat,
}

/// What comes next.
enum Next {
    Entries(Vec<Placed>),
    End(Event),
    /// The stream stops here, and may be taken up again.
    Stop,
}

impl Reader {
    fn stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        let steps = futures::stream::unfold(Some(self), async |reader| {
            let mut reader = reader?;
            match reader.next().await {
                Next::Entries(entries) => Some((entries.iter().map(event).collect::<Vec<_>>(), Some(reader))),
                Next::End(event) => Some((vec![event], None)),
                Next::Stop => None,
            }
        });
        futures::StreamExt::flat_map(steps, |events| futures::stream::iter(events.into_iter().map(Ok)))
    }

    async fn next(&mut self) -> Next {
        loop {
            // Looked at before the journal is read: what comes after is then seen by the next look.
            let over = self.watch.look().filter(|state| state.is_over());
            match self.api.runs.journal(&self.caller, self.run, self.after, PAGE).await {
                Ok(entries) if entries.is_empty() => {}
                Ok(entries) => {
                    self.after = entries.last().map_or(self.after, |last| last.seq);
                    return Next::Entries(entries);
                }
                Err(error) => {
                    // The client comes back by itself, and then gets the problem as an answer.
                    Problem::from(error).log();
                    return Next::Stop;
                }
            }
            if let Some(state) = over {
                let data = serde_json::json!({ "state": state });
                return Next::End(Event::default().event("end").data(data.to_string()));
            }
            tokio::select! {
                () = self.watch.changed() => {}
                () = self.closing.0.cancelled() => return Next::Stop,
                () = tokio::time::sleep_until(self.until) => return Next::Stop,
            }
        }
    }
}

fn event(placed: &Placed) -> Event {
    let kind = placed.entry.event.kind();
    let event = Event::default().id(placed.seq.to_string()).event(kind);
    let data = serde_json::to_string(placed).unwrap_or_else(|_| "{}".into());
    event.data(data)
}

/// The seats for readers of events.
#[derive(Debug)]
pub(crate) struct Watchers {
    most: usize,
    taken: Mutex<HashMap<TenantId, usize>>,
}

/// One of them; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    watchers: Arc<Watchers>,
    tenant: TenantId,
}

impl Watchers {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    /// A seat, if there is one left: in all, and for this tenant, which gets at most half.
    pub(super) fn sit(self: &Arc<Self>, tenant: &TenantId) -> Result<Seat> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(tenant).copied().unwrap_or_default();
        if taken.values().sum::<usize>() >= self.most || own >= self.most.div_ceil(2) {
            return Err(Problem::busy("Too many follow events at once; read the journal instead.", HEARTBEAT));
        }
        taken.insert(tenant.clone(), own + 1);
        Ok(Seat { watchers: self.clone(), tenant: tenant.clone() })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.watchers.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.tenant) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seats_are_bounded_in_all_and_for_each_tenant() {
        let watchers = Watchers::new(3);
        let [a, b]: [TenantId; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        let first = watchers.sit(&a).unwrap();
        let _second = watchers.sit(&a).unwrap();
        assert_eq!(watchers.sit(&a).unwrap_err().status(), 429);
        let _third = watchers.sit(&b).unwrap();
        assert!(watchers.sit(&b).is_err());
        drop(first);
        assert!(watchers.sit(&b).is_ok());
        assert_eq!(watchers.taken.lock().unwrap().len(), 2);
    }
}
