//! Looking at dead letters, sending them back, throwing them away.
//!
//! The loops are our own (receive, send, then delete), so that they work on any
//! queue and can choose. Each is at least once: a process that dies in between
//! leaves a letter in both queues, and its bottle is found in the mirror then.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::message::Lane;
use crate::queue::{Delivery, Handle, Outgoing, Queue, QueueError};
use crate::receipt::{Entry, Outcome, Receipt};
use crate::store::{Store, StoreError};

use super::DeadLetter;

/// The dead-letter queues of a mirror, and what is needed to empty them.
pub struct Desk {
    /// Each lane's work queue and dead-letter queue.
    pub lanes: Vec<DeskLane>,
    /// Where the producer hears of what was done.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Clock,
    /// How long a queue is asked for more before it counts as empty: a queue
    /// that is spread over many machines may say nothing at once.
    pub wait: Duration,
    /// At most so many letters a second are sent back; all at once where absent.
    pub pace: Option<u32>,
}

/// One lane's queues.
pub struct DeskLane {
    /// Which lane.
    pub lane: Lane,
    /// Where messages go back to.
    pub work: Arc<dyn Queue>,
    /// Where they lie.
    pub dead_letters: Arc<dyn Queue>,
}

/// A dead letter, and the lane it is of.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Which lane.
    pub lane: Lane,
    /// The letter.
    pub letter: DeadLetter,
}

/// What going through the letters came to.
#[derive(Debug, Clone, Default)]
pub struct GoneThrough {
    /// Those that were chosen.
    pub letters: Vec<Letter>,
    /// How many are in the queues still, chosen or not.
    pub left: u64,
}

/// What is to be done with the letters that are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Nothing.
    Look,
    /// Back to the work queue.
    Replay,
    /// Away with them; the next plan asks for their bottles anew.
    Drop,
}

/// A queue or a store that failed; what was done until then stays done.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// A queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Long enough to go through a large queue; after a crash the letters are back
/// when it is over.
const VISIBILITY: Duration = Duration::from_mins(5);

const PORTION: usize = 10;

impl Desk {
    /// Goes through all letters once, and does `deed` to those that `chosen`
    /// picks.
    pub async fn go_through(
        &self,
        deed: Deed,
        chosen: impl Fn(&Letter) -> bool,
    ) -> Result<GoneThrough, DeskError> {
        let mut found = GoneThrough::default();
        for lane in &self.lanes {
            let mut untouched = Vec::new();
            let outcome = self.go_through_lane(lane, deed, &chosen, &mut found, &mut untouched).await;
            // The others go back in any case.
            lane.dead_letters.release(&untouched, Duration::ZERO).await?;
            outcome?;
        }
        Ok(found)
    }

    async fn go_through_lane(
        &self,
        lane: &DeskLane,
        deed: Deed,
        chosen: &impl Fn(&Letter) -> bool,
        found: &mut GoneThrough,
        untouched: &mut Vec<Handle>,
    ) -> Result<(), DeskError> {
        // Going through many takes longer than they stay hidden: those that come
        // round again were seen.
        let mut seen = HashSet::new();
        loop {
            let deliveries = lane.dead_letters.receive(PORTION, VISIBILITY, self.wait).await?;
            let count = seen.len();
            let mut picked = Vec::new();
            for delivery in deliveries {
                if !seen.insert(delivery.id.clone()) {
                    untouched.push(delivery.handle);
                    continue;
                }
                let letter = Letter { lane: lane.lane, letter: DeadLetter::read(&delivery) };
                let is_chosen = chosen(&letter);
                if is_chosen {
                    found.letters.push(letter.clone());
                }
                found.left += 1;
                if is_chosen && deed != Deed::Look {
                    picked.push((delivery, letter.letter));
                } else {
                    untouched.push(delivery.handle);
                }
            }
            self.do_it(lane, deed, &picked).await?;
            found.left -= picked.len() as u64;
            if seen.len() == count {
                return Ok(());
            }
            if let Some(pace) = self.pace
                && deed == Deed::Replay
            {
                let portion = u32::try_from(picked.len()).unwrap_or(u32::MAX);
                tokio::time::sleep(Duration::from_secs(1) * portion / pace.max(1)).await;
            }
        }
    }

    async fn do_it(
        &self,
        lane: &DeskLane,
        deed: Deed,
        picked: &[(Delivery, DeadLetter)],
    ) -> Result<(), DeskError> {
        if picked.is_empty() {
            return Ok(());
        }
        // Before the message can be worked on: a report of that comes later.
        let at = self.clock.now();
        let outcome = if deed == Deed::Replay { Outcome::Replayed } else { Outcome::Dropped };
        if deed == Deed::Replay {
            let messages: Vec<_> =
                picked.iter().map(|(_, letter)| Outgoing::new(letter.body.clone())).collect();
            lane.work.send(&messages).await?;
        }
        let entries: Vec<_> = picked
            .iter()
            .filter_map(|(_, letter)| letter.message.clone())
            .map(|message| Entry { message, at, outcome: outcome.clone() })
            .collect();
        if !entries.is_empty() {
            Receipt { entries, ..Receipt::default() }.save(&*self.store, at).await?;
        }
        let handles: Vec<_> = picked.iter().map(|(delivery, _)| delivery.handle.clone()).collect();
        lane.dead_letters.acknowledge(&handles).await?;
        Ok(())
    }
}
