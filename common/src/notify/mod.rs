//! What the team is told, and where: in Slack, and by e-mail through SNS.
//!
//! A [`Notice`] says what happened. [`Notifier::tell`] sends it to both places
//! and never fails: a run that is done is not undone because Slack is not there.
//! What others send to the same topic, CloudWatch's alarms ([`Alarm::parse`]) and
//! the rest, goes to Slack alone, by [`Notifier::tell_slack`]: the topic's
//! subscribers have it.

mod alarm;
mod blocks;
#[cfg(test)]
mod fake;
mod mail;
mod notice;
mod outline;
mod slack;
mod text;
mod topic;

use std::time::Duration;

use tokio::time::timeout;

pub use alarm::{Alarm, AlarmState};
pub use mail::Mail;
pub use notice::Notice;
pub use slack::{Slack, SlackError};
pub use topic::{SOURCE, Topic, TopicError};

/// No notice takes longer, all its tries together; a function that tells one
/// needs this much time besides its work.
pub const LONGEST_TELLING: Duration = Duration::from_secs(20);

/// Sends notices to wherever the team reads them.
pub struct Notifier {
    /// The environment that all notices name, such as `prod`.
    pub environment: String,
    /// The Slack channel; `None`: nothing is posted.
    pub slack: Option<Slack>,
    /// The topic with the e-mail subscribers; `None`: no e-mail is sent.
    pub topic: Option<Topic>,
}

impl Notifier {
    /// Sends a notice to Slack and to the topic at the same time, within
    /// [`LONGEST_TELLING`]. What can't be sent is logged, and not sent later.
    pub async fn tell(&self, notice: &Notice) {
        let (slack, topic) = tokio::join!(self.tell_slack(notice), self.tell_topic(notice));
        let kind = notice.kind();
        if let Err(error) = slack {
            tracing::warn!(notice.kind = kind, notice.channel = "slack", %error, "a notice was not sent");
        }
        if let Err(error) = topic {
            tracing::warn!(notice.kind = kind, notice.channel = "topic", %error, "a notice was not sent");
        }
    }

    /// Posts a notice to Slack alone, within [`LONGEST_TELLING`]. Without Slack
    /// there is nothing to do, and nothing fails.
    pub async fn tell_slack(&self, notice: &Notice) -> Result<(), SlackError> {
        let Some(slack) = &self.slack else { return Ok(()) };
        let payload = notice.blocks(&self.environment);
        timeout(LONGEST_TELLING, slack.send(&payload)).await.unwrap_or(Err(SlackError::TooSlow))
    }

