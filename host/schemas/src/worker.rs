//! The child's side: requests on standard input, answers on standard output, until there are no more.
//!
//! Each request is judged on a thread of its own, while standard input is read on: once nobody holds that any more, the process ends,
//! whatever it computes.

use std::io::{ErrorKind, Read, Write};
use std::process::ExitCode;
use std::thread::JoinHandle;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::judge::{self, CPU, Kind, MEMORY};

/// The most that a request may have: an output with its schema, or a document's schemas.
const MAX_PARTS: u32 = 10_000;
const MAX_PART: u32 = 64 << 20;
/// Schemas and outputs nest, and so does who judges them.
const STACK: usize = 128 << 20;

/// Serves requests until standard input is closed.
pub fn run() -> ExitCode {
    let limited = limit(Resource::As, MEMORY).and_then(|()| limit(Resource::Core, 0));
    if limited.is_err() {
        return ExitCode::from(3);
    }
    // As where memory is at its end: what was asked is too much.
    std::panic::set_hook(Box::new(|_| std::process::abort()));
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(4),
    }
}

/// On return the process ends, and with it what is still judged: nobody waits for it any more.
fn serve() -> std::io::Result<()> {
    let mut from = std::io::stdin().lock();
    let mut judging: Option<JoinHandle<std::io::Result<()>>> = None;
    loop {
        let mut kind = [0];
        match from.read_exact(&mut kind) {
            Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        // Who asks again has its answer, so that this one is at its end.
        if let Some(before) = judging.take() {
            before.join().map_err(|_| ErrorKind::Other)??;
        }
        let kind = Kind::of(kind[0]).ok_or(ErrorKind::InvalidData)?;
        let parts = number(&mut from, MAX_PARTS)?;
        let parts: Vec<Vec<u8>> = (0..parts).map(|_| part(&mut from)).collect::<Result<_, _>>()?;
        let spent = clock_gettime(ClockId::ProcessCPUTime).tv_sec.unsigned_abs();
        let hard = getrlimit(Resource::Cpu).maximum;
        // Whole seconds: of the one that has begun nothing is taken.
        let soft = (spent + 1 + CPU.as_secs()).min(hard.unwrap_or(u64::MAX));
        setrlimit(Resource::Cpu, Rlimit { current: Some(soft), maximum: hard })?;
        let thread = std::thread::Builder::new().stack_size(STACK);
        judging = Some(thread.spawn(move || answer(kind, &parts))?);
    }
}

fn answer(kind: Kind, parts: &[Vec<u8>]) -> std::io::Result<()> {
    let mut to = std::io::stdout().lock();
    let answer = serde_json::to_vec(&judge::answer(kind, parts))?;
    to.write_all(&u32::try_from(answer.len()).map_err(|_| ErrorKind::FileTooLarge)?.to_le_bytes())?;
    to.write_all(&answer)?;
    to.flush()
}

fn part(from: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let length = number(from, MAX_PART)?;
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn number(from: &mut impl Read, most: u32) -> std::io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    let number = u32::from_le_bytes(bytes);
    if number > most { Err(ErrorKind::InvalidData.into()) } else { Ok(number) }
}

fn limit(resource: Resource, most: u64) -> Result<(), rustix::io::Errno> {
    setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
}
