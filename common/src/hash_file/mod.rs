//! `bottles_hash.json`: what the Python system knew of the bottles that it had.
//!
//! ```
//! use common::hash_file::HashFile;
//!
//! let text = r#"{"last_updated": "2026-05-01T03:00:00+00:00", "bottles": {
//!   "openssl@3-3.6.0_1-arm64_tahoe": {
//!     "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
//!     "download_date": "2026-04-30T03:12:45+00:00", "file_size": 10915712}}}"#;
//! let file = HashFile::parse(text.as_bytes())?;
//! assert_eq!((file.entries.len(), file.rejected.len()), (1, 0));
//! # Ok::<(), common::hash_file::HashFileError>(())
//! ```
//!
//! Its bottles lie under flat names in folders named after the day of their
//! download: `2026-04-30/openssl@3-3.6.0_1.arm64_tahoe.bottle.tar.gz`. [`Importer`]
//! looks for them in the mirror's own place, verifies each by reading it whole, and
//! copies it to the key that clients ask for; only then it reports it as held.
//! [`export`] writes such a file from the manifest.

mod adopt;
mod contents;
mod export;
mod fate;
mod file;
mod identify;
mod import;
mod judge;
mod name;
mod progress;
mod report;
mod reporter;
mod trust;
mod versions;

pub use export::{Exported, export};
pub use file::{HashEntry, HashFile, HashFileError, LARGEST};
pub use import::{ImportError, ImportSettings, Importer};
pub use name::EntryKey;
pub use progress::ImportProgress;
pub use report::{DatedObjects, ImportReport, Resized, Skipped, Why};
pub use trust::Trust;
pub use versions::Versions;
