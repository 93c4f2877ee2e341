//! What every projection does. [`crate::projection_contract`] makes a test of every case.
//!
//! What it holds is compared with what [`Context`] makes of the same rows. A case uses only the topics that a projection
//! wants, and has tenants of its own, so that all may share a database.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use ltmc_model::delta::{Delta, FactEnd, Logged, RunMark, StepMark, Topic};
use ltmc_model::graph::Fact;
use ltmc_model::memory::Drawer;
use ltmc_model::message::{Channel, Event, Message, Taker};
use ltmc_model::run::{State, Target};
use ltmc_model::{AgentName, Payload, Position, Revision, RunId, Seq, TenantId};

use crate::log::Item;
use crate::testing::context::Context;
use crate::testing::sample::{at, delete, put, run_id, tenant};
use crate::{Bound, Kind, Projection};

/// How the suite gets a projection.
#[async_trait]
pub trait ProjectionFixture: Send + Sync {
    /// One that follows nobody yet; there may be other tenants in its database.
    async fn fresh(&self) -> Arc<dyn Projection>;
}

/// Makes a test of every case: `ltmc_ports::projection_contract!(MyFixture::default());`. The crate needs tokio's macros.
#[macro_export]
macro_rules! projection_contract {
    ($fixture:expr) => {
        $crate::contract! { @port projection, $fixture;
            it_begins_with_nothing
            it_follows_one_record_until_it_is_taken
            it_holds_what_it_was_told
            rows_told_twice_change_nothing
            rows_at_or_before_what_was_applied_are_passed_over
            nobody_is_begun_in_the_middle
            an_inventory_is_in_the_order_of_keys_and_in_pages
            what_was_put_is_as_if_it_had_been_told
            putting_mends
            what_was_discarded_is_gone
            a_rebuild_and_the_rows_after_it_meet
            many_rows_at_once_are_all_there
            tenants_with_the_same_names_never_meet
        }
    };
}

/// It follows one record, and no other until it is told to. What it is told is not touched by that.
pub async fn it_follows_one_record_until_it_is_taken<F: ProjectionFixture>(fixture: &F) {
    let database = fixture.fresh().await;
    // Other cases have their own records in the same database, and ask nothing of this.
    assert_eq!(database.bind("one", true).await.unwrap(), Bound::Halfway);
    // Until all of it is done it says so, to this one and to others.
    assert_eq!(database.bind("one", false).await.unwrap(), Bound::Halfway);
    let refused = database.bind("two", false).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Conflict);
    let said = refused.reason();
    assert!(said.contains("the record one") && said.contains("two") && said.contains("--rebind"), "{said}");
    assert_eq!(database.bind("two", true).await.unwrap(), Bound::Halfway);
    assert_eq!(database.bind("two", false).await.unwrap(), Bound::Halfway);
    assert_eq!(database.bind("one", false).await.unwrap_err().kind, Kind::Conflict);
}

/// A history of everything, told row by row.
struct History {
    tenant: TenantId,
    context: Context,
    rows: Vec<Logged>,
}

impl History {
    fn new(name: &str) -> Self {
        Self { tenant: tenant(name), context: Context::default(), rows: Vec::new() }
    }

    fn tell(&mut self, delta: Delta) {
        self.context.apply(&self.tenant, &delta);
        self.rows.extend(self.context.log.last().cloned());
    }

    fn take(&mut self, agent: &AgentName, messages: Vec<Revision>, by: Taker) {
        let taken = self.context.taken(&self.tenant, agent, messages, by);
        self.tell(taken);
    }

    fn end(&self) -> Position {
        self.context.end()
    }

