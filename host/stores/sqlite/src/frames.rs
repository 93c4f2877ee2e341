//! Entries as the journal keeps them: one after the other, each as its length (4 bytes, little-endian), its hash in the
//! tenant's chain (32 bytes), and its own bytes.

use ltmc_model::chain::Link;

const HEAD: usize = 4 + 32;

/// Adds one.
pub(crate) fn push(frames: &mut Vec<u8>, link: Link, entry: &[u8]) {
    let length = u32::try_from(entry.len()).unwrap_or(u32::MAX);
    frames.extend_from_slice(&length.to_le_bytes());
    frames.extend_from_slice(&link.0);
    frames.extend_from_slice(entry);
}

/// Reads them in order. An error: they do not end where they should.
pub(crate) fn read(mut frames: &[u8]) -> impl Iterator<Item = Result<(Link, &[u8]), Cut>> {
    std::iter::from_fn(move || {
        if frames.is_empty() {
            return None;
        }
        let next = split(frames);
        frames = next.as_ref().map_or(&[], |(_, _, rest)| rest);
        Some(next.map(|(link, entry, _)| (link, entry)))
    })
}

/// The bytes end in the middle of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the entries do not end where they should")]
pub(crate) struct Cut;

fn split(frames: &[u8]) -> Result<(Link, &[u8], &[u8]), Cut> {
    let (head, rest) = frames.split_at_checked(HEAD).ok_or(Cut)?;
    let (length, link) = head.split_at(4);
    let length = u32::from_le_bytes(length.try_into().map_err(|_| Cut)?);
    let (entry, rest) = rest.split_at_checked(usize::try_from(length).map_err(|_| Cut)?).ok_or(Cut)?;
    Ok((Link(link.try_into().map_err(|_| Cut)?), entry, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_read_back_and_a_cut_is_seen() {
        let mut frames = Vec::new();
        push(&mut frames, Link([1; 32]), b"one");
        push(&mut frames, Link([2; 32]), b"");
        let all: Vec<_> = read(&frames).map(Result::unwrap).collect();
        assert_eq!(all, [(Link([1; 32]), &b"one"[..]), (Link([2; 32]), &b""[..])]);
        for cut in 1..frames.len() {
            if cut != HEAD + 3 {
                assert!(read(&frames[..cut]).any(|frame| frame.is_err()), "{cut}");
            }
        }
    }
}
