//! Who judges is divided among tenants, whoever asks and for what.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::join_all;
use ltmc_model::{Payload, TenantId};
use ltmc_ports::Schemas as _;
use ltmc_schemas::Schemas;

/// The children of this process that run `cat`: one that is asked something has no answer to it.
fn children() -> usize {
    let own = std::process::id().to_string();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_one = |status: &str| {
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let is_there = field("State:").is_some_and(|state| !state.starts_with(['Z', 'X']));
        field("PPid:") == Some(own.as_str()) && field("Name:") == Some("cat") && is_there
    };
    processes.filter(|one| std::fs::read_to_string(one.path().join("status")).is_ok_and(|text| is_one(&text))).count()
}

#[tokio::test]
async fn a_tenant_has_one_judge_of_values_and_one_of_schemas_and_others_have_theirs() {
    let schemas = Arc::new(Schemas::in_children(PathBuf::from("cat"), Vec::new()));
    let [acme, beta] = ["acme", "beta"].map(|name| name.parse::<TenantId>().unwrap());
    let value = Payload::text("x".to_owned());
    let texts = ["true".to_owned()];
    {
        // Each was polled, and so has its child, or waits for its turn.
        let mut judged = pin!(join_all((0..10).map(|_| schemas.judge(&acme, "true", &value))));
        assert!(judged.as_mut().now_or_never().is_none());
        assert_eq!(children(), 1, "one of ten has a child");
        let mut checked = pin!(join_all((0..10).map(|_| schemas.check(&acme, &texts))));
        assert!(checked.as_mut().now_or_never().is_none());
        assert_eq!(children(), 2, "schemas are looked at apart");
        let mut of_beta = pin!(schemas.judge(&beta, "true", &value));
        assert!(of_beta.as_mut().now_or_never().is_none());
        assert_eq!(children(), 3, "another tenant waits for nobody");
    }
    // Whoever goes away lets go of its child, and of its turn.
    let mut again = pin!(schemas.judge(&acme, "true", &value));
    assert!(again.as_mut().now_or_never().is_none());
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while children() != 1 {
        assert!(tokio::time::Instant::now() < deadline, "{} children", children());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
