//! What all guests' files share, divided among tenants: threads, files open at once, memory for lists of directories.

use std::sync::Arc;

use ltmc_policy::Pot;
use ltmc_policy::pot::Share;
use ltmc_ports::runner::{Directory, Gate};
use rustix::process::{Resource, getrlimit};

use crate::threads::Threads;

/// Bytes of all lists of directories that guests hold.
const LISTS: u64 = 64 << 20;

/// The room. A handle: clones are the same.
#[derive(Clone)]
pub(crate) struct Room {
    pub(crate) threads: Arc<Threads>,
    /// Files open at once: a quarter of what the process may have open, so that the rest of the host always has its own.
    pub(super) open: Pot,
    pub(super) lists: Pot,
}

impl Room {
    /// With these threads.
    pub(crate) fn new(threads: Arc<Threads>) -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
        Self::with(threads, files / 4, LISTS)
    }

    pub(super) fn with(threads: Arc<Threads>, open: u64, lists: u64) -> Self {
        // bound: open files and lists
        Self { threads, open: Pot::divided(open), lists: Pot::divided(lists) }
    }
}

/// A directory that a guest was granted, for as long as it is.
pub(super) struct Grant {
    pub(super) gate: Arc<dyn Gate>,
    pub(super) directory: Directory,
    /// Its part of what may be open at once: the directory is open for each call anew.
    pub(super) _open: Share,
}

/// What comes with something that is open: by which grant, and its part of what may be open at once.
pub(super) struct Held {
    pub(super) grant: Arc<Grant>,
    /// None: what a guest is given itself, which is open once for all its handles and counts in its grant.
    pub(super) _open: Option<Share>,
}

impl Held {
    /// Whether it may still be used.
    pub(super) async fn stands(&self) -> bool {
        self.grant.gate.grants(&self.grant.directory).await
    }
}
