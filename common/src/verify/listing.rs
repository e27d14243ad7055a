//! All objects of the mirror but the system's own, in pages.

use crate::bottle::ObjectKey;
use crate::store::{ObjectMeta, StoreError};

use super::{Stage, Verifier};

/// Behind every key of the system's own.
const BEHIND_INTERNAL: &str = "_sync/~";

impl Verifier {
    /// Shows every object that is not the system's own.
    pub(super) async fn each_object(&self, mut show: impl FnMut(ObjectMeta)) -> Result<(), StoreError> {
        let most = self.settings.page.max(1);
        let behind: ObjectKey = BEHIND_INTERNAL.parse().map_err(StoreError::from)?;
        let mut after: Option<ObjectKey> = None;
        self.progress.begin(Stage::Objects, 0);
        loop {
            let page = self.patient(|| self.store.list("", after.as_ref(), most)).await?;
            let is_last = page.len() < most;
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
