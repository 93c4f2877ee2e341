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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use axum::http::HeaderMap;
    use futures::future;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::crowd::{Crowd, Present};

    const STALL: Duration = Duration::from_secs(10);

    fn present() -> Present {
        Crowd::new(16).enter([192, 0, 2, 1].into())
    }

    /// An answer, as the task of an HTTP/2 stream makes it.
    fn answered(connection: &Arc<Connection>, body: Body) -> (Answered, Arc<Taking>) {
        let taking = Arc::new(Taking::of(connection.clone()));
        let busy = Busy::begin(connection.clone(), true);
        (TAKING.sync_scope(taking.clone(), || Answered::new(body, busy)), taking)
    }

    fn poll(body: &mut Answered) -> Poll<Option<Bytes>> {
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let frame = hyper::body::Body::poll_frame(Pin::new(body), cx);
        frame.map(|frame| frame.map(|frame| frame.unwrap().into_data().unwrap()))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_handed_out_in_pieces_and_is_over_once_all_of_them_have_gone() {
        let connection = present();
        let (mut body, taking) = answered(&connection, Body::from(vec![b'x'; 2 * PIECE + 1]));
        let mut pieces = Vec::new();
        while let Poll::Ready(Some(piece)) = poll(&mut body) {
            pieces.push(piece);
        }
        assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [PIECE, PIECE, 1]);
        assert!(poll(&mut body).is_pending() && !hyper::body::Body::is_end_stream(&body), "all of them wait");
        let begun = Instant::now();
        assert_eq!(taking.waits_since(), Some(begun));
        tokio::time::advance(Duration::from_secs(3)).await;
        // A part of a piece is none.
        let part = pieces[0].split_to(5);
        pieces.remove(0);
        assert_eq!(taking.waits_since(), Some(begun));
        drop(part);
        assert_eq!(taking.waits_since(), Some(begun + Duration::from_secs(3)), "the next one is the oldest since then");
        assert!(poll(&mut body).is_pending());
        drop(pieces);
        assert_eq!(taking.waits_since(), None);
        assert!(matches!(poll(&mut body), Poll::Ready(None)));
        assert!(connection.is_busy(), "until the library has dropped it");
        drop(body);
        assert!(!connection.is_busy());
    }

    #[tokio::test]
    async fn of_an_answer_that_is_empty_nothing_is_to_be_taken() {
        let connection = present();
        let (body, taking) = answered(&connection, Body::empty());
        assert!(hyper::body::Body::is_end_stream(&body) && taking.waits_since().is_none());
    }

    #[tokio::test]
    async fn trailers_and_answers_over_http1_pass_as_they_are() {
        let connection = present();
        let mut fields = HeaderMap::new();
        fields.insert("x-end", "1".parse().unwrap());
        let trailers = Body::new(Body::from("data").with_trailers(future::ready(Some(Ok(fields.clone())))));
        let (mut body, _) = answered(&connection, trailers);
        assert!(matches!(poll(&mut body), Poll::Ready(Some(data)) if data == "data"));
        let last = body.frame().await.unwrap().unwrap();
        assert_eq!(last.into_trailers().unwrap(), fields);
        assert!(matches!(poll(&mut body), Poll::Ready(None)));
        // Not on a stream's task.
        let mut body = Answered::new(Body::from(vec![b'x'; 3 * PIECE]), Busy::begin(connection.clone(), false));
        let Poll::Ready(Some(all)) = poll(&mut body) else { panic!("it is there") };
        assert_eq!(all.len(), 3 * PIECE);
        assert!(hyper::body::Body::is_end_stream(&body));
    }

    /// A stream on its task, that says when it is dropped.
    fn stream(connection: &Arc<Connection>) -> (Arc<Taking>, Arc<AtomicBool>) {
        struct Told(Arc<AtomicBool>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let dropped = Arc::new(AtomicBool::new(false));
        let (told, taking) = (Told(dropped.clone()), Arc::new(Taking::of(connection.clone())));
        let at = taking.clone();
        let serves = async move {
            let _told = told;
            // As a stream is looked at when anything of its connection moves.
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::spawn(while_taken(serves, at, STALL));
        (taking, dropped)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_given_up_where_a_piece_waits_for_too_long_and_not_before() {
        let connection = present();
        let _others = [Busy::begin(connection.clone(), true), Busy::begin(connection.clone(), true)];
        let (taking, dropped) = stream(&connection);
        tokio::time::sleep(2 * STALL).await;
        assert!(!dropped.load(Ordering::SeqCst), "nothing waits");
        let mut pieces: Vec<Bytes> = (0..3).map(|_| taking.hand_out(Bytes::from_static(b"x"))).collect();
        for _ in 0..2 {
            tokio::time::sleep(STALL * 9 / 10).await;
            assert!(!dropped.load(Ordering::SeqCst), "some of it is taken now and then");
            pieces.pop();
        }
        tokio::time::sleep(STALL + Duration::from_secs(1)).await;
        assert!(dropped.load(Ordering::SeqCst), "the last piece waits for too long");
        assert!(!connection.gone().is_cancelled(), "another request of it is under way");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_else_moves_goes_with_its_last_stream() {
        let connection = present();
        let _busy = [Busy::begin(connection.clone(), true), Busy::begin(connection.clone(), true)];
        let streams = [stream(&connection), stream(&connection)];
        let pieces = streams.each_ref().map(|(taking, _)| taking.hand_out(Bytes::from_static(b"x")));
        tokio::time::sleep(STALL + Duration::from_secs(1)).await;
        assert!(streams.iter().all(|(_, dropped)| dropped.load(Ordering::SeqCst)));
        assert!(connection.gone().is_cancelled());
        drop(pieces);
    }
}
