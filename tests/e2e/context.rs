//! What agents share: memory that others see change, the graph, recall and messages, through guests and through REST.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use ltmc_tests::{Answer, Host};
use reqwest::Method;
use serde_json::{Value, json};

const MEMORY: &[&str] = &["memory:read:*", "memory:write:*"];
const GRAPH: &[&str] = &["graph:read", "graph:write"];
const RECALL: &[&str] = &["recall:read", "recall:write"];
const MESSAGES: &[&str] = &[
    "message:send:*",
    "message:receive",
    "message:publish:*",
    "message:subscribe:*",
    "memory:write:agent",
    "memory:read:agent",
];

/// What a script answered, step by step.
async fn play(host: &Host, key: &str, agent: &str, steps: Value) -> Result<Vec<Value>> {
    let answer = host.call(key, agent, &steps).await?.expect(200);
    Ok(answer.json().as_array().context("a script answers with a list")?.clone())
}

fn ok(step: &Value) -> &Value {
    assert!(step.get("ok").is_some(), "a step was refused: {step}");
    &step["ok"]
}

async fn rest(host: &Host, method: Method, path: &str, body: Option<Value>) -> Result<Answer> {
    let request = host.request(method, path, &host.admin);
    host.send(match body {
        Some(body) => request.json(&body),
        None => request,
    })
    .await
}

#[tokio::test]
async fn a_key_is_updated_in_one_step_by_every_rule() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "writer", "memory-script", MEMORY).await?;
    let steps = json!([
        {"do": "update", "scope": "global", "key": "count", "rule": {"increment": 2}},
        {"do": "update", "scope": "global", "key": "count", "rule": {"increment": -5}},
        {"do": "update", "scope": "global", "key": "list", "rule": {"append": {"a": 1}}},
        {"do": "update", "scope": "global", "key": "list", "rule": {"union": [{"a": 1}, 2]}},
        {"do": "update", "scope": "global", "key": "map", "rule": {"merge-patch": {"a": {"b": 1}}}},
        {"do": "update", "scope": "global", "key": "map", "rule": {"merge-patch": {"a": {"b": null, "c": 2}}}},
        {"do": "update", "scope": "global", "key": "list", "rule": {"increment": 1}},
        {"do": "update", "scope": "global", "key": "list", "rule": {"raw-append": "{"}},
    ]);
    let played = play(&host, &host.admin, "writer", steps).await?;
    let value = |n: usize| ok(&played[n])["value"].as_str().unwrap_or_default().to_owned();
    assert_eq!([value(0), value(1)], ["2", "-3"]);
    assert_eq!(value(3), r#"[{"a":1},2]"#);
    assert_eq!(value(5), r#"{"a":{"c":2}}"#);
    assert_eq!(played[6]["error"], "invalid", "{}", played[6]);
    assert_eq!(played[7]["error"], "invalid", "{}", played[7]);

    // The same key from outside: entity tags, and the same rules.
    let read = rest(&host, Method::GET, "/v1/memory/global/count", None).await?.expect(200);
    assert_eq!(read.text(), "-3");
    let tag = read.headers["etag"].clone();
    let put = |tag: &str, value: &'static str| {
        host.request(Method::PUT, "/v1/memory/global/count", &host.admin).header("if-match", tag).body(value)
    };
    let first = host.send(put(tag.to_str()?, "10")).await?.expect(200);
    let stale = host.send(put(tag.to_str()?, "11")).await?.expect(412);
    assert_eq!(stale.code(), "precondition-failed");
    assert_ne!(first.headers["etag"], tag);
    let patched =
        rest(&host, Method::PATCH, "/v1/memory/global/count", Some(json!({"increment": 1}))).await?.expect(200);
    assert_eq!(patched.json()["json"], 11);
    let absent =
        host.request(Method::PUT, "/v1/memory/global/count", &host.admin).header("if-none-match", "*").body("0");
    host.send(absent).await?.expect(412);
    let wrong = rest(&host, Method::PATCH, "/v1/memory/global/count", Some(json!({"decrement": 1}))).await?.expect(400);
    assert_eq!(wrong.code(), "bad-json");
    for path in [
        "/v1/memory/galaxy/x",
        "/v1/memory/session/x",
        "/v1/memory/global/x?owner=y",
        "/v1/memory/session/x?owner=a%20b",
    ] {
        rest(&host, Method::GET, path, None).await?.expect(400);
    }
    rest(&host, Method::DELETE, "/v1/memory/global/count", None).await?.expect(204);
    rest(&host, Method::GET, "/v1/memory/global/count", None).await?.expect(404);
    let listed = rest(&host, Method::GET, "/v1/memory/global?limit=1", None).await?.expect(200).json();
    assert_eq!(listed["items"][0]["key"], "list");
    let next = listed["next"].as_str().context("there is another page")?;
    let rest_of =
        rest(&host, Method::GET, &format!("/v1/memory/global?limit=5&cursor={next}"), None).await?.expect(200).json();
    assert_eq!(rest_of["items"][0]["json"], json!({"a": {"c": 2}}));
    assert_eq!(rest_of["next"], json!(null));
    Ok(())
}

