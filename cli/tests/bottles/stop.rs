//! Told to stop, a sync ends in order, and the next one goes on.

use std::time::{Duration, Instant};

use testbed::{Fault, Spec, Times};

use crate::harness::{Mirror, Output, number};
use crate::tree::Inspector;

const SYNC: [&str; 5] = ["sync", "--concurrency", "4", "--size-threshold", "200kB"];

fn spec() -> Spec {
    let mut spec = Spec::bulk(31, 210, 2_000..40_000);
    spec.formulae[3].bottles[0].size = 10 << 20;
    spec
}

/// Nothing is half there, nothing is hidden from the next sync, which completes.
fn check_goes_on(mirror: &Mirror, stopped: Output) {
    let stopped = stopped.expect(1);
    assert!(
        stopped.stdout.contains("the same command goes on")
            || stopped.stderr.contains("the same command goes on"),
        "{stopped}"
    );
    Inspector::default().look(&mirror.dir()).check_published_after_content();
    mirror.check_nothing_in(&["_sync/tmp", "_sync/owners"]);
    let status = mirror.json(&["status"]);
    for lane in [0, 1] {
        assert_eq!(number(&status, &format!("/lanes/{lane}/work/in_flight")), 0, "{status:#}");
    }
    mirror.upstream.faults().clear();
    mirror.run(&SYNC).expect(0);
    mirror.check_equals_upstream();
}

#[test]
fn told_to_stop_it_finishes_what_is_on_its_way() {
    let mirror = Mirror::of(spec());
    mirror.upstream.faults().set("cdn:*", Fault::Delay(Duration::from_millis(50)), Times::Always);
    let mut sync = mirror.start(&SYNC);
    sync.until("some bottles came", || mirror.upstream.log().count("cdn:*") > 30);
    sync.terminate();
    let stopped = sync.within(Duration::from_mins(1)).wait();
    let there = Inspector::default().look(&mirror.dir()).blobs.len();
    assert!(there < mirror.distinct_keys(), "it was told too late");
    // Whatever was on its way arrived: nothing is fetched twice.
    check_goes_on(&mirror, stopped);
    assert_eq!(mirror.fetches(), mirror.distinct_keys());
}

#[test]
fn told_to_stop_it_gives_up_what_takes_too_long() {
    let mirror = Mirror::of(spec());
    let stall = Fault::Stall { after_bytes: 1_000, r#for: Duration::from_mins(3) };
    let faults = mirror.upstream.faults();
    faults.set(&format!("cdn:*{}", mirror.upstream.expected()[5].digest), stall.clone(), Times::Always);
    let large = mirror.upstream.expected().into_iter().find(|bottle| bottle.size > 1 << 20).unwrap();
    faults.set(&format!("cdn:*{}", large.digest), stall, Times::Always);
    let mut sync = mirror.start(&SYNC);
    sync.until("the others came", || mirror.upstream.log().count("cdn:*") >= mirror.distinct_keys());
    sync.terminate();
    let stopped = sync.within(Duration::from_mins(1)).wait();
    assert!(stopped.took < Duration::from_secs(45), "it took {:?}", stopped.took);
    check_goes_on(&mirror, stopped);
}

#[test]
fn told_twice_it_stops_at_once() {
    let mirror = Mirror::of(spec());
    let stall = Fault::Stall { after_bytes: 1_000, r#for: Duration::from_mins(3) };
    mirror.upstream.faults().set("cdn:*", stall, Times::After(20));
    let mut sync = mirror.start(&SYNC);
    sync.until("some bottles hang", || mirror.upstream.log().count("cdn:*") >= 24);
    sync.terminate();
    std::thread::sleep(Duration::from_millis(300));
    assert!(sync.ended().is_none());
    sync.terminate();
    let told = Instant::now();
    let stopped = sync.wait().expect(1);
    assert!(told.elapsed() < Duration::from_secs(6), "that is no sooner than told once");
    assert!(stopped.stderr.contains("once more stops at once"), "{stopped}");
    mirror.upstream.faults().clear();
    mirror.run(&SYNC).expect(0);
    mirror.check_equals_upstream();
    mirror.check_no_leftovers();
}

#[test]
fn told_to_stop_while_it_plans_it_stops() {
    let mirror = Mirror::of(spec());
    let slow = Fault::Delay(Duration::from_secs(50));
    mirror.upstream.faults().set("registry:*/manifests/*", slow, Times::After(10));
    let mut sync = mirror.start(&SYNC);
    sync.until("it plans", || mirror.index_requests() > 10);
    sync.terminate();
    let stopped = sync.within(Duration::from_mins(1)).wait();
    check_goes_on(&mirror, stopped);
}
