//! `watch`: one change of memory, from its writing until 1,000 watchers have it; against a broadcast channel of this
//! process with as many receivers. What watchers are shown is on disk before.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Result, anyhow};
use bytes::Bytes;
use ltmc_context::Subscriptions;
use ltmc_context::subscription::Watermark;
use ltmc_model::delta::{Delta, MemoryChange, MemoryValue};
use ltmc_model::journal::Change;
use ltmc_model::memory::Drawer;
use ltmc_model::{Digest, TenantId};
use ltmc_ports::log::Interest;
use ltmc_ports::{Changes, WriteJournal as _};
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use crate::Plan;
use crate::inside::Inside;
use crate::report::{Goal, Line, Series, round};
use crate::rig;

const WATCHERS: usize = 1_000;

pub(crate) fn run(plan: &Plan) -> Result<Vec<Line>> {
    let runtime = rig::threads()?;
    let scratch = rig::scratch("watch")?;
    runtime.block_on(async {
        let watched = Watched::start(scratch.path()).await?;
        let bare = Bare::start();
        let [mut measured, mut reference] = <[Series; 2]>::default();
        // Round 0 warms both up.
        for number in 0..=plan.rounds {
            let (mut with, mut without) = (Series::default(), Series::default());
            let begun = Instant::now();
            while begun.elapsed() < plan.window {
                with.add(watched.tell().await?);
                without.add(bare.tell().await?);
            }
            if let Some(number) = number.checked_sub(1) {
                measured.add(with.median());
                reference.add(without.median());
                let figures = [("feed", with.median(), "ms"), ("broadcast", without.median(), "ms")];
                round(number, plan.rounds, &figures);
            }
        }
        watched.stop().await;
        Ok(vec![Line {
            bench: "watch",
            case: format!("a change to {WATCHERS} watchers"),
            unit: "ms",
            measured,
            reference: Some(("broadcast", reference)),
            goal: Goal::AtMostTimes(5.0),
        }])
    })
}

/// Counts who has it.
#[derive(Default)]
struct Arrived {
    count: AtomicUsize,
    all: Notify,
}

impl Arrived {
    fn one(&self) {
        if self.count.fetch_add(1, Ordering::AcqRel) + 1 == WATCHERS {
            self.all.notify_one();
        }
    }

    async fn wait(&self) {
        self.all.notified().await;
        self.count.store(0, Ordering::Release);
    }
}

/// A record, and those who watch it.
struct Watched {
    inside: Inside,
    tenant: TenantId,
    arrived: Arc<Arrived>,
    stop: CancellationToken,
}

impl Watched {
    async fn start(dir: &std::path::Path) -> Result<Self> {
        let inside = Inside::open(dir).await?;
        let (tenant, arrived, stop): (TenantId, _, _) =
            ("default".parse()?, Arc::<Arrived>::default(), CancellationToken::new());
        let subscriptions = Subscriptions::start(inside.record.clone());
        for _ in 0..WATCHERS {
            let keys = Interest::Memory(Drawer::Global, "plan/".into());
            let watcher = subscriptions.subscribe(&tenant, keys, Watermark::Durable, None).await;
            let mut watcher = watcher.map_err(|lost| anyhow!("{lost:?}"))?;
            let (arrived, stop) = (arrived.clone(), stop.clone());
            tokio::spawn(stop.run_until_cancelled_owned(async move {
                while let Ok(changes) = watcher.next(1_000).await {
                    changes.iter().for_each(|_| arrived.one());
                }
            }));
        }
        Ok(Self { inside, tenant, arrived, stop })
    }

    /// Milliseconds until everybody has a change.
    async fn tell(&self) -> Result<f64> {
        let begun = Instant::now();
        let delta = Delta::Memory(MemoryChange {
            drawer: Drawer::Global,
            key: "plan/next".into(),
            revision: self.inside.record.next_revision(&self.tenant),
            value: Some(MemoryValue { bytes: Bytes::from_static(b"a short text"), expires_at: None }),
            trail: None,
        });
        let change = Change::Context { call: "memory.put".into(), about: "plan/next".into(), request: Digest::of(b"") };
        self.inside.authority.act_with(&self.tenant, None, change, Changes::blind(vec![delta])).await?;
        self.arrived.wait().await;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    async fn stop(self) {
        self.stop.cancel();
        ltmc_ports::Record::close(&*self.inside.record).await;
    }
}

/// A channel with its receivers.
struct Bare {
    channel: broadcast::Sender<Bytes>,
    arrived: Arc<Arrived>,
}

impl Bare {
    fn start() -> Self {
        let (channel, arrived) = (broadcast::Sender::new(256), Arc::<Arrived>::default());
        for _ in 0..WATCHERS {
            let (mut receiver, arrived) = (channel.subscribe(), arrived.clone());
            tokio::spawn(async move {
                while receiver.recv().await.is_ok() {
                    arrived.one();
                }
            });
        }
        Self { channel, arrived }
    }

    async fn tell(&self) -> Result<f64> {
        let begun = Instant::now();
        self.channel.send(Bytes::from_static(b"a short text"))?;
        self.arrived.wait().await;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }
}
