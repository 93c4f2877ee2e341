//! Opening what a guest names in a granted directory, without waiting for anything that may never come.
//!
//! Invariant: what is opened is a regular file or a directory below the granted one. A pipe, a socket or a device is looked
//! at by its path alone (`O_PATH`), which neither waits nor does anything to it; and since somebody may put one there
//! between the look and the opening, that does not wait either (`O_NONBLOCK`), and what came of it is looked at again.

use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, fcntl_getfl, fcntl_setfl, fstat};
#[cfg(target_os = "linux")]
use rustix::fs::{ResolveFlags, openat2};
use rustix::io::Errno;
use wasmtime_wasi::filesystem::{Descriptor, Dir, File as Opened, WasiFilesystemCtxView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    DescriptorFlags, DescriptorType, ErrorCode, HostDescriptor as _, OpenFlags, PathFlags,
};
use wasmtime_wasi::{FsPerms, OpenMode};

use super::now;

/// To look at something without opening it.
#[cfg(target_os = "linux")]
const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);
#[cfg(not(target_os = "linux"))]
const LOOK: OFlags = OFlags::CLOEXEC;

/// So often a path is looked up again that changed under the look-up.
#[cfg(target_os = "linux")]
const TRIES: usize = 16;

/// The most bytes of one list of a directory.
const MOST_OF_A_LIST: u64 = 16 << 20;
/// Of these, what an entry takes besides its name.
const ENTRY: u64 = 64;

/// Why something is not opened.
#[derive(Debug)]
pub(super) enum NotOpened {
    /// As the guest reads it.
    Error(ErrorCode),
    /// It is of a kind that is not opened: which.
    Kind(&'static str),
    /// This machine has no call that looks a path up below a directory.
    NoCall,
}

impl From<Errno> for NotOpened {
    fn from(error: Errno) -> Self {
        Self::Error(match error {
            Errno::XDEV => ErrorCode::NotPermitted, // the path leads out of the directory
            Errno::AGAIN => ErrorCode::Busy,
            // What is opened so where nobody has the other end of it: a pipe or a socket.
            Errno::NXIO | Errno::NODEV => return Self::Kind("a pipe, a socket or a device"),
            error => ErrorCode::from(io::Error::from(error)),
        })
    }
}

/// What a guest wants to open.
pub(super) struct Wanted {
    pub(super) path: String,
    pub(super) path_flags: PathFlags,
    pub(super) open_flags: OpenFlags,
    pub(super) flags: DescriptorFlags,
}

impl Wanted {
    /// How it is to be opened, where the directory's permissions allow it.
    fn mode(&self, perms: FsPerms) -> Result<(OFlags, OpenMode), ErrorCode> {
        let (open, flags) = (self.open_flags, self.flags);
        let (create, truncate) = (open.contains(OpenFlags::CREATE), open.contains(OpenFlags::TRUNCATE));
        let exclusive = open.contains(OpenFlags::EXCLUSIVE);
        let sync = DescriptorFlags::FILE_INTEGRITY_SYNC
            | DescriptorFlags::DATA_INTEGRITY_SYNC
            | DescriptorFlags::REQUESTED_WRITE_SYNC;
        if flags.intersects(sync) {
            return Err(ErrorCode::Unsupported);
        }
        if open.contains(OpenFlags::DIRECTORY) && (create || exclusive || truncate) {
            return Err(ErrorCode::Invalid);
        }
        let writes = create || truncate || flags.contains(DescriptorFlags::WRITE);
        let reads = flags.contains(DescriptorFlags::READ) || !flags.contains(DescriptorFlags::WRITE);
        if writes && perms.write_not_permitted() {
            return Err(ErrorCode::NotPermitted);
        }
        let (access, mode) = match (reads, writes) {
            (true, true) => (OFlags::RDWR, OpenMode::READ | OpenMode::WRITE),
            (false, true) => (OFlags::WRONLY, OpenMode::WRITE),
            _ => (OFlags::RDONLY, OpenMode::READ),
        };
        let mut how = access | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY | self.follow();
        how.set(OFlags::CREATE, create);
        how.set(OFlags::EXCL, create && exclusive);
        how.set(OFlags::TRUNC, truncate && !(create && exclusive));
        Ok((how, mode))
    }

