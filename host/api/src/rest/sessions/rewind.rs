//! Sessions, taken back to a turn, or forked there.

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::IntoResponse as _;
use ltmc_model::SessionId;
use ltmc_policy::Action;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Session, once, titled};
use crate::app::{Answer, Api};
use crate::extract::{At, By, Document, Json};
use crate::problem::Problem;

/// To where a session is taken back.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ToTurn {
    /// Its last turn that counts; 0: none. One of the last 100.
    #[schema(example = 3)]
    to: u32,
}

impl Document for ToTurn {
    const FOR: Action = Action::Run;
}

/// A session that was taken back.
#[derive(Serialize, ToSchema)]
struct RewoundSession {
    /// As it stands.
    session: Session,
    /// How many turns are no part of its conversation any more.
    turns: usize,
    /// How many keys of its memory are as they were.
    keys: usize,
    /// What these turns did elsewhere, which stays; at most 100.
    stays: Vec<StaysThere>,
    /// How many more there are.
    more: usize,
}

/// Something that a turn did outside of its session's memory.
#[derive(Serialize, ToSchema)]
struct StaysThere {
    /// The turn's number in the session.
    turn: u32,
    /// By which host call; `emit` and `run` for what its workflow published or began itself.
    #[schema(example = "memory.put")]
    call: String,
    /// What that was about.
    #[schema(example = "global/orders (12 bytes)")]
    about: String,
}

/// Take a session back
///
/// Between two turns: its memory, and who holds its conversation, are as they were after that turn, and later turns are no part of the conversation any more. What these
/// did elsewhere (global memory, messages, the graph, notes, other runs) stays, and is told. Who opened the session may, and keys of the roles author and admin.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/rewind", tag = "sessions", request_body = ToTurn,
    params(("id" = String, Path, description = "The session")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"])), ("x-ltmc-codes" = json!(["bad-json", "invalid", "session-over", "conflict", "busy"]))),
    responses((status = 200, body = RewoundSession)),
)]
pub(super) async fn rewind(
    State(api): State<Api>,
    By(caller): By,
    At(id): At<SessionId>,
    Json(ToTurn { to }): Json<ToTurn>,
) -> Answer {
    let rewound = api.sessions.rewind(&caller, &id, to).await?;
    let stays = rewound.stays.into_iter().map(|it| StaysThere { turn: it.turn, call: it.call, about: it.about });
    Ok(axum::Json(RewoundSession {
        session: Session::of(rewound.session, api.clock.now()),
        turns: rewound.turns,
        keys: rewound.keys,
        stays: stays.collect(),
        more: rewound.more,
    })
    .into_response())
}

/// Where a session is forked.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ForkAt {
    /// The last turn that the new one has, too, one of the last 100; the last that is over if left out.
    #[schema(example = 3)]
    at: Option<u32>,
    /// For people; at most 200 bytes. That of the session that is forked if left out.
    title: Option<String>,
}

impl Document for ForkAt {
    const FOR: Action = Action::Run;
}

/// Fork a session
///
/// A new session with the same settings, which begins with what was said up to a turn, and with the memory, and the holder of the conversation, of then. What waits, is asked, or comes
/// later in the one that is forked is nothing of the new one. Who may say something in the session may.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/fork", tag = "sessions", request_body = ForkAt,
    params(
        ("id" = String, Path, description = "The session"),
        ("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters. The same key and request are the same session"),
    ),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"])), ("x-ltmc-codes" = json!(["bad-json", "invalid", "conflict"]))),
    responses((status = 201, description = "It is open", body = Session, headers(("Location" = String, description = "The new session")))),
)]
pub(super) async fn fork(
    State(api): State<Api>,
    By(caller): By,
    At(id): At<SessionId>,
    sent: HeaderMap,
    Json(ForkAt { at, title }): Json<ForkAt>,
) -> Answer {
    let title = titled(title)?;
    let request = once(&sent, "fork", &(&id, at, &title))?;
    let session = api.sessions.fork(&caller, &id, at, title, request).await?;
    let location = HeaderValue::try_from(format!("/v1/sessions/{}", session.id)).map_err(Problem::internal)?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], axum::Json(Session::of(session, api.clock.now())))
        .into_response())
}
