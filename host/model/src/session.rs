//! Sessions: conversations, turn by turn. What a turn makes of its session is decided here, for every record alike.
//!
//! Invariant: of a session's turns one at most is at work; what waits behind it is bounded. Who is at work holds the session's lease: a run whose
//! turn is over changes nothing any more, whatever it believes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use ltmc_rules::session::{MAX_TOLD, MAX_TOLD_BYTES, check_last, told};
use serde::{Deserialize, Serialize};

use crate::agent::AgentRef;
use crate::hand_off::{HandedOff, Holder};
use crate::ids::InvalidId;
use crate::run::Target;
use crate::{AgentName, Epoch, KeyId, Payload, RunId, SessionId, TenantId, Timestamp};

/// How many turns may wait in a session at most.
pub const MAX_QUEUE: u32 = 1_000;
/// How many keys take part in a session at most, besides the one that opened it.
pub const MAX_PARTICIPANTS: usize = 64;
/// So many of its last turns a session can be taken back, or forked before.
pub const MAX_BACK: u32 = 100;
/// How many turns a session that is forked has at most: they are counted and copied, not done again.
pub const MAX_FORKED: u32 = 10_000;
/// How many keys of a session's memory are taken back, or copied, at once.
pub const MAX_MOVED: usize = 1_000;
/// And how many bytes they have.
pub const MAX_MOVED_BYTES: usize = 8 << 20;
/// The longest archive of a session's memory, in bytes.
pub const MAX_ARCHIVE: usize = 1 << 20;
/// The longest title, in bytes.
pub const MAX_TITLE: usize = 200;
/// The longest time that a session's settings can name.
pub const MAX_TIME: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The shortest.
pub const MIN_TIME: Duration = Duration::from_secs(1);

/// What becomes of a message that comes while a turn is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IfBusy {
    /// It is refused.
    Reject,
    /// It waits.
    #[default]
    Enqueue,
    /// The turn at work is ended, and so is what waits; steps that were done stay done.
    Interrupt,
    /// The same, and nothing of what the turn did is left of the session's memory and its messages.
    Rollback,
}

impl IfBusy {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Reject, Self::Enqueue, Self::Interrupt, Self::Rollback];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Enqueue => "enqueue",
            Self::Interrupt => "interrupt",
            Self::Rollback => "rollback",
        }
    }

    /// Whether a message ends the turn at work.
    pub fn ends_the_turn(self) -> bool {
        matches!(self, Self::Interrupt | Self::Rollback)
    }
}

impl fmt::Display for IfBusy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for IfBusy {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let rule = "one of reject, enqueue, interrupt, rollback";
        let found = Self::ALL.into_iter().find(|one| one.as_str() == text);
        found.ok_or_else(|| InvalidId::new(text, "what becomes of a message to a busy session", rule))
    }
}

/// What a key may do in a session that another one opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// It may say something, and read.
    Contributor,
    /// It may read.
    Observer,
}

impl Part {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Contributor => "contributor",
            Self::Observer => "observer",
        }
    }
}

/// What becomes of a session's memory once the session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// It stays, and is only read.
    #[default]
    Always,
    /// It stays for so many milliseconds, and is forgotten then.
    For(u64),
    /// It becomes one document of the record, and is forgotten as memory.
    Archive,
    /// It is forgotten at once.
    Forget,
}

impl Keep {
    /// Whether it is what is done where nothing else is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// When something is to be done about the memory of a session that is over since `over`; none: never.
    fn due(self, over: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Always => None,
            Self::For(millis) => Some(over.after(Duration::from_millis(millis))),
            Self::Archive | Self::Forget => Some(over),
        }
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::For(millis) => write!(f, "{}", humantime::format_duration(Duration::from_millis(*millis))),
            Self::Archive => f.write_str("archive"),
            Self::Forget => f.write_str("forget"),
        }
    }
}

impl FromStr for Keep {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let time = |text| humantime::parse_duration(text).ok().filter(|time| (MIN_TIME..=MAX_TIME).contains(time));
        match text {
            "always" => Ok(Self::Always),
            "archive" => Ok(Self::Archive),
            "forget" => Ok(Self::Forget),
            text => time(text).and_then(|time| u64::try_from(time.as_millis()).ok()).map(Self::For).ok_or_else(|| {
                let rule = "`always`, `archive`, `forget`, or a time from `1s` to `366days`";
                InvalidId::new(text, "how long a session's memory is kept", rule)
            }),
        }
    }
}

