//! A model behind an endpoint that speaks OpenAI's protocol: `POST {base}/embeddings`. OpenAI's own is one; so are those of
//! Ollama, vLLM, llama.cpp, LocalAI and many gateways.
//!
//! Invariants: whatever an endpoint answers, only vectors that were asked for come out of here: as many, in order, of the
//! announced size, finite, of length 1. An answer is read up to what it can have, and no further. An attempt ends with its
//! time-out, and attempts are counted. The key stands in a header's value that is marked as sensitive, and nowhere else:
//! an endpoint's own words are shown without it. Redirects are not followed, so that the key goes to one host alone.
//!
//! Failures: `Internal` where the endpoint refuses these very texts, or makes numbers of them that are none. All others are
//! `Unavailable`: it is down, slow, overloaded, or set up in another way than it should be, and may be set right.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Request, StatusCode, Uri};
use ltmc_http::{Client, client, trusted};
use ltmc_model::TenantId;
use ltmc_model::recall::{EmbedderId, MAX_QUERY};
use ltmc_ports::recall::Purpose;
use ltmc_ports::{Embedder, Kind, StoreError};
use rustls::RootCertStore;
use serde::{Deserialize, Serialize};

use crate::options::{Options, Secret};
use crate::{Error, beginning, nothing, unit};

/// What models take in is from 256 to 8,192 tokens; a passage of this size is worth reading, too.
const PASSAGE: usize = 1024;
/// What an endpoint is sent of a text: a longer one would be refused whole.
const MAX_SENT: usize = MAX_QUERY;
/// The largest vectors.
const MAX_DIMENSIONS: u32 = 16_384;
/// The most texts of a request; OpenAI takes as many.
const MAX_BATCH: usize = 2048;
const MAX_RETRIES: u32 = 10;
const MAX_TIMEOUT: Duration = Duration::from_secs(600);
/// The first pause before another attempt; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause. An endpoint that asks for a longer one is given up for now.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// What a number takes in an answer, at most: there are shorter ways to write the most exact one.
const BYTES_A_NUMBER: usize = 40;
/// What an answer may have besides numbers.
const BYTES_BESIDES: usize = 64 << 10;
/// What is shown of an endpoint's own words.
const MAX_SAID: usize = 200;

/// See the module.
pub(crate) struct OpenAi {
    id: EmbedderId,
    endpoint: Endpoint,
}

impl OpenAi {
    pub(crate) async fn connect(options: Options) -> Result<Self, Error> {
        // bound: threads beside
        let roots = tokio::task::spawn_blocking(trusted).await.unwrap_or_else(|_| RootCertStore::empty());
        Self::connect_trusting(options, roots).await
    }

    /// The same, where certificates are those of `roots`.
    async fn connect_trusting(options: Options, roots: RootCertStore) -> Result<Self, Error> {
        let dimensions = options.dimensions;
        let endpoint = Endpoint::new(options, roots)?;
        let dimensions = match dimensions {
            Some(dimensions) => dimensions,
            None => {
                let probe = endpoint.ask(&["probe"]).await.map_err(|failure| endpoint.unusable(failure))?;
                probe.first().map_or(0, Vec::len) as u32
            }
        };
        let name = format!("openai:{}@{}", endpoint.options.model, endpoint.host);
        if name.len() > 128 {
            return Err(option(
                "model",
                format!("`{name}` is too long a name: model and host have at most 120 bytes together"),
            ));
        }
        let endpoint = Endpoint { dimensions: Some(dimensions), ..endpoint };
        Ok(Self { id: EmbedderId { name, dimensions }, endpoint })
    }
}

#[async_trait]
impl Embedder for OpenAi {
    fn id(&self) -> &EmbedderId {
        &self.id
    }

    fn passage_bytes(&self) -> usize {
        PASSAGE
    }

    async fn embed(&self, _: &TenantId, texts: &[String], _: Purpose) -> Result<Vec<Vec<f32>>, StoreError> {
        let mut vectors = vec![nothing(self.id.dimensions as usize); texts.len()];
        // Endpoints refuse empty texts.
        let some: Vec<(usize, &str)> = texts
            .iter()
            .map(|text| beginning(text, MAX_SENT))
            .enumerate()
            .filter(|(_, text)| !text.trim().is_empty())
            .collect();
        for batch in some.chunks(self.endpoint.options.batch) {
            let (places, batch): (Vec<usize>, Vec<&str>) = batch.iter().copied().unzip();
            let made = self.endpoint.ask(&batch).await.map_err(|failure| failure.into_error())?;
            for (place, vector) in places.into_iter().zip(made) {
                vectors[place] = vector;
            }
        }
        Ok(vectors)
    }
}

