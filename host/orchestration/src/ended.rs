//! Sessions that end: summed up by their last turn, and what becomes of their memory then.
//!
//! Invariants: a summary that cannot be made keeps no session open: it is tried for as long as a turn may take, and then the session is closed
//! without one, which stands in the audit with the reason. Memory goes in acts of so many keys, each of which is repeated or goes on where a host dies;
//! what is archived stands in the ledger in the same act that has it forgotten.

use std::time::Duration;

use ltmc_model::agent::AgentRef;
use ltmc_model::delta::{Delta, MemoryChange, MemoryValue};
use ltmc_model::journal::Change;
use ltmc_model::memory::Drawer;
use ltmc_model::run::Target;
use ltmc_model::session::{Keep, MAX_ARCHIVE, MAX_MOVED, MAX_MOVED_BYTES, Place, Remains, Session};
use ltmc_model::{Digest, Epoch, Payload, SessionId, TenantId, Timestamp};
use ltmc_policy::Action;
use ltmc_ports::{Changes, Expect, Kind, StoreError};
use ltmc_tenancy::Error;
use serde_json::{Value, json};

use crate::runs::TurnRequest;
use crate::sessions::Sessions;

/// Keys of memory that go at once, one more than may, and bytes.
const MOST: (u32, usize) = (MAX_MOVED as u32 + 1, MAX_MOVED_BYTES);
/// How much of why there is no summary is kept.
const MAX_WHY: usize = 500;

impl Sessions {
    /// Begins the turn that sums a session up; whether nothing is to be done about it any more.
    pub(crate) async fn sum_up(&self, session: &Session) -> Result<bool, StoreError> {
        let Some((place, agent)) = session.place_of_summary().zip(session.settings.summary.as_ref()) else {
            return Ok(true);
        };
        let lasts = Duration::from_millis(session.settings.turn);
        let may_wait = session.closed_at.is_some_and(|closed| self.now() < closed.after(lasts));
        let why = match self.begin_summary(session, place, agent).await {
            // Its first entries may still be refused: it is looked again after a while, whether it has begun and, later, whether it takes too long.
            Ok(()) => return Ok(false),
            // Somebody else was faster: what is due now is another thing.
            Err(Error::Store(error)) if error.kind == Kind::Conflict => return Ok(false),
            Err(Error::Store(error)) if may_wait => return Err(error),
            Err(Error::Busy { .. }) if may_wait => return Ok(false),
            Err(error) => error.to_string(),
        };
        let why = Some(why.chars().take(MAX_WHY).collect());
        let change = Change::SessionClosed { id: session.id.clone(), expired: false, now: true, why };
        let expects = vec![Expect::ToBeSummedUp { session: session.id.clone() }];
        self.authority().act_with(&session.tenant, None, change, Changes { deltas: Vec::new(), expects }).await?;
        Ok(true)
    }

    /// In the name of who opened it.
    async fn begin_summary(&self, session: &Session, place: Place, agent: &AgentRef) -> Result<(), Error> {
        let denied = |why| Error::Denied { why };
        let caller = self.authority().standing(&session.tenant, &session.by).await?.map_err(denied)?;
        ltmc_policy::authorize(&caller, Action::Run).map_err(|error| denied(error.to_string()))?;
        let said = json!({ "session": session.id, "title": session.settings.title, "turns": session.turns });
        let turn = TurnRequest {
            session: session.id.clone(),
            place,
            input: Payload::json(&said),
            idempotency: None,
            request_digest: Digest::of(said.to_string().as_bytes()),
            traceparent: None,
        };
        self.runs.take_turn(&caller, &Target::Agent(agent.clone()), false, turn).await.map(drop)
    }

