//! What becomes of branches that had a context of their own, when they come together: of each key, and of what they sent.
//!
//! Invariants: what comes of a key is `ltmc_model::fork`'s to say. All of it becomes true in one commit, with the entry that says so,
//! and only where every key still holds what this was decided on; or nothing does. Of a fork within a branch it becomes a part of
//! what that branch did.

use std::collections::BTreeMap;
use std::sync::Arc;

use ltmc_journal::RunLog;
use ltmc_journal::forked::Fork;
use ltmc_journal::runlog::Commit;
use ltmc_model::delta::Delta;
use ltmc_model::effect::Refusal;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::fork::{
    Answer, Branch, Conflict, ConflictSide, Excerpt, Level, Merged, Outcome, Policies, Policy, Raised, Said, Side, Why,
    join,
};
use ltmc_model::journal::Event;
use ltmc_model::memory::{Drawer, Item};
use ltmc_model::message::{Channel, Message, Taker};
use ltmc_model::{Payload, StepPath, Timestamp};
use ltmc_ports::{Changes, StoreError};

use crate::context::{Context, Whose, Within};
use crate::locks;
use crate::memory::lives;
use crate::transaction::Transaction;

/// Branches that come together.
pub struct Joining<'a> {
    /// Their run's log.
    pub log: &'a Arc<RunLog>,
    /// The node that forked.
    pub node: &'a StepPath,
    /// Those that came to their end, in the order in which they did.
    pub done: &'a [u32],
    /// The branches in which that node stands itself, from the outside in.
    pub levels: Vec<Level>,
    /// What is taken where they conflict.
    pub policies: &'a Policies,
    /// What was said of conflicts that were raised, by who settles them and by their numbers.
    pub said: &'a BTreeMap<(u32, u32), Result<Payload, Failure>>,
    /// What a branch is called.
    pub called: &'a (dyn Fn(u32) -> String + Send + Sync),
}

/// What came of them.
pub enum Joined {
    /// They went together: the entry that says so, and what is true with it.
    Together(Event, Commit),
    /// They did not: the entry that says where, and how the node fails by it.
    Conflict(Event, Failure),
    /// They did not, and somebody is to settle it: an entry for each key that is put to them.
    Raised(Vec<Event>),
}

/// What comes of all keys.
#[derive(Default)]
struct Came {
    changes: Vec<(String, Option<Item>, Outcome)>,
    conflicts: Vec<Conflict>,
    /// Keys of which nothing was taken; the first of them are kept.
    open: Vec<Conflict>,
    count: u64,
    /// What is put to agents and people.
    raised: Vec<Raised>,
}

/// What somebody, or a policy, says of a key whose branches conflict.
enum Settled {
    /// This is taken, by that.
    By(&'static str, Outcome),
    /// Nothing is; and why, besides that they conflict.
    Open(Option<String>),
    /// It is put to somebody.
    Raise(u32),
}

impl Context {
    /// What becomes of branches, by what is true now.
    ///
    /// # Errors
    /// The outer one is a store's. The inner one: how the node fails, where there is no room for what they did.
    pub async fn join(&self, joining: Joining<'_>) -> Result<Result<Joined, Failure>, StoreError> {
        let (log, now) = (joining.log, joining.log.now());
        let fork = log.read(|history| history.forked().of(joining.node).cloned()).unwrap_or_default();
        let taker = Taker { run: log.run(), step: joining.node.clone(), attempt: 0, part: 0 };
        let share = self.overlays.share(log.tenant());
        let mut transaction = Transaction::new(taker, false, share).in_branches(joining.levels.clone());
        let came = self.keys(&joining, &fork, whose(log, &transaction), now).await?;
        if !came.open.is_empty() {
            let failure = conflict(&came);
            let event =
                Event::ContextConflicted { node: joining.node.clone(), conflicts: came.open, count: came.count };
            return Ok(Ok(Joined::Conflict(event, failure)));
        }
        if !came.raised.is_empty() {
            let raised = came.raised.into_iter().map(|raised| Event::ConflictRaised(Box::new(raised)));
            return Ok(Ok(Joined::Raised(raised.collect())));
        }
        let mut branches = joining.done.to_vec();
        branches.sort_unstable();
        let into: Option<Branch> =
            joining.levels.iter().rev().find(|level| level.session).map(|level| level.of.clone());
        let holds: Option<Branch> = Level::holds_messages(&joining.levels).cloned();
        let sent: Vec<Message> = fork.sent(&branches).cloned().collect();
        let mut merged = Merged {
            node: joining.node.clone(),
            branches,
            keys: came.changes.len() as u64,
            messages: sent.len() as u64,
            into,
            changed: Vec::new(),
            holds,
            conflicts: came.conflicts,
        };
        if merged.into.is_some() {
            let side = |Outcome { did, value }| Side { did, revision: log.next_revision(), value };
            merged.changed = came.changes.into_iter().map(|(key, _, outcome)| (key, side(outcome))).collect();
        } else {
            match self.memory.brought_together(whose(log, &transaction), came.changes).await? {
                Ok(changes) => {
                    if let Err(failure) = transaction.add(Commit { changes, ..Commit::default() }) {
                        return Ok(Err(failure));
                    }
                }
                Err(refusal) => return Ok(Err(no_room(refusal))),
            }
        }
        if merged.holds.is_none() {
            match self.released(whose(log, &transaction), sent).await? {
                Ok(changes) => {
                    if let Err(failure) = transaction.add(Commit { changes, ..Commit::default() }) {
                        return Ok(Err(failure));
                    }
                }
                Err(failure) => return Ok(Err(failure)),
            }
        }
        Ok(Ok(Joined::Together(Event::ContextMerged(Box::new(merged)), transaction.take())))
    }