/// Where requests go.
struct Endpoint {
    options: Options,
    url: Uri,
    /// With its port, if that is not the usual one.
    host: String,
    headers: HeaderMap,
    client: Client,
    /// What every vector has to have; none: not known yet.
    dimensions: Option<u32>,
}

impl Endpoint {
    fn new(options: Options, roots: RootCertStore) -> Result<Self, Error> {
        let (url, host) = address(&options.base_url)?;
        if options.model.is_empty() || options.model.chars().any(char::is_control) {
            return Err(option("model", "it is empty, or has control characters".to_owned()));
        }
        if !(1..=MAX_BATCH).contains(&options.batch) {
            return Err(option("batch", format!("1 to {MAX_BATCH} texts, not {}", options.batch)));
        }
        if options.timeout.is_zero() || options.timeout > MAX_TIMEOUT {
            return Err(option(
                "timeout",
                format!("more than nothing, at most {MAX_TIMEOUT:?}, not {:?}", options.timeout),
            ));
        }
        if options.retries > MAX_RETRIES {
            return Err(option("retries", format!("at most {MAX_RETRIES}, not {}", options.retries)));
        }
        if let Some(dimensions) = options.dimensions.filter(|dimensions| !(1..=MAX_DIMENSIONS).contains(dimensions)) {
            return Err(option("dimensions", format!("1 to {MAX_DIMENSIONS}, not {dimensions}")));
        }
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        if let Some(Secret(key)) = &options.api_key {
            let bearer = HeaderValue::from_str(&format!("Bearer {key}"));
            let mut bearer =
                bearer.map_err(|_| option("api_key", "it has characters that a header cannot have".to_owned()))?;
            bearer.set_sensitive(true);
            headers.insert(AUTHORIZATION, bearer);
            if url.scheme_str() == Some("http") && !is_loopback(&url) {
                tracing::warn!(host, "the embedding endpoint's key is sent over a connection that is not encrypted");
            }
        }
        let client = client(roots, options.timeout)
            .map_err(|error| option("base_url", format!("TLS cannot be set up: {error}")))?;
        Ok(Self { dimensions: options.dimensions, options, url, host, headers, client })
    }

