//! What becomes of files that are missing, cut, changed or of another version; and what is in them.

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ltmc_faiss::{FaissVectors, Kind};
use ltmc_model::Position;
use ltmc_ports::recall::IndexId;
use ltmc_ports::testing::suite::vectors::place;
use ltmc_ports::{Kind as Failure, Vectors as _};
use sha2::{Digest as _, Sha256};

use common::{Clusters, Place};

const DIMENSIONS: u32 = 12;

async fn saved(at: &Place, index: &IndexId, count: i64) -> Vec<u8> {
    let store = at.open(u64::MAX);
    store.reset(index).await.unwrap();
    let add = Clusters::new(1, 10, DIMENSIONS, 0.3).some(1..count + 1);
    store.change(index, &add, &[1], Position(5)).await.unwrap();
    store.settle().await;
    store.save().await.unwrap();
    let [file] = &at.files()[..] else { panic!("one file, not {:?}", at.files()) };
    assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    std::fs::read(file).unwrap()
}

/// It is said to be unusable, can be built anew, and is then saved over what was there.
async fn refused(at: &Place, index: &IndexId, what: &str) {
    let store = at.open(u64::MAX);
    assert_eq!(store.stamp(index).await.unwrap(), None, "{what}");
    let asked = Clusters::new(2, 1, DIMENSIONS, 0.3).vector();
    let failure = |result: Result<_, ltmc_ports::StoreError>| result.err().map(|error| error.kind);
    assert_eq!(failure(store.search(index, &asked, 3, None).await.map(drop)), Some(Failure::Corrupt), "{what}");
    assert_eq!(failure(store.ids(index).await.map(drop)), Some(Failure::Corrupt), "{what}");
    assert_eq!(failure(store.change(index, &[], &[], Position(9)).await), Some(Failure::Corrupt), "{what}");
    store.reset(index).await.unwrap();
    store.change(index, &[(3, asked.clone())], &[], Position(6)).await.unwrap();
    store.save().await.unwrap();
    let store = at.open(u64::MAX);
    assert_eq!(store.stamp(index).await.unwrap(), Some(Position(6)), "{what}");
    assert_eq!(store.search(index, &asked, 3, None).await.unwrap()[0].id, 3, "{what}");
}

fn only(at: &Place) -> std::path::PathBuf {
    at.files().pop().unwrap()
}

#[tokio::test]
async fn a_file_cut_anywhere_is_refused() {
    let (at, index) = (Place::default(), place("acme", "m", DIMENSIONS));
    let whole = saved(&at, &index, 200).await;
    let path = only(&at);
    let ends = [0, 1, 31, 32, 87, 88, 89, whole.len() / 2, whole.len() - 88, whole.len() - 32, whole.len() - 1];
    for end in ends {
        std::fs::write(&path, &whole[..end]).unwrap();
        refused(&at, &index, &format!("cut after {end} of {} bytes", whole.len())).await;
    }
    std::fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
    refused(&at, &index, "a byte longer").await;
    std::fs::remove_file(&path).unwrap();
    refused(&at, &index, "missing").await;
}

#[tokio::test]
async fn a_flipped_bit_anywhere_is_refused() {
    for (count, kind) in [(150, Kind::Exact), (ltmc_faiss::CROSSOVER as i64 + 100, Kind::Graph)] {
        let (at, index) = (Place::default(), place("acme", "m", DIMENSIONS));
        let whole = saved(&at, &index, count).await;
        assert_eq!(at.open(u64::MAX).kind(&index).await.unwrap(), Some(kind));
        let path = only(&at);
        // All of the head, and some of every part before it.
        let step = whole.len() / 30;
        let places = (0..30).map(|part| part * step).chain(whole.len() - 100..whole.len());
        for (number, byte) in places.enumerate() {
            let mut flipped = whole.clone();
            flipped[byte] ^= 1 << (number % 8);
            std::fs::write(&path, &flipped).unwrap();
            let store = at.open(u64::MAX);
            assert_eq!(store.stamp(&index).await.unwrap(), None, "byte {byte} of {}", whole.len());
        }
        refused(&at, &index, "a flipped bit").await;
    }
}

