//! The host's side of the interface `ltmc:agent/session`.

use ltmc_model::call::session as call;
use ltmc_model::session::Exchange;

use super::{Answered, wit};
use crate::guest::Guest;

impl wit::session::Host for Guest {
    async fn history(&mut self, last: u32) -> Answered<Vec<wit::session::Exchange>> {
        let told = self.cross(call::History { last }).await?;
        Ok(told.map(|told| told.into_iter().map(exchange).collect()))
    }
}

fn exchange(exchange: Exchange) -> wit::session::Exchange {
    let payload = |payload: ltmc_model::Payload| wit::types::Payload {
        content_type: payload.content_type,
        bytes: payload.bytes.into(),
    };
    let Exchange { turn, by, message, answer } = exchange;
    wit::session::Exchange { turn, by: by.to_string(), message: payload(message), answer: answer.map(payload) }
}
