//! `flow`: durable workflows of three steps with a memory write each, over REST; against one synced commit of one row, by
//! the same database with the same settings, on the same disk, one at a time.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use ltmc_tests::Host;
use sqlx::sqlite::SqliteConnection;

use crate::Plan;
use crate::client::Request;
use crate::load::Load;
use crate::report::{Goal, Line, Series, round};
use crate::{reference, rig};

/// Clients where there are many.
pub(crate) const MANY: usize = 128;

/// Each run has a session of its own, so that no two of them want the same key.
const DOCUMENT: &str = "name: three
flow:
  sequence:
    - {id: first, agent: note, with: {key: a}}
    - {id: second, agent: note, with: {key: b}}
    - {id: third, agent: note, with: {key: c}}
";

/// The workflow, and the request that starts it and waits for its end.
pub(crate) async fn prepare(host: &Host) -> Result<Request> {
    host.push(&host.admin, "note", "note", &["memory:write:session"]).await?;
    rig::workflow(host, "three", DOCUMENT).await?;
    Ok(Request::post("/v1/workflows/three/runs", &host.admin, "prefer: wait=30\r\n", "{}"))
}

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::runtime()?;
    let scratch = rig::scratch("flow")?;
    runtime.block_on(async {
        let host = rig::host(&scratch).await?;
        let start = prepare(&host).await?;
        let mut commits = Commits::open(&scratch.path().join("reference.db")).await?;
        let [mut reference, mut alone, mut crowd] = <[Series; 3]>::default();
        // Round 0 warms everything up.
        for number in 0..=plan.rounds {
            let commit = commits.rate(plan.window).await?;
            let one = Load::lasting(1, plan.window).rate(&host.address(), &start).await?;
            let many = Load::lasting(MANY, plan.window).rate(&host.address(), &start).await?;
            if let Some(number) = number.checked_sub(1) {
                reference.add(commit);
                alone.add(one);
                crowd.add(many);
                round(number, plan.rounds, &[("commits", commit, "/s"), ("1 client", one, "/s"), ("128", many, "/s")]);
            }
        }
        let line = |clients: &str, measured, least| Line {
            bench: "flow",
            case: format!("3 steps, {clients}"),
            unit: "/s",
            measured,
            reference: Some(("synced commits of a row", reference.clone())),
            goal: Goal::AtLeastTimes(least),
        };
        Ok(vec![line("1 client", alone, 1.0 / 3.0), line("128 clients", crowd, 1.7)])
    })
}

/// What any durable step costs at least.
pub(crate) struct Commits(SqliteConnection);

impl Commits {
    pub(crate) async fn open(path: &Path) -> Result<Self> {
        let mut connection = reference::database(path).await?;
        let table = "create table rows (id integer primary key, state integer not null, value blob not null) strict";
        sqlx::query(table).execute(&mut connection).await?;
        Ok(Self(connection))
    }

    /// Commits a second.
    pub(crate) async fn rate(&mut self, window: Duration) -> Result<f64> {
        let (begun, mut done) = (Instant::now(), 0_u32);
        while begun.elapsed() < window {
            let insert = sqlx::query("insert into rows (state, value) values (?, ?)").bind(3_i64).bind(vec![7_u8; 100]);
            insert.execute(&mut self.0).await?;
            done += 1;
        }
        Ok(f64::from(done) / begun.elapsed().as_secs_f64())
    }
}
