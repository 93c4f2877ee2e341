//! What a step sees and does in a branch that has a context of its own: memory of the session, and messages.
//!
//! Invariants: nothing that is done here is true; it is an entry of the journal once the step is over, or at its next checkpoint.
//! Before a branch is told of a key, or changes it, the journal says what the fork began with.

use std::collections::BTreeMap;
use std::sync::Arc;

use ltmc_journal::RunLog;
use ltmc_journal::runlog::Commit;
use ltmc_model::delta::MemoryChange;
use ltmc_model::fork::{Branch, Did, Done, Level, MAX_BYTES, Side};
use ltmc_model::journal::Event;
use ltmc_model::memory::{Drawer, Item};
use ltmc_model::message::Message;
use ltmc_model::{StepPath, Timestamp};
use ltmc_ports::{Kind, StoreError};

use crate::context::{Decided, Whose, Within};
use crate::memory::lives;
use crate::transaction::Transaction;

/// Memory of the session as a step sees it in its branch.
pub(crate) struct Apart<'a> {
    log: &'a Arc<RunLog>,
    transaction: &'a Transaction,
    /// The branches it stands in, from the outside in.
    branches: Vec<&'a Branch>,
}

impl<'a> Whose<'a> {
    /// The branch in which a drawer is apart; none: it is everybody's.
    pub(crate) fn apart(&self, drawer: &Drawer) -> Option<Apart<'a>> {
        let within = self.within.filter(|_| matches!(drawer, Drawer::Session(_)))?;
        let levels = within.transaction.levels().iter().filter(|level| level.session);
        let branches: Vec<&Branch> = levels.map(|level| &level.of).collect();
        let log = within.log.filter(|_| !branches.is_empty())?;
        Some(Apart { log, transaction: within.transaction, branches })
    }

    /// Whether it is memory of the session, and who asks settles a conflict about that.
    pub(crate) fn settles(&self, drawer: &Drawer) -> bool {
        let is_settling = |within: Within<'_>| within.transaction.levels().iter().any(|level| level.settles);
        matches!(drawer, Drawer::Session(_)) && self.within.is_some_and(is_settling)
    }

    /// The branch that holds what is sent until it comes together with the others; none: it is sent.
    pub(crate) fn holds_messages(&self) -> Option<&'a Branch> {
        Level::holds_messages(self.within?.transaction.levels())
    }

    /// An answer with a message that is held.
    pub(crate) fn held<R>(&self, reply: R, of: &Branch, message: Message) -> Result<Decided<R>, StoreError> {
        let bytes =
            self.within.map_or(0, |within| within.transaction.bytes_apart()) + message.event.data.bytes.len() as u64;
        let has_room = self.log().is_none_or(|log| log.read(|history| history.forked().has_room(bytes)));
        if has_room { Ok(self.only_there(reply, of, Vec::new(), vec![message])) } else { Err(full()) }
    }

    fn only_there<R>(&self, reply: R, of: &Branch, changed: Vec<(String, Side)>, sent: Vec<Message>) -> Decided<R> {
        let step = self.within.map_or_else(StepPath::root, |within| within.transaction.taker().step.clone());
        let done = Event::BranchChanged(Box::new(Done { step, of: of.clone(), changed, sent }));
        Decided::Change(reply, Commit { before: vec![done], ..Commit::default() })
    }
}

impl Apart<'_> {
    /// What a key holds to the branch, where that is known: it has looked at it before, or another one of its fork has.
    pub(crate) fn known(&self, key: &str, now: Timestamp) -> Option<Option<Item>> {
        let own = self.transaction.did(key).map(|side| side.item(key));
        let known = own.or_else(|| self.log.read(|history| history.forked().item(&self.branches, key)))?;
        // Somewhere within another fork it may be new all the same.
        let is_pinned = self.log.read(|history| history.forked().unpinned(&self.branches, key).is_empty());
        is_pinned.then(|| known.filter(|item| lives(item, now)))
    }

    /// Has the journal say what forks began with, as it was found outside of them; who was faster has said so.
    pub(crate) fn pin(&self, found: Vec<(String, Option<Item>)>) -> Result<(), StoreError> {
        self.log.stage_if(|history| {
            let (forked, mut events, mut bytes) = (history.forked(), Vec::new(), 0);
            for (key, found) in &found {
                for branch in forked.unpinned(&self.branches, key) {
                    let around: Vec<&Branch> =
                        self.branches.iter().copied().take_while(|other| *other != branch).collect();
                    let base = forked.item(&around, key).unwrap_or_else(|| found.clone());
                    bytes += 256 + key.len() + base.as_ref().map_or(0, |item| item.value.len());
                    events.push(Event::BasePinned { fork: branch.fork.clone(), key: key.clone(), base });
                }
            }
            let has_room = events.is_empty() || forked.has_room(bytes as u64 + self.transaction.bytes_apart());
            if has_room { Ok(events) } else { Err(full()) }
        })
    }

    /// Keys that begin so of which the branch, or one around it, knows what they hold, by now; what its fork began with is journaled.
    pub(crate) fn overlay(&self, prefix: &str, now: Timestamp) -> Result<BTreeMap<String, Option<Item>>, StoreError> {
        let (mut keys, new) = self.log.read(|history| {
            let forked = history.forked();
            let keys: Vec<String> = forked.keys(&self.branches, prefix).into_iter().map(str::to_owned).collect();
            let is_new = |key: &&String| !forked.unpinned(&self.branches, key).is_empty();
            let new: Vec<(String, Option<Item>)> = keys.iter().filter(is_new).map(|key| (key.clone(), None)).collect();
            (keys, new)
        });
        self.pin(new)?;
        keys.extend(self.transaction.keys_apart().filter(|key| key.starts_with(prefix)).map(str::to_owned));
        let known = keys.into_iter().filter_map(|key| {
            let item = self.known(&key, now)?;
            Some((key, item))
        });
        Ok(known.collect())
    }

    /// An answer with a change that is the branch's own.
    pub(crate) fn change<R>(
        &self,
        whose: &Whose<'_>,
        reply: R,
        change: MemoryChange,
        did: Did,
    ) -> Result<Decided<R>, StoreError> {
        let MemoryChange { key, revision, value, .. } = change;
        let side = Side { did, revision, value };
        let bytes = (key.len() + side.size()) as u64 + self.transaction.bytes_apart();
        if !self.log.read(|history| history.forked().has_room(bytes)) {
            return Err(full());
        }
        let Some(of) = self.branches.last() else { return Ok(Decided::refuse("it is in no branch")) };
        Ok(whose.only_there(reply, of, vec![(key, side)], Vec::new()))
    }
}

/// A guest is told so, and can live with it.
fn full() -> StoreError {
    let why = format!(
        "branches of this run look at, change and send more than {MAX_BYTES} bytes before they come together, which is the bound"
    );
    StoreError::new(Kind::TooCostly, "memory.fork").because(why)
}
