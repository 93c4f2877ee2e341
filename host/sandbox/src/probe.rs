//! Tries the path of a call, for whoever asks whether the host is ready: a slot, an instance of a component that does
//! nothing, a thread for files. Each answers within a bound, or is said not to.

use std::time::Duration;

use ltmc_model::TenantId;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};
use wasmtime::{Engine, Store};

use crate::Sandbox;

/// What was tried, and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// `guests`: a slot and an instance; `files`: a thread for files.
    pub name: &'static str,
    /// Whether calls can be served.
    pub ok: bool,
    /// What is wrong, or, where it is well enough to serve, what is degraded.
    pub detail: Option<String>,
}

/// The component that does nothing:
/// `(component (core module (memory 1) (func (export "f"))) (core instance (instantiate 0))
/// (func (export "f") (canon lift (core func 0 "f"))))`.
const NOTHING: &[u8] = b"\0asm\x0d\0\x01\0\
    \x01$\0asm\x01\0\0\0\x01\x04\x01`\0\0\x03\x02\x01\0\x05\x03\x01\0\x01\x07\x05\x01\x01f\0\0\x0a\x04\x01\x02\0\x0b\
    \x02\x04\x01\0\0\0\x07\x05\x01@\0\x01\0\x06\x07\x01\0\0\x01\0\x01f\x08\x06\x01\0\0\0\0\0\x0b\x07\x01\0\x01f\x01\0\0";

/// The component, ready to run.
pub(crate) struct Nothing {
    pre: InstancePre<()>,
    function: ComponentExportIndex,
}

impl Nothing {
    pub(crate) fn new(engine: &Engine) -> wasmtime::Result<Self> {
        let component = Component::new(engine, NOTHING)?;
        let function = component.get_export_index(None, "f");
        let function = function.ok_or_else(|| wasmtime::format_err!("the component that does nothing has no `f`"))?;
        Ok(Self { pre: Linker::new(engine).instantiate_pre(&component)?, function })
    }

    async fn run(&self, engine: &Engine) -> wasmtime::Result<()> {
        let mut store = Store::new(engine, ());
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let instance = self.pre.instantiate_async(&mut store).await?;
        instance.get_typed_func::<(), ()>(&mut store, &self.function)?.call_async(&mut store, ()).await
    }
}

/// Tries everything at once; takes about `patience` at most.
pub(crate) async fn tried(sandbox: &Sandbox, patience: Duration) -> Vec<Tried> {
    let (guests, files) = tokio::join!(guests(sandbox, patience), files(sandbox, patience));
    vec![guests, files]
}

async fn guests(sandbox: &Sandbox, patience: Duration) -> Tried {
    let tried = |problem: Option<String>| Tried { name: "guests", ok: problem.is_none(), detail: problem };
    let (host, slots) = (TenantId::host(), &sandbox.slots.admission);
    let slot = match tokio::time::timeout(patience, slots.enter(&host, 1)).await {
        Ok(Ok(slot)) => slot,
        Ok(Err(_)) => return tried(Some("as many calls wait for a slot as may wait".to_owned())),
        Err(_) => {
            let (running, queued) = slots.counts();
            return tried(Some(format!("no slot came free within {patience:?}: {running} calls run, {queued} wait")));
        }
    };
    let ran = tokio::time::timeout(patience, sandbox.nothing.run(sandbox.engine.engine())).await;
    drop(slot);
    tried(match ran {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            tracing::warn!(error = format!("{error:#}"), "a component that does nothing did not run");
            Some("a component that does nothing did not run".to_owned())
        }
        Err(_) => Some(format!("a component that does nothing did not end within {patience:?}")),
    })
}

async fn files(sandbox: &Sandbox, patience: Duration) -> Tried {
    let ok = sandbox.room.threads.answer(patience).await;
    let busy = sandbox.room.threads.busy();
    let (threads, working, blocked) = (busy.threads, busy.working, busy.blocked);
    let detail = match (ok, blocked) {
        (true, 0) => None,
        (true, _) => Some(format!(
            "degraded: a file system does not answer, and holds {blocked} of the {threads} threads for agents' files"
        )),
        (false, _) => Some(format!(
            "no thread for agents' files came free within {patience:?}: {working} of {threads} are taken, {blocked} by a \
             file system that does not answer"
        )),
    };
    Tried { name: "files", ok, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_what_its_text_says() {
        let text = "(component (core module (memory 1) (func (export \"f\"))) (core instance (instantiate 0))
                    (func (export \"f\") (canon lift (core func 0 \"f\"))))";
        let bytes = wat::parse_str(text).unwrap();
        assert_eq!(NOTHING, bytes, "{}", bytes.escape_ascii());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_slot_that_does_not_come_free_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = crate::SandboxConfig::new(dir.path(), crate::Compiler::InProcess);
        (config.slots, config.queue_length) = (1, 1);
        let sandbox = Sandbox::new(config).unwrap();
        let good = sandbox.try_out(Duration::from_secs(20)).await;
        assert!(good.iter().all(|tried| tried.ok && tried.detail.is_none()), "{good:?}");
        let tenant = "busy".parse().unwrap();
        let held = sandbox.slots.admission.enter(&tenant, 1).await.unwrap();
        let [guests, files] = &sandbox.try_out(Duration::from_millis(50)).await[..] else { panic!("two are tried") };
        assert!(!guests.ok && files.ok);
        assert_eq!(guests.detail.as_deref(), Some("no slot came free within 50ms: 1 calls run, 0 wait"));
        drop(held);
        assert!(sandbox.try_out(Duration::from_secs(20)).await.iter().all(|tried| tried.ok));
    }
}