    /// What comes of each key that a branch changed.
    async fn keys(
        &self,
        joining: &Joining<'_>,
        fork: &Fork,
        whose: Whose<'_>,
        now: Timestamp,
    ) -> Result<Came, StoreError> {
        let (mut came, drawer) = (Came::default(), Drawer::Session(joining.log.started().session.clone()));
        for (key, sides) in fork.changed(joining.done) {
            // Each may take large values apart: others have a turn between two.
            tokio::task::yield_now().await;
            let base = fork.base(key).filter(|item| lives(item, now));
            let current = self.memory.item(whose, &drawer, key, now).await?;
            let outcome = match join(base, current.as_ref(), &sides) {
                Ok(outcome) => outcome,
                Err(why) => match came.settle(joining, fork, key, why, [base, current.as_ref()], &sides) {
                    Some(outcome) => Some(outcome),
                    None => continue,
                },
            };
            if let Some(outcome) = outcome {
                came.changes.push((key.to_owned(), current, outcome));
            }
        }
        Ok(came)
    }

    /// Messages that were held, where their mailboxes have room for them.
    async fn released(&self, whose: Whose<'_>, sent: Vec<Message>) -> Result<Result<Changes, Failure>, StoreError> {
        let mut expects = Vec::new();
        for message in &sent {
            let Channel::Mailbox(agent) = &message.channel else { continue };
            match self.messages.room(whose, agent).await? {
                Some(room) => expects.extend(room),
                None => {
                    let why = format!("the mailbox of `{agent}` has no room for what branches sent to it");
                    return Ok(Err(Failure::new(Code::QuotaExceeded, why).retryable()));
                }
            }
        }
        Ok(Ok(Changes { deltas: sent.into_iter().map(Delta::Sent).collect(), expects }))
    }
}

impl Came {
    /// What is taken of a key whose branches conflict; none: nothing, or nothing yet, and that is kept.
    fn settle(
        &mut self,
        joining: &Joining<'_>,
        fork: &Fork,
        key: &str,
        why: Why,
        [base, current]: [Option<&Item>; 2],
        sides: &[(u32, &Side)],
    ) -> Option<Outcome> {
        let excerpt = |item: Option<&Item>| item.map(|item| Excerpt::of(&item.value));
        let side = |(branch, side): &(u32, &Side)| ConflictSide {
            branch: *branch,
            name: (joining.called)(*branch),
            did: side.did.as_str().to_owned(),
            value: side.value.as_ref().map(|value| Excerpt::of(&value.bytes)),
        };
        let mut conflict = Conflict {
            key: key.to_owned(),
            why: why.to_string(),
            base: excerpt(base),
            current: excerpt(current),
            sides: sides.iter().take(Conflict::SIDES).map(side).collect(),
            resolved: None,
        };
        let settled = match self.said(joining, fork, key, [base, current], sides) {
            Settled::Raise(by) => self.raise(joining, fork, by, current, sides, &conflict),
            settled => settled,
        };
        let (kept, taken) = match settled {
            Settled::By(by, outcome) => {
                conflict.resolved = Some(by.to_owned());
                (&mut self.conflicts, Some(outcome))
            }
            Settled::Open(more) => {
                conflict.why.extend(more.into_iter().flat_map(|more| ["; ".to_owned(), more]));
                self.count += 1;
                (&mut self.open, None)
            }
            Settled::Raise(_) => return None,
        };
        if kept.len() < Conflict::KEPT {
            kept.push(conflict);
        }
        taken
    }

