//! Bodies of requests: bounded in size, in time, and in what all of them hold together.
//!
//! Invariants: nothing is read before its key was found good and its role large enough; no body is held beyond its route's
//! bound; every byte beyond the first few is counted as it comes, whatever form the body has, against what its tenant and its
//! key may hold; a body that stands still or trickles is given up. A body that came in one piece is not copied.

use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures::Stream;
use ltmc_model::KeyId;
use ltmc_model::caller::Caller;
use ltmc_tenancy::Pot;
use ltmc_tenancy::pot::{Full, Share};
use tokio::time::{Instant, Sleep};

use crate::limits::HttpLimits;
use crate::problem::{Problem, Result};

/// A body of less is not counted: connections and their streams are bounded, and so is the sum of these.
const UNCOUNTED: u64 = 4 << 10;
/// So much of each body has a room of its own: small ones find a place while large ones fill theirs.
const SMALL: u64 = 64 << 10;
/// How fast a body must come that holds more than that, where more than half of the room for these is taken.
const RATE_WHERE_SCARCE: u64 = 64 << 10;

/// What all the bodies under way may hold together.
#[derive(Debug)]
pub(crate) struct Bodies {
    /// For what each begins with.
    small: Room,
    /// For the rest.
    large: Room,
}

/// So many bytes: tenants divide them, and a key has at most a quarter, or one body.
#[derive(Debug)]
struct Room {
    tenants: Pot,
    keys: Pot<KeyId>,
}

/// What a body has of a room.
#[derive(Debug)]
struct Place {
    tenant: Share,
    key: Share<KeyId>,
}

impl Bodies {
    pub(crate) fn new(limits: &HttpLimits) -> Arc<Self> {
        let small = (limits.connections as u64).saturating_mul(SMALL);
        let largest = limits.upload.max(limits.payload);
        Arc::new(Self { small: Room::new(small, SMALL), large: Room::new(limits.bodies, largest) })
    }
}

impl Room {
    fn new(most: u64, largest: u64) -> Self {
        // bound: bodies
        Self { tenants: Pot::divided(most), keys: Pot::new(most, (most / 4).max(largest)) }
    }

    fn place(&self, caller: &Caller) -> Place {
        Place { tenant: self.tenants.share(&caller.tenant), key: self.keys.share(&caller.key) }
    }

    fn is_scarce(&self) -> bool {
        self.tenants.out() > self.tenants.most() / 2
    }
}

impl Place {
    fn take_more(&mut self, bytes: u64) -> std::result::Result<(), Full> {
        self.key.take_more(bytes)?;
        self.tenant.take_more(bytes)
    }
}

/// What one body holds of the room there is; given back when the last handle is dropped, which is to be when the request is over.
#[derive(Debug, Clone)]
pub(crate) struct Held(Arc<Mutex<Holding>>);

#[derive(Debug)]
struct Holding {
    bodies: Arc<Bodies>,
    caller: Caller,
    bytes: u64,
    small: Option<Place>,
    large: Option<Place>,
}

impl Held {
    fn new(bodies: &Arc<Bodies>, caller: &Caller) -> Self {
        let holding = Holding { bodies: bodies.clone(), caller: caller.clone(), bytes: 0, small: None, large: None };
        Self(Arc::new(Mutex::new(holding)))
    }

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

    /// Holds so many bytes in all; whether it is among those that are to hurry.
    fn grow(&self, bytes: u64) -> Result<bool> {
        let mut holding = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        holding.grow(bytes).map_err(|full| {
            let why = match full {
                Full::Own => {
                    "The bodies of this key, or of this tenant, take up all the memory there is for one of them."
                }
                Full::All => "The bodies of requests take up all the memory there is for them.",
            };
            Problem::busy(format!("{why} Come back in a moment."), Duration::from_secs(1))
        })?;
        Ok(holding.large.is_some() && holding.bodies.large.is_scarce())
    }
}

