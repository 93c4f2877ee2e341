//! The heads of the chains, kept outside of the record: a record that was put back, cut or exchanged is found by them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use hmac::{Hmac, KeyInit as _, Mac as _};
use ltmc_tests::Host;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

const SECRET: &str = "swordfish";
const PATIENCE: Duration = Duration::from_secs(30);

/// A webhook's receiver: refuses what comes first, then keeps what comes, and answers nothing any more once it is told to hang.
#[derive(Clone, Default)]
struct Receiver {
    asked: Arc<AtomicU32>,
    hangs: Arc<AtomicBool>,
    kept: Arc<Mutex<Vec<(String, String)>>>,
}

impl Receiver {
    async fn start() -> Result<(Self, String)> {
        let receiver = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/heads", listener.local_addr()?);
        let at = receiver.clone();
        let take = move |headers: HeaderMap, body: Bytes| {
            let at = at.clone();
            async move { at.take(&headers, &body).await }
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().route("/heads", post(take))).await });
        Ok((receiver, url))
    }

    async fn take(&self, headers: &HeaderMap, body: &[u8]) -> StatusCode {
        if self.asked.fetch_add(1, Ordering::Relaxed) < 2 {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        while self.hangs.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let signature = headers.get("ltmc-signature").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let body = String::from_utf8_lossy(body).into_owned();
        self.kept.lock().expect("nobody panics").push((signature.to_owned(), body));
        StatusCode::NO_CONTENT
    }

    fn kept(&self) -> Vec<(String, String)> {
        self.kept.lock().expect("nobody panics").clone()
    }
}

