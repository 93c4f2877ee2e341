//! Forks that are under way: what their branches looked at first, and what they did since.
//!
//! Invariants: a fold of the journal, as all of a run's history is. A branch sees what it did itself, then what its fork began with;
//! what a fork began with is, of one within a branch of another, what that branch saw then. Of a fork whose branches came together
//! only what people look at is left.

use std::collections::{BTreeMap, BTreeSet};

use ltmc_model::StepPath;
use ltmc_model::fork::{Answer, Branch, Conflict, Done, Level, MAX_BYTES, Merged, Raised, Side, SideOf};
use ltmc_model::memory::Item;
use ltmc_model::message::Message;
use serde::{Deserialize, Serialize};

/// All forks of a run.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Forked(BTreeMap<StepPath, Fork>);

/// One of them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Fork {
    /// What a key held when a branch first looked at it; none: nothing.
    base: BTreeMap<String, Option<Item>>,
    /// About how many bytes that takes.
    bytes: u64,
    /// What branches did.
    branches: BTreeMap<u32, Work>,
    /// Whether its branches came together.
    is_merged: bool,
    /// Where they did not go together, or by which policy they did.
    conflicts: Vec<Conflict>,
    /// Of keys about which they conflict so many more than are told.
    untold: u64,
    /// What people want taken.
    answers: BTreeMap<String, Answer>,
    /// Conflicts that were put to agents and people, in the order in which they were; of the first `void` of them the branches were begun
    /// anew since.
    raised: Vec<Raised>,
    void: usize,
}

/// What a branch did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Work {
    changed: BTreeMap<String, Side>,
    /// Which step changed each key last.
    by: BTreeMap<String, StepPath>,
    sent: Vec<Message>,
    /// About how many bytes that takes, each change of a key counted.
    bytes: u64,
}

impl Fork {
    /// Whether its branches came together.
    pub fn is_merged(&self) -> bool {
        self.is_merged
    }

    /// Where its branches did not go together, or by which policy they did; of many the first.
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }

    /// Whether there are more conflicts than these.
    pub fn has_more_conflicts(&self) -> bool {
        self.untold > 0
    }

    /// Whether its branches conflict about a key, so far as that is known: of many conflicts the first are kept.
    pub fn may_conflict_about(&self, key: &str) -> bool {
        let is_told = self.conflicts.iter().any(|conflict| conflict.key == key);
        self.is_conflicted() && (is_told || self.has_more_conflicts())
    }

    /// What a key held when a branch first looked at it.
    pub fn base(&self, key: &str) -> Option<&Item> {
        self.base.get(key)?.as_ref()
    }

    /// Whether its branches did not go together, and have not since.
    pub fn is_conflicted(&self) -> bool {
        !self.is_merged && !self.conflicts.is_empty()
    }

    /// Which branches changed a key.
    pub fn changed_by(&self, key: &str) -> Vec<u32> {
        let changed = self.branches.iter().filter(|(_, work)| work.changed.contains_key(key));
        changed.map(|(number, _)| *number).collect()
    }

    /// What somebody wants taken of a key.
    pub fn answer(&self, key: &str) -> Option<&Answer> {
        self.answers.get(key)
    }

    /// Conflicts that are put to agents and people: of each key the last one counts.
    pub fn raised(&self) -> &[Raised] {
        self.raised.get(self.void..).unwrap_or_default()
    }

    /// How many ever were.
    pub fn ever_raised(&self) -> &[Raised] {
        &self.raised
    }

    /// What branches did to a key that was raised, in their order.
    pub fn sides<'a>(&'a self, raised: &'a Raised) -> Vec<SideOf<'a>> {
        let key = &raised.conflict.key;
        let side = |branch: &u32| {
            let work = self.branches.get(branch)?;
            Some(SideOf { branch: *branch, step: work.by.get(key)?, side: work.changed.get(key)? })
        };
        raised.branches.iter().filter_map(side).collect()
    }

    /// Keys that any of these branches changed, with what each of them did to it, in the order of the branches.
    pub fn changed(&self, branches: &[u32]) -> BTreeMap<&str, Vec<(u32, &Side)>> {
        let mut keys: BTreeMap<&str, Vec<(u32, &Side)>> = BTreeMap::new();
        for (number, work) in self.branches.iter().filter(|(number, _)| branches.contains(number)) {
            for (key, side) in &work.changed {
                keys.entry(key).or_default().push((*number, side));
            }
        }
        keys
    }

    /// What these branches sent, in the order of the branches.
    pub fn sent<'a>(&'a self, branches: &'a [u32]) -> impl Iterator<Item = &'a Message> {
        let of_them = self.branches.iter().filter(|(number, _)| branches.contains(number));
        of_them.flat_map(|(_, work)| &work.sent)
    }

    /// Takes in what a branch did.
    fn take(
        &mut self,
        number: u32,
        step: &StepPath,
        changed: impl IntoIterator<Item = (String, Side)>,
        sent: Vec<Message>,
    ) {
        let work = self.branches.entry(number).or_default();
        let mut bytes = sent.iter().map(|message| 512 + message.event.data.bytes.len()).sum::<usize>();
        work.sent.extend(sent);
        for (key, side) in changed {
            bytes += key.len() + side.size();
            work.by.insert(key.clone(), step.clone());
            let side = match work.changed.remove(&key) {
                Some(before) => before.then(side),
                None => side,
            };
            work.changed.insert(key, side);
        }
        work.bytes += bytes as u64;
    }

    fn bytes(&self) -> u64 {
        let raised = self.raised.iter().map(|raised| raised.size() as u64).sum::<u64>();
        self.bytes + raised + self.branches.values().map(|work| work.bytes).sum::<u64>()
    }
}

