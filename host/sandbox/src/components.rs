//! The shelf of components: taken in once, kept as files, loaded when called, and put back when others need the room.
//!
//! Invariants: a file under its digest is whole (written aside, synced, renamed); an artifact is loaded only from the
//! shelf's own directory, which only the host may write; what is loaded is bounded in bytes, so that a million agents
//! cost rows and files.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::num::NonZeroUsize;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ltmc_model::Digest;
use ltmc_model::agent::Export;
use ltmc_ports::runner::{AdmitError, Inspection};
use tokio::sync::{Semaphore, SemaphorePermit};
use wasmtime::Engine;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};

use crate::compile::{CompileError, Compiler, is_full, patience};
use crate::guest::Guest;
use crate::inspect::{self, Found, Refused};
use crate::{CompileLimits, SandboxConfig, StartError, host};

/// A component, ready to be instantiated.
pub(crate) struct Loaded {
    pub(crate) pre: InstancePre<Guest>,
    execute: Option<ComponentExportIndex>,
    validate: Option<ComponentExportIndex>,
    run: Option<ComponentExportIndex>,
    bytes: u64,
}

impl Loaded {
    /// The function behind an export.
    pub(crate) fn function(&self, export: Export) -> Option<&ComponentExportIndex> {
        match export {
            Export::Agent => self.execute.as_ref(),
            Export::Validator => self.validate.as_ref(),
            Export::Command => self.run.as_ref(),
        }
    }
}

/// Why a component cannot be called.
#[derive(Debug)]
pub(crate) enum LoadError {
    Missing,
    Failed(String),
}

