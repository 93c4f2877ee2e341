//! Neo4j Community, from its Maven artifact, run by Java.
//!
//! The first start on a machine has Maven fetch it into a cache directory; later ones take it from there. A user's own
//! Neo4j is neither needed nor touched.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};

use crate::certificate;
use crate::process::{Guard, command};

/// Which Neo4j: the version that stands in the `pom.xml` too.
pub const VERSION: &str = "5.26.16";

const POM: &str = include_str!("../neo4j/pom.xml");
const LAUNCHER: &str = include_str!("../neo4j/Neo4j.java");
const USER: &str = "neo4j";
const PASSWORD: &str = "only-for-tests";
/// A start takes about 7 s on two idle cores.
const PATIENCE: Duration = Duration::from_secs(180);
const READY: &str = "ready";

/// A running Neo4j.
#[derive(Debug)]
pub struct Neo4j {
    home: PathBuf,
    lib: PathBuf,
    port: u16,
    tls: bool,
    guard: Option<Guard>,
}

impl Neo4j {
    /// Starts one with its data in `home`, and waits until it answers.
    ///
    /// # Errors
    /// Where Java or Maven is missing, or it does not start.
    pub fn start(home: &Path) -> anyhow::Result<Self> {
        Self::start_on(home, crate::free_port()?)
    }

