//! A session's lease and the holder of its conversation are linearizable: whatever several clients do at once, through two hosts on one record on disk, each is
//! told what it would be told if all of it had been done one after the other, each at some moment between its question and its answer.
//!
//! Histories are recorded from use cases and judged by a checker that knows only the sequential rules below.

use std::sync::{Arc, Mutex};

use ltmc_model::failure::Failure;
use ltmc_model::run::Target;
use ltmc_model::session::{IfBusy, Settings};
use ltmc_model::{Digest, Payload, SessionId};
use ltmc_orchestration::SayRequest;
use ltmc_ports::Record as _;
use ltmc_tenancy::Error;
use stateright::semantics::{ConsistencyTester as _, LinearizabilityTester, SequentialSpec};

use crate::guest::{Guest, agent};
use crate::host::{Host, World, caller};
use crate::records::{Of, On as _, OnDisk};

/// Rounds with other timings, each of a session of its own.
const ROUNDS: u64 = 12;
/// Clients, and what each of them asks for.
const CLIENTS: usize = 3;
const ASKS: usize = 4;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq)]
enum Op {
    /// Says something: a turn that goes on until somebody ends it, in a session that refuses what comes meanwhile.
    Say,
    /// Ends the turn of this number.
    End(u32),
    /// Who is at work?
    AtWork,
    /// Hands the conversation to this agent.
    HandOver(&'static str),
    /// Who holds it?
    Holder,
}

/// What it is told.
#[derive(Debug, Clone, PartialEq)]
enum Ret {
    /// It is a turn, of this number.
    Began(u32),
    /// A turn is at work.
    Busy,
    Done,
    /// The turn is over already, or there is none of the number.
    Over,
    /// It was at this agent already.
    Itself,
    /// Others were faster: nothing was done.
    Contended,
    Turn(Option<u32>),
    Agent(Option<String>),
}

/// One after the other.
#[derive(Debug, Clone, Default)]
struct Sequence {
    turns: u32,
    at_work: Option<u32>,
    holder: Option<String>,
}

impl SequentialSpec for Sequence {
    type Op = Op;
    type Ret = Ret;

    fn invoke(&mut self, op: &Op) -> Ret {
        match op {
            Op::Say if self.at_work.is_some() => Ret::Busy,
            Op::Say => {
                self.turns += 1;
                self.at_work = Some(self.turns);
                Ret::Began(self.turns)
            }
            Op::End(turn) if self.at_work == Some(*turn) => {
                self.at_work = None;
                Ret::Done
            }
            Op::End(_) => Ret::Over,
            Op::AtWork => Ret::Turn(self.at_work),
            Op::HandOver(_) if self.at_work.is_some() => Ret::Busy,
            Op::HandOver(to) if self.holder.as_deref().unwrap_or("one") == *to => Ret::Itself,
            Op::HandOver(to) => {
                self.holder = Some((*to).to_owned());
                Ret::Done
            }
            Op::Holder => Ret::Agent(self.holder.clone()),
        }
    }

