//! Image tags are mutable: bottles that upstream adds, replaces and brings back under
//! the same one, and the indexes and API files that name them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::bottle::{Digest, ObjectKey};
use common::message::Lane;
use common::publication::Scope;
use common::receipt::What;
use common::store::StoreError;
use futures_util::future::BoxFuture;
use testbed::{Fault, FormulaSpec, Spec, Times};
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, SIZE_THRESHOLD};
use crate::flaky::HookedStore;

const TAHOE: &str = "internal/packages.arm64_tahoe.jws.json";
const LINUX: &str = "internal/packages.x86_64_linux.jws.json";
const ALL: &str = "formula.jws.json";
const INDEX: &str = "v2/homebrew/core/tool/manifests/1.0";

/// A formula of which each number is a bottle of its own under the same version.
fn tool(tahoe: u64, linux: u64) -> FormulaSpec {
    FormulaSpec::new("tool", "1.0").with_content("arm64_tahoe", 3_000, tahoe).with_content(
        "x86_64_linux",
        3_001,
        linux,
    )
}

fn spec(formulae: Vec<FormulaSpec>) -> Spec {
    Spec { seed: 5, formulae, ..Spec::default() }
}

async fn fixture(formulae: Vec<FormulaSpec>) -> Fixture {
    let mut fixture = Fixture::new(spec(formulae)).await;
    fixture.selection = "tags = ['arm64_tahoe', 'x86_64_linux']".parse().unwrap();
    fixture
}

async fn is_published(fixture: &Fixture, path: &str) -> bool {
    fixture.api(path).await == fixture.upstream_api(path)
}

fn client(tag: &str) -> Scope {
    Scope::Client(tag.parse().unwrap())
}

/// A plan that dies between its messages and its note: what it asked for is mirrored,
/// and nobody took note that the index names it now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_of_which_no_plan_took_note_gets_its_index_all_the_same() {
    let alone = FormulaSpec::new("tool", "1.0").with_content("arm64_tahoe", 3_000, 1);
    let mut fixture = fixture(vec![alone]).await;
    fixture.sync().await;
    fixture.testbed.replace(spec(vec![tool(1, 2)]));
    let sound = Arc::clone(&fixture.store);
    let dies = |key: ObjectKey| -> BoxFuture<'static, Result<(), StoreError>> {
        let key = key.to_string();
        let transient = false;
        Box::pin(async move {
            if key == common::manifest::KEY {
                let (operation, cause) = ("put", "the process died".to_owned());
                return Err(StoreError::Failed { operation, key, cause, transient });
            }
            Ok(())
        })
    };
    fixture.store = Arc::new(HookedStore::before_put(Arc::clone(&sound), dies));
    fixture.planner().plan(common::plan::Mode::Queue).await.unwrap_err();
    fixture.store = sound;
    assert_eq!(fixture.drain().await.fetched.bottles, 1);
    fixture.settle().await;
    let (plan, ..) = fixture.sync().await;
    assert_eq!((plan.held, plan.total().bottles), (2, 0));
    fixture.assert_whole(&[]).await;
    assert!(is_published(&fixture, LINUX).await && is_published(&fixture, ALL).await);
    assert!(fixture.plan().await.unchanged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bottle_that_upstream_brings_back_is_named_again() {
    let fixture = fixture(vec![tool(1, 2)]).await;
    for linux in [2, 3, 2] {
        fixture.testbed.replace(spec(vec![tool(1, linux)]));
        fixture.sync().await;
        assert_eq!(fixture.object(INDEX).await.unwrap(), fixture.testbed.index_bytes("tool"), "{linux}");
        assert!(is_published(&fixture, LINUX).await && is_published(&fixture, TAHOE).await, "{linux}");
    }
}

/// Until upstream's index names what its catalogue does, that is a problem of the plan,
/// and nobody is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_index_does_not_name_yet_is_not_published() {
    let fixture = fixture(vec![tool(1, 2)]).await;
    fixture.sync().await;
    fixture
        .change_manifest(|manifest| {
            let image = manifest.images.get_mut(&"v2/homebrew/core/tool".parse().unwrap()).unwrap();
            let index = image.indexes.get_mut(&"1.0".parse().unwrap()).unwrap();
            index.names.truncate(1);
            manifest.undo_plan();
        })
        .await;
    let was = fixture.api(ALL).await;
    fixture.testbed.replace(spec(vec![tool(1, 2), FormulaSpec::new("new", "1.0").with_bottle("all", 900)]));
    let broken = Fault::Status { code: 404, retry_after: None };
    fixture.testbed.faults().set("registry:*tool/manifests*", broken, Times::Always);
    let (plan, _, settled) = fixture.sync().await;
    assert_eq!(plan.problems.len(), 1, "{:?}", plan.problems);
    assert_eq!(settled.publication.waiting.iter().map(|one| one.unnamed).sum::<u64>(), 1);
    assert!(fixture.api(ALL).await == was);
    fixture.testbed.faults().clear();
    let (plan, ..) = fixture.sync().await;
    assert_eq!(plan.problems.len(), 0);
    assert!(is_published(&fixture, ALL).await);
}

