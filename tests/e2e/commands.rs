//! The command as people use it: an author's first agent, an operator's first tenants, and the exit codes programs see.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use ltmc_tests::Host;
use serde_json::{Value, json};

/// The command, speaking to this host.
fn ltmc(host: &Host, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(ltmc_tests::binary()?);
    command.args(arguments).arg("--data").arg(host.data()).env_remove("LTMC_URL").env_remove("LTMC_KEY");
    Ok(command)
}

fn done(mut command: Command) -> Result<Output> {
    let output = command.output()?;
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(output)))
}

/// With standard input from a file of this content.
fn fed(mut command: Command, dir: &Path, input: &str) -> Result<Command> {
    let path = dir.join("input");
    std::fs::write(&path, input)?;
    command.stdin(std::fs::File::open(path)?);
    Ok(command)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_author_makes_tests_runs_pushes_and_calls_an_agent() -> Result<()> {
    let host = Host::start().await?;
    let dir = tempfile::tempdir()?;
    let (krate, binary) = (dir.path().join("hello"), ltmc_tests::binary()?);
    let here = |arguments: &[&str]| {
        let mut command = Command::new(&binary);
        command.args(arguments).current_dir(dir.path());
        command
    };
    done(here(&["new", "hello"]))?;
    assert_eq!(here(&["new", "hello"]).output()?.status.code(), Some(2), "an existing crate is not overwritten");
    assert_eq!(here(&["new", "Not-A-Name"]).output()?.status.code(), Some(2));

    let mut native = Command::new("cargo");
    native.args(["test", "--quiet"]).current_dir(&krate).env("CARGO_TARGET_DIR", dir.path().join("native"));
    done(native)?;
    let built = json(&done(here(&["build", "hello", "--json"]))?);
    let wasm = built["wasm"].as_str().unwrap_or_default().to_owned();
    let checked = text(&done(here(&["check", &wasm]))?);
    assert!(checked.contains("memory:write:agent"), "{checked}");

    let refused = fed(here(&["run", &wasm]), dir.path(), "Ada")?.output()?;
    assert_eq!(refused.status.code(), Some(1), "without its grants it cannot greet");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("memory:"), "{said}");
    let granted = ["run", &wasm, "--grant", "memory:read:agent", "--grant", "memory:write:agent"];
    let ran = done(fed(here(&granted), dir.path(), "Ada")?)?;
    assert!(text(&ran).contains("Hello, Ada! (1)"), "{}", text(&ran));

    done(ltmc(&host, &["push", &wasm, "--grant", "asked"])?)?;
    for times in 1..=2 {
        let called = done(fed(ltmc(&host, &["call", "hello"])?, dir.path(), "Ada")?)?;
        assert!(text(&called).contains(&format!("Hello, Ada! ({times})")), "{}", text(&called));
    }
    let listed = text(&done(ltmc(&host, &["runs", "list"])?)?);
    assert!(listed.contains("completed") && listed.contains("hello"), "{listed}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_makes_tenants_keys_and_ceilings() -> Result<()> {
    let host = Host::start().await?;
    let operator = |arguments: &[&str]| {
        let mut all = vec!["--as", "operator"];
        all.extend(arguments);
        ltmc(&host, &all)
    };
    for tenant in ["acme", "globex"] {
        done(operator(&["tenant", "create", tenant])?)?;
    }
    let listed = text(&done(operator(&["tenant", "list"])?)?);
    assert!(listed.contains("acme") && listed.contains("globex") && listed.contains("default"), "{listed}");
    let key = json(&done(operator(&["key", "create", "--tenant", "acme", "--role", "admin", "--json"])?)?);
    let key = key["key"].as_str().unwrap_or_default().to_owned();
    assert!(key.starts_with("ltmc_"), "{key}");
    done(operator(&["ceiling", "set", "acme", "--capability", "log", "--memory", "16MiB", "--cpu", "1s"])?)?;
    let ceiling = text(&done(operator(&["ceiling", "show", "acme"])?)?);
    assert!(ceiling.contains("log") && ceiling.contains("16"), "{ceiling}");

    // The ceiling cuts what a tenant's own admin grants.
    let denied = ltmc_tests::guest_bytes("denied")?;
    let dir = tempfile::tempdir()?;
    let wasm = dir.path().join("denied.wasm");
    std::fs::write(&wasm, denied)?;
    let admin = |arguments: &[&str]| {
        let mut command = ltmc(&host, arguments)?;
        command.env("LTMC_KEY", &key).env("LTMC_URL", host.url(""));
        anyhow::Ok(command)
    };
    let wasm = wasm.to_string_lossy().into_owned();
    done(admin(&["push", &wasm, "--name", "denied", "--grant", "log", "--grant", "memory:read:agent"])?)?;
    let told = text(&done(fed(admin(&["call", "denied"])?, dir.path(), "x")?)?);
    assert!(told.contains("memory:") && !told.contains("`log`"), "{told}");

    let bomb = dir.path().join("memory-bomb.wasm");
    std::fs::write(&bomb, ltmc_tests::guest_bytes("memory-bomb")?)?;
    done(admin(&["push", &bomb.to_string_lossy(), "--name", "bomb"])?)?;
    let ended = fed(admin(&["call", "bomb"])?, dir.path(), "x")?.output()?;
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains("limit-memory") && said.contains("16777216"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_tell_by_the_exit_code_how_it_went() -> Result<()> {
    let mut host = Host::start().await?;
    let dir = tempfile::tempdir()?;
    let code = |command: Command| -> Result<Option<i32>> { Ok(fed(command, dir.path(), "x")?.output()?.status.code()) };
    host.push(&host.admin, "panics", "panics", &[]).await?;
    assert_eq!(code(ltmc(&host, &["runs", "list"])?)?, Some(0));
    assert_eq!(code(ltmc(&host, &["call", "panics"])?)?, Some(1));
    assert_eq!(code(ltmc(&host, &["call", "Not A Name"])?)?, Some(2));
    assert_eq!(code(ltmc(&host, &["no-such-command"])?)?, Some(2));
    let viewer = host.key("default", "viewer").await?;
    let mut denied = ltmc(&host, &["call", "panics"])?;
    denied.env("LTMC_KEY", viewer).env("LTMC_URL", host.url(""));
    assert_eq!(code(denied)?, Some(4));
    // What an author pushes is there, though an author may not grant.
    let wasm = dir.path().join("echo.wasm");
    std::fs::write(&wasm, ltmc_tests::guest_bytes("echo")?)?;
    let mut pushed = ltmc(&host, &["push", &wasm.to_string_lossy(), "--name", "authored", "--grant", "log"])?;
    pushed.env("LTMC_KEY", host.key("default", "author").await?).env("LTMC_URL", host.url(""));
    let pushed = pushed.output()?;
    let said = String::from_utf8_lossy(&pushed.stderr);
    assert_eq!(pushed.status.code(), Some(5), "{said}");
    assert!(said.contains("pushed authored@sha256:") && said.contains("but not granted"), "{said}");
    assert!(said.contains("ltmc grant add authored@sha256:"), "{said}");
    host.get("/v1/agents/authored").await?.expect(200);
    host.terminate().await?;
    assert_eq!(code(ltmc(&host, &["runs", "list"])?)?, Some(3));
    // Without a host these look at the directory itself.
    assert_eq!(code(ltmc(&host, &["audit", "verify"])?)?, Some(0));
    assert_eq!(code(ltmc(&host, &["doctor"])?)?, Some(0));
    Ok(())
}

/// What a version was pushed with stays its own where it is pushed again without that.
#[tokio::test]
async fn a_manifest_comes_beside_a_component_and_stays_with_it() -> Result<()> {
    let host = Host::start().await?;
    let dir = tempfile::tempdir()?;
    let (wasm, manifest) = (dir.path().join("echo.wasm"), dir.path().join("manifest.json"));
    std::fs::write(&wasm, ltmc_tests::guest_bytes("echo")?)?;
    std::fs::write(&manifest, r#"{"manifest": 1, "asks": ["log"], "isolation": "serializable"}"#)?;
    let (wasm, manifest) = (wasm.to_string_lossy().into_owned(), manifest.to_string_lossy().into_owned());
    let said = |arguments: &[&str]| -> Result<String> {
        let output = ltmc(&host, arguments)?.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let pushed = said(&["push", &wasm, "--name", "reader", "--manifest", &manifest])?;
    ensure!(pushed.contains("isolation    serializable"), "{pushed}");
    said(&["push", &wasm, "--name", "reader"])?;
    let shown: Value = serde_json::from_str(&said(&["agent", "show", "reader", "--json"])?)?;
    assert_eq!((&shown["isolation"], &shown["asks"]), (&json!("serializable"), &json!(["log"])), "{shown:#}");
    said(&["push", &wasm, "--name", "other"])?;
    ensure!(!said(&["agent", "show", "other"])?.contains("isolation"), "it is as all others are");
    Ok(())
}

/// Where no host runs on a data directory, its keys go nowhere: not to the port of the configuration, nor to the one of before.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_goes_only_to_the_host_of_its_own_directory() -> Result<()> {
    let mut host = Host::start().await?;
    let port = host.address();
    host.kill();
    // Somebody else listens there now, and the configuration beside which the command is run names that port too.
    let stranger = std::net::TcpListener::bind(&port)?;
    stranger.set_nonblocking(true)?;
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("ltmc.toml"), format!("listen = \"{port}\"\n"))?;
    let mut list = ltmc(&host, &["runs", "list"])?;
    let output = list.current_dir(dir.path()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("no host runs on") && said.contains("ltmc serve --data"), "{said}");
    let asked = stranger.accept().map(|(_, peer)| peer);
    assert!(asked.is_err(), "a stranger was asked: {asked:?}");
    let mut doctor = ltmc(&host, &["doctor"])?;
    let said = text(&doctor.current_dir(dir.path()).output()?);
    assert!(said.contains("none is running on"), "{said}");
    assert!(stranger.accept().is_err(), "the doctor asked a stranger: {said}");
    Ok(())
}

/// What an agent or a client wrote is shown on a terminal, and not obeyed by it; to a file it goes as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_obeys_nothing_that_others_wrote() -> Result<()> {
    const EVIL: &str = "a\u{1b}]0;owned\u{7}b\u{1b}[2Jc\u{9b}31md\u{202e}e";
    let host = Host::start().await?;
    let dir = tempfile::tempdir()?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    std::fs::write(dir.path().join("evil"), EVIL)?;
    let piped = done(ltmc(&host, &["call", "echo", "--input", &dir.path().join("evil").to_string_lossy()])?)?;
    assert_eq!(text(&piped), EVIL);
    let data = host.data().display().to_string();
    let binary = ltmc_tests::binary()?.display().to_string();
    let seen = |arguments: &str| -> Result<String> {
        let line = format!("{binary} {arguments} --data {data}");
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        script.env_remove("LTMC_URL").env_remove("LTMC_KEY").stdin(std::process::Stdio::null());
        let shown = String::from_utf8(script.output()?.stdout)?;
        assert!(shown.contains("owned"), "{shown:?}");
        Ok(shown)
    };
    let run = text(&done(ltmc(&host, &["runs", "list", "--json"])?)?);
    let run: serde_json::Value = serde_json::from_str(run.lines().next().unwrap_or_default())?;
    let id = run["id"].as_str().unwrap_or_default();
    for arguments in [
        format!("call echo --input {}/evil", dir.path().display()),
        format!("runs journal {id}"),
        format!("runs show {id} --json"),
    ] {
        let shown = seen(&arguments)?;
        let obeyed = ["\u{1b}]", "\u{1b}[2J", "\u{7}", "\u{9b}", "\u{202e}"].iter().find(|evil| shown.contains(**evil));
        assert_eq!(obeyed, None, "{arguments}: {shown:?}");
    }
    Ok(())
}

/// A call without a host leaves nothing behind where it is interrupted, and what a killed one left is removed by the next.
#[test]
fn a_call_without_a_host_leaves_nothing_behind() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let temporary = dir.path().join("tmp");
    std::fs::create_dir(&temporary)?;
    std::fs::write(dir.path().join("sleeper.wasm"), ltmc_tests::guest_bytes("sleeper")?)?;
    std::fs::write(dir.path().join("echo.wasm"), ltmc_tests::guest_bytes("echo")?)?;
    let run = |guest: &str| {
        let mut command = Command::new(ltmc_tests::binary()?);
        command.args(["run", guest, "--grant", "log"]).current_dir(dir.path()).env("TMPDIR", &temporary);
        fed(command, dir.path(), "{\"ms\": 20000}")
    };
    let left = || anyhow::Ok(std::fs::read_dir(&temporary)?.filter_map(Result::ok).collect::<Vec<_>>());
    let begun = || {
        for _ in 0..600 {
            let is_there = left()?.iter().any(|host| host.path().join("record.db-wal").exists());
            if is_there {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        anyhow::bail!("it does not begin")
    };
    let mut interrupted = run("sleeper.wasm")?.spawn()?;
    begun()?;
    done({
        let mut kill = Command::new("kill");
        kill.args(["-TERM", &interrupted.id().to_string()]);
        kill
    })?;
    assert_eq!(interrupted.wait()?.code(), Some(1));
    assert_eq!(left()?.len(), 0, "it cleans up after itself");
    let mut killed = run("sleeper.wasm")?.spawn()?;
    begun()?;
    killed.kill()?;
    killed.wait()?;
    assert_eq!(left()?.len(), 1);
    done(run("echo.wasm")?)?;
    assert_eq!(left()?.len(), 0, "the next one cleans up after it");
    Ok(())
}

/// Two hosts on one record also want the same port: what is wrong is the record.
#[tokio::test]
async fn a_second_host_on_a_record_is_told_of_the_record_and_not_of_the_port() -> Result<()> {
    let host = Host::start().await?;
    let address = host.address();
    for port in [address.to_string(), "127.0.0.1:0".to_owned()] {
        let second = ltmc(&host, &["serve", "--listen", &port])?.output()?;
        let said = String::from_utf8_lossy(&second.stderr);
        assert!(!second.status.success() && said.contains("another host is running on"), "{said}");
    }
    // On a record of its own it is the port.
    let dir = tempfile::tempdir()?;
    let mut other = Command::new(ltmc_tests::binary()?);
    other.args(["serve", "--listen", &address.to_string(), "--data"]).arg(dir.path().join("data"));
    let said = String::from_utf8_lossy(&other.output()?.stderr).into_owned();
    assert!(said.contains("another program has the port"), "{said}");
    Ok(())
}

/// What a run that nobody waited for gave is asked for later, each entry of its journal by its number, and an event is published by hand.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_looked_at_later_and_an_event_is_published_by_hand() -> Result<()> {
    let host = Host::start().await?;
    let dir = tempfile::tempdir()?;
    host.push(&host.admin, "echo", "echo", &[]).await?;
    let detached = fed(ltmc(&host, &["call", "echo", "--detach"])?, dir.path(), "{\"n\": 1}")?;
    let id = text(&done(detached)?).trim().to_owned();
    let mut output = ltmc(&host, &["runs", "output", &id])?.output()?;
    for _ in 0..100 {
        if output.status.success() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        output = ltmc(&host, &["runs", "output", &id])?.output()?;
    }
    assert_eq!(text(&output), "{\"n\": 1}");
    let shown = json(&done(ltmc(&host, &["runs", "output", &id, "--json"])?)?);
    assert_eq!((&shown["run"], &shown["output"]["json"]), (&Value::from(id.as_str()), &serde_json::json!({"n": 1})));
    let first = json(&done(ltmc(&host, &["runs", "journal", &id, "--seq", "1", "--json"])?)?);
    assert!(first["seq"] == 1 && first["event"]["run-started"].is_object(), "{first}");
    let entry = text(&done(ltmc(&host, &["runs", "journal", &id, "--seq", "1"])?)?);
    assert!(entry.contains("run-started") && entry.lines().count() > 5, "{entry}");
    assert_eq!(ltmc(&host, &["runs", "journal", &id, "--seq", "999"])?.output()?.status.code(), Some(1));

    std::fs::write(dir.path().join("data.json"), "{\"sum\": 12345678901234567890.5}")?;
    let data = format!("@{}", dir.path().join("data.json").display());
    for data in ["{\"sum\": 1}", &data] {
        done(ltmc(&host, &["publish", "orders", "--type", "order.paid", "--subject", "A-17", data])?)?;
    }
    let events = host.get("/v1/events?topic=orders").await?.expect(200).json();
    let of = |number: usize| &events["items"][number];
    assert_eq!(
        (&of(0)["type"], &of(0)["subject"], &of(0)["data"]["sum"]),
        (&"order.paid".into(), &"A-17".into(), &1.into())
    );
    assert!(of(1)["data"]["sum"].is_number(), "{events}");
    let wrong = ltmc(&host, &["publish", "orders", "--type", "order.paid", "paid"])?.output()?;
    assert_eq!(wrong.status.code(), Some(2), "a text stands in quotes");
    Ok(())
}

#[tokio::test]
async fn a_repair_without_any_database_says_so() -> Result<()> {
    let mut host = Host::start().await?;
    let said = |arguments: &[&str]| {
        let output = ltmc(&host, arguments)?.output()?;
        anyhow::Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let (code, text) = said(&["repair", "--check"])?;
    assert!(code == Some(0) && text.contains("0 items of recall compared"), "{text}");
    host.terminate().await?;
    let said = |arguments: &[&str]| {
        let output = ltmc(&host, arguments)?.output()?;
        anyhow::Ok((output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    for arguments in [&["repair"][..], &["repair", "--check"]] {
        let (code, text) = said(arguments)?;
        assert!(code == Some(0) && text.contains("no database is configured"), "{text}");
    }
    let (code, text) = said(&["repair", "--rebind"])?;
    assert!(code == Some(2) && text.contains("there is none to bind"), "{text}");
    Ok(())
}

/// What a tenant's ceiling withholds is no lack of a grant, and is not called one: by push, by grant, by the run.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_ceiling_withholds_is_said_to_be_withheld() -> Result<()> {
    let host = Host::start().await?;
    let dir = tempfile::tempdir()?;
    let component = dir.path().join("counter.wasm");
    std::fs::write(&component, ltmc_tests::guest_bytes("counter")?)?;
    let component = component.to_string_lossy().into_owned();
    done(ltmc(&host, &["--as", "operator", "ceiling", "set", "default", "--capability", "log"])?)?;
    let note = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let grants = ["--grant", "memory:read:*", "--grant", "memory:write:*"];
    let pushed = done(ltmc(&host, &[&["push", &component, "--name", "counter"][..], &grants].concat())?)?;
    let said = note(&pushed);
    assert!(said.contains("ceiling withholds, whatever is granted: memory:read:* memory:write:*"), "{said}");
    assert!(!said.contains("ltmc grant add"), "that would change nothing: {said}");
    assert!(text(&pushed).contains("withheld"), "{}", text(&pushed));
    let shown = note(&done(ltmc(&host, &["grant", "show", "counter"])?)?);
    assert!(shown.contains("ltmc ceiling set"), "{shown}");
    let added = note(&done(ltmc(&host, &["grant", "add", "counter", "graph:read"])?)?);
    assert!(added.contains("graph:read"), "{added}");
    let asked = serde_json::json!({"key": "n", "scope": "global", "times": 1});
    let answer = host.call(&host.admin, "counter", &asked).await?;
    assert!(answer.text().contains("memory:") && answer.text().contains("ceiling"), "{}", answer.text());
    let run = answer.headers["ltmc-run"].to_str()?.to_owned();
    let journal = host.get(&format!("/v1/runs/{run}/journal")).await?.expect(200).text();
    assert!(
        journal.contains("the ceiling of tenant `default` withholds it") && journal.contains("\"withheld\":true"),
        "{journal}"
    );
    Ok(())
}
