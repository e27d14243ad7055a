//! Rule 4: one bad bottle harms only itself.

use common::dead_letter::{Deed, Reason};
use common::message::Lane;
use common::queue::Outgoing;
use testbed::{Fault, Spec, Times};

use crate::fixture::Fixture;

fn five() -> Spec {
    Spec::uniform(3, 5, 10_000, &["x86_64_linux"])
}

/// With one bottle struck by a fault on the registry, all others are mirrored,
/// and its reason is told.
async fn only_itself(pattern: &str, fault: Fault, reason: Reason, attempts: u32) {
    let fixture = Fixture::new(five()).await;
    let bad = fixture.testbed.expected().remove(2);
    fixture.testbed.faults().set(&pattern.replace("DIGEST", &bad.digest), fault.clone(), Times::Always);
    let (_, done, settled) = fixture.sync().await;
    assert_eq!(done.fetched.bottles, 4, "{fault:?}");
    fixture.assert_whole(&[&bad.digest]).await;

    let letters = fixture.letters().await;
    assert_eq!(letters.len(), 1, "{fault:?}");
    let failure = &letters[0].letter.failure;
    assert_eq!((failure.reason, failure.attempts), (reason, attempts), "{fault:?}: {}", failure.detail);
    assert_eq!(letters[0].letter.message.as_ref().unwrap().digest.to_string(), bad.digest);
    assert!(!failure.detail.contains("sig="), "a signature is in {:?}", failure.detail);
    let outcome = settled.settled[0].outcome.as_ref().unwrap();
    assert_eq!((outcome.held.bottles, outcome.dead, outcome.reasons[&reason]), (4, 1, 1));

    // It stays where it is until someone acts; nobody asks for it again.
    let again = fixture.plan().await;
    assert_eq!(again.total().bottles, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_permanent_failure_is_dead_lettered_at_once_with_its_reason() {
    let status = |code| Fault::Status { code, retry_after: None };
    only_itself("registry:*DIGEST", status(404), Reason::NotFound, 1).await;
    only_itself("registry:*DIGEST", status(410), Reason::NotFound, 1).await;
    only_itself("cdn:*DIGEST", status(404), Reason::NotFound, 1).await;
    only_itself("registry:*DIGEST", status(403), Reason::Unauthorized, 1).await;
    only_itself("cdn:*DIGEST", Fault::Corrupt, Reason::WrongDigest, 1).await;
    let evil = Fault::RedirectTo("http://127.0.0.1:9/evil".to_owned());
    only_itself("registry:*DIGEST", evil, Reason::HostNotAllowed, 1).await;
    let evil = Fault::RedirectTo("http://169.254.169.254/latest/meta-data".to_owned());
    only_itself("registry:*DIGEST", evil, Reason::HostNotAllowed, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_passing_failure_is_dead_lettered_only_after_the_last_delivery() {
    only_itself("cdn:*DIGEST", Fault::Status { code: 503, retry_after: None }, Reason::UpstreamFailing, 3)
        .await;
    only_itself("cdn:*DIGEST", Fault::Reset, Reason::UpstreamUnreachable, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_makes_no_sense_is_dead_lettered_alone() {
    let fixture = Fixture::new(five()).await;
    fixture.plan().await;
    let queue = &fixture.queues[&Lane::Small].0;
    let bodies = [" ", "not json", "{\"version\":1}", "{\"version\":99,\"digest\":\"?\"}"];
    queue.send(&bodies.map(|body| Outgoing::new(body.to_owned()))).await.unwrap();
    let done = fixture.drain().await;
    fixture.settle().await;
    assert_eq!(
        (done.fetched.bottles, done.dead[&Reason::MalformedMessage], done.dead[&Reason::UnknownVersion]),
        (5, 3, 1)
    );
    fixture.assert_whole(&[]).await;
    let letters = fixture.letters().await;
    assert!(bodies.iter().all(|body| letters.iter().any(|letter| letter.letter.body == *body)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_letter_is_mirrored_and_a_dropped_one_planned_anew() {
    let fixture = Fixture::new(five()).await;
    let bad: Vec<_> = fixture.testbed.expected().into_iter().take(2).collect();
    for bottle in &bad {
        let missing = Fault::Status { code: 404, retry_after: None };
        fixture.testbed.faults().set(&format!("*{}", bottle.digest), missing, Times::Always);
    }
    fixture.sync().await;
    assert_eq!(fixture.letters().await.len(), 2);
    // A look changes nothing.
    assert_eq!(fixture.letters().await.len(), 2);

    fixture.testbed.faults().clear();
    let is = |formula: String| {
        move |letter: &common::dead_letter::Letter| {
            letter.letter.message.as_ref().unwrap().formula.as_str() == formula
        }
    };
    let desk = fixture.desk();
    assert_eq!(desk.go_through(Deed::Replay, is(bad[0].formula.clone())).await.unwrap().letters.len(), 1);
    assert_eq!(desk.go_through(Deed::Drop, is(bad[1].formula.clone())).await.unwrap().letters.len(), 1);
    assert!(fixture.letters().await.is_empty());

    fixture.settle().await;
    let plan = fixture.plan().await;
    assert_eq!(
        (plan.total().bottles, plan.queued),
        (1, 1),
        "the dropped one anew, the replayed one on its way"
    );
    assert_eq!(fixture.drain().await.fetched.bottles, 2);
    fixture.settle().await;
    fixture.assert_whole(&[]).await;
}
