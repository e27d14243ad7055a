//! Where the selection comes from: the variable itself, or an object in S3.

use common::aws::SdkConfig;
use common::bottle::ObjectKey;
use common::config::Settings;
use common::selection::{Selection, SelectionError, SelectionFile};
use common::store::{InvalidLocation, S3, Store as _, StoreError};

/// A selection that can't be used. Nothing is planned then: without one the
/// whole of upstream would be, and paid for.
#[derive(Debug, thiserror::Error)]
pub enum SelectionSourceError {
    /// It is none.
    #[error(transparent)]
    Selection(#[from] SelectionError),
    /// It names no object.
    #[error("BOTTLES_SELECTION: {0}")]
    Location(#[from] InvalidLocation),
    /// The object is not there.
    #[error("BOTTLES_SELECTION: there is no object {0}")]
    Missing(String),
    /// It can't be read.
    #[error("BOTTLES_SELECTION: {0}")]
    Store(#[from] StoreError),
    /// It is no text.
    #[error("BOTTLES_SELECTION: {0} is no text")]
    Binary(String),
}

/// The one that came with the event.
pub(crate) fn given(file: SelectionFile) -> Result<Selection, SelectionSourceError> {
    Ok(Selection::new(file)?)
}

/// The configured one, as it is now; everything if none is.
pub(crate) async fn configured(
    settings: &Settings,
    config: &SdkConfig,
) -> Result<Selection, SelectionSourceError> {
    let text = match settings.selection.as_deref() {
        None => return Ok(Selection::new(SelectionFile::default())?),
        Some(url) if url.starts_with("s3://") => read(url, settings, config).await?,
        Some(text) => text.to_owned(),
    };
    Ok(text.parse()?)
}

async fn read(url: &str, settings: &Settings, config: &SdkConfig) -> Result<String, SelectionSourceError> {
    let missing = || SelectionSourceError::Missing(url.to_owned());
    let (folder, name) = url.rsplit_once('/').ok_or_else(missing)?;
    let key: ObjectKey = name.parse().map_err(|_| missing())?;
    let store = S3::new(config, folder.parse()?, settings.s3_endpoint.as_deref());
    let object = store.get(&key).await?.ok_or_else(missing)?;
    String::from_utf8(object.body.to_vec()).map_err(|_| SelectionSourceError::Binary(url.to_owned()))
}