    /// One vector for each text, after as many attempts as it takes and as there may be.
    async fn ask(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, Failure> {
        let asked = Asked {
            model: &self.options.model,
            input: texts,
            encoding_format: "float",
            dimensions: self.options.dimensions,
        };
        let body = Bytes::from(serde_json::to_vec(&asked).map_err(Failure::NotAnAnswer)?);
        let mut attempt = 0;
        loop {
            let failure = match self.attempt(texts.len(), body.clone()).await {
                Ok(vectors) => return Ok(vectors),
                Err(failure) => failure,
            };
            let Some(pause) = failure.pause(attempt).filter(|_| attempt < self.options.retries) else {
                return Err(failure);
            };
            attempt += 1;
            tracing::debug!(host = self.host, attempt, ?pause, reason = %failure, "asking the embedding endpoint again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, texts: usize, body: Bytes) -> Result<Vec<Vec<f32>>, Failure> {
        let timeout = self.options.timeout;
        let answer =
            tokio::time::timeout(timeout, self.send(texts, body)).await.map_err(|_| Failure::Slow(timeout))??;
        self.vectors(texts, &answer)
    }

    /// The answer's bytes, if it is one that has vectors.
    async fn send(&self, texts: usize, body: Bytes) -> Result<Bytes, Failure> {
        let mut request =
            Request::post(self.url.clone()).body(Full::new(body)).map_err(|error| Failure::Broken(error.into()))?;
        request.headers_mut().extend(self.headers.clone());
        let answer = self.client.request(request).await.map_err(|error| {
            if error.is_connect() { Failure::Unreached(error.into()) } else { Failure::Broken(error.into()) }
        })?;
        let (head, body) = answer.into_parts();
        let bound = match head.status {
            StatusCode::OK => {
                texts * self.dimensions.unwrap_or(MAX_DIMENSIONS) as usize * BYTES_A_NUMBER + BYTES_BESIDES
            }
            _ => BYTES_BESIDES,
        };
        let body = Limited::new(body, bound).collect().await.map(|body| body.to_bytes());
        if head.status != StatusCode::OK {
            let after = head.headers.get(RETRY_AFTER).and_then(seconds);
            // An endpoint that refuses a key is likely to repeat it.
            let is_of_the_key = matches!(head.status.as_u16(), 401 | 403);
            let said = if is_of_the_key { String::new() } else { self.said(&body.unwrap_or_default()) };
            return Err(Failure::Refused { status: head.status, after, said });
        }
        body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Failure::Oversized(bound),
            None => Failure::Broken(error),
        })
    }

    /// What is in an answer, checked.
    fn vectors(&self, texts: usize, answer: &[u8]) -> Result<Vec<Vec<f32>>, Failure> {
        let Answer { data } = serde_json::from_slice(answer).map_err(Failure::NotAnAnswer)?;
        if data.len() != texts {
            return Err(Failure::Count { asked: texts, made: data.len() });
        }
        let size = self.dimensions.map(|dimensions| dimensions as usize);
        let mut vectors = vec![None; texts];
        for Datum { index, embedding } in data {
            let place = vectors.get_mut(index).filter(|place| place.is_none()).ok_or(Failure::Order(index))?;
            let fits =
                size.map_or((1..=MAX_DIMENSIONS as usize).contains(&embedding.len()), |size| embedding.len() == size);
            if !fits {
                return Err(Failure::Size { expected: self.dimensions, made: embedding.len() });
            }
            *place = Some(unit(embedding).ok_or(Failure::NoNumber)?);
        }
        Ok(vectors.into_iter().flatten().collect())
    }

    /// What an endpoint says of a refusal, as far as it can be shown.
    fn said(&self, body: &[u8]) -> String {
        let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else {
            return String::new();
        };
        let said =
            ["/error/message", "/error", "/message", "/detail"].iter().find_map(|place| body.pointer(place)?.as_str());
        let mut said = said.unwrap_or_default().replace(char::is_control, " ");
        if let Some(Secret(key)) = self.options.api_key.as_ref().filter(|Secret(key)| !key.is_empty()) {
            said = said.replace(key, "(the key)");
        }
        if said.is_empty() { said } else { format!(": {}", beginning(&said, MAX_SAID)) }
    }

    fn unusable(&self, failure: Failure) -> Error {
        Error::Endpoint { url: self.url.to_string(), source: failure.into_error() }
    }
}

#[derive(Serialize)]
struct Asked<'a> {
    model: &'a str,
    input: &'a [&'a str],
    encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<u32>,
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Datum>,
}

#[derive(Deserialize)]
struct Datum {
    index: usize,
    embedding: Vec<f32>,
}

/// Why an attempt came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the endpoint cannot be reached")]
    Unreached(#[source] Source),
    #[error("the connection broke")]
    Broken(#[source] Source),
    #[error("no answer within {0:?}")]
    Slow(Duration),
    #[error("it refuses with {status}{}{said}", hint(*status))]
    Refused { status: StatusCode, after: Option<Duration>, said: String },
    #[error("its answer has more than {0} bytes")]
    Oversized(usize),
    #[error("its answer is not that of an embedding endpoint")]
    NotAnAnswer(#[source] serde_json::Error),
    #[error("it made {made} vectors of {asked} texts")]
    Count { asked: usize, made: usize },
    #[error("its vectors are numbered wrongly: {0} is there twice, or too high")]
    Order(usize),
    #[error("its vectors have {made} numbers{}", expected.map(|size| format!(", not {size}")).unwrap_or_default())]
    Size { expected: Option<u32>, made: usize },
    #[error("it made numbers that are none")]
    NoNumber,
}

type Source = Box<dyn std::error::Error + Send + Sync>;

impl Failure {
    /// How long to wait before another attempt; none: it would end the same, or not soon.
    fn pause(&self, attempt: u32) -> Option<Duration> {
        let after = match self {
            Self::Unreached(_) | Self::Broken(_) | Self::Slow(_) => None,
            Self::Refused { status, after, .. } if is_passing(*status) => *after,
            _ => return None,
        };
        // Between half of it and the whole: many that failed at once do not come back at once.
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(attempt.min(16));
        let pause = pause.min(MAX_PAUSE).mul_f64(rand::random_range(0.5..1.0));
        match after {
            Some(after) if after > MAX_PAUSE => None,
            Some(after) => Some(after.max(pause)),
            None => Some(pause),
        }
    }

    fn into_error(self) -> StoreError {
        let of_the_texts = match &self {
            Self::Refused { status, .. } => matches!(status.as_u16(), 400 | 413 | 422),
            Self::NoNumber => true,
            _ => false,
        };
        let kind = if of_the_texts { Kind::Internal } else { Kind::Unavailable };
        StoreError::new(kind, "embedder.embed").because(self)
    }
}

fn is_passing(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429) || status.is_server_error()
}

/// What is likely to be wrong.
fn hint(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => " (see `api_key`)",
        404 | 405 => " (see `base_url` and `model`)",
        300..=399 => " (redirects are not followed; see `base_url`)",
        _ => "",
    }
}

