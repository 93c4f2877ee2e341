//! What every record does with sessions.

use ltmc_model::delta::{Delta, MemoryValue};
use ltmc_model::hand_off::HandedOff;
use ltmc_model::journal::{Act, Change, Entry, Event, RunStarted};
use ltmc_model::memory::Drawer;
use ltmc_model::run::{Run, State, Target, Usage};
use ltmc_model::session::{
    Fork, Keep, MAX_PARTICIPANTS, MAX_TIME, Part, Place, Remains, Session, Settings, Stage, Standing,
};
use ltmc_model::{AgentName, Digest, Epoch, KeyId, Payload, RunId, SessionId, StepPath, Timestamp};

use super::{Fixture, Store};
use crate::sessions::SessionFilter;
use crate::testing::sample::{Owner, at, delete, put, run_id, started, tenant};
use crate::{Append, Changes, Durability, Expect, Kind, ReadSessions as _, WriteCatalog as _, WriteJournal as _};

fn id(name: &str) -> SessionId {
    format!("ses-{name}").parse().unwrap()
}

fn key(letter: char) -> KeyId {
    letter.to_string().repeat(12).parse().unwrap()
}

fn settings(queue: u32) -> Settings {
    Settings { queue, idle: 10_000, turn: 5_000, ..Settings::new(Target::Agent("echo".parse().unwrap())) }
}

async fn act<S: Store>(store: &S, of: &str, when: Timestamp, by: char, change: Change) {
    store.act(&tenant(of), when, Act { by: Some(key(by)), change }).await.unwrap();
}

async fn open<S: Store>(store: &S, of: &str, name: &str, settings: Settings) {
    act(store, of, at(0), 'a', Change::SessionOpened { id: id(name), settings: Box::new(settings), fork: None }).await;
}

async fn one<S: Store>(store: &S, of: &str, name: &str) -> Session {
    store.session(&tenant(of), &id(name)).await.unwrap().unwrap()
}

/// A turn's owner, and its first entries, as of `when`.
fn turn(of: &str, name: &str, (number, waits): (u32, bool), by: char, when: u64) -> (Owner, Append) {
    let mut owner = Owner::new(of, u64::from(number) + 100);
    owner.row = Run { session: id(name), turn: Some(number), by: key(by), updated_at: at(when), ..owner.row };
    let place = Place { number, waits, interrupts: false, sums_up: false };
    let begun = RunStarted { session: id(name), turn: Some(place), by: key(by), ..started(&tenant(of)) };
    let mut entries = vec![Entry { at: at(when), event: Event::RunStarted(Box::new(begun)) }];
    if waits {
        let until = Timestamp::NEVER;
        entries.push(Entry { at: at(when), event: Event::RunSuspended { until, heard: None } });
        (owner.row.state, owner.row.wakes_at) = (State::Waiting, Some(until));
    }
    let append = owner.write(entries);
    (owner, append)
}

/// Its end.
fn ended(owner: &mut Owner, when: u64) -> Append {
    (owner.row.state, owner.row.wakes_at, owner.row.updated_at) = (State::Completed, None, at(when));
    owner.append(1)
}

async fn write<S: Store>(store: &S, append: Append) -> Result<(), Kind> {
    store.append(append, Durability::Barrier).await.map_err(|error| error.kind)
}

async fn stages<S: Store>(store: &S, of: &str, name: &str) -> Vec<(u32, Stage)> {
    let turns = store.turns(&tenant(of), &id(name), 0, 100).await.unwrap();
    turns.into_iter().map(|turn| (turn.number, turn.stage)).collect()
}

async fn is_due<S: Store>(store: &S, of: &str, run: RunId) -> bool {
    store.run(&tenant(of), run).await.unwrap().unwrap().wakes_at.is_some_and(|at| at < Timestamp::NEVER)
}

