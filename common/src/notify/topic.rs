//! The SNS topic whose subscribers get notices by e-mail.

use aws_sdk_sns::Client;
use aws_sdk_sns::types::MessageAttributeValue;

use crate::aws::Fault;

use super::Mail;

/// The value of the message attribute `source`: CloudWatch sends its alarms to
/// the same topic, and whoever relays those must not relay ours too.
pub const SOURCE: &str = "bottles";

/// One topic. Cheap to clone.
#[derive(Clone)]
pub struct Topic {
    client: Client,
    arn: String,
}

/// A notice that could not be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the topic {topic} takes no notice: {cause}")]
pub struct TopicError {
    /// The topic's name.
    pub topic: String,
    /// What the service or the connection said.
    pub cause: String,
}

impl Topic {
    /// The topic with this ARN.
    pub fn new(client: Client, arn: String) -> Self {
        Self { client, arn }
    }

    /// Publishes an e-mail. Failed requests are tried again by the client itself.
    pub async fn publish(&self, mail: &Mail) -> Result<(), TopicError> {
        let source = MessageAttributeValue::builder().data_type("String").string_value(SOURCE).build();
        let source = source.map_err(|error| self.error(error.to_string()))?;
        self.client
            .publish()
            .topic_arn(&self.arn)
            .subject(&mail.subject)
            .message(&mail.body)
            .message_attributes("source", source)
            .send()
            .await
            .map_err(|error| self.error(Fault::of(&error).text))?;
        Ok(())
    }

    pub(super) fn too_slow(&self) -> TopicError {
        self.error("it did not answer in time".to_owned())
    }

    fn error(&self, cause: String) -> TopicError {
        let topic = self.arn.rsplit(':').next().unwrap_or_default().to_owned();
        TopicError { topic, cause }
    }
}
