//! The coordinator: which agent does what a workflow needs.
//!
//! Of a tenant's agents those that can: they export an agent, everything they ask for is in force, they take the input's media type, and the
//! input is as they say; their state is not quarantined; and they are not left out because they failed again and again.
//! Of these the one whose description is nearest to the need, drawn nearer where it met one like it before, weighed with how much of its
//! work succeeded; of those that are as good, to two digits, the one with the least to do, then the fastest, then the first by name.
//!
//! Invariants: what is known of success, of speed and of what an agent has to do is this host's own, since its start: it helps to choose
//! and proves nothing. Who was chosen, among whom and why, is journaled by who asks: nobody chooses anew.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ltmc_context::Context;
use ltmc_crossing::broken;
use ltmc_journal::RunLog;
use ltmc_model::agent::{Agent, AgentRef, Export};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Candidate, Decided};
use ltmc_model::workflow::{Needed, words};
use ltmc_model::{AgentName, Digest, Payload, TenantId, Timestamp};
use ltmc_ports::recall::Purpose;
use ltmc_ports::{Embedder, Schemas, StoreError};
use ltmc_tenancy::Authority;
use moka::sync::Cache;

use crate::experience::{Experience, Fit, TEXTS};
use crate::judge;

/// How many of those that were looked at are told.
const TOLD: usize = 10;
/// Of so many of those that fit best the input is held against what they say of it.
const JUDGED: usize = 32;
/// Who fails so often, one time after the other, is left out for a while.
const FAILURES: u32 = 5;
/// For how long; after each further failure for twice as long.
const LEFT_OUT: Duration = Duration::from_secs(30);
/// For how long at most.
const LEFT_OUT_MOST: Duration = Duration::from_secs(60 * 60);
/// The share that each new piece of work has in what is known of an agent.
const SHARE: f64 = 0.1;

/// Finds agents for needs.
pub(crate) struct Coordinator {
    embedder: Arc<dyn Embedder>,
    /// What was learned from runs, and what descriptions mean; none: there is no index for it.
    experience: Option<Arc<Experience>>,
    /// What descriptions mean, by the digest of their text, where the index does not say.
    described: Cache<Digest, Arc<Vec<f32>>>,
    known: Cache<(TenantId, AgentName), Arc<Mutex<Known>>>,
}

/// How an agent did so far.
#[derive(Debug, Clone, Copy)]
struct Known {
    success: f64,
    seconds: f64,
    /// How often it failed since it last succeeded.
    failed: u32,
    /// Until when it is not chosen.
    left_out: Option<Timestamp>,
    /// Attempts of it that are under way.
    at_work: u32,
}

impl Default for Known {
    /// Nobody has failed who has not begun.
    fn default() -> Self {
        Self { success: 1.0, seconds: 0.0, failed: 0, left_out: None, at_work: 0 }
    }
}

impl Known {
    /// A piece of work is over.
    fn note(&mut self, failed: bool, took: Duration, now: Timestamp) {
        self.success += SHARE * (if failed { 0.0 } else { 1.0 } - self.success);
        self.seconds += SHARE * (took.as_secs_f64() - self.seconds);
        self.failed = if failed { self.failed.saturating_add(1) } else { 0 };
        let beyond = self.failed.checked_sub(FAILURES);
        self.left_out = beyond.map(|beyond| now.after(LEFT_OUT.saturating_mul(1 << beyond.min(16)).min(LEFT_OUT_MOST)));
    }

    /// Why it is not chosen now. Once the time is over it is again: one more failure, and it is left out for longer.
    fn left_out(&self, now: Timestamp) -> Option<String> {
        let until = self.left_out.filter(|until| *until > now)?;
        Some(format!("it failed {} times, one after the other, and is left out until {until}", self.failed))
    }
}

/// An attempt of an agent that is under way, for as long as this is kept.
pub(crate) struct AtWork(Arc<Mutex<Known>>);

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut known = lock(&self.0);
        known.at_work = known.at_work.saturating_sub(1);
    }
}