    /// Does with the memory of a session that is over what its settings say, up to the end of it or of what is done at once; whether that was
    /// the end.
    pub(crate) async fn settle(&self, session: &Session) -> Result<bool, StoreError> {
        let (tenant, id) = (&session.tenant, &session.id);
        let found = self.read.memory_after(tenant, id, Epoch(u64::from(u32::MAX)), MOST).await?;
        let bytes: usize = found.iter().map(|(key, value)| key.len() + value.bytes.len()).sum();
        let is_all = found.len() <= MAX_MOVED && bytes <= MAX_MOVED_BYTES;
        let (archive, memory) = match session.settings.keep {
            Keep::Archive if !is_all => (None, Some(Remains::TooLarge)),
            Keep::Archive => match archived(&found, self.now()) {
                Some(document) => (Some(document), Some(Remains::Archived)),
                None => (None, Some(Remains::TooLarge)),
            },
            Keep::Always | Keep::For(_) | Keep::Forget => (None, is_all.then_some(Remains::Forgotten)),
        };
        let deltas = match memory {
            Some(Remains::TooLarge) => Vec::new(),
            _ => found.into_iter().take(MAX_MOVED).map(|(key, _)| self.forgotten(tenant, id, key)).collect(),
        };
        let keys = u32::try_from(deltas.len()).unwrap_or(u32::MAX);
        let change = Change::SessionForgotten { id: id.clone(), keys, memory, archive };
        let expects = vec![Expect::Unsettled { session: id.clone() }];
        self.authority().act_with(tenant, None, change, Changes { deltas, expects }).await?;
        Ok(memory.is_some())
    }

    fn forgotten(&self, tenant: &TenantId, id: &SessionId, key: String) -> Delta {
        let revision = self.runs.inner.ports.write.next_revision(tenant);
        Delta::Memory(MemoryChange { drawer: Drawer::Session(id.clone()), key, revision, value: None, trail: None })
    }
}

/// What memory holds, as one document; none: it is too long.
fn archived(found: &[(String, MemoryValue)], now: Timestamp) -> Option<String> {
    // Whatever is written of bytes, it is not shorter than they are.
    let bytes: usize = found.iter().map(|(key, value)| key.len() + value.bytes.len()).sum();
    if bytes > MAX_ARCHIVE {
        return None;
    }
    let lasts = found.iter().filter(|(_, value)| value.expires_at.is_none_or(|at| at > now));
    let keys: Vec<Value> = lasts
        .map(|(key, value)| {
            let payload = Payload { content_type: content_type(&value.bytes).into(), bytes: value.bytes.clone() };
            json!({ "key": key, "value": payload })
        })
        .collect();
    let document = json!({ "archived-at": now, "keys": keys }).to_string();
    (document.len() <= MAX_ARCHIVE).then_some(document)
}

/// Memory says nothing of what its values are: JSON and texts are shown as such.
fn content_type(bytes: &[u8]) -> &'static str {
    match std::str::from_utf8(bytes) {
        Ok(text) if serde_json::from_str::<Value>(text).is_ok() => Payload::JSON,
        Ok(_) => "text/plain; charset=utf-8",
        Err(_) => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_shows_what_values_are_and_is_bounded() {
        let value = |bytes: &[u8], expires_at| MemoryValue { bytes: bytes.to_vec().into(), expires_at };
        let now = Timestamp::from_millis(10);
        let found = [
            ("a".to_owned(), value(br#"{"n":1}"#, None)),
            ("b".to_owned(), value(b"two words", Some(Timestamp::from_millis(11)))),
            ("c".to_owned(), value(&[0xff, 0xfe], None)),
            ("d".to_owned(), value(b"gone", Some(now))),
        ];
        let document: Value = serde_json::from_str(&archived(&found, now).unwrap()).unwrap();
        let keys = document["keys"].as_array().unwrap();
        let shown: Vec<_> = keys.iter().map(|it| (it["key"].as_str().unwrap(), &it["value"])).collect();
        assert_eq!(shown.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!((&shown[0].1["json"]["n"], &shown[1].1["text"]), (&json!(1), &json!("two words")));
        assert!(shown[2].1["base64"].is_string(), "{document}");
        let large = [("a".to_owned(), value(&vec![b'"'; MAX_ARCHIVE / 2 + 1], None))];
        assert_eq!(archived(&large, now), None, "each quote has two bytes");
        assert_eq!(archived(&[("a".to_owned(), value(&vec![b'x'; MAX_ARCHIVE + 1], None))], now), None);
    }
}
