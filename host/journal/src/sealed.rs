//! Where a run stands, written out: whoever takes the run up reads that and the entries since, and not the journal from its start.
//!
//! Invariants: what is written is a cache. An entry commits to it; what is of another form than this version's, or is not what its entry
//! commits to, is left aside, and the journal is folded from its start. Nothing is in it that is not in the journal: memos are left out,
//! and so are the effects that an open attempt is to be answered from, which whoever goes on with it reads of the journal.
//!
//! What a long journal costs stays bounded by what it grows by: a run is sealed once its tail has [`Sealing::entries`] entries, or
//! [`Sealing::bytes`] bytes, and at least as many bytes as there were written at the last seal.

use std::io::{self, Write};

use ltmc_model::Digest;
use ltmc_model::journal::{Decided, Event};

use crate::fold::History;

/// The form: of what is written, and of what the fold makes of a journal. To be raised whenever either comes to something else: a test
/// below tells when, by an entry of every kind.
pub const FORM: u32 = 5;
/// A state of more bytes is not written: its run is taken up from its whole journal.
const MAX_BYTES: usize = 4 << 20;
/// What an entry takes besides what is in it, about.
const ENTRY: u64 = 128;

/// When a run is sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealing {
    /// Once so many entries were not.
    pub entries: u64,
    /// Or so many bytes of them, about.
    pub bytes: u64,
    /// Whether only once there are at least as many bytes as were written at the last seal: what is written then never comes to more than
    /// the journal has.
    pub is_sparing: bool,
}

impl Default for Sealing {
    fn default() -> Self {
        Self { entries: 512, bytes: 4 << 20, is_sparing: true }
    }
}

/// What of a journal is not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Tail {
    /// Entries since.
    entries: u64,
    /// Their bytes, about.
    bytes: u64,
    /// How many bytes were written at the last seal.
    sealed: u64,
}

impl Tail {
    pub(crate) fn grow(&mut self, event: &Event) {
        if let Event::Sealed { bytes, .. } = event {
            *self = Self { sealed: *bytes, ..Self::default() };
            return;
        }
        self.entries += 1;
        self.bytes += ENTRY + weight(event);
    }
}

/// What was written of a run's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// All of it.
    pub bytes: Vec<u8>,
}

impl Sealed {
    /// What commits to it.
    pub fn event(&self) -> Event {
        Event::Sealed { form: FORM, digest: Digest::of(&self.bytes), bytes: self.bytes.len() as u64 }
    }
}

/// Why what was written is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Another version wrote it.
    #[error("it is of form {0}, and this version reads form {FORM}")]
    Form(u32),
    /// It is not what the journal commits to.
    #[error("it is not what the journal commits to")]
    Digest,
    /// No entry commits to it.
    #[error("no entry of the journal commits to it")]
    NotCommitted,
    /// It cannot be read all the same.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

impl Unfit {
    /// Whether something is wrong with the record, rather than another version having written it.
    pub fn is_damage(&self) -> bool {
        !matches!(self, Self::Form(_))
    }
}

impl History {
    /// Whether the run is to be sealed before this event is added: where something begins, so that what ends a run, claims it or has it
    /// wait is never the larger for it.
    pub fn is_to_be_sealed(&self, before: &Event, sealing: Sealing) -> bool {
        let Tail { entries, bytes, sealed } = self.tail;
        let begins =
            matches!(before, Event::StepStarted { .. } | Event::NodeDecided { .. } | Event::ChildStarted { .. });
        let is_due = entries >= sealing.entries || bytes >= sealing.bytes;
        begins && is_due && (bytes >= sealed || !sealing.is_sparing)
    }

    /// About how many bytes of entries are not sealed.
    pub(crate) fn unsealed(&self) -> u64 {
        self.tail.bytes
    }

    /// Writes out where the run stands; none: it is too much.
    pub fn sealed(&self) -> Option<Sealed> {
        let mut room = Room { bytes: Vec::new(), most: MAX_BYTES };
        rmp_serde::encode::write_named(&mut room, self).ok()?;
        Some(Sealed { bytes: room.bytes })
    }