/// The head of a tenant's chain that was told last.
fn head(lines: &[String], tenant: &str) -> Option<(u64, String)> {
    lines.iter().rev().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let head = line["heads"].as_array()?.iter().find(|head| head["tenant"] == tenant)?.clone();
        Some((head["length"].as_u64()?, head["hash"].as_str()?.to_owned()))
    })
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn verify(data: &Path, anchors: &Path) -> Result<Value> {
    let mut command = Command::new(ltmc_tests::binary()?);
    command.args(["audit", "verify", "--json", "--data"]).arg(data).arg("--anchors").arg(anchors);
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.stdout.is_empty(), "{said}");
    let found: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(output.status.success() == (found["damage"] == json!([])), "{found:#}");
    Ok(found)
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        ensure!(Instant::now() < deadline, "{what} within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// A record as it is now, whole, in a file.
async fn copy(data: &Path, to: &Path) -> Result<()> {
    let mut record = SqliteConnection::connect(&data.join("record.db").to_string_lossy()).await?;
    sqlx::query("vacuum into ?").bind(to.to_string_lossy().into_owned()).execute(&mut record).await?;
    Ok(())
}

/// Puts a record in the place of another.
fn put_back(data: &Path, from: &Path) -> Result<()> {
    std::fs::copy(from, data.join("record.db"))?;
    for rest in ["record.db-wal", "record.db-shm"] {
        let _ = std::fs::remove_file(data.join(rest));
    }
    Ok(())
}

/// Edits a record as somebody does who is not the host.
async fn edit(data: &Path, sql: &str) -> Result<()> {
    let mut record = SqliteConnection::connect(&data.join("record.db").to_string_lossy()).await?;
    crate::audit::count_nothing(&mut record).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut record).await?;
    record.close().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_was_put_back_cut_or_exchanged_is_found_by_heads_that_were_kept_elsewhere() -> Result<()> {
    let elsewhere = tempfile::tempdir()?;
    let (file, posted) = (elsewhere.path().join("anchors"), elsewhere.path().join("posted"));
    let (receiver, url) = Receiver::start().await?;
    let config = format!(
        "[audit]\nanchor_file = {file:?}\nanchor_url = \"{url}\"\nanchor_secret = \"{SECRET}\"\nanchor_log = true\nanchor_every = \"1s\"\n"
    );
    let mut host = Host::start_with(&config).await?;
    let data: PathBuf = host.data();
    let acme = host.tenant("acme", "admin").await?;
    let before = elsewhere.path().join("before.db");
    let put = async |host: &Host, key: &str| -> Result<()> {
        let put = host.request(Method::PUT, &format!("/v1/memory/global/{key}"), &acme).body("v");
        ensure!(host.send(put).await?.status.is_success(), "{key} cannot be put");
        Ok(())
    };
    put(&host, "a").await?;
    until("acme's head is in the file", || head(&lines(&file), "acme").is_some_and(|(length, _)| length >= 2)).await?;
    copy(&data, &before).await?;
    put(&host, "b").await?;
    // The webhook refused what came first, and was asked again.
    let told = |receiver: &Receiver| receiver.kept().into_iter().map(|(_, body)| body).collect::<Vec<_>>();
    until("acme's head is posted", || head(&told(&receiver), "acme").is_some_and(|(length, _)| length >= 3)).await?;
    for (signature, body) in receiver.kept() {
        let mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes())?.chain_update(&body).finalize().into_bytes();
        assert_eq!(signature, format!("sha256={}", hex::encode(mac)));
    }
    let again = told(&receiver).len();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(told(&receiver).len(), again, "where nothing has moved nothing is told");
    // Who hangs keeps nobody from stopping, and the last heads are in the file.
    receiver.hangs.store(true, Ordering::Relaxed);
    put(&host, "c").await?;
    let begun = Instant::now();
    host.terminate().await?;
    assert!(begun.elapsed() < Duration::from_secs(12), "the webhook kept it for {:?}", begun.elapsed());
    assert!(!host.whole_log().contains(SECRET));
    let whole = verify(&data, &file)?;
    assert_eq!(whole["damage"], json!([]), "{whole:#}");
    let ends = whole["heads"].as_array().into_iter().flatten().find(|head| head["tenant"] == "acme").cloned();
    let ends = ends.map(|head| (head["length"].as_u64().unwrap_or(0), head["hash"].as_str().unwrap_or("").to_owned()));
    assert_eq!(head(&lines(&file), "acme"), ends, "{whole:#}");
    assert!(whole["anchors"].as_u64() >= Some(4), "{whole:#}");
    assert!(
        host.whole_log().contains(&ends.as_ref().map(|(_, hash)| hash.clone()).unwrap_or_default()),
        "it is in the log too"
    );
    std::fs::write(&posted, told(&receiver).join("\n"))?;
    assert_eq!(verify(&data, &posted)?["damage"], json!([]));

    let now = elsewhere.path().join("now.db");
    copy(&data, &now).await?;
    let found = |file: &Path, tenant: &str, words: &str| -> Result<()> {
        let found = verify(&data, file)?;
        let damage = found["damage"].as_array().cloned().unwrap_or_default();
        let is_named = |one: &Value| {
            one["tenant"].as_str().unwrap_or("") == tenant && one["what"].as_str().is_some_and(|w| w.contains(words))
        };
        ensure!(damage.iter().any(is_named), "{tenant}, {words}: {found:#}");
        Ok(())
    };
    put_back(&data, &before)?;
    for file in [&file, &posted] {
        found(file, "acme", "put back to an earlier state")?;
    }
    // Its last entry taken away with what it made true, and its end and its counts set as if there had never been one: by itself the
    // record is whole.
    put_back(&data, &now)?;
    let earlier: Vec<String> =
        lines(&file).into_iter().filter(|line| head(std::slice::from_ref(line), "acme") != ends).collect();
    let (length, hash) = head(&earlier, "acme").context("an earlier head")?;
    edit(
        &data,
        &format!(
            "update chains set \
               bytes = bytes - (select sum(length(frames) + 64) from journal where tenant = 'acme' and place > {length}), \
               besides = besides - (select length(value) + 65 from memory where tenant = 'acme' and key = 'c'), \
               log_rows = log_rows - 1 where tenant = 'acme'; \
             update chains set (besides, log_bytes) = (select besides - bytes, log_bytes - bytes from (select \
               length(delta) + octet_length(about) + 64 as bytes from log where tenant = 'acme' and about = 'global//c')) \
               where tenant = 'acme'; \
             delete from log where tenant = 'acme' and about = 'global//c'; \
             delete from journal where tenant = 'acme' and place > {length}; \
             delete from memory where tenant = 'acme' and key = 'c'; \
             update chains set length = {length}, head = x'{hash}' where tenant = 'acme'"
        ),
    )
    .await?;
    let unnoticed = elsewhere.path().join("unnoticed");
    std::fs::write(&unnoticed, earlier.join("\n"))?;
    assert_eq!(verify(&data, &unnoticed)?["damage"], json!([]), "by what was kept before");
    found(&file, "acme", "the last entries were taken away")?;
    // Everything of a tenant's gone.
    put_back(&data, &now)?;
    edit(&data, "delete from journal where tenant = 'acme'; delete from chains where tenant = 'acme'").await?;
    found(&file, "acme", "is gone")?;
    let own = lines(&file).join("\n");
    // A host that starts on a record that was put back says so.
    put_back(&data, &before)?;
    let doctor = || -> Result<String> {
        let mut command = Command::new(ltmc_tests::binary()?);
        command.args(["doctor", "--data"]).arg(&data).arg("--config").arg(data.with_file_name("ltmc.toml"));
        Ok(String::from_utf8_lossy(&command.output()?.stdout).into_owned())
    };
    let found_by_doctor = doctor()?;
    ensure!(found_by_doctor.contains("what was kept elsewhere of acme"), "{found_by_doctor}");
    host.restart().await?;
    let ready = async |key: &str| anyhow::Ok(host.send(host.request(Method::GET, "/readyz", key)).await?.expect(200));
    ensure!(
        ready(&host.operator)
            .await?
            .text()
            .contains("degraded: the record does not have what was kept elsewhere of acme")
    );
    for key in [&acme, "", "ltmc_aaaaaaaaaaaa_"] {
        let told = ready(key).await?.text();
        ensure!(!told.contains("acme") && !told.contains("anchors"), "{key}: {told}");
    }
    host.terminate().await?;
    let said = host.whole_log();
    ensure!(said.contains("ERROR") && said.contains("does not have the entry that was kept of it elsewhere"), "{said}");
    // Another record, whole in itself.
    let other = Host::start().await?;
    let exchanged = elsewhere.path().join("other.db");
    copy(&other.data(), &exchanged).await?;
    put_back(&data, &exchanged)?;
    found(&file, "", "was put in its place")?;
    // Also where the host on it has written its own into the same file since.
    host.restart().await?;
    host.terminate().await?;
    ensure!(host.whole_log().contains("none of this one"), "{}", host.whole_log());
    let id = |line: &String| serde_json::from_str::<Value>(line).ok()?["record"].as_str().map(str::to_owned);
    let records: std::collections::BTreeSet<String> = lines(&file).iter().filter_map(id).collect();
    ensure!(records.len() == 2, "{records:?}");
    found(&file, "", "was put in its place")?;
    // Lines about another record beside this one's are left out, and said.
    put_back(&data, &now)?;
    let both = elsewhere.path().join("both");
    let foreign = |at: &str| json!({"at": at, "record": "00000000000000aa", "heads": []}).to_string();
    let [earlier, later] = ["2026-01-01T00:00:00Z", "2126-01-01T00:00:00Z"].map(foreign);
    std::fs::write(&both, format!("{earlier}\n{own}\n{later}\n"))?;
    let found = verify(&data, &both)?;
    assert_eq!((&found["damage"], &found["others"]), (&json!([]), &json!({"00000000000000aa": 2})), "{found:#}");
    // A hash that is in no chain is no tenant's.
    let mut since = Command::new(ltmc_tests::binary()?);
    since.args(["audit", "verify", "--since", &"ab".repeat(32), "--data"]).arg(&data);
    let said = String::from_utf8_lossy(&since.output()?.stderr).into_owned();
    ensure!(said.contains("in no chain: no entry has the hash") && !said.contains("_host"), "{said}");
    Ok(())
}

