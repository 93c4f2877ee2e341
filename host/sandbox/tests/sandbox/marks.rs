//! Only what this host wrote is loaded as a component's code; whatever else stands there is compiled anew.

use std::path::PathBuf;
use std::sync::Arc;

use ltmc_model::Digest;
use ltmc_model::limits::Limits;
use ltmc_sandbox::{Compiler, Sandbox, SandboxConfig};

use super::{NoHost, Rig, command, job};

/// The file of a component's artifact.
fn artifact(rig: &Rig, component: &Digest) -> PathBuf {
    let of_this_wasmtime = std::fs::read_dir(rig.dir.path().join("artifacts")).unwrap().next().unwrap().unwrap().path();
    of_this_wasmtime.join(format!("{}.cwasm", component.hex()))
}

/// The same directory, by a host that starts: it has nothing in memory.
fn anew(rig: &Rig, compiler: Compiler) -> Arc<Sandbox> {
    Sandbox::new(SandboxConfig::new(rig.dir.path(), compiler)).unwrap()
}

async fn call(sandbox: &Sandbox, component: Digest) -> bool {
    use ltmc_ports::runner::Runner as _;
    sandbox.run(job("acme", component, Limits::default()), Arc::new(NoHost)).await.0.is_ok()
}

/// One ends well, the other traps: whose code it is that runs shows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_artifact_that_was_exchanged_is_compiled_anew() {
    let rig = Rig::new(1, |_| ());
    let (good, bad) = (rig.push(&command("")).await.unwrap(), rig.push(&command("unreachable")).await.unwrap());
    let (mine, others) = (artifact(&rig, &good), artifact(&rig, &bad));
    let written = std::fs::read(&mine).unwrap();
    let mark = |path: &PathBuf| path.with_extension("mark");
    type Exchange<'a> = &'a dyn Fn();
    let exchanges: [Exchange<'_>; 4] = [
        &|| {
            std::fs::copy(&others, &mine).unwrap();
        },
        &|| {
            std::fs::copy(&others, &mine).unwrap();
            std::fs::copy(mark(&others), mark(&mine)).unwrap();
        },
        &|| {
            let mut bytes = written.clone();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(&mine, bytes).unwrap();
        },
        &|| std::fs::remove_file(mark(&mine)).unwrap(),
    ];
    for (number, exchange) in exchanges.into_iter().enumerate() {
        exchange();
        assert!(call(&anew(&rig, Compiler::InProcess), good).await, "{number}: it runs its own code");
        assert_eq!(std::fs::read(&mine).unwrap(), written, "{number}: it was compiled anew");
        assert!(!call(&anew(&rig, Compiler::InProcess), bad).await, "{number}: and so does the other");
    }
}

/// A compiler that cannot compile says whether anything had to be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_artifact_with_its_mark_is_loaded_as_it_is_and_one_without_its_key_is_not() {
    let rig = Rig::new(1, |_| ());
    let good = rig.push(&command("")).await.unwrap();
    let none = || Compiler::Child { exe: "/bin/false".into(), args: Vec::new() };
    assert!(call(&anew(&rig, none()), good).await, "nothing was compiled");
    std::fs::remove_file(rig.dir.path().join("artifacts.key")).unwrap();
    assert!(!call(&anew(&rig, none()), good).await, "whoever has no key has no artifacts");
    assert!(call(&anew(&rig, Compiler::InProcess), good).await);
}

/// However many of a tenant's calls find no artifact, one of them has it made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_compiled_again_is_compiled_once_for_all_who_wait() {
    let rig = Rig::new(1, |_| ());
    let good = rig.push(&command("")).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    std::fs::rename(artifact(&rig, &good), dir.path().join("saved")).unwrap();
    // It gives what was compiled before, and takes its time for it.
    let script = format!(
        "cd {}; echo begun >> begun; sleep 1; cp saved \"$2\"; printf '{{\"Compiled\":{{\"exports\":[],\"imports\":[],\"manifest\":null}}}}'",
        dir.path().display()
    );
    let args = ["-c", &script, "sh"].map(std::ffi::OsString::from);
    let sandbox = anew(&rig, Compiler::Child { exe: "/bin/sh".into(), args: args.into() });
    let ended = super::in_time(futures::future::join_all((0..8).map(|_| call(&sandbox, good)))).await;
    assert!(ended.iter().all(|ended| *ended), "{ended:?}");
    let begun = std::fs::read_to_string(dir.path().join("begun")).unwrap();
    assert_eq!(begun.lines().count(), 1);
}
