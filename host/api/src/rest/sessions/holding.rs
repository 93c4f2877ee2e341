//! Who holds a session's conversation, said by people.

use axum::extract::State;
use axum::response::IntoResponse as _;
use ltmc_model::{AgentName, SessionId};
use ltmc_policy::Action;
use serde::Deserialize;
use utoipa::ToSchema;

use super::Session;
use crate::app::{Answer, Api};
use crate::extract::{At, By, Document, Json};

/// To whom a conversation is handed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ToWhom {
    /// An agent of the workflow's `hand-off`.
    #[schema(value_type = String, example = "refunds")]
    to: AgentName,
    /// Why, for people; 1 to 1024 bytes, without control characters.
    #[schema(example = "The customer asked for a person who knows refunds")]
    reason: String,
}

impl Document for ToWhom {
    const FOR: Action = Action::Run;
}

/// Hand a session's conversation on
///
/// Between two turns: from the next one on that agent holds it. The workflow that answers has a `hand-off` at its root, and the agent is one of its `among`. Who
/// opened the session may, and keys of the roles author and admin.
#[utoipa::path(
    post, path = "/v1/sessions/{id}/hand-off", tag = "sessions", request_body = ToWhom,
    params(("id" = String, Path, description = "The session")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller"])), ("x-ltmc-codes" = json!(["bad-json", "invalid", "session-over", "conflict", "busy"]))),
    responses((status = 200, description = "As it stands now", body = Session)),
)]
pub(super) async fn hand_over(
    State(api): State<Api>,
    By(caller): By,
    At(id): At<SessionId>,
    Json(ToWhom { to, reason }): Json<ToWhom>,
) -> Answer {
    let session = api.sessions.hand_over(&caller, &id, to, reason).await?;
    Ok(axum::Json(Session::of(session, api.clock.now())).into_response())
}
