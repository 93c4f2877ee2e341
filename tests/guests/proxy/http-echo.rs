//! A component of `wasi:http/proxy`, for benchmarks: gives back a request's body as it came, as the agent `echo` does with
//! its input.

use std::io::Write as _;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{ErrorCode, Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::StreamError;

struct HttpEcho;

wasip2::http::proxy::export!(HttpEcho);

impl Guest for HttpEcho {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let Some((response, bytes)) = echo(&request) else {
            return ResponseOutparam::set(out, Err(ErrorCode::InternalError(None)));
        };
        let body = response.body().expect("it was not taken yet");
        ResponseOutparam::set(out, Ok(response));
        // Who asked may have gone: then nobody reads what is lost.
        if body.write().is_ok_and(|mut stream| stream.write_all(&bytes).is_ok()) {
            let _ = OutgoingBody::finish(body, None);
        }
    }
}

/// The answer, and its body. None where the request cannot be read.
fn echo(request: &IncomingRequest) -> Option<(OutgoingResponse, Vec<u8>)> {
    let body = request.consume().ok()?;
    let stream = body.stream().ok()?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(chunk) => bytes.extend(chunk),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(_)) => return None,
        }
    }
    let headers = Fields::new();
    headers.set("content-type", &request.headers().get("content-type")).ok()?;
    headers.set("content-length", &[bytes.len().to_string().into_bytes()]).ok()?;
    Some((OutgoingResponse::new(headers), bytes))
}
