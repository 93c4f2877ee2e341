//! An attempt's transaction: what it did and is not true yet.
//!
//! Invariants:
//! - What is here is seen by the attempt alone. It becomes true whole, in the commit that holds the attempt's end or a
//!   checkpoint of it, or not at all: a transaction that is dropped leaves nothing.
//! - Of each thing that is changed it is remembered what its first change was decided on (of a key that was read since the last
//!   checkpoint: what it held then); the record checks that in the commit. What was decided on the attempt's own changes needs no check.
//!   Of an attempt that is serializable the same goes for all that it read.
//! - Bounded: [`MAX_BYTES`] between two checkpoints, and what all attempts together have of the host's [`Pot`] for them, which is
//!   divided among tenants.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use ltmc_journal::runlog::{Commit, Hold, Lock};
use ltmc_model::delta::{Delta, MemoryChange};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::fork::{Done, Level, Side};
use ltmc_model::journal::Event;
use ltmc_model::manifest::Isolation;
use ltmc_model::memory::{Drawer, Item};
use ltmc_model::message::{self, Taker, Trail};
use ltmc_model::{AgentName, Position, Revision};
use ltmc_ports::expect::Part;
use ltmc_ports::{Changes, Expect};
use ltmc_tenancy::Pot;
use ltmc_tenancy::pot::{Full, Share};

/// Bytes that an attempt may change between two checkpoints.
pub(crate) const MAX_BYTES: usize = 64 << 20;
/// Bytes that all attempts together may have changed and not made true yet, which tenants divide among themselves.
const MAX_BYTES_OF_ALL: u64 = 1 << 30;
/// Of so many keys it is remembered that they stood in a list.
const MAX_LISTED: usize = 100_000;
/// So many pages of lists are remembered.
const MAX_LISTS: usize = 1_000;

/// Keys that an attempt relies on between two checkpoints, where it relies on all that it reads.
pub(crate) const MAX_RELIED: usize = 5_000;
/// Parts of the record, such as lists: the record's writer looks through what changed since, of each.
pub(crate) const MAX_PARTS: usize = 32;
/// Locks that an attempt keeps at once.
const MAX_LOCKS: usize = 32;

/// What one attempt did since its last checkpoint.
pub struct Transaction {
    /// Who takes messages by it.
    taker: Taker,
    /// The branches that it stands in, from the outside in.
    levels: Vec<Level>,
    changes: Changes,
    /// What it did that is a branch's own: of each branch one.
    apart: Vec<Done>,
    locks: Vec<Lock>,
    bytes: usize,
    /// The same, of what all attempts share.
    share: Share,
    /// Bytes of memory that come, and the tenant's quota, which they are to be within.
    storage: Option<(u64, u64)>,
    /// Whether all that was read is to hold still when it becomes true.
    is_serializable: bool,
    /// What was read of memory: who changes any of it decided on that.
    seen: Mutex<Seen>,
    /// Messages in its hands, and by which part of it they were taken.
    hands: Vec<(Revision, Taker)>,
    /// What follows from what it took of mailboxes and topics.
    heard: Option<Trail>,
    /// Whether there may be others: of an attempt that is made again, which has what it was handed after its checkpoint.
    may_have_more: bool,
}

/// What an attempt read of memory since its last checkpoint.
#[derive(Default)]
struct Seen {
    /// Keys, with what stood there the last time.
    keys: HashMap<(Drawer, String), Option<Revision>>,
    /// Pages of lists: of what is not in `keys`, nothing stood there.
    lists: Vec<Range>,
    /// Of an attempt that relies on all that it reads: keys, with what stood there the first time.
    relied: HashMap<(Drawer, String), Option<Revision>>,
    /// The same: what was read as a whole, and how far the log was before.
    parts: HashMap<Part, Position>,
}

/// A page of a list: keys of a drawer that begin with `prefix`, after one key and up to another.
pub(crate) struct Range {
    pub(crate) drawer: Drawer,
    pub(crate) prefix: String,
    pub(crate) after: Option<String>,
    /// The last key of the page; none: there were no more.
    pub(crate) to: Option<String>,
}

impl Seen {
    /// What the attempt relies on besides what it expects already.
    fn relied_on(self, expected: &[Expect]) -> Vec<Expect> {
        let known: HashSet<(&Drawer, &str, Option<Revision>)> = expected
            .iter()
            .filter_map(|expect| match expect {
                Expect::Key { drawer, key, revision } => Some((drawer, key.as_str(), *revision)),
                _ => None,
            })
            .collect();
        // What it found there first, and what it changed later, may be two things: then both cannot be so.
        let keys = self.relied.into_iter();
        let keys = keys.filter(|((drawer, key), revision)| !known.contains(&(drawer, key.as_str(), *revision)));
        let keys = keys.map(|((drawer, key), revision)| Expect::Key { drawer, key, revision });
        let parts = self.parts.into_iter().map(|(part, since)| Expect::Unchanged { part, since });
        keys.chain(parts).collect()
    }
}

