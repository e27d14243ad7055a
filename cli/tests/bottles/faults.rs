//! Upstream has bad days: what passes is waited out, what is wrong is never kept.

use std::collections::BTreeSet;
use std::time::Duration;

use testbed::{Fault, Spec, Times};

use crate::harness::{Draws, Mirror, list, number, text};
use crate::tree::{files, picture};

fn status(code: u16) -> Fault {
    Fault::Status { code, retry_after: None }
}

/// The demo's bottles, and two more that come in several ranges.
fn spec() -> Spec {
    let mut spec = Spec::demo(9);
    for (name, size) in [("glib", 9 << 20), ("wget", 17 << 20)] {
        let bottles = &mut spec.formula_mut(name).unwrap().bottles;
        bottles.iter_mut().find(|bottle| bottle.tag == "x86_64_linux").unwrap().size = size;
    }
    spec
}

/// Puts a fault that passes on a third of the bottles and half of the indexes.
fn break_at_random(mirror: &Mirror, draws: &mut Draws) {
    let faults = mirror.upstream.faults();
    let mut slowed_down = 0;
    let mut images = BTreeSet::new();
    for bottle in mirror.upstream.expected() {
        let index = format!("registry:*/{}/manifests/*", bottle.image);
        if images.insert(bottle.image) {
            match draws.below(8) {
                0 => faults.set(&index, Fault::MissingSize, Times::Always),
                1 => faults.set(&index, status(500), Times::First(1)),
                2 => faults.set(&index, Fault::Reset, Times::First(1)),
                3 => faults.set(&index, Fault::Truncate { after_bytes: 100 }, Times::First(1)),
                _ => {}
            }
        }
        // Those that come in ranges have faults of their own.
        if bottle.size > 8 << 20 {
            continue;
        }
        let (cdn, registry) = (format!("cdn:*{}", bottle.digest), format!("registry:*{}", bottle.digest));
        match draws.below(36) {
            0 => faults.set(&cdn, status(503), Times::First(1)),
            1 => faults.set(&registry, status(502), Times::First(1)),
            2 => faults.set(&cdn, Fault::Truncate { after_bytes: bottle.size / 2 }, Times::First(2)),
            3 => faults.set(&cdn, Fault::Truncate { after_bytes: 0 }, Times::First(1)),
            4 => faults.set(&cdn, Fault::Reset, Times::First(2)),
            5 => faults.set(&registry, Fault::Reset, Times::First(1)),
            6 => faults.set(&cdn, Fault::Corrupt, Times::First(1)),
            7 => faults.set(&cdn, Fault::Short { bytes: bottle.size - 1 }, Times::First(1)),
            8 => faults.set(&cdn, Fault::Long { extra: 1 }, Times::First(1)),
            9 => faults.set(&cdn, Fault::Garbage, Times::First(1)),
            10 => {
                let pause = Fault::Stall { after_bytes: bottle.size / 3, r#for: Duration::from_millis(200) };
                faults.set(&cdn, pause, Times::First(1));
            }
            // Each of these holds everybody back for a second.
            11 if slowed_down < 3 => {
                slowed_down += 1;
                let wait = Fault::Status { code: 429, retry_after: Some("1".to_owned()) };
                faults.set(&registry, wait, Times::First(1));
            }
            _ => {}
        }
    }
    faults.set("api:*", Fault::Truncate { after_bytes: 10_000 }, Times::First(1));
}

fn large(mirror: &Mirror, formula: &str) -> String {
    let bottles = mirror.upstream.expected();
    let bottle = bottles.iter().find(|one| one.formula == formula && one.tag == "x86_64_linux").unwrap();
    format!("cdn:*{}", bottle.digest)
}

fn check_it_ends_well(mirror: &Mirror) {
    let report = mirror.sync(0, &["--size-threshold", "200kB"]);
    assert_eq!(number(&report, "/dead_letters"), 0);
    assert!(number(&report, "/large/fetched/bottles") >= 3);
    // Indexes without sizes were kept as they came.
    mirror.check_bottles(|_| true);
    mirror.check_no_leftovers();
}

#[test]
fn what_passes_is_waited_out_and_every_byte_is_right() {
    let mirror = Mirror::of(spec());
    break_at_random(&mirror, &mut Draws(1));
    // Ranges that are refused, answered wrong, and cut off.
    let faults = mirror.upstream.faults();
    faults.set(&large(&mirror, "glib"), Fault::RangeRefused, Times::Always);
    faults.set(&large(&mirror, "wget"), Fault::WrongContentRange, Times::First(1));
    faults.set(&large(&mirror, "llvm@21"), Fault::Truncate { after_bytes: 3 << 20 }, Times::First(2));
    check_it_ends_well(&mirror);
}

#[test]
fn what_passes_is_waited_out_without_ranges_and_with_fresh_tokens() {
    let mirror = Mirror::of(spec());
    mirror.upstream.require_fresh_token(true);
    mirror.upstream.faults().set("cdn:*", Fault::NoRange, Times::Always);
    break_at_random(&mirror, &mut Draws(2));
    let cut_off = Fault::Truncate { after_bytes: 10 << 20 };
    mirror.upstream.faults().set(&large(&mirror, "wget"), cut_off, Times::First(1));
    check_it_ends_well(&mirror);
}

#[test]
fn retry_after_holds_everybody_back() {
    let mirror = Mirror::of(Spec::uniform(4, 20, 2_000, &["x86_64_linux"]));
    let wait = Fault::Status { code: 429, retry_after: Some("2".to_owned()) };
    mirror.upstream.faults().set("registry:*/manifests/*", wait, Times::First(1));
    let output = mirror.run(&["sync"]).expect(0);
    assert!(output.took >= Duration::from_secs(2), "it took {:?}", output.took);
    mirror.check_equals_upstream();
}

#[test]
fn a_signed_address_that_ran_out_is_asked_for_anew() {
    let mirror = Mirror::of(Spec::uniform(4, 6, 2_000, &["x86_64_linux"]));
    mirror.upstream.set_signature_lifetime(Duration::from_millis(200));
    // The first answers come when the address is no longer good.
    mirror.upstream.faults().set("cdn:*", Fault::Delay(Duration::from_millis(300)), Times::First(6));
    mirror.run(&["sync"]).expect(0);
    mirror.check_equals_upstream();
    assert!(mirror.upstream.log().count("registry:*/blobs/*") > 6);
}

#[test]
fn a_formula_that_cannot_be_planned_harms_no_other() {
    let mirror = Mirror::of(Spec::demo(1));
    let faults = mirror.upstream.faults();
    faults.set("registry:*/wget/manifests/*", status(404), Times::Always);
    faults.set("registry:*/jq/manifests/*", Fault::Garbage, Times::Always);
    faults.set("registry:*/xz/manifests/*", Fault::MissingEntry { tag: "sonoma".to_owned() }, Times::Always);
    let report = mirror.sync(1, &[]);
    let named: Vec<_> = list(&report, "/plan/problems").iter().map(|one| text(one, "/formula")).collect();
    assert_eq!(named, ["xz", "wget", "jq"]);
    let is_bad = |formula: &str, tag: &str| matches!((formula, tag), ("wget" | "jq", _) | ("xz", "sonoma"));
    for bottle in mirror.upstream.expected() {
        let is_there = mirror.path(&bottle.key).is_file();
        assert_eq!(is_there, !is_bad(&bottle.formula, &bottle.tag), "{} {}", bottle.formula, bottle.tag);
    }

    faults.clear();
    mirror.sync(0, &[]);
    mirror.check_equals_upstream();
}

#[test]
fn no_signature_is_ever_written_down() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.upstream.plant(&Spec::demo_planted());
    let faults = mirror.upstream.faults();
    let bottles = mirror.upstream.expected();
    // Each way for an address to get into an error's text.
    for (at, fault) in [
        status(404),
        status(418),
        Fault::Corrupt,
        Fault::Short { bytes: 10 },
        Fault::Garbage,
        Fault::RedirectTo("http://127.0.0.1:9/blob?sig=abc".to_owned()),
        Fault::RedirectTo("http://[bad?sig=abc".to_owned()),
    ]
    .into_iter()
    .enumerate()
    {
        faults.set(&format!("cdn:*{}", bottles[20 + at].digest), fault, Times::Always);
    }
    for (at, fault) in
        [Fault::Reset, status(403), status(503), Fault::Truncate { after_bytes: 9 }].into_iter().enumerate()
    {
        faults.set(&format!("cdn:*{}", bottles[40 + at].digest), fault, Times::First(1));
    }
    for filter in ["debug", "trace"] {
        let output = mirror.run(&["sync", "--log", filter]).expect(3);
        assert!(output.stderr.len() > 100, "{}", output.stderr);
        for said in [&output.stdout, &output.stderr] {
            assert!(!said.contains("sig="), "{said}");
        }
        let listed = mirror.run(&["dead-letters", "list", "--json"]);
        assert_eq!(list(&listed.json(), "/letters").len(), 9);
        assert!(!listed.stdout.contains("sig="), "{}", listed.stdout);
        mirror.run(&["dead-letters", "replay"]);
    }
    for (name, path) in files(&mirror.path("_sync")) {
        let bytes = std::fs::read(path).unwrap();
        assert!(!bytes.windows(4).any(|window| window == b"sig="), "{name} holds a signature");
    }
    assert!(picture(&mirror.temporary()).is_empty());
}
