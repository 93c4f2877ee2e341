//! Granted directories with things in them that are no files.

use std::os::unix::fs::{FileTypeExt as _, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ltmc_model::call::Call;
use ltmc_model::effect::{Refusal, Reply};
use ltmc_model::failure::Failure;
use ltmc_model::{RunId, Timestamp};
use ltmc_policy::Pot;
use rustix::fs::{CWD, FileType, Mode};
use tempfile::TempDir;
use wasmtime_wasi::p2::bindings::clocks::wall_clock::Datetime;

use super::*;
use crate::admission::Admission;
use crate::slot::Slots;
use crate::threads::Threads;

/// What a guest says on standard error stays here.
fn quiet() -> Output {
    Output::all(64 << 10)
}

/// A guest with one granted directory.
struct Guest {
    files: Files,
    table: ResourceTable,
    /// Whether the directory is still granted.
    granted: Arc<AtomicBool>,
}

/// Grants a directory for as long as this says.
struct Granting(Arc<AtomicBool>);

#[async_trait::async_trait]
impl Gate for Granting {
    async fn cross(&self, _: Call) -> Result<Result<Reply, Refusal>, Failure> {
        Ok(Err(Refusal::NotFound))
    }

    async fn grants(&self, _: &Directory) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1)
    }

    fn stderr(&self, _: &str) {}
}

impl Guest {
    async fn new(threads: &Arc<Threads>, path: &Path, write: bool) -> Self {
        Self::in_room(&Room::with(threads.clone(), 1_000, 1 << 20), path, write).await
    }

    async fn in_room(room: &Room, path: &Path, write: bool) -> Self {
        Self::try_in_room(room, path, write).await.unwrap()
    }

    async fn try_in_room(room: &Room, path: &Path, write: bool) -> Result<Self, NotOpen> {
        let name = "docs".parse().unwrap();
        let whose =
            Whose { tenant: "t".parse().unwrap(), run: RunId::new(Timestamp::from_millis(1), [1; 10]), agent: name };
        let granted = Directory { name: "docs".parse().unwrap(), path: path.to_owned(), write };
        let slots = Slots {
            admission: Admission::new(1, Pot::divided(1)),
            waiting: Pot::divided(1),
            waiting_memory: Pot::divided(1),
            memory: Pot::divided(1),
        };
        let entered = Arc::new(slots).enter(&whose.tenant, 1, &Arc::default()).await.unwrap();
        let is_granted = Arc::new(AtomicBool::new(true));
        let gate: Arc<dyn Gate> = Arc::new(Granting(is_granted.clone()));
        let owner = Owner { gate: &gate, slot: entered.slot(), stderr: quiet() };
        let files = Files::open(room, Arc::new(whose), &[granted], owner).await?;
        Ok(Self { files, table: ResourceTable::new(), granted: is_granted })
    }

    fn view(&mut self) -> View<'_> {
        View { files: &mut self.files, table: &mut self.table }
    }

    fn root(&mut self) -> Resource<Descriptor> {
        use super::preopens::Host as _;
        let mut all = self.view().get_directories().unwrap();
        assert_eq!(all[0].1, "/docs");
        all.remove(0).0
    }

    async fn open(
        &mut self,
        path: &str,
        path_flags: PathFlags,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> Result<Resource<Descriptor>, ErrorCode> {
        let root = self.root();
        let opened = self.view().open_at(root, path_flags, path.into(), open_flags, flags).await;
        opened.map_err(|error| error.downcast().unwrap())
    }

    async fn read(&mut self, path: &str) -> Result<Resource<Descriptor>, ErrorCode> {
        self.open(path, PathFlags::SYMLINK_FOLLOW, OpenFlags::empty(), DescriptorFlags::READ).await
    }

    /// What it was told on standard error.
    fn said(&self) -> String {
        String::from_utf8(self.files.stderr.finish().to_vec()).unwrap()
    }
}