impl Forked {
    /// A fork, if anything is known of it.
    pub fn of(&self, node: &StepPath) -> Option<&Fork> {
        self.0.get(node)
    }

    /// All of which anything is known, in the order of their places.
    pub fn all(&self) -> impl Iterator<Item = (&StepPath, &Fork)> {
        self.0.iter()
    }

    /// Whether so many bytes more are within what a run's forks may hold.
    pub fn has_room(&self, more: u64) -> bool {
        self.0.values().map(Fork::bytes).sum::<u64>().saturating_add(more) <= MAX_BYTES
    }

    /// Those of the branches that a step stands in which are still by themselves, from the outside in. What is done once they
    /// came together, such as to undo something, is done outside.
    pub fn in_force(&self, levels: Vec<Level>) -> Vec<Level> {
        let is_open = |level: &Level| self.of(&level.of.fork).is_none_or(|fork| !fork.is_merged);
        levels.into_iter().take_while(is_open).collect()
    }

    /// What a key holds to who stands in these branches, from the outside in; none: none of them has looked at it.
    pub fn item(&self, levels: &[&Branch], key: &str) -> Option<Option<Item>> {
        levels.iter().rev().find_map(|branch| {
            let fork = self.of(&branch.fork)?;
            let did = fork.branches.get(&branch.number).and_then(|work| work.changed.get(key));
            did.map(|side| side.item(key)).or_else(|| fork.base.get(key).cloned())
        })
    }

