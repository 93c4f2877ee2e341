//! What the host is compared to: the same component in the same engine, with nothing around it, in this process and
//! behind a bare axum handler in a process of its own; a component that does the same behind `wasmtime serve`; and the
//! record's database with nothing around it.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use ltmc_sandbox::{Compiler, SandboxConfig, bare_for_benchmarks};
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteSynchronous};
use wasmtime::component::{
    Component, ComponentExportIndex, ComponentType, InstancePre, Lift, Linker, Lower, ResourceTable,
};
use wasmtime::{Enabled, Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// A component in a bare engine.
pub(crate) struct Bare {
    engine: Engine,
    pre: InstancePre<Guest>,
    execute: ComponentExportIndex,
}

struct Guest {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

// The words of `types` in wit/.

#[derive(Clone, ComponentType, Lower, Lift)]
#[component(record)]
pub(crate) struct Payload {
    #[component(name = "content-type")]
    pub(crate) content_type: String,
    pub(crate) bytes: Vec<u8>,
}

#[derive(Clone, ComponentType, Lower)]
#[component(record)]
pub(crate) struct Task {
    pub(crate) input: Payload,
    pub(crate) run: String,
    pub(crate) step: String,
    pub(crate) attempt: u32,
    pub(crate) agent: String,
    pub(crate) session: String,
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct Failure {
    code: String,
    message: String,
    retryable: bool,
}

impl Task {
    /// A lone call of `echo`, such as the host makes it.
    pub(crate) fn echo(input: Payload) -> Self {
        let run = "0192f0c4-7d8a-7c3e-9b1a-3f0e8d5c2b1a";
        let (step, agent) = ("0".into(), "echo".into());
        Self { input, run: run.into(), step, attempt: 1, agent, session: run.into() }
    }
}

impl Bare {
    /// Compiles the component `echo` with the host's settings.
    pub(crate) fn echo() -> Result<Self> {
        let wasm = ltmc_tests::guest_bytes("echo")?;
        Self::new(&wasm).map_err(|e| anyhow!("{e:#}"))
    }

    fn new(wasm: &[u8]) -> wasmtime::Result<Self> {
        let engine = bare_for_benchmarks(&SandboxConfig::new("unused", Compiler::InProcess))?;
        let component = Component::new(&engine, wasm)?;
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        linker.define_unknown_imports_as_traps(&component)?;
        let agent = component.get_export_index(None, "ltmc:agent/agent@0.1.0");
        let execute = agent.and_then(|agent| component.get_export_index(Some(&agent), "execute"));
        let execute = execute.ok_or_else(|| wasmtime::format_err!("the component is no agent"))?;
        Ok(Self { pre: linker.instantiate_pre(&component)?, execute, engine })
    }

    /// A fresh store and instance, one call, and all of it dropped.
    pub(crate) async fn call(&self, task: Task) -> Result<Payload> {
        let called = async {
            let guest = Guest { wasi: WasiCtxBuilder::new().build(), table: ResourceTable::new() };
            let mut store = Store::new(&self.engine, guest);
            store.set_epoch_deadline(u64::MAX / 2);
            let instance = self.pre.instantiate_async(&mut store).await?;
            let execute = instance.get_typed_func::<(Task,), (Result<Payload, Failure>,)>(&mut store, &self.execute)?;
            let (result,) = execute.call_async(&mut store, (task,)).await?;
            result.map_err(|failure| {
                wasmtime::format_err!("{} ({}, again: {})", failure.message, failure.code, failure.retryable)
            })
        };
        called.await.map_err(|e| anyhow!("{e:#}"))
    }
}

/// Serves `POST /call` until standard input ends; says where on standard output.
pub(crate) fn serve() -> Result<()> {
    let bare = Arc::new(Bare::echo()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        writeln!(std::io::stdout(), "{}", listener.local_addr()?)?;
        let listener = axum::serve::ListenerExt::tap_io(listener, |stream| drop(stream.set_nodelay(true)));
        let router = axum::Router::new().route("/call", post(call)).with_state(bare);
        let orphaned =
            tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()));
        tokio::select! {
            served = async { axum::serve(listener, router).await } => Ok(served?),
            _ = orphaned => Ok(()),
        }
    })
}

