//! An index as a file: what FAISS writes, the ids of its places, a head with what they are, and a checksum.
//!
//! ```text
//! FAISS's index · ids (i64 each) · which are alive (a bit each) · embedder's name · head · SHA-256 of all before
//! ```
//!
//! Invariants: the head stands at the end, since FAISS reads from a file's beginning, and so that nothing of an index has to
//! be copied in memory to be written. A file becomes visible whole, or not at all. What a file says is believed only after
//! its checksum, and FAISS reads it only then. Numbers are little-endian.
//!
//! To change the format: raise [`VERSION`]; files of other versions are built anew.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use ltmc_model::Position;
use ltmc_model::recall::EmbedderId;
use ltmc_ports::StoreError;
use ltmc_ports::recall::{IndexId, VectorId};
use sha2::{Digest as _, Sha256};

use crate::error;
use crate::index::{Index, Kind};
use crate::native::Native;

/// The end of a file's name.
pub(crate) const EXTENSION: &str = "index";
/// The end of the name of a file that is being written.
pub(crate) const TEMPORARY: &str = "tmp";

const MAGIC: [u8; 8] = *b"LTMCvec\0";
const VERSION: u32 = 1;
/// Bytes of the head.
const HEAD: usize = 56;
/// Bytes of the checksum.
const SUM: usize = 32;
/// Read at once.
const BUFFER: usize = 1 << 20;

/// Where an index stands in a directory: a directory a tenant, a file an embedder.
pub(crate) fn path(dir: &Path, id: &IndexId) -> PathBuf {
    let EmbedderId { name, dimensions } = &id.embedder;
    let hash = Sha256::new().chain_update(dimensions.to_le_bytes()).chain_update(name).finalize();
    dir.join(id.tenant.as_str()).join(hex::encode(&hash[..16])).with_extension(EXTENSION)
}

/// What a file turned out to be.
pub(crate) enum Read {
    /// An index.
    Whole(Box<Index>, Option<Position>),
    /// There is none.
    Missing,
    /// Not what was written, or by another version.
    Damaged(String),
}

/// Reads a file.
pub(crate) fn read(path: &Path, embedder: &EmbedderId) -> Result<Read, StoreError> {
    const OP: &str = "vectors.load";
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::Missing),
        Err(error) => return Err(error::io(OP, error)),
    };
    let checked = match check(&mut file, embedder).map_err(|error| error::io(OP, error))? {
        Ok(checked) => checked,
        Err(why) => return Ok(Read::Damaged(why)),
    };
    let native = match Native::read(text(OP, path)?) {
        Ok(native) if native.dimensions() == embedder.dimensions => native,
        Ok(_) => return Ok(Read::Damaged("its vectors have another size".into())),
        Err(error) => return Ok(Read::Damaged(error.to_string())),
    };
    match Index::of(checked.kind, native, checked.ids, &checked.alive) {
        Some(index) => Ok(Read::Whole(Box::new(index), checked.stamp)),
        None => Ok(Read::Damaged("its parts do not fit together".into())),
    }
}

/// An index of which FAISS's part is written.
pub(crate) struct Begun {
    path: PathBuf,
    rest: Vec<u8>,
}

/// Writes FAISS's part, beside where it belongs. The index must not change meanwhile; afterwards it may.
pub(crate) fn begin(
    path: &Path,
    embedder: &EmbedderId,
    index: &Index,
    stamp: Option<Position>,
) -> Result<Begun, StoreError> {
    const OP: &str = "vectors.save";
    let temporary = path.with_extension(TEMPORARY);
    let written = (|| {
        if let Some(dir) = path.parent() {
            make_dir(dir)?;
        }
        // Made here rather than by FAISS, so that nobody but its owner reads it.
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(&temporary)
    })();
    drop(written.map_err(|error| error::io(OP, error))?);
    if let Err(error) = index.native().write(text(OP, &temporary)?) {
        let _ = std::fs::remove_file(&temporary);
        // It fails here for want of room, or the disk does not answer.
        return Err(error::io(OP, io::Error::other(error)));
    }
    Ok(Begun { path: path.to_owned(), rest: rest(embedder, index, stamp) })
}

impl Begun {
    /// Writes the rest, and puts the file where it belongs.
    pub(crate) fn finish(mut self) -> Result<(), StoreError> {
        let temporary = self.path.with_extension(TEMPORARY);
        let done = self.append(&temporary).and_then(|()| {
            std::fs::rename(&temporary, &self.path)?;
            sync_dir(&self.path)
        });
        done.map_err(|error| {
            let _ = std::fs::remove_file(&temporary);
            error::io("vectors.save", error)
        })
    }

    fn append(&mut self, temporary: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().read(true).append(true).open(temporary)?;
        let (mut sum, mut buffer, mut length) = (Sha256::new(), vec![0; BUFFER], 0_u64);
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            length += count as u64;
            sum.update(&buffer[..count]);
        }
        self.rest.extend(length.to_le_bytes());
        self.rest.extend(VERSION.to_le_bytes());
        self.rest.extend(0_u32.to_le_bytes());
        self.rest.extend(MAGIC);
        sum.update(&self.rest);
        self.rest.extend(sum.finalize());
        let mut writer = BufWriter::new(&mut file);
        writer.write_all(&self.rest)?;
        writer.flush()?;
        drop(writer);
        file.sync_all()
    }
}

