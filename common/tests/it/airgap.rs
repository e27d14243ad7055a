//! Across an air gap: bundles, of one mirror for another.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use common::airgap::{
    Bundles, ExportError, Exported, Exporter, ImportError, Imported, Importer, Imports, Outcome, Progress,
    Since, Target,
};
use common::bottle::{BottleTag, Digest, KeyKind, ObjectKey};
use common::dead_letter::{Failure, Reason};
use common::manifest::{self, Manifest, State};
use common::mirror::MemoryBudget;
use common::publication::{ApiFile, ApiPath, Need, NeededBottle, Published, Scope, Set, file_key};
use common::registry::{ImageIndex, Validators};
use common::store::{Condition, Store, StoreError};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use testbed::{FormulaSpec, Spec};
use tokio::sync::Notify;

use crate::fixture::Fixture;
use crate::flaky::{Dice, FlakyStore, HookedStore};

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
        let importer = Importer {
            settler: self.target.settler(),
            memory: MemoryBudget::new(32 << 20),
            progress: Progress::default(),
            again,
        };
        importer.import(&Bundles::find(path).await?).await
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_and_what_is_new_in_it_arrive_byte_for_byte() {
    let gap = Gap::new(wave(0)).await;
    let first = gap.export(Since::Start, "0.tar.zst").await;
    assert_eq!(first.bottles, gap.source.manifest().await.tally(None).held);
    let imported = gap.import("0.tar.zst").await;
    assert_eq!((imported.outcome, imported.bottles), (Outcome::Applied, first.bottles));
    assert_eq!((imported.indexes as u64, imported.found.bottles), (first.indexes, 0));
    gap.assert_equal().await;

    let mut last = first;
    for number in 1..=2 {
        let before = picture(&*gap.source.store).await;
        gap.source.testbed.replace(wave(number));
        gap.source.sync().await;
        let now = picture(&*gap.source.store).await;
        let name = format!("{number}.tar.zst");
        let delta = gap.export(after(&last), &name).await;
        assert_eq!(delta.interval.since, Some(last.interval.until));

        // What is new is in it, and nothing else.
        let new: BTreeSet<_> = now.iter().filter(|(key, digest)| before.get(*key) != Some(digest)).collect();
        let entries = unpack(&gap.path(&name));
        let served = entries.iter().filter(|(name, _)| name.starts_with("v2/"));
        let carried: BTreeMap<_, _> = served.map(|(name, bytes)| (name.clone(), Digest::of(bytes))).collect();
        assert!(new.len() > 3);
        assert_eq!(carried.iter().collect::<BTreeSet<_>>(), new);
        assert_eq!(entries.first().unwrap().0, "bundle.json");
        assert_eq!(entries.last().unwrap().0, "end.json");

        let imported = gap.import(&name).await;
        assert_eq!((imported.bottles, imported.missing.bottles), (delta.bottles, 0));
        gap.assert_equal().await;
        last = delta;
    }

    // Once more changes nothing, nor does an older one.
    let state = Imports::load(&*gap.target.store).await.unwrap().unwrap();
    assert_eq!(state.0.bundles.len(), 3);
    for name in ["2.tar.zst", "0.tar.zst"] {
        assert_eq!(gap.import(name).await.outcome, Outcome::NothingNew);
    }
    assert_eq!(Imports::load(&*gap.target.store).await.unwrap().unwrap(), state);
    // With nothing new a bundle is empty, and changes nothing.
    let empty = gap.export(after(&last), "empty.tar.zst").await;
    assert_eq!((empty.bottles.bottles, empty.indexes, empty.interval.until), (0, 0, last.interval.until));
    assert_eq!(gap.import("empty.tar.zst").await.outcome, Outcome::NothingNew);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundles_of_one_folder_are_applied_in_order_and_may_overlap() {
    let gap = Gap::new(wave(0)).await;
    let folder = gap.path("carried/");
    let mut last = Since::Start;
    let mut before_last = Since::Start;
    for number in 0..=2 {
        gap.source.testbed.replace(wave(number));
        gap.source.sync().await;
        // Each begins where the one before the last ended.
        let exported = gap.try_export(&before_last, &folder, None).await.unwrap();
        before_last = std::mem::replace(&mut last, after(&exported));
    }
    let imported = gap.try_import("carried").await.unwrap();
    assert_eq!(imported.len(), 3);
    assert!(imported.iter().all(|bundle| bundle.outcome == Outcome::Applied && bundle.missing.bottles == 0));
    assert!(imported[1].found.bottles > 0, "they overlap");
    // The one to which platforms were appended, and the new one; the others are in place.
    assert_eq!(imported[1].indexes, 2);
    gap.assert_equal().await;
    // What was staged and not needed is gone.
    let left = gap.target.store.list("_sync/runs/", None, usize::MAX).await.unwrap();
    assert!(left.iter().all(|meta| !meta.key.as_str().contains("/staged/")), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_is_refused_by_name_and_so_is_another_mirror() {
    let gap = Gap::new(small()).await;
    let first = gap.export(Since::Start, "0.tar.zst").await;
    gap.source.testbed.replace(wave(0));
    gap.source.sync().await;
    let second = gap.export(after(&first), "1.tar.zst").await;
    gap.source.testbed.replace(wave(1));
    gap.source.sync().await;
    gap.export(after(&second), "2.tar.zst").await;

    let error = gap.refused("1.tar.zst").await;
    assert!(matches!(error, ImportError::NotFromStart { .. }) && error.is_usage(), "{error}");
    assert!(error.to_string().contains("--since start"), "{error}");
    gap.import("0.tar.zst").await;
    let before = picture(&*gap.target.store).await;
    let error = gap.try_import("2.tar.zst").await.unwrap_err();
    assert!(matches!(error, ImportError::Gap { .. }) && error.is_usage(), "{error}");
    let (have, since) = (first.interval.until.to_string(), second.interval.until.to_string());
    let text = error.to_string();
    assert!(text.contains(&format!("--since {have}")) && text.contains(&since), "{text}");
    assert_eq!(picture(&*gap.target.store).await, before);

    let other = Gap::new(small()).await;
    other.export(Since::Start, "0.tar.zst").await;
    let error = gap.try_import_path(&other.path("0.tar.zst"), false).await.unwrap_err();
    assert!(matches!(error, ImportError::OtherMirror { .. }) && error.is_usage(), "{error}");

    gap.import("1.tar.zst").await;
    gap.import("2.tar.zst").await;
    gap.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror_that_is_synced_takes_no_bundle() {
    let mut gap = Gap::new(small()).await;
    gap.export(Since::Start, "0.tar.zst").await;
    gap.target = Fixture::new(small()).await;
    gap.target.sync().await;
    let before = gap.target.manifest().await;
    let error = gap.try_import("0.tar.zst").await.unwrap_err();
    assert!(matches!(error, ImportError::Synced) && error.is_usage(), "{error}");
    assert_eq!(gap.target.manifest().await, before);
    assert!(Imports::load(&*gap.target.store).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_is_cut_short_anywhere_publishes_nothing_and_the_whole_one_goes_on() {
    let gap = Gap::new(wave(1)).await;
    gap.export(Since::Start, "whole.tar.zst").await;
    let whole = std::fs::read(gap.path("whole.tar.zst")).unwrap();
    for cut in [0, 3, 100, whole.len() / 3, whole.len() * 3 / 4, whole.len() - 300, whole.len() - 1] {
        std::fs::write(gap.path("cut.tar.zst"), &whole[..cut]).unwrap();
        let error = gap.refused("cut.tar.zst").await;
        let is_said = matches!(error, ImportError::CutShort { .. } | ImportError::NoHeader { .. });
        assert!(is_said && error.to_string().contains("cut.tar.zst"), "cut at {cut}: {error}");
    }
    let imported = gap.import("whole.tar.zst").await;
    assert_eq!(imported.bottles.bottles, 0, "what was verified was brought again");
    gap.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_with_anything_wrong_in_it_publishes_nothing() {
    let gap = Gap::new(small()).await;
    gap.export(Since::Start, "whole.tar.zst").await;
    let whole = unpack(&gap.path("whole.tar.zst"));
    let position = |part: &str| whole.iter().position(|(name, _)| name.contains(part)).unwrap();
    let (blob, index, end) = (position("/blobs/"), position("/manifests/"), position("end.json"));
    let listing = position("manifest.jsonl");

    // A flipped byte in a bottle, and the archive made anew around it.
    let mut flipped = whole.clone();
    flipped[blob].1[1_000] ^= 1;
    repack(&gap.path("bad.tar.zst"), &flipped);
    match gap.refused("bad.tar.zst").await {
        ImportError::WrongDigest { entry, .. } => assert_eq!(entry, whole[blob].0),
        other => panic!("{other}"),
    }
    assert!(gap.target.object(&whole[blob].0).await.is_none(), "a wrong byte became visible");

    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let mut wrong = Vec::new();
    let mut add = |change: &dyn Fn(&mut Entries)| {
        let mut entries = whole.clone();
        change(&mut entries);
        wrong.push(entries);
    };
    // Bytes of an index, an entry less, one twice as it were, the end first, another listing.
    add(&|all| all[index].1.push(b' '));
    add(&|all| drop(all.remove(blob)));
    add(&|all| drop(all.remove(index)));
    add(&|all| drop(all.remove(listing)));
    add(&|all| drop(all.remove(end)));
    add(&|all| all.swap(blob, blob + 1));
    add(&|all| all.swap(end, blob));
    add(&|all| all.swap(0, blob));
    add(&|all| {
        all[listing].1 = text(&all[listing].1).replacen("\"carried\":true", "\"carried\":false", 1).into();
    });
    add(&|all| all[end].1 = text(&all[end].1).replace("\"bottles\": 6", "\"bottles\": 7").into());
    // What a bundle never holds.
    for name in ["_sync/manifest.jsonl.zst", "api/formula.jws.json", "x", "v2/x/y/blobs/sha256:00"] {
        add(&|all| all.insert(blob, (name.to_owned(), b"{}".to_vec())));
    }
    for (number, entries) in wrong.iter().enumerate() {
        repack(&gap.path("bad.tar.zst"), entries);
        let error = gap.refused("bad.tar.zst").await;
        assert!(error.to_string().contains("bad.tar.zst"), "{number}: {error}");
    }
    let mut newer = whole.clone();
    newer[0].1 = text(&newer[0].1).replace("\"format\": 1", "\"format\": 2").into();
    repack(&gap.path("bad.tar.zst"), &newer);
    assert!(matches!(gap.refused("bad.tar.zst").await, ImportError::UnknownFormat { format: 2, .. }));

    // A byte of the compressed archive.
    let bytes = std::fs::read(gap.path("whole.tar.zst")).unwrap();
    for at in [bytes.len() / 3, bytes.len() / 2, bytes.len() - 2] {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x10;
        std::fs::write(gap.path("bad.tar.zst"), &flipped).unwrap();
        gap.refused("bad.tar.zst").await;
    }
    gap.import("whole.tar.zst").await;
    gap.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_plain_file_is_refused() {
    let gap = Gap::new(small()).await;
    gap.export(Since::Start, "whole.tar.zst").await;
    let entries = unpack(&gap.path("whole.tar.zst"));
    let encoder = zstd::Encoder::new(File::create(gap.path("bad.tar.zst")).unwrap(), 1).unwrap();
    let mut archive = tar::Builder::new(encoder);
    let mut header = tar::Header::new_gnu();
    header.set_size(entries[0].1.len() as u64);
    archive.append_data(&mut header, &entries[0].0, &entries[0].1[..]).unwrap();
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    archive.append_link(&mut link, "v2/x/manifests/1", "/etc/passwd").unwrap();
    archive.into_inner().unwrap().finish().unwrap();
    let error = gap.refused("bad.tar.zst").await;
    assert!(error.to_string().contains("not a plain file"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn volumes_are_no_larger_than_asked_for_and_a_missing_one_is_named() {
    const MOST: u64 = 200 << 10;
    let gap = Gap::new(wave(1)).await;
    let folder = gap.path("volumes");
    let exported = gap.try_export(&Since::Start, &folder, Some(MOST)).await.unwrap();
    let volumes: Vec<PathBuf> = exported.files.iter().map(|file| file.path.clone()).collect();
    assert!(volumes.len() > 4, "{volumes:?}");
    for file in &exported.files {
        assert_eq!(file.bytes, std::fs::metadata(&file.path).unwrap().len());
        let entries = unpack(&file.path);
        let alone = entries
            .iter()
            .filter(|(name, _)| Path::new(name).extension().is_none_or(|end| end != "json"))
            .count()
            == 1;
        assert!(file.bytes <= MOST || alone, "{} of {} bytes", file.path.display(), file.bytes);
    }
    // What is no volume is passed over.
    for name in ["notes.txt", "bottles-x.tar.zst", "bottles-20261101T060000123Z-0001.tar.zst.part"] {
        std::fs::write(folder.join(name), b"nothing to do with it").unwrap();
    }
    let aside = gap.path("aside");
    for missing in [0, 2, volumes.len() - 1] {
        std::fs::rename(&volumes[missing], &aside).unwrap();
        match gap.refused("volumes").await {
            ImportError::MissingVolume(path) => assert_eq!(path, volumes[missing]),
            other => panic!("{other}"),
        }
        std::fs::rename(&aside, &volumes[missing]).unwrap();
    }
    // One alone is not enough, whichever it is.
    for alone in [0, 1] {
        let error = gap.try_import_path(&volumes[alone], false).await.unwrap_err();
        assert!(matches!(error, ImportError::OneOfMany(_)), "{error}");
    }
    // Nor is one of another bundle in the place of one.
    let other = gap.path("other");
    let since = Since::Time(Timestamp::UNIX_EPOCH);
    let others = gap.try_export(&since, &other, Some(MOST)).await.unwrap();
    assert_eq!(others.files[1].path.file_name(), volumes[1].file_name());
    std::fs::rename(&volumes[1], &aside).unwrap();
    std::fs::copy(&others.files[1].path, &volumes[1]).unwrap();
    let error = gap.refused("volumes").await;
    assert!(matches!(&error, ImportError::WrongVolume(path) if *path == volumes[1]), "{error}");
    std::fs::rename(&aside, &volumes[1]).unwrap();

    gap.import("volumes").await;
    gap.assert_equal().await;
    // A second export doesn't write over it.
    let again = gap.try_export(&Since::Start, &folder, Some(MOST)).await.unwrap_err();
    assert!(again.is_usage(), "{again}");
    let empty = gap.try_import_path(gap.carried.path(), false).await.unwrap_err();
    assert!(matches!(empty, ImportError::NoBundle(_)), "{empty}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_mirror_is_not_exported_and_nothing_is_left_behind() {
    let gap = Gap::new(wave(0)).await;
    let keys: Vec<String> = picture(&*gap.source.store).await.into_keys().collect();
    let small = keys.iter().find(|key| key.contains("/blobs/") && !key.contains("large")).unwrap();
    let large = keys.iter().find(|key| key.contains("large/blobs/")).unwrap();
    let index = keys.iter().find(|key| key.contains("/manifests/")).unwrap();
    for key in [small, large, index] {
        let sound = gap.source.object(key).await.unwrap();
        let mut flipped = sound.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for damage in [flipped, b"cut".to_vec()] {
            gap.source.overwrite(key, &damage).await;
            let error = gap.try_export(&Since::Start, &gap.path("x.tar.zst"), None).await.unwrap_err();
            assert!(matches!(&error, ExportError::Damaged { key: named, .. } if named.as_str() == key));
            assert!(error.to_string().contains("bottles verify --deep --repair"), "{error}");
            assert_eq!(std::fs::read_dir(gap.carried.path()).unwrap().count(), 0, "{error}");
        }
        gap.source.overwrite(key, &sound).await;
    }
    gap.export(Since::Start, "x.tar.zst").await;
    let existing = gap.try_export(&Since::Start, &gap.path("x.tar.zst"), None).await.unwrap_err();
    assert!(existing.is_usage(), "{existing}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_begins_where_it_is_told_to() {
    let gap = Gap::new(small()).await;
    let run = common::run::ids(&*gap.source.store).await.unwrap().remove(0);
    let by_run = gap.export(Since::Run(run), "run.tar.zst").await;
    assert_eq!(by_run.bottles.bottles, 6);
    assert!(by_run.interval.since.is_some());
    let unknown = "20260101T000000Z-abcd".parse().unwrap();
    let error = gap.try_export(&Since::Run(unknown), &gap.path("x.tar.zst"), None).await.unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("`bottles status`"), "{error}");
    let future = gap.source.clock.now().checked_add(jiff::Span::new().hours(1)).unwrap();
    let error = gap.try_export(&Since::Time(future), &gap.path("x.tar.zst"), None).await.unwrap_err();
    assert!(matches!(error, ExportError::Future(_)) && error.is_usage(), "{error}");

    // What was held before such times were recorded came at the beginning.
    edit(&*gap.source.store, |manifest| {
        manifest.folded_at = None;
        for image in manifest.images.values_mut() {
            image.bottles.values_mut().for_each(|record| record.added_at = None);
            image.indexes.values_mut().for_each(|index| index.added_at = None);
        }
    })
    .await;
    let first = gap.export(Since::Start, "0.tar.zst").await;
    assert_eq!((first.bottles.bottles, first.indexes), (6, 3));
    gap.source.testbed.replace(wave(0));
    gap.source.sync().await;
    let second = gap.export(after(&first), "1.tar.zst").await;
    assert_eq!(second.bottles.bottles + 6, gap.source.manifest().await.tally(None).held.bottles);
    gap.import("0.tar.zst").await;
    gap.import("1.tar.zst").await;
    gap.assert_equal().await;
    let nothing = Fixture::new(Spec::default()).await;
    let empty = Gap { source: nothing, ..gap };
    let error = empty.try_export(&Since::Start, &empty.path("x.tar.zst"), None).await.unwrap_err();
    assert!(matches!(error, ExportError::NoMirror), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_covers_what_is_settled_and_says_that_there_is_more() {
    let gap = Gap::new(small()).await;
    gap.source.testbed.replace(wave(0));
    gap.source.plan().await;
    gap.source.drain().await;
    let first = gap.export(Since::Start, "0.tar.zst").await;
    assert_eq!((first.bottles.bottles, first.indexes, first.open_runs), (6, 3, 1));
    gap.source.settle().await;
    gap.export(after(&first), "1.tar.zst").await;
    gap.import("0.tar.zst").await;
    gap.import("1.tar.zst").await;
    gap.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_replaced_while_the_export_goes_on_comes_with_the_next_one() {
    let mut gap = Gap::new(wave(0)).await;
    gap.source.testbed.replace(wave(1));
    // After the manifest was read, and before the indexes are.
    let (reached, synced) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (arrives, waits) = (Arc::clone(&reached), Arc::clone(&synced));
    let meddle = move |key: ObjectKey| -> BoxFuture<'static, Result<(), StoreError>> {
        let (arrives, waits) = (Arc::clone(&arrives), Arc::clone(&waits));
        Box::pin(async move {
            if key.as_str() == "_sync/mirror.json" {
                arrives.notify_one();
                waits.notified().await;
            }
            Ok(())
        })
    };
    let inner = Arc::clone(&gap.source.store);
    gap.source.store = Arc::new(HookedStore::before_put(inner, meddle));
    let (first, ()) = tokio::join!(gap.export(Since::Start, "0.tar.zst"), async {
        reached.notified().await;
        gap.source.sync().await;
        synced.notify_one();
    });
    assert_eq!(first.indexes_later, 1);
    let imported = gap.import("0.tar.zst").await;
    assert_eq!((imported.missing.bottles, imported.indexes_waiting), (0, 0));
    // No index names what isn't there.
    assert_content_before_index(&gap).await;
    let second = gap.export(after(&first), "1.tar.zst").await;
    assert!(second.indexes >= 1);
    gap.import("1.tar.zst").await;
    gap.assert_equal().await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_exports_at_once_give_the_mirror_one_name() {
    let gap = Gap::new(small()).await;
    let (a, b) = tokio::join!(gap.export(Since::Start, "a.tar.zst"), gap.export(Since::Start, "b.tar.zst"));
    assert_eq!(a.mirror, b.mirror);
    // An export writes nothing else into the mirror.
    let own = gap.source.store.list("_sync/", None, usize::MAX).await.unwrap();
    let own: Vec<_> = own.iter().map(|meta| meta.key.as_str()).collect();
    assert!(own.contains(&"_sync/mirror.json"));
    assert!(own.iter().all(|key| !key.contains("imports") && !key.contains("receipts/")), "{own:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_upstream_dropped_is_dropped_behind_the_gap_and_taken_back_there_too() {
    let gap = Gap::new(small()).await;
    let mut last = gap.export(Since::Start, "0.tar.zst").await;
    gap.import("0.tar.zst").await;
    let dropped = |manifest: &Manifest| {
        let bottles = manifest.images.values().flat_map(|image| image.bottles.values());
        bottles.filter(|record| record.dropped_at.is_some()).count()
    };
    // The same bottles are dropped, and listed again.
    for (number, at) in [(1, Some("2026-11-01T00:00:00Z")), (2, None)] {
        let at: Option<Timestamp> = at.map(|at| at.parse().unwrap());
        edit(&*gap.source.store, |manifest| {
            manifest.tick(gap.source.clock.now());
            let image = manifest.images.values_mut().next().unwrap();
            image.bottles.values_mut().for_each(|record| record.dropped_at = at);
        })
        .await;
        let name = format!("{number}.tar.zst");
        last = gap.export(after(&last), &name).await;
        assert_eq!(last.bottles.bottles, 0);
        gap.import(&name).await;
        let (ours, theirs) = (gap.target.manifest().await, gap.source.manifest().await);
        assert_eq!(dropped(&ours), if at.is_some() { 2 } else { 0 });
        for (path, image) in &theirs.images {
            for (digest, record) in &image.bottles {
                assert_eq!(ours.bottle(path, digest).unwrap().dropped_at, record.dropped_at);
            }
        }
    }
    gap.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_superseded_bottle_that_has_expired_does_not_stop_an_export() {
    let gap = Gap::new(small()).await;
    let (manifest, _) = manifest::load(&*gap.source.store).await.unwrap();
    let (path, image) = manifest.images.first_key_value().unwrap();
    let digest = *image.bottles.first_key_value().unwrap().0;
    let key = ObjectKey::blob(path, &digest);
    let long_ago: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    gap.source.store.retag(&key, &common::store::superseded_tags(long_ago)).await.unwrap();
    edit(&*gap.source.store, |manifest| {
        let record = manifest.images.get_mut(path).unwrap().bottles.get_mut(&digest).unwrap();
        (record.dropped_at, record.superseded_at) = (Some(long_ago), Some(long_ago));
    })
    .await;
    let whole = gap.export(Since::Start, "0.tar.zst").await;
    assert_eq!((whole.bottles.bottles, whole.expired), (6, 0));
    gap.source.store.expire(std::slice::from_ref(&key), long_ago).await.unwrap();
    if gap.source.object(key.as_str()).await.is_some() {
        // A bucket expires it by a rule of its own.
        return;
    }
    let exported = gap.export(Since::Start, "1.tar.zst").await;
    assert_eq!((exported.bottles.bottles, exported.expired), (5, 1));
    let imported = gap.import("1.tar.zst").await;
    assert_eq!((imported.bottles.bottles, imported.missing.bottles, imported.indexes_waiting), (5, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_that_was_lost_behind_the_gap_is_brought_again() {
    let gap = Gap::new(wave(0)).await;
    gap.export(Since::Start, "0.tar.zst").await;
    gap.import("0.tar.zst").await;
    let (manifest, _) = manifest::load(&*gap.target.store).await.unwrap();
    // A damaged large one, as verify takes note of it; and one that nobody knows of.
    let large = manifest.images.iter().find(|(path, _)| path.as_str().ends_with("large")).unwrap().0.clone();
    let other = manifest.images.keys().find(|path| **path != large).unwrap().clone();
    let first = |path| *manifest.images[path].bottles.first_key_value().unwrap().0;
    let (damaged, forgotten) = (first(&large), first(&other));
    let keys = [ObjectKey::blob(&large, &damaged), ObjectKey::blob(&other, &forgotten)];
    for key in &keys {
        let mut bytes = gap.target.object(key.as_str()).await.unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        gap.target.overwrite(key.as_str(), &bytes).await;
    }
    edit(&*gap.target.store, |manifest| {
        let record = manifest.images.get_mut(&large).unwrap().bottles.get_mut(&damaged).unwrap();
        (record.state, record.missing_at) = (State::Queued, Some(gap.target.clock.now()));
        manifest.images.get_mut(&other).unwrap().bottles.remove(&forgotten);
    })
    .await;
    assert_eq!(gap.import("0.tar.zst").await.outcome, Outcome::NothingNew);
    let again = gap.try_import_path(&gap.path("0.tar.zst"), true).await.unwrap().remove(0);
    assert_eq!((again.outcome, again.bottles.bottles, again.missing.bottles), (Outcome::Applied, 2, 0));
    assert_eq!(again.indexes, 0, "an older bundle took an index back");
    gap.assert_equal().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_that_a_later_bundle_finds_missing_is_said() {
    let gap = Gap::new(small()).await;
    let first = gap.export(Since::Start, "0.tar.zst").await;
    gap.import("0.tar.zst").await;
    edit(&*gap.target.store, |manifest| {
        manifest.images.values_mut().next().unwrap().bottles.pop_first().unwrap();
    })
    .await;
    // Upstream lists it still: what it dropped is missed by nobody.
    let mut more = small();
    more.formulae.extend(wave(0).formulae);
    gap.source.testbed.replace(more);
    gap.source.sync().await;
    gap.export(after(&first), "1.tar.zst").await;
    let imported = gap.import("1.tar.zst").await;
    assert_eq!((imported.missing.bottles, imported.missing.bytes), (1, 20_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_waits_behind_the_gap_for_a_bottle_that_was_lost_there() {
    let gap = Gap::new(wave(0)).await;
    let first = gap.export(Since::Start, "0.tar.zst").await;
    gap.import("0.tar.zst").await;
    // Of the formula to which platforms are appended.
    let spec = wave(0);
    let (path, tag) = (spec.formulae[1].image(), spec.formulae[1].image_tag());
    let path = format!("v2/homebrew/core/{path}").parse().unwrap();
    edit(&*gap.target.store, |manifest| {
        manifest.images.get_mut(&path).unwrap().bottles.pop_first().unwrap();
    })
    .await;
    gap.source.testbed.replace(wave(1));
    gap.source.sync().await;
    gap.export(after(&first), "1.tar.zst").await;
    let key = format!("{path}/manifests/{tag}");
    let before = gap.target.object(&key).await.unwrap();
    let imported = gap.import("1.tar.zst").await;
    assert_eq!((imported.indexes_waiting, imported.missing.bottles), (1, 1));
    assert!(gap.target.object(&key).await.unwrap() == before, "it names a bottle that is not held");
    // The older bundle brings the bottle, and does not bring back its own index.
    let again = gap.try_import_path(&gap.path("0.tar.zst"), true).await.unwrap().remove(0);
    assert_eq!((again.indexes, again.indexes_waiting), (1, 0));
    gap.assert_equal().await;
}

/// A set of API files that clients of a mirror read, though it lacks a bottle: one that was
/// given up on, or that nobody knows of.
async fn publish(fixture: &Fixture, run: &str, clients: &[&str], scopes: &[Scope], lacking: Option<Digest>) {
    let (store, clients) = (&*fixture.store, clients.iter().map(|tag| tag.parse().unwrap()));
    let clients: Vec<BottleTag> = clients.collect();
    let mut files = BTreeMap::new();
    for path in ApiPath::all(&clients) {
        // What names no bottle is the same in every set.
        let text = if path.scope() == Scope::NoBottles { path.to_string() } else { format!("{run} {path}") };
        let bytes = Bytes::from(text.repeat(1000));
        let sha256 = Digest::of(&bytes);
        let size = bytes.len() as u64;
        store.put(&file_key(&sha256).unwrap(), bytes.into(), Condition::Always).await.unwrap();
        files.insert(path, ApiFile { sha256, size, modified: None, validators: Validators::default() });
    }
    let (manifest, _) = manifest::load(store).await.unwrap();
    let need = |(path, image): (&_, &manifest::Image)| Need {
        image: Clone::clone(path),
        index: image.indexes.keys().next().cloned(),
        flat_index: false,
        bottles: image
            .bottles
            .iter()
            .map(|(digest, record)| NeededBottle {
                digest: *digest,
                clients: (0..)
                    .zip(&clients)
                    .filter(|(_, tag)| record.tags.contains(tag))
                    .map(|(at, _)| at)
                    .collect(),
                flat: Vec::new(),
            })
            .collect(),
    };
    let mut needs: Vec<Need> = manifest.images.iter().map(need).collect();
    let is_known = |digest: &Digest| manifest.images.values().any(|image| image.bottles.contains_key(digest));
    if let Some(digest) = lacking.filter(|digest| !is_known(digest)) {
        needs[0].bottles.push(NeededBottle { digest, clients: vec![0], flat: Vec::new() });
    }
    let run: common::run::RunId = run.parse().unwrap();
    let at = fixture.clock.now();
    let set = Set { run: run.clone(), at, clients, files, needs };
    set.save(store).await.unwrap();
    edit(store, |manifest| {
        let at = manifest.tick(at);
        for scope in scopes {
            manifest.publication.published.insert(scope.clone(), Published { run: run.clone(), at });
        }
        let record = lacking
            .and_then(|digest| manifest.images.values_mut().find_map(|image| image.bottles.get_mut(&digest)));
        if let Some(record) = record {
            record.state = State::Dead(Failure::new(Reason::NotFound, "gone", 1, at));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_files_are_published_behind_the_gap_to_those_who_read_them_at_the_source() {
    let gap = Gap::new(small()).await;
    let (arm, linux): (BottleTag, BottleTag) =
        ("arm64_tahoe".parse().unwrap(), "x86_64_linux".parse().unwrap());
    let scope = |tag: &BottleTag| Scope::Client(tag.clone());
    let dead: Digest = gap.source.digest_of("uniform-00002", "x86_64_linux").parse().unwrap();
    let clients = ["arm64_tahoe", "x86_64_linux"];
    publish(&gap.source, "20990101T000000Z-aaaa", &clients, &[scope(&linux), Scope::AllClients], Some(dead))
        .await;
    publish(&gap.source, "20990102T000000Z-bbbb", &clients, &[scope(&arm), Scope::NoBottles], None).await;
    // Both sets have the files that name no bottle; these are carried once.
    let exported = gap.export(Since::Start, "0.tar.zst").await;
    assert_eq!(exported.bottles.bottles, 5);
    let names: Vec<String> = unpack(&gap.path("0.tar.zst")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    assert_eq!(gap.import("0.tar.zst").await.missing.bottles, 0);
    let manifest = gap.target.manifest().await;
    // The source published it though one bottle is dead; so it is here.
    let records = manifest.images.values().filter_map(|image| image.bottles.get(&dead));
    let states: Vec<_> = records.map(|record| &record.state).collect();
    assert!(matches!(states[..], [State::Dead(_)]), "{states:?}");
    assert_same_is_read(&gap).await;

    // What was published before is not carried again; one bottle of it was never planned.
    let unplanned = Some(Digest::of(b"never planned"));
    publish(&gap.source, "20990103T000000Z-cccc", &clients, &[scope(&arm)], unplanned).await;
    let delta = gap.export(after(&exported), "1.tar.zst").await;
    assert_eq!(delta.api_files, 7);
    gap.import("1.tar.zst").await;
    assert_same_is_read(&gap).await;
}

/// Each scope reads the same on both sides, and the files are there.
async fn assert_same_is_read(gap: &Gap) {
    let (ours, theirs) = (gap.target.manifest().await.publication, gap.source.manifest().await.publication);
    assert!(ours.staged.is_empty(), "{:?}", ours.staged);
    let runs = |of: &BTreeMap<Scope, Published>| -> Vec<_> {
        of.iter().map(|(scope, published)| (scope.clone(), published.run.clone())).collect()
    };
    assert_eq!(runs(&ours.published), runs(&theirs.published));
    for (scope, published) in &theirs.published {
        let set = Set::load(&*gap.target.store, &published.run).await.unwrap().unwrap();
        assert_eq!(Set::load(&*gap.source.store, &published.run).await.unwrap().as_ref(), Some(&set));
        for (path, file) in set.files_of(scope) {
            let object = gap.target.store.get(&path.key().unwrap()).await.unwrap().unwrap();
            assert_eq!(Digest::of(&object.body), file.sha256, "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_that_is_gone_stops_the_export_by_name() {
    let gap = Gap::new(small()).await;
    let run = "20260101T000000Z-aaaa";
    publish(&gap.source, run, &["arm64_tahoe"], &[Scope::NoBottles], None).await;
    let key = common::publication::set_key(&run.parse().unwrap()).unwrap();
    gap.source.store.delete(&[key]).await.unwrap();
    let error = gap.try_export(&Since::Start, &gap.path("x.tar.zst"), None).await.unwrap_err();
    assert!(error.to_string().contains(run), "{error}");
    assert_eq!(std::fs::read_dir(gap.carried.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_call_may_fail_before_or_after_its_effect_on_both_sides() {
    for seed in 1..=crate::SEEDS {
        let mut spec = Spec::bulk(seed, 21, 1_000..40_000);
        spec.formulae.push(FormulaSpec::new("large", "1").with_bottle("all", 9 << 20));
        let mut gap = Gap::new(spec).await;
        let (source, target) = (Arc::clone(&gap.source.store), Arc::clone(&gap.target.store));
        let flaky = |inner: &Arc<dyn Store>, seed| -> Arc<dyn Store> {
            Arc::new(FlakyStore { inner: Arc::clone(inner), dice: Dice::new(seed, 3) })
        };
        gap.source.store = flaky(&source, seed * 7919);
        gap.target.store = flaky(&target, seed * 104_729);
        let path = gap.path("x.tar.zst");
        let mut tries = 0;
        while let Err(error) = gap.try_export(&Since::Start, &path, None).await {
            assert!(!error.is_usage() && !path.exists(), "seed {seed}: {error}");
            tries += 1;
            assert!(tries < 50, "seed {seed}: {error}");
        }
        while let Err(error) = gap.try_import("x.tar.zst").await {
            assert!(!error.is_usage(), "seed {seed}: {error}");
            tries += 1;
            assert!(tries < 100, "seed {seed}: {error}");
        }
        (gap.source.store, gap.target.store) = (source, target);
        gap.target.settle().await;
        gap.assert_equal().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_dies_at_any_write_is_made_again_and_ends_whole() {
    let mut gap = Gap::new(small()).await;
    gap.export(Since::Start, "0.tar.zst").await;
    let sound = Arc::clone(&gap.target.store);
    let mut deaths = 0;
    loop {
        // The first writes of each life are done, one more each time.
        let left = Arc::new(AtomicUsize::new(deaths));
        let die = move |key: ObjectKey| -> BoxFuture<'static, Result<(), StoreError>> {
            let left = Arc::clone(&left);
            Box::pin(async move {
                let lives =
                    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
                let dead = || StoreError::NoRoom { key: key.to_string(), cause: "killed".to_owned() };
                lives.map(|_| ()).map_err(|_| dead())
            })
        };
        gap.target.store = Arc::new(HookedStore::before_put(Arc::clone(&sound), die));
        let outcome = gap.try_import("0.tar.zst").await;
        gap.target.store = Arc::clone(&sound);
        assert_content_before_index(&gap).await;
        match outcome {
            Ok(_) => break,
            Err(error) => assert!(error.to_string().contains("killed"), "{error}"),
        }
        deaths += 1;
        assert!(deaths < 200);
    }
    // The claim, files, set, indexes, run, manifest, settle, state: bottles were there in time.
    assert!(deaths > 10, "{deaths}");
    gap.assert_equal().await;
    assert_eq!(gap.import("0.tar.zst").await.outcome, Outcome::NothingNew);
}