/// A lease is renewed without its value being written again, and whoever watches sees it.
#[tokio::test]
async fn a_touched_key_lives_longer_and_stays_what_it_is() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "holder", "memory-script", MEMORY).await?;
    let steps = json!([
        {"do": "touch", "scope": "global", "key": "lease", "ttl_ms": 60_000},
        {"do": "put", "scope": "global", "key": "lease", "value": "ada", "ttl_ms": 60_000},
        {"do": "touch", "scope": "global", "key": "lease", "ttl_ms": 3_600_000},
        {"do": "get", "scope": "global", "key": "lease"},
        {"do": "touch", "scope": "global", "key": "lease"},
        {"do": "get", "scope": "global", "key": "lease"},
        {"do": "touch", "scope": "global", "key": "lease", "ttl_ms": 0},
        {"do": "touch", "scope": "global", "key": ""},
    ]);
    let played = play(&host, &host.admin, "holder", steps).await?;
    assert_eq!((ok(&played[0]), ok(&played[2]), ok(&played[4])), (&json!(false), &json!(true), &json!(true)));
    let (longer, forever) = (ok(&played[3]), ok(&played[5]));
    assert_eq!((&longer["value"], &forever["value"]), (&json!("ada"), &json!("ada")));
    assert!(longer["revision"].as_u64() > ok(&played[1]).as_u64() && forever["revision"] != longer["revision"]);
    #[expect(clippy::disallowed_methods, reason = "a test is no host: nothing here is ever replayed")]
    let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    assert!(longer["expires_at_ms"].as_u64() > Some(now + 600_000), "{longer}");
    assert_eq!(forever["expires_at_ms"], json!(null));
    assert_eq!([&played[6]["error"], &played[7]["error"]], ["invalid", "invalid"]);

    host.push(&host.admin, "reader", "memory-script", &["memory:read:*"]).await?;
    let steps = json!([{"do": "touch", "scope": "global", "key": "lease", "ttl_ms": 1}]);
    assert_eq!(play(&host, &host.admin, "reader", steps).await?[0]["error"], "access-denied");
    Ok(())
}

/// Increments from many calls at once, and over a kill: each counts, and counts once.
#[tokio::test(flavor = "multi_thread")]
async fn increments_side_by_side_all_count() -> Result<()> {
    let mut host = Host::start().await?;
    host.push(&host.admin, "writer", "memory-script", MEMORY).await?;
    let steps = json!([{"do": "update", "scope": "global", "key": "n", "rule": {"increment": 1}, "times": 5}]);
    for _ in 0..2 {
        let calls = (0..20).map(|_| host.call(&host.admin, "writer", &steps));
        for answer in futures::future::join_all(calls).await {
            answer?.expect(200);
        }
        host.kill_and_restart().await?;
    }
    assert_eq!(rest(&host, Method::GET, "/v1/memory/global/n", None).await?.expect(200).text(), "200");
    Ok(())
}

/// Reads server-sent events until one satisfies, and gives all data so far.
async fn follow(host: &Host, path: &str, after: Option<u64>, until: impl Fn(&[Value]) -> bool) -> Result<Vec<Value>> {
    use futures::StreamExt as _;
    let mut request = host.request(Method::GET, path, &host.admin);
    if let Some(after) = after {
        request = request.header("last-event-id", after.to_string());
    }
    let response = request.send().await?;
    ensure!(response.status().is_success(), "{}: {}", response.status(), response.text().await?);
    let (mut stream, mut text, mut found) = (response.bytes_stream(), String::new(), Vec::new());
    tokio::time::timeout(Duration::from_secs(20), async {
        while !until(&found) {
            text.push_str(&String::from_utf8_lossy(&stream.next().await.context("the stream ended")??));
            while let Some(end) = text.find("\n\n") {
                let event: String = text.drain(..end + 2).collect();
                for line in event.lines().filter_map(|line| line.strip_prefix("data: ").or(line.strip_prefix("data:")))
                {
                    found.push(serde_json::from_str(line)?);
                }
            }
        }
        anyhow::Ok(found)
    })
    .await
    .context("nothing more came in 20 s")?
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_sees_every_change_once_also_over_a_restart() -> Result<()> {
    let mut host = Host::start().await?;
    host.push(&host.admin, "writer", "memory-script", MEMORY).await?;
    let write = |key: &str| json!([{"do": "put", "scope": "global", "key": key, "value": "1"}]);
    play(&host, &host.admin, "writer", write("plan/0")).await?;
    let watching = tokio::spawn({
        let (url, key) = (host.url("/v1/changes?scope=global&prefix=plan/&after=0"), host.admin.clone());
        async move { reqwest::Client::new().get(url).bearer_auth(key).send().await.map(|answer| answer.status().as_u16()) }
    });
    assert_eq!(watching.await??, 200);
    for n in 1..=5 {
        play(&host, &host.admin, "writer", write(&format!("plan/{n}"))).await?;
        play(&host, &host.admin, "writer", write(&format!("other/{n}"))).await?;
    }
    let path = "/v1/changes?scope=global&prefix=plan/&after=0";
    let first = follow(&host, path, None, |found| found.len() >= 3).await?;
    let last = first[2]["position"].as_u64().context("a change has its place")?;
    host.kill_and_restart().await?;
    play(&host, &host.admin, "writer", json!([{"do": "delete", "scope": "global", "key": "plan/5"}])).await?;
    let rest_of = follow(&host, path, Some(last), |found| found.iter().any(|change| change["deleted"] == true)).await?;
    let keys: Vec<&str> = first[..3].iter().chain(&rest_of).filter_map(|change| change["key"].as_str()).collect();
    assert_eq!(keys, ["plan/0", "plan/1", "plan/2", "plan/3", "plan/4", "plan/5", "plan/5"]);

    // A guest that waits is woken by another's write; and what has come to its end is a change too.
    let waiting = {
        let steps = json!([{"do": "changes", "scope": "global", "prefix": "signal", "limit": 10, "wait_ms": 15_000}]);
        let (url, key) = (host.url("/v1/agents/writer/call"), host.admin.clone());
        tokio::spawn(async move {
            reqwest::Client::new().post(url).bearer_auth(key).json(&steps).send().await?.json::<Value>().await
        })
    };
    tokio::time::sleep(Duration::from_millis(700)).await;
    let put = host.request(Method::PUT, "/v1/memory/global/signal?ttl=300ms", &host.admin).body("now");
    host.send(put).await?.expect(200);
    let woken = waiting.await??;
    assert_eq!(woken[0]["ok"]["changes"][0]["key"], "signal", "{woken}");
    let ended = follow(&host, "/v1/changes?scope=global&prefix=signal&after=0", None, |found| found.len() >= 2);
    // The sweep goes by the clock of what is written: something has to be.
    let (ended, _) = tokio::join!(ended, async {
        for n in 0..20 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            let _ = host.call(&host.admin, "writer", &write(&format!("other/{n}"))).await;
        }
    });
    assert_eq!(ended?[1]["deleted"], true);
    let future = rest(&host, Method::GET, "/v1/changes?scope=global&after=999999999", None).await?.expect(410);
    assert_eq!(future.code(), "resync");
    Ok(())
}

