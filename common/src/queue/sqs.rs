//! SQS.
//!
//! Batches are filled as far as the service takes them, and what it refuses of
//! one is sent again by itself. Received messages that were released wait among
//! those in flight: SQS counts them there.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
    MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry,
};
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use crate::aws::Fault;
use crate::retry::{Policy, Retryable, Verdict};

use super::{Delivery, Depth, Handle, Outgoing, Queue, QueueError};

/// Entries of one batch.
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
const MOST_ENTRIES: usize = 10;

/// Bytes of one message, and of one batch: bodies and attributes.
const MOST_BYTES: usize = 1 << 20;

/// The longest visibility timeout.
const LONGEST_VISIBILITY: Duration = Duration::from_hours(12);

/// The longest poll.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// Requests of one call that are under way at once.
const REQUESTS_AT_ONCE: usize = 8;

/// Entries that are refused for a passing reason, within a request that
/// succeeded, are sent again so; the SDK sees only failed requests.
const REFUSED: Policy = Policy {
    first_wait: Duration::from_millis(100),
    longest_wait: Duration::from_secs(5),
    budget: Duration::from_secs(30),
};

/// One queue. Cheap to clone.
#[derive(Clone)]
pub struct Sqs {
    client: Client,
    url: String,
    /// The last part of the URL, for errors.
    name: String,
}

impl Sqs {
    /// The queue at `url`.
    pub fn new(client: Client, url: String) -> Self {
        let name = url.rsplit('/').next().unwrap_or_default().to_owned();
        Self { client, url, name }
    }

    fn failed<E>(&self, operation: &'static str, error: &SdkError<E>) -> QueueError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.error(operation, Fault::of(error).text)
    }

    fn error(&self, operation: &'static str, cause: String) -> QueueError {
        QueueError { queue: self.name.clone(), operation, cause }
    }

