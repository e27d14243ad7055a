//! What was lost or damaged beside the bottles is made anew, or named.

use std::fs;
use std::time::Duration;

use testbed::{Fault, Spec, Times};

use crate::harness::{Mirror, number};
use crate::tree::{Inspector, picture};

const MANIFEST: &str = "_sync/manifest.jsonl.zst";

#[test]
fn a_lost_manifest_is_made_anew_from_the_bottles_that_are_there() {
    let mirror = Mirror::of(Spec::demo(1));
    let args = ["--size-threshold", "200kB"];
    mirror.sync(0, &args);
    fs::remove_file(mirror.path(MANIFEST)).unwrap();
    mirror.upstream.log().clear();

    let report = mirror.sync(0, &args);
    assert_eq!(mirror.blob_requests(), 0);
    let found = |lane: &str| number(&report, &format!("/{lane}/already_held/bottles"));
    assert!(found("large") > 1);
    assert_eq!(found("small") + found("large"), mirror.distinct_keys() as u64);
    mirror.check_equals_upstream();
    let status = mirror.run(&["status", "--json"]).expect(0).json();
    assert_eq!(number(&status, "/held/bottles"), mirror.distinct_keys() as u64);
    assert_eq!(number(&status, "/indexes"), 40);
}

#[test]
fn a_damaged_manifest_is_named_and_left_alone() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.sync(0, &[]);
    let whole = fs::read(mirror.path(MANIFEST)).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x55;
    for damaged in [b"no manifest".to_vec(), Vec::new(), whole[..whole.len() / 2].to_vec(), flipped] {
        fs::write(mirror.path(MANIFEST), &damaged).unwrap();
        let v2 = picture(&mirror.path("v2"));
        for args in [&["sync"][..], &["plan"], &["status"]] {
            let output = mirror.run(args).expect(1);
            assert!(output.stderr.contains(MANIFEST), "{output}");
            assert!(output.stderr.contains("move it away"), "{output}");
        }
        assert_eq!(fs::read(mirror.path(MANIFEST)).unwrap(), damaged, "it was written over");
        assert_eq!(picture(&mirror.path("v2")), v2);
    }
    // What the message says helps.
    fs::rename(mirror.path(MANIFEST), mirror.path("_sync/away")).unwrap();
    mirror.upstream.log().clear();
    mirror.sync(0, &[]);
    mirror.check_equals_upstream();
    assert_eq!(mirror.blob_requests(), 0);
}

#[test]
fn a_lost_queue_is_planned_anew() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.upstream.faults().set("cdn:*", Fault::Delay(Duration::from_millis(30)), Times::Always);
    let mut sync = mirror.start(&["sync", "--concurrency", "4", "--size-threshold", "200kB"]);
    sync.until("some bottles came", || mirror.upstream.log().count("cdn:*") > 20);
    assert!(sync.kill());
    for name in ["queue.sqlite", "queue.sqlite-wal", "queue.sqlite-shm"] {
        // Whether the last two are there is for the database to decide.
        let removed = fs::remove_file(mirror.path("_sync").join(name));
        assert!(removed.is_ok() || name != "queue.sqlite");
    }
    let there = Inspector::default().look(&mirror.dir()).blobs.len();
    assert!(there > 10 && there < mirror.distinct_keys());
    mirror.upstream.log().clear();
    mirror.upstream.faults().clear();

    mirror.sync(0, &[]);
    mirror.check_equals_upstream();
    mirror.check_no_leftovers();
    assert!(mirror.fetches() <= mirror.distinct_digests() - there + 1);
    let status = mirror.run(&["status", "--json"]).expect(0).json();
    assert_eq!(number(&status, "/held/bottles"), mirror.distinct_keys() as u64);
    assert_eq!(number(&status, "/queued/bottles"), 0);
}

#[test]
fn a_receipt_that_cannot_be_read_is_put_aside() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.sync(0, &["--formula", "wget"]);
    fs::write(mirror.path("_sync/receipts/20260101T000000.000Z-0.json"), "no receipt").unwrap();
    let output = mirror.run(&["sync"]).expect(0);
    assert!(output.stderr.contains("a receipt can't be read"), "{output}");
    mirror.check_equals_upstream();
    mirror.check_no_leftovers();
    assert_eq!(fs::read_dir(mirror.path("_sync/receipts-unreadable")).unwrap().count(), 1);
}

#[test]
fn a_bottle_that_was_cut_short_on_disk_is_fetched_again_with_a_new_manifest() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.sync(0, &[]);
    let bottle = mirror.upstream.expected().remove(30);
    fs::write(mirror.path(&bottle.key), "half").unwrap();
    fs::remove_file(mirror.path(MANIFEST)).unwrap();
    mirror.upstream.log().clear();
    mirror.sync(0, &[]);
    mirror.check_equals_upstream();
    assert_eq!(mirror.fetches(), 1);
}

#[test]
fn a_damaged_queue_is_named_with_the_way_out() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.sync(0, &["--formula", "wget"]);
    let remove = || {
        for name in ["queue.sqlite", "queue.sqlite-wal", "queue.sqlite-shm"] {
            // Whether the last two are there is for the database to decide.
            let removed = fs::remove_file(mirror.path("_sync").join(name));
            assert!(removed.is_ok() || name != "queue.sqlite");
        }
    };
    remove();
    fs::write(mirror.path("_sync/queue.sqlite"), "no database, but long enough to be looked at as one")
        .unwrap();
    for args in [&["sync"][..], &["status"], &["dead-letters", "list"]] {
        let output = mirror.run(args).expect(1);
        assert!(output.stderr.contains("_sync/queue.sqlite"), "{output}");
        assert!(output.stderr.contains("may be removed"), "{output}");
    }
    // What the message says helps.
    remove();
    mirror.sync(0, &[]);
    mirror.check_equals_upstream();
}
