//! A deployed system: its names, and the pipeline on its queues and bucket.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_lambda::primitives::Blob;
use common::aws::Fault;
use common::clock::{Clock, Grace};
use common::ecs::EcsService;
use common::invocation::Event;
use common::message::Lane;
use common::pipeline::{LaneQueues, Pipeline};
use common::queue::Sqs;
use common::settle::SettleReport;
use common::store::S3;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::args::{FunctionOption, PlaceOptions, QueueOptions, ServiceOptions, StackOption, TargetOptions};
use crate::destination::Destination;
use crate::output::Usage;
use crate::place::{self, Local};

/// What a verb that looks at a mirror works on.
pub(crate) struct Target {
    pub(crate) pipeline: Pipeline,
    /// The options that name it, for the commands that are suggested.
    pub(crate) named: String,
    /// The service of the large queue, where there is one.
    pub(crate) ecs: Option<EcsService>,
    /// Whether the system works by itself, so that nobody needs to call sync.
    pub(crate) is_deployed: bool,
    /// How long what upstream dropped is kept.
    pub(crate) expire_after: Grace,
    /// Where the queues are, if they are a copy that is gone when this is.
    _copy: Option<TempDir>,
}

impl Target {
    /// Settles, as a mirror with embedded queues has it done by whoever works on it.
    pub(crate) async fn settle(&self) -> anyhow::Result<SettleReport> {
        Ok(self.pipeline.settler(place::settle_settings(self.expire_after)).settle().await?)
    }
}

/// The parts of a deployed system. They are kept in the parameter
/// `/bottles/NAME`, under the services' variables' names without their prefix.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Parts {
    to: Option<String>,
    small_queue: Option<String>,
    small_dead_letters: Option<String>,
    large_queue: Option<String>,
    large_dead_letters: Option<String>,
    producer: Option<String>,
    ecs_cluster: Option<String>,
    ecs_service: Option<String>,
    expire_after: Option<String>,
}

/// A deployed system as the options name it: by its name, by its parts, or both,
/// and then the parts win.
pub(crate) struct Named {
    stack: Option<String>,
    parts: Parts,
}

/// A plan takes as long as its function may run, which is 15 minutes at most.
const ANSWER_WITHIN: Duration = Duration::from_mins(16);

/// How long SQS is asked for more before a queue counts as empty.
const POLL: Duration = Duration::from_secs(1);

impl Named {
    pub(crate) fn new(stack: &StackOption) -> Self {
        Self { stack: stack.stack.clone(), parts: Parts::default() }
    }

    /// What a verb that looks at a mirror is given.
    pub(crate) fn of(options: &TargetOptions) -> Self {
        Self::new(&options.stack).with_queues(&options.queues)
    }

    pub(crate) fn with_function(mut self, options: &FunctionOption) -> Self {
        self.parts.producer.clone_from(&options.producer);
        self
    }

    fn with_queues(mut self, options: &QueueOptions) -> Self {
        self.parts.small_queue.clone_from(&options.small_queue);
        self.parts.small_dead_letters.clone_from(&options.small_dead_letters);
        self.parts.large_queue.clone_from(&options.large_queue);
        self.parts.large_dead_letters.clone_from(&options.large_dead_letters);
        self
    }

    pub(crate) fn with_service(mut self, options: &ServiceOptions) -> Self {
        self.parts.ecs_cluster.clone_from(&options.ecs_cluster);
        self.parts.ecs_service.clone_from(&options.ecs_service);
        self
    }

    /// Whether a deployed system is meant at all.
    pub(crate) fn is_meant(&self) -> bool {
        self.stack.is_some() || self.parts != Parts::default()
    }

    /// All parts that are known.
    async fn find(&self, config: &common::aws::SdkConfig) -> anyhow::Result<Parts> {
        let Some(name) = &self.stack else { return Ok(self.parts.clone()) };
        let found = Parts::of_stack(config, name).await?;
        let Parts {
            to,
            small_queue,
            small_dead_letters,
            large_queue,
            large_dead_letters,
            producer,
            ecs_cluster,
            ecs_service,
            expire_after,
        } = self.parts.clone();
        Ok(Parts {
            to: to.or(found.to),
            small_queue: small_queue.or(found.small_queue),
            small_dead_letters: small_dead_letters.or(found.small_dead_letters),
            large_queue: large_queue.or(found.large_queue),
            large_dead_letters: large_dead_letters.or(found.large_dead_letters),
            producer: producer.or(found.producer),
            ecs_cluster: ecs_cluster.or(found.ecs_cluster),
            ecs_service: ecs_service.or(found.ecs_service),
            expire_after: expire_after.or(found.expire_after),
        })
    }
}

