//! Exactly what is asked for, with what it needs, and with brew's fallbacks.

use std::collections::BTreeSet;

use testbed::{FormulaSpec, Spec};

use crate::harness::{Mirror, Running, write};
use crate::tree::files;

fn spec() -> Spec {
    let formula = |name: &str, tags: &[&str]| {
        tags.iter().fold(FormulaSpec::new(name, "1.0"), |formula, tag| formula.with_bottle(tag, 3_000))
    };
    let formulae = vec![
        formula("app", &["arm64_tahoe", "arm64_sequoia", "sonoma", "x86_64_linux"])
            .with_dependencies(&["lib@2"])
            .with_uses_from_macos(["zed".into()]),
        // Not built for the newest macOS.
        formula("lib@2", &["arm64_sequoia", "arm64_sonoma", "ventura", "x86_64_linux"])
            .with_dependencies(&["data"]),
        formula("data", &["all"]),
        formula("zed", &["arm64_tahoe", "x86_64_linux"]),
        formula("other++", &["arm64_tahoe", "arm64_sonoma", "x86_64_linux"]).with_bottle("sonoma", 90_000),
        formula("gui", &["arm64_tahoe", "x86_64_linux"])
            .with_dependencies(&["zed"])
            .with_variation("x86_64_linux", &["other++"]),
    ];
    Spec { seed: 6, formulae, ..Spec::default() }
}

/// Options, and the bottles that the mirror holds then.
const CASES: [(&[&str], &[&str]); 12] = [
    (&["--formula", "app", "--tag", "arm64_tahoe"], &["app arm64_tahoe", "data all", "lib@2 arm64_sequoia"]),
    (
        &["--formula", "app", "--tag", "x86_64_linux"],
        &["app x86_64_linux", "data all", "lib@2 x86_64_linux", "zed x86_64_linux"],
    ),
    (&["--formula", "app", "--tag", "arm64_tahoe", "--no-dependencies"], &["app arm64_tahoe"]),
    // Intel takes Intel's older ones, and never one of Apple silicon.
    (&["--formula", "app", "--tag", "sequoia"], &["app sonoma", "data all", "lib@2 ventura"]),
    (
        &["--formula", "lib@*", "--tag", "arm64_sonoma", "--tag", "x86_64_linux"],
        &["data all", "lib@2 arm64_sonoma", "lib@2 x86_64_linux"],
    ),
    // Older than all that there is.
    (&["--formula", "other++", "--tag", "arm64_ventura"], &[]),
    (
        &["--formula", "other++"],
        &["other++ arm64_sonoma", "other++ arm64_tahoe", "other++ sonoma", "other++ x86_64_linux"],
    ),
    (&["--formula", "gui", "--tag", "arm64_tahoe"], &["gui arm64_tahoe", "zed arm64_tahoe"]),
    (&["--formula", "gui", "--tag", "x86_64_linux"], &["gui x86_64_linux", "other++ x86_64_linux"]),
    (&["--tag", "sonoma"], &["app sonoma", "data all", "lib@2 ventura", "other++ sonoma"]),
    (&["--selection", "selection.toml"], &["app arm64_tahoe", "lib@2 arm64_sequoia", "other++ arm64_tahoe"]),
    // An option wins over the file's value, and leaves the others.
    (
        &["--selection", "selection.toml", "--tag", "x86_64_linux"],
        &["app x86_64_linux", "lib@2 x86_64_linux", "other++ x86_64_linux", "zed x86_64_linux"],
    ),
];

const SELECTION: &str = r#"
formulae = ["app", "other*"]
exclude = ["data"]
tags = ["arm64_tahoe", "sonoma"]
max_bottle_size = "50kB"
"#;

#[test]
fn exactly_what_is_selected_is_fetched() {
    let mirror = Mirror::of(spec());
    // The file has one client more, whose bottles are another case's.
    write(&mirror.here(), "selection.toml", &SELECTION.replace(", \"sonoma\"", ""));
    for (position, (args, expected)) in CASES.iter().enumerate() {
        let dir = mirror.dir().with_file_name(format!("mirror-{position}"));
        let mut command = mirror.command(&["sync"]);
        command.args(*args).arg("--to").arg(&dir);
        // What asks for nothing is a mistake, and tells clients nothing.
        Running::start(command).wait().expect(i32::from(expected.is_empty()));

        let bottles = mirror.upstream.expected();
        let held: BTreeSet<String> = files(&dir.join("v2"))
            .into_keys()
            .filter(|key| key.contains("/blobs/"))
            .map(|key| {
                let bottle = bottles.iter().find(|bottle| bottle.key == format!("v2/{key}"));
                bottle.map_or(key, |bottle| format!("{} {}", bottle.formula, bottle.tag))
            })
            .collect();
        assert_eq!(held.iter().map(String::as_str).collect::<Vec<_>>(), *expected, "for {args:?}");
    }
}

#[test]
fn size_limits_leave_out_what_is_too_large() {
    let mirror = Mirror::of(spec());
    let selection = write(&mirror.here(), "selection.toml", SELECTION);
    let report = mirror.sync(0, &["--selection", &selection]);
    assert_eq!(report["plan"]["outside_limits"], 1);
    mirror.check_bottles(|bottle| {
        matches!(
            (bottle.formula.as_str(), bottle.tag.as_str()),
            ("app", "arm64_tahoe" | "sonoma")
                | ("lib@2", "arm64_sequoia" | "ventura")
                | ("other++", "arm64_tahoe")
        )
    });
}

#[test]
fn a_wider_selection_fetches_only_what_is_missing() {
    let mirror = Mirror::of(spec());
    mirror.sync(0, &["--formula", "app", "--tag", "arm64_tahoe"]);
    mirror.upstream.log().clear();
    mirror.sync(0, &["--formula", "app", "--tag", "arm64_tahoe", "--tag", "x86_64_linux"]);
    assert_eq!(mirror.fetches(), 3);
    mirror.sync(0, &[]);
    mirror.check_equals_upstream();
    // A narrower one takes nothing away.
    mirror.sync(0, &["--formula", "zed"]);
    mirror.check_equals_upstream();
}
