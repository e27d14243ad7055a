//! What all clients of AWS share: where the settings come from, how patient
//! they are, and how an error of theirs is told.

use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

pub use aws_config::SdkConfig;

/// Requests are tried this often in all, by the SDK itself; what fails longer is
/// the caller's to decide on.
pub(crate) const ATTEMPTS: u32 = 5;

/// Longer than SQS's longest poll of 20 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// One part of 8 MiB takes no longer on any link that is worth using.
const ATTEMPT_WITHIN: Duration = Duration::from_mins(2);

/// The environment's region, credentials and endpoints, as every AWS tool takes them.
pub async fn load() -> SdkConfig {
    patient().load().await
}

/// How patient all clients are.
fn patient() -> ConfigLoader {
    // Pinned: what a later version does differently is decided on, not met.
    let behaviour = BehaviorVersion::v2026_01_12();
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(5))
        .read_timeout(ANSWER_WITHIN)
        .operation_attempt_timeout(ATTEMPT_WITHIN)
        .build();
    aws_config::defaults(behaviour)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .timeout_config(timeouts)
}

/// The same patience, with a stand-in for all services.
#[cfg(test)]
pub(crate) async fn patient_with(endpoint: &str) -> SdkConfig {
    use aws_sdk_s3::config::{Credentials, Region};
    let loader = patient().endpoint_url(endpoint).region(Region::from_static("us-east-1"));
    loader.credentials_provider(Credentials::new("test", "test", None, None, "tests")).load().await
}

/// What went wrong in a request to AWS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The service's own word, such as `AccessDenied`; empty if it said none.
    pub code: String,
    /// The HTTP status; zero if there was no answer.
    pub status: u16,
    /// In a sentence, with the request's id.
    pub text: String,
}

impl Fault {
    /// Reads an error of any SDK client.
    pub fn of<E>(error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let status = error.raw_response().map_or(0, |response| response.status().as_u16());
        let code = error.code().unwrap_or_default().to_owned();
        let text = match error {
            SdkError::ServiceError(context) => {
                let error = context.err();
                let request = error.meta().extra("aws_request_id");
                let said = error.message().filter(|message| !message.is_empty());
                let mut text = match (code.as_str(), said) {
                    ("", None) => format!("it answered {status}"),
                    ("", Some(message)) => message.to_owned(),
                    (code, None) => code.to_owned(),
                    (code, Some(message)) => format!("{code}: {message}"),
                };
                if let Some(request) = request {
                    text = format!("{text} (request {request})");
                }
                text
            }
            other => chain(other),
        };
        Self { code, status, text }
    }

    /// Whether nothing here will succeed until someone mends a permission, a
    /// name or a region; everything else may pass.
    pub fn is_lasting(&self) -> bool {
        matches!(self.status, 301 | 307 | 401 | 403)
            || matches!(
                self.code.as_str(),
                "AuthorizationHeaderMalformed"
                    | "IllegalLocationConstraintException"
                    | "InvalidBucketName"
                    | "NoSuchBucket"
                    | "QueueDoesNotExist"
            )
    }
}

/// An error and what led to it; the SDK's own `Display` says next to nothing.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        // Wrappers often repeat what they wrap.
        if texts.last().is_none_or(|last| !last.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    texts.join(": ")
}