    /// Something of every kind, twice over: `round` keeps the rounds apart.
    fn round(&mut self, round: u64) {
        let id = |number: u64| Revision(round * 1_000 + number);
        let drawer = Drawer::Session("s1".parse().expect("a session"));
        for key in 0..4 {
            self.tell(Delta::Memory(put(&drawer, &format!("k{round}/{key}"), id(100 + key), format!("v{key}"))));
        }
        self.tell(Delta::Memory(put(&drawer, &format!("k{round}/0"), id(110), "newer")));
        self.tell(Delta::Memory(delete(&drawer, &format!("k{round}/1"), id(111))));
        for number in 0..4 {
            self.tell(Delta::FactBegan(fact(id(200 + number).0, "a", &format!("b{number}"))));
        }
        self.tell(ended(&fact(id(201).0, "a", "b1")));
        self.mail(round);
        for number in 0..3 {
            self.tell(run(
                round * 10 + number,
                1,
                State::Running,
                &[("0", 1, State::Running), ("0/0", 1, State::Running)],
            ));
        }
        self.tell(run(
            round * 10,
            5,
            State::Running,
            &[
                ("0/0", 1, State::Completed),
                ("0/1", 1, State::Running),
                ("0/1", 1, State::Waiting),
                ("0/1", 2, State::Running),
            ],
        ));
        self.tell(run(
            round * 10 + 1,
            4,
            State::Completed,
            &[("0/0", 1, State::Completed), ("0", 1, State::Completed)],
        ));
    }

    /// Messages to two mailboxes, in every state.
    fn mail(&mut self, round: u64) {
        let id = |number: u64| Revision(round * 1_000 + 300 + number);
        for number in 0..9 {
            let (to, from) = if number < 7 { ("reader", "writer") } else { ("reader-2", "reader") };
            self.tell(Delta::Sent(message(id(number).0, to, from)));
        }
        let (reader, by) = (agent("reader"), taker(round));
        let first = (0..4).map(id).collect();
        self.take(&reader, first, by.clone());
        self.tell(Delta::Processed { agent: reader.clone(), message: id(0) });
        self.tell(Delta::Buried { agent: reader.clone(), message: id(1), reason: "too hard".into(), at: at(9) });
        self.tell(Delta::Buried { agent: reader.clone(), message: id(2), reason: "odd".into(), at: at(9) });
        self.tell(Delta::Revived { agent: reader.clone(), message: id(2) });
        self.tell(Delta::Released { by: by.clone(), at: at(10) });
        // Handed out until it is enough.
        for _ in 0..4 {
            self.take(&reader, vec![id(3)], by.clone());
            self.tell(Delta::Released { by: by.clone(), at: at(11) });
        }
        let other = Taker { attempt: 2, ..by };
        self.take(&reader, vec![id(4), id(5)], other.clone());
        self.take(&agent("reader-2"), vec![id(7)], other);
        self.tell(Delta::Processed { agent: agent("reader-2"), message: id(7) });
    }

    /// What a projector tells.
    fn rows(&self, projection: &dyn Projection) -> Vec<Logged> {
        let wanted = |row: &&Logged| projection.topics().contains(&row.delta.topic());
        self.rows.iter().filter(wanted).cloned().collect()
    }

    /// What the record has of a topic, as far as the projection keeps it.
    fn items(&self, projection: &dyn Projection, topic: Topic) -> Vec<Item> {
        let mut items = items(&self.context, &self.tenant, topic);
        items.retain(|item| projection.holds(topic, item));
        items
    }
}

fn agent(name: &str) -> AgentName {
    name.parse().expect("an agent's name")
}

fn taker(number: u64) -> Taker {
    Taker { run: run_id(number), step: "0".parse().expect("a path"), attempt: 1, part: 0 }
}

fn fact(id: u64, subject: &str, object: &str) -> Fact {
    Fact {
        id: Revision(id),
        subject: subject.parse().expect("an entity"),
        relation: "to".parse().expect("a relation"),
        object: object.parse().expect("an entity"),
        properties: r#"{"n":1}"#.into(),
        valid_from: at(1),
        valid_to: None,
        recorded_at: at(2),
        ended_at: None,
    }
}

fn ended(of: &Fact) -> Delta {
    let Fact { id, subject, relation, object, .. } = of.clone();
    Delta::FactEnded(FactEnd { id, subject, relation, object, valid_to: at(3), ended_at: at(4) })
}