    /// What was said of it by people who resumed the run, by its policy, or by who settles it.
    fn said(
        &self,
        joining: &Joining<'_>,
        fork: &Fork,
        key: &str,
        [base, current]: [Option<&Item>; 2],
        sides: &[(u32, &Side)],
    ) -> Settled {
        let policy = joining.policies.of(key);
        let resolve =
            |policy: &Policy| policy.resolve(base, current, sides, joining.done, |number| (joining.called)(number));
        let or_open = |by, outcome: Option<Outcome>| outcome.map_or(Settled::Open(None), |o| Settled::By(by, o));
        match fork.answer(key) {
            Some(Answer::Branch(number)) => return or_open("answer", resolve(&Policy::Prefer(vec![*number]))),
            Some(Answer::Value(json)) => return Settled::By("answer", Outcome::holding(Some(json.clone().into()))),
            None => {}
        }
        let Some(by) = policy.settler() else { return or_open(policy.as_str(), resolve(policy)) };
        let is_of_this = |raised: &&Raised| {
            let branches = sides.iter().map(|(branch, _)| branch);
            let revision = |item: Option<&Item>| item.map(|item| item.revision);
            raised.by == by
                && raised.branches.iter().eq(branches)
                && revision(raised.current.as_ref()) == revision(current)
        };
        let last = fork.raised().iter().rfind(|raised| raised.conflict.key == key);
        let Some(raised) = last.filter(is_of_this) else { return Settled::Raise(by) };
        let said = match joining.said.get(&(by, raised.number)) {
            None => Err("nobody has settled it".to_owned()),
            Some(Err(failure)) => {
                Err(format!("who was to settle it failed: {}: {}", failure.code.as_str(), failure.message))
            }
            Some(Ok(given)) if matches!(policy, Policy::Ask(_)) => Said::by_people(given),
            Some(Ok(given)) => Said::by_agent(given),
        };
        match said {
            Ok(Said::Value(value)) => Settled::By(policy.as_str(), Outcome::holding(value)),
            Ok(Said::Take(name)) => {
                let branch = sides.iter().map(|(number, _)| *number).find(|number| (joining.called)(*number) == name);
                match branch.and_then(|number| resolve(&Policy::Prefer(vec![number]))) {
                    Some(outcome) => Settled::By(policy.as_str(), outcome),
                    None => Settled::Open(Some(format!("what was answered is no branch that changed it: `{name}`"))),
                }
            }
            Err(why) => Settled::Open(Some(why)),
        }
    }

    /// Puts a key to who settles it, where there is room for that.
    fn raise(
        &mut self,
        joining: &Joining<'_>,
        fork: &Fork,
        by: u32,
        current: Option<&Item>,
        sides: &[(u32, &Side)],
        conflict: &Conflict,
    ) -> Settled {
        let ever = fork.ever_raised();
        if ever.len() + self.raised.len() >= Raised::MOST * Raised::TIMES || self.raised.len() >= Raised::MOST {
            return Settled::Open(Some(format!("of a fork {} keys are put to others at most", Raised::MOST)));
        }
        if fork.raised().iter().filter(|raised| raised.conflict.key == conflict.key).count() >= Raised::TIMES {
            let times = Raised::TIMES;
            return Settled::Open(Some(format!(
                "it was changed outside each of the {times} times somebody settled it"
            )));
        }
        let number = ever.iter().chain(&self.raised).filter(|raised| raised.by == by).count();
        let raised = Raised {
            node: joining.node.clone(),
            by,
            number: u32::try_from(number).unwrap_or(u32::MAX),
            branches: sides.iter().map(|(branch, _)| *branch).collect(),
            current: current.cloned(),
            conflict: conflict.clone(),
        };
        let bytes: u64 = self.raised.iter().chain([&raised]).map(|raised| raised.size() as u64).sum();
        if !joining.log.read(|history| history.forked().has_room(bytes)) {
            return Settled::Open(Some(
                "there is no room to put it to somebody: branches of this run hold too much".into(),
            ));
        }
        self.raised.push(raised);
        Settled::Raise(by)
    }
}

/// The session's memory as the node that forked sees it.
fn whose<'a>(log: &'a Arc<RunLog>, transaction: &'a Transaction) -> Whose<'a> {
    Whose {
        tenant: log.tenant(),
        session: Some(&log.started().session),
        agent: None,
        within: Some(Within { log: Some(log), transaction }),
        client: None,
        cause: None,
        patience: locks::patience(0),
    }
}

/// How a node fails whose branches conflict: of the first key what each did to it, and what can be done. Values are told to those who may
/// look at them.
fn conflict(came: &Came) -> Failure {
    let Some(first) = came.open.first() else { return Failure::new(Code::MergeConflict, "branches conflict") };
    let sides: Vec<String> = first.sides.iter().map(|side| format!("`{}` ({})", side.name, side.did)).collect();
    let more = match came.count {
        ..=1 => String::new(),
        count => format!("; {} more keys conflict", count - 1),
    };
    let message = format!(
        "key `{}`: {}: {}{more}. `ltmc runs conflicts RUN` lists them with their values; `ltmc runs resume RUN --take KEY=BRANCH` goes \
         on with what a branch made of it",
        first.key,
        first.why,
        sides.join(", ")
    );
    Failure::new(Code::MergeConflict, message)
}

fn no_room(refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Quota(why) => {
            Failure::new(Code::QuotaExceeded, format!("there is no room for what branches did: {why}"))
        }
        other => Failure::new(Code::Internal, format!("what branches did was refused: {other:?}")),
    }
}
