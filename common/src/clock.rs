//! The time of day, so that tests can move it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// Tells the time: the system's, or one that a test sets.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<Mutex<Timestamp>>>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still at `start` until it is moved.
    pub fn manual(start: Timestamp) -> Self {
        Self(Some(Arc::new(Mutex::new(start))))
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            None => Timestamp::now(),
            Some(time) => *time.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Moves a manual clock; the system's can't be moved.
    pub fn advance(&self, by: Duration) {
        if let Some(time) = &self.0 {
            let mut time = time.lock().unwrap_or_else(PoisonError::into_inner);
            *time = after(*time, by);
        }
    }
}

/// How long what is superseded is kept: `90d`, or a shorter time such as `12h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grace(pub Duration);

impl Default for Grace {
    fn default() -> Self {
        Self(Duration::from_hours(90 * 24))
    }
}

impl std::str::FromStr for Grace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let days = text.strip_suffix('d').and_then(|days| days.trim().parse::<u32>().ok());
        if let Some(days) = days {
            return Ok(Self(Duration::from_hours(u64::from(days) * 24)));
        }
        let duration: SignedDuration = text
            .parse()
            .map_err(|_| format!("it takes days such as 90d, {} at most, or hours such as 36h", u32::MAX))?;
        Duration::try_from(duration).map(Self).map_err(|_| "it is not negative".to_owned())
    }
}

/// The time `by` after `start`, or the end of time.
pub fn after(start: Timestamp, by: Duration) -> Timestamp {
    start.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// How long ago `earlier` was; zero if it is yet to come.
pub fn since(earlier: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(earlier)).unwrap_or_default()
}

/// The instant of a time of day, given in milliseconds since 1970: Lambda tells
/// its deadline so.
pub fn instant(milliseconds: u64) -> tokio::time::Instant {
    let at = i64::try_from(milliseconds).ok().and_then(|at| Timestamp::from_millisecond(at).ok());
    let left = at.map_or(Duration::ZERO, |at| since(Timestamp::now(), at));
    tokio::time::Instant::now() + left
}
