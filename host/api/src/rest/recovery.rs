//! What people do about runs that did not go as they should: they look why, and where branches conflict, change what a step gave or works on, resume, restart,
//! fork, and compare.

use axum::extract::{Request, State};
use axum::http::HeaderValue;
use ltmc_model::caller::Caller;
use ltmc_model::journal::Replayed;
use ltmc_model::{Digest, Payload, RunId, Seq};
use ltmc_orchestration::{Asked as Wanted, Diff, ForkFrom, ForkRequest};
use ltmc_policy::Action;
use ltmc_tenancy::compute::LARGE;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::call::{accepted, accepted_with, digest};
use crate::answers::{ONE, PAGE};
use crate::app::{Answer, Api};
use crate::extract::{Asked, At, AtBoth, By, media_type, whole};
use crate::headers::{self, IDEMPOTENT_REPLAYED};
use crate::page::{Paging, seal};
use crate::problem::{Problem, Result};

const DIFF: &str = "diff";

pub(super) fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(why))
        .routes(routes!(conflicts))
        .routes(routes!(resume))
        .routes(routes!(restart))
        .routes(routes!(fork))
        .routes(routes!(diff))
}

/// Tell why a run stands where it does
///
/// In a sentence (`summary`); from the step that failed up to the root, with its tries and what was done on each level of errors
/// (`chain`); failures that were `handled`, and by what; what it `waits` for, since when, until when, and why it may be `in_vain`; what is at work (`at_work`); and what
/// can be done `next`, as commands.
#[utoipa::path(
    get, path = "/v1/runs/{id}/why", tag = "runs",
    params(("id" = String, Path, description = "The run")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"])), ("x-ltmc-codes" = json!(["busy"]))),
    responses((status = 200, body = Object)),
)]
async fn why(State(api): State<Api>, By(caller): By, At(run): At<RunId>) -> Answer {
    let room = api.answers.room(&caller, ONE)?;
    room.json(&api.runs.why(&caller, run).await?)
}

/// List where branches of a run conflict
///
/// Of each key the node that forks, what the key held when a branch first looked at it (`base`), what it holds now (`current`), what each
/// branch did (`sides`), and how it was settled (`resolved`: a policy, or `answer`), if it was. Values are told to keys that may see
/// shared context. `more` says whether there are others.
#[utoipa::path(
    get, path = "/v1/runs/{id}/conflicts", tag = "runs",
    params(("id" = String, Path, description = "The run")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"])), ("x-ltmc-codes" = json!(["busy"]))),
    responses((status = 200, body = Object)),
)]
async fn conflicts(State(api): State<Api>, By(caller): By, At(run): At<RunId>) -> Answer {
    let room = api.answers.room(&caller, ONE)?;
    room.json(&api.runs.conflicts(&caller, run).await?)
}

/// What is changed in a run before it goes on.
#[derive(Serialize, ToSchema)]
struct Amendments {
    /// What steps gave: a field for each, by its name or its path. Such a step counts as completed.
    #[schema(value_type = Option<Object>, example = json!({"scan": {"findings": []}}))]
    set: (),
    /// What steps work on: a field for each, by its name or its path. Such a step is made again.
    #[schema(value_type = Option<Object>, example = json!({"0/2/1": {"path": "a.rs"}}))]
    input: (),
    /// Agents whose steps are done by another version from here on, each with its digest.
    #[schema(value_type = Option<Vec<String>>, example = json!(["scan@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]))]
    agents: (),
    /// What is taken of keys of memory whose branches conflict: what a branch made of it, or a value.
    #[schema(value_type = Option<Object>, example = json!({"plan/budget": {"branch": "legal"}, "plan/due": {"value": "June"}}))]
    merge: (),
}