impl Range {
    fn covers(&self, change: &MemoryChange) -> bool {
        let key = change.key.as_str();
        self.drawer == change.drawer
            && key.starts_with(&self.prefix)
            && self.after.as_deref().is_none_or(|after| key > after)
            && self.to.as_deref().is_none_or(|to| key <= to)
    }
}

/// What attempts have of the host's memory for what they changed and is not true yet.
pub fn pot() -> Pot {
    // bound: what is not true yet
    Pot::divided(MAX_BYTES_OF_ALL)
}

impl Transaction {
    /// An empty one. `may_have_more`: the record may know of messages in these hands that it does not know of.
    pub fn new(taker: Taker, may_have_more: bool, share: Share) -> Self {
        let (changes, seen) = (Changes::default(), Mutex::default());
        let (locks, hands, levels, apart) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self {
            taker,
            levels,
            changes,
            apart,
            locks,
            bytes: 0,
            share,
            storage: None,
            is_serializable: false,
            seen,
            hands,
            heard: None,
            may_have_more,
        }
    }

    /// It took these events: what it sends from now on follows from them.
    pub fn hear<'a>(&mut self, events: impl IntoIterator<Item = &'a message::Event>) {
        let taken = events.into_iter().map(Trail::after);
        self.heard = taken.fold(self.heard.take(), |heard, one| Trail::deeper(heard, Some(one)));
    }

    /// What follows from what it took, where it took anything.
    pub fn heard(&self) -> Option<&Trail> {
        self.heard.as_ref()
    }

    /// The same, of an attempt that relies on what its manifest says.
    #[must_use]
    pub fn isolated(self, isolation: Isolation) -> Self {
        Self { is_serializable: isolation == Isolation::Serializable, ..self }
    }

    /// Whether all that it reads is to hold still when it becomes true.
    pub(crate) fn is_serializable(&self) -> bool {
        self.is_serializable
    }

    /// Relies on a part of the record as it was when the log was so far. Whether it could: not where it relies on as many as it may.
    pub(crate) fn rely(&self, part: Part, since: Position) -> bool {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = seen.parts.len() < MAX_PARTS || seen.parts.contains_key(&part);
        if has_room {
            seen.parts.entry(part).or_insert(since);
        }
        has_room
    }

    /// Whether it relies on as many keys as it may.
    pub(crate) fn relies_on_all_it_may(&self) -> bool {
        self.is_serializable && self.seen.lock().unwrap_or_else(PoisonError::into_inner).relied.len() >= MAX_RELIED
    }

    /// Remembers what something was decided on, where that is to hold whatever comes of it.
    pub(crate) fn decided_on(&self, drawer: &Drawer, key: &str, revision: Option<Revision>) {
        if self.is_serializable {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.relied.entry((drawer.clone(), key.to_owned())).or_insert(revision);
        }
    }

    /// The same, in branches that have a context of their own, from the outside in.
    #[must_use]
    pub fn in_branches(self, levels: Vec<Level>) -> Self {
        Self { levels, ..self }
    }

    /// The branches that it stands in, from the outside in.
    pub fn levels(&self) -> &[Level] {
        &self.levels
    }

    /// What it did to a key of its branch.
    pub(crate) fn did(&self, key: &str) -> Option<&Side> {
        self.apart.iter().find_map(|done| done.changed.iter().find(|(changed, _)| changed == key).map(|(_, side)| side))
    }

    /// Keys of its branch that it changed.
    pub(crate) fn keys_apart(&self) -> impl Iterator<Item = &str> {
        self.apart.iter().flat_map(|done| &done.changed).map(|(key, _)| key.as_str())
    }

    /// About how many bytes it changed that are a branch's own.
    pub(crate) fn bytes_apart(&self) -> u64 {
        self.apart.iter().map(Done::size).sum::<usize>() as u64
    }

    /// Who takes messages by it.
    pub fn taker(&self) -> &Taker {
        &self.taker
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.changes.deltas.is_empty()
    }

    /// What was changed, in order.
    pub(crate) fn deltas(&self) -> &[Delta] {
        &self.changes.deltas
    }

    /// The lock number `place`, if it keeps it.
    pub(crate) fn lock(&self, place: usize) -> Option<&Lock> {
        self.locks.iter().find(|lock| lock.place == place)
    }

    /// Remembers that a key was read, and what stood there the last time.
    pub(crate) fn saw(&self, drawer: Drawer, key: String, revision: Option<Revision>) {
        self.decided_on(&drawer, &key, revision);
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).keys.insert((drawer, key), revision);
    }

    /// Remembers which keys stood in a list, with what, and that no others did: where one was read before that, this is no
    /// news of it.
    pub(crate) fn listed(&self, range: Range, items: &[Item]) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // A list that is not remembered whole is not remembered: who is not in it may well have been there.
        if seen.keys.len() + items.len() > MAX_LISTED || seen.lists.len() >= MAX_LISTS {
            return;
        }
        for item in items {
            seen.keys.entry((range.drawer.clone(), item.key.clone())).or_insert(Some(item.revision));
        }
        seen.lists.push(range);
    }

    /// What stood at the key of a change when it was last read; none: it was not read.
    fn seen(&self, change: &MemoryChange) -> Option<Option<Revision>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (change.drawer.clone(), change.key.clone());
        let listed = || seen.lists.iter().any(|list| list.covers(change)).then_some(None);
        seen.keys.get(&place).copied().or_else(listed)
    }

    /// Adds what was decided.
    ///
    /// # Errors
    /// Where it is more than an attempt may change between two checkpoints.
    pub fn add(&mut self, commit: Commit) -> Result<(), Failure> {
        let Commit { changes, locks, before, .. } = commit;
        let apart: Vec<Done> = before
            .into_iter()
            .filter_map(|event| match event {
                Event::BranchChanged(done) => Some(*done),
                _ => None,
            })
            .collect();
        let of_branches = apart.iter().map(Done::size).sum::<usize>();
        let bytes = changes.deltas.iter().map(Delta::size).sum::<usize>() + of_branches;
        self.bytes += bytes;
        if self.bytes > MAX_BYTES {
            let message = format!(
                "it changed more than {MAX_BYTES} bytes since its last checkpoint; a checkpoint makes what is so far true"
            );
            return Err(Failure::new(Code::LimitResources, message));
        }
        self.share.take_more(bytes as u64).map_err(|full| {
            let whose = if full == Full::Own { "this tenant's attempts" } else { "all attempts" };
            let message = format!(
                "{whose} have changed so much that is not true yet that there is no room for more; checkpoints make room"
            );
            Failure::new(Code::Busy, message).retryable()
        })?;
        for delta in &changes.deltas {
            match delta {
                Delta::Memory(change) => {
                    if let Some(revision) = self.seen(change) {
                        let (drawer, key) = (change.drawer.clone(), change.key.clone());
                        self.expect(Expect::Key { drawer, key, revision });
                    }
                }
                Delta::Processed { message, .. } | Delta::Buried { message, .. } => self.let_go(*message),
                _ => {}
            }
        }
        for expect in changes.expects {
            self.expect(expect);
        }
        self.changes.deltas.extend(changes.deltas);
        for done in apart {
            match self.apart.iter_mut().find(|other| other.of == done.of) {
                Some(before) => before.add(done),
                None => self.apart.push(done),
            }
        }
        self.locks.extend(locks);
        // Advice that goes stale: what was locked first has been so for the longest.
        let over = self.locks.len().saturating_sub(MAX_LOCKS);
        drop(self.locks.drain(..over));
        Ok(())
    }

    /// What was decided on its own changes is so; of everything else the first word counts.
    fn expect(&mut self, expect: Expect) {
        if let Expect::Storage { more, quota } = expect {
            let (so_far, bound) = self.storage.unwrap_or((0, quota));
            self.storage = Some((so_far + more, bound.min(quota)));
            return;
        }
        let known = |other: &Expect| match (other, &expect) {
            (Expect::Key { drawer: d, key: k, .. }, Expect::Key { drawer, key, .. }) => d == drawer && k == key,
            (one, other) => one == other && !matches!(one, Expect::Room { .. }),
        };
        if expect.after(&self.changes.deltas).is_none() && !self.changes.expects.iter().any(known) {
            self.changes.expects.push(expect);
        }
    }

    /// Puts messages into its hands, taken by these.
    pub fn hand(&mut self, messages: impl IntoIterator<Item = Revision>, by: &Taker) {
        self.hands.extend(messages.into_iter().map(|message| (message, by.clone())));
    }

    /// Takes a message out of its hands.
    pub fn let_go(&mut self, message: Revision) {
        self.hands.retain(|(held, _)| *held != message);
    }

    /// Whether the record may know of messages in these hands that it does not know of.
    pub(crate) fn may_have_more(&self) -> bool {
        self.may_have_more
    }

    /// By whom a message was taken that is in its hands.
    pub(crate) fn in_hands(&self, message: Revision) -> Option<&Taker> {
        self.hands.iter().find(|(held, _)| *held == message).map(|(_, by)| by)
    }

    /// What is to become true now. What is in its hands stays there, and what it takes from here on is another part of it.
    pub fn take(&mut self) -> Commit {
        self.taker.part += 1;
        self.may_have_more = false;
        self.bytes = 0;
        let seen = std::mem::take(&mut self.seen).into_inner().unwrap_or_else(PoisonError::into_inner);
        let Changes { deltas, mut expects } = std::mem::take(&mut self.changes);
        expects.extend(seen.relied_on(&expects));
        let mut expects = summed(expects);
        // A key that was written again and again comes once.
        let storage = self.storage.take().map(|(more, quota)| (more.min(held(&deltas)), quota));
        expects.extend(storage.map(|(more, quota)| Expect::Storage { more, quota }));
        // Its room is given back once it is in the record.
        let holds: Vec<Hold> = vec![Box::new(self.share.split_off())];
        let before = std::mem::take(&mut self.apart).into_iter().map(|done| Event::BranchChanged(Box::new(done)));
        let (locks, before) = (std::mem::take(&mut self.locks), before.collect());
        Commit { changes: Changes { deltas, expects }, locks, before, holds }
    }
}

