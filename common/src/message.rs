//! What travels on the queues: one message, one bottle.

use serde::{Deserialize, Serialize};
use url::Url;

use crate::bottle::{BottleTag, Digest, FormulaName, ImagePath, ImageTag, ObjectKey, Origin};
use crate::queue::Outgoing;
use crate::run::RunId;

/// The version of the format that this code writes, and the only one it reads.
pub const VERSION: u32 = 1;

/// Which of the two queues a bottle goes to, by its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lane {
    /// Up to the size threshold.
    Small,
    /// Above it.
    Large,
}

impl Lane {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Small, Self::Large];

    /// `small` or `large`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Large => "large",
        }
    }
}

impl std::fmt::Display for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One bottle to be mirrored.
///
/// Its key follows from `image` and `digest`, and so does its URL where a registry
/// has it, so that they can't contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The run that queued it.
    pub run: RunId,
    /// The formula.
    pub formula: FormulaName,
    /// The registry.
    pub origin: Origin,
    /// The formula's repository there.
    pub image: ImagePath,
    /// The tag of the image index that names the bottle.
    pub image_tag: ImageTag,
    /// The bottle tags that the digest stands under.
    pub tags: Vec<BottleTag>,
    /// The bottle's digest.
    pub digest: Digest,
    /// Its size in bytes, from the image index or a HEAD.
    pub size: u64,
    /// Another key of the mirror that holds the same bottle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_from: Option<ObjectKey>,
    /// The file's URL where the bottle is no blob of a registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Url>,
    /// Whether what is under the key is known to be damaged, and is replaced
    /// whatever it looks like.
    #[serde(default, skip_serializing_if = "is_false")]
    pub replace: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// A body that is no message of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It can't be read.
    #[error("the message can't be read: {0}")]
    Malformed(String),
    /// It was written by another version of this system.
    #[error("the message has version {0}; this consumer reads version {VERSION}")]
    UnknownVersion(u64),
}

impl Message {
    /// Reads a message's body.
    pub fn parse(body: &str) -> Result<Self, MessageError> {
        #[derive(Deserialize)]
        struct AnyVersion {
            version: u64,
        }
        // The version first: what follows it may mean something else there.
        let malformed = |error: serde_json::Error| MessageError::Malformed(error.to_string());
        let AnyVersion { version } = serde_json::from_str(body).map_err(malformed)?;
        if version != u64::from(VERSION) {
            return Err(MessageError::UnknownVersion(version));
        }
        let message: Self = serde_json::from_str(body).map_err(malformed)?;
        if message.size == 0 {
            return Err(MessageError::Malformed("its size is zero".to_owned()));
        }
        Ok(message)
    }

    /// The message as a queue takes it.
    pub fn to_outgoing(&self) -> Outgoing {
        #[derive(Serialize)]
        struct Versioned<'a> {
            version: u32,
            #[serde(flatten)]
            message: &'a Message,
        }
        Outgoing::new(
            serde_json::to_string(&Versioned { version: VERSION, message: self }).unwrap_or_default(),
        )
    }

    /// Where the bottle goes.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::blob(&self.image, &self.digest)
    }

    /// Where the bottle comes from.
    pub fn url(&self) -> Result<Url, url::ParseError> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        Url::parse(&self.image.blob_url(&self.origin, &self.digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn message() -> Message {
        Message {
            run: "20260101T000000Z-abcd".parse().unwrap(),
            formula: "openssl@3".parse().unwrap(),
            origin: "https://ghcr.io".parse().unwrap(),
            image: "v2/homebrew/core/openssl/3".parse().unwrap(),
            image_tag: "3.6.0_1".parse().unwrap(),
            tags: vec!["arm64_tahoe".parse().unwrap()],
            digest: Digest::of(b"bottle"),
            size: 6,
            copy_from: None,
            file: None,
            replace: false,
        }
    }

    #[test]
    fn a_message_reads_back_as_it_was_written() {
        let message = message();
        assert_eq!(Message::parse(&message.to_outgoing().body), Ok(message.clone()));
        let digest = Digest::of(b"bottle");
        assert_eq!(
            message.url().unwrap().as_str(),
            format!("https://ghcr.io/v2/homebrew/core/openssl/3/blobs/sha256:{digest}")
        );
    }

    #[test]
    fn a_malformed_message_says_what_is_wrong() {
        let good = message().to_outgoing().body;
        for body in [
            String::new(),
            "{}".to_owned(),
            "[]".to_owned(),
            good.replace("\"size\":6", "\"size\":0"),
            good.replace("\"size\":6", "\"size\":-1"),
            good.replace("v2/homebrew/core/openssl/3", "v2/../../etc"),
            good.replace("https://ghcr.io", "file:///"),
            good.replace("arm64_tahoe", "../x"),
            good[..good.len() - 5].to_owned(),
        ] {
            assert!(matches!(Message::parse(&body), Err(MessageError::Malformed(_))), "{body:?} was taken");
        }
        let newer = good.replace("\"version\":1", "\"version\":2");
        assert_eq!(Message::parse(&newer), Err(MessageError::UnknownVersion(2)));
    }
}
