//! What the end-to-end tests share: the real binary in a directory of its own, and a client that speaks to it.
//!
//! Invariants: a host listens on loopback, on a port of its own, and ends with the test that started it, also when the
//! test fails. A binary or a guest that is not built is a failed test that says how to build it, never a skipped one.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

pub mod wasm;

/// A running host. Dropping it ends the process.
pub struct Host {
    child: Child,
    port: u16,
    dir: PathBuf,
    own_disk: bool,
    _temporary: Option<TempDir>,
    client: reqwest::Client,
    /// The operator's key.
    pub operator: String,
    /// The admin key of the tenant `default`.
    pub admin: String,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {} {}", self.status, String::from_utf8_lossy(&self.body)))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The problem's stable code; empty where there is none.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The same, if its status is `wanted`.
    ///
    /// # Panics
    /// Where it is another, with the whole answer.
    #[track_caller]
    pub fn expect(self, wanted: u16) -> Self {
        assert_eq!(self.status.as_u16(), wanted, "{}", self.text());
        self
    }
}

impl Host {
    /// Starts a host in a new directory.
    ///
    /// # Errors
    /// Where it does not become ready.
    pub async fn start() -> Result<Self> {
        Self::start_with("").await
    }

    /// Starts a host in a new directory with this `ltmc.toml`.
    ///
    /// # Errors
    /// Where it does not become ready.
    pub async fn start_with(config: &str) -> Result<Self> {
        Self::start_anew(Command::new(binary()?), config).await
    }

    /// The same, trusting this authority's certificate rather than the system's.
    ///
    /// # Errors
    /// Where it does not become ready.
    pub async fn start_trusting(ca: &Path, config: &str) -> Result<Self> {
        let mut command = Command::new(binary()?);
        command.env("SSL_CERT_FILE", ca);
        Self::start_anew(command, config).await
    }

