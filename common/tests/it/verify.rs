//! Verify: what is missing, damaged, or known to nobody is found, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::bottle::{Digest, ImagePath, ObjectKey};
use common::clock::Clock;
use common::dead_letter::{Failure, Reason};
use common::manifest::State;
use common::message::{Lane, Message};
use common::publication::Publication;
use common::receipt::{Entry, Outcome, Receipt};
use common::retry::Policy;
use common::store::{StoreError, superseded_tags};
use common::verify::{Depth, Finding, Kind, Report, Subject, Verifier, VerifyError, VerifySettings};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use testbed::{FormulaSpec, Spec};

use crate::fixture::{Backend, Fixture, SIZE_THRESHOLD, one_bottle};
use crate::flaky::{Dice, FlakyStore, HookedStore};

const IMAGE: &str = "v2/homebrew/core/tool";
const INDEX: &str = "v2/homebrew/core/tool/manifests/1.0";

impl Fixture {
    pub(crate) fn verifier(&self, depth: Depth) -> Verifier {
        // Small pages: what is found must not depend on them.
        let settings = VerifySettings {
            depth,
            size_threshold: SIZE_THRESHOLD,
            concurrency: 8,
            page: 3,
            is_fed_by_plans: true,
            expire_after: self.expire_after,
        };
        let mut verifier = self.pipeline().verifier(settings);
        verifier.retry = Policy {
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(10),
            budget: Duration::from_millis(300),
        };
        verifier
    }

    pub(crate) async fn verify(&self, depth: Depth) -> Report {
        self.verifier(depth).verify().await.unwrap()
    }

    /// Takes back all that clients were told.
    async fn publish_nothing(&self) {
        self.change_manifest(|manifest| manifest.publication = Publication::default()).await;
        for meta in self.store.list("api/", None, 100).await.unwrap() {
            self.remove(meta.key.as_str()).await;
        }
    }

    /// The key of a bottle of `tool`.
    pub(crate) fn tool_key(&self, tag: &str) -> String {
        format!("{IMAGE}/blobs/sha256:{}", self.digest_of("tool", tag))
    }
}

/// Two bottles under one index.
pub(crate) fn tool() -> Spec {
    let formula =
        FormulaSpec::new("tool", "1.0").with_bottle("x86_64_linux", 4_000).with_bottle("arm64_tahoe", 4_001);
    Spec { seed: 2, formulae: vec![formula], ..Spec::default() }
}

pub(crate) async fn mirrored(spec: Spec) -> Fixture {
    let fixture = Fixture::new(spec).await;
    fixture.sync().await;
    fixture
}

/// What was found, in short.
pub(crate) fn found(report: &Report) -> Vec<(Kind, Subject, String)> {
    report.findings.iter().map(|one| (one.kind, one.subject, one.key.to_string())).collect()
}

pub(crate) fn only(report: &Report) -> &Finding {
    assert_eq!(report.findings.len(), 1, "{:#?}", report.findings);
    &report.findings[0]
}

