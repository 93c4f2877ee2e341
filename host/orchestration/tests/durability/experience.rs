//! What was learned from runs that are over: agents that met a need are nearer to one like it, and workflows that are alike are found.
//! The same whether it was learned as it happened or read from the record.

use std::time::Duration;

use ltmc_model::Payload;
use ltmc_model::failure::Code;
use ltmc_model::journal::{Candidate, Decided, Event};
use ltmc_model::run::State;
use serde_json::json;

use crate::host::{Answer, Host, Request, World, caller, in_paused_time};
use crate::patterns::scripts;

const FLOWS: &str = "name: taught\nflow: {need: frobnicate the blue widgets, among: [a], at-least: 0}\n---\n\
    name: asked\nflow: {need: frobnicate some widgets, among: [a, b], at-least: 0.2}\n---\n\
    name: other\nflow: {need: translate a letter, among: [a, b], at-least: 0.2}\n---\n\
    name: in-vain\nflow: {need: frobnicate the red widgets, among: [bad], at-least: 0}";

async fn run(host: &Host, workflow: &'static str) -> Answer {
    let request = Request { input: Payload::json(&json!(1)), key: None, ..Request::workflow(workflow) };
    let started = host.start(&request).await.unwrap();
    let ended = host.runs.wait(&caller(), &started, None).await.unwrap().unwrap();
    // What is over is learned a moment later.
    tokio::time::sleep(Duration::from_millis(10)).await;
    let page =
        host.runs.list(&caller(), ltmc_ports::journal::RunFilter { limit: 1, ..Default::default() }).await.unwrap();
    assert_eq!(page[0].id, started.run);
    ended
}

/// Those that were looked at in the newest run.
async fn candidates(host: &Host) -> Vec<Candidate> {
    let filter = ltmc_ports::journal::RunFilter { limit: 1, ..Default::default() };
    let newest = host.runs.list(&caller(), filter).await.unwrap()[0].id;
    let journal = host.journal(newest).await;
    journal
        .into_iter()
        .find_map(|placed| match placed.entry.event {
            Event::NodeDecided { decided: Decided::Agent { candidates, .. }, .. } => Some(candidates),
            _ => None,
        })
        .unwrap()
}

#[test]
fn who_met_a_need_is_nearer_to_one_like_it_as_long_as_the_record_tells() {
    in_paused_time(async {
        let world = World::new(scripts());
        let record = world.record(Some(FLOWS)).await;
        let first = world.host(&record, []);
        assert_eq!(run(&first, "asked").await.unwrap_err().code, Code::NoCandidate, "nobody is near by name alone");
        // One that fails has met nothing.
        run(&first, "in-vain").await.unwrap_err();
        assert_eq!(run(&first, "asked").await.unwrap_err().code, Code::NoCandidate);
        run(&first, "taught").await.unwrap();
        // Learned as it happened, and read from the record by another host.
        for host in [&first, &world.host(&record, [])] {
            run(host, "asked").await.unwrap();
            let candidates = candidates(host).await;
            let best = &candidates[0];
            assert_eq!(best.agent.as_str(), "a");
            let similar = best.similar_tasks.unwrap();
            assert!(similar > 0.3 && similar <= 1.0 && best.score > best.likeness, "{candidates:?}");
            assert_eq!(candidates[1].similar_tasks, None, "{candidates:?}");
            assert_eq!(run(host, "other").await.unwrap_err().code, Code::NoCandidate, "it is another need");
        }
    });
}

#[test]
fn workflows_that_were_run_are_found_by_what_they_are_about() {
    in_paused_time(async {
        let world = World::new(scripts());
        let record = world.record(Some(FLOWS)).await;
        let first = world.host(&record, []);
        assert_eq!(first.runs.similar(&caller(), "frobnicate the blue widgets", 10).await.unwrap(), []);
        run(&first, "taught").await.unwrap();
        run(&first, "taught").await.unwrap();
        run(&first, "in-vain").await.unwrap_err();
        for host in [&first, &world.host(&record, [])] {
            let found = host.runs.similar(&caller(), "frobnicate the blue widgets", 10).await.unwrap();
            let told: Vec<_> =
                found.iter().map(|one| (one.workflow.as_str(), one.state, one.runs, one.completed)).collect();
            assert_eq!(told, [("taught", State::Completed, 2, 2), ("in-vain", State::Failed, 1, 0)]);
            assert!(found[0].similarity > found[1].similarity && found[0].ended_at < found[1].ended_at);
            assert_eq!(
                host.runs.similar(&caller(), "frobnicate the red widgets", 1).await.unwrap()[0].workflow.as_str(),
                "in-vain"
            );
        }
    });
}
