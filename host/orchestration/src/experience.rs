//! What was learned from runs that are over: which workflows there were and how they went, and which agents did what was needed. Found
//! again by what texts mean.
//!
//! Invariants: nothing of it is a truth of its own. Of a tenant it is read from the record when it is first asked for, and follows the
//! record from then on; where something of that was missed it is read again. An index of vectors keeps what texts mean: a text's number
//! in it follows from the text, so that one of an earlier process serves, and one that is lost is made anew. Bounded: of a tenant the
//! newest runs, and so many texts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};

use ltmc_model::failure::Failure;
use ltmc_model::journal::{Decided, Event, RunStarted};
use ltmc_model::run::{Run, State, Target};
use ltmc_model::workflow::{Document, Does};
use ltmc_model::{AgentName, Digest, KeyId, Position, RunId, Seq, StepPath, TenantId, Timestamp, WorkflowName};
use ltmc_ports::journal::RunFilter;
use ltmc_ports::recall::{IndexId, Near, Purpose, VectorId};
use ltmc_ports::{Embedder, Kind, ReadJournal, ReadLog, StoreError, Vectors};
use moka::sync::Cache;
use tokio::sync::Mutex;
use tokio::sync::broadcast::error::RecvError;

use crate::plan::Plan;

/// Tenants whose runs are known at once.
const TENANTS: u64 = 1_000;
/// Of a tenant so many of its newest runs are looked at, and of those so many that are over are known.
const LOOKED_AT: usize = 20_000;
const KNOWN: usize = 1_000;
/// Rows of runs read at once, and entries of a journal, with about so many bytes.
const PAGE: u32 = 500;
const PAGE_BYTES: usize = 1 << 20;
/// Of a run that needed agents so many entries are read.
const ENTRIES: u64 = 20_000;
/// Needs looked at for a need.
const NEAREST: u32 = 50;
/// Texts embedded at once.
pub(crate) const TEXTS: usize = 64;
/// A tenant's index has so many texts; where it is to have more it is begun anew. Half of them are looked at for one thing, so that what
/// is looked at is always there together.
const MOST_TEXTS: usize = 20_000;

/// A workflow that was run, and how near it is to what was looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Similar {
    /// Its name.
    pub workflow: WorkflowName,
    /// From 0 to 1: how near what it is about is to the text.
    pub similarity: f64,
    /// The last of its runs that is over.
    pub last_run: RunId,
    /// How that run ended.
    pub state: State,
    /// When it ended.
    pub ended_at: Timestamp,
    /// How many of the workflow's runs are known.
    pub runs: u64,
    /// How many of these were completed.
    pub completed: u64,
}

/// What is known of agents for a need.
pub(crate) struct Fit {
    /// How near each description is, in the order in which they were given.
    pub(crate) descriptions: Vec<f64>,
    /// How near the nearest need is that an agent has met.
    pub(crate) tasks: BTreeMap<AgentName, f64>,
}

/// What was learned.
pub(crate) struct Experience {
    read: Arc<dyn ReadJournal>,
    vectors: Arc<dyn Vectors>,
    embedder: Arc<dyn Embedder>,
    tenants: Cache<TenantId, Arc<Mutex<Learned>>>,
    bounds: Bounds,
}

/// How much is looked at and kept.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// Of a tenant's newest runs.
    looked_at: usize,
    /// Of those that are over.
    known: usize,
    /// Of the entries of one that needed agents.
    entries: u64,
    /// Of texts in the index.
    texts: usize,
}

const BOUNDS: Bounds = Bounds { looked_at: LOOKED_AT, known: KNOWN, entries: ENTRIES, texts: MOST_TEXTS };

/// Of one tenant.
#[derive(Default)]
struct Learned {
    /// Whether all of it was read, and nothing was missed since.
    is_whole: bool,
    runs: BTreeMap<RunId, Lesson>,
    documents: HashMap<Digest, Arc<About>>,
    /// What the index has; none: it was not looked at yet.
    indexed: Option<BTreeSet<VectorId>>,
}

/// What one run taught.
struct Lesson {
    workflow: WorkflowName,
    by: KeyId,
    state: State,
    ended_at: Timestamp,
    about: Arc<About>,
    /// Needs of its document that were met, each once for whoever met it.
    met: BTreeSet<(VectorId, AgentName)>,
}

