//! What the routes of shared context have in common: how a refusal is answered, and how a database's absence is said.

use std::time::Duration;

use axum::http::HeaderValue;
use ltmc_model::effect::Refusal;
use serde::Serialize;

use crate::answers::Room;
use crate::app::Answer;
use crate::problem::Problem;

/// A refusal, as a client is told of it.
pub(super) fn refused(refusal: Refusal) -> Problem {
    match refusal {
        Refusal::Denied(capability) => Problem::new("denied", format!("This takes the capability `{capability}`.")),
        Refusal::Conflict(current) => {
            let now = current.map_or("nothing is there".to_owned(), |now| format!("it is at revision {now}"));
            Problem::new("precondition-failed", format!("It is not as the request supposes: {now}."))
        }
        Refusal::NotFound => Problem::new("not-found", "There is no such thing."),
        Refusal::Resync(at) => {
            let detail = format!(
                "What came after this place is not kept any more: read what is there now, and go on after {at}."
            );
            Problem::new("resync", detail).field("after").position(at.0)
        }
        Refusal::Quota(which) => Problem::new("quota-exceeded", which).retry_after(Duration::from_secs(1)),
        Refusal::Invalid(why) => Problem::new("invalid", why),
        Refusal::Unavailable { message, retry_after_ms } => {
            Problem::new("unavailable", message).retry_after(Duration::from_millis(retry_after_ms))
        }
    }
}

/// An answer that says where the record stood in for a database.
pub(super) fn marked<T: Serialize>(room: Room, degraded: bool, body: &T) -> Answer {
    let mut response = room.json(body)?;
    if degraded {
        response.headers_mut().insert("ltmc-degraded", HeaderValue::from_static("true"));
    }
    Ok(response)
}
