//! A webhook: what is posted there is signed, so that whoever receives it knows whom it is from.

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, StatusCode, Uri};
use ltmc_http::Client;
use sha2::Sha256;

use crate::anchor::{OpenError, TIMEOUT, Webhook};

/// The header with the signature: `sha256=` and the HMAC-SHA256 of the body in hexadecimal digits.
const SIGNATURE: &str = "ltmc-signature";

/// Why a body was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("it cannot be reached: {0}")]
    Unreached(String),
    #[error("no answer within {TIMEOUT:?}")]
    Slow,
    #[error("it answers {0}")]
    Refused(StatusCode),
}

/// Where bodies are posted, and what they are signed with.
pub(crate) struct Endpoint {
    url: Uri,
    mac: Hmac<Sha256>,
    client: Client,
}

impl Endpoint {
    pub(crate) fn new(webhook: Webhook) -> Result<Self, OpenError> {
        let url: Uri = webhook.url.parse().map_err(|_| OpenError::Url)?;
        let authority = url.authority().map_or("", |authority| authority.as_str());
        if !matches!(url.scheme_str(), Some("http" | "https")) || authority.is_empty() || authority.contains('@') {
            return Err(OpenError::Url);
        }
        let mac = Hmac::new_from_slice(webhook.secret.as_bytes()).expect("a key of any length is one");
        let client = ltmc_http::client(ltmc_http::trusted(), TIMEOUT).map_err(|e| OpenError::Tls(e.to_string()))?;
        Ok(Self { url, mac, client })
    }

    pub(crate) async fn post(&self, body: Bytes) -> Result<(), Unanswered> {
        let signature = self.mac.clone().chain_update(&body).finalize().into_bytes();
        let request = Request::post(self.url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .header(SIGNATURE, format!("sha256={}", hex::encode(signature)))
            .body(Full::new(body))
            .map_err(|e| Unanswered::Unreached(e.to_string()))?;
        let answer = tokio::time::timeout(TIMEOUT, self.client.request(request)).await.map_err(|_| Unanswered::Slow)?;
        let status = answer.map_err(|e| Unanswered::Unreached(told(&e)))?.status();
        // What it says besides is not read.
        if status.is_success() { Ok(()) } else { Err(Unanswered::Refused(status)) }
    }
}

/// An error with its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(why) = cause {
        text = format!("{text}: {why}");
        cause = why.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_and_a_host_and_no_password() {
        for url in ["", "example.org", "ftp://example.org", "http://", "https://u:p@example.org/", "/heads"] {
            let webhook = Webhook { url: url.to_owned(), secret: "s".to_owned() };
            assert!(Endpoint::new(webhook).is_err(), "{url}");
        }
        Endpoint::new(Webhook { url: "https://example.org/heads".to_owned(), secret: "s".to_owned() }).unwrap();
    }
}
