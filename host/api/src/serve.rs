//! The listener: connections, their bounds, and their orderly end. The only place of the host that touches a socket.
//!
//! Invariants: connections are bounded in number, a head in size and time, an idle connection in patience, an answer that
//! nobody reads in time. Once the host is to stop, nothing new is taken, and what is under way has `drain` to end.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use crate::limits::HttpLimits;
use crate::wire::Wire;

/// Patience with idle connections once three of four are taken.
const SCARCE: Duration = Duration::from_secs(2);

/// With every request: fires when the host is to stop, so that answers without an end can end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Closing(pub(crate) CancellationToken);

/// Serves until `shutdown` fires and what was under way has ended.
///
/// # Errors
/// Where the listener itself cannot go on.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: CancellationToken,
    limits: HttpLimits,
) -> io::Result<()> {
    let house = Arc::new(House {
        router,
        room: Arc::new(Semaphore::new(limits.connections)),
        shutdown: shutdown.clone(),
        abort: CancellationToken::new(),
        connections: metrics::gauge!("ltmc_http_connections"),
        limits,
    });
    metrics::describe_gauge!("ltmc_http_connections", "Connections open");
    let tasks = TaskTracker::new();
    while let Some((stream, permit)) = house.next(&listener).await {
        tasks.spawn(house.clone().connection(stream, permit));
    }
    drop(listener);
    tasks.close();
    if timeout(house.limits.drain, tasks.wait()).await.is_err() {
        tracing::warn!(connections = tasks.len(), "some requests did not end in time and are cut off");
        house.abort.cancel();
        tasks.wait().await;
    }
    Ok(())
}

/// What all connections share.
struct House {
    router: Router,
    room: Arc<Semaphore>,
    shutdown: CancellationToken,
    abort: CancellationToken,
    connections: metrics::Gauge,
    limits: HttpLimits,
}

impl House {
    /// The next connection, as soon as there is room for it; none: the host is to stop.
    async fn next(&self, listener: &TcpListener) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        let stop = self.shutdown.cancelled();
        let next = async {
            let permit = self.room.clone().acquire_owned().await.ok()?;
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => return Some((stream, permit)),
                    Err(error) if is_the_connections(&error) => {}
                    Err(error) => {
                        // Most likely out of file descriptors: that passes when connections end.
                        tracing::warn!(%error, "no connection can be taken; trying again");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = stop => None,
            next = next => next,
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let _open = Open::new(&self.connections);
        if let Err(error) = self.converse(stream).await {
            tracing::debug!(%error, "a connection broke off");
        }
        drop(permit);
    }

    async fn converse(&self, stream: TcpStream) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        // An answer is written whole: to wait for more would only delay it.
        stream.set_nodelay(true)?;
        let activity = Arc::new(Activity::new());
        let service = service_fn({
            let activity = activity.clone();
            move |mut request: hyper::Request<Incoming>| {
                let busy = Busy::begin(activity.clone());
                request.extensions_mut().insert(Closing(self.shutdown.clone()));
                let answer = self.router.clone().call(request);
                async move {
                    let answer: Result<_, Infallible> = answer.await;
                    drop(busy);
                    answer
                }
            }
        });
        let builder = self.builder();
        let mut conversation =
            pin!(builder.serve_connection(TokioIo::new(Wire::new(stream, self.limits.write_stall)), service));
        let mut stopping = false;
        let mut look_at = Instant::now() + self.patience(&activity);
        loop {
            tokio::select! {
                ended = conversation.as_mut() => return ended,
                () = self.abort.cancelled() => return Ok(()),
                () = self.shutdown.cancelled(), if !stopping => stopping = true,
                () = sleep_until(look_at), if !stopping => {
                    let patience = self.patience(&activity);
                    stopping = activity.idle().is_some_and(|idle| idle >= patience);
                    look_at = Instant::now() + patience.saturating_sub(activity.idle().unwrap_or_default()).min(SCARCE);
                }
            }
            if stopping {
                conversation.as_mut().graceful_shutdown();
            }
        }
    }

    /// How long this connection may be idle.
    fn patience(&self, activity: &Activity) -> Duration {
        let scarce = self.room.available_permits() < self.limits.connections / 4;
        match activity.requests.load(Ordering::Relaxed) {
            _ if scarce => SCARCE.min(self.limits.idle),
            0 => self.limits.head_time,
            _ => self.limits.idle,
        }
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_time.max(self.limits.idle))
            .max_buf_size(self.limits.head.max(8 << 10));
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(self.limits.head).unwrap_or(u32::MAX))
            .max_concurrent_streams(64)
            .keep_alive_interval(self.limits.idle)
            .keep_alive_timeout(self.limits.head_time);
        builder
    }
}

/// Whether `accept` failed for the one connection only.
fn is_the_connections(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// A connection that counts as open, however it ends.
struct Open(metrics::Gauge);

impl Open {
    fn new(connections: &metrics::Gauge) -> Self {
        connections.increment(1);
        Self(connections.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// What a connection is at.
struct Activity {
    opened: Instant,
    requests: AtomicU64,
    under_way: AtomicU32,
    /// When the last one ended, in milliseconds from `opened`.
    last: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        Self {
            opened: Instant::now(),
            requests: AtomicU64::new(0),
            under_way: AtomicU32::new(0),
            last: AtomicU64::new(0),
        }
    }

    /// For how long there has been no request; none: there is one.
    fn idle(&self) -> Option<Duration> {
        if self.under_way.load(Ordering::Acquire) > 0 {
            return None;
        }
        Some(self.opened.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed))))
    }
}

/// A request under way, even where it is dropped half-way.
struct Busy(Arc<Activity>);

impl Busy {
    fn begin(activity: Arc<Activity>) -> Self {
        activity.requests.fetch_add(1, Ordering::Relaxed);
        activity.under_way.fetch_add(1, Ordering::AcqRel);
        Self(activity)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let last = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last.store(last, Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}
