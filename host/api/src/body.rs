//! Bodies of requests: bounded in size, in time, and in what all of them hold together.
//!
//! Invariants: nothing is read before its key was found good; no body is held beyond its route's bound; a body that
//! stands still or trickles is given up. A body that came in one piece is not copied.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures::Stream;
use tokio::time::{Instant, Sleep};

use crate::limits::HttpLimits;
use crate::problem::{Problem, Result};

/// A body of less is not counted: connections are bounded, and so is their sum.
const UNCOUNTED: u64 = 64 << 10;

/// What all the bodies under way hold together.
#[derive(Debug)]
pub(crate) struct Budget {
    held: AtomicU64,
    most: u64,
}

impl Budget {
    pub(crate) fn new(most: u64) -> Arc<Self> {
        Arc::new(Self { held: AtomicU64::new(0), most })
    }
}

/// One body's part of the budget; given back when it is dropped, which is to be when the request is over.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Held {
    /// The bytes that were read, which count until the last who has them lets them go.
    pub(crate) fn around(self, bytes: Bytes) -> Bytes {
        struct Counted {
            bytes: Bytes,
            _held: Held,
        }
        impl AsRef<[u8]> for Counted {
            fn as_ref(&self) -> &[u8] {
                &self.bytes
            }
        }
        Bytes::from_owner(Counted { bytes, _held: self })
    }

    fn grow(&mut self, by: u64) -> Result<()> {
        let before = self.budget.held.fetch_add(by, Ordering::Relaxed);
        self.bytes += by;
        if before + by <= self.budget.most {
            return Ok(());
        }
        let why = "Other requests' bodies take up all the memory there is for them; come back in a moment.";
        Err(Problem::busy(why, Duration::from_secs(1)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A body as it comes in, held to its bounds.
#[derive(Debug)]
pub(crate) struct Incoming {
    body: Body,
    limit: u64,
    seen: u64,
    held: Option<Held>,
    started: Instant,
    stall: Option<Pin<Box<Sleep>>>,
    pace: Pace,
}

#[derive(Debug, Clone, Copy)]
struct Pace {
    stall: Duration,
    grace: Duration,
    rate: u64,
}

impl Incoming {
    /// Refuses at once what says itself that it is too large.
    pub(crate) fn new(
        headers: &HeaderMap,
        body: Body,
        limit: u64,
        limits: &HttpLimits,
        budget: &Arc<Budget>,
    ) -> Result<Self> {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > limit) {
            return Err(too_large(limit));
        }
        Ok(Self {
            body,
            limit,
            seen: 0,
            held: Some(Held { budget: budget.clone(), bytes: 0 }),
            started: Instant::now(),
            stall: None,
            pace: Pace { stall: limits.body_stall, grace: limits.body_grace, rate: limits.body_rate.max(1) },
        })
    }

    /// All of it.
    pub(crate) async fn whole(mut self) -> Result<(Bytes, Held)> {
        let mut next = async || std::future::poll_fn(|cx| self.poll_data(cx)).await.transpose();
        let first = next().await?.unwrap_or_default();
        let whole = match next().await? {
            None => first,
            Some(second) => {
                let mut whole = BytesMut::from(first);
                whole.extend_from_slice(&second);
                while let Some(data) = next().await? {
                    whole.extend_from_slice(&data);
                }
                whole.freeze()
            }
        };
        let held = self.held.take().ok_or_else(|| Problem::internal("a body was read twice"))?;
        Ok((whole, held))
    }

    /// The budget's part, to be kept for as long as what was read is.
    pub(crate) fn held(&mut self) -> Option<Held> {
        self.held.take()
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes>>> {
        loop {
            if self.body.is_end_stream() {
                return Poll::Ready(None);
            }
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.pace.stall)));
                    ready!(pin!(stall).poll(cx));
                    return Poll::Ready(Some(Err(slow("The body stood still for too long."))));
                }
            };
            self.stall = None;
            return Poll::Ready(match frame {
                None => None,
                Some(Err(_)) => Some(Err(Problem::new("bad-body", "The body broke off before it was whole."))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => Some(self.took(&data).map(|()| data)),
                    // trailers say nothing here
                    Err(_) => continue,
                },
            });
        }
    }

    fn took(&mut self, data: &Bytes) -> Result<()> {
        self.seen += data.len() as u64;
        if self.seen > self.limit {
            return Err(too_large(self.limit));
        }
        if self.seen > UNCOUNTED
            && let Some(held) = &mut self.held
        {
            held.grow(self.seen - held.bytes)?;
        }
        let late = self.started.elapsed().saturating_sub(self.pace.grace);
        if late > Duration::ZERO && self.seen / self.pace.rate < late.as_secs() {
            return Err(slow("The body came too slowly."));
        }
        Ok(())
    }
}

/// For readers that take a stream, such as that of forms.
impl Stream for Incoming {
    type Item = Result<Bytes, Interrupted>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_data(cx).map_err(Interrupted)
    }
}

