//! HTTP to the outside, for adapters that ask something of somebody: connections, TLS, and names looked up a few at a time.
//!
//! Invariants: a certificate has to be signed by who this machine trusts, or browsers where it trusts nobody. Redirects are not followed,
//! so that what a request carries goes to one host alone. A connection is given up where it takes longer than it may; how long an answer
//! may take and how large it may be, whoever asks bounds.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};

mod lookup;

use lookup::Lookup;

/// Makes requests whose bodies are in memory.
pub type Client = hyper_util::client::legacy::Client<HttpsConnector<HttpConnector<Lookup>>, Full<Bytes>>;

/// The certificates that this machine trusts; where it has none, those that browsers do. It reads files.
pub fn trusted() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// A client for addresses of `http` and `https`; `timeout`: how long it may take to connect.
///
/// # Errors
/// Where TLS cannot be set up.
pub fn client(roots: RootCertStore, timeout: Duration) -> Result<Client, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let tls = tls.with_root_certificates(roots).with_no_client_auth();
    let mut tcp = HttpConnector::new_with_resolver(Lookup::new());
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(timeout));
    let connector =
        HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp);
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new());
    Ok(client.clone().pool_timer(TokioTimer::new()).pool_max_idle_per_host(4).build(connector))
}
