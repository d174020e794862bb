//! Storage of the embedded engine: `SQLite` behind one writer thread (design §3).
//!
//! ```text
//!  write(batch) ─► queue ─► writer thread: takes all that waits, one transaction, COMMIT ─► after-commit hooks ─► answers
//!  read(query)  ─► queue ─► reader threads, each with a connection of its own (WAL: never blocked by the writer)
//! ```
//!
//! Invariants: writes are queued at the call, in call order, not when the answer is first polled; a batch is applied
//! whole or not at all and does not fail its neighbours in the same transaction; nothing is answered before COMMIT; hooks
//! run in commit order. `rusqlite` is named in this folder and in the row files of queues and configuration only.
//! Not here: what the rows mean, events, access rules.

mod address;
mod doc;
mod lock;
mod queue;
mod rows;
mod schema;
mod task;
mod writer;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::error::{Error, Result};

pub use address::{Address, Place};
pub use doc::Doc;
pub use rows::{Change, Write, Written};

use queue::Queue;
use task::{Batch, Custom, Task};

/// Jobs that may wait for the writer; one more is refused, so that nothing piles up without end.
const MAX_WAITING_WRITES: usize = 32_768;
/// Reads that may wait.
const MAX_WAITING_READS: usize = 8_192;
const READERS: usize = 2;

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Each group is synced to the disk before it is acknowledged; survives a power cut.
    #[default]
    Full,
    /// Handed to the operating system; survives a kill of the process.
    Normal,
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// When a write counts as done.
    pub durability: Durability,
    /// Most items kept per stream group, at least 1; the oldest go first.
    pub stream_items_per_group: u64,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Full,
            stream_items_per_group: 10_000,
        }
    }
}

/// Handle to an open store; cheap to clone. The last one to go writes out what is queued and closes the file.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    writes: Arc<Queue<WriterJob>>,
    /// Absent in memory mode, where the writer also reads.
    reads: Option<Arc<Queue<ReadJob>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    place: String,
    health: Arc<Health>,
    // Held until the threads have ended.
    lock: Mutex<Option<lock::DirectoryLock>>,
}

/// How the last group of writes went.
#[derive(Debug, Default)]
struct Health {
    problem: Mutex<Option<String>>,
    /// Spares the lock while all goes well.
    failing: AtomicBool,
}

impl Health {
    fn failed(&self, error: Option<&Error>) {
        if self.failing.swap(error.is_some(), Ordering::AcqRel) || error.is_some() {
            *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = error.map(ToString::to_string);
        }
    }
}

type ReadJob = Box<dyn FnOnce(&Connection) + Send>;

/// What the writer thread takes from its queue.
enum WriterJob {
    Write(Box<dyn Task>),
    /// Runs after the COMMIT of the group it came with.
    Read(ReadJob),
}

/// Called on the writer thread after COMMIT, in commit order; must not block.
pub type AfterCommit = Box<dyn FnOnce(&[Written]) + Send>;

/// An answer that is on its way. The work was queued when this was made; dropping it does not stop the work.
#[derive(Debug)]
#[must_use = "a write that is not awaited may fail unseen"]
pub struct Pending<T>(State<T>);

#[derive(Debug)]
enum State<T> {
    Waiting(oneshot::Receiver<Result<T>>),
    Refused(Option<Error>),
}

impl Store {
    /// Opens or creates the store of a directory and locks it against other processes.
    ///
    /// # Errors
    /// [`Error::Unavailable`] naming the directory: in use by another process, written by a newer version, not writable.
    pub fn open(directory: &Path, options: &StoreOptions) -> Result<Self> {
        let lock = lock::DirectoryLock::take(directory)?;
        let path = directory.join("harness.db");
        let place = directory.display().to_string();
        let unusable =
            |error: rusqlite::Error| Error::Unavailable(format!("cannot open the store in {place}: {error}"));
        let mut connection = Connection::open(&path).map_err(unusable)?;
        schema::prepare_file(&connection, options.durability).map_err(unusable)?;
        schema::migrate(&mut connection, &place)?;
        schema::apply_retention(&mut connection, options.stream_items_per_group).map_err(unusable)?;
        let reads = Arc::new(Queue::new(MAX_WAITING_READS));
        let mut threads = Vec::new();
        for number in 0..READERS {
            threads.push(spawn_reader(
                number,
                reader_connection(&path).map_err(unusable)?,
                Arc::clone(&reads),
            )?);
        }
        Self::start(connection, options, Some(reads), threads, place, Some(lock))
    }

    /// A store that lives and dies with the process; for tests. Same rules, nothing on disk.
    pub fn in_memory(options: &StoreOptions) -> Result<Self> {
        let place = "memory".to_owned();
        let unusable =
            |error: rusqlite::Error| Error::Unavailable(format!("cannot open a store in memory: {error}"));
        let mut connection = Connection::open_in_memory().map_err(unusable)?;
        schema::prepare_memory(&connection).map_err(unusable)?;
        schema::migrate(&mut connection, &place)?;
        Self::start(connection, options, None, Vec::new(), place, None)
    }

    fn start(
        connection: Connection,
        options: &StoreOptions,
        reads: Option<Arc<Queue<ReadJob>>>,
        mut threads: Vec<JoinHandle<()>>,
        place: String,
        lock: Option<lock::DirectoryLock>,
    ) -> Result<Self> {
        let writes = Arc::new(Queue::new(MAX_WAITING_WRITES));
        let health = Arc::new(Health::default());
        let writer = writer::Writer::new(
            connection,
            options.stream_items_per_group.max(1),
            Arc::clone(&health),
        );
        let queue = Arc::clone(&writes);
        threads.push(spawn("store-writer".to_owned(), move || writer.run(&queue))?);
        Ok(Self(Arc::new(Inner {
            writes,
            reads,
            threads: Mutex::new(threads),
            place,
            health,
            lock: Mutex::new(lock),
        })))
    }

