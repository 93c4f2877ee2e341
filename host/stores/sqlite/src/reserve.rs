//! A reserve of the disk: a file that takes up room while there is plenty, and gives it to those who make room when there is
//! none.
//!
//! Invariant: ordinary writes are taken only while the reserve is whole, and there is some room besides. Where others, or the
//! record, have filled the disk the file is emptied, and ordinary writes are refused until it can be whole again.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

/// The file in the data directory.
const FILE: &str = "reserve";

#[derive(Debug)]
pub(crate) struct Reserve {
    dir: PathBuf,
    bytes: u64,
    is_whole: bool,
    has_room: Arc<AtomicBool>,
}

impl Reserve {
    /// Of so many bytes, in a data directory; 0: none, and nobody looks for room before it is needed.
    pub(crate) fn open(dir: &Path, bytes: u64) -> Self {
        let file = dir.join(FILE);
        let there = std::fs::symlink_metadata(&file).map_or(0, |file| file.len());
        if bytes == 0 || there != bytes {
            let _ = std::fs::remove_file(&file);
        }
        let is_whole = bytes > 0 && there == bytes;
        let mut reserve = Self { dir: dir.to_owned(), bytes, is_whole, has_room: Arc::new(AtomicBool::new(true)) };
        reserve.look();
        reserve
    }

    /// Whether ordinary writes are taken, now and later.
    pub(crate) fn has_room(&self) -> Arc<AtomicBool> {
        self.has_room.clone()
    }

    /// Looks how much room there is; whether ordinary writes are taken.
    pub(crate) fn look(&mut self) -> bool {
        if self.bytes == 0 {
            return true;
        }
        // What cannot be asked is tried.
        let available = statvfs(&self.dir).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        match self.is_whole {
            true if available < self.margin() => drop(self.release()),
            true => {}
            false if available >= self.bytes + 2 * self.margin() => match self.fill() {
                Ok(()) => {
                    self.is_whole = true;
                    if !self.has_room.swap(true, Ordering::Relaxed) {
                        tracing::info!("there is room on the disk again: all writes are taken");
                    }
                }
                Err(error) => {
                    let _ = std::fs::remove_file(self.dir.join(FILE));
                    self.refuse(&format!("the reserve cannot be kept: {error}"));
                }
            },
            false => self.refuse("there is less room than what is kept in reserve"),
        }
        self.is_whole
    }

    /// Gives the reserve to those who make room; whether there was one.
    pub(crate) fn release(&mut self) -> bool {
        if !std::mem::replace(&mut self.is_whole, false) {
            return false;
        }
        if let Err(error) = File::create(self.dir.join(FILE)) {
            tracing::warn!(%error, "the reserve could not be given up");
        }
        self.refuse("its last room is for those who make some");
        true
    }

    fn refuse(&self, why: &str) {
        if self.has_room.swap(false, Ordering::Relaxed) {
            tracing::error!(
                data = %self.dir.display(),
                why,
                "the disk is full: only what frees room, ends runs or changes what tenants may is taken"
            );
        }
    }

    /// Room that there has to be besides: enough for what is written at once, and for what others write meanwhile.
    fn margin(&self) -> u64 {
        self.bytes / 4
    }

    fn fill(&self) -> std::io::Result<()> {
        let path = self.dir.join(FILE);
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
        match fallocate(&file, FallocateFlags::empty(), 0, self.bytes) {
            // A file system that gives no room without being written to.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let zeros = vec![0; 1 << 16];
                let mut left = self.bytes;
                while left > 0 {
                    let next = left.min(zeros.len() as u64);
                    file.write_all(&zeros[..usize::try_from(next).unwrap_or(zeros.len())])?;
                    left -= next;
                }
                file.sync_all()
            }
            done => Ok(done?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_whole_or_given_up_and_found_again_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let len = || std::fs::metadata(dir.path().join(FILE)).map_or(0, |file| file.len());
        let mut reserve = Reserve::open(dir.path(), 1 << 20);
        let has_room = reserve.has_room();
        assert!(has_room.load(Ordering::Relaxed));
        assert_eq!(len(), 1 << 20);
        assert!(reserve.release() && !reserve.release(), "it is given up once");
        assert_eq!((len(), has_room.load(Ordering::Relaxed)), (0, false));
        assert!(reserve.look(), "this disk has room enough to keep it again");
        assert_eq!((len(), has_room.load(Ordering::Relaxed)), (1 << 20, true));
        drop(reserve);
        assert!(Reserve::open(dir.path(), 1 << 20).look());
        // More than any disk has.
        let too_much = Reserve::open(dir.path(), 1 << 60);
        assert!(!too_much.has_room().load(Ordering::Relaxed));
        drop(too_much);
        assert!(Reserve::open(dir.path(), 0).look());
        assert!(!dir.path().join(FILE).exists(), "none is wanted");
    }
}