/// What became of the memory of a session that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Remains {
    /// It was to be archived, and is more than an archive holds: it stays.
    TooLarge,
    /// It is a document of the record.
    Archived,
    /// Nothing of it is there.
    Forgotten,
}

impl Remains {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::TooLarge, Self::Archived, Self::Forgotten];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too-large",
            Self::Archived => "archived",
            Self::Forgotten => "forgotten",
        }
    }
}

/// What a session is opened with; it stays so, but for who takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Who answers: the newest version, each time.
    pub with: Target,
    /// What becomes of a message that comes while a turn is at work.
    pub if_busy: IfBusy,
    /// How many turns may wait.
    pub queue: u32,
    /// After how long without a turn it expires, in milliseconds.
    pub idle: u64,
    /// How long a turn may take, in milliseconds: after that it is ended, and the next one comes.
    pub turn: u64,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Who takes part, besides the key that opened it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub participants: BTreeMap<KeyId, Part>,
    /// The agent that sums it up when it is closed: its last turn; none: nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<AgentRef>,
    /// What becomes of its memory.
    #[serde(default, skip_serializing_if = "Keep::is_default")]
    pub keep: Keep,
}

impl Settings {
    /// With an agent or a workflow that answers, and what is done where nothing else is said.
    pub fn new(with: Target) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            with,
            if_busy: IfBusy::default(),
            queue: Self::QUEUE,
            idle: millis(Self::IDLE),
            turn: millis(Self::TURN),
            title: None,
            participants: BTreeMap::new(),
            summary: None,
            keep: Keep::default(),
        }
    }

    /// How many turns may wait where nothing else is said.
    pub const QUEUE: u32 = 16;
    /// When a session expires where nothing else is said.
    pub const IDLE: Duration = Duration::from_secs(7 * 24 * 60 * 60);
    /// How long a turn may take where nothing else is said.
    pub const TURN: Duration = Duration::from_secs(24 * 60 * 60);
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It takes turns.
    Open,
    /// It takes no more, and those that it has come to their end.
    Closing,
    /// Somebody closed it.
    Closed,
    /// It had no turn for too long.
    Expired,
}

impl Standing {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Open, Self::Closing, Self::Closed, Self::Expired];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Closing => "closing",
            Self::Closed => "closed",
            Self::Expired => "expired",
        }
    }

    /// Whether nothing more happens in it.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Closed | Self::Expired)
    }
}

/// Where a session comes from that is a fork of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The session that it is a fork of.
    pub of: SessionId,
    /// Its last turn that this one has, too; 0: none.
    pub at: u32,
    /// That one's place among those that began: it has all that began up to it, and count.
    pub began: Epoch,
    /// Who held the conversation then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
}

/// A session, as the record has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// The tenant that it belongs to.
    pub tenant: TenantId,
    /// Its id.
    pub id: SessionId,
    /// Whose key opened it.
    pub by: KeyId,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// What it was opened with.
    pub settings: Settings,
    /// Where it stands.
    pub standing: Standing,
    /// How often its lease was taken: a higher one than an earlier holder's.
    pub epoch: Epoch,
    /// How many turns it had, those that wait included.
    pub turns: u32,
    /// Up to this number they are another session's, which it is a fork of.
    pub copied: u32,
    /// The turn at work; none: it is idle.
    pub active: Option<Active>,
    /// How many turns wait.
    pub queued: u32,
    /// Turns before this one are to be ended: somebody interrupted them.
    pub interrupted: u32,
    /// Who holds its conversation; none: whoever is to hold it first, or it is not one that is handed on.
    pub holder: Option<Holder>,
    /// When its last turn began or ended.
    pub last_at: Timestamp,
    /// Since when it takes no more turns; none: it takes some.
    pub closed_at: Option<Timestamp>,
    /// The number of the turn that sums it up; none: it has none, or not yet.
    pub summary: Option<u32>,
    /// What became of its memory once it was over; none: nothing.
    pub memory: Option<Remains>,
    /// When something is to be done about it ([`Session::due`]); none: nothing.
    pub due_at: Option<Timestamp>,
}

/// The turn at work in a session: its run holds the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Active {
    /// Its number, from 1 on.
    pub number: u32,
    /// The id of the run that makes the turn.
    pub run: RunId,
    /// When the turn began.
    pub since: Timestamp,
}