fn message(id: u64, to: &str, from: &str) -> Message {
    Message {
        id: Revision(id),
        channel: Channel::Mailbox(agent(to)),
        event: Event {
            id: format!("event {id}"),
            source: format!("/agents/{from}"),
            kind: "page.read".into(),
            subject: None,
            time: at(id),
            data: Payload::text("read it"),
            attributes: Default::default(),
            trail: None,
        },
    }
}

fn run(number: u64, seq: u64, state: State, steps: &[(&str, u32, State)]) -> Delta {
    let step = |(path, attempt, state): &(&str, u32, State)| StepMark {
        step: path.parse().expect("a path"),
        attempt: *attempt,
        agent: (*state == State::Running).then(|| agent("reader")),
        state: *state,
        at: at(seq),
        seq: Seq(seq),
        version: None,
        needs: Vec::new(),
        began: None,
    };
    Delta::Run(Box::new(RunMark {
        run: run_id(number),
        target: if number.is_multiple_of(2) {
            Target::Workflow("review".parse().expect("a workflow's name"))
        } else {
            Target::Agent("reader".parse().expect("an agent"))
        },
        session: "s1".parse().expect("a session's id"),
        by: "abcdefghijkl".parse().expect("a key's id"),
        created_at: at(number),
        updated_at: at(number + seq),
        state,
        seq: Seq(seq),
        steps: steps.iter().map(step).collect(),
        origin: None,
    }))
}

/// What the record should have of a topic: see [`crate::log::ReadContext`].
fn items(context: &Context, tenant: &TenantId, topic: Topic) -> Vec<Item> {
    match topic {
        Topic::Runs => run_items(context, tenant),
        topic => context.items(tenant, topic),
    }
}

fn run_items(context: &Context, tenant: &TenantId) -> Vec<Item> {
    let mut marks: BTreeMap<RunId, RunMark> = BTreeMap::new();
    for row in context.log.iter().filter(|row| row.tenant == *tenant) {
        let Delta::Run(mark) = &row.delta else { continue };
        let steps = marks.remove(&mark.run).map(|before| before.steps).unwrap_or_default();
        let steps = steps.into_iter().chain(mark.steps.iter().cloned()).collect();
        marks.insert(mark.run, RunMark { steps, ..(**mark).clone() });
    }
    let item = |(id, mark): (RunId, RunMark)| Item {
        key: id.to_string(),
        version: mark.seq.0,
        position: Position(0),
        deltas: vec![Delta::Run(Box::new(mark))],
    };
    marks.into_iter().map(item).collect()
}

/// Everything it holds of a topic.
async fn holds(projection: &dyn Projection, tenant: &TenantId, topic: Topic) -> Vec<(String, u64)> {
    projection.inventory(tenant, topic, None, 10_000).await.unwrap()
}

/// It holds what the record has, of every topic.
async fn is_right(projection: &dyn Projection, history: &History) {
    for topic in projection.topics() {
        let expected: Vec<(String, u64)> =
            history.items(projection, *topic).into_iter().map(|item| (item.key, item.version)).collect();
        assert_eq!(
            holds(projection, &history.tenant, *topic).await,
            expected,
            "{} of {}",
            topic.as_str(),
            history.tenant
        );
    }
}

/// What a projector does with a tenant of which a projection knows nothing: it builds it from the record.
async fn build(projection: &dyn Projection, history: &History) {
    assert_eq!(projection.applied(&history.tenant).await.unwrap(), None);
    for topic in projection.topics() {
        projection.put(&history.tenant, &history.items(projection, *topic)).await.unwrap();
    }
    projection.set_applied(&history.tenant, history.end()).await.unwrap();
}

