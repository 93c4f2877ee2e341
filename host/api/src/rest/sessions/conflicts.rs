//! Where branches of a session's turns did not go together, and by which policy they did.

use axum::extract::State;
use ltmc_model::SessionId;

use crate::answers::PAGE;
use crate::app::{Answer, Api};
use crate::extract::{At, By};

/// List the conflicts of a session's memory
///
/// Keys that branches of its turns changed differently, with what each made of them and how that was settled, or that it is open: of the last 100 turns, those first that came last. `more`: of
/// 200 conflicts, or of 100 turns, only the last are told.
#[utoipa::path(
    get, path = "/v1/sessions/{id}/conflicts", tag = "sessions", params(("id" = String, Path, description = "The session")),
    extensions(("x-ltmc-role" = json!(["admin", "author", "caller", "viewer"]))),
    responses((status = 200, description = "`{\"conflicts\": [{\"turn\", \"run\", \"node\", \"key\", …}], \"more\"}`", body = Object)),
)]
pub(super) async fn conflicts(State(api): State<Api>, By(caller): By, At(id): At<SessionId>) -> Answer {
    let room = api.answers.room(&caller, PAGE)?;
    room.json(&api.sessions.conflicts(&caller, &id).await?)
}