/// A cursor from before what is kept is answered with the place to go on from: never with a gap.
#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_too_old_is_told_to_begin_anew() -> Result<()> {
    let host = Host::start_with("[context]\nlog_rows = 1000\n").await?;
    host.push(&host.admin, "writer", "memory-script", MEMORY).await?;
    let put = json!({"do": "put", "scope": "global", "key": "k", "value": "1"});
    let puts = json!(vec![put; 100]);
    for _ in 0..15 {
        play(&host, &host.admin, "writer", puts.clone()).await?;
    }
    // What is old is thrown away every minute.
    let begun = std::time::Instant::now();
    let told = loop {
        let request = host.request(Method::GET, "/v1/changes?scope=global&after=1", &host.admin);
        let answer = request.send().await?;
        if answer.status() == 410 {
            break answer.json::<Value>().await?;
        }
        ensure!(answer.status() == 200 && begun.elapsed() < Duration::from_secs(150), "{}", answer.status());
        drop(answer);
        tokio::time::sleep(Duration::from_secs(1)).await;
    };
    assert_eq!(told["code"], "resync", "{told}");
    let guest = json!([{"do": "changes", "scope": "global", "prefix": "", "after": 1, "limit": 10, "wait_ms": 0}]);
    let guest = play(&host, &host.admin, "writer", guest).await?;
    assert_eq!(guest[0]["error"], "resync", "{guest:?}");
    // From the place that was said, nothing is missed.
    let from = told["position"].as_u64().with_context(|| format!("no place to go on from: {told}"))?;
    play(&host, &host.admin, "writer", json!([{"do": "put", "scope": "global", "key": "next", "value": "2"}])).await?;
    let path = format!("/v1/changes?scope=global&after={from}");
    let seen = follow(&host, &path, None, |found| !found.is_empty()).await?;
    assert_eq!(seen[0]["key"], "next", "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn the_graph_keeps_what_held_and_finds_ways_and_orders() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "cartographer", "graph-script", GRAPH).await?;
    let relate = |a: &str, b: &str| json!({"do": "relate", "subject": a, "relation": "depends-on", "object": b});
    let steps = json!([
        relate("api", "model"), relate("ltmc", "api"), relate("ltmc", "sqlite"), relate("sqlite", "ports"),
        relate("ports", "model"), relate("api", "ring"), relate("ring", "api"),
        {"do": "relate", "subject": "api", "relation": "owned-by", "object": "ada", "properties": {"since": 2025}},
        {"do": "sleep", "ms": 5},
        {"do": "relate", "subject": "api", "relation": "owned-by", "object": "ada", "properties": {"since": 2026}},
        {"do": "path", "from": "ltmc", "to": "model", "relation": "depends-on"},
        {"do": "order", "from": "sqlite", "relation": "depends-on"},
        {"do": "order", "from": "ltmc", "relation": "depends-on"},
        {"do": "dependents", "entity": "model", "relation": "depends-on"},
        {"do": "facts", "entity": "api", "relation": "owned-by", "history": true},
        {"do": "unrelate", "subject": "api", "relation": "depends-on", "object": "model"},
        {"do": "path", "from": "api", "to": "model", "relation": "depends-on"},
        {"do": "relate", "subject": "", "relation": "depends-on", "object": "x"},
        {"do": "relate", "subject": "x", "relation": "Depends On", "object": "y"},
        {"do": "reach", "from": "ltmc", "depth": 17},
    ]);
    let played = play(&host, &host.admin, "cartographer", steps).await?;
    let way = ok(&played[10])["facts"].as_array().context("there is a way")?;
    assert_eq!(way.len(), 2, "{way:?}");
    assert_eq!(ok(&played[11])["entities"], json!(["model", "ports", "sqlite"]));
    assert_eq!(ok(&played[12])["cycles"], json!([["api", "ring"]]));
    let mut dependents: Vec<&str> =
        ok(&played[13])["entities"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    dependents.sort_unstable();
    assert_eq!(dependents, ["api", "ltmc", "ports", "ring", "sqlite"]);
    let owned = ok(&played[14]).as_array().unwrap();
    assert_eq!(owned.len(), 2, "what is told anew ends what was told before: {owned:?}");
    assert!(owned[0]["valid_to_ms"].is_u64() && owned[1]["valid_to_ms"].is_null());
    assert_eq!(ok(&played[15]), &json!(true));
    assert_eq!(ok(&played[16])["facts"], json!(null));
    for refused in &played[17..] {
        assert_eq!(refused["error"], "invalid", "{refused}");
    }

    let when = owned[0]["valid_from_ms"].as_u64().unwrap();
    let at = humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(when));
    let path = format!("/v1/graph/facts?entity=api&relation=owned-by&direction=out&valid={at}");
    let then = rest(&host, Method::GET, &path, None).await?.expect(200).json();
    assert_eq!(then["items"][0]["properties"]["since"], 2025, "{then}");
    let told = json!({"subject": "api", "relation": "owned-by", "object": "bob"});
    rest(&host, Method::POST, "/v1/graph/facts", Some(told)).await?.expect(200);
    let way = rest(&host, Method::GET, "/v1/graph/path?from=ltmc&to=bob", None).await?.expect(200).json();
    assert_eq!(way["facts"].as_array().map(Vec::len), Some(2), "{way}");
    let reach = rest(&host, Method::GET, "/v1/graph/reach?from=bob&direction=in", None).await?.expect(200).json();
    assert!(reach["facts"].as_array().unwrap().len() >= 3, "{reach}");
    rest(&host, Method::GET, "/v1/graph/reach?from=bob&depth=99", None).await?.expect(400);
    let gone = "/v1/graph/facts?subject=api&relation=owned-by&object=bob";
    rest(&host, Method::DELETE, gone, None).await?.expect(204);
    rest(&host, Method::DELETE, gone, None).await?.expect(404);
    Ok(())
}

