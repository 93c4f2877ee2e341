//! Files in granted directories: `wasi:filesystem` as guests see it.
//!
//! What the functions mean is wasmtime's; here is where they run and what they open. Each runs on one of the guests'
//! [`Threads`], for a file system may not answer; what is opened is a regular file or a directory (see [`open`]); and
//! what is closed is closed there too, since that may wait as well.
//!
//! Invariant: nothing here waits for a file system on a thread that runs guests.

mod open;
mod streams;

use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ltmc_ports::runner::Directory;
use rustix::fs::Timestamps;
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime_wasi::FsPerms;
use wasmtime_wasi::filesystem::{Descriptor, Dir, File, WasiFilesystemCtx, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, ErrorCode, Filesize, HostDescriptor,
    HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult, ReaddirIterator};
use wasmtime_wasi::runtime::poll_noop;

use self::open::{NotOpened, Wanted};
use self::streams::Source;
use crate::guest::{Guest, Output};
use crate::threads::{NoThread, Threads, Whose};

/// Links the interfaces, in the place of wasmtime's own.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    types::add_to_linker::<Guest, HasFiles>(linker, Guest::files)?;
    preopens::add_to_linker::<Guest, HasFiles>(linker, Guest::files)?;
    linker.allow_shadowing(false);
    Ok(())
}

struct HasFiles;

impl HasData for HasFiles {
    type Data<'a> = View<'a>;
}

/// Files that a guest has dropped: the next thread that works for it closes them.
type Dropped = Arc<Mutex<Vec<Descriptor>>>;

fn lock(dropped: &Dropped) -> MutexGuard<'_, Vec<Descriptor>> {
    dropped.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one guest has of files.
pub(crate) struct Files {
    threads: Arc<Threads>,
    whose: Arc<Whose>,
    granted: Vec<(String, Dir)>,
    dropped: Dropped,
    /// Whether it opened anything.
    opened: bool,
    /// Where the author reads why something was not opened.
    stderr: Output,
}

impl Files {
    /// With the directories that the guest is granted. One that is not there any more is not seen, like one that is not
    /// granted.
    pub(crate) async fn open(
        threads: &Arc<Threads>,
        whose: Arc<Whose>,
        directories: &[Directory],
        stderr: Output,
    ) -> Result<Self, NoThread> {
        let mut granted = Vec::new();
        if !directories.is_empty() {
            let wanted: Vec<(String, PathBuf, FsPerms)> = directories.iter().map(wish).collect();
            let open = move || {
                let open = |(name, path, perms): (String, PathBuf, FsPerms)| (open::granted(&path, perms), name);
                wanted.into_iter().map(open).collect::<Vec<_>>()
            };
            for (opened, name) in threads.run(&whose, "open", open).await? {
                match opened {
                    Ok(dir) => granted.push((format!("/{name}"), dir)),
                    Err(error) => tracing::warn!(directory = %name, %error, "a granted directory cannot be opened"),
                }
            }
        }
        Ok(Self { threads: threads.clone(), whose, granted, dropped: Dropped::default(), opened: false, stderr })
    }

    /// The guest is gone: what still works for it is behind, and what it had open is closed where that may wait.
    pub(crate) fn leave(&mut self, table: ResourceTable) {
        if !self.opened {
            return;
        }
        self.threads.leave(&self.whose);
        let (threads, whose) = (self.threads.clone(), self.whose.clone());
        // In this order: streams in the table drop their files into the list.
        let left = (table, std::mem::take(&mut self.dropped));
        if let Ok(here) = tokio::runtime::Handle::try_current() {
            here.spawn(async move { threads.run_behind(&whose, "close", move || drop(left)).await });
        }
    }
}

fn wish(directory: &Directory) -> (String, PathBuf, FsPerms) {
    let perms = if directory.write { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
    (directory.name.to_string(), directory.path.clone(), perms)
}

/// A guest's files, and the handles it has to them.
pub(crate) struct View<'a> {
    pub(crate) files: &'a mut Files,
    pub(crate) table: &'a mut ResourceTable,
}

