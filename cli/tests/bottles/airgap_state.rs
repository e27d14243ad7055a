//! What becomes of a mirror behind the gap: what it lacks, what it keeps back, who feeds it.

use std::fs;
use std::thread;
use std::time::Duration;

use testbed::{FormulaSpec, Spec};

use crate::airgap::Gap;
use crate::harness::{Draws, Running, number, text};
use crate::tree::files;

#[test]
fn what_was_lost_behind_the_gap_is_said_and_brought_again() {
    let mut spec = Spec::uniform(1, 3, 2_000, &["all"]);
    let gap = Gap::of(spec.clone());
    let first = gap.export(&["--to", "0.tar.zst", "--json"]).expect(0).json();
    gap.import("0.tar.zst").expect(0);
    spec.formulae.push(FormulaSpec::new("new", "1.0").with_bottle("all", 3_000));
    gap.mirror.upstream.replace(spec);
    gap.mirror.sync(0, &[]);
    gap.export(&["--since", text(&first, "/until"), "--to", "1.tar.zst"]).expect(0);
    // Its manifest is gone, and a bottle is damaged.
    fs::remove_file(gap.behind().join("_sync/manifest.jsonl.zst")).unwrap();
    let bottle =
        files(&gap.behind().join("v2")).into_iter().find(|(key, _)| key.contains("/blobs/")).unwrap().1;
    fs::write(bottle, vec![b'x'; 2_000]).unwrap();
    let refused = gap.import("1.tar.zst").expect(2);
    assert!(refused.stderr.contains("bottles verify --to PLACE --rebuild-manifest"), "{refused}");
    assert!(!gap.behind().join("_sync/manifest.jsonl.zst").exists());
    // As it says.
    gap.run(&["verify", "--to", "behind", "--rebuild-manifest", "--deep"]);
    let lacking = gap.import("1.tar.zst").expect(3);
    assert!(lacking.stdout.contains("1 bottle") && lacking.stdout.contains("--again"), "{lacking}");
    gap.run(&["import", "0.tar.zst", "--again", "--to", "behind"]).expect(0);
    gap.assert_equal();
}

/// Behind the gap nothing can be fetched: what verify finds, a bundle brings again.
#[test]
fn what_verify_finds_behind_the_gap_is_brought_by_the_bundle() {
    let gap = Gap::of(Spec::uniform(1, 3, 2_000, &["all"]));
    gap.export(&["--to", "0.tar.zst"]).expect(0);
    gap.import("0.tar.zst").expect(0);
    let mut bottles = files(&gap.behind().join("v2")).into_iter().filter(|(key, _)| key.contains("/blobs/"));
    let (damaged, missing) = (bottles.next().unwrap().1, bottles.next().unwrap().1);
    fs::write(damaged, vec![b'x'; 2_000]).unwrap();
    fs::remove_file(missing).unwrap();
    let found = gap.run(&["verify", "--deep", "--repair", "--to", "behind"]).expect(3);
    assert!(found.stdout.contains("bottles import --again BUNDLE --to behind"), "{found}");
    assert!(found.stdout.contains("2 reported"), "{found}");
    // Nothing is left that would be on its way for ever.
    gap.run(&["import", "0.tar.zst", "--again", "--to", "behind"]).expect(0);
    gap.run(&["verify", "--deep", "--to", "behind"]).expect(0);
    let status = gap.run(&["status", "--json", "--to", "behind"]).expect(0).json();
    assert_eq!(number(&status, "/queued/bottles"), 0, "{status}");
    gap.assert_equal();

    let bottle =
        files(&gap.behind().join("v2")).into_iter().find(|(key, _)| key.contains("/blobs/")).unwrap();
    fs::write(bottle.1, vec![b'x'; 2_000]).unwrap();
    fs::remove_file(gap.behind().join("_sync/manifest.jsonl.zst")).unwrap();
    let rebuilt = gap.run(&["verify", "--rebuild-manifest", "--deep", "--to", "behind"]).expect(3).stdout;
    assert!(rebuilt.contains("Reported     1 bottle as lost"), "{rebuilt}");
    assert!(rebuilt.contains("bottles import --again BUNDLE --to behind"), "{rebuilt}");
    assert!(!rebuilt.contains("Queued") && !rebuilt.contains("bottles sync"), "{rebuilt}");
    gap.run(&["import", "0.tar.zst", "--again", "--to", "behind"]).expect(0);
    gap.run(&["verify", "--deep", "--to", "behind"]).expect(0);
}

