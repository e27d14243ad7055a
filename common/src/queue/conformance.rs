//! What every queue must do, whichever adapter it is.

use std::time::Duration;

use super::{Delivery, Handle, Outgoing, Queue};

/// The receive limit that the queue under test is set up with.
pub(super) const MOST_RECEIVES: u32 = 3;

/// A queue and its dead-letter queue.
pub(super) struct Pair<'a> {
    /// The queue under test, empty.
    pub(super) main: &'a dyn Queue,
    /// Where it sends what was received [`MOST_RECEIVES`] times; empty.
    pub(super) dead: &'a dyn Queue,
    /// Lets time pass: moves a clock, or sleeps.
    pub(super) pass: Box<dyn Fn(Duration) + Send + Sync + 'a>,
}

const SECOND: Duration = Duration::from_secs(1);

/// Short enough to be slept through, and whole seconds, as SQS counts.
const VISIBILITY: Duration = Duration::from_secs(4);

/// Runs the suite; panics where the contract is broken.
pub(super) async fn run(pair: &Pair<'_>) {
    what_is_sent_arrives_with_its_attributes(pair).await;
    a_received_message_is_hidden_until_its_time_is_up(pair).await;
    extending_counts_from_now(pair).await;
    releasing_makes_visible_at_once_or_after_the_delay(pair).await;
    a_stale_handle_is_no_error_and_does_nothing(pair).await;
    nothing_is_asked_for_nothing(pair).await;
    what_is_received_too_often_goes_to_the_dead_letter_queue(pair).await;
}

async fn what_is_sent_arrives_with_its_attributes(pair: &Pair<'_>) {
    let mut messages: Vec<_> = (0..25).map(|n| Outgoing::new(format!("{{\"n\":{n}}}"))).collect();
    messages[3].attributes.insert("reason".to_owned(), "wrong-digest \u{2014} \"quoted\"".to_owned());
    pair.main.send(&messages).await.unwrap();
    let mut received = Vec::new();
    while received.len() < 25 {
        let batch = receive(pair, 10).await;
        assert!(!batch.is_empty() && batch.len() <= 10, "{} of 25 arrived", received.len());
        received.extend(batch);
    }
    for sent in &messages {
        let found = received.iter().find(|delivery| delivery.body == sent.body).expect("a message is lost");
        assert_eq!(found.attributes, sent.attributes);
        assert_eq!(found.receives, 1);
    }
    let depth = pair.main.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 25));
    acknowledge(pair, &received).await;
    assert_eq!(pair.main.depth().await.unwrap().total(), 0);
}

async fn a_received_message_is_hidden_until_its_time_is_up(pair: &Pair<'_>) {
    send(pair, "hidden").await;
    let first = receive(pair, 1).await;
    assert_eq!(first.len(), 1);
    assert!(receive(pair, 1).await.is_empty(), "a hidden message was delivered");
    (pair.pass)(VISIBILITY + SECOND);
    let second = receive(pair, 1).await;
    assert_eq!(second.len(), 1, "the queue does not deliver again");
    assert_eq!((second[0].receives, &second[0].body), (2, &first[0].body));
    assert_ne!(second[0].handle, first[0].handle);
    acknowledge(pair, &second).await;
}

async fn extending_counts_from_now(pair: &Pair<'_>) {
    send(pair, "extended").await;
    let first = receive(pair, 1).await;
    (pair.pass)(VISIBILITY.checked_sub(SECOND).unwrap());
    pair.main.extend(&handles(&first), VISIBILITY).await.unwrap();
    (pair.pass)(VISIBILITY.checked_sub(SECOND).unwrap());
    assert!(receive(pair, 1).await.is_empty(), "an extended message was delivered");
    (pair.pass)(SECOND * 2);
    let second = receive(pair, 1).await;
    assert_eq!(second.len(), 1);
    acknowledge(pair, &second).await;
}

async fn releasing_makes_visible_at_once_or_after_the_delay(pair: &Pair<'_>) {
    send(pair, "released").await;
    let first = receive(pair, 1).await;
    pair.main.release(&handles(&first), Duration::ZERO).await.unwrap();
    let second = receive(pair, 1).await;
    assert_eq!(second.len(), 1, "a released message was not delivered");
    pair.main.release(&handles(&second), SECOND * 2).await.unwrap();
    assert!(receive(pair, 1).await.is_empty(), "a delayed message was delivered");
    (pair.pass)(SECOND * 3);
    let third = receive(pair, 1).await;
    assert_eq!(third.len(), 1, "a delayed message was not delivered");
    acknowledge(pair, &third).await;
}

async fn a_stale_handle_is_no_error_and_does_nothing(pair: &Pair<'_>) {
    send(pair, "stale").await;
    let first = receive(pair, 1).await;
    (pair.pass)(VISIBILITY + SECOND);
    let second = receive(pair, 1).await;
    assert_eq!(second.len(), 1);
    // The first receiver wakes up late. The message is another's now.
    pair.main.extend(&handles(&first), SECOND).await.unwrap();
    pair.main.release(&handles(&first), Duration::ZERO).await.unwrap();
    pair.main.acknowledge(&handles(&first)).await.unwrap();
    assert_eq!(pair.main.depth().await.unwrap().total(), 1, "a stale handle removed a message");
    acknowledge(pair, &second).await;
    pair.main.acknowledge(&handles(&second)).await.unwrap();
}

async fn nothing_is_asked_for_nothing(pair: &Pair<'_>) {
    pair.main.send(&[]).await.unwrap();
    pair.main.extend(&[], VISIBILITY).await.unwrap();
    pair.main.acknowledge(&[]).await.unwrap();
    send(pair, "kept").await;
    assert!(receive(pair, 0).await.is_empty());
    let kept = receive(pair, 1).await;
    assert_eq!(kept[0].receives, 1);
    acknowledge(pair, &kept).await;
}

async fn what_is_received_too_often_goes_to_the_dead_letter_queue(pair: &Pair<'_>) {
    send(pair, "poison").await;
    for _ in 0..MOST_RECEIVES {
        assert_eq!(receive(pair, 1).await.len(), 1);
        (pair.pass)(VISIBILITY + SECOND);
    }
    assert!(receive(pair, 1).await.is_empty(), "it was delivered once too often");
    let dead = pair.dead.receive(1, VISIBILITY, Duration::ZERO).await.unwrap();
    assert_eq!(dead.len(), 1, "it is in neither queue");
    assert_eq!(dead[0].body, "poison");
    pair.dead.acknowledge(&handles(&dead)).await.unwrap();
}

async fn send(pair: &Pair<'_>, body: &str) {
    pair.main.send(&[Outgoing::new(body.to_owned())]).await.unwrap();
}

async fn receive(pair: &Pair<'_>, max: usize) -> Vec<Delivery> {
    pair.main.receive(max, VISIBILITY, Duration::ZERO).await.unwrap()
}

async fn acknowledge(pair: &Pair<'_>, deliveries: &[Delivery]) {
    pair.main.acknowledge(&handles(deliveries)).await.unwrap();
}

fn handles(deliveries: &[Delivery]) -> Vec<Handle> {
    deliveries.iter().map(|delivery| delivery.handle.clone()).collect()
}