/// Opens what the options name: a deployed system, or a mirror with embedded queues.
pub(crate) async fn open(place: &PlaceOptions, named: Named) -> anyhow::Result<Target> {
    if named.is_meant() {
        return open_deployed(place, named).await;
    }
    let to = local(place)?;
    Ok(Target::local(to, Local::open_existing(to, place).await?))
}

/// The same for a mirror that may have lost its manifest.
pub(crate) async fn open_remains(place: &PlaceOptions, named: Named) -> anyhow::Result<Target> {
    if named.is_meant() {
        return open_deployed(place, named).await;
    }
    let to = local(place)?;
    Ok(Target::local(to, Local::open_remains(to, place).await?))
}

fn local(place: &PlaceOptions) -> anyhow::Result<&Destination> {
    place
        .to
        .as_ref()
        .ok_or_else(|| Usage("name a mirror with --to, or a deployed system with --stack".to_owned()).into())
}

impl Target {
    fn local(to: &Destination, local: Local) -> Self {
        Self {
            pipeline: local.pipeline,
            named: format!("--to {to}"),
            ecs: None,
            is_deployed: false,
            expire_after: local.expire_after,
            _copy: local.copy,
        }
    }
}

/// Refuses a folder beside a deployed system, before anything of that is looked up.
pub(crate) fn check_is_no_folder(place: &PlaceOptions) -> Result<(), Usage> {
    match &place.to {
        Some(Destination::Folder(path)) => Err(folder(path)),
        Some(Destination::Bucket(_)) | None => Ok(()),
    }
}

fn folder(path: &Path) -> Usage {
    Usage(format!(
        "--to {} is a folder, and a deployed system's mirror is a bucket; for work on a folder leave out \
         --stack and the parts of one, and unset their variables (BOTTLES_ENVIRONMENT)",
        path.display()
    ))
}

async fn open_deployed(place: &PlaceOptions, mut named: Named) -> anyhow::Result<Target> {
    check_is_no_folder(place)?;
    let config = common::aws::load().await;
    named.parts.to = place.to.as_ref().map(ToString::to_string);
    let known = named.find(&config).await?;
    let missing = |option: &str| {
        Usage(format!(
            "the deployed system's {option} is not known: name it with --{option}, or all of it with --stack"
        ))
    };
    let location = match known.to.as_deref().map(str::parse::<Destination>) {
        Some(Ok(Destination::Bucket(location))) => location,
        Some(Ok(Destination::Folder(path))) => return Err(folder(&path).into()),
        Some(Err(error)) => return Err(Usage(format!("the deployed system's bucket: {error}")).into()),
        None => return Err(missing("to").into()),
    };
    let expire_after = grace(place.expire_after, known.expire_after.as_deref())?;
    let store = S3::new(&config, location, place.store.s3_endpoint.as_ref().map(url::Url::as_str));
    let client = aws_sdk_sqs::Client::new(&config);
    let queue = |url: &Option<String>, option| match url {
        Some(url) => Ok(Arc::new(Sqs::new(client.clone(), url.clone()))),
        None => Err(missing(option)),
    };
    let lanes = vec![
        LaneQueues {
            lane: Lane::Small,
            work: queue(&known.small_queue, "small-queue")?,
            dead_letters: queue(&known.small_dead_letters, "small-dead-letters")?,
        },
        LaneQueues {
            lane: Lane::Large,
            work: queue(&known.large_queue, "large-queue")?,
            dead_letters: queue(&known.large_dead_letters, "large-dead-letters")?,
        },
    ];
    let ecs = known.ecs_cluster.as_ref().zip(known.ecs_service.as_ref());
    let named = match &named.stack {
        Some(name) => format!("--stack {name}"),
        None => "with the same options".to_owned(),
    };
    Ok(Target {
        pipeline: Pipeline { store: Arc::new(store), clock: Clock::system(), lanes, poll: POLL },
        named,
        ecs: ecs.map(|(cluster, service)| EcsService::new(&config, cluster, service)),
        is_deployed: true,
        expire_after,
        _copy: None,
    })
}

