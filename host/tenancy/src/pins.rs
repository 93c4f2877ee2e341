//! Pins: which components are needed at the moment by a run or a push, so that none is thrown away under them.
//!
//! Invariant: a component is removed only while nobody holds a pin of it and no agent has it; both are looked at under
//! the same lock under which pins are taken.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ltmc_model::Digest;
use ltmc_ports::{Components, ReadCatalog, StoreError};

/// The pins of a host.
pub struct Pins {
    catalog: Arc<dyn ReadCatalog>,
    components: Arc<dyn Components>,
    held: Mutex<HashMap<Digest, usize>>,
    /// Held while one is taken, or while a component is looked at and removed.
    gate: tokio::sync::RwLock<()>,
}

/// One of them; let go when dropped.
pub struct Pin {
    pins: Arc<Pins>,
    digest: Digest,
}

impl Pins {
    /// Of these components.
    pub fn new(catalog: Arc<dyn ReadCatalog>, components: Arc<dyn Components>) -> Arc<Self> {
        Arc::new(Self { catalog, components, held: Mutex::default(), gate: tokio::sync::RwLock::new(()) })
    }

    /// Keeps a component.
    pub async fn hold(self: &Arc<Self>, digest: Digest) -> Pin {
        let _gate = self.gate.read().await;
        *self.held().entry(digest).or_default() += 1;
        Pin { pins: self.clone(), digest }
    }

    /// Removes a component, unless somebody needs it: then whoever is the last to do so removes it.
    pub(crate) async fn sweep(&self, digest: &Digest) -> Result<(), StoreError> {
        let _gate = self.gate.write().await;
        if !self.held().contains_key(digest) && !self.catalog.component_in_use(digest).await? {
            self.components.remove(digest).await;
        }
        Ok(())
    }

    /// Removes every component that nobody needs: those whose agents were deleted while a run had them, and those of pushes that a
    /// crash broke off.
    ///
    /// # Errors
    /// [`StoreError`] where the record does not say which components are in use.
    pub async fn sweep_all(&self) -> Result<(), StoreError> {
        for digest in self.components.kept().await {
            self.sweep(&digest).await?;
        }
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Digest, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pin {
    /// Lets go, and removes the component if it was the last that needed it.
    pub(crate) async fn release(self) -> Result<(), StoreError> {
        let (pins, digest) = (self.pins.clone(), self.digest);
        drop(self);
        pins.sweep(&digest).await
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut held = self.pins.held();
        if let Some(count) = held.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.digest);
            }
        }
    }
}

impl std::fmt::Debug for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pin").field(&self.digest).finish()
    }
}

impl std::fmt::Debug for Pins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pins").finish_non_exhaustive()
    }
}
