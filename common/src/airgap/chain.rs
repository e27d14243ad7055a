//! Which bundles are applied, and in which order.

use std::path::Path;

use jiff::Timestamp;

use super::ImportError;
use super::state::Imports;
use super::volumes::{Broken, Bundles, Found, stamp};

impl Bundles {
    /// Whether they can be the first that a mirror is made of.
    pub async fn check_first(&self) -> Result<(), ImportError> {
        self.chain(None, false).await.map(|_| ())
    }

    /// The bundles in the order in which they are applied to a mirror: those that go
    /// beyond what it has, each of which follows on those before it; the others before
    /// them, or, to be gone through once more, after them and the newest first, so that
    /// none brings what a newer one has replaced.
    ///
    /// All of it is checked by what the bundles say of themselves, before any is
    /// applied. One that is broken is an error only if it is needed.
    pub(super) async fn chain(
        &self,
        imports: Option<&Imports>,
        again: bool,
    ) -> Result<Vec<&Found>, ImportError> {
        let begun = imports.filter(|imports| imports.until.is_some());
        let have = begun.and_then(|imports| imports.until);
        self.check_mirror(begun)?;
        let is_old = |found: &&Found| have.is_some_and(|have| found.header.interval.until <= have);
        let (mut old, new): (Vec<&Found>, Vec<&Found>) = self.found.iter().partition(is_old);

        let mut reach = have;
        for found in &new {
            if let Err(gap) = found.header.interval.check_follows(reach) {
                // What fills the gap may be here, and broken.
                let end = stamp(found.header.interval.until);
                let filling =
                    self.broken.iter().find(|broken| broken.is_beyond(reach) && broken.stamp <= end);
                return Err(match filling {
                    Some(broken) => broken.error().await,
                    None => gap,
                });
            }
            reach = reach.max(Some(found.header.interval.until));
        }
        for broken in &self.broken {
            self.check_broken(broken, have, reach, again).await?;
        }
        if again {
            old.reverse();
            return Ok([new, old].concat());
        }
        Ok([old, new].concat())
    }

    /// Refuses bundles of another mirror.
    fn check_mirror(&self, begun: Option<&Imports>) -> Result<(), ImportError> {
        let first = self.found.first().map(|found| &found.header.mirror);
        let Some(ours) = begun.map(|imports| &imports.mirror).or(first) else { return Ok(()) };
        match self.found.iter().map(|found| &found.header.mirror).find(|theirs| *theirs != ours) {
            None => Ok(()),
            Some(theirs) => Err(ImportError::OtherMirror { theirs: theirs.clone(), ours: ours.clone() }),
        }
    }

    /// Whether a mirror that has what was new up to `have`, and up to `reach` after all
    /// whole bundles, can do without one that is broken.
    async fn check_broken(
        &self,
        broken: &Broken,
        have: Option<Timestamp>,
        reach: Option<Timestamp>,
        again: bool,
    ) -> Result<(), ImportError> {
        let is_needed = if broken.is_beyond(have) {
            broken.is_beyond(reach)
        } else {
            again && !self.found.iter().any(|whole| broken.is_within(whole))
        };
        if is_needed {
            return Err(broken.error().await);
        }
        if broken.is_beyond(have) || again {
            pass_over(&broken.volume);
        }
        Ok(())
    }
}

impl Broken {
    /// Whether it ends later than a mirror is.
    fn is_beyond(&self, have: Option<Timestamp>) -> bool {
        have.is_none_or(|have| self.stamp > stamp(have))
    }

    /// Whether another bundle brings all that this one would.
    fn is_within(&self, whole: &Found) -> bool {
        let begins_later = self.header.as_ref().and_then(|header| header.interval.since);
        let interval = whole.header.interval;
        interval.since.is_none_or(|since| begins_later.is_some_and(|begins| since <= begins))
            && stamp(interval.until) >= self.stamp
    }
}

impl Found {
    /// Whether another bundle brings all that this one would.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        let (own, all) = (self.header.interval, other.header.interval);
        all.since.is_none_or(|since| own.since.is_some_and(|begins| since <= begins))
            && all.until >= own.until
    }
}

/// Says that a bundle is not needed.
pub(super) fn pass_over(volume: &Path) {
    tracing::warn!(
        volume = %volume.display(),
        "is missing or can't be read; its bundle is passed over, since others bring what is in it"
    );
}