/// A turn of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Its number, from 1 on.
    pub number: u32,
    /// Its run: the message is its input, the answer its result.
    pub run: RunId,
    /// Whose key said it.
    pub by: KeyId,
    /// Whether its run was begun, and is over.
    pub stage: Stage,
    /// The session's epoch as it began: turns begin in another order than that of their numbers where several keys speak. None: it has not begun, or was over
    /// before it did.
    pub began: Option<Epoch>,
    /// Whether the session was taken back to before it: it is no part of the conversation any more.
    pub undone: bool,
    /// Who held the conversation as it began; none: whoever holds it first, or it has not begun.
    pub holder: Option<Holder>,
}

/// What was said in a turn that is over, and what was answered, as agents are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exchange {
    /// The turn's number, from 1 on.
    pub turn: u32,
    /// Whose key said it.
    pub by: KeyId,
    /// What was said.
    pub message: Payload,
    /// What was answered; none: the turn failed, or was ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Payload>,
}

impl Exchange {
    /// About how many bytes it holds.
    pub fn size(&self) -> usize {
        self.message.bytes.len() + self.answer.as_ref().map_or(0, |answer| answer.bytes.len()) + 128
    }
}

/// How far a turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It waits for those before it.
    Queued,
    /// It is at work.
    Active,
    /// It is over, however it ended.
    Over,
}

impl Stage {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Queued, Self::Active, Self::Over];
}

/// Which turn of its session a run is; its session is the run's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its number, from 1 on.
    pub number: u32,
    /// Whether it waits for the turn before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
    /// Whether it ends those before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupts: bool,
    /// Whether it sums the session up, which is being closed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sums_up: bool,
}

/// What is to be done about a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It had no turn for too long.
    Expires,
    /// The turn at work takes too long.
    TakesTooLong(Active),
    /// The turn at work was interrupted; none: turns that wait were.
    IsInterrupted(Option<Active>),
    /// It is being closed, and is to be summed up first.
    SumsUp,
    /// Something is to become of its memory.
    Settles,
}

impl Session {
    /// A new one.
    pub fn opened(tenant: TenantId, id: SessionId, by: KeyId, at: Timestamp, settings: Settings) -> Self {
        let mut new = Self {
            tenant,
            id,
            by,
            opened_at: at,
            settings,
            standing: Standing::Open,
            epoch: Epoch(0),
            turns: 0,
            copied: 0,
            active: None,
            queued: 0,
            interrupted: 0,
            holder: None,
            last_at: at,
            closed_at: None,
            summary: None,
            memory: None,
            due_at: None,
        };
        new.plan();
        new
    }

    /// It is a fork of another one: turns up to this number are behind it.
    pub fn forked(&mut self, fork: &Fork, turns: u32) {
        (self.turns, self.copied, self.holder) = (turns, turns, fork.holder.clone());
    }

    /// It is taken back to before its last turns: who held the conversation then holds it again.
    pub fn rewind(&mut self, holder: Option<Holder>) {
        self.holder = holder;
        self.epoch = self.epoch.next();
    }

    /// A key takes part from now on, or no more.
    pub fn take_part(&mut self, key: KeyId, part: Option<Part>) {
        match part {
            Some(part) => self.settings.participants.insert(key, part),
            None => self.settings.participants.remove(&key),
        };
    }

    /// Whether a key may take part, as far as others leave it room.
    pub fn has_room_for(&self, key: &KeyId) -> bool {
        let participants = &self.settings.participants;
        participants.contains_key(key) || participants.len() < MAX_PARTICIPANTS
    }

    /// What a key may do in it besides what its role lets it do; none: nothing.
    pub fn part_of(&self, key: &KeyId) -> Option<Part> {
        if self.by == *key { Some(Part::Contributor) } else { self.settings.participants.get(key).copied() }
    }