/// It begins with nothing.
pub async fn it_begins_with_nothing<F: ProjectionFixture>(fixture: &F) {
    let projection = fixture.fresh().await;
    projection.check().await.unwrap();
    assert!(!projection.name().is_empty() && !projection.topics().is_empty());
    let acme = tenant("p-nothing");
    assert_eq!(projection.applied(&acme).await.unwrap(), None);
    assert_eq!(projection.applied(&acme).await.unwrap(), None, "asking is not telling");
    for topic in Topic::ALL {
        assert_eq!(holds(&*projection, &acme, topic).await, []);
    }
    projection.set_applied(&acme, Position(7)).await.unwrap();
    assert_eq!(projection.applied(&acme).await.unwrap(), Some(Position(7)));
    projection.set_applied(&acme, Position(3)).await.unwrap();
    assert_eq!(projection.applied(&acme).await.unwrap(), Some(Position(3)), "after a rebuild it is as it was set");
}

/// It holds what it was told.
pub async fn it_holds_what_it_was_told<F: ProjectionFixture>(fixture: &F) {
    let projection = fixture.fresh().await;
    let mut history = History::new("p-told");
    build(&*projection, &history).await;
    for round in 1..=3 {
        let before = history.rows(&*projection).len();
        history.round(round);
        projection.apply(&history.tenant, &history.rows(&*projection)[before..], history.end()).await.unwrap();
        assert_eq!(projection.applied(&history.tenant).await.unwrap(), Some(history.end()));
        is_right(&*projection, &history).await;
    }
    // Row by row it comes to the same.
    let mut other = History::new("p-told-singly");
    build(&*projection, &other).await;
    other.round(1);
    for row in other.rows(&*projection) {
        let to = row.position;
        projection.apply(&other.tenant, &[row], to).await.unwrap();
    }
    is_right(&*projection, &other).await;
    // What it does not want is passed by telling it how far the log goes.
    let further = Position(other.end().0 + 5);
    projection.apply(&other.tenant, &[], further).await.unwrap();
    assert_eq!(projection.applied(&other.tenant).await.unwrap(), Some(further));
    is_right(&*projection, &other).await;
}

/// Rows told twice change nothing.
pub async fn rows_told_twice_change_nothing<F: ProjectionFixture>(fixture: &F) {
    let projection = fixture.fresh().await;
    let mut history = History::new("p-twice");
    build(&*projection, &history).await;
    history.round(1);
    let rows = history.rows(&*projection);
    for _ in 0..3 {
        projection.apply(&history.tenant, &rows, history.end()).await.unwrap();
        is_right(&*projection, &history).await;
        assert_eq!(projection.applied(&history.tenant).await.unwrap(), Some(history.end()));
    }
}

/// Rows at or before what was applied are passed over.
pub async fn rows_at_or_before_what_was_applied_are_passed_over<F: ProjectionFixture>(fixture: &F) {
    let projection = fixture.fresh().await;
    let mut history = History::new("p-before");
    build(&*projection, &history).await;
    history.round(1);
    let rows = history.rows(&*projection);
    let half = rows.len() / 2;
    projection.apply(&history.tenant, &rows[..half], rows[half - 1].position).await.unwrap();
    // All over again, and what comes after.
    projection.apply(&history.tenant, &rows, history.end()).await.unwrap();
    is_right(&*projection, &history).await;
    // An old piece alone does not take it back.
    projection.apply(&history.tenant, &rows[..half], rows[half - 1].position).await.unwrap();
    is_right(&*projection, &history).await;
    assert_eq!(projection.applied(&history.tenant).await.unwrap(), Some(history.end()));
}

/// Nobody is begun in the middle: what came before would be missing for ever.
pub async fn nobody_is_begun_in_the_middle<F: ProjectionFixture>(fixture: &F) {
    let projection = fixture.fresh().await;
    let mut history = History::new("p-middle");
    history.round(1);
    let rows = history.rows(&*projection);
    let refused = projection.apply(&history.tenant, &rows[1..], history.end()).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Conflict, "{refused:?}");
    assert_eq!(projection.applied(&history.tenant).await.unwrap(), None);
    let refused = projection.apply(&history.tenant, &rows[1..], history.end()).await.unwrap_err();
    assert_eq!(refused.kind, Kind::Conflict, "{refused:?}");
    for topic in projection.topics() {
        assert_eq!(holds(&*projection, &history.tenant, *topic).await, []);
    }
    build(&*projection, &history).await;
    is_right(&*projection, &history).await;
}