/// The same bytes but one.
pub(crate) fn altered(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sound_mirror_is_sound_and_stays_as_it_is() {
    let fixture = mirrored(Spec::bulk(1, 40, 1_000..40_000)).await;
    let before = fixture.store.list("", None, usize::MAX).await.unwrap();
    for depth in [Depth::Sizes, Depth::Bytes] {
        let report = fixture.verify(depth).await;
        assert!(report.sound && report.findings.is_empty(), "{report:#?}");
        assert_eq!((report.checked.bottles, report.held.bottles), (40, 40));
        assert_eq!(report.checked.indexes, fixture.manifest().await.images.len() as u64);
        assert_eq!(report.checksums.map(|sums| sums.checked), (depth == Depth::Bytes).then_some(report.held));
    }
    assert_eq!(fixture.store.list("", None, usize::MAX).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_bottle_is_found_and_named() {
    let fixture = mirrored(tool()).await;
    let key = fixture.tool_key("arm64_tahoe");
    fixture.remove(&key).await;
    let report = fixture.verify(Depth::Sizes).await;
    assert!(!report.sound);
    let finding = only(&report);
    assert_eq!(found(&report), [(Kind::Missing, Subject::Bottle, key)]);
    assert_eq!(finding.formula.as_ref().unwrap().as_str(), "tool");
    assert_eq!(finding.image_tag.as_ref().unwrap().as_str(), "1.0");
    assert_eq!(finding.tags, ["arm64_tahoe".parse().unwrap()]);
    assert_eq!((finding.expected.unwrap().size, finding.found), (Some(4_001), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_bottle_is_found_by_its_size() {
    let fixture = mirrored(tool()).await;
    let key = fixture.tool_key("x86_64_linux");
    fixture.overwrite(&key, b"half").await;
    for depth in [Depth::Sizes, Depth::Bytes] {
        let report = fixture.verify(depth).await;
        assert_eq!(found(&report), [(Kind::WrongSize, Subject::Bottle, key.clone())]);
        let finding = only(&report);
        assert_eq!((finding.expected.unwrap().size, finding.found.unwrap().size), (Some(4_000), Some(4)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_bytes_of_the_same_size_are_found_to_the_byte_alone() {
    let fixture = mirrored(tool()).await;
    let key = fixture.tool_key("x86_64_linux");
    let other = altered(&fixture.object(&key).await.unwrap());
    // By someone who tells the store no checksum: what it kept is of the former bytes.
    fixture.overwrite(&key, &other).await;
    assert!(fixture.verify(Depth::Sizes).await.sound);
    let report = fixture.verify(Depth::Bytes).await;
    assert_eq!(found(&report), [(Kind::WrongChecksum, Subject::Bottle, key)]);
    assert_eq!(only(&report).found.unwrap().sha256, Some(Digest::of(&other)));
    let checksums = report.checksums.unwrap();
    assert_eq!((checksums.checked.bottles, checksums.of.bottles), (2, 2));
    let read = if matches!(crate::BACKEND, Backend::Aws) { 1 } else { 2 };
    assert_eq!((checksums.read.bottles, checksums.by_store.bottles), (read, 2 - read));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_of_which_the_store_knows_no_whole_checksum_is_read() {
    // Three parts: S3 keeps a checksum of the parts' checksums.
    let fixture = mirrored(one_bottle("large", 17 << 20)).await;
    let report = fixture.verify(Depth::Bytes).await;
    let checksums = report.checksums.unwrap();
    assert!(report.sound, "{:#?}", report.findings);
    assert_eq!((checksums.read.bytes, checksums.by_store.bottles), (17 << 20, 0));

    let key = fixture.expected().into_keys().next().unwrap();
    let other = altered(&fixture.object(&key).await.unwrap());
    fixture.overwrite(&key, &other).await;
    let report = fixture.verify(Depth::Bytes).await;
    assert_eq!(found(&report), [(Kind::WrongChecksum, Subject::Bottle, key)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sample_is_a_part_of_the_bottles() {
    let fixture = mirrored(Spec::uniform(1, 60, 1_000, &["all"])).await;
    for expected in fixture.expected().into_keys() {
        let other = altered(&fixture.object(&expected).await.unwrap());
        fixture.overwrite(&expected, &other).await;
    }
    let sample = Depth::Sample("5%".parse().unwrap());
    let mut keys = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let report = fixture.verify(sample).await;
        let checksums = report.checksums.unwrap();
        assert_eq!((checksums.checked.bottles, checksums.of.bottles), (3, 60));
        assert_eq!(report.count(Kind::WrongChecksum), 3);
        keys.extend(found(&report));
    }
    assert!(keys.len() > 10, "the same ones each time: {keys:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_index_is_compared_to_the_byte() {
    let fixture = mirrored(tool()).await;
    let whole = fixture.object(INDEX).await.unwrap();
    fixture.remove(INDEX).await;
    let found_now = |report: &Report| found(report).into_iter().map(|one| (one.0, one.1)).collect::<Vec<_>>();
    assert_eq!(found_now(&fixture.verify(Depth::Sizes).await), [(Kind::Missing, Subject::Index)]);
    for garbled in [&b"<html>"[..], &whole[..whole.len() / 2], &[whole.clone(), b" ".to_vec()].concat()] {
        fixture.overwrite(INDEX, garbled).await;
        let report = fixture.verify(Depth::Sizes).await;
        assert_eq!(found_now(&report), [(Kind::WrongChecksum, Subject::Index)]);
        assert_eq!(only(&report).found.unwrap().sha256, Some(Digest::of(garbled)));
    }
    let too_large = vec![b' '; (4 << 20) + 1];
    fixture.overwrite(INDEX, &too_large).await;
    assert_eq!(found_now(&fixture.verify(Depth::Sizes).await), [(Kind::Unreadable, Subject::Index)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_what_it_was_must_name_the_held_bottles() {
    let fixture = mirrored(tool()).await;
    let image: ImagePath = IMAGE.parse().unwrap();
    let digest = fixture.digest_of("tool", "arm64_tahoe");
    let record_as = async |text: &str| {
        fixture.overwrite(INDEX, text.as_bytes()).await;
        let sha256 = Digest::of(text.as_bytes());
        fixture
            .change_manifest(|manifest| {
                let index = manifest.images.get_mut(&image).unwrap().indexes.values_mut().next().unwrap();
                index.sha256 = sha256;
            })
            .await;
    };
    let whole = String::from_utf8(fixture.object(INDEX).await.unwrap()).unwrap();
    record_as(&whole.replace(&digest, &"0".repeat(64))).await;
    let report = fixture.verify(Depth::Sizes).await;
    let finding = only(&report);
    assert_eq!((finding.kind, finding.key.as_str(), finding.wrong), (Kind::LacksBottle, INDEX, true));
    assert_eq!(finding.tags, ["arm64_tahoe".parse().unwrap()]);
    assert!(finding.detail.as_ref().unwrap().contains(&digest), "{finding:?}");
    // One that upstream dropped since was replaced under the same tag.
    fixture
        .change_manifest(|manifest| {
            let bottles = &mut manifest.images.get_mut(&image).unwrap().bottles;
            bottles.get_mut(&digest.parse().unwrap()).unwrap().dropped_at = Some(Timestamp::UNIX_EPOCH);
        })
        .await;
    // What is published names it no more.
    fixture.publish_nothing().await;
    assert!(fixture.verify(Depth::Sizes).await.sound);

    record_as("<html>").await;
    assert_eq!(only(&fixture.verify(Depth::Sizes).await).kind, Kind::Unreadable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_waits_must_be_where_it_waits() {
    let fixture = Fixture::new(tool()).await;
    fixture.plan().await;
    let report = fixture.verify(Depth::Bytes).await;
    assert!(report.sound, "{:#?}", report.findings);
    assert_eq!((report.checked.staged_indexes, report.queued), (1, 2));
    let manifest = fixture.manifest().await;
    let index = manifest.images.values().next().unwrap().indexes.values().next().unwrap();
    let staged = index.staged.clone().unwrap();
    let other = altered(&fixture.object(staged.as_str()).await.unwrap());
    fixture.overwrite(staged.as_str(), &other).await;
    let report = fixture.verify(Depth::Sizes).await;
    assert_eq!(found(&report), [(Kind::StagedDamaged, Subject::Index, staged.to_string())]);
    assert_eq!(only(&report).expected.unwrap().sha256, Some(index.sha256));
    assert_eq!(only(&report).found.unwrap().sha256, Some(Digest::of(&other)));
    assert!(!report.sound && report.is_repairable());
    fixture.remove(staged.as_str()).await;
    let mut report = fixture.verify(Depth::Sizes).await;
    assert_eq!(found(&report), [(Kind::StagedGone, Subject::Index, staged.to_string())]);
    assert!(!report.sound);
    fixture.verifier(Depth::Sizes).repair(&mut report).await.unwrap();
    fixture.drain().await;
    fixture.settle().await;
    fixture.sync().await;
    fixture.assert_whole(&[]).await;
    assert!(fixture.verify(Depth::Bytes).await.sound);
}

/// The API files of every set are kept, to be published and to be put back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_file_that_waits_is_compared_to_the_byte_and_staged_anew_by_the_next_plan() {
    let fixture = mirrored(tool()).await;
    let files = fixture.store.list("_sync/api/files/", None, 100).await.unwrap();
    assert_eq!(fixture.verify(Depth::Sizes).await.checked.staged_files, files.len() as u64);
    let [first, second] = [0, 1].map(|at: usize| files[at].key.to_string());
    let whole = fixture.object(&first).await.unwrap();
    fixture.overwrite(&first, &altered(&whole)).await;
    fixture.remove(&second).await;
    let report = fixture.verify(Depth::Sizes).await;
    let expected = [
        (Kind::StagedGone, Subject::ApiFile, second.clone()),
        (Kind::StagedDamaged, Subject::ApiFile, first.clone()),
    ];
    assert_eq!((found(&report), report.sound), (expected.to_vec(), false));
    assert!(fixture.plan().await.unchanged);
    assert!(fixture.object(&first).await.unwrap() == whole && fixture.object(&second).await.is_some());
    assert!(fixture.verify(Depth::Sizes).await.sound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_knows_is_told_and_is_nothing_wrong() {
    let fixture = mirrored(tool()).await;
    let bottle = ObjectKey::blob(&"v2/homebrew/core/old".parse().unwrap(), &Digest::of(b"old"));
    for (key, bytes) in [
        (bottle.as_str(), &b"old"[..]),
        ("v2/homebrew/core/old/manifests/0.9", b"{}"),
        ("old-0.9.all.bottle.tar.gz", b"old"),
        ("old/manifests/0.9", b"{}"),
        ("api/old.jws.json", b"{}"),
        ("index.html", b"hello"),
        ("v2/notes.txt", b"note"),
        ("zebra", b"z"),
    ] {
        fixture.overwrite(key, bytes).await;
    }
    let report = fixture.verify(Depth::Bytes).await;
    assert!(report.sound);
    assert!(report.findings.iter().all(|finding| finding.kind == Kind::Extra && !finding.wrong));
    let subjects: Vec<_> = report.findings.iter().map(|finding| finding.subject).collect();
    assert_eq!(
        subjects,
        [Subject::Bottle, Subject::Index, Subject::FlatBottle, Subject::FlatIndex, Subject::ApiFile]
    );
    assert_eq!((report.extra.bottles, report.extra.bytes), (1, 3));
    assert_eq!((report.foreign.objects, report.foreign.bytes), (3, 10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_that_was_retired_may_be_gone() {
    let fixture = mirrored(tool()).await;
    let (image, digest): (ImagePath, Digest) =
        (IMAGE.parse().unwrap(), fixture.digest_of("tool", "x86_64_linux").parse().unwrap());
    fixture.remove(&fixture.tool_key("x86_64_linux")).await;
    assert_eq!(only(&fixture.verify(Depth::Sizes).await).kind, Kind::Missing);
    fixture
        .change_manifest(|manifest| {
            let bottles = &mut manifest.images.get_mut(&image).unwrap().bottles;
            let record = bottles.get_mut(&digest).unwrap();
            (record.dropped_at, record.superseded_at) =
                (Some(Timestamp::UNIX_EPOCH), Some(Timestamp::UNIX_EPOCH));
        })
        .await;
    fixture.publish_nothing().await;
    let report = fixture.verify(Depth::Bytes).await;
    assert!(report.sound);
    assert_eq!(found(&report), [(Kind::Expired, Subject::Bottle, fixture.tool_key("x86_64_linux"))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_that_is_gone_before_its_grace_is_over_is_missing() {
    let fixture = mirrored(tool()).await;
    let (image, digest): (ImagePath, Digest) =
        (IMAGE.parse().unwrap(), fixture.digest_of("tool", "x86_64_linux").parse().unwrap());
    fixture.remove(&fixture.tool_key("x86_64_linux")).await;
    fixture.publish_nothing().await;
    let day = Duration::from_hours(24);
    for (days, kind) in [(89, Kind::Missing), (91, Kind::Expired)] {
        let since = fixture.clock.now().checked_sub(day * days).unwrap();
        fixture
            .change_manifest(|manifest| {
                let record = manifest.images.get_mut(&image).unwrap().bottles.get_mut(&digest).unwrap();
                (record.dropped_at, record.superseded_at) = (Some(since), Some(since));
            })
            .await;
        for depth in [Depth::Sizes, Depth::Bytes] {
            let report = fixture.verify(depth).await;
            assert_eq!((only(&report).kind, report.sound), (kind, kind == Kind::Expired), "{days} days");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_bottle_that_nobody_knows_is_wrong_to_the_byte() {
    let fixture = mirrored(tool()).await;
    let [sound, damaged] = [&b"sound"[..], b"whole"]
        .map(|bytes| ObjectKey::blob(&"v2/homebrew/core/old".parse().unwrap(), &Digest::of(bytes)));
    fixture.overwrite(sound.as_str(), b"sound").await;
    fixture.overwrite(damaged.as_str(), b"other").await;
    assert!(fixture.verify(Depth::Sizes).await.sound);
    let report = fixture.verify(Depth::Bytes).await;
    let expected = [
        (Kind::WrongChecksum, Subject::Bottle, damaged.to_string()),
        (Kind::Extra, Subject::Bottle, sound.to_string()),
    ];
    assert_eq!(found(&report), expected);
    assert!(!report.sound && !report.is_repairable());
    assert!(report.findings[0].detail.as_ref().unwrap().contains("remove it"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_that_wait_for_a_settle_count() {
    let fixture = Fixture::new(tool()).await;
    fixture.plan().await;
    fixture.drain().await;
    // The manifest has both on their way still.
    let report = fixture.verify(Depth::Sizes).await;
    assert_eq!((report.held.bottles, report.queued), (2, 0));
    assert!(report.waiting.receipts > 0 && report.sound, "{:?}", report.waiting);
    fixture.remove(&fixture.tool_key("x86_64_linux")).await;
    let broken = "_sync/receipts/00-broken.json".parse().unwrap();
    fixture
        .store
        .put(&broken, b"no receipt".to_vec().into(), common::store::Condition::Always)
        .await
        .unwrap();
    let report = fixture.verify(Depth::Sizes).await;
    assert_eq!(only(&report).kind, Kind::Missing);
    assert_eq!(report.waiting.unreadable, 1);
    assert!(fixture.object(broken.as_str()).await.is_some(), "a look moved it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_that_is_not_held_is_looked_for_only_if_it_once_was() {
    let fixture = mirrored(tool()).await;
    let manifest = fixture.manifest().await;
    let (path, image) = manifest.images.iter().next().unwrap();
    let digest: Digest = fixture.digest_of("tool", "x86_64_linux").parse().unwrap();
    let message = Message {
        run: "repair".parse().unwrap(),
        formula: image.formula.clone(),
        origin: image.origin.clone(),
        image: path.clone(),
        image_tag: "1.0".parse().unwrap(),
        tags: vec!["x86_64_linux".parse().unwrap()],
        digest,
        size: 4_000,
        copy_from: None,
        file: None,
        replace: true,
    };
    let report = async |outcome| {
        let entry = Entry { message: message.clone(), at: fixture.clock.now(), outcome };
        let receipt = Receipt { entries: vec![entry], ..Receipt::default() };
        receipt.save(&*fixture.store, fixture.clock.now()).await.unwrap();
        fixture.verify(Depth::Bytes).await
    };
    fixture.remove(&fixture.tool_key("x86_64_linux")).await;
    let queued = report(Outcome::Missing).await;
    assert_eq!((only(&queued).kind, queued.sound), (Kind::Queued, false));
    let failure =
        Failure { reason: Reason::NotFound, detail: "404".to_owned(), attempts: 1, at: fixture.clock.now() };
    let dead = report(Outcome::Dead(failure)).await;
    assert_eq!((only(&dead).kind, dead.sound), (Kind::GivenUp, false));
    assert_eq!(only(&dead).detail.as_deref(), Some("404"));

    // What was never held is nothing to be missed.
    fixture
        .change_manifest(|manifest| {
            let bottles = &mut manifest.images.values_mut().next().unwrap().bottles;
            let record = bottles.get_mut(&digest).unwrap();
            (record.state, record.missing_at) = (State::Queued, None);
        })
        .await;
    fixture.publish_nothing().await;
    for receipt in fixture.store.list("_sync/receipts/", None, 10).await.unwrap() {
        fixture.remove(receipt.key.as_str()).await;
    }
    let report = fixture.verify(Depth::Bytes).await;
    assert!(report.sound && report.findings.is_empty(), "{:#?}", report.findings);
    assert_eq!(report.queued, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flat_copy_is_compared_as_its_bottle_is() {
    let fixture = mirrored(tool()).await;
    let flat = "tool-1.0.x86_64_linux.bottle.tar.gz";
    let bottle: ObjectKey = fixture.tool_key("x86_64_linux").parse().unwrap();
    let index = fixture.object(INDEX).await.unwrap();
    fixture.store.copy(&bottle, &flat.parse().unwrap()).await.unwrap();
    fixture.overwrite("tool/manifests/1.0", &index).await;
    fixture
        .change_manifest(|manifest| {
            let image = manifest.images.values_mut().next().unwrap();
            let record = image.bottles.get_mut(&bottle.blob_digest().unwrap()).unwrap();
            record.flat = vec![flat.parse().unwrap()];
            image.indexes.values_mut().next().unwrap().flat = Some(Digest::of(&index));
        })
        .await;
    let report = fixture.verify(Depth::Bytes).await;
    assert!(report.sound && report.findings.is_empty(), "{:#?}", report.findings);
    assert_eq!((report.checked.flat_bottles, report.checksums.unwrap().flat_bottles), (1, 1));

    let whole = fixture.object(flat).await.unwrap();
    fixture.overwrite(flat, &altered(&whole)).await;
    assert!(fixture.verify(Depth::Sizes).await.sound);
    let expected = |kind| [(kind, Subject::FlatBottle, flat.to_owned())];
    assert_eq!(found(&fixture.verify(Depth::Bytes).await), expected(Kind::WrongChecksum));
    fixture.overwrite(flat, b"half").await;
    assert_eq!(found(&fixture.verify(Depth::Sizes).await), expected(Kind::WrongSize));
    fixture.remove(flat).await;
    assert_eq!(found(&fixture.verify(Depth::Sizes).await), expected(Kind::Missing));

    // To the byte again, by the way that is offered.
    let verifier = fixture.verifier(Depth::Sizes);
    let mut report = verifier.verify().await.unwrap();
    verifier.repair(&mut report).await.unwrap();
    assert_eq!(report.repair.unwrap().copies, 1);
    assert!(fixture.verify(Depth::Bytes).await.sound);
    assert_eq!(fixture.object(flat).await.unwrap(), whole);

    fixture.overwrite("tool/manifests/1.0", b"{}").await;
    let report = fixture.verify(Depth::Sizes).await;
    let expected = (Kind::WrongChecksum, Subject::FlatIndex, "tool/manifests/1.0".to_owned());
    assert_eq!(found(&report), [expected]);

    // A settle copies a newer index before the manifest says so.
    fixture.overwrite("tool/manifests/1.0", &index).await;
    fixture
        .change_manifest(|manifest| {
            let image = manifest.images.values_mut().next().unwrap();
            image.indexes.values_mut().next().unwrap().flat = Some(Digest::of(b"the former"));
        })
        .await;
    assert!(fixture.verify(Depth::Sizes).await.findings.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flat_name_is_that_of_the_bottle_that_got_it_last() {
    let fixture = mirrored(tool()).await;
    let flat: ObjectKey = "tool-1.0.all.bottle.tar.gz".parse().unwrap();
    let keys = ["x86_64_linux", "arm64_tahoe"].map(|tag| fixture.tool_key(tag).parse::<ObjectKey>().unwrap());
    for key in &keys {
        fixture.store.copy(key, &flat).await.unwrap();
        fixture
            .change_manifest(|manifest| {
                for (digest, record) in &mut manifest.images.values_mut().next().unwrap().bottles {
                    record.flat = vec![flat.clone()];
                    record.dropped_at = (Some(*digest) != key.blob_digest()).then_some(Timestamp::UNIX_EPOCH);
                }
            })
            .await;
        let report = fixture.verify(Depth::Bytes).await;
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
        assert_eq!(report.checksums.unwrap().flat_bottles, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_manifest_is_no_sound_mirror() {
    let fixture = Fixture::new(tool()).await;
    let empty = fixture.verify(Depth::Sizes).await;
    assert!(empty.sound && empty.findings.is_empty());
    fixture.sync().await;
    fixture.remove(common::manifest::KEY).await;
    let report = fixture.verify(Depth::Sizes).await;
    assert!(!report.sound);
    // The index, two bottles, and what was published.
    let published = fixture.store.list("api/", None, 100).await.unwrap().len();
    assert_eq!((report.count(Kind::Missing), report.count(Kind::Extra)), (1, 3 + published));
    assert_eq!(report.findings[0].subject, Subject::Manifest);

    fixture.overwrite(common::manifest::KEY, b"no manifest").await;
    let error = fixture.verifier(Depth::Sizes).verify().await.unwrap_err();
    assert!(error.to_string().contains("--rebuild-manifest"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_for_now_is_asked_again() {
    let mut fixture = mirrored(Spec::bulk(3, 20, 1_000..40_000)).await;
    let sound = Arc::clone(&fixture.store);
    fixture.store = Arc::new(FlakyStore { inner: Arc::clone(&sound), dice: Dice::new(4711, 20) });
    let report = fixture.verify(Depth::Bytes).await;
    assert!(report.sound, "{:#?}", report.findings);
    assert_eq!(report.checksums.unwrap().checked.bottles, 20);
    fixture.store = Arc::new(FlakyStore { inner: sound, dice: Dice::always("list") });
    let error = fixture.verifier(Depth::Bytes).verify().await.unwrap_err();
    assert!(matches!(error, VerifyError::Store(StoreError::Failed { .. })), "{error}");
}

/// A store in which reading what `is_bad` says fails each time.
fn with_bad_places(fixture: &mut Fixture, is_bad: fn(&str) -> bool) {
    let before_look = move |key: String| -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async move {
            let failed = || StoreError::Failed {
                operation: "read",
                key: key.clone(),
                cause: "a bad place on the disk".to_owned(),
                transient: true,
            };
            if is_bad(&key) { Err(failed()) } else { Ok(()) }
        })
    };
    let inner = Arc::clone(&fixture.store);
    fixture.store = Arc::new(HookedStore::before_look(inner, before_look));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_read_is_found_and_many_of_it_are_the_stores_own_failure() {
    let mut fixture = mirrored(Spec::uniform(1, 24, 1_000, &["all"])).await;
    let sound = Arc::clone(&fixture.store);
    with_bad_places(&mut fixture, |key| key == "v2/homebrew/core/uniform-00007/manifests/1.0.0");
    let report = fixture.verify(Depth::Bytes).await;
    assert_eq!(only(&report).kind, Kind::Unreadable);
    assert!(only(&report).detail.as_ref().unwrap().contains("a bad place"), "{report:#?}");
    fixture.store = sound;
    with_bad_places(&mut fixture, |key| key.contains("/manifests/"));
    let error = fixture.verifier(Depth::Bytes).verify().await.unwrap_err();
    assert!(error.to_string().contains("a bad place"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_settle_changes_meanwhile_is_no_finding() {
    let mut fixture = Fixture::new(tool()).await;
    fixture.plan().await;
    fixture.drain().await;
    let settler = Arc::new(fixture.settler());
    // The settle comes between the look at the manifest and that at the rest, and
    // takes away the index from where it waited.
    let listings = Arc::new(AtomicUsize::new(0));
    let before_look = move |prefix: String| -> BoxFuture<'static, Result<(), StoreError>> {
        let (settler, listings) = (Arc::clone(&settler), Arc::clone(&listings));
        Box::pin(async move {
            if prefix.is_empty() && listings.fetch_add(1, Ordering::Relaxed) == 0 {
                assert_eq!(settler.settle().await.unwrap().indexes, 1);
            }
            Ok(())
        })
    };
    let inner = Arc::clone(&fixture.store);
    fixture.store = Arc::new(HookedStore::before_look(inner, before_look));
    let report = fixture.verify(Depth::Bytes).await;
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    assert_eq!(report.checked.indexes, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_of_bottles_say_nothing_against_them() {
    let mut fixture = mirrored(tool()).await;
    fixture.clock = Clock::system();
    let key = fixture.tool_key("x86_64_linux").parse().unwrap();
    fixture.store.retag(&key, &superseded_tags(fixture.clock.now())).await.unwrap();
    let report = fixture.verify(Depth::Bytes).await;
    assert!(report.sound && report.findings.is_empty(), "{:#?}", report.findings);
    assert_eq!(fixture.queues[&Lane::Small].0.depth().await.unwrap().total(), 0);
}