/// A pause in seconds; a date is not understood, and the usual pause is made instead.
fn seconds(value: &HeaderValue) -> Option<Duration> {
    let seconds: f64 = value.to_str().ok()?.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Where to post to, and the host's name with its port.
fn address(base_url: &str) -> Result<(Uri, String), Error> {
    let wrong = |what: &str| option("base_url", format!("{what}, such as `https://api.openai.com/v1`"));
    let url: Uri =
        format!("{}/embeddings", base_url.trim_end_matches('/')).parse().map_err(|_| wrong("it is not an address"))?;
    let (Some("http" | "https"), Some(authority)) = (url.scheme_str(), url.authority()) else {
        return Err(wrong("it has to be an http or https address"));
    };
    if authority.as_str().contains('@') {
        return Err(wrong("it has a user or a password, which `api_key` is for; it has to be an address without"));
    }
    if authority.host().is_empty() || url.query().is_some() {
        return Err(wrong("it has to be an address with a host and without a query"));
    }
    let host = authority.as_str().to_ascii_lowercase();
    Ok((url, host))
}

fn is_loopback(url: &Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn option(name: &'static str, what: String) -> Error {
    Error::Option { name, what }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use axum::Router;
    use axum::extract::DefaultBodyLimit;
    use axum::response::{IntoResponse, Response};
    use axum::routing::post;
    use ltmc_ports::testing::suite::embedder::EmbedderFixture;
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    use super::*;

    const KEY: &str = "sk-never-to-be-seen";

    /// An endpoint that does what a test wants, given how many requests there were before, and remembers what it was asked.
    struct Server {
        address: SocketAddr,
        asked: Arc<Mutex<Vec<(HeaderMap, Value)>>>,
        serving: tokio::task::JoinHandle<()>,
    }

    impl Server {
        async fn start<A, F>(answer: A) -> Self
        where
            A: Fn(usize, Value) -> F + Clone + Send + Sync + 'static,
            F: Future<Output = Response> + Send + 'static,
        {
            let asked = Arc::new(Mutex::new(Vec::new()));
            let remembered = asked.clone();
            let handler = move |headers: HeaderMap, body: axum::Json<Value>| {
                let before = {
                    let mut remembered = remembered.lock().unwrap();
                    remembered.push((headers, body.0.clone()));
                    remembered.len() - 1
                };
                answer(before, body.0)
            };
            let routes = Router::new().route("/v1/embeddings", post(handler)).layer(DefaultBodyLimit::max(64 << 20));
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = listener.local_addr().unwrap();
            let serving = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
            Self { address, asked, serving }
        }

        /// One that answers `body` as it is.
        async fn saying(body: &'static str) -> Self {
            Self::start(async move |_, _| body.into_response()).await
        }

        fn options(&self) -> Options {
            Options {
                dimensions: Some(3),
                retries: 2,
                ..Options::new(format!("http://{}/v1/", self.address), "some-model")
            }
        }

        fn requests(&self) -> usize {
            self.asked.lock().unwrap().len()
        }

        /// Why it gives no vectors of one text.
        async fn failure(&self, options: Options) -> (Kind, String) {
            let embedder = OpenAi::connect(options).await.unwrap();
            let error = embedder.embed(&crate::tests::acme(), &["text".to_owned()], Purpose::Query).await.unwrap_err();
            (error.kind, chain(&error))
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.serving.abort();
        }
    }

    /// All that an error says, which never has the key in it.
    fn chain(error: &dyn std::error::Error) -> String {
        assert!(!format!("{error:?}").contains(KEY), "{error:?}");
        let (mut chain, mut cause) = (error.to_string(), error.source());
        while let Some(error) = cause {
            chain = format!("{chain}: {error}");
            cause = error.source();
        }
        assert!(!chain.contains(KEY), "{chain}");
        chain
    }

    /// An answer with the vectors that the built-in embedder makes, three times as long, the last one first.
    async fn vectors(body: &Value) -> Response {
        let texts: Vec<String> = serde_json::from_value(body["input"].clone()).unwrap();
        let made = crate::hashed().embed(&crate::tests::acme(), &texts, Purpose::Passage).await.unwrap();
        let datum = |(index, vector): (usize, Vec<f32>)| {
            let embedding: Vec<f32> = vector.iter().map(|number| number * 3.0).collect();
            json!({"object": "embedding", "index": index, "embedding": embedding})
        };
        let data: Vec<Value> = made.into_iter().enumerate().map(datum).rev().collect();
        axum::Json(json!({"object": "list", "data": data, "model": body["model"], "usage": {"total_tokens": 1}}))
            .into_response()
    }

    fn refusal(status: u16, body: Value) -> Response {
        (StatusCode::from_u16(status).unwrap(), axum::Json(body)).into_response()
    }

    const THREE: &str = r#"{"data": [{"index": 0, "embedding": [0, 3, 4]}]}"#;

    struct Spoken(Server);

    #[async_trait]
    impl EmbedderFixture for Spoken {
        async fn embedder(&self) -> Arc<dyn Embedder> {
            let options = Options { dimensions: None, batch: 7, ..self.0.options() };
            crate::openai(options).await.unwrap()
        }

        fn near(&self) -> Vec<[&'static str; 3]> {
            vec![["retries", "A step is retried.", "The tenant leads every key."]]
        }
    }

    ltmc_ports::embedder_contract!(Spoken(Server::start(async |_, body| vectors(&body).await).await));

    #[tokio::test]
    async fn it_asks_as_the_protocol_says() {
        let server = Server::start(async |_, body| vectors(&body).await).await;
        let options = Options {
            dimensions: Some(384),
            batch: 2,
            api_key: Some(Secret::from(KEY.to_owned())),
            ..server.options()
        };
        assert!(!format!("{options:?}").contains(KEY));
        let embedder = OpenAi::connect(options).await.unwrap();
        assert_eq!(server.requests(), 0, "with dimensions there is nothing to ask at start");
        assert_eq!(embedder.id().name, format!("openai:some-model@{}", server.address));
        let texts = ["a", "", "b", " ", "c"].map(str::to_owned);
        assert_eq!(embedder.embed(&crate::tests::acme(), &texts, Purpose::Passage).await.unwrap().len(), 5);
        let asked = server.asked.lock().unwrap().clone();
        let body = |input: Value| json!({"model": "some-model", "input": input, "encoding_format": "float", "dimensions": 384});
        let bodies: Vec<&Value> = asked.iter().map(|(_, body)| body).collect();
        assert_eq!(bodies, [&body(json!(["a", "b"])), &body(json!(["c"]))]);
        assert!(asked.iter().all(|(headers, _)| headers[AUTHORIZATION] == format!("Bearer {KEY}")));
    }

    #[tokio::test]
    async fn dimensions_are_asked_for_where_they_are_not_given() {
        let server = Server::saying(THREE).await;
        let embedder = OpenAi::connect(Options { dimensions: None, ..server.options() }).await.unwrap();
        assert_eq!((embedder.id().dimensions, server.requests()), (3, 1));
        assert_eq!(server.asked.lock().unwrap()[0].1.get("dimensions"), None);
        assert_eq!(
            embedder.embed(&crate::tests::acme(), &["x".to_owned()], Purpose::Query).await.unwrap(),
            [[0.0, 0.6, 0.8]]
        );
    }

    #[tokio::test]
    async fn an_endpoint_that_is_down_is_named_at_start() {
        let port = ltmc_test_servers::free_port().unwrap();
        let options = Options { retries: 1, ..Options::new(format!("http://127.0.0.1:{port}/v1"), "m") };
        let error = OpenAi::connect(options).await.map(|embedder| embedder.id).unwrap_err();
        let said = chain(&error);
        let expected = format!("the embedding endpoint http://127.0.0.1:{port}/v1/embeddings cannot be used");
        assert!(
            said.starts_with(&expected) && said.contains("cannot be reached") && said.contains("refused"),
            "{said}"
        );
    }

    #[tokio::test]
    async fn it_waits_as_long_as_it_is_told_and_asks_again() {
        let answer = async |before, _| match before {
            0 => (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")]).into_response(),
            1 => (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "Wed, 21 Oct 2065 07:28:00 GMT")]).into_response(),
            _ => THREE.into_response(),
        };
        let server = Server::start(answer).await;
        let (embedder, began) = (OpenAi::connect(server.options()).await.unwrap(), Instant::now());
        assert_eq!(
            embedder.embed(&crate::tests::acme(), &["x".to_owned()], Purpose::Query).await.unwrap(),
            [[0.0, 0.6, 0.8]]
        );
        let (took, requests) = (began.elapsed(), server.requests());
        assert!(
            took >= Duration::from_secs(1) && took < Duration::from_secs(5) && requests == 3,
            "{took:?}, {requests}"
        );
    }

    #[tokio::test]
    async fn it_gives_up_an_endpoint_that_asks_for_too_long_a_pause() {
        let server =
            Server::start(async |_, _| (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "3600")]).into_response()).await;
        let (kind, said) = server.failure(server.options()).await;
        assert_eq!((kind, server.requests()), (Kind::Unavailable, 1), "{said}");
        assert!(said.contains("429 Too Many Requests"), "{said}");
    }

    #[tokio::test]
    async fn it_gives_up_after_as_many_attempts_as_there_may_be() {
        let server = Server::start(async |_, _| refusal(500, json!({"error": {"message": "out of\nmemory"}}))).await;
        let (kind, said) = server.failure(server.options()).await;
        assert_eq!((kind, server.requests()), (Kind::Unavailable, 3), "{said}");
        assert!(said.ends_with("it refuses with 500 Internal Server Error: out of memory"), "{said}");
    }

    #[tokio::test]
    async fn slow_answers_are_not_waited_for() {
        let server = Server::start(async |_, _| {
            tokio::time::sleep(Duration::from_secs(60)).await;
            THREE.into_response()
        })
        .await;
        let (options, began) = (Options { timeout: Duration::from_millis(100), ..server.options() }, Instant::now());
        let (kind, said) = server.failure(options).await;
        assert_eq!((kind, server.requests()), (Kind::Unavailable, 3), "{said}");
        assert!(said.ends_with("no answer within 100ms") && began.elapsed() < Duration::from_secs(5), "{said}");
    }

    /// Headers at once, and a body that never ends.
    #[tokio::test]
    async fn answers_that_trickle_are_not_waited_for() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await.ok();
                    while stream.write_all(b" ").await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                });
            }
        });
        let options = Options {
            dimensions: Some(3),
            retries: 0,
            timeout: Duration::from_millis(200),
            ..Options::new(format!("http://{address}/v1"), "m")
        };
        let embedder = OpenAi::connect(options).await.unwrap();
        let error = embedder.embed(&crate::tests::acme(), &["x".to_owned()], Purpose::Query).await.unwrap_err();
        serving.abort();
        assert!(chain(&error).ends_with("no answer within 200ms"), "{}", chain(&error));
    }

    #[tokio::test]
    async fn answers_are_checked() {
        for (body, kind, expected) in [
            (r#"{"data": []}"#, Kind::Unavailable, "it made 0 vectors of 1 texts"),
            (
                r#"{"data": [{"index": 0, "embedding": [1, 2, 3]}, {"index": 1, "embedding": [1, 2, 3]}]}"#,
                Kind::Unavailable,
                "it made 2 vectors of 1 texts",
            ),
            (
                r#"{"data": [{"index": 1, "embedding": [1, 2, 3]}]}"#,
                Kind::Unavailable,
                "numbered wrongly: 1 is there twice, or too high",
            ),
            (
                r#"{"data": [{"index": 0, "embedding": [1, 2]}]}"#,
                Kind::Unavailable,
                "its vectors have 2 numbers, not 3",
            ),
            (r#"{"data": [{"index": 0, "embedding": []}]}"#, Kind::Unavailable, "its vectors have 0 numbers, not 3"),
            (
                r#"{"data": [{"index": 0, "embedding": [1, 2, null]}]}"#,
                Kind::Unavailable,
                "not that of an embedding endpoint",
            ),
            (
                r#"{"data": [{"index": 0, "embedding": [1, 2, NaN]}]}"#,
                Kind::Unavailable,
                "not that of an embedding endpoint",
            ),
            (
                r#"{"data": [{"index": 0, "embedding": "AAAA"}]}"#,
                Kind::Unavailable,
                "not that of an embedding endpoint",
            ),
            (r#"{"data": [{"index": 0, "embed"#, Kind::Unavailable, "not that of an embedding endpoint"),
            ("<html>a page</html>", Kind::Unavailable, "not that of an embedding endpoint"),
            ("", Kind::Unavailable, "not that of an embedding endpoint"),
        ] {
            let server = Server::saying(body).await;
            let (seen, said) = server.failure(server.options()).await;
            assert!(said.contains(expected) && seen == kind, "{body}: {seen:?}, {said}");
            assert_eq!(server.requests(), 1, "{body}: the next answer would be the same");
        }
    }

    /// How far a number is read before it is found to be too large depends on how JSON's reader was built.
    #[tokio::test]
    async fn numbers_that_are_too_large_are_refused() {
        let server = Server::saying(r#"{"data": [{"index": 0, "embedding": [1, 2, 1e39]}]}"#).await;
        let (_, said) = server.failure(server.options()).await;
        assert!(said.contains("it made numbers that are none") || said.contains("out of range"), "{said}");
    }

    #[tokio::test]
    async fn one_vector_twice_is_not_two() {
        let twice = r#"{"data": [{"index": 0, "embedding": [1, 2, 3]}, {"index": 0, "embedding": [1, 2, 3]}]}"#;
        let server = Server::saying(twice).await;
        let embedder = OpenAi::connect(server.options()).await.unwrap();
        let error = embedder
            .embed(&crate::tests::acme(), &["x".to_owned(), "y".to_owned()], Purpose::Passage)
            .await
            .unwrap_err();
        assert!(chain(&error).contains("0 is there twice"));
    }

    #[tokio::test]
    async fn answers_are_bounded() {
        for status in [200, 400] {
            let server = Server::start(move |_, _| async move {
                (StatusCode::from_u16(status).unwrap(), [b' '; 1024].repeat(32 << 10)).into_response()
            })
            .await;
            let (_, said) = server.failure(server.options()).await;
            let expected =
                if status == 200 { "its answer has more than 65656 bytes" } else { "it refuses with 400 Bad Request" };
            assert!(said.ends_with(expected), "{said}");
        }
    }

    #[tokio::test]
    async fn a_refused_key_is_said_and_not_shown() {
        let answer =
            async |_, _| refusal(401, json!({"error": {"message": format!("Incorrect API key provided: {KEY}")}}));
        let server = Server::start(answer).await;
        let key = Some(Secret::from(KEY.to_owned()));
        let (kind, said) = server.failure(Options { api_key: key.clone(), ..server.options() }).await;
        assert_eq!((kind, server.requests()), (Kind::Unavailable, 1), "{said}");
        assert!(said.ends_with("it refuses with 401 Unauthorized (see `api_key`)"), "{said}");
        let error = OpenAi::connect(Options { api_key: key, dimensions: None, ..server.options() })
            .await
            .map(|e| e.id)
            .unwrap_err();
        assert!(chain(&error).ends_with("it refuses with 401 Unauthorized (see `api_key`)"));
    }

    #[tokio::test]
    async fn refused_texts_are_not_sent_again() {
        let answer = async |_, _| refusal(400, json!({"error": {"message": format!("too long; by the way, {KEY}")}}));
        let server = Server::start(answer).await;
        let (kind, said) =
            server.failure(Options { api_key: Some(Secret::from(KEY.to_owned())), ..server.options() }).await;
        assert_eq!((kind, server.requests()), (Kind::Internal, 1));
        assert!(said.ends_with("it refuses with 400 Bad Request: too long; by the way, (the key)"), "{said}");
    }

    #[tokio::test]
    async fn another_path_is_a_hint_and_a_redirect_is_not_followed() {
        let server =
            Server::start(async |_, _| (StatusCode::FOUND, [("location", "http://127.0.0.1:1/")]).into_response())
                .await;
        let (kind, said) = server.failure(server.options()).await;
        assert!(
            kind == Kind::Unavailable && said.contains("302 Found (redirects are not followed; see `base_url`)"),
            "{said}"
        );
        let options = Options { base_url: format!("http://{}/v2", server.address), ..server.options() };
        let (kind, said) = server.failure(options).await;
        assert!(kind == Kind::Unavailable && said.contains("404 Not Found (see `base_url` and `model`)"), "{said}");
    }

    #[tokio::test]
    async fn long_texts_are_sent_in_part() {
        let server = Server::saying(THREE).await;
        let embedder = OpenAi::connect(server.options()).await.unwrap();
        embedder.embed(&crate::tests::acme(), &["é".repeat(50_000)], Purpose::Passage).await.unwrap();
        assert_eq!(server.asked.lock().unwrap()[0].1["input"][0].as_str().map(str::len), Some(MAX_SENT));
    }

    #[tokio::test]
    async fn bad_options_are_named() {
        let good = || Options { dimensions: Some(3), ..Options::new("http://localhost:1/v1", "m") };
        let at = |base_url: &str| Options { base_url: base_url.to_owned(), ..good() };
        for (options, expected) in [
            (at(""), "base_url: "),
            (at("localhost:8080"), "base_url: "),
            (at("api.openai.com/v1"), "base_url: "),
            (at("ftp://host/v1"), "base_url: it has to be an http or https address"),
            (at(&format!("https://user:{KEY}@host/v1")), "base_url: it has a user or a password"),
            (at("https://host/v1?api-version=1"), "base_url: "),
            (at("https://ho st/v1"), "base_url: it is not an address"),
            (Options { model: String::new(), ..good() }, "model: it is empty"),
            (Options { model: "a\nb".to_owned(), ..good() }, "model: it is empty, or has control characters"),
            (Options { model: "m".repeat(120), ..good() }, "model: `openai:mmm"),
            (Options { batch: 0, ..good() }, "batch: 1 to 2048 texts, not 0"),
            (Options { batch: 4096, ..good() }, "batch: 1 to 2048 texts, not 4096"),
            (Options { timeout: Duration::ZERO, ..good() }, "timeout: "),
            (Options { timeout: Duration::from_secs(3600), ..good() }, "timeout: "),
            (Options { retries: 11, ..good() }, "retries: at most 10, not 11"),
            (Options { dimensions: Some(0), ..good() }, "dimensions: 1 to 16384, not 0"),
            (Options { dimensions: Some(1 << 20), ..good() }, "dimensions: 1 to 16384, not 1048576"),
            (Options { api_key: Some(Secret::from(format!("{KEY}\n"))), ..good() }, "api_key: it has characters"),
        ] {
            let error = OpenAi::connect(options).await.map(|embedder| embedder.id).unwrap_err();
            let said = chain(&error);
            assert!(said.starts_with(expected), "`{said}` does not start with `{expected}`");
        }
    }

    /// An https endpoint with a certificate of its own.
    #[tokio::test]
    async fn https_works_and_certificates_are_checked() {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let read = stream.read(&mut [0; 4096]).await.unwrap();
                assert!(read > 0);
                let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", THREE.len());
                stream.write_all((head + THREE).as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        let options = |host: &str| Options { retries: 0, ..Options::new(format!("https://{host}:{port}/v1"), "m") };
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let embedder = OpenAi::connect_trusting(options("localhost"), roots.clone()).await.unwrap();
        assert_eq!(embedder.id(), &EmbedderId { name: format!("openai:m@localhost:{port}"), dimensions: 3 });
        let another_host = OpenAi::connect_trusting(options("127.0.0.1"), roots).await.map(|e| e.id).unwrap_err();
        let nobody_s = OpenAi::connect(options("localhost")).await.map(|e| e.id).unwrap_err();
        serving.abort();
        for error in [another_host, nobody_s] {
            assert!(chain(&error).contains("invalid peer certificate"), "{}", chain(&error));
        }
    }

    #[test]
    fn a_machine_trusts_somebody() {
        assert!(!trusted().is_empty());
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        let pause = |attempt| Failure::Slow(MAX_TIMEOUT).pause(attempt).unwrap();
        assert!(pause(0) <= FIRST_PAUSE && pause(0) >= FIRST_PAUSE / 2);
        assert!(pause(3) > pause(0) && pause(200) <= MAX_PAUSE);
        for (said, expected) in
            [("1", Some(1.0)), (" 0.5 ", Some(0.5)), ("-1", None), ("soon", None), ("NaN", None), ("1e99", None)]
        {
            assert_eq!(seconds(&HeaderValue::from_str(said).unwrap()), expected.map(Duration::from_secs_f64), "{said}");
        }
    }
}