/// Removes an index's file, and what was left of writing it.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    let gone = |path: &Path| match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Err(_) => Ok(false),
        Ok(()) => Ok(true),
    };
    let done = gone(&path.with_extension(TEMPORARY)).and_then(|_| gone(path)).and_then(|was_there| {
        // Before the directory goes, if that was its last file.
        if was_there { sync_dir(path) } else { Ok(()) }
    });
    if let Some(dir) = path.parent() {
        let _ = std::fs::remove_dir(dir);
    }
    done.map_err(|error| error::io("vectors.remove", error))
}

/// Makes a directory, for its owner only.
pub(crate) fn make_dir(dir: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// What a file says of itself, once its checksum was right.
struct Checked {
    kind: Kind,
    stamp: Option<Position>,
    ids: Vec<VectorId>,
    alive: Vec<bool>,
}

/// What follows FAISS's part, up to that part's length.
fn rest(embedder: &EmbedderId, index: &Index, stamp: Option<Position>) -> Vec<u8> {
    let count = index.by_place().len();
    let mut rest = Vec::with_capacity(count * 8 + count / 8 + 1 + embedder.name.len() + HEAD + SUM);
    let mut alive = vec![0_u8; count.div_ceil(8)];
    for (place, (id, lives)) in index.by_place().enumerate() {
        rest.extend(id.to_le_bytes());
        alive[place / 8] |= u8::from(lives) << (place % 8);
    }
    rest.extend(alive);
    rest.extend(embedder.name.as_bytes());
    rest.extend((count as u64).to_le_bytes());
    rest.extend(stamp.unwrap_or_default().0.to_le_bytes());
    rest.extend(embedder.dimensions.to_le_bytes());
    rest.extend((embedder.name.len() as u32).to_le_bytes());
    rest.extend(match index.kind() {
        Kind::Exact => 0_u32.to_le_bytes(),
        Kind::Graph => 1_u32.to_le_bytes(),
    });
    rest.extend(u32::from(stamp.is_some()).to_le_bytes());
    rest
}

/// Reads what follows FAISS's part, and checks everything.
fn check(file: &mut File, embedder: &EmbedderId) -> io::Result<Result<Checked, String>> {
    let length = file.metadata()?.len();
    let Some(end) = length.checked_sub((HEAD + SUM) as u64) else { return Ok(Err("it is too short".into())) };
    let mut head = [0; HEAD + SUM];
    file.seek(SeekFrom::Start(end))?;
    file.read_exact(&mut head)?;
    let four = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let eight = |at: usize| u64::from(four(at)) | u64::from(four(at + 4)) << 32;
    if head[48..56] != MAGIC {
        return Ok(Err("it does not end like an index".into()));
    }
    if four(40) != VERSION {
        return Ok(Err(format!("it is of version {}, this program knows {VERSION}", four(40))));
    }
    let (count, stamp, native, name) = (eight(0), eight(8), eight(32), u64::from(four(20)));
    let parts = [native, count.saturating_mul(8), count.div_ceil(8), name];
    if parts.iter().try_fold(0_u64, |sum, part| sum.checked_add(*part)) != Some(end) {
        return Ok(Err("it has another length than it says".into()));
    }
    if four(16) != embedder.dimensions || name != embedder.name.len() as u64 {
        return Ok(Err("it is of another embedder".into()));
    }

    // The lengths are those of the file, so there is memory for them where there was for the file's index.
    file.seek(SeekFrom::Start(0))?;
    let mut sum = Sha256::new();
    let (mut buffer, mut left) = (vec![0; BUFFER], native);
    while left > 0 {
        let some = usize::try_from(left).unwrap_or(BUFFER).min(BUFFER);
        file.read_exact(&mut buffer[..some])?;
        sum.update(&buffer[..some]);
        left -= some as u64;
    }
    let mut rest = vec![0; usize::try_from(end - native).unwrap_or(usize::MAX)];
    file.read_exact(&mut rest)?;
    sum.update(&rest);
    sum.update(&head[..HEAD]);
    if sum.finalize()[..] != head[HEAD..] {
        return Ok(Err("its checksum is wrong".into()));
    }

    let (ids, rest) = rest.split_at(count as usize * 8);
    let (alive, name) = rest.split_at((count as usize).div_ceil(8));
    if name != embedder.name.as_bytes() {
        return Ok(Err("it is of another embedder".into()));
    }
    let kind = match four(24) {
        0 => Kind::Exact,
        1 => Kind::Graph,
        other => return Ok(Err(format!("it is of the unknown kind {other}"))),
    };
    let id = |bytes: &[u8]| VectorId::from_le_bytes(bytes.try_into().unwrap_or_default());
    Ok(Ok(Checked {
        kind,
        stamp: (four(28) != 0).then_some(Position(stamp)),
        ids: ids.chunks_exact(8).map(id).collect(),
        alive: (0..count as usize).map(|place| alive[place / 8] >> (place % 8) & 1 == 1).collect(),
    }))
}

/// FAISS takes paths as text.
fn text<'a>(op: &'static str, path: &'a Path) -> Result<&'a str, StoreError> {
    path.to_str().ok_or_else(|| error::wrong(op, format!("{} is not UTF-8", path.display())))
}

/// Makes a change of the directory that `path` stands in durable.
fn sync_dir(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
