//! Servers, plain deltas, and what a record would hold of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use ltmc_model::delta::{Delta, Logged, MemoryChange, MemoryValue, RunMark, StepMark, Topic};
use ltmc_model::memory::Drawer;
use ltmc_model::message::{Channel, Event, Taker};
use ltmc_model::run::{State, Target};
use ltmc_model::{Position, Revision, RunId, Seq, StepPath, TenantId};
use ltmc_ports::Projection as _;
use ltmc_ports::log::Item;
use ltmc_ports::testing::context::Context;
use ltmc_ports::testing::sample::{at, run_id, tenant};
pub(crate) use ltmc_ports::testing::sample::{mailbox, sent, topic};
use ltmc_redis::{Options, Redis};
use ltmc_test_servers::redis::RedisOptions;
use tempfile::TempDir;

/// A server, with its directory.
pub(crate) struct Server {
    pub(crate) server: ltmc_test_servers::Redis,
    _dir: TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(RedisOptions::default())
    }

    pub(crate) fn with(options: RedisOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { server: ltmc_test_servers::Redis::start_with(dir.path(), options).unwrap(), _dir: dir }
    }

    pub(crate) fn open(&self) -> Arc<Redis> {
        Redis::open(&Options::new(self.server.url())).unwrap()
    }

    /// Words to the server, as an administrator.
    pub(crate) fn say(&self, words: &str) -> String {
        self.server.say(&words.split(' ').collect::<Vec<_>>()).unwrap()
    }
}

/// A message: whether it is taken, whether it is dead, and by whom it is taken.
type Standing = (Revision, bool, bool, Option<Taker>);

/// A log, and what the record holds by it.
pub(crate) struct Record {
    pub(crate) context: Context,
    pub(crate) runs: BTreeMap<(TenantId, RunId), RunMark>,
    seed: u64,
    revision: u64,
    attempts: u32,
}

impl Record {
    pub(crate) fn new(seed: u64) -> Self {
        Self { context: Context::default(), runs: BTreeMap::new(), seed, revision: 0, attempts: 0 }
    }

    pub(crate) fn end(&self) -> Position {
        self.context.end()
    }

    /// Makes a delta true; its row of the log.
    pub(crate) fn add(&mut self, of: &str, delta: Delta) -> Logged {
        let of = tenant(of);
        if let Delta::Run(mark) = &delta {
            let folded = self.runs.entry((of.clone(), mark.run)).or_insert_with(|| (**mark).clone());
            let mut steps = std::mem::take(&mut folded.steps);
            for step in &mark.steps {
                let agent = steps.iter().find(|s| s.step == step.step).and_then(|s| s.agent.clone());
                steps.retain(|s| s.step != step.step);
                steps.push(StepMark { agent: step.agent.clone().or(agent), ..step.clone() });
            }
            *folded = RunMark { steps, ..(**mark).clone() };
        }
        self.context.apply(&of, &delta);
        self.context.log.last().unwrap().clone()
    }

