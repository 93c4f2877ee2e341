//! Events that runs wait for: subscribed to, looked for, waited for.
//!
//! Invariants: from where on is journaled, and is in the record before anything is looked for: what comes after that the record tells the run's row
//! of. An event is taken by its place, the first that fits, once: the entry that says so has the event.

use ltmc_journal::History;
use ltmc_journal::runlog::Commit;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal;
use ltmc_model::message::{self, Published, Trail};
use ltmc_model::workflow::{Does, Listen, Since, Source, Wait};
use ltmc_model::{Payload, Position, StepPath};
use ltmc_ports::log::Interest;
use ltmc_ports::{Changes, Durability, Expect};

use crate::engine::{Engine, Stop};
use crate::{decide, emit, input};

/// How many runs of a tenant may wait for events of the same subject of one topic: so many are woken by one event.
// bound: runs that wait
const MOST: u32 = 1_000;
/// Events looked at, at once.
const PAGE: u32 = 100;

impl Engine<'_> {
    fn listening(&self, at: &StepPath) -> Result<&Listen, Failure> {
        match &self.plan.node(at)?.0.does {
            Does::Wait(Wait::Event(listen)) => Ok(listen),
            _ => Err(Failure::new(Code::Internal, format!("the plan has nothing to be waited for at {at}"))),
        }
    }

    /// Journals from where on a node looks for its event.
    pub(crate) async fn subscribe(&self, node: StepPath) -> Result<(), Stop> {
        match self.subscribed(&node).await {
            Ok(subscribed) => {
                // What the run published before is before it.
                self.log.flush(Durability::Lazy).await?;
                let after = self.since(&node).map_err(Stop::Failed)?;
                let Subscribed { topic, subject, kind } = subscribed;
                let waiting = self.ports.bus.waiting(self.log.tenant(), &topic, subject.as_deref(), MOST).await?;
                if waiting >= MOST {
                    let message = format!(
                        "{MOST} runs wait for the same events of `{topic}` already, which is the bound: say with `match` which subject is meant"
                    );
                    self.fail(node, Failure::new(Code::QuotaExceeded, message));
                    return Ok(());
                }
                let expects = vec![Expect::Waiters { topic: topic.clone(), subject: subject.clone(), most: MOST }];
                let commit = Commit { changes: Changes { deltas: Vec::new(), expects }, ..Commit::default() };
                let subscribed = journal::Event::Subscribed { node, topic, subject, kind, after };
                self.log.stage_with(subscribed, commit).await?;
                self.log.flush(Durability::Lazy).await?;
            }
            Err(failure) => self.fail(node, failure),
        }
        Ok(())
    }

    async fn subscribed(&self, at: &StepPath) -> Result<Subscribed, Failure> {
        let listen = self.listening(at)?;
        let subject = match &listen.subject {
            Some(subject) => {
                let found = input::filled(self.compute, self.plan, self.log, at, subject).await?;
                let subject = emit::text(&found, subject)?;
                let wrong = |why| Failure::new(Code::BadStep, format!("what `match` says: {why}"));
                message::check("any", Some(&subject), &Payload::default()).map_err(wrong)?;
                Some(subject)
            }
            None => None,
        };
        Ok(Subscribed { topic: listen.topic.clone(), subject, kind: listen.kind.clone() })
    }

    /// From where on: one that waited before goes on from there.
    fn since(&self, at: &StepPath) -> Result<Position, Failure> {
        let before = self.log.read(|history| history.node(at)?.listens.as_ref().map(|listens| listens.after));
        let begun = || self.log.started().position;
        let now = || self.ports.subscriptions.log().ends().borrow().visible;
        Ok(match (before, self.listening(at)?.since) {
            (Some(before), _) => before,
            (None, Since::Run) => begun().unwrap_or_else(now),
            (None, Since::Now) => now(),
        })
    }

    /// Looks through what came up to now, and takes the first event that fits.
    pub(crate) async fn listen(&self, node: StepPath) -> Result<(), Stop> {
        let listens = self.log.read(|history| history.node(&node).and_then(|node| node.listens.clone()));
        let Some(listens) = listens else { return Ok(()) };
        let mut heard = listens.heard;
        let upto = self.ports.subscriptions.log().ends().borrow().visible;
        loop {
            let (bus, tenant, topic) = (&self.ports.bus, self.log.tenant(), &listens.topic);
            let page = match &listens.subject {
                Some(subject) => bus.events_about(tenant, topic, subject, heard, PAGE).await?,
                None => bus.events(tenant, topic, heard, PAGE).await?,
            };
            let Some(last) = page.events.last() else { break };
            heard = last.position;
            for Published { position, event } in page.events {
                let is_meant = listens.subject.as_ref().is_none_or(|subject| event.subject.as_ref() == Some(subject))
                    && listens.kind.as_ref().is_none_or(|kind| event.kind == *kind);
                if !is_meant {
                    continue;
                }
                let trail = Some(Box::new(Trail::after(&event)));
                let event = Payload::json(&event.to_value());
                match self.fits(&node, &event).await {
                    Ok(true) => {
                        self.log.stage(journal::Event::EventTaken { node, position, event, trail });
                        return Ok(());
                    }
                    Ok(false) => {}
                    Err(failure) => {
                        self.fail(node, failure);
                        return Ok(());
                    }
                }
            }
        }
        self.log.read_mut(|history| history.heard(&node, heard.max(upto)));
        Ok(())
    }

    /// Whether an event is what a node waits for.
    async fn fits(&self, at: &StepPath, event: &Payload) -> Result<bool, Failure> {
        let (_, scope) = self.plan.node(at)?;
        let Some(wanted) = &self.listening(at)?.filter else { return Ok(true) };
        let sources = input::sources(self.compute, self.plan, self.log, &scope, wanted.picks());
        let mut sources = sources.await?;
        sources.insert(Source::Event, Some(event.clone()));
        Ok(decide::holds(wanted, &sources))
    }

    /// Waits for what comes to the topic, while the run is alive; one that is suspended is told by its row.
    pub(crate) async fn next_event(&self, node: &StepPath) -> Result<(), Stop> {
        let listens = |history: &History| history.node(node).and_then(|node| node.listens.clone());
        let Some(listens) = self.log.read(listens) else { return std::future::pending().await };
        let (tenant, interest) = (self.log.tenant(), Interest::Topic(listens.topic));
        let watermark = ltmc_context::subscription::Watermark::Visible;
        let subscribed = self.ports.subscriptions.subscribe(tenant, interest, watermark, Some(listens.heard)).await;
        // Where what is kept of the log begins later the topic is looked through anew.
        if let Ok(mut events) = subscribed {
            let _ = events.next(1).await;
        }
        self.log.read_mut(|history| history.may_hear(node));
        Ok(())
    }
}

struct Subscribed {
    topic: message::Topic,
    subject: Option<String>,
    kind: Option<String>,
}
