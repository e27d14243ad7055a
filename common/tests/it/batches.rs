//! One batch that someone else received and acknowledges, as Lambda does.

use std::sync::Arc;
use std::time::Duration;

use common::bottle::ObjectKey;
use common::dead_letter::Reason;
use common::message::Lane;
use common::queue::{Delivery, Handle, Outgoing};
use common::store::StoreError;
use futures_util::future::BoxFuture;
use testbed::{Fault, Spec, Times};
use tokio_util::sync::CancellationToken;

use crate::fixture::Fixture;
use crate::flaky::HookedStore;

impl Fixture {
    /// Everything on the small queue, as Lambda's poller receives it.
    async fn batch(&self) -> Vec<Delivery> {
        let queue = &self.queues[&Lane::Small].0;
        let mut batch = Vec::new();
        loop {
            let more = queue.receive(10, Duration::from_mins(5), Duration::ZERO).await.unwrap();
            if more.is_empty() {
                return batch;
            }
            batch.extend(more);
        }
    }

    /// What Lambda does with a batch's answer: removes what is not returned.
    async fn remove_but(&self, batch: &[Delivery], returned: &[Handle]) {
        let done: Vec<_> = batch
            .iter()
            .map(|delivery| delivery.handle.clone())
            .filter(|handle| !returned.contains(handle))
            .collect();
        self.queues[&Lane::Small].0.acknowledge(&done).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_failed_is_returned_and_nothing_else() {
    let fixture = Fixture::new(Spec::uniform(1, 6, 5_000, &["all"])).await;
    let failing = fixture.testbed.expected()[2].clone();
    let always = Fault::Status { code: 503, retry_after: None };
    fixture.testbed.faults().set(&format!("cdn:*{}", failing.digest), always, Times::Always);
    fixture.plan().await;
    fixture.queues[&Lane::Small].0.send(&[Outgoing::new("no message".to_owned())]).await.unwrap();
    let batch = fixture.batch().await;
    assert_eq!(batch.len(), 7);

    let worker = fixture.worker(Lane::Small);
    let returned = worker.work_on(batch.clone(), &CancellationToken::new()).await.unwrap();
    let bodies: Vec<_> = batch.iter().filter(|delivery| returned.contains(&delivery.handle)).collect();
    assert_eq!(bodies.len(), 1);
    assert!(bodies[0].body.contains(&failing.digest));
    // It left the acknowledging to Lambda.
    assert_eq!(fixture.queues[&Lane::Small].0.depth().await.unwrap().total(), 7);
    fixture.remove_but(&batch, &returned).await;

    // One receipt for the whole batch.
    assert_eq!(fixture.store.list("_sync/receipts/", None, 10).await.unwrap().len(), 1);
    let letters = fixture.letters().await;
    assert_eq!(
        letters.iter().map(|letter| letter.letter.failure.reason).collect::<Vec<_>>(),
        [Reason::MalformedMessage]
    );

    fixture.testbed.faults().clear();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let batch = fixture.batch().await;
    assert_eq!(batch.len(), 1, "the failed one waits its own time, not the queue's");
    let returned = worker.work_on(batch.clone(), &CancellationToken::new()).await.unwrap();
    assert!(returned.is_empty());
    fixture.remove_but(&batch, &returned).await;
    fixture.settle().await;
    fixture.assert_whole(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_into_the_time_comes_back_at_once() {
    let fixture = Fixture::new(Spec::uniform(1, 6, 5_000, &["all"])).await;
    fixture.plan().await;
    let slow = fixture.testbed.expected()[0].digest.clone();
    fixture.testbed.faults().set(
        &format!("cdn:*{slow}"),
        Fault::Delay(Duration::from_secs(20)),
        Times::Always,
    );
    let batch = fixture.batch().await;
    let stop = CancellationToken::new();
    let mut worker = fixture.worker(Lane::Small);
    worker.settings.concurrency = 2;
    let guard = async {
        // The slow one holds one of both places; the others go by.
        while worker.progress.now() == common::worker::Done::default()
            && fixture.testbed.log().count("cdn:*") < 6
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stop.cancel();
    };
    let begun = std::time::Instant::now();
    let (returned, ()) = tokio::join!(worker.work_on(batch.clone(), &stop), guard);
    assert!(begun.elapsed() < Duration::from_secs(15), "it waited for the slow one");
    let returned = returned.unwrap();
    assert!(!returned.is_empty());
    fixture.remove_but(&batch, &returned).await;
    assert_eq!(fixture.queues[&Lane::Small].0.depth().await.unwrap().visible, returned.len() as u64);
    fixture.testbed.faults().clear();
    fixture.drain().await;
    fixture.settle().await;
    fixture.assert_whole(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_one_bottle_fails_it_alone() {
    let mut fixture = Fixture::new(Spec::uniform(1, 5, 5_000, &["all"])).await;
    fixture.plan().await;
    let cursed = fixture.expected().into_keys().next().unwrap();
    let sound = Arc::clone(&fixture.store);
    let panics = cursed.clone();
    let before_put = move |key: ObjectKey| -> BoxFuture<'static, Result<(), StoreError>> {
        assert!(key.as_str() != panics, "a defect");
        Box::pin(std::future::ready(Ok(())))
    };
    fixture.store = Arc::new(HookedStore::before_put(Arc::clone(&sound), before_put));
    let batch = fixture.batch().await;
    let returned =
        fixture.worker(Lane::Small).work_on(batch.clone(), &CancellationToken::new()).await.unwrap();
    assert_eq!(returned.len(), 1);
    fixture.remove_but(&batch, &returned).await;
    fixture.store = sound;
    assert_eq!(fixture.settle().await.remaining, 1);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    fixture.drain().await;
    fixture.settle().await;
    fixture.assert_whole(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_takes_nothing_fails_the_whole_batch_and_loses_nothing() {
    let mut fixture = Fixture::new(Spec::uniform(1, 3, 5_000, &["all"])).await;
    fixture.plan().await;
    let sound = Arc::clone(&fixture.store);
    let denied = |key: ObjectKey| -> BoxFuture<'static, Result<(), StoreError>> {
        let cause = "AccessDenied".to_owned();
        let error = StoreError::Failed { operation: "put", key: key.to_string(), cause, transient: false };
        Box::pin(std::future::ready(Err(error)))
    };
    fixture.store = Arc::new(HookedStore::before_put(Arc::clone(&sound), denied));
    let batch = fixture.batch().await;
    let error = fixture.worker(Lane::Small).work_on(batch, &CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().contains("AccessDenied"), "{error}");
    fixture.store = sound;
    assert!(fixture.letters().await.is_empty());
    assert_eq!(fixture.drain().await.fetched.bottles, 3);
    fixture.settle().await;
    fixture.assert_whole(&[]).await;
}