impl Holding {
    fn grow(&mut self, bytes: u64) -> std::result::Result<(), Full> {
        let Self { bodies, caller, bytes: held, small, large } = self;
        let before = std::mem::replace(held, bytes.max(*held));
        if bytes <= UNCOUNTED || bytes <= before {
            return Ok(());
        }
        // Where it was not counted yet, all of it is now.
        let before = if small.is_some() { before } else { 0 };
        small.get_or_insert_with(|| bodies.small.place(caller)).take_more(bytes.min(SMALL) - before.min(SMALL))?;
        if bytes > SMALL {
            large.get_or_insert_with(|| bodies.large.place(caller)).take_more(bytes - before.max(SMALL))?;
        }
        Ok(())
    }
}

/// A body as it comes in, held to its bounds.
#[derive(Debug)]
pub(crate) struct Incoming {
    body: Body,
    limit: u64,
    seen: u64,
    held: Held,
    stall: Option<Pin<Box<Sleep>>>,
    pace: Pace,
}

/// How fast it comes: in every window of time it must have come far enough, however fast it came before.
#[derive(Debug, Clone, Copy)]
struct Pace {
    stall: Duration,
    window: Duration,
    rate: u64,
    /// When this window began, and how much had come by then.
    since: Instant,
    seen: u64,
}

impl Pace {
    fn of(limits: &HttpLimits) -> Self {
        let HttpLimits { body_stall: stall, body_window: window, body_rate: rate, .. } = *limits;
        Self { stall, window, rate, since: Instant::now(), seen: 0 }
    }

    /// Whether it keeps pace, now that so much has come; `hurry`: it is to come faster.
    fn keeps(&mut self, seen: u64, hurry: bool) -> bool {
        let took = self.since.elapsed();
        if took < self.window {
            return true;
        }
        let rate = if hurry { self.rate.max(RATE_WHERE_SCARCE) } else { self.rate };
        let came = seen - self.seen;
        (self.since, self.seen) = (Instant::now(), seen);
        came >= rate.saturating_mul(took.as_secs())
    }
}

