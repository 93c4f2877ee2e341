//! The shelf of components: taken in once, kept as files, loaded when called, and put back when others need the room.
//!
//! Invariants: a file under its digest is whole (written aside when it is its turn, synced, renamed; what is not whole is gone
//! when its making ends, or when the shelf is opened again); an artifact is loaded only from the
//! shelf's own directory, which only the host may write, and only where it bears the host's mark ([`crate::mark`]): another is compiled anew; what is loaded is bounded in bytes, so that a million agents
//! cost rows and files.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use ltmc_model::agent::Export;
use ltmc_model::{Digest, TenantId};
use ltmc_policy::Pot;
use ltmc_policy::pot::Full;
use ltmc_ports::runner::{AdmitError, Inspection};
use wasmtime::Engine;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};

use crate::admission::{Admission, Permit, QueueFull};
use crate::compile::{CompileError, Compiler, is_full, patience};
use crate::engine::{MAX_CORE_INSTANCES, MAX_MEMORIES, MAX_TABLE_ELEMENTS, MAX_TABLES};
use crate::guest::Guest;
use crate::inspect::{self, Found, Refused};
use crate::mark::{self, Marked, Marks};
use crate::{CompileLimits, SandboxConfig, StartError, host};

/// Components that may wait to be compiled, which tenants divide among themselves.
const MAX_IN_LANE: u64 = 64;
/// Of these, of one tenant.
const MAX_IN_LANE_EACH: u64 = 8;

/// How the name ends of what is not whole yet.
const PART: &str = ".part";

/// Held by who makes an artifact again.
type Making = tokio::sync::Mutex<()>;

/// The code of a component that needs more than a call may have.
const TOO_MUCH: &str = "needs-too-much";

/// A component, ready to be instantiated.
pub(crate) struct Loaded {
    pub(crate) pre: InstancePre<Guest>,
    execute: Option<ComponentExportIndex>,
    validate: Option<ComponentExportIndex>,
    aggregate: Option<ComponentExportIndex>,
    run: Option<ComponentExportIndex>,
    bytes: u64,
}

impl Loaded {
    /// The function behind an export.
    pub(crate) fn function(&self, export: Export) -> Option<&ComponentExportIndex> {
        match export {
            Export::Agent => self.execute.as_ref(),
            Export::Validator => self.validate.as_ref(),
            Export::Aggregator => self.aggregate.as_ref(),
            Export::Command => self.run.as_ref(),
        }
    }
}

/// Why a component cannot be called.
#[derive(Debug)]
pub(crate) enum LoadError {
    Missing,
    /// It has to be compiled again, and too many wait to be.
    Busy(String),
    /// It needs more than a call may have: it was taken in when that was more.
    TooMuch(String),
    Failed(String),
}

pub(crate) struct Shelf {
    engine: Engine,
    linker: Linker<Guest>,
    compiler: Compiler,
    limits: CompileLimits,
    max_component: usize,
    max_memory: u64,
    components: PathBuf,
    artifacts: PathBuf,
    marks: Arc<Marks>,
    cache: Mutex<Cache>,
    /// One compilation at a time, and whose turn it is.
    lane: Arc<Admission>,
    /// What is being made again, by whom: once for all of a tenant's calls that wait for it.
    making: Mutex<HashMap<(TenantId, Digest), Weak<Making>>>,
    scratch: AtomicU64,
}

struct Cache {
    loaded: lru::LruCache<Digest, Arc<Loaded>>,
    bytes: u64,
    bound: u64,
}

