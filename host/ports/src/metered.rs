//! Metrics' handles, looked up once: to look one up the recorder hashes and copies the name and its labels.
//!
//! Invariant: a handle is made when something is first counted, which is after the recorder is there.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

/// One metric's handles, by the values of its `N` labels; these are few, and known to the host.
pub struct Family<H, const N: usize> {
    make: fn([&'static str; N]) -> H,
    made: RwLock<BTreeMap<[&'static str; N], H>>,
}

impl<H: Clone, const N: usize> Family<H, N> {
    /// Of which each is made by `make`.
    pub const fn new(make: fn([&'static str; N]) -> H) -> Self {
        Self { make, made: RwLock::new(BTreeMap::new()) }
    }

    /// The one with these values.
    pub fn of(&self, labels: [&'static str; N]) -> H {
        if let Some(made) = self.made.read().unwrap_or_else(PoisonError::into_inner).get(&labels) {
            return made.clone();
        }
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        made.entry(labels).or_insert_with(|| (self.make)(labels)).clone()
    }
}

impl<H, const N: usize> std::fmt::Debug for Family<H, N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Family").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn each_is_made_once() {
        static MADE: AtomicU32 = AtomicU32::new(0);
        static FAMILY: Family<String, 2> = Family::new(|[call, outcome]| {
            MADE.fetch_add(1, Ordering::Relaxed);
            format!("{call} {outcome}")
        });
        for _ in 0..3 {
            assert_eq!(FAMILY.of(["memory.get", "ok"]), "memory.get ok");
            assert_eq!(FAMILY.of(["memory.get", "denied"]), "memory.get denied");
        }
        assert_eq!(MADE.load(Ordering::Relaxed), 2);
    }
}
