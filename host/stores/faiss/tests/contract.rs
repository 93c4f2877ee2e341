//! FAISS keeps the contract of an index of vectors.

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use ltmc_faiss::FaissVectors;
use ltmc_ports::testing::suite::vectors::VectorsFixture;

use common::Place;

/// Each store in a directory of its own.
#[derive(Default)]
struct OnDisk {
    place: Place,
}

#[async_trait]
impl VectorsFixture for OnDisk {
    type Store = FaissVectors;

    async fn fresh(&self) -> Arc<FaissVectors> {
        Arc::new(self.place.open(u64::MAX))
    }

    async fn reopen(&self, store: Arc<FaissVectors>) -> Arc<FaissVectors> {
        drop(store);
        self.fresh().await
    }
}

ltmc_ports::vectors_contract!(OnDisk::default());

/// The same where nothing stays in memory that is not in use.
mod short_of_memory {
    use super::{Arc, FaissVectors, Place, VectorsFixture, async_trait};

    #[derive(Default)]
    struct Tight {
        place: Place,
    }

    #[async_trait]
    impl VectorsFixture for Tight {
        type Store = FaissVectors;

        async fn fresh(&self) -> Arc<FaissVectors> {
            Arc::new(self.place.open(1))
        }

        async fn reopen(&self, store: Arc<FaissVectors>) -> Arc<FaissVectors> {
            drop(store);
            self.fresh().await
        }
    }

    ltmc_ports::vectors_contract!(Tight::default());
}