/// Where a run looks for somebody.
pub(crate) struct Looks<'a> {
    pub(crate) authority: &'a Arc<Authority>,
    pub(crate) context: &'a Context,
    pub(crate) schemas: &'a dyn Schemas,
    pub(crate) log: &'a RunLog,
    /// Set once schemas are looked at, in a process of its own.
    pub(crate) bounded: &'a AtomicBool,
}

/// An agent that was looked at.
struct Looked {
    agent: Arc<Agent>,
    known: Known,
    found: Candidate,
}

impl Coordinator {
    pub(crate) fn new(embedder: Arc<dyn Embedder>, experience: Option<Arc<Experience>>) -> Self {
        // bound: what is remembered
        Self { embedder, experience, described: Cache::new(10_000), known: Cache::new(10_000) }
    }

    /// Takes note of how an agent did. What was not its own fault does not count.
    pub(crate) fn note(
        &self,
        tenant: &TenantId,
        agent: &AgentName,
        failed: Option<Code>,
        took: Duration,
        now: Timestamp,
    ) {
        if failed.is_none_or(is_its_own) {
            lock(&self.known(tenant, agent)).note(failed.is_some(), took, now);
        }
    }

    /// Takes note that an attempt of an agent begins.
    pub(crate) fn at_work(&self, tenant: &TenantId, agent: &AgentName) -> AtWork {
        let known = self.known(tenant, agent);
        let mut begun = lock(&known);
        begun.at_work = begun.at_work.saturating_add(1);
        drop(begun);
        AtWork(known)
    }

    fn known(&self, tenant: &TenantId, agent: &AgentName) -> Arc<Mutex<Known>> {
        self.known.get_with((tenant.clone(), agent.clone()), Arc::default)
    }

    /// Who does what is needed.
    ///
    /// # Errors
    /// Where nobody fits well enough, with those that came nearest and what each lacks.
    pub(crate) async fn select(&self, looks: &Looks<'_>, needed: &Needed, input: &Payload) -> Result<Decided, Failure> {
        let mut looked = self.looked(looks, needed, input).await?;
        looked.sort_by(Looked::compare);
        let best = best(looks, needed, input, &mut looked).await?;
        let agent = best.map(|best| &looked[best].agent);
        let agent = agent.map(|best| AgentRef { name: best.name.clone(), digest: Some(best.digest) });
        looked.sort_by(Looked::compare);
        let candidates: Vec<Candidate> = looked.into_iter().take(TOLD).map(|looked| looked.found).collect();
        match agent {
            Some(agent) => Ok(Decided::Agent { agent, candidates }),
            None => Err(nobody(needed, &candidates)),
        }
    }

    /// Each of them, and how well it fits.
    async fn looked(&self, looks: &Looks<'_>, needed: &Needed, input: &Payload) -> Result<Vec<Looked>, Failure> {
        let tenant = looks.log.tenant();
        let agents = self.agents(looks.authority, looks.log, needed).await?;
        let Fit { descriptions, tasks } = self.fit(tenant, &needed.text, &agents).await.map_err(|e| broken(&e))?;
        let mut looked = Vec::with_capacity(agents.len());
        for (agent, likeness) in agents.into_iter().zip(descriptions) {
            let known = self.known.get(&(tenant.clone(), agent.name.clone()));
            let known = known.map(|known| *lock(&known)).unwrap_or_default();
            let refused = match refusal(looks, &agent, input).await? {
                None => known.left_out(looks.log.now()),
                refused => refused,
            };
            let (similar_tasks, success, load) = (tasks.get(&agent.name).copied(), known.success, known.at_work);
            let score = if refused.is_some() { 0.0 } else { fitness(likeness, similar_tasks) * success };
            let agent_name = agent.name.clone();
            let found = Candidate { agent: agent_name, score, likeness, similar_tasks, success, load, refused };
            looked.push(Looked { agent, known, found });
        }
        Ok(looked)
    }

