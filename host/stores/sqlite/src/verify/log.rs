//! The log of changes against the chain: what a row of it says is what an entry of its tenant's chain commits to.
//!
//! Not compared: what nothing commits to (in whose hands messages are, how far runs came), and that a key of memory is
//! gone, for one that has come to its end goes without an entry. Whether rows are missing the counts tell.

use std::collections::HashMap;

use ltmc_model::commitment::{Commitment, Place};
use ltmc_model::delta::Delta;
use ltmc_model::message::Channel;
use ltmc_model::{Digest, Position, TenantId};
use ltmc_ports::journal::{Audit, Damage};
use rusqlite::Connection;

use super::MOST_ROWS;
use crate::bind::number;
use crate::deltas;
use crate::error::Error;

/// What rows of a tenant's say, as far as no entry was seen that commits to it, and where they stand.
#[derive(Default)]
pub(super) struct Logged {
    said: HashMap<(Place, Option<Digest>), Said>,
    /// Rows that say something in one place and something else in another.
    wrong: Vec<Position>,
}

/// Where a row stands, and whether it is an event of a topic.
struct Said {
    position: Position,
    is_event: bool,
}

impl Logged {
    /// All rows that there are, by tenant.
    pub(super) fn read(snapshot: &Connection) -> Result<HashMap<String, Self>, Error> {
        let mut of: HashMap<String, Self> = HashMap::new();
        let mut statement =
            snapshot.prepare("select tenant, position, topic, about, delta from log order by position")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let logged = of.entry(row.get(0)?).or_default();
            let position = Position(number(row.get(1)?));
            let (topic, about): (i64, String) = (row.get(2)?, row.get(3)?);
            match Delta::from_bytes(row.get_ref(4)?.as_blob().unwrap_or_default()) {
                Ok(delta) if topic == deltas::topic(delta.topic()) && about == deltas::about_delta(&delta) => {
                    logged.say(&delta, position);
                }
                _ => logged.wrong.push(position),
            }
        }
        Ok(of)
    }

    fn say(&mut self, delta: &Delta, position: Position) {
        if matches!(delta, Delta::Memory(change) if change.value.is_none()) {
            return;
        }
        let is_event = matches!(delta, Delta::Sent(message) if matches!(message.channel, Channel::Topic(_)));
        for Commitment { place, content, .. } in Commitment::of(delta) {
            let before = self.said.insert((place, content), Said { position, is_event });
            // What a place holds has a revision, or an id: it comes there once.
            if before.is_some() && content.is_some() {
                self.wrong.push(position);
            }
        }
    }

    /// An entry commits to this.
    pub(super) fn saw(&mut self, commitment: &Commitment) {
        self.said.remove(&(commitment.place, commitment.content));
    }

    /// All of the tenant's chain was seen; whether it commits to all that its tenant changed, and to events of topics.
    pub(super) fn finish(self, tenant: &TenantId, is_whole: bool, has_events: bool, audit: &mut Audit) {
        let mut rows = self.wrong;
        let said = self.said.into_values().filter(|said| if said.is_event { has_events } else { is_whole });
        rows.extend(said.map(|said| said.position));
        rows.sort_unstable();
        rows.dedup();
        let more = rows.len().saturating_sub(MOST_ROWS);
        let mut damage = |what| audit.damage.push(Damage { tenant: Some(tenant.clone()), run: None, seq: None, what });
        for Position(position) in rows.into_iter().take(MOST_ROWS) {
            damage(format!("in `log`, row {position} is what no entry of the chain made it"));
        }
        if more > 0 {
            damage(format!("in `log`, {more} more rows are what no entry of the chain made them"));
        }
    }
}
