//! Names to addresses, a few at a time: the system's resolver holds a thread until it has an answer, also where nobody waits
//! for it any more, and the host's threads are needed by others.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;

use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::Semaphore;
use tower::Service;

/// Threads that look names up at once; the next ones wait for their turn, without one.
const AT_ONCE: usize = 4;

/// The system's resolver.
#[derive(Debug, Clone)]
pub struct Lookup {
    turns: Arc<Semaphore>,
}

impl Lookup {
    pub(crate) fn new() -> Self {
        // bound: lookups of names
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)) }
    }
}

impl Service<Name> for Lookup {
    type Response = vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let turns = self.turns.clone();
        Box::pin(async move {
            let turn = turns.acquire_owned().await.map_err(io::Error::other)?;
            let work = move || {
                let found = (name.as_str(), 0).to_socket_addrs();
                drop(turn);
                found
            };
            // bound: lookups of names
            tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn names_are_looked_up_in_turns() {
        let mut lookup = Lookup::new();
        let localhost = || "localhost".parse::<Name>().unwrap();
        assert!(lookup.call(localhost()).await.unwrap().all(|address| address.ip().is_loopback()));
        // As many as may be are under way and get no answer: the next one waits, and takes no thread for that.
        let held = lookup.turns.clone().acquire_many_owned(AT_ONCE as u32).await.unwrap();
        let mut waiting = lookup.call(localhost());
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut waiting).await.is_err());
        drop(held);
        assert!(waiting.await.unwrap().count() > 0);
        assert_eq!(lookup.turns.available_permits(), AT_ONCE);
    }
}
