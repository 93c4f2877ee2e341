//! The coordinator: which agent does what a workflow needs.
//!
//! Of a tenant's agents those that can: they export an agent, everything they ask for is in force, they take the input's media type.
//! Of these the one whose description is nearest to the need, drawn nearer where it met one like it before, weighed with how much of its
//! work succeeded; of those that are as good, to two digits, the fastest, then the first by name.
//!
//! Invariants: what is known of success and of speed is this host's own, since its start: it helps to choose and proves nothing.
//! Who was chosen, among whom and why, is journaled by who asks: nobody chooses anew.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ltmc_crossing::broken;
use ltmc_journal::RunLog;
use ltmc_model::agent::{Agent, AgentRef, Export};
use ltmc_model::failure::{Code, Failure};
use ltmc_model::journal::{Candidate, Decided};
use ltmc_model::workflow::{Needed, words};
use ltmc_model::{AgentName, Digest, Payload, TenantId};
use ltmc_ports::recall::Purpose;
use ltmc_ports::{Embedder, StoreError};
use ltmc_tenancy::Authority;
use moka::sync::Cache;

use crate::experience::{Experience, Fit, TEXTS};

/// How many of those that were looked at are told.
const TOLD: usize = 10;
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
}

impl Default for Known {
    /// Nobody has failed who has not begun.
    fn default() -> Self {
        Self { success: 1.0, seconds: 0.0 }
    }
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
    pub(crate) fn note(&self, tenant: &TenantId, agent: &AgentName, failed: Option<Code>, took: Duration) {
        let success = match failed {
            None => 1.0,
            Some(code) if is_its_own(code) => 0.0,
            Some(_) => return,
        };
        let known = self.known.get_with((tenant.clone(), agent.clone()), Arc::default);
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        known.success += SHARE * (success - known.success);
        known.seconds += SHARE * (took.as_secs_f64() - known.seconds);
    }

    /// Who does what is needed.
    ///
    /// # Errors
    /// Where nobody fits well enough, with those that came nearest and what each lacks.
    pub(crate) async fn select(
        &self,
        authority: &Arc<Authority>,
        log: &RunLog,
        needed: &Needed,
        input: &Payload,
    ) -> Result<Decided, Failure> {
        let agents = self.agents(authority, log, needed).await?;
        let Fit { descriptions, tasks } =
            self.fit(log.tenant(), &needed.text, &agents).await.map_err(|e| broken(&e))?;
        let mut looked = Vec::with_capacity(agents.len());
        for (agent, likeness) in agents.into_iter().zip(descriptions) {
            let refused = refusal(authority, log.tenant(), &agent, input).await?;
            let known = self.known.get(&(log.tenant().clone(), agent.name.clone()));
            let known = known.map(|known| *known.lock().unwrap_or_else(PoisonError::into_inner)).unwrap_or_default();
            let (similar_tasks, success) = (tasks.get(&agent.name).copied(), known.success);
            let score = if refused.is_some() { 0.0 } else { fitness(likeness, similar_tasks) * success };
            let found = Candidate { agent: agent.name.clone(), score, likeness, similar_tasks, success, refused };
            looked.push(Looked { agent, known, found });
        }
        looked.sort_by(|one, other| one.rank().partial_cmp(&other.rank()).unwrap_or(std::cmp::Ordering::Equal));
        let best = looked.first().filter(|best| best.found.refused.is_none() && best.found.score >= needed.at_least);
        let best = best.map(|best| AgentRef { name: best.agent.name.clone(), digest: Some(best.agent.digest) });
        let candidates: Vec<Candidate> = looked.into_iter().take(TOLD).map(|looked| looked.found).collect();
        match best {
            Some(agent) => Ok(Decided::Agent { agent, candidates }),
            None => Err(nobody(needed, &candidates)),
        }
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
    /// The smaller the better: to two digits by the score, then by how long it takes, then by name.
    fn rank(&self) -> (bool, Reverse<u32>, f64, &str) {
        let score = (self.found.score * 100.0).round() as u32;
        (self.found.refused.is_some(), Reverse(score), self.known.seconds, self.agent.name.as_str())
    }
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

/// Why an agent cannot be taken; none: it can.
async fn refusal(
    authority: &Arc<Authority>,
    tenant: &TenantId,
    agent: &Agent,
    input: &Payload,
) -> Result<Option<String>, Failure> {
    if !agent.exports.iter().any(|export| matches!(export, Export::Agent | Export::Command)) {
        return Ok(Some("it exports nothing that can be called".into()));
    }
    if !agent.manifest.takes(&input.content_type) {
        let takes = agent.manifest.accepts.join("`, `");
        return Ok(Some(format!("it takes `{takes}`, and the input is `{}`", input.content_type)));
    }
    let in_force = authority.in_force(tenant, &agent.name, &agent.digest).await.map_err(|e| broken(&e))?;
    let missing: Vec<String> = in_force.missing(&agent.manifest.asks).iter().map(ToString::to_string).collect();
    Ok((!missing.is_empty()).then(|| format!("what it asks for is not in force: `{}`", missing.join("`, `"))))
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