/// An inventory is in the order of keys, and in pages.
pub async fn an_inventory_is_in_the_order_of_keys_and_in_pages<F: ProjectionFixture>(fixture: &F) {
    let projection = fixture.fresh().await;
    let mut history = History::new("p-pages");
    build(&*projection, &history).await;
    for round in 1..=4 {
        history.round(round);
    }
    projection.apply(&history.tenant, &history.rows(&*projection), history.end()).await.unwrap();
    is_right(&*projection, &history).await;
    for topic in projection.topics() {
        let all = holds(&*projection, &history.tenant, *topic).await;
        assert!(all.is_sorted(), "{all:?}");
        for limit in [1, 2, 5, 100] {
            let (mut found, mut after) = (Vec::new(), None::<String>);
            loop {
                let page = projection.inventory(&history.tenant, *topic, after.as_deref(), limit).await.unwrap();
                assert!(page.len() <= limit as usize);
                let Some((last, _)) = page.last() else { break };
                after = Some(last.clone());
                found.extend(page);
            }
            assert_eq!(found, all, "{} at a time of {}", limit, topic.as_str());
        }
    }
}

/// What was put is as if it had been told: rows that follow find it.
pub async fn what_was_put_is_as_if_it_had_been_told<F: ProjectionFixture>(fixture: &F) {
    let projection = fixture.fresh().await;
    let mut history = History::new("p-put");
    history.round(1);
    build(&*projection, &history).await;
    is_right(&*projection, &history).await;
    assert_eq!(projection.applied(&history.tenant).await.unwrap(), Some(history.end()));
    let before = history.rows(&*projection).len();
    // What waits, what was taken, what holds and what runs goes on.
    let (reader, id) = (agent("reader"), |number: u64| Revision(1_300 + number));
    history.tell(Delta::Processed { agent: reader.clone(), message: id(4) });
    history.tell(Delta::Released { by: Taker { attempt: 2, ..taker(1) }, at: at(20) });
    history.tell(Delta::Revived { agent: reader.clone(), message: id(1) });
    history.take(&reader, vec![id(1), id(6)], taker(9));
    history.tell(ended(&fact(1_202, "a", "b2")));
    history.tell(run(10, 8, State::Failed, &[("0/1", 2, State::Failed), ("0", 1, State::Failed)]));
    history.round(2);
    projection.apply(&history.tenant, &history.rows(&*projection)[before..], history.end()).await.unwrap();
    is_right(&*projection, &history).await;
}

/// Putting mends, whatever stands there, and does not touch how far it was told.
pub async fn putting_mends<F: ProjectionFixture>(fixture: &F) {
    let projection = fixture.fresh().await;
    let mut history = History::new("p-mend");
    build(&*projection, &history).await;
    history.round(1);
    let rows = history.rows(&*projection);
    // Half of it is told, and passed for the whole.
    projection.apply(&history.tenant, &rows[..rows.len() / 2], history.end()).await.unwrap();
    let mut wrong = 0;
    for topic in projection.topics() {
        let there: BTreeMap<String, u64> = holds(&*projection, &history.tenant, *topic).await.into_iter().collect();
        let items = history.items(&*projection, *topic);
        let mend: Vec<Item> =
            items.iter().filter(|item| there.get(&item.key) != Some(&item.version)).cloned().collect();
        let gone = there.into_keys().filter(|key| items.iter().all(|item| item.key != *key)).collect::<Vec<_>>();
        wrong += mend.len() + gone.len();
        projection.put(&history.tenant, &mend).await.unwrap();
        projection.discard(&history.tenant, *topic, &gone).await.unwrap();
        // And what was right already.
        projection.put(&history.tenant, &items).await.unwrap();
    }
    assert!(wrong > 0, "nothing was wrong: the case shows nothing");
    is_right(&*projection, &history).await;
    assert_eq!(projection.applied(&history.tenant).await.unwrap(), Some(history.end()));
}

