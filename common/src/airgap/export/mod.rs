//! Export: what is new in a mirror, into a bundle.

mod bottles;
mod listing;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use serde::Serialize;

use crate::bottle::{Digest, ImagePath, ImageTag, ObjectKey};
use crate::clock::Clock;
use crate::manifest::{self, IndexRecord, Manifest};
use crate::publication::{Scope, Set, file_key};
use crate::registry::ImageIndex;
use crate::run::{Count, RunId};
use crate::store::Store;

use super::bundle::{self, FORMAT, Header, LISTING};
use super::pack::Packer;
use super::part::Target;
use super::source::{self, Source};
use super::{BundleFile, ExportError, Interval, MirrorId, Progress, Since};
use listing::Carried;

/// Exports a mirror. It writes nothing there but the mirror's name for itself.
pub struct Exporter {
    /// The mirror.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Clock,
    /// How far it is: bytes of bottles.
    pub progress: Progress,
}

/// What was exported.
#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    /// The mirror.
    pub mirror: MirrorId,
    /// What the bundle covers: the next one begins at its end.
    #[serde(flatten)]
    pub interval: Interval,
    /// The bottles in it.
    pub bottles: Count,
    /// The image indexes in it.
    pub indexes: u64,
    /// Image indexes that were replaced while it was made: they come with the next one.
    pub indexes_later: u64,
    /// The API files in it.
    pub api_files: u64,
    /// Superseded bottles that have expired, and could not be carried.
    pub expired: u64,
    /// Runs that were not settled: what they bring comes with the next one.
    pub open_runs: usize,
    /// The bundle's files.
    pub files: Vec<BundleFile>,
}

/// What is exported, at one moment.
struct Snapshot {
    manifest: Manifest,
    interval: Interval,
    /// The sets that were published in the interval, oldest first, and to whom.
    sets: Vec<(Set, Vec<Scope>)>,
}

/// An index that may be carried.
struct Candidate<'a> {
    path: &'a ImagePath,
    tag: &'a ImageTag,
    record: &'a IndexRecord,
    key: ObjectKey,
}

/// So many image indexes are read at once.
const INDEXES_AT_ONCE: usize = 16;

/// How often what is exported is looked at anew, because a set was replaced between
/// two reads.
const MOST_LOOKS: usize = 3;

impl Exporter {
    /// Writes all that became new after `since` to `target`, in volumes of at most
    /// `most` bytes where that is asked for.
    pub async fn export(
        &self,
        since: &Since,
        target: &Target,
        most: Option<u64>,
    ) -> Result<Exported, ExportError> {
        let now = self.clock.now();
        let since = since.resolve(&*self.store, now).await?;
        let Snapshot { manifest, interval, sets } = self.look(since).await?;
        target.prepare(interval.until)?;
        let mirror = MirrorId::of(&*self.store, now).await?;
        let header = Header { format: FORMAT, mirror: mirror.clone(), interval, created: now, volume: 0 };
        let mut packer = Packer::new(target.clone(), header, most);
        let mut carried = Carried::default();

        let api_files = self.pack_api(&mut packer, &sets).await?;
        let (indexes, indexes_later) =
            self.pack_indexes(&mut packer, &manifest, &interval, &mut carried).await?;
        let (bottles, expired) = self.pack_bottles(&mut packer, &manifest, &interval, &mut carried).await?;
        let listing = listing::make(&manifest, &sets, &carried);
        let listing = listing.encode().map_err(|error| ExportError::Document(error.to_string()))?;
        packer.whole(LISTING, listing.into()).await?;

        let files = packer.finish(bottles, indexes, api_files).await?;
        let open_runs = manifest.runs.len();
        Ok(Exported {
            mirror,
            interval,
            bottles,
            indexes,
            indexes_later,
            api_files,
            expired,
            open_runs,
            files,
        })
    }

    /// Reads the manifest, and the sets that it names.
    async fn look(&self, since: Option<Timestamp>) -> Result<Snapshot, ExportError> {
        let mut gone = None;
        for _ in 0..MOST_LOOKS {
            let (manifest, version) = manifest::load(&*self.store).await?;
            if version.is_none() {
                return Err(ExportError::NoMirror);
            }
            // What was held before such times were recorded came at the beginning.
            let until = manifest.folded_at.unwrap_or(Timestamp::UNIX_EPOCH);
            let interval = Interval { since: since.map(|since| since.min(until)), until };
            match self.sets(&manifest, &interval).await? {
                Ok(sets) => return Ok(Snapshot { manifest, interval, sets }),
                Err(run) => gone = Some(run),
            }
        }
        Err(gone.map_or(ExportError::NoMirror, ExportError::SetGone))
    }

    /// The sets that were published in the interval; or one that is gone.
    async fn sets(
        &self,
        manifest: &Manifest,
        interval: &Interval,
    ) -> Result<Result<Vec<(Set, Vec<Scope>)>, RunId>, ExportError> {
        let mut sets: Vec<(Set, Vec<Scope>)> = Vec::new();
        let mut published: Vec<_> = manifest
            .publication
            .published
            .iter()
            .filter(|(_, published)| interval.takes(Some(published.at)))
            .map(|(scope, published)| (&published.run, scope))
            .collect();
        published.sort();
        for (run, scope) in published {
            match sets.last_mut() {
                Some((set, scopes)) if set.run == *run => scopes.push(scope.clone()),
                _ => match Set::load(&*self.store, run).await? {
                    Some(set) => sets.push((set, vec![scope.clone()])),
                    None => return Ok(Err(run.clone())),
                },
            }
        }
        Ok(Ok(sets))
    }

