//! What a worker did so far.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::dead_letter::ByReason;
use crate::mirror::Mirrored;
use crate::run::Count;

use super::finish::Disposition;

/// What a worker did so far. Cheap to clone; all clones show the same.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    done: Done,
    transfers: Vec<Duration>,
}

/// Transfers that are remembered until someone takes them. CloudWatch takes as
/// many values of one metric at once.
const MOST_TRANSFERS: usize = 100;

/// What a worker did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Done {
    /// Fetched from upstream.
    pub fetched: Count,
    /// Copied inside the mirror.
    pub copied: Count,
    /// Found in the mirror.
    pub already_held: Count,
    /// Given up on, by reason.
    pub dead: ByReason,
    /// Given back, to be tried again later.
    pub released: u64,
}

impl Done {
    /// Bottles that need no more work, one way or the other.
    pub fn finished(&self) -> Count {
        let dead = Count { bottles: self.dead.values().sum(), bytes: 0 };
        self.fetched + self.copied + self.already_held + dead
    }

    /// What was done since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let dead = self.dead.iter().map(|(reason, count)| {
            (*reason, count.saturating_sub(earlier.dead.get(reason).copied().unwrap_or(0)))
        });
        Self {
            fetched: self.fetched - earlier.fetched,
            copied: self.copied - earlier.copied,
            already_held: self.already_held - earlier.already_held,
            dead: dead.filter(|(_, count)| *count > 0).collect(),
            released: self.released.saturating_sub(earlier.released),
        }
    }
}

impl Progress {
    /// What was done until now.
    pub fn now(&self) -> Done {
        self.state().done.clone()
    }

    /// How long the transfers from upstream took that ended since this was last
    /// asked: the first hundred of them.
    pub fn take_transfers(&self) -> Vec<Duration> {
        std::mem::take(&mut self.state().transfers)
    }

    pub(super) fn account(&self, disposition: &Disposition) {
        let mut state = self.state();
        match disposition {
            Disposition::Held { message, mirrored, took } => match mirrored {
                Mirrored::Fetched => {
                    state.done.fetched.add(message.size);
                    if state.transfers.len() < MOST_TRANSFERS {
                        state.transfers.push(*took);
                    }
                }
                Mirrored::Copied => state.done.copied.add(message.size),
                Mirrored::AlreadyHeld => state.done.already_held.add(message.size),
            },
            Disposition::Dead { failure, .. } => *state.done.dead.entry(failure.reason).or_default() += 1,
            Disposition::Release { .. } => state.done.released += 1,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
