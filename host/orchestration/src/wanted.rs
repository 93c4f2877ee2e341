//! What an agent wants of others that it does not name, as the document of a run: a need, for which the coordinator finds somebody, or a
//! question to people.
//!
//! Invariants: what an agent says stands in the document as a value, and picks nothing: texts of its own are never read as picks. What it
//! shows is the run's input.

use ltmc_model::call::coordination::{Ask, Need};
use ltmc_model::effect::Refusal;
use ltmc_model::failure::Failure;
use ltmc_model::workflow::Document;
use ltmc_model::{AgentName, TenantId};
use ltmc_ports::Schemas;
use serde_json::{Map, Value, json};

use crate::workflows;

/// The document of a need.
///
/// # Errors
/// What is wrong with the need.
pub(crate) fn need(need: &Need) -> Result<Document, Refusal> {
    let mut node = Map::from_iter([("need".to_owned(), json!(need.text))]);
    if !need.among.is_empty() {
        node.insert("among".into(), need.among.iter().map(AgentName::as_str).collect());
    }
    if let Some(hundredths) = need.at_least {
        node.insert("at-least".into(), json!(f64::from(hundredths) / 100.0));
    }
    document("need", node.into())
}

/// The document of a question.
///
/// # Errors
/// What is wrong with the question.
pub(crate) fn question(ask: &Ask) -> Result<Document, Refusal> {
    let mut asks =
        Map::from_iter([("title".to_owned(), json!(ask.title)), ("of".to_owned(), json!(ask.of.to_string()))]);
    if ask.show.is_some() {
        asks.insert("show".into(), json!("$.input"));
    }
    if let Some(schema) = &ask.schema {
        let schema: Value = serde_json::from_str(schema)
            .map_err(|_| Refusal::Invalid("a question's schema is a JSON Schema: an object in JSON".into()))?;
        asks.insert("schema".into(), schema);
    }
    let mut node = Map::from_iter([("ask".to_owned(), Value::Object(asks))]);
    if let Some(ms) = ask.timeout_ms {
        node.insert("timeout".into(), json!(format!("{ms}ms")));
    }
    document("question", node.into())
}

/// Whether answers can be judged by what a question says of them.
///
/// # Errors
/// Where nobody is there to look at it; the inner error: what is wrong with it.
pub(crate) async fn check_schema(
    schemas: &dyn Schemas,
    tenant: &TenantId,
    document: &Document,
) -> Result<Result<(), Refusal>, Failure> {
    let faults = workflows::check_schemas(schemas, tenant, document).await?;
    Ok(faults.first().map_or(Ok(()), |fault| Err(Refusal::Invalid(fault.message.clone()))))
}

fn document(name: &str, flow: Value) -> Result<Document, Refusal> {
    let source = json!({"name": name, "flow": flow}).to_string();
    Document::parse(&source, None).map_err(|faults| {
        let told: Vec<&str> = faults.0.iter().take(5).map(|fault| fault.message.as_str()).collect();
        Refusal::Invalid(told.join("; "))
    })
}

#[cfg(test)]
mod tests {
    use ltmc_model::Payload;
    use ltmc_model::caller::Role;
    use ltmc_model::workflow::Does;

    use super::*;

    #[test]
    fn what_an_agent_says_is_never_read_as_a_pick() {
        let asked = Ask {
            title: "$.input: sure?".into(),
            of: Role::Admin,
            show: Some(Payload::text("$.steps.a.output")),
            schema: Some(r#"{"const": "$.input"}"#.into()),
            timeout_ms: Some(1_500),
        };
        let document = question(&asked).unwrap();
        assert_eq!(
            document.to_json(),
            r#"{"name":"question","flow":{"ask":{"title":"$.input: sure?","of":"admin","show":"$.input","schema":{"const":"$.input"}},"timeout":"1s 500ms"}}"#
        );
        let needed = Need {
            text: "$.input".into(),
            among: vec!["a".parse().unwrap()],
            at_least: Some(5),
            input: Payload::default(),
        };
        let Does::Need(found) = need(&needed).unwrap().flow.does else { panic!("a need") };
        assert_eq!((found.text.as_str(), found.among.len()), ("$.input", 1));
        assert!((found.at_least - 0.05).abs() < 1e-9);
    }

    #[test]
    fn what_is_beyond_the_bounds_of_documents_is_refused() {
        let asked = |title: &str, schema: Option<&str>| {
            question(&Ask {
                title: title.into(),
                of: Role::Author,
                show: None,
                schema: schema.map(Into::into),
                timeout_ms: None,
            })
        };
        assert!(asked("Well?", None).is_ok());
        for (title, schema) in [("", None), ("a\nb", None), ("Well?", Some("[")), ("Well?", Some("1"))] {
            assert!(matches!(asked(title, schema), Err(Refusal::Invalid(_))), "{title} {schema:?}");
        }
        let needed = Need { text: " ".into(), among: Vec::new(), at_least: None, input: Payload::default() };
        assert!(matches!(need(&needed), Err(Refusal::Invalid(_))));
    }
}
