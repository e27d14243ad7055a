//! An account, an upstream, and a producer.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_sqs::types::QueueAttributeName;
use axum::extract::State;
use axum::routing::post;
use common::config::{Environment, Settings};
use common::message::Lane;
use common::metrics::Metrics;
use common::service;
use common::worker::WorkerSettings;
use producer::{Producer, ProducerError};
use serde_json::Value;
use testbed::{Cloud, Spec, Upstream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) struct System {
    pub(crate) cloud: Cloud,
    pub(crate) upstream: Upstream,
    settings: Settings,
    /// What is published goes to this queue.
    notices: String,
    lines: Lines,
}

/// Metrics as they were emitted.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl System {
    pub(crate) async fn start(spec: Spec, variables: &[(&str, &str)]) -> Self {
        let cloud = Cloud::start().await.unwrap();
        let upstream = Upstream::start(spec).await.unwrap();
        let (topic, notices) = make_topic(&cloud).await;
        let mut all = cloud.variables();
        all.extend(upstream.variables());
        all.extend(cloud.make_service().await.unwrap());
        all.push(("BOTTLES_SNS_TOPIC".to_owned(), topic));
        all.extend(
            [("BOTTLES_SIZE_THRESHOLD", "1MB"), ("BOTTLES_PER_TASK", "2"), ("BOTTLES_MOST_TASKS", "3")]
                .iter()
                .chain(variables)
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let settings = Settings::read(&Environment::new(all).unwrap()).unwrap();
        Self { cloud, upstream, settings, notices, lines: Lines::default() }
    }

    /// One invocation with so much time.
    pub(crate) async fn invoke(&self, event: &str, time: Duration) -> Result<Value, ProducerError> {
        let metrics = Metrics::new(&self.settings.environment, self.lines.clone());
        let producer = Producer::new(self.settings.clone(), self.cloud.config().clone(), metrics).unwrap();
        producer.handle(serde_json::from_str(event).unwrap(), Instant::now() + time).await
    }

    pub(crate) async fn plan(&self) -> Value {
        self.invoke(r#"{"action":"plan"}"#, Duration::from_mins(5)).await.unwrap()
    }

    pub(crate) async fn settle(&self) -> Value {
        self.invoke(r#"{"action":"settle"}"#, Duration::from_mins(5)).await.unwrap()
    }

    /// Works on everything, as the consumers do.
    pub(crate) async fn drain(&self) {
        let pipeline = service::pipeline(&self.settings, self.cloud.config(), &Lane::ALL).unwrap();
        let mirror = pipeline.mirror(service::upstream(&self.settings, &[]).unwrap(), 64 << 20);
        for lane in &pipeline.lanes {
            let settings = WorkerSettings {
                concurrency: 8,
                visibility: Duration::from_mins(1),
                wait: Duration::from_secs(1),
                most_receives: 3,
                redelivery: service::REDELIVERY,
                until_empty: true,
                grace: Duration::ZERO,
            };
            pipeline.worker(lane, &mirror, settings).run(&CancellationToken::new()).await.unwrap();
        }
    }

    /// The subjects of all notices so far.
    pub(crate) async fn notices(&self) -> Vec<String> {
        let client = aws_sdk_sqs::Client::new(self.cloud.config());
        let mut subjects = Vec::new();
        loop {
            let request = client.receive_message().queue_url(&self.notices).max_number_of_messages(10);
            let messages = request.send().await.unwrap().messages.unwrap_or_default();
            if messages.is_empty() {
                return subjects;
            }
            for message in messages {
                let envelope: Value = serde_json::from_str(message.body().unwrap()).unwrap();
                subjects.push(envelope["Subject"].as_str().unwrap().to_owned());
            }
        }
    }

    /// A stand-in for Slack, whose webhook is in the secret of this name; what it hears.
    pub(crate) async fn start_slack(&self, secret: &str) -> Arc<Mutex<Vec<String>>> {
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/services/hook", listener.local_addr().unwrap());
        let answer = |State(heard): State<Arc<Mutex<Vec<String>>>>, body: String| async move {
            heard.lock().unwrap().push(body);
            "ok"
        };
        let router = axum::Router::new().route("/services/hook", post(answer)).with_state(Arc::clone(&heard));
        tokio::spawn(async move { axum::serve(listener, router).await });
        let secrets = aws_sdk_secretsmanager::Client::new(self.cloud.config());
        secrets.create_secret().name(secret).secret_string(url).send().await.unwrap();
        heard
    }

    /// The last value of a metric.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let bytes = self.lines.0.lock().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter_map(|line| line[name].as_f64()).next_back()
    }
}

/// A topic, and a queue that hears of all that is published to it.
async fn make_topic(cloud: &Cloud) -> (String, String) {
    let sns = aws_sdk_sns::Client::new(cloud.config());
    let sqs = aws_sdk_sqs::Client::new(cloud.config());
    let topic = sns.create_topic().name("notices").send().await.unwrap().topic_arn.unwrap();
    let queue = sqs.create_queue().queue_name("notices").send().await.unwrap().queue_url.unwrap();
    let name = QueueAttributeName::QueueArn;
    let attributes = sqs.get_queue_attributes().queue_url(&queue).attribute_names(name.clone());
    let arn = attributes.send().await.unwrap().attributes.unwrap()[&name].clone();
    sns.subscribe().topic_arn(&topic).protocol("sqs").endpoint(arn).send().await.unwrap();
    (topic, queue)
}
