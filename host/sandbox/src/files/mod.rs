//! Files in granted directories: `wasi:filesystem` as guests see it.
//!
//! What the functions mean is wasmtime's; here is where they run and what they open. Each runs on one of the guests'
//! [`Threads`], for a file system may not answer; what is opened is a regular file or a directory (see [`open`]); and
//! what is closed is closed there too, since that may wait as well.
//!
//! Invariants: nothing here waits for a file system on a thread that runs guests. Before anything is done in a granted
//! directory it is asked whether it is still granted: one that was taken back answers nothing more, also by what is open. What
//! a guest has open, its granted directories among it, and the lists it holds, are bounded by what all guests share (see
//! [`room`]).

mod open;
mod room;
mod streams;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ltmc_policy::pot::{Full, Share};
use ltmc_ports::runner::{Directory, Gate};
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
pub(crate) use self::room::Room;
use self::room::{Grant, Held};
use self::streams::Source;
use crate::guest::{Guest, Output};
use crate::slot::Slot;
use crate::threads::{NoThread, Whose};

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
type Dropped = Arc<Mutex<Vec<(Descriptor, Arc<Held>)>>>;

fn lock(dropped: &Dropped) -> MutexGuard<'_, Vec<(Descriptor, Arc<Held>)>> {
    dropped.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one guest has of files.
pub(crate) struct Files {
    room: Room,
    whose: Arc<Whose>,
    slot: Arc<Slot>,
    granted: Vec<(String, Dir, Arc<Grant>)>,
    /// What comes with each handle to something open, by the handle's number.
    held: HashMap<u32, Arc<Held>>,
    /// Memory of each list, by its handle's number.
    lists: HashMap<u32, Share>,
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
        room: &Room,
        whose: Arc<Whose>,
        directories: &[Directory],
        owner: Owner<'_>,
    ) -> Result<Self, NotOpen> {
        let Owner { gate, slot, stderr } = owner;
        let mut granted = Vec::new();
        if !directories.is_empty() {
            let counted = |directory| Ok((wish(directory), room.open.take(&whose.tenant, 1)?));
            let wanted: Vec<(Wish, Share)> = directories.iter().map(counted).collect::<Result<_, Full>>()?;
            // What is opened for a call that is gone meanwhile counts until it is closed.
            let open = move || {
                let open = |((name, path, perms), share): (Wish, Share)| (open::granted(&path, perms), name, share);
                wanted.into_iter().map(open).collect::<Vec<_>>()
            };
            let opened = slot.wait_if_long(room.threads.run(&whose, "open", open)).await?;
            for ((opened, name, share), directory) in opened.into_iter().zip(directories) {
                let grant = Grant { gate: gate.clone(), directory: directory.clone(), _open: share };
                match opened {
                    Ok(dir) => granted.push((format!("/{name}"), dir, Arc::new(grant))),
                    Err(error) => tracing::warn!(directory = %name, %error, "a granted directory cannot be opened"),
                }
            }
        }
        let (held, lists, dropped) = (HashMap::new(), HashMap::new(), Dropped::default());
        let (room, slot) = (room.clone(), slot.clone());
        Ok(Self { room, whose, slot, granted, held, lists, dropped, opened: false, stderr })
    }

    /// The guest is gone: what still works for it is behind, and what it had open is closed where that may wait.
    pub(crate) fn leave(&mut self, table: ResourceTable) {
        if !self.opened {
            return;
        }
        let (threads, whose) = (self.room.threads.clone(), self.whose.clone());
        threads.leave(&whose);
        // In this order: streams in the table drop their files into the list, and what is closed is not counted any more.
        let (held, lists) = (std::mem::take(&mut self.held), std::mem::take(&mut self.lists));
        let left = (table, std::mem::take(&mut self.dropped), held, lists);
        if let Ok(here) = tokio::runtime::Handle::try_current() {
            here.spawn(async move { threads.run_behind(&whose, "close", move || drop(left)).await });
        }
    }
}

/// A directory that is to be opened.
type Wish = (String, PathBuf, FsPerms);

