//! A connection's bytes: gives up on a client that does not read its answer, and closes without cutting one off; tells the
//! connection what comes and goes; keeps from the HTTP library what can be read in two ways ([`crate::framing`]); and says in a
//! problem of our own what the library would only say in a status.
//!
//! A client that sends a whole request and then says that it sends nothing more gets its answer: its end is shown to the library
//! only then. One that has closed its connection altogether looks the same until something is written to it; so what is to end
//! with its client ends at once ([`Connection::half_closed`]).
//!
//! A socket that is closed while unread bytes wait in it is reset, and the reset can overtake the answer: a client that
//! sends 65 MiB where 64 are taken would never learn why. So, after its answer, the rest is read and thrown away for a while.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::http::StatusCode;
use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use crate::crowd::Connection;
use crate::edge;
use crate::framing::Framing;
use crate::limits::HttpLimits;
use crate::problem::Problem;

/// What the library gets in place of what is refused: whatever came before, it is no HTTP.
const REFUSED: &[u8] = b"\0\r\n\r\n";

/// How long to wait for the first byte that nobody will read, and for the next one.
const FIRST: Duration = Duration::from_millis(200);
const NEXT: Duration = Duration::from_secs(2);
/// How much is thrown away at most, and for how long.
const MOST: usize = 160 << 20;
const LONGEST: Duration = Duration::from_secs(20);

pub(crate) struct Wire {
    stream: TcpStream,
    connection: Arc<Connection>,
    write_stall: Duration,
    framing: Framing,
    refused: Option<Refused>,
    /// What is written in place of an answer of the library's own, as far as it is not written yet.
    own: Bytes,
    stalled: Option<Pin<Box<Sleep>>>,
    linger: Option<Linger>,
}

/// What came is refused: the library is to say so.
struct Refused {
    problem: Option<Problem>,
    to_read: &'static [u8],
}

struct Linger {
    patience: Pin<Box<Sleep>>,
    until: Instant,
    left: usize,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream, limits: &HttpLimits, connection: Arc<Connection>) -> Self {
        Self {
            stream,
            connection,
            write_stall: limits.write_stall,
            framing: Framing::new(limits.longest_head()),
            refused: None,
            own: Bytes::new(),
            stalled: None,
            linger: None,
        }
    }

    /// Looks at what came, which stands in `into` behind so many bytes, and takes away what is refused.
    fn look(&mut self, into: &mut ReadBuf<'_>, before: usize) {
        if let Err(wrong) = self.framing.look(&into.filled()[before..]) {
            into.set_filled(before + wrong.at);
            self.refused = Some(Refused { problem: Some(wrong.problem), to_read: REFUSED });
        }
    }

    /// What a write came to, given up where it has waited for too long.
    fn written(&mut self, cx: &mut Context<'_>, wrote: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.connection.wrote(wrote.is_pending());
        if wrote.is_ready() {
            self.stalled = None;
            return wrote;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.write_stall)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read its answer")))
    }

    /// Writes what is to be written in place of what the library wrote.
    fn write_own(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.own.is_empty() {
            let wrote = Pin::new(&mut self.stream).poll_write(cx, &self.own);
            let wrote = ready!(self.written(cx, wrote))?;
            if wrote == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.own.advance(wrote);
        }
        Poll::Ready(Ok(()))
    }

    /// Whether bytes are an answer of the library's own, to a head that it could not read: then ours is to be written.
    fn replaces(&mut self, bytes: &[u8]) -> bool {
        if !bytes.starts_with(b"HTTP/1.1 4") || self.connection.is_busy() {
            return false;
        }
        let Some(status) = status_alone(bytes) else { return false };
        let refused = self.refused.as_mut().and_then(|refused| refused.problem.take());
        self.own = refused.unwrap_or_else(|| edge::unreadable(status)).alone().into();
        true
    }
}

/// The status of an answer that is nothing but that.
fn status_alone(answer: &[u8]) -> Option<StatusCode> {
    let head = std::str::from_utf8(answer).ok()?.strip_suffix("\r\n\r\n")?;
    let (first, fields) = head.split_once("\r\n")?;
    let is_plain = |field: &str| {
        let name = field.split(':').next().unwrap_or_default();
        ["content-length", "connection", "date"].iter().any(|plain| name.eq_ignore_ascii_case(plain))
    };
    let is_empty = fields.split("\r\n").any(|field| field.eq_ignore_ascii_case("content-length: 0"));
    let is_alone = is_empty && fields.split("\r\n").all(is_plain);
    first.split(' ').nth(1).filter(|_| is_alone)?.parse().ok()
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = into.filled().len();
        if this.refused.is_none() {
            ready!(Pin::new(&mut this.stream).poll_read(cx, into))?;
            let is_end = into.filled().len() == before && into.remaining() > 0;
            if is_end && this.connection.is_busy() && this.framing.is_between_requests() {
                this.connection.half_closed().cancel();
                // It is read again once the answer is written.
                return Poll::Pending;
            }
            if !is_end {
                this.connection.read();
            }
            this.look(into, before);
        }
        match &mut this.refused {
            None => Poll::Ready(Ok(())),
            Some(Refused { to_read, .. }) if !to_read.is_empty() => {
                let (now, later) = to_read.split_at(to_read.len().min(into.remaining()));
                into.put_slice(now);
                *to_read = later;
                Poll::Ready(Ok(()))
            }
            // Nothing more comes of it: the library has what it needs to close the connection.
            Some(_) => Poll::Pending,
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.write_own(cx))?;
        if self.replaces(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, wrote)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.write_own(cx))?;
        if let [all] = bytes
            && self.replaces(all)
        {
            return Poll::Ready(Ok(all.len()));
        }
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.written(cx, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.write_own(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.linger.is_none() {
            ready!(this.write_own(cx))?;
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        let linger = this.linger.get_or_insert_with(|| Linger {
            patience: Box::pin(sleep(FIRST)),
            until: Instant::now() + LONGEST,
            left: MOST,
        });
        let mut scratch = [std::mem::MaybeUninit::uninit(); 16 << 10];
        loop {
            let mut into = ReadBuf::uninit(&mut scratch);
            match Pin::new(&mut this.stream).poll_read(cx, &mut into) {
                Poll::Ready(Ok(())) if !into.filled().is_empty() => {
                    linger.left = linger.left.saturating_sub(into.filled().len());
                    if linger.left == 0 {
                        return Poll::Ready(Ok(()));
                    }
                    linger.patience.as_mut().reset((Instant::now() + NEXT).min(linger.until));
                }
                // The client has closed as well, or is gone.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    ready!(linger.patience.as_mut().poll(cx));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_the_librarys_own_is_told_from_every_other() {
        let own = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\ndate: Sun, 29 Nov 2026 12:00:00 GMT\r\n\r\n";
        assert_eq!(status_alone(own).unwrap(), 400);
        let own = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(status_alone(own).unwrap(), 431);
        for other in [
            &b"HTTP/1.1 404 Not Found\r\nx-request-id: a-1\r\ncontent-length: 0\r\n\r\n"[..],
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}",
            b"HTTP/1.1 400 Bad Request\r\ncontent-length: 10\r\n\r\n",
            b"HTTP/1.1 4",
        ] {
            assert_eq!(status_alone(other), None);
        }
    }
}