fn fifo(at: &Path) {
    rustix::fs::mknodat(CWD, at, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn threads() -> Arc<Threads> {
    Threads::new(8).unwrap()
}

/// Waits until no thread works: an answer comes a moment before its thread is free.
async fn at_rest(threads: &Threads) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while threads.busy().working > 0 {
        assert!(Instant::now() < deadline, "{:?}", threads.busy());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn directory() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("note.md"), "to be read").unwrap();
    fifo(&dir.path().join("pipe.md"));
    symlink("pipe.md", dir.path().join("to-pipe.md")).unwrap();
    symlink("note.md", dir.path().join("to-note.md")).unwrap();
    symlink("/etc/passwd", dir.path().join("out.md")).unwrap();
    symlink("../note.md", dir.path().join("up.md")).unwrap();
    std::fs::create_dir(dir.path().join("below")).unwrap();
    dir
}

/// The case that was found: a pipe, opened for reading, for writing, by a link, and to set its times.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_is_refused_at_once_and_said() {
    let (dir, threads) = (directory(), threads());
    let socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket.md")).unwrap();
    let mut guest = Guest::new(&threads, dir.path(), true).await;
    let began = Instant::now();
    for path in ["pipe.md", "to-pipe.md", "socket.md"] {
        for flags in [DescriptorFlags::READ, DescriptorFlags::WRITE, DescriptorFlags::READ | DescriptorFlags::WRITE] {
            for open in [OpenFlags::empty(), OpenFlags::CREATE, OpenFlags::TRUNCATE] {
                let opened = guest.open(path, PathFlags::SYMLINK_FOLLOW, open, flags).await;
                assert_eq!(opened.unwrap_err(), ErrorCode::Unsupported, "{path} {flags:?} {open:?}");
            }
        }
        let root = guest.root();
        let now = NewTimestamp::Now;
        let mut view = guest.view();
        let times = view.set_times_at(root, PathFlags::SYMLINK_FOLLOW, path.into(), now, now);
        tokio::time::timeout(Duration::from_secs(10), times).await.unwrap().unwrap();
    }
    assert!(
        guest.said().contains("host: `pipe.md` is a pipe: in a granted directory only regular files and directories")
    );
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    at_rest(&threads).await;
    drop(socket);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_opened_as_before() {
    let (dir, threads) = (directory(), threads());
    std::fs::write(dir.path().parent().unwrap().join("outside-of-the-test"), "").unwrap();
    let mut guest = Guest::new(&threads, dir.path(), false).await;
    for path in ["note.md", "to-note.md", "below", "below/../note.md", "."] {
        guest.read(path).await.unwrap_or_else(|error| panic!("{path}: {error:?}"));
    }
    for (path, wanted) in [
        ("missing.md", ErrorCode::NoEntry),
        ("", ErrorCode::NoEntry),
        ("note.md/more", ErrorCode::NotDirectory),
        ("../outside-of-the-test", ErrorCode::NotPermitted),
        ("/etc/passwd", ErrorCode::NotPermitted),
        ("out.md", ErrorCode::NotPermitted),
        ("up.md", ErrorCode::NotPermitted),
    ] {
        assert_eq!(guest.read(path).await.unwrap_err(), wanted, "{path}");
    }
    let (none, follow) = (OpenFlags::empty(), PathFlags::SYMLINK_FOLLOW);
    let link = guest.open("to-note.md", PathFlags::empty(), none, DescriptorFlags::READ).await;
    assert_eq!(link.unwrap_err(), ErrorCode::Loop);
    let as_directory = guest.open("note.md", follow, OpenFlags::DIRECTORY, DescriptorFlags::READ).await;
    assert_eq!(as_directory.unwrap_err(), ErrorCode::NotDirectory);
    for (open, flags) in [
        (OpenFlags::CREATE, DescriptorFlags::READ),
        (OpenFlags::TRUNCATE, DescriptorFlags::READ),
        (none, DescriptorFlags::WRITE),
    ] {
        assert_eq!(guest.open("note.md", follow, open, flags).await.unwrap_err(), ErrorCode::NotPermitted);
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("note.md")).unwrap(), "to be read");

    let mut guest = Guest::new(&threads, dir.path(), true).await;
    let exclusive = OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
    let there = guest.open("note.md", follow, exclusive, DescriptorFlags::WRITE).await;
    assert_eq!(there.unwrap_err(), ErrorCode::Exist);
    guest.open("new.md", follow, exclusive, DescriptorFlags::WRITE).await.unwrap();
    guest.open("note.md", follow, OpenFlags::TRUNCATE, DescriptorFlags::WRITE).await.unwrap();
    assert_eq!(std::fs::read(dir.path().join("note.md")).unwrap(), b"");
    let directory = guest.open("below", follow, none, DescriptorFlags::WRITE).await;
    assert_eq!(directory.unwrap_err(), ErrorCode::IsDirectory);
    let synced =
        guest.open("note.md", follow, none, DescriptorFlags::READ | DescriptorFlags::FILE_INTEGRITY_SYNC).await;
    assert_eq!(synced.unwrap_err(), ErrorCode::Unsupported);
    std::fs::remove_file(dir.path().parent().unwrap().join("outside-of-the-test")).unwrap();
}