    /// Hides messages for `visibility` from now, zero showing them at once.
    async fn change_visibility(
        &self,
        operation: &'static str,
        handles: &[Handle],
        visibility: Duration,
    ) -> Result<(), QueueError> {
        let seconds = whole_seconds(visibility.min(LONGEST_VISIBILITY));
        self.for_each_batch(operation, handles, |entries| async move {
            let request = self.client.change_message_visibility_batch().queue_url(&self.url);
            let entries = entries.into_iter().map(|(id, handle)| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(id)
                    .receipt_handle(&handle.0)
                    .visibility_timeout(seconds)
                    .build()
            });
            let entries = entries
                .collect::<Result<_, _>>()
                .map_err(|error| self.error(operation, error.to_string()))?;
            let output = request
                .set_entries(Some(entries))
                .send()
                .await
                .map_err(|error| self.failed(operation, &error))?;
            Ok(output.failed)
        })
        .await
    }

    /// Does something to received messages, ten a request. What is refused for a
    /// passing reason is asked for again; what has a new owner is passed over.
    async fn for_each_batch<'a, F>(
        &self,
        operation: &'static str,
        handles: &'a [Handle],
        request: impl Fn(Vec<(String, &'a Handle)>) -> F + Sync,
    ) -> Result<(), QueueError>
    where
        F: Future<Output = Result<Vec<BatchResultErrorEntry>, QueueError>> + Send + 'a,
    {
        let request = &request;
        let batches: Vec<_> = handles
            .chunks(MOST_ENTRIES)
            .map(|batch| {
                let pending = std::sync::Mutex::new(batch.iter().collect::<Vec<_>>());
                async move {
                    let attempt = || async {
                        let handles = lock(&pending).clone();
                        let entries = numbered(&handles);
                        let failed = request(entries).await.map_err(Refused::Request)?;
                        let mut again = Vec::new();
                        for entry in failed {
                            if let Some(handle) = position(&entry).and_then(|position| handles.get(position))
                            {
                                if is_stale(&entry) {
                                    tracing::debug!(
                                        queue = self.name,
                                        operation,
                                        code = entry.code,
                                        "a message has a new owner"
                                    );
                                } else if entry.sender_fault {
                                    return Err(Refused::Request(self.error(operation, describe(&entry))));
                                } else {
                                    again.push(*handle);
                                }
                            }
                        }
                        let left = again.len();
                        *lock(&pending) = again;
                        if left == 0 { Ok(()) } else { Err(Refused::Entries(left)) }
                    };
                    REFUSED.run(attempt, |_, _| {}).await.map_err(|refused| match refused {
                        Refused::Request(error) => error,
                        Refused::Entries(left) => {
                            self.error(operation, format!("{left} messages were refused again and again"))
                        }
                    })
                }
                .boxed()
            })
            .collect();
        stream::iter(batches).buffer_unordered(REQUESTS_AT_ONCE).try_collect().await
    }

    async fn send_batch(&self, batch: &[&Outgoing]) -> Result<(), QueueError> {
        let pending = std::sync::Mutex::new(batch.to_vec());
        let attempt = || async {
            let messages = lock(&pending).clone();
            let entries = numbered(&messages).into_iter().map(|(id, message)| entry(id, message));
            let entries = entries
                .collect::<Result<_, _>>()
                .map_err(|error| Refused::Request(self.error("send", error.to_string())))?;
            let request = self.client.send_message_batch().queue_url(&self.url).set_entries(Some(entries));
            let output =
                request.send().await.map_err(|error| Refused::Request(self.failed("send", &error)))?;
            let mut again = Vec::new();
            for failed in output.failed {
                if failed.sender_fault {
                    return Err(Refused::Request(self.error("send", describe(&failed))));
                }
                tracing::info!(
                    queue = self.name,
                    code = failed.code,
                    "a message was refused: sending it again"
                );
                again.extend(position(&failed).and_then(|position| messages.get(position)).copied());
            }
            let left = again.len();
            *lock(&pending) = again;
            if left == 0 { Ok(()) } else { Err(Refused::Entries(left)) }
        };
        REFUSED.run(attempt, |_, _| {}).await.map_err(|refused| match refused {
            Refused::Request(error) => error,
            Refused::Entries(left) => {
                self.error("send", format!("{left} messages were refused again and again"))
            }
        })
    }
}

#[async_trait]
impl Queue for Sqs {
    async fn send(&self, messages: &[Outgoing]) -> Result<(), QueueError> {
        let batches: Vec<_> = fill(messages)
            .into_iter()
            .map(|batch| async move { self.send_batch(&batch).await }.boxed())
            .collect();
        stream::iter(batches).buffer_unordered(REQUESTS_AT_ONCE).try_collect().await
    }

    async fn receive(
        &self,
        max: usize,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let request = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(i32::try_from(max.min(MOST_ENTRIES)).unwrap_or(1))
            .visibility_timeout(whole_seconds(visibility.min(LONGEST_VISIBILITY)))
            .wait_time_seconds(whole_seconds(wait.min(LONGEST_WAIT)))
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_attribute_names("All");
        let output = request.send().await.map_err(|error| self.failed("receive", &error))?;
        Ok(output.messages.unwrap_or_default().into_iter().filter_map(delivery).collect())
    }

    async fn extend(&self, handles: &[Handle], visibility: Duration) -> Result<(), QueueError> {
        self.change_visibility("extend", handles, visibility).await
    }

    async fn release(&self, handles: &[Handle], delay: Duration) -> Result<(), QueueError> {
        self.change_visibility("release", handles, delay).await
    }

