//! `ops`: what one read and one write of memory cost a guest, through the crossing, journaled; against one row read by its
//! key, and one row written in a commit of as many, by the same database with the same settings.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;

use crate::Plan;
use crate::client::{Connection, Request};
use crate::report::{Goal, Line, Series, round};
use crate::{reference, rig};

/// Operations in one call of the guest, and rows in one commit of the reference.
const OPERATIONS: u32 = 1_000;
/// As the guest `memory-loop` has them.
const KEYS: u32 = 64;

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::runtime()?;
    let scratch = rig::scratch("ops")?;
    runtime.block_on(async {
        let host = rig::host(&scratch).await?;
        host.push(&host.admin, "loop", "memory-loop", &["memory:read:global", "memory:write:global"]).await?;
        let asking = |body: String| Request::post("/v1/agents/loop/call", &host.admin, "", &body);
        let nothing = asking("{}".into());
        let puts = asking(format!(r#"{{"puts":{OPERATIONS}}}"#));
        let gets = asking(format!(r#"{{"gets":{OPERATIONS}}}"#));
        let mut connection = Connection::open(&host.address()).await?;
        let mut bare = Bare::open(&scratch.path().join("reference.db")).await?;
        let [mut get, mut bare_get, mut put, mut bare_put] = <[Series; 4]>::default();
        // Round 0 warms both up.
        for number in 0..=plan.rounds {
            // What a call costs that does nothing is no part of an operation.
            let empty = call(plan, &mut connection, &nothing).await?;
            let each = |took: f64| (took - empty) / f64::from(OPERATIONS);
            let wrote = each(call(plan, &mut connection, &puts).await?);
            let bare_wrote = bare.puts(plan).await?;
            let read = each(call(plan, &mut connection, &gets).await?);
            let bare_read = bare.gets(plan).await?;
            if let Some(number) = number.checked_sub(1) {
                get.add(read);
                bare_get.add(bare_read);
                put.add(wrote);
                bare_put.add(bare_wrote);
                let figures = [("get", read), ("bare", bare_read), ("put", wrote), ("bare", bare_wrote)];
                round(number, plan.rounds, &figures.map(|(name, figure)| (name, figure, "us")));
            }
        }
        let line = |case: &str, measured, name, reference, most| Line {
            bench: "ops",
            case: case.to_owned(),
            unit: "us",
            measured,
            reference: Some((name, reference)),
            goal: Goal::AtMostTimes(most),
        };
        Ok(vec![line("get", get, "SELECT by key", bare_get, 1.5), line("put", put, "row in a commit", bare_put, 2.0)])
    })
}

/// Of several times the shortest, in microseconds: what disturbs one only makes it longer.
async fn least(plan: &Plan, mut once: impl AsyncFnMut() -> Result<()>) -> Result<f64> {
    let (begun, mut least) = (Instant::now(), Duration::MAX);
    while begun.elapsed() < plan.window / 4 || least == Duration::MAX {
        let sent = Instant::now();
        once().await?;
        least = least.min(sent.elapsed());
    }
    Ok(least.as_secs_f64() * 1e6)
}

/// The same for a call of the guest.
pub(crate) async fn call(plan: &Plan, connection: &mut Connection, request: &Request) -> Result<f64> {
    let once = async || {
        let status = connection.send(request).await?;
        ensure!(status == 200, "status {status}: {}", connection.text());
        Ok(())
    };
    least(plan, once).await
}

/// The same rows with nothing around them.
struct Bare(SqliteConnection);

impl Bare {
    async fn open(path: &std::path::Path) -> Result<Self> {
        let mut connection = reference::database(path).await?;
        let table = "create table memory (tenant text not null, key text not null, value blob not null,
            primary key (tenant, key)) strict, without rowid";
        sqlx::query(table).execute(&mut connection).await?;
        Ok(Self(connection))
    }

    /// Microseconds a row.
    async fn puts(&mut self, plan: &Plan) -> Result<f64> {
        let once = async || {
            let mut transaction = self.0.begin().await?;
            for n in 0..OPERATIONS {
                let put = sqlx::query("insert or replace into memory (tenant, key, value) values (?, ?, ?)");
                let put = put.bind("default").bind(format!("key/{}", n % KEYS)).bind(vec![b'x'; 100]);
                put.execute(&mut *transaction).await?;
            }
            Ok(transaction.commit().await?)
        };
        Ok(least(plan, once).await? / f64::from(OPERATIONS))
    }

    /// Microseconds a row.
    async fn gets(&mut self, plan: &Plan) -> Result<f64> {
        let once = async || {
            for n in 0..OPERATIONS {
                let get = sqlx::query_scalar("select value from memory where tenant = ? and key = ?");
                let value: Vec<u8> =
                    get.bind("default").bind(format!("key/{}", n % KEYS)).fetch_one(&mut self.0).await?;
                ensure!(value.len() == 100, "another value");
            }
            Ok(())
        };
        Ok(least(plan, once).await? / f64::from(OPERATIONS))
    }
}
