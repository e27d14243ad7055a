//! A whole account in an [`Emulator`]: a bucket, both queues with their
//! dead-letter queues, and what else a deployed system has.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use aws_config::SdkConfig;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::{Environment, FunctionCode, FunctionResponseType, Runtime};
use aws_sdk_scheduler::types::{FlexibleTimeWindow, FlexibleTimeWindowMode, Target};
use aws_sdk_sqs::types::{MessageAttributeValue, QueueAttributeName};

use crate::{Bucket, Emulator};

/// What a deployed system has, in an emulator of its own.
pub struct Cloud {
    emulator: Emulator,
    config: SdkConfig,
    /// The queues' URLs by name: `small`, `small-dead`, `large`, `large-dead`.
    queues: BTreeMap<&'static str, String>,
}

/// A function to be deployed.
pub struct Function<'a> {
    /// Its name.
    pub name: &'a str,
    /// The package, with `bootstrap` in it.
    pub zip: &'a Path,
    /// Its environment.
    pub variables: Vec<(String, String)>,
    /// How long it may run.
    pub timeout: Duration,
    /// Its memory in MB.
    pub memory: i32,
}

/// The queues' redrive policies move a message after this many receives.
pub const MOST_RECEIVES: u32 = 10;

const BUCKET: &str = "team-bottles";
const CLUSTER: &str = "bottles";
const SERVICE: &str = "consumer-ecs";
const ACCOUNT: &str = "000000000000";
const ROLE: &str = "arn:aws:iam::000000000000:role/bottles";

impl Cloud {
    /// Starts an emulator, and makes the bucket and the queues.
    pub async fn start() -> anyhow::Result<Self> {
        Self::on(Emulator::start()?).await
    }

    /// Makes the bucket and the queues in an emulator that runs.
    pub async fn on(emulator: Emulator) -> anyhow::Result<Self> {
        let config = emulator.config();
        aws_sdk_s3::Client::new(&config).create_bucket().bucket(BUCKET).send().await?;
        let mut cloud = Self { emulator, config, queues: BTreeMap::new() };
        for (work, dead) in [("small", "small-dead"), ("large", "large-dead")] {
            cloud.make_queue(dead, None).await?;
            cloud.make_queue(work, Some(dead)).await?;
        }
        Ok(cloud)
    }

    /// The emulator.
    pub fn emulator(&self) -> &Emulator {
        &self.emulator
    }

    /// What leads an SDK's client to it.
    pub fn config(&self) -> &SdkConfig {
        &self.config
    }

    /// The mirror's place: `s3://…`.
    pub fn place(&self) -> String {
        format!("s3://{BUCKET}")
    }

