//! Slack's incoming webhook.
//!
//! Whoever knows the webhook's URL can post, so it is a secret: it is read from
//! Secrets Manager when it is needed, and no error and no log line holds it.

mod error;
mod webhook;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_sdk_secretsmanager::Client as Secrets;
use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::aws::Fault;
use crate::registry::{is_loopback, retry_after};
use crate::retry::{Policy, Retryable, Verdict};

pub use error::SlackError;

/// How long a webhook is used before the secret is read again.
const KEPT: Duration = Duration::from_mins(15);

/// One post: from the connection to the end of the answer.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(5);

/// Reading the secret, with the client's own tries.
const SECRET_WITHIN: Duration = Duration::from_secs(10);

/// Posts of one notice to one webhook.
const ATTEMPTS: u32 = 3;

/// Between the posts.
const RETRY: Policy = Policy {
    first_wait: Duration::from_millis(500),
    longest_wait: Duration::from_secs(10),
    budget: Duration::from_secs(15),
};

/// One channel's webhook.
pub struct Slack {
    secrets: Secrets,
    secret: String,
    /// By way of the proxy that the environment names, if it does.
    client: Client,
    /// For this machine itself, which no proxy reaches.
    loopback: Client,
    webhook: Mutex<Option<(SecretString, Instant)>>,
}

/// A failed post, and whether it was the last.
struct Failed {
    error: SlackError,
    last: bool,
}

impl Retryable for Failed {
    fn verdict(&self) -> Verdict {
        if self.last { Verdict::GiveUp } else { self.error.verdict() }
    }
}

impl Slack {
    /// The webhook whose URL the secret of this name holds, by itself or as
    /// `{"webhook_url": "https://…"}`. It is not read yet.
    pub fn new(secrets: Secrets, secret_name: String) -> Result<Self, SlackError> {
        let build = |proxied: bool| {
            let builder = Client::builder()
                .user_agent(concat!("bottles/", env!("CARGO_PKG_VERSION")))
                // The webhook's owner is Slack, and nobody that Slack points to.
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .timeout(ATTEMPT_WITHIN)
                .http1_only()
                // Between two notices a function is frozen, and its connections die.
                .pool_max_idle_per_host(0);
            let builder = if proxied { builder } else { builder.no_proxy() };
            builder.build().map_err(|error| SlackError::Client { cause: cause(error) })
        };
        Ok(Self {
            secrets,
            secret: secret_name,
            client: build(true)?,
            loopback: build(false)?,
            webhook: Mutex::new(None),
        })
    }

    /// Posts a payload. A webhook that is refused may have been rotated: the
    /// secret is read again, once.
    pub async fn send(&self, payload: &Value) -> Result<(), SlackError> {
        let body = Bytes::from(payload.to_string());
        match self.deliver(&body).await {
            Err(SlackError::Refused { status, .. }) => {
                tracing::info!(secret.name = self.secret, status, "the webhook is refused: reading it again");
                *self.kept() = None;
                self.deliver(&body).await
            }
            outcome => outcome,
        }
    }

    /// Posts to the webhook as it is known, up to [`ATTEMPTS`] times.
    async fn deliver(&self, body: &Bytes) -> Result<(), SlackError> {
        let webhook = self.webhook().await?;
        let attempts = AtomicU32::new(0);
        let attempt = || async {
            let last = attempts.fetch_add(1, Ordering::Relaxed) + 1 >= ATTEMPTS;
            self.post(&webhook, body.clone()).await.map_err(|error| Failed { error, last })
        };
        let on_retry = |failed: &Failed, wait: Duration| {
            tracing::info!(error = %failed.error, wait_ms = wait.as_millis(), "trying Slack again");
        };
        RETRY.run(attempt, on_retry).await.map_err(|failed| failed.error)
    }

    async fn post(&self, webhook: &SecretString, body: Bytes) -> Result<(), SlackError> {
        let url = webhook::parse(webhook.expose_secret()).map_err(|why| self.no_webhook(why))?;
        let client = if is_loopback(&url) { &self.loopback } else { &self.client };
        let json = HeaderValue::from_static("application/json");
        let request = client.post(url).header(CONTENT_TYPE, json).body(body);
        let response =
            request.send().await.map_err(|error| SlackError::Unreachable { cause: cause(error) })?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let retry_after = retry_after(response.headers());
        let word = word(response).await;
        match status {
            StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => {
                Err(SlackError::Refused { secret: self.secret.clone(), status: status.as_u16(), word })
            }
            _ => Err(SlackError::Status { status: status.as_u16(), word, retry_after }),
        }
    }