/// What was discarded is gone.
pub async fn what_was_discarded_is_gone<F: ProjectionFixture>(fixture: &F) {
    let projection = fixture.fresh().await;
    let mut history = History::new("p-discard");
    history.round(1);
    build(&*projection, &history).await;
    for topic in projection.topics() {
        let mut all = holds(&*projection, &history.tenant, *topic).await;
        let (first, _) = all.remove(0);
        projection.discard(&history.tenant, *topic, &[first.clone(), first]).await.unwrap();
        assert_eq!(holds(&*projection, &history.tenant, *topic).await, all, "{}", topic.as_str());
        let keys: Vec<String> = all.into_iter().map(|(key, _)| key).collect();
        projection.discard(&history.tenant, *topic, &keys).await.unwrap();
        assert_eq!(holds(&*projection, &history.tenant, *topic).await, []);
    }
    assert_eq!(projection.applied(&history.tenant).await.unwrap(), Some(history.end()));
    for topic in projection.topics() {
        projection.put(&history.tenant, &history.items(&*projection, *topic)).await.unwrap();
    }
    is_right(&*projection, &history).await;
}

/// A rebuild and the rows after it meet: items may be newer than the place from which rows go on.
pub async fn a_rebuild_and_the_rows_after_it_meet<F: ProjectionFixture>(fixture: &F) {
    let projection = fixture.fresh().await;
    let mut history = History::new("p-meet");
    history.round(1);
    let from = history.end();
    history.round(2);
    assert_eq!(projection.applied(&history.tenant).await.unwrap(), None);
    for topic in projection.topics() {
        projection.put(&history.tenant, &history.items(&*projection, *topic)).await.unwrap();
    }
    projection.set_applied(&history.tenant, from).await.unwrap();
    let rows: Vec<Logged> = history.rows(&*projection).into_iter().filter(|row| row.position > from).collect();
    projection.apply(&history.tenant, &rows, history.end()).await.unwrap();
    is_right(&*projection, &history).await;
}

/// Many rows at once are all there.
pub async fn many_rows_at_once_are_all_there<F: ProjectionFixture>(fixture: &F) {
    let projection = fixture.fresh().await;
    let mut history = History::new("p-many");
    build(&*projection, &history).await;
    for round in 1..=70 {
        history.round(round);
    }
    let rows = history.rows(&*projection);
    assert!(rows.len() > 1_000, "{} rows show nothing", rows.len());
    projection.apply(&history.tenant, &rows, history.end()).await.unwrap();
    is_right(&*projection, &history).await;
    // The same in one build.
    let mut other = History::new("p-many-built");
    for round in 1..=70 {
        other.round(round);
    }
    build(&*projection, &other).await;
    is_right(&*projection, &other).await;
}

/// Tenants with the same names never meet.
pub async fn tenants_with_the_same_names_never_meet<F: ProjectionFixture>(fixture: &F) {
    let projection = fixture.fresh().await;
    let (mut first, mut second) = (History::new("p-tenant"), History::new("p-tenant-2"));
    for history in [&first, &second] {
        build(&*projection, history).await;
    }
    first.round(1);
    second.round(1);
    second.round(2);
    for history in [&first, &second] {
        projection.apply(&history.tenant, &history.rows(&*projection), history.end()).await.unwrap();
    }
    for history in [&first, &second] {
        is_right(&*projection, history).await;
        assert_eq!(projection.applied(&history.tenant).await.unwrap(), Some(history.end()));
    }
    // What is discarded of one, what is taken and released in one, is nothing to the other.
    for topic in projection.topics() {
        let keys: Vec<String> =
            holds(&*projection, &second.tenant, *topic).await.into_iter().map(|(key, _)| key).collect();
        projection.discard(&second.tenant, *topic, &keys).await.unwrap();
        assert_eq!(holds(&*projection, &second.tenant, *topic).await, []);
    }
    is_right(&*projection, &first).await;
    assert_eq!(projection.applied(&tenant("p-tenant-3")).await.unwrap(), None);
}
