//! The graph in Neo4j: it follows the record, and answers what is asked of entities and facts. The only crate that knows
//! Cypher.
//!
//! Invariants: every statement names the tenant, and is put together from texts of this crate alone, so that what a guest
//! says is never more than a parameter. What is applied and how far it was told are one transaction. A connection on which
//! anything went wrong, or that somebody stopped waiting for, is closed and never used again; with it the server ends what
//! it was doing.
//!
//! - [`open`]: options, and what can be said of them without a server
//! - [`link`]: connections, time-outs; [`statement`]: how statements are made; [`schema`]: constraints, by version
//! - [`check`]: whether it can be used, and if not, what to change; [`error`]: what its errors mean
//! - [`projection`]: following the record; [`facts`], [`runs`] with [`origins`], [`mail`]: what is kept of each
//! - [`graph`]: what is asked of entities and facts; [`provenance`]: what is asked of runs
//!
//! | what | how it is kept |
//! | --- | --- |
//! | facts | `(:Entity {tenant, name})-[:FACT {tenant, id, relation, properties, valid_from, valid_to, recorded_at, ended_at}]->(:Entity)` |
//! | runs | `(:Run {tenant, id, …})-[:OF]->(:Agent or :Workflow {tenant, name})`, `(:Run)-[:HAS_STEP]->(:Step {tenant, run, path, …})-[:BY]->(:Agent)`, and `(:Step)-[:AFTER]->(:Step)` where one of two neighbours was over before the other began |
//! | where they come from | `(:Step)-[:BELOW]->(:Step)` up the tree, `(:Step)-[:NEEDS {at}]->(:Step)` whose output it works on, `(:Run)-[:BEGAN {step, planned}]->(:Run)`, `(:Run)-[:FORKED_FROM {at}]->(:Run)`, and `(:Run)-[:USED {tenant, agent, version, run}]->(:Version {tenant, agent, digest})-[:OF]->(:Agent)` |
//! | messages | `(:Agent)-[:SENT {tenant, key, id, type, at, state, …}]->(:Agent)`; those that are processed stay for a while, as history ([`Neo4j::trim`]) |
//! | how far it was told | `(:Applied {tenant, position})`; while a tenant is built for the first time, `(:Build {tenant})` |
//!
//! To keep something else: a file beside [`facts`], its lines in [`projection`], a migration in [`schema`].

mod check;
mod error;
mod facts;
mod graph;
mod link;
mod mail;
mod open;
mod origins;
mod projection;
mod provenance;
mod runs;
mod schema;
mod statement;

pub use error::Trouble;
pub use open::{Neo4j, OpenError, Options};