    fn follow(&self) -> OFlags {
        if self.path_flags.contains(PathFlags::SYMLINK_FOLLOW) { OFlags::empty() } else { OFlags::NOFOLLOW }
    }
}

/// Opens it.
pub(super) fn open(dir: &Dir, wanted: &Wanted) -> Result<Descriptor, NotOpened> {
    let (how, mode) = wanted.mode(dir.perms).map_err(NotOpened::Error)?;
    match look(dir, &wanted.path, wanted.follow()) {
        Ok(FileType::Symlink) => return Err(Errno::LOOP.into()),
        Ok(kind) => regular(kind)?,
        Err(Lookup::Failed(Errno::NOENT)) if how.contains(OFlags::CREATE) => {}
        Err(Lookup::Failed(error)) => return Err(error.into()),
        Err(Lookup::NoCall) => return Err(NotOpened::NoCall),
    }
    let file = beneath(dir, &wanted.path, how).map_err(|lookup| match lookup {
        Lookup::Failed(error) => error.into(),
        // The look before was answered: it is this that is not permitted.
        Lookup::NoCall => NotOpened::Error(ErrorCode::NotPermitted),
    })?;
    let kind = kind(&file)?;
    regular(kind)?;
    // Some file systems answer a read or a write by it: from here on it is an ordinary file.
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    describe(file, kind == FileType::Directory, dir.perms, mode, wanted.open_flags)
}

/// The same where no call looks a path up below a directory: wasmtime's own way, component by component, after a look. Somebody
/// who puts a pipe there in between holds up a guest's thread.
pub(super) fn open_by_steps(
    view: &mut WasiFilesystemCtxView<'_>,
    dir: &Dir,
    wanted: Wanted,
) -> Result<Descriptor, NotOpened> {
    let error = |error: wasmtime_wasi::p2::FsError| NotOpened::Error(error.downcast().unwrap_or(ErrorCode::Io));
    let (_, mode) = wanted.mode(dir.perms).map_err(NotOpened::Error)?;
    let mut again = || view.table.push(Descriptor::Dir(dir.clone())).map_err(|_| NotOpened::Error(ErrorCode::Io));
    let (at, to) = (again()?, again()?);
    match now(view.stat_at(at, wanted.path_flags, wanted.path.clone())) {
        Ok(found) => match found.type_ {
            DescriptorType::RegularFile | DescriptorType::Directory | DescriptorType::SymbolicLink => {}
            DescriptorType::BlockDevice | DescriptorType::CharacterDevice => return Err(NotOpened::Kind("a device")),
            _ => return Err(NotOpened::Kind("a pipe or a socket")),
        },
        Err(missing) if matches!(missing.downcast_ref(), Some(ErrorCode::NoEntry)) => {}
        Err(other) => return Err(error(other)),
    }
    let opened = view.open_at(to, wanted.path_flags, wanted.path, wanted.open_flags, wanted.flags);
    let opened = now(opened).map_err(error)?;
    let file = match view.table.delete(opened).map_err(|_| NotOpened::Error(ErrorCode::Io))? {
        Descriptor::File(file) => file.file,
        Descriptor::Dir(dir) => dir.dir,
    };
    let file = Arc::try_unwrap(file).map_err(|_| NotOpened::Error(ErrorCode::Io))?;
    let kind = kind(&file)?;
    regular(kind)?;
    describe(file, kind == FileType::Directory, dir.perms, mode, wanted.open_flags)
}

/// Sets the times of what a path leads to, which is not opened for it.
pub(super) fn set_times(dir: &Dir, path: &str, times: &Timestamps) -> Result<(), NotOpened> {
    if dir.perms.write_not_permitted() {
        return Err(NotOpened::Error(ErrorCode::NotPermitted));
    }
    let found = beneath(dir, path, LOOK).map_err(|lookup| match lookup {
        Lookup::Failed(error) => error.into(),
        Lookup::NoCall => NotOpened::NoCall,
    })?;
    #[cfg(target_os = "linux")]
    let set = rustix::fs::utimensat(&found, "", times, rustix::fs::AtFlags::EMPTY_PATH);
    #[cfg(not(target_os = "linux"))]
    let set = rustix::fs::futimens(&found, times);
    match set {
        Err(Errno::INVAL) => Err(NotOpened::NoCall), // Linux before 5.8
        set => Ok(set?),
    }
}

/// About how many bytes a list of a directory takes; none: more than one may.
pub(super) fn size_of_list(dir: &Dir) -> Result<Option<u64>, Errno> {
    // The directory may be open by its path alone, and is to be read from its beginning.
    let opened =
        rustix::fs::openat(&*dir.dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = 0;
    for entry in rustix::fs::Dir::new(opened)? {
        bytes += ENTRY + entry?.file_name().to_bytes().len() as u64;
        if bytes > MOST_OF_A_LIST {
            return Ok(None);
        }
    }
    Ok(Some(bytes))
}

/// A time as the kernel takes it; none: it stays.
pub(super) fn timespec(time: Option<(u64, u32)>) -> Result<Timespec, ErrorCode> {
    match time {
        None => Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }),
        Some((seconds, nanoseconds)) => {
            let seconds = seconds.checked_add(u64::from(nanoseconds / 1_000_000_000)).ok_or(ErrorCode::Overflow)?;
            Ok(Timespec {
                tv_sec: seconds.try_into().map_err(|_| ErrorCode::Overflow)?,
                tv_nsec: (nanoseconds % 1_000_000_000).into(),
            })
        }
    }
}

