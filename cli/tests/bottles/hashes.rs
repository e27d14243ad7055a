//! Coming from the Python system, and telling others in its words.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread::{self, JoinHandle};

use serde_json::{Map, Value, json};
use testbed::{FormulaSpec, Spec, Upstream};

use crate::harness::{Draws, Mirror, Running, bare, list, number, text, write};
use crate::tree::{Inspector, files, picture};

const MANIFEST: &str = "_sync/manifest.jsonl.zst";

/// Objects by key.
pub(crate) type Objects = Vec<(String, Vec<u8>)>;

/// What the Python system left: objects, and the entries of its file.
pub(crate) fn left(upstream: &Upstream, spec: &Spec) -> (Objects, Map<String, Value>) {
    let (mut objects, mut entries) = (Vec::new(), Map::new());
    let expected = upstream.expected();
    for formula in &spec.formulae {
        for bottle in &formula.bottles {
            let found = expected.iter().find(|one| one.formula == formula.name && one.tag == bottle.tag);
            let digest = &found.unwrap().digest;
            objects.push((dated(formula, &bottle.tag), upstream.content(digest).unwrap()));
            let entry = json!({"sha256": digest, "download_date": "2026-05-02", "file_size": bottle.size});
            entries.insert(key(formula, &bottle.tag), entry);
        }
    }
    (objects, entries)
}

fn key(formula: &FormulaSpec, tag: &str) -> String {
    format!("{}-{}-{tag}", formula.name, formula.package_version())
}

fn dated(formula: &FormulaSpec, tag: &str) -> String {
    let rebuild = if formula.rebuild == 0 { String::new() } else { format!(".{}", formula.rebuild) };
    format!("2026-05-02/{}-{}.{tag}.bottle{rebuild}.tar.gz", formula.name, formula.package_version())
}

pub(crate) fn document(entries: &Map<String, Value>) -> String {
    json!({"last_updated": "2026-05-02T03:00:00", "bottles": entries}).to_string()
}

