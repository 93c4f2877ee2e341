//! A disk that is full: a clear answer, nothing lost, and everything goes on once there is room again.
//!
//! The disk is a small tmpfs in a mount namespace of the host's own, so that no other program notices.

use std::io::Write as _;

use anyhow::Result;
use ltmc_tests::Host;
use serde_json::json;

const SIZE: &str = "48m";

#[tokio::test]
async fn a_full_disk_is_said_to_be_full_and_loses_nothing() -> Result<()> {
    let host = Host::start_on_small_disk(SIZE).await?;
    let grants = ["memory:read:*", "memory:write:*"];
    host.push(&host.admin, "counter", "counter", &grants).await?;
    let add = json!({"key": "n", "scope": "global", "times": 1});
    host.call(&host.admin, "counter", &add).await?.expect(200);

    let ballast = host.data().join("ballast");
    fill(&ballast)?;
    let mut counted = 1;
    let refused = loop {
        let answer = host.call(&host.admin, "counter", &add).await?;
        match answer.status.as_u16() {
            200 => counted += 1,
            _ => break answer,
        }
        assert!(counted < 100_000, "the disk is never full");
    };
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (507, "storage-full"), "{}", refused.text());
    let upload = host.push_bytes(&host.admin, "large", ltmc_tests::guest_bytes("flaky")?).await?;
    assert_eq!((upload.status.as_u16(), upload.code().as_str()), (507, "storage-full"), "{}", upload.text());
    host.get("/v1/runs").await?.expect(200);

    // With room again the refused run goes on by itself, if it had begun: as many were counted as completed.
    std::fs::remove_file(&ballast)?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let completed = loop {
        let runs = host.get("/v1/runs?agent=counter&limit=500").await?.expect(200).json();
        let runs = runs["items"].as_array().cloned().unwrap_or_default();
        if runs.iter().all(|run| run["state"] == "completed") {
            break runs.len();
        }
        assert!(std::time::Instant::now() < deadline, "not all runs are over: {runs:#?}\n{}", host.log());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    };
    assert!((counted..=counted + 1).contains(&completed), "{completed} of {counted}");
    let answer =
        host.call(&host.admin, "counter", &json!({"key": "n", "scope": "global", "times": 0})).await?.expect(200);
    assert_eq!(answer.json()["value"], completed, "{}", answer.text());
    host.push(&host.admin, "large", "flaky", &[]).await?;
    Ok(())
}

/// Writes until there is no room.
fn fill(path: &std::path::Path) -> Result<()> {
    let mut file = std::fs::File::create(path)?;
    let mut chunk = 1 << 20;
    while chunk > 0 {
        match file.write_all(&vec![7; chunk]).and_then(|()| file.flush()) {
            Ok(()) => {}
            Err(_) => chunk /= 4,
        }
    }
    Ok(())
}