    /// Among whom is chosen: the versions that the run began with, where its document names them.
    async fn agents(
        &self,
        authority: &Arc<Authority>,
        log: &RunLog,
        needed: &Needed,
    ) -> Result<Vec<Arc<Agent>>, Failure> {
        let tenant = log.tenant();
        let names: Vec<AgentRef> = match needed.among.is_empty() {
            true => authority.agents(tenant).await.map_err(|e| broken(&e))?.to_vec(),
            false => needed.among.iter().map(|(agent, _)| agent.clone()).collect(),
        };
        let mut agents = Vec::with_capacity(names.len());
        for AgentRef { name, digest } in names {
            let digest = log.started().agents.get(&name).copied().or(digest);
            agents.extend(authority.agent(tenant, &AgentRef { name, digest }).await.map_err(|e| broken(&e))?);
        }
        Ok(agents)
    }

    /// How near each description is to a need, and needs that were met before.
    async fn fit(&self, tenant: &TenantId, text: &str, agents: &[Arc<Agent>]) -> Result<Fit, StoreError> {
        if let Some(experience) = &self.experience {
            let descriptions: Vec<String> = agents.iter().map(|agent| description(agent).1).collect();
            match experience.fit(tenant, text, &descriptions).await {
                Ok(fit) => return Ok(fit),
                Err(error) => tracing::warn!(%error, %tenant, "what was learned from runs does not help to choose"),
            }
        }
        Ok(Fit { descriptions: self.likeness(tenant, text, agents).await?, tasks: BTreeMap::new() })
    }

    /// How near each description is to a text.
    async fn likeness(&self, tenant: &TenantId, text: &str, agents: &[Arc<Agent>]) -> Result<Vec<f64>, StoreError> {
        let texts: Vec<(Digest, String)> = agents.iter().map(|agent| description(agent)).collect();
        let unknown: Vec<&(Digest, String)> =
            texts.iter().filter(|(digest, _)| !self.described.contains_key(digest)).collect();
        for some in unknown.chunks(TEXTS) {
            let batch: Vec<String> = some.iter().map(|(_, text)| text.clone()).collect();
            let vectors = self.embedder.embed(tenant, &batch, Purpose::Passage).await?;
            for ((digest, _), vector) in some.iter().zip(vectors) {
                self.described.insert(*digest, Arc::new(vector));
            }
        }
        let asked = self.embedder.embed(tenant, &[text.to_owned()], Purpose::Query).await?;
        let asked = asked.into_iter().next().unwrap_or_default();
        let near = |(digest, _): &(Digest, String)| {
            self.described.get(digest).map_or(0.0, |vector| {
                let product: f32 = asked.iter().zip(vector.iter()).map(|(one, other)| one * other).sum();
                f64::from(product).clamp(0.0, 1.0)
            })
        };
        Ok(texts.iter().map(near).collect())
    }
}

impl Looked {
    /// The smaller the better: to two digits by the score, then by what it has to do, by how long it takes, and by name.
    fn rank(&self) -> (bool, Reverse<u32>, u32, f64, &str) {
        let score = (self.found.score * 100.0).round() as u32;
        let Known { at_work, seconds, .. } = self.known;
        (self.found.refused.is_some(), Reverse(score), at_work, seconds, self.agent.name.as_str())
    }

    fn compare(one: &Self, other: &Self) -> std::cmp::Ordering {
        one.rank().partial_cmp(&other.rank()).unwrap_or(std::cmp::Ordering::Equal)
    }
}