    /// The webhook's URL: the one that is kept, or the secret's.
    async fn webhook(&self) -> Result<SecretString, SlackError> {
        if let Some((webhook, read_at)) = &*self.kept()
            && read_at.elapsed() < KEPT
        {
            return Ok(webhook.clone());
        }
        let unread = |cause: String| SlackError::Secret { secret: self.secret.clone(), cause };
        let request = self.secrets.get_secret_value().secret_id(&self.secret).send();
        let output = timeout(SECRET_WITHIN, request)
            .await
            .map_err(|_| unread("Secrets Manager did not answer in time".to_owned()))?
            .map_err(|error| unread(Fault::of(&error).text))?;
        let value = output.secret_string.map(SecretString::from);
        let value = value.ok_or_else(|| self.no_webhook("it is binary"))?;
        let webhook = webhook::read(&value).map_err(|why| self.no_webhook(why))?;
        *self.kept() = Some((webhook.clone(), Instant::now()));
        Ok(webhook)
    }

    fn no_webhook(&self, why: &'static str) -> SlackError {
        SlackError::NoWebhook { secret: self.secret.clone(), why }
    }

    fn kept(&self) -> MutexGuard<'_, Option<(SecretString, Instant)>> {
        self.webhook.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The causes of a failed request. reqwest puts the URL in front of its message.
fn cause(error: reqwest::Error) -> String {
    crate::aws::chain(&error.without_url())
}

/// Slack's word for what is wrong, such as `: invalid_blocks`. Anything but one
/// short word is left out: a body may hold whatever we sent.
async fn word(mut response: Response) -> String {
    const LONGEST: usize = 40;
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST {
            return String::new();
        }
    }
    let word = String::from_utf8(body).unwrap_or_default();
    let word = word.trim();
    let is_word = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if is_word { format!(": {word}") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use aws_config::SdkConfig;
    use serde_json::json;
    use testbed::Emulator;

    use super::super::fake::{Answer, Fake, Logs, closed_port, store_secret};
    use super::*;

    /// An emulator, a fake Slack, and the client of both.
    async fn set_up(
        answer: impl Fn(&str, usize) -> Answer + Send + Sync + 'static,
    ) -> (Emulator, SdkConfig, Fake, Slack) {
        let emulator = Emulator::start().unwrap();
        let config = emulator.config();
        let fake = Fake::start(answer).await;
        let slack = store_secret(&config, "webhook", &fake.url("/services/old-sesame")).await;
        (emulator, config, fake, slack)
    }

    async fn rotate(config: &SdkConfig, value: String) {
        let secrets = Secrets::new(config);
        secrets.put_secret_value().secret_id("webhook").secret_string(value).send().await.unwrap();
    }

    fn assert_silent(text: &str) {
        assert!(!text.contains("sesame") && !text.contains("/services"), "the URL is in {text}");
    }

    #[tokio::test]
    async fn a_rotated_webhook_is_read_again_and_no_log_line_holds_either() {
        let (_emulator, config, fake, slack) = set_up(|path, nth| match path {
            "/services/old-sesame" if nth == 0 => Answer::ok(),
            "/services/old-sesame" => Answer::new(404, "", "no_service"),
            _ => Answer::ok(),
        })
        .await;
        slack.send(&json!({ "text": "one" })).await.unwrap();
        rotate(&config, json!({ "webhook_url": fake.url("/services/new-sesame") }).to_string()).await;
        let logs = Logs::capture();
        slack.send(&json!({ "text": "two" })).await.unwrap();
        let asked = fake.asked();
        let paths: Vec<_> = asked.iter().map(|asked| asked.path.as_str()).collect();
        assert_eq!(paths, ["/services/old-sesame", "/services/old-sesame", "/services/new-sesame"]);
        assert_eq!(asked[2].body, json!({ "text": "two" }));
        let logs = logs.text();
        assert!(logs.contains("the webhook is refused: reading it again"), "{logs}");
        assert_silent(&logs);
    }

    #[tokio::test]
    async fn a_revoked_webhook_is_an_error_that_names_the_secret_alone() {
        for status in [403, 404, 410] {
            let (_emulator, _, fake, slack) =
                set_up(move |_, _| Answer::new(status, "", "action_prohibited")).await;
            let error = slack.send(&json!({})).await.unwrap_err();
            assert!(matches!(error, SlackError::Refused { status: seen, .. } if seen == status), "{error:?}");
            let text = error.to_string();
            assert!(text.contains("secret webhook") && text.contains("action_prohibited"), "{text}");
            assert_silent(&format!("{text} {error:?}"));
            assert_eq!(fake.asked().len(), 2, "once before and once after the secret was read again");
        }
    }

    #[tokio::test]
    async fn what_slack_asks_to_wait_is_waited() {
        let (_emulator, _, fake, slack) = set_up(|_, nth| match nth {
            0 => Answer::new(429, "Retry-After: 2\r\n", "rate_limited"),
            _ => Answer::ok(),
        })
        .await;
        slack.send(&json!({})).await.unwrap();
        let asked = fake.asked();
        assert_eq!(asked.len(), 2);
        let waited = asked[1].at.duration_since(asked[0].at);
        assert!(waited >= Duration::from_secs(2), "{waited:?}");
    }

    #[tokio::test]
    async fn a_wait_that_no_notice_has_time_for_is_not_begun() {
        let (_emulator, _, fake, slack) =
            set_up(|_, _| Answer::new(429, "Retry-After: 30\r\n", "rate_limited")).await;
        let error = slack.send(&json!({})).await.unwrap_err();
        assert_eq!(error.to_string(), "Slack answers HTTP 429: rate_limited");
        assert_eq!(fake.asked().len(), 1);
    }

    #[tokio::test]
    async fn three_posts_and_no_more() {
        let (_emulator, _, fake, slack) =
            set_up(|_, _| Answer::new(503, "", "<html>/services/…</html>")).await;
        let error = slack.send(&json!({})).await.unwrap_err();
        assert_eq!(error.to_string(), "Slack answers HTTP 503", "a body is not repeated");
        assert_eq!(fake.asked().len(), 3);
    }

    #[tokio::test]
    async fn a_refused_payload_and_a_redirect_are_tried_once() {
        let (_emulator, _, fake, slack) = set_up(|_, nth| match nth {
            0 => Answer::new(400, "", "invalid_blocks"),
            _ => Answer::new(307, "Location: /elsewhere\r\n", ""),
        })
        .await;
        let error = slack.send(&json!({})).await.unwrap_err();
        assert_eq!(error.to_string(), "Slack answers HTTP 400: invalid_blocks");
        assert_eq!(fake.asked().len(), 1);
        let error = slack.send(&json!({})).await.unwrap_err();
        assert_eq!(error.to_string(), "Slack answers HTTP 307");
        assert!(fake.asked().iter().all(|asked| asked.path == "/services/old-sesame"));
        assert_eq!(fake.asked().len(), 2);
    }

    #[tokio::test]
    async fn a_webhook_is_kept_for_a_quarter_of_an_hour() {
        let (_emulator, config, fake, slack) = set_up(|_, _| Answer::ok()).await;
        slack.send(&json!({})).await.unwrap();
        rotate(&config, fake.url("/services/new-sesame")).await;
        slack.send(&json!({})).await.unwrap();
        assert!(fake.asked().iter().all(|asked| asked.path == "/services/old-sesame"));
        tokio::time::pause();
        tokio::time::advance(KEPT).await;
        tokio::time::resume();
        slack.send(&json!({})).await.unwrap();
        assert_eq!(fake.asked()[2].path, "/services/new-sesame");
    }

    #[tokio::test]
    async fn what_fails_before_the_post_names_the_secret_and_never_its_value() {
        let emulator = Emulator::start().unwrap();
        let config = emulator.config();
        let missing = Slack::new(Secrets::new(&config), "nowhere".to_owned()).unwrap();
        let error = missing.send(&json!({})).await.unwrap_err().to_string();
        assert!(error.starts_with("the secret nowhere can't be read: ResourceNotFound"), "{error}");

        let slack = store_secret(&config, "plain", "http://hooks.example/services/sesame").await;
        let error = slack.send(&json!({})).await.unwrap_err();
        assert_eq!(error.to_string(), "the secret plain holds no webhook: it is no https URL");
        assert_silent(&format!("{error:?}"));

        let url = format!("http://127.0.0.1:{}/services/sesame", closed_port().await);
        let slack = store_secret(&config, "closed", &url).await;
        let error = slack.send(&json!({})).await.unwrap_err();
        assert!(matches!(error, SlackError::Unreachable { .. }), "{error:?}");
        assert_silent(&format!("{error} {error:?}"));
    }
}