impl Incoming {
    /// Of this caller. Refuses at once what says itself that it is too large.
    pub(crate) fn new(
        headers: &HeaderMap,
        body: Body,
        limit: u64,
        limits: &HttpLimits,
        held: (&Arc<Bodies>, &Caller),
    ) -> Result<Self> {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > limit) {
            return Err(too_large(limit));
        }
        Ok(Self { body, limit, seen: 0, held: Held::new(held.0, held.1), stall: None, pace: Pace::of(limits) })
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
        Ok((whole, self.held))
    }

    /// What it holds, and will hold, to be kept for as long as what was read is.
    pub(crate) fn held(&self) -> Held {
        self.held.clone()
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
        let hurry = self.seen > UNCOUNTED && self.held.grow(self.seen)?;
        if !self.pace.keeps(self.seen, hurry) {
            let why = "The body came too slowly: less of it than is asked for came within the last seconds.";
            return Err(slow(why));
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
    use ltmc_model::caller::Role;

    use super::*;

    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;

    fn caller(tenant: &str, key: &str) -> Caller {
        let key = format!("{:a>12}", format!("{tenant}{key}"));
        Caller { tenant: tenant.parse().unwrap(), key: key.parse().unwrap(), role: Role::Author, cause: None }
    }

    fn incoming_of(caller: &Caller, body: Body, limits: &HttpLimits, bodies: &Arc<Bodies>) -> Incoming {
        Incoming::new(&HeaderMap::new(), body, limits.upload, limits, (bodies, caller)).unwrap()
    }

    fn incoming(body: Body, limits: &HttpLimits) -> Incoming {
        incoming_of(&caller("acme", "k"), body, limits, &Bodies::new(limits))
    }

    fn chunks(sizes: &[u64]) -> Body {
        let chunk = |size: &u64| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; usize::try_from(*size).unwrap()]));
        Body::from_stream(stream::iter(sizes.iter().map(chunk).collect::<Vec<_>>()))
    }

    /// So much, and then nothing more.
    fn unfinished(size: u64) -> Body {
        Body::from_stream(chunks(&[size]).into_data_stream().chain(stream::pending()))
    }

    /// A chunk of this size in every second.
    fn trickle(size: usize) -> Body {
        let chunks = stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some(((), ()))
        });
        Body::from_stream(chunks.map(move |()| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; size]))))
    }

    fn status(result: Result<(Bytes, Held)>) -> u16 {
        result.unwrap_err().status().as_u16()
    }

    /// A body that comes to its end or is given up, in paused time: one that would be waited for for ever fails its test.
    async fn read(incoming: Incoming) -> Result<(Bytes, Held)> {
        let longest = Duration::from_secs(60 * 60);
        tokio::time::timeout(longest, incoming.whole()).await.expect("it ends, or is given up")
    }

    fn out(bodies: &Bodies) -> u64 {
        let room = |room: &Room| {
            assert_eq!(room.keys.out(), room.tenants.out());
            room.tenants.out()
        };
        room(&bodies.small) + room(&bodies.large)
    }

    #[tokio::test]
    async fn bytes_that_are_passed_on_count_until_the_last_who_has_them_lets_go() {
        let limits = HttpLimits::default();
        let bodies = Bodies::new(&limits);
        let body = incoming_of(&caller("acme", "k"), chunks(&[3 * KIB, 2 * SMALL]), &limits, &bodies);
        let (read, held) = body.whole().await.unwrap();
        let (passed_on, part) = (held.around(read), 10..20);
        let part = passed_on.slice(part);
        drop(passed_on);
        assert_eq!((out(&bodies), part.as_ref()), (2 * SMALL + 3 * KIB, [b'x'; 10].as_slice()));
        drop(part);
        assert_eq!(out(&bodies), 0);
    }

    #[tokio::test]
    async fn a_body_comes_whole_and_in_one_piece_without_a_copy() {
        let limits = HttpLimits::default();
        let one = Bytes::from_static(b"one");
        let (read, _) = incoming(Body::from(one.clone()), &limits).whole().await.unwrap();
        assert_eq!(read.as_ptr(), one.as_ptr());
        let (read, _) = incoming(chunks(&[3, 0, 4]), &limits).whole().await.unwrap();
        assert_eq!(read, "xxxxxxx");
        let (read, _) = incoming(Body::empty(), &limits).whole().await.unwrap();
        assert_eq!(read, "");
    }

    #[tokio::test]
    async fn a_body_is_held_to_its_size_said_or_not() {
        let limits = HttpLimits { upload: 10, ..HttpLimits::default() };
        assert_eq!(status(incoming(chunks(&[6, 5]), &limits).whole().await), 413);
        let said = HeaderMap::from_iter([(header::CONTENT_LENGTH, 11.into())]);
        let (bodies, caller) = (Bodies::new(&limits), caller("acme", "k"));
        let refused = Incoming::new(&said, chunks(&[]), limits.upload, &limits, (&bodies, &caller)).unwrap_err();
        assert_eq!(refused.status(), 413);
        assert!(incoming(chunks(&[6, 4]), &limits).whole().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_a_tenant_and_all_bodies_are_held_to_their_shares_and_small_ones_always_pass() {
        let limits = HttpLimits { upload: 4 * MIB, bodies: 32 * MIB, ..HttpLimits::default() };
        let bodies = Bodies::new(&limits);
        let large =
            |tenant: &str, key: &str| incoming_of(&caller(tenant, key), chunks(&[4 * MIB]), &limits, &bodies).whole();
        let mut kept = vec![large("acme", "k").await.unwrap(), large("acme", "k").await.unwrap()];
        assert_eq!(status(large("acme", "k").await), 429, "a key has a quarter");
        kept.push(large("acme", "l").await.unwrap());
        assert_eq!(status(large("acme", "m").await), 429, "a tenant has three eighths where it is alone");
        kept.push(large("beta", "k").await.unwrap());
        kept.push(large("gamma", "k").await.unwrap());
        let small = incoming_of(&caller("acme", "k"), chunks(&[30 * KIB, 30 * KIB]), &limits, &bodies);
        assert!(small.whole().await.is_ok(), "of whoever has all its share, too");
        let fair = incoming_of(&caller("delta", "k"), chunks(&[MIB]), &limits, &bodies);
        assert!(fair.whole().await.is_ok(), "something is left for the next tenant");
        drop(kept);
        assert_eq!(out(&bodies), 0);
        assert!(large("acme", "k").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn small_bodies_of_one_tenant_leave_room_for_those_of_others() {
        let limits = HttpLimits { connections: 16, ..HttpLimits::default() };
        let bodies = Bodies::new(&limits);
        let small =
            |tenant: &str, key: &str| incoming_of(&caller(tenant, key), chunks(&[SMALL]), &limits, &bodies).whole();
        let mut kept = Vec::new();
        for (key, most) in [("k", 4), ("l", 2)] {
            for _ in 0..most {
                kept.push(small("acme", key).await.unwrap());
            }
            assert_eq!(status(small("acme", key).await), 429);
        }
        assert_eq!(status(small("acme", "m").await), 429);
        assert!(small("beta", "k").await.is_ok());
        let tiny = incoming_of(&caller("acme", "k"), chunks(&[UNCOUNTED]), &limits, &bodies);
        assert!(tiny.whole().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_form_holds_is_counted_while_it_comes() {
        let limits = HttpLimits::default();
        let bodies = Bodies::new(&limits);
        let mut form = incoming_of(&caller("acme", "k"), unfinished(10 * MIB), &limits, &bodies);
        let held = form.held();
        let first = tokio::time::timeout(Duration::from_secs(60 * 60), form.next()).await.expect("it is there");
        assert!(first.unwrap().is_ok());
        assert_eq!(out(&bodies), 10 * MIB);
        drop(form);
        assert_eq!(out(&bodies), 10 * MIB, "what was read of it is still there");
        drop(held);
        assert_eq!(out(&bodies), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_or_trickles_is_given_up() {
        let limits = HttpLimits::default();
        let begun = Instant::now();
        assert_eq!(status(read(incoming(unfinished(1), &limits)).await), 408);
        assert_eq!(begun.elapsed().as_secs(), limits.body_stall.as_secs());
        let begun = Instant::now();
        assert_eq!(status(read(incoming(trickle(1), &limits)).await), 408);
        assert!(begun.elapsed() <= limits.body_window + limits.body_stall);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_fast_is_no_credit_for_what_comes_slowly() {
        let limits = HttpLimits::default();
        let begun = Instant::now();
        let fast = chunks(&[4 * MIB]).into_data_stream();
        let body = Body::from_stream(fast.chain(trickle(1).into_data_stream()));
        assert_eq!(status(read(incoming(body, &limits)).await), 408);
        assert!(begun.elapsed() <= 2 * limits.body_window + limits.body_stall, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn where_room_is_scarce_large_bodies_are_to_hurry() {
        let limits = HttpLimits { upload: 20 * MIB, bodies: 64 * MIB, ..HttpLimits::default() };
        let bodies = Bodies::new(&limits);
        let slowly = |tenant: &str| {
            let rate = usize::try_from(RATE_WHERE_SCARCE / 2).unwrap();
            let body = chunks(&[MIB]).into_data_stream().chain(trickle(rate).into_data_stream().take(60));
            read(incoming_of(&caller(tenant, "k"), Body::from_stream(body), &limits, &bodies))
        };
        assert!(slowly("acme").await.is_ok());
        let large =
            |tenant: &str, mib| incoming_of(&caller(tenant, "k"), chunks(&[mib * MIB]), &limits, &bodies).whole();
        let _kept = [large("beta", 20).await.unwrap(), large("gamma", 20).await.unwrap()];
        assert_eq!(status(slowly("acme").await), 408);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_the_clients_fault() {
        let limits = HttpLimits::default();
        let broken = Body::from_stream(chunks(&[1]).into_data_stream().chain(stream::once(async {
            Err(axum::Error::new(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)))
        })));
        assert_eq!(status(incoming(broken, &limits).whole().await), 400);
    }
}