/// What a document is about.
struct About {
    gist: Text,
    /// What it needs agents for, by the texts' numbers.
    needs: BTreeMap<VectorId, Text>,
    /// Where it needs any: what it does.
    plan: Option<Plan>,
}

/// A text, and its number in the index.
#[derive(Debug, Clone)]
struct Text {
    id: VectorId,
    text: Arc<str>,
}

impl Text {
    fn of(text: &str) -> Self {
        let Digest(bytes) = Digest::of(text.as_bytes());
        let mut eight = [0; 8];
        eight.copy_from_slice(&bytes[..8]);
        Self { id: i64::from_be_bytes(eight) & i64::MAX, text: text.into() }
    }
}

impl Experience {
    /// Of these journals, in an index of its own, and following the log while it is asked.
    pub(crate) fn new(
        read: Arc<dyn ReadJournal>,
        vectors: Arc<dyn Vectors>,
        embedder: Arc<dyn Embedder>,
        log: &Arc<dyn ReadLog>,
    ) -> Arc<Self> {
        // bound: what is remembered
        let experience = Arc::new(Self { read, vectors, embedder, tenants: Cache::new(TENANTS), bounds: BOUNDS });
        let mut groups = log.follow();
        let learns: Weak<Self> = Arc::downgrade(&experience);
        // It ends with who asks, at the next run that comes further.
        tokio::spawn(async move {
            loop {
                let group = groups.recv().await;
                let Some(experience) = learns.upgrade() else { return };
                match group {
                    Ok(group) => experience.hears(&group.runs).await,
                    Err(RecvError::Lagged(_)) => experience.missed().await,
                    Err(RecvError::Closed) => return,
                }
            }
        });
        experience
    }

    /// Workflows that are like a text, the nearest first, of the runs that `may_see` lets be seen by whose they are.
    ///
    /// # Errors
    /// The record's, the embedder's, and the index's.
    pub(crate) async fn similar(
        &self,
        tenant: &TenantId,
        text: &str,
        may_see: impl Fn(&KeyId) -> bool,
        limit: usize,
    ) -> Result<Vec<Similar>, StoreError> {
        let learned = self.of(tenant);
        let mut learned = learned.lock().await;
        self.catch_up(tenant, &mut learned).await?;
        let gists: Vec<Text> = learned.runs.values().rev().map(|lesson| lesson.about.gist.clone()).collect();
        let query = self.query(tenant, text).await?;
        let near = self.nearest(tenant, &mut learned, &query, &gists, u32::MAX).await?;
        let mut found: BTreeMap<&WorkflowName, Similar> = BTreeMap::new();
        for (run, lesson) in learned.runs.iter().filter(|(_, lesson)| may_see(&lesson.by)) {
            let Some(similarity) = near.get(&lesson.about.gist.id).copied() else { continue };
            let entry = found.entry(&lesson.workflow).or_insert_with(|| Similar {
                workflow: lesson.workflow.clone(),
                similarity,
                last_run: *run,
                state: lesson.state,
                ended_at: lesson.ended_at,
                runs: 0,
                completed: 0,
            });
            entry.runs += 1;
            entry.completed += u64::from(lesson.state == State::Completed);
            entry.similarity = entry.similarity.max(similarity);
            if lesson.ended_at >= entry.ended_at {
                (entry.last_run, entry.state, entry.ended_at) = (*run, lesson.state, lesson.ended_at);
            }
        }
        let mut found: Vec<Similar> = found.into_values().collect();
        found.sort_by(|a, b| b.similarity.total_cmp(&a.similarity).then_with(|| a.workflow.cmp(&b.workflow)));
        found.truncate(limit);
        Ok(found)
    }

