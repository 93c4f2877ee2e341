//! `project`: rows a second that Neo4j and Redis are told of, in batches of 1,000, kept exactly once; against the same rows
//! by the bare drivers, an UNWIND and a pipeline of as many.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use ltmc_model::delta::{Delta, Logged};
use ltmc_model::graph::Fact;
use ltmc_model::message::{Channel, Event, Message};
use ltmc_model::{Payload, Position, Revision, TenantId, Timestamp};
use ltmc_ports::Projection;
use ltmc_test_servers::Databases;

use crate::Plan;
use crate::report::{Goal, Line, Series, round};
use crate::rig;

/// Rows at once.
const BATCH: u64 = 1_000;

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::runtime()?;
    let scratch = rig::scratch("project")?;
    let servers = Databases::start(scratch.path())?;
    runtime.block_on(async {
        let acme: TenantId = "acme".parse()?;
        let options = ltmc_neo4j::Options::new(servers.neo4j.url(), servers.neo4j.user(), servers.neo4j.password());
        let neo4j = ltmc_neo4j::Neo4j::open(options)?;
        let redis = ltmc_redis::Redis::open(&ltmc_redis::Options::new(servers.redis.url()))?;
        let graph = neo4rs::Graph::new(servers.neo4j.url(), servers.neo4j.user(), servers.neo4j.password()).await?;
        let client = redis::Client::open(servers.redis.url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        for database in [&*neo4j as &dyn Projection, &*redis] {
            database.check().await?;
            database.applied(&acme).await?;
            database.set_applied(&acme, Position(0)).await?;
        }
        let [mut facts, mut bare_facts, mut topic, mut bare_topic, mut mailboxes, mut bare_mailboxes] =
            <[Series; 6]>::default();
        let mut next = 1;
        // Round 0 warms both servers up, which for Neo4j takes many batches.
        for number in 0..=plan.rounds {
            let [mut ours, mut bare, mut to_topic, mut to_mailboxes, mut to_one, mut to_ten] = [Duration::ZERO; 6];
            let (begun, mut rows) = (Instant::now(), 0);
            while begun.elapsed() < 2 * plan.window {
                let ids = next..next + BATCH;
                next += BATCH;
                rows += BATCH;
                ours += apply(&*neo4j, &acme, ids.clone().map(|id| fact(id).map(Delta::FactBegan))).await?;
                bare += unwind(&graph, ids.clone()).await?;
                let news = |id| Ok(Channel::Topic("news".parse()?)).and_then(|to| sent(to, id));
                to_topic += apply(&*redis, &acme, ids.clone().map(news)).await?;
                to_one += pipeline(&mut connection, ids, 1).await?;
                let ids = next..next + BATCH;
                next += BATCH;
                let mail = |id| Ok(Channel::Mailbox(format!("agent-{}", id % 10).parse()?)).and_then(|to| sent(to, id));
                to_mailboxes += apply(&*redis, &acme, ids.clone().map(mail)).await?;
                to_ten += pipeline(&mut connection, ids, 10).await?;
            }
            if let Some(number) = number.checked_sub(1) {
                let rate = |took: Duration| rows as f64 / took.as_secs_f64();
                let figures = [
                    ("Neo4j", rate(ours), &mut facts),
                    ("bare", rate(bare), &mut bare_facts),
                    ("Redis, topic", rate(to_topic), &mut topic),
                    ("bare", rate(to_one), &mut bare_topic),
                    ("mailboxes", rate(to_mailboxes), &mut mailboxes),
                    ("bare", rate(to_ten), &mut bare_mailboxes),
                ];
                let figures = figures.map(|(name, figure, series)| {
                    series.add(figure);
                    (name, figure, "/s")
                });
                round(number, plan.rounds, &figures);
            }
        }
        let line = |case: &str, measured, name, reference: &Series| Line {
            bench: "project",
            case: case.to_owned(),
            unit: "/s",
            measured,
            reference: Some((name, reference.clone())),
            goal: Goal::AtLeastTimes(0.7),
        };
        Ok(vec![
            line("facts into Neo4j", facts, "UNWIND", &bare_facts),
            line("events of a topic into Redis", topic, "XADD", &bare_topic),
            line("messages to 10 mailboxes into Redis", mailboxes, "XADD", &bare_mailboxes),
        ])
    })
}

