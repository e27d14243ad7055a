//! The pipeline on AWS, as the services' settings name its parts.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::aws::SdkConfig;
use crate::clock::Clock;
use crate::config::{ConfigError, QueueUrls, Settings};
use crate::message::Lane;
use crate::pipeline::{LaneQueues, Pipeline};
use crate::queue::Sqs;
use crate::registry::{self, Upstream};
use crate::retry::Policy;
use crate::store::S3;

/// How long SQS is asked for more before a queue counts as empty.
const POLL: Duration = Duration::from_secs(1);

/// A message that failed waits so long for its next delivery.
pub const REDELIVERY: Policy = Policy {
    first_wait: Duration::from_secs(30),
    longest_wait: Duration::from_mins(15),
    budget: Duration::MAX,
};

/// A service that can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A variable is missing, or can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no client for upstream.
    #[error(transparent)]
    Upstream(#[from] registry::Error),
}

/// The pipeline of these lanes on SQS and S3.
pub fn pipeline(settings: &Settings, config: &SdkConfig, lanes: &[Lane]) -> Result<Pipeline, ConfigError> {
    let store = S3::new(config, settings.to()?.clone(), settings.s3_endpoint.as_deref());
    let client = aws_sdk_sqs::Client::new(config);
    let lane = |lane: &Lane| {
        let QueueUrls { work, dead_letters } = settings.queues(*lane)?;
        Ok(LaneQueues {
            lane: *lane,
            work: Arc::new(Sqs::new(client.clone(), work)),
            dead_letters: Arc::new(Sqs::new(client.clone(), dead_letters)),
        })
    };
    let lanes = lanes.iter().map(lane).collect::<Result<_, ConfigError>>()?;
    Ok(Pipeline { store: Arc::new(store), clock: Clock::system(), lanes, poll: POLL })
}

/// The client of upstream, and of the taps' catalogues that a selection names.
pub fn upstream(settings: &Settings, catalogues: &[Url]) -> Result<Arc<Upstream>, registry::Error> {
    Ok(Arc::new(Upstream::new(settings.upstream(catalogues))?))
}