    async fn acknowledge(&self, handles: &[Handle]) -> Result<(), QueueError> {
        self.for_each_batch("acknowledge", handles, |entries| async move {
            let request = self.client.delete_message_batch().queue_url(&self.url);
            let entries = entries.into_iter().map(|(id, handle)| {
                DeleteMessageBatchRequestEntry::builder().id(id).receipt_handle(&handle.0).build()
            });
            let entries = entries
                .collect::<Result<_, _>>()
                .map_err(|error| self.error("acknowledge", error.to_string()))?;
            let request = request.set_entries(Some(entries));
            Ok(request.send().await.map_err(|error| self.failed("acknowledge", &error))?.failed)
        })
        .await
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        use QueueAttributeName::{
            ApproximateNumberOfMessages as Visible, ApproximateNumberOfMessagesDelayed as Delayed,
            ApproximateNumberOfMessagesNotVisible as InFlight,
        };
        let request = self.client.get_queue_attributes().queue_url(&self.url);
        let request = request.attribute_names(Visible).attribute_names(InFlight).attribute_names(Delayed);
        let output = request.send().await.map_err(|error| self.failed("measure", &error))?;
        let attributes = output.attributes.unwrap_or_default();
        let number = |name| attributes.get(&name).and_then(|text: &String| text.parse().ok()).unwrap_or(0);
        Ok(Depth { visible: number(Visible), in_flight: number(InFlight), delayed: number(Delayed) })
    }
}

/// A batch of which something was refused.
enum Refused {
    /// The whole request, for good: the SDK tried again already.
    Request(QueueError),
    /// So many entries, for now.
    Entries(usize),
}

impl Retryable for Refused {
    fn verdict(&self) -> Verdict {
        match self {
            Self::Request(_) => Verdict::GiveUp,
            Self::Entries(_) => Verdict::Retry { after: None },
        }
    }
}

/// Batches as full as the service takes them, in order.
fn fill(messages: &[Outgoing]) -> Vec<Vec<&Outgoing>> {
    let mut batches: Vec<Vec<&Outgoing>> = Vec::new();
    let mut bytes = 0;
    for message in messages {
        let size = size(message);
        match batches.last_mut() {
            Some(batch) if batch.len() < MOST_ENTRIES && bytes + size <= MOST_BYTES => {
                batch.push(message);
                bytes += size;
            }
            _ => {
                batches.push(vec![message]);
                bytes = size;
            }
        }
    }
    batches
}

/// What a message counts against the limit: names and types of attributes too.
fn size(message: &Outgoing) -> usize {
    let attributes = message.attributes.iter().map(|(name, value)| name.len() + value.len() + "String".len());
    message.body.len() + attributes.sum::<usize>()
}

fn entry(
    id: String,
    message: &Outgoing,
) -> Result<SendMessageBatchRequestEntry, aws_sdk_sqs::error::BuildError> {
    let mut entry = SendMessageBatchRequestEntry::builder().id(id).message_body(&message.body);
    for (name, value) in &message.attributes {
        let value = MessageAttributeValue::builder().data_type("String").string_value(value).build()?;
        entry = entry.message_attributes(name, value);
    }
    entry.build()
}

/// A message without a handle can't be acknowledged: it is no delivery.
fn delivery(message: aws_sdk_sqs::types::Message) -> Option<Delivery> {
    let system = message.attributes.unwrap_or_default();
    let number = |name| system.get(&name).and_then(|text: &String| text.parse::<i64>().ok());
    let receives = number(MessageSystemAttributeName::ApproximateReceiveCount).unwrap_or(1);
    let sent_at = number(MessageSystemAttributeName::SentTimestamp).unwrap_or(0);
    let attributes: BTreeMap<_, _> = message
        .message_attributes
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.string_value?)))
        .collect();
    Some(Delivery {
        id: message.message_id.unwrap_or_default(),
        handle: Handle(message.receipt_handle?),
        body: message.body.unwrap_or_default(),
        attributes,
        receives: u32::try_from(receives).unwrap_or(1),
        sent_at: Timestamp::from_millisecond(sent_at).unwrap_or(Timestamp::UNIX_EPOCH),
    })
}

/// Entries carry their position as their name.
fn numbered<T: Copy>(items: &[T]) -> Vec<(String, T)> {
    items.iter().enumerate().map(|(position, item)| (position.to_string(), *item)).collect()
}

