//! What is found out for patterns: whether conditions hold, which items a list has, what comes after a round of a loop or a turn of a
//! debate, what branches voted for, when a wait is over.
//!
//! Invariants: total but for items and times: a condition holds or does not, whatever there is to look at. What is found is journaled by
//! who asks, once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ltmc_context::Context;
use ltmc_crossing::broken;
use ltmc_journal::RunLog;
use ltmc_model::failure::{Code, Failure};
use ltmc_model::hand_off::Holds;
use ltmc_model::journal::{Decided, Next};
use ltmc_model::workflow::{
    Collect, Condition, Debate, Does, HandOff, Handler, Loop, MapItems, Moment, Node, Parallel, Pick, Planning, Vote,
    Wait,
};
use ltmc_model::{Payload, StepPath, Timestamp};
use ltmc_ports::{Conversation, Held, Schemas};
use ltmc_tenancy::compute::LARGE;
use ltmc_tenancy::{Authority, Compute};
use serde_json::Value;

use crate::coordinator::{Coordinator, Looks};
use crate::input::{self, MAX_BUILT, Sources, computed};
use crate::patterns::Question;
use crate::picked::{Json, Picked, items};
use crate::plan::{Plan, Scope};
use crate::{planned, turns, vote, workflows};

/// What decides about the node at a place.
pub(crate) struct Decider<'a> {
    pub(crate) compute: &'a Compute,
    pub(crate) plan: &'a Arc<Plan>,
    pub(crate) log: &'a RunLog,
    pub(crate) coordinator: &'a Coordinator,
    pub(crate) conversation: &'a dyn Conversation,
    pub(crate) authority: &'a Arc<Authority>,
    pub(crate) context: &'a Context,
    pub(crate) schemas: &'a dyn Schemas,
    /// Set once schemas are looked at, in a process of its own.
    pub(crate) bounded: &'a AtomicBool,
}

