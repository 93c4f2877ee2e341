//! The listener: connections, their bounds, and their orderly end. The only place of the host that touches a socket.
//!
//! Invariants: connections are bounded in number, and divided among those who have them ([`crate::crowd`]); a head in size and in
//! time, as the wire counts it; an idle connection in patience, an answer that nobody reads in time ([`crate::wire`], and over
//! HTTP/2 [`crate::taking`]). Where connections get scarce
//! those without a key go first. Once the host is to stop, nothing new is taken, and what is under way has `drain` to end.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use crate::crowd::{Busy, Connection, Crowd, Waits};
use crate::limits::HttpLimits;
use crate::taking::{Answered, Streams};
use crate::wire::Wire;

/// Patience with idle connections once three of four are taken.
const SCARCE: Duration = Duration::from_secs(2);
/// How long a connection that is to end, and has no request under way, is given to end by itself.
const GRACE: Duration = Duration::from_secs(1);
/// Requests of one connection at once, where HTTP/2 lets it have several.
const STREAMS: u32 = 32;
/// What the HTTP library may read of a head beyond the longest: it is our framing that says of one that it is too long.
const BEYOND: usize = 1 << 10;
/// Bytes of bodies that one connection may have sent, and nobody has read yet; and of answers that it has not read yet, a
/// stream.
const WINDOW: u32 = 256 << 10;
const UNSENT: usize = 64 << 10;

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
        // bound: connections
        room: Arc::new(Semaphore::new(limits.connections)),
        crowd: Crowd::new(limits.connections),
        shutdown: shutdown.clone(),
        abort: CancellationToken::new(),
        connections: metrics::gauge!("ltmc_http_connections"),
        limits,
    });
    metrics::describe_gauge!("ltmc_http_connections", "Connections open");
    let tasks = TaskTracker::new();
    while let Some((stream, address, permit)) = house.next(&listener).await {
        tasks.spawn(house.clone().connection(stream, address, permit));
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
    crowd: Arc<Crowd>,
    shutdown: CancellationToken,
    abort: CancellationToken,
    connections: metrics::Gauge,
    limits: HttpLimits,
}

impl House {
    /// The next connection, once there is room for it; none: the host is to stop.
    async fn next(&self, listener: &TcpListener) -> Option<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
        let stop = self.shutdown.cancelled();
        let next = async {
            let (stream, address) = loop {
                match listener.accept().await {
                    Ok((stream, address)) => break (stream, address.ip()),
                    Err(error) if is_the_connections(&error) => {}
                    Err(error) => {
                        // Most likely out of file descriptors: that passes when connections end.
                        tracing::warn!(%error, "no connection can be taken; trying again");
                        self.crowd.dismiss_one();
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            };
            if self.room.available_permits() == 0 {
                self.crowd.dismiss_one();
            }
            let permit = self.room.clone().acquire_owned().await.ok()?;
            Some((stream, address, permit))
        };
        tokio::select! {
            biased;
            () = stop => None,
            next = next => next,
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, address: IpAddr, permit: OwnedSemaphorePermit) {
        let _open = Open::new(&self.connections);
        let present = self.crowd.enter(address);
        if let Err(error) = self.converse(stream, &present).await {
            tracing::debug!(%error, "a connection broke off");
        }
        drop(present);
        drop(permit);
    }

    async fn converse(
        &self,
        stream: TcpStream,
        connection: &Arc<Connection>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        // An answer is written whole: to wait for more would only delay it.
        stream.set_nodelay(true)?;
        let service = service_fn(|mut request: hyper::Request<Incoming>| {
            let busy = Busy::begin(connection.clone(), request.version() == hyper::Version::HTTP_2);
            request.extensions_mut().insert(Closing(self.shutdown.clone()));
            request.extensions_mut().insert(connection.clone());
            let answer = self.router.clone().call(request);
            async move {
                let answer: Result<_, Infallible> = answer.await;
                answer.map(|answer| answer.map(|body| Answered::new(body, busy)))
            }
        });
        let builder = self.builder(connection);
        let wire = Wire::new(stream, &self.limits, connection.clone());
        let mut conversation = pin!(builder.serve_connection(TokioIo::new(wire), service));
        let mut stopping = false;
        // Once it is to end, and has no request under way: when it is cut off.
        let mut cut_at = None;
        let mut look_at = Instant::now() + self.limits.head_time.min(SCARCE);
        loop {
            tokio::select! {
                ended = conversation.as_mut() => return ended,
                () = self.abort.cancelled() => return Ok(()),
                () = connection.gone().cancelled() => return Ok(()),
                () = self.shutdown.cancelled(), if !stopping => stopping = true,
                () = sleep_until(look_at) => {
                    let (now, waits) = (Instant::now(), connection.waits());
                    let left = waits.map(|waits| self.time_left(connection, &waits));
                    let grace = waits.map_or(GRACE, |waits| grace(&waits));
                    look_at = now + match left {
                        None => {
                            cut_at = None;
                            SCARCE
                        }
                        Some(left) if !stopping && left > Duration::ZERO => left.min(SCARCE),
                        Some(_) => {
                            stopping = true;
                            let cut_at = *cut_at.get_or_insert(now + grace);
                            if cut_at <= now {
                                return Ok(());
                            }
                            (cut_at - now).min(SCARCE)
                        }
                    };
                }
            }
            if stopping {
                conversation.as_mut().graceful_shutdown();
            }
        }
    }

    /// How long this connection may go on waiting for a request.
    fn time_left(&self, connection: &Connection, waits: &Waits) -> Duration {
        let left = self.patience(connection, waits).saturating_sub(waits.idle);
        waits.head.map_or(left, |head| left.min(self.limits.head_time.saturating_sub(head)))
    }

    /// How long this connection may be idle.
    fn patience(&self, connection: &Connection, waits: &Waits) -> Duration {
        let patience = match waits.is_first || !connection.is_known() {
            true => self.limits.head_time,
            false => self.limits.idle,
        };
        let scarce = self.room.available_permits() < self.limits.connections / 4;
        if scarce { patience.min(SCARCE) } else { patience }
    }

    fn builder(&self, connection: &Arc<Connection>) -> auto::Builder<Streams> {
        let mut builder = auto::Builder::new(Streams::of(connection, self.limits.write_stall));
        // How long a head may take is counted by the wire.
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_buf_size(self.limits.longest_head() + BEYOND);
        builder
            .http2()
            .timer(TokioTimer::new())
            // What is larger than `head` is refused with a problem. What is far larger the library answers 431 by itself, without
            // a body: it keeps nothing of such a head, and asks nobody.
            .max_header_list_size(u32::try_from(self.limits.head.saturating_mul(2)).unwrap_or(u32::MAX))
            .max_concurrent_streams(STREAMS)
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .max_send_buf_size(UNSENT)
            .keep_alive_interval(self.limits.idle)
            .keep_alive_timeout(self.limits.head_time);
        builder
    }
}

/// How long a connection that is to end is given to end by itself.
fn grace(waits: &Waits) -> Duration {
    // Nothing is being answered.
    if waits.is_first || waits.head.is_some() { Duration::ZERO } else { GRACE }
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
