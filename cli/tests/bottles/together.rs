//! Several processes on one folder share the work and don't hinder each other.

use std::fs;
use std::thread;
use std::time::Duration;

use testbed::{Fault, Spec, Times};

use crate::harness::{Draws, Mirror, Running, number};
use crate::tree::Inspector;

fn spec() -> Spec {
    let mut spec = Spec::bulk(21, 210, 2_000..40_000);
    spec.formulae[12].bottles[0].size = 10 << 20;
    spec
}

#[test]
fn two_syncs_may_make_a_mirror_at_once() {
    let mirror = Mirror::of(Spec::uniform(7, 2, 2_000, &["x86_64_linux"]));
    let mut draws = Draws(0x70);
    for round in 0..12 {
        let dir = mirror.dir().with_file_name(format!("mirror-{round}"));
        let mut start = || {
            let mut command = mirror.command(&["sync"]);
            command.arg("--to").arg(&dir);
            let sync = Running::start(command);
            // The second one begins while the first one makes this or that.
            thread::sleep(Duration::from_micros(draws.below(3_000)));
            sync
        };
        for sync in [start(), start()] {
            sync.wait().expect(0);
        }
        assert_eq!(Inspector::default().look(&dir).blobs.len(), 2);
    }
}

#[test]
fn a_queue_that_another_process_is_making_is_waited_for() {
    let mirror = Mirror::of(Spec::uniform(7, 2, 2_000, &["x86_64_linux"]));
    fs::create_dir_all(mirror.path("_sync")).unwrap();
    let queue = rusqlite::Connection::open(mirror.path("_sync/queue.sqlite")).unwrap();
    // As it is for a moment while the first process that opens it sets it up.
    queue.execute_batch("CREATE TABLE other (id); BEGIN IMMEDIATE").unwrap();
    let mut sync = mirror.start(&["sync"]);
    thread::sleep(Duration::from_secs(1));
    let ended = sync.ended();
    queue.execute_batch("COMMIT").unwrap();
    let output = sync.wait();
    assert!(ended.is_none(), "it did not wait\n{output}");
    output.expect(0);
    mirror.check_equals_upstream();
}

#[test]
fn two_syncs_at_once_share_the_work() {
    for round in 0..3 {
        let mirror = Mirror::of(spec());
        let args = ["sync", "--concurrency", "4", "--size-threshold", "200kB"];
        // Making a mirror together is another test's.
        mirror.run(&["sync", "--formula", "bulk-00001"]).expect(0);
        mirror.upstream.faults().set("cdn:*", Fault::Delay(Duration::from_millis(10)), Times::Always);
        let both = [mirror.start(&args), mirror.start(&args)];
        for sync in both {
            sync.wait().expect(0);
        }
        mirror.check_equals_upstream();
        mirror.check_no_leftovers();
        let status = mirror.run(&["status", "--json"]).expect(0).json();
        assert_eq!(number(&status, "/held/bottles"), mirror.distinct_keys() as u64);
        assert_eq!(number(&status, "/queued/bottles"), 0);
        // Both may take the same bottle in hand at the same time, now and then.
        let (fetches, most) = (mirror.fetches(), mirror.distinct_keys() * 5 / 4);
        assert!(fetches <= most, "{fetches} fetches, and {most} at most, in round {round}");

        mirror.upstream.log().clear();
        mirror.run(&args).expect(0);
        assert_eq!(mirror.blob_requests(), 0);
    }
}

#[test]
fn looking_at_a_mirror_does_not_disturb_a_sync() {
    let mirror = Mirror::of(spec());
    mirror.upstream.faults().set("cdn:*", Fault::Delay(Duration::from_millis(40)), Times::Always);
    let mut sync = mirror.start(&["sync", "--concurrency", "4", "--size-threshold", "200kB"]);
    sync.until("a bottle came", || mirror.upstream.log().count("cdn:*") > 8);
    let mut inspector = Inspector::default();
    let mut looks = 0;
    while sync.ended().is_none() {
        let held = inspector.look(&mirror.dir()).blobs.len() as u64;
        let status = mirror.json(&["status"]);
        let later = inspector.look(&mirror.dir()).blobs.len() as u64;
        assert!(number(&status, "/held/bottles") <= later);
        assert!(held <= later);
        mirror.run(&["dead-letters", "list", "--json"]).expect(0);
        mirror.run(&["plan", "--no-sizes"]).expect(0);
        looks += 1;
    }
    sync.wait().expect(0);
    assert!(looks > 3);
    mirror.check_equals_upstream();
    assert!(mirror.fetches() == mirror.distinct_keys());
}
