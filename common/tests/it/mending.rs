//! What is found is mended, to the end: a look, its repair, and the runs after it.

use std::sync::Arc;
use std::time::Duration;

use common::bottle::Digest;
use common::manifest;
use common::publication::Scope;
use common::receipt::What;
use common::store::StoreError;
use common::verify::{Depth, Kind, Repair, Subject};
use futures_util::future::BoxFuture;
use testbed::{FormulaSpec, Spec};

use crate::fixture::Fixture;
use crate::flaky::HookedStore;
use crate::layouts::{taps, with_taps};
use crate::verify::{altered, found, only};

const LINUX: &str = "internal/packages.x86_64_linux.jws.json";
const FILES: [&str; 4] =
    [LINUX, "internal/packages.arm64_tahoe.jws.json", "formula.jws.json", "cask.jws.json"];

fn spec(version: &str) -> Spec {
    let tool = FormulaSpec::new("tool", version)
        .with_bottle("arm64_tahoe", 3_000)
        .with_bottle("x86_64_linux", 3_001);
    Spec { seed: 4, formulae: vec![tool], ..Spec::default() }
}

async fn fixture() -> Fixture {
    let mut fixture = Fixture::new(spec("1.0")).await;
    fixture.selection = "tags = ['arm64_tahoe', 'x86_64_linux']".parse().unwrap();
    fixture.sync().await;
    fixture
}

async fn assert_sound(fixture: &Fixture) {
    let report = fixture.verify(Depth::Bytes).await;
    assert!(report.sound && report.findings.is_empty(), "{:#?}", report.findings);
}