/// Which of them, the best first, is the first that fits well enough and takes such an input; those before it are refused.
async fn best(
    looks: &Looks<'_>,
    needed: &Needed,
    input: &Payload,
    looked: &mut [Looked],
) -> Result<Option<usize>, Failure> {
    for (number, one) in looked.iter_mut().enumerate().take(JUDGED) {
        if one.found.refused.is_some() || one.found.score < needed.at_least {
            break;
        }
        match unfit(looks, &one.agent, input).await? {
            None => return Ok(Some(number)),
            Some(why) => (one.found.refused, one.found.score) = (Some(why), 0.0),
        }
    }
    Ok(None)
}

/// Why an input is not as an agent says that its inputs are; none: it is, or the agent says nothing.
async fn unfit(looks: &Looks<'_>, agent: &Agent, input: &Payload) -> Result<Option<String>, Failure> {
    let Some(schema) = &agent.manifest.input else { return Ok(None) };
    looks.bounded.store(true, Ordering::Relaxed);
    let judged = looks.schemas.judge(looks.log.tenant(), &schema.to_string(), input).await?;
    Ok(judge::rejection(&judged).map(|wrong| format!("the input is not as it takes it: {}", wrong.message)))
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How well an agent fits by what it says of itself, and by what it did: halfway to a need that it met, where that is nearer.
fn fitness(likeness: f64, similar_tasks: Option<f64>) -> f64 {
    likeness.max((likeness + similar_tasks.unwrap_or(0.0)) / 2.0)
}

/// What an agent says of itself, its name in words before it.
fn description(agent: &Agent) -> (Digest, String) {
    let name = words(agent.name.as_str());
    let text = match &agent.manifest.description {
        Some(description) => format!("{name}: {description}"),
        None => name,
    };
    (Digest::of(text.as_bytes()), text)
}

/// Why an agent cannot be taken, whatever the input says; none: it can.
async fn refusal(looks: &Looks<'_>, agent: &Agent, input: &Payload) -> Result<Option<String>, Failure> {
    if !agent.exports.iter().any(|export| matches!(export, Export::Agent | Export::Command)) {
        return Ok(Some("it exports nothing that can be called".into()));
    }
    if !agent.manifest.takes(&input.content_type) {
        let takes = agent.manifest.accepts.join("`, `");
        return Ok(Some(format!("it takes `{takes}`, and the input is `{}`", input.content_type)));
    }
    let tenant = looks.log.tenant();
    let in_force = looks.authority.in_force(tenant, &agent.name, &agent.digest).await.map_err(|e| broken(&e))?;
    let missing: Vec<String> = in_force.missing(&agent.manifest.asks).iter().map(ToString::to_string).collect();
    if !missing.is_empty() {
        return Ok(Some(format!("what it asks for is not in force: `{}`", missing.join("`, `"))));
    }
    let session = &looks.log.started().session;
    let quarantined = looks.context.quarantined(tenant, session, agent, looks.log.now()).await;
    Ok(quarantined.map_err(|e| broken(&e))?.map(|why| format!("its state is quarantined: {why}")))
}

fn nobody(needed: &Needed, candidates: &[Candidate]) -> Failure {
    let told = candidates.iter().take(3).map(|one| match &one.refused {
        Some(why) => format!("`{}`: {why}", one.agent),
        None => format!("`{}` fits by {:.2}", one.agent, one.score),
    });
    let told: Vec<String> = told.collect();
    let told = if told.is_empty() { "there are no agents".to_owned() } else { told.join("; ") };
    let message = format!("no agent fits what is needed, \"{}\", by {} at least: {told}", needed.text, needed.at_least);
    Failure::new(Code::NoCandidate, message)
}

/// Whether a failure says something of the agent.
fn is_its_own(code: Code) -> bool {
    use Code::{
        AgentError, AgentTrapped, LimitCpu, LimitMemory, LimitOutput, LimitResources, LimitWall, ValidationFailed,
    };
    matches!(
        code,
        AgentError
            | AgentTrapped
            | LimitCpu
            | LimitWall
            | LimitMemory
            | LimitOutput
            | LimitResources
            | ValidationFailed
    )
}
