//! Who is connected: how many at once, from where, with whose keys; and who goes first where room gets scarce.
//!
//! Invariants: a connection that has brought no good key is a stranger. Strangers have half of the room at most, those of one
//! address a quarter, and where another comes it is the one that has been there longest who goes: whoever comes and says at
//! once what he wants finds a place. Of the connections with keys a tenant has as many as it leaves for others, and a key a
//! quarter.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ltmc_model::KeyId;
use ltmc_model::caller::Caller;
use ltmc_tenancy::Pot;
use ltmc_tenancy::pot::Share;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::problem::{Problem, Result};

/// Fewer connections than so many are not divided any further: a client has several.
const LEAST: usize = 16;

/// All connections.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// How many are divided.
    most: usize,
    next: AtomicU64,
    strangers: AtomicUsize,
    /// In the order in which they came.
    present: Mutex<BTreeMap<u64, Arc<Connection>>>,
    tenants: Pot,
    keys: Pot<KeyId>,
}

/// One of them, as its wire and its requests know it.
#[derive(Debug)]
pub(crate) struct Connection {
    peer: Peer,
    opened: Instant,
    requests: AtomicU64,
    under_way: AtomicU32,
    /// Of these, how many have an answer that their client is to take, over HTTP/2.
    untaken: AtomicU32,
    is_http2: AtomicBool,
    /// When a request ended, or anything of an answer was written or taken, in milliseconds from `opened`.
    last: AtomicU64,
    /// When the first byte of a head came of which no request is known yet; 0: none has.
    head: AtomicU64,
    /// Whether bytes wait until its client reads.
    is_stalled: AtomicBool,
    /// Of whoever's key it brought last; none: a stranger's.
    whose: Mutex<Option<Place>>,
    is_known: AtomicBool,
    crowd: Arc<Crowd>,
    /// Fires where it is to make room for another.
    gone: CancellationToken,
    /// Fires where its client has said that it sends nothing more, and waits for an answer.
    half_closed: CancellationToken,
}

#[derive(Debug)]
struct Place {
    key: KeyId,
    _tenant: Share,
    _key: Share<KeyId>,
}

/// Whom connections are counted by: an address, or, where a network gives each client many, the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Peer(IpAddr);

impl Peer {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => Self(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into()),
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

impl Crowd {
    /// For so many at once.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let most = most.max(LEAST);
        Arc::new(Self {
            most,
            next: AtomicU64::new(0),
            strangers: AtomicUsize::new(0),
            present: Mutex::default(),
            // bound: connections
            tenants: Pot::divided(most as u64),
            // bound: connections
            keys: Pot::new(most as u64, most.div_ceil(4) as u64),
        })
    }

