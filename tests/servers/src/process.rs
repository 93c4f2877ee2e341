//! A server's process, and its end.
//!
//! Invariant: the process is gone when its guard is, and when this process is. Linux sends that last signal when the
//! *thread* that started the process ends, so that one thread, which never ends, starts them all.

use std::process::{Child, Command};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};

/// A command that dies with this process, by way of `setpriv` where there is one. Add arguments and start it with
/// [`Guard::start`].
pub fn command(program: &str) -> Command {
    static SETPRIV: OnceLock<bool> = OnceLock::new();
    let there = || Command::new("setpriv").arg("--version").output().is_ok_and(|output| output.status.success());
    if !*SETPRIV.get_or_init(there) {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

/// A running process. Dropped, it is killed.
#[derive(Debug)]
pub struct Guard {
    child: Child,
}

impl Guard {
    /// Starts `command`, which [`command`] has made.
    ///
    /// # Errors
    /// Where the program is not there.
    pub fn start(command: Command) -> anyhow::Result<Self> {
        type Order = (Command, Sender<std::io::Result<Child>>);
        static STARTER: OnceLock<std::sync::Mutex<Sender<Order>>> = OnceLock::new();
        let starter = STARTER.get_or_init(|| {
            let (orders, taken) = channel::<Order>();
            std::thread::spawn(move || {
                for (mut command, reply) in taken {
                    let _ = reply.send(command.spawn());
                }
            });
            orders.into()
        });
        let (reply, child) = channel();
        let name = format!("{command:?}");
        let send = starter.lock().unwrap_or_else(std::sync::PoisonError::into_inner).send((command, reply));
        send.ok().context("the thread that starts servers has ended")?;
        let child =
            child.recv()?.with_context(|| format!("cannot start {}", name.split(' ').next().unwrap_or(&name)))?;
        Ok(Self { child })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it at once (SIGKILL) and waits for that.
    pub fn kill(&mut self) {
        // A process that has ended already is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end (SIGTERM) and waits for that.
    ///
    /// # Errors
    /// Where it cannot be asked.
    pub fn terminate(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::TERM)?;
        self.child.wait()?;
        Ok(())
    }

    /// Stops it where it is (SIGSTOP): it answers nobody, and its connections stay.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn pause(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// Where it has ended.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        // Asked first, so that the id cannot be somebody else's by now.
        if !self.is_running() {
            bail!("the process has ended");
        }
        Ok(kill_process(Pid::from_child(&self.child), signal)?)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_outlives_the_thread_that_wanted_it_and_ends_with_its_guard() {
        let sleeper = std::thread::spawn(|| {
            let mut sleep = command("sleep");
            sleep.arg("60");
            Guard::start(sleep).unwrap()
        });
        let mut guard = sleeper.join().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(guard.is_running());
        guard.pause().unwrap();
        guard.resume().unwrap();
        let pid = Pid::from_child(&guard.child);
        drop(guard);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }
}