#[tokio::test]
async fn another_version_embedder_or_kind_is_refused_though_the_checksum_is_right() {
    let (at, index) = (Place::default(), place("acme", "m", DIMENSIONS));
    let whole = saved(&at, &index, 50).await;
    let path = only(&at);
    let head = whole.len() - 32 - 56;
    let changes: [(&str, usize, u8); 6] = [
        ("version", head + 40, 9),
        ("kind", head + 24, 7),
        ("the other kind", head + 24, 1),
        ("dimensions", head + 16, 13),
        ("embedder", head - 1, b'n'),
        ("a dead place in an exact index", head - 2, 0),
    ];
    for (what, byte, value) in changes {
        let mut other = whole.clone();
        other[byte] = value;
        sign(&mut other);
        write(&path, &other);
        refused(&at, &index, what).await;
    }
    // Another tenant's or embedder's file, put in this one's place.
    let other = place("acme", "other", DIMENSIONS);
    write(&path, &whole);
    let store = at.open(u64::MAX);
    store.reset(&other).await.unwrap();
    store.change(&other, &[], &[], Position(1)).await.unwrap();
    store.save().await.unwrap();
    let at_other = at.files().into_iter().find(|file| *file != path).unwrap();
    write(&at_other, &whole);
    assert_eq!(at.open(u64::MAX).stamp(&other).await.unwrap(), None);
}

/// Numbers that would make somebody take all the memory there is.
#[tokio::test]
async fn absurd_lengths_are_refused() {
    let (at, index) = (Place::default(), place("acme", "m", DIMENSIONS));
    let whole = saved(&at, &index, 50).await;
    let path = only(&at);
    let head = whole.len() - 32 - 56;
    for (at_byte, length) in [(head, 8), (head + 20, 4), (head + 32, 8)] {
        for value in [u64::MAX, u64::MAX / 8, 1 << 31, 0] {
            let mut other = whole.clone();
            other[at_byte..at_byte + length].copy_from_slice(&value.to_le_bytes()[..length]);
            sign(&mut other);
            write(&path, &other);
            refused(&at, &index, &format!("{value} at {at_byte}")).await;
        }
    }
}

#[tokio::test]
async fn a_directory_in_the_way_is_said_and_nothing_is_thought_damaged() {
    let (at, index) = (Place::default(), place("acme", "m", DIMENSIONS));
    saved(&at, &index, 50).await;
    let path = only(&at);
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let store = at.open(u64::MAX);
    assert_eq!(store.stamp(&index).await.unwrap_err().kind, Failure::Unavailable);
    std::fs::remove_dir(&path).unwrap();
    assert_eq!(store.stamp(&index).await.unwrap(), None, "it is asked again");
}

#[tokio::test]
async fn what_a_dying_host_left_half_written_is_swept_up() {
    let (at, index) = (Place::default(), place("acme", "m", DIMENSIONS));
    saved(&at, &index, 50).await;
    let half = only(&at).with_extension("tmp");
    std::fs::write(&half, b"half").unwrap();
    let store: FaissVectors = at.open(u64::MAX);
    assert!(!half.exists());
    assert_eq!(store.stamp(&index).await.unwrap(), Some(Position(5)));
}

#[tokio::test]
async fn a_save_that_fails_loses_nothing() {
    let (at, index) = (Place::default(), place("acme", "m", DIMENSIONS));
    saved(&at, &index, 50).await;
    let store = at.open(u64::MAX);
    store.change(&index, &[], &[2], Position(6)).await.unwrap();
    let half = only(&at).with_extension("tmp");
    std::fs::create_dir(&half).unwrap();
    assert!(store.save().await.is_err());
    assert_eq!(store.stamp(&index).await.unwrap(), Some(Position(6)));
    std::fs::remove_dir(&half).unwrap();
    store.save().await.unwrap();
    assert_eq!(at.open(u64::MAX).stamp(&index).await.unwrap(), Some(Position(6)));
}

#[tokio::test]
async fn a_dropped_tenant_leaves_no_directory() {
    let (at, index) = (Place::default(), place("acme", "m", DIMENSIONS));
    saved(&at, &index, 50).await;
    let dir = only(&at).parent().unwrap().to_owned();
    at.open(u64::MAX).drop_index(&index).await.unwrap();
    assert!(!dir.exists());
}

fn sign(file: &mut [u8]) {
    let end = file.len() - 32;
    let sum = Sha256::digest(&file[..end]);
    file[end..].copy_from_slice(&sum);
}

/// Also where a test before has removed the directory.
fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}