    /// A queue's URL.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn queue(&self, name: &str) -> &str {
        &self.queues[name]
    }

    /// The variables that every service is given.
    pub fn variables(&self) -> Vec<(String, String)> {
        let queues = [
            ("BOTTLES_SMALL_QUEUE", "small"),
            ("BOTTLES_SMALL_DEAD_LETTERS", "small-dead"),
            ("BOTTLES_LARGE_QUEUE", "large"),
            ("BOTTLES_LARGE_DEAD_LETTERS", "large-dead"),
        ];
        let queues = queues.map(|(variable, name)| (variable.to_owned(), self.queue(name).to_owned()));
        let place = ("BOTTLES_TO".to_owned(), self.place());
        [place].into_iter().chain(queues).collect()
    }

    /// What else is in the environment of a process that reaches this account.
    pub fn environment(&self) -> Vec<(String, String)> {
        self.emulator.environment().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The bucket.
    pub fn bucket(&self) -> Bucket {
        Bucket::new(&self.config, BUCKET)
    }

    /// All keys that begin with `prefix`, each with its size.
    pub async fn keys(&self, prefix: &str) -> anyhow::Result<BTreeMap<String, u64>> {
        self.bucket().keys(prefix).await
    }

    /// An object's bytes; `None` if it is not there.
    pub async fn object(&self, key: &str) -> anyhow::Result<Option<Vec<u8>>> {
        self.bucket().object(key).await
    }

    /// Writes an object as someone else would, who knows no rules.
    pub async fn overwrite(&self, key: &str, bytes: &[u8]) -> anyhow::Result<()> {
        let request = aws_sdk_s3::Client::new(&self.config).put_object().bucket(BUCKET).key(key);
        request.body(bytes.to_vec().into()).send().await?;
        Ok(())
    }

    /// Removes an object.
    pub async fn remove(&self, key: &str) -> anyhow::Result<()> {
        aws_sdk_s3::Client::new(&self.config).delete_object().bucket(BUCKET).key(key).send().await?;
        Ok(())
    }

    /// Empties a queue.
    pub async fn purge(&self, queue: &str) -> anyhow::Result<()> {
        let request = aws_sdk_sqs::Client::new(&self.config).purge_queue().queue_url(self.queue(queue));
        request.send().await?;
        Ok(())
    }

    /// Uploads in parts that were begun and neither completed nor aborted.
    pub async fn unfinished_uploads(&self) -> anyhow::Result<usize> {
        let request = aws_sdk_s3::Client::new(&self.config).list_multipart_uploads().bucket(BUCKET);
        Ok(request.send().await?.uploads().len())
    }

    /// How many messages a queue has: visible, hidden.
    pub async fn depth(&self, queue: &str) -> anyhow::Result<(u64, u64)> {
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let request =
            aws_sdk_sqs::Client::new(&self.config).get_queue_attributes().queue_url(self.queue(queue));
        let output = request.set_attribute_names(Some(names.to_vec())).send().await?;
        let attributes = output.attributes.unwrap_or_default();
        let number = |name| attributes.get(name).and_then(|text: &String| text.parse().ok()).unwrap_or(0);
        Ok((number(&names[0]), number(&names[1])))
    }

    /// Sends a message as it is.
    pub async fn send(&self, queue: &str, body: &str) -> anyhow::Result<()> {
        let request = aws_sdk_sqs::Client::new(&self.config).send_message().queue_url(self.queue(queue));
        request.message_body(body).send().await?;
        Ok(())
    }

    /// Sends a dead letter, as a consumer does that gives up on a bottle.
    pub async fn send_dead(&self, queue: &str, body: &str, reason: &str) -> anyhow::Result<()> {
        let request = aws_sdk_sqs::Client::new(&self.config).send_message().queue_url(self.queue(queue));
        let value = MessageAttributeValue::builder().data_type("String").string_value(reason).build()?;
        request.message_body(body).message_attributes("reason", value).send().await?;
        Ok(())
    }

    /// Makes the ECS service, with no task, and the variables that name it.
    pub async fn make_service(&self) -> anyhow::Result<Vec<(String, String)>> {
        use aws_sdk_ecs::types::ContainerDefinition;
        let client = aws_sdk_ecs::Client::new(&self.config);
        client.create_cluster().cluster_name(CLUSTER).send().await?;
        let container = ContainerDefinition::builder().name(SERVICE).image(SERVICE).build();
        client.register_task_definition().family(SERVICE).container_definitions(container).send().await?;
        let create = client.create_service().cluster(CLUSTER).service_name(SERVICE).task_definition(SERVICE);
        create.desired_count(0).send().await?;
        Ok(vec![
            ("BOTTLES_ECS_CLUSTER".to_owned(), CLUSTER.to_owned()),
            ("BOTTLES_ECS_SERVICE".to_owned(), SERVICE.to_owned()),
        ])
    }

    /// The desired count of the ECS service.
    pub async fn desired_tasks(&self) -> anyhow::Result<i32> {
        let request =
            aws_sdk_ecs::Client::new(&self.config).describe_services().cluster(CLUSTER).services(SERVICE);
        Ok(request.send().await?.services().first().context("there is no service")?.desired_count())
    }

    /// Keeps what `--stack` looks up.
    pub async fn make_stack(&self, name: &str, variables: &[(String, String)]) -> anyhow::Result<()> {
        let names: BTreeMap<String, &str> = variables
            .iter()
            .map(|(variable, value)| (variable.trim_start_matches("BOTTLES_").to_lowercase(), value.as_str()))
            .collect();
        let request = aws_sdk_ssm::Client::new(&self.config).put_parameter().name(format!("/bottles/{name}"));
        let request = request.r#type(aws_sdk_ssm::types::ParameterType::String);
        request.value(serde_json::to_string(&names)?).send().await?;
        Ok(())
    }

    /// Deploys a function.
    pub async fn deploy(&self, function: Function<'_>) -> anyhow::Result<()> {
        let zip = std::fs::read(function.zip).with_context(|| {
            format!("{} is not there: scripts/build-lambda-packages.sh builds it", function.zip.display())
        })?;
        // Lambda itself gives a function its region and credentials.
        let endpoint = ("AWS_ENDPOINT_URL".to_owned(), self.emulator.url());
        let variables = function.variables.into_iter().chain([endpoint]).collect();
        aws_sdk_lambda::Client::new(&self.config)
            .create_function()
            .function_name(function.name)
            .runtime(Runtime::Providedal2023)
            .handler("bootstrap")
            .role(ROLE)
            .code(FunctionCode::builder().zip_file(Blob::new(zip)).build())
            .environment(Environment::builder().set_variables(Some(variables)).build())
            .timeout(i32::try_from(function.timeout.as_secs())?)
            .memory_size(function.memory)
            .send()
            .await?;
        Ok(())
    }

    /// Has Lambda feed a queue's messages to a function, which says which of them failed.
    pub async fn map(&self, queue: &str, function: &str, batch: i32) -> anyhow::Result<()> {
        let name = self.queue(queue).rsplit('/').next().unwrap_or_default();
        aws_sdk_lambda::Client::new(&self.config)
            .create_event_source_mapping()
            .event_source_arn(format!("arn:aws:sqs:us-east-1:{ACCOUNT}:{name}"))
            .function_name(function)
            .batch_size(batch)
            .function_response_types(FunctionResponseType::ReportBatchItemFailures)
            .send()
            .await?;
        Ok(())
    }

    /// Has a function invoked with `input` again and again: `rate(1 minute)`.
    pub async fn schedule(&self, name: &str, rate: &str, function: &str, input: &str) -> anyhow::Result<()> {
        let target = Target::builder()
            .arn(format!("arn:aws:lambda:us-east-1:{ACCOUNT}:function:{function}"))
            .role_arn(ROLE)
            .input(input)
            .build()?;
        let window = FlexibleTimeWindow::builder().mode(FlexibleTimeWindowMode::Off).build()?;
        aws_sdk_scheduler::Client::new(&self.config)
            .create_schedule()
            .name(name)
            .schedule_expression(rate)
            .flexible_time_window(window)
            .target(target)
            .send()
            .await?;
        Ok(())
    }

    async fn make_queue(&mut self, name: &'static str, dead: Option<&str>) -> anyhow::Result<()> {
        let client = aws_sdk_sqs::Client::new(&self.config);
        let mut request = client.create_queue().queue_name(name);
        if let Some(dead) = dead {
            let policy = format!(
                "{{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:{ACCOUNT}:{dead}\",\"maxReceiveCount\":{MOST_RECEIVES}}}"
            );
            request = request.attributes(QueueAttributeName::RedrivePolicy, policy);
        }
        let url = request.send().await?.queue_url.context("a queue without a URL")?;
        self.queues.insert(name, url);
        Ok(())
    }
}
