//! A pot that tenants share, or other owners such as keys: so much in all, and so much for each of them, so that none can take
//! what is there for the others.
//!
//! Invariant: what is out is what [`Share`]s hold; one that is dropped, anywhere, is given back. To share something else: a
//! [`Pot`] where it is handed out, and a share in what holds it.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use ltmc_model::TenantId;

/// Whom a share can belong to.
pub trait Owner: Clone + Eq + Hash {}

impl<O: Clone + Eq + Hash> Owner for O {}

/// The pot. A handle: clones are the same.
#[derive(Debug)]
pub struct Pot<O: Owner = TenantId>(Arc<Inner<O>>);

impl<O: Owner> Clone for Pot<O> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

#[derive(Debug)]
struct Inner<O: Owner> {
    most: u64,
    each: Each,
    all: AtomicU64,
    of_owner: DashMap<O, u64>,
}

/// How much each owner may have.
#[derive(Debug, Clone, Copy)]
enum Each {
    /// So much.
    Fixed(u64),
    /// As much as is left.
    AsIsLeft,
}

impl Each {
    /// Whether an owner may have so much, where `left` is left for anybody.
    fn allows(self, own: u64, left: u64) -> bool {
        match self {
            Self::Fixed(most) => own <= most,
            Self::AsIsLeft => own <= left,
        }
    }
}

/// What somebody has of a pot, until it is dropped.
#[derive(Debug)]
pub struct Share<O: Owner = TenantId> {
    pot: Pot<O>,
    owner: O,
    amount: u64,
}

/// There is not so much left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// For anybody.
    All,
    /// For this owner.
    Own,
}

impl<O: Owner> Pot<O> {
    /// With so much in it, of which each owner may have so much at once.
    pub fn new(most: u64, most_each: u64) -> Self {
        Self::with(most, Each::Fixed(most_each))
    }

    /// With so much in it, of which each owner may have as much as it leaves: a lone one half of it, and however many there are,
    /// something is left for the next.
    pub fn halving(most: u64) -> Self {
        Self::with(most, Each::AsIsLeft)
    }

    fn with(most: u64, each: Each) -> Self {
        Self(Arc::new(Inner { most, each, all: AtomicU64::new(0), of_owner: DashMap::new() }))
    }

    /// A share with nothing in it yet.
    pub fn share(&self, owner: &O) -> Share<O> {
        Share { pot: self.clone(), owner: owner.clone(), amount: 0 }
    }

    /// Takes so much.
    ///
    /// # Errors
    /// Where there is not so much left; nothing is then taken.
    pub fn take(&self, owner: &O, amount: u64) -> Result<Share<O>, Full> {
        let mut share = self.share(owner);
        share.take_more(amount)?;
        Ok(share)
    }

    /// How much is out.
    pub fn out(&self) -> u64 {
        self.0.all.load(Ordering::Relaxed)
    }

    /// How much there is in all.
    pub fn most(&self) -> u64 {
        self.0.most
    }

    /// Whether an owner could have so much more.
    pub fn has(&self, owner: &O, amount: u64) -> bool {
        let own = self.0.of_owner.get(owner).map_or(0, |own| *own).saturating_add(amount);
        let out = self.out().saturating_add(amount);
        out <= self.0.most && self.0.each.allows(own, self.0.most - out)
    }

    fn give_back(&self, owner: &O, amount: u64) {
        if let Entry::Occupied(mut own) = self.0.of_owner.entry(owner.clone()) {
            *own.get_mut() -= amount;
            if *own.get() == 0 {
                own.remove();
            }
        }
        self.0.all.fetch_sub(amount, Ordering::Relaxed);
    }
}

impl Pot {
    /// How many tenants have something of it.
    pub fn tenants(&self) -> usize {
        self.0.of_owner.len()
    }
}

impl<O: Owner> Share<O> {
    /// Takes so much more.
    ///
    /// # Errors
    /// As [`Pot::take`].
    pub fn take_more(&mut self, amount: u64) -> Result<(), Full> {
        if amount == 0 {
            return Ok(());
        }
        let Inner { most, each, all, of_owner } = &*self.pot.0;
        // Taken before it is looked at, so that two at once cannot both have the last of it.
        let out = all.fetch_add(amount, Ordering::Relaxed).saturating_add(amount);
        let mut own = of_owner.entry(self.owner.clone()).or_default();
        *own += amount;
        let is_own_full = !each.allows(*own, most.saturating_sub(out));
        drop(own);
        if out > *most || is_own_full {
            self.pot.give_back(&self.owner, amount);
            return Err(if is_own_full { Full::Own } else { Full::All });
        }
        self.amount += amount;
        Ok(())
    }

    /// All of it, as another share; this one has nothing left.
    #[must_use]
    pub fn split_off(&mut self) -> Self {
        Self { pot: self.pot.clone(), owner: self.owner.clone(), amount: std::mem::take(&mut self.amount) }
    }

    /// Gives all of it back.
    pub fn give_back(&mut self) {
        let amount = std::mem::take(&mut self.amount);
        if amount > 0 {
            self.pot.give_back(&self.owner, amount);
        }
    }
}

impl<O: Owner> Drop for Share<O> {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    #[test]
    fn no_tenant_has_more_than_its_own_and_all_no_more_than_there_is() {
        let (pot, acme, beta) = (Pot::new(10, 6), tenant("acme"), tenant("beta"));
        let mut first = pot.take(&acme, 5).unwrap();
        assert_eq!(pot.take(&acme, 2).unwrap_err(), Full::Own);
        first.take_more(1).unwrap();
        assert_eq!(first.take_more(1).unwrap_err(), Full::Own);
        assert_eq!(pot.take(&beta, 5).unwrap_err(), Full::All);
        let second = pot.take(&beta, 4).unwrap();
        assert_eq!((pot.out(), pot.has(&beta, 1), pot.tenants()), (10, false, 2));
        drop(first);
        assert!(pot.has(&beta, 2) && !pot.has(&beta, 3));
        drop(second);
        assert_eq!((pot.out(), pot.tenants()), (0, 0), "who was refused has nothing of it");
    }

    #[test]
    fn who_may_have_what_is_left_leaves_something_for_the_next() {
        let pot = Pot::halving(64);
        let mut shares = Vec::new();
        for (name, most) in [("acme", 32), ("beta", 16), ("gamma", 8), ("delta", 4)] {
            let tenant = tenant(name);
            assert!(pot.has(&tenant, most) && !pot.has(&tenant, most + 1), "{name}");
            assert_eq!(pot.take(&tenant, most + 1).unwrap_err(), Full::Own, "{name}");
            shares.push(pot.take(&tenant, most).unwrap());
        }
        assert_eq!(pot.out(), 60);
        drop(shares);
        assert_eq!((pot.out(), pot.tenants()), (0, 0));
    }

    #[test]
    fn many_at_once_take_what_there_is_and_give_it_back() {
        let pot = Pot::new(100, 60);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (pot, tenant) = (pot.clone(), tenant(&format!("t{}", number % 2)));
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        let share = pot.take(&tenant, 7);
                        assert!(pot.out() <= 100 + 8 * 7, "no more than what is looked at besides");
                        drop(share);
                    }
                });
            }
        });
        assert_eq!((pot.out(), pot.tenants()), (0, 0));
    }
}