    /// Queues a batch: one transaction, in order, all or nothing. Answers one [`Written`] per write, after COMMIT.
    pub fn write(&self, writes: Vec<Write>) -> Pending<Vec<Written>> {
        self.write_then(writes, None)
    }

    /// Like [`Store::write`], and runs the hook right after COMMIT, before the answer, in commit order.
    pub fn write_then(&self, writes: Vec<Write>, then: Option<AfterCommit>) -> Pending<Vec<Written>> {
        let (answer, pending) = oneshot::channel();
        self.submit(Box::new(Batch::new(writes, then, answer)), pending)
    }

    /// Queues work of its own on the writer's connection: one transaction, all or nothing.
    pub(in crate::bus::embedded) fn transact<T, F>(&self, work: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.transact_then(work, |_| {})
    }

    /// Like `transact`; `then` runs right after COMMIT, before the answer, in commit order, and must not block.
    pub(in crate::bus::embedded) fn transact_then<T, F, A>(&self, work: F, then: A) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
        A: FnOnce(&T) + Send + 'static,
    {
        let (answer, pending) = oneshot::channel();
        self.submit(Box::new(Custom::new(work, then, answer)), pending)
    }

    fn submit<T>(&self, task: Box<dyn Task>, pending: oneshot::Receiver<Result<T>>) -> Pending<T> {
        match self.0.writes.push(WriterJob::Write(task)) {
            Ok(()) => Pending(State::Waiting(pending)),
            Err(refusal) => Pending::refused(refusal.into_error("store write")),
        }
    }

    /// Queues a query. It sees every write acknowledged before this call.
    pub(in crate::bus::embedded) fn read<T, F>(&self, query: F) -> Pending<T>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let (answer, pending) = oneshot::channel();
        let job: ReadJob = Box::new(move |connection| {
            // Nobody waits for a read whose caller is gone.
            if !answer.is_closed() {
                drop(answer.send(query(connection)));
            }
        });
        let pushed = match &self.0.reads {
            Some(reads) => reads.push(job),
            None => self.0.writes.push(WriterJob::Read(job)),
        };
        match pushed {
            Ok(()) => Pending(State::Waiting(pending)),
            Err(refusal) => Pending::refused(refusal.into_error("store read")),
        }
    }

    /// The value at an address.
    pub fn get(&self, address: Address) -> Pending<Option<Doc>> {
        self.read(move |connection| rows::get(connection, &address))
    }

    /// All values of a scope or group, in first-insertion order.
    pub fn list(&self, place: Place) -> Pending<Vec<serde_json::Value>> {
        self.read(move |connection| rows::list(connection, &place))
    }

    /// The state scopes that hold something, sorted.
    pub fn state_scopes(&self) -> Pending<Vec<String>> {
        self.read(rows::state_scopes)
    }

    /// The groups of a stream that hold something, sorted.
    pub fn stream_groups(&self, stream: String) -> Pending<Vec<String>> {
        self.read(move |connection| rows::stream_groups(connection, &stream))
    }

    /// All streams with their groups, sorted.
    pub fn streams(&self) -> Pending<Vec<(String, Vec<String>)>> {
        self.read(rows::streams)
    }

    /// The directory, or `memory`.
    pub fn place(&self) -> &str {
        &self.0.place
    }

    /// Why the last group of writes was lost, while the next one has not gone well.
    pub fn problem(&self) -> Option<String> {
        self.0
            .health
            .problem
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Writes out what is queued and closes the file. Later calls are refused. Idempotent; blocks until done.
    pub fn close(&self) {
        self.0.close();
    }
}

impl Inner {
    fn close(&self) {
        self.writes.close();
        if let Some(reads) = &self.reads {
            reads.close();
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        let this_thread = std::thread::current().id();
        // A hook on the writer thread may hold the last handle: the thread cannot wait for itself.
        for thread in threads
            .into_iter()
            .filter(|thread| thread.thread().id() != this_thread)
        {
            if thread.join().is_err() {
                tracing::error!(place = %self.place, "a thread of the store panicked");
            }
        }
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("place", &self.0.place)
            .finish_non_exhaustive()
    }
}

impl<T> Pending<T> {
    /// An answer that is an error already.
    pub(in crate::bus::embedded) fn refused(error: Error) -> Self {
        Self(State::Refused(Some(error)))
    }
}

impl<T> Future for Pending<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            State::Refused(error) => Poll::Ready(Err(error.take().unwrap_or(Error::Stopped))),
            State::Waiting(pending) => Pin::new(pending)
                .poll(cx)
                .map(|answer| answer.unwrap_or_else(|_| Err(Error::store("store", "the store was closed")))),
        }
    }
}

impl<T> Unpin for Pending<T> {}

/// A connection for reading. Not opened read-only: the first reader of a WAL file may have to write its index.
fn reader_connection(path: &PathBuf) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    schema::prepare_reader(&connection)?;
    Ok(connection)
}

fn spawn_reader(number: usize, connection: Connection, queue: Arc<Queue<ReadJob>>) -> Result<JoinHandle<()>> {
    spawn(format!("store-reader-{number}"), move || {
        while let Some(job) = queue.take_one() {
            task::guarded(|| {
                job(&connection);
                Ok(())
            })
            .unwrap_or_else(|error| tracing::error!(%error, "a read failed"));
        }
    })
}

fn spawn(name: String, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name)
        .spawn(work)
        .map_err(|error| Error::Unavailable(format!("cannot start a thread of the store: {error}")))
}