    /// Who was overtaken may be told so, and has done nothing.
    fn is_valid_step(&mut self, op: &Op, ret: &Ret) -> bool {
        let may_be_overtaken = matches!(op, Op::HandOver(_));
        (may_be_overtaken && *ret == Ret::Contended) || self.invoke(op) == *ret
    }
}

type Tester = LinearizabilityTester<usize, Sequence>;

/// Asks, and notes when it asked and when it was told.
async fn ask(host: &Host<Of<OnDisk>>, id: &SessionId, client: usize, op: Op, tester: &Mutex<Tester>) -> Ret {
    tester.lock().unwrap().on_invoke(client, op.clone()).unwrap();
    let told = match &op {
        Op::Say => {
            let request = SayRequest {
                input: Payload::text("hello".to_owned()),
                idempotency: None,
                request_digest: Digest([0; 32]),
                traceparent: None,
            };
            match host.sessions.say(&caller(), id, request).await {
                Ok(said) => Ret::Began(said.number),
                Err(Error::Busy { .. }) => Ret::Busy,
                Err(error) => panic!("{op:?}: {error}"),
            }
        }
        Op::End(turn) => match host.sessions.cancel_turn(&caller(), id, *turn).await {
            Ok(_) => Ret::Done,
            Err(Error::NotFound { .. } | Error::Conflict { .. }) => Ret::Over,
            Err(error) => panic!("{op:?}: {error}"),
        },
        Op::AtWork => {
            let session = host.sessions.get(&caller(), id).await.unwrap();
            Ret::Turn(session.active.map(|active| active.number))
        }
        Op::HandOver(to) => match host.sessions.hand_over(&caller(), id, to.parse().unwrap(), "so".into()).await {
            Ok(_) => Ret::Done,
            Err(Error::Busy { .. }) => Ret::Busy,
            Err(Error::Conflict { .. }) => Ret::Contended,
            Err(Error::Invalid { .. }) => Ret::Itself,
            Err(error) => panic!("{op:?}: {error}"),
        },
        Op::Holder => {
            let session = host.sessions.get(&caller(), id).await.unwrap();
            Ret::Agent(session.holder.map(|holder| holder.agent.to_string()))
        }
    };
    tester.lock().unwrap().on_return(client, told.clone()).unwrap();
    told
}

/// Goes on until somebody ends it.
async fn stays(_: Guest) -> Result<Payload, Failure> {
    std::future::pending().await
}

const DESK: &str = "name: desk\nflow: {hand-off: {start: one, among: [one, two, three]}}";

/// What clients ask for in a round: drawn, but the same each time.
struct Drawn(u64);

impl Drawn {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// The history of a round, and whether it is as if all was done one after the other.
async fn round(seed: u64, of_lease: bool) -> Tester {
    let world = World::new(["one", "two", "three"].map(|name| agent(name, stays)));
    let disk = OnDisk::default();
    let record = world.record_on(&disk, Some(DESK)).await;
    let hosts = Arc::new([world.host(&record, []), world.host(&record, [])]);
    let with = Target::Workflow("desk".parse().unwrap());
    let settings = Settings { if_busy: IfBusy::Reject, ..Settings::new(with) };
    let id = hosts[0].sessions.open(&caller(), settings, None).await.unwrap().id;
    let tester = Arc::new(Mutex::new(Tester::new(Sequence::default())));
    let clients = (0..CLIENTS).map(|client| {
        let (hosts, id, tester) = (hosts.clone(), id.clone(), tester.clone());
        tokio::spawn(async move {
            let mut drawn = Drawn(seed * 31 + client as u64);
            // A turn is ended where it is at work.
            let (host, mut turn) = (&hosts[client % 2], None);
            for _ in 0..ASKS {
                let op = match (of_lease, turn.take(), drawn.below(4)) {
                    (_, Some(turn), _) => Op::End(turn),
                    (true, None, 0) => Op::AtWork,
                    (true, None, _) => Op::Say,
                    (false, None, 0) => Op::Holder,
                    (false, None, way) => Op::HandOver(["one", "two", "three"][way as usize - 1]),
                };
                if let Ret::Began(number) = ask(host, &id, client, op, &tester).await {
                    turn = Some(number);
                }
            }
            if let Some(turn) = turn {
                ask(host, &id, client, Op::End(turn), &tester).await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let tester = tester.lock().unwrap().clone();
    drop(hosts);
    record.close().await;
    tester
}

fn is_linearizable(of_lease: bool) {
    OnDisk::in_time(async {
        for seed in 0..ROUNDS {
            let tester = round(seed, of_lease).await;
            assert!(tester.len() >= CLIENTS * ASKS);
            assert!(tester.is_consistent(), "round {seed}: {tester:?}");
        }
    });
}

#[test]
fn the_lease_of_a_session_is_linearizable() {
    is_linearizable(true);
}

#[test]
fn the_holder_of_a_conversation_is_linearizable() {
    is_linearizable(false);
}

/// The checker finds what two holders of one lease would be told.
#[test]
fn two_turns_at_work_are_no_such_history() {
    let mut tester = Tester::new(Sequence::default());
    tester.on_invret(0, Op::Say, Ret::Began(1)).unwrap();
    tester.on_invret(1, Op::Say, Ret::Began(2)).unwrap();
    assert!(!tester.is_consistent());
    let mut tester = Tester::new(Sequence::default());
    tester.on_invret(0, Op::HandOver("two"), Ret::Done).unwrap();
    tester.on_invret(1, Op::Holder, Ret::Agent(None)).unwrap();
    assert!(!tester.is_consistent(), "an old holder was shown after the hand-off");
}