#[test]
fn what_an_import_does_not_publish_is_said_with_exit_code_3() {
    let mut spec = Spec::uniform(1, 2, 2_000, &["x86_64_linux"]);
    let gap = Gap::of(spec.clone());
    let mut until = "start".to_owned();
    for number in 0..3 {
        let new = FormulaSpec::new(format!("new-{number}"), "1.0").with_bottle("x86_64_linux", 3_000);
        spec.formulae.push(new);
        gap.mirror.upstream.replace(spec.clone());
        gap.mirror.sync(0, &[]);
        let name = format!("{number}.tar.zst");
        let exported = gap.export(&["--since", &until, "--to", &name, "--json"]).expect(0).json();
        until = text(&exported, "/until").to_owned();
        if number < 2 {
            let imported = gap.import(&name).expect(0);
            assert!(imported.stdout.contains("Published    API files for x86_64_linux"), "{imported}");
        }
    }
    gap.run(&["publish", "--rollback", "--to", "behind"]).expect(3);
    let held = gap.import("2.tar.zst").expect(3);
    for word in ["Not published for x86_64_linux", "Held back", "bottles publish --to behind --resume"] {
        assert!(held.stdout.contains(word), "{word:?} is not said: {held}");
    }
    assert!(!held.stdout.contains("Published "), "{held}");
    // For as long as it is so, and of an old bundle too; and where the next one begins.
    let old = gap.import("0.tar.zst").expect(3);
    assert!(old.stdout.contains(&format!("--since {until} ")), "{old}");
    let json = gap.run(&["import", "0.tar.zst", "--to", "behind", "--json"]).expect(3).json();
    assert_eq!(text(&json, "/bundles/0/mirror_until"), until);
    assert_eq!(text(&json, "/bundles/0/publication/waiting/0/client"), "x86_64_linux");
    assert!(!text(&json, "/bundles/0/held_since").is_empty());
    gap.run(&["publish", "--resume", "--to", "behind"]).expect(0);
    gap.import("2.tar.zst").expect(0);
    gap.assert_equal();
}

#[test]
fn of_a_folder_with_a_gap_nothing_is_imported() {
    let mut spec = Spec::uniform(1, 2, 2_000, &["all"]);
    let gap = Gap::of(spec.clone());
    let (mut until, mut written) = ("start".to_owned(), Vec::new());
    for number in 0..3 {
        spec.formulae.push(FormulaSpec::new(format!("new-{number}"), "1.0").with_bottle("all", 3_000));
        gap.mirror.upstream.replace(spec.clone());
        gap.mirror.sync(0, &[]);
        let exported = gap.export(&["--since", &until, "--to", "carried/", "--json"]).expect(0).json();
        until = text(&exported, "/until").to_owned();
        written.push(gap.path(text(&exported, "/files/0/path")));
    }
    fs::rename(&written[1], gap.path("aside")).unwrap();
    let refused = gap.import("carried").expect(2);
    assert!(refused.stderr.contains("bottles export --since") && !gap.behind().exists(), "{refused}");
    fs::rename(gap.path("aside"), &written[1]).unwrap();
    gap.import("carried").expect(0);
    gap.assert_equal();
}

#[test]
fn a_new_place_is_fed_by_a_sync_or_by_bundles_and_never_by_both() {
    let gap = Gap::of(Spec::uniform(7, 3, 2_000, &["x86_64_linux"]));
    gap.export(&["--to", "x.tar.zst"]).expect(0);
    let mut draws = Draws(0xa1);
    for round in 0..10 {
        let place = format!("place-{round}");
        let mut sync = gap.mirror.command(&["sync"]);
        sync.args(["--to", &place]);
        let sync = Running::start(sync);
        thread::sleep(Duration::from_millis(draws.below(150)));
        let import = gap.start(&["import", "x.tar.zst", "--to", &place]);
        let (import, sync) = (import.wait(), sync.wait());
        let codes = (import.code, sync.code);
        assert!(matches!(codes, (0 | 2, 2) | (2, 0)), "{codes:?}: {import}{sync}");
        // With one of them alone it goes on.
        let is_fed_by_bundles = gap.path(&place).join("_sync/imports.json").exists();
        if is_fed_by_bundles {
            let again = gap.run(&["import", "x.tar.zst", "--to", &place]);
            // What the other one had planned may wait for a settle.
            assert!(matches!(again.code, 0 | 3), "{again}");
        } else {
            let mut sync = gap.mirror.command(&["sync"]);
            sync.args(["--to", &place]);
            Running::start(sync).wait().expect(0);
        }
    }
}
