//! Across an air gap: bundles, of one mirror for another.

mod api;
mod broken;
mod carried;
mod exports;
mod faults;
mod lost;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::airgap::{
    Bundles, ExportError, Exported, Exporter, ImportError, Imported, Importer, Imports, Progress, Since,
    Target,
};
use common::bottle::{Digest, KeyKind, ObjectKey};
use common::manifest::{self, Manifest};
use common::mirror::MemoryBudget;
use common::registry::ImageIndex;
use common::store::Store;
use testbed::{FormulaSpec, Spec};

use crate::fixture::Fixture;

/// A mirror, the mirror behind the gap, and what is carried across.
struct Gap {
    source: Fixture,
    target: Fixture,
    carried: tempfile::TempDir,
}

/// What upstream publishes, one change after the other.
fn wave(number: u64) -> Spec {
    let mut spec = Spec::bulk(1, 28, 500..40_000);
    if number == 0 {
        // The others are appended under the same tag.
        spec.formulae[1].bottles.truncate(3);
    }
    if number > 1 {
        spec.formulae.remove(0);
    }
    // Of several parts, and another one with the second change.
    spec.formulae.push(FormulaSpec::new("large", format!("{}.0", number / 2)).with_bottle("all", 17 << 20));
    for new in 0..number {
        let formula = FormulaSpec::new(format!("new-{new}"), "1.0").with_bottle("x86_64_linux", 3_000 + new);
        spec.formulae.push(formula.with_bottle("arm64_tahoe", 4_000));
    }
    spec
}

fn small() -> Spec {
    Spec::uniform(3, 3, 20_000, &["arm64_tahoe", "x86_64_linux"])
}

impl Gap {
    async fn new(spec: Spec) -> Self {
        let source = Fixture::new(spec).await;
        source.sync().await;
        let (target, carried) = (Fixture::new(Spec::default()).await, tempfile::tempdir().unwrap());
        Self { source, target, carried }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.carried.path().join(name)
    }

    async fn try_export(&self, since: &Since, to: &Path, most: Option<u64>) -> Result<Exported, ExportError> {
        let exporter = Exporter {
            store: Arc::clone(&self.source.store),
            clock: self.source.clock.clone(),
            progress: Progress::default(),
        };
        exporter.export(since, &Target::of(to, most.is_some())?, most).await
    }

    async fn export(&self, since: Since, name: &str) -> Exported {
        self.try_export(&since, &self.path(name), None).await.unwrap()
    }

    async fn try_import_path(&self, path: &Path, again: bool) -> Result<Vec<Imported>, ImportError> {
        self.importer(again).import(&Bundles::find(path).await?).await
    }

    fn importer(&self, again: bool) -> Importer {
        let (settler, memory) = (self.target.settler(), MemoryBudget::new(32 << 20));
        Importer { settler, memory, progress: Progress::default(), again }
    }

    async fn try_import(&self, name: &str) -> Result<Vec<Imported>, ImportError> {
        self.try_import_path(&self.path(name), false).await
    }

    async fn import(&self, name: &str) -> Imported {
        self.try_import(name).await.unwrap().remove(0)
    }

    /// Why a bundle is refused; nothing of it is published.
    async fn refused(&self, name: &str) -> ImportError {
        let error = self.try_import(name).await.unwrap_err();
        self.assert_nothing_published(&error.to_string()).await;
        error
    }

    async fn assert_nothing_published(&self, why: &str) {
        let served = picture(&*self.target.store).await;
        assert!(served.keys().all(|key| key.contains("/blobs/")), "{why}: an index was published");
        assert!(below(&*self.target.store, "api/").await.is_empty(), "{why}: an API file was published");
        let manifest = self.target.manifest().await;
        assert_eq!(manifest, Manifest::default(), "{why}");
        let imports = Imports::load(&*self.target.store).await.unwrap();
        assert!(imports.is_none_or(|(imports, _)| imports.until.is_none()), "{why}: the state moved on");
    }

    async fn assert_equal(&self) {
        for prefix in ["v2/", "api/"] {
            let (ours, theirs) =
                (below(&*self.target.store, prefix).await, below(&*self.source.store, prefix).await);
            assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
            assert!(ours == theirs, "the same keys hold other bytes");
            assert!(!ours.is_empty(), "{prefix} holds nothing");
        }
        let (target, source) = (self.target.manifest().await, self.source.manifest().await);
        assert_eq!(target.tally(None).held, source.tally(None).held);
        assert_eq!(indexes(&target), indexes(&source));
        assert!(target.runs.is_empty(), "the import's run is not settled");
        assert_eq!(self.target.left_unfinished().await, 0);
    }
}

/// All that clients see of bottles, by key.
async fn picture(store: &dyn Store) -> BTreeMap<String, Digest> {
    below(store, "v2/").await
}

async fn below(store: &dyn Store, prefix: &str) -> BTreeMap<String, Digest> {
    let mut seen = BTreeMap::new();
    for meta in store.list(prefix, None, usize::MAX).await.unwrap() {
        let body = store.get(&meta.key).await.unwrap().unwrap().body;
        if let KeyKind::Bottle(digest) = meta.key.kind() {
            assert_eq!(Digest::of(&body), digest, "{} is damaged", meta.key);
        }
        seen.insert(meta.key.to_string(), Digest::of(&body));
    }
    seen
}

/// Indexes in place by the manifest.
fn indexes(manifest: &Manifest) -> BTreeSet<(String, Digest)> {
    let mut found = BTreeSet::new();
    for (path, image) in &manifest.images {
        for (tag, index) in image.indexes.iter().filter(|(_, index)| index.staged.is_none()) {
            found.insert((ObjectKey::index(path, tag).to_string(), index.sha256));
        }
    }
    found
}

fn after(exported: &Exported) -> Since {
    Since::Time(exported.interval.until)
}

/// Changes a manifest behind everyone's back.
async fn edit(store: &dyn Store, change: impl FnOnce(&mut Manifest)) {
    let (mut manifest, version) = manifest::load(store).await.unwrap();
    change(&mut manifest);
    manifest::save(store, &manifest, version.as_ref()).await.unwrap();
}

/// A volume's entries: names, and bytes.
type Entries = Vec<(String, Vec<u8>)>;

/// The entries of a volume, in order.
fn unpack(path: &Path) -> Entries {
    let mut archive = tar::Archive::new(zstd::Decoder::new(File::open(path).unwrap()).unwrap());
    let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.unwrap();
        let name = String::from_utf8(entry.path_bytes().to_vec()).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        (name, bytes)
    };
    archive.entries().unwrap().map(read).collect()
}

/// Writes a volume as someone else would, who knows no rules.
fn repack(path: &Path, entries: &[(String, Vec<u8>)]) {
    let encoder = zstd::Encoder::new(File::create(path).unwrap(), 1).unwrap();
    let mut archive = tar::Builder::new(encoder);
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, &bytes[..]).unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap();
}

/// No index in place names a bottle that the other mirror holds and this one doesn't.
async fn assert_content_before_index(gap: &Gap) {
    let (here, there) = (picture(&*gap.target.store).await, picture(&*gap.source.store).await);
    for key in here.keys().filter(|key| key.contains("/manifests/")) {
        let body = gap.target.store.get(&key.parse().unwrap()).await.unwrap().unwrap().body;
        let image = key.split("/manifests/").next().unwrap();
        for digest in ImageIndex::parse(body).unwrap().digests() {
            let blob = format!("{image}/blobs/sha256:{digest}");
            assert!(here.contains_key(&blob) || !there.contains_key(&blob), "{key} is before {blob}");
        }
    }
}
