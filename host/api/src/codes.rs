//! The codes that clients tell problems apart by: one table, of name, status and title.
//!
//! Invariants: a code keeps its name and status for ever; each has a section of the same name in docs/errors.md, and a
//! test holds table, page and the codes of the use cases together. To add one: a line here and a section there.

use axum::http::StatusCode;
use ltmc_model::failure;

/// A kind of problem.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Code {
    pub(crate) name: &'static str,
    pub(crate) status: StatusCode,
    pub(crate) title: &'static str,
}

const fn code(name: &'static str, status: StatusCode, title: &'static str) -> Code {
    Code { name, status, title }
}

/// All of them, in the order of docs/errors.md.
#[rustfmt::skip]
pub(crate) const CODES: &[Code] = &[
    // who asks
    code("unauthorized", StatusCode::UNAUTHORIZED, "No good key came with the request"),
    code("denied", StatusCode::FORBIDDEN, "The key may not do this"),
    // what is asked for
    code("not-found", StatusCode::NOT_FOUND, "There is no such thing"),
    code("no-route", StatusCode::NOT_FOUND, "There is no such route"),
    code("method-not-allowed", StatusCode::METHOD_NOT_ALLOWED, "The route does not take this method"),
    // how it is asked
    code("bad-path", StatusCode::BAD_REQUEST, "A name or id in the path does not parse"),
    code("bad-query", StatusCode::BAD_REQUEST, "The query string does not parse"),
    code("bad-cursor", StatusCode::BAD_REQUEST, "The cursor is not one this list gave"),
    code("bad-header", StatusCode::BAD_REQUEST, "A header does not parse"),
    code("bad-request", StatusCode::BAD_REQUEST, "The request is not well formed"),
    code("head-too-large", StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "The request's head is too large"),
    code("uri-too-long", StatusCode::URI_TOO_LONG, "The request's path and query are too long"),
    code("unsupported-transfer-coding", StatusCode::NOT_IMPLEMENTED, "The body comes in a coding that is not taken"),
    code("bad-body", StatusCode::BAD_REQUEST, "The body ended before it was whole"),
    code("bad-json", StatusCode::BAD_REQUEST, "The body is not the JSON this route takes"),
    code("invalid", StatusCode::BAD_REQUEST, "What is asked for is not within its rules"),
    code("read-too-costly", StatusCode::BAD_REQUEST, "The read looks at more than the host does for one"),
    code("bad-multipart", StatusCode::BAD_REQUEST, "The form does not parse"),
    code("slow-body", StatusCode::REQUEST_TIMEOUT, "The body came too slowly"),
    code("too-large", StatusCode::PAYLOAD_TOO_LARGE, "The body is too large"),
    code("unsupported-media-type", StatusCode::UNSUPPORTED_MEDIA_TYPE, "The route does not take this content type"),
    // what is uploaded
    code("empty", StatusCode::BAD_REQUEST, "There is no component in the body"),
    code("not-wasm", StatusCode::BAD_REQUEST, "The upload is not WebAssembly"),
    code("core-module", StatusCode::BAD_REQUEST, "The upload is a core module, not a component"),
    code("malformed", StatusCode::BAD_REQUEST, "The component is not valid"),
    code("unknown-import", StatusCode::BAD_REQUEST, "The component imports what the host does not have"),
    code("no-export", StatusCode::BAD_REQUEST, "The component exports nothing that the host can run"),
    code("too-costly", StatusCode::BAD_REQUEST, "The component takes too much to compile"),
    code("needs-too-much", StatusCode::BAD_REQUEST, "The component needs more than a call may have"),
    code("bad-manifest", StatusCode::BAD_REQUEST, "The agent's manifest is wrong"),
    code("bad-answer", StatusCode::UNPROCESSABLE_ENTITY, "The answer is not what was asked for"),
    code("bad-workflow", StatusCode::BAD_REQUEST, "The workflow's document is wrong"),
    code("bad-recovery", StatusCode::BAD_REQUEST, "What is to be done with the run does not fit it"),
    // what stands in the way
    code("conflict", StatusCode::CONFLICT, "It is there already, or not as the request supposes"),
    code("too-many-schedules", StatusCode::CONFLICT, "The tenant has as many schedules as it may have"),
    code("too-many-subscriptions", StatusCode::CONFLICT, "The tenant has as many subscriptions as it may have"),
    code("precondition-failed", StatusCode::PRECONDITION_FAILED, "It is not at the revision the request names"),
    code("resync", StatusCode::GONE, "What comes after this place is not kept any more"),
    code("quota-exceeded", StatusCode::TOO_MANY_REQUESTS, "A bound of the tenant's shared context is reached"),
    code("session-over", StatusCode::CONFLICT, "The session takes no more turns"),
    code("already-answered", StatusCode::CONFLICT, "The question has its answer already"),
    code("question-closed", StatusCode::CONFLICT, "The question is open no more"),
    code("idempotency-key-reused", StatusCode::CONFLICT, "The idempotency key was used for another request"),
    code("busy", StatusCode::TOO_MANY_REQUESTS, "Too much at once"),
    code("unavailable", StatusCode::SERVICE_UNAVAILABLE, "The host cannot do this at the moment"),
    code("storage-full", StatusCode::INSUFFICIENT_STORAGE, "The record has no room left"),
    code("disk-quota-exceeded", StatusCode::INSUFFICIENT_STORAGE, "The tenant has all that it may have on disk"),
    code("internal", StatusCode::INTERNAL_SERVER_ERROR, "A fault of the host's own"),
    // how a run ends
    code("agent-error", StatusCode::UNPROCESSABLE_ENTITY, "The agent said that it could not"),
    code("agent-trapped", StatusCode::BAD_GATEWAY, "The agent broke"),
    code("limit-cpu", StatusCode::GATEWAY_TIMEOUT, "The agent is out of CPU time"),
    code("limit-wall", StatusCode::GATEWAY_TIMEOUT, "The agent is out of wall time"),
    code("limit-memory", StatusCode::INSUFFICIENT_STORAGE, "The agent is out of memory"),
    code("limit-output", StatusCode::INSUFFICIENT_STORAGE, "The agent's output is too large"),
    code("limit-resources", StatusCode::INSUFFICIENT_STORAGE, "The agent is out of handles or of copies"),
    code("validation-failed", StatusCode::UNPROCESSABLE_ENTITY, "A step's result was judged wrong"),
    code("bad-step", StatusCode::UNPROCESSABLE_ENTITY, "A step cannot be done as the document says"),
    code("agent-missing", StatusCode::CONFLICT, "The agent is not there any more"),
    code("replay-mismatch", StatusCode::CONFLICT, "The run cannot be resumed: the agent asks for something else than before"),
    code("fenced", StatusCode::SERVICE_UNAVAILABLE, "The run has another owner now"),
    code("merge-conflict", StatusCode::CONFLICT, "Branches with a context of their own did not go together"),
    code("cancelled", StatusCode::CONFLICT, "The run was cancelled"),
    code("timed-out", StatusCode::GATEWAY_TIMEOUT, "A part of the workflow took too long"),
    code("no-candidate", StatusCode::UNPROCESSABLE_ENTITY, "No agent fits what a step needs"),
    code("bad-plan", StatusCode::UNPROCESSABLE_ENTITY, "What a planner gave cannot be done"),
    code("not-approved", StatusCode::UNPROCESSABLE_ENTITY, "People did not approve of a plan"),
    code("no-majority", StatusCode::UNPROCESSABLE_ENTITY, "No value has won a vote"),
    code("loop-exhausted", StatusCode::UNPROCESSABLE_ENTITY, "A loop made all its rounds"),
    code("loop-stalled", StatusCode::UNPROCESSABLE_ENTITY, "A loop came no further"),
    code("quarantined", StatusCode::CONFLICT, "The host died of the run"),
    code("paused", StatusCode::CONFLICT, "The run is paused"),
    code("stuck", StatusCode::CONFLICT, "What undoes the run's work has failed"),
];

