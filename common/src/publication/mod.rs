//! What clients read first: Homebrew's API files, published after what they name.
//!
//! A plan stages a *set*: the API files as upstream had them at the moment of its
//! catalogue, and what they need, which is every bottle that the selection asks for
//! with the clients that it is for ([`Set`]). Settle publishes a set's files scope by
//! scope ([`Scope`]), each as soon as the mirror holds what the scope needs, and
//! remembers what it replaced.

mod file;
mod report;
mod set;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::bottle::{BottleTag, Digest};
use crate::run::RunId;

pub use file::{ApiPath, Scope};
pub use report::{PublishReport, Waiting};
pub use set::{ApiFile, Need, NeededBottle, SETS, Set, SetError, file_key, forget_unused, set_key};

/// What clients read, and what waits to be read by them: the manifest's part of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Publication {
    /// Sets that some scope waits for, oldest first, by the run that staged them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub staged: Vec<Staged>,
    /// What each scope reads.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub published: BTreeMap<Scope, Published>,
    /// What each scope read before that.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub previous: BTreeMap<Scope, Published>,
    /// The files below `api/` as they were last written, by path.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<ApiPath, Digest>,
    /// Since when an operator's rollback holds publishing back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_since: Option<Timestamp>,
}

/// A set that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// The run that staged it.
    pub run: RunId,
    /// When.
    pub at: Timestamp,
    /// The scopes that its files are for.
    pub scopes: Vec<Scope>,
    /// Clients for which it may be published though some of its bottles were given
    /// up on.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub despite_dead: BTreeSet<BottleTag>,
}

/// A set that was published to a scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The run that staged it.
    pub run: RunId,
    /// When it was published, as [`Manifest::folded_at`](crate::manifest::Manifest::folded_at) counts.
    pub at: Timestamp,
}

/// So many sets wait at most.
const MOST_STAGED: usize = 3;

impl Publication {
    /// Takes note of a set that was staged. With too many of them the one before it
    /// goes, not the oldest: that one is the nearest to being complete.
    pub fn stage(&mut self, staged: Staged) {
        self.insert_staged(staged);
        while self.staged.len() > MOST_STAGED {
            self.staged.remove(self.staged.len() - 2);
        }
    }

    /// Takes note of a set that was staged beside all others: for sets that are for some
    /// scopes each, of which none makes up for another. Of each scope the oldest stays,
    /// which is the nearest to being complete, and the two newest.
    pub fn add_staged(&mut self, staged: Staged) {
        self.insert_staged(staged);
        while let Some(surplus) = (0..self.staged.len()).find(|at| self.is_surplus(*at)) {
            self.staged.remove(surplus);
        }
    }

    /// Whether each scope of a set that waits is one of an older set, and of newer ones.
    fn is_surplus(&self, at: usize) -> bool {
        let (older, newer) = (&self.staged[..at], &self.staged[at + 1..]);
        let with = |sets: &[Staged], scope| sets.iter().filter(|set| set.scopes.contains(scope)).count();
        self.staged[at]
            .scopes
            .iter()
            .all(|scope| with(older, scope) > 0 && with(newer, scope) >= MOST_STAGED - 1)
    }

    fn insert_staged(&mut self, staged: Staged) {
        self.staged.retain(|other| other.run != staged.run);
        self.staged.push(staged);
        self.staged.sort_by(|a, b| a.run.cmp(&b.run));
    }

    /// The newest set, whether it waits, is read, or was rolled back.
    pub fn newest(&self) -> Option<&RunId> {
        self.runs().into_iter().next_back()
    }

    /// Whether `scope` waits for the set of `run`.
    pub fn awaits(&self, scope: &Scope, run: &RunId) -> bool {
        self.published.get(scope).is_none_or(|published| published.run < *run)
    }

    /// Whether each scope of a set reads it, file for file, or waits for it; or is kept
    /// from it by a rollback.
    pub fn is_in_force(&self, set: &Set) -> bool {
        let is_of =
            |published: Option<&Published>| published.is_some_and(|published| published.run == set.run);
        set.scopes().iter().all(|scope| {
            let waits =
                self.staged.iter().any(|staged| staged.run == set.run && staged.scopes.contains(scope));
            let has_files =
                || set.files_of(scope).all(|(path, file)| self.files.get(path) == Some(&file.sha256));
            let is_held_back = self.held_since.is_some() && is_of(self.previous.get(scope));
            waits || is_held_back || (is_of(self.published.get(scope)) && has_files())
        })
    }

    /// Forgets the sets that nobody waits for any more.
    pub fn forget_published(&mut self) {
        let Self { staged, published, .. } = self;
        staged.retain(|set| {
            let is_awaited =
                |scope| published.get(scope).is_none_or(|published: &Published| published.run < set.run);
            set.scopes.iter().any(is_awaited)
        });
    }

    /// Every set that is read, was read before, or waits.
    pub fn runs(&self) -> BTreeSet<&RunId> {
        let read = self.published.values().chain(self.previous.values()).map(|published| &published.run);
        read.chain(self.staged.iter().map(|staged| &staged.run)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged(run: &str, scope: &Scope) -> Staged {
        let run = run.parse().unwrap();
        let scopes = vec![scope.clone()];
        Staged { run, at: Timestamp::UNIX_EPOCH, scopes, despite_dead: BTreeSet::new() }
    }

    #[test]
    fn sets_for_some_scopes_each_are_all_kept_and_in_order() {
        let mut publication = Publication::default();
        let scopes = ["arm64_tahoe", "x86_64_linux", "sonoma", "tahoe", "arm64_linux"]
            .map(|tag| Scope::Client(tag.parse().unwrap()));
        for (run, scope) in ["r4", "r1", "r5", "r2", "r3"].iter().zip(&scopes) {
            publication.add_staged(staged(run, scope));
        }
        let runs = |publication: &Publication| -> Vec<String> {
            publication.staged.iter().map(|staged| staged.run.to_string()).collect()
        };
        assert_eq!(runs(&publication), ["r1", "r2", "r3", "r4", "r5"]);
        // Of those that are for all, the newest and the nearest to being complete.
        publication.stage(staged("r6", &scopes[0]));
        assert_eq!(runs(&publication), ["r1", "r2", "r6"]);
    }

    #[test]
    fn of_the_sets_that_wait_for_one_scope_the_oldest_and_the_two_newest_are_kept() {
        let [all, one, other] =
            ["x86_64_linux", "arm64_tahoe", "sonoma"].map(|tag| Scope::Client(tag.parse().unwrap()));
        let mut publication = Publication::default();
        publication.add_staged(staged("r00", &other));
        for number in 1..50 {
            let mut set = staged(&format!("r{number:02}"), &all);
            if number == 3 {
                set.scopes.push(one.clone());
            }
            publication.add_staged(set);
        }
        let runs: Vec<_> = publication.staged.iter().map(|staged| staged.run.to_string()).collect();
        // The third is the only one for another scope, whose last it may be.
        assert_eq!(runs, ["r00", "r01", "r03", "r48", "r49"]);
    }
}
