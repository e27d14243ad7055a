//! Memory depends on the budget, never on the size of a bottle.
#![cfg(target_os = "linux")]

use std::fs;
use std::thread;
use std::time::Duration;

use testbed::{Fault, Spec, Times};

use crate::harness::Mirror;
use crate::tree::sha256;

const MIB: u64 = 1 << 20;

/// The most memory that a sync of one bottle had, in bytes.
fn peak(size: u64, ranges: bool) -> u64 {
    let mirror = Mirror::of(Spec::uniform(8, 1, size, &["x86_64_linux"]));
    if !ranges {
        mirror.upstream.faults().set("cdn:*", Fault::NoRange, Times::Always);
    }
    let mut sync = mirror.start(&["sync", "--memory", "32MiB", "--size-threshold", "1MB"]);
    let mut peak = 0;
    while sync.ended().is_none() {
        peak = most_memory(sync.id()).unwrap_or(0).max(peak);
        thread::sleep(Duration::from_millis(2));
    }
    sync.wait().expect(0);
    assert!(peak > MIB, "it was too quick to be looked at");
    let bottle = mirror.upstream.expected().remove(0);
    assert_eq!(sha256(&fs::read(mirror.path(&bottle.key)).unwrap()), bottle.digest);
    peak
}

pub(crate) fn most_memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

#[test]
fn memory_does_not_grow_with_a_bottles_size() {
    for ranges in [true, false] {
        let (small, large) = (peak(20 * MIB, ranges), peak(200 * MIB, ranges));
        let most = small * 135 / 100 + 16 * MIB;
        assert!(large <= most, "{} MiB against {} MiB, ranges: {ranges}", large / MIB, small / MIB);
    }
}

#[test]
fn memory_stays_where_it_is_once_the_budget_is_used() {
    // Both are several times the budget.
    let (large, larger) = (peak(128 * MIB, true), peak(384 * MIB, true));
    let most = large * 135 / 100 + 16 * MIB;
    assert!(larger <= most, "{} MiB against {} MiB", larger / MIB, large / MIB);
}
