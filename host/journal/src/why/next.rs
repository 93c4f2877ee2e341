//! What people can do next about a run.

use ltmc_model::failure::{Code, Failure};
use ltmc_model::run::State;
use serde::Serialize;

use super::Why;

/// What a person can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Next {
    /// The command, as it is typed.
    pub command: String,
    /// What comes of it.
    pub does: String,
}

impl Why {
    /// What can be done about it, the likeliest first.
    pub(super) fn next_steps(&self, failure: Option<&Failure>) -> Vec<Next> {
        let id = self.id;
        let next = |command: String, does: &str| Next { command: format!("ltmc {command}"), does: does.to_owned() };
        let mut all = Vec::new();
        // In an item or a round its name does not say which is meant.
        let step = self.chain.first().map(|link| &link.called);
        let step = step.map(|called| match (&called.name, called.item, called.round) {
            (Some(name), None, None) => name.clone(),
            _ => called.step.to_string(),
        });
        let is_step = self.chain.first().is_some_and(|link| link.called.agent.is_some());
        let changes = step.iter().filter(|_| is_step).flat_map(|step| {
            let (set, input) = (format!("--set {step}=@output.json"), format!("--input {step}=@input.json"));
            [
                next(format!("runs resume {id} {set}"), "goes on as if the step had given this"),
                next(format!("runs resume {id} {input}"), "makes the step again, on this"),
            ]
        });
        let changes: Vec<Next> = changes.collect();
        match self.state {
            State::Failed => {
                all.push(next(
                    format!("runs resume {id}"),
                    "makes again what failed, and goes on; what is done stays done, unless it was undone",
                ));
                all.extend(changes);
                if let Some(step) = step {
                    all.push(next(
                        format!("runs restart {id} --from {step}"),
                        "does the same in a new run, and leaves this one as it is",
                    ));
                }
            }
            State::Cancelled => {
                all.push(next(
                    format!("runs resume {id}"),
                    "goes on where it stopped; what is done stays done, unless it was undone",
                ));
            }
            State::Quarantined => {
                all.push(next(format!("runs resume {id}"), "takes it up again, once what the host died of is gone"));
                let what = "makes the step that it died of again, on something else";
                all.push(next(format!("runs resume {id} --input STEP=@input.json"), what));
                all.push(next(format!("runs cancel {id}"), "ends it; what it did is kept"));
            }
            State::Paused => {
                all.push(next(format!("runs continue {id}"), "goes on with it; what failed is tried again"));
                all.extend(changes);
                all.push(next(
                    format!("runs cancel {id}"),
                    "ends it; what it did is undone, where something undoes it",
                ));
            }
            State::Stuck => {
                all.push(next(format!("runs resume {id}"), "tries again what undoes its work"));
                all.push(next(format!("runs cancel {id}"), "gives up what is not undone"));
            }
            State::Completed => {
                all.push(next(
                    format!("runs restart {id} --from STEP"),
                    "does a step and what came after it again, in a new run",
                ));
            }
            State::Queued | State::Running | State::Waiting => {
                all.push(next(format!("runs events {id}"), "follows it until it is over"));
                all.push(next(
                    format!("runs cancel {id}"),
                    "ends it, and it can be resumed; what it did is kept, unless something undoes it",
                ));
            }
        }
        if failure.is_some_and(|failure| failure.code == Code::AgentMissing) {
            all.insert(0, next("push AGENT.wasm".into(), "puts the version that is missing back"));
        }
        if failure.is_some_and(|failure| failure.code == Code::MergeConflict) {
            let take = "goes on where its branches come together, with what that branch made of the key";
            all.insert(0, next(format!("runs conflicts {id}"), "lists where its branches conflict"));
            all.insert(1, next(format!("runs resume {id} --take KEY=BRANCH"), take));
        }
        all.push(next(format!("runs journal {id}"), "shows all that happened, entry by entry"));
        all
    }
}