fn wish(directory: &Directory) -> Wish {
    let perms = if directory.write { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
    (directory.name.to_string(), directory.path.clone(), perms)
}

/// Why a guest's directories are not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotOpen {
    #[error(transparent)]
    NoThread(#[from] NoThread),
    #[error("as many files and directories are open as may be, its tenant's or all")]
    Full,
}

impl From<Full> for NotOpen {
    fn from(_: Full) -> Self {
        Self::Full
    }
}

/// Whose files they are.
pub(crate) struct Owner<'a> {
    /// Who is asked whether a directory is still granted.
    pub(crate) gate: &'a Arc<dyn Gate>,
    pub(crate) slot: &'a Arc<Slot>,
    /// Where the author reads why something was not opened.
    pub(crate) stderr: Output,
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
    /// What comes with a handle.
    fn held(&self, fd: &Resource<Descriptor>) -> FsResult<Arc<Held>> {
        let held = self.files.held.get(&fd.rep()).cloned();
        held.ok_or_else(|| FsError::trap(wasmtime::format_err!("there is no such handle")))
    }

    /// Has work done on a thread that may wait, on what is still granted.
    async fn on_thread<T: Send + 'static>(
        &mut self,
        what: &'static str,
        on: &[Arc<Held>],
        work: impl FnOnce() -> T + Send + 'static,
    ) -> FsResult<T> {
        for held in on {
            if !held.stands().await {
                let directory = &held.grant.directory.name;
                self.say(what, &format!("`/{directory}` is not in force any more as it was when the call began: its grant, or the tenant's ceiling, was changed"));
                return Err(ErrorCode::Access.into());
            }
        }
        let dropped = self.files.dropped.clone();
        let work = move || {
            // Taken here: where there is no thread, or nobody waits for one any more, they stay where they are.
            drop(std::mem::take(&mut *lock(&dropped)));
            work()
        };
        let Files { room, whose, slot, .. } = &*self.files;
        match slot.wait_if_long(room.threads.run(whose, what, work)).await {
            Ok(done) => Ok(done),
            Err(why) => {
                self.say(what, &why.to_string());
                Err(refused(why).into())
            }
        }
    }

    /// Tells the author.
    fn say(&self, what: &str, why: &str) {
        self.files.stderr.say(&format!("host: {what}: {why}"));
    }

    /// Has one of wasmtime's functions done there, on these descriptors alone.
    async fn apart<T: Send + 'static, const N: usize>(
        &mut self,
        what: &'static str,
        of: [&Resource<Descriptor>; N],
        work: impl FnOnce(&mut WasiFilesystemCtxView<'_>, [Resource<Descriptor>; N]) -> FsResult<T> + Send + 'static,
    ) -> FsResult<T> {
        let (mut descriptors, mut held) = (Vec::with_capacity(N), Vec::with_capacity(N));
        for resource in of {
            descriptors.push(self.table.get(resource)?.clone());
            held.push(self.held(resource)?);
        }
        self.on_thread(what, &held, move || {
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
        self.source(fd, file)
    }

    fn source(&self, fd: &Resource<Descriptor>, file: File) -> FsResult<Source> {
        let Files { room, whose, slot, dropped, .. } = &*self.files;
        let (threads, whose, slot) = (room.threads.clone(), whose.clone(), slot.clone());
        Ok(Source { file, held: self.held(fd)?, threads, whose, slot, dropped: dropped.clone() })
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
        for (name, dir, grant) in &self.files.granted {
            let handle = self.table.push(Descriptor::Dir(dir.clone()))?;
            self.files.held.insert(handle.rep(), Arc::new(Held { grant: grant.clone(), _open: None }));
            handles.push((handle, name.clone()));
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
        let dir = self.dir(&fd)?;
        let (lists, tenant) = (self.files.room.lists.clone(), self.files.whose.tenant.clone());
        let list = move |at: &mut WasiFilesystemCtxView<'_>, [fd]: [Resource<Descriptor>; 1]| {
            // wasmtime reads all of it at once: how much that is is looked at before.
            let memory = open::size_of_list(&dir).map_err(|error| FsError::from(io::Error::from(error)))?;
            let Some(share) = memory.and_then(|memory| lists.take(&tenant, memory).ok()) else { return Ok(None) };
            let entries = now(at.read_directory(fd))?;
            FsResult::Ok(Some((at.table.delete(entries)?, share)))
        };
        let Some((entries, share)) = self.apart("list", [&fd], list).await? else {
            self.say(
                "list",
                "the directory has too many entries, or too many lists are held: drop one, or use fewer files",
            );
            return Err(ErrorCode::InsufficientMemory.into());
        };
        let handle = self.table.push(entries)?;
        self.files.lists.insert(handle.rep(), share);
        Ok(handle)
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
        let held = self.held(&fd)?;
        let set = self.on_thread("set times", &[held], move || open::set_times(&dir, &path, &times)).await?;
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
        let of = self.held(&fd)?;
        let mut share = self.files.room.open.take(&self.files.whose.tenant, 1);
        if share.is_err() && !lock(&self.files.dropped).is_empty() {
            // What the guest has dropped is open until a thread has closed it.
            self.on_thread("close", &[], || ()).await?;
            share = self.files.room.open.take(&self.files.whose.tenant, 1);
        }
        let Ok(share) = share else {
            self.say("open", "as many files are open as may be, its tenant's or all: close one");
            return Err(ErrorCode::Busy.into());
        };
        self.files.opened = true;
        let held = Arc::new(Held { grant: of.grant.clone(), _open: Some(share) });
        let open = move || match open::open(&dir, &wanted) {
            Err(NotOpened::NoCall) => {
                let (mut ctx, mut table) = (WasiFilesystemCtx::default(), ResourceTable::new());
                let mut view = WasiFilesystemCtxView { ctx: &mut ctx, table: &mut table };
                open::open_by_steps(&mut view, &dir, wanted)
            }
            opened => opened,
        };
        // What is opened for a call that is gone meanwhile counts until it is closed.
        let (opened, held) = self.on_thread("open", &[of], move || (open(), held)).await?;
        let opened = opened.map_err(|why| self.not_opened(&shown, why))?;
        let kept = opened.clone();
        let pushed = self.table.push(opened);
        match &pushed {
            Ok(handle) => drop(self.files.held.insert(handle.rep(), held)),
            Err(_) => lock(&self.files.dropped).push((kept, held)),
        }
        Ok(pushed?)
    }

    fn drop(&mut self, fd: Resource<Descriptor>) -> wasmtime::Result<()> {
        let held = self.files.held.remove(&fd.rep());
        let descriptor = self.table.delete(fd)?;
        if let Some(held) = held.filter(|_| self.files.opened) {
            lock(&self.files.dropped).push((descriptor, held));
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
        let stream: DynInputStream = Box::new(streams::Input::new(self.source(&fd, file.clone())?, offset));
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
        self.files.lists.remove(&entries.rep());
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