    /// Keys that begin so and that these branches, or others of the same forks, looked at or changed: which of them is there is told by
    /// [`Self::item`].
    pub fn keys<'a>(&'a self, levels: &'a [&'a Branch], prefix: &'a str) -> BTreeSet<&'a str> {
        let mut keys = BTreeSet::new();
        for branch in levels {
            let Some(fork) = self.of(&branch.fork) else { continue };
            let changed = fork.branches.get(&branch.number).into_iter().flat_map(|work| work.changed.keys());
            keys.extend(fork.base.keys().chain(changed).filter(|key| key.starts_with(prefix)).map(String::as_str));
        }
        keys
    }

    /// Which of these branches' forks know nothing yet of a key.
    pub fn unpinned<'a>(&self, levels: &[&'a Branch], key: &str) -> Vec<&'a Branch> {
        let is_new = |branch: &&&Branch| self.of(&branch.fork).is_none_or(|fork| !fork.base.contains_key(key));
        levels.iter().filter(is_new).copied().collect()
    }

    pub(crate) fn pinned(&mut self, fork: &StepPath, key: &str, base: Option<&Item>) {
        let fork = self.0.entry(fork.clone()).or_default();
        if !fork.base.contains_key(key) {
            fork.bytes += (256 + key.len() + base.map_or(0, |item| item.value.len())) as u64;
            fork.base.insert(key.to_owned(), base.cloned());
        }
    }

    pub(crate) fn done(&mut self, done: &Done) {
        let fork = self.0.entry(done.of.fork.clone()).or_default();
        fork.take(done.of.number, &done.step, done.changed.iter().cloned(), done.sent.clone());
    }

    pub(crate) fn merged(&mut self, merged: &Merged) {
        let fork = self.0.entry(merged.node.clone()).or_default();
        let sent: Vec<Message> = fork.sent(&merged.branches).cloned().collect();
        *fork = Fork { is_merged: true, conflicts: merged.conflicts.clone(), ..Fork::default() };
        if let Some(Branch { fork, number }) = &merged.into {
            let changed = merged.changed.iter().cloned();
            self.0.entry(fork.clone()).or_default().take(*number, &merged.node, changed, Vec::new());
        }
        if let Some(Branch { fork, number }) = &merged.holds {
            self.0.entry(fork.clone()).or_default().take(*number, &merged.node, [], sent);
        }
    }

    pub(crate) fn conflicted(&mut self, node: &StepPath, conflicts: &[Conflict], count: u64) {
        let fork = self.0.entry(node.clone()).or_default();
        (fork.conflicts, fork.untold) = (conflicts.to_vec(), count.saturating_sub(conflicts.len() as u64));
    }

    /// A conflict was put to an agent, or to people. It is one of those that people look at.
    pub(crate) fn raised(&mut self, raised: &Raised) {
        let fork = self.0.entry(raised.node.clone()).or_default();
        let key = &raised.conflict.key;
        fork.conflicts.retain(|conflict| conflict.key != *key);
        fork.conflicts.push(raised.conflict.clone());
        fork.raised.push(raised.clone());
    }

    pub(crate) fn answered(&mut self, node: &StepPath, key: &str, answer: &Answer) {
        self.0.entry(node.clone()).or_default().answers.insert(key.to_owned(), answer.clone());
    }

    /// A node is done again from its beginning: of forks there nothing is left, nor, where it is a branch, of what that did.
    pub(crate) fn begin_anew(&mut self, node: &StepPath) {
        self.forget(|path| path.is_within(node));
        let around = node.parent().and_then(|around| self.0.get_mut(&around));
        let number = node.way().last().and_then(|number| u32::try_from(number).ok());
        if let (Some(fork), Some(number)) = (around, number)
            && fork.branches.remove(&number).is_some()
        {
            fork.void = fork.raised.len();
        }
    }

    /// Nothing is known any more of forks that are meant.
    pub(crate) fn forget(&mut self, is_meant: impl Fn(&StepPath) -> bool) {
        self.0.retain(|node, _| !is_meant(node));
    }

    /// Branches that came together are to do so again, for one of them is done again: what is true by now is what they start from. What
    /// was said of conflicts of those that had not come together was said of something else.
    pub(crate) fn reopen(&mut self, node: &StepPath) {
        if self.of(node).is_some_and(Fork::is_merged) {
            self.0.remove(node);
        } else if let Some(fork) = self.0.get_mut(node) {
            fork.void = fork.raised.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::Revision;
    use ltmc_model::delta::MemoryValue;
    use ltmc_model::fork::Did;

    use super::*;

    fn branch(fork: &str, number: u32) -> Branch {
        Branch { fork: fork.parse().unwrap(), number }
    }

    fn did(of: &Branch, key: &str, value: Option<&'static str>) -> Done {
        let did = if value.is_some() { Did::Put } else { Did::Deleted };
        let value = value.map(|text| MemoryValue { bytes: text.into(), expires_at: None });
        let side = Side { did, revision: Revision(7), value };
        let (of, changed) = (of.clone(), vec![(key.to_owned(), side)]);
        Done { step: "0/1".parse().unwrap(), of, changed, sent: Vec::new() }
    }

    fn base(value: &'static str) -> Item {
        Item { key: "k".into(), value: value.into(), revision: Revision(1), expires_at: None }
    }

    fn seen(forked: &Forked, levels: &[&Branch]) -> Option<Option<String>> {
        let text = |item: Item| String::from_utf8(item.value.to_vec()).unwrap();
        forked.item(levels, "k").map(|item| item.map(text))
    }

    #[test]
    fn a_branch_sees_its_own_and_then_the_base_and_never_a_sibling() {
        let (mut forked, [one, two]) = (Forked::default(), [0, 1].map(|number| branch("0", number)));
        assert_eq!(seen(&forked, &[&one]), None);
        forked.pinned(&one.fork, "k", Some(&base("base")));
        forked.pinned(&one.fork, "k", Some(&base("later")));
        forked.done(&did(&one, "k", Some("mine")));
        assert_eq!(seen(&forked, &[&one]), Some(Some("mine".into())));
        assert_eq!(seen(&forked, &[&two]), Some(Some("base".into())));
        forked.done(&did(&one, "k", None));
        assert_eq!(seen(&forked, &[&one]), Some(None), "it is deleted there, and nowhere else");
        assert_eq!(seen(&forked, &[&two]), Some(Some("base".into())));
        forked.begin_anew(&"0/0".parse().unwrap());
        assert_eq!(seen(&forked, &[&one]), Some(Some("base".into())), "it begins where its fork did");
    }

    #[test]
    fn what_branches_look_at_and_change_has_a_bound() {
        let (mut forked, of) = (Forked::default(), branch("0", 0));
        let value = ltmc_model::Payload::text("x".repeat(1 << 20)).bytes;
        for number in 0..32 {
            let item = Item { value: value.clone(), ..base("") };
            forked.pinned(&of.fork, &format!("looked-at/{number}"), Some(&item));
            let side = |did| Side {
                did,
                revision: Revision(7),
                value: Some(MemoryValue { bytes: value.clone(), expires_at: None }),
            };
            let changed = vec![(format!("changed/{number}"), side(Did::Put))];
            assert!(forked.has_room(1 << 20) || number == 31, "{number}");
            forked.done(&Done { step: "0/0".parse().unwrap(), of: of.clone(), changed, sent: Vec::new() });
        }
        assert!(!forked.has_room(0), "64 MiB, and what keeps them");
        forked.begin_anew(&"0/0".parse().unwrap());
        assert!(forked.has_room(31 << 20) && !forked.has_room(33 << 20), "what the branch did is gone");
    }

    #[test]
    fn a_fork_within_a_branch_comes_together_into_that_branch() {
        let (mut forked, outer) = (Forked::default(), branch("0", 1));
        let inner = branch("0/1", 0);
        forked.pinned(&outer.fork, "k", None);
        forked.done(&did(&outer, "k", Some("outer")));
        assert_eq!(seen(&forked, &[&outer, &inner]), Some(Some("outer".into())));
        assert_eq!(forked.unpinned(&[&outer, &inner], "k"), [&inner]);
        let Done { changed, .. } = did(&inner, "k", Some("inner"));
        let merged = Merged {
            node: inner.fork.clone(),
            branches: vec![0],
            keys: 1,
            messages: 0,
            into: Some(outer.clone()),
            changed,
            holds: None,
            conflicts: Vec::new(),
        };
        forked.merged(&merged);
        assert_eq!(seen(&forked, &[&outer]), Some(Some("inner".into())));
        assert_eq!(seen(&forked, &[&branch("0", 0)]), Some(None));
        let levels =
            [&outer, &inner].map(|of| Level { of: of.clone(), session: true, messages: false, settles: false });
        assert_eq!(forked.in_force(levels.to_vec()).len(), 1, "what comes after is done in the branch around it");
        forked.reopen(&inner.fork);
        assert_eq!(forked.in_force(levels.to_vec()).len(), 2);
    }
}
