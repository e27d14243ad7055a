//! What upstream was asked, and how it answered.

use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::StatusCode;

/// How upstream answered, as a metric has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusClass {
    /// It sent what was asked for.
    Success,
    /// It sent the asker elsewhere.
    Redirection,
    /// It refused; a token that is asked for too.
    ClientError,
    /// It asked for patience.
    Throttled,
    /// It failed.
    ServerError,
    /// It did not answer.
    Unreachable,
}

impl StatusClass {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Success,
        Self::Redirection,
        Self::ClientError,
        Self::Throttled,
        Self::ServerError,
        Self::Unreachable,
    ];

    /// `2xx`, `429`, `unreachable`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "2xx",
            Self::Redirection => "3xx",
            Self::ClientError => "4xx",
            Self::Throttled => "429",
            Self::ServerError => "5xx",
            Self::Unreachable => "unreachable",
        }
    }

    fn of(status: Option<StatusCode>) -> Self {
        match status.map(|status| status.as_u16()) {
            None => Self::Unreachable,
            Some(429) => Self::Throttled,
            Some(500..) => Self::ServerError,
            Some(400..) => Self::ClientError,
            Some(300..) => Self::Redirection,
            Some(_) => Self::Success,
        }
    }
}

/// How many requests there were, by their answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    by_class: [u64; 6],
    /// Tries that were repeated.
    pub retries: u64,
}

impl Counts {
    /// Answers of one class.
    pub fn of(&self, class: StatusClass) -> u64 {
        self.by_class[class as usize]
    }

    /// All requests.
    pub fn requests(&self) -> u64 {
        self.by_class.iter().sum()
    }

    /// What came since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut later = *self;
        for (count, before) in later.by_class.iter_mut().zip(earlier.by_class) {
            *count = count.saturating_sub(before);
        }
        later.retries = later.retries.saturating_sub(earlier.retries);
        later
    }
}

#[derive(Default)]
pub(super) struct Counters {
    by_class: [AtomicU64; 6],
    retries: AtomicU64,
}

impl Counters {
    pub(super) fn answered(&self, status: Option<StatusCode>) {
        self.by_class[StatusClass::of(status) as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> Counts {
        Counts {
            by_class: std::array::from_fn(|class| self.by_class[class].load(Ordering::Relaxed)),
            retries: self.retries.load(Ordering::Relaxed),
        }
    }
}
