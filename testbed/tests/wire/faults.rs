//! Each fault, seen by a client.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use serde_json::json;
use testbed::{ExpectedBottle, Fault, Planted, Spec, Times, Upstream};

use crate::client::*;

const SIZE: u64 = 600_000;
const WHOLE: usize = 600_000;

/// An upstream whose CDN has a fault.
fn broken(fault: Fault) -> (Upstream, ExpectedBottle) {
    let upstream = start(Spec::uniform(1, 1, SIZE, &["x86_64_linux"]));
    let bottle = upstream.expected().remove(0);
    upstream.faults().set(&format!("cdn:*{}", bottle.digest), fault, Times::Always);
    (upstream, bottle)
}

fn whole(upstream: &Upstream, bottle: &ExpectedBottle) -> Vec<u8> {
    upstream.content(&bottle.digest).unwrap()
}

#[test]
fn a_status_comes_with_its_retry_after() {
    let retry_after = Some("Wed, 21 Oct 2026 07:28:00 GMT".to_owned());
    let (upstream, bottle) = broken(Fault::Status { code: 429, retry_after: retry_after.clone() });
    let reply = fetch(&upstream, &bottle, &[]);
    assert_eq!((reply.status, reply.header("retry-after")), (429, retry_after.as_deref()));
    assert_eq!(reply.json()["errors"][0]["code"], "TOOMANYREQUESTS");
    upstream.faults().clear();
    assert_eq!(fetch(&upstream, &bottle, &[]).status, 200);
}

#[test]
fn the_first_requests_fail_and_the_next_ones_dont() {
    let (upstream, bottle) = broken(Fault::NoRange);
    let status = Fault::Status { code: 503, retry_after: None };
    upstream.faults().set("cdn:*", status, Times::First(2));
    let statuses: Vec<u16> = (0..3).map(|_| fetch(&upstream, &bottle, &[]).status).collect();
    assert_eq!(statuses, [503, 503, 200]);
}

