//! `bottles export` and `bottles import`: across an air gap.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use testbed::{FormulaSpec, Spec};

use crate::harness::{Draws, Mirror, Output, Running, bare, list, number, text};
use crate::tree::{Inspector, files, picture};

/// The mirror behind the gap, and what is carried there, beside a mirror.
pub(crate) struct Gap {
    pub(crate) mirror: Mirror,
}

impl Gap {
    pub(crate) fn of(spec: Spec) -> Self {
        let mirror = Mirror::of(spec);
        mirror.sync(0, &[]);
        Self { mirror }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.mirror.here().join(name)
    }

    /// The mirror behind the gap.
    pub(crate) fn behind(&self) -> PathBuf {
        self.path("behind")
    }

    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let mut command = bare(args);
        command.current_dir(self.mirror.here()).env("TMPDIR", self.mirror.temporary());
        Running::start(command)
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.start(args).wait()
    }

    pub(crate) fn start_export(&self, args: &[&str]) -> Running {
        let from = self.mirror.dir();
        self.start(&[&["export", "--from", from.to_str().unwrap()], args].concat())
    }

    pub(crate) fn export(&self, args: &[&str]) -> Output {
        self.start_export(args).wait()
    }

    pub(crate) fn import(&self, bundle: &str) -> Output {
        self.run(&["import", bundle, "--to", "behind"])
    }

    pub(crate) fn assert_equal(&self) {
        let behind = self.behind();
        for part in ["v2", "api"] {
            assert!(picture(&self.mirror.path(part)) == picture(&behind.join(part)), "{part} differs");
        }
        let held = |to: &Path| {
            let status = self.run(&["status", "--json", "--to", to.to_str().unwrap()]).expect(0).json();
            (number(&status, "/held/bottles"), number(&status, "/held/bytes"), number(&status, "/indexes"))
        };
        assert_eq!(held(&behind), held(&self.mirror.dir()));
    }
}

/// Many bottles, some of several parts.
fn many() -> Spec {
    let mut spec = Spec::bulk(5, 210, 20_000..400_000);
    for position in [3, 9, 20] {
        spec.formulae[position].bottles[0].size = 20 << 20;
    }
    spec
}