/// Resume a run
///
/// A failed, cancelled, quarantined, paused or stuck run goes on where it stopped: what it did is not done again. With a body, steps are changed
/// first; what came after them is done again. All of it is journaled, or nothing.
#[utoipa::path(
    post, path = "/v1/runs/{id}/resume", tag = "runs",
    params(("id" = String, Path, description = "The run")),
    request_body(content = Option<Amendments>, content_type = "application/json", description = "What is changed first; nothing, if left out"),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"])), ("x-ltmc-codes" = json!(["conflict", "busy", "bad-json", "bad-recovery"]))),
    responses((status = 202, description = "It runs again", body = GoesOn, headers(("Location" = String, description = "The run")))),
)]
async fn resume(State(api): State<Api>, By(caller): By, At(run): At<RunId>, request: Request) -> Answer {
    let Sent { wanted, .. } = Sent::read(request, &caller, "resume", run, &[], &api).await?;
    let replayed = api.runs.resume_with(&caller, run, wanted.changes).await?;
    let replayed = replayed.into_iter().map(|Replayed { step, calls }| MadeAgain { step: step.to_string(), calls });
    accepted_with(run, GoesOn { run, replayed: replayed.collect() })
}

/// A run that goes on.
#[derive(Serialize, ToSchema)]
struct GoesOn {
    /// The run; `Location` leads to it.
    #[schema(value_type = String, format = Uuid)]
    run: RunId,
    /// Steps in the middle of their work whose host calls versions that take over made again first, without anything being done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    replayed: Vec<MadeAgain>,
}

/// What a version made again of a step before it took over.
#[derive(Serialize, ToSchema)]
struct MadeAgain {
    /// The step, by its path.
    #[schema(example = "0/2")]
    step: String,
    /// How many host calls: all up to its last checkpoint.
    calls: u32,
}

/// From where a run is restarted.
#[derive(Serialize, ToSchema)]
struct Restart {
    /// The step, or another node, by its name or its path: it is done again, and what came after it.
    #[schema(example = "scan")]
    from: String,
    /// Whether a run that is under way is cancelled first; otherwise it is refused.
    #[schema(required = false, default = false)]
    cancel: bool,
    #[serde(flatten)]
    amendments: Amendments,
}

/// Restart a run from a step
///
/// A new run that goes on from where this one ended, in which that step is done again and what came after it. What came before it,
/// and other branches, is not. The old run stays as it is.
#[utoipa::path(
    post, path = "/v1/runs/{id}/restart", tag = "runs",
    params(
        ("id" = String, Path, description = "The run"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters. The same key and request within 24 hours mean the same new run"),
    ),
    request_body(content = Restart, content_type = "application/json"),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"])), ("x-ltmc-codes" = json!(["conflict", "busy", "bad-json", "bad-recovery", "idempotency-key-reused"]))),
    responses((status = 202, description = "The new run runs", body = super::call::Accepted, headers(("Location" = String, description = "The new run")))),
)]
async fn restart(State(api): State<Api>, By(caller): By, At(run): At<RunId>, request: Request) -> Answer {
    let sent = Sent::read(request, &caller, "restart", run, &["from", "cancel"], &api).await?;
    let step = sent.wanted.field::<String>("from", "the name or the path of a step")?;
    let step = step
        .ok_or_else(|| Problem::new("bad-json", "`from` is missing: the name or the path of a step.").field("from"))?;
    let cancel = sent.wanted.field("cancel", "true or false")?.unwrap_or_default();
    sent.forked(&caller, run, ForkFrom::Step { step, cancel }, &api).await
}

/// Where a run is forked.
#[derive(Serialize, ToSchema)]
struct Fork {
    /// The last entry of its journal that counts; left out: the last there is.
    #[schema(required = false, example = 17)]
    at: Option<u64>,
    #[serde(flatten)]
    amendments: Amendments,
}