    /// Packs the sets and their files; how many files there are.
    async fn pack_api(&self, packer: &mut Packer, sets: &[(Set, Vec<Scope>)]) -> Result<u64, ExportError> {
        let mut seen = BTreeSet::new();
        for (set, _) in sets {
            let bytes = set.encode().map_err(|error| ExportError::Document(error.to_string()))?;
            packer.whole(&bundle::set_name(&set.run), bytes.into()).await?;
            for file in set.files.values() {
                if !seen.insert(file.sha256) {
                    continue;
                }
                let key = file_key(&file.sha256)?;
                let source = Source::open(&*self.store, &key, file.size, file.sha256).await?;
                let source = source.ok_or_else(|| ExportError::SetGone(set.run.clone()))?;
                pack(packer, &bundle::file_name(&file.sha256), file.size, &file.sha256, source, |_| {})
                    .await?;
            }
        }
        Ok(seen.len() as u64)
    }

    /// Packs the indexes that were put in place in the interval; how many, and how many
    /// were replaced meanwhile.
    async fn pack_indexes(
        &self,
        packer: &mut Packer,
        manifest: &Manifest,
        interval: &Interval,
        carried: &mut Carried,
    ) -> Result<(u64, u64), ExportError> {
        let candidates = manifest.images.iter().flat_map(|(path, image)| {
            image.indexes.iter().map(move |(tag, record)| Candidate {
                path,
                tag,
                record,
                key: ObjectKey::index(path, tag),
            })
        });
        // Of one that is replaced soon nobody recorded since when the former is there.
        let belongs = |candidate: &Candidate<'_>| {
            let record = candidate.record;
            interval.takes(record.added_at) || (record.staged.is_some() && record.added_at.is_none())
        };
        let wanted: Vec<_> = candidates.filter(belongs).collect();
        let (mut count, mut later) = (0, 0);
        for some in wanted.chunks(INDEXES_AT_ONCE) {
            let reads: Vec<_> = some.iter().map(|one| source::small(&*self.store, &one.key)).collect();
            let reads: Vec<_> = stream::iter(reads).buffered(INDEXES_AT_ONCE).collect().await;
            for (candidate, bytes) in some.iter().zip(reads) {
                match self.judge(candidate, bytes?).await? {
                    Judged::Take(bytes) => {
                        let sha256 = Digest::of(&bytes);
                        packer.whole(candidate.key.as_str(), bytes).await?;
                        carried.indexes.insert((candidate.path.clone(), candidate.tag.clone()), sha256);
                        count += 1;
                    }
                    Judged::Later => later += 1,
                    Judged::NotYet => {}
                }
            }
        }
        Ok((count, later))
    }

    /// Whether what is in place is what the manifest speaks of.
    async fn judge(
        &self,
        candidate: &Candidate<'_>,
        bytes: Option<bytes::Bytes>,
    ) -> Result<Judged, ExportError> {
        let Candidate { path, tag, record, key } = candidate;
        let damaged = |why: String| ExportError::Damaged { key: key.clone(), why };
        let is_newest = bytes.as_ref().is_some_and(|bytes| Digest::of(bytes) == record.sha256);
        let why = match (bytes, record.staged.is_some()) {
            (Some(bytes), false) if is_newest => return Ok(Judged::Take(bytes)),
            // Put in place just now, with bottles that this manifest has on their way.
            (Some(_), true) if is_newest => return Ok(Judged::Later),
            (None, true) => return Ok(Judged::NotYet),
            (Some(bytes), true) => match ImageIndex::parse(bytes.clone()) {
                Ok(_) => return Ok(Judged::Take(bytes)),
                Err(why) => why,
            },
            (Some(_), false) => "its bytes are not those that were put in place".to_owned(),
            (None, false) => "it is gone".to_owned(),
        };
        let (newer, _) = manifest::load(&*self.store).await?;
        let now = newer.images.get(path).and_then(|image| image.indexes.get(tag));
        if now == Some(record) { Err(damaged(why)) } else { Ok(Judged::Later) }
    }
}

/// What becomes of an index.
enum Judged {
    Take(bytes::Bytes),
    /// Another one is in place by now, which the next bundle brings.
    Later,
    /// None is in place yet.
    NotYet,
}

/// Packs an object as it is read; `each` hears of every chunk.
async fn pack(
    packer: &mut Packer,
    name: &str,
    size: u64,
    digest: &Digest,
    mut source: Source<'_>,
    mut each: impl FnMut(u64),
) -> Result<(), ExportError> {
    packer.begin(name, size).await?;
    while let Some(chunk) = source.next().await? {
        each(chunk.len() as u64);
        packer.chunk(chunk).await?;
    }
    packer.end(name, digest);
    Ok(())
}