/// What there is no thread for answers as what is in use.
fn refused(why: NoThread) -> io::Error {
    match why {
        NoThread::Blocked => rustix::io::Errno::BUSY.into(),
        NoThread::BrokenOff => rustix::io::Errno::IO.into(),
    }
}

/// wasmtime's own function, which on a thread that may wait has its answer at once.
fn now<T>(work: impl Future<Output = FsResult<T>>) -> FsResult<T> {
    poll_noop(pin!(work))
        .unwrap_or_else(|| Err(FsError::trap(wasmtime::format_err!("a file's work did not end at once"))))
}

impl View<'_> {
    /// Has work done on a thread that may wait.
    async fn on_thread<T: Send + 'static>(
        &mut self,
        what: &'static str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> FsResult<T> {
        let dropped = self.files.dropped.clone();
        let work = move || {
            // Taken here: where there is no thread, or nobody waits for one any more, they stay where they are.
            drop(std::mem::take(&mut *lock(&dropped)));
            work()
        };
        match self.files.threads.run(&self.files.whose, what, work).await {
            Ok(done) => Ok(done),
            Err(why) => {
                self.files.stderr.say(&format!("host: {what}: {why}"));
                Err(refused(why).into())
            }
        }
    }

    /// Has one of wasmtime's functions done there, on these descriptors alone.
    async fn apart<T: Send + 'static, const N: usize>(
        &mut self,
        what: &'static str,
        of: [&Resource<Descriptor>; N],
        work: impl FnOnce(&mut WasiFilesystemCtxView<'_>, [Resource<Descriptor>; N]) -> FsResult<T> + Send + 'static,
    ) -> FsResult<T> {
        let mut descriptors = Vec::with_capacity(N);
        for resource in of {
            descriptors.push(self.table.get(resource)?.clone());
        }
        self.on_thread(what, move || {
            let (mut ctx, mut table) = (WasiFilesystemCtx::default(), ResourceTable::new());
            let mut view = WasiFilesystemCtxView { ctx: &mut ctx, table: &mut table };
            let mut handles = Vec::with_capacity(N);
            for descriptor in descriptors {
                handles.push(view.table.push(descriptor)?);
            }
            let handles = handles.try_into().map_err(|_| FsError::trap(wasmtime::format_err!("handles were lost")))?;
            work(&mut view, handles)
        })
        .await?
    }

    fn dir(&self, fd: &Resource<Descriptor>) -> FsResult<Dir> {
        match self.table.get(fd)? {
            Descriptor::Dir(dir) => Ok(dir.clone()),
            Descriptor::File(_) => Err(ErrorCode::NotDirectory.into()),
        }
    }

    fn file(&self, fd: &Resource<Descriptor>) -> FsResult<File> {
        match self.table.get(fd)? {
            Descriptor::File(file) => Ok(file.clone()),
            Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor.into()),
        }
    }

    fn writable(&self, fd: &Resource<Descriptor>) -> FsResult<Source> {
        let file = self.file(fd)?;
        if file.perms.write_not_permitted() {
            return Err(ErrorCode::NotPermitted.into());
        }
        Ok(self.source(file))
    }

    fn source(&self, file: File) -> Source {
        let Files { threads, whose, dropped, .. } = &*self.files;
        Source { file, threads: threads.clone(), whose: whose.clone(), dropped: dropped.clone() }
    }

    /// What was not opened, as the guest reads it; the author reads more.
    fn not_opened(&self, path: &str, why: NotOpened) -> FsError {
        match why {
            NotOpened::Error(code) => code.into(),
            NotOpened::Kind(kind) => {
                let path = &path[..path.floor_char_boundary(200)];
                self.files.stderr.say(&format!(
                    "host: `{path}` is {kind}: in a granted directory only regular files and directories are opened"
                ));
                ErrorCode::Unsupported.into()
            }
            NotOpened::NoCall => ErrorCode::Unsupported.into(),
        }
    }
}

impl preopens::Host for View<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        let mut handles = Vec::with_capacity(self.files.granted.len());
        for (name, dir) in &self.files.granted {
            handles.push((self.table.push(Descriptor::Dir(dir.clone()))?, name.clone()));
        }
        Ok(handles)
    }
}

impl types::Host for View<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        error.downcast()
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(self.table.get(&error)?.downcast_ref::<io::Error>().map(ErrorCode::from))
    }
}