/// Somebody puts a pipe in a file's place and the file in the pipe's, again and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_that_comes_between_the_look_and_the_opening_does_not_hold_a_thread() {
    let (dir, threads) = (directory(), threads());
    let (place, aside) = (dir.path().join("note.md"), dir.path().join("pipe.md"));
    let stop = Arc::new(AtomicBool::new(false));
    let swapping = {
        let stop = stop.clone();
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let exchange = rustix::fs::RenameFlags::EXCHANGE;
                rustix::fs::renameat_with(CWD, &place, CWD, &aside, exchange).unwrap();
            }
        })
    };
    let mut guest = Guest::new(&threads, dir.path(), true).await;
    let (mut opened, mut refused) = (0, 0);
    let deadline = Instant::now() + Duration::from_secs(60);
    while (opened < 200 || refused < 200) && Instant::now() < deadline {
        let flags = if opened % 2 == 0 { DescriptorFlags::READ } else { DescriptorFlags::WRITE };
        let work = guest.open("note.md", PathFlags::SYMLINK_FOLLOW, OpenFlags::empty(), flags);
        match tokio::time::timeout(Duration::from_secs(20), work).await.expect("it does not wait") {
            Ok(fd) => {
                let Descriptor::File(file) = guest.table.get(&fd).unwrap() else { panic!("a directory") };
                assert!(file.file.metadata().unwrap().is_file());
                HostDescriptor::drop(&mut guest.view(), fd).unwrap();
                opened += 1;
            }
            Err(code) => {
                assert_eq!(code, ErrorCode::Unsupported);
                refused += 1;
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    swapping.join().unwrap();
    assert!(opened >= 200 && refused >= 200, "{opened} were opened, {refused} refused");
    assert!(
        dir.path().join("pipe.md").metadata().unwrap().file_type().is_fifo() || dir.path().join("note.md").exists()
    );
    at_rest(&threads).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_read_write_and_append() {
    let (dir, threads) = (directory(), threads());
    let text: String = (0..20_000).map(|number| format!("line {number}\n")).collect();
    std::fs::write(dir.path().join("long.md"), &text).unwrap();
    let mut guest = Guest::new(&threads, dir.path(), true).await;
    let fd = guest.read("long.md").await.unwrap();
    let stream = guest.view().read_via_stream(fd, 5).unwrap();
    let mut stream = guest.table.delete(stream).unwrap();
    let mut read = Vec::new();
    // In turns: by waiting, and by asking again and again.
    loop {
        match stream.blocking_read(10_000).await {
            Ok(bytes) => read.extend_from_slice(&bytes),
            Err(wasmtime_wasi::p2::StreamError::Closed) => break,
            Err(other) => panic!("{other}"),
        }
        stream.ready().await;
        if let Ok(bytes) = stream.read(1_000) {
            read.extend_from_slice(&bytes);
        }
    }
    assert!(text.as_bytes()[5..] == read, "{} of {} bytes", read.len(), text.len() - 5);
    drop(stream);

    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    let fd = guest.open("out.txt", PathFlags::SYMLINK_FOLLOW, OpenFlags::CREATE, flags).await.unwrap();
    let rep = fd.rep();
    let stream = guest.view().write_via_stream(Resource::new_borrow(rep), 0).unwrap();
    let mut stream = guest.table.delete(stream).unwrap();
    stream.blocking_write_and_flush("hello ".into()).await.unwrap();
    assert!(stream.check_write().unwrap() > 0);
    stream.write("world".into()).unwrap();
    assert!(stream.write("too soon".into()).is_err());
    stream.ready().await;
    stream.flush().unwrap();
    stream.cancel().await;
    let append = guest.view().append_via_stream(Resource::new_borrow(rep)).unwrap();
    let mut append = guest.table.delete(append).unwrap();
    append.blocking_write_and_flush("!".into()).await.unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("out.txt")).unwrap(), "hello world!");
    let (bytes, _) = guest.view().read(Resource::new_borrow(rep), 100, 6).await.unwrap();
    assert_eq!(bytes, b"world!");
    let directory = guest.root();
    assert!(guest.view().read_via_stream(directory, 0).is_err());
    let read_only = guest.read("note.md").await.unwrap();
    assert!(Guest::new(&threads, dir.path(), false).await.read("note.md").await.is_ok());
    HostDescriptor::drop(&mut guest.view(), read_only).unwrap();
    HostDescriptor::drop(&mut guest.view(), fd).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_function_runs_on_a_thread_and_answers() {
    let (dir, threads) = (directory(), threads());
    let mut guest = Guest::new(&threads, dir.path(), true).await;
    let follow = PathFlags::SYMLINK_FOLLOW;
    let root = guest.root().rep();
    let at = || Resource::<Descriptor>::new_borrow(root);
    let mut view = guest.view();
    let found = view.stat_at(at(), PathFlags::empty(), "pipe.md".into()).await.unwrap();
    assert_ne!(found.type_, DescriptorType::RegularFile);
    view.create_directory_at(at(), "made".into()).await.unwrap();
    view.symlink_at(at(), "note.md".into(), "made-link".into()).await.unwrap();
    assert_eq!(view.readlink_at(at(), "made-link".into()).await.unwrap(), "note.md");
    view.link_at(at(), PathFlags::empty(), "note.md".into(), at(), "other.md".into()).await.unwrap();
    view.rename_at(at(), "other.md".into(), at(), "renamed.md".into()).await.unwrap();
    let hash = view.metadata_hash_at(at(), follow, "note.md".into()).await.unwrap();
    assert_eq!(hash.lower, view.metadata_hash_at(at(), follow, "renamed.md".into()).await.unwrap().lower);
    let old = NewTimestamp::Timestamp(Datetime { seconds: 1_000_000_000, nanoseconds: 5 });
    for (path, flags) in [("made-link", follow), ("renamed.md", PathFlags::empty())] {
        view.set_times_at(at(), flags, path.into(), NewTimestamp::NoChange, old).await.unwrap();
        let modified = dir.path().join("note.md").metadata().unwrap().modified().unwrap();
        assert_eq!(modified.duration_since(std::time::UNIX_EPOCH).unwrap(), Duration::new(1_000_000_000, 5));
        std::fs::File::open(dir.path().join("note.md")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    }
    let flags = DescriptorFlags::READ | DescriptorFlags::WRITE;
    let fd = view.open_at(at(), follow, "note.md".into(), OpenFlags::empty(), flags).await.unwrap().rep();
    let file = || Resource::<Descriptor>::new_borrow(fd);
    assert_eq!(view.get_type(file()).await.unwrap(), DescriptorType::RegularFile);
    assert!(view.get_flags(file()).await.unwrap().contains(flags));
    assert_eq!(view.stat(file()).await.unwrap().size, 10);
    assert_eq!(view.write(file(), b"!".to_vec(), 10).await.unwrap(), 1);
    view.set_size(file(), 5).await.unwrap();
    view.set_times(file(), old, old).await.unwrap();
    view.advise(file(), 0, 5, types::Advice::Sequential).await.unwrap();
    view.sync(file()).await.unwrap();
    view.sync_data(file()).await.unwrap();
    view.sync(at()).await.unwrap();
    view.sync_data(at()).await.unwrap();
    assert!(!view.is_same_object(file(), at()).await.unwrap());
    assert_eq!(view.metadata_hash(file()).await.unwrap().lower, hash.lower);
    assert!(view.advise(at(), 0, 0, types::Advice::Normal).await.is_err());
    view.unlink_file_at(at(), "renamed.md".into()).await.unwrap();
    view.remove_directory_at(at(), "made".into()).await.unwrap();
    let entries = view.read_directory(at()).await.unwrap().rep();
    let mut names = Vec::new();
    while let Some(entry) = view.read_directory_entry(Resource::new_borrow(entries)).await.unwrap() {
        names.push(entry.name);
    }
    names.sort();
    assert_eq!(names, ["below", "made-link", "note.md", "out.md", "pipe.md", "to-note.md", "to-pipe.md", "up.md"]);
    HostDirectoryEntryStream::drop(&mut view, Resource::new_own(entries)).unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("note.md")).unwrap(), "to be");
}

/// Whatever a guest leaves open is closed, on a thread that may wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_leaves_open_is_closed() {
    let (dir, threads) = (directory(), threads());
    let path = dir.path().join("note.md").canonicalize().unwrap();
    let open_now = || {
        let all = std::fs::read_dir("/proc/self/fd").unwrap();
        all.filter(|fd| std::fs::read_link(fd.as_ref().unwrap().path()).is_ok_and(|to| to == path)).count()
    };
    let mut guest = Guest::new(&threads, dir.path(), false).await;
    for _ in 0..20 {
        let fd = guest.read("note.md").await.unwrap().rep();
        let stream = guest.view().read_via_stream(Resource::new_borrow(fd), 0).unwrap();
        if fd % 2 == 0 {
            drop(guest.table.delete(stream).unwrap());
        } else {
            HostDescriptor::drop(&mut guest.view(), Resource::new_own(fd)).unwrap();
        }
    }
    assert!(open_now() > 0);
    let Guest { mut files, table, .. } = guest;
    files.leave(table);
    let deadline = Instant::now() + Duration::from_secs(20);
    while open_now() > 0 || threads.busy().working > 0 {
        assert!(Instant::now() < deadline, "{} are open", open_now());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Where the kernel has no call for it: after a look, by wasmtime's own steps.
#[test]
fn the_long_way_refuses_the_same() {
    let dir = directory();
    let granted = open::granted(dir.path(), FsPerms::ReadWrite).unwrap();
    let open = |path: &str, open_flags: OpenFlags| {
        let (mut ctx, mut table) = (WasiFilesystemCtx::default(), ResourceTable::new());
        let mut view = WasiFilesystemCtxView { ctx: &mut ctx, table: &mut table };
        let flags = DescriptorFlags::READ;
        let wanted = Wanted { path: path.into(), path_flags: PathFlags::SYMLINK_FOLLOW, open_flags, flags };
        open::open_by_steps(&mut view, &granted, wanted)
    };
    for path in ["pipe.md", "to-pipe.md"] {
        assert!(matches!(open(path, OpenFlags::empty()), Err(NotOpened::Kind(_))), "{path}");
    }
    assert!(matches!(open("to-note.md", OpenFlags::empty()), Ok(Descriptor::File(_))));
    assert!(matches!(open("below", OpenFlags::DIRECTORY), Ok(Descriptor::Dir(_))));
    assert!(matches!(open("new.md", OpenFlags::CREATE), Ok(Descriptor::File(_))));
    for (path, wanted) in [("missing.md", ErrorCode::NoEntry), ("out.md", ErrorCode::NotPermitted)] {
        assert!(matches!(open(path, OpenFlags::empty()), Err(NotOpened::Error(code)) if code == wanted), "{path}");
    }
}

fn code<T>(done: FsResult<T>) -> Option<ErrorCode> {
    done.err().map(|error| error.downcast().unwrap())
}

#[tokio::test]
async fn a_grant_that_is_taken_back_denies_the_next_use_also_of_what_is_open() {
    let (dir, threads) = (directory(), threads());
    let mut guest = Guest::new(&threads, dir.path(), true).await;
    let both = DescriptorFlags::READ | DescriptorFlags::WRITE;
    let file = guest.open("note.md", PathFlags::empty(), OpenFlags::empty(), both).await.unwrap();
    let again = || Resource::<Descriptor>::new_borrow(file.rep());
    let stream = guest.view().read_via_stream(again(), 0).unwrap();
    assert_eq!(guest.view().read(again(), 5, 0).await.unwrap().0, b"to be");

    guest.granted.store(false, Ordering::Relaxed);
    assert_eq!(code(guest.view().read(again(), 5, 0).await), Some(ErrorCode::Access));
    assert_eq!(code(guest.view().write(again(), b"changed".to_vec(), 0).await), Some(ErrorCode::Access));
    assert_eq!(code(guest.view().stat(again()).await), Some(ErrorCode::Access));
    assert_eq!(guest.read("note.md").await.unwrap_err(), ErrorCode::Access);
    let root = guest.root();
    assert_eq!(code(guest.view().read_directory(root).await), Some(ErrorCode::Access));
    assert!(guest.table.get_mut(&stream).unwrap().blocking_read(5).await.is_err());
    assert!(guest.said().contains("`/docs` is not in force any more"), "{}", guest.said());
    assert_eq!(std::fs::read(dir.path().join("note.md")).unwrap(), b"to be read");

    guest.granted.store(true, Ordering::Relaxed);
    assert_eq!(guest.view().read(again(), 5, 0).await.unwrap().0, b"to be");
}

#[tokio::test]
async fn files_open_at_once_are_what_all_guests_share() {
    let (dir, threads) = (directory(), threads());
    // A tenant alone has six of sixteen, of which its two calls' directories are two.
    let room = Room::with(threads.clone(), 16, 1 << 20);
    let (mut guest, mut other) =
        (Guest::in_room(&room, dir.path(), false).await, Guest::in_room(&room, dir.path(), false).await);
    let mut open = Vec::new();
    for _ in 0..4 {
        open.push(guest.read("note.md").await.unwrap());
    }
    assert_eq!(guest.read("note.md").await.unwrap_err(), ErrorCode::Busy);
    assert_eq!(other.read("note.md").await.unwrap_err(), ErrorCode::Busy, "another call of the same tenant");
    assert!(guest.said().contains("as many files are open as may be"), "{}", guest.said());
    // What is dropped makes room, and while a stream has it open it does not.
    let dropped = open.pop().unwrap();
    let stream = guest.view().read_via_stream(Resource::new_borrow(dropped.rep()), 0).unwrap();
    HostDescriptor::drop(&mut guest.view(), dropped).unwrap();
    assert_eq!(guest.read("note.md").await.unwrap_err(), ErrorCode::Busy);
    drop(guest.table.delete(stream).unwrap());
    assert!(guest.read("note.md").await.is_ok());
    let table = std::mem::take(&mut guest.table);
    guest.files.leave(table);
    let deadline = Instant::now() + Duration::from_secs(20);
    while room.open.out() > 2 {
        assert!(Instant::now() < deadline, "a guest that is gone has {} files open", room.open.out() - 2);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop((guest, other));
    assert_eq!(room.open.out(), 0);
}

/// The case that was found: calls that have a directory and open nothing in it.
#[tokio::test]
async fn granted_directories_count_among_what_is_open() {
    let (dir, threads) = (directory(), threads());
    let room = Room::with(threads.clone(), 16, 1 << 20);
    let mut calls = Vec::new();
    for _ in 0..6 {
        calls.push(Guest::in_room(&room, dir.path(), false).await);
    }
    let refused = Guest::try_in_room(&room, dir.path(), false).await.err().unwrap();
    assert!(matches!(refused, NotOpen::Full), "{refused}");
    assert_eq!(room.open.out(), 6);
    // A handle to it has it open for as long as the guest is there.
    let mut one = calls.pop().unwrap();
    let root = one.root();
    HostDescriptor::drop(&mut one.view(), root).unwrap();
    assert_eq!(room.open.out(), 6);
    drop(one);
    calls.push(Guest::in_room(&room, dir.path(), false).await);
    drop(calls);
    assert_eq!(room.open.out(), 0);
    // One that cannot be opened counts no more.
    let gone = Guest::in_room(&room, &dir.path().join("gone"), false).await;
    assert_eq!((gone.files.granted.len(), room.open.out()), (0, 0));
}

#[tokio::test]
async fn lists_that_are_held_are_bounded() {
    let (dir, threads) = (tempfile::tempdir().unwrap(), threads());
    for number in 0..8 {
        std::fs::write(dir.path().join(format!("{number}")), "").unwrap();
    }
    let room = Room::with(threads.clone(), 16, 1 << 10);
    let mut guest = Guest::in_room(&room, dir.path(), false).await;
    let root = guest.root();
    let again = || Resource::<Descriptor>::new_borrow(root.rep());
    let list = guest.view().read_directory(again()).await.unwrap();
    assert!((8 * 64..=1 << 10).contains(&room.lists.out()), "{}", room.lists.out());
    assert_eq!(code(guest.view().read_directory(again()).await), Some(ErrorCode::InsufficientMemory));
    HostDirectoryEntryStream::drop(&mut guest.view(), list).unwrap();
    assert_eq!(room.lists.out(), 0);
    for number in 8..20 {
        std::fs::write(dir.path().join(format!("{number}")), "").unwrap();
    }
    assert_eq!(
        code(guest.view().read_directory(again()).await),
        Some(ErrorCode::InsufficientMemory),
        "it is too large"
    );
    assert!(guest.said().contains("too many entries"), "{}", guest.said());
}
