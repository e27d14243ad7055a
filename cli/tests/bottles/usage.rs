//! What is wrong is said by name, with exit code 2, before anything is made.

use testbed::Spec;

use crate::harness::{Mirror, Output, Running, bare, write};
use crate::tree::picture;

/// A command line, environment variables, and what standard error names.
type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a [&'a str]);

const SYNC: [&str; 3] = ["sync", "--to", "made"];

fn run(mirror: &Mirror, args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = bare(args);
    command.current_dir(mirror.here()).env("TMPDIR", mirror.temporary()).envs(variables.iter().copied());
    Running::start(command).wait()
}

/// Each must be refused with its words, and leave nothing behind.
fn refused(mirror: &Mirror, cases: &[Case<'_>]) {
    let before = [picture(&mirror.here()), picture(&mirror.temporary())];
    let mut wrong = Vec::new();
    for (args, variables, words) in cases {
        let output = run(mirror, args, variables);
        let silent: Vec<_> = words.iter().filter(|word| !output.stderr.contains(**word)).collect();
        if output.code != 2 || !silent.is_empty() {
            wrong.push(format!("{args:?} {variables:?}: does not say {silent:?}\n{output}"));
        }
        let after = [picture(&mirror.here()), picture(&mirror.temporary())];
        if after != before {
            wrong.push(format!("{args:?} {variables:?} left something behind: {after:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn nothing() -> Mirror {
    Mirror::of(Spec::default())
}

#[test]
fn a_wrong_command_line_is_refused_by_name() {
    let to_made = |args: &[&'static str]| -> Vec<&'static str> { [&SYNC, args].concat() };
    let lines = [
        (to_made(&["--tag", "Bad Tag"]), "Bad Tag"),
        (to_made(&["--tag", "all"]), "all"),
        (to_made(&["--memory", "1MB"]), "--memory"),
        (to_made(&["--size-threshold", "potato"]), "potato"),
        (to_made(&["--api-url", "ftp://x"]), "ftp://x"),
        (to_made(&["--api-url", "nonsense"]), "--api-url"),
        (to_made(&["--rewrite", "nonsense"]), "nonsense"),
        (to_made(&["--allow-host", "http://x/y"]), "http://x/y"),
        (to_made(&["--concurrency", "0"]), "--concurrency"),
        (to_made(&["--requests-per-second", "0"]), "--requests-per-second"),
        (to_made(&["--formula", "["]), "\"[\""),
        (to_made(&["--frobnicate"]), "--frobnicate"),
        (to_made(&["--log-format", "xml"]), "xml"),
        (to_made(&["--expire-after", "99999999999d"]), "it takes days such as 90d"),
        (vec!["sync"], "--to"),
        (vec!["plan", "--size-threshold", "potato"], "potato"),
        (vec!["plan", "--api-url", "ftp://x"], "ftp://x"),
        (vec!["plan", "--tag", "Bad Tag"], "Bad Tag"),
        (vec!["status", "--to", "absent"], "absent"),
        (vec!["dead-letters", "list", "--to", "absent"], "absent"),
        (vec!["dead-letters", "replay", "--to", "absent"], "absent"),
        (vec!["dead-letters", "drop", "--to", "absent"], "absent"),
        (vec!["dead-letters", "list", "--to", ".", "--reason", "nonsense"], "not-found"),
        (vec!["dead-letters", "list", "--to", ".", "--formula", "["], "\"[\""),
        (vec!["dead-letters"], "replay"),
        (vec!["frobnicate"], "frobnicate"),
        (vec![], "Usage"),
    ];
    let cases: Vec<_> =
        lines.iter().map(|(args, word)| (&args[..], &[][..], std::slice::from_ref(word))).collect();
    refused(&nothing(), &cases);
}

#[test]
fn a_wrong_variable_is_refused_by_name() {
    refused(
        &nothing(),
        &[
            (&SYNC, &[("BOTTLES_MEMROY", "1GB")], &["BOTTLES_MEMROY", "BOTTLES_MEMORY"]),
            (&SYNC, &[("BOTTLES_CONCURENCY", "4")], &["BOTTLES_CONCURENCY", "BOTTLES_CONCURRENCY"]),
            (&["status", "--to", "."], &[("BOTTLES_NONSENSE", "")], &["BOTTLES_NONSENSE"]),
            (&SYNC, &[("BOTTLES_MEMORY", "1MB")], &["memory"]),
            (&SYNC, &[("BOTTLES_SIZE_THRESHOLD", "potato")], &["potato"]),
            (&SYNC, &[("BOTTLES_API_URL", "ftp://x")], &["ftp://x"]),
            (&SYNC, &[("BOTTLES_REWRITE", "https://ghcr.io=http://h,nonsense")], &["nonsense"]),
            (&SYNC, &[("BOTTLES_CONCURRENCY", "many")], &["many"]),
            (&["status"], &[("BOTTLES_TO", "absent")], &["absent"]),
        ],
    );
}

#[test]
fn an_empty_place_is_not_the_current_directory() {
    let words = &["--to", "BOTTLES_TO", "it is empty"][..];
    refused(
        &nothing(),
        &[
            (&["sync", "--to", ""], &[], words),
            (&["sync"], &[("BOTTLES_TO", "")], words),
            (&["status", "--to="], &[], words),
            (&["import", "bundle.tar.zst"], &[("BOTTLES_TO", "")], words),
            (&["export", "--from", "", "--to", "x.tar.zst"], &[], &["--from", "it is empty"]),
        ],
    );
}

#[test]
fn a_folder_is_refused_for_a_deployed_system_before_that_is_looked_up() {
    let stack = [("BOTTLES_ENVIRONMENT", "prod"), ("AWS_EC2_METADATA_DISABLED", "true")];
    let words = &["made is a folder", "BOTTLES_ENVIRONMENT"][..];
    let verb = |verb: &'static str| [verb, "--to", "made"];
    refused(
        &nothing(),
        &[
            (&verb("status"), &stack, words),
            (&verb("publish"), &stack, words),
            (&verb("retire"), &stack, words),
            (&verb("verify"), &stack, words),
            (&verb("plan"), &stack, words),
        ],
    );
}

#[test]
fn a_log_filter_that_is_none_is_wrong_usage() {
    refused(
        &nothing(),
        &[
            (&["status", "--to", ".", "--log", "=="], &[], &["=="]),
            (&["status", "--to", "."], &[("BOTTLES_LOG", "==")], &["=="]),
        ],
    );
}

#[test]
fn a_wrong_selection_file_is_refused_by_name() {
    let mirror = nothing();
    for (name, text) in [
        ("syntax.toml", "formulae = [\"wget\""),
        ("key.toml", "formula = [\"wget\"]"),
        ("contradiction.toml", "min_bottle_size = \"2GB\"\nmax_bottle_size = \"1GB\""),
        ("nothing.toml", "formulae = []"),
        ("tag.toml", "tags = [\"Bad Tag\"]"),
        ("glob.toml", "formulae = [\"[\"]"),
    ] {
        write(&mirror.here(), name, text);
    }
    let file = |name: &'static str| ["sync", "--to", "made", "--selection", name];
    refused(
        &mirror,
        &[
            (&file("absent.toml"), &[], &["absent.toml"]),
            (&file("syntax.toml"), &[], &["syntax.toml"]),
            (&file("key.toml"), &[], &["key.toml", "formula"]),
            (&file("contradiction.toml"), &[], &["contradiction.toml", "min_bottle_size"]),
            (&file("nothing.toml"), &[], &["nothing.toml", "formulae"]),
            (&file("tag.toml"), &[], &["tag.toml", "Bad Tag"]),
            (&file("glob.toml"), &[], &["glob.toml", "\"[\""]),
            (&["plan", "--selection", "absent.toml"], &[], &["absent.toml"]),
            (&SYNC, &[("BOTTLES_SELECTION", "key.toml")], &["key.toml"]),
        ],
    );
}

#[test]
fn variables_do_what_their_options_do() {
    let mirror = Mirror::of(Spec::uniform(3, 2, 1_000, &["x86_64_linux"]));
    let rewrite = format!("https://ghcr.io={}", mirror.upstream.registry_url());
    let variables = [
        ("BOTTLES_TO", mirror.dir().to_str().unwrap().to_owned()),
        ("BOTTLES_API_URL", mirror.upstream.api_url()),
        ("BOTTLES_REWRITE", rewrite),
        ("BOTTLES_ALLOW_HOST", mirror.upstream.cdn_url().replace("http://", "")),
        ("BOTTLES_REQUESTS_PER_SECOND", "10000".to_owned()),
        ("BOTTLES_LOG", "debug".to_owned()),
        ("BOTTLES_LOG_FORMAT", "json".to_owned()),
    ];
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let output = run(&mirror, &["sync"], &variables).expect(0);
    for line in output.stderr.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    assert!(output.stderr.contains("\"level\":\"DEBUG\""), "{output}");
    mirror.check_equals_upstream();
}

#[test]
fn help_goes_to_standard_output_and_is_no_error() {
    let mirror = nothing();
    for args in [&["--help"][..], &["help"], &["sync", "--help"], &["dead-letters", "list", "--help"]] {
        let output = run(&mirror, args, &[]).expect(0);
        assert!(output.stdout.contains("Usage: bottles") && output.stderr.is_empty(), "{output}");
    }
    assert!(run(&mirror, &["--version"], &[]).expect(0).stdout.starts_with("bottles "));
}

#[test]
fn options_stand_under_the_heading_that_fits() {
    for verb in ["plan", "sync"] {
        let help = run(&nothing(), &[verb, "--help"], &[]).expect(0).stdout;
        let heading = |option: &str| {
            let before = &help[..help.find(&format!("{option} ")).or_else(|| help.find(option)).unwrap()];
            let mut headings = before.lines().filter(|line| line.ends_with(':') && !line.starts_with(' '));
            headings.next_back().unwrap().to_owned()
        };
        assert_eq!(heading("--formula <GLOB>"), "Selection:");
        assert_eq!(heading("--json"), "Options:", "of {verb}");
    }
}
