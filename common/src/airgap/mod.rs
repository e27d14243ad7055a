//! Across an air gap: what is new in one mirror, carried to another one in files.
//!
//! A *bundle* covers an interval of the exporting mirror's life, after `since` and up
//! to `until`, in the time of its manifest
//! ([`Manifest::folded_at`](crate::manifest::Manifest::folded_at)): the bottles that
//! came to be held in it, the image indexes that were put in place, the API files that
//! were published. [`Exporter`] writes one, [`Importer`] applies it to another mirror,
//! which keeps account of how far it is ([`Imports`]), so that a gap between two
//! bundles is noticed and an overlap does no harm.
//!
//! A bundle is one file or several *volumes*, each a whole zstd-compressed tar archive
//! that is written and read as a stream. Its entries, in this order:
//!
//! | entry | what |
//! | --- | --- |
//! | `bundle.json` | which bundle this is, and which of its volumes; first in each |
//! | `api/sets/<run>`, `api/files/<sha256>` | what was published |
//! | `v2/…/manifests/<tag>` | image indexes |
//! | `v2/…/blobs/sha256:<digest>` | bottles |
//! | `manifest.jsonl` | all that the mirror held at `until`, and which of it is here |
//! | `end.json` | last in each volume; that of the last one counts and hashes all entries |
//!
//! What may be replaced while a long export goes on, API files and indexes, is read
//! first; bottles never change.

mod bundle;
mod chain;
mod error;
mod export;
mod identity;
mod import;
mod pack;
mod part;
mod progress;
mod since;
mod source;
mod state;
mod volume;
mod volumes;

pub use bundle::Interval;
pub use error::{ExportError, ImportError};
pub use export::{Exported, Exporter};
pub use identity::MirrorId;
pub use import::{Imported, Importer, Outcome};
pub use pack::BundleFile;
pub use part::Target;
pub use progress::Progress;
pub use since::{InvalidSince, Since};
pub use state::{Applied, IMPORTS, Imports};
pub use volumes::Bundles;
