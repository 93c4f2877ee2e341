//! What becomes of branches that had a context of their own, when they come together: of each key, and of what they sent.
//!
//! Invariants: what comes of a key is `ltmc_model::fork`'s to say. All of it becomes true in one commit, with the entry that says so,
//! and only where every key still holds what this was decided on; or nothing does. Of a fork within a branch it becomes a part of
//! what that branch did.

use std::sync::Arc;

use ltmc_journal::RunLog;
use ltmc_journal::forked::Fork;
use ltmc_journal::runlog::Commit;
use ltmc_model::delta::{Delta, MemoryValue};
use ltmc_model::effect::Refusal;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::fork::{
    Answer, Branch, Conflict, ConflictSide, Did, Excerpt, Level, Merged, Outcome, Policies, Policy, Side, Why, join,
};
use ltmc_model::journal::Event;
use ltmc_model::memory::{Drawer, Item};
use ltmc_model::message::{Channel, Message, Taker};
use ltmc_model::{StepPath, Timestamp};
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
    /// What a branch is called.
    pub called: &'a (dyn Fn(u32) -> String + Send + Sync),
}

/// What came of them.
pub enum Joined {
    /// They went together: the entry that says so, and what is true with it.
    Together(Event, Commit),
    /// They did not: the entry that says where, and how the node fails by it.
    Conflict(Event, Failure),
}

/// What comes of all keys.
#[derive(Default)]
struct Came {
    changes: Vec<(String, Option<Item>, Outcome)>,
    conflicts: Vec<Conflict>,
    /// Keys of which nothing was taken; the first of them are kept.
    open: Vec<Conflict>,
    count: u64,
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
    /// What is taken of a key whose branches conflict, by what somebody said or by the policy; none: nothing, and that is kept.
    fn settle(
        &mut self,
        joining: &Joining<'_>,
        fork: &Fork,
        key: &str,
        why: Why,
        [base, current]: [Option<&Item>; 2],
        sides: &[(u32, &Side)],
    ) -> Option<Outcome> {
        let policy = joining.policies.of(key);
        let by_policy =
            |policy: &Policy| policy.resolve(base, current, sides, joining.done, |number| (joining.called)(number));
        let taken = match fork.answer(key) {
            Some(Answer::Branch(number)) => {
                by_policy(&Policy::Prefer(vec![*number])).map(|outcome| ("answer", outcome))
            }
            Some(Answer::Value(json)) => {
                let value = Some(MemoryValue { bytes: json.clone().into(), expires_at: None });
                Some(("answer", Outcome { did: Did::Put, value }))
            }
            None => by_policy(policy).map(|outcome| (policy.as_str(), outcome)),
        };
        let excerpt = |item: Option<&Item>| item.map(|item| Excerpt::of(&item.value));
        let side = |(branch, side): &(u32, &Side)| ConflictSide {
            branch: *branch,
            name: (joining.called)(*branch),
            did: side.did.as_str().to_owned(),
            value: side.value.as_ref().map(|value| Excerpt::of(&value.bytes)),
        };
        let resolved = taken.as_ref().map(|(by, _)| (*by).to_owned());
        let kept = if resolved.is_some() { &mut self.conflicts } else { &mut self.open };
        if kept.len() < Conflict::KEPT {
            kept.push(Conflict {
                key: key.to_owned(),
                why: why.to_string(),
                base: excerpt(base),
                current: excerpt(current),
                sides: sides.iter().take(Conflict::SIDES).map(side).collect(),
                resolved,
            });
        }
        self.count += u64::from(taken.is_none());
        taken.map(|(_, outcome)| outcome)
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