/// Opens a directory that a guest is granted, by its path on this machine; nothing in it is read for that.
pub(super) fn granted(path: &std::path::Path, perms: FsPerms) -> io::Result<Dir> {
    let how = OFlags::DIRECTORY | OFlags::CLOEXEC;
    #[cfg(target_os = "linux")]
    let how = how | OFlags::PATH;
    let mode = match perms {
        FsPerms::ReadOnly => OpenMode::READ,
        FsPerms::ReadWrite => OpenMode::READ | OpenMode::WRITE,
    };
    Ok(Dir::new(rustix::fs::open(path, how, Mode::empty())?.into(), perms, mode, true))
}

fn describe(
    file: File,
    is_directory: bool,
    perms: FsPerms,
    mode: OpenMode,
    open_flags: OpenFlags,
) -> Result<Descriptor, NotOpened> {
    // The last argument: whatever is done with it is done on a thread that may wait.
    match is_directory {
        true => Ok(Descriptor::Dir(Dir::new(file, perms, mode, true))),
        false if open_flags.contains(OpenFlags::DIRECTORY) => Err(NotOpened::Error(ErrorCode::NotDirectory)),
        false => Ok(Descriptor::File(Opened::new(file, perms, mode, true))),
    }
}

fn kind(file: &File) -> Result<FileType, NotOpened> {
    Ok(FileType::from_raw_mode(fstat(file)?.st_mode))
}

fn regular(kind: FileType) -> Result<(), NotOpened> {
    match kind {
        FileType::RegularFile | FileType::Directory => Ok(()),
        FileType::Fifo => Err(NotOpened::Kind("a pipe")),
        FileType::Socket => Err(NotOpened::Kind("a socket")),
        FileType::BlockDevice | FileType::CharacterDevice => Err(NotOpened::Kind("a device")),
        _ => Err(NotOpened::Kind("no regular file")),
    }
}

/// Why a path was not looked up.
enum Lookup {
    Failed(Errno),
    NoCall,
}

/// What a path leads to, without opening it.
fn look(dir: &Dir, path: &str, follow: OFlags) -> Result<FileType, Lookup> {
    let found = beneath(dir, path, LOOK | follow)?;
    let found = fstat(&found).map_err(Lookup::Failed)?;
    Ok(FileType::from_raw_mode(found.st_mode))
}

/// Opens a path below a directory; it cannot lead out of it.
#[cfg(target_os = "linux")]
fn beneath(dir: &Dir, path: &str, how: OFlags) -> Result<File, Lookup> {
    let mode = if how.contains(OFlags::CREATE) { Mode::from_raw_mode(0o666) } else { Mode::empty() };
    for _ in 0..TRIES {
        match openat2(&*dir.dir, path, how, mode, ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS) {
            Ok(file) => return Ok(file.into()),
            // Something was renamed under the look-up, or another process holds a lease on the file.
            Err(Errno::AGAIN) => std::thread::yield_now(),
            // The second is what a container's filter answers that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => return Err(Lookup::NoCall),
            Err(error) => return Err(Lookup::Failed(error)),
        }
    }
    Err(Lookup::Failed(Errno::AGAIN))
}

#[cfg(not(target_os = "linux"))]
fn beneath(_dir: &Dir, _path: &str, _how: OFlags) -> Result<File, Lookup> {
    Err(Lookup::NoCall)
}
