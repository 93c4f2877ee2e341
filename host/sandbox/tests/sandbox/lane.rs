//! Components are compiled one after the other, and tenants take turns.

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use ltmc_ports::runner::{AdmitError, Components as _};
use ltmc_sandbox::{Compiler, Sandbox, SandboxConfig};

use super::{Rig, command};

/// A compiler that takes as long as the file `go` is not there, writes down whose turn it was, and refuses everything: what
/// a component is of stands in the last byte of its code.
fn slow(dir: &Path) -> Compiler {
    let dir = dir.display();
    let script = format!(
        "echo begun >> {dir}/begun; while [ ! -e {dir}/go ]; do sleep 0.01; done; \
         grep -a -o 'of-[a-z]*-[0-9]*' \"$1\" >> {dir}/order; exit 4"
    );
    let args = ["-c", &script, "sh"].map(OsString::from);
    Compiler::Child { exe: "/bin/sh".into(), args: args.into() }
}

/// A tenant's component with this number.
fn component(tenant: &str, number: usize) -> String {
    command("").replace("(core module $guest", &format!("(core module $guest (@custom \"of-{tenant}-{number}\" \"\")"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tenants_take_turns_at_the_compiler_and_each_has_so_many_waiting() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(1, |config| config.compiler = slow(dir.path()));
    let (rig, read) = (std::sync::Arc::new(rig), |name: &str| std::fs::read_to_string(dir.path().join(name)));
    let push = |tenant: &'static str, number: usize| {
        let rig = rig.clone();
        tokio::spawn(async move { rig.push_as(tenant, &component(tenant, number)).await })
    };
    // One is being compiled, and eight wait.
    let mut pushed = vec![push("crowd", 0)];
    while read("begun").is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for number in 1..12 {
        pushed.push(push("crowd", number));
    }
    let refused = loop {
        let over = pushed.iter().position(tokio::task::JoinHandle::is_finished);
        if let Some(over) = over {
            break pushed.remove(over).await.unwrap().unwrap_err();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let AdmitError::Busy { message } = &refused else { panic!("{refused:?}") };
    assert!(message.contains("8 components of this tenant wait"), "{message}");
    while pushed.iter().filter(|one| one.is_finished()).count() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(parts(&rig), 1, "what waits for its turn is not written yet, nor is what was refused");
    // Another tenant's is the next one, however many of the crowd's wait.
    let other = push("other", 0);
    while rig.sandbox.stats().compiling_queued < 9 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    std::fs::write(dir.path().join("go"), "").unwrap();
    assert!(matches!(other.await.unwrap(), Err(AdmitError::Failed { .. })), "the compiler refuses everything");
    for one in pushed {
        assert!(one.await.unwrap().is_err());
    }
    let order = read("order").unwrap();
    let order: Vec<&str> = order.lines().collect();
    assert_eq!((order[0], order[1], order.len()), ("of-crowd-0", "of-other-0", 10), "{order:?}");
    until_no_parts(&rig).await;
}

/// How many components are written and not whole.
fn parts(rig: &Rig) -> usize {
    let names = std::fs::read_dir(rig.dir.path().join("components")).unwrap();
    names.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|end| end == "part")).count()
}

async fn until_no_parts(rig: &Rig) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while parts(rig) > 0 {
        assert!(Instant::now() < deadline, "{} are left", parts(rig));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_nobody_waits_for_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let rig = std::sync::Arc::new(Rig::new(1, |config| config.compiler = slow(dir.path())));
    let pusher = rig.clone();
    let pushed = tokio::spawn(async move { pusher.push_as("acme", &component("acme", 0)).await });
    while !dir.path().join("begun").exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(parts(&rig), 1);
    pushed.abort();
    until_no_parts(&rig).await;
}

#[tokio::test]
async fn what_a_killed_host_left_is_gone_when_another_begins() {
    let dir = tempfile::tempdir().unwrap();
    let begin = || Sandbox::new(SandboxConfig::new(dir.path(), Compiler::InProcess)).unwrap();
    let sandbox = begin();
    let wasm = wat::parse_str(command("")).unwrap();
    sandbox.admit(&"acme".parse().unwrap(), wasm.into()).await.unwrap();
    drop(sandbox);
    let artifacts = std::fs::read_dir(dir.path().join("artifacts")).unwrap().next().unwrap().unwrap().path();
    let left = [dir.path().join("components/.7-0.part"), artifacts.join(".7-1.part"), artifacts.join(".7-1.mark")];
    for path in &left {
        std::fs::write(path, "half of it").unwrap();
    }
    let _sandbox = begin();
    assert!(left.iter().all(|path| !path.exists()));
    let kept = |path: &Path| std::fs::read_dir(path).unwrap().count();
    assert_eq!((kept(&dir.path().join("components")), kept(&artifacts)), (1, 2), "an artifact has its mark beside it");
}
