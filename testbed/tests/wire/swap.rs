//! Publications between two of a client's requests.

use std::thread;

use testbed::{Fault, Spec, Times, Upstream};

use crate::client::*;

/// `formulae` tells one spec from another.
fn spec(formulae: usize) -> Spec {
    Spec::uniform(1, formulae, 100, &["x86_64_linux"])
}

/// The number of formulae that the catalogue has now.
fn count(upstream: &Upstream) -> usize {
    get(&format!("{}/formula.json", upstream.api_url()), &[]).json().as_array().unwrap().len()
}

fn casks(upstream: &Upstream) -> u16 {
    get(&format!("{}/cask.jws.json", upstream.api_url()), &[]).status
}

#[test]
fn a_spec_is_published_after_so_many_matching_answers() {
    let upstream = start(spec(1));
    upstream.replace_after("api:/api/cask.jws.json", 2, spec(3));
    let before = get(&format!("{}/formula.json", upstream.api_url()), &[]);
    casks(&upstream);
    assert_eq!((count(&upstream), upstream.expected().len()), (1, 1));
    casks(&upstream);
    assert_eq!((count(&upstream), upstream.expected().len()), (3, 3));
    casks(&upstream);
    assert_eq!(count(&upstream), 3);
    let after = get(&format!("{}/formula.json", upstream.api_url()), &[]);
    for name in ["etag", "last-modified"] {
        assert_ne!(before.header(name), after.header(name), "{name}");
    }
}

#[test]
fn the_answer_that_is_waited_for_is_still_of_the_old_spec() {
    let upstream = start(spec(1));
    upstream.replace_after("api:*", 1, spec(2));
    assert_eq!(count(&upstream), 1);
    assert_eq!(count(&upstream), 2);
}

#[test]
fn the_next_request_meets_the_new_spec_on_whichever_server() {
    let upstream = start(spec(1));
    let next = start(spec(2)).expected().remove(1);
    assert_eq!(index(&upstream, &next).status, 404);
    upstream.replace_after("api:/api/formula.json", 1, spec(2));
    assert_eq!(index(&upstream, &next).status, 404);
    count(&upstream);
    assert_eq!(index(&upstream, &next).status, 200);
}

#[test]
fn several_specs_wait_each_for_its_own_answers() {
    let upstream = start(spec(1));
    upstream.replace_after("api:/api/formula.json", 1, spec(2));
    upstream.replace_after("api:/api/formula.json", 3, spec(4));
    upstream.replace_after("api:/api/cask.jws.json", 1, spec(7));
    assert_eq!([count(&upstream), count(&upstream), count(&upstream), count(&upstream)], [1, 2, 2, 4]);
    casks(&upstream);
    assert_eq!(count(&upstream), 7);

    upstream.replace_after("api:*", 1, spec(8));
    upstream.replace_after("api:/api/formula.json", 1, spec(9));
    assert_eq!([count(&upstream), count(&upstream)], [7, 9]);
    upstream.replace_after("api:*", 0, spec(5));
    assert_eq!(count(&upstream), 5);
}

#[test]
fn failures_and_304_are_answers_and_resets_are_not() {
    let upstream = start(spec(1));
    let url = format!("{}/formula.json", upstream.api_url());
    let etag = get(&url, &[]).header("etag").unwrap().to_owned();
    upstream.replace_after("api:/api/formula.json", 2, spec(2));
    upstream.faults().set("api:*", Fault::Status { code: 500, retry_after: None }, Times::First(1));
    assert_eq!(get(&url, &[]).status, 500);
    upstream.faults().set("api:*", Fault::Reset, Times::First(1));
    assert_eq!(get(&url, &[]).status, 0);
    assert_eq!(get(&url, &[("If-None-Match", &etag)]).status, 304);
    assert_eq!(get(&url, &[("If-None-Match", &etag)]).status, 200);
}

#[test]
fn an_answer_on_its_way_stays_as_it_was() {
    let upstream = start(Spec::uniform(1, 1, 600_000, &["x86_64_linux"]));
    let old = upstream.expected().remove(0);
    let signed = signed_url(&upstream, &old);
    upstream.replace_after("cdn:*", 1, Spec::uniform(2, 1, 600_000, &["x86_64_linux"]));
    assert_eq!(sha256(&get(&signed, &[]).body), old.digest);
    assert_ne!(upstream.expected()[0].digest, old.digest);
}

#[test]
fn clients_at_one_time_each_get_one_spec_or_the_other() {
    let upstream = start(spec(1));
    for next in 2..20 {
        upstream.replace_after("api:/api/formula.json", next - 1, spec(next));
    }
    let seen = thread::scope(|scope| {
        let clients: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..10).map(|_| count(&upstream)).collect::<Vec<_>>())).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    // The answer after which a spec comes was given: no client sees an older one later.
    for client in &seen {
        assert!(client.is_sorted(), "{client:?}");
    }
    assert_eq!(count(&upstream), 19);
}
