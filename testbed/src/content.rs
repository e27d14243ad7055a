//! The bytes of bottles, computed at any offset without a copy.
//!
//! A bottle is a row of blocks. Each block opens with a 32-byte header that depends
//! on the seed, the content id, the size and the block's number, and goes on with a
//! slice of one shared pseudo-random base, taken at an offset that depends on the
//! same. So two bottles differ in every block, yet nearly everything that is sent is
//! a reference into the base.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::random::{mix, mix_all};
use crate::sync::lock;

/// Bytes of a block, and so the largest piece handed to a socket at once.
const BLOCK: u64 = 256 * 1024;
const HEADER: u64 = 32;
/// Small enough to stay in a processor's cache.
const BASE: u64 = 1024 * 1024;

/// A SHA-256 digest.
pub(crate) type Digest = [u8; 32];

/// Which bytes: bottles with equal fields have equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Content {
    pub(crate) size: u64,
    pub(crate) id: u64,
}

/// Computes the bytes of every bottle of one seed.
#[derive(Debug)]
pub(crate) struct Generator {
    seed: u64,
    base: Bytes,
}

impl Generator {
    pub(crate) fn new(seed: u64) -> Self {
        let base: Vec<u8> = (0..BASE / 8).flat_map(|word| mix(mix(seed) ^ word).to_le_bytes()).collect();
        Self { seed, base: base.into() }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// The bytes from `at` up to `end` or the end of a block's part, whichever comes
    /// first; empty only if `at >= end`. `end` is at most the content's size.
    pub(crate) fn piece(&self, content: Content, at: u64, end: u64) -> Bytes {
        if at >= end {
            return Bytes::new();
        }
        let (block, within) = (at / BLOCK, at % BLOCK);
        let key = mix_all(&[self.seed, content.id, content.size, block]);
        let left = end - at;
        if within < HEADER {
            let header: Vec<u8> = (0..HEADER / 8).flat_map(|word| mix(key ^ word).to_le_bytes()).collect();
            Bytes::from(header).slice(index(within)..index(HEADER.min(within + left)))
        } else {
            // Offsets are multiples of 64 so that copies stay aligned.
            let from = (key % (BASE - BLOCK)) / 64 * 64 + within;
            self.base.slice(index(from)..index(from + left.min(BLOCK - within)))
        }
    }

    /// All the bytes of one content.
    pub(crate) fn whole(&self, content: Content) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(index(content.size));
        self.each(content, |piece| bytes.extend_from_slice(piece));
        bytes
    }

    /// The digests of `contents`, in their order, worked out on every core.
    pub(crate) fn digests(&self, contents: &[Content]) -> Vec<Digest> {
        let next = AtomicUsize::new(0);
        let done = Mutex::new(vec![[0; 32]; contents.len()]);
        let work = || {
            let mut own = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(content) = contents.get(at) else { break };
                own.push((at, self.digest(*content)));
            }
            let mut done = lock(&done);
            for (at, digest) in own {
                done[at] = digest;
            }
        };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(contents.len());
        thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(work);
            }
            work();
        });
        done.into_inner().unwrap_or_default()
    }

    fn digest(&self, content: Content) -> Digest {
        let mut hash = Sha256::new();
        self.each(content, |piece| hash.update(piece));
        hash.finalize().into()
    }

    fn each(&self, content: Content, mut visit: impl FnMut(&[u8])) {
        let mut at = 0;
        while at < content.size {
            let piece = self.piece(content, at, content.size);
            visit(&piece);
            at += piece.len() as u64;
        }
    }
}

/// An offset as an index. Saturates, so that one too large for memory fails where it
/// is used.
pub(crate) fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGE: Content = Content { size: 3 * BLOCK + 1234, id: 9 };

    #[test]
    fn bytes_at_an_offset_are_those_of_the_whole() {
        let generator = Generator::new(1);
        let whole = generator.whole(LARGE);
        assert_eq!(whole.len() as u64, LARGE.size);
        for at in [0, 1, 31, 32, 33, BLOCK - 1, BLOCK, BLOCK + 5, 3 * BLOCK + 1233] {
            let piece = generator.piece(LARGE, at, LARGE.size);
            assert!(!piece.is_empty());
            assert_eq!(piece, whole[index(at)..index(at) + piece.len()], "at {at}");
            assert_eq!(generator.piece(LARGE, at, at + 1), whole[index(at)..=index(at)]);
        }
        assert!(generator.piece(LARGE, LARGE.size, LARGE.size).is_empty());
    }

    #[test]
    fn content_size_and_seed_each_change_the_bytes() {
        let one = Generator::new(1);
        let content = Content { size: 5000, id: 1 };
        let digest = one.digest(content);
        assert_eq!(digest, Generator::new(1).digest(content));
        assert_ne!(digest, Generator::new(2).digest(content));
        assert_ne!(digest, one.digest(Content { id: 2, ..content }));
        assert_ne!(one.whole(content), one.whole(Content { size: 5001, ..content })[..5000]);
    }

    #[test]
    fn digests_keep_the_order_of_the_contents() {
        let generator = Generator::new(3);
        let contents: Vec<_> = (0..50).map(|id| Content { size: id * 40, id }).collect();
        let expected: Vec<_> = contents.iter().map(|content| generator.digest(*content)).collect();
        assert_eq!(generator.digests(&contents), expected);
        assert!(generator.digests(&[]).is_empty());
    }
}
