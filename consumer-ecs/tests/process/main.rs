//! The service as a process: it is started, told to stop, and killed.

#![expect(clippy::unwrap_used, reason = "tests")]

mod agent;
mod system;

use std::time::{Duration, Instant};

use testbed::{Fault, Spec, Times};

use agent::Agent;
use system::{System, wait_for};

/// Above one part, so that it is uploaded in parts.
const LARGE: u64 = 9 << 20;

/// A megabyte of each answer, then nothing.
fn stall() -> Fault {
    Fault::Stall { after_bytes: 1 << 20, r#for: Duration::from_secs(50) }
}

fn four() -> Spec {
    Spec::uniform(1, 4, LARGE, &["all"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn protection_is_held_while_it_works_and_not_before_or_after() {
    let system = System::start(four()).await;
    let agent = Agent::start().await;
    let mut idle = system.service(&[("ECS_AGENT_URI", &agent.uri())]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(agent.asked().is_empty(), "an idle task holds protection");

    system.upstream.faults().set("cdn:*", Fault::Delay(Duration::from_secs(1)), Times::Always);
    system.plan().await;
    wait_for("all bottles", || async { system.held().await == 4 }).await;
    wait_for("the protection's end", || async { agent.asked().last() == Some(&false) }).await;
    assert_eq!(agent.asked().first(), Some(&true));
    assert_eq!(system.cloud.depth("large").await.unwrap(), (0, 0));
    assert_eq!(idle.stop(Duration::from_secs(30)).code(), Some(0));
    system.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_it_lets_transfers_end_that_fit() {
    let system = System::start(Spec::uniform(1, 6, LARGE, &["all"])).await;
    system.upstream.faults().set("cdn:*", Fault::Delay(Duration::from_secs(2)), Times::Always);
    system.plan().await;
    let mut service = system.service(&[("BOTTLES_STOP_TIMEOUT", "60s")]);
    wait_for("four transfers", || async { system.upstream.log().count("cdn:*") >= 4 }).await;
    assert_eq!(service.stop(Duration::from_mins(1)).code(), Some(0));
    assert_eq!(system.held().await, 4, "{}", service.log());
    assert_eq!(system.cloud.depth("large").await.unwrap(), (2, 0));
    assert_eq!(system.cloud.unfinished_uploads().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn told_to_stop_it_gives_back_at_once_what_does_not_fit() {
    let system = System::start(four()).await;
    let agent = Agent::start().await;
    // The second part of each never comes.
    system.upstream.faults().set("cdn:*", stall(), Times::Always);
    system.plan().await;
    let mut service = system.service(&[("BOTTLES_STOP_TIMEOUT", "1s"), ("ECS_AGENT_URI", &agent.uri())]);
    wait_for("four transfers", || async {
        system.upstream.log().count("cdn:*") >= 4 && system.cloud.unfinished_uploads().await.unwrap() == 4
    })
    .await;
    let stopped = Instant::now();
    assert_eq!(service.stop(Duration::from_secs(30)).code(), Some(0));
    assert!(stopped.elapsed() < Duration::from_secs(25), "{:?}", stopped.elapsed());
    // At once: their visibility timeout is two minutes.
    assert_eq!(system.cloud.depth("large").await.unwrap(), (4, 0), "{}", service.log());
    assert_eq!(system.cloud.unfinished_uploads().await.unwrap(), 0);
    assert_eq!(agent.asked(), [true, false]);
    assert_eq!(system.held().await, 0);

    system.upstream.faults().clear();
    let mut next = system.service(&[]);
    wait_for("all bottles", || async { system.held().await == 4 }).await;
    next.stop(Duration::from_secs(30));
    system.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_in_the_middle_of_an_upload_it_loses_nothing() {
    let system = System::start(four()).await;
    system.upstream.faults().set("cdn:*", stall(), Times::First(8));
    system.plan().await;
    let short = [("BOTTLES_VISIBILITY", "3s")];
    let mut service = system.service(&short);
    wait_for("uploads", || async { system.cloud.unfinished_uploads().await.unwrap() == 4 }).await;
    service.kill();
    assert_eq!(system.held().await, 0);
    system.upstream.faults().clear();

    let mut next = system.service(&short);
    wait_for("all bottles", || async { system.held().await == 4 }).await;
    next.stop(Duration::from_secs(30));
    // Nobody lived to abort them: the bucket's lifecycle rule does.
    assert_eq!(system.cloud.unfinished_uploads().await.unwrap(), 4);
    assert_eq!(system.cloud.depth("large").await.unwrap(), (0, 0));
    system.assert_whole().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_whether_it_is_well() {
    let system = System::start(four()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("healthy");
    let variables = [("BOTTLES_HEALTH_FILE", file.to_str().unwrap())];
    assert_eq!(system.command(&["health"], &variables).status().unwrap().code(), Some(1));
    let mut service = system.service(&variables);
    wait_for("health", || async { file.exists() }).await;
    assert_eq!(system.command(&["health"], &variables).status().unwrap().code(), Some(0));
    service.kill();
}

/// The most memory that the service took for four bottles of `size` bytes, in bytes.
async fn peak(size: u64) -> u64 {
    let system = System::start(Spec::uniform(1, 4, size, &["all"])).await;
    system.plan().await;
    let mut service = system.service(&[("BOTTLES_MEMORY", "32MiB")]);
    wait_for("all bottles", || async { system.held().await == 4 }).await;
    let peak = service.peak();
    service.kill();
    peak
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_memory_does_not_follow_the_size_of_a_bottle() {
    let (small, large) = (peak(24 << 20).await, peak(96 << 20).await);
    // Four times 72 MiB more go by; a part more or less is chance.
    assert!(large < small + (24 << 20), "{} MiB and {} MiB", small >> 20, large >> 20);
    assert!(large < 160 << 20, "{} MiB with a budget of 32", large >> 20);
}

#[tokio::test]
async fn what_it_is_told_wrong_is_named_at_once() {
    let system = System::start(four()).await;
    let refused = |variables: &[(&str, &str)], what: &str| {
        let output = system.command(&[], variables).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() != Some(0) && text.contains(what), "{:?}: {text}", output.status);
    };
    refused(&[("BOTTLES_VISIBILTY", "3s")], "is BOTTLES_VISIBILITY meant?");
    refused(&[("BOTTLES_LARGE_QUEUE", "")], "BOTTLES_LARGE_QUEUE must be set");
    refused(&[("BOTTLES_MEMORY", "1kB")], "BOTTLES_MEMORY=");
    refused(&[("BOTTLES_LOG", "a=b=c")], "BOTTLES_LOG");
}