/// A folder with dated folders in it; the path of the file, and its entries.
fn leave(mirror: &Mirror, spec: &Spec) -> (String, Map<String, Value>) {
    let (objects, entries) = left(&mirror.upstream, spec);
    for (key, content) in objects {
        let path = mirror.path(&key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let file = write(&mirror.here(), "bottles_hash.json", &document(&entries));
    (file, entries)
}

#[test]
fn a_mirror_is_made_of_what_the_python_system_left() {
    let spec = Spec::demo(1);
    let mirror = Mirror::of(spec.clone());
    let (file, entries) = leave(&mirror, &spec);
    let old = picture(&mirror.path("2026-05-02"));
    let dry = mirror.run(&["import-hashes", &file, "--dry-run"]).expect(0);
    assert!(dry.stdout.contains("To adopt") && dry.stdout.contains("presence and sizes alone"), "{dry}");
    assert_eq!(files(&mirror.dir()).len(), entries.len(), "a dry run left something behind");

    let output = mirror.run(&["import-hashes", &file]).expect(0);
    for words in
        ["212 entries, last updated 2026-05-02T03:00:00", "Adopted", "stay as they are", "image indexes"]
    {
        assert!(output.stdout.contains(words), "{words}: {output}");
    }
    assert_eq!(mirror.upstream.log().count("*"), 2, "more than the catalogue was asked for, twice");
    let status = mirror.run(&["status", "--json"]).expect(0).json();
    assert_eq!(number(&status, "/held/bottles"), mirror.distinct_keys() as u64);

    let synced = mirror.sync(0, &[]);
    assert_eq!((number(&synced, "/plan/held"), mirror.blob_requests()), (mirror.distinct_keys() as u64, 0));
    mirror.check_equals_upstream();
    mirror.check_no_leftovers();
    assert_eq!(picture(&mirror.path("2026-05-02")), old);
    let again = mirror.json(&["import-hashes", &file]);
    assert_eq!(number(&again, "/recorded/bottles"), mirror.distinct_keys() as u64);
    assert_eq!(number(&again, "/adopted/bottles"), 0);
}

#[test]
fn bad_entries_are_skipped_by_name_and_the_others_taken() {
    let spec = Spec::uniform(2, 6, 3_000, &["x86_64_linux"]);
    let mirror = Mirror::of(spec.clone());
    let (_, mut entries) = leave(&mirror, &spec);
    let name = |n: usize| key(&spec.formulae[n], "x86_64_linux");
    entries[&name(0)]["sha256"] = json!("abc");
    entries[&name(1)]["file_size"] = json!("3000");
    entries.insert("no key".to_owned(), json!({}));
    fs::write(mirror.path(&dated(&spec.formulae[2], "x86_64_linux")), [0; 3_000]).unwrap();
    let upper = text(&Value::Object(entries.clone()), &format!("/{}/sha256", name(3))).to_uppercase();
    entries[&name(3)]["sha256"] = json!(upper);
    let file = write(&mirror.here(), "some.json", &document(&entries));
    let output = mirror.run(&["import-hashes", &file, "--json"]).expect(3).json();
    assert_eq!(number(&output, "/adopted/bottles"), 3);
    let skipped: Vec<_> =
        list(&output, "/skipped").iter().map(|one| (text(one, "/key"), text(one, "/why"))).collect();
    assert_eq!(
        skipped,
        [
            ("no key", "malformed"),
            (name(0).as_str(), "malformed"),
            (name(1).as_str(), "malformed"),
            (name(2).as_str(), "damaged"),
        ]
    );
    let loud = document(&entries).replace("2026-05", "\\u001b[2J2026-05");
    let file = write(&mirror.here(), "loud.json", &loud);
    let said = mirror.run(&["import-hashes", &file]).expect(3);
    assert!(!said.stdout.contains('\u{1b}'), "{said}");
    assert!(said.stdout.contains("Skipped      4: 3 malformed, 1 damaged"), "{said}");
    assert!(said.stdout.contains("its sha256 is not 64 hexadecimal digits"), "{said}");
    mirror.sync(0, &[]);
    mirror.check_equals_upstream();
    assert_eq!(mirror.fetches(), 3);
}

#[test]
fn the_files_word_is_taken_with_a_warning() {
    let spec = Spec::uniform(2, 3, 3_000, &["all"]);
    let mirror = Mirror::of(spec.clone());
    let (file, _) = leave(&mirror, &spec);
    fs::remove_dir_all(mirror.path("2026-05-02")).unwrap();
    let plain = mirror.run(&["import-hashes", &file]).expect(3);
    assert!(plain.stdout.contains("3 absent"), "{plain}");
    let trusting = ["import-hashes", &file, "--trust", "*-00002", "--trust", "*-00003", "--trust", "absent*"];
    // The second time they are no more there than the first time.
    for _ in 0..2 {
        let trusted = mirror.run(&trusting).expect(3);
        assert!(trusted.stdout.contains("Warning: 2 bottles are marked"), "{trusted}");
        assert!(trusted.stdout.contains("bottles verify --to"), "{trusted}");
        assert!(trusted.stderr.contains("--trust absent* matches no formula of the file"), "{trusted}");
    }
    let synced = mirror.sync(0, &[]);
    assert_eq!((number(&synced, "/plan/held"), mirror.fetches()), (2, 1));
}

#[test]
fn what_is_no_such_file_is_said() {
    let spec = Spec::uniform(2, 1, 1_000, &["all"]);
    let mirror = Mirror::of(spec.clone());
    let (good, _) = leave(&mirror, &spec);
    let before = picture(&mirror.dir());
    let here = mirror.here();
    let empty = write(&here, "empty.json", "");
    let page = write(&here, "page.json", "<!DOCTYPE html><html>");
    let array = write(&here, "array.json", "[]");
    let cut = write(&here, "cut.json", &fs::read_to_string(&good).unwrap()[..50]);
    let other = write(&here, "other.json", "{\"formulae\": {}}");
    let packed = here.join("packed.json");
    fs::write(&packed, b"\x1f\x8b\x08\0\0").unwrap();
    let absent_page = format!("{}/absent.json", mirror.upstream.api_url());
    for (file, code, words) in [
        (empty.as_str(), 1, "empty.json: it is empty"),
        (&page, 1, "page.json: it is a web page"),
        (&array, 1, "array.json: it is no JSON object with `bottles` in it"),
        (&cut, 1, "cut.json: it is no JSON object"),
        (&other, 1, "other.json: it is no JSON object"),
        (packed.to_str().unwrap(), 1, "packed.json: it is gzip: unpack it first"),
        ("absent.json", 2, "absent.json can't be read"),
        (".", 2, "it is a folder"),
        (&absent_page, 2, "/absent.json: the server doesn't have it"),
        ("ftp://h/x", 2, "ftp://h/x"),
        ("s3://bucket", 2, "s3://BUCKET/KEY"),
    ] {
        let output = mirror.run(&["import-hashes", file]).expect(code);
        assert!(output.stderr.contains(words), "{file}: {words}\n{output}");
    }
    let globs = mirror.run(&["import-hashes", &good, "--trust", "["]).expect(2);
    assert!(globs.stderr.contains("--trust"), "{globs}");
    assert_eq!(picture(&mirror.dir()), before, "something was made of nothing");
    for (options, words) in [(&["--to", "nowhere"][..], "no such folder"), (&[], "--stack")] {
        let mut command = mirror.command(&["import-hashes", &good]);
        command.args(options);
        let output = Running::start(command).wait().expect(2);
        assert!(output.stderr.contains(words), "{output}");
    }
    assert!(!here.join("nowhere").exists());
}

/// A server that answers `count` requests with `body`; what it was asked.
fn serve(body: String, count: usize) -> (String, JoinHandle<Vec<String>>) {
    serve_with("200 OK", body, count)
}

fn serve_with(status: &'static str, body: String, count: usize) -> (String, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url =
        format!("http://{}/state/bottles_hash.json?X-Amz-Signature=SECRET", listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        let answer = |mut connection: std::net::TcpStream| {
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && connection.read(&mut byte).unwrap() > 0 {
                request.push(byte[0]);
            }
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            connection.write_all(head.as_bytes()).unwrap();
            connection.write_all(body.as_bytes()).unwrap();
            String::from_utf8_lossy(&request).into_owned()
        };
        (0..count).map(|_| answer(listener.accept().unwrap().0)).collect()
    });
    (url, serving)
}

#[test]
fn the_file_may_be_on_a_server_that_is_told_no_secret() {
    let spec = Spec::uniform(2, 2, 1_000, &["all"]);
    let mirror = Mirror::of(spec.clone());
    let (_, entries) = leave(&mirror, &spec);
    let (url, serving) = serve(document(&entries), 1);
    let output = mirror.json(&["import-hashes", &url]);
    assert_eq!(number(&output, "/adopted/bottles"), 2);
    let asked = serving.join().unwrap();
    assert!(!asked[0].to_ascii_lowercase().contains("authorization:"), "{}", asked[0]);
    let (url, serving) = serve("nonsense".to_owned(), 1);
    let output = mirror.run(&["import-hashes", &url, "--log", "debug"]).expect(1);
    assert!(output.stderr.contains("/state/bottles_hash.json: it is no JSON"), "{output}");
    assert!(!output.stderr.contains("SECRET"), "{output}");
    serving.join().unwrap();
}

#[test]
fn a_server_that_refuses_the_file_is_asked_once() {
    let spec = Spec::uniform(2, 1, 1_000, &["all"]);
    let mirror = Mirror::of(spec.clone());
    leave(&mirror, &spec);
    for (status, words) in [
        ("403 Forbidden", "/state/bottles_hash.json: the server refuses it (HTTP 403)"),
        ("404 Not Found", "/state/bottles_hash.json: the server doesn't have it"),
    ] {
        let (url, serving) = serve_with(status, "no".to_owned(), 1);
        let output = mirror.run(&["import-hashes", &url]).expect(2);
        assert!(output.stderr.contains(words) && !output.stderr.contains("SECRET"), "{output}");
        serving.join().unwrap();
    }
}

#[test]
fn what_upstream_does_not_list_any_more_is_said_beforehand_and_left_out_if_asked() {
    let spec = Spec::uniform(2, 3, 3_000, &["all"]);
    let mirror = Mirror::of(spec.clone());
    let (file, _) = leave(&mirror, &spec);
    let mut now = spec;
    now.formulae[0].version = "2.0".to_owned();
    now.formulae[0].bottles[0].content = 99;
    mirror.upstream.replace(now);
    let dry = mirror.run(&["import-hashes", &file, "--dry-run"]).expect(0);
    assert!(dry.stdout.contains("Unlisted     1 bottle, "), "{dry}");
    assert!(dry.stdout.contains("`bottles retire --at-most`"), "{dry}");
    let listed = mirror.run(&["import-hashes", &file, "--listed-only"]).expect(0);
    assert!(listed.stdout.contains("Left out     1 bottle, "), "{listed}");
    assert!(listed.stdout.contains("with the selection of this mirror"), "{listed}");
    let report = mirror.json(&["import-hashes", &file, "--listed-only"]);
    assert_eq!((number(&report, "/recorded/bottles"), number(&report, "/unlisted/bottles")), (2, 1));
}

#[test]
fn what_an_import_finds_damaged_is_fetched_by_the_next_sync() {
    let spec = Spec::uniform(2, 2, 3_000, &["all"]);
    let mirror = Mirror::of(spec.clone());
    let (file, _) = leave(&mirror, &spec);
    fs::remove_dir_all(mirror.path("2026-05-02")).unwrap();
    let expected = mirror.upstream.expected();
    for bottle in &expected {
        let path = mirror.path(&bottle.key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, mirror.upstream.content(&bottle.digest).unwrap()).unwrap();
    }
    fs::write(mirror.path(&expected[0].key), vec![7; 3_000]).unwrap();
    let output = mirror.run(&["import-hashes", &file]).expect(3);
    assert!(output.stdout.contains("Damaged      1 bottle, "), "{output}");
    mirror.sync(0, &[]);
    assert_eq!(mirror.fetches(), 1);
    mirror.check_equals_upstream();
}

#[test]
fn an_import_that_is_killed_is_gone_on_with_and_shows_nothing_unverified() {
    let spec = Spec::uniform(2, 60, 300_000, &["x86_64_linux"]);
    let mirror = Mirror::of(spec.clone());
    let (file, _) = leave(&mirror, &spec);
    fs::write(mirror.path(&dated(&spec.formulae[59], "x86_64_linux")), vec![1; 300_000]).unwrap();
    let (mut inspector, mut draws, mut kills) = (Inspector::default(), Draws(7), 0);
    for round in 1..=6 {
        let mut import = mirror.start(&["import-hashes", &file, "--concurrency", "2"]);
        let least = round * 5 + draws.below(5);
        while import.ended().is_none() && (inspector.look(&mirror.dir()).blobs.len() as u64) < least {}
        kills += u64::from(import.kill());
    }
    assert!(kills > 2, "it was too quick to be killed");
    let report = mirror.run(&["import-hashes", &file, "--json"]).expect(3).json();
    assert_eq!(list(&report, "/skipped").len(), 1);
    let found: u64 =
        ["held", "adopted", "recorded"].iter().map(|how| number(&report, &format!("/{how}/bottles"))).sum();
    assert_eq!(found, 59);
    mirror.sync(0, &[]);
    assert_eq!(mirror.fetches(), 1);
    mirror.check_equals_upstream();
    mirror.check_no_leftovers();
}

#[test]
fn an_export_is_written_whole_and_imported_again() {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.sync(0, &[]);
    let printed = mirror.run(&["export-hashes"]).expect(0).stdout;
    let path = mirror.here().join("out.json");
    fs::write(&path, "an earlier one").unwrap();
    let output = mirror.run(&["export-hashes", "--output", path.to_str().unwrap()]).expect(0);
    assert!(output.stdout.starts_with("212 entries in "), "{output}");
    assert_eq!(fs::read_to_string(&path).unwrap(), printed);
    assert_eq!(fs::read_dir(mirror.here()).unwrap().count(), 1, "a temporary file is left");
    let document: Value = serde_json::from_str(&printed).unwrap();
    let entry = &document["bottles"]["openssl@3-3.6.0_1-arm64_tahoe"];
    let expected = mirror.upstream.expected();
    let openssl = expected.iter().find(|one| one.formula == "openssl@3" && one.tag == "arm64_tahoe").unwrap();
    assert_eq!((text(entry, "/sha256"), number(entry, "/file_size")), (&*openssl.digest, openssl.size));
    assert!(text(entry, "/download_date").ends_with("+00:00"));
    // It names them as the Python system does.
    let (_, entries) = left(&mirror.upstream, &Spec::demo(1));
    let bottles = document["bottles"].as_object().unwrap();
    assert!(bottles.keys().eq(entries.keys()), "{:?}", bottles.keys());
    let held = || number(&mirror.run(&["status", "--json"]).expect(0).json(), "/held/bottles");
    let before = held();
    fs::remove_file(mirror.path(MANIFEST)).unwrap();
    mirror.upstream.log().clear();
    let report = mirror.json(&["import-hashes", path.to_str().unwrap()]);
    assert_eq!((number(&report, "/held/bottles"), list(&report, "/skipped").len()), (before, 0));
    assert_eq!(held(), before);
    mirror.sync(0, &[]);
    assert_eq!(mirror.blob_requests(), 0);
    mirror.check_equals_upstream();

    // A link stays one, and what is no plain file is written to.
    let link = mirror.here().join("link.json");
    std::os::unix::fs::symlink("out.json", &link).unwrap();
    mirror.run(&["export-hashes", "--output", link.to_str().unwrap()]).expect(0);
    assert!(link.is_symlink() && fs::read_to_string(&path).unwrap() == mirror.run(&["export-hashes"]).stdout);
    mirror.run(&["export-hashes", "--output", "/dev/null"]).expect(0);
    assert!(!fs::metadata("/dev/null").unwrap().is_file());

    for output in ["absent/out.json", "."] {
        let refused = mirror.run(&["export-hashes", "--output", output]).expect(2);
        assert!(refused.stderr.contains("--output"), "{refused}");
    }
    let nothing = Running::start(bare(&["export-hashes", "--to", "nowhere"])).wait().expect(2);
    assert!(nothing.stderr.contains("holds no mirror"), "{nothing}");
}

#[cfg(target_os = "linux")]
#[test]
fn memory_does_not_grow_with_a_bottles_size() {
    fn peak(size: u64) -> u64 {
        let spec = Spec::uniform(8, 1, size, &["all"]);
        let mirror = Mirror::of(spec.clone());
        let (file, _) = leave(&mirror, &spec);
        let mut import = mirror.start(&["import-hashes", &file]);
        let mut peak = 0;
        while import.ended().is_none() {
            peak = crate::memory::most_memory(import.id()).unwrap_or(0).max(peak);
            thread::sleep(std::time::Duration::from_millis(1));
        }
        import.wait().expect(0);
        peak
    }
    let (small, large) = (peak(8 << 20), peak(256 << 20));
    assert!(small > 1 << 20, "it was too quick to be looked at");
    assert!(large <= small + (32 << 20), "{} MiB against {} MiB", large >> 20, small >> 20);
}