pub(crate) struct Shelf {
    engine: Engine,
    linker: Linker<Guest>,
    compiler: Compiler,
    limits: CompileLimits,
    max_component: usize,
    components: PathBuf,
    artifacts: PathBuf,
    cache: Mutex<Cache>,
    /// One compilation at a time.
    compiling: Semaphore,
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
                .map_err(|source| StartError::Directory { path: path.clone(), source })?;
        }
        let mut linker = Linker::new(&engine);
        host::link(&mut linker).map_err(|e| StartError::Engine { slots: config.slots, reason: format!("{e:#}") })?;
        let entries = NonZeroUsize::new(65_536).unwrap_or(NonZeroUsize::MIN);
        let cache = Cache { loaded: lru::LruCache::new(entries), bytes: 0, bound: config.cache_bytes };
        Ok(Self {
            engine,
            linker,
            compiler: config.compiler.clone(),
            limits: config.compile,
            max_component: config.max_component,
            components,
            artifacts,
            cache: Mutex::new(cache),
            compiling: Semaphore::new(1),
            scratch: AtomicU64::new(0),
        })
    }

    /// How many components are loaded, and how many bytes their artifacts have.
    pub(crate) fn loaded(&self) -> (usize, u64) {
        let cache = self.cache();
        (cache.loaded.len(), cache.bytes)
    }

    /// A component ready to run, from memory or from its files.
    pub(crate) async fn load(&self, digest: &Digest) -> Result<Arc<Loaded>, LoadError> {
        if let Some(loaded) = self.cache().loaded.get(digest) {
            return Ok(loaded.clone());
        }
        let artifact = self.artifact(digest);
        if !exists(&artifact).await {
            let wasm = self.component(digest);
            if !exists(&wasm).await {
                return Err(LoadError::Missing);
            }
            // Another wasmtime wrote the artifact, or somebody removed it: it is made again, once for all who wait for it.
            let made = async {
                let _turn = self.turn().await?;
                if exists(&artifact).await { Ok(()) } else { self.compile(&wasm, &artifact).await.map(drop) }
            };
            made.await.map_err(|e| match e {
                AdmitError::Refused { message, .. } | AdmitError::Failed { message } => LoadError::Failed(message),
                AdmitError::Full => LoadError::Failed(e.to_string()),
            })?;
        }
        let loaded = self.deserialize(&artifact).map_err(|e| LoadError::Failed(e.message))?;
        Ok(self.cache().put(*digest, Arc::new(loaded)))
    }

    /// Takes a component in.
    pub(crate) async fn admit(&self, wasm: Bytes) -> Result<Inspection, AdmitError> {
        inspect::preamble(&wasm).map_err(refused)?;
        if wasm.len() > self.max_component {
            let message = format!("the component has {} bytes; at most {} are taken", wasm.len(), self.max_component);
            return Err(AdmitError::Refused { code: "too-large", message });
        }
        let digest = Digest::of(&wasm);
        let (kept, artifact) = (self.component(&digest), self.artifact(&digest));
        if exists(&kept).await && exists(&artifact).await {
            let found = inspect::look(&wasm).map_err(refused)?;
            return Ok(inspection(digest, found));
        }
        let aside = self.aside(&self.components);
        write_synced(aside.clone(), wasm).await.map_err(|e| failed("cannot keep the component", &e))?;
        let taken = self.take_in(&aside, &kept, &artifact).await;
        if taken.is_err() {
            drop(tokio::fs::remove_file(&aside).await);
        }
        Ok(inspection(digest, taken?))
    }

    async fn take_in(&self, aside: &Path, kept: &Path, artifact: &Path) -> Result<Found, AdmitError> {
        let found = {
            let _turn = self.turn().await?;
            self.compile(aside, artifact).await?
        };
        if let Err(e) = self.deserialize(artifact) {
            drop(tokio::fs::remove_file(artifact).await);
            return Err(refused(e));
        }
        tokio::fs::rename(aside, kept).await.map_err(|e| failed("cannot keep the component", &e))?;
        sync_directory(self.components.clone()).await.map_err(|e| failed("cannot keep the component", &e))?;
        Ok(found)
    }

    /// Waits until nobody else compiles.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, AdmitError> {
        match tokio::time::timeout(patience(&self.limits), self.compiling.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(AdmitError::Failed { message: "other components are being compiled; try again later".into() }),
        }
    }

    /// Compiles, when it is one's turn.
    async fn compile(&self, wasm: &Path, artifact: &Path) -> Result<Found, AdmitError> {
        let aside = self.aside(&self.artifacts);
        let compiled = self.compiler.compile(wasm, &aside, &self.limits).await;
        match compiled {
            Ok(found) => {
                tokio::fs::rename(&aside, artifact).await.map_err(|e| failed("cannot keep the artifact", &e))?;
                Ok(found)
            }
            Err(e) => {
                drop(tokio::fs::remove_file(&aside).await);
                Err(match e {
                    CompileError::Refused(why) => refused(why),
                    CompileError::Full => AdmitError::Full,
                    CompileError::Failed(message) => AdmitError::Failed { message },
                })
            }
        }
    }

    /// Lets a component's files go. Instances that run have it mapped and are not disturbed.
    pub(crate) async fn remove(&self, digest: &Digest) {
        self.cache().take(digest);
        for path in [self.component(digest), self.artifact(digest)] {
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

    fn deserialize(&self, artifact: &Path) -> Result<Loaded, Refused> {
        let trouble = |e: wasmtime::Error| Refused::new("malformed", format!("{e:#}"));
        // SAFETY: the file is in the host's own directory (0700) under the engine's compatibility hash, and was written
        // by this host's compiler, never taken from an upload.
        #[expect(unsafe_code, reason = "loading compiled code; see the safety comment")]
        let component = unsafe { Component::deserialize_file(&self.engine, artifact) }.map_err(trouble)?;
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
            run,
            bytes: std::fs::metadata(artifact).map_or(0, |file| file.len()),
            pre,
        })
    }

    fn component(&self, digest: &Digest) -> PathBuf {
        self.components.join(format!("{}.wasm", digest.hex()))
    }

    fn artifact(&self, digest: &Digest) -> PathBuf {
        self.artifacts.join(format!("{}.cwasm", digest.hex()))
    }

    fn aside(&self, directory: &Path) -> PathBuf {
        let number = self.scratch.fetch_add(1, Ordering::Relaxed);
        directory.join(format!(".{}-{number}.part", std::process::id()))
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
    const CODES: [&str; 9] = [
        "empty",
        "too-large",
        "not-wasm",
        "core-module",
        "malformed",
        "unknown-import",
        "no-export",
        "too-costly",
        "bad-manifest",
    ];
    let code = CODES.into_iter().find(|code| *code == why.code).unwrap_or("malformed");
    AdmitError::Refused { code, message: why.message }
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

async fn write_synced(path: PathBuf, bytes: Bytes) -> std::io::Result<()> {
    blocking(move || {
        use std::io::Write as _;
        let mut file = std::fs::File::create(&path)?;
        file.write_all(&bytes).and_then(|()| file.sync_all()).inspect_err(|_| drop(std::fs::remove_file(&path)))
    })
    .await
}

async fn sync_directory(path: PathBuf) -> std::io::Result<()> {
    blocking(move || std::fs::File::open(path)?.sync_all()).await
}

async fn blocking(work: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> std::io::Result<()> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(std::io::Error::other(e)))
}