#[test]
fn a_stall_sends_some_then_nothing_then_the_rest() {
    let pause = Duration::from_millis(200);
    let (upstream, bottle) = broken(Fault::Stall { after_bytes: 1000, r#for: pause });
    let begun = Instant::now();
    let reply = fetch(&upstream, &bottle, &[]);
    assert!(begun.elapsed() >= pause);
    assert_eq!(sha256(&reply.body), bottle.digest);

    let long = Fault::Stall { after_bytes: 300_000, r#for: Duration::from_mins(1) };
    upstream.faults().set("cdn:*", long, Times::Always);
    let reply = fetch(&upstream, &bottle, &[]);
    assert_eq!((reply.length(), reply.body.len()), (SIZE, 300_000));
    assert!(matches!(reply.error, Some(ErrorKind::WouldBlock | ErrorKind::TimedOut)));
}

#[test]
fn a_truncated_body_breaks_off_after_the_bytes_given() {
    for (after_bytes, sent) in [(0, 0), (1000, 1000), (262_144, 262_144), (SIZE * 2, WHOLE - 1)] {
        let (upstream, bottle) = broken(Fault::Truncate { after_bytes });
        let reply = fetch(&upstream, &bottle, &[]);
        assert_eq!((reply.status, reply.length(), reply.error), (200, SIZE, None));
        assert_eq!(reply.body, whole(&upstream, &bottle)[..sent]);
        assert_eq!(upstream.log().entries().pop().unwrap().bytes_sent, sent as u64);
    }
}

#[test]
fn a_truncated_range_breaks_off_within_the_range() {
    let (upstream, bottle) = broken(Fault::Truncate { after_bytes: 10 });
    let reply = fetch(&upstream, &bottle, &[("Range", "bytes=1000-1999")]);
    assert_eq!((reply.status, reply.length()), (206, 1000));
    assert_eq!(reply.body, whole(&upstream, &bottle)[1000..1010]);
}

#[test]
fn short_and_long_bodies_are_honest_about_their_length() {
    let (upstream, bottle) = broken(Fault::Short { bytes: 1234 });
    let reply = fetch(&upstream, &bottle, &[]);
    assert_eq!((reply.status, reply.length()), (200, 1234));
    assert_eq!(reply.body, whole(&upstream, &bottle)[..1234]);
    assert_eq!(fetch(&upstream, &bottle, &[("Range", "bytes=1234-")]).status, 416);

    upstream.faults().set("cdn:*", Fault::Long { extra: 70_000 }, Times::Always);
    let reply = fetch(&upstream, &bottle, &[]);
    assert_eq!((reply.length(), reply.body.len()), (SIZE + 70_000, WHOLE + 70_000));
    assert_eq!(reply.body[..WHOLE], whole(&upstream, &bottle));
}

#[test]
fn a_corrupt_body_differs_in_one_byte_in_the_middle() {
    let (upstream, bottle) = broken(Fault::Corrupt);
    let right = whole(&upstream, &bottle);
    let wrong = fetch(&upstream, &bottle, &[]).body;
    let differ: Vec<usize> = (0..WHOLE).filter(|&at| right[at] != wrong[at]).collect();
    assert_eq!((wrong.len(), differ), (WHOLE, vec![WHOLE / 2]));
    let wrong = fetch(&upstream, &bottle, &[("Range", "bytes=100-199")]).body;
    let differ: Vec<usize> = (0..100).filter(|&at| right[100 + at] != wrong[at]).collect();
    assert_eq!(differ, [50]);
}

#[test]
fn a_reset_gives_no_answer_at_all() {
    let (upstream, bottle) = broken(Fault::Reset);
    let reply = fetch(&upstream, &bottle, &[]);
    assert_eq!((reply.status, reply.body.len()), (0, 0));
    assert_eq!(reply.error, Some(ErrorKind::ConnectionReset));
    assert_eq!(upstream.log().entries().pop().unwrap().status, 0);
}

#[test]
fn ranges_are_ignored_refused_or_misnamed() {
    let range = [("Range", "bytes=100-199")];
    let (upstream, bottle) = broken(Fault::NoRange);
    let reply = fetch(&upstream, &bottle, &range);
    assert_eq!((reply.status, reply.body.len()), (200, WHOLE));

    let (upstream, bottle) = broken(Fault::RangeRefused);
    let reply = fetch(&upstream, &bottle, &range);
    assert_eq!((reply.status, reply.header("content-range")), (416, Some("bytes */600000")));
    assert_eq!(fetch(&upstream, &bottle, &[]).status, 200);

    let (upstream, bottle) = broken(Fault::WrongContentRange);
    let reply = fetch(&upstream, &bottle, &range);
    assert_eq!((reply.status, reply.body.len()), (206, 100));
    assert_eq!(reply.header("content-range"), Some("bytes 101-200/600001"));
}

#[test]
fn an_index_lacks_sizes_or_an_entry_or_is_no_json() {
    let upstream = start(Spec::uniform(1, 1, 10, &["arm64_tahoe", "x86_64_linux"]));
    let bottle = upstream.expected().remove(0);
    let set = |fault| upstream.faults().set("registry:*/manifests/*", fault, Times::First(1));

    set(Fault::MissingSize);
    let json = index(&upstream, &bottle).json();
    let annotations = &json["manifests"][0]["annotations"];
    assert!(annotations.get("sh.brew.bottle.size").is_none());
    assert!(annotations.get("sh.brew.bottle.digest").is_some());

    set(Fault::MissingEntry { tag: "arm64_tahoe".into() });
    let json = index(&upstream, &bottle).json();
    let names = json["manifests"].as_array().unwrap();
    assert_eq!(names.len(), 1);
    let name = &names[0]["annotations"]["org.opencontainers.image.ref.name"];
    assert_eq!(name, "1.0.0.x86_64_linux");

    set(Fault::Garbage);
    let reply = index(&upstream, &bottle);
    assert_eq!(reply.status, 200);
    assert!(reply.body.starts_with(b"<!DOCTYPE"));

    set(Fault::Truncate { after_bytes: 20 });
    let reply = index(&upstream, &bottle);
    assert_eq!((reply.body.len(), reply.length() > 1000), (20, true));
    assert_eq!(index(&upstream, &bottle).body, upstream.index_bytes("uniform-00001"));
}

#[test]
fn the_catalogue_breaks_too() {
    let upstream = start(Spec::uniform(1, 3, 10, &["all"]));
    let url = format!("{}/formula.json", upstream.api_url());
    let set = |fault| upstream.faults().set("api:/api/formula.json", fault, Times::First(1));
    set(Fault::Garbage);
    let reply = get(&url, &[("Accept-Encoding", "gzip")]);
    assert!(reply.body.starts_with(b"<!DOCTYPE"));
    assert_eq!((reply.header("content-encoding"), reply.header("etag")), (None, None));
    set(Fault::Truncate { after_bytes: 100 });
    assert_eq!(get(&url, &[]).body.len(), 100);
    set(Fault::Status { code: 500, retry_after: None });
    assert_eq!(get(&url, &[]).status, 500);
    assert_eq!(get(&url, &[]).json().as_array().unwrap().len(), 3);
}

#[test]
fn a_delay_comes_before_the_answer_and_a_redirect_in_its_place() {
    let (upstream, bottle) = broken(Fault::Delay(Duration::from_millis(150)));
    let begun = Instant::now();
    assert_eq!(sha256(&fetch(&upstream, &bottle, &[]).body), bottle.digest);
    assert!(begun.elapsed() >= Duration::from_millis(150));

    let elsewhere = "http://evil.example/blob".to_owned();
    upstream.faults().set("registry:*/blobs/*", Fault::RedirectTo(elsewhere.clone()), Times::Always);
    assert_eq!(signed_url(&upstream, &bottle), elsewhere);
}

#[test]
fn a_pattern_by_digest_acts_where_there_is_a_body() {
    let (upstream, bottle) = broken(Fault::NoRange);
    let pattern = format!("*sha256:{}", bottle.digest);
    upstream.faults().set(&pattern, Fault::Truncate { after_bytes: 5 }, Times::First(1));
    assert_eq!(fetch(&upstream, &bottle, &[]).body.len(), 5);
    assert_eq!(fetch(&upstream, &bottle, &[]).body.len(), WHOLE);
}

#[test]
fn planted_bottles_fail_until_they_are_mended() {
    let upstream = start(Spec::demo(1));
    let planted = Spec::demo_planted();
    let find = |(formula, tag): &(String, String)| {
        let mut all = upstream.expected().into_iter();
        all.find(|one| one.formula == *formula && one.tag == *tag).unwrap()
    };
    let Planted { wrong_hash, not_found } = &planted;
    let (wrong_hash, not_found) = (find(wrong_hash), find(not_found));
    upstream.plant(&planted);
    let body = fetch(&upstream, &wrong_hash, &[]).body;
    assert_eq!(body.len() as u64, wrong_hash.size);
    assert_ne!(sha256(&body), wrong_hash.digest);
    let ask = || get(&blob_url(&upstream, &not_found), &[("Authorization", ANONYMOUS)]).status;
    assert_eq!(ask(), 404);
    assert_eq!(index(&upstream, &not_found).status, 200);

    upstream.faults().set("api:*", Fault::Reset, Times::Always);
    upstream.mend();
    assert_eq!(sha256(&fetch(&upstream, &wrong_hash, &[]).body), wrong_hash.digest);
    assert_eq!(ask(), 307);
    assert_eq!(get(&format!("{}/formula.json", upstream.api_url()), &[]).status, 0);
}

#[test]
fn another_process_can_set_faults_and_read_the_log() {
    let upstream = start(Spec::uniform(1, 1, 10, &["all"]));
    let control = upstream.api_url().replace("/api", "/_testbed");
    let bottle = upstream.expected().remove(0);
    let rule = json!({
        "pattern": "cdn:*",
        "fault": {"status": {"code": 429, "retry_after": "1"}},
        "times": {"first": 1},
    });
    assert_eq!(send("POST", &format!("{control}/faults"), &[], &rule.to_string()).status, 200);
    assert_eq!(fetch(&upstream, &bottle, &[]).status, 429);
    assert_eq!(fetch(&upstream, &bottle, &[]).status, 200);
    let always = json!({"pattern": "cdn:*", "fault": "reset"});
    assert_eq!(send("POST", &format!("{control}/faults"), &[], &always.to_string()).status, 200);
    assert_eq!(fetch(&upstream, &bottle, &[]).status, 0);
    assert_eq!(send("DELETE", &format!("{control}/faults"), &[], "").status, 200);
    assert_eq!(fetch(&upstream, &bottle, &[]).status, 200);
    let bad = send("POST", &format!("{control}/faults"), &[], r#"{"pattern": "*", "fault": "x"}"#);
    assert_eq!(bad.status, 400);

    let log = get(&format!("{control}/log"), &[]).json();
    let entries = log["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 8);
    assert_eq!((&entries[1]["server"], &entries[1]["status"]), (&json!("cdn"), &json!(429)));
    let expected = get(&format!("{control}/expected"), &[]).json();
    assert_eq!(expected, json!(upstream.expected()));
    assert_eq!(get(&format!("{control}/nothing"), &[]).status, 404);
}
