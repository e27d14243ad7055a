//! The sha256 of a bottle's bytes: its identity everywhere.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use super::{InvalidName, serde_as_text};

/// A sha256, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The raw 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As S3's `x-amz-checksum-sha256` has it.
    pub fn to_base64(&self) -> String {
        BASE64_STANDARD.encode(self.0)
    }

    /// A digest as S3 tells it; `None` if it is none.
    pub fn from_base64(text: &str) -> Option<Self> {
        BASE64_STANDARD.decode(text).ok()?.try_into().map(Self).ok()
    }
}

impl FromStr for Digest {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let refuse = || InvalidName::new("digest", text, "it takes 64 lower-case hexadecimal digits");
        // A key holds the digest as text, so two spellings would be two keys.
        if text.len() != 64 || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(refuse());
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| refuse())?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 64];
        hex::encode_to_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

serde_as_text!(Digest);

/// Hashes a bottle's bytes, in order, as they arrive.
#[derive(Default, Clone)]
pub struct Hasher {
    state: Sha256,
    length: u64,
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.length += bytes.len() as u64;
    }

    /// Ends the stream: what it hashed to, which proves nothing.
    pub fn finish(self) -> Digest {
        Digest(self.state.finalize().into())
    }

    /// Ends the stream: proof that it hashed to `expected`, or what it hashed to.
    pub fn verify(self, expected: Digest) -> Result<Verified, DigestMismatch> {
        let actual = Digest(self.state.finalize().into());
        if actual == expected {
            Ok(Verified { digest: actual, length: self.length })
        } else {
            Err(DigestMismatch { expected, actual })
        }
    }
}

/// Proof that a stream of bytes hashed to a digest.
///
/// Only [`Hasher::verify`] makes one, and a multipart upload can't be completed
/// without one: that is how a bottle stays invisible until it is verified.
#[derive(Debug)]
pub struct Verified {
    digest: Digest,
    length: u64,
}

impl Verified {
    /// What the bytes hashed to.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many bytes were hashed.
    pub fn length(&self) -> u64 {
        self.length
    }
}

/// Gathers a whole bottle in memory, and hashes it as it arrives.
pub struct Collector {
    hasher: Hasher,
    bytes: BytesMut,
}

impl Collector {
    /// A collector with room for `size` bytes.
    pub fn with_capacity(size: usize) -> Self {
        Self { hasher: Hasher::new(), bytes: BytesMut::with_capacity(size) }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.bytes.extend_from_slice(bytes);
    }

    /// How many bytes came so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing came yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Ends the bottle: its bytes if they hashed to `expected`.
    pub fn verify(self, expected: Digest) -> Result<VerifiedBytes, DigestMismatch> {
        let proof = self.hasher.verify(expected)?;
        Ok(VerifiedBytes { bytes: self.bytes.freeze(), digest: proof.digest })
    }
}

/// A whole bottle that is known to hash to its digest; only [`Collector`] makes one.
#[derive(Debug, Clone)]
pub struct VerifiedBytes {
    bytes: Bytes,
    digest: Digest,
}

impl VerifiedBytes {
    /// What the bytes hash to.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The bytes.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}

/// Bytes that are not the bottle they were said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes hash to {actual}, not to {expected}")]
pub struct DigestMismatch {
    /// The digest that the catalogue names.
    pub expected: Digest,
    /// The digest of what came.
    pub actual: Digest,
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_reads_back_as_it_was_written() {
        let digest = Digest::of(b"");
        assert_eq!(digest.to_string(), EMPTY);
        assert_eq!(EMPTY.parse(), Ok(digest));
    }

    #[test]
    fn a_malformed_digest_is_refused() {
        for text in
            ["", "abc", &EMPTY[1..], &EMPTY.to_uppercase(), &format!("{EMPTY}0"), &EMPTY.replace('e', "g")]
        {
            assert!(text.parse::<Digest>().is_err(), "{text:?} was taken");
        }
    }

    #[test]
    fn only_the_right_bytes_are_verified() {
        let mut hasher = Hasher::new();
        hasher.update(b"bot");
        hasher.update(b"tle");
        let proof = hasher.verify(Digest::of(b"bottle")).unwrap();
        assert_eq!(proof.length(), 6);
        assert!(Hasher::new().verify(Digest::of(b"bottle")).is_err());
        assert_eq!(Hasher::new().finish(), Digest::of(b""));
    }
}
