//! ECS task protection: while bottles are in hand, scaling in takes another task.

use std::time::Duration;

use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

/// The container agent's endpoint for this task.
/// <https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-scale-in-protection-endpoint.html>
pub struct Protection {
    client: reqwest::Client,
    url: String,
}

/// The agent did not do as it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the task's protection can't be set: {0}")]
pub struct ProtectionError(String);

/// Protection ends by itself after this, should the process die with it.
const EXPIRES_AFTER: Duration = Duration::from_mins(30);

/// While there is work it is asked for again this often.
const RENEWED_EVERY: Duration = Duration::from_mins(10);

/// A failed request is repeated after this.
const RETRIED_AFTER: Duration = Duration::from_secs(15);

/// Between two bottles the protection is kept so long: one request less each.
const LINGERS: Duration = Duration::from_secs(2);

impl Protection {
    /// By the endpoint in `ECS_AGENT_URI`.
    pub fn new(agent: &str) -> Result<Self, ProtectionError> {
        // It is on this machine: no proxy reaches it.
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build();
        let client = client.map_err(|error| ProtectionError(error.to_string()))?;
        Ok(Self { client, url: format!("{}/task-protection/v1/state", agent.trim_end_matches('/')) })
    }

    /// Holds the protection while `in_hand` is not zero, until its sender is gone
    /// or `done` comes; then it lets go of it.
    pub async fn keep(&self, mut in_hand: watch::Receiver<usize>, done: impl Future<Output = ()>) {
        tokio::pin!(done);
        // When it was last asked for; `None` while it is not held.
        let mut held: Option<Instant> = None;
        loop {
            let busy = *in_hand.borrow_and_update() > 0;
            let next = match (busy, held) {
                (true, Some(at)) if at.elapsed() < RENEWED_EVERY => {
                    RENEWED_EVERY.saturating_sub(at.elapsed())
                }
                (true, _) => match self.set(true).await {
                    Ok(()) => {
                        held = Some(Instant::now());
                        RENEWED_EVERY
                    }
                    Err(error) => {
                        tracing::warn!(%error, "the task may be taken away while it works");
                        RETRIED_AFTER
                    }
                },
                (false, Some(_)) => {
                    if tokio::time::timeout(LINGERS, in_hand.wait_for(|count| *count > 0))
                        .await
                        .is_ok_and(|seen| seen.is_ok())
                    {
                        continue;
                    }
                    match self.set(false).await {
                        Ok(()) => {
                            held = None;
                            Duration::MAX
                        }
                        Err(error) => {
                            tracing::warn!(%error, "the idle task is kept until its protection expires");
                            RETRIED_AFTER
                        }
                    }
                }
                (false, None) => Duration::MAX,
            };
            tokio::select! {
                () = &mut done => break,
                changed = in_hand.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(next) => {}
            }
        }
        if held.is_some()
            && let Err(error) = self.set(false).await
        {
            tracing::debug!(%error, "the task ends with its protection");
        }
    }

    async fn set(&self, enabled: bool) -> Result<(), ProtectionError> {
        let body = if enabled {
            json!({ "ProtectionEnabled": true, "ExpiresInMinutes": EXPIRES_AFTER.as_secs() / 60 })
        } else {
            json!({ "ProtectionEnabled": false })
        };
        let request =
            self.client.put(&self.url).header("content-type", "application/json").body(body.to_string());
        let response =
            request.send().await.map_err(|error| ProtectionError(error.without_url().to_string()))?;
        let status = response.status();
        let text = response.text().await.unwrap_or_default();
        // A refusal may come as a success that holds a `failure`.
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let refusal = ["failure", "error"].into_iter().find(|name| !answer[*name].is_null());
        match refusal {
            None if status.is_success() => {
                tracing::debug!(enabled, "task protection");
                Ok(())
            }
            Some(name) => Err(ProtectionError(format!("{status}: {}", answer[name]))),
            None => Err(ProtectionError(status.to_string())),
        }
    }
}
