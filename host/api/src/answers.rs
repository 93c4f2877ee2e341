//! Answers that show what tenants stored: bounded in what all of them hold together, from when they are made until they are sent.
//!
//! Invariant: of the room a tenant has its part (`policy/src/pot.rs`), and a key a quarter, so that whoever asks for much at once,
//! or does not read what was asked for, keeps nobody else from being answered.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use axum::response::IntoResponse as _;
use bytes::Bytes;
use ltmc_model::KeyId;
use ltmc_model::caller::Caller;
use ltmc_tenancy::Pot;
use ltmc_tenancy::pot::Share;
use serde::Serialize;

use crate::app::Answer;
use crate::problem::{Problem, Result};

/// What is set apart for an answer before it is known how large it is: where it shows one thing, and where it shows a page of them.
pub(crate) const ONE: u64 = 64 << 10;
pub(crate) const PAGE: u64 = 1 << 20;

/// The room for answers.
#[derive(Debug)]
pub(crate) struct Answers {
    tenants: Pot,
    keys: Pot<KeyId>,
}

/// One answer's part of it, until it was sent.
#[derive(Debug)]
pub(crate) struct Room {
    tenant: Share,
    key: Share<KeyId>,
    bytes: u64,
}

impl Answers {
    /// So many bytes of them.
    pub(crate) fn new(most: u64) -> Arc<Self> {
        // bound: answers
        Arc::new(Self { tenants: Pot::divided(most), keys: Pot::new(most, most / 4) })
    }

    /// Room for an answer of about so many bytes to this caller, to be had before what it shows is read.
    ///
    /// # Errors
    /// Where there is none.
    pub(crate) fn room(&self, caller: &Caller, bytes: u64) -> Result<Room> {
        let mut room = Room { tenant: self.tenants.share(&caller.tenant), key: self.keys.share(&caller.key), bytes: 0 };
        room.grow(bytes)?;
        Ok(room)
    }
}

impl Room {
    fn grow(&mut self, bytes: u64) -> Result<()> {
        let more = bytes.saturating_sub(self.bytes);
        let full = |_| {
            let why =
                "Answers to this key, or to this tenant, that are not read yet take up all the room there is for them.";
            Problem::busy(why, Duration::from_secs(1))
        };
        self.key.take_more(more).map_err(full)?;
        self.tenant.take_more(more).map_err(full)?;
        self.bytes += more;
        Ok(())
    }

    /// Bytes that count until they are sent.
    pub(crate) fn around(mut self, bytes: Bytes) -> Result<Bytes> {
        struct Counted {
            bytes: Bytes,
            _room: Room,
        }
        impl AsRef<[u8]> for Counted {
            fn as_ref(&self) -> &[u8] {
                &self.bytes
            }
        }
        self.grow(bytes.len() as u64)?;
        Ok(Bytes::from_owner(Counted { bytes, _room: self }))
    }

    /// An answer in JSON.
    pub(crate) fn json(self, shown: &impl Serialize) -> Answer {
        let bytes = serde_json::to_vec(shown).map_err(Problem::internal)?;
        let body = self.around(bytes.into())?;
        Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response())
    }
}

#[cfg(test)]
mod tests {
    use ltmc_model::caller::Role;

    use super::*;

    #[test]
    fn what_is_not_sent_yet_counts_and_leaves_room_for_others() {
        let answers = Answers::new(32 << 20);
        let caller = |tenant: &str, key: &str| Caller {
            tenant: tenant.parse().unwrap(),
            key: format!("{key:a>12}").parse().unwrap(),
            role: Role::Viewer,
            cause: None,
        };
        let unread = |caller: &Caller, mib: usize| answers.room(caller, PAGE)?.around(vec![0; mib << 20].into());
        let (k, l, m) = (caller("acme", "k"), caller("acme", "l"), caller("acme", "m"));
        let mut kept = vec![unread(&k, 7).unwrap(), unread(&k, 1).unwrap()];
        assert_eq!(answers.room(&k, PAGE).unwrap_err().status(), 429, "a key has a quarter");
        kept.push(unread(&l, 4).unwrap());
        assert_eq!(answers.room(&m, PAGE).unwrap_err().status(), 429, "a tenant has three eighths where it is alone");
        assert!(unread(&caller("beta", "n"), 6).is_ok());
        drop(kept);
        assert!(unread(&k, 8).is_ok());
        assert_eq!((answers.tenants.out(), answers.keys.out()), (0, 0));
    }
}
