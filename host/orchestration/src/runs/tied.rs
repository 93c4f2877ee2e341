//! Calls that end with their client.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use ltmc_processor::Account;
use tokio::runtime::Handle;

use crate::supervise::{Live, Why};

/// A call that ends with its client. The client's own task drives it, which spares it a task and the way to that and back; where
/// the client goes away it is cancelled, and a task of the host's takes it to its end.
pub(super) struct Tied {
    pub(super) live: Arc<Live>,
    /// None: it ended.
    pub(super) driven: tokio::sync::Mutex<Option<BoxFuture<'static, ()>>>,
}

impl Tied {
    pub(super) fn new(live: Arc<Live>, driven: impl Future<Output = ()> + Send + 'static) -> Self {
        // What breaks in it ends the run, as it would on a task: its place says so to those who wait.
        let driven = AssertUnwindSafe(driven).catch_unwind().map(drop).boxed();
        Self { live, driven: tokio::sync::Mutex::new(Some(driven)) }
    }

    pub(super) async fn drive(&self) {
        let mut driven = self.driven.lock().await;
        if let Some(run) = driven.as_mut() {
            run.await;
            *driven = None;
        }
    }
}

impl Drop for Tied {
    fn drop(&mut self) {
        let Some(run) = self.driven.get_mut().take() else { return };
        if !self.live.has_ended() {
            self.live.stop(Why::Cancelled { by: None, reason: "the client went away".into() });
        }
        // Where there is no runtime any more, what is dropped here is found in the record by the next host.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(ltmc_processor::run(Account::of(&self.live.tenant), run));
        }
    }
}