/// One turn is at work; the end of it makes the next one due, those of keys that waited longer first.
pub async fn turns_begin_one_after_the_other<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    open(&*store, "acme", "x", settings(3)).await;
    let (mut first, append) = turn("acme", "x", (1, false), 'a', 1);
    write(&*store, append).await.unwrap();
    let mut waiting = Vec::new();
    for (number, by) in [(2, 'a'), (3, 'a'), (4, 'b')] {
        let (owner, append) = turn("acme", "x", (number, true), by, 2);
        write(&*store, append).await.unwrap();
        waiting.push(owner);
    }
    let full = turn("acme", "x", (5, true), 'c', 2).1;
    assert_eq!(write(&*store, full).await, Err(Kind::Conflict), "three wait");
    let session = one(&*store, "acme", "x").await;
    assert_eq!((session.active.unwrap().number, session.queued, session.turns, session.epoch.0), (1, 3, 4, 1));

    write(&*store, ended(&mut first, 3)).await.unwrap();
    let expected = [(1, Stage::Over), (2, Stage::Queued), (3, Stage::Queued), (4, Stage::Active)];
    assert_eq!(stages(&*store, "acme", "x").await, expected, "the other key has had none");
    assert!(is_due(&*store, "acme", waiting[2].row.id).await);
    assert!(!is_due(&*store, "acme", waiting[0].row.id).await);
    let session = one(&*store, "acme", "x").await;
    assert_eq!((session.active.unwrap().run, session.queued, session.epoch.0), (waiting[2].row.id, 2, 2));

    // One that waits may be ended; nothing else begins by that.
    write(&*store, ended(&mut waiting[0], 4)).await.unwrap();
    assert_eq!(one(&*store, "acme", "x").await.queued, 1);
    let mut last = waiting.remove(2);
    write(&*store, ended(&mut last, 5)).await.unwrap();
    let expected = [(1, Stage::Over), (2, Stage::Over), (3, Stage::Active), (4, Stage::Over)];
    assert_eq!(stages(&*store, "acme", "x").await, expected);
}

/// In a session in which others take part nobody has more than half of the places.
pub async fn nobody_fills_a_session<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let participants = [(key('b'), Part::Contributor)].into();
    open(&*store, "acme", "x", Settings { participants, ..settings(4) }).await;
    write(&*store, turn("acme", "x", (1, false), 'a', 1).1).await.unwrap();
    for number in [2, 3] {
        write(&*store, turn("acme", "x", (number, true), 'a', 1).1).await.unwrap();
    }
    assert_eq!(store.waiting_turns(&tenant("acme"), &id("x"), &key('a')).await.unwrap(), 2);
    assert_eq!(write(&*store, turn("acme", "x", (4, true), 'a', 1).1).await, Err(Kind::Conflict));
    write(&*store, turn("acme", "x", (4, true), 'b', 1).1).await.unwrap();
}

/// Of two messages that take the same place in a session one comes through.
pub async fn a_place_is_taken_once<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    open(&*store, "acme", "x", settings(3)).await;
    let (_, append) = turn("acme", "x", (1, false), 'a', 1);
    let mut same = turn("acme", "x", (1, false), 'b', 1).1;
    same.run.id = run_id(900);
    write(&*store, append).await.unwrap();
    assert_eq!(write(&*store, same).await, Err(Kind::Conflict));
    let beside = turn("acme", "x", (2, false), 'b', 1).1;
    assert_eq!(write(&*store, beside).await, Err(Kind::Conflict), "one is at work");
    assert_eq!(write(&*store, turn("acme", "none", (1, false), 'a', 1).1).await, Err(Kind::Conflict));
    assert_eq!(stages(&*store, "acme", "x").await, [(1, Stage::Active)]);
}

/// Neither one that waits changes anything, nor one that lost its session, which may still end.
pub async fn a_turn_that_is_not_at_work_changes_nothing<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    open(&*store, "acme", "x", settings(3)).await;
    let (mut first, append) = turn("acme", "x", (1, false), 'a', 1);
    write(&*store, append).await.unwrap();
    let (mut second, append) = turn("acme", "x", (2, true), 'a', 1);
    write(&*store, append).await.unwrap();
    let change = || put(&Drawer::Global, "k", store.next_revision(&tenant("acme")), "v");
    let mut early = second.remember(vec![change()]);
    early.previous = Some(early.run.epoch);
    assert_eq!(write(&*store, early).await, Err(Kind::Displaced), "it waits");
    second.row.seq = ltmc_model::Seq(second.row.seq.0 - 1);
    write(&*store, first.remember(vec![change()])).await.unwrap();
    let lost = Change::TurnLost { session: id("x"), number: 1, run: first.row.id, why: "it hangs".into() };
    let at_work = |run| {
        let expects = vec![Expect::AtWork { session: id("x"), run }];
        Changes { deltas: Vec::new(), expects }
    };
    let of = tenant("acme");
    let by = Act { by: None, change: lost };
    let stale = store.act_with(&of, at(2), by.clone(), at_work(second.row.id)).await.unwrap_err();
    assert_eq!(stale.kind, Kind::Stale, "that one is not at work");
    store.act_with(&of, at(2), by, at_work(first.row.id)).await.unwrap();
    assert_eq!(stages(&*store, "acme", "x").await, [(1, Stage::Over), (2, Stage::Active)]);
    assert!(is_due(&*store, "acme", second.row.id).await);
    let mut late = first.remember(vec![change()]);
    assert_eq!(write(&*store, late.clone()).await, Err(Kind::Displaced), "it has lost its session");
    late.changes = Changes::default();
    (late.run.state, late.run.updated_at) = (State::Failed, at(3));
    write(&*store, late).await.unwrap();
    assert_eq!(one(&*store, "acme", "x").await.active.unwrap().number, 2, "the next one is at work as before");
}