    /// How near descriptions are to a need, and needs that agents have met.
    ///
    /// # Errors
    /// The record's, the embedder's, and the index's.
    pub(crate) async fn fit(&self, tenant: &TenantId, need: &str, descriptions: &[String]) -> Result<Fit, StoreError> {
        let learned = self.of(tenant);
        let mut learned = learned.lock().await;
        self.catch_up(tenant, &mut learned).await?;
        let described: Vec<Text> = descriptions.iter().map(|text| Text::of(text)).collect();
        let query = self.query(tenant, need).await?;
        let near = self.nearest(tenant, &mut learned, &query, &described, u32::MAX).await?;
        let descriptions = described.iter().map(|text| near.get(&text.id).copied().unwrap_or(0.0)).collect();
        let met = learned.met(self.bounds.at_once());
        let near = self.nearest(tenant, &mut learned, &query, &met, NEAREST).await?;
        let mut tasks: BTreeMap<AgentName, f64> = BTreeMap::new();
        for (need, agent) in learned.runs.values().flat_map(|lesson| &lesson.met) {
            if let Some(similarity) = near.get(need) {
                let best = tasks.entry(agent.clone()).or_default();
                *best = best.max(*similarity);
            }
        }
        Ok(Fit { descriptions, tasks })
    }

    /// Forgets a tenant.
    ///
    /// # Errors
    /// [`StoreError`] where the tenant's index cannot be dropped.
    pub(crate) async fn forget(&self, tenant: &TenantId) -> Result<(), StoreError> {
        let learned = self.of(tenant);
        let mut learned = learned.lock().await;
        *learned = Learned::default();
        self.tenants.invalidate(tenant);
        self.vectors.drop_index(&self.place(tenant)).await
    }

    fn of(&self, tenant: &TenantId) -> Arc<Mutex<Learned>> {
        self.tenants.get_with_by_ref(tenant, Arc::default)
    }

    fn place(&self, tenant: &TenantId) -> IndexId {
        IndexId { tenant: tenant.clone(), embedder: self.embedder.id().clone() }
    }

    /// Runs came further: of those that are over something may be learned. Of tenants of whom nobody asked nothing is.
    async fn hears(&self, runs: &[Run]) {
        for run in runs.iter().filter(|run| is_lesson(run)) {
            let Some(learned) = self.tenants.get(&run.tenant) else { continue };
            let mut learned = learned.lock().await;
            if !learned.is_whole {
                continue;
            }
            if let Err(error) = self.learn(&mut learned, run).await {
                tracing::warn!(%error, run = %run.id, "what a run taught could not be read; all is read again");
                learned.is_whole = false;
            }
        }
    }

    /// Something was missed: all is looked through again when it is next asked for.
    async fn missed(&self) {
        for (_, learned) in &self.tenants {
            learned.lock().await.is_whole = false;
        }
    }

    /// Reads what is not known yet.
    async fn catch_up(&self, tenant: &TenantId, learned: &mut Learned) -> Result<(), StoreError> {
        if learned.is_whole {
            return Ok(());
        }
        // What ends from here on is heard of, after this.
        learned.is_whole = true;
        let read = self.read_all(tenant, learned).await;
        learned.is_whole = read.is_ok();
        read
    }

    async fn read_all(&self, tenant: &TenantId, learned: &mut Learned) -> Result<(), StoreError> {
        let (mut before, mut looked, mut kept) = (None, 0, BTreeSet::new());
        while looked < self.bounds.looked_at && kept.len() < self.bounds.known {
            let limit = u32::try_from(self.bounds.looked_at - looked).unwrap_or(PAGE).min(PAGE);
            let filter = RunFilter { before, limit, ..RunFilter::default() };
            let runs = self.read.runs(tenant, &filter).await?;
            let Some(last) = runs.last() else { break };
            (before, looked) = (Some(last.id), looked + runs.len());
            for run in runs.iter().filter(|run| is_lesson(run)) {
                if kept.len() < self.bounds.known {
                    self.learn(learned, run).await?;
                    kept.insert(run.id);
                }
            }
        }
        // What is not there any more, or too old.
        learned.runs.retain(|run, _| kept.contains(run));
        learned.forget_documents();
        Ok(())
    }

