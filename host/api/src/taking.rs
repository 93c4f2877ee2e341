//! Answers over HTTP/2 that their client does not take: each is given up by itself, whatever else goes over its connection.
//!
//! An HTTP/2 client says how much it takes of each answer, and may say nothing. What it is answered then waits in the host, and
//! the connection goes on: what holds for a socket that nobody reads (`wire.rs`) does not hold here.
//!
//! Invariants: an answer is handed out in small pieces, and is not over before the last of them has gone; of one that has a piece
//! waiting for `limits.write_stall` the stream is reset. A connection on which nothing else moves is closed with it.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use futures::task::AtomicWaker;
use hyper::body::{Frame, SizeHint};
use hyper::rt::Executor;
use tokio::time::{Instant, sleep_until};

use crate::crowd::{Busy, Connection, Untaken};

/// How much of an answer is handed out at once: a frame of HTTP/2.
const PIECE: usize = 16 << 10;

tokio::task_local! {
    /// Of the stream that a task serves; none over HTTP/1.1.
    static TAKING: Arc<Taking>;
}

/// What was handed out of a stream's answer, and has not gone yet.
#[derive(Debug)]
struct Taking {
    connection: Arc<Connection>,
    waits: Mutex<Waits>,
    all_taken: AtomicWaker,
}

#[derive(Debug)]
struct Waits {
    pieces: usize,
    /// Since when the oldest of them is the oldest.
    since: Instant,
}

impl Taking {
    fn of(connection: Arc<Connection>) -> Self {
        let waits = Mutex::new(Waits { pieces: 0, since: Instant::now() });
        Self { connection, waits, all_taken: AtomicWaker::new() }
    }

    /// Since when the client has taken nothing of what there is; none: there is nothing.
    fn waits_since(&self) -> Option<Instant> {
        let waits = self.waits();
        (waits.pieces > 0).then_some(waits.since)
    }

    /// A piece that waits until it is dropped, which the HTTP library does once it is written.
    fn hand_out(self: &Arc<Self>, bytes: Bytes) -> Bytes {
        struct Piece {
            bytes: Bytes,
            taking: Arc<Taking>,
        }
        impl AsRef<[u8]> for Piece {
            fn as_ref(&self) -> &[u8] {
                &self.bytes
            }
        }
        impl Drop for Piece {
            fn drop(&mut self) {
                self.taking.taken();
            }
        }
        let mut waits = self.waits();
        if waits.pieces == 0 {
            waits.since = Instant::now();
        }
        waits.pieces += 1;
        drop(waits);
        Bytes::from_owner(Piece { bytes, taking: self.clone() })
    }

    fn taken(&self) {
        let mut waits = self.waits();
        waits.pieces -= 1;
        waits.since = Instant::now();
        drop(waits);
        self.connection.took();
        self.all_taken.wake();
    }

    /// Ready once nothing waits.
    fn poll_all_taken(&self, cx: &Context<'_>) -> Poll<()> {
        self.all_taken.register(cx.waker());
        if self.waits_since().is_none() { Poll::Ready(()) } else { Poll::Pending }
    }

    fn waits(&self) -> MutexGuard<'_, Waits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the streams of one HTTP/2 connection run: each on a task, for as long as its client takes its answer.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    connection: Arc<Connection>,
    write_stall: Duration,
}

impl Streams {
    pub(crate) fn of(connection: &Arc<Connection>, write_stall: Duration) -> Self {
        Self { connection: connection.clone(), write_stall }
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let taking = Arc::new(Taking::of(self.connection.clone()));
        tokio::spawn(TAKING.scope(taking.clone(), while_taken(stream, taking, self.write_stall)));
    }
}

/// Serves a stream; drops it, which resets it, where its client does not take its answer.
async fn while_taken(stream: impl Future<Output = ()>, taking: Arc<Taking>, write_stall: Duration) {
    let mut stream = pin!(stream);
    let mut give_up = pin!(sleep_until(Instant::now()));
    let mut untaken: Option<Untaken> = None;
    let served = std::future::poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let Some(since) = taking.waits_since() else {
            untaken = None;
            return Poll::Pending;
        };
        untaken.get_or_insert_with(|| Untaken::begin(taking.connection.clone()));
        let at = since + write_stall;
        if give_up.deadline() != at {
            give_up.as_mut().reset(at);
        }
        ready!(give_up.as_mut().poll(cx));
        tracing::debug!("a client does not take its answer: its stream is reset");
        taking.connection.given_up(write_stall);
        Poll::Ready(())
    });
    served.await;
}

/// An answer's body, until it has gone: what its connection is busy with.
pub(crate) struct Answered {
    body: Body,
    /// Of the frame that came last, what is not handed out yet.
    rest: Bytes,
    taking: Option<Arc<Taking>>,
    _busy: Busy,
}

impl Answered {
    /// Made on the task that serves its stream.
    pub(crate) fn new(body: Body, busy: Busy) -> Self {
        // Of what is empty nothing is to be taken.
        let taking = TAKING.try_with(Arc::clone).ok().filter(|_| !body.is_end_stream());
        Self { body, rest: Bytes::new(), taking, _busy: busy }
    }
}

impl hyper::body::Body for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        let Some(taking) = &this.taking else { return Pin::new(&mut this.body).poll_frame(cx) };
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => this.rest = data,
                Some(Ok(Err(other))) => return Poll::Ready(Some(Ok(other))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return taking.poll_all_taken(cx).map(|()| None),
            }
        }
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(taking.hand_out(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.taking.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