/// What keys held before a turn changed them is known, and put back, by the order in which turns began; a fork has it as it was, and its own after that.
pub async fn what_memory_held_after_a_turn_is_kept<F: Fixture>(fixture: &F) {
    const ALL: (u32, usize) = (100, usize::MAX);
    let store = fixture.fresh().await;
    open(&*store, "acme", "x", settings(3)).await;
    let (of, drawer) = (tenant("acme"), |name: &str| Drawer::Session(id(name)));
    let write_in =
        |key: &str, value: &str| put(&drawer("x"), key, store.next_revision(&tenant("acme")), value.to_owned());
    let by_client = async |name: &str| {
        let change = Change::Context { call: "memory.put".into(), about: name.into(), request: Digest([0; 32]) };
        let changes = Changes { deltas: vec![Delta::Memory(write_in(name, "client"))], expects: Vec::new() };
        store.act_with(&of, at(1), Act { by: Some(key('a')), change }, changes).await.unwrap();
    };
    by_client("early").await;
    // The second and the third wait for the first; the third is of another key, and comes before the second.
    let mut owners = Vec::new();
    for (number, by) in [(1, 'a'), (2, 'a'), (3, 'b')] {
        let (owner, append) = turn("acme", "x", (number, number > 1), by, 1);
        write(&*store, append).await.unwrap();
        owners.push(owner);
    }
    for (number, keys) in [(1, ["a", "b"]), (3, ["a", "early"]), (2, ["a", "c"])] {
        let (owner, value) = (&mut owners[number - 1], number.to_string());
        write(&*store, owner.remember(vec![write_in(keys[0], &value)])).await.unwrap();
        // The last of them with the entry that ends the turn, which has the next one begin.
        let mut last = ended(owner, number as u64 + 1);
        last.changes.deltas = vec![Delta::Memory(write_in(keys[1], &value))];
        write(&*store, last).await.unwrap();
    }
    by_client("late").await;
    let began = store.begun(&of, &id("x"), None, None, 10).await.unwrap();
    assert_eq!(began.iter().map(|turn| turn.number).collect::<Vec<_>>(), [2, 3, 1], "the last first");
    let stamp = |number: u32| began.iter().find(|turn| turn.number == number).and_then(|turn| turn.began).unwrap();
    let some = store.begun(&of, &id("x"), Some(stamp(1)), Some(stamp(2)), 10).await.unwrap();
    assert_eq!(some.iter().map(|turn| turn.number).collect::<Vec<_>>(), [3]);
    let text = |value: &MemoryValue| String::from_utf8(value.bytes.to_vec()).unwrap();
    let since = async |began: Epoch| {
        let changed = store.changed_since(&of, &id("x"), began, ALL).await.unwrap();
        let told =
            |(key, value): &(String, Option<MemoryValue>)| format!("{key}={}", value.as_ref().map_or("-".into(), text));
        changed.iter().map(told).collect::<Vec<_>>()
    };
    let after = async |began: Epoch| {
        let kept = store.memory_after(&of, &id("x"), began, ALL).await.unwrap();
        kept.iter().map(|(key, value)| format!("{key}={}", text(value))).collect::<Vec<_>>()
    };
    assert_eq!(since(stamp(2)).await, Vec::<String>::new());
    assert_eq!(since(stamp(3)).await, ["a=3", "c=-", "late=-"], "a client's counts to the turn before it");
    assert_eq!(since(Epoch(0)).await, ["a=-", "b=-", "c=-", "early=client", "late=-"]);
    assert_eq!(after(stamp(2)).await, ["a=2", "b=1", "c=2", "early=3", "late=client"]);
    assert_eq!(after(stamp(1)).await, ["a=1", "b=1", "early=client"]);
    assert_eq!(store.changed_since(&of, &id("x"), Epoch(0), (2, usize::MAX)).await.unwrap().len(), 2);
    let act_of = |change| Act { by: Some(key('a')), change };
    let back = Change::SessionRewound { id: id("x"), to: 1, began: stamp(1), holder: None, keys: 1 };
    let deltas = vec![Delta::Memory(write_in("a", "1"))];
    store.act_with(&of, at(9), act_of(back), Changes { deltas, expects: Vec::new() }).await.unwrap();
    let turns = store.turns(&of, &id("x"), 0, 10).await.unwrap();
    assert_eq!(turns.iter().map(|turn| turn.undone).collect::<Vec<_>>(), [false, true, true]);
    assert_eq!(since(stamp(1)).await, Vec::<String>::new(), "what was put back is as it was");
    by_client("a").await;
    assert_eq!(since(stamp(1)).await, Vec::<String>::new(), "what a client writes then counts to the turn before");
    let epoch = one(&*store, "acme", "x").await.epoch;
    let fork = Some(Box::new(Fork { of: id("x"), at: 1, began: stamp(1), holder: None }));
    let opened = Change::SessionOpened { id: id("y"), settings: Box::new(settings(3)), fork };
    let deltas = || vec![Delta::Memory(put(&drawer("y"), "a", store.next_revision(&tenant("acme")), "1"))];
    let stale = vec![Expect::SessionEpoch { session: id("x"), epoch: Epoch(epoch.0 - 1) }];
    let late = store.act_with(&of, at(9), act_of(opened.clone()), Changes { deltas: deltas(), expects: stale }).await;
    assert_eq!(late.unwrap_err().kind, Kind::Stale);
    let expects = vec![Expect::SessionEpoch { session: id("x"), epoch }];
    store.act_with(&of, at(9), act_of(opened), Changes { deltas: deltas(), expects }).await.unwrap();
    let forked = one(&*store, "acme", "y").await;
    assert_eq!((forked.turns, forked.copied, stages(&*store, "acme", "y").await), (1, 1, vec![(1, Stage::Over)]));
    assert_eq!(store.changed_since(&of, &id("y"), Epoch(0), ALL).await.unwrap(), [], "what it began with is no change");
    assert_eq!(forked.next_place(at(10), 0).map(|place| place.number), Some(2), "it goes on behind what was said");
}