    async fn learn(&self, learned: &mut Learned, run: &Run) -> Result<(), StoreError> {
        let is_known = |lesson: &Lesson| lesson.ended_at == run.updated_at && lesson.state == run.state;
        if learned.runs.get(&run.id).is_some_and(is_known) {
            return Ok(());
        }
        let first = self.read.entries(&run.tenant, run.id, Seq(0), 1).await?;
        let started = first.into_iter().find_map(|placed| match placed.entry.event {
            Event::RunStarted(started) => Some(started),
            _ => None,
        });
        let (Some(started), Target::Workflow(workflow)) = (started, &run.target) else { return Ok(()) };
        let Some(about) = about(learned, *started).await? else { return Ok(()) };
        let met = match &about.plan {
            Some(plan) => self.met(run, plan).await?,
            None => BTreeSet::new(),
        };
        let lesson = Lesson {
            workflow: workflow.clone(),
            by: run.by.clone(),
            state: run.state,
            ended_at: run.updated_at,
            about,
            met,
        };
        learned.runs.insert(run.id, lesson);
        if learned.runs.len() > self.bounds.known {
            learned.runs.pop_first();
            learned.forget_documents();
        }
        Ok(())
    }

    /// The needs that were met in a run, and who met them.
    async fn met(&self, run: &Run, plan: &Plan) -> Result<BTreeSet<(VectorId, AgentName)>, StoreError> {
        let (mut after, mut count) = (Seq(0), 0);
        let mut chosen: BTreeMap<StepPath, AgentName> = BTreeMap::new();
        let mut met = BTreeSet::new();
        while count < self.bounds.entries {
            let most = u32::try_from(self.bounds.entries - count).unwrap_or(PAGE).min(PAGE);
            let page = self.read.page(&run.tenant, run.id, after, most, PAGE_BYTES).await?;
            let Some(last) = page.last() else { break };
            (after, count) = (last.seq, count + page.len() as u64);
            for placed in page {
                match placed.entry.event {
                    Event::NodeDecided { node, decided: Decided::Agent { agent, .. } } => {
                        chosen.insert(node, agent.name);
                    }
                    Event::StepCompleted { step, .. } => {
                        if let Some(agent) = chosen.get(&step)
                            && let Ok((node, _)) = plan.node(&step)
                            && let Does::Need(needed) = &node.does
                        {
                            met.insert((Text::of(&needed.text).id, agent.clone()));
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(met)
    }

    async fn query(&self, tenant: &TenantId, text: &str) -> Result<Vec<f32>, StoreError> {
        let made = self.embedder.embed(tenant, &[text.to_owned()], Purpose::Query).await?;
        made.into_iter()
            .next()
            .ok_or_else(|| StoreError::new(Kind::Internal, "experience.query").because("no vector came"))
    }

    /// How near those of these texts are that are the nearest, by their numbers. The first of them are looked at, as many as the index
    /// has room for.
    async fn nearest(
        &self,
        tenant: &TenantId,
        learned: &mut Learned,
        query: &[f32],
        texts: &[Text],
        most: u32,
    ) -> Result<HashMap<VectorId, f64>, StoreError> {
        let mut among: BTreeMap<VectorId, &Text> = BTreeMap::new();
        for text in texts {
            if among.len() < self.bounds.at_once() {
                among.insert(text.id, text);
            }
        }
        if among.is_empty() {
            return Ok(HashMap::new());
        }
        let place = self.place(tenant);
        let ids: Vec<VectorId> = among.keys().copied().collect();
        let k = u32::try_from(ids.len()).unwrap_or(u32::MAX).min(most);
        // Lost at any moment, and made again once.
        for is_last in [false, true] {
            self.index(&place, learned, &among).await?;
            match self.vectors.search(&place, query, k, Some(&ids)).await {
                Err(error) if error.kind == Kind::Corrupt && !is_last => learned.indexed = None,
                found => {
                    let score = |near: Near| (near.id, f64::from(near.score).clamp(0.0, 1.0));
                    return Ok(found?.into_iter().map(score).collect());
                }
            }
        }
        Ok(HashMap::new())
    }

    /// Sees to it that the index has these texts.
    async fn index(
        &self,
        place: &IndexId,
        learned: &mut Learned,
        texts: &BTreeMap<VectorId, &Text>,
    ) -> Result<(), StoreError> {
        if learned.indexed.is_none() {
            let there = match self.vectors.stamp(place).await? {
                Some(_) => self.vectors.ids(place).await?,
                None => {
                    self.vectors.reset(place).await?;
                    Vec::new()
                }
            };
            learned.indexed = Some(there.into_iter().collect());
        }
        let indexed = learned.indexed.get_or_insert_default();
        let mut missing: Vec<&Text> = texts.values().filter(|text| !indexed.contains(&text.id)).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        if indexed.len() + missing.len() > self.bounds.texts {
            self.vectors.reset(place).await?;
            indexed.clear();
            missing = texts.values().copied().collect();
        }
        let limit = self.embedder.passage_bytes();
        for some in missing.chunks(TEXTS) {
            let texts: Vec<String> = some.iter().map(|text| beginning(&text.text, limit).to_owned()).collect();
            let made = self.embedder.embed(&place.tenant, &texts, Purpose::Passage).await?;
            let add: Vec<(VectorId, Vec<f32>)> = some.iter().map(|text| text.id).zip(made).collect();
            self.vectors.change(place, &add, &[], Position(1)).await?;
            indexed.extend(add.iter().map(|(id, _)| *id));
        }
        Ok(())
    }
}

impl Bounds {
    /// So many texts are looked at for one thing.
    fn at_once(self) -> usize {
        self.texts / 2
    }
}

impl Learned {
    /// Needs that were met, those of the newest runs first, so many at most.
    fn met(&self, most: usize) -> Vec<Text> {
        let mut needs: BTreeMap<VectorId, Text> = BTreeMap::new();
        for lesson in self.runs.values().rev() {
            let met = lesson.met.iter().filter_map(|(need, _)| lesson.about.needs.get_key_value(need));
            for (need, text) in met {
                if needs.len() == most {
                    return needs.into_values().collect();
                }
                needs.entry(*need).or_insert_with(|| text.clone());
            }
        }
        needs.into_values().collect()
    }

    /// Forgets documents of which no run is known any more.
    fn forget_documents(&mut self) {
        self.documents.retain(|_, about| Arc::strong_count(about) > 1);
    }
}

/// Whether something is to be learned from a run: it is one of a workflow, and over.
fn is_lesson(run: &Run) -> bool {
    run.state.is_final() && matches!(run.target, Target::Workflow(_))
}

/// What a run's document is about; none: it has none that this version reads.
async fn about(learned: &mut Learned, started: RunStarted) -> Result<Option<Arc<About>>, StoreError> {
    let (Some(json), Some(digest)) = (started.document, started.document_digest) else { return Ok(None) };
    if let Some(known) = learned.documents.get(&digest) {
        return Ok(Some(known.clone()));
    }
    let read = move || -> Result<About, Failure> {
        let document = Document::from_json(&json).map_err(|faults| {
            Failure::new(ltmc_model::failure::Code::BadStep, format!("this version does not read it: {faults}"))
        })?;
        let needs = document.nodes().into_iter().filter_map(|node| match &node.does {
            Does::Need(needed) => Some(Text::of(&needed.text)),
            _ => None,
        });
        let needs: BTreeMap<VectorId, Text> = needs.map(|text| (text.id, text)).collect();
        let plan = (!needs.is_empty()).then(|| Plan::of(&document));
        Ok(About { gist: Text::of(&document.gist()), needs, plan })
    };
    // bound: threads beside
    let read = tokio::task::spawn_blocking(read).await;
    let read = read.map_err(|error| StoreError::new(Kind::Internal, "experience.read").because(error.to_string()))?;
    let Ok(about) = read else { return Ok(None) };
    let about = Arc::new(about);
    learned.documents.insert(digest, about.clone());
    Ok(Some(about))
}

/// The first so many bytes of a text, whole characters.
fn beginning(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

impl std::fmt::Debug for Experience {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Experience").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::Payload;
    use ltmc_model::agent::AgentRef;
    use ltmc_model::journal::Entry;
    use ltmc_model::run::Usage;
    use ltmc_ports::WriteJournal as _;
    use ltmc_ports::journal::Durability;
    use ltmc_ports::testing::sample::{self, Owner};
    use ltmc_ports::testing::{MemoryRecord, MemoryVectors};

    use super::*;

    /// What is learned of this record within these bounds.
    fn experience(record: &Arc<MemoryRecord>, bounds: Bounds) -> Experience {
        let (vectors, embedder) = (MemoryVectors::new(), ltmc_embedders::hashed());
        Experience { read: record.clone(), vectors, embedder, tenants: Cache::new(1), bounds }
    }

    fn tenant() -> TenantId {
        sample::tenant("acme")
    }

    /// A run that is over of a flow, of which agents did what was needed at these places.
    async fn over(record: &MemoryRecord, number: u64, flow: &str, met: &[(String, &str)]) -> RunId {
        let document = Document::parse(&format!("name: w{number}\nflow: {flow}"), None).unwrap().to_json();
        let (mut owner, workflow) = (Owner::new("acme", number), format!("w{number}").parse().unwrap());
        (owner.row.target, owner.row.state) = (Target::Workflow(workflow), State::Completed);
        let document_digest = Some(Digest::of(document.as_bytes()));
        let target = owner.row.target.clone();
        let started =
            RunStarted { target, document: Some(document.into()), document_digest, ..sample::started(&tenant()) };
        let mut events = vec![Event::RunStarted(Box::new(started))];
        for (path, agent) in met {
            let node: StepPath = path.parse().unwrap();
            let agent = AgentRef { name: agent.parse().unwrap(), digest: None };
            let decided = Decided::Agent { agent, candidates: Vec::new() };
            events.push(Event::NodeDecided { node: node.clone(), decided });
            let (output, usage) = (Payload::text(""), Usage::default());
            events.push(Event::StepCompleted { step: node, attempt: 1, output, usage });
        }
        let entries = events.into_iter().map(|event| Entry { at: sample::at(number), event }).collect();
        record.append(owner.write(entries), Durability::Lazy).await.unwrap();
        owner.row.id
    }

    /// Agents that met a need like this one.
    async fn tasks(experience: &Experience, need: &str) -> Vec<String> {
        let fit = experience.fit(&tenant(), need, &["it does something".to_owned()]).await.unwrap();
        fit.tasks.keys().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn more_texts_than_an_index_has_room_for_are_left_out_and_it_comes_to_an_end() {
        let record = MemoryRecord::new();
        let agents = ["a0", "a1", "a2", "a3", "a4"];
        for (number, agent) in agents.iter().enumerate() {
            let flow = format!("{{need: frobnicate widgets of kind {number}}}");
            over(&record, number as u64, &flow, &[("0".to_owned(), agent)]).await;
        }
        let experience = experience(&record, Bounds { texts: 4, ..BOUNDS });
        for _ in 0..3 {
            assert_eq!(tasks(&experience, "frobnicate widgets").await, ["a3", "a4"], "those of the newest runs");
            let indexed = experience.vectors.ids(&experience.place(&tenant())).await.unwrap().len();
            assert!(indexed <= 4, "{indexed}");
            let found = experience.similar(&tenant(), "frobnicate widgets", |_| true, 10).await.unwrap();
            assert_eq!(found.len(), 2, "{found:?}");
        }
    }

    #[tokio::test]
    async fn a_need_that_is_met_for_each_item_of_a_map_is_one() {
        let record = MemoryRecord::new();
        let met: Vec<(String, &str)> =
            (0..1_000).map(|number| (format!("0/{number}"), if number % 2 == 0 { "a" } else { "b" })).collect();
        let run = over(&record, 1, "{map: $.input, do: {need: judge a page}}", &met).await;
        let experience = experience(&record, BOUNDS);
        assert_eq!(tasks(&experience, "judge a page").await, ["a", "b"]);
        let learned = experience.of(&tenant());
        assert_eq!(learned.lock().await.runs[&run].met.len(), 2, "once for each who met it");
    }

    #[tokio::test]
    async fn so_many_entries_and_runs_are_looked_at_and_no_more() {
        let record = MemoryRecord::new();
        let flow = "{sequence: [{need: first thing}, {need: second thing}]}";
        for number in 0..4 {
            over(&record, number, flow, &[("0/0".to_owned(), "a"), ("0/1".to_owned(), "b")]).await;
        }
        // Two entries more than the first: who met the first need.
        let little = Bounds { entries: 3, ..BOUNDS };
        assert_eq!(tasks(&experience(&record, little), "second thing").await, ["a"]);
        assert_eq!(tasks(&experience(&record, BOUNDS), "second thing").await, ["a", "b"]);
        for bounds in [Bounds { known: 3, ..BOUNDS }, Bounds { looked_at: 3, ..BOUNDS }] {
            let experience = experience(&record, bounds);
            tasks(&experience, "first thing").await;
            assert_eq!(experience.of(&tenant()).lock().await.runs.len(), 3);
        }
    }
}
