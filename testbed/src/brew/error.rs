//! Why a client gives up.

use std::io;

use thiserror::Error;

/// What a mirror got wrong, as the first thing that a client met.
#[derive(Debug, Error)]
pub enum BrewError {
    /// A file of the API that the client can't do without.
    #[error("the mirror answers {status} to {path}: brew would go to formulae.brew.sh for it")]
    NoApi {
        /// The path.
        path: String,
        /// The status.
        status: u16,
    },
    /// A file of the API that isn't as it was signed, or isn't signed at all.
    #[error("{path} has no valid signature: it has to be mirrored byte for byte")]
    BadSignature {
        /// The path.
        path: String,
    },
    /// A signed file of the API whose payload isn't the look-alike's.
    #[error("{path} is signed, but its payload can't be read: {reason}")]
    BadPayload {
        /// The path.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The API that was read has no bottle of a formula for this client.
    #[error("the API knows no bottle of {formula} for {tag}")]
    NoBottle {
        /// The formula's name.
        formula: String,
        /// The client's tag.
        tag: String,
    },
    /// The image index that an install needs.
    #[error("the mirror answers {status} to the image index of {formula}, {path}")]
    NoIndex {
        /// The formula's name.
        formula: String,
        /// The path.
        path: String,
        /// The status.
        status: u16,
    },
    /// An image index that is none.
    #[error("the image index of {formula} can't be read: {reason}")]
    BadIndex {
        /// The formula's name.
        formula: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An image index that is older or newer than the API's file, or another formula's.
    #[error("the image index of {formula} has no entry {reference} of the bottle {digest}")]
    NoEntry {
        /// The formula's name.
        formula: String,
        /// The digest that the API names.
        digest: String,
        /// The reference name that belongs to it: `pkg_version.tag[.rebuild]`.
        reference: String,
    },
    /// The entry's `sh.brew.tab`, without which nothing is poured.
    #[error("the sh.brew.tab of {formula} can't be used: {reason}")]
    BadTab {
        /// The formula's name.
        formula: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bottle.
    #[error("the mirror answers {status} to the bottle of {formula}, {path}")]
    NoBlob {
        /// The formula's name.
        formula: String,
        /// The path.
        path: String,
        /// The status.
        status: u16,
    },
    /// A bottle of another size than the index says.
    #[error("the bottle of {formula} has {got} bytes; its index says {expected}")]
    WrongLength {
        /// The formula's name.
        formula: String,
        /// The index's `sh.brew.bottle.size`.
        expected: u64,
        /// Bytes that came.
        got: u64,
    },
    /// A bottle with other bytes.
    #[error("the bottle of {formula} should be {expected} and is {got}")]
    WrongDigest {
        /// The formula's name.
        formula: String,
        /// The digest that the API names.
        expected: String,
        /// That of the bytes that came.
        got: String,
    },
    /// No answer, or one that broke off or isn't HTTP.
    #[error("{path} can't be read: {source}")]
    Transport {
        /// The path.
        path: String,
        /// Why.
        source: io::Error,
    },
}
