//! What a journal tells, without times, epochs and revisions: two runs of the same work tell the same story, however often
//! their hosts died.

use std::collections::{BTreeMap, BTreeSet};

use ltmc_model::failure::Code;
use ltmc_model::journal::{Decided, Event, Placed};
use ltmc_model::workflow::Node;
use ltmc_model::{Epoch, StepPath, Timestamp};

/// A run's story.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Story {
    /// Attempts as they began.
    pub(crate) begun: Vec<(StepPath, u32)>,
    /// Attempts as they ended, with the code of their failure.
    pub(crate) ended: Vec<(StepPath, u32, Option<Code>)>,
    /// Effects: step, attempt, number, call, what it was about.
    pub(crate) effects: Vec<(StepPath, u32, u32, String, String)>,
    /// Log lines: step, attempt, number, message.
    pub(crate) logs: Vec<(StepPath, u32, u32, String)>,
    /// Which outputs were judged, and whether they were found good.
    pub(crate) judged: Vec<(StepPath, bool)>,
    /// What was decided about nodes, and what became of them.
    pub(crate) nodes: Vec<(StepPath, String)>,
    /// How the run ended, each time.
    pub(crate) ends: Vec<&'static str>,
}

impl Story {
    /// Reads it; panics where a journal cannot be like this at all.
    pub(crate) fn of(journal: &[Placed]) -> Self {
        let mut story = Self::default();
        let (mut latest, mut epoch) = (Timestamp::default(), Epoch(1));
        let mut open = BTreeMap::new();
        for (number, placed) in (1..).zip(journal) {
            assert_eq!(placed.seq.0, number);
            assert_eq!(number == 1, matches!(placed.entry.event, Event::RunStarted(_)), "a run starts once");
            assert!(placed.entry.at >= latest, "entry {number} is older than the one before");
            latest = placed.entry.at;
            story.tell(&placed.entry.event, &mut epoch, &mut open);
        }
        story.each_once();
        story
    }

