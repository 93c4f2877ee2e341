//! A pot that tenants share: so much in all, and so much for each of them, so that none can take what is there for the others.
//!
//! Invariant: what is out is what [`Share`]s hold; one that is dropped, anywhere, is given back. To share something else: a
//! [`Pot`] where it is handed out, and a share in what holds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use ltmc_model::TenantId;

/// The pot. A handle: clones are the same.
#[derive(Debug, Clone)]
pub struct Pot(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: u64,
    most_each: u64,
    all: AtomicU64,
    of_tenant: DashMap<TenantId, u64>,
}

/// What somebody has of a pot, until it is dropped.
#[derive(Debug)]
pub struct Share {
    pot: Pot,
    tenant: TenantId,
    amount: u64,
}

/// There is not so much left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// For anybody.
    All,
    /// For this tenant.
    Own,
}

impl Pot {
    /// With so much in it, of which each tenant may have so much at once.
    pub fn new(most: u64, most_each: u64) -> Self {
        Self(Arc::new(Inner { most, most_each, all: AtomicU64::new(0), of_tenant: DashMap::new() }))
    }

    /// A share with nothing in it yet.
    pub fn share(&self, tenant: &TenantId) -> Share {
        Share { pot: self.clone(), tenant: tenant.clone(), amount: 0 }
    }

    /// Takes so much.
    ///
    /// # Errors
    /// Where there is not so much left; nothing is then taken.
    pub fn take(&self, tenant: &TenantId, amount: u64) -> Result<Share, Full> {
        let mut share = self.share(tenant);
        share.take_more(amount)?;
        Ok(share)
    }

    /// How much is out.
    pub fn out(&self) -> u64 {
        self.0.all.load(Ordering::Relaxed)
    }

    /// Whether a tenant could have so much more.
    pub fn has(&self, tenant: &TenantId, amount: u64) -> bool {
        let own = self.0.of_tenant.get(tenant).map_or(0, |own| *own);
        own.saturating_add(amount) <= self.0.most_each && self.out().saturating_add(amount) <= self.0.most
    }

    /// How many tenants have something of it.
    pub fn tenants(&self) -> usize {
        self.0.of_tenant.len()
    }

    fn give_back(&self, tenant: &TenantId, amount: u64) {
        if let Entry::Occupied(mut own) = self.0.of_tenant.entry(tenant.clone()) {
            *own.get_mut() -= amount;
            if *own.get() == 0 {
                own.remove();
            }
        }
        self.0.all.fetch_sub(amount, Ordering::Relaxed);
    }
}

impl Share {
    /// Takes so much more.
    ///
    /// # Errors
    /// As [`Pot::take`].
    pub fn take_more(&mut self, amount: u64) -> Result<(), Full> {
        if amount == 0 {
            return Ok(());
        }
        let Inner { most, most_each, all, of_tenant } = &*self.pot.0;
        // Taken before it is looked at, so that two at once cannot both have the last of it.
        let out = all.fetch_add(amount, Ordering::Relaxed).saturating_add(amount);
        let mut own = of_tenant.entry(self.tenant.clone()).or_default();
        *own += amount;
        let is_own_full = *own > *most_each;
        drop(own);
        if out > *most || is_own_full {
            self.pot.give_back(&self.tenant, amount);
            return Err(if is_own_full { Full::Own } else { Full::All });
        }
        self.amount += amount;
        Ok(())
    }

    /// All of it, as another share; this one has nothing left.
    #[must_use]
    pub fn split_off(&mut self) -> Self {
        Self { pot: self.pot.clone(), tenant: self.tenant.clone(), amount: std::mem::take(&mut self.amount) }
    }

    /// Gives all of it back.
    pub fn give_back(&mut self) {
        let amount = std::mem::take(&mut self.amount);
        if amount > 0 {
            self.pot.give_back(&self.tenant, amount);
        }
    }
}

impl Drop for Share {
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