/// Who holds a conversation is who was handed it last, whoever says something late; a host that is there later knows it.
pub async fn a_conversation_is_handed_on_by_the_turn_at_work_and_between_turns<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    open(&*store, "acme", "x", settings(3)).await;
    let name = |name: &str| name.parse::<AgentName>().unwrap();
    let handed = |node: StepPath, to: &str| {
        let handed = HandedOff {
            node,
            from: name("a"),
            to: name(to),
            number: 1,
            reason: "so".into(),
            passed: None,
            givers: vec![name("a")],
            back: false,
        };
        Entry { at: at(2), event: Event::HandedOff(Box::new(handed)) }
    };
    let holder =
        async || one(&*store, "acme", "x").await.holder.map(|holder| (holder.agent, holder.givers, holder.since));
    let (mut first, append) = turn("acme", "x", (1, false), 'a', 1);
    write(&*store, append).await.unwrap();
    assert_eq!(holder().await, None);
    write(&*store, first.write(vec![handed(StepPath::root().child(0), "c")])).await.unwrap();
    assert_eq!(holder().await, None, "a conversation within the turn is another one");
    write(&*store, first.write(vec![handed(StepPath::root(), "b")])).await.unwrap();
    assert_eq!(holder().await, Some((name("b"), vec![name("a")], 1)));
    let over = |to: &str| {
        let change = Change::SessionHandedOver { session: id("x"), from: None, to: name(to), reason: "so".into() };
        Act { by: Some(key('a')), change }
    };
    let idle = |epoch| Changes { deltas: Vec::new(), expects: vec![Expect::Idle { session: id("x"), epoch }] };
    let of = tenant("acme");
    let epoch = one(&*store, "acme", "x").await.epoch;
    let busy = store.act_with(&of, at(3), over("c"), idle(epoch)).await.unwrap_err();
    assert_eq!(busy.kind, Kind::Stale, "a turn is at work");
    write(&*store, ended(&mut first, 4)).await.unwrap();
    assert_eq!(
        write(&*store, first.write(vec![handed(StepPath::root(), "c")])).await,
        Err(Kind::Displaced),
        "too late"
    );
    assert_eq!(holder().await, Some((name("b"), vec![name("a")], 1)));
    store.act_with(&of, at(5), over("c"), idle(epoch)).await.unwrap();
    assert_eq!(holder().await, Some((name("c"), Vec::new(), 2)));
    let late = store.act_with(&of, at(5), over("b"), idle(epoch)).await.unwrap_err();
    assert_eq!(late.kind, Kind::Stale, "somebody else was faster");
}