    /// What the record holds of a tenant and topic, in the order of keys.
    pub(crate) fn items(&self, of: &TenantId, topic: Topic) -> Vec<Item> {
        let none = Position(0);
        let mut items: Vec<Item> = match topic {
            Topic::Memory => {
                let all =
                    self.context.memory.iter().filter(|((t, d, _), _)| t == of && matches!(d, Drawer::Session(_)));
                let item = |((_, drawer, key), item): (&(TenantId, Drawer, String), &ltmc_model::memory::Item)| Item {
                    key: format!("{}/{key}", drawer.owner()),
                    version: item.revision.0,
                    position: none,
                    deltas: vec![Delta::Memory(MemoryChange {
                        drawer: drawer.clone(),
                        key: key.clone(),
                        revision: item.revision,
                        value: Some(MemoryValue { bytes: item.value.clone(), expires_at: item.expires_at }),
                        trail: None,
                    })],
                };
                all.map(item).collect()
            }
            Topic::Messages => {
                let mail =
                    self.context.mail.iter().filter(|((t, _, _), _)| t == of).map(|((_, agent, position), kept)| {
                        let (id, agent) = (kept.message.id, agent.clone());
                        let by = kept.taken.clone().unwrap_or_else(|| taker(0));
                        let (messages, places) = (vec![id], vec![*position]);
                        let taken = Delta::Taken { agent: agent.clone(), messages, places, by: by.clone() };
                        let mut deltas = vec![Delta::Sent(kept.message.clone())];
                        deltas.extend((0..kept.deliveries).map(|_| taken.clone()));
                        let version = match (&kept.taken, &kept.dead) {
                            (_, Some((reason, at))) => {
                                deltas.push(Delta::Buried {
                                    agent: agent.clone(),
                                    message: id,
                                    reason: reason.clone(),
                                    at: *at,
                                });
                                3
                            }
                            (Some(_), None) => 2,
                            (None, None) => {
                                deltas.push(Delta::Released { by, at: at(0) });
                                1
                            }
                        };
                        Item { key: format!("mailbox/{agent}/{:020}", id.0), version, position: *position, deltas }
                    });
                let events = self.context.log.iter().filter(|logged| logged.tenant == *of).filter_map(|logged| {
                    let Delta::Sent(message) = &logged.delta else { return None };
                    let Channel::Topic(topic) = &message.channel else { return None };
                    let key = format!("topic/{topic}/{:020}", logged.position.0);
                    Some(Item { key, version: 1, position: logged.position, deltas: vec![logged.delta.clone()] })
                });
                mail.chain(events).collect()
            }
            Topic::Runs => {
                let all = self.runs.iter().filter(|((t, _), _)| t == of);
                let item = |((_, run), mark): (&(TenantId, RunId), &RunMark)| Item {
                    key: run.to_string(),
                    version: mark.seq.0,
                    position: none,
                    deltas: vec![Delta::Run(Box::new(mark.clone()))],
                };
                all.map(item).collect()
            }
            _ => Vec::new(),
        };
        items.sort_by(|a, b| a.key.cmp(&b.key));
        items
    }