/// The line of a name; that of `internal` where there is none, which a test rules out for every name in the sources.
pub(crate) fn of(name: &str) -> Option<&'static Code> {
    CODES.iter().find(|code| code.name == name)
}

/// The line of a run's ending.
pub(crate) fn of_ending(ending: failure::Code) -> &'static Code {
    of(ending.as_str()).unwrap_or_else(internal)
}

/// A fault of the host's own.
pub(crate) fn internal() -> &'static Code {
    static INTERNAL: Code = code("internal", StatusCode::INTERNAL_SERVER_ERROR, "A fault of the host's own");
    &INTERNAL
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use ltmc_model::failure::Code as Ending;

    use super::*;

    fn host() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
    }

    #[test]
    fn every_code_has_its_section_in_the_docs_and_every_section_its_code() {
        let page = crate::docs::ERRORS;
        let sections: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
        let codes: Vec<_> = CODES.iter().map(|code| code.name).collect();
        assert_eq!(sections, codes, "docs/errors.md has a `### code` for each line of the table, in its order");
        for code in CODES {
            let section = page.split(&format!("### {}\n", code.name)).nth(1).unwrap().split("\n#").next().unwrap();
            let status = format!("**{}**", code.status.as_u16());
            assert!(section.contains(&status), "the section of {} says {status}", code.name);
        }
    }

    #[test]
    fn names_are_used_once_and_are_fit_for_an_address() {
        let names: BTreeSet<_> = CODES.iter().map(|code| code.name).collect();
        assert_eq!(names.len(), CODES.len());
        assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
        assert_eq!(of("internal"), Some(internal()));
    }

    #[test]
    fn every_ending_of_a_run_has_a_code() {
        for ending in Ending::ALL {
            assert_eq!(of_ending(ending).name, ending.as_str());
        }
    }

    /// The codes of the use cases are literals: this reads them from the sources, so that none is forgotten here.
    #[test]
    fn every_code_of_the_use_cases_stands_in_the_table() {
        let mut unknown = BTreeSet::new();
        let rooms = [
            "tenancy",
            "projections",
            "context",
            "crossing",
            "orchestration",
            "journal",
            "policy",
            "sandbox",
            "ports",
            "api",
        ];
        for room in rooms {
            let mut files = vec![host().join(room).join("src")];
            while let Some(path) = files.pop() {
                if path.is_dir() {
                    files.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                } else {
                    let source = std::fs::read_to_string(&path).unwrap();
                    unknown
                        .extend(literals(&source).filter(|name| of(name).is_none()).map(|name| (path.clone(), name)));
                }
            }
        }
        assert!(unknown.is_empty(), "codes that docs/errors.md does not know: {unknown:#?}");
    }

    /// What stands after `code: "`, `invalid("`, `refused("` or `Problem::new("`.
    fn literals(source: &str) -> impl Iterator<Item = String> {
        ["code: \"", "invalid(\"", "refused(\"", "Problem::new(\""].into_iter().flat_map(move |before| {
            source.split(before).skip(1).filter_map(|rest| {
                let name = rest.split('"').next()?;
                let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
                plain.then(|| name.to_owned())
            })
        })
    }
}