impl HostDescriptor for View<'_> {
    async fn advise(
        &mut self,
        fd: Resource<Descriptor>,
        offset: Filesize,
        len: Filesize,
        advice: types::Advice,
    ) -> FsResult<()> {
        self.apart("advise", [&fd], move |at, [fd]| now(at.advise(fd, offset, len, advice))).await
    }

    async fn sync_data(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.apart("sync", [&fd], |at, [fd]| now(at.sync_data(fd))).await
    }

    async fn get_flags(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        self.apart("look", [&fd], |at, [fd]| now(at.get_flags(fd))).await
    }

    async fn get_type(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorType> {
        self.apart("look", [&fd], |at, [fd]| now(at.get_type(fd))).await
    }

    async fn set_size(&mut self, fd: Resource<Descriptor>, size: Filesize) -> FsResult<()> {
        self.apart("truncate", [&fd], move |at, [fd]| now(at.set_size(fd, size))).await
    }

    async fn set_times(
        &mut self,
        fd: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        self.apart("set times", [&fd], move |at, [fd]| now(at.set_times(fd, accessed, modified))).await
    }

    async fn read(&mut self, fd: Resource<Descriptor>, len: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        self.apart("read", [&fd], move |at, [fd]| now(at.read(fd, len, offset))).await
    }

    async fn write(&mut self, fd: Resource<Descriptor>, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        self.apart("write", [&fd], move |at, [fd]| now(at.write(fd, bytes, offset))).await
    }

    async fn read_directory(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<ReaddirIterator>> {
        let list = |at: &mut WasiFilesystemCtxView<'_>, [fd]: [Resource<Descriptor>; 1]| {
            let entries = now(at.read_directory(fd))?;
            FsResult::Ok(at.table.delete(entries)?)
        };
        let entries = self.apart("list", [&fd], list).await?;
        Ok(self.table.push(entries)?)
    }

    async fn sync(&mut self, fd: Resource<Descriptor>) -> FsResult<()> {
        self.apart("sync", [&fd], |at, [fd]| now(at.sync(fd))).await
    }

    async fn create_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.apart("make a directory", [&fd], |at, [fd]| now(at.create_directory_at(fd, path))).await
    }

    async fn stat(&mut self, fd: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        self.apart("look", [&fd], |at, [fd]| now(at.stat(fd))).await
    }

    async fn stat_at(&mut self, fd: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<DescriptorStat> {
        self.apart("look", [&fd], move |at, [fd]| now(at.stat_at(fd, flags, path))).await
    }

    async fn set_times_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        if !flags.contains(PathFlags::SYMLINK_FOLLOW) {
            let set = move |at: &mut WasiFilesystemCtxView<'_>, [fd]: [Resource<Descriptor>; 1]| {
                now(at.set_times_at(fd, flags, path, accessed, modified))
            };
            return self.apart("set times", [&fd], set).await;
        }
        // wasmtime opens what the path leads to, which for a pipe would wait.
        let dir = self.dir(&fd)?;
        let times = Timestamps { last_access: time(accessed)?, last_modification: time(modified)? };
        let shown = path.clone();
        let set = self.on_thread("set times", move || open::set_times(&dir, &path, &times)).await?;
        set.map_err(|why| self.not_opened(&shown, why))
    }

    async fn link_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        from: String,
        other: Resource<Descriptor>,
        to: String,
    ) -> FsResult<()> {
        let link = move |at: &mut WasiFilesystemCtxView<'_>, [fd, other]: [Resource<Descriptor>; 2]| {
            now(at.link_at(fd, flags, from, other, to))
        };
        self.apart("link", [&fd, &other], link).await
    }

    async fn open_at(
        &mut self,
        fd: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let dir = self.dir(&fd)?;
        let shown = path.clone();
        let wanted = Wanted { path, path_flags, open_flags, flags };
        self.files.opened = true;
        let open = move || match open::open(&dir, &wanted) {
            Err(NotOpened::NoCall) => {
                let (mut ctx, mut table) = (WasiFilesystemCtx::default(), ResourceTable::new());
                let mut view = WasiFilesystemCtxView { ctx: &mut ctx, table: &mut table };
                open::open_by_steps(&mut view, &dir, wanted)
            }
            opened => opened,
        };
        let opened = self.on_thread("open", open).await?.map_err(|why| self.not_opened(&shown, why))?;
        let kept = opened.clone();
        let pushed = self.table.push(opened);
        if pushed.is_err() {
            lock(&self.files.dropped).push(kept);
        }
        Ok(pushed?)
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        let descriptor = self.table.delete(fd)?;
        if self.files.opened {
            lock(&self.files.dropped).push(descriptor);
        }
        Ok(())
    }

    async fn readlink_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<String> {
        self.apart("read a link", [&fd], |at, [fd]| now(at.readlink_at(fd, path))).await
    }

    async fn remove_directory_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.apart("remove", [&fd], |at, [fd]| now(at.remove_directory_at(fd, path))).await
    }

    async fn rename_at(
        &mut self,
        fd: Resource<Descriptor>,
        from: String,
        other: Resource<Descriptor>,
        to: String,
    ) -> FsResult<()> {
        self.apart("rename", [&fd, &other], |at, [fd, other]| now(at.rename_at(fd, from, other, to))).await
    }

    async fn symlink_at(&mut self, fd: Resource<Descriptor>, from: String, to: String) -> FsResult<()> {
        self.apart("link", [&fd], |at, [fd]| now(at.symlink_at(fd, from, to))).await
    }

    async fn unlink_file_at(&mut self, fd: Resource<Descriptor>, path: String) -> FsResult<()> {
        self.apart("remove", [&fd], |at, [fd]| now(at.unlink_file_at(fd, path))).await
    }

    fn read_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        let Descriptor::File(file) = self.table.get(&fd)? else { return Err(ErrorCode::IsDirectory.into()) };
        let stream: DynInputStream = Box::new(streams::Input::new(self.source(file.clone()), offset));
        Ok(self.table.push(stream)?)
    }

    fn write_via_stream(&mut self, fd: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(streams::Output::new(self.writable(&fd)?, Some(offset)));
        Ok(self.table.push(stream)?)
    }

    fn append_via_stream(&mut self, fd: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        let stream: DynOutputStream = Box::new(streams::Output::new(self.writable(&fd)?, None));
        Ok(self.table.push(stream)?)
    }

    async fn is_same_object(
        &mut self,
        one: Resource<Descriptor>,
        other: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        let same = |at: &mut WasiFilesystemCtxView<'_>, [one, other]: [Resource<Descriptor>; 2]| {
            now(async { at.is_same_object(one, other).await.map_err(FsError::trap) })
        };
        match self.apart("look", [&one, &other], same).await {
            Ok(same) => Ok(same),
            Err(error) => Err(match error.downcast() {
                Ok(code) => code.into(),
                Err(trap) => trap,
            }),
        }
    }

    async fn metadata_hash(&mut self, fd: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        self.apart("look", [&fd], |at, [fd]| now(at.metadata_hash(fd))).await
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        self.apart("look", [&fd], move |at, [fd]| now(at.metadata_hash_at(fd, flags, path))).await
    }
}

impl HostDirectoryEntryStream for View<'_> {
    async fn read_directory_entry(&mut self, entries: Resource<ReaddirIterator>) -> FsResult<Option<DirectoryEntry>> {
        // They were read when the directory was listed.
        let mut ctx = WasiFilesystemCtx::default();
        now(WasiFilesystemCtxView { ctx: &mut ctx, table: self.table }.read_directory_entry(entries))
    }

    fn drop(&mut self, entries: Resource<ReaddirIterator>) -> wasmtime::Result<()> {
        self.table.delete(entries)?;
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a file's times are the machine's, like what stands in it")]
fn time(new: NewTimestamp) -> Result<rustix::fs::Timespec, ErrorCode> {
    match new {
        NewTimestamp::NoChange => open::timespec(None),
        NewTimestamp::Now => {
            let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            open::timespec(Some((since.as_secs(), since.subsec_nanos())))
        }
        NewTimestamp::Timestamp(at) => open::timespec(Some((at.seconds, at.nanoseconds))),
    }
}

#[cfg(test)]
mod tests;