    /// Reads what was written, to go on with the entry that commits to it. `base`: what the history is for.
    ///
    /// # Errors
    /// Why it is of no use.
    pub fn unsealed_from(bytes: &[u8], committed: &Event, base: &Self) -> Result<Self, Unfit> {
        let Event::Sealed { form, digest, .. } = committed else { return Err(Unfit::NotCommitted) };
        if *form != FORM {
            return Err(Unfit::Form(*form));
        }
        if Digest::of(bytes) != *digest {
            return Err(Unfit::Digest);
        }
        let history: Self = rmp_serde::from_slice(bytes).map_err(|e| Unfit::Unreadable(e.to_string()))?;
        Ok(history.used_as(base))
    }
}

/// About how many bytes there are in an event that can have many.
fn weight(event: &Event) -> u64 {
    let bytes = match event {
        Event::RunStarted(started) => {
            started.input.bytes.len() + started.document.as_ref().map_or(0, |document| document.len())
        }
        Event::StepCompleted { output, .. } | Event::NodeEnded { output, .. } => output.bytes.len(),
        Event::EventTaken { event, .. } => event.bytes.len(),
        Event::Answered { answer, .. } => answer.bytes.len(),
        Event::ChildEnded { result: Ok(output), .. } => output.bytes.len(),
        Event::NodeDecided { decided: Decided::Items(items), .. } => items.iter().map(|item| item.bytes.len()).sum(),
        Event::NodeDecided { decided: Decided::Planned(document), .. } => document.len(),
        Event::Log { line, .. } => line.message.len(),
        Event::ConflictRaised(raised) => raised.size(),
        Event::Effect(effect) => {
            return effect.reply.as_ref().map_or(0, ltmc_model::effect::Reply::size);
        }
        _ => 0,
    };
    bytes as u64
}

/// Takes so many bytes and no more.
struct Room {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Room {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + more.len() > self.most {
            return Err(io::Error::other("it is too much"));
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod samples;

#[cfg(test)]
mod tests {
    use ltmc_model::failure::{Code, Failure};
    use ltmc_model::journal::Entry;
    use ltmc_model::{Payload, StepPath};
    use proptest::prelude::*;

    use super::samples::{at, event, events, started};
    use super::*;

    fn fold(mut history: History, entries: &[Entry]) -> History {
        for entry in entries {
            history.advance(history.seq().next(), entry);
        }
        history
    }

    fn read(sealed: &Sealed, base: &History) -> History {
        History::unsealed_from(&sealed.bytes, &sealed.event(), base).unwrap()
    }

    proptest! {
        /// Whatever happened: what was written of it reads back as it was, and whoever goes on from there comes to the same.
        #[test]
        fn what_is_sealed_reads_back_as_it_was(kinds in prop::collection::vec((0_usize..500, 0_u32..24), 0..40)) {
            let events = std::iter::once(started()).chain(kinds.into_iter().map(|(kind, number)| event(kind, number)));
            let entries: Vec<Entry> = events.enumerate().map(|(number, event)| Entry { at: at(number), event }).collect();
            for base in [History::new(), History::new().forgetting()] {
                let whole = fold(base.clone(), &entries);
                for cut in 0..=entries.len() {
                    let before = fold(base.clone(), &entries[..cut]);
                    let after = read(&before.sealed().unwrap(), &base);
                    prop_assert_eq!(format!("{:?}", after), format!("{:?}", before));
                    let went_on = fold(after, &entries[cut..]);
                    prop_assert_eq!(format!("{:?}", went_on), format!("{:?}", whole));
                }
            }
        }
    }