/// One that is closed does what it has first; one that expired takes nothing.
pub async fn sessions_close_and_expire<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    for name in ["busy", "idle", "old"] {
        open(&*store, "acme", name, settings(3)).await;
    }
    let (mut first, append) = turn("acme", "busy", (1, false), 'a', 1);
    write(&*store, append).await.unwrap();
    for name in ["busy", "idle"] {
        act(&*store, "acme", at(2), 'a', Change::SessionClosed { id: id(name), expired: false, now: false, why: None })
            .await;
    }
    assert_eq!(one(&*store, "acme", "busy").await.standing, Standing::Closing);
    assert_eq!(one(&*store, "acme", "idle").await.standing, Standing::Closed);
    assert_eq!(write(&*store, turn("acme", "busy", (2, true), 'a', 2).1).await, Err(Kind::Conflict));
    write(&*store, ended(&mut first, 3)).await.unwrap();
    assert_eq!(one(&*store, "acme", "busy").await.standing, Standing::Closed);

    let of = tenant("acme");
    assert_eq!(store.coming_sessions(at(9_999), None, 10).await.unwrap(), []);
    assert_eq!(store.coming_sessions(at(10_000), None, 10).await.unwrap(), [(of.clone(), at(10_000))]);
    assert_eq!(store.due_sessions(&of, at(9_999), None, 10).await.unwrap(), []);
    assert_eq!(due(&*store, "acme", 10_000, None, 10).await, [id("old")]);
    assert_eq!(
        write(&*store, turn("acme", "old", (1, false), 'a', 10_000).1).await,
        Err(Kind::Conflict),
        "it is too late"
    );
    let expired =
        Act { by: None, change: Change::SessionClosed { id: id("old"), expired: true, now: false, why: None } };
    let by = |expires| Changes { deltas: Vec::new(), expects: vec![Expect::OpenSession { id: id("old"), expires }] };
    let early = store.act_with(&of, at(9_999), expired.clone(), by(Some(at(9_999)))).await.unwrap_err();
    assert_eq!(early.kind, Kind::Stale);
    store.act_with(&of, at(10_000), expired, by(Some(at(10_000)))).await.unwrap();
    assert_eq!(one(&*store, "acme", "old").await.standing, Standing::Expired);
    assert_eq!(store.coming_sessions(at(99_999), None, 10).await.unwrap(), []);
}

/// Which of a tenant's sessions are due by `now`.
async fn due(
    store: &impl Store,
    of: &str,
    now: u64,
    after: Option<&(Timestamp, SessionId)>,
    limit: u32,
) -> Vec<SessionId> {
    let due = store.due_sessions(&tenant(of), at(now), after, limit).await.unwrap();
    due.into_iter().map(|session| session.id).collect()
}

/// Tenant by tenant, and of each those first that are due the longest, in pages.
pub async fn sessions_that_are_due_are_read_tenant_by_tenant<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    for (of, name, idle) in [
        ("beta", "e", 5_000),
        ("acme", "c", 2_000),
        ("acme", "b", 2_000),
        ("acme", "d", 9_000),
        ("acme", "a", 3_000),
        ("gamma", "f", 1_000),
    ] {
        open(&*store, of, name, Settings { idle, ..settings(3) }).await;
    }
    act(&*store, "gamma", at(2), 'a', Change::SessionClosed { id: id("f"), expired: false, now: false, why: None })
        .await;
    let store = fixture.crash(store).await;
    let [acme, beta] = ["acme", "beta"].map(tenant);
    let coming = store.coming_sessions(at(5_000), None, 10).await.unwrap();
    assert_eq!(coming, [(acme.clone(), at(2_000)), (beta.clone(), at(5_000))]);
    assert_eq!(store.coming_sessions(at(4_999), None, 10).await.unwrap(), coming[..1], "what is due later is not read");
    assert_eq!(store.coming_sessions(at(5_000), None, 1).await.unwrap(), coming[..1]);
    assert_eq!(store.coming_sessions(at(5_000), Some(&acme), 10).await.unwrap(), coming[1..]);
    assert_eq!(store.coming_sessions(at(5_000), Some(&beta), 10).await.unwrap(), []);
    assert_eq!(due(&*store, "acme", 8_999, None, 10).await, [id("b"), id("c"), id("a")]);
    assert_eq!(due(&*store, "acme", 9_000, None, 2).await, [id("b"), id("c")]);
    assert_eq!(due(&*store, "acme", 9_000, Some(&(at(2_000), id("b"))), 2).await, [id("c"), id("a")]);
    assert_eq!(due(&*store, "acme", 9_000, Some(&(at(3_000), id("a"))), 2).await, [id("d")]);
    assert_eq!(due(&*store, "gamma", 9_000, None, 10).await, []);
}

