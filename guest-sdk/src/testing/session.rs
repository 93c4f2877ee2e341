//! What was said before, in memory: as a test says.

use ltmc_rules::session::{check_last, told};

use super::{Host, current};
use crate::session::Exchange;
use crate::{Error, Payload};

/// Who says everything in a test.
const BY: &str = "tttttttttttt";

impl Host {
    /// There was a turn before: what was said, and what was answered, if anything was.
    pub fn said(&self, message: &str, answer: Option<&str>) {
        let text = |text: &str| Payload::new("text/plain; charset=utf-8", text.as_bytes().to_vec());
        let mut state = self.state.borrow_mut();
        let turn = u32::try_from(state.said.len() + 1).unwrap_or(u32::MAX);
        let exchange = Exchange { turn, by: BY.to_owned(), message: text(message), answer: answer.map(text) };
        state.said.push(exchange);
    }
}

pub(crate) fn history(last: u32) -> Result<Vec<Exchange>, Error> {
    current()?.cross(format_args!("history {last}"), |at| {
        at.state.demand("session:history")?;
        check_last(last).map_err(Error::Invalid)?;
        let size =
            |said: &Exchange| said.message.bytes.len() + said.answer.as_ref().map_or(0, |it| it.bytes.len()) + 128;
        let said = &at.state.said;
        let count = told(said.iter().rev().map(size), last);
        Ok(said[said.len() - count..].to_vec())
    })
}
