//! A manifest that is lost or damaged is made anew from what the mirror holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use common::bottle::{Digest, ImagePath, ObjectKey};
use common::manifest::{self, Manifest, State};
use common::message::Lane;
use common::publication::{Published, Scope, Set};
use common::receipt::What;
use common::store::{Condition, StoreError, superseded_tags};
use common::verify::{Depth, Finding, Kind, RebuildError, Rebuilt, Repair, Was};
use futures_util::future::BoxFuture;
use testbed::{FormulaSpec, Spec};

use crate::fixture::Fixture;
use crate::flaky::HookedStore;
use crate::verify::{altered, mirrored, tool};
use crate::verify_published::published;

impl Fixture {
    async fn rebuild(&self, depth: Depth) -> Rebuilt {
        self.verifier(depth).rebuild().await.unwrap()
    }

    /// A sync that fetches nothing, after which all is as it was.
    async fn sync_fetches_nothing(&self) {
        self.testbed.log().clear();
        let (plan, done, _) = self.sync().await;
        assert_eq!(self.testbed.log().count("*/blobs/*"), 0);
        assert_eq!((plan.total().bottles, done.fetched.bottles), (0, 0));
        assert!(plan.problems.is_empty(), "{:?}", plan.problems);
        self.assert_whole(&[]).await;
    }
}

/// What is known of a mirror, without when and by which run.
fn gist(manifest: &Manifest) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, image) in &manifest.images {
        for (tag, index) in &image.indexes {
            lines.push(format!("{path}:{tag} {} {:?} {:?}", index.sha256, index.staged, index.awaits));
        }
        for (digest, record) in &image.bottles {
            let mut tags = record.tags.clone();
            tags.sort();
            lines.push(format!(
                "{path} {} {} {digest} {} {tags:?} {} {:?} {:?}",
                image.formula,
                image.origin,
                record.image_tag,
                record.size,
                record.state,
                record.superseded_at
            ));
        }
    }
    lines
}

