//! One limit on requests to upstream, shared by all who ask.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Spaces requests evenly, and holds all of them back when upstream asks for it.
#[derive(Debug)]
pub struct RequestLimit {
    /// Time between two requests at the full rate.
    spacing: Duration,
    schedule: Mutex<Schedule>,
}

#[derive(Debug)]
struct Schedule {
    /// When the next request may go out.
    next: Instant,
    /// Until when none may.
    paused_until: Instant,
}

/// How far the schedule may lag behind the clock: a tenth of a second's worth
/// of requests may go out at once.
const BURST: Duration = Duration::from_millis(100);

/// No pause is longer, whatever upstream asks for.
const MAX_PAUSE: Duration = Duration::from_mins(1);

impl RequestLimit {
    /// At most `per_second` requests a second.
    pub fn new(per_second: u32) -> Self {
        let now = Instant::now();
        let spacing = Duration::from_secs(1) / per_second.max(1);
        Self { spacing, schedule: Mutex::new(Schedule { next: now, paused_until: now }) }
    }

    /// Waits until one more request may go out.
    pub async fn admit(&self) {
        loop {
            let mine = self.reserve();
            if mine > Instant::now() {
                tokio::time::sleep_until(mine).await;
            }
            // All may have been told to wait while this one slept; then it
            // takes its place in the queue again.
            if self.lock().paused_until <= Instant::now() {
                return;
            }
        }
    }

    /// Holds all requests back for `wait`, one minute at most.
    pub fn pause(&self, wait: Duration) {
        let until = Instant::now() + wait.min(MAX_PAUSE);
        let mut schedule = self.lock();
        schedule.paused_until = schedule.paused_until.max(until);
    }

    fn reserve(&self) -> Instant {
        let now = Instant::now();
        let mut schedule = self.lock();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let mine = schedule.next.max(earliest).max(schedule.paused_until);
        schedule.next = mine + self.spacing;
        mine
    }

    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    async fn admit_all(limit: &Arc<RequestLimit>, count: u32) -> Duration {
        let started = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..count {
            let limit = Arc::clone(limit);
            tasks.spawn(async move { limit.admit().await });
        }
        tasks.join_all().await;
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_ask_share_one_rate() {
        let limit = Arc::new(RequestLimit::new(100));
        let took = admit_all(&limit, 500).await;
        assert!(took >= Duration::from_millis(4_850) && took <= Duration::from_millis(5_100), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_back_those_already_waiting_too() {
        let limit = Arc::new(RequestLimit::new(10));
        let (took, ()) = tokio::join!(admit_all(&limit, 20), async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            limit.pause(Duration::from_secs(30));
        });
        assert!(took >= Duration::from_secs(30), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_is_capped() {
        let limit = Arc::new(RequestLimit::new(10));
        limit.pause(Duration::from_hours(24));
        assert!(admit_all(&limit, 1).await <= MAX_PAUSE + Duration::from_secs(1));
    }
}