#[tokio::test]
async fn what_was_remembered_is_found_by_what_it_says() -> Result<()> {
    let mut host = Host::start().await?;
    host.push(&host.admin, "librarian", "recall-script", RECALL).await?;
    let remember = |id: &str, text: &str, file: &str| json!({"do": "remember", "id": id, "text": text, "metadata": {"file": file}});
    let steps = json!([
        remember("retries", "A step is tried again with exponential back-off; the number of retries is bounded.", "flows.md"),
        remember("keys", "An API key is one role in one tenant, and is shown once.", "tenants.md"),
        remember("memory", "Keys and values outlast a call, in three scopes: global, session and agent.", "memory.md"),
        {"do": "search", "question": "how are retries bounded?", "limit": 2},
        {"do": "search", "question": "how are retries bounded?", "limit": 2, "filter": {"file": "memory.md"}},
        {"do": "forget", "id": "retries"}, {"do": "forget", "id": "retries"},
        {"do": "search", "question": "how are retries bounded?", "limit": 3},
        {"do": "remember", "id": "keys", "text": "Retries of keys are bounded now.", "metadata": {}},
        {"do": "search", "question": "how are retries bounded?", "limit": 1},
        {"do": "search", "question": " ", "limit": 1}, {"do": "search", "question": "x", "limit": 0},
        {"do": "remember", "id": "", "text": "x"},
    ]);
    let played = play(&host, &host.admin, "librarian", steps).await?;
    assert_eq!(ok(&played[3])["hits"][0]["id"], "retries", "{}", played[3]);
    assert_eq!(ok(&played[3])["degraded"], false);
    let filtered = ok(&played[4])["hits"].as_array().unwrap();
    assert_eq!((filtered.len(), &filtered[0]["id"]), (1, &json!("memory")));
    assert_eq!([ok(&played[5]), ok(&played[6])], [&json!(true), &json!(false)]);
    assert!(ok(&played[7])["hits"].as_array().unwrap().iter().all(|hit| hit["id"] != "retries"), "{}", played[7]);
    assert_eq!(ok(&played[9])["hits"][0]["id"], "keys", "what is remembered anew is found anew: {}", played[9]);
    for refused in &played[10..] {
        assert_eq!(refused["error"], "invalid", "{refused}");
    }

    // Through REST, after a restart, with the index's files gone or cut in half.
    let note = json!({"text": "The index is built from the record, whatever becomes of its files.", "metadata": {"file": "recall.md"}});
    rest(&host, Method::PUT, "/v1/recall/index%20files", Some(note)).await?.expect(200);
    let asked = json!({"query": "what becomes of the index when its files are gone?", "limit": 1});
    let found = rest(&host, Method::POST, "/v1/recall/search", Some(asked.clone())).await?.expect(200).json();
    assert_eq!(found["hits"][0]["id"], "index files", "{found}");
    host.terminate().await?;
    let mut cut = 0;
    for entry in walk(&host.data().join("vectors"))? {
        let whole = std::fs::read(&entry)?;
        std::fs::write(&entry, &whole[..whole.len() / 2])?;
        cut += 1;
    }
    ensure!(cut > 0, "the index was not saved at the end");
    host.restart().await?;
    let found = rest(&host, Method::POST, "/v1/recall/search", Some(asked)).await?.expect(200).json();
    assert_eq!(found["hits"][0]["id"], "index files", "{found}");
    Ok(())
}