/// While it is being closed its one summary may begin, and nothing else; then its memory becomes an archive once, and is taken back no more.
pub async fn a_session_is_summed_up_and_its_memory_archived<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let (of, x) = (tenant("acme"), id("x"));
    let summary = Some("editor".parse().unwrap());
    open(&*store, "acme", "x", Settings { summary, keep: Keep::Archive, ..settings(3) }).await;
    let (mut first, append) = turn("acme", "x", (1, false), 'a', 1);
    write(&*store, append).await.unwrap();
    let mut noted = first.append(1);
    let drawer = Drawer::Session(x.clone());
    noted.changes = Changes::blind(vec![Delta::Memory(put(&drawer, "k", store.next_revision(&tenant("acme")), "v"))]);
    write(&*store, noted).await.unwrap();
    let closed = |now| Change::SessionClosed { id: x.clone(), expired: false, now, why: None };
    act(&*store, "acme", at(2), 'a', closed(false)).await;
    let sums_up = |number| {
        let (mut owner, mut append) = turn("acme", "x", (number, false), 'a', 3);
        let place = Place { number, waits: false, interrupts: false, sums_up: true };
        if let Event::RunStarted(begun) = &mut append.entries[0].event {
            begun.turn = Some(place);
        }
        owner.row.turn = Some(number);
        (owner, append)
    };
    assert_eq!(write(&*store, sums_up(2).1).await, Err(Kind::Conflict), "a turn is at work");
    write(&*store, ended(&mut first, 3)).await.unwrap();
    let session = one(&*store, "acme", "x").await;
    assert_eq!((session.standing, session.due_at), (Standing::Closing, Some(at(2))));
    assert_eq!(write(&*store, turn("acme", "x", (2, false), 'a', 3).1).await, Err(Kind::Conflict), "it is no summary");
    let (mut last, append) = sums_up(2);
    write(&*store, append).await.unwrap();
    write(&*store, ended(&mut last, 4)).await.unwrap();
    let session = one(&*store, "acme", "x").await;
    assert_eq!((session.standing, session.summary, session.closed_at), (Standing::Closed, Some(2), Some(at(4))));
    assert_eq!(write(&*store, sums_up(3).1).await, Err(Kind::Conflict), "it has one");

    let gone = delete(&drawer, "k", store.next_revision(&tenant("acme")));
    let archive = Some("{\"keys\":[]}".to_owned());
    let change = Change::SessionForgotten { id: x.clone(), keys: 1, memory: Some(Remains::Archived), archive };
    let expects = vec![Expect::Unsettled { session: x.clone() }];
    let changes = Changes { deltas: vec![Delta::Memory(gone)], expects };
    let settles = Act { by: None, change };
    store.act_with(&of, at(5), settles.clone(), changes.clone()).await.unwrap();
    let stale = store.act_with(&of, at(6), settles, Changes { deltas: Vec::new(), ..changes }).await.unwrap_err();
    assert_eq!(stale.kind, Kind::Stale, "it is settled");
    let store = fixture.crash(store).await;
    let session = one(&*store, "acme", "x").await;
    assert_eq!((session.memory, session.due_at), (Some(Remains::Archived), None));
    assert_eq!(store.archive(&of, &x).await.unwrap().as_deref(), Some("{\"keys\":[]}"));
    assert_eq!(store.archive(&of, &id("y")).await.unwrap(), None);
    assert_eq!(store.changed_since(&of, &x, Epoch(0), (10, 100)).await.unwrap(), [], "it is not taken back");
    let written = Change::Context { call: "memory.put".into(), about: String::new(), request: Digest([0; 32]) };
    let late = Changes { deltas: Vec::new(), expects: vec![Expect::Unfinished { session: x }] };
    let late = store.act_with(&of, at(7), Act { by: None, change: written }, late).await.unwrap_err();
    assert_eq!(late.kind, Kind::Stale, "its memory is only read");
}