/// How long what upstream dropped is kept: as the option says, else as the stack does.
fn grace(option: Option<Grace>, of_stack: Option<&str>) -> Result<Grace, Usage> {
    match (option, of_stack) {
        (Some(grace), _) => Ok(grace),
        (None, Some(text)) => text.parse().map_err(|error| {
            Usage(format!(
                "the deployed system's expire_after is {text:?}: {error}; name another with --expire-after"
            ))
        }),
        (None, None) => Ok(Grace::default()),
    }
}

impl Parts {
    async fn of_stack(config: &common::aws::SdkConfig, name: &str) -> anyhow::Result<Self> {
        let parameter = format!("/bottles/{name}");
        let request = aws_sdk_ssm::Client::new(config).get_parameter().name(&parameter);
        let output = request.send().await.map_err(|error| {
            let fault = Fault::of(&error);
            if fault.code == "ParameterNotFound" {
                Usage(format!(
                    "there is no stack {name}: the parameter {parameter} is not in this account and region; \
                     name the parts with --to, --small-queue and the other options of a deployed system"
                ))
                .into()
            } else {
                anyhow::anyhow!("the parameter {parameter} can't be read: {}", fault.text)
            }
        })?;
        let value = output.parameter.and_then(|parameter| parameter.value).unwrap_or_default();
        serde_json::from_str(&value).with_context(|| format!("the parameter {parameter} can't be read"))
    }
}

/// Has the producer do something, and waits for its answer.
pub(crate) async fn invoke<T: DeserializeOwned>(named: &Named, event: &Event) -> anyhow::Result<T> {
    let config = common::aws::load().await;
    let Some(function) = named.find(&config).await?.producer else {
        return Err(Usage(
            "name the deployed system with --stack, or its function with --producer".to_owned(),
        )
        .into());
    };
    // Asked once: a second request would be a second plan beside the first.
    let patient = aws_sdk_lambda::config::Builder::from(&config)
        .retry_config(aws_config::retry::RetryConfig::disabled())
        .timeout_config(
            aws_config::timeout::TimeoutConfig::builder()
                .read_timeout(ANSWER_WITHIN)
                .operation_attempt_timeout(ANSWER_WITHIN)
                .build(),
        )
        .build();
    let client = aws_sdk_lambda::Client::from_conf(patient);
    let payload = Blob::new(serde_json::to_vec(event)?);
    let output = client.invoke().function_name(&function).payload(payload).send().await;
    let output = output.map_err(|error| {
        anyhow::anyhow!("the function {function} can't be invoked: {}", Fault::of(&error).text)
    })?;
    let answer = output.payload.map(Blob::into_inner).unwrap_or_default();
    if output.function_error.is_some() {
        anyhow::bail!("{function} failed: {}", failure(&answer));
    }
    serde_json::from_slice(&answer).with_context(|| format!("the answer of {function} can't be read"))
}

/// What a function says of its failure.
fn failure(answer: &[u8]) -> String {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Failure {
        error_message: String,
    }
    match serde_json::from_slice::<Failure>(answer) {
        Ok(failure) => failure.error_message,
        Err(_) => String::from_utf8_lossy(answer).into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(days: u64) -> Grace {
        Grace(Duration::from_hours(24 * days))
    }

    #[test]
    fn the_option_wins_over_the_stack_and_the_stack_over_the_default() {
        let of_stack = |json: &str| serde_json::from_str::<Parts>(json).unwrap().expire_after;
        let (silent, said, wrong) =
            (of_stack("{}"), of_stack(r#"{"expire_after":"14d"}"#), of_stack(r#"{"expire_after":"soon"}"#));

        assert_eq!(grace(Some(days(7)), said.as_deref()).unwrap(), days(7));
        assert_eq!(grace(None, said.as_deref()).unwrap(), days(14));
        assert_eq!(grace(None, silent.as_deref()).unwrap(), days(90));

        let error = grace(None, wrong.as_deref()).unwrap_err().to_string();
        assert!(error.contains("expire_after") && error.contains("\"soon\""), "{error}");
        // Who says it here needs nothing of the stack's.
        assert_eq!(grace(Some(days(7)), wrong.as_deref()).unwrap(), days(7));
    }

    #[test]
    fn the_default_is_the_one_that_help_names() {
        assert_eq!(common::config::EXPIRE_AFTER.default.parse(), Ok(Grace::default()));
    }
}