impl Decider<'_> {
    pub(crate) async fn answer(&self, at: &StepPath, question: Question) -> Result<Decided, Failure> {
        let (node, scope) = self.plan.node(at)?;
        match (question, &node.does) {
            (Question::When, _) => match &node.when {
                Some(when) => Ok(Decided::When(self.first(vec![Some(when)], scope).await?.is_some())),
                None => Err(nothing(at)),
            },
            (Question::Agent { input }, Does::Need(needed)) => {
                let input = input::build(self.compute, self.plan, self.log, at, &input).await?;
                let Self { authority, context, schemas, log, bounded, .. } = *self;
                let looks = Looks { authority, context, schemas, log, bounded };
                self.coordinator.select(&looks, needed, &input).await
            }
            (Question::Plan { of }, Does::Plan(planning)) => self.planned(planning, &of).await,
            (Question::Option, Does::Choice(choice)) => {
                let taken = self.first(conditions(&choice.options), scope).await?;
                let otherwise = choice.otherwise.as_ref().map(|_| choice.options.len() as u32);
                Ok(Decided::Option(taken.or(otherwise)))
            }
            (Question::Handler, _) => {
                let scope = Scope { failed: Some(at.clone()), ..scope };
                Ok(Decided::Handler(self.first(conditions(&node.on_error), scope).await?))
            }
            (Question::Items, Does::Map(map)) => self.items(&map.over, scope).await.map(Decided::Items),
            (Question::Holder, Does::HandOff(goes)) => self.holder(at, goes).await.map(Decided::Holds),
            (Question::Until, Does::Wait(wait)) => self.until(wait, scope).await.map(Decided::Until),
            (Question::Votes { gave }, Does::Parallel(Parallel { collect: Collect::Vote(vote), .. })) => {
                self.votes(vote, gave).await
            }
            (Question::Votes { gave }, Does::Map(map)) => match &map.collect {
                Collect::Vote(vote) => self.votes(vote, gave).await,
                _ => Err(nothing(at)),
            },
            (Question::Speaker { of }, Does::Turn(turn)) => {
                turns::next_speaker(turn, &input::output(self.log, &of)?).map_err(|failure| failure.in_step(&of))
            }
            (Question::Turn { turn, gave }, Does::Debate(debate)) => {
                let next = self.after_turn(at, debate, turn, gave.as_ref()).await?;
                Ok(Decided::Turn { turn: u32::try_from(turn).unwrap_or(u32::MAX), gave, next })
            }
            (Question::Round { round, gave }, Does::Loop(_)) => {
                let next = self.after(at, node, round, gave.as_ref()).await?;
                Ok(Decided::Round { round: u32::try_from(round).unwrap_or(u32::MAX), gave, next })
            }
            _ => Err(nothing(at)),
        }
    }

    /// A plan that can be done: what a document is looked at for when a person puts it, this is too.
    async fn planned(&self, planning: &Planning, of: &StepPath) -> Result<Decided, Failure> {
        let pinned = self.log.read(|history| history.started().map(|started| started.agents.clone()));
        let pinned = pinned.unwrap_or_default();
        let document = planned::document(planning, &pinned, &input::output(self.log, of)?)?;
        let tenant = self.log.tenant();
        let faults = workflows::check_agents(self.authority, tenant, &document, &pinned).await;
        let mut faults = faults.map_err(|error| broken(&error))?;
        if faults.is_empty() && !document.schemas().is_empty() {
            self.bounded.store(true, Ordering::Relaxed);
            faults = workflows::check_schemas(self.schemas, tenant, &document).await?;
        }
        if faults.is_empty() { Ok(Decided::Planned(document.to_json().into())) } else { Err(planned::faulty(&faults)) }
    }

    /// Who holds a conversation first: in a session who has it from the turn before, where that one may hold it still and was not idle for too long.
    async fn holder(&self, at: &StepPath, goes: &HandOff) -> Result<Holds, Failure> {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let begins = Holds { number: number(goes.start), givers: Vec::new(), since: 0, handed: None };
        if *at != StepPath::root() {
            return Ok(begins);
        }
        let Some(held) = self.conversation.held().await.map_err(|e| broken(&e))? else { return Ok(begins) };
        let Held { holder, handed, idle } = held;
        let number_of = goes.number(&holder.agent).filter(|_| goes.idle.is_none_or(|longest| idle < longest));
        let agent = number_of.and_then(|number| goes.agents().nth(number));
        let is_there = match agent {
            Some(agent) => self.authority.agent(self.log.tenant(), agent).await.map_err(|e| broken(&e))?.is_some(),
            None => false,
        };
        Ok(match number_of.filter(|_| is_there) {
            Some(agent) => {
                let (givers, since) = (holder.givers, holder.since);
                Holds { number: number(agent), givers, since, handed: handed.map(Box::new) }
            }
            None => begins,
        })
    }

    /// The number of the first condition that holds; one that is none always does.
    async fn first(&self, conditions: Vec<Option<&Condition>>, scope: Scope) -> Result<Option<u32>, Failure> {
        let picks = conditions.iter().flatten().flat_map(|condition| condition.picks()).collect();
        let sources = input::sources(self.compute, self.plan, self.log, &scope, picks).await?;
        let first = |conditions: &[Option<Condition>], sources: &Sources| {
            let holds = |condition: &Option<Condition>| condition.as_ref().is_none_or(|of| holds(of, sources));
            conditions.iter().position(holds).and_then(|number| u32::try_from(number).ok())
        };
        let conditions: Vec<Option<Condition>> = conditions.into_iter().map(Option::<&Condition>::cloned).collect();
        if conditions.iter().flatten().any(|condition| !condition.schemas().is_empty()) {
            for (number, condition) in conditions.into_iter().enumerate() {
                let settled = match condition {
                    Some(condition) => Some(self.settled(condition, &sources).await?),
                    None => None,
                };
                if first(&[settled], &sources).is_some() {
                    return Ok(u32::try_from(number).ok());
                }
            }
            return Ok(None);
        }
        if input::bytes(&sources) <= LARGE {
            return Ok(first(&conditions, &sources));
        }
        computed(self.compute, self.log, move || first(&conditions, &sources)).await
    }

    /// A condition of which is judged what it holds against JSON Schemas.
    async fn settled(&self, condition: Condition, sources: &Sources) -> Result<Condition, Failure> {
        let mut answers = Vec::new();
        for (pick, schema) in condition.schemas() {
            let Ok(found) = found_at(pick, sources) else {
                answers.push(false);
                continue;
            };
            self.bounded.store(true, Ordering::Relaxed);
            let found = Payload { content_type: Payload::JSON.into(), bytes: found.into() };
            answers.push(self.schemas.judge(self.log.tenant(), &schema.to_string(), &found).await?.is_empty());
        }
        Ok(condition.settled(&mut answers.into_iter()))
    }

    async fn items(&self, over: &Pick, scope: Scope) -> Result<Vec<Payload>, Failure> {
        let sources = input::sources(self.compute, self.plan, self.log, &scope, vec![over]).await?;
        let over = over.clone();
        if input::bytes(&sources) <= LARGE {
            return listed(&over, &sources);
        }
        computed(self.compute, self.log, move || listed(&over, &sources)).await?
    }

    /// When a wait is over: not further away than a year, whichever way.
    async fn until(&self, wait: &Wait, scope: Scope) -> Result<Timestamp, Failure> {
        let now = self.log.now();
        let until = match wait {
            Wait::For(long) => return Ok(now.after(*long)),
            Wait::Event(_) => return Err(Failure::new(Code::Internal, "an event has no time")),
            Wait::Until(Moment::At(at)) => *at,
            Wait::Until(Moment::Picked(pick)) => {
                let text = self.picked(pick, scope).await?;
                let said: Option<String> = serde_json::from_str(&text).ok();
                let said = said.ok_or_else(|| format!("`{pick}` is no text"));
                let until = said.and_then(|text| text.parse::<Timestamp>());
                until.map_err(|why| bad_step(format!("`wait` until `{pick}`: {why}")))?
            }
        };
        if until.since(now).max(now.since(until)) > Wait::LONGEST {
            return Err(bad_step(format!("`wait` until {until}: that is more than a year away, and it is {now}")));
        }
        Ok(until)
    }

    /// What stands at a pick, in JSON.
    async fn picked(&self, pick: &Pick, scope: Scope) -> Result<String, Failure> {
        let sources = input::sources(self.compute, self.plan, self.log, &scope, vec![pick]).await?;
        let pick = pick.clone();
        if input::bytes(&sources) <= LARGE {
            return found_at(&pick, &sources);
        }
        computed(self.compute, self.log, move || found_at(&pick, &sources)).await?
    }

    async fn votes(&self, vote: &Vote, gave: Vec<Option<StepPath>>) -> Result<Decided, Failure> {
        let outputs: Result<Vec<Payload>, Failure> =
            gave.iter().flatten().map(|path| input::output(self.log, path)).collect();
        let (vote, outputs) = (vote.clone(), outputs?);
        if outputs.iter().map(|output| output.bytes.len()).sum::<usize>() <= LARGE {
            return vote::counted(&vote, &outputs);
        }
        computed(self.compute, self.log, move || vote::counted(&vote, &outputs)).await?
    }

    /// What comes after a turn of a debate: it is over where its chair says so, where `until` holds, or where there may be no other.
    async fn after_turn(
        &self,
        at: &StepPath,
        debate: &Debate,
        turn: usize,
        gave: Option<&StepPath>,
    ) -> Result<Next, Failure> {
        let place = at.child(turn);
        let is_ended = debate.chair().is_some()
            && self.log.read(|history| {
                // Skipped by its own `when`, the chair has said nothing.
                history.node(&place).is_none_or(|node| node.option.flatten().is_none())
            });
        if is_ended || turn + 1 >= debate.turns() {
            return Ok(Next::Done);
        }
        if let Some(until) = &debate.until {
            let (_, scope) = self.plan.node(&place)?;
            let scope = Scope { last: gave.cloned(), ..scope };
            if self.first(vec![Some(until)], scope).await?.is_some() {
                return Ok(Next::Done);
            }
        }
        Ok(Next::Again)
    }

    /// What comes after a round: it is over where `until` holds, or where there may be no other.
    async fn after(&self, at: &StepPath, node: &Node, round: usize, gave: Option<&StepPath>) -> Result<Next, Failure> {
        let Does::Loop(again) = &node.does else { return Err(nothing(at)) };
        if let Some(until) = &again.until {
            // Steps of the round are seen as from within it.
            let (_, scope) = self.plan.node(&at.child(Loop::number(round)))?;
            let scope = Scope { last: gave.cloned(), ..scope };
            if self.first(vec![Some(until)], scope).await?.is_some() {
                return Ok(Next::Done);
            }
        }
        let in_a_row = || self.log.read(|history| history.in_a_row(at, gave));
        if again.stall.is_some_and(|stall| in_a_row() >= stall) {
            return Ok(Next::Stalled);
        }
        Ok(match (round + 1 < again.at_most as usize, &again.until) {
            (true, _) => Next::Again,
            (false, None) => Next::Done,
            (false, Some(_)) => Next::Exhausted,
        })
    }
}