/// A problem on its way through somebody else's error type.
#[derive(Debug, thiserror::Error)]
#[error("the body was not read to its end")]
pub(crate) struct Interrupted(pub(crate) Problem);

pub(crate) fn too_large(limit: u64) -> Problem {
    Problem::new("too-large", format!("The body is larger than {limit} bytes, which is all this route takes."))
}

fn slow(why: &'static str) -> Problem {
    Problem::new("slow-body", why)
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use futures::stream;

    use super::*;

    fn incoming(body: Body, limits: &HttpLimits, budget: &Arc<Budget>) -> Incoming {
        Incoming::new(&HeaderMap::new(), body, limits.payload, limits, budget).unwrap()
    }

    fn chunks(sizes: &[usize]) -> Body {
        let chunks: Vec<_> = sizes.iter().map(|size| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; *size]))).collect();
        Body::from_stream(stream::iter(chunks))
    }

    fn status(result: Result<(Bytes, Held)>) -> u16 {
        result.unwrap_err().status().as_u16()
    }

    #[tokio::test]
    async fn bytes_that_are_passed_on_count_until_the_last_who_has_them_lets_go() {
        let limits = HttpLimits::default();
        let budget = Budget::new(limits.bodies);
        let size = usize::try_from(2 * UNCOUNTED).unwrap();
        let (read, held) = incoming(chunks(&[size]), &limits, &budget).whole().await.unwrap();
        let (passed_on, part) = (held.around(read), 10..20);
        let part = passed_on.slice(part);
        drop(passed_on);
        assert_eq!((budget.held.load(Ordering::Relaxed), part.as_ref()), (2 * UNCOUNTED, [b'x'; 10].as_slice()));
        drop(part);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_body_comes_whole_and_in_one_piece_without_a_copy() {
        let limits = HttpLimits::default();
        let budget = Budget::new(limits.bodies);
        let one = Bytes::from_static(b"one");
        let (read, _) = incoming(Body::from(one.clone()), &limits, &budget).whole().await.unwrap();
        assert_eq!(read.as_ptr(), one.as_ptr());
        let (read, _) = incoming(chunks(&[3, 0, 4]), &limits, &budget).whole().await.unwrap();
        assert_eq!(read, "xxxxxxx");
        let (read, _) = incoming(Body::empty(), &limits, &budget).whole().await.unwrap();
        assert_eq!(read, "");
    }

    #[tokio::test]
    async fn a_body_is_held_to_its_size_said_or_not() {
        let limits = HttpLimits { payload: 10, ..HttpLimits::default() };
        let budget = Budget::new(limits.bodies);
        assert_eq!(status(incoming(chunks(&[6, 5]), &limits, &budget).whole().await), 413);
        let said = HeaderMap::from_iter([(header::CONTENT_LENGTH, 11.into())]);
        let refused = Incoming::new(&said, chunks(&[]), limits.payload, &limits, &budget).unwrap_err();
        assert_eq!(refused.status(), 413);
        assert!(incoming(chunks(&[6, 4]), &limits, &budget).whole().await.is_ok());
    }

    #[tokio::test]
    async fn all_bodies_together_are_held_to_the_budget_and_give_it_back() {
        let limits = HttpLimits { bodies: 200 << 10, ..HttpLimits::default() };
        let budget = Budget::new(limits.bodies);
        let large = || incoming(chunks(&[60 << 10, 60 << 10]), &limits, &budget).whole();
        let first = large().await.unwrap();
        assert_eq!(budget.held.load(Ordering::Relaxed), 120 << 10);
        assert_eq!(status(large().await), 429);
        assert!(incoming(chunks(&[30 << 10]), &limits, &budget).whole().await.is_ok(), "small ones always pass");
        drop(first);
        assert_eq!(budget.held.load(Ordering::Relaxed), 0);
        assert!(large().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_or_trickles_is_given_up() {
        let limits = HttpLimits::default();
        let budget = Budget::new(limits.bodies);
        let begun = Instant::now();
        let still = Body::from_stream(chunks(&[1]).into_data_stream().chain(stream::pending()));
        assert_eq!(status(incoming(still, &limits, &budget).whole().await), 408);
        assert_eq!(begun.elapsed().as_secs(), limits.body_stall.as_secs());

        let begun = Instant::now();
        let trickle = Body::from_stream(stream::unfold((), async |()| {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), ()))
        }));
        assert_eq!(status(incoming(trickle, &limits, &budget).whole().await), 408);
        assert!(begun.elapsed() <= limits.body_grace + limits.body_stall);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_the_clients_fault() {
        let limits = HttpLimits::default();
        let budget = Budget::new(limits.bodies);
        let broken = Body::from_stream(chunks(&[1]).into_data_stream().chain(stream::once(async {
            Err(axum::Error::new(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)))
        })));
        assert_eq!(status(incoming(broken, &limits, &budget).whole().await), 400);
    }
}
