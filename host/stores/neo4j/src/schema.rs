//! Constraints and indexes, by version: `(:LtmcSchema {version})` says which the database has.
//!
//! Invariants: a migration stays as it is once it was released; each of its statements may run twice. A database that a newer
//! version of the host has changed is refused.
//!
//! To change the schema: a further list in [`MIGRATIONS`].

use std::time::Duration;

use serde::Deserialize;

use crate::error::Trouble;
use crate::link::Link;
use crate::statement::Statement;

/// An index over what another host has left may take a while.
const PATIENCE: Duration = Duration::from_secs(300);

const MIGRATIONS: &[&[&str]] = &[
    &[
        "CREATE CONSTRAINT ltmc_applied IF NOT EXISTS FOR (a:Applied) REQUIRE a.tenant IS UNIQUE",
        "CREATE CONSTRAINT ltmc_build IF NOT EXISTS FOR (b:Build) REQUIRE b.tenant IS UNIQUE",
        "CREATE CONSTRAINT ltmc_entity IF NOT EXISTS FOR (e:Entity) REQUIRE (e.tenant, e.name) IS UNIQUE",
        "CREATE CONSTRAINT ltmc_fact IF NOT EXISTS FOR ()-[f:FACT]-() REQUIRE (f.tenant, f.id) IS UNIQUE",
        "CREATE CONSTRAINT ltmc_agent IF NOT EXISTS FOR (a:Agent) REQUIRE (a.tenant, a.name) IS UNIQUE",
        "CREATE CONSTRAINT ltmc_workflow IF NOT EXISTS FOR (w:Workflow) REQUIRE (w.tenant, w.name) IS UNIQUE",
        "CREATE CONSTRAINT ltmc_run IF NOT EXISTS FOR (r:Run) REQUIRE (r.tenant, r.id) IS UNIQUE",
        "CREATE CONSTRAINT ltmc_step IF NOT EXISTS FOR (s:Step) REQUIRE (s.tenant, s.run, s.path) IS UNIQUE",
        "CREATE CONSTRAINT ltmc_sent IF NOT EXISTS FOR ()-[m:SENT]-() REQUIRE (m.tenant, m.key) IS UNIQUE",
        // Only what is not processed has these two: history makes them no longer.
        "CREATE INDEX ltmc_sent_open IF NOT EXISTS FOR ()-[m:SENT]-() ON (m.tenant, m.open)",
        "CREATE INDEX ltmc_sent_taker IF NOT EXISTS FOR ()-[m:SENT]-() ON (m.tenant, m.taker)",
    ],
    // By which old history is found.
    &["CREATE INDEX ltmc_sent_at IF NOT EXISTS FOR ()-[m:SENT]-() ON (m.tenant, m.at)"],
    &[
        "CREATE CONSTRAINT ltmc_version IF NOT EXISTS FOR (v:Version) REQUIRE (v.tenant, v.agent, v.digest) IS UNIQUE",
        "CREATE INDEX ltmc_used IF NOT EXISTS FOR ()-[u:USED]-() ON (u.tenant, u.agent, u.run)",
        "CREATE INDEX ltmc_run_parent IF NOT EXISTS FOR (r:Run) ON (r.tenant, r.parent)",
        "CREATE INDEX ltmc_run_forked IF NOT EXISTS FOR (r:Run) ON (r.tenant, r.forked)",
        // Runs that were told before have nothing of this: all is compared with the record once more, and they are told anew.
        "MATCH (a:Applied) DELETE a",
    ],
];

/// The newest version.
pub(crate) const KNOWN: i64 = MIGRATIONS.len() as i64;

/// Brings the schema to the newest version.
pub(crate) async fn migrate(link: &Link) -> Result<(), Trouble> {
    const OP: &str = "neo4j.migrate";
    let found = version(link).await?;
    if found > KNOWN {
        return Err(Trouble::Newer { address: link.address().to_owned(), found, known: KNOWN });
    }
    if found == KNOWN {
        return Ok(());
    }
    for (number, migration) in (1_i64..).zip(MIGRATIONS).filter(|(number, _)| *number > found) {
        for statement in *migration {
            let statement = Statement::about_the_database(statement);
            match link.ask_unprepared::<()>(OP, PATIENCE, statement).await {
                // `IF NOT EXISTS` does not see what is being made by another host at this moment.
                Ok(_) | Err(Trouble::Made { .. }) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        let wait = Statement::about_the_database("CALL db.awaitIndexes(300)");
        link.ask_unprepared::<()>(OP, PATIENCE, wait).await?;
        let set =
            Statement::about_the_database("MERGE (s:LtmcSchema) SET s.version = $version").with("version", number);
        link.ask_unprepared::<()>(OP, PATIENCE, set).await?;
        tracing::info!(address = link.address(), version = number, "Neo4j's schema was brought up to date");
    }
    Ok(())
}

/// The version that the database has; 0: none.
async fn version(link: &Link) -> Result<i64, Trouble> {
    #[derive(Deserialize)]
    struct Found {
        version: Option<i64>,
    }
    let text = "MATCH (s:LtmcSchema) RETURN max(s.version) AS version";
    let found: Vec<Found> =
        link.ask_unprepared("neo4j.schema", link.patience(), Statement::about_the_database(text)).await?;
    Ok(found.first().and_then(|found| found.version).unwrap_or(0))
}
