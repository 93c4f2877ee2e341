//! People, played: who answers a run's questions as its case says, once they are asked.
//!
//! Invariant: a question is answered once, by the answer for the asking of that node that it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use ltmc_model::caller::{Caller, Role};
use ltmc_model::journal::Event;
use ltmc_model::question::{Asked, Token};
use ltmc_model::workflow::cases::{Answer, Gives};
use ltmc_model::workflow::places::is_at;
use ltmc_model::workflow::{Document, StepName};
use ltmc_model::{Revision, RunId, TenantId};
use ltmc_orchestration::Runs;
use ltmc_ports::questions::{QuestionFilter, ReadQuestions as _};
use ltmc_ports::testing::MemoryRecord;
use ltmc_ports::{Append, Durability, Receipt, WriteJournal};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

/// How many questions are looked at at once.
const PAGE: u32 = 1_000;

/// A way to the record that tells when something was asked.
pub(super) struct Overheard {
    pub(super) record: Arc<MemoryRecord>,
    pub(super) asked: Arc<Notify>,
}

#[async_trait]
impl WriteJournal for Overheard {
    async fn hand_over(&self, append: Append, durability: Durability) -> Receipt {
        let asks = append.entries.iter().any(|entry| matches!(entry.event, Event::Asked { .. }));
        let receipt = self.record.hand_over(append, durability).await;
        if asks {
            self.asked.notify_one();
        }
        receipt
    }

    fn next_revision(&self, tenant: &TenantId) -> Revision {
        self.record.next_revision(tenant)
    }
}

/// Answers a case's questions in place of people.
pub(super) struct People {
    /// What is answered, by where the node stands.
    answers: Vec<(String, StepName, Vec<Answer>)>,
    /// What nobody could answer, and why.
    silent: Mutex<BTreeSet<String>>,
    /// How many answers are still to be given.
    left: AtomicUsize,
    /// Told after each answer.
    pub(super) answered: Notify,
}

impl People {
    pub(super) fn of(document: &Document, questions: &BTreeMap<StepName, Vec<Answer>>) -> Arc<Self> {
        let places = document.places().into_iter();
        let answers = places.filter_map(|(place, node)| {
            let name = node.id.clone()?;
            let answers = questions.get(&name)?.clone();
            Some((place, name, answers))
        });
        Arc::new(Self {
            answers: answers.collect(),
            silent: Mutex::default(),
            left: AtomicUsize::new(0),
            answered: Notify::new(),
        })
    }

    pub(super) fn silent(&self) -> Vec<String> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// How many answers are still to be given.
    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::Acquire)
    }

    /// Answers the questions of a run for as long as it is polled.
    pub(super) async fn answer(
        self: Arc<Self>,
        runs: Runs,
        record: Arc<MemoryRecord>,
        caller: Caller,
        asked: Arc<Notify>,
    ) {
        let mut seen: BTreeSet<Token> = BTreeSet::new();
        let mut times: BTreeMap<(RunId, String), u32> = BTreeMap::new();
        let mut under_way = Vec::new();
        loop {
            asked.notified().await;
            let of = [Role::Admin, Role::Author, Role::Caller].to_vec();
            let filter = QuestionFilter { of, limit: PAGE, ..QuestionFilter::default() };
            let open = record.questions(&caller.tenant, &filter).await.unwrap_or_default();
            for question in open {
                if !seen.insert(question.token.clone()) {
                    continue;
                }
                let time = times.entry((question.run, question.node.to_string())).or_default();
                *time += 1;
                let Some(answer) = self.choose(&question, *time) else { continue };
                let (people, runs, caller) = (self.clone(), runs.clone(), caller.clone());
                self.left.fetch_add(1, Ordering::AcqRel);
                under_way.push(AbortOnDropHandle::new(tokio::spawn(async move {
                    people.give(&runs, &caller, question, answer).await;
                    people.left.fetch_sub(1, Ordering::AcqRel);
                })));
            }
        }
    }

    fn choose(&self, question: &Asked, time: u32) -> Option<Answer> {
        let found = self.answers.iter().find(|(place, ..)| is_at(question.node.as_str(), place));
        let Some((_, _, answers)) = found else {
            self.is_silent(format!(
                "a question was asked at {}, and has no answer: {}",
                question.node, question.question.title
            ));
            return None;
        };
        // What is shown is not in the list of questions.
        Answer::choose(answers, &serde_json::Value::Null, time).cloned()
    }

    async fn give(&self, runs: &Runs, caller: &Caller, question: Asked, answer: Answer) {
        if !answer.takes.is_zero() {
            tokio::time::sleep(answer.takes).await;
        }
        let Gives::Output(output) = &answer.gives else { return };
        let value = output.to_value().unwrap_or_else(serde_json::Value::String);
        let answer = ltmc_orchestration::Answer { answer: value, comment: None };
        match runs.answer(caller, question.token.clone(), answer).await {
            Ok(()) => self.answered.notify_one(),
            // It took too long, or its branch was not needed any more.
            Err(ltmc_tenancy::Error::Conflict { .. }) => {}
            Err(error) => self.is_silent(format!("the answer to the question at {}: {error}", question.node)),
        }
    }

    fn is_silent(&self, why: String) {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).insert(why);
    }
}
