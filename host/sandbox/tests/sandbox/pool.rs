//! wasmtime's pool of instances has for every call that is admitted what a component may need at most.

use std::sync::Arc;
use std::time::Duration;

use ltmc_model::failure::Code;
use ltmc_model::limits::Limits;
use ltmc_ports::runner::{AdmitError, Job, Runner as _};

use super::{Rig, in_time};

/// A command that runs for ever, of so many core instances, memories and tables.
fn component(instances: usize, memories: usize, tables: usize) -> String {
    let more = |of: &str, many: usize| format!("(core instance (instantiate ${of}))").repeat(many);
    let (memories, tables, empty) =
        (more("memory", memories - 1), more("table", tables - 1), more("empty", instances + 1 - memories - tables));
    format!(
        r#"(component
             (core module $guest (memory 1) (table 10 funcref)
               (func (export "run") (result i32) (loop $again (br $again)) (i32.const 0)))
             (core module $memory (memory 1))
             (core module $table (table 10 funcref))
             (core module $empty)
             {memories} {tables} {empty}
             (core instance $guest (instantiate $guest))
             (func $run (result (result)) (canon lift (core func $guest "run")))
             (instance $exported (export "run" (func $run)))
             (export "wasi:cli/run@0.2.6" (instance $exported)))"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_slot_can_have_the_largest_component_there_is() {
    let rig = Rig::new(8, |config| config.queue_deadline = Duration::from_secs(60));
    let largest = rig.push(&component(32, 2, 8)).await.unwrap();
    // Each runs until its CPU time is over: all are there at once, and one more waits for its turn.
    let limits = || Limits { cpu: Duration::from_millis(300), wall: Duration::from_secs(60), ..Limits::default() };
    let tenants: Vec<_> = (0..9).map(|number| format!("tenant-{number}")).collect();
    let calls = tenants.iter().map(|tenant| rig.call(tenant, largest, limits()));
    for ended in futures::future::join_all(calls).await {
        let failure = ended.unwrap_err();
        assert_eq!(failure.code, Code::LimitCpu, "{failure}");
    }
}

#[tokio::test]
async fn a_component_that_needs_more_than_a_call_may_have_is_not_taken() {
    let rig = Rig::new(1, |config| config.max_memory = 1 << 20);
    let cases = [
        (component(33, 1, 1), "33 core module instances", "32 core instances"),
        (component(3, 3, 1), "3 Wasm linear memories", "2 memories"),
        (component(9, 1, 9), "9 tables", "8 tables"),
        (component(1, 1, 1).replace("(memory 1)", "(memory 17)"), "1114112", "1048576 bytes each"),
        (component(1, 1, 1).replace("(table 10 ", "(table 20001 "), "20001", "20000 elements each"),
    ];
    for (text, needs, bound) in cases {
        let refused = rig.push(&text).await.unwrap_err();
        let AdmitError::Refused { code, message } = &refused else { panic!("{refused:?}") };
        assert_eq!(*code, "needs-too-much", "{message}");
        assert!(message.contains(needs) && message.contains(bound), "{message}");
    }
    // Up to the bound it is taken.
    rig.push(&component(32, 2, 8)).await.unwrap();
    rig.push(&component(1, 1, 1).replace("(memory 1)", "(memory 16)")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_busy_is_told_whose_bound_it_was() {
    let rig = Rig::new(2, |config| config.queue_deadline = Duration::from_millis(200));
    let component = rig.push(&component(1, 1, 1)).await.unwrap();
    let limits = || Limits { cpu: Duration::from_secs(2), wall: Duration::from_secs(60), ..Limits::default() };
    let call = async |tenant: &str, concurrency| {
        let job = Job { concurrency, ..super::job(tenant, component, limits()) };
        in_time(rig.sandbox.run(job, Arc::new(super::NoHost))).await.0.unwrap_err()
    };
    let later = async |tenant: &str, concurrency| {
        tokio::time::sleep(Duration::from_millis(500)).await;
        call(tenant, concurrency).await
    };
    let (_, own) = tokio::join!(call("acme", 1), later("acme", 1));
    assert!(own.code == Code::Busy && own.message.contains("1 calls run at once (`concurrency`)"), "{own}");
    let (_, _, host) = tokio::join!(call("acme", 9), call("beta", 9), later("gamma", 9));
    assert!(host.code == Code::Busy && host.message.contains("`sandbox.slots`"), "{host}");
}
