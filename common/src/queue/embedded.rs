//! The queue of a laptop: one SQLite file, safe under several processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::owner::{self, Owner};

use super::{Delivery, Depth, Handle, Outgoing, Queue, QueueError};

/// A process that dies with a message in its hands says nothing about the
/// message (the power may have failed), so such a delivery doesn't count
/// against it. But one that was in hand so often is delivered as one that was
/// received too often, for the worker to set aside; and if that one dies too,
/// the queue sets it aside itself.
pub const MOST_CRASHES: u32 = 25;

/// Added to the number of receives of a message that was in hand at too many deaths.
const TOO_OFTEN: u32 = 1000;

/// How long to wait for another process's turn at the file to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Another process's messages are looked for this often.
const POLL: Duration = Duration::from_millis(100);

/// The file that holds all queues of one mirror.
#[derive(Clone)]
pub struct Embedded {
    shared: Arc<Shared>,
}

struct Shared {
    connection: Mutex<Connection>,
    owner: Owner,
    owners: PathBuf,
    clock: Clock,
    changed: Notify,
}

/// One queue in the file.
#[derive(Clone)]
pub struct EmbeddedQueue {
    shared: Arc<Shared>,
    name: &'static str,
    /// Where messages go that were received too often, and how often that is.
    redrive: Option<(&'static str, u32)>,
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        queue TEXT NOT NULL,
        body TEXT NOT NULL,
        attributes TEXT NOT NULL,
        sent_at INTEGER NOT NULL,
        visible_at INTEGER NOT NULL,
        receives INTEGER NOT NULL DEFAULT 0,
        crashes INTEGER NOT NULL DEFAULT 0,
        receipt TEXT,
        owner TEXT
    ) STRICT;
    CREATE INDEX IF NOT EXISTS by_visibility ON messages (queue, visible_at, id);
    CREATE INDEX IF NOT EXISTS by_owner ON messages (owner) WHERE owner IS NOT NULL;
";

impl Embedded {
    /// Opens the file, and makes it if need be. `owners` is the folder in which
    /// the processes that share it announce themselves.
    pub fn open(file: &Path, owners: &Path, clock: Clock) -> Result<Self, QueueError> {
        let fail = |cause: String| QueueError { queue: file.display().to_string(), operation: "open", cause };
        let owner = Owner::announce(owners).map_err(|error| fail(error.to_string()))?;
        let open = || -> rusqlite::Result<Connection> {
            let connection = Connection::open(file)?;
            connection.busy_timeout(PATIENCE)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            // A message that was sent must survive a power failure.
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(SCHEMA)?;
            Ok(connection)
        };
        let connection = patiently(open).map_err(|error| fail(cause(&error)))?;
        let shared = Shared {
            connection: Mutex::new(connection),
            owner,
            owners: owners.to_owned(),
            clock,
            changed: Notify::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// One queue of the file. After `redrive.1` receives a message goes to the
    /// queue `redrive.0`.
    pub fn queue(&self, name: &'static str, redrive: Option<(&'static str, u32)>) -> EmbeddedQueue {
        EmbeddedQueue { shared: Arc::clone(&self.shared), name, redrive }
    }
}

#[async_trait]
impl Queue for EmbeddedQueue {
    async fn send(&self, messages: &[Outgoing]) -> Result<(), QueueError> {
        if messages.is_empty() {
            return Ok(());
        }
        let messages = messages.to_vec();
        let (name, now) = (self.name, self.now());
        self.write("send", move |transaction| {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO messages (queue, body, attributes, sent_at, visible_at) VALUES (?1, ?2, ?3, ?4, ?4)",
            )?;
            for message in &messages {
                insert.execute(params![name, message.body, to_json(&message.attributes), now])?;
            }
            Ok(())
        })
        .await?;
        self.shared.changed.notify_waiters();
        Ok(())
    }

    async fn receive(
        &self,
        max: usize,
        visibility: Duration,
        wait: Duration,
    ) -> Result<Vec<Delivery>, QueueError> {
        if max == 0 {
            return Ok(Vec::new());
        }
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            let changed = self.shared.changed.notified();
            let deliveries = self.take(max, visibility).await?;
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if !deliveries.is_empty() || left.is_zero() {
                return Ok(deliveries);
            }
            // Other processes can't notify this one.
            let _ = tokio::time::timeout(left.min(POLL), changed).await;
        }
    }