/// What can never be told anybody is said at the start, and a file that holds no heads when it is read.
#[test]
fn wrong_places_for_heads_are_refused_by_name() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let serve = |config: &str| {
        std::fs::write(dir.path().join("ltmc.toml"), format!("listen = \"127.0.0.1:0\"\n[audit]\n{config}"))?;
        let output = Command::new(ltmc_tests::binary()?).arg("serve").current_dir(dir.path()).output()?;
        anyhow::Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    for (config, words) in [
        ("anchor_url = \"http://localhost/\"\n", "audit.anchor_secret"),
        ("anchor_url = \"ftp://localhost/\"\nanchor_secret = \"swordfish\"\n", "audit.anchor_url"),
        ("anchor_url = \"http://localhost/\"\nanchor_secret_file = \"missing\"\n", "missing"),
        ("anchor_file = \"ltmc-data/anchors\"\n", "audit.anchor_file"),
        ("anchor_every = \"10ms\"\n", "audit.anchor_every"),
    ] {
        let (done, said) = serve(config)?;
        ensure!(!done && said.contains(words) && !said.contains("swordfish"), "{config}: {said}");
    }
    std::fs::write(dir.path().join("none"), "no heads\n")?;
    std::fs::create_dir_all(dir.path().join("ltmc-data"))?;
    std::fs::write(dir.path().join("ltmc-data/record.db"), "")?;
    let mut command = Command::new(ltmc_tests::binary()?);
    let output =
        command.args(["audit", "verify", "--anchors", "none"]).current_dir(dir.path()).env_remove("LTMC_CONFIG");
    std::fs::remove_file(dir.path().join("ltmc.toml"))?;
    let output = output.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2) && said.contains("no heads of chains"), "{said}");
    // Nobody may ever come to the other end of a pipe.
    ensure!(Command::new("mkfifo").arg(dir.path().join("pipe")).status()?.success());
    let mut command = Command::new(ltmc_tests::binary()?);
    command.args(["audit", "verify", "--anchors", "pipe"]).current_dir(dir.path()).env_remove("LTMC_CONFIG");
    let output = command.output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2) && said.contains("no regular file"), "{said}");
    Ok(())
}