/// A run that a turn began writes into the session's memory as long as the turn counts, and the session is not over.
pub async fn who_belongs_to_a_turn_that_is_undone_or_over_writes_no_memory<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    open(&*store, "acme", "x", settings(3)).await;
    let (mut first, append) = turn("acme", "x", (1, false), 'a', 1);
    write(&*store, append).await.unwrap();
    // A child of the turn, and one of that child.
    let mut children = Vec::new();
    let mut parent = first.row.id;
    for number in [500, 501] {
        let mut owner = Owner::new("acme", number);
        owner.row = Run { session: id("x"), by: key('a'), updated_at: at(1), parent: Some(parent), ..owner.row };
        let begun = RunStarted { session: id("x"), by: key('a'), ..started(&tenant("acme")) };
        let append = owner.write(vec![Entry { at: at(1), event: Event::RunStarted(Box::new(begun)) }]);
        write(&*store, append).await.unwrap();
        parent = owner.row.id;
        children.push(owner);
    }
    write(&*store, ended(&mut first, 2)).await.unwrap();
    let notes = async |owner: &mut Owner, drawer: Drawer| {
        let before = (owner.row.clone(), owner.previous);
        let mut append = owner.append(1);
        append.changes =
            Changes::blind(vec![Delta::Memory(put(&drawer, "k", store.next_revision(&tenant("acme")), "v"))]);
        let written = write(&*store, append).await;
        if written.is_err() {
            (owner.row, owner.previous) = before;
        }
        written
    };
    let drawer = || Drawer::Session(id("x"));
    notes(&mut children[1], drawer()).await.unwrap();
    let back = Change::SessionRewound { id: id("x"), to: 0, began: Epoch(0), holder: None, keys: 0 };
    act(&*store, "acme", at(3), 'a', back).await;
    assert_eq!(notes(&mut children[1], drawer()).await, Err(Kind::Displaced), "its turn is undone");
    notes(&mut children[1], Drawer::Global).await.unwrap();
    act(&*store, "acme", at(4), 'a', Change::SessionClosed { id: id("x"), expired: false, now: false, why: None })
        .await;
    assert_eq!(notes(&mut children[0], drawer()).await, Err(Kind::Displaced), "the session is over");
}

/// What one tenant says in it is nothing of the other's.
pub async fn sessions_of_two_tenants_by_one_name_are_two<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    for of in ["acme", "beta"] {
        open(&*store, of, "x", settings(3)).await;
    }
    write(&*store, turn("acme", "x", (1, false), 'a', 1).1).await.unwrap();
    let theirs = one(&*store, "beta", "x").await;
    assert!(theirs.is_idle() && theirs.turns == 0);
    write(&*store, turn("beta", "x", (1, false), 'a', 1).1).await.unwrap();
    act(&*store, "acme", at(2), 'a', Change::SessionClosed { id: id("x"), expired: false, now: true, why: None }).await;
    let theirs = one(&*store, "beta", "x").await;
    assert_eq!((theirs.standing, theirs.interrupted, theirs.turns), (Standing::Open, 0, 1));
}

/// Whoever takes part may come later, and go; so many at most.
pub async fn keys_come_and_go_in_a_session<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    open(&*store, "acme", "x", settings(3)).await;
    let parts = async |by: KeyId, part| {
        let change = Change::SessionPart { session: id("x"), key: by.clone(), part };
        let expects = vec![Expect::RoomInSession { session: id("x"), key: by }];
        let changes = Changes { deltas: Vec::new(), expects };
        store.act_with(&tenant("acme"), at(1), Act { by: None, change }, changes).await.map_err(|error| error.kind)
    };
    parts(key('b'), Some(Part::Observer)).await.unwrap();
    parts(key('b'), Some(Part::Contributor)).await.unwrap();
    assert_eq!(one(&*store, "acme", "x").await.settings.participants, [(key('b'), Part::Contributor)].into());
    for number in 1..MAX_PARTICIPANTS {
        parts(format!("{number:k>12}").parse().unwrap(), Some(Part::Observer)).await.unwrap();
    }
    assert_eq!(parts(key('z'), Some(Part::Observer)).await, Err(Kind::Stale), "there are as many as may be");
    parts(key('b'), None).await.unwrap();
    parts(key('z'), Some(Part::Observer)).await.unwrap();
    let store = fixture.crash(store).await;
    let session = one(&*store, "acme", "x").await;
    assert_eq!((session.part_of(&key('b')), session.part_of(&key('z'))), (None, Some(Part::Observer)));
    assert_eq!(session.settings.participants.len(), MAX_PARTICIPANTS);
}