impl Shelf {
    pub(crate) fn open(engine: Engine, config: &SandboxConfig) -> Result<Self, StartError> {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let components = config.dir.join("components");
        // Artifacts of another wasmtime, or of other settings, stay aside.
        let artifacts = config.dir.join("artifacts").join(format!("{:016x}", hasher.finish()));
        for path in [&components, &artifacts] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)))
                .and_then(|()| sweep(path))
                .map_err(|source| StartError::Directory { path: path.clone(), source })?;
        }
        let key = |source| StartError::Directory { path: config.dir.clone(), source };
        let marks = Arc::new(Marks::open(&config.dir).map_err(key)?);
        let mut linker = Linker::new(&engine);
        host::link(&mut linker).map_err(|e| StartError::Engine { slots: config.slots, reason: format!("{e:#}") })?;
        let entries = NonZeroUsize::new(65_536).unwrap_or(NonZeroUsize::MIN);
        // bound: loaded components
        let cache = Cache { loaded: lru::LruCache::new(entries), bytes: 0, bound: config.cache_bytes };
        Ok(Self {
            engine,
            linker,
            compiler: config.compiler.clone(),
            limits: config.compile,
            max_component: config.max_component,
            max_memory: config.max_memory,
            components,
            artifacts,
            marks,
            cache: Mutex::new(cache),
            // bound: compiling
            lane: Admission::new(1, Pot::new(MAX_IN_LANE, MAX_IN_LANE_EACH)),
            making: Mutex::default(),
            scratch: AtomicU64::new(0),
        })
    }

    /// How many components are loaded, and how many bytes their artifacts have.
    pub(crate) fn loaded(&self) -> (usize, u64) {
        let cache = self.cache();
        (cache.loaded.len(), cache.bytes)
    }

    /// How many wait to be compiled.
    pub(crate) fn queued(&self) -> usize {
        self.lane.counts().1
    }

    /// A component ready to run, from memory or from its files.
    pub(crate) async fn load(&self, tenant: &TenantId, digest: &Digest) -> Result<Arc<Loaded>, LoadError> {
        if let Some(loaded) = self.cache().loaded.get(digest) {
            return Ok(loaded.clone());
        }
        let artifact = self.artifact(digest);
        let bytes = match self.own(digest, &artifact).await.map_err(LoadError::Failed)? {
            Some(bytes) => bytes,
            None => self.again(tenant, digest, &artifact).await?,
        };
        let loaded = self.deserialize(&bytes).map_err(|e| match e.code.as_str() {
            TOO_MUCH => LoadError::TooMuch(e.message),
            _ => LoadError::Failed(e.message),
        })?;
        Ok(self.cache().put(*digest, Arc::new(loaded)))
    }

    /// Makes an artifact again that another wasmtime wrote, that somebody removed, or that is not this host's: once for all who wait for it.
    async fn again(&self, tenant: &TenantId, digest: &Digest, artifact: &Path) -> Result<Vec<u8>, LoadError> {
        let wasm = self.component(digest);
        if !exists(&wasm).await {
            return Err(LoadError::Missing);
        }
        let making = self.making(tenant, digest);
        let made = async {
            let Ok(_first) = tokio::time::timeout(patience(&self.limits), making.lock()).await else {
                return Err(no_turn());
            };
            let found = async || self.own(digest, artifact).await.map_err(|message| AdmitError::Failed { message });
            if let Some(bytes) = found().await? {
                return Ok(bytes);
            }
            let _turn = self.turn(tenant).await?;
            if let Some(bytes) = found().await? {
                return Ok(bytes);
            }
            self.compile(digest, &wasm, artifact).await?;
            let gone = || AdmitError::Failed { message: "the artifact is not as it was written".to_owned() };
            found().await?.ok_or_else(gone)
        };
        made.await.map_err(|e| match e {
            AdmitError::Busy { message } => LoadError::Busy(message),
            AdmitError::Refused { message, .. } | AdmitError::Failed { message } => LoadError::Failed(message),
            AdmitError::Full => LoadError::Failed(e.to_string()),
        })
    }

    /// The bytes of an artifact that this host wrote; none: there is none.
    async fn own(&self, digest: &Digest, artifact: &Path) -> Result<Option<Vec<u8>>, String> {
        let (marks, of, path) = (self.marks.clone(), *digest, artifact.to_owned());
        let said = || format!("{}.cwasm", digest.hex());
        match blocking(move || marks.look(&of, &path)).await {
            Ok(Marked::Own(bytes)) => return Ok(Some(bytes)),
            Ok(Marked::Bare) => {
                tracing::info!(
                    artifact = said(),
                    "the artifact bears no mark of this host's: the component is compiled anew"
                );
            }
            Ok(Marked::Foreign) => tracing::warn!(
                artifact = said(),
                "the artifact is not what this host wrote for the component: it is compiled anew. Somebody else wrote in the data directory, or the disk is damaged"
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("cannot read the artifact: {error}")),
        }
        Ok(None)
    }

    /// Takes a component in.
    pub(crate) async fn admit(&self, tenant: &TenantId, wasm: Bytes) -> Result<Inspection, AdmitError> {
        inspect::preamble(&wasm).map_err(refused)?;
        if wasm.len() > self.max_component {
            let message = format!("the component has {} bytes; at most {} are taken", wasm.len(), self.max_component);
            return Err(AdmitError::Refused { code: "too-large", message });
        }
        let digest = Digest::of(&wasm);
        let (kept, artifact) = (self.component(&digest), self.artifact(&digest));
        if exists(&kept).await && exists(&artifact).await && exists(&mark::beside(&artifact)).await {
            let found = inspect::look(&wasm).map_err(refused)?;
            return Ok(inspection(digest, found));
        }
        let (found, aside) = {
            let _turn = self.turn(tenant).await?;
            let written = write_synced(self.aside(&self.components), wasm).await;
            let aside = written.map_err(|e| failed("cannot keep the component", &e))?;
            (self.compile(&digest, &aside.0, &artifact).await?, aside)
        };
        let bytes = self.own(&digest, &artifact).await.map_err(|message| AdmitError::Failed { message })?;
        if let Err(e) = self.deserialize(&bytes.unwrap_or_default()) {
            drop(tokio::fs::remove_file(&artifact).await);
            return Err(refused(e));
        }
        aside.keep(&kept).await.map_err(|e| failed("cannot keep the component", &e))?;
        sync_directory(self.components.clone()).await.map_err(|e| failed("cannot keep the component", &e))?;
        Ok(inspection(digest, found))
    }

    /// Waits until nobody else compiles and it is this tenant's turn.
    async fn turn(&self, tenant: &TenantId) -> Result<Permit, AdmitError> {
        let message = match tokio::time::timeout(patience(&self.limits), self.lane.enter(tenant, 1)).await {
            Ok(Ok(turn)) => return Ok(turn),
            Ok(Err(QueueFull(Full::Own))) => format!(
                "{MAX_IN_LANE_EACH} components of this tenant wait to be compiled already, which is as many as may: try again \
                 when one of them is done"
            ),
            Ok(Err(QueueFull(Full::All))) => {
                "as many components wait to be compiled as there is room for: try again later".to_owned()
            }
            Err(_) => return Err(no_turn()),
        };
        Err(AdmitError::Busy { message })
    }

    /// What a tenant's calls hold, one at a time, that need an artifact made again.
    fn making(&self, tenant: &TenantId, digest: &Digest) -> Arc<Making> {
        let mut making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant.clone(), *digest);
        if let Some(there) = making.get(&key).and_then(Weak::upgrade) {
            return there;
        }
        making.retain(|_, of| of.strong_count() > 0);
        let fresh = Arc::new(Making::default());
        making.insert(key, Arc::downgrade(&fresh));
        fresh
    }

    /// Compiles, when it is one's turn.
    async fn compile(&self, digest: &Digest, wasm: &Path, artifact: &Path) -> Result<Found, AdmitError> {
        let aside = self.aside(&self.artifacts);
        let found = self.compiler.compile(wasm, &aside.0, &self.limits).await.map_err(|e| match e {
            CompileError::Refused(why) => refused(why),
            CompileError::Full => AdmitError::Full,
            CompileError::Failed(message) => AdmitError::Failed { message },
        })?;
        // Before it has its name: a mark without its artifact is nothing, and an artifact without its mark is made again.
        let (marks, of, made, mark) = (self.marks.clone(), *digest, aside.0.clone(), mark::beside(artifact));
        let marked = blocking(move || {
            marks.write(&of, &made)?;
            std::fs::rename(mark::beside(&made), mark)
        });
        marked.await.map_err(|e| failed("cannot keep the artifact", &e))?;
        aside.keep(artifact).await.map_err(|e| failed("cannot keep the artifact", &e))?;
        Ok(found)
    }

    /// Lets a component's files go. Instances that run have it mapped and are not disturbed.
    pub(crate) async fn remove(&self, digest: &Digest) {
        self.cache().take(digest);
        let artifact = self.artifact(digest);
        for path in [self.component(digest), mark::beside(&artifact), artifact] {
            if let Err(e) = tokio::fs::remove_file(&path).await
                && e.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), error = %e, "a component's file could not be removed");
            }
        }
    }

    /// Which components there are files of.
    pub(crate) async fn kept(&self) -> Vec<Digest> {
        let dir = self.components.clone();
        // bound: threads beside
        let listed = tokio::task::spawn_blocking(move || {
            let names = std::fs::read_dir(dir)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            let digest = |name: String| format!("sha256:{}", name.strip_suffix(".wasm")?).parse::<Digest>().ok();
            Ok::<_, std::io::Error>(names.filter_map(digest).collect())
        });
        match listed.await {
            Ok(Ok(digests)) => digests,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the components that are kept could not be listed");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }

    fn deserialize(&self, artifact: &[u8]) -> Result<Loaded, Refused> {
        let trouble =
            |e: wasmtime::Error| self.too_much(&e).unwrap_or_else(|| Refused::new("malformed", format!("{e:#}")));
        // SAFETY: these bytes bear the host's mark: they were written by its compiler for this component, never taken from an upload.
        #[expect(unsafe_code, reason = "loading compiled code; see the safety comment")]
        let component = unsafe { Component::deserialize(&self.engine, artifact) }.map_err(trouble)?;
        let pre = self.linker.instantiate_pre(&component).map_err(|e| {
            let text = format!("{e:#}");
            let text = &text[..text.floor_char_boundary(600)];
            Refused::new("unknown-import", format!("the component imports what this host does not have: {text}"))
        })?;
        let index = |interface: &str, function: &str| {
            let (_, instance) = component.get_export(None, interface)?;
            component.get_export(Some(&instance), function).map(|(_, index)| index)
        };
        let run = component
            .component_type()
            .exports(&self.engine)
            .map(|(name, _)| name.to_owned())
            .find(|name| inspect::runnable(name) == Some(Export::Command))
            .and_then(|name| index(&name, "run"));
        Ok(Loaded {
            execute: index("ltmc:agent/agent@0.1.0", "execute"),
            validate: index("ltmc:agent/validator@0.1.0", "validate"),
            aggregate: index("ltmc:agent/aggregator@0.1.0", "aggregate"),
            run,
            bytes: artifact.len() as u64,
            pre,
        })
    }

    /// What a component is told that needs more than a call may have. wasmtime checks that where it loads the component, and
    /// says it in words alone.
    fn too_much(&self, error: &wasmtime::Error) -> Option<Refused> {
        const WORDS: [&str; 3] =
            ["exceeds the configured maximum", "exceeds the limit", "exceeds the per-instance limit"];
        let cause = error.root_cause().to_string();
        let cause = cause.lines().next().unwrap_or_default();
        WORDS.iter().any(|words| cause.contains(words)).then(|| {
            let memory = self.max_memory;
            let message = format!(
                "the component needs more than a call may have: {}. A call may have {MAX_CORE_INSTANCES} core instances, \
                 {MAX_MEMORIES} memories of {memory} bytes each, and {MAX_TABLES} tables of {MAX_TABLE_ELEMENTS} elements each",
                &cause[..cause.floor_char_boundary(300)]
            );
            Refused::new(TOO_MUCH, message)
        })
    }

    fn component(&self, digest: &Digest) -> PathBuf {
        self.components.join(format!("{}.wasm", digest.hex()))
    }

    fn artifact(&self, digest: &Digest) -> PathBuf {
        self.artifacts.join(format!("{}.cwasm", digest.hex()))
    }

    fn aside(&self, directory: &Path) -> Aside {
        let number = self.scratch.fetch_add(1, Ordering::Relaxed);
        Aside(directory.join(format!(".{}-{number}{PART}", std::process::id())))
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that is written aside, and gone when this is dropped, unless it was kept.
struct Aside(PathBuf);

impl Aside {
    /// Keeps it under this name.
    async fn keep(self, name: &Path) -> std::io::Result<()> {
        tokio::fs::rename(&self.0, name).await
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // What was kept is not there under this name.
        let path = std::mem::take(&mut self.0);
        let remove = move || {
            let _ = std::fs::remove_file(mark::beside(&path));
            let _ = std::fs::remove_file(path);
        };
        match tokio::runtime::Handle::try_current() {
            // bound: threads beside
            Ok(here) => drop(here.spawn_blocking(remove)),
            Err(_) => remove(),
        }
    }
}

/// Removes what a host that was killed had written aside there.
fn sweep(directory: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_aside) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether a file of this name is one that was written aside, or what such a one bears.
fn is_aside(name: &str) -> bool {
    name.starts_with('.') && (name.ends_with(PART) || name.ends_with(".mark"))
}

impl Cache {
    /// Keeps it, unless somebody was faster; the least used make room.
    fn put(&mut self, digest: Digest, loaded: Arc<Loaded>) -> Arc<Loaded> {
        if let Some(there) = self.loaded.get(&digest) {
            return there.clone();
        }
        self.bytes += loaded.bytes;
        if let Some((_, pushed_out)) = self.loaded.push(digest, loaded.clone()) {
            self.bytes -= pushed_out.bytes;
        }
        while self.bytes > self.bound && self.loaded.len() > 1 {
            if let Some((_, oldest)) = self.loaded.pop_lru() {
                self.bytes -= oldest.bytes;
            }
        }
        loaded
    }

    fn take(&mut self, digest: &Digest) {
        if let Some(loaded) = self.loaded.pop(digest) {
            self.bytes -= loaded.bytes;
        }
    }
}

fn inspection(digest: Digest, found: Found) -> Inspection {
    Inspection { digest, exports: found.exports, imports: found.imports, manifest: found.manifest.map(Bytes::from) }
}

fn refused(why: Refused) -> AdmitError {
    const CODES: [&str; 10] = [
        "empty",
        "too-large",
        "not-wasm",
        "core-module",
        "malformed",
        "unknown-import",
        "no-export",
        "too-costly",
        TOO_MUCH,
        "bad-manifest",
    ];
    let code = CODES.into_iter().find(|code| *code == why.code).unwrap_or("malformed");
    AdmitError::Refused { code, message: why.message }
}

fn no_turn() -> AdmitError {
    AdmitError::Busy { message: "other components are being compiled, and no turn came: try again later".to_owned() }
}

fn failed(what: &str, e: &std::io::Error) -> AdmitError {
    if is_full(e) {
        return AdmitError::Full;
    }
    AdmitError::Failed { message: format!("{what}: {e}") }
}

async fn exists(path: &Path) -> bool {
    tokio::fs::try_exists(path).await.unwrap_or(false)
}

/// Writes it on a thread that has the file's guard: it is gone also where nobody waits for it any more.
async fn write_synced(aside: Aside, bytes: Bytes) -> std::io::Result<Aside> {
    blocking(move || {
        use std::io::Write as _;
        let mut file = std::fs::File::create(&aside.0)?;
        file.write_all(&bytes).and_then(|()| file.sync_all())?;
        Ok(aside)
    })
    .await
}

async fn sync_directory(path: PathBuf) -> std::io::Result<()> {
    blocking(move || std::fs::File::open(path)?.sync_all()).await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    // bound: threads beside
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(std::io::Error::other(e)))
}