    async fn extend(&self, handles: &[Handle], visibility: Duration) -> Result<(), QueueError> {
        const HIDE: &str = "UPDATE messages SET visible_at = ?1 WHERE id = ?2 AND receipt = ?3";
        self.hide("extend", HIDE, handles, visibility).await
    }

    async fn release(&self, handles: &[Handle], delay: Duration) -> Result<(), QueueError> {
        const GIVE_BACK: &str = "UPDATE messages SET visible_at = ?1, owner = NULL, receipt = NULL
                                 WHERE id = ?2 AND receipt = ?3";
        self.hide("release", GIVE_BACK, handles, delay).await?;
        self.shared.changed.notify_waiters();
        Ok(())
    }

    async fn acknowledge(&self, handles: &[Handle]) -> Result<(), QueueError> {
        if handles.is_empty() {
            return Ok(());
        }
        let handles = handles.to_vec();
        self.write("acknowledge", move |transaction| {
            let mut delete =
                transaction.prepare_cached("DELETE FROM messages WHERE id = ?1 AND receipt = ?2")?;
            for handle in &handles {
                delete.execute(params![message_id(handle), handle.0])?;
            }
            Ok(())
        })
        .await
    }

    async fn depth(&self) -> Result<Depth, QueueError> {
        let (name, now) = (self.name, self.now());
        self.write("count", move |transaction| {
            transaction
                .prepare_cached(
                    "SELECT
                        COUNT(*) FILTER (WHERE visible_at <= ?2),
                        COUNT(*) FILTER (WHERE visible_at > ?2 AND owner IS NOT NULL),
                        COUNT(*) FILTER (WHERE visible_at > ?2 AND owner IS NULL)
                     FROM messages WHERE queue = ?1",
                )?
                .query_row(params![name, now], |row| {
                    let count = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
                    Ok(Depth { visible: count(0)?, in_flight: count(1)?, delayed: count(2)? })
                })
        })
        .await
    }
}

impl EmbeddedQueue {
    async fn take(&self, max: usize, visibility: Duration) -> Result<Vec<Delivery>, QueueError> {
        let now = self.now();
        let visible_at = now.saturating_add(millis(visibility));
        let (name, redrive) = (self.name, self.redrive);
        let limit = i64::try_from(max).unwrap_or(i64::MAX);
        let shared = Arc::clone(&self.shared);
        self.write("receive", move |transaction| {
            reclaim(transaction, &shared, now)?;
            if let Some((dead_letters, most_receives)) = redrive {
                // Only among those that would be received: a look at all of a
                // long queue each time would make draining it quadratic.
                let mut move_away = transaction.prepare_cached(
                    "UPDATE messages SET queue = ?1, receipt = NULL, owner = NULL, receives = 0,
                         attributes = json_set(attributes, '$.attempts', CAST(receives + crashes AS TEXT))
                     WHERE id IN (SELECT id FROM messages WHERE queue = ?2 AND visible_at <= ?3
                                  ORDER BY visible_at, id LIMIT ?6)
                       AND (receives >= ?4 OR crashes > ?5)",
                )?;
                while move_away.execute(params![dead_letters, name, now, most_receives, MOST_CRASHES, limit])? > 0 {}
            }
            let mut take = transaction.prepare_cached(
                "UPDATE messages
                 SET receives = receives + 1, visible_at = ?3, owner = ?4, receipt = id || '.' || lower(hex(randomblob(8)))
                 WHERE id IN (SELECT id FROM messages WHERE queue = ?1 AND visible_at <= ?2 ORDER BY visible_at, id LIMIT ?5)
                 RETURNING id, receipt, body, attributes, receives, sent_at, crashes",
            )?;
            let rows = take.query_map(params![name, now, visible_at, shared.owner.id(), limit], |row| {
                Ok(Delivery {
                    id: row.get::<_, i64>(0)?.to_string(),
                    handle: Handle(row.get(1)?),
                    body: row.get(2)?,
                    attributes: from_json(&row.get::<_, String>(3)?),
                    receives: row.get::<_, u32>(4)? + if row.get::<_, u32>(6)? < MOST_CRASHES { 0 } else { TOO_OFTEN },
                    sent_at: Timestamp::from_millisecond(row.get(5)?).unwrap_or(Timestamp::UNIX_EPOCH),
                })
            })?;
            let mut deliveries = rows.collect::<rusqlite::Result<Vec<_>>>()?;
            // RETURNING promises no order.
            deliveries.sort_by_key(|delivery| delivery.id.parse::<i64>().unwrap_or(0));
            Ok(deliveries)
        })
        .await
    }

