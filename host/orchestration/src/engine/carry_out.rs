//! What a pattern decided is done, and journaled.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ltmc_context::merge::{Joined, Joining};
use ltmc_journal::fold::{Step, not_needed};
use ltmc_journal::runlog::Commit;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::fork::Level;
use ltmc_model::journal::Event;
use ltmc_model::workflow::Validate;
use ltmc_model::{RunId, StepPath, Timestamp};
use ltmc_ports::Durability;

use super::{Engine, Stop};
use crate::children::Sub;
use crate::decide::Decider;
use crate::patterns::{Input, Output, Settled, Todo};
use crate::{aggregate, ask, emit, input, judge};

impl Engine<'_> {
    pub(super) async fn carry_out(&self, todo: Todo) -> Result<(), Stop> {
        match todo {
            Todo::Attempt { step, input } => {
                let assigned = self.preparer().assigned(self.compute, self.plan, &step, &input).await;
                let needs = self.needs(&step, &input);
                self.attempt(&step, assigned.map_err(Stop::Failed)?, needs).await?;
            }
            Todo::Judge { node } => {
                let judged = self.rejection(&node).await;
                self.stage(node, judged, |node, rejection| Event::StepJudged { step: node, rejection });
            }
            Todo::Register { node, given } => self.journal(Event::CompensationRegistered { node, given }),
            Todo::Compensate { node, within, failure } => {
                self.journal(Event::CompensationStarted { node, within, failure });
            }
            Todo::Compensated { node } => self.journal(Event::Compensated { node }),
            Todo::Unwind { node: _, failure } => self.journal(Event::RunFailing { failure }),
            // Nothing is done about it but that the run is set aside.
            Todo::Halt { .. } => {}
            Todo::Wait { node: _, until } => self.wait(until).await?,
            Todo::Await { node } => {
                self.log.flush(Durability::Lazy).await?;
                self.next_event(&node).await?;
            }
            Todo::Subscribe { node } => self.subscribe(node).await?,
            Todo::Listen { node } => self.listen(node).await?,
            Todo::Ask { node } => self.ask(node).await?,
            Todo::Remind { node, number } => {
                if let Some((reminded, commit)) =
                    emit::reminder(self.plan, self.log, &node, number).map_err(Stop::Failed)?
                {
                    self.log.stage_with(reminded, commit).await?;
                }
            }
            Todo::Emit { node, input } => {
                let levels = self.levels(&node);
                match emit::event(self.compute, self.plan, self.log, &node, &input, &levels).await {
                    Ok((emitted, commit)) => self.log.stage_with(emitted, commit).await?,
                    Err(failure) => self.fail(node, failure),
                }
            }
            Todo::Merge { node, done, settled } => self.merge(node, &done, settled).await?,
            Todo::Begin { node, input } => self.begin(node, &input).await?,
            Todo::Join { node } => self.join(node).await?,
            Todo::Start { node } => {
                let (planned, _) = self.plan.node(&node).map_err(Stop::Failed)?;
                let until = self.log.now().after(planned.timeout.unwrap_or_default());
                self.journal(Event::NodeStarted { node, until });
            }
            Todo::Decide { node, question } => {
                let (compute, plan, log, coordinator) = (self.compute, self.plan, self.log, self.coordinator);
                let (authority, schemas) = (&self.ports.authority, self.ports.schemas.as_ref());
                let bounded = self.bounded;
                let conversation = self.conversation.as_ref();
                let context = self.ports.crossing.context.as_ref();
                let decider =
                    Decider { compute, plan, log, coordinator, conversation, authority, context, schemas, bounded };
                let answer = decider.answer(&node, question).await;
                self.stage(node, answer, |node, decided| Event::NodeDecided { node, decided });
            }
            Todo::Record { node, decided } => self.journal(Event::NodeDecided { node, decided }),
            Todo::Cancel { node } => self.cancel(&node).await,
            Todo::TimeOut { node } => {
                self.cancel(&node).await;
                let (planned, _) = self.plan.node(&node).map_err(Stop::Failed)?;
                let after = planned.timeout.unwrap_or_default().as_millis();
                self.journal(Event::NodeTimedOut { node, after: u64::try_from(after).unwrap_or(u64::MAX) });
            }
            Todo::Fail { node, failure, again } => {
                let (planned, _) = self.plan.node(&node).map_err(Stop::Failed)?;
                let failures = self.log.read(|history| history.node(&node).map_or(0, |node| node.failures));
                let retry_at = again.then(|| self.due(&node, failures + 1, failures + 1, &planned.retry));
                self.journal(Event::NodeFailed { node, failure, retry_at });
            }
            Todo::End { node, output } => self.give(node, output).await,
        }
        Ok(())
    }

    /// Journals what a node gives.
    async fn give(&self, node: StepPath, output: Output) {
        let gave = match output {
            Output::Of(of) | Output::Given(Input::Output(of)) => return self.journal(Event::NodeGave { node, of }),
            Output::Given(input) => input::resolve(self.compute, self.plan, self.log, &input).await,
            Output::List(gave) => aggregate::list(self.compute, self.log, gave).await,
            Output::Merge(gave) => aggregate::merged(self.compute, self.plan, self.log, &node, gave).await,
            Output::Voted { by } => aggregate::voted(self.log, &node, by.as_ref()),
            Output::Object(gave) => aggregate::object(self.compute, self.log, gave).await,
        };
        self.stage(node, gave, |node, output| Event::NodeEnded { node, output });
    }

    /// The branches with a context of their own that a node stands in and that have not come together, from the outside in.
    pub(super) fn levels(&self, node: &StepPath) -> Vec<Level> {
        self.log.read(|history| history.forked().in_force(self.plan.levels(node)))
    }

    /// Brings branches together; what they did is true with the entry that says so. Where they conflict about keys that somebody is to
    /// settle, the journal says that these are put to them.
    async fn merge(&self, node: StepPath, done: &[u32], settled: Vec<Settled>) -> Result<(), Stop> {
        let (planned, _) = self.plan.node(&node).map_err(Stop::Failed)?;
        let Some(context) = planned.context() else {
            return Err(Stop::Failed(Failure::new(Code::Internal, format!("the branches of {node} have no context"))));
        };
        let said = settled
            .into_iter()
            .map(|Settled { by, number, came }| ((by, number), came.and_then(|of| input::output(self.log, &of))));
        let joining = Joining {
            log: self.log,
            node: &node,
            done,
            levels: self.levels(&node),
            policies: &context.merge,
            said: &said.collect(),
            called: &|number| planned.called(number),
        };
        match self.ports.crossing.context.join(joining).await? {
            Ok(Joined::Together(merged, commit)) => self.log.stage_with(merged, commit).await?,
            Ok(Joined::Conflict(conflicted, failure)) => {
                let failed = Event::NodeFailed { failure: failure.in_step(&node), node, retry_at: None };
                self.count(&failed);
                self.log.stage_with(failed, Commit { before: vec![conflicted], ..Commit::default() }).await?;
            }
            Ok(Joined::Raised(events)) => self.log.stage_if(|_| Ok::<_, Stop>(events))?,
            Err(failure) => self.fail(node, failure),
        }
        Ok(())
    }

    /// Journals what came of something about a node, or that the node failed by it.
    pub(super) fn stage<T>(&self, node: StepPath, came: Result<T, Failure>, event: impl FnOnce(StepPath, T) -> Event) {
        match came {
            Ok(came) => self.journal(event(node, came)),
            Err(failure) => self.fail(node, failure),
        }
    }

    /// Journals that what is open at a node and below it is ended, once no guest of it does anything any more.
    async fn cancel(&self, node: &StepPath) {
        self.guests.left(node).await;
        self.children.end(node);
        let cancelled: Vec<Event> = self.log.read(|history| {
            let attempt = |(path, step): (&StepPath, &Step)| {
                let attempt = step.last().map_or(0, |last| last.number);
                Event::StepCancelled { step: path.clone(), attempt }
            };
            let ended = |(node, run): (&StepPath, RunId)| Event::ChildEnded {
                node: node.clone(),
                run,
                result: Err(not_needed()),
            };
            let attempts = history.open_within(node).map(attempt);
            let waits = history.waiting_within(node).map(|node| Event::WaitCancelled { node: node.clone() });
            attempts.chain(waits).chain(history.own_children(node).map(ended)).collect()
        });
        cancelled.into_iter().for_each(|event| self.journal(event));
    }

    /// Puts a node's question to people. It is on disk before anybody sees it: an answer is never one to a question that was not asked.
    async fn ask(&self, node: StepPath) -> Result<(), Stop> {
        match ask::question(self.compute, self.plan, self.log, &node).await {
            Ok((token, question)) => {
                let asked = Event::Asked { node, token, question: Box::new(question) };
                self.log.append(vec![asked], Durability::Barrier).await?;
            }
            Err(failure) => self.fail(node, failure),
        }
        Ok(())
    }

    /// Journals that a node's own work failed for good, and that it waits for nothing any more.
    pub(crate) fn fail(&self, node: StepPath, failure: Failure) {
        if self.log.read(|history| history.node(&node).is_some_and(ltmc_journal::node::Node::is_waiting)) {
            self.log.stage(Event::WaitCancelled { node: node.clone() });
        }
        self.journal(Event::NodeFailed { failure: failure.in_step(&node), node, retry_at: None });
    }

    /// Begins the run of a node that starts another workflow.
    pub(super) async fn begin(&self, node: StepPath, input: &Input) -> Result<(), Stop> {
        let (planned, _) = self.plan.node(&node).map_err(Stop::Failed)?;
        let document = self.log.read(|history| history.node(&node).and_then(|node| node.planned.clone()));
        let Some(sub) = Sub::of(planned, document) else {
            return Err(Stop::Failed(Failure::new(Code::Internal, format!("{node} starts no workflow"))));
        };
        let is_apart = Level::has_session(&self.levels(&node));
        let begun = match input::resolve(self.compute, self.plan, self.log, input).await {
            Ok(input) => self.children.start(&node, &sub, input, is_apart).await?,
            Err(failure) => Err(failure),
        };
        let (needs, planned) = (self.needs(&node, input), sub.planned.is_some());
        self.stage(node, begun, |node, run| Event::ChildStarted { node, run, needs, planned });
        Ok(())
    }

    /// Waits until the run that a node began is over.
    async fn join(&self, node: StepPath) -> Result<(), Stop> {
        // It does nothing but wait: a host that dies meanwhile did not die of it.
        self.bounded.store(true, Ordering::Relaxed);
        self.log.flush(Durability::Lazy).await?;
        let run = self.log.read(|history| history.node(&node)?.child.as_ref().map(|child| child.run));
        let Some(run) = run else {
            return Err(Stop::Failed(Failure::new(Code::Internal, format!("{node} began no run"))));
        };
        let result = self.children.joined(run).await?;
        self.journal(Event::ChildEnded { node, run, result });
        Ok(())
    }

    /// What is wrong with a node's output; none: it is good.
    async fn rejection(&self, at: &StepPath) -> Result<Option<Failure>, Failure> {
        let (node, _) = self.plan.node(at)?;
        let found = match &node.validate {
            Some(Validate::Schema { schema, .. }) => {
                let output = input::output(self.log, at)?;
                self.bounded.store(true, Ordering::Relaxed);
                self.ports.schemas.judge(self.log.tenant(), &schema.to_string(), &output).await?
            }
            Some(Validate::Agent { .. }) => judge::of_payload(&input::output(self.log, &at.child(node.validator()))?)?,
            None => return Err(Failure::new(Code::Internal, format!("the plan has nothing that judges {at}"))),
        };
        Ok(judge::rejection(&found).map(|failure| failure.in_step(at)))
    }

    async fn wait(&self, until: Timestamp) -> Result<(), Stop> {
        self.log.flush(Durability::Lazy).await?;
        let left = until.since(self.log.now()).max(Duration::from_millis(1));
        tokio::time::sleep(left).await;
        Ok(())
    }
}