    /// The same with so many file descriptors at most.
    ///
    /// # Errors
    /// Where it does not become ready.
    pub async fn start_with_descriptors(most: u64, config: &str) -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {most} && exec \"$0\" \"$@\"")]).arg(binary()?);
        Self::start_anew(command, config).await
    }

    async fn start_anew(command: Command, config: &str) -> Result<Self> {
        let temporary = tempfile::tempdir()?;
        std::fs::write(temporary.path().join("ltmc.toml"), config)?;
        let mut host = Self::launch(temporary.path(), command, false).await?;
        host._temporary = Some(temporary);
        Ok(host)
    }

    /// Starts a host on what stands in `dir` (`ltmc.toml`, `data/`).
    ///
    /// # Errors
    /// Where it does not become ready.
    pub async fn start_in(dir: &Path) -> Result<Self> {
        Self::launch(dir, Command::new(binary()?), false).await
    }

    /// Starts a host whose data directory is a disk of its own of this size, such as `48m`: a tmpfs in a mount namespace
    /// that nobody else sees.
    ///
    /// # Errors
    /// Where this machine lets nobody make namespaces, or the host does not become ready.
    pub async fn start_on_small_disk(size: &str) -> Result<Self> {
        let temporary = tempfile::tempdir()?;
        let dir = temporary.path().to_owned();
        std::fs::write(dir.join("ltmc.toml"), "limits.disk_reserve = \"8MiB\"\n")?;
        std::fs::create_dir(dir.join("data"))?;
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--propagation", "private", "sh", "-c"]);
        command
            .arg(format!("mount -t tmpfs -o size={size},mode=700 ltmc-test \"$0\" && exec \"$@\""))
            .arg(dir.join("data"));
        command.arg(binary()?);
        let mut host = Self::launch(&dir, command, true).await?;
        host._temporary = Some(temporary);
        Ok(host)
    }

    /// Starts a host that sees at `place` a file system whose server never answers, mounted in a namespace that nobody
    /// else sees: the host's own process holds the server's end, and does not know of it. The inner error: this machine lets
    /// nobody mount with FUSE, and why.
    ///
    /// # Errors
    /// Where the host does not become ready.
    pub async fn start_beside_hung_mount(place: &Path, config: &str) -> Result<Result<Self, String>> {
        const MOUNT: &str = "exec 9<>/dev/fuse && mount -i -t fuse \
            -o fd=9,rootmode=40000,user_id=0,group_id=0 ltmc-hung \"$0\" && exec \"$@\"";
        let unshare = || {
            let mut command = Command::new("unshare");
            command.args(["--user", "--map-root-user", "--mount", "--propagation", "private", "sh", "-c", MOUNT]);
            command.arg(place);
            command
        };
        match unshare().arg("true").output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => return Ok(Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
            Err(error) => return Ok(Err(format!("unshare: {error}"))),
        }
        let mut command = unshare();
        command.arg(binary()?);
        Self::start_anew(command, config).await.map(Ok)
    }

    async fn launch(dir: &Path, mut command: Command, own_disk: bool) -> Result<Self> {
        let port = free_port()?;
        let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("host.log"))?;
        let child = command
            .args(["serve", "--config"])
            .arg(dir.join("ltmc.toml"))
            .arg("--data")
            .arg(dir.join("data"))
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .spawn()?;
        let client = reqwest::Client::builder().timeout(Duration::from_secs(120)).no_proxy().build()?;
        let mut host = Self {
            child,
            port,
            dir: dir.to_owned(),
            own_disk,
            _temporary: None,
            client,
            operator: String::new(),
            admin: String::new(),
        };
        host.wait_until_ready().await?;
        let credentials: toml::Table = std::fs::read_to_string(host.data().join("credentials.toml"))?.parse()?;
        let key = |name: &str| credentials[name]["key"].as_str().unwrap_or_default().to_owned();
        (host.operator, host.admin) = (key("operator"), key("default"));
        Ok(host)
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the host ended with {status}:\n{}", self.log());
            }
            if let Ok(answer) = self.client.get(self.url("/readyz")).send().await
                && answer.status().is_success()
            {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the host is not ready:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it by `kill -9`, and starts another on the same directory.
    ///
    /// # Errors
    /// Where the new one does not become ready.
    pub async fn kill_and_restart(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.restart().await
    }

    /// Ends it by `kill -9`.
    pub fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }

    /// Starts another on the directory of one that has ended, which may have so many bytes of memory of its own (its heap and
    /// stacks, as [`Self::data_memory`] counts them) and aborts where it would need more.
    ///
    /// # Errors
    /// Where it does not become ready.
    pub async fn restart_within(&mut self, bytes: u64) -> Result<()> {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -c 0 && ulimit -d \"$0\" && exec \"$@\"", &(bytes >> 10).to_string()]);
        command.arg(binary()?);
        let mut next = Self::launch(&self.dir, command, false).await?;
        std::mem::swap(&mut self.child, &mut next.child);
        self.port = next.port;
        Ok(())
    }

    /// Waits until a run is quarantined: true; or until the host has died: false.
    ///
    /// # Errors
    /// Where neither happens within a minute.
    pub async fn is_set_aside_or_dead(&mut self, run: &str) -> Result<bool> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.child.try_wait()?.is_none() {
            let runs = self.request(Method::GET, "/v1/runs?state=quarantined", &self.admin);
            if let Ok(answer) = self.send(runs).await
                && answer.text().contains(run)
            {
                return Ok(true);
            }
            ensure!(Instant::now() < deadline, "the run is not set aside, and the host lives:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(false)
    }

    /// Starts another on the directory of one that has ended.
    ///
    /// # Errors
    /// Where it does not become ready.
    pub async fn restart(&mut self) -> Result<()> {
        let mut next = Self::start_in(&self.dir).await?;
        std::mem::swap(&mut self.child, &mut next.child);
        self.port = next.port;
        Ok(())
    }

    /// Ends it with SIGTERM, and waits.
    ///
    /// # Errors
    /// Where it does not end within 30 seconds.
    pub async fn terminate(&mut self) -> Result<std::process::ExitStatus> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "the host does not end:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory, in bytes.
    pub fn resident(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The most resident memory it has had, in bytes.
    pub fn peak(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// Memory of its own that it may write to, in bytes: what [`Self::restart_within`] bounds.
    pub fn data_memory(&self) -> u64 {
        self.memory("VmData:")
    }

    fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find(|one| one.starts_with(line)).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// Its data directory; on a disk of its own it can be seen only by way of the process, and while that lives.
    pub fn data(&self) -> PathBuf {
        if !self.own_disk {
            return self.dir.join("data");
        }
        let dir = self.dir.strip_prefix("/").unwrap_or(&self.dir);
        Path::new("/proc").join(self.pid().to_string()).join("root").join(dir).join("data")
    }

    /// Its log.
    pub fn whole_log(&self) -> String {
        std::fs::read_to_string(self.dir.join("host.log")).unwrap_or_default()
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.whole_log().lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// A path's address.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A request with a key, to be completed.
    pub fn request(&self, method: Method, path: &str, key: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(method, self.url(path));
        if key.is_empty() { request } else { request.bearer_auth(key) }
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer> {
        let answer = request.send().await.with_context(|| format!("no answer; the host's log:\n{}", self.log()))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        Ok(Answer { status, headers, body: answer.bytes().await?.to_vec() })
    }

    /// GET with the admin's key.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(self.request(Method::GET, path, &self.admin)).await
    }

    /// PUT of JSON with the admin's key.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn put_json(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(self.request(Method::PUT, path, &self.admin).json(body)).await
    }

    /// POST of JSON with the admin's key.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn post_json(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(self.request(Method::POST, path, &self.admin).json(body)).await
    }

    /// Uploads a component under a name, with a key.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn push_bytes(&self, key: &str, name: &str, wasm: Vec<u8>) -> Result<Answer> {
        let request = self.request(Method::PUT, &format!("/v1/agents/{name}"), key);
        self.send(request.header("content-type", "application/wasm").body(wasm)).await
    }

    /// Uploads a guest of `tests/guests` under a name and grants it these capabilities.
    ///
    /// # Errors
    /// Where the guest is not built, or the host refuses it.
    pub async fn push(&self, key: &str, name: &str, guest: &str, grants: &[&str]) -> Result<()> {
        let answer = self.push_bytes(key, name, guest_bytes(guest)?).await?;
        ensure!(answer.status.is_success(), "{guest}: {}", answer.text());
        let request = self.request(Method::PUT, &format!("/v1/agents/{name}/grants"), key).json(grants);
        let answer = self.send(request).await?;
        ensure!(answer.status.is_success(), "{guest}: {}", answer.text());
        Ok(())
    }

    /// Calls an agent with JSON.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn call(&self, key: &str, agent: &str, input: &Value) -> Result<Answer> {
        self.send(self.request(Method::POST, &format!("/v1/agents/{agent}/call"), key).json(input)).await
    }

    /// Makes a tenant and a key in it.
    ///
    /// # Errors
    /// Where the host refuses.
    pub async fn tenant(&self, name: &str, role: &str) -> Result<String> {
        let made = self
            .send(self.request(Method::POST, "/v1/tenants", &self.operator).json(&serde_json::json!({"name": name})))
            .await?;
        ensure!(made.status.is_success() || made.status == StatusCode::CONFLICT, "{}", made.text());
        self.key(name, role).await
    }

    /// Makes a key.
    ///
    /// # Errors
    /// Where the host refuses.
    pub async fn key(&self, tenant: &str, role: &str) -> Result<String> {
        let body = serde_json::json!({"tenant": tenant, "role": role});
        let made = self.send(self.request(Method::POST, "/v1/keys", &self.operator).json(&body)).await?;
        ensure!(made.status == StatusCode::CREATED, "{}", made.text());
        Ok(made.json()["key"].as_str().unwrap_or_default().to_owned())
    }

    /// How each database follows, as the operator sees it.
    ///
    /// # Errors
    /// Where the host does not say.
    pub async fn databases(&self) -> Result<Vec<Value>> {
        let answer = self.send(self.request(Method::GET, "/v1/databases", &self.operator)).await?.expect(200);
        Ok(answer.json().as_array().context("a list of databases")?.clone())
    }

    /// Waits until every database follows and has been told everything.
    ///
    /// # Errors
    /// Where that takes longer than `patience`.
    pub async fn settled(&self, patience: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            let found = self.databases().await?;
            if found.iter().all(|one| one["up"] == true && one["backlog"] == 0 && one["building"].is_null()) {
                return Ok(());
            }
            ensure!(begun.elapsed() < patience, "the databases did not catch up: {found:#?}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until a run is over, and gives it.
    ///
    /// # Errors
    /// Where it is not over within a minute.
    pub async fn ended(&self, key: &str, run: &str) -> Result<Value> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let run = self.send(self.request(Method::GET, &format!("/v1/runs/{run}"), key)).await?.json();
            if matches!(
                run["state"].as_str(),
                Some("completed" | "failed" | "cancelled" | "quarantined" | "paused" | "stuck")
            ) {
                return Ok(run);
            }
            ensure!(Instant::now() < deadline, "the run is not over: {run:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Says that a test did nothing, and why. It counts as passed, and what tests print is shown only of those that fail: so this is
/// written past the harness.
pub fn skipped(test: &str, why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "\nSKIPPED: {test}: {why}");
}

/// The binary under test: `LTMC_TEST_BIN`, or the one beside this test.
///
/// # Errors
/// Where it is not built.
pub fn binary() -> Result<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "the test runner says here where things are")]
    let path = match std::env::var("LTMC_TEST_BIN") {
        Ok(path) => PathBuf::from(path),
        Err(_) => {
            let test = std::env::current_exe()?;
            test.ancestors().nth(2).context("no directory of builds")?.join("ltmc")
        }
    };
    ensure!(
        path.exists(),
        "{} is not there: `cargo build -p ltmc` builds it (`cargo xtask test` does)",
        path.display()
    );
    Ok(path)
}

/// A guest's component: `NAME.wasm` under `LTMC_TEST_GUESTS`, or the text `guests/wat/NAME.wat`.
///
/// # Errors
/// Where it is not built.
pub fn guest_bytes(name: &str) -> Result<Vec<u8>> {
    if wasm::is_text(name) {
        return wasm::from_text(name);
    }
    #[expect(clippy::disallowed_methods, reason = "the test runner says here where things are")]
    let dir = std::env::var("LTMC_TEST_GUESTS").map_or_else(
        |_| Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/target/wasm32-wasip2/release"),
        PathBuf::from,
    );
    let path = dir.join(format!("{name}.wasm"));
    std::fs::read(&path).with_context(|| format!("{} is not there: `cargo xtask test` builds it", path.display()))
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
