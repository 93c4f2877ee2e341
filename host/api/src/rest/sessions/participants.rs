//! Who takes part in a session: let in, put out, and listed.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use ltmc_model::session::Part;
use ltmc_model::{AgentName, KeyId, SessionId};
use ltmc_policy::Action;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::answers::ONE;
use crate::app::{Answer, Api};
use crate::extract::{At, AtBoth, By, Document, Json};

/// Who takes part in a session.
#[derive(Serialize, ToSchema)]
pub(super) struct Participants {
    /// The agent that holds its conversation, where it was handed on.
    #[schema(value_type = Option<String>, required)]
    holder: Option<AgentName>,
    /// Keys: the one that opened it first.
    keys: Vec<Participant>,
}

/// A key that takes part in a session.
#[derive(Serialize, ToSchema)]
pub(super) struct Participant {
    /// The key's id.
    #[schema(value_type = String)]
    key: KeyId,
    /// `owner` (it opened the session, may say something and change it), `contributor` (it may say something) or `observer` (it may read).
    #[schema(example = "contributor")]
    part: &'static str,
}

/// List who takes part in a session
#[utoipa::path(
    get, path = "/v1/sessions/{id}/participants", tag = "sessions",
    params(("id" = String, Path, description = "The session")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"]))),
    responses((status = 200, body = Participants)),
)]
pub(super) async fn list(State(api): State<Api>, By(caller): By, At(id): At<SessionId>) -> Answer {
    let room = api.answers.room(&caller, ONE)?;
    let session = api.sessions.get(&caller, &id).await?;
    let owner = Participant { key: session.by, part: "owner" };
    let others = session.settings.participants.into_iter();
    let others = others.map(|(key, part)| Participant { key, part: part.as_str() });
    let keys = std::iter::once(owner).chain(others).collect();
    room.json(&Participants { holder: session.holder.map(|holder| holder.agent), keys })
}

/// As what a key takes part.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AsWhat {
    /// `contributor` (it may say something, and read) or `observer` (it may read).
    #[schema(value_type = String, example = "contributor")]
    part: Part,
}

impl Document for AsWhat {
    const FOR: Action = Action::Run;
}

/// Let a key take part in a session
///
/// From now on, or as something else than before; a key of the role `caller`, for others may look at any session anyway. Who opened the session may, and keys of the roles author and
/// admin. It stands in the audit.
#[utoipa::path(
    put, path = "/v1/sessions/{id}/participants/{participant}", tag = "sessions", request_body = AsWhat,
    params(("id" = String, Path, description = "The session"), ("participant" = String, Path, description = "The key's id", example = "k3v9x0q2m7ab")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"])), ("x-ltmc-codes" = json!(["bad-json", "invalid", "conflict"]))),
    responses((status = 204, description = "It takes part")),
)]
pub(super) async fn put(
    State(api): State<Api>,
    By(caller): By,
    AtBoth(id, key): AtBoth<SessionId, KeyId>,
    Json(AsWhat { part }): Json<AsWhat>,
) -> Answer {
    api.sessions.set_part(&caller, &id, key, Some(part)).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Have a key take part in a session no more
///
/// What it said stays, and a turn of it that waits is done. Who opened the session may, and keys of the roles author and admin.
#[utoipa::path(
    delete, path = "/v1/sessions/{id}/participants/{participant}", tag = "sessions",
    params(("id" = String, Path, description = "The session"), ("participant" = String, Path, description = "The key's id", example = "k3v9x0q2m7ab")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"]))),
    responses((status = 204, description = "It takes part no more")),
)]
pub(super) async fn remove(
    State(api): State<Api>,
    By(caller): By,
    AtBoth(id, key): AtBoth<SessionId, KeyId>,
) -> Answer {
    api.sessions.set_part(&caller, &id, key, None).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
