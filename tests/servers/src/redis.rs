//! Redis 7, from the distribution's package.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::certificate;
use crate::process::{Guard, command};

/// A start takes about 0.1 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a server is to be started.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// A password for everybody.
    pub password: Option<String>,
    /// A user of the ACL, as `ACL SETUSER` takes it: `alice on >secret ~ltmc:* +@all`. The default user is off then.
    pub user: Option<String>,
    /// TLS alone, with a certificate made for this server.
    pub tls: bool,
    /// The bound of its memory, in bytes.
    pub max_memory: Option<u64>,
    /// The server it follows, on loopback, by its port.
    pub replica_of: Option<u16>,
}

/// A running Redis.
#[derive(Debug)]
pub struct Redis {
    dir: PathBuf,
    port: u16,
    options: RedisOptions,
    guard: Option<Guard>,
}

impl Redis {
    /// Starts one with its data in `dir`, and waits until it answers.
    ///
    /// # Errors
    /// Where `redis-server` is missing, or it does not start.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        Self::start_with(dir, RedisOptions::default())
    }

    /// The same, on this port.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_on(dir: &Path, port: u16) -> anyhow::Result<Self> {
        Self::begin(dir, port, RedisOptions::default())
    }

    /// The same, with these options.
    ///
    /// # Errors
    /// As [`Self::start`]; with TLS also where `openssl` is missing.
    pub fn start_with(dir: &Path, options: RedisOptions) -> anyhow::Result<Self> {
        Self::begin(dir, crate::free_port()?, options)
    }

    fn begin(dir: &Path, port: u16, options: RedisOptions) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut server = Self { dir: fs::canonicalize(dir)?, port, options, guard: None };
        if server.options.tls {
            certificate::make(&server.dir)?;
        }
        server.restart()?;
        Ok(server)
    }

    /// Where it answers. Who has to log in adds that.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.options.tls { "rediss" } else { "redis" }, self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of the authority that signed its own.
    pub fn ca(&self) -> PathBuf {
        self.dir.join(certificate::CA)
    }

    /// Its process; none: it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.guard.as_ref().map(Guard::pid)
    }

    /// Kills it (SIGKILL).
    pub fn stop_now(&mut self) {
        self.guard = None;
    }

    /// Stops it where it is (SIGSTOP): connections stay, and nothing is answered.
    ///
    /// # Errors
    /// Where it does not run.
    pub fn pause(&mut self) -> anyhow::Result<()> {
        self.running()?.pause()
    }

    /// Lets it go on (SIGCONT).
    ///
    /// # Errors
    /// Where it does not run.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        self.running()?.resume()
    }

    /// Starts it again, on the same data and port, and waits until it answers. Where it runs, it is killed first.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.stop_now();
        fs::write(self.dir.join("redis.conf"), self.configuration())?;
        let log = File::create(self.log())?;
        let mut server = command(program()?);
        server.arg(self.dir.join("redis.conf")).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.guard = Some(Guard::start(server)?);
        self.wait()
    }

    /// Wipes it: every key of everybody.
    ///
    /// # Errors
    /// Where it does not answer.
    pub fn flush_all(&self) -> anyhow::Result<()> {
        let answer = self.say(&["FLUSHALL"])?;
        if answer != "OK" {
            bail!("FLUSHALL was answered with: {answer}");
        }
        Ok(())
    }

    /// Sends one command as the server's own administrator would, and answers what `redis-cli` shows.
    ///
    /// # Errors
    /// Where it does not answer, or refuses.
    pub fn say(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut cli = Command::new("redis-cli");
        // `cli.sock` is a door for this alone: no password, no TLS.
        cli.arg("-s").arg(self.socket());
        if self.options.user.is_some() {
            cli.args(["--user", "tests", "--pass", "tests", "--no-auth-warning"]);
        } else if let Some(password) = &self.options.password {
            cli.args(["-a", password, "--no-auth-warning"]);
        }
        let output = cli.args(words).stdin(Stdio::null()).output().context("there is no `redis-cli`")?;
        let said = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        if !output.status.success()
            || ["ERR ", "NOAUTH ", "NOPERM ", "OOM ", "WRONGTYPE "].iter().any(|e| said.starts_with(e))
        {
            bail!("`{}`: {said}{}", words.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(said)
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            // While it loads its data it answers so.
            if self.say(&["PING"]).is_ok_and(|said| said == "PONG") && self.listens() {
                return Ok(());
            }
            let ended = !self.running()?.is_running();
            if ended || Instant::now() > until {
                let what = if ended { "ended while it started" } else { "does not get ready" };
                bail!("Redis {what}; it said:\n{}", fs::read_to_string(self.log()).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn listens(&self) -> bool {
        TcpStream::connect(("127.0.0.1", self.port)).is_ok()
    }

    fn running(&mut self) -> anyhow::Result<&mut Guard> {
        self.guard.as_mut().context("Redis does not run")
    }

    fn log(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("cli.sock")
    }

    fn configuration(&self) -> String {
        let quoted = |path: PathBuf| format!("\"{}\"", path.display());
        let mut lines = vec![
            "bind 127.0.0.1".to_owned(),
            "daemonize no".to_owned(),
            "save \"\"".to_owned(),
            "appendonly yes".to_owned(),
            format!("dir {}", quoted(self.dir.clone())),
            format!("unixsocket {}", quoted(self.socket())),
        ];
        if self.options.tls {
            lines.extend([
                "port 0".to_owned(),
                format!("tls-port {}", self.port),
                format!("tls-cert-file {}", quoted(self.dir.join(certificate::CERTIFICATE))),
                format!("tls-key-file {}", quoted(self.dir.join(certificate::KEY))),
                format!("tls-ca-cert-file {}", quoted(self.ca())),
                "tls-auth-clients no".to_owned(),
            ]);
        } else {
            lines.push(format!("port {}", self.port));
        }
        lines.extend(self.options.password.iter().map(|password| format!("requirepass {password}")));
        if let Some(user) = &self.options.user {
            lines.extend(["user default off".to_owned(), "user tests on >tests ~* &* +@all".to_owned()]);
            lines.push(format!("user {user}"));
        }
        lines.extend(self.options.max_memory.iter().map(|bytes| format!("maxmemory {bytes}")));
        lines.extend(self.options.replica_of.iter().map(|port| format!("replicaof 127.0.0.1 {port}")));
        lines.join("\n") + "\n"
    }
}

/// A port on which something listens that is no Redis: it greets whoever comes, and closes. It does so as long as the
/// process lives.
///
/// # Errors
/// Where no port is free.
pub fn no_redis() -> anyhow::Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1_024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    Ok(port)
}

fn program() -> anyhow::Result<&'static str> {
    let found = Command::new("redis-server").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        bail!("there is no `redis-server`: to start Redis, install it, version 7 or later (on Debian: redis-server)");
    }
    Ok("redis-server")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_pauses_restarts_with_its_data_and_is_wiped() {
        let dir = tempfile::tempdir().unwrap();
        let mut server = Redis::start(dir.path()).unwrap();
        server.say(&["SET", "k", "v"]).unwrap();
        server.pause().unwrap();
        server.resume().unwrap();
        let first = server.pid();
        server.stop_now();
        assert!(server.pid().is_none() && server.pause().is_err() && server.flush_all().is_err());
        server.restart().unwrap();
        assert!(server.pid() != first);
        assert_eq!(server.say(&["GET", "k"]).unwrap(), "v");
        server.flush_all().unwrap();
        assert_eq!(server.say(&["DBSIZE"]).unwrap(), "0");
    }

    #[test]
    fn it_speaks_tls_alone_and_knows_its_users() {
        let dir = tempfile::tempdir().unwrap();
        let user = Some("alice on >secret ~ltmc:* +@all".to_owned());
        let options = RedisOptions { tls: true, user, max_memory: Some(64 << 20), ..RedisOptions::default() };
        let server = Redis::start_with(dir.path(), options).unwrap();
        assert!(server.url().starts_with("rediss://") && server.ca().exists());
        assert!(server.say(&["ACL", "LIST"]).unwrap().contains("user alice on"));
        assert!(server.say(&["CONFIG", "GET", "maxmemory"]).unwrap().contains("67108864"));
    }
}
