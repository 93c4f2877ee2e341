//! A pot that tenants share, or other owners such as keys: so much in all, divided so that none can take what is there for the
//! others, however many there are.
//!
//! The rule: up to [little](Pot::little) everybody has what it asks for as long as that much is left. Who would have more leaves
//! a [quarter](Pot::reserve) of the pot, and where it has something of it already as much again as it then has besides: the first
//! piece may be large.
//!
//! So a tenant alone has three eighths of the pot at most, or one piece; the next ones have half of what is left above the quarter
//! each, or one piece. That quarter is for those who have little: sixteen tenants get theirs whatever any others do.
//!
//! Invariant: what is out is what [`Share`]s hold; one that is dropped, anywhere, is given back. To share something else: a
//! [`Pot`] where it is handed out, and a share in what holds it.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
struct Inner<O> {
    most: u64,
    most_each: u64,
    taken: Mutex<Taken<O>>,
}

#[derive(Debug)]
struct Taken<O> {
    all: u64,
    of: HashMap<O, u64>,
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
    /// For anybody, or for nobody who has as much as this owner.
    All,
    /// For this owner, also if it were alone.
    Own,
}

impl<O: Owner> Pot<O> {
    /// With so much in it, which its owners divide among themselves.
    pub fn divided(most: u64) -> Self {
        Self::new(most, most)
    }

    /// With so much in it, of which each owner may have so much at once, however little the others have.
    pub fn new(most: u64, most_each: u64) -> Self {
        Self(Arc::new(Inner { most, most_each, taken: Mutex::new(Taken { all: 0, of: HashMap::new() }) }))
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

    /// How much there is in all.
    pub fn most(&self) -> u64 {
        self.0.most
    }

    /// How much is out.
    pub fn out(&self) -> u64 {
        self.taken().all
    }

    /// Whether an owner could have so much more.
    pub fn has(&self, owner: &O, amount: u64) -> bool {
        let taken = self.taken();
        let own = taken.of.get(owner).copied().unwrap_or_default();
        self.0.allow(taken.all, own, amount).is_ok()
    }

    /// How many have something of it.
    pub fn tenants(&self) -> usize {
        self.taken().of.len()
    }

    /// What each may have without leaving anything to others: a sixty-fourth, and one at least.
    pub fn little(&self) -> u64 {
        self.0.little()
    }

    /// What is left by those who have more than little.
    pub fn reserve(&self) -> u64 {
        self.0.reserve()
    }

    fn taken(&self) -> MutexGuard<'_, Taken<O>> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, owner: &O, amount: u64) {
        let mut taken = self.taken();
        taken.all -= amount;
        if let Some(own) = taken.of.get_mut(owner) {
            *own -= amount;
            if *own == 0 {
                taken.of.remove(owner);
            }
        }
    }
}

impl<O> Inner<O> {
    fn little(&self) -> u64 {
        (self.most / 64).max(1)
    }

    fn reserve(&self) -> u64 {
        self.most / 4
    }