    /// The same, on this port.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_on(home: &Path, port: u16) -> anyhow::Result<Self> {
        Self::begin(home, port, false)
    }

    /// The same, speaking TLS alone, with a certificate made for this server.
    ///
    /// # Errors
    /// As [`Self::start`], and where `openssl` is missing.
    pub fn start_with_tls(home: &Path) -> anyhow::Result<Self> {
        Self::begin(home, crate::free_port()?, true)
    }

    fn begin(home: &Path, port: u16, tls: bool) -> anyhow::Result<Self> {
        let lib = install()?;
        fs::create_dir_all(home)?;
        let mut server = Self { home: fs::canonicalize(home)?, lib, port, tls, guard: None };
        if tls {
            certificate::make(&server.home)?;
        }
        server.launch()?;
        server.wait()?;
        Ok(server)
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", if self.tls { "bolt+s" } else { "bolt" }, self.port)
    }

    /// The certificate of the authority that signed its own.
    pub fn ca(&self) -> PathBuf {
        self.home.join(certificate::CA)
    }

    /// The port of Bolt.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Who may do anything there.
    pub fn user(&self) -> &'static str {
        USER
    }

    /// The password of its user, made for tests.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// Its process; none: it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.guard.as_ref().map(Guard::pid)
    }

    /// Kills it (SIGKILL): what it had not on disk is lost.
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
        self.launch()?;
        self.wait()
    }

    /// Starts it again with no data at all, and waits until it answers.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn wipe(&mut self) -> anyhow::Result<()> {
        self.stop_now();
        let data = self.home.join("data");
        if data.exists() {
            fs::remove_dir_all(&data).with_context(|| format!("cannot delete {}", data.display()))?;
        }
        self.restart()
    }

    /// Starts it without waiting for it: for who wants to see one in the middle of starting.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn launch(&mut self) -> anyhow::Result<()> {
        self.stop_now();
        let conf = self.home.join("neo4j.conf");
        fs::write(&conf, self.configuration())?;
        let log = File::create(self.log())?;
        let mut java = command("java");
        java.args(["-Xmx384m", "-XX:+UseSerialGC", "-cp"])
            .arg(self.lib.join("*"))
            .arg(self.lib.with_file_name("Neo4j.java"))
            .arg(&self.home)
            .arg(&conf)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        if !self.home.join("data").exists() {
            java.env("LTMC_NEO4J_PASSWORD", PASSWORD);
        }
        self.guard = Some(Guard::start(java)?);
        Ok(())
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// Where it ends instead, or takes too long; with the last of what it said.
    pub fn wait(&mut self) -> anyhow::Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let said = fs::read_to_string(self.log()).unwrap_or_default();
            if said.lines().any(|line| line == READY) {
                return Ok(());
            }
            let ended = !self.running()?.is_running();
            if ended || Instant::now() > until {
                let what = if ended { "ended while it started" } else { "does not get ready" };
                let last: Vec<&str> = said.lines().rev().take(20).collect();
                let last: Vec<&str> = last.into_iter().rev().collect();
                bail!("Neo4j {what}; it said:\n{}", last.join("\n"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn running(&mut self) -> anyhow::Result<&mut Guard> {
        self.guard.as_mut().context("Neo4j does not run")
    }

    fn log(&self) -> PathBuf {
        self.home.join("server.log")
    }

    fn configuration(&self) -> String {
        let mut lines = vec![
            "server.bolt.enabled=true".to_owned(),
            format!("server.bolt.listen_address=127.0.0.1:{}", self.port),
            "dbms.security.auth_enabled=true".to_owned(),
            "server.memory.pagecache.size=64m".to_owned(),
            "dbms.usage_report.enabled=false".to_owned(),
        ];
        if self.tls {
            lines.extend([
                "server.bolt.tls_level=REQUIRED".to_owned(),
                "dbms.ssl.policy.bolt.enabled=true".to_owned(),
                "dbms.ssl.policy.bolt.client_auth=NONE".to_owned(),
                format!("dbms.ssl.policy.bolt.base_directory={}", self.home.display()),
                format!(
                    "dbms.ssl.policy.bolt.public_certificate={}",
                    self.home.join(certificate::CERTIFICATE).display()
                ),
                format!("dbms.ssl.policy.bolt.private_key={}", self.home.join(certificate::KEY).display()),
            ]);
        }
        lines.join("\n") + "\n"
    }
}

/// Where the database's libraries are: fetched once a machine, whoever else wants them meanwhile.
fn install() -> anyhow::Result<PathBuf> {
    needs("java", "-version", "Java 17, with its compiler (on Debian: openjdk-17-jdk-headless)")?;
    let dir = cache()?.join("ltmc").join(format!("neo4j-{VERSION}"));
    fs::create_dir_all(&dir)?;
    let lock = File::create(dir.join("lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let (lib, done) = (dir.join("lib"), dir.join("complete"));
    fs::write(dir.join("Neo4j.java"), LAUNCHER)?;
    if !done.exists() {
        needs("mvn", "-version", "Maven (on Debian: maven)")?;
        fs::write(dir.join("pom.xml"), POM)?;
        let fetch = Command::new("mvn")
            .args(["-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=lib"])
            .current_dir(&dir)
            .output()?;
        if !fetch.status.success() {
            bail!("Maven cannot fetch Neo4j {VERSION}:\n{}", String::from_utf8_lossy(&fetch.stdout));
        }
        fs::write(&done, VERSION)?;
    }
    Ok(lib)
}

fn needs(program: &str, flag: &str, what: &str) -> anyhow::Result<()> {
    let output = Command::new(program).arg(flag).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(_) => bail!("`{program} {flag}` fails: to start Neo4j, install {what}"),
        Err(_) => bail!("there is no `{program}`: to start Neo4j, install {what}"),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests have no configuration of their own; the directory is the user's cache"
)]
fn cache() -> anyhow::Result<PathBuf> {
    let of = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty()).map(PathBuf::from);
    of("XDG_CACHE_HOME")
        .or_else(|| of("HOME").map(|home| home.join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME says where caches are")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn it_starts_pauses_restarts_and_is_wiped() {
        let home = tempfile::tempdir().unwrap();
        let mut server = Neo4j::start(home.path()).unwrap();
        let answers = |server: &Neo4j| TcpStream::connect(("127.0.0.1", server.port())).is_ok();
        assert!(answers(&server));
        server.pause().unwrap();
        server.resume().unwrap();
        let first = server.pid();
        server.stop_now();
        assert!(!answers(&server) && server.pid().is_none() && server.pause().is_err());
        server.restart().unwrap();
        assert!(answers(&server) && server.pid() != first);
        server.wipe().unwrap();
        assert!(answers(&server));
    }
}