    /// `open`: of each open attempt its number, and how many effects and lines it had at its last checkpoint.
    fn tell(&mut self, event: &Event, epoch: &mut Epoch, open: &mut BTreeMap<StepPath, (u32, u32, u32)>) {
        match event.clone() {
            // Whoever takes a suspended run over before it is due suspends it again.
            Event::RunStarted(_)
            | Event::BasePinned { .. }
            | Event::RunQuarantined { .. }
            | Event::Amended(_)
            | Event::AgentReplaced { .. }
            | Event::RunPaused { .. }
            | Event::RunContinued { .. }
            | Event::RunResumed { .. }
            | Event::RunSuspended { .. }
            | Event::Sealed { .. }
            | Event::Act(_) => {}
            Event::StepJudged { step, rejection } => self.judged.push((step, rejection.is_none())),
            Event::NodeEnded { node, .. } => self.nodes.push((node, "ended".into())),
            Event::Asked { node, .. } => self.nodes.push((node, "asked".into())),
            Event::Answered { node, answer, .. } => {
                self.nodes.push((node, format!("answered {:?}", answer.to_value())))
            }
            Event::Reminded { node, number, .. } => self.nodes.push((node, format!("reminded {number}"))),
            Event::Emitted { node, .. } => self.nodes.push((node, "emitted".into())),
            Event::Subscribed { node, .. } => self.nodes.push((node, "subscribed".into())),
            Event::EventTaken { node, event, .. } => {
                let event = event.to_value().unwrap();
                self.nodes.push((node, format!("took {} {}", event["type"], event["data"])));
            }
            Event::BranchChanged(done) => {
                let mut keys: Vec<&str> = done.changed.iter().map(|(key, _)| key.as_str()).collect();
                keys.sort_unstable();
                let what = format!("changed {keys:?} and sent {} in {:?}", done.sent.len(), done.of);
                self.nodes.push((done.step, what));
            }
            Event::ContextMerged(merged) => {
                let what = format!("merged {:?}: {} keys, {} messages", merged.branches, merged.keys, merged.messages);
                self.nodes.push((merged.node, what));
            }
            Event::ContextConflicted { node, count, .. } => self.nodes.push((node, format!("{count} conflicts"))),
            Event::ConflictRaised(raised) => {
                let what = format!("raised {} for {}, of {:?}", raised.conflict.key, raised.by, raised.branches);
                self.nodes.push((raised.node, what));
            }
            Event::MergeAnswered { node, key, .. } => self.nodes.push((node, format!("answered {key}"))),
            Event::WaitCancelled { node } => self.nodes.push((node, "waits no more".into())),
            Event::NodeStarted { node, .. } => self.nodes.push((node, "started".into())),
            Event::NodeGave { node, of } => self.nodes.push((node, format!("gave {of}"))),
            Event::NodeFailed { node, failure, retry_at } => {
                self.nodes.push((node, format!("failed {} {}", failure.code.as_str(), retry_at.is_some())));
            }
            Event::ChildStarted { node, .. } => self.nodes.push((node, "began a run".into())),
            Event::ChildEnded { node, result, .. } => {
                let code = result.err().map(|failure| failure.code.as_str());
                self.nodes.push((node, format!("its run is over {code:?}")));
            }
            Event::NodeTimedOut { node, .. } => self.nodes.push((node, "timed out".into())),
            // Which of several was done first is as it comes.
            Event::NodeDecided { node, decided: Decided::Joined { mut winners, failure, lost } } => {
                winners.sort_unstable();
                let lost: Vec<u32> = lost.iter().map(|lost| lost.branch).collect();
                self.nodes.push((node, format!("joined {winners:?} {} {lost:?}", failure.is_some())));
            }
            Event::HandedOff(handed) => self.nodes.push((handed.node.clone(), format!("{handed:?}"))),
            Event::NodeDecided { node, decided: Decided::Until(_) } => self.nodes.push((node, "waits".into())),
            // What else a host has to do is as it comes.
            Event::NodeDecided { node, decided: Decided::Agent { agent, mut candidates } } => {
                candidates.iter_mut().for_each(|candidate| candidate.load = 0);
                self.nodes.push((node, format!("{:?}", Decided::Agent { agent, candidates })));
            }
            Event::NodeDecided { node, decided } => self.nodes.push((node, format!("{decided:?}"))),
            Event::CompensationRegistered { node, given } => self.nodes.push((node, format!("registered {given:?}"))),
            Event::CompensationStarted { node, within, failure } => {
                self.nodes.push((node, format!("in vain {within} {}", failure.code.as_str())));
            }
            Event::Compensated { node } => self.nodes.push((node, "compensated".into())),
            Event::RunFailing { failure } => {
                self.nodes.push((StepPath::root(), format!("unwinds {}", failure.code.as_str())));
                self.cut_off(open);
            }
            Event::RunCancelling { .. } => {
                self.nodes.push((StepPath::root(), "unwinds".into()));
                self.cut_off(open);
            }
            Event::StepCancelled { step, attempt } => {
                // What it did since its checkpoint never was.
                let (_, effects, lines) = open.remove(&step).unwrap_or_default();
                self.effects.retain(|(s, a, number, ..)| *s != step || *a != attempt || *number <= effects);
                self.logs.retain(|(s, a, number, _)| *s != step || *a != attempt || *number <= lines);
                self.ended.retain(|(s, a, _)| *s != step || *a != attempt);
                self.ended.push((step, attempt, Some(Code::Cancelled)));
            }
            Event::RunClaimed { epoch: claimed } => {
                assert!(claimed > *epoch, "a claim raises the epoch");
                *epoch = claimed;
                // What came after the checkpoint is made anew.
                for (path, (attempt, effects, lines)) in &*open {
                    self.effects.retain(|(s, a, number, ..)| s != path || a != attempt || number <= effects);
                    self.logs.retain(|(s, a, number, _)| s != path || a != attempt || number <= lines);
                }
            }
            Event::StepStarted { step, attempt, needs, transaction, .. } => {
                assert!(transaction);
                if !needs.is_empty() {
                    self.nodes.push((step.clone(), format!("works on {needs:?}")));
                }
                open.insert(step.clone(), (attempt, 0, 0));
                self.begun.push((step, attempt));
            }
            Event::Checkpoint { step, attempt, effects } => {
                let lines = self.logs.iter().filter(|(s, a, ..)| *s == step && *a == attempt);
                let lines = lines.map(|(_, _, number, _)| *number).max().unwrap_or(0);
                open.insert(step, (attempt, effects, lines));
            }
            Event::Effect(effect) => {
                self.effects.push((effect.step, effect.attempt, effect.number, effect.call, effect.about));
            }
            Event::Log { step, attempt, number, line } => self.logs.push((step, attempt, number, line.message)),
            Event::StepCompleted { step, attempt, .. } => {
                open.remove(&step);
                self.ended.push((step, attempt, None));
            }
            Event::StepFailed { step, attempt, failure, .. } => {
                open.remove(&step);
                self.ended.push((step, attempt, Some(failure.code)));
            }
            end @ (Event::RunCompleted { .. }
            | Event::RunFailed { .. }
            | Event::RunCancelled { .. }
            | Event::RunStuck { .. }) => {
                self.ends.push(end.kind());
            }
        }
    }