impl std::fmt::Debug for Transaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transaction").field("taker", &self.taker).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// What is asked of a mailbox several times, asked once.
fn summed(expects: Vec<Expect>) -> Vec<Expect> {
    let mut rooms: BTreeMap<AgentName, u32> = BTreeMap::new();
    let mut rest = Vec::with_capacity(expects.len());
    for expect in expects {
        match expect {
            Expect::Room { agent, more } => *rooms.entry(agent).or_default() += more,
            other => rest.push(other),
        }
    }
    rest.extend(rooms.into_iter().map(|(agent, more)| Expect::Room { agent, more }));
    rest
}

/// Bytes of the keys and values that these deltas leave.
pub(crate) fn held(deltas: &[Delta]) -> u64 {
    let mut left: HashMap<(&Drawer, &str), usize> = HashMap::new();
    for delta in deltas {
        if let Delta::Memory(change) = delta {
            let bytes = change.value.as_ref().map_or(0, |value| change.key.len() + value.bytes.len());
            left.insert((&change.drawer, &change.key), bytes);
        }
    }
    left.values().sum::<usize>() as u64
}

/// What a key holds after these deltas; none: they do not touch it.
pub(crate) fn item_after(deltas: &[Delta], drawer: &Drawer, key: &str) -> Option<Option<Item>> {
    deltas.iter().rev().find_map(|delta| item_of(delta, drawer, key))
}