/// The newest first, those that a key takes part in, in pages.
pub async fn lists_of_sessions_obey_every_filter<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    let part = |key: KeyId| Settings {
        participants: [(key, Part::Observer)].into(),
        idle: MAX_TIME.as_millis() as u64,
        ..settings(1)
    };
    for (number, (by, settings)) in
        [('a', settings(1)), ('b', part(key('c'))), ('b', settings(1))].into_iter().enumerate()
    {
        let change = Change::SessionOpened { id: id(&number.to_string()), settings: Box::new(settings), fork: None };
        act(&*store, "acme", at(number as u64), by, change).await;
    }
    open(&*store, "beta", "0", settings(1)).await;
    act(&*store, "acme", at(9), 'b', Change::SessionClosed { id: id("2"), expired: false, now: false, why: None })
        .await;
    let list = async |filter: SessionFilter| {
        let found = store.sessions(&tenant("acme"), &SessionFilter { limit: 10, ..filter }).await.unwrap();
        found.into_iter().map(|one| one.id).collect::<Vec<_>>()
    };
    let all = SessionFilter::default;
    assert_eq!(list(all()).await, [id("2"), id("1"), id("0")]);
    assert_eq!(list(SessionFilter { standing: Some(Standing::Open), ..all() }).await, [id("1"), id("0")]);
    assert_eq!(list(SessionFilter { of: Some(key('c')), ..all() }).await, [id("1")]);
    assert_eq!(list(SessionFilter { of: Some(key('b')), ..all() }).await, [id("2"), id("1")]);
    assert_eq!(list(SessionFilter { before: Some((at(1), id("1"))), ..all() }).await, [id("0")]);
}

/// A session, its turns, and who waits in it.
pub async fn sessions_outlive_the_host<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    open(&*store, "acme", "x", settings(3)).await;
    let (mut first, append) = turn("acme", "x", (1, false), 'a', 1);
    write(&*store, append).await.unwrap();
    let (second, append) = turn("acme", "x", (2, true), 'a', 1);
    write(&*store, append).await.unwrap();
    let before = one(&*store, "acme", "x").await;
    let store = fixture.crash(store).await;
    assert_eq!(one(&*store, "acme", "x").await, before);
    write(&*store, ended(&mut first, 2)).await.unwrap();
    let store = fixture.crash(store).await;
    assert_eq!(stages(&*store, "acme", "x").await, [(1, Stage::Over), (2, Stage::Active)]);
    assert!(is_due(&*store, "acme", second.row.id).await);
}

/// One that is closed at once begins nothing more, whoever ends the turns that it has, and whenever.
pub async fn a_session_that_is_closed_at_once_begins_nothing<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    open(&*store, "acme", "x", settings(3)).await;
    let (mut first, append) = turn("acme", "x", (1, false), 'a', 1);
    write(&*store, append).await.unwrap();
    let (mut second, append) = turn("acme", "x", (2, true), 'a', 1);
    write(&*store, append).await.unwrap();
    act(&*store, "acme", at(2), 'a', Change::SessionClosed { id: id("x"), expired: false, now: true, why: None }).await;
    let store = fixture.crash(store).await;
    write(&*store, ended(&mut first, 3)).await.unwrap();
    assert_eq!(stages(&*store, "acme", "x").await, [(1, Stage::Over), (2, Stage::Queued)]);
    assert!(!is_due(&*store, "acme", second.row.id).await);
    assert_eq!(due(&*store, "acme", 3, None, 10).await.len(), 1, "what waits is to be ended");
    write(&*store, ended(&mut second, 4)).await.unwrap();
    assert_eq!(one(&*store, "acme", "x").await.standing, Standing::Closed);
}

/// What undoes a turn's work may come after it has lost its session, but not into that session's memory.
pub async fn what_undoes_a_turn_may_come_late<F: Fixture>(fixture: &F) {
    let store = fixture.fresh().await;
    open(&*store, "acme", "x", settings(3)).await;
    let (mut first, append) = turn("acme", "x", (1, false), 'a', 1);
    write(&*store, append).await.unwrap();
    let lost = Change::TurnLost { session: id("x"), number: 1, run: first.row.id, why: "it hangs".into() };
    act(&*store, "acme", at(2), 'a', lost).await;
    let done = |step: &str| {
        let (step, usage) = (step.parse().unwrap(), Usage::default());
        Event::StepCompleted { step, attempt: 1, output: Payload::text("out"), usage }
    };
    let mut late = async |step: &str, drawer: &Drawer, key: &str| {
        let change = put(drawer, key, store.next_revision(&tenant("acme")), "v");
        let before = first.row.seq;
        let append = Append {
            changes: Changes::blind(vec![Delta::Memory(change)]),
            ..first.write(vec![Entry { at: at(3), event: done(step) }])
        };
        let written = write(&*store, append).await;
        if written.is_err() {
            first.row.seq = before;
        }
        written
    };
    let (all, own) = (Drawer::Global, Drawer::Session(id("x")));
    assert_eq!(late("0/0", &all, "a").await, Err(Kind::Displaced));
    assert_eq!(late("0/0/13000", &own, "b").await, Err(Kind::Displaced));
    assert_eq!(late("0/0/13000", &all, "c").await, Ok(()));
}
