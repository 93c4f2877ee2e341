//! Questions in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use ltmc_model::journal::{Entry, Event};
use ltmc_model::question::{Asked, Standing, Token};
use ltmc_model::run::{Run, State};
use ltmc_model::workflow::Node;
use ltmc_model::{StepPath, TenantId};

use super::MemoryRecord;
use crate::StoreError;
use crate::questions::{QuestionFilter, ReadQuestions};

/// Every question that was asked.
#[derive(Debug, Default)]
pub(super) struct Questions(BTreeMap<(TenantId, Token), Asked>);

impl Questions {
    /// What entries of a run make of them.
    pub(super) fn follow(&mut self, run: &Run, entries: &[Entry]) {
        for entry in entries {
            match &entry.event {
                Event::Asked { node, token, question } => {
                    let asked = Asked {
                        token: token.clone(),
                        run: run.id,
                        node: node.clone(),
                        by: run.by.clone(),
                        at: entry.at,
                        standing: Standing::Open,
                        question: question.as_ref().clone(),
                    };
                    self.0.insert((run.tenant.clone(), token.clone()), asked);
                }
                Event::Answered { token, .. } => self.close(run, Standing::Answered, |asked| asked.token == *token),
                Event::WaitCancelled { node } => self.close(run, Standing::Withdrawn, |asked| asked.node == *node),
                Event::RunFailing { .. } | Event::RunCancelling { .. } => {
                    self.close(run, Standing::Over, |asked| !Node::is_undoing(&asked.node, &StepPath::root()));
                }
                _ => {}
            }
        }
        if matches!(run.state, State::Failed | State::Cancelled | State::Quarantined) {
            self.close(run, Standing::Over, |_| true);
        }
    }

    pub(super) fn purge(&mut self, tenant: &TenantId) {
        self.0.retain(|(of, _), _| of != tenant);
    }

    fn close(&mut self, run: &Run, to: Standing, which: impl Fn(&Asked) -> bool) {
        let of_run = self.0.iter_mut().filter(|((tenant, _), asked)| *tenant == run.tenant && asked.run == run.id);
        for (_, asked) in of_run.filter(|(_, asked)| asked.standing == Standing::Open && which(asked)) {
            asked.standing = to;
            (asked.question.show, asked.question.schema, asked.question.until) = (None, None, None);
        }
    }
}

#[async_trait]
impl ReadQuestions for MemoryRecord {
    async fn question(&self, tenant: &TenantId, token: &Token) -> Result<Option<Asked>, StoreError> {
        Ok(self.with_questions(|questions| questions.0.get(&(tenant.clone(), token.clone())).cloned()))
    }

    async fn questions(&self, tenant: &TenantId, filter: &QuestionFilter) -> Result<Vec<Asked>, StoreError> {
        let shown = |questions: &Questions| {
            let open = questions.0.iter().filter(|((of, _), asked)| of == tenant && asked.standing == Standing::Open);
            let open = open.map(|(_, asked)| asked);
            let mut open: Vec<Asked> = open
                .filter(|asked| filter.of.contains(&asked.question.of))
                .filter(|asked| filter.by.as_ref().is_none_or(|by| asked.by == *by))
                .filter(|asked| {
                    filter.after.as_ref().is_none_or(|after| (asked.at, &asked.token) > (after.0, &after.1))
                })
                .cloned()
                .collect();
            open.sort_by(|one, other| (one.at, &one.token).cmp(&(other.at, &other.token)));
            open.truncate(filter.limit as usize);
            open.iter_mut().for_each(|asked| {
                (asked.question.show, asked.question.schema, asked.question.until) = (None, None, None)
            });
            open
        };
        Ok(self.with_questions(shown))
    }
}