/// What a delta makes of a key; none: it does not touch it.
pub(crate) fn item_of(delta: &Delta, drawer: &Drawer, key: &str) -> Option<Option<Item>> {
    let Delta::Memory(change) = delta else { return None };
    (change.key == key && change.drawer == *drawer).then(|| change.item())
}

#[cfg(test)]
mod tests {
    use ltmc_model::RunId;
    use ltmc_ports::testing::sample;

    use super::*;

    fn transaction(pot: &Pot, tenant: &str) -> Transaction {
        let taker = Taker { run: RunId::ledger(), step: ltmc_model::StepPath::root(), attempt: 1, part: 0 };
        Transaction::new(taker, false, pot.share(&sample::tenant(tenant)))
    }

    fn put(transaction: &mut Transaction, key: &str) -> Result<(), Failure> {
        let change = sample::put(&Drawer::Global, key, Revision(1), "a value of some bytes");
        let changes = Changes { deltas: vec![Delta::Memory(change)], expects: Vec::new() };
        transaction.add(Commit { changes, ..Commit::default() })
    }

    #[test]
    fn a_tenants_attempts_have_no_more_than_its_share_of_what_all_of_them_have() {
        let pot = Pot::divided(1_000);
        let (mut one, mut other) = (transaction(&pot, "acme"), transaction(&pot, "acme"));
        let refused = loop {
            if let Err(failure) = put(&mut one, "key").and_then(|()| put(&mut other, "key")) {
                break failure;
            }
        };
        assert!(refused.code == Code::Busy && refused.retryable, "{refused}");
        put(&mut transaction(&pot, "beta"), "key").unwrap();
        // What is on its way to the record keeps its room; what is there, or never will be, makes room.
        let on_its_way = one.take();
        assert!(put(&mut other, "key").is_err());
        drop(on_its_way);
        put(&mut other, "key").unwrap();
        drop((one, other));
        assert_eq!((pot.out(), pot.tenants()), (0, 0));
    }
}
