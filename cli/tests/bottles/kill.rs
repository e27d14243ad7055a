//! A process may die at any instruction; the next one goes on where it was.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use testbed::{Fault, Server, Spec, Times};

use crate::harness::{Draws, Mirror, list, number};
use crate::tree::{Inspector, Visible};

const KILLS: usize = 50;

/// Small ones that are on their way at once, and large ones: a quarter as many.
const IN_FLIGHT: usize = 4 + 1;

const SYNC: [&str; 5] = ["sync", "--size-threshold", "200kB", "--concurrency", "4"];

/// 240 bottles a wave, most of them small. Some are above the size threshold, and of
/// these some come in several ranges.
fn waves(count: usize) -> Spec {
    let mut spec = Spec::bulk(11, 240 * count, 2_000..60_000);
    let large = [300_000, 20 << 20, 450_000, 9 << 20, 700_000, 1_200_000];
    // Further on in a wave than where it begins: the large ones are not all first.
    for (position, size) in (4..).step_by(6).zip(large) {
        spec.formulae[position].bottles[0].size = size;
    }
    for formula in spec.formulae.iter_mut().skip(36).step_by(9) {
        formula.bottles[0].size = 350_000;
    }
    spec
}

#[test]
fn a_killed_sync_ends_with_the_expected_mirror() {
    let mirror = Mirror::of(waves(1));
    mirror.upstream.faults().set("cdn:*", Fault::Delay(Duration::from_millis(60)), Times::Always);
    let mut draws = Draws(0x5eed);
    let mut inspector = Inspector::default();
    // When each bottle was first seen in the mirror: it must not be asked for later.
    let mut seen: HashMap<String, Instant> = HashMap::new();
    let (mut kills, mut published) = (0, 1);

    while kills < KILLS {
        let mut sync = mirror.start(&SYNC);
        thread::sleep(Duration::from_millis(draws.below(600)));
        if sync.kill() {
            kills += 1;
        } else {
            // All is there: more has to be published for more to be killed.
            published += 1;
            assert!(published < 20, "{kills} kills are too few for {published} waves");
            mirror.upstream.replace(waves(published));
        }
        let now = Instant::now();
        let visible = inspector.look(&mirror.dir());
        visible.check_published_after_content();
        for key in &visible.blobs {
            seen.entry(key.rsplit(':').next().unwrap().to_owned()).or_insert(now);
        }
        if kills % 5 == 0 && mirror.path("_sync/manifest.jsonl.zst").exists() {
            let held = number(&mirror.json(&["status"]), "/held/bottles");
            assert!(held <= visible.blobs.len() as u64, "the manifest claims more than there is");
        }
    }

    let last = mirror.run(&SYNC).expect(0);
    assert!(!last.stdout.contains("Dead letters"), "{last}");
    mirror.check_equals_upstream();
    mirror.check_no_leftovers();
    let status = mirror.run(&["status", "--json"]).expect(0).json();
    assert_eq!(number(&status, "/held/bottles"), mirror.distinct_keys() as u64);
    assert_eq!(number(&status, "/queued/bottles"), 0);
    assert_eq!(number(&status, "/indexes_waiting"), 0);
    for lane in list(&status, "/lanes") {
        assert_eq!(lane["work"], serde_json::json!({"visible": 0, "in_flight": 0, "delayed": 0}));
    }

    // Nothing was fetched again but for what was in flight at a kill.
    for entry in mirror.upstream.log().entries() {
        let digest = entry.path.rsplit(':').next().unwrap();
        let was_there = seen.get(digest).is_some_and(|since| entry.at > *since);
        assert!(
            entry.server == Server::Api || !was_there,
            "{} was asked for though it was there",
            entry.path
        );
    }
    let most = mirror.distinct_keys() + kills * IN_FLIGHT;
    assert!(mirror.fetches() <= most, "{} fetches, and {most} at most", mirror.fetches());

    mirror.upstream.log().clear();
    mirror.run(&SYNC).expect(0);
    assert_eq!((mirror.blob_requests(), mirror.index_requests()), (0, 0));
}

#[test]
fn a_sync_killed_while_it_plans_is_gone_on_with() {
    let mirror = Mirror::of(Spec::bulk(3, 210, 1_000..5_000));
    let slow = Fault::Delay(Duration::from_millis(40));
    mirror.upstream.faults().set("registry:*/manifests/*", slow, Times::Always);
    for wanted in [0, 1, 10, 20, 29] {
        mirror.upstream.log().clear();
        let mut sync = mirror.start(&SYNC);
        sync.until("so many indexes were asked for", || mirror.index_requests() > wanted);
        assert!(sync.kill());
        assert!(Inspector::default().look(&mirror.dir()).indexes.is_empty());
    }
    mirror.upstream.faults().clear();
    mirror.run(&SYNC).expect(0);
    mirror.check_equals_upstream();
    mirror.check_no_leftovers();
}

#[test]
fn an_index_is_never_seen_before_its_bottles() {
    let mirror = Mirror::of(Spec::uniform(5, 12, 20_000, &["arm64_tahoe", "x86_64_linux"]));
    mirror.upstream.faults().set("cdn:*", Fault::Delay(Duration::from_millis(30)), Times::Always);
    let mut sync = mirror.start(&["sync", "--concurrency", "1"]);
    let mut looks = HashSet::new();
    let mut inspector = Inspector::default();
    while sync.ended().is_none() {
        // The indexes of one look, the bottles of a later one: what was named then
        // must have been there, and is never taken away.
        let indexes = inspector.look(&mirror.dir()).indexes;
        let blobs = inspector.look(&mirror.dir()).blobs;
        looks.insert(blobs.len());
        Visible { blobs, indexes }.check_published_after_content();
    }
    sync.wait().expect(0);
    assert!(looks.len() > 3, "it was looked at while it grew: {looks:?}");
    mirror.check_equals_upstream();
    assert!(fs::read_dir(mirror.temporary()).unwrap().next().is_none());
}