/// Fork a run
///
/// A new run that shares this one's journal up to an entry, and goes on from there by itself; this one stays as it is, and goes on
/// where it does. Attempts that were open there are made again in the new run, from their last checkpoint.
#[utoipa::path(
    post, path = "/v1/runs/{id}/fork", tag = "runs",
    params(
        ("id" = String, Path, description = "The run"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters. The same key and request within 24 hours mean the same new run"),
    ),
    request_body(content = Option<Fork>, content_type = "application/json"),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"])), ("x-ltmc-codes" = json!(["conflict", "busy", "bad-json", "bad-recovery", "idempotency-key-reused"]))),
    responses((status = 202, description = "The new run runs", body = super::call::Accepted, headers(("Location" = String, description = "The new run")))),
)]
async fn fork(State(api): State<Api>, By(caller): By, At(run): At<RunId>, request: Request) -> Answer {
    let sent = Sent::read(request, &caller, "fork", run, &["at"], &api).await?;
    let at = sent.wanted.field::<u64>("at", "the number of an entry of the run's journal")?.map(Seq);
    sent.forked(&caller, run, ForkFrom::Entry(at), &api).await
}

/// Compare two runs
///
/// Step by step, in the order of the tree: `items` are those that did not come to the same, with what differs and what each of both
/// came to; `same` and `different` count all of them. What is large is told by its size and digest.
#[utoipa::path(
    get, path = "/v1/runs/{id}/diff/{other}", tag = "runs",
    params(("id" = String, Path, description = "The one"), ("other" = String, Path, description = "The other"), Paging),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"])), ("x-ltmc-codes" = json!(["busy"]))),
    responses((status = 200, body = Object)),
)]
async fn diff(
    State(api): State<Api>,
    By(caller): By,
    AtBoth(one, other): AtBoth<RunId, RunId>,
    Asked(paging): Asked<Paging>,
) -> Answer {
    let limit = paging.limit()? as usize;
    let skip = paging.after::<usize>(DIFF)?.unwrap_or_default();
    let room = api.answers.room(&caller, PAGE)?;
    let diff = api.runs.diff(&caller, [one, other], skip, limit).await?;
    let end = skip.saturating_add(diff.items.len());
    let next = (end < diff.different).then(|| seal(DIFF, &end.to_string()));
    room.json(&Compared { diff, next })
}

/// A page of what differs between two runs.
#[derive(Serialize)]
struct Compared {
    #[serde(flatten)]
    diff: Diff,
    next: Option<String>,
}

/// What somebody wants done with a run.
struct Sent {
    wanted: Wanted,
    idempotency: Option<String>,
    digest: Digest,
}

impl Sent {
    /// `fields`: those it may have besides what is changed.
    async fn read(
        request: Request,
        caller: &Caller,
        verb: &'static str,
        run: RunId,
        fields: &'static [&'static str],
        api: &Api,
    ) -> Result<Self> {
        let head = request.headers();
        let idempotency = headers::idempotency_key(head)?;
        let media_type = media_type(head);
        let (bytes, held) = whole(request, Action::Run, api.limits.payload, api).await?;
        let is_json = media_type.is_some_and(|mime| mime.subtype() == mime::JSON || mime.suffix() == Some(mime::JSON));
        if !is_json && !bytes.is_empty() {
            return Err(Problem::new("unsupported-media-type", "This route takes `Content-Type: application/json`."));
        }
        let body = Payload { content_type: Payload::JSON.into(), bytes };
        let is_large = body.bytes.len() > LARGE;
        let read = move || {
            let _held = held;
            let digest = digest(verb, &run, None, &body);
            Wanted::read(&body, fields).map(|wanted| Self { wanted, idempotency, digest })
        };
        Ok(if is_large { api.compute.run(&caller.tenant, read).await?? } else { read()? })
    }

    async fn forked(self, caller: &Caller, run: RunId, from: ForkFrom, api: &Api) -> Answer {
        let Self { wanted: Wanted { changes, .. }, idempotency, digest } = self;
        let request = ForkRequest { from, changes, idempotency, request_digest: digest };
        let started = api.runs.fork(caller, run, request).await?;
        let mut response = accepted(started.run)?;
        if started.attached {
            response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
        }
        Ok(response)
    }
}
