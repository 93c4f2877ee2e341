//! What is kept of a run's journal to be looked at.
//!
//! Invariant: of what its steps and it itself took and gave, what is large is not in memory: there are its size and where it stands.

use std::collections::BTreeMap;

use ltmc_model::journal::{Amendment, Decided, Event, Placed};
use ltmc_model::{Digest, Payload, RunId, Seq, StepPath};
use serde::Serialize;

use super::step::{ChangeView, What};
use crate::diff::Gave;
use crate::fold::{History, Status, Step};
use crate::shown::LARGE;

/// A history in which what is large is left out, and what that is.
#[derive(Debug, Clone, Default)]
pub struct Outline {
    /// Where the run stands; outputs that are large are empty in it.
    pub history: History,
    pub(super) input: Option<Size>,
    input_digest: Option<Digest>,
    outputs: BTreeMap<StepPath, Left>,
    /// What people changed, which is so once the run goes on.
    to_be_changed: Vec<(StepPath, ChangeView)>,
    /// What they changed last of each step, and which entry says what it had given then.
    changed: BTreeMap<(StepPath, What), (ChangeView, Seq)>,
}

/// An output that was left out.
#[derive(Debug, Clone)]
struct Left {
    run: RunId,
    seq: Seq,
    content_type: String,
    large: Large,
}

impl Outline {
    /// Takes in the next entry, which stands in the journal of `run`: its own, or that of one it was forked from.
    pub fn apply(&mut self, run: RunId, mut placed: Placed) {
        match &mut placed.entry.event {
            Event::RunStarted(started) => {
                self.input = Some(Size::of(&started.input));
                self.input_digest = Some(Digest::of(&started.input.bytes));
                started.input.bytes.clear();
            }
            Event::StepCompleted { step, output, .. }
            | Event::NodeEnded { node: step, output }
            | Event::Answered { node: step, answer: output, .. }
            | Event::EventTaken { node: step, event: output, .. }
            | Event::ChildEnded { node: step, result: Ok(output), .. } => {
                self.leave_out(step, output, run, placed.seq);
            }
            Event::Amended(amended) => match &mut amended.change {
                Amendment::Output(output) | Amendment::Gave(output) => {
                    self.leave_out(&amended.step, output, run, placed.seq)
                }
                Amendment::Input(input) => input.bytes.clear(),
                Amendment::Again => {}
            },
            // Of each only what tells it from another.
            Event::NodeDecided { decided: Decided::Items(items), .. } => {
                items.iter_mut().for_each(|item| item.bytes = Digest::of(&item.bytes).0.to_vec().into());
            }
            // What branches saw and did is looked at where it is true, or in the journal.
            Event::BasePinned { base, .. } => *base = None,
            Event::BranchChanged(done) => (done.changed, done.sent) = (Vec::new(), Vec::new()),
            Event::ContextMerged(merged) => merged.changed.clear(),
            _ => {}
        }
        self.history.apply(&placed);
        self.note_changes(&placed);
    }

    /// Keeps in mind who changed what.
    fn note_changes(&mut self, placed: &Placed) {
        match &placed.entry.event {
            Event::Amended(amended) => {
                let what = match &amended.change {
                    Amendment::Output(_) => What::Output,
                    Amendment::Input(_) => What::Input,
                    Amendment::Gave(_) | Amendment::Again => return,
                };
                let (by, at) = (amended.by.clone(), placed.entry.at);
                self.to_be_changed.push((amended.step.clone(), ChangeView { what, by, at }));
            }
            Event::RunResumed { .. } => {
                for (step, change) in std::mem::take(&mut self.to_be_changed) {
                    let ended_at = self.history.step(&step).map(|step| step.ended_at).unwrap_or_default();
                    self.changed.insert((step, change.what), (change, ended_at));
                }
            }
            _ => {}
        }
    }

    /// What people changed of a step and is so still: an output until the step is done again, an input for good.
    pub(super) fn changes(&self, path: &StepPath, step: Option<&Step>) -> Vec<ChangeView> {
        let Some(step) = step else { return Vec::new() };
        let of = |what| self.changed.get(&(path.clone(), what));
        let input = of(What::Input).filter(|_| step.given.is_some());
        let is_so = |(_, at): &&(ChangeView, Seq)| step.status == Status::Completed && step.ended_at == *at;
        let output = of(What::Output).filter(is_so);
        input.into_iter().chain(output).map(|(change, _)| change.clone()).collect()
    }

    fn leave_out(&mut self, step: &StepPath, output: &mut Payload, run: RunId, seq: Seq) {
        self.outputs.remove(step);
        if output.bytes.len() > LARGE {
            let bytes = std::mem::take(&mut output.bytes);
            let large = Large { bytes: bytes.len(), digest: Digest::of(&bytes).to_string() };
            self.outputs.insert(step.clone(), Left { run, seq, content_type: output.content_type.clone(), large });
        }
    }

    /// The entry that has the run's result, where it was left out, and the run in whose journal it stands.
    pub fn result_at(&self) -> Option<(RunId, Seq)> {
        self.outputs.get(self.history.giver(self.history.completed()?)).map(|left| (left.run, left.seq))
    }

    /// Digest of the run's input.
    pub(crate) fn input_digest(&self) -> Option<Digest> {
        self.input_digest
    }

    /// What a step gave, or another node, of which this is in memory.
    pub(crate) fn gave(&self, step: &StepPath, output: &Payload) -> Gave {
        match self.outputs.get(step) {
            Some(Left { content_type, large, .. }) => {
                let (content_type, digest) = (content_type.clone(), large.digest.clone());
                Gave { content_type, bytes: large.bytes, digest, text: None }
            }
            None => Gave::small(&output.content_type, &output.bytes),
        }
    }

    pub(super) fn size(&self, step: &StepPath, output: &Payload) -> Size {
        match self.outputs.get(step) {
            Some(left) => Size { content_type: left.content_type.clone(), bytes: left.large.bytes },
            None => Size::of(output),
        }
    }

    pub(super) fn output(&self) -> Option<Content> {
        let step = self.history.giver(self.history.completed()?);
        Some(match self.outputs.get(step) {
            Some(Left { content_type, large, .. }) => {
                Content::Large { content_type: content_type.clone(), large: large.clone() }
            }
            None => Content::Small(self.history.output(step)?.clone()),
        })
    }
}

/// What a payload is, without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Size {
    /// Its content type.
    pub content_type: String,
    /// How many bytes it has.
    pub bytes: usize,
}

impl Size {
    pub(super) fn of(payload: &Payload) -> Self {
        Self { content_type: payload.content_type.clone(), bytes: payload.bytes.len() }
    }
}

/// A result: itself, or, where it is large, what it is.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Content {
    /// All of it.
    Small(Payload),
    /// Its content type, size and digest.
    Large {
        /// Its content type.
        #[serde(rename = "content-type")]
        content_type: String,
        /// How much it is.
        large: Large,
    },
}

/// How much something is that is not shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Large {
    /// Its bytes.
    pub bytes: usize,
    /// Of them.
    pub digest: String,
}
