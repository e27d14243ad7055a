//! What an error of S3 means for the one who asked.

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::aws::Fault;
use crate::store::StoreError;

/// Whether the object is not there. A HEAD has no body to say why, and S3
/// answers 403 instead where the caller may not list the bucket: that is no
/// absence, but a permission that is missing.
pub(super) fn is_absent(fault: &Fault) -> bool {
    fault.status == 404 && fault.code != "NoSuchBucket" && fault.code != "NoSuchUpload"
}

/// Whether a condition did not hold: 412; 409 while another write of the same
/// key goes on; 404 where what should match is gone.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html>
pub(super) fn is_conflict(fault: &Fault) -> bool {
    fault.code == "PreconditionFailed"
        || fault.code == "ConditionalRequestConflict"
        || fault.status == 412
        || (fault.status == 404 && fault.code == "NoSuchKey")
}

pub(super) fn failed<E>(operation: &'static str, key: String, error: &SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let fault = Fault::of(error);
    let transient = !fault.is_lasting();
    let cause = match (fault.status, fault.code.as_str()) {
        (403, "" | "AccessDenied" | "AllAccessDisabled") => format!(
            "{}: the credentials lack a permission on the bucket (reading needs s3:GetObject and s3:ListBucket, \
             writing s3:PutObject)",
            fault.text
        ),
        (_, "NoSuchBucket") => format!("{}: make the bucket, or name another", fault.text),
        (
            301 | 307 | 400,
            "PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException",
        ) => {
            format!("{}: the bucket is in another region; set AWS_REGION to it", fault.text)
        }
        _ => fault.text,
    };
    StoreError::Failed { operation, key, cause, transient }
}