fn conditions(handlers: &[Handler]) -> Vec<Option<&Condition>> {
    handlers.iter().map(|handler| handler.when.as_ref()).collect()
}

fn nothing(at: &StepPath) -> Failure {
    Failure::new(Code::Internal, format!("the plan has nothing to be decided at {at}"))
}

pub(crate) fn holds(condition: &Condition, sources: &Sources) -> bool {
    let picks = condition.picks();
    let readable = sources
        .iter()
        .filter_map(|(source, payload)| Some((source, Json::of(payload.as_ref()?, MAX_BUILT).ok().flatten()?)));
    let texts: BTreeMap<_, _> = readable.collect();
    let found = texts.iter().map(|(source, text)| {
        let of_it = picks.iter().copied().filter(|pick| pick.source == **source);
        (*source, Picked::from(text, of_it))
    });
    let found: BTreeMap<_, _> = found.collect();
    condition.holds(&|pick| {
        let text = found.get(&pick.source).and_then(|found| found.get(pick).ok());
        let value = text.and_then(|text| serde_json::from_str::<Value>(text).ok());
        value.or_else(|| pick.or_else.clone()).map(Cow::Owned)
    })
}

fn bad_step(message: String) -> Failure {
    Failure::new(Code::BadStep, message)
}

fn listed(over: &Pick, sources: &Sources) -> Result<Vec<Payload>, Failure> {
    let json = |text: &str| Payload { content_type: Payload::JSON.into(), bytes: text.to_owned().into() };
    let list = found_at(over, sources)?;
    let items = items(&list, MapItems::MAX_ITEMS);
    let items = items.map_err(|why| {
        bad_step(format!("`map` works on a list of at most {} items, and `{over}` is {why}", MapItems::MAX_ITEMS))
    })?;
    Ok(items.into_iter().map(json).collect())
}

/// What stands at a pick, in JSON; where nothing does, what it says is taken then.
fn found_at(pick: &Pick, sources: &Sources) -> Result<String, Failure> {
    let source = sources.get(&pick.source).and_then(Option::as_ref);
    let text = match source.map(|source| Json::of(source, MAX_BUILT)) {
        Some(Ok(Some(text))) => Ok(text),
        Some(Ok(None)) => Err(format!("`{pick}` picks from more than {MAX_BUILT} bytes")),
        Some(Err(why)) => Err(format!("`{pick}` picks from what is {why}")),
        None => Err(format!("`{pick}` is not there")),
    };
    let found = text.and_then(|text| Picked::from(&text, std::iter::once(pick)).get(pick).map(str::to_owned));
    match (found, &pick.or_else) {
        (Ok(found), _) => Ok(found),
        (Err(_), Some(or_else)) => Ok(or_else.to_string()),
        (Err(why), None) => Err(bad_step(why)),
    }
}
