//! The routes, a file for each noun. A handler parses, calls one use case, and writes out what it gave.

mod agents;
mod approvals;
mod audit;
mod call;
mod cascade;
mod ceilings;
mod context;
mod databases;
mod events;
mod grants;
mod graph;
mod keys;
mod memory;
mod messages;
mod operations;
mod provenance;
mod recall;
mod recovery;
mod runs;
mod schedules;
mod sessions;
mod similar;
mod states;
mod subscriptions;
mod tenants;
mod transactions;
mod watch;
mod workflows;

pub(crate) use events::Watchers;
use utoipa_axum::router::OpenApiRouter;

use crate::app::Api;
use crate::problem::Problem;

/// All of them.
pub(crate) fn routes() -> OpenApiRouter<Api> {
    [
        operations::routes(),
        agents::routes(),
        grants::routes(),
        states::routes(),
        call::routes(),
        workflows::routes(),
        schedules::routes(),
        subscriptions::routes(),
        cascade::routes(),
        sessions::routes(),
        similar::routes(),
        runs::routes(),
        approvals::routes(),
        recovery::routes(),
        provenance::routes(),
        events::routes(),
        memory::routes(),
        watch::routes(),
        graph::routes(),
        recall::routes(),
        messages::routes(),
        transactions::routes(),
        tenants::routes(),
        keys::routes(),
        ceilings::routes(),
        audit::routes(),
        databases::routes(),
    ]
    .into_iter()
    .fold(OpenApiRouter::default(), OpenApiRouter::merge)
}

pub(crate) async fn no_route() -> Problem {
    Problem::new("no-route", "There is no such route; `/openapi.json` lists them all.")
}

pub(crate) async fn wrong_method() -> Problem {
    Problem::new("method-not-allowed", "This route does not take this method; `Allow` says which it takes.")
}