async fn call(State(bare): State<Arc<Bare>>, headers: HeaderMap, body: Bytes) -> Result<Response, StatusCode> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let input = Payload { content_type: content_type.to_owned(), bytes: body.to_vec() };
    let output = bare.call(Task::echo(input)).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(header::CONTENT_TYPE, output.content_type)], output.bytes).into_response())
}

/// A reference in its process. Dropping it ends the process.
pub(crate) struct Served {
    child: Child,
    pub(crate) address: String,
}

impl Served {
    /// The bare axum handler.
    pub(crate) fn bare() -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut child = command.arg("--serve-reference").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let output = child.stdout.take();
        Self::ready(child, output, "")
    }

    /// `wasmtime serve` with the host's pool, and a component that gives back what it is sent.
    pub(crate) fn wasmtime(dir: &Path) -> Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "`cargo xtask bench` says by it where it is")]
        let wasmtime = std::env::var("LTMC_TEST_WASMTIME").context("`cargo xtask bench rest` builds `wasmtime`")?;
        let component = dir.join("http-echo.wasm");
        std::fs::write(&component, ltmc_tests::guest_bytes("http-echo")?)?;
        let mut command = Command::new(wasmtime);
        // With std a component asks for all of `wasi:cli`.
        command.args(["serve", "--addr", "127.0.0.1:0", "-S", "cli", "-O", &pool()?]).arg(component);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let output = child.stderr.take();
        Self::ready(child, output, "Serving HTTP on http://")
    }

    /// Once it has said where it listens: in its first line, after `word`.
    fn ready(child: Child, output: Option<impl Read + Send + 'static>, word: &str) -> Result<Self> {
        let mut served = Self { child, address: String::new() };
        let mut output = BufReader::new(output.context("the reference has no output")?);
        let mut line = String::new();
        output.read_line(&mut line)?;
        let address = line.trim().trim_end_matches('/').strip_prefix(word).filter(|address| !address.is_empty());
        served.address = address.with_context(|| format!("the reference did not start: {line}"))?.to_owned();
        // What it says later is shown; and it never waits for a reader.
        std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::stderr()));
        Ok(served)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The host's pool, as options of `wasmtime`.
fn pool() -> Result<String> {
    let engine =
        bare_for_benchmarks(&SandboxConfig::new("unused", Compiler::InProcess)).map_err(|e| anyhow!("{e:#}"))?;
    let pool = engine.get_pooling_config().context("the host has no pool")?;
    let scan = match pool.get_pagemap_scan() {
        Enabled::Auto => "auto",
        Enabled::Yes => "yes",
        Enabled::No => "no",
    };
    let numbers = [
        ("total-component-instances", pool.get_total_component_instances() as usize),
        ("total-core-instances", pool.get_total_core_instances() as usize),
        ("total-memories", pool.get_total_memories() as usize),
        ("total-tables", pool.get_total_tables() as usize),
        ("total-stacks", pool.get_total_stacks() as usize),
        ("table-elements", pool.get_table_elements()),
        ("max-memory-size", pool.get_max_memory_size()),
        ("memory-keep-resident", pool.get_memory_keep_resident()),
        ("table-keep-resident", pool.get_table_keep_resident()),
        ("async-stack-keep-resident", pool.get_async_stack_keep_resident()),
        ("max-unused-warm-slots", pool.get_max_unused_warm_slots() as usize),
        ("decommit-batch-size", pool.get_decommit_batch_size()),
    ];
    let numbers = numbers.map(|(name, number)| format!(",pooling-{name}={number}")).concat();
    Ok(format!("pooling-allocator=y,pooling-pagemap-scan={scan}{numbers}"))
}

/// A database set as the record is, with every commit synced.
pub(crate) async fn database(path: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true).disable_statement_logging();
    let options =
        ltmc_sqlite::pragmas_for_benchmarks().fold(options, |options, (name, value)| options.pragma(name, value));
    Ok(options.synchronous(SqliteSynchronous::Full).connect().await?)
}
