//! One bad bottle harms only itself, and can be looked at, sent back and dropped.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use serde_json::{Value, json};
use testbed::{ExpectedBottle, Fault, Spec, Times};

use crate::harness::{Mirror, list, number, text};

fn is_bad(bottle: &ExpectedBottle) -> bool {
    let planted = Spec::demo_planted();
    let this = (bottle.formula.clone(), bottle.tag.clone());
    this == planted.wrong_hash || this == planted.not_found
}

/// A mirror that two bad bottles are missing from.
fn with_two_bad() -> Mirror {
    let mirror = Mirror::of(Spec::demo(1));
    mirror.upstream.plant(&Spec::demo_planted());
    mirror.sync(3, &[]);
    mirror
}

/// `formula reason` of each letter.
fn letters(answer: &Value) -> Vec<String> {
    let mut letters: Vec<_> = list(answer, "/letters")
        .iter()
        .map(|letter| format!("{} {}", letter["formula"].as_str().unwrap_or("?"), text(letter, "/reason")))
        .collect();
    letters.sort();
    letters
}

#[test]
fn one_bad_bottle_harms_no_other() {
    let mirror = with_two_bad();
    mirror.check_holds(|bottle| !is_bad(bottle));
    mirror.check_no_leftovers();
    let status = mirror.run(&["status", "--json"]).expect(3).json();
    assert_eq!(number(&status, "/dead_letters"), 2);
    assert_eq!(number(&status, "/held/bottles"), mirror.distinct_keys() as u64 - 2);
    assert_eq!(number(&status, "/queued/bottles"), 0);
    assert_eq!(
        status.pointer("/last_run/outcome/reasons").unwrap(),
        &json!({"not-found": 1, "wrong-digest": 1})
    );
}

#[test]
fn dead_letters_are_listed_with_reason_attempts_and_time() {
    let mirror = with_two_bad();
    let answer = mirror.run(&["dead-letters", "list", "--json"]).expect(3).json();
    assert_eq!(letters(&answer), ["oniguruma not-found", "tree wrong-digest"]);
    for letter in list(&answer, "/letters") {
        assert!(number(letter, "/attempts") >= 1);
        assert_eq!(letter["tags"], json!(["x86_64_linux"]));
        let ago = Timestamp::now().duration_since(text(letter, "/at").parse().unwrap());
        assert!(!ago.is_negative() && ago.as_mins() < 10, "{ago:?}");
        let digest = text(letter, "/digest");
        assert!(text(letter, "/detail").contains(digest), "{letter:#}");
    }
    // Looking changes nothing.
    assert_eq!(mirror.json(&["dead-letters", "list"]), answer);

    let people = mirror.run(&["dead-letters", "list"]).expect(3).stdout;
    for word in ["oniguruma 6.9.10 x86_64_linux", "not-found", "wrong-digest", "1 attempt", "2 dead letters"]
    {
        assert!(people.contains(word), "no {word:?} in {people}");
    }
}

#[test]
fn dead_letters_are_chosen_by_formula_and_reason() {
    let mirror = with_two_bad();
    let chosen = |args: &[&str]| {
        let mut all = vec!["dead-letters", "list"];
        all.extend_from_slice(args);
        let answer = mirror.json(&all);
        assert_eq!(number(&answer, "/remaining"), 2, "those not chosen are not forgotten");
        letters(&answer)
    };
    assert_eq!(chosen(&["--reason", "not-found"]), ["oniguruma not-found"]);
    assert_eq!(chosen(&["--reason", "not-found", "--reason", "wrong-digest"]).len(), 2);
    assert_eq!(chosen(&["--formula", "tr*"]), ["tree wrong-digest"]);
    assert!(chosen(&["--formula", "tree", "--reason", "not-found"]).is_empty());
    assert!(chosen(&["--reason", "crashed"]).is_empty());
}

#[test]
fn a_replayed_dead_letter_is_fetched_by_the_next_sync() {
    let mirror = with_two_bad();
    mirror.upstream.mend();

    // Only the one that was chosen.
    let answer = mirror.run(&["dead-letters", "replay", "--formula", "tree", "--json"]).expect(3).json();
    assert_eq!((letters(&answer), number(&answer, "/remaining")), (vec!["tree wrong-digest".to_owned()], 1));
    mirror.upstream.log().clear();
    mirror.sync(3, &[]);
    assert_eq!((mirror.fetches(), mirror.index_requests()), (1, 0));
    mirror.check_holds(|bottle| !(is_bad(bottle) && bottle.formula == "oniguruma"));

    mirror.run(&["dead-letters", "replay"]).expect(0);
    mirror.sync(0, &[]);
    mirror.check_equals_upstream();
    let status = mirror.run(&["status", "--json"]).expect(0).json();
    assert_eq!(number(&status, "/held/bottles"), mirror.distinct_keys() as u64);
    assert!(mirror.run(&["dead-letters", "list"]).expect(0).stdout.contains("no dead letters"));
}

#[test]
fn a_replayed_dead_letter_that_is_still_bad_comes_back() {
    let mirror = with_two_bad();
    mirror.run(&["dead-letters", "replay"]).expect(0);
    // They are no dead letters now, and are on their way to the client that waits for them.
    let status = mirror.run(&["status", "--json"]).expect(0).json();
    assert_eq!(number(&status, "/dead_letters"), 0);
    assert_eq!(number(&status, "/lanes/0/work/visible"), 2);
    mirror.sync(3, &[]);
    let answer = mirror.json(&["dead-letters", "list"]);
    assert_eq!(letters(&answer), ["oniguruma not-found", "tree wrong-digest"]);
    mirror.check_holds(|bottle| !is_bad(bottle));
}