    /// Runs `update` for each handle, with the end of `visibility` as its first parameter.
    async fn hide(
        &self,
        operation: &'static str,
        update: &'static str,
        handles: &[Handle],
        visibility: Duration,
    ) -> Result<(), QueueError> {
        if handles.is_empty() {
            return Ok(());
        }
        let handles = handles.to_vec();
        let visible_at = self.now().saturating_add(millis(visibility));
        self.write(operation, move |transaction| {
            let mut update = transaction.prepare_cached(update)?;
            for handle in &handles {
                update.execute(params![visible_at, message_id(handle), handle.0])?;
            }
            Ok(())
        })
        .await
    }

    fn now(&self) -> i64 {
        self.shared.clock.now().as_millisecond()
    }

    /// Runs a transaction on a thread that may block.
    async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, QueueError> {
        let fail = |cause: String| QueueError { queue: self.name.to_owned(), operation, cause };
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || {
            let mut connection = shared.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok::<_, rusqlite::Error>(value)
        });
        match done.await {
            Ok(result) => result.map_err(|error| fail(cause(&error))),
            Err(error) => Err(fail(error.to_string())),
        }
    }
}

/// What went wrong, and the way out where the file is damaged.
fn cause(error: &rusqlite::Error) -> String {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => format!(
            "{error}: its file queue.sqlite is damaged, and may be removed, with queue.sqlite-wal and \
             queue.sqlite-shm where they are; the next sync plans anew what was on its way, and after fourteen \
             days what was given up on"
        ),
        _ => error.to_string(),
    }
}

/// Tries again while another process has its turn: a change of the journal's
/// mode, in a file that is just being made, does not wait by itself.
fn patiently<T>(mut operation: impl FnMut() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        match operation() {
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                    && std::time::Instant::now() < deadline =>
            {
                std::thread::sleep(POLL);
            }
            outcome => return outcome,
        }
    }
}

/// Takes back what processes held that have died since.
fn reclaim(transaction: &Transaction<'_>, shared: &Shared, now: i64) -> rusqlite::Result<()> {
    let mut holders =
        transaction.prepare_cached("SELECT DISTINCT owner FROM messages WHERE owner IS NOT NULL")?;
    let holders =
        holders.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    for holder in holders {
        if holder != shared.owner.id() && owner::is_dead(&shared.owners, &holder) {
            transaction
                .prepare_cached(
                    "UPDATE messages SET visible_at = min(visible_at, ?1), receives = max(receives - 1, 0),
                     crashes = crashes + 1, owner = NULL, receipt = NULL WHERE owner = ?2",
                )?
                .execute(params![now, holder])?;
        }
    }
    Ok(())
}

