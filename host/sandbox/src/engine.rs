//! wasmtime's settings, measured in docs/performance.md, and the ticker that lets guests be interrupted.
//!
//! Invariant: whatever decides how code is compiled is in [`code_settings`], used by the host and by the child that
//! compiles for it; wasmtime refuses an artifact made with others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::SandboxConfig;

/// How often a running guest is looked at: its CPU time is measured and others get their turn.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// The most elements a table can have.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 20_000;
/// The core instances that a component can have.
pub(crate) const MAX_CORE_INSTANCES: u32 = 32;
/// The linear memories that a component can have.
pub(crate) const MAX_MEMORIES: u32 = 2;
/// The tables that a component can have.
pub(crate) const MAX_TABLES: u32 = 8;

/// Settings that decide how code is compiled. Deterministic where wasm is not: NaNs are canonical, relaxed SIMD is exact.
pub(crate) fn code_settings() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .concurrency_support(false)
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .max_wasm_stack(512 << 10)
        .async_stack_size(1 << 20)
        .memory_init_cow(true);
    config
}

/// The pool that instances are made from. Every call that runs or waits can have the most that a component may need, so that
/// the pool is never what is short, whatever the others' components are made of: of what is not used only addresses are taken.
fn pool(config: &SandboxConfig) -> PoolingAllocationConfig {
    let calls = config.slots.saturating_add(config.waiting);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(calls)
        .total_core_instances(calls.saturating_mul(MAX_CORE_INSTANCES))
        .total_memories(calls.saturating_mul(MAX_MEMORIES))
        .total_tables(calls.saturating_mul(MAX_TABLES))
        .total_stacks(calls)
        .max_core_instances_per_component(MAX_CORE_INSTANCES)
        .max_memories_per_component(MAX_MEMORIES)
        .max_tables_per_component(MAX_TABLES)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_memory_size(usize::try_from(config.max_memory).unwrap_or(usize::MAX))
        .linear_memory_keep_resident(1 << 20)
        .table_keep_resident(4_096)
        .async_stack_keep_resident(64 << 10)
        .max_unused_warm_slots(32)
        .pagemap_scan(Enabled::Auto);
    pool
}

/// The engine, with its ticker: a thread that moves the epoch on while the engine lives.
pub(crate) struct Ticking {
    engine: Engine,
    stop: Arc<AtomicBool>,
}

impl Ticking {
    pub(crate) fn start(config: &SandboxConfig) -> wasmtime::Result<Self> {
        let mut settings = code_settings();
        settings.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config)));
        let engine = Engine::new(&settings)?;
        let stop = Arc::new(AtomicBool::new(false));
        let (weak, ended) = (engine.weak(), stop.clone());
        std::thread::Builder::new().name("epoch".into()).spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
                match weak.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        })?;
        Ok(Self { engine, stop })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A bare engine with the same settings, for benchmarks to compare with.
///
/// # Errors
/// [`wasmtime::Error`] where the settings are not supported on this machine.
pub fn bare(config: &SandboxConfig) -> wasmtime::Result<Engine> {
    let mut settings = code_settings();
    settings.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config)));
    Engine::new(&settings)
}
