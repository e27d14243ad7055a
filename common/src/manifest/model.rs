//! Manifest, receipts, redelivery and crashes against a plain map.
//!
//! The model is what an omniscient observer knows: a bottle is held once any
//! consumer stored it; else the latest word about it counts. The system sees
//! the same events as receipts that arrive late, out of order and twice, with
//! producers that die between any two steps.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;

use crate::bottle::Digest;
use crate::dead_letter::{Failure, Reason};
use crate::message::Message;
use crate::receipt::{Entry, Outcome};

use super::{Manifest, State, decode, encode};

const BOTTLES: u8 = 6;

/// One step of the world.
#[derive(Debug, Clone)]
enum Step {
    /// The producer sends a message and takes note of it, or dies in between.
    Plan {
        bottle: u8,
        dies: bool,
    },
    /// A consumer stores a bottle, and its receipt is written; the message may
    /// be delivered again later.
    Mirror {
        bottle: u8,
    },
    /// A consumer gives a bottle up.
    GiveUp {
        bottle: u8,
    },
    /// The operator replays or drops a dead letter.
    Replay {
        bottle: u8,
    },
    Drop {
        bottle: u8,
    },
    /// The producer folds some of the receipts in some order, and dies before
    /// it has removed them, or doesn't.
    Settle {
        order: Vec<u8>,
        dies: bool,
    },
    /// The manifest goes to the store and comes back.
    Reload,
}

/// What the model knows of a bottle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Queued,
    Held,
    Dead,
}

fn step() -> impl Strategy<Value = Step> {
    let bottle = 0..BOTTLES;
    prop_oneof![
        3 => (bottle.clone(), any::<bool>()).prop_map(|(bottle, dies)| Step::Plan { bottle, dies }),
        3 => bottle.clone().prop_map(|bottle| Step::Mirror { bottle }),
        2 => bottle.clone().prop_map(|bottle| Step::GiveUp { bottle }),
        1 => bottle.clone().prop_map(|bottle| Step::Replay { bottle }),
        1 => bottle.prop_map(|bottle| Step::Drop { bottle }),
        3 => (proptest::collection::vec(any::<u8>(), 0..8), any::<bool>())
            .prop_map(|(order, dies)| Step::Settle { order, dies }),
        1 => Just(Step::Reload),
    ]
}

/// The world: the system's manifest and receipts, and the model beside it.
#[derive(Default)]
struct World {
    seconds: i64,
    manifest: Manifest,
    /// Messages on the queue, or in someone's hands.
    messages: BTreeSet<u8>,
    dead_letters: BTreeSet<u8>,
    receipts: Vec<Entry>,
    model: BTreeMap<u8, Known>,
}

impl World {
    fn now(&mut self) -> Timestamp {
        self.seconds += 1;
        Timestamp::from_second(1_700_000_000 + self.seconds).unwrap()
    }

    fn report(&mut self, bottle: u8, outcome: impl FnOnce(Timestamp) -> Outcome) {
        let at = self.now();
        self.receipts.push(Entry { message: message(bottle), at, outcome: outcome(at) });
    }

    fn learn(&mut self, bottle: u8, known: Option<Known>) {
        if self.model.get(&bottle) != Some(&Known::Held) {
            match known {
                Some(known) => self.model.insert(bottle, known),
                None => self.model.remove(&bottle),
            };
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Plan { bottle, dies } => {
                let at = self.now();
                self.messages.insert(*bottle);
                if !dies {
                    self.manifest.queue(&message(*bottle), at);
                    self.learn(*bottle, Some(Known::Queued));
                }
            }
            Step::Mirror { bottle } if self.messages.contains(bottle) => {
                self.report(*bottle, |_| Outcome::Held);
                self.learn(*bottle, Some(Known::Held));
            }
            Step::GiveUp { bottle }
                if self.messages.contains(bottle) && self.model.get(bottle) != Some(&Known::Held) =>
            {
                self.report(*bottle, |at| Outcome::Dead(Failure::new(Reason::NotFound, "gone", 1, at)));
                self.messages.remove(bottle);
                self.dead_letters.insert(*bottle);
                self.learn(*bottle, Some(Known::Dead));
            }
            Step::Replay { bottle } if self.dead_letters.remove(bottle) => {
                self.report(*bottle, |_| Outcome::Replayed);
                self.messages.insert(*bottle);
                self.learn(*bottle, Some(Known::Queued));
            }
            // The operator sees what the manifest says; a letter is dropped
            // after the report that it is there was folded.
            Step::Drop { bottle } if self.dead_letters.contains(bottle) => {
                self.fold_all();
                self.dead_letters.remove(bottle);
                self.report(*bottle, |_| Outcome::Dropped);
                if self.model.get(bottle) == Some(&Known::Dead) {
                    self.learn(*bottle, None);
                }
                self.fold_all();
            }
            Step::Settle { order, dies } => {
                let folded: BTreeSet<usize> = match self.receipts.len() {
                    0 => return,
                    count => order.iter().map(|pick| usize::from(*pick) % count).collect(),
                };
                for pick in order {
                    self.manifest.fold(&self.receipts[usize::from(*pick) % self.receipts.len()].clone());
                }
                if !dies {
                    let mut position = 0;
                    self.receipts.retain(|_| {
                        position += 1;
                        !folded.contains(&(position - 1))
                    });
                }
            }
            Step::Reload => self.manifest = decode(&encode(&self.manifest).unwrap()).unwrap(),
            _ => {}
        }
    }