#[test]
fn a_mirror_behind_the_gap_equals_the_one_before_it() {
    let mut spec = Spec::bulk(7, 35, 1_000..30_000);
    let gap = Gap::of(spec.clone());
    let first = gap.export(&["--to", "0.tar.zst"]).expect(0);
    assert!(first.stdout.contains("from the beginning") && first.stdout.contains("--since "), "{first}");
    let imported = gap.import("0.tar.zst").expect(0);
    assert!(imported.stdout.contains("35 bottles"), "{imported}");
    gap.assert_equal();

    // What the summary says to do next is done next.
    let next = imported.stdout.lines().find_map(|line| line.strip_prefix("Next")).unwrap();
    let until = next.split(" --since ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    spec.formulae.push(FormulaSpec::new("new", "1.0").with_bottle("arm64_tahoe", 5_000));
    gap.mirror.upstream.replace(spec);
    gap.mirror.sync(0, &[]);
    let delta = gap.export(&["--since", &until, "--to", "carried/", "--json"]).expect(0).json();
    assert_eq!((number(&delta, "/bottles/bottles"), number(&delta, "/indexes")), (1, 1));
    assert_eq!(text(&delta, "/since"), until);
    assert_eq!(list(&delta, "/files").len(), 1);
    assert!(gap.path("carried").join(text(&delta, "/files/0/path").rsplit('/').next().unwrap()).is_file());
    let json = gap.run(&["import", "carried", "--to", "behind", "--json"]).expect(0).json();
    assert_eq!(text(&json, "/bundles/0/outcome"), "applied");
    gap.assert_equal();

    let status = gap.run(&["status", "--to", "behind"]).expect(0);
    assert!(status.stdout.contains("settled"), "{status}");
    let again = gap.import("carried").expect(0);
    assert!(again.stdout.contains("nothing to do"), "{again}");
    gap.assert_equal();
}

#[test]
fn a_killed_export_leaves_no_bundle_and_the_next_one_is_whole() {
    let gap = Gap::of(many());
    let before = picture(&gap.mirror.path("v2"));
    for args in [&["--to", "x.tar.zst"][..], &["--to", "volumes", "--split", "2MB"]] {
        let mut export = gap.start_export(args);
        export.until("it writes", || files(&gap.mirror.here()).keys().any(|name| is_part(name)));
        assert!(export.kill());
        let left = files(&gap.mirror.here());
        let is_bundle = |name: &String| name.starts_with(args[1]) && has_end(name, "zst");
        assert!(!left.keys().any(is_bundle), "{left:?}");
        gap.export(args).expect(0);
        let left = files(&gap.mirror.here());
        assert!(left.keys().all(|name| !is_part(name)), "{left:?}");
    }
    assert!(picture(&gap.mirror.path("v2")) == before);
    gap.import("x.tar.zst").expect(0);
    gap.assert_equal();
    assert!(gap.import("volumes").expect(0).stdout.contains("nothing to do"));
}

#[test]
fn an_export_that_is_told_to_stop_leaves_nothing() {
    let gap = Gap::of(many());
    let mut export = gap.start_export(&["--to", "x.tar.zst"]);
    export.until("it writes", || gap.path("x.tar.zst.part").exists());
    export.terminate();
    let stopped = export.wait().expect(1);
    assert!(stopped.stderr.contains("nothing is left"), "{stopped}");
    assert!(files(&gap.mirror.here()).is_empty());
}

#[test]
fn an_import_killed_at_any_moment_is_made_again() {
    const KILLS: usize = 12;
    let gap = Gap::of(many());
    gap.export(&["--to", "x.tar.zst"]).expect(0);
    let behind = gap.behind();
    let mut draws = Draws(0x5eed);
    let mut inspector = Inspector::default();
    let (mut kills, mut turns) = (0, 0);
    while kills < KILLS {
        let mut import = gap.start(&["import", "x.tar.zst", "--to", "behind"]);
        thread::sleep(Duration::from_millis(draws.below(250)));
        let was_killed = import.kill();
        inspector.look(&behind).check_published_after_content();
        kills += usize::from(was_killed);
        if !was_killed {
            // It came to its end: from the beginning.
            fs::remove_dir_all(&behind).unwrap();
            inspector = Inspector::default();
        }
        turns += 1;
        assert!(turns < 200);
    }
    gap.import("x.tar.zst").expect(0);
    gap.assert_equal();
    let left = fs::read_dir(behind.join("_sync/tmp")).unwrap().count();
    assert_eq!(left, 0, "unfinished files are left");
}

#[test]
fn what_can_not_be_is_refused_with_words_and_changes_nothing() {
    let gap = Gap::of(Spec::uniform(1, 2, 2_000, &["all"]));
    let refused = |output: Output, words: &[&str]| {
        for word in words {
            assert!(output.stderr.contains(word), "{word:?} is not said: {output}");
        }
        output.expect(2);
    };
    let from = ["--from", "../mirror"];
    let export = |args: &[&str]| gap.run(&[&["export"], &from[..], args].concat());
    refused(export(&["--to", "x"]), &[".tar.zst"]);
    refused(export(&["--to", "x.tar.zst", "--since", "last week"]), &["--since", "2026-11-01"]);
    refused(export(&["--to", "x.tar.zst", "--since", "20260101T000000Z-abcd"]), &["bottles status"]);
    refused(export(&["--to", "x.tar.zst", "--since", "2999-01-01"]), &["2999-01-01"]);
    refused(export(&["--to", "x.tar.zst", "--split", "1MB"]), &["folder"]);
    refused(export(&["--to", "x/", "--split", "10B"]), &["--split"]);
    refused(gap.run(&["export", "--from", "absent", "--to", "x.tar.zst"]), &["absent", "no mirror"]);
    refused(gap.run(&["export", "--to", "x.tar.zst"]), &["--from"]);
    refused(gap.run(&["import", "absent", "--to", "behind"]), &["absent"]);
    refused(gap.run(&["import", "x.tar.zst"]), &["--to"]);
    assert!(files(&gap.mirror.here()).is_empty());

    export(&["--to", "x.tar.zst"]).expect(0);
    let bytes = fs::read(gap.path("x.tar.zst")).unwrap();
    refused(export(&["--to", "x.tar.zst"]), &["x.tar.zst", "not overwritten"]);
    assert!(fs::read(gap.path("x.tar.zst")).unwrap() == bytes);
    fs::write(gap.path("no.tar.zst"), b"no bundle").unwrap();
    refused(gap.import("no.tar.zst"), &["no.tar.zst", "no bundle"]);
    fs::create_dir(gap.path("empty")).unwrap();
    refused(gap.import("empty"), &["empty", "bottles-"]);
    // A mirror is fed by one of both.
    refused(gap.run(&["import", "x.tar.zst", "--to", "../mirror"]), &["bottles sync"]);
    gap.import("x.tar.zst").expect(0);
    let mut sync = gap.mirror.command(&["sync"]);
    sync.args(["--to", "behind"]);
    refused(Running::start(sync).wait(), &["bottles import", "_sync/imports.json"]);

    // Broken bundles are failures, not usage.
    fs::write(gap.path("cut.tar.zst"), &bytes[..bytes.len() - 9]).unwrap();
    let cut = gap.run(&["import", "cut.tar.zst", "--to", "elsewhere"]).expect(1);
    assert!(cut.stderr.contains("cut short after"), "{cut}");
}

#[test]
fn a_gap_between_bundles_is_named() {
    let mut spec = Spec::uniform(1, 2, 2_000, &["all"]);
    let gap = Gap::of(spec.clone());
    let first = gap.export(&["--to", "0.tar.zst", "--json"]).expect(0).json();
    gap.import("0.tar.zst").expect(0);
    let mut last = first.clone();
    for number in 1..=2 {
        spec.formulae.push(FormulaSpec::new(format!("new-{number}"), "1.0").with_bottle("all", 3_000));
        gap.mirror.upstream.replace(spec.clone());
        gap.mirror.sync(0, &[]);
        let args = ["--since", text(&last, "/until"), "--to", &format!("{number}.tar.zst"), "--json"];
        last = gap.export(&args).expect(0).json();
    }
    let nowhere = gap.run(&["import", "2.tar.zst", "--to", "elsewhere"]).expect(2);
    assert!(nowhere.stderr.contains("--since start") && !gap.path("elsewhere").exists(), "{nowhere}");
    let refused = gap.import("2.tar.zst").expect(2);
    let (have, since) = (text(&first, "/until"), text(&last, "/since"));
    let is_said = refused.stderr.contains(&format!("bottles export --since {have}"));
    assert!(is_said && refused.stderr.contains(since), "{refused}");
    // The one that is missing, or one over both.
    gap.export(&["--since", have, "--to", "both.tar.zst"]).expect(0);
    gap.import("both.tar.zst").expect(0);
    gap.assert_equal();
}

#[test]
fn a_missing_volume_is_named_by_the_command() {
    let gap = Gap::of(Spec::uniform(1, 6, 100_000, &["all"]));
    let exported = gap.export(&["--to", "volumes", "--split", "150kB", "--json"]).expect(0).json();
    let files = list(&exported, "/files");
    assert!(files.len() > 5);
    let second = PathBuf::from(text(&files[1], "/path"));
    let second = gap.mirror.here().join(second);
    let aside = gap.path("aside");
    fs::rename(&second, &aside).unwrap();
    let missing = gap.import("volumes").expect(1);
    assert!(missing.stderr.contains(second.file_name().unwrap().to_str().unwrap()), "{missing}");
    fs::rename(&aside, &second).unwrap();
    gap.import("volumes").expect(0);
    gap.assert_equal();
}

#[cfg(target_os = "linux")]
mod memory {
    use super::*;
    use crate::memory::most_memory;

    const MIB: u64 = 1 << 20;

    fn peak(mut running: Running) -> u64 {
        let mut peak = 0;
        while running.ended().is_none() {
            peak = most_memory(running.id()).unwrap_or(0).max(peak);
            thread::sleep(Duration::from_millis(2));
        }
        running.wait().expect(0);
        assert!(peak > MIB, "it was too quick to be looked at");
        peak
    }

    /// The most memory that an export and an import of one bottle had, in bytes.
    fn peaks(size: u64) -> [u64; 2] {
        let gap = Gap::of(Spec::uniform(8, 1, size, &["x86_64_linux"]));
        let export = peak(gap.start_export(&["--to", "x.tar.zst"]));
        let import = peak(gap.start(&["import", "x.tar.zst", "--to", "behind"]));
        gap.assert_equal();
        [export, import]
    }

    #[test]
    fn memory_does_not_grow_with_a_bottles_size_on_either_side() {
        let (small, large) = (peaks(60 * MIB), peaks(300 * MIB));
        for (what, small, large) in [("export", small[0], large[0]), ("import", small[1], large[1])] {
            let most = small * 135 / 100 + 16 * MIB;
            assert!(large <= most, "{what}: {} MiB against {} MiB", large / MIB, small / MIB);
        }
    }
}

fn is_part(name: &str) -> bool {
    has_end(name, "part")
}

fn has_end(name: &str, end: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == end)
}
