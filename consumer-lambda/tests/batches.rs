//! A batch as Lambda hands it over, on S3 and SQS in an emulator.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use aws_sdk_sqs::types::MessageSystemAttributeName as SystemAttribute;
use common::config::{Environment, Settings};
use common::message::Lane;
use common::metrics::Metrics;
use common::plan::{Mode, PlanSettings};
use common::service;
use consumer_lambda::Consumer;
use testbed::{Cloud, Fault, Spec, Times, Upstream};
use tokio::time::Instant;

struct System {
    cloud: Cloud,
    upstream: Upstream,
    settings: Settings,
}

impl System {
    async fn start(spec: Spec) -> Self {
        let cloud = Cloud::start().await.unwrap();
        let upstream = Upstream::start(spec).await.unwrap();
        let variables = cloud.variables().into_iter().chain(upstream.variables());
        let settings = Settings::read(&Environment::new(variables).unwrap()).unwrap();
        let system = Self { cloud, upstream, settings };
        system.plan().await;
        system
    }

    async fn plan(&self) {
        let pipeline = service::pipeline(&self.settings, self.cloud.config(), &Lane::ALL).unwrap();
        let settings = PlanSettings {
            api_url: self.settings.api_url.clone(),
            size_threshold: u64::MAX,
            concurrency: 8,
            deadline: None,
            is_partial: false,
        };
        let upstream = service::upstream(&self.settings, &[]).unwrap();
        pipeline.planner(upstream, "".parse().unwrap(), settings).plan(Mode::Queue).await.unwrap();
    }

    /// What Lambda's poller would hand over: up to ten messages.
    async fn event(&self) -> SqsEvent {
        let request = aws_sdk_sqs::Client::new(self.cloud.config()).receive_message();
        let output = request
            .queue_url(self.cloud.queue("small"))
            .max_number_of_messages(10)
            .visibility_timeout(600)
            .message_system_attribute_names(SystemAttribute::All)
            .send()
            .await
            .unwrap();
        let mut event = SqsEvent::default();
        for received in output.messages.unwrap_or_default() {
            let mut message = SqsMessage::default();
            message.message_id = received.message_id;
            message.receipt_handle = received.receipt_handle;
            message.body = received.body;
            let attributes = received.attributes.unwrap_or_default().into_iter();
            message.attributes = attributes.map(|(name, value)| (name.as_str().to_owned(), value)).collect();
            event.records.push(message);
        }
        event
    }

    async fn handle(&self, event: SqsEvent, time: Duration) -> anyhow::Result<SqsBatchResponse> {
        let metrics = Metrics::new("test", std::io::sink());
        let consumer = Consumer::new(&self.settings, self.cloud.config(), Some(512 << 20), metrics)?;
        consumer.handle(event, Instant::now() + time).await
    }

    async fn held(&self) -> usize {
        self.cloud.keys("v2/").await.unwrap().keys().filter(|key| key.contains("/blobs/")).count()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_is_left_out_of_the_answer_and_what_failed_is_in_it() {
    let system = System::start(Spec::uniform(1, 8, 5_000, &["all"])).await;
    system.cloud.send("small", "{\"version\":1,\"nonsense\":true}").await.unwrap();
    let failing = system.upstream.expected()[3].digest.clone();
    let fault = Fault::Status { code: 500, retry_after: None };
    system.upstream.faults().set(&format!("cdn:*{failing}"), fault, Times::Always);
    let event = system.event().await;
    assert_eq!(event.records.len(), 9);
    let expected = event.records.iter().find(|message| message.body.as_ref().unwrap().contains(&failing));
    let expected = expected.unwrap().message_id.clone().unwrap();
    // Retrying in place would take longer than the function has.
    let answer = system.handle(event, Duration::from_secs(8)).await.unwrap();
    let failed: Vec<_> =
        answer.batch_item_failures.iter().map(|failure| failure.item_identifier.clone()).collect();
    assert_eq!(failed, [expected]);
    assert_eq!(system.held().await, 7);
    // The malformed one is a dead letter, and no failure of the batch.
    assert_eq!(system.cloud.depth("small-dead").await.unwrap().0, 1);
    assert_eq!(system.cloud.keys("_sync/receipts/").await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_into_the_time_is_returned_before_it_is_up() {
    let system = System::start(Spec::uniform(1, 6, 5_000, &["all"])).await;
    let slow = system.upstream.expected()[0].digest.clone();
    system.upstream.faults().set(
        &format!("cdn:*{slow}"),
        Fault::Delay(Duration::from_mins(1)),
        Times::Always,
    );
    let begun = Instant::now();
    let event = system.event().await;
    let answer = system.handle(event, Duration::from_secs(6)).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(6), "the function's time was up: {:?}", begun.elapsed());
    assert_eq!((answer.batch_item_failures.len(), system.held().await), (1, 5));
    // It can be received at once, however long the queue hides messages.
    assert_eq!(system.cloud.depth("small").await.unwrap(), (1, 5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_that_takes_nothing_is_an_error_and_not_an_answer() {
    let mut system = System::start(Spec::uniform(1, 2, 5_000, &["all"])).await;
    let event = system.event().await;
    let variables = system.cloud.variables().into_iter().chain(system.upstream.variables());
    let variables = variables.chain([("BOTTLES_TO".to_owned(), "s3://no-such-bucket".to_owned())]);
    system.settings = Settings::read(&Environment::new(variables).unwrap()).unwrap();
    let error = system.handle(event, Duration::from_secs(20)).await.unwrap_err();
    assert!(format!("{error:#}").contains("NoSuchBucket"), "{error:#}");
    assert_eq!(system.cloud.depth("small-dead").await.unwrap().0, 0, "no bottle's fault");
}
