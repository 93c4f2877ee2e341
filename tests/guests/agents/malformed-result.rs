//! Gives results that break the contract, each in the way its input names.

use ltmc::{Agent, Failure, Payload, Task};

#[ltmc::agent]
#[derive(Default)]
struct MalformedResult;

impl Agent for MalformedResult {
    type Input = String;
    type Output = Payload;

    fn execute(&self, how: String, _task: &Task) -> Result<Payload, Failure> {
        let content_type = match how.as_str() {
            "control" => "text/plain\r\nSet-Cookie: a=b".to_owned(),
            "long" => "x".repeat(1 << 20),
            // SAFETY: none; a text that is no UTF-8 is what the host is to find.
            _ => unsafe { String::from_utf8_unchecked(vec![0xff; 16]) },
        };
        Ok(Payload::new(content_type, b"x".to_vec()))
    }
}