async fn assert_published(fixture: &Fixture) {
    for path in FILES {
        let published = fixture.api(path).await;
        assert!(published.is_some() && published == fixture.upstream_api(path), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_api_file_is_no_more_right_once_the_manifest_is_lost_too() {
    for is_missing in [false, true] {
        let fixture = fixture().await;
        let key = format!("api/{LINUX}");
        if is_missing {
            fixture.remove(&key).await;
        } else {
            fixture.overwrite(&key, b"damaged").await;
        }
        fixture.remove(manifest::KEY).await;
        let rebuilt = fixture.verifier(Depth::Bytes).rebuild().await.unwrap();
        let left: Vec<_> = rebuilt.left_out.iter().map(|one| (one.kind, one.key.as_str())).collect();
        let expected = [(Kind::WrongChecksum, key.as_str())];
        assert_eq!(left, if is_missing { &[][..] } else { &expected[..] });
        assert!(!rebuilt.is_held_back);
        // Upstream is as it was; what is not read by all is staged anew.
        fixture.sync().await;
        assert_published(&fixture).await;
        assert_sound(&fixture).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_goes_on_to_hold_after_the_manifest_was_lost() {
    let fixture = fixture().await;
    let first = fixture.upstream_api(LINUX).unwrap();
    fixture.testbed.replace(spec("2.0"));
    fixture.sync().await;
    fixture.order(What::Rollback { clients: Vec::new() }).await;
    fixture.settle().await;
    fixture.remove(manifest::KEY).await;
    assert!(fixture.verifier(Depth::Sizes).rebuild().await.unwrap().is_held_back);
    for version in ["2.0", "3.0"] {
        fixture.testbed.replace(spec(version));
        fixture.sync().await;
        assert!(fixture.api(LINUX).await.unwrap() == first, "the operator's rollback was undone");
    }
    fixture.order(What::Resume).await;
    fixture.settle().await;
    assert_published(&fixture).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_file_of_an_earlier_publication_is_a_wrong_one() {
    let fixture = fixture().await;
    let first = fixture.upstream_api(LINUX).unwrap();
    fixture.testbed.replace(spec("2.0"));
    fixture.sync().await;
    // As somebody does who restores a version of a bucket's object.
    fixture.overwrite(&format!("api/{LINUX}"), &first).await;
    let mut report = fixture.verify(Depth::Sizes).await;
    assert_eq!(found(&report), [(Kind::WrongChecksum, Subject::ApiFile, format!("api/{LINUX}"))]);
    assert_eq!(only(&report).scopes.len(), 1);
    fixture.verifier(Depth::Sizes).repair(&mut report).await.unwrap();
    fixture.settle().await;
    assert_published(&fixture).await;
    assert_sound(&fixture).await;
    // While a rollback is asked for, it is what the next settle puts there.
    fixture.order(What::Rollback { clients: Vec::new() }).await;
    fixture.overwrite(&format!("api/{LINUX}"), &first).await;
    assert!(fixture.verify(Depth::Sizes).await.sound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_file_that_is_gone_with_its_staged_copy_is_not_sound_until_it_is_back() {
    let fixture = fixture().await;
    let right = fixture.upstream_api(LINUX).unwrap();
    fixture.remove(&format!("api/{LINUX}")).await;
    let staged = format!("_sync/api/files/{}", Digest::of(&right));
    fixture.remove(&staged).await;
    let (file, staged) = ((Subject::ApiFile, format!("api/{LINUX}")), (Subject::ApiFile, staged));
    let of = |kind, (subject, key): &(Subject, String)| (kind, *subject, key.clone());
    let mut report = fixture.verify(Depth::Sizes).await;
    assert_eq!(found(&report), [of(Kind::Missing, &file), of(Kind::StagedGone, &staged)]);
    fixture.verifier(Depth::Sizes).repair(&mut report).await.unwrap();
    fixture.settle().await;
    let report = fixture.verify(Depth::Sizes).await;
    assert_eq!(found(&report), [of(Kind::NotHeld, &file), of(Kind::StagedGone, &staged)]);
    fixture.sync().await;
    assert_published(&fixture).await;
    assert_sound(&fixture).await;
}

/// Files of a plain host: where they are, and their flat names, no key and no index tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_files_of_a_plain_host_are_mended_too() {
    let mut fixture = Fixture::new(with_taps()).await;
    fixture.selection = taps(&fixture.testbed, "").parse().unwrap();
    fixture.sync().await;
    assert_sound(&fixture).await;
    let list = || fixture.store.list("v2/_files/", None, 10);
    let key = list().await.unwrap()[0].key.to_string();
    let right = fixture.object(&key).await.unwrap();
    for is_manifest_lost in [false, true] {
        if is_manifest_lost {
            fixture.remove(manifest::KEY).await;
            let rebuilt = fixture.verifier(Depth::Bytes).rebuild().await.unwrap();
            assert!(rebuilt.left_out.is_empty(), "{:#?}", rebuilt.left_out);
            assert_sound(&fixture).await;
            let manifest = fixture.manifest().await;
            let image = manifest.images.iter().find(|(path, _)| path.as_str().starts_with("v2/_files/"));
            let record = image.unwrap().1.bottles.values().next().unwrap();
            assert_eq!((record.flat.len(), record.tags[0].to_string().as_str()), (1, "x86_64_linux"));
        }
        fixture.overwrite(&key, &altered(&right)).await;
        let mut report = fixture.verify(Depth::Bytes).await;
        assert_eq!(only(&report).kind, Kind::WrongChecksum);
        fixture.verifier(Depth::Bytes).repair(&mut report).await.unwrap();
        let is_reported = report.findings[0].repair == Some(Repair::Reported);
        assert_eq!(is_reported, is_manifest_lost, "{:?}", report.findings[0].repair);
        fixture.settle().await;
        // What has no message is forgotten first.
        fixture.clock =
            common::clock::Clock::manual(common::clock::after(fixture.clock.now(), Duration::from_mins(10)));
        fixture.settle().await;
        fixture.sync().await;
        assert!(fixture.object(&key).await.unwrap() == right, "lost: {is_manifest_lost}");
        assert_sound(&fixture).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_that_can_not_be_read_is_told_and_mended() {
    for transient in [false, true] {
        let mut fixture = fixture().await;
        let bad = fixture.key_of("tool", "x86_64_linux").to_string();
        let (sound, key) = (Arc::clone(&fixture.store), bad.clone());
        let refuse = move |at: String| -> BoxFuture<'static, Result<(), StoreError>> {
            let is_it = at == key;
            Box::pin(async move {
                let cause = "injected".to_owned();
                let error = StoreError::Failed { operation: "get", key: at, cause, transient };
                if is_it { Err(error) } else { Ok(()) }
            })
        };
        fixture.store = Arc::new(HookedStore::before_look(Arc::clone(&sound), refuse));
        let mut report = fixture.verify(Depth::Bytes).await;
        assert_eq!(found(&report), [(Kind::Unreadable, Subject::Bottle, bad.clone())]);
        // A rebuilt manifest vouches for it as little.
        let object = sound.get(&manifest::KEY.parse().unwrap()).await.unwrap().unwrap();
        fixture.remove(manifest::KEY).await;
        let rebuilt = fixture.verifier(Depth::Bytes).rebuild().await.unwrap();
        assert_eq!((rebuilt.held.bottles, rebuilt.left_out[0].kind), (1, Kind::Unreadable));
        fixture.overwrite(manifest::KEY, &object.body).await;
        fixture.verifier(Depth::Bytes).repair(&mut report).await.unwrap();
        fixture.store = sound;
        fixture.testbed.log().clear();
        fixture.settle().await;
        fixture.drain().await;
        fixture.settle().await;
        assert!(fixture.testbed.log().count("registry:*/blobs/*") > 0, "it was not fetched");
        assert_sound(&fixture).await;
    }
}

/// A retired bottle that a rule has removed takes its flat name with it, and that is
/// nothing wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flat_name_expires_with_its_bottle() {
    let mut fixture = Fixture::new(spec("1.0")).await;
    fixture.selection = "layout = 'flat'".parse().unwrap();
    fixture.sync().await;
    let manifest = fixture.manifest().await;
    let image = manifest.images.values().next().unwrap();
    let (digest, record) = image.bottles.iter().next().unwrap();
    let (digest, flat) = (*digest, record.flat[0].clone());
    for version in ["2.0", "3.0"] {
        fixture.testbed.replace(spec(version));
        fixture.sync().await;
    }
    fixture.remove(flat.as_str()).await;
    fixture.remove(&format!("v2/homebrew/core/tool/blobs/sha256:{digest}")).await;
    // Its grace is not over.
    let report = fixture.verify(Depth::Bytes).await;
    assert_eq!((report.count(Kind::Missing), report.sound), (2, false), "{:#?}", report.findings);
    fixture.expire_after = Duration::ZERO;
    let report = fixture.verify(Depth::Bytes).await;
    assert!(report.sound, "{:#?}", report.findings);
    assert_eq!(report.count(Kind::Expired), 2);
}

/// Of what lacks something nobody can say that clients may read of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scope_that_lacks_something_is_published_anew_after_a_rebuild() {
    let mut fixture = Fixture::new(spec("1.0")).await;
    fixture.selection = "layout = 'flat'".parse().unwrap();
    fixture.sync().await;
    let flat = "tool-1.0.x86_64_linux.bottle.tar.gz";
    for lacking in ["v2/homebrew/core/tool/manifests/1.0", "tool/manifests/1.0", flat] {
        fixture.remove(lacking).await;
        fixture.remove(manifest::KEY).await;
        let rebuilt = fixture.verifier(Depth::Bytes).rebuild().await.unwrap();
        let scopes: Vec<_> = rebuilt.published.iter().map(ToString::to_string).collect();
        assert!(!scopes.contains(&"x86_64_linux".to_owned()), "without {lacking}: {scopes:?}");
        assert!(!rebuilt.is_held_back);
        fixture.sync().await;
        assert_sound(&fixture).await;
        assert!(fixture.object(lacking).await.is_some(), "{lacking} did not come back");
    }
    // A copy that is cut is none.
    fixture.overwrite(flat, b"cut").await;
    fixture.remove(manifest::KEY).await;
    assert_eq!(fixture.verifier(Depth::Sizes).rebuild().await.unwrap().flat_bottles, 1);
}

/// Clients ask for the index that the files name, whatever other one names its bottles.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_lost_is_not_made_up_for_by_another_one() {
    let fixture = fixture().await;
    let index = "v2/homebrew/core/tool/manifests/1.0";
    let bytes = fixture.object(index).await.unwrap();
    fixture.overwrite("v2/homebrew/core/tool/manifests/0.9", &bytes).await;
    fixture.remove(index).await;
    fixture.remove(manifest::KEY).await;
    let rebuilt = fixture.verifier(Depth::Bytes).rebuild().await.unwrap();
    let x86_64_linux = Scope::Client("x86_64_linux".parse().unwrap());
    assert!(rebuilt.held.bottles > 0 && !rebuilt.published.contains(&x86_64_linux), "{rebuilt:#?}");
    fixture.sync().await;
    assert_eq!(fixture.object(index).await, Some(bytes));
    assert!(fixture.manifest().await.publication.published.contains_key(&x86_64_linux));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_that_goes_while_it_is_looked_at_is_missing() {
    let mut fixture = fixture().await;
    let bad = fixture.key_of("tool", "x86_64_linux");
    let (sound, key) = (Arc::clone(&fixture.store), bad.to_string());
    let gone = Arc::new(std::sync::atomic::AtomicBool::new(false));
    // A look at one that is listed is the comparison to the byte.
    let path = fixture.folder().map(|folder| folder.join(bad.as_str())).unwrap();
    let remove = move |at: String| -> BoxFuture<'static, Result<(), StoreError>> {
        if at == key && !gone.swap(true, std::sync::atomic::Ordering::Relaxed) {
            std::fs::remove_file(&path).unwrap();
        }
        Box::pin(async { Ok(()) })
    };
    fixture.store = Arc::new(HookedStore::before_look(sound, remove));
    let report = fixture.verify(Depth::Bytes).await;
    assert_eq!(found(&report), [(Kind::Missing, Subject::Bottle, bad.to_string())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_counted_however_much_it_is() {
    let fixture = fixture().await;
    for _ in 0..8 {
        fixture.order(What::Resume).await;
    }
    assert_eq!(fixture.verify(Depth::Sizes).await.waiting.orders, 8);
}