    fn fold_all(&mut self) {
        for entry in &self.receipts {
            self.manifest.fold(entry);
        }
        self.receipts.clear();
    }

    /// What the manifest says, in the model's words.
    fn seen(&self) -> BTreeMap<u8, Known> {
        (0..BOTTLES)
            .filter_map(|bottle| {
                let message = message(bottle);
                let record = self.manifest.bottle(&message.image, &message.digest)?;
                let known = match record.state {
                    State::Queued => Known::Queued,
                    State::Held => Known::Held,
                    State::Dead(_) => Known::Dead,
                };
                Some((bottle, known))
            })
            .collect()
    }
}

fn message(bottle: u8) -> Message {
    Message {
        run: "r".parse().unwrap(),
        formula: "f".parse().unwrap(),
        origin: "https://ghcr.io".parse().unwrap(),
        // Two bottles an image.
        image: format!("v2/t/{}", bottle / 2).parse().unwrap(),
        image_tag: "1".parse().unwrap(),
        tags: vec!["all".parse().unwrap()],
        digest: Digest::of(&[bottle]),
        size: 1,
        copy_from: None,
        file: None,
        replace: false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_manifest_agrees_with_the_model_once_all_receipts_are_folded(steps in proptest::collection::vec(step(), 1..60)) {
        let mut world = World::default();
        for step in &steps {
            world.take(step);
            // At no moment does it claim what nobody stored.
            for (bottle, known) in world.seen() {
                if known == Known::Held {
                    prop_assert_eq!(world.model.get(&bottle), Some(&Known::Held), "bottle {} after {:?}", bottle, step);
                }
            }
        }
        world.fold_all();
        prop_assert_eq!(world.seen(), world.model);
    }

    #[test]
    fn receipts_fold_to_the_same_in_any_order_and_number(
        outcomes in proptest::collection::vec((0..BOTTLES, 0..3_u8), 1..12),
        shuffle in proptest::collection::vec(any::<u16>(), 40),
    ) {
        let mut world = World::default();
        for (bottle, outcome) in outcomes {
            world.report(bottle, |at| match outcome {
                0 => Outcome::Held,
                1 => Outcome::Dead(Failure::new(Reason::NotFound, "gone", 1, at)),
                _ => Outcome::Replayed,
            });
        }
        let mut straight = Manifest::default();
        for entry in &world.receipts {
            straight.fold(entry);
        }
        let mut shuffled = Manifest::default();
        for pick in shuffle {
            shuffled.fold(&world.receipts[usize::from(pick) % world.receipts.len()]);
        }
        for entry in world.receipts.iter().rev() {
            shuffled.fold(entry);
        }
        let states = |manifest: Manifest| {
            World { manifest, ..World::default() }.seen()
        };
        prop_assert_eq!(states(straight), states(shuffled));
    }

    #[test]
    fn a_damaged_manifest_is_never_read_as_a_smaller_one(cut in 0.0..1.0_f64, flip in any::<(u16, u8)>()) {
        let mut world = World::default();
        for bottle in 0..BOTTLES {
            world.take(&Step::Plan { bottle, dies: false });
        }
        let whole = encode(&world.manifest).unwrap();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a position in a short text")]
        let cut = (whole.len() as f64 * cut) as usize;
        prop_assert!(decode(&whole[..cut]).is_err());
        let mut bytes = whole.clone();
        let at = usize::from(flip.0) % bytes.len();
        bytes[at] ^= flip.1 | 1;
        if let Ok(manifest) = decode(&bytes) {
            prop_assert_eq!(manifest, world.manifest);
        }
    }
}