    pub(crate) fn number(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    fn next_revision(&mut self) -> Revision {
        self.revision += 1;
        Revision(self.revision)
    }

    /// Anything that may come next in a tenant.
    pub(crate) fn anything(&mut self, of: &str) -> Logged {
        let agents = ["bob", "eve", "b-b"];
        let agent = agents[self.number(3) as usize];
        let here = |record: &Self| -> Vec<Standing> {
            let mine = record.context.mail.iter().filter(|((t, a, _), _)| *t == tenant(of) && a.as_str() == agent);
            mine.map(|(_, k)| (k.message.id, k.taken.is_some(), k.dead.is_some(), k.taken.clone())).collect()
        };
        let all = here(self);
        let pick = |record: &mut Self, wanted: &dyn Fn(&Standing) -> bool| {
            let found: Vec<_> = all.iter().filter(|message| wanted(message)).cloned().collect();
            (!found.is_empty()).then(|| found[record.number(found.len() as u64) as usize].clone())
        };
        let to = || agent.parse().unwrap();
        let delta = match self.number(12) {
            0..=2 => {
                let id = self.next_revision();
                sent(Channel::Mailbox(to()), id.0, &format!("to {agent} of {of}"))
            }
            3 => {
                let topics = ["a", "a/b", "a/00000000000000000007", "news"];
                let topic = topics[self.number(4) as usize].parse().unwrap();
                let id = self.next_revision();
                sent(Channel::Topic(topic), id.0, of)
            }
            4 | 5 => {
                let ready: Vec<Revision> = all.iter().filter(|(_, t, d, _)| !t && !d).map(|m| m.0).take(3).collect();
                if ready.is_empty() {
                    return self.anything(of);
                }
                self.attempts += 1;
                self.context.taken(&tenant(of), &to(), ready, taker(self.attempts))
            }
            6 => match pick(self, &|(_, taken, ..)| *taken) {
                Some((id, ..)) => Delta::Processed { agent: to(), message: id },
                None => return self.anything(of),
            },
            7 => match pick(self, &|(_, taken, ..)| *taken) {
                Some((id, ..)) => Delta::Buried { agent: to(), message: id, reason: "it is \"odd\"".into(), at: at(1) },
                None => return self.anything(of),
            },
            8 => match pick(self, &|(_, _, dead, _)| *dead) {
                Some((id, ..)) => Delta::Revived { agent: to(), message: id },
                None => return self.anything(of),
            },
            9 => match pick(self, &|(_, taken, ..)| *taken) {
                Some((_, _, _, by)) => Delta::Released { by: by.unwrap(), at: at(2) },
                None => return self.anything(of),
            },
            10 => {
                let drawers = [
                    Drawer::Global,
                    Drawer::Session("s1".parse().unwrap()),
                    Drawer::Session("s1-a".parse().unwrap()),
                    Drawer::Session("s1:a".parse().unwrap()),
                    Drawer::Agent("s1".parse().unwrap()),
                ];
                let drawer = drawers[self.number(5) as usize].clone();
                let key = ["k", "k/1", "ä", "a"][self.number(4) as usize].to_owned();
                let revision = self.next_revision();
                let bytes = format!("{revision} of {of}").into_bytes().into();
                let value = (self.number(3) > 0).then_some(MemoryValue { bytes, expires_at: None });
                Delta::Memory(MemoryChange { drawer, key, revision, value, trail: None })
            }
            _ => {
                let run = run_id(self.number(4));
                let seq = self.runs.get(&(tenant(of), run)).map_or(1, |mark| mark.seq.0 + 1);
                let states = [State::Running, State::Waiting, State::Running, State::Completed, State::Failed];
                let state = states[self.number(5) as usize];
                mark(run, seq, state, self.number(3) as usize)
            }
        };
        self.add(of, delta)
    }
}

pub(crate) fn taker(attempt: u32) -> Taker {
    Taker { run: run_id(1), step: StepPath::root(), attempt, part: 0 }
}

/// A run's mark; of its steps the first begins, others end.
pub(crate) fn mark(run: RunId, seq: u64, state: State, steps: usize) -> Delta {
    let step = |index: usize| StepMark {
        step: StepPath::root().child(index),
        attempt: 1,
        agent: (index == 0 || seq == 1).then(|| "bob".parse().unwrap()),
        state: State::Running,
        at: at(seq),
        seq: Seq(seq),
        version: None,
        needs: Vec::new(),
        began: None,
    };
    Delta::Run(Box::new(RunMark {
        run,
        target: Target::Workflow("review".parse().unwrap()),
        session: "s1".parse().unwrap(),
        by: "abcdefghijkl".parse().unwrap(),
        created_at: at(0),
        updated_at: at(seq),
        state,
        seq: Seq(seq),
        steps: (0..steps).map(step).collect(),
        origin: None,
    }))
}

/// Keys and versions that are held, read in pages of `limit`.
pub(crate) async fn inventory(redis: &Redis, of: &TenantId, topic: Topic, limit: u32) -> Vec<(String, u64)> {
    let mut found: Vec<(String, u64)> = Vec::new();
    loop {
        let after = found.last().map(|(key, _)| key.clone());
        let page = redis.inventory(of, topic, after.as_deref(), limit).await.unwrap();
        assert!(page.len() <= limit as usize);
        if page.is_empty() {
            return found;
        }
        found.extend(page);
    }
}

/// Redis holds just what the record does.
pub(crate) async fn assert_same(redis: &Redis, record: &Record, of: &str, limit: u32) {
    let of = tenant(of);
    for topic in redis.topics() {
        let items = record.items(&of, *topic).into_iter().filter(|item| redis.holds(*topic, item));
        let wanted: Vec<(String, u64)> = items.map(|item| (item.key, item.version)).collect();
        assert_eq!(inventory(redis, &of, *topic, limit).await, wanted, "{of} {topic:?}");
    }
}

/// Every message stands in its place with its content, in the right hands, and every dead letter says why.
pub(crate) async fn assert_mail(server: &Server, record: &Record, of: &str) {
    let client = redis::Client::open(server.server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mine: Vec<_> = record.context.mail.iter().filter(|((t, _, _), _)| t.as_str() == of).collect();
    for agent in ["bob", "eve", "b-b"] {
        let key = format!("ltmc:{{{of}}}:mailbox:{agent}");
        if !redis::cmd("EXISTS").arg(&key).query_async::<bool>(&mut connection).await.unwrap() {
            assert!(!mine.iter().any(|((_, a, _), _)| a.as_str() == agent));
            continue;
        }
        type Entry = (String, (String, Vec<u8>));
        let entries: Vec<Entry> =
            redis::cmd("XRANGE").arg(&key).arg("-").arg("+").query_async(&mut connection).await.unwrap();
        let found: Vec<(String, Event)> =
            entries.into_iter().map(|(place, (_, event))| (place, rmp_serde::from_slice(&event).unwrap())).collect();
        let of_agent: Vec<_> = mine.iter().filter(|((_, a, _), _)| a.as_str() == agent).collect();
        let alive = of_agent.iter().filter(|(_, kept)| kept.dead.is_none());
        let wanted: Vec<(String, Event)> =
            alive.map(|((_, _, p), k)| (format!("{p}-{}", k.message.id), k.message.event.clone())).collect();
        assert_eq!(found, wanted, "{of} {agent}");

        let pending: Vec<(String, String, u64, u32)> = redis::cmd("XPENDING")
            .arg(&key)
            .arg(("agents", "-", "+", 10_000))
            .query_async(&mut connection)
            .await
            .unwrap();
        let pending: Vec<_> = pending.into_iter().map(|(place, by, _, deliveries)| (place, by, deliveries)).collect();
        let taken = of_agent.iter().filter_map(|((_, _, p), k)| {
            k.taken.as_ref().map(|by| (format!("{p}-{}", k.message.id), by, k.deliveries))
        });
        let name = |by: &Taker| format!("{}/{}/{}", by.run, by.step, by.attempt);
        let wanted: Vec<_> = taken.map(|(entry, by, deliveries)| (entry, name(by), deliveries)).collect();
        assert_eq!(pending, wanted, "{of} {agent}");

        let consumers: Vec<BTreeMap<String, redis::Value>> =
            redis::cmd("XINFO").arg(("CONSUMERS", &key, "agents")).query_async(&mut connection).await.unwrap();
        let hands: std::collections::BTreeSet<_> = wanted.iter().map(|(_, by, _)| by.clone()).collect();
        assert_eq!(consumers.len(), hands.len(), "those who have nothing are forgotten");

        for (_, kept) in of_agent.iter().filter(|(_, kept)| kept.dead.is_some()) {
            let letter: BTreeMap<String, Vec<u8>> = redis::cmd("HGETALL")
                .arg(format!("ltmc:{{{of}}}:dead:{agent}:{}", kept.message.id))
                .query_async(&mut connection)
                .await
                .unwrap();
            let (reason, at) = kept.dead.as_ref().unwrap();
            assert_eq!((letter["reason"].as_slice(), letter["at"].clone()), (reason.as_bytes(), at.to_string().into()));
            assert_eq!(rmp_serde::from_slice::<Event>(&letter["event"]).unwrap(), kept.message.event);
            assert_eq!(letter["deliveries"], kept.deliveries.to_string().into_bytes());
        }
    }
}

/// A source's words.
pub(crate) fn why(error: &ltmc_ports::StoreError) -> String {
    error.source.as_ref().map(ToString::to_string).unwrap_or_default()
}
