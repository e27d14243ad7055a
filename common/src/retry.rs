//! Trying again: the only place that knows the `backoff` crate.
//!
//! An error says itself whether it is worth another try ([`Retryable`]); this
//! module says how long to wait: exponentially, capped, with jitter, and never
//! less than upstream asked for, but never more than [`Policy::longest_wait`].

use std::time::Duration;

use backoff::backoff::Backoff;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};

/// Whether an error is worth another try.
pub trait Retryable {
    /// What to do about this error.
    fn verdict(&self) -> Verdict;
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Try again, no sooner than after this wait where one is named.
    Retry {
        /// The wait that the other side asked for.
        after: Option<Duration>,
    },
    /// Trying again right away would bring the same.
    GiveUp,
}

/// How patient to be.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// The wait before the second try; later ones double it.
    pub first_wait: Duration,
    /// No single wait is longer, whatever the other side asks for.
    pub longest_wait: Duration,
    /// No further try begins when this much time would have passed.
    pub budget: Duration,
}

impl Policy {
    /// Runs `operation` until it succeeds, its error says to give up, or the
    /// budget is spent; then its last error is returned.
    ///
    /// `on_retry` hears of every error that is tried again, and of the wait.
    pub async fn run<T, E, F>(
        &self,
        mut operation: impl FnMut() -> F,
        mut on_retry: impl FnMut(&E, Duration),
    ) -> Result<T, E>
    where
        E: Retryable,
        F: Future<Output = Result<T, E>>,
    {
        let started = tokio::time::Instant::now();
        let mut waits = self.waits();
        loop {
            let error = match operation().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let Verdict::Retry { after } = error.verdict() else { return Err(error) };
            let Some(wait) = waits.next_backoff() else { return Err(error) };
            let wait = wait.max(after.unwrap_or_default()).min(self.longest_wait);
            if started.elapsed() + wait > self.budget {
                return Err(error);
            }
            on_retry(&error, wait);
            tokio::time::sleep(wait).await;
        }
    }

    /// The wait after the `tries`-th failure (1 for the first), with jitter:
    /// for those who don't wait themselves but have a message delivered later.
    pub fn wait_after(&self, tries: u32) -> Duration {
        let mut waits = self.waits();
        let mut wait = self.first_wait;
        for _ in 0..tries.clamp(1, 64) {
            wait = waits.next_backoff().unwrap_or(self.longest_wait);
        }
        wait.min(self.longest_wait)
    }

    fn waits(&self) -> ExponentialBackoff {
        ExponentialBackoffBuilder::new()
            .with_initial_interval(self.first_wait)
            .with_multiplier(2.0)
            .with_randomization_factor(0.5)
            .with_max_interval(self.longest_wait)
            // The budget is kept above, on a clock that tests can move.
            .with_max_elapsed_time(None)
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Fault(Verdict);

    impl Retryable for Fault {
        fn verdict(&self) -> Verdict {
            self.0
        }
    }

    const POLICY: Policy = Policy {
        first_wait: Duration::from_millis(100),
        longest_wait: Duration::from_secs(5),
        budget: Duration::from_mins(1),
    };

    async fn waits(policy: Policy, verdicts: &[Verdict]) -> (Vec<Duration>, Result<(), Fault>) {
        let mut waits = Vec::new();
        let mut verdicts = verdicts.iter();
        let outcome = policy
            .run(
                || std::future::ready(verdicts.next().map_or(Ok(()), |verdict| Err(Fault(*verdict)))),
                |_, wait| waits.push(wait),
            )
            .await;
        (waits, outcome)
    }

    const AGAIN: Verdict = Verdict::Retry { after: None };

    #[tokio::test(start_paused = true)]
    async fn waits_grow_with_jitter_and_are_capped() {
        let (waits, outcome) = waits(POLICY, &[AGAIN; 12]).await;
        assert!(outcome.is_ok());
        assert_eq!(waits.len(), 12);
        assert!(waits[0] >= Duration::from_millis(50) && waits[0] <= Duration::from_millis(150));
        assert!(waits.iter().all(|wait| *wait <= POLICY.longest_wait));
        assert!(waits[11] > waits[0] * 4);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_other_side_asks_for_is_waited_but_not_without_bound() {
        let asked = |seconds| Verdict::Retry { after: Some(Duration::from_secs(seconds)) };
        let (waits, _) = waits(POLICY, &[asked(3), asked(3600)]).await;
        assert!(waits[0] >= Duration::from_secs(3));
        assert_eq!(waits[1], POLICY.longest_wait);
    }

    #[tokio::test(start_paused = true)]
    async fn a_permanent_error_is_not_tried_again_and_a_budget_ends() {
        let (seen, outcome) = waits(POLICY, &[Verdict::GiveUp, AGAIN]).await;
        assert_eq!((seen.len(), outcome), (0, Err(Fault(Verdict::GiveUp))));
        let (seen, outcome) = waits(POLICY, &[AGAIN; 500]).await;
        assert!(outcome.is_err() && seen.iter().sum::<Duration>() <= POLICY.budget);
    }

    #[test]
    fn a_message_waits_longer_after_each_failure() {
        let policy =
            Policy { first_wait: Duration::from_secs(10), longest_wait: Duration::from_mins(15), ..POLICY };
        assert!(policy.wait_after(1) <= Duration::from_secs(15));
        assert!(policy.wait_after(5) >= Duration::from_secs(80));
        assert!(policy.wait_after(u32::MAX) <= Duration::from_mins(15));
    }
}
