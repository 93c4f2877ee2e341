//! Metrics of the HTTP door: requests by route, method and status, how long they took, how many are under way.
//!
//! Invariants: a route's label is its template, never a path that somebody sent; handles are looked up once.

use std::collections::HashMap;
use std::sync::{OnceLock, PoisonError, RwLock};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use metrics::{Counter, Gauge, Histogram, Label};

/// Requests answered.
const REQUESTS: &str = "ltmc_http_requests_total";
/// How long they took.
const SECONDS: &str = "ltmc_http_request_seconds";
/// How many are under way.
const ACTIVE: &str = "ltmc_http_requests_active";

/// The status under which requests are counted whose client went away before the answer.
pub(crate) const GONE: u16 = 499;

/// The handles of all routes.
#[derive(Debug)]
pub(crate) struct Meters {
    routes: HashMap<String, Route>,
    unmatched: Route,
    active: OnceLock<Gauge>,
}

#[derive(Debug)]
struct Route {
    template: &'static str,
    handles: RwLock<Vec<Handles>>,
}

#[derive(Debug, Clone)]
struct Handles {
    method: &'static str,
    status: u16,
    requests: Counter,
    seconds: Histogram,
}

impl Meters {
    /// For routes of these templates.
    pub(crate) fn new(templates: impl Iterator<Item = String>) -> Self {
        metrics::describe_counter!(REQUESTS, "HTTP requests answered");
        metrics::describe_histogram!(
            SECONDS,
            metrics::Unit::Seconds,
            "How long HTTP requests took, answer's body aside"
        );
        metrics::describe_gauge!(ACTIVE, "HTTP requests under way");
        let route = |template: String| Route { template: template.leak(), handles: RwLock::default() };
        Self {
            routes: templates.map(|template| (template.clone(), route(template))).collect(),
            unmatched: route("unmatched".into()),
            active: OnceLock::new(),
        }
    }

    /// A request begins.
    pub(crate) fn begin(&self) {
        self.active().increment(1);
    }

    /// A request ends.
    pub(crate) fn end(&self, template: Option<&str>, method: &Method, status: u16, took: Duration) {
        self.active().decrement(1);
        let route = template.and_then(|template| self.routes.get(template)).unwrap_or(&self.unmatched);
        let handles = route.handles(method, status);
        handles.requests.increment(1);
        handles.seconds.record(took);
    }

    fn active(&self) -> &Gauge {
        self.active.get_or_init(|| metrics::gauge!(ACTIVE))
    }
}

impl Route {
    fn handles(&self, method: &Method, status: u16) -> Handles {
        let method = known(method);
        let find = |handles: &[Handles]| handles.iter().find(|h| h.method == method && h.status == status).cloned();
        if let Some(found) = find(&self.handles.read().unwrap_or_else(PoisonError::into_inner)) {
            return found;
        }
        let mut handles = self.handles.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = find(&handles) {
            return found;
        }
        let route = Label::from_static_parts("route", self.template);
        let method_label = Label::from_static_parts("method", method);
        let made = Handles {
            method,
            status,
            requests: metrics::counter!(
                REQUESTS,
                vec![route.clone(), method_label.clone(), Label::new("status", status.to_string())]
            ),
            seconds: metrics::histogram!(SECONDS, vec![route, method_label]),
        };
        handles.push(made.clone());
        made
    }
}

/// Methods are labels only where the standard names them.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// What a request without an answer is counted under.
pub(crate) fn label(status: Option<StatusCode>) -> u16 {
    status.map_or(GONE, |status| status.as_u16())
}