fn position(failed: &BatchResultErrorEntry) -> Option<usize> {
    failed.id.parse().ok()
}

/// Whether the delivery is no longer the latest: its time was up, or it was
/// acknowledged. SQS has a word for each case, old protocol and new.
fn is_stale(failed: &BatchResultErrorEntry) -> bool {
    let code = failed.code.rsplit('.').next().unwrap_or_default();
    let gone = |message: &str| message.contains("does not exist") || message.contains("not available");
    match code {
        "ReceiptHandleIsInvalid" | "MessageNotInflight" => true,
        "InvalidParameterValue" => failed.message.as_deref().is_some_and(gone),
        _ => false,
    }
}

fn describe(failed: &BatchResultErrorEntry) -> String {
    match &failed.message {
        Some(message) => format!("{}: {message}", failed.code),
        None => failed.code.clone(),
    }
}

/// SQS counts whole seconds; a wait that isn't zero is not made zero.
fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i32::MAX)
}

fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::types::QueueAttributeName as Attribute;
    use testbed::Emulator;

    use super::super::conformance;
    use super::*;

    async fn make(client: &Client, name: &str, redrive: Option<(&Sqs, u32)>) -> Sqs {
        let mut request = client.create_queue().queue_name(name);
        if let Some((dead, most)) = redrive {
            let arn = client.get_queue_attributes().queue_url(&dead.url).attribute_names(Attribute::QueueArn);
            let arn = arn.send().await.unwrap().attributes.unwrap()[&Attribute::QueueArn].clone();
            let policy = format!("{{\"deadLetterTargetArn\":\"{arn}\",\"maxReceiveCount\":{most}}}");
            request = request.attributes(Attribute::RedrivePolicy, policy);
        }
        Sqs::new(client.clone(), request.send().await.unwrap().queue_url.unwrap())
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_keeps_the_queue_contract() {
        let emulator = Emulator::start().unwrap();
        let client = Client::new(&emulator.config());
        let dead = make(&client, "dead", None).await;
        let main = make(&client, "main", Some((&dead, conformance::MOST_RECEIVES))).await;
        let pair = conformance::Pair { main: &main, dead: &dead, pass: Box::new(std::thread::sleep) };
        conformance::run(&pair).await;
    }

    #[tokio::test]
    async fn a_queue_that_is_not_there_is_named() {
        let emulator = Emulator::start().unwrap();
        let client = Client::new(&emulator.config());
        let queue = Sqs::new(client, format!("{}/000000000000/nowhere", emulator.url()));
        let error = queue.depth().await.unwrap_err().to_string();
        assert!(error.contains("the nowhere queue can't measure"), "{error}");
        assert!(error.contains("QueueDoesNotExist") || error.contains("NonExistentQueue"), "{error}");
    }

    #[tokio::test]
    async fn large_and_many_messages_arrive_all() {
        let emulator = Emulator::start().unwrap();
        let client = Client::new(&emulator.config());
        let queue = make(&client, "many", None).await;
        let bodies: Vec<_> = (0..31).map(|n| format!("{n:02}{}", "x".repeat(n % 7 * 60_000))).collect();
        let messages: Vec<_> = bodies.iter().map(|body| Outgoing::new(body.clone())).collect();
        queue.send(&messages).await.unwrap();
        let mut received = Vec::new();
        while received.len() < bodies.len() {
            let batch = queue.receive(10, Duration::from_mins(1), Duration::from_secs(1)).await.unwrap();
            assert!(!batch.is_empty());
            received.extend(batch.into_iter().map(|delivery| delivery.body));
        }
        received.sort();
        assert!(received == bodies, "what arrived is not what was sent");
    }

    /// A stand-in that refuses: the first request as a whole, then one entry of two.
    #[tokio::test]
    async fn what_is_refused_of_a_batch_is_sent_again_by_itself() {
        use std::sync::{Arc, Mutex};

        use axum::extract::State;
        use axum::http::StatusCode;
        use serde_json::{Value, json};

        type Asked = Arc<Mutex<Vec<Vec<String>>>>;
        async fn answer(State(asked): State<Asked>, body: String) -> (StatusCode, String) {
            let request: Value = serde_json::from_str(&body).unwrap();
            let entries = request["Entries"].as_array().unwrap();
            let text = |entry: &Value| {
                entry["MessageBody"]
                    .as_str()
                    .or(entry["ReceiptHandle"].as_str())
                    .unwrap_or_default()
                    .to_owned()
            };
            let mut asked = asked.lock().unwrap();
            asked.push(entries.iter().map(text).collect());
            if asked.len() == 1 {
                return (
                    StatusCode::SERVICE_UNAVAILABLE,
                    json!({ "__type": "ServiceUnavailable" }).to_string(),
                );
            }
            let (mut successful, mut failed) = (Vec::new(), Vec::new());
            for entry in entries {
                let id = &entry["Id"];
                if asked.len() == 2 && text(entry) == "b" {
                    failed.push(json!({ "Id": id, "SenderFault": false, "Code": "InternalError" }));
                } else {
                    successful.push(json!({ "Id": id, "MessageId": "m", "MD5OfMessageBody": "d" }));
                }
            }
            (StatusCode::OK, json!({ "Successful": successful, "Failed": failed }).to_string())
        }

        let asked = Asked::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = axum::Router::new().fallback(answer).with_state(Arc::clone(&asked));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let client = Client::new(&crate::aws::patient_with(&url).await);
        let queue = Sqs::new(client, format!("{url}/0/q"));
        let expected = [vec!["a", "b"], vec!["a", "b"], vec!["b"]];

        queue.send(&["a", "b"].map(|body| Outgoing::new(body.to_owned()))).await.unwrap();
        assert_eq!(*asked.lock().unwrap(), expected);
        asked.lock().unwrap().clear();
        let handles = ["a", "b"].map(|handle| Handle(handle.to_owned()));
        queue.release(&handles, Duration::ZERO).await.unwrap();
        assert_eq!(*asked.lock().unwrap(), expected);
        asked.lock().unwrap().clear();
        queue.acknowledge(&handles).await.unwrap();
        assert_eq!(*asked.lock().unwrap(), expected);
    }

    #[test]
    fn batches_are_as_full_as_the_service_takes_them() {
        let messages =
            |sizes: &[usize]| sizes.iter().map(|size| Outgoing::new("x".repeat(*size))).collect::<Vec<_>>();
        let lengths = |sizes: &[usize]| fill(&messages(sizes)).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(&[1; 25]), [10, 10, 5]);
        assert_eq!(lengths(&[MOST_BYTES, 1]), [1, 1]);
        assert_eq!(lengths(&[MOST_BYTES / 2, MOST_BYTES / 2, 1]), [2, 1]);
        assert!(lengths(&[]).is_empty());
        let mut attributes = messages(&[MOST_BYTES - 10, 1]);
        attributes[1].attributes.insert("reason".to_owned(), "not-found".to_owned());
        assert_eq!(fill(&attributes).len(), 2, "attributes count too");
    }

    #[test]
    fn a_delivery_that_is_no_longer_ours_is_told_from_a_mistake() {
        let failed = |code: &str, message: &str| {
            let entry =
                BatchResultErrorEntry::builder().id("0").sender_fault(true).code(code).message(message);
            entry.build().unwrap()
        };
        assert!(is_stale(&failed("ReceiptHandleIsInvalid", "")));
        assert!(is_stale(&failed("AWS.SimpleQueueService.MessageNotInflight", "")));
        let expired = "Value x for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not \
                       available for visibility timeout change.";
        assert!(is_stale(&failed("InvalidParameterValue", expired)));
        assert!(!is_stale(&failed("InvalidParameterValue", "Total VisibilityTimeout is beyond the limit")));
        assert!(!is_stale(&failed("AccessDenied", "")));
    }
}