    /// Where this fails either what is written has another form now, or the fold makes something else of a journal: raise [`FORM`], so
    /// that nobody goes on with what an earlier version made of its journal, and put the new digest into `form.txt`.
    #[test]
    fn the_form_is_raised_with_what_it_says() {
        let made = (0..24).flat_map(|n| {
            let events = events(n, n as u32 * 7 % 24);
            // Each comes behind others, too, than those before it.
            let turn = n * 5 % events.len();
            [&events[turn..], &events[..turn]].concat()
        });
        let events: Vec<Event> = std::iter::once(started()).chain(made).collect();
        let (mut history, mut digests) = (History::new().forgetting(), Vec::new());
        for (number, event) in events.into_iter().enumerate() {
            history = fold(history, &[Entry { at: at(number), event }]);
            digests.extend(Digest::of(&history.sealed().unwrap().bytes).0);
        }
        let pinned = (5, include_str!("form.txt").trim());
        assert_eq!((FORM, Digest::of(&digests).to_string().as_str()), pinned);
    }

    #[test]
    fn what_its_entry_does_not_commit_to_is_left_aside() {
        let history = fold(History::new(), &[Entry { at: at(0), event: started() }]);
        let sealed = history.sealed().unwrap();
        let read = |bytes: &[u8], event: &Event| History::unsealed_from(bytes, event, &History::new()).map(|_| ());
        assert_eq!(read(&sealed.bytes, &sealed.event()), Ok(()));
        let mut damaged = sealed.bytes.clone();
        damaged[20] ^= 1;
        assert_eq!(read(&damaged, &sealed.event()), Err(Unfit::Digest));
        assert_eq!(read(&sealed.bytes, &started()), Err(Unfit::NotCommitted));
        let (digest, bytes) = (Digest::of(&sealed.bytes), sealed.bytes.len() as u64);
        let other = Event::Sealed { form: FORM + 1, digest, bytes };
        assert_eq!(read(&sealed.bytes, &other), Err(Unfit::Form(FORM + 1)));
        let nonsense = Sealed { bytes: b"nonsense".to_vec() };
        assert!(matches!(read(&nonsense.bytes, &nonsense.event()), Err(Unfit::Unreadable(_))));
    }

    #[test]
    fn a_run_is_sealed_where_its_tail_is_long_and_something_begins() {
        let sealing = Sealing { entries: 10, bytes: 10_000, is_sparing: true };
        let begins = Event::StepStarted {
            step: StepPath::root(),
            attempt: 1,
            agent: None,
            version: None,
            needs: Vec::new(),
            transaction: true,
        };
        let large =
            |bytes: usize| Event::NodeEnded { node: StepPath::root(), output: Payload::text("x".repeat(bytes)) };
        let after = |events: Vec<Event>| {
            let entries: Vec<Entry> = events.into_iter().map(|event| Entry { at: at(0), event }).collect();
            fold(History::new(), &entries)
        };
        let is_due = |events: Vec<Event>| after(events).is_to_be_sealed(&begins, sealing);
        assert!(!is_due(vec![large(1); 9]) && is_due(vec![large(1); 10]), "so many entries");
        assert!(!is_due(vec![large(5_000)]) && is_due(vec![large(5_000); 2]), "or so many bytes");
        let ends = Event::RunFailed { failure: Failure::new(Code::AgentError, "no") };
        assert!(!after(vec![large(1); 10]).is_to_be_sealed(&ends, sealing), "what ends it is not larger for it");
        let sealed = Event::Sealed { form: FORM, digest: Digest([0; 32]), bytes: 5_000 };
        let with = |more: usize| [vec![large(1); 10], vec![sealed.clone()], vec![large(1); more]].concat();
        assert!(!is_due(with(9)) && !is_due(with(30)), "where as much was written at the last seal");
        assert!(is_due(with(40)), "there has to be as much in the journal");
    }

    #[test]
    fn what_is_too_much_is_not_written() {
        let large = Event::NodeEnded { node: StepPath::root(), output: Payload::text("x".repeat(MAX_BYTES)) };
        assert_eq!(fold(History::new(), &[Entry { at: at(0), event: large }]).sealed(), None);
    }
}