/// The embedder that needs nothing, then a real sentence model: what the one before made answers until the new one is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_embedder_embeds_anew_while_the_one_before_answers() -> Result<()> {
    let model = tokio::task::spawn_blocking(ltmc_test_servers::minilm::directory).await??;
    let mut host = Host::start().await?;
    let note = |text: &str| Some(json!({"text": text}));
    rest(&host, Method::PUT, "/v1/recall/retries", note("Retries are bounded: after five the message is dead."))
        .await?
        .expect(200);
    rest(&host, Method::PUT, "/v1/recall/pets", note("Our dog sleeps on the sofa all day.")).await?.expect(200);
    // Enough of them that a model takes a while.
    for n in 0..100 {
        let text =
            format!("Note {n}: the {n}th parcel was weighed, sealed and put on shelf {} of the warehouse.", n * 7);
        rest(&host, Method::PUT, &format!("/v1/recall/parcel-{n}"), note(&text)).await?.expect(200);
    }
    let ask = async |host: &Host, query: &str| {
        let asked = json!({"query": query, "limit": 1});
        let answer = rest(host, Method::POST, "/v1/recall/search", Some(asked)).await?.expect(200);
        let degraded = answer.headers.get("ltmc-degraded").is_some_and(|value| value == "true");
        Ok::<_, anyhow::Error>((answer.json()["hits"][0]["id"].clone(), degraded))
    };
    assert_eq!(ask(&host, "how are retries bounded?").await?, (json!("retries"), false));

    host.terminate().await?;
    let config = host.data().parent().context("the host's directory")?.join("ltmc.toml");
    std::fs::write(&config, format!("[recall]\nembedder = \"minilm\"\nmodel = {:?}\n", model.display().to_string()))?;
    host.restart().await?;
    assert_eq!(ask(&host, "how are retries bounded?").await?, (json!("retries"), true), "the one before answers");
    let (mut building, until) = (false, tokio::time::Instant::now() + Duration::from_secs(180));
    loop {
        let databases = host.databases().await?;
        building |= databases.iter().any(|one| !one["building"].is_null());
        if !ask(&host, "how are retries bounded?").await?.1 {
            break;
        }
        ensure!(tokio::time::Instant::now() < until, "it is not done: {databases:#?}\n{}", host.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(building, "its progress can be seen while it goes on");
    // No word in common: only a model knows.
    assert_eq!(ask(&host, "a puppy takes a nap on the couch").await?, (json!("pets"), false));
    let indexes = walk(&host.data().join("vectors"))?;
    assert!(indexes.iter().all(|file| !file.display().to_string().contains("hashed")), "{indexes:?}");
    Ok(())
}

fn walk(dir: &std::path::Path) -> Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(walk(&path)?),
            false => found.push(path),
        }
    }
    Ok(found)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_processed_once_and_what_nobody_can_process_is_kept() -> Result<()> {
    let host = Host::start().await?;
    for name in ["alice", "bob"] {
        host.push(&host.admin, name, "message-script", MESSAGES).await?;
    }
    let send = |n: u32| json!({"do": "send", "to": "bob", "kind": "note.added", "data": {"n": n}, "subject": "notes"});
    let sent = play(&host, &host.admin, "alice", json!([send(1), send(2), send(3)])).await?;
    let received =
        play(&host, &host.admin, "bob", json!([{"do": "receive", "limit": 10, "then": "ack", "count": "seen"}]))
            .await?;
    let events = ok(&received[0]).as_array().unwrap();
    assert_eq!(
        events.iter().map(|d| d["event"]["data"]["n"].as_u64()).collect::<Vec<_>>(),
        [Some(1), Some(2), Some(3)]
    );
    assert_eq!(events[0]["event"]["source"], "/agents/alice");
    assert_eq!((&events[0]["event"]["kind"], &events[0]["event"]["subject"]), (&json!("note.added"), &json!("notes")));
    let again =
        play(&host, &host.admin, "bob", json!([{"do": "receive", "limit": 10}, {"do": "ack", "id": ok(&sent[0])}]))
            .await?;
    assert_eq!(ok(&again[0]), &json!([]));
    assert_eq!(again[1]["error"], "not-found");

    // Whoever waits is woken.
    let waiting = {
        let steps = json!([{"do": "receive", "limit": 1, "wait_ms": 10_000, "then": "ack"}]);
        let (url, key) = (host.url("/v1/agents/bob/call"), host.admin.clone());
        tokio::spawn(async move {
            reqwest::Client::new().post(url).bearer_auth(key).json(&steps).send().await?.json::<Value>().await
        })
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    let message = json!({"to": "bob", "type": "note.added", "data": {"n": 4}});
    rest(&host, Method::POST, "/v1/messages", Some(message)).await?.expect(200);
    let woken = waiting.await??;
    assert_eq!(woken[0]["ok"][0]["event"]["data"]["n"], 4, "{woken}");
    assert!(woken[0]["ok"][0]["event"]["source"].as_str().is_some_and(|s| s.starts_with("/keys/")), "{woken}");

    // A message that breaks whoever takes it comes back, five times; then it is a dead letter.
    play(&host, &host.admin, "alice", json!([send(5)])).await?;
    for delivery in 1..=5 {
        let steps = json!([{"do": "receive", "limit": 1}, {"do": "fail"}]);
        let failed = host.call(&host.admin, "bob", &steps).await?;
        assert_eq!(failed.status, 422, "delivery {delivery}: {}", failed.text());
    }
    let nothing = play(&host, &host.admin, "bob", json!([{"do": "receive", "limit": 1}])).await?;
    assert_eq!(ok(&nothing[0]), &json!([]));
    play(&host, &host.admin, "alice", json!([send(6)])).await?;
    play(&host, &host.admin, "bob", json!([{"do": "receive", "limit": 1, "then": "reject", "reason": "no such note"}]))
        .await?;
    let dead = rest(&host, Method::GET, "/v1/dead-letters?agent=bob", None).await?.expect(200).json();
    let letters = dead["items"].as_array().unwrap();
    assert_eq!(letters.iter().map(|l| l["deliveries"].as_u64()).collect::<Vec<_>>(), [Some(5), Some(1)], "{dead}");
    assert_eq!(letters[1]["reason"], "no such note");
    let retry = format!("/v1/dead-letters/{}/retry", letters[0]["id"]);
    rest(&host, Method::POST, &retry, Some(json!({}))).await?.expect(204);
    rest(&host, Method::DELETE, &format!("/v1/dead-letters/{}", letters[1]["id"]), None).await?.expect(204);
    let revived = play(&host, &host.admin, "bob", json!([{"do": "receive", "limit": 1, "then": "ack"}])).await?;
    assert_eq!(ok(&revived[0])[0]["event"]["data"]["n"], 5, "{}", revived[0]);
    assert_eq!(rest(&host, Method::GET, "/v1/dead-letters", None).await?.expect(200).json()["items"], json!([]));

    // Topics: every reader sees every event, from where it was.
    let publish = |n: u32| json!({"do": "publish", "topic": "reviews", "kind": "review.finished", "data": n});
    play(&host, &host.admin, "alice", json!([publish(1), publish(2)])).await?;
    let read = json!([{"do": "read", "topic": "reviews", "after": 0, "limit": 10}]);
    for name in ["alice", "bob"] {
        let seen = play(&host, &host.admin, name, read.clone()).await?;
        assert_eq!(ok(&seen[0])["events"].as_array().map(Vec::len), Some(2), "{name}: {}", seen[0]);
    }
    let listed = rest(&host, Method::GET, "/v1/events?topic=reviews", None).await?.expect(200).json();
    assert_eq!(listed["items"][1]["data"], 2, "{listed}");
    let after = listed["items"][0]["position"].as_u64().unwrap();
    let event = json!({"topic": "reviews", "type": "review.finished", "data": 3});
    rest(&host, Method::POST, "/v1/events", Some(event)).await?.expect(200);
    let path = format!("/v1/events/follow?topic=reviews&after={after}");
    let followed = follow(&host, &path, None, |found| found.len() >= 2).await?;
    assert_eq!([&followed[0]["data"], &followed[1]["data"]], [&json!(2), &json!(3)]);

    let unknown = play(
        &host,
        &host.admin,
        "alice",
        json!([
            {"do": "send", "to": "nobody", "kind": "x"}, {"do": "publish", "topic": "No Topic", "kind": "x"},
            {"do": "publish", "topic": "t", "kind": ""}, {"do": "receive", "limit": 101},
        ]),
    )
    .await?;
    let errors: Vec<&str> = unknown.iter().filter_map(|step| step["error"].as_str()).collect();
    assert_eq!(errors, ["not-found", "invalid", "invalid", "invalid"]);
    Ok(())
}

/// The table of denials: every verb without its capability, by name.
#[tokio::test]
async fn without_a_grant_every_verb_is_denied_by_name() -> Result<()> {
    let host = Host::start().await?;
    for (guest, step, capability) in [
        (
            "memory-script",
            json!({"do": "update", "scope": "global", "key": "k", "rule": {"increment": 1}}),
            "memory:write:global",
        ),
        (
            "memory-script",
            json!({"do": "changes", "scope": "agent", "prefix": "", "limit": 1, "wait_ms": 0}),
            "memory:read:agent",
        ),
        ("graph-script", json!({"do": "relate", "subject": "a", "relation": "r", "object": "b"}), "graph:write"),
        ("graph-script", json!({"do": "unrelate", "subject": "a", "relation": "r", "object": "b"}), "graph:write"),
        ("graph-script", json!({"do": "page", "entity": "a"}), "graph:read"),
        ("graph-script", json!({"do": "path", "from": "a", "to": "b"}), "graph:read"),
        ("graph-script", json!({"do": "reach", "from": "a"}), "graph:read"),
        ("graph-script", json!({"do": "order", "from": "a"}), "graph:read"),
        ("recall-script", json!({"do": "remember", "id": "a", "text": "b"}), "recall:write"),
        ("recall-script", json!({"do": "forget", "id": "a"}), "recall:write"),
        ("recall-script", json!({"do": "search", "question": "a", "limit": 1}), "recall:read"),
        ("message-script", json!({"do": "send", "to": "bob", "kind": "x"}), "message:send:bob"),
        ("message-script", json!({"do": "receive", "limit": 1}), "message:receive"),
        ("message-script", json!({"do": "ack", "id": 1}), "message:receive"),
        ("message-script", json!({"do": "reject", "id": 1, "reason": "x"}), "message:receive"),
        ("message-script", json!({"do": "publish", "topic": "t", "kind": "x"}), "message:publish:t"),
        ("message-script", json!({"do": "read", "topic": "t", "limit": 1}), "message:subscribe:t"),
    ] {
        // The memory guest opens its scope first, which takes one of the two.
        let other = match capability.strip_prefix("memory:") {
            Some(verb) if verb.starts_with("write") => &["memory:read:*"][..],
            Some(_) => &["memory:write:*"],
            None => &[],
        };
        host.push(&host.admin, guest, guest, other).await?;
        let played = play(&host, &host.admin, guest, json!([step])).await?;
        assert_eq!(played[0]["error"], "access-denied", "{step}: {}", played[0]);
        assert_eq!(played[0]["capability"], capability, "{step}: {}", played[0]);
    }
    Ok(())
}

/// Two tenants with the same names everywhere: neither sees anything of the other's.
#[tokio::test(flavor = "multi_thread")]
async fn tenants_with_the_same_names_share_nothing() -> Result<()> {
    let host = Host::start().await?;
    let keys = [host.admin.clone(), host.tenant("other", "admin").await?];
    for (n, key) in keys.iter().enumerate() {
        host.push(key, "m", "memory-script", MEMORY).await?;
        host.push(key, "g", "graph-script", GRAPH).await?;
        host.push(key, "r", "recall-script", RECALL).await?;
        host.push(key, "q", "message-script", MESSAGES).await?;
        let own = format!("tenant number {n}");
        play(&host, key, "m", json!([{"do": "put", "scope": "global", "key": "k", "value": own}])).await?;
        play(&host, key, "g", json!([{"do": "relate", "subject": "a", "relation": "r", "object": own}])).await?;
        play(&host, key, "r", json!([{"do": "remember", "id": "note", "text": format!("a secret of {own}")}])).await?;
        play(
            &host,
            key,
            "q",
            json!([
                {"do": "send", "to": "q", "kind": "k", "data": own},
                {"do": "publish", "topic": "t", "kind": "k", "data": own},
            ]),
        )
        .await?;
    }
    for (n, key) in keys.iter().enumerate() {
        let (own, others) = (format!("tenant number {n}"), format!("tenant number {}", 1 - n));
        let seen = json!([
            play(
                &host,
                key,
                "m",
                json!([
                    {"do": "list", "scope": "global", "prefix": ""},
                    {"do": "changes", "scope": "global", "prefix": "", "after": 0, "limit": 100, "wait_ms": 0},
                ])
            )
            .await?,
            play(
                &host,
                key,
                "g",
                json!([{"do": "facts"}, {"do": "reach", "from": "a"}, {"do": "path", "from": "a", "to": others}])
            )
            .await?,
            play(&host, key, "r", json!([{"do": "search", "question": "a secret of a tenant", "limit": 10}])).await?,
            play(
                &host,
                key,
                "q",
                json!([{"do": "receive", "limit": 10}, {"do": "read", "topic": "t", "after": 0, "limit": 10}])
            )
            .await?,
        ]);
        let text = seen.to_string();
        assert!(text.contains(&own), "{n}: {text}");
        assert!(!text.contains(&others), "{n} sees the other's: {text}");
        for path in
            ["/v1/memory/global", "/v1/graph/facts", "/v1/graph/reach?from=a", "/v1/events?topic=t", "/v1/dead-letters"]
        {
            let answer = host.send(host.request(Method::GET, path, key)).await?.expect(200);
            assert!(!answer.text().contains(&others), "{path}: {}", answer.text());
        }
        let asked = json!({"query": "a secret of a tenant", "limit": 10});
        let found =
            host.send(host.request(Method::POST, "/v1/recall/search", key).json(&asked)).await?.expect(200).text();
        assert!(found.contains(&own) && !found.contains(&others), "{found}");
    }
    Ok(())
}

/// A tenant's memory has a quota of its own, and what is over it is refused by name; deleting makes room.
#[tokio::test]
async fn a_tenants_memory_is_bounded() -> Result<()> {
    let host = Host::start().await?;
    host.push(&host.admin, "writer", "memory-script", MEMORY).await?;
    let ceiling = host.get("/v1/ceilings").await?.expect(200).json();
    let small = json!({"capabilities": ceiling["capabilities"], "storage": "10KiB"});
    let request = host.request(Method::PUT, "/v1/ceilings/default", &host.operator).json(&small);
    host.send(request).await?.expect(200);
    let big = "x".repeat(4_000);
    let put = |key: &str| json!({"do": "put", "scope": "global", "key": key, "value": big});
    let played = play(&host, &host.admin, "writer", json!([put("a"), put("b"), put("c")])).await?;
    assert_eq!(played[2]["error"], "quota-exceeded", "{}", played[2]);
    let full = host.request(Method::PUT, "/v1/memory/global/d", &host.admin).body(big.clone());
    assert_eq!(host.send(full).await?.expect(429).code(), "quota-exceeded");
    rest(&host, Method::DELETE, "/v1/memory/global/a", None).await?.expect(204);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let again = play(&host, &host.admin, "writer", json!([put("c")])).await?;
    ok(&again[0]);
    Ok(())
}

/// An agent sees a directory that its operator named, its tenant's ceiling allows and it is granted; and nothing else.
#[tokio::test]
async fn a_granted_directory_is_read_and_nothing_beside_it() -> Result<()> {
    let files = tempfile::tempdir()?;
    std::fs::create_dir(files.path().join("open"))?;
    std::fs::write(files.path().join("open/note.txt"), "to be read")?;
    std::fs::write(files.path().join("secret.txt"), "not to be read")?;
    std::os::unix::fs::symlink(files.path().join("secret.txt"), files.path().join("open/link.txt"))?;
    let host = Host::start_with(&format!("[directories]\nnotes = {:?}\n", files.path().join("open"))).await?;
    host.push(&host.admin, "reader", "read-file", &["fs:read:notes"]).await?;
    let read = async |path: &str| host.call(&host.admin, "reader", &json!({"path": path})).await;
    // Granted, but the ceiling does not allow it.
    assert_ne!(read("/notes/note.txt").await?.json()["text"], "to be read");
    let ceiling = json!({"capabilities": ["log", "fs:read:*"]});
    let request = host.request(Method::PUT, "/v1/ceilings/default", &host.operator).json(&ceiling);
    host.send(request).await?.expect(200);
    assert_eq!(read("/notes/note.txt").await?.expect(200).json()["text"], "to be read");
    for path in ["/notes/../secret.txt", "/notes/link.txt", "/secret.txt", "/etc/passwd"] {
        let answer = read(path).await?;
        assert!(answer.json()["text"].is_null(), "{path}: {}", answer.text());
    }
    let written = host.call(&host.admin, "reader", &json!({"path": "/notes/new.txt", "write": "x"})).await?;
    assert!(written.json()["text"].is_null() && !files.path().join("open/new.txt").exists(), "{}", written.text());
    Ok(())
}

/// However long and many one tenant's walks are: another tenant reads, and the host is ready.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_walks_keep_nobody_else_from_reading() -> Result<()> {
    // A star of as many facts as one walk goes over.
    const LEAVES: usize = 10_000;
    const WALKS: usize = 8;
    let host = Host::start().await?;
    let other = host.tenant("beta", "admin").await?;
    for first in (0..LEAVES).step_by(100) {
        let fact = |n| json!({"relate": {"subject": "hub", "relation": "has", "object": format!("leaf {n}")}});
        let operations: Vec<Value> = (first..first + 100).map(fact).collect();
        rest(&host, Method::POST, "/v1/transactions", Some(json!({"operations": operations}))).await?.expect(200);
    }
    let fact = json!({"subject": "a", "relation": "is", "object": "b"});
    host.send(host.request(Method::POST, "/v1/graph/facts", &other).json(&fact)).await?.expect(200);
    let walk = || rest(&host, Method::GET, "/v1/graph/reach?from=leaf%207&direction=both&depth=16", None);
    let walks = futures::future::join_all((0..WALKS).map(|_| walk()));
    let others = async {
        for _ in 0..WALKS {
            let path = "/v1/graph/reach?from=a";
            let reached = host.send(host.request(Method::GET, path, &other)).await?.expect(200).json();
            assert_eq!(reached["facts"].as_array().map(Vec::len), Some(1));
            host.get("/readyz").await?.expect(200);
        }
        anyhow::Ok(())
    };
    let (walks, others) = tokio::join!(walks, others);
    others?;
    for reached in walks {
        let reached = reached?.expect(200).json();
        assert_eq!(reached["facts"].as_array().map(Vec::len), Some(LEAVES));
    }
    Ok(())
}
