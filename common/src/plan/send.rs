//! A batch of planned formulae: staged, sent, recorded, in this order.

use std::collections::HashMap;

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use jiff::Timestamp;

use crate::bottle::{Digest, FormulaName, ImagePath, ImageTag, ObjectKey, Origin};
use crate::catalogue::Formula;
use crate::manifest::{Image, IndexRecord, Manifest, State};
use crate::message::{Lane, Message};
use crate::queue::Outgoing;
use crate::run::RunId;
use crate::store::{Condition, Store, StoreError};

use super::index::IndexDraft;
use super::{PlanError, Planner};

/// Messages are handed to a queue in portions of this many.
const PORTION: usize = 500;

/// Writes of staged indexes under way at once.
const WRITES_AT_ONCE: usize = 16;

#[derive(Default)]
pub(super) struct Batch {
    formulae: usize,
    messages: Vec<Message>,
    indexes: Vec<PlannedIndex>,
}

struct PlannedIndex {
    formula: FormulaName,
    origin: Origin,
    image: ImagePath,
    tag: ImageTag,
    draft: IndexDraft,
    staged: Option<ObjectKey>,
    awaits: Vec<Digest>,
}

impl PlannedIndex {
    async fn stage(&mut self, store: &dyn Store, folder: &str) -> Result<(), StoreError> {
        // One flat folder, whatever the depth of the key that it waits for.
        let name = Digest::of(ObjectKey::index(&self.image, &self.tag).as_str().as_bytes());
        let staged = ObjectKey::sync(&format!("{folder}/{name}.json"))?;
        store.put(&staged, self.draft.index.bytes().clone().into(), Condition::Always).await?;
        self.staged = Some(staged);
        Ok(())
    }
}

impl Batch {
    pub(super) fn formulae(&self) -> usize {
        self.formulae
    }

    pub(super) fn add(&mut self, formula: &Formula, index: Option<IndexDraft>, messages: Vec<Message>) {
        self.formulae += 1;
        if let Some(draft) = index {
            self.indexes.push(PlannedIndex {
                formula: formula.name.clone(),
                origin: formula.origin.clone(),
                image: formula.image.clone(),
                tag: formula.image_tag.clone(),
                draft,
                staged: None,
                awaits: messages.iter().map(|message| message.digest).collect(),
            });
        }
        self.messages.extend(messages);
    }

    /// Puts the image indexes where they wait for their bottles.
    pub(super) async fn stage(&mut self, store: &dyn Store, run: &RunId) -> Result<(), StoreError> {
        let folder = format!("{}/staged", run.folder());
        let writes: Vec<_> =
            self.indexes.iter_mut().map(|index| index.stage(store, &folder).boxed()).collect();
        stream::iter(writes).buffer_unordered(WRITES_AT_ONCE).try_collect().await
    }

    /// Puts the messages on their queues.
    pub(super) async fn send(&self, planner: &Planner) -> Result<(), PlanError> {
        let mut by_lane: HashMap<Lane, Vec<Outgoing>> = HashMap::new();
        // Copies last: what they are copied from is there by then, if it can be.
        let (copies, originals): (Vec<_>, Vec<_>) =
            self.messages.iter().partition(|message| message.copy_from.is_some());
        for message in originals.into_iter().chain(copies) {
            by_lane.entry(planner.lane(message.size)).or_default().push(message.to_outgoing());
        }
        for (lane, messages) in by_lane {
            let Some(queue) = planner.queues.get(&lane) else { continue };
            for portion in messages.chunks(PORTION) {
                queue.send(portion).await?;
            }
        }
        Ok(())
    }

    /// Takes note of what was staged and sent.
    pub(super) fn record(&self, manifest: &mut Manifest, sent_at: Timestamp) {
        for message in &self.messages {
            manifest.queue(message, sent_at);
        }
        for index in &self.indexes {
            let image = manifest.images.entry(index.image.clone());
            let image = image.or_insert_with(|| Image::new(&index.formula, &index.origin));
            let names: Vec<Digest> = index.draft.index.digests().copied().collect();
            // The one in place is it already.
            if let Some(known) = image.indexes.get_mut(&index.tag)
                && known.sha256 == index.draft.sha256
                && known.staged.is_none()
            {
                known.names = names;
                continue;
            }
            // Those too that are on their way by an earlier run's message, or
            // were given up on.
            let mut awaits = index.awaits.clone();
            awaits.extend(image.bottles.iter().filter_map(|(digest, record)| {
                (record.state != State::Held && index.draft.index.names(digest)).then_some(*digest)
            }));
            awaits.sort_unstable();
            awaits.dedup();
            let known = image.indexes.get(&index.tag);
            let (in_place, flat) =
                (known.and_then(IndexRecord::in_place), known.and_then(|known| known.flat));
            image.indexes.insert(
                index.tag.clone(),
                IndexRecord {
                    sha256: index.draft.sha256,
                    names,
                    staged: index.staged.clone(),
                    awaits,
                    in_place,
                    added_at: None,
                    flat,
                },
            );
        }
    }
}
