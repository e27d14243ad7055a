//! All objects of the mirror but the system's own, in pages.

use crate::bottle::ObjectKey;
use crate::store::{ObjectMeta, StoreError};

use super::{Stage, Verifier, refused};

/// So many objects are listed at once: a folder is walked through once a page.
const PAGE: usize = 10_000;

/// Behind every key of the system's own.
const BEHIND_INTERNAL: &str = "_sync/~";

impl Verifier {
    /// Shows every object below `prefix` that is not the system's own.
    pub(super) async fn each_object(
        &self,
        prefix: &str,
        mut show: impl FnMut(ObjectMeta),
    ) -> Result<(), StoreError> {
        let behind: ObjectKey = BEHIND_INTERNAL.parse().map_err(refused)?;
        let mut after: Option<ObjectKey> = None;
        self.progress.begin(Stage::Objects, 0);
        loop {
            let page = self.patient(|| self.store.list(prefix, after.as_ref(), PAGE)).await?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|meta| meta.key.clone());
            self.progress.step(page.len());
            for meta in page {
                if !meta.key.is_internal() {
                    show(meta);
                }
            }
            if is_last {
                return Ok(());
            }
            if after.as_ref().is_some_and(ObjectKey::is_internal) {
                after = Some(behind.clone());
            }
        }
    }
}