    /// Whether it is past its time at `now`, also where nobody has written that yet.
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.standing == Standing::Open && self.is_idle() && self.due_at.is_some_and(|at| at <= now)
    }

    /// How long it may still take to undo what a turn did, that was to be ended: as long again as a turn may take.
    pub fn undoes_until(&self, active: &Active) -> Timestamp {
        active.since.after(Duration::from_millis(self.settings.turn.saturating_mul(2)))
    }

    /// Whether no turn is at work, and none waits.
    pub fn is_idle(&self) -> bool {
        self.active.is_none() && self.queued == 0
    }

    /// How many turns of one key may wait: of a session in which others take part half of the places, so that nobody fills it.
    pub fn share(&self) -> u32 {
        let is_alone = self.settings.participants.values().all(|part| *part == Part::Observer);
        let places = self.settings.queue.max(1);
        if is_alone { places } else { places.div_ceil(2) }
    }

    /// Which turn a message that comes now is, of a key of which so many wait; none: the session has no place for it.
    pub fn next_place(&self, now: Timestamp, waiting: u32) -> Option<Place> {
        let number = self.turns.checked_add(1)?;
        let interrupts = self.settings.if_busy.ends_the_turn();
        let interrupts = interrupts && !self.is_idle();
        let place = Place { number, waits: !self.is_idle(), interrupts, sums_up: false };
        self.takes(place, now, waiting).then_some(place)
    }

    /// Whether a turn can begin, or wait, in this place, of a key of which so many wait.
    pub fn takes(&self, place: Place, now: Timestamp, waiting: u32) -> bool {
        let is_next = self.turns.checked_add(1) == Some(place.number);
        if place.sums_up {
            return is_next && self.is_to_be_summed_up() && !place.waits && !place.interrupts;
        }
        let is_next = is_next && self.standing == Standing::Open;
        let has_room = match place.waits {
            false => self.is_idle() && !self.has_expired(now),
            true => {
                !self.is_idle()
                    && self.settings.if_busy != IfBusy::Reject
                    && self.queued < self.settings.queue.max(1)
                    && waiting < self.share()
            }
        };
        is_next && has_room
    }

    /// A turn begins, or waits.
    pub fn take(&mut self, place: Place, run: RunId, at: Timestamp) {
        self.turns = place.number;
        if place.interrupts {
            self.interrupted = place.number;
        }
        if place.sums_up {
            self.summary = Some(place.number);
        }
        match place.waits {
            true => self.queued += 1,
            false => self.begin(place.number, run, at),
        }
        self.plan();
    }

    /// The place of the turn that sums it up; none: it is not to have one, or not now.
    pub fn place_of_summary(&self) -> Option<Place> {
        let place = Place { number: self.turns.checked_add(1)?, waits: false, interrupts: false, sums_up: true };
        self.is_to_be_summed_up().then_some(place)
    }

    /// Whether it is being closed, and nothing is left to be done but to sum it up. What is closed at once is not summed up, nor is what
    /// nothing was said in.
    pub fn is_to_be_summed_up(&self) -> bool {
        let closes_at_once = self.interrupted > self.turns;
        let has_one = self.settings.summary.is_some() && self.turns > 0 && self.summary.is_none();
        self.standing == Standing::Closing && has_one && !closes_at_once && self.is_idle()
    }

    /// A turn that waited is over before it began.
    pub fn leave(&mut self) {
        self.queued = self.queued.saturating_sub(1);
    }

    /// The turn at work is over.
    pub fn finish(&mut self, at: Timestamp) {
        (self.active, self.last_at) = (None, at);
    }

    /// Goes on after a turn is over: where none is at work `next` begins, which waited, and was not interrupted.
    pub fn go_on(&mut self, next: Option<(u32, RunId)>, at: Timestamp) {
        if let (Some((number, run)), None) = (next, &self.active) {
            self.queued = self.queued.saturating_sub(1);
            self.begin(number, run, at);
        } else if self.standing == Standing::Closing && self.is_idle() && !self.is_to_be_summed_up() {
            self.over(Standing::Closed, at);
        }
        self.plan();
    }

    /// It takes no more turns; `now`: those that it has are to be ended.
    pub fn close(&mut self, now: bool, at: Timestamp) {
        if now {
            self.interrupted = self.turns.saturating_add(1);
        }
        if !self.standing.is_over() {
            (self.standing, self.closed_at) = (Standing::Closing, self.closed_at.or(Some(at)));
            if self.is_idle() && !self.is_to_be_summed_up() {
                self.over(Standing::Closed, at);
            }
        }
        self.plan();
    }

    /// Nothing more happens in it: what becomes of its memory is counted from here.
    fn over(&mut self, standing: Standing, at: Timestamp) {
        (self.standing, self.closed_at) = (standing, Some(at));
    }

    /// A turn's run hands the conversation on.
    pub fn hand_off(&mut self, handed: &HandedOff, (turn, run): (u32, RunId), at: Timestamp) {
        let (agent, givers) = (handed.to.clone(), handed.givers.clone());
        self.holder = Some(Holder { agent, givers, since: turn, run: Some(run), at });
        self.epoch = self.epoch.next();
    }

    /// A person hands the conversation on, between two turns.
    pub fn hand_over(&mut self, to: AgentName, at: Timestamp) {
        self.holder =
            Some(Holder { agent: to, givers: Vec::new(), since: self.turns.saturating_add(1), run: None, at });
        self.epoch = self.epoch.next();
    }

    /// It had no turn for too long.
    pub fn expire(&mut self, at: Timestamp) {
        self.over(Standing::Expired, at);
        self.plan();
    }

    /// This became of its memory.
    pub fn settle(&mut self, memory: Remains) {
        self.memory = Some(memory);
        self.plan();
    }

    /// What is to be done about it at `now`.
    pub fn due(&self, now: Timestamp) -> Option<Due> {
        if self.due_at.is_none_or(|at| at > now) {
            return None;
        }
        match self.active {
            Some(active) if active.number < self.interrupted => Some(Due::IsInterrupted(Some(active))),
            Some(active) => Some(Due::TakesTooLong(active)),
            None if self.queued > 0 => Some(Due::IsInterrupted(None)),
            None if self.is_to_be_summed_up() => Some(Due::SumsUp),
            None if self.standing.is_over() => self.memory.is_none().then_some(Due::Settles),
            None => self.has_expired(now).then_some(Due::Expires),
        }
    }

    fn begin(&mut self, number: u32, run: RunId, at: Timestamp) {
        self.active = Some(Active { number, run, since: at });
        self.epoch = self.epoch.next();
        self.last_at = at;
    }

    /// When something is to be done about it next.
    fn plan(&mut self) {
        self.due_at = match (&self.active, self.standing) {
            (Some(active), _) if active.number < self.interrupted => Some(active.since),
            (Some(active), _) => Some(active.since.after(Duration::from_millis(self.settings.turn))),
            (None, _) if self.queued > 0 => Some(self.last_at),
            (None, Standing::Open) => Some(self.last_at.after(Duration::from_millis(self.settings.idle))),
            (None, Standing::Closing) => self.closed_at.filter(|_| self.is_to_be_summed_up()),
            (None, Standing::Closed | Standing::Expired) => {
                let over = self.closed_at.filter(|_| self.memory.is_none());
                over.and_then(|over| self.settings.keep.due(over))
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn session(if_busy: IfBusy, queue: u32) -> Session {
        let with = Target::Workflow("w".parse().unwrap());
        let settings = Settings { if_busy, queue, idle: HOUR, turn: HOUR / 2, ..Settings::new(with) };
        let (tenant, id) = ("acme".parse().unwrap(), "ses-1".parse().unwrap());
        Session::opened(tenant, id, "keykeykeykey".parse().unwrap(), at(0), settings)
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn run(number: u8) -> RunId {
        RunId::new(at(1), [number; 10])
    }

    #[test]
    fn a_clock_that_jumps_ends_what_is_due_and_nothing_else() {
        let mut session = session(IfBusy::Enqueue, 2);
        session.take(session.next_place(at(HOUR / 2), 0).unwrap(), run(1), at(HOUR / 2));
        // Back: nothing is due, and turns end and begin as ever.
        assert_eq!(session.due(at(0)), None);
        session.finish(at(1));
        session.go_on(None, at(1));
        assert!(!session.has_expired(at(HOUR)) && session.has_expired(at(HOUR + 1)));
        assert!(session.next_place(at(0), 0).is_some());
        // On by a year: it expired, once, and takes nothing any more, also where the clock is set back again.
        let year = 365 * 24 * HOUR;
        assert_eq!((session.due(at(year)), session.next_place(at(year), 0)), (Some(Due::Expires), None));
        session.expire(at(year));
        assert_eq!((session.due(at(2 * year)), session.next_place(at(2), 0)), (None, None));
    }

    #[test]
    fn one_turn_is_at_work_and_so_many_wait() {
        let mut session = session(IfBusy::Enqueue, 2);
        for number in 1..=3 {
            let place = session.next_place(at(1), 0).unwrap();
            assert_eq!((place.number, place.waits, place.interrupts), (number, number > 1, false));
            session.take(place, run(number as u8), at(1));
        }
        assert_eq!(session.next_place(at(1), 0), None, "two wait");
        assert_eq!((session.active.unwrap().number, session.queued, session.epoch), (1, 2, Epoch(1)));
        session.finish(at(2));
        session.go_on(Some((2, run(2))), at(2));
        assert_eq!((session.active.unwrap().number, session.queued, session.epoch), (2, 1, Epoch(2)));
        session.leave();
        session.finish(at(3));
        session.go_on(None, at(3));
        assert!(session.is_idle());
        assert_eq!(session.due_at, Some(at(3 + HOUR)));
    }

    #[test]
    fn a_busy_session_refuses_where_that_is_said() {
        let mut session = session(IfBusy::Reject, 16);
        session.take(session.next_place(at(1), 0).unwrap(), run(1), at(1));
        assert_eq!(session.next_place(at(1), 0), None);
        assert_eq!(session.due(at(HOUR)), Some(Due::TakesTooLong(session.active.unwrap())));
    }

    #[test]
    fn nobody_fills_a_session_in_which_others_take_part() {
        let mut session = session(IfBusy::Enqueue, 5);
        session.take(session.next_place(at(1), 0).unwrap(), run(1), at(1));
        assert!(session.next_place(at(1), 4).is_some(), "it has all places for itself");
        session.settings.participants.insert("otherotherot".parse().unwrap(), Part::Observer);
        assert!(session.next_place(at(1), 4).is_some(), "who only reads takes no place");
        session.settings.participants.insert("thirdthirdth".parse().unwrap(), Part::Contributor);
        assert!(session.next_place(at(1), 2).is_some());
        assert!(session.next_place(at(1), 3).is_none(), "half of five is three");
    }

    #[test]
    fn who_interrupts_ends_all_that_came_before() {
        let mut session = session(IfBusy::Interrupt, 16);
        for number in 1..=3 {
            session.take(session.next_place(at(1), 0).unwrap(), run(number), at(1));
        }
        assert_eq!(session.due(at(1)), Some(Due::IsInterrupted(session.active)));
        session.finish(at(2));
        session.go_on(Some((2, run(2))), at(2));
        assert_eq!(session.due(at(2)), Some(Due::IsInterrupted(session.active)));
        session.finish(at(3));
        session.go_on(Some((3, run(3))), at(3));
        assert_eq!(session.due(at(3)), None, "nobody interrupted the last one");
    }

    #[test]
    fn a_session_expires_when_it_had_no_turn_for_so_long() {
        let mut session = session(IfBusy::Enqueue, 1);
        assert_eq!(session.due(at(HOUR - 1)), None);
        assert_eq!(session.due(at(HOUR)), Some(Due::Expires));
        assert_eq!(session.next_place(at(HOUR), 0), None, "also where nobody has written that yet");
        session.take(session.next_place(at(HOUR - 1), 0).unwrap(), run(1), at(HOUR - 1));
        session.finish(at(HOUR));
        session.go_on(None, at(HOUR));
        assert_eq!(session.due(at(2 * HOUR - 1)), None);
    }

    #[test]
    fn a_session_that_is_closed_at_once_begins_nothing_more() {
        let mut session = session(IfBusy::Enqueue, 16);
        for number in 1..=3 {
            session.take(session.next_place(at(1), 0).unwrap(), run(number), at(1));
        }
        session.close(true, at(9));
        assert_eq!(session.due(at(1)), Some(Due::IsInterrupted(session.active)));
        // The one at work ends by itself: those that wait are none to begin.
        session.finish(at(2));
        session.go_on(None, at(2));
        assert_eq!((session.standing, session.due(at(2))), (Standing::Closing, Some(Due::IsInterrupted(None))));
        for _ in 0..2 {
            session.leave();
            session.go_on(None, at(3));
        }
        assert_eq!((session.standing, session.due_at), (Standing::Closed, None));
    }

    #[test]
    fn a_session_that_closes_does_what_it_has_first() {
        let mut busy = session(IfBusy::Enqueue, 1);
        busy.take(busy.next_place(at(1), 0).unwrap(), run(1), at(1));
        busy.close(false, at(9));
        assert_eq!((busy.standing, busy.next_place(at(1), 0)), (Standing::Closing, None));
        busy.finish(at(2));
        busy.go_on(None, at(2));
        assert_eq!((busy.standing, busy.due_at), (Standing::Closed, None));
        let mut idle = session(IfBusy::Enqueue, 1);
        idle.close(false, at(9));
        assert_eq!(idle.standing, Standing::Closed);
    }
}