/// An index that names what clients were told of stays until they are told otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_goes_only_with_the_api_files_that_need_it() {
    let other =
        |version: &str| FormulaSpec::new("other", version).with_bottle("arm64_tahoe", SIZE_THRESHOLD + 1);
    let fixture = fixture(vec![tool(1, 2), other("1.0")]).await;
    fixture.sync().await;
    let (index, api) = (fixture.object(INDEX).await, fixture.api(TAHOE).await);
    fixture.testbed.replace(spec(vec![tool(3, 4), other("2.0")]));
    fixture.plan().await;
    // The new bottles of `tool` come, and one of `other` is on its way still.
    fixture.worker(Lane::Small).run(&CancellationToken::new()).await.unwrap();
    for _ in 0..2 {
        fixture.settle().await;
        assert!(fixture.object(INDEX).await == index, "the API files name what the index doesn't");
        assert!(fixture.api(TAHOE).await == api);
    }
    fixture.drain().await;
    let settled = fixture.settle().await;
    assert_eq!(settled.publication.published.len(), 4);
    assert_eq!(fixture.object(INDEX).await.unwrap(), fixture.testbed.index_bytes("tool"));
    assert!(is_published(&fixture, TAHOE).await && is_published(&fixture, LINUX).await);
}

/// What is read through the store, at each of its writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_is_replaced_right_before_what_names_its_bottles() {
    let mut fixture = fixture(vec![tool(1, 2)]).await;
    fixture.sync().await;
    fixture.testbed.replace(spec(vec![tool(3, 4)]));
    fixture.plan().await;
    fixture.drain().await;
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sound = Arc::clone(&fixture.store);
    let notes = Arc::clone(&order);
    let note = move |key: ObjectKey| -> BoxFuture<'static, Result<(), StoreError>> {
        notes.lock().unwrap().push(key.to_string());
        Box::pin(async { Ok(()) })
    };
    fixture.store = Arc::new(HookedStore::before_put(sound, note));
    fixture.settle().await;
    let order = order.lock().unwrap();
    let at = |end: &str| order.iter().position(|key| key.ends_with(end)).unwrap();
    assert!(at("manifests/1.0") < at(TAHOE) && at(TAHOE) < at("manifest.jsonl.zst"), "{order:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_bottle_under_a_replaced_index_does_not_hold_back_its_neighbour() {
    let new = |version: &str| FormulaSpec::new("new", version).with_bottle("arm64_tahoe", 900);
    let fixture = fixture(vec![tool(1, 2), new("1.0")]).await;
    fixture.sync().await;
    let index = fixture.object(INDEX).await;
    // The same bottle for arm64, another for Linux, which can't be had.
    fixture.testbed.replace(spec(vec![tool(1, 3), new("2.0")]));
    let dead = fixture.digest_of("tool", "x86_64_linux");
    let missing = Fault::Status { code: 404, retry_after: None };
    fixture.testbed.faults().set(&format!("registry:*{dead}"), missing, Times::Always);
    let (.., settled) = fixture.sync().await;
    assert!(settled.publication.published.contains(&client("arm64_tahoe")), "{:?}", settled.publication);
    assert!(is_published(&fixture, TAHOE).await && !is_published(&fixture, LINUX).await);
    assert!(fixture.object(INDEX).await == index, "Linux lost what it was told of");
    // The operator's word is for the index too.
    fixture.order(What::PublishDespiteDead { clients: vec!["x86_64_linux".parse().unwrap()] }).await;
    fixture.settle().await;
    assert_eq!(fixture.object(INDEX).await.unwrap(), fixture.testbed.index_bytes("tool"));
    assert!(is_published(&fixture, LINUX).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_indexes_no_longer_name_is_not_put_back() {
    let new = |version: &str| FormulaSpec::new("new", version).with_bottle("arm64_tahoe", 900);
    let fixture = fixture(vec![tool(1, 2), new("1.0")]).await;
    fixture.sync().await;
    fixture.testbed.replace(spec(vec![tool(1, 3), new("2.0")]));
    fixture.sync().await;
    let (tahoe, linux) = (fixture.api(TAHOE).await, fixture.api(LINUX).await);
    fixture.order(What::Rollback { clients: Vec::new() }).await;
    let settled = fixture.settle().await;
    assert!(settled.rolled_back.contains(&client("arm64_tahoe")));
    assert!(!settled.rolled_back.contains(&client("x86_64_linux")));
    assert!(fixture.api(TAHOE).await != tahoe && fixture.api(LINUX).await == linux);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_put_back_is_not_put_forth_by_another_rollback() {
    let new = |version: &str| FormulaSpec::new("new", version).with_bottle("all", 900);
    let fixture = fixture(vec![new("1.0")]).await;
    fixture.sync().await;
    let first = fixture.api(TAHOE).await;
    fixture.testbed.replace(spec(vec![new("2.0")]));
    fixture.sync().await;
    for clients in [vec!["arm64_tahoe".parse().unwrap()], Vec::new(), Vec::new()] {
        fixture.order(What::Rollback { clients }).await;
        fixture.settle().await;
        assert!(fixture.api(TAHOE).await == first);
    }
    assert!(!is_published(&fixture, LINUX).await && !is_published(&fixture, ALL).await);
    fixture.order(What::Resume).await;
    fixture.settle().await;
    fixture.order(What::Rollback { clients: Vec::new() }).await;
    fixture.settle().await;
    assert!(fixture.api(TAHOE).await == first);
}

/// Someone, or a disk, changed what waits to be published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_damaged_while_it_waited_is_not_published() {
    let fixture = fixture(vec![tool(1, 2)]).await;
    fixture.plan().await;
    fixture.drain().await;
    let api = fixture.upstream_api(TAHOE).unwrap();
    fixture.overwrite(&format!("_sync/api/files/{}", Digest::of(&api)), &vec![b'x'; api.len()]).await;
    let staged = fixture.store.list("_sync/runs/", None, 100).await.unwrap();
    let staged = staged.iter().find(|meta| meta.key.as_str().contains("/staged/")).unwrap();
    fixture.overwrite(staged.key.as_str(), b"{}").await;
    fixture.settle().await;
    assert!(fixture.object(INDEX).await.is_none(), "a damaged index was put in place");
    assert!(fixture.api(TAHOE).await.is_none());
    fixture.sync().await;
    fixture.sync().await;
    fixture.assert_whole(&[]).await;
    assert!(is_published(&fixture, TAHOE).await && is_published(&fixture, ALL).await);
    assert!(fixture.plan().await.unchanged);
}

/// A name that is misspelled asks for nothing, and is not what clients are told by.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_selection_that_asks_for_nothing_publishes_nothing() {
    let mut fixture = fixture(vec![tool(1, 2)]).await;
    let right = fixture.selection.clone();
    fixture.selection = "formulae = ['tol']".parse().unwrap();
    let (plan, ..) = fixture.sync().await;
    assert!(plan.api.trouble.is_some() && !plan.api.staged);
    assert!(fixture.store.list("api/", None, 1).await.unwrap().is_empty());
    fixture.selection = right;
    fixture.sync().await;
    assert!(is_published(&fixture, TAHOE).await);
}

/// What an earlier version noted tells nothing of what indexes name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn indexes_of_which_nobody_knows_what_they_name_are_read_again() {
    let fixture = fixture(vec![tool(1, 2)]).await;
    fixture.sync().await;
    fixture
        .change_manifest(|manifest| {
            let indexes = manifest.images.values_mut().flat_map(|image| image.indexes.values_mut());
            indexes.for_each(|index| index.names.clear());
        })
        .await;
    let written = fixture.object(common::manifest::KEY).await.unwrap();
    let text = String::from_utf8(zstd::decode_all(&*written).unwrap()).unwrap();
    assert!(text.contains(r#""names":true"#));
    let earlier = text.replacen(r#","names":true"#, "", 1);
    fixture.overwrite(common::manifest::KEY, &zstd::encode_all(earlier.as_bytes(), 1).unwrap()).await;
    let before = fixture.store.head(&INDEX.parse().unwrap()).await.unwrap();
    let (plan, ..) = fixture.sync().await;
    assert!(!plan.unchanged && plan.problems.is_empty());
    let manifest = fixture.manifest().await;
    assert_eq!(manifest.images.values().map(|image| image.indexes.len()).sum::<usize>(), 1);
    let mut indexes = manifest.images.values().flat_map(|image| image.indexes.values());
    assert!(indexes.all(|index| index.names.len() == 2));
    assert!(fixture.plan().await.unchanged);
    // The same one is not written again.
    assert_eq!(fixture.store.head(&INDEX.parse().unwrap()).await.unwrap(), before);
}

/// The slower one puts what it read before the other one, and upstream, went on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settle_that_lost_a_race_leaves_nothing_older_in_place() {
    for slow in ["manifests/1.0", TAHOE] {
        let mut fixture = fixture(vec![tool(1, 2)]).await;
        fixture.sync().await;
        fixture.testbed.replace(spec(vec![tool(3, 4)]));
        fixture.plan().await;
        fixture.drain().await;
        // Upstream goes on while the other one plans.
        fixture.testbed.replace_after("api:/api/formula.json", 1, spec(vec![tool(5, 6)]));
        let sound = Arc::clone(&fixture.store);
        let other = Arc::new((fixture.planner(), fixture.settler(), fixture.worker(Lane::Small)));
        let is_first = Arc::new(AtomicBool::new(true));
        let meddle = move |key: ObjectKey| -> BoxFuture<'static, Result<(), StoreError>> {
            let other = Arc::clone(&other);
            let is_now = key.as_str().ends_with(slow) && is_first.swap(false, Ordering::Relaxed);
            Box::pin(async move {
                if is_now {
                    let (planner, settler, worker) = &*other;
                    settler.settle().await.unwrap();
                    planner.plan(common::plan::Mode::Queue).await.unwrap();
                    worker.run(&CancellationToken::new()).await.unwrap();
                    settler.settle().await.unwrap();
                }
                Ok(())
            })
        };
        fixture.store = Arc::new(HookedStore::before_put(Arc::clone(&sound), meddle));
        fixture.settle().await;
        fixture.store = sound;
        fixture.sync().await;
        assert!(is_published(&fixture, TAHOE).await && is_published(&fixture, ALL).await, "{slow}");
        let index = fixture.object(INDEX).await.unwrap();
        assert_eq!(index, fixture.testbed.index_bytes("tool"), "{slow}");
    }
}