    async fn tell_topic(&self, notice: &Notice) -> Result<(), TopicError> {
        let Some(topic) = &self.topic else { return Ok(()) };
        let mail = notice.mail(&self.environment);
        timeout(LONGEST_TELLING, topic.publish(&mail)).await.unwrap_or_else(|_| Err(topic.too_slow()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use testbed::Emulator;
    use tokio::time::Instant;

    use super::fake::{Answer, Fake, Logs, store_secret};
    use super::*;
    use crate::run::Count;

    fn started() -> Notice {
        let small = Count { bottles: 2, bytes: 3_000_000 };
        let run = "20261123T101500123Z-3fa8".parse().unwrap();
        Notice::RunStarted { run, small, large: Count::default() }
    }

    fn notifier(slack: Option<Slack>, topic: Option<Topic>) -> Notifier {
        Notifier { environment: "staging".to_owned(), slack, topic }
    }

    #[tokio::test]
    async fn a_notice_goes_to_slack_and_to_the_topic() {
        let emulator = Emulator::start().unwrap();
        let config = emulator.config();
        let fake = Fake::start(|_, _| Answer::ok()).await;
        let slack = store_secret(&config, "webhook", &fake.url("/services/T0/B0/key")).await;
        let sns = aws_sdk_sns::Client::new(&config);
        let arn = sns.create_topic().name("notices").send().await.unwrap().topic_arn.unwrap();
        let sqs = aws_sdk_sqs::Client::new(&config);
        let queue = sqs.create_queue().queue_name("reader").send().await.unwrap().queue_url.unwrap();
        let endpoint = "arn:aws:sqs:us-east-1:000000000000:reader";
        sns.subscribe().topic_arn(&arn).protocol("sqs").endpoint(endpoint).send().await.unwrap();

        notifier(Some(slack), Some(Topic::new(sns, arn))).tell(&started()).await;

        let asked = fake.asked();
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].path, "/services/T0/B0/key");
        assert_eq!(asked[0].content_type, "application/json");
        assert_eq!(asked[0].body, started().blocks("staging"));
        let received = sqs.receive_message().queue_url(&queue).wait_time_seconds(5).send().await.unwrap();
        let body: Value =
            serde_json::from_str(received.messages()[0].body.as_deref().unwrap_or_default()).unwrap();
        let mail = started().mail("staging");
        assert_eq!(body["Subject"], mail.subject);
        assert_eq!(body["Message"], mail.body);
        assert_eq!(body["MessageAttributes"]["source"]["Value"], SOURCE);
    }

    #[tokio::test]
    async fn telling_survives_that_nobody_is_there_and_logs_no_url() {
        let emulator = Emulator::start().unwrap();
        let config = emulator.config();
        let closed = fake::closed_port().await;
        let webhook = format!("http://127.0.0.1:{closed}/services/T0/B0/sesame");
        let slack = store_secret(&config, "webhook", &webhook).await;
        let missing = "arn:aws:sns:us-east-1:000000000000:nowhere";
        let topic = Topic::new(aws_sdk_sns::Client::new(&config), missing.to_owned());
        let logs = Logs::capture();
        let began = Instant::now();

        notifier(Some(slack), Some(topic)).tell(&started()).await;

        assert!(began.elapsed() < LONGEST_TELLING);
        let logs = logs.text();
        let warnings: Vec<_> = logs.lines().filter(|line| line.contains("a notice was not sent")).collect();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        for (line, channel) in warnings.iter().zip(["slack", "topic"]) {
            assert!(
                line.contains("WARN") && line.contains("run-started") && line.contains(channel),
                "{line}"
            );
        }
        assert!(warnings[0].contains("Slack can't be reached"), "{}", warnings[0]);
        assert!(warnings[1].contains("nowhere"), "{}", warnings[1]);
        // At the lowest level too, with everything that the clients say.
        assert!(logs.contains("TRACE") || logs.contains("DEBUG"), "the clients said nothing");
        assert!(!logs.contains("sesame") && !logs.contains("/services/"), "{logs}");
    }

    #[tokio::test]
    async fn slack_that_never_answers_takes_no_longer_than_the_bound() {
        let emulator = Emulator::start().unwrap();
        let config = emulator.config();
        let fake = Fake::start(|_, nth| if nth == 0 { Answer::ok() } else { Answer::Never }).await;
        let slack = store_secret(&config, "webhook", &fake.url("/hang")).await;
        let notifier = notifier(Some(slack), None);
        // The secret is read while time still passes by itself.
        notifier.tell_slack(&started()).await.unwrap();
        tokio::time::pause();
        let began = Instant::now();
        let error = notifier.tell_slack(&started()).await.unwrap_err();
        assert!(matches!(error, SlackError::Unreachable { .. }), "each post has its own limit: {error}");
        assert!(began.elapsed() < LONGEST_TELLING, "{:?}", began.elapsed());
        notifier.tell(&started()).await;
        assert!(began.elapsed() <= LONGEST_TELLING * 2 + Duration::from_millis(10), "{:?}", began.elapsed());
        assert!(!format!("{error} {error:?}").contains("/hang"), "{error:?}");
    }

    #[tokio::test]
    async fn a_topic_that_never_answers_takes_no_longer_than_the_bound() {
        let fake = Fake::start(|_, _| Answer::Never).await;
        let sns = aws_sdk_sns::Client::new(&testbed::aws_config_for(&fake.url("")));
        let topic = Topic::new(sns, "arn:aws:sns:us-east-1:000000000000:notices".to_owned());
        let logs = Logs::capture();
        tokio::time::pause();
        let began = Instant::now();
        notifier(None, Some(topic)).tell(&started()).await;
        assert!(began.elapsed() <= LONGEST_TELLING + Duration::from_millis(10), "{:?}", began.elapsed());
        let logs = logs.text();
        assert!(logs.contains("the topic notices takes no notice: it did not answer in time"), "{logs}");
    }

    #[tokio::test]
    async fn without_channels_nothing_is_sent_and_nothing_fails() {
        let notifier = notifier(None, None);
        notifier.tell_slack(&started()).await.unwrap();
        // In a task of its own, as functions and services do it.
        tokio::spawn(async move { notifier.tell(&started()).await }).await.unwrap();
    }
}
