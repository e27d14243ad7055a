//! A bottle that fits into one part: one request, one write.

use crate::bottle::{Collector, VerifiedBytes};
use crate::registry::{Error, Opened};
use crate::store::Condition;

use super::{Bottle, Mirror, MirrorError};

impl Mirror {
    pub(super) async fn fetch_whole(&self, bottle: &Bottle<'_>) -> Result<(), MirrorError> {
        let _room = self.budget.reserve(bottle.size).await;
        let bytes = self.upstream.retrying(|| self.collect(bottle)).await?;
        let put = || self.store.put(bottle.key, bytes.clone().into(), Condition::Always);
        self.store_retry.run(put, |error, _| tracing::info!(%error, "writing again")).await?;
        Ok(())
    }

    async fn collect(&self, bottle: &Bottle<'_>) -> Result<VerifiedBytes, Error> {
        let (Opened::Part(mut download) | Opened::Whole(mut download)) =
            self.upstream.open(bottle.url, None).await?;
        let wrong_size =
            |what: &str, actual| Error::WrongSize { what: what.to_owned(), expected: bottle.size, actual };
        if let Some(announced) = download.announced()
            && announced != bottle.size
        {
            return Err(wrong_size(download.what(), announced));
        }
        let mut collector = Collector::with_capacity(usize::try_from(bottle.size).unwrap_or(0));
        while let Some(chunk) = download.chunk().await? {
            self.count(chunk.len());
            // Without a Content-Length nothing else stops a body that is too long.
            if (collector.len() + chunk.len()) as u64 > bottle.size {
                return Err(wrong_size(download.what(), (collector.len() + chunk.len()) as u64));
            }
            collector.push(&chunk);
        }
        if collector.len() as u64 != bottle.size {
            return Err(wrong_size(download.what(), collector.len() as u64));
        }
        Ok(collector.verify(bottle.digest)?)
    }
}
