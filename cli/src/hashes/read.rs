//! Reads the file, wherever it is.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use common::hash_file::{HashFileError, LARGEST};
use common::registry::{self, Upstream};
use common::store::Store as _;
use futures_util::TryStreamExt as _;
use url::Position;

use crate::args::{StoreOption, UpstreamOptions};
use crate::output::Usage;
use crate::place;
use crate::source::Source;

/// The upstream's options with the file's server allowed: being named, it may be asked.
pub(super) fn allowing(source: &Source, options: &UpstreamOptions) -> anyhow::Result<UpstreamOptions> {
    let mut options = options.clone();
    if let Source::Document(url) = source {
        let named = &url[Position::BeforeHost..Position::AfterPort];
        options.allow_host.push(named.parse().map_err(|error| Usage(format!("{source}: {error}")))?);
    }
    Ok(options)
}

/// The whole file.
pub(super) async fn read(
    source: &Source,
    upstream: &Upstream,
    options: &StoreOption,
) -> anyhow::Result<Vec<u8>> {
    let bytes = match source {
        Source::File(path) => read_file(path)?,
        Source::Object(location, key) => {
            let reading = place::bucket(location, options).await.read(key, None).await;
            match reading.with_context(|| source.to_string())? {
                None => return Err(Usage(format!("{source}: there is no such object")).into()),
                Some(reading) if reading.meta.size > LARGEST => None,
                Some(mut reading) => {
                    let mut bytes = Vec::new();
                    while let Some(chunk) = reading.body.try_next().await? {
                        bytes.extend_from_slice(&chunk);
                    }
                    Some(bytes)
                }
            }
        }
        Source::Document(url) => match upstream.document(url).await {
            Ok(bytes) => Some(bytes.into()),
            Err(registry::Error::NotFound { .. }) => {
                return Err(Usage(format!("{source}: the server doesn't have it")).into());
            }
            Err(registry::Error::Unexpected { status: status @ (401 | 403), .. }) => {
                let why = "a signed URL may have run out, or its file be gone";
                return Err(Usage(format!("{source}: the server refuses it (HTTP {status}): {why}")).into());
            }
            Err(registry::Error::TooLarge { .. }) => None,
            Err(error) => return Err(error).with_context(|| source.to_string()),
        },
    };
    bytes.ok_or(HashFileError::TooLarge).with_context(|| source.to_string())
}

/// `None` if it is too large.
fn read_file(path: &Path) -> anyhow::Result<Option<Vec<u8>>> {
    let wrong = |why: &dyn fmt::Display| Usage(format!("{} can't be read: {why}", path.display()));
    let file = File::open(path).map_err(|error| wrong(&error))?;
    if file.metadata().map_err(|error| wrong(&error))?.is_dir() {
        return Err(wrong(&"it is a folder").into());
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
    Ok((bytes.len() as u64 <= LARGEST).then_some(bytes))
}