    /// The rule: whether an owner that has `own` may have `amount` more where `all` are out.
    fn allow(&self, all: u64, own: u64, amount: u64) -> Result<(), Full> {
        let (all, then) = (all.saturating_add(amount), own.saturating_add(amount));
        let to_leave = match own {
            _ if then <= self.little() => 0,
            0 => self.reserve(),
            _ => then.saturating_add(self.reserve()),
        };
        match self.most.checked_sub(all) {
            _ if then > self.most_each || then > self.most => Err(Full::Own),
            Some(left) if left >= to_leave => Ok(()),
            _ if self.most - then < to_leave => Err(Full::Own),
            _ => Err(Full::All),
        }
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
        let mut taken = self.pot.taken();
        let own = taken.of.get(&self.owner).copied().unwrap_or_default();
        self.pot.0.allow(taken.all, own, amount)?;
        taken.all += amount;
        match taken.of.get_mut(&self.owner) {
            Some(own) => *own += amount,
            None => drop(taken.of.insert(self.owner.clone(), amount)),
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
    use proptest::prelude::*;

    use super::*;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    fn number(number: usize) -> TenantId {
        tenant(&format!("t{number}"))
    }

    /// What a tenant gets that takes one after the other for as long as it can.
    fn greedy(pot: &Pot, tenant: &TenantId, piece: u64) -> Vec<Share> {
        std::iter::from_fn(|| pot.take(tenant, piece).ok()).collect()
    }

    #[test]
    fn no_tenant_has_more_than_its_own_and_all_no_more_than_there_is() {
        let (pot, acme, beta) = (Pot::new(16, 5), tenant("acme"), tenant("beta"));
        let mut first = pot.take(&acme, 4).unwrap();
        assert_eq!(pot.take(&acme, 2).unwrap_err(), Full::Own);
        first.take_more(1).unwrap();
        assert_eq!(first.take_more(1).unwrap_err(), Full::Own);
        let second = pot.take(&beta, 5).unwrap();
        assert_eq!(pot.take(&tenant("third"), 7).unwrap_err(), Full::Own, "nobody may have so much");
        assert_eq!(pot.take(&tenant("third"), 3).unwrap_err(), Full::All, "the reserve is not for so much");
        let third = pot.take(&tenant("third"), 2).unwrap();
        assert_eq!(pot.take(&tenant("fourth"), 2).unwrap_err(), Full::All);
        let fourth = pot.take(&tenant("fourth"), 1).unwrap();
        assert_eq!((pot.out(), pot.has(&beta, 1), pot.tenants()), (13, false, 4));
        drop((first, third));
        assert!(pot.has(&acme, 5) && !pot.has(&acme, 6));
        drop((second, fourth));
        assert_eq!((pot.out(), pot.tenants()), (0, 0), "who was refused has nothing of it");
    }

    #[test]
    fn each_further_tenant_has_half_of_what_is_left_above_the_reserve() {
        let pot = Pot::divided(256);
        let shares: Vec<_> = (0..8).map(|one| greedy(&pot, &number(one), 1)).collect();
        let has: Vec<_> = shares.iter().map(Vec::len).collect();
        assert_eq!(has, [96, 48, 24, 12, 6, 4, 4, 4]);
        assert_eq!(pot.take(&number(0), 1).unwrap_err(), Full::Own, "also alone it may not have more");
        assert_eq!(pot.take(&number(1), 1).unwrap_err(), Full::All);
        // Who gives back makes room for all.
        drop(shares);
        assert_eq!(greedy(&pot, &number(1), 1).len(), 96);
    }

    #[test]
    fn large_first_pieces_leave_the_reserve() {
        let pot = Pot::divided(256);
        let _large = pot.take(&number(0), 100).unwrap();
        assert_eq!(pot.take(&number(1), 100).unwrap_err(), Full::All);
        let _also_large = pot.take(&number(1), 92).unwrap();
        assert_eq!(pot.take(&number(2), 5).unwrap_err(), Full::All);
        assert_eq!(pot.take(&number(2), 193).unwrap_err(), Full::Own, "not even alone");
        let little: Vec<_> = (2..18).map(|one| pot.take(&number(one), pot.little()).unwrap()).collect();
        assert_eq!((pot.out(), little.len()), (256, 16));
    }

    #[test]
    fn many_at_once_take_what_there_is_and_give_it_back() {
        let pot = Pot::new(100, 60);
        std::thread::scope(|scope| {
            for one in 0..8 {
                let (pot, tenant) = (pot.clone(), number(one % 2));
                scope.spawn(move || {
                    for _ in 0..2_000 {
                        let share = pot.take(&tenant, 7);
                        assert!(pot.out() <= 100);
                        drop(share);
                    }
                });
            }
        });
        assert_eq!((pot.out(), pot.tenants()), (0, 0));
    }

    proptest! {
        /// Whatever any number of tenants take and give back, in any order and in pieces of any size: the pot is never
        /// overdrawn, and who takes more than little leaves what it has to leave.
        #[test]
        fn what_is_to_be_left_is_left(
            most in 1_u64..5_000,
            tenants in 1_usize..200,
            steps in prop::collection::vec((any::<prop::sample::Index>(), 1_u64..400, any::<bool>()), 1..400),
        ) {
            let pot = Pot::divided(most);
            let mut held: Vec<Vec<Share>> = (0..tenants).map(|_| Vec::new()).collect();
            for (index, piece, gives_back) in steps {
                let which = index.index(tenants);
                let own: u64 = held[which].iter().map(|share| share.amount).sum();
                if gives_back {
                    held[which].pop();
                } else if let Ok(share) = pot.take(&number(which), piece) {
                    held[which].push(share);
                    let then = own + piece;
                    let left = most - pot.out();
                    let to_leave = if own == 0 { pot.reserve() } else { then + pot.reserve() };
                    prop_assert!(then <= pot.little() || left >= to_leave);
                }
                let out: u64 = held.iter().flatten().map(|share| share.amount).sum();
                prop_assert_eq!(pot.out(), out);
                prop_assert!(out <= most);
            }
        }

        /// However greedy any number of tenants are, in pieces of any size: those that come then have little each, for as long as
        /// the reserve lasts.
        #[test]
        fn who_comes_later_has_little_for_as_long_as_the_reserve_lasts(
            most in 1_u64..5_000,
            greedy_ones in prop::collection::vec(prop_oneof![1_u64..80, 1_u64..5_000], 0..60),
        ) {
            let pot = Pot::divided(most);
            // Those that have more than little; the others are of those that the reserve is for.
            let mut with_little = 0;
            let mut shares = Vec::new();
            for (which, piece) in greedy_ones.iter().enumerate() {
                let got = greedy(&pot, &number(which), *piece);
                let has: u64 = got.iter().map(|share| share.amount).sum();
                with_little += u64::from((1..=pot.little()).contains(&has));
                shares.extend(got);
            }
            for later in with_little..pot.reserve() / pot.little() {
                let got = greedy(&pot, &number(1_000 + usize::try_from(later).unwrap()), 1);
                prop_assert!(got.len() as u64 >= pot.little(), "the tenant number {later} that has little has {}", got.len());
                shares.extend(got);
            }
        }
    }
}
