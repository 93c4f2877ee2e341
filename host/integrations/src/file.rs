//! Files that an operator names, used without waiting for what may never come: a pipe that nobody reads, a mount whose server is gone.
//!
//! Invariants: only regular files are opened, and opening does not wait. What is done with a file is done on a thread of its own, of
//! which there is one at most for each [`Hand`]: none of the host's is ever held, and where a thread does not come back no other
//! joins it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::sync::oneshot;

/// Opens a regular file, and nothing else.
///
/// # Errors
/// Where it cannot be opened, or is a pipe, a device, a directory: `InvalidInput`.
pub fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let not_regular = || io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file");
    // Looked at before, since opening a device may do something to it; and after, since it may be another by then.
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(not_regular());
    }
    let waits_for_nobody = OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = options.custom_flags(waits_for_nobody.bits().cast_signed()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(not_regular()),
    }
}

/// Does one thing after the other with a file, and waits for each for so long and no longer.
#[derive(Debug)]
pub struct Hand {
    limit: Duration,
    /// What is still being done that nobody waited for any more.
    late: Option<oneshot::Receiver<()>>,
}

impl Hand {
    /// One that waits for so long.
    pub fn new(limit: Duration) -> Self {
        Self { limit, late: None }
    }

    /// Does something with a file, on a thread of its own. What is not done in time may still be done later.
    ///
    /// # Errors
    /// Those of what is done; `TimedOut` where that takes too long, or where what was begun before is not done yet: then this is not
    /// begun.
    pub async fn work<T: Send + 'static>(
        &mut self,
        task: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let limit = self.limit;
        let too_late =
            || io::Error::new(io::ErrorKind::TimedOut, format!("its file system has not answered in {limit:?}"));
        if let Some(late) = &mut self.late {
            // However it ended: the thread is gone.
            let _ = tokio::time::timeout(limit, late).await.map_err(|_| too_late())?;
            self.late = None;
        }
        let ((give, result), (leave, left)) = (oneshot::channel(), oneshot::channel());
        std::thread::Builder::new().name("ltmc-file".to_owned()).spawn(move || {
            // Nobody may wait for it any more.
            let _ = give.send(task());
            drop::<oneshot::Sender<()>>(leave);
        })?;
        let late = self.late.insert(left);
        match tokio::time::timeout(limit, result).await {
            Ok(Ok(done)) => {
                let _ = late.await;
                self.late = None;
                done
            }
            Ok(Err(_)) => Err(io::Error::other("what was done with the file was broken off")),
            Err(_) => Err(too_late()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn only_regular_files_are_opened_and_nobody_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, file) = (dir.path().join("pipe"), dir.path().join("file"));
        let (fifo, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, fifo, mode, 0).unwrap();
        for options in [OpenOptions::new().read(true), OpenOptions::new().append(true).create(true)] {
            for path in [pipe.as_path(), dir.path(), Path::new("/dev/null")] {
                let refused = open(path, options).unwrap_err();
                assert!(refused.to_string().contains("no regular file"), "{}: {refused}", path.display());
            }
        }
        assert_eq!(open(&file, OpenOptions::new().read(true)).unwrap_err().kind(), io::ErrorKind::NotFound);
        open(&file, OpenOptions::new().append(true).create(true)).unwrap();
        open(&file, OpenOptions::new().read(true)).unwrap();
    }

    /// What never comes back holds one thread, however often it is tried, and is waited for no longer than the limit.
    #[tokio::test]
    async fn what_never_comes_back_holds_one_thread_and_nobody() {
        let mut hand = Hand::new(Duration::from_millis(1));
        let (release, held) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel();
        let never = move || {
            let _ = held.recv();
            Ok(())
        };
        assert_eq!(hand.work(never).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        for _ in 0..3 {
            let begin = begin.clone();
            let next = move || begin.send(()).map_err(io::Error::other);
            assert_eq!(hand.work(next).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        assert!(begun.try_recv().is_err(), "none was begun behind it");
        drop(release);
        loop {
            match hand.work(|| Ok(7)).await {
                Ok(done) => break assert_eq!(done, 7),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
            }
        }
        let broken = Hand::new(Duration::from_secs(60)).work(|| -> io::Result<()> { panic!("as a bug would") }).await;
        assert!(broken.unwrap_err().to_string().contains("broken off"));
    }
}