    /// A connection that came from this address; a stranger's that has been there for longer may have to go for it.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Present {
        let peer = Peer::of(address);
        self.make_way_for(peer);
        let connection = Arc::new(Connection::new(peer, self.clone()));
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.strangers.fetch_add(1, Ordering::Relaxed);
        self.present().insert(number, connection.clone());
        Present { connection, number }
    }

    fn make_way_for(&self, peer: Peer) {
        if self.strangers.load(Ordering::Relaxed) < self.most.div_ceil(4) {
            return;
        }
        let present = self.present();
        let (mut all, mut own, mut oldest) = (0, 0, None);
        for stranger in strangers(&present) {
            all += 1;
            if stranger.peer == peer {
                own += 1;
                oldest = oldest.or(Some(stranger));
            }
        }
        match oldest {
            Some(oldest) if own >= self.most.div_ceil(4) => oldest.gone.cancel(),
            _ if all >= self.most.div_ceil(2) => drop(dismiss(&present)),
            _ => {}
        }
    }

    /// Has a stranger go, if there is one.
    pub(crate) fn dismiss_one(&self) {
        dismiss(&self.present());
    }

    fn present(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Arc<Connection>>> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those who have brought no key, and have not been told to go, in the order in which they came.
fn strangers(present: &BTreeMap<u64, Arc<Connection>>) -> impl Iterator<Item = &Arc<Connection>> {
    present.values().filter(|one| !one.is_known() && !one.is_gone())
}

/// Of the address with the most strangers the one who has been there longest goes.
fn dismiss(present: &BTreeMap<u64, Arc<Connection>>) -> Option<()> {
    let mut by_peer: Vec<(Peer, usize, &Arc<Connection>)> = Vec::new();
    for stranger in strangers(present) {
        match by_peer.iter_mut().find(|(peer, ..)| *peer == stranger.peer) {
            Some((_, count, _)) => *count += 1,
            None => by_peer.push((stranger.peer, 1, stranger)),
        }
    }
    let (.., oldest) = by_peer.into_iter().max_by_key(|(_, count, _)| *count)?;
    oldest.gone.cancel();
    Some(())
}

/// A connection that is there, however it ends.
#[derive(Debug)]
pub(crate) struct Present {
    connection: Arc<Connection>,
    number: u64,
}

impl std::ops::Deref for Present {
    type Target = Arc<Connection>;

    fn deref(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        let crowd = &self.connection.crowd;
        crowd.present().remove(&self.number);
        let mut whose = self.connection.whose();
        if !self.connection.is_known.swap(true, Ordering::Relaxed) {
            crowd.strangers.fetch_sub(1, Ordering::Relaxed);
        }
        // What its requests still hold of it is nobody's any more.
        *whose = None;
    }
}

impl Connection {
    fn new(peer: Peer, crowd: Arc<Crowd>) -> Self {
        Self {
            peer,
            opened: Instant::now(),
            requests: AtomicU64::new(0),
            under_way: AtomicU32::new(0),
            untaken: AtomicU32::new(0),
            is_http2: AtomicBool::new(false),
            last: AtomicU64::new(0),
            head: AtomicU64::new(0),
            is_stalled: AtomicBool::new(false),
            whose: Mutex::default(),
            is_known: AtomicBool::new(false),
            crowd,
            gone: CancellationToken::new(),
            half_closed: CancellationToken::new(),
        }
    }

    /// It brought this caller's key.
    ///
    /// # Errors
    /// Where the key, or its tenant, has as many connections as it may have.
    pub(crate) fn bring(&self, caller: &Caller) -> Result<()> {
        let mut whose = self.whose();
        if whose.as_ref().is_some_and(|place| place.key == caller.key) || self.is_gone() {
            return Ok(());
        }
        // A connection counts for one at a time: what it counted for before it is given back first.
        *whose = None;
        // Until it counts for a key again it is a stranger, and makes room as one: over HTTP/2 a refused request does not close it.
        if self.is_known.swap(false, Ordering::Relaxed) {
            self.crowd.strangers.fetch_add(1, Ordering::Relaxed);
        }
        let full = |_| {
            let why = "This key, or this tenant, has as many connections as one of them may have. Close some.";
            Problem::busy(why, Duration::from_secs(1)).closing()
        };
        let place = Place {
            key: caller.key.clone(),
            _tenant: self.crowd.tenants.take(&caller.tenant, 1).map_err(full)?,
            _key: self.crowd.keys.take(&caller.key, 1).map_err(full)?,
        };
        *whose = Some(place);
        if !self.is_known.swap(true, Ordering::Relaxed) {
            self.crowd.strangers.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether it has brought a good key.
    pub(crate) fn is_known(&self) -> bool {
        self.is_known.load(Ordering::Relaxed)
    }

    fn is_gone(&self) -> bool {
        self.gone.is_cancelled()
    }

    /// Fires where it is to make room for another.
    pub(crate) fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    /// Fires where its client has said that it sends nothing more, and waits for an answer: or has gone, which looks the same.
    pub(crate) fn half_closed(&self) -> &CancellationToken {
        &self.half_closed
    }

    /// Its client took something of an answer, over HTTP/2.
    pub(crate) fn took(&self) {
        self.last.store(self.now(), Ordering::Relaxed);
    }

    /// Its client has not taken an answer for so long: where nothing else has moved, it goes as a whole.
    pub(crate) fn given_up(&self, after: Duration) {
        let all = self.untaken.load(Ordering::Acquire) >= self.under_way.load(Ordering::Acquire);
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        if all && self.opened.elapsed().saturating_sub(last) >= after {
            self.gone.cancel();
        }
    }

    /// Bytes came.
    pub(crate) fn read(&self) {
        if self.under_way.load(Ordering::Acquire) == 0 && self.head.load(Ordering::Relaxed) == 0 {
            self.head.store(self.now().max(1), Ordering::Relaxed);
        }
    }

    /// Bytes went, or wait until the client reads.
    pub(crate) fn wrote(&self, is_stalled: bool) {
        self.is_stalled.store(is_stalled, Ordering::Relaxed);
        // In HTTP/2 they go for other reasons than requests, too, such as a client's pings.
        if self.requests.load(Ordering::Relaxed) > 0 && !self.is_http2() {
            self.last.store(self.now(), Ordering::Relaxed);
        }
    }

    /// How long it has waited for a request; none: one is under way, its answer included.
    pub(crate) fn waits(&self) -> Option<Waits> {
        let is_first = self.requests.load(Ordering::Relaxed) == 0;
        if self.is_busy() || self.is_stalled.load(Ordering::Relaxed) && !is_first {
            return None;
        }
        let ago = |then: u64| self.opened.elapsed().saturating_sub(Duration::from_millis(then));
        let begun = self.head.load(Ordering::Relaxed);
        let in_head = begun > 0 && !self.is_http2();
        Some(Waits { idle: ago(self.last.load(Ordering::Relaxed)), head: in_head.then(|| ago(begun)), is_first })
    }

    /// Whether a request is under way, its answer included as far as it was given out.
    pub(crate) fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::Acquire) > 0
    }

    /// Whether its requests come by HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn whose(&self) -> std::sync::MutexGuard<'_, Option<Place>> {
        self.whose.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a connection has waited for its next request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    /// Since anything was last written, or a request ended.
    pub(crate) idle: Duration,
    /// Since the first byte of its head came; none: it has not.
    pub(crate) head: Option<Duration>,
    /// Whether there was none yet.
    pub(crate) is_first: bool,
}

/// A request under way until its answer has been given out, even where it is dropped half-way.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Connection>);

impl Busy {
    pub(crate) fn begin(connection: Arc<Connection>, is_http2: bool) -> Self {
        connection.under_way.fetch_add(1, Ordering::AcqRel);
        connection.requests.fetch_add(1, Ordering::Relaxed);
        connection.is_http2.store(is_http2, Ordering::Relaxed);
        connection.head.store(0, Ordering::Relaxed);
        Self(connection)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.last.store(self.0.now(), Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A request under way whose answer waits for its client, until it does not any more.
#[derive(Debug)]
pub(crate) struct Untaken(Arc<Connection>);

impl Untaken {
    pub(crate) fn begin(connection: Arc<Connection>) -> Self {
        connection.untaken.fetch_add(1, Ordering::AcqRel);
        Self(connection)
    }
}

impl Drop for Untaken {
    fn drop(&mut self) {
        self.0.untaken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::caller::Role;

    use super::*;

    fn caller(tenant: &str, key: &str) -> Caller {
        let key = format!("{:a>12}", format!("{tenant}{key}"));
        Caller { tenant: tenant.parse().unwrap(), key: key.parse().unwrap(), role: Role::Viewer, cause: None }
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn staying(connections: &[Present]) -> Vec<bool> {
        connections.iter().map(|one| !one.is_gone()).collect()
    }

    #[tokio::test]
    async fn strangers_of_one_address_make_way_for_each_other() {
        let crowd = Crowd::new(16);
        let known = crowd.enter(address(1));
        known.bring(&caller("acme", "k")).unwrap();
        let strangers: Vec<_> = (0..6).map(|_| crowd.enter(address(1))).collect();
        assert_eq!(staying(&strangers), [false, false, true, true, true, true]);
        assert!(!known.is_gone());
    }

    #[tokio::test]
    async fn strangers_have_half_of_the_room_and_the_largest_crowd_makes_way() {
        let crowd = Crowd::new(16);
        let many: Vec<_> = (0..4).map(|_| crowd.enter(address(1))).collect();
        let others: Vec<_> = (2..6).map(|last| crowd.enter(address(last))).collect();
        assert!(staying(&many).iter().chain(&staying(&others)).all(|stays| *stays));
        let _late = crowd.enter(address(9));
        assert_eq!((staying(&many), staying(&others)), (vec![false, true, true, true], vec![true; 4]));
    }

    #[tokio::test]
    async fn a_tenant_and_a_key_have_their_shares_and_give_them_back() {
        let crowd = Crowd::new(16);
        let enter = |tenant: &str, key: &str| {
            let connection = crowd.enter(address(1));
            connection.bring(&caller(tenant, key)).map(|()| connection)
        };
        let mut acme: Vec<_> = (0..4).map(|_| enter("acme", "k").unwrap()).collect();
        assert_eq!(enter("acme", "k").unwrap_err().status(), 429, "a key has a quarter");
        acme.extend((0..2).map(|_| enter("acme", "l").unwrap()));
        assert_eq!(enter("acme", "m").unwrap_err().status(), 429, "a tenant has three eighths");
        let beta = enter("beta", "k").unwrap();
        let before = crowd.strangers.load(Ordering::Relaxed);
        beta.bring(&caller("acme", "m")).unwrap_err();
        assert!(!beta.is_known(), "who counts for nobody is a stranger");
        assert_eq!(crowd.strangers.load(Ordering::Relaxed), before + 1);
        assert!(enter("beta", "k").is_ok());
        drop(acme);
        assert!(enter("acme", "k").is_ok());
        drop(beta);
        assert_eq!((crowd.tenants.out(), crowd.strangers.load(Ordering::Relaxed), crowd.present().len()), (0, 0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_has_begun_is_told_from_an_idle_connection() {
        let crowd = Crowd::new(4);
        let one = crowd.enter(address(1));
        let busy = Busy::begin(one.clone(), false);
        assert!(one.waits().is_none());
        drop(busy);
        tokio::time::advance(Duration::from_secs(5)).await;
        let waits = one.waits().unwrap();
        assert_eq!((waits.idle.as_secs(), waits.head, waits.is_first), (5, None, false));
        one.read();
        tokio::time::advance(Duration::from_secs(3)).await;
        one.read();
        assert_eq!(one.waits().unwrap().head.unwrap().as_secs(), 3, "another byte is no other head");
    }

    #[tokio::test]
    async fn a_few_connections_are_still_good_for_a_client_that_has_several() {
        let crowd = Crowd::new(1);
        let present: Vec<_> = (0..4).map(|_| crowd.enter(address(1))).collect();
        assert!(staying(&present).iter().all(|stays| *stays));
        assert!(present.iter().all(|one| one.bring(&caller("acme", "k")).is_ok()));
    }

    #[test]
    fn a_network_that_gives_each_client_many_addresses_counts_as_one() {
        let peer = |text: &str| Peer::of(text.parse().unwrap());
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:2"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }
}
