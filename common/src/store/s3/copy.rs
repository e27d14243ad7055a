//! Copies inside the bucket.

use std::fmt::Write as _;
use std::time::Duration;

use aws_sdk_s3::operation::copy_object::builders::CopyObjectFluentBuilder;
use aws_sdk_s3::types::{ChecksumAlgorithm, MetadataDirective, TaggingDirective};

use crate::aws::Fault;
use crate::bottle::{Digest, ObjectKey};
use crate::retry::Policy;
use crate::store::{Headers, Resumed, StoreError, Version};

use super::S3;
use super::error::{failed, is_absent, is_conflict};

/// A read that breaks off is gone on with for this long: a large bottle's takes minutes.
const READING: Policy = Policy {
    first_wait: Duration::from_millis(100),
    longest_wait: Duration::from_secs(5),
    budget: Duration::from_secs(30),
};

impl S3 {
    /// A copy inside the bucket, with its key's headers and no tags.
    pub(super) fn copying(&self, from: &ObjectKey, to: &ObjectKey) -> CopyObjectFluentBuilder {
        let Headers { content_type, cache_control } = Headers::of(to);
        self.client
            .copy_object()
            .bucket(self.bucket())
            .key(self.full(to))
            .copy_source(encoded(&format!("{}/{}", self.bucket(), self.full(from))))
            .metadata_directive(MetadataDirective::Replace)
            .content_type(content_type)
            .cache_control(cache_control)
            // The source may be tagged to expire; its copy is wanted.
            .tagging_directive(TaggingDirective::Replace)
            // Hashed once more by S3, as a whole, which bottles in parts never were.
            .checksum_algorithm(ChecksumAlgorithm::Sha256)
    }

    /// Sends a copy that must come out as `expected`; `false` if there is nothing to copy.
    pub(super) async fn copied(
        &self,
        request: CopyObjectFluentBuilder,
        from: &ObjectKey,
        expected: Digest,
    ) -> Result<bool, StoreError> {
        let output = match request.send().await {
            Ok(output) => output,
            Err(error) if is_absent(&Fault::of(&error)) => return Ok(false),
            Err(error) if is_conflict(&Fault::of(&error)) => {
                return Err(StoreError::Conflict { key: from.clone() });
            }
            Err(error) => return Err(failed("copy", from.to_string(), &error)),
        };
        let checksum = output.copy_object_result().and_then(|result| result.checksum_sha256());
        if let Some(checksum) = checksum
            && checksum != expected.to_base64()
        {
            // What is stored under the source's key is not what was verified.
            return Err(match Digest::from_base64(checksum) {
                Some(actual) => StoreError::WrongDigest { key: from.clone(), actual },
                None => StoreError::Failed {
                    operation: "copy",
                    key: from.to_string(),
                    cause: "the copy has another checksum than the bottle".to_owned(),
                    transient: false,
                },
            });
        }
        Ok(true)
    }

    /// Reads a bottle of which S3 keeps no checksum of the whole: one that came in parts, or
    /// that somebody else wrote. Which of its states was read, if that is `expected`; `None`
    /// if it is gone.
    pub(super) async fn read_through(
        &self,
        key: &ObjectKey,
        expected: Digest,
    ) -> Result<Option<Version>, StoreError> {
        let Some(mut reader) = Resumed::open(self, key, READING).await? else { return Ok(None) };
        let actual = reader.hash(|_| {}).await?.finish();
        if actual != expected {
            return Err(StoreError::WrongDigest { key: key.clone(), actual });
        }
        match reader.version() {
            Some(version) => Ok(Some(version)),
            None => Err(StoreError::Conflict { key: key.clone() }),
        }
    }
}

/// A key as a header's URL has it: everything but unreserved characters and
/// slashes escaped.
fn encoded(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a text can't fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copys_source_is_escaped() {
        assert_eq!(encoded("b/v2/x/blobs/sha256:0a+é"), "b/v2/x/blobs/sha256%3A0a%2B%C3%A9");
    }
}