#[test]
fn a_dropped_dead_letter_is_planned_anew() {
    let mirror = with_two_bad();
    let answer = mirror.run(&["dead-letters", "drop", "--reason", "not-found", "--json"]).expect(3).json();
    assert_eq!(letters(&answer), ["oniguruma not-found"]);
    let report = mirror.sync(3, &[]);
    assert_eq!(number(&report, "/plan/small/bottles"), 1);
    assert_eq!(number(&report, "/plan/dead"), 1);
    assert_eq!(letters(&mirror.json(&["dead-letters", "list"])).len(), 2);

    mirror.upstream.mend();
    mirror.run(&["dead-letters", "drop"]).expect(0);
    let report = mirror.sync(0, &[]);
    assert_eq!(number(&report, "/plan/small/bottles"), 2);
    mirror.check_equals_upstream();
}

#[test]
fn a_bottle_on_a_host_that_is_not_allowed_is_dead_lettered() {
    let mirror = Mirror::of(Spec::uniform(2, 3, 5_000, &["x86_64_linux"]));
    let bad = &mirror.upstream.expected()[1];
    let elsewhere = Fault::RedirectTo("http://127.0.0.1:9/blob?sig=abc".to_owned());
    mirror.upstream.faults().set(&format!("registry:*{}", bad.digest), elsewhere, Times::Always);
    mirror.sync(3, &[]);
    let answer = mirror.json(&["dead-letters", "list"]);
    assert_eq!(letters(&answer), ["uniform-00002 host-not-allowed"]);
    let detail = text(&answer, "/letters/0/detail");
    assert!(detail.contains("--allow-host") && detail.contains("127.0.0.1:9"), "{detail}");
    mirror.check_holds(|bottle| bottle.digest != bad.digest);
}

#[test]
fn a_warning_says_which_bottle_it_is_about() {
    let mirror = Mirror::of(Spec::uniform(2, 3, 5_000, &["x86_64_linux"]));
    let bad = &mirror.upstream.expected()[1];
    let elsewhere = Fault::RedirectTo("http://127.0.0.1:9/blob".to_owned());
    mirror.upstream.faults().set(&format!("registry:*{}", bad.digest), elsewhere, Times::Always);
    // As it is logged where nobody asked for more.
    let output = mirror.run(&["sync"]).expect(3);
    let named = output.stderr.contains(&bad.formula) || output.stderr.contains(&bad.digest);
    assert!(named, "{output}");
}

#[test]
fn a_message_that_is_none_of_ours_is_dead_lettered_alone() {
    let mirror = Mirror::of(Spec::demo(1));
    // Makes the queue, with nothing on it yet but what is put there now.
    mirror.sync(0, &["--formula", "tree"]);
    let newer = json!({"version": 999, "anything": "else"}).to_string();
    put(&mirror, "small", "no JSON at all");
    put(&mirror, "small", &newer);
    put(&mirror, "large", "");

    let report = mirror.sync(3, &[]);
    assert_eq!(number(&report, "/dead_letters"), 3);
    mirror.check_equals_upstream();
    let answer = mirror.json(&["dead-letters", "list"]);
    assert_eq!(letters(&answer), ["? malformed-message", "? malformed-message", "? unknown-version"]);
    let bodies: Vec<_> = list(&answer, "/letters").iter().map(|letter| text(letter, "/body")).collect();
    assert!(bodies.contains(&"no JSON at all") && bodies.contains(&newer.as_str()), "{bodies:?}");

    mirror.run(&["dead-letters", "drop", "--reason", "malformed-message"]).expect(3);
    mirror.run(&["dead-letters", "drop", "--reason", "unknown-version"]).expect(0);
    mirror.sync(0, &[]);
}

#[test]
fn a_message_that_was_in_hand_at_too_many_deaths_is_set_aside() {
    let mirror = Mirror::of(Spec::uniform(2, 3, 5_000, &["x86_64_linux"]));
    mirror.upstream.faults().set("cdn:*", Fault::Delay(Duration::from_secs(20)), Times::Always);
    let mut sync = mirror.start(&["sync"]);
    sync.until("all bottles were asked for", || mirror.upstream.log().count("cdn:*") == 3);
    assert!(sync.kill());
    mirror.upstream.faults().clear();
    let bad = mirror.upstream.expected().remove(0);
    let like = format!("%{}%", bad.digest);
    let changed =
        queue(&mirror).execute("UPDATE messages SET crashes = 1000 WHERE body LIKE ?1", [&like]).unwrap();
    assert_eq!(changed, 1);

    mirror.sync(3, &[]);
    mirror.check_holds(|bottle| bottle.digest != bad.digest);
    let answer = mirror.json(&["dead-letters", "list"]);
    assert_eq!(letters(&answer), ["uniform-00001 crashed"]);
    assert!(number(&answer, "/letters/0/attempts") >= 1, "{answer:#}");
    assert_eq!(mirror.json(&["dead-letters", "list"]), answer, "looking changes nothing");
}

fn queue(mirror: &Mirror) -> Connection {
    Connection::open(mirror.path("_sync/queue.sqlite")).unwrap()
}

fn put(mirror: &Mirror, name: &str, body: &str) {
    const SEND: &str = "INSERT INTO messages (queue, body, attributes, sent_at, visible_at)
                        VALUES (?1, ?2, '{}', ?3, ?3)";
    let now = Timestamp::now().as_millisecond();
    queue(mirror).execute(SEND, (name, body, now)).unwrap();
}