/// The message that a handle is of: handles are `id.random`.
fn message_id(handle: &Handle) -> Option<i64> {
    handle.0.split_once('.')?.0.parse().ok()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn to_json(attributes: &BTreeMap<String, String>) -> String {
    serde_json::to_string(attributes).unwrap_or_default()
}

fn from_json(text: &str) -> BTreeMap<String, String> {
    serde_json::from_str(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{self, Pair};
    use super::*;

    struct Fixture {
        folder: tempfile::TempDir,
        clock: Clock,
        queues: Embedded,
    }

    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::manual("2026-01-01T00:00:00Z".parse().unwrap());
        let queues = open(&folder, &clock);
        Fixture { folder, clock, queues }
    }

    fn open(folder: &tempfile::TempDir, clock: &Clock) -> Embedded {
        Embedded::open(&folder.path().join("queue.sqlite"), &folder.path().join("owners"), clock.clone())
            .unwrap()
    }

    fn pair(queues: &Embedded) -> (EmbeddedQueue, EmbeddedQueue) {
        (
            queues.queue("small", Some(("small-dead", conformance::MOST_RECEIVES))),
            queues.queue("small-dead", None),
        )
    }

    #[tokio::test]
    async fn it_keeps_the_queue_contract() {
        let fixture = fixture();
        let (main, dead) = pair(&fixture.queues);
        let clock = fixture.clock.clone();
        let pair = Pair { main: &main, dead: &dead, pass: Box::new(move |by| clock.advance(by)) };
        conformance::run(&pair).await;
    }

    #[tokio::test]
    async fn messages_of_a_dead_process_come_back_at_once_and_uncounted() {
        let fixture = fixture();
        let (main, _) = pair(&fixture.queues);
        main.send(&[Outgoing::new("one".to_owned())]).await.unwrap();

        let other = open(&fixture.folder, &fixture.clock);
        let (theirs, _) = pair(&other);
        assert_eq!(theirs.receive(1, Duration::from_mins(10), Duration::ZERO).await.unwrap().len(), 1);
        assert!(main.receive(1, Duration::from_mins(10), Duration::ZERO).await.unwrap().is_empty());
        drop((theirs, other));

        let again = main.receive(1, Duration::from_mins(10), Duration::ZERO).await.unwrap();
        assert_eq!((again.len(), again[0].receives), (1, 1));
    }

    #[tokio::test]
    async fn a_message_that_was_in_hand_at_too_many_deaths_is_set_aside() {
        let fixture = fixture();
        let (main, dead) = pair(&fixture.queues);
        main.send(&[Outgoing::new("poison".to_owned())]).await.unwrap();
        for _ in 0..MOST_CRASHES {
            let other = open(&fixture.folder, &fixture.clock);
            let taken = pair(&other).0.receive(1, Duration::from_mins(10), Duration::ZERO).await.unwrap();
            assert_eq!(taken.len(), 1);
        }
        // The next one is told, and dies too.
        let other = open(&fixture.folder, &fixture.clock);
        let taken = pair(&other).0.receive(1, Duration::from_mins(10), Duration::ZERO).await.unwrap();
        assert!(taken[0].receives > conformance::MOST_RECEIVES);
        drop(other);
        assert!(main.receive(1, Duration::from_secs(1), Duration::ZERO).await.unwrap().is_empty());
        assert_eq!(dead.depth().await.unwrap().visible, 1);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn several_processes_never_hold_the_same_message() {
        let fixture = fixture();
        let (main, _) = pair(&fixture.queues);
        let bodies: Vec<_> = (0..200).map(|n| Outgoing::new(n.to_string())).collect();
        main.send(&bodies).await.unwrap();

        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let queues = open(&fixture.folder, &fixture.clock);
            tasks.spawn(async move {
                let (queue, _) = pair(&queues);
                let mut seen = Vec::new();
                loop {
                    let taken = queue.receive(7, Duration::from_mins(1), Duration::ZERO).await.unwrap();
                    if taken.is_empty() {
                        return seen;
                    }
                    let handles: Vec<_> = taken.iter().map(|delivery| delivery.handle.clone()).collect();
                    seen.extend(taken.into_iter().map(|delivery| delivery.body));
                    queue.acknowledge(&handles).await.unwrap();
                }
            });
        }
        let mut seen: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        seen.sort();
        let count = seen.len();
        seen.dedup();
        assert_eq!((seen.len(), count), (200, 200));
    }

    #[tokio::test]
    async fn a_receiver_that_waits_hears_of_a_new_message() {
        let fixture = fixture();
        let (main, _) = pair(&fixture.queues);
        let (got, ()) =
            tokio::join!(main.receive(1, Duration::from_secs(1), Duration::from_secs(10)), async {
                tokio::time::sleep(Duration::from_millis(30)).await;
                main.send(&[Outgoing::new("late".to_owned())]).await.unwrap();
            });
        assert_eq!(got.unwrap().len(), 1);
    }
}
