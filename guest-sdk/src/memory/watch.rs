//! Watching: changes one by one, in the order in which they happened, without gaps and without anything twice.

use std::time::Duration;

use super::{Change, Store};
use crate::{Error, MAX_WAIT, host};

/// The changes of [`Store::watch`], each as it happens. Ends when it has waited for as long as it may, and after the first
/// error.
#[derive(Debug)]
pub struct Watch<'a> {
    store: &'a Store,
    prefix: String,
    page: std::vec::IntoIter<Change>,
    /// Every change up to here was handed out, or is in `page`.
    after: u64,
    left: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    /// Where it began was not found out: the next thing to say.
    Failed(Error),
    Over,
}

impl<'a> Watch<'a> {
    const PAGE: u32 = 100;

    /// What is changed after this call is part of it, also before the first `next`.
    pub(super) fn from_now(store: &'a Store, prefix: &str) -> Self {
        let mut watch = Self::after(store, prefix, 0);
        match store.changes(prefix, None, Self::PAGE, Duration::ZERO) {
            Ok(found) => (watch.page, watch.after) = (found.changes.into_iter(), found.next),
            Err(error) => watch.state = State::Failed(error),
        }
        watch
    }

    pub(super) fn after(store: &'a Store, prefix: &str, after: u64) -> Self {
        let (prefix, page) = (prefix.to_owned(), Vec::new().into_iter());
        Self { store, prefix, page, after, left: MAX_WAIT, state: State::Open }
    }

    /// Waits at most this long in all, 30 s unless set: then it ends. What an agent does between two changes does not count;
    /// with `Duration::ZERO` it ends at once where nothing is there. The call's own limits count on: see `wall` in the
    /// agent's manifest.
    #[must_use]
    pub fn for_at_most(mut self, wait: Duration) -> Self {
        self.left = wait;
        self
    }

    /// After which position to go on with [`Store::watch_from`]: every change up to here was handed out.
    pub fn position(&self) -> u64 {
        self.page.as_slice().first().map_or(self.after, |next| next.position.saturating_sub(1))
    }
}

impl Iterator for Watch<'_> {
    type Item = Result<Change, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(change) = self.page.next() {
                return Some(Ok(change));
            }
            match std::mem::replace(&mut self.state, State::Over) {
                State::Over => return None,
                State::Failed(error) => return Some(Err(error)),
                State::Open => {}
            }
            let (wait, begun) = (self.left.min(MAX_WAIT), host::clock());
            let found = match self.store.changes(&self.prefix, Some(self.after), Self::PAGE, wait) {
                Ok(found) => found,
                Err(error) => return Some(Err(error)),
            };
            let waited = host::clock().saturating_sub(begun);
            self.after = found.next;
            // Where nothing came, all of the wait is over, whatever the clock says.
            let waited = if found.changes.is_empty() { waited.max(wait) } else { waited };
            self.left = self.left.saturating_sub(waited);
            if found.changes.is_empty() && self.left.is_zero() {
                return None;
            }
            self.page = found.changes.into_iter();
            self.state = State::Open;
        }
    }
}
