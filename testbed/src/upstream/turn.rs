//! Publications, one after the other: those made at once, and those that wait for
//! requests.

use std::sync::Mutex;

use crate::draft::Draft;
use crate::glob::matches;
use crate::sync::lock;

/// The drafts that wait for answers to be given. Its lock is held while something is
/// published, so that no publication overtakes another.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    waiting: Mutex<Vec<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    pattern: String,
    /// Answers to be given before it is published.
    left: usize,
    draft: Draft,
}

impl Turn {
    /// Returns when nothing is being published.
    pub(crate) fn pass(&self) {
        drop(lock(&self.waiting));
    }

    /// Publishes at once, with `publish`.
    pub(crate) fn take(&self, draft: Draft, publish: impl FnOnce(Draft)) {
        let _held = lock(&self.waiting);
        publish(draft);
    }

    /// Has a draft published after so many answers to requests that match.
    pub(crate) fn wait(&self, pattern: &str, count: usize, draft: Draft) {
        lock(&self.waiting).push(Waiting { pattern: pattern.to_owned(), left: count, draft });
    }

    /// Counts the answer to a request, and publishes what waited for it: the drafts
    /// that came first, first.
    pub(crate) fn answered(&self, target: &str, publish: impl FnMut(Draft)) {
        let mut waiting = lock(&self.waiting);
        let due = waiting.extract_if(.., |one| {
            one.left -= usize::from(matches(&one.pattern, target));
            one.left == 0
        });
        due.map(|one| one.draft).for_each(publish);
    }
}