/// How long a batch takes.
async fn apply(
    database: &dyn Projection,
    tenant: &TenantId,
    deltas: impl Iterator<Item = Result<Delta>>,
) -> Result<Duration> {
    let mut rows = Vec::new();
    for delta in deltas {
        let delta = delta?;
        let position = match &delta {
            Delta::FactBegan(fact) => Position(fact.id.0),
            Delta::Sent(message) => Position(message.id.0),
            other => anyhow::bail!("{other:?} is not measured"),
        };
        rows.push(Logged { position, tenant: tenant.clone(), delta });
    }
    let last = rows.last().context("an empty batch")?.position;
    let begun = Instant::now();
    database.apply(tenant, &rows, last).await?;
    Ok(begun.elapsed())
}

fn fact(id: u64) -> Result<Fact> {
    Ok(Fact {
        id: Revision(id),
        subject: format!("file {}", id / 10).parse()?,
        relation: "names".parse()?,
        object: format!("name {}", id % 5_000).parse()?,
        properties: r#"{"line":1}"#.into(),
        valid_from: Timestamp::from_millis(id),
        valid_to: None,
        recorded_at: Timestamp::from_millis(id),
        ended_at: None,
    })
}

fn sent(channel: Channel, id: u64) -> Result<Delta> {
    Ok(Delta::Sent(Message { id: Revision(id), channel, event: event(id) }))
}

fn event(id: u64) -> Event {
    Event {
        id: id.to_string(),
        source: "/agents/alice".into(),
        kind: "note.written".into(),
        subject: None,
        time: Timestamp::from_millis(id),
        data: Payload { content_type: "text/plain".into(), bytes: vec![b'x'; 100].into() },
        attributes: std::collections::BTreeMap::new(),
        trail: None,
    }
}

/// The same facts by the bare driver.
async fn unwind(graph: &neo4rs::Graph, ids: std::ops::Range<u64>) -> Result<Duration> {
    const TEXT: &str = "UNWIND $rows AS row \
        MERGE (s:Entity {tenant: $tenant, name: row.subject}) MERGE (o:Entity {tenant: $tenant, name: row.object}) \
        CREATE (s)-[:FACT {tenant: $tenant, id: row.id, relation: row.relation, properties: row.properties, \
        valid_from: row.valid_from, recorded_at: row.recorded_at}]->(o)";
    let facts: Vec<Fact> = ids.map(fact).collect::<Result<_>>()?;
    let begun = Instant::now();
    let rows = facts.iter().map(|fact| {
        let mut map = neo4rs::BoltMap::new();
        let mut put = |key: &str, value: neo4rs::BoltType| map.put(key.into(), value);
        put("id", (fact.id.0 as i64).into());
        put("subject", fact.subject.as_str().into());
        put("relation", fact.relation.as_str().into());
        put("object", fact.object.as_str().into());
        put("properties", fact.properties.as_str().into());
        put("valid_from", (fact.valid_from.millis() as i64).into());
        put("recorded_at", (fact.recorded_at.millis() as i64).into());
        neo4rs::BoltType::Map(map)
    });
    let rows: Vec<neo4rs::BoltType> = rows.collect();
    graph.run(neo4rs::query(TEXT).param("rows", rows).param("tenant", "bare")).await?;
    Ok(begun.elapsed())
}

/// The same events by the bare driver, into so many streams.
async fn pipeline(
    connection: &mut redis::aio::MultiplexedConnection,
    ids: std::ops::Range<u64>,
    streams: u64,
) -> Result<Duration> {
    let events: Vec<(u64, Event)> = ids.map(|id| (id, event(id))).collect();
    let begun = Instant::now();
    let mut pipe = redis::pipe();
    for (id, event) in &events {
        pipe.cmd("XADD").arg(format!("bare-{streams}-{}", id % streams)).arg(format!("{id}-0"));
        pipe.arg("event").arg(rmp_serde::to_vec_named(event)?).ignore();
    }
    pipe.query_async::<()>(connection).await?;
    Ok(begun.elapsed())
}