    /// What was open is ended, and what it did since its checkpoint never was; what undoes something is made anew from there.
    fn cut_off(&mut self, open: &mut BTreeMap<StepPath, (u32, u32, u32)>) {
        for (path, (attempt, effects, lines)) in &*open {
            self.effects.retain(|(s, a, number, ..)| s != path || a != attempt || number <= effects);
            self.logs.retain(|(s, a, number, _)| s != path || a != attempt || number <= lines);
            if !Node::is_undoing(path, &StepPath::root()) {
                self.ended.push((path.clone(), *attempt, Some(Code::Cancelled)));
            }
        }
        open.retain(|path, _| Node::is_undoing(path, &StepPath::root()));
    }

    /// The same, step by step: of those that are at work side by side nobody says in which order.
    pub(crate) fn by_step(mut self) -> Self {
        self.begun.sort();
        self.ended.sort_by(|one, other| (&one.0, one.1).cmp(&(&other.0, other.1)));
        self.effects.sort();
        self.logs.sort();
        self.judged.sort();
        // Of one node in order.
        self.nodes.sort_by(|one, other| one.0.cmp(&other.0));
        self
    }

    fn each_once(&self) {
        let attempts: BTreeSet<_> = self.begun.iter().collect();
        assert_eq!(attempts.len(), self.begun.len(), "an attempt begins once: {:?}", self.begun);
        let ended: BTreeSet<_> = self.ended.iter().map(|(step, attempt, _)| (step, attempt)).collect();
        assert_eq!(ended.len(), self.ended.len(), "an attempt ends once: {:?}", self.ended);
        let effects: BTreeSet<_> =
            self.effects.iter().map(|(step, attempt, number, ..)| (step, attempt, number)).collect();
        assert_eq!(effects.len(), self.effects.len(), "an effect is journaled once: {:?}", self.effects);
        let lines: BTreeSet<_> = self.logs.iter().map(|(step, attempt, number, _)| (step, attempt, number)).collect();
        assert_eq!(lines.len(), self.logs.len(), "a line is kept once: {:?}", self.logs);
    }
}

/// How often a run was taken over.
pub(crate) fn claims(journal: &[Placed]) -> usize {
    journal.iter().filter(|placed| matches!(placed.entry.event, Event::RunClaimed { .. })).count()
}