/// Formulae with every kind of name, revision and rebuild, and one digest under two
/// tags.
fn various() -> Spec {
    let mut spec = Spec::bulk(3, 120, 500..4_000);
    let formula = |name: &str| FormulaSpec::new(name, "2024-05-01").with_revision(2).with_rebuild(3);
    spec.formulae.push(formula("openssl@3").with_bottle("arm64_tahoe", 700).with_bottle("all", 800));
    let twice = formula("gtk+3").with_content("sonoma", 900, 5).with_content("ventura", 900, 5);
    spec.formulae.push(twice);
    spec
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_manifest_is_rebuilt_and_nothing_is_fetched_again() {
    let fixture = mirrored(various()).await;
    let before = gist(&fixture.manifest().await);
    fixture.remove(manifest::KEY).await;
    let rebuilt = fixture.rebuild(Depth::Sizes).await;
    assert_eq!((rebuilt.was, rebuilt.kept), (Was::Absent, None));
    assert_eq!(rebuilt.held.bottles, fixture.expected().len() as u64);
    assert!(rebuilt.left_out.is_empty(), "{:#?}", rebuilt.left_out);
    assert_eq!(gist(&fixture.manifest().await), before);
    let report = fixture.verify(Depth::Bytes).await;
    assert!(report.sound && report.findings.is_empty(), "{:#?}", report.findings);
    fixture.sync_fetches_nothing().await;
    assert_eq!(gist(&fixture.manifest().await), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuilt_manifest_takes_all_of_it_for_new() {
    let fixture = mirrored(tool()).await;
    let begun = fixture.clock.now();
    fixture.remove(manifest::KEY).await;
    fixture.rebuild(Depth::Sizes).await;
    // Whoever carries on from an earlier state must miss nothing.
    let manifest = fixture.manifest().await;
    let at = manifest.folded_at.unwrap();
    assert!(at >= begun);
    let image = manifest.images.values().next().unwrap();
    assert!(image.bottles.values().all(|record| record.added_at == Some(at)));
    assert!(image.indexes.values().all(|record| record.added_at == Some(at)));
    assert!(manifest.planned.is_none() && manifest.runs.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_manifest_is_kept_and_rebuilt() {
    let fixture = mirrored(various()).await;
    let before = gist(&fixture.manifest().await);
    let whole = fixture.object(manifest::KEY).await.unwrap();
    for damaged in [b"no manifest".to_vec(), Vec::new(), whole[..whole.len() / 2].to_vec()] {
        fixture.overwrite(manifest::KEY, &damaged).await;
        let rebuilt = fixture.rebuild(Depth::Bytes).await;
        assert!(matches!(rebuilt.was, Was::Damaged { .. }));
        assert_eq!(rebuilt.checksums.unwrap().checked, rebuilt.held);
        let kept = rebuilt.kept.unwrap();
        assert!(kept.as_str().starts_with("_sync/manifest-damaged-"), "{kept}");
        assert_eq!(fixture.object(kept.as_str()).await.unwrap(), damaged);
        assert_eq!(gist(&fixture.manifest().await), before);
    }
    fixture.sync_fetches_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_reads_well_is_left_alone() {
    let fixture = mirrored(tool()).await;
    let before = fixture.object(manifest::KEY).await;
    let error = fixture.verifier(Depth::Sizes).rebuild().await.unwrap_err();
    assert!(matches!(error, RebuildError::ReadsWell), "{error}");
    assert_eq!(fixture.object(manifest::KEY).await, before);

    // Neither is one of a newer version, which is not damaged.
    let newer = zstd_of(b"{\"format\":99}\n");
    fixture.overwrite(manifest::KEY, &newer).await;
    let error = fixture.verifier(Depth::Sizes).rebuild().await.unwrap_err();
    assert!(error.to_string().contains("format 99"), "{error}");
    assert_eq!(fixture.object(manifest::KEY).await.unwrap(), newer);

    let empty = Fixture::new(tool()).await;
    let error = empty.verifier(Depth::Sizes).rebuild().await.unwrap_err();
    assert!(matches!(error, RebuildError::NoBottles), "{error}");
    assert!(empty.object(manifest::KEY).await.is_none());
}

/// Bytes as zstd has them without compressing: a frame of one raw block.
fn zstd_of(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap();
    // Magic number; one segment whose length takes a byte; the last block, raw.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x20, length, (length << 3) | 1, length >> 5, 0];
    frame.extend_from_slice(bytes);
    frame
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_rebuild_and_another_writer_the_other_one_wins() {
    for damaged in [None, Some(&b"no manifest"[..])] {
        let mut fixture = mirrored(tool()).await;
        match damaged {
            None => fixture.remove(manifest::KEY).await,
            Some(bytes) => fixture.overwrite(manifest::KEY, bytes).await,
        }
        let other = Bytes::from(manifest::encode(&Manifest::default()).unwrap());
        let (inner, store, written) =
            (Arc::clone(&fixture.store), Arc::clone(&fixture.store), Arc::new(AtomicBool::new(false)));
        let theirs = other.clone();
        let meddle = move |key: ObjectKey| -> BoxFuture<'static, Result<(), StoreError>> {
            let (store, other, written) = (Arc::clone(&store), theirs.clone(), Arc::clone(&written));
            Box::pin(async move {
                if key.as_str() == manifest::KEY && !written.swap(true, Ordering::Relaxed) {
                    store.put(&key, other.into(), Condition::Always).await?;
                }
                Ok(())
            })
        };
        fixture.store = Arc::new(HookedStore::before_put(inner, meddle));
        let error = fixture.verifier(Depth::Sizes).rebuild().await.unwrap_err();
        assert!(matches!(error, RebuildError::Conflict), "{error}");
        assert_eq!(fixture.object(manifest::KEY).await.unwrap(), other);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_vouched_for_is_left_out_and_fetched_again() {
    let fixture = mirrored(Spec::uniform(5, 5, 2_000, &["all"])).await;
    let keys: Vec<String> = fixture.expected().into_keys().collect();
    fixture.overwrite(&keys[0], b"half").await;
    fixture.overwrite(&keys[1], &altered(&fixture.object(&keys[1]).await.unwrap())).await;
    let unnamed = ObjectKey::blob(&"v2/homebrew/core/uniform-00003".parse().unwrap(), &Digest::of(b"old"));
    fixture.overwrite(unnamed.as_str(), b"old").await;
    fixture.overwrite("v2/homebrew/core/uniform-00004/manifests/1.0.0", b"<html>").await;
    fixture.remove(manifest::KEY).await;

    let rebuilt = fixture.rebuild(Depth::Bytes).await;
    let left_out: Vec<_> = rebuilt.left_out.iter().map(|one| (one.kind, one.key.to_string())).collect();
    let expected = [
        (Kind::WrongSize, keys[0].clone()),
        (Kind::WrongChecksum, keys[1].clone()),
        (Kind::Unreadable, "v2/homebrew/core/uniform-00004/manifests/1.0.0".to_owned()),
        // They name what is left out.
        (Kind::OfNoSet, "api/formula.json".to_owned()),
        (Kind::OfNoSet, "api/formula.jws.json".to_owned()),
        (Kind::Extra, unnamed.to_string()),
        (Kind::Extra, keys[3].clone()),
    ];
    assert_eq!(left_out, expected);
    assert_eq!(rebuilt.held.bottles, 2);
    // It has its size, and would be taken for held.
    assert_eq!(rebuilt.repair.unwrap().small.bottles, 1);
    assert_eq!(fixture.queues[&Lane::Small].0.depth().await.unwrap().total(), 1);

    // As a sync does it.
    fixture.settle().await;
    let (_, done, _) = fixture.sync().await;
    assert_eq!((done.fetched.bottles, done.already_held.bottles), (2, 1));
    let report = fixture.verify(Depth::Bytes).await;
    assert!(report.sound, "{:#?}", report.findings);
    assert_eq!(report.extra.bottles, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bottles_that_need_no_index_are_kept() {
    let fixture = mirrored(tool()).await;
    let digest = Digest::of(b"bottle");
    let keys = ["v2/homebrew/core/portable-ruby", "v2/_files/bottles.example.com/tools/foo/1.2"]
        .map(|image| ObjectKey::blob(&image.parse().unwrap(), &digest));
    for key in &keys {
        fixture.overwrite(key.as_str(), b"bottle").await;
    }
    fixture.remove(manifest::KEY).await;
    let rebuilt = fixture.rebuild(Depth::Bytes).await;
    assert!(rebuilt.left_out.is_empty(), "{:#?}", rebuilt.left_out);
    let manifest = fixture.manifest().await;
    let image = |path: &str| &manifest.images[&path.parse::<ImagePath>().unwrap()];
    let ruby = image("v2/homebrew/core/portable-ruby");
    assert_eq!((ruby.formula.as_str(), ruby.origin.as_str()), ("portable-ruby", "https://ghcr.io"));
    let record = &ruby.bottles[&digest];
    assert_eq!((record.image_tag.as_str(), &record.state), ("pinned", &State::Held));
    let files = image("v2/_files/bottles.example.com/tools/foo/1.2");
    assert_eq!((files.formula.as_str(), files.origin.as_str()), ("foo@1.2", "https://bottles.example.com"));
    assert!(fixture.verify(Depth::Bytes).await.sound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_and_flat_copies_are_read_back() {
    let fixture = mirrored(tool()).await;
    let since = "2026-01-02T03:04:05Z".parse().unwrap();
    let superseded: ObjectKey = fixture.tool_key("x86_64_linux").parse().unwrap();
    let copied: ObjectKey = fixture.tool_key("arm64_tahoe").parse().unwrap();
    fixture.store.retag(&superseded, &superseded_tags(since)).await.unwrap();
    let flat: ObjectKey = "tool-1.0.arm64_tahoe.bottle.tar.gz".parse().unwrap();
    fixture.store.copy(&copied, &flat).await.unwrap();
    let index = fixture.object("v2/homebrew/core/tool/manifests/1.0").await.unwrap();
    fixture.overwrite("tool/manifests/1.0", &index).await;
    fixture.remove(manifest::KEY).await;

    let rebuilt = fixture.rebuild(Depth::Sizes).await;
    assert_eq!((rebuilt.superseded, rebuilt.flat_bottles), (1, 1));
    let manifest = fixture.manifest().await;
    let image = manifest.images.values().next().unwrap();
    let record = |key: &ObjectKey| &image.bottles[&key.blob_digest().unwrap()];
    assert_eq!(
        (record(&superseded).superseded_at, record(&superseded).dropped_at),
        (Some(since), Some(since))
    );
    assert_eq!((record(&copied).superseded_at, &record(&copied).flat), (None, &vec![flat]));
    assert_eq!(image.indexes.values().next().unwrap().flat, Some(Digest::of(&index)));
    let report = fixture.verify(Depth::Bytes).await;
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_read_is_restored_where_it_is_certain() {
    let fixture = published().await;
    let before = fixture.manifest().await.publication;
    // A newer set waits for a bottle: its files are not those in place.
    let mut newer = crate::verify_published::set(&fixture, "20270101T000000000Z-abcd");
    newer.needs[0].bottles.iter_mut().for_each(|bottle| bottle.digest = Digest::of(b"on its way"));
    newer.files.values_mut().for_each(|file| file.sha256 = Digest::of(b"newer"));
    newer.save(&*fixture.store).await.unwrap();
    // And one whose bottles were never all there, with the same files.
    let mut unmet = crate::verify_published::set(&fixture, "20280101T000000000Z-abcd");
    unmet.needs[0].bottles[0].digest = Digest::of(b"never there");
    unmet.save(&*fixture.store).await.unwrap();

    fixture.remove(manifest::KEY).await;
    let rebuilt = fixture.rebuild(Depth::Sizes).await;
    assert_eq!((rebuilt.api_files, rebuilt.published.len()), (7, 4));
    let after = fixture.manifest().await.publication;
    assert_eq!(after.files, before.files);
    let runs = |publication: &common::publication::Publication| {
        let runs = publication.published.iter();
        runs.map(|(scope, published)| (scope.to_string(), published.run.to_string())).collect::<Vec<_>>()
    };
    let expected: Vec<_> = runs(&before)
        .into_iter()
        .map(|(scope, run)| match scope.as_str() {
            // What needs the bottle that is not there was published from the older set.
            "x86_64_linux" | "all-clients" => (scope, run),
            _ => (scope, unmet.run.to_string()),
        })
        .collect();
    assert_eq!(runs(&after), expected);
    let report = fixture.verify(Depth::Sizes).await;
    assert!(report.sound && report.findings.is_empty(), "{:#?}", report.findings);

    // Of a damaged file nobody knows whose it was.
    fixture.remove(manifest::KEY).await;
    fixture.overwrite("api/internal/packages.x86_64_linux.jws.json", b"damaged").await;
    let rebuilt = fixture.rebuild(Depth::Sizes).await;
    let scopes: Vec<_> = rebuilt.published.iter().map(ToString::to_string).collect();
    assert_eq!(scopes, ["arm64_tahoe", "all-clients", "no-bottles"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_whose_size_no_index_states_is_read_before_it_is_taken_for_held() {
    let ruby = FormulaSpec { unlisted: false, ..FormulaSpec::portable_ruby("4.0.1") };
    let mut fixture = Fixture::new(Spec { formulae: [tool().formulae, vec![ruby]].concat(), ..tool() }).await;
    fixture.selection =
        "formulae=['tool']\ntags=['x86_64_linux']\nportable_ruby=['x86_64_linux']".parse().unwrap();
    fixture.sync().await;
    let ruby = fixture.key_of("portable-ruby", "x86_64_linux");
    let whole = fixture.object(ruby.as_str()).await.unwrap();
    let file = ObjectKey::blob(&"v2/_files/bottles.example.com/foo".parse().unwrap(), &Digest::of(b"whole"));
    for depth in [Depth::Sizes, Depth::Bytes] {
        fixture.overwrite(ruby.as_str(), &whole[..whole.len() / 2]).await;
        fixture.overwrite(file.as_str(), b"half").await;
        // Without an index nobody says how long it is.
        let of_ruby = "v2/homebrew/core/portable-ruby/manifests/";
        for index in fixture.store.list(of_ruby, None, 10).await.unwrap() {
            fixture.remove(index.key.as_str()).await;
        }
        fixture.remove(manifest::KEY).await;
        let rebuilt = fixture.rebuild(depth).await;
        assert_eq!(rebuilt.held.bottles, 1);
        for key in [&ruby, &file] {
            let finding = rebuilt.left_out.iter().find(|finding| finding.key == *key).unwrap();
            assert_eq!((finding.kind, &finding.repair), (Kind::WrongChecksum, &Some(Repair::Reported)));
        }
        // Its true size is known to upstream alone.
        let repaired = rebuilt.repair.unwrap();
        assert_eq!((repaired.reported, repaired.total().bottles), (2, 0));
        assert_eq!(fixture.queues[&Lane::Small].0.depth().await.unwrap().total(), 0);
        fixture.settle().await;
        assert_eq!(fixture.sync().await.1.fetched.bottles, 1);
        assert!(fixture.object(ruby.as_str()).await.unwrap() == whole);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_that_is_killed_before_it_asks_for_a_damaged_bottle_does_not_forget_it() {
    let mut fixture = mirrored(Spec::uniform(5, 3, 2_000, &["all"])).await;
    let key = fixture.expected().into_keys().next().unwrap();
    let whole = fixture.object(&key).await.unwrap();
    fixture.overwrite(&key, &altered(&whole)).await;
    // Nothing is left of the image but a bottle that is damaged.
    let (image, _) = key.split_once("/blobs/").unwrap();
    fixture.remove(manifest::KEY).await;
    let sound = Arc::clone(&fixture.store);
    let die = |key: ObjectKey| -> BoxFuture<'static, Result<(), StoreError>> {
        let is_receipt = key.as_str().starts_with("_sync/receipts/");
        let why = "the rebuild was killed";
        let outcome =
            if is_receipt { Err(StoreError::Refused { key: key.to_string(), why }) } else { Ok(()) };
        Box::pin(async { outcome })
    };
    fixture.store = Arc::new(HookedStore::before_put(Arc::clone(&sound), die));
    fixture.verifier(Depth::Bytes).rebuild().await.unwrap_err();
    fixture.store = sound;
    fixture.lose_messages().await;
    let known = &fixture.manifest().await.images[&image.parse::<ImagePath>().unwrap()];
    assert_eq!(known.damaged.len(), 1);
    assert!(!fixture.verify(Depth::Bytes).await.sound);
    // It has its size, and would be taken for sound.
    assert_eq!(fixture.sync().await.1.fetched.bottles, 1);
    assert!(fixture.object(&key).await.unwrap() == whole);
    assert!(fixture.verify(Depth::Bytes).await.sound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_of_one_damaged_bottle_is_not_forgotten_by_a_rebuild() {
    let fixture = mirrored(tool()).await;
    let image: ImagePath = "v2/_files/bottles.example.com/foo".parse().unwrap();
    let key = ObjectKey::blob(&image, &Digest::of(b"whole"));
    fixture.overwrite(key.as_str(), b"other").await;
    fixture.remove(manifest::KEY).await;
    fixture.rebuild(Depth::Sizes).await;
    assert!(fixture.manifest().await.images[&image].damaged.contains(&Digest::of(b"whole")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api_files_whose_bottles_are_not_there_are_told_until_they_are_published_anew() {
    let index = "v2/homebrew/core/tool/manifests/1.0".to_owned();
    for gone in [mirrored(tool()).await.tool_key("arm64_tahoe"), index] {
        let fixture = mirrored(tool()).await;
        fixture.remove(&gone).await;
        fixture.remove(manifest::KEY).await;
        let rebuilt = fixture.rebuild(Depth::Sizes).await;
        let of_no_set = |findings: &[Finding]| -> Vec<String> {
            let found = findings.iter().filter(|one| one.kind == Kind::OfNoSet && one.wrong);
            found.map(|one| one.key.to_string()).collect()
        };
        let told = of_no_set(&rebuilt.left_out);
        for path in ["formula.json", "formula.jws.json", "internal/packages.arm64_tahoe.jws.json"] {
            assert!(told.contains(&format!("api/{path}")), "{path} of {told:?} without {gone}");
        }
        let linux = told.contains(&"api/internal/packages.x86_64_linux.jws.json".to_owned());
        assert_eq!(linux, gone.contains("/manifests/"), "{told:?} without {gone}");
        let report = fixture.verify(Depth::Sizes).await;
        assert_eq!((of_no_set(&report.findings), report.sound), (told, false));
        fixture.sync().await;
        let report = fixture.verify(Depth::Bytes).await;
        assert!(report.sound, "{:#?}", report.findings);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_read_before_is_restored_too() {
    let fixture = mirrored(tool()).await;
    let path = "internal/packages.x86_64_linux.jws.json";
    let first = fixture.api(path).await.unwrap();
    let newer = FormulaSpec::new("tool", "1.1").with_bottle("x86_64_linux", 4_002);
    fixture.testbed.replace(Spec { formulae: vec![newer.with_bottle("arm64_tahoe", 4_003)], ..tool() });
    fixture.sync().await;
    assert!(fixture.api(path).await.unwrap() != first);
    let before = fixture.manifest().await.publication;
    // A set that waits for its bottles holds nothing back.
    let newest = before.newest().unwrap();
    let mut waiting = Set::load(&*fixture.store, newest).await.unwrap().unwrap();
    waiting.run = waiting.run.next();
    waiting.files.values_mut().for_each(|file| file.sha256 = Digest::of(b"newer"));
    let needed = waiting.needs.iter_mut().flat_map(|need| &mut need.bottles);
    needed.for_each(|bottle| bottle.digest = Digest::of(b"on its way"));
    waiting.save(&*fixture.store).await.unwrap();

    fixture.remove(manifest::KEY).await;
    fixture.rebuild(Depth::Sizes).await;
    let after = fixture.manifest().await.publication;
    let runs = |published: &BTreeMap<Scope, Published>| -> Vec<_> {
        published.iter().map(|(scope, published)| (scope.clone(), published.run.clone())).collect()
    };
    assert_eq!(runs(&after.published), runs(&before.published));
    assert_eq!(runs(&after.previous), runs(&before.previous));
    assert_eq!(after.held_since, None);
    fixture.order(What::Rollback { clients: Vec::new() }).await;
    fixture.settle().await;
    assert!(fixture.api(path).await.unwrap() == first);
}
