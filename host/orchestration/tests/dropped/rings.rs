//! Workflows that are put at once: no two of them come to start each other.

use ltmc_model::WorkflowName;
use ltmc_tenancy::Error;

use crate::house::{House, admin, in_paused_time};

#[test]
fn of_two_workflows_that_would_start_each_other_one_is_put() {
    in_paused_time(async {
        let house = House::new().await;
        let put = async |name: &str, flow: &str| {
            let source = format!("{{name: {name}, flow: {{{flow}}}}}");
            let name: WorkflowName = name.parse().unwrap();
            house.workflows.put(&admin(), name, source).await
        };
        put("one", "agent: echo").await.unwrap();
        put("two", "agent: echo").await.unwrap();
        let (one, two) = tokio::join!(put("one", "workflow: two"), put("two", "workflow: one"));
        let refused: Vec<Error> = [one, two].into_iter().filter_map(Result::err).collect();
        let [refused] = refused.as_slice() else { panic!("{refused:?}") };
        assert!(format!("{refused:?}").contains("would never end"), "{refused:?}");
    });
}
