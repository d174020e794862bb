//! Data channels between two ends in this process (contract 00 §8).
//!
//! An engine channel is a pair of sockets; here both ends are usually in the process and a bounded queue serves. The
//! references look the same, so a provider does not know which kind it writes to. A channel is forgotten as soon as both
//! ends are closed; one with an untaken end after five minutes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::Bus;
use super::transport::no_channel;
use crate::error::{Error, Result};
use crate::model::AssistantEvent;
use crate::model::api::provider::{ChannelRef, Direction};

const DEFAULT_BUFFER: usize = 64;
const MAX_BUFFER: usize = 1024;
const UNTAKEN_LIFE: Duration = Duration::from_mins(5);

/// Channels with an end that nobody has taken, beyond which callers of the engine get no more.
pub const MAX_UNTAKEN: usize = 4096;

/// One message on a channel.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// Text, usually JSON.
    Text(String),
    /// Bytes.
    Binary(Bytes),
    /// A provider event that never left the process; becomes text where it does.
    Event(AssistantEvent),
}

/// How a channel is made.
#[derive(Debug, Clone, Copy)]
pub struct ChannelOptions {
    /// Messages that wait before the writer does, 1..=1024.
    pub buffer: usize,
    /// The reader accumulates for itself: events may come typed and without the message so far.
    pub slim: bool,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            buffer: DEFAULT_BUFFER,
            slim: false,
        }
    }
}

/// References to both ends; they share id and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelPair {
    /// For the side that writes.
    pub writer: ChannelRef,
    /// For the side that reads.
    pub reader: ChannelRef,
}

/// The writing end. Dropping it ends the channel; readers get what is still queued first.
#[derive(Debug)]
pub struct ChannelWriter {
    sender: mpsc::Sender<Frame>,
    slim: bool,
    _entry: Option<Arc<Entry>>,
}

/// The reading end. Dropping it makes the writer fail.
#[derive(Debug)]
pub struct ChannelReader {
    receiver: mpsc::Receiver<Frame>,
    _entry: Option<Arc<Entry>>,
}

impl ChannelWriter {
    /// A writer in front of a socket or another process; pair it with the receiver.
    pub fn remote(buffer: usize) -> (Self, mpsc::Receiver<Frame>) {
        let (sender, receiver) = mpsc::channel(buffer.clamp(1, MAX_BUFFER));
        let writer = Self {
            sender,
            slim: false,
            _entry: None,
        };
        (writer, receiver)
    }

    /// Sends; waits while the channel is full.
    ///
    /// # Errors
    /// The reader is gone.
    pub async fn send(&self, frame: Frame) -> Result<()> {
        self.sender
            .send(frame)
            .await
            .map_err(|_| Error::Unavailable("channel closed by its reader".into()))
    }

    /// Whether the reader takes typed events without the message so far.
    pub fn is_slim(&self) -> bool {
        self.slim
    }

    /// Resolves when the reader is gone.
    pub async fn closed(&self) {
        self.sender.closed().await;
    }
}

impl ChannelReader {
    /// A reader behind a socket or another process; pair it with the sender.
    pub fn remote(buffer: usize) -> (mpsc::Sender<Frame>, Self) {
        let (sender, receiver) = mpsc::channel(buffer.clamp(1, MAX_BUFFER));
        let reader = Self {
            receiver,
            _entry: None,
        };
        (sender, reader)
    }

    /// The next message; `None` after the writer closed and everything was read.
    pub async fn next(&mut self) -> Option<Frame> {
        self.receiver.recv().await
    }
}

/// Channels that are not over.
#[derive(Debug, Default)]
pub struct Channels(Arc<Mutex<Slots>>);

type Slots = HashMap<String, Slot>;

#[derive(Debug)]
struct Slot {
    access_key: String,
    writer: Option<ChannelWriter>,
    reader: Option<ChannelReader>,
    created: Instant,
}

impl Slot {
    fn is_untaken(&self) -> bool {
        self.writer.is_some() || self.reader.is_some()
    }
}

/// Both ends hold it; when the last one goes, the channel is forgotten.
#[derive(Debug)]
struct Entry {
    channel_id: String,
    slots: Weak<Mutex<Slots>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(slots) = self.slots.upgrade() {
            lock(&slots).remove(&self.channel_id);
        }
    }
}

fn lock(slots: &Mutex<Slots>) -> MutexGuard<'_, Slots> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Channels {
    /// Makes a channel under fresh ids.
    pub fn create(&self, channel_id: &str, access_key: &str, options: ChannelOptions) -> ChannelPair {
        let (sender, receiver) = mpsc::channel(options.buffer.clamp(1, MAX_BUFFER));
        let entry = Arc::new(Entry {
            channel_id: channel_id.to_owned(),
            slots: Arc::downgrade(&self.0),
        });
        let slot = Slot {
            access_key: access_key.to_owned(),
            writer: Some(ChannelWriter {
                sender,
                slim: options.slim,
                _entry: Some(Arc::clone(&entry)),
            }),
            reader: Some(ChannelReader {
                receiver,
                _entry: Some(entry),
            }),
            created: Instant::now(),
        };
        self.sweep();
        lock(&self.0).insert(channel_id.to_owned(), slot);
        let end = |direction| ChannelRef {
            channel_id: channel_id.to_owned(),
            access_key: access_key.to_owned(),
            direction,
        };
        ChannelPair {
            writer: end(Direction::Write),
            reader: end(Direction::Read),
        }
    }

    /// Forgets channels with an end that nobody took for five minutes.
    pub fn sweep(&self) {
        let stale: Vec<Slot> = {
            let mut slots = lock(&self.0);
            let is_stale = |slot: &Slot| slot.is_untaken() && slot.created.elapsed() >= UNTAKEN_LIFE;
            let ids: Vec<String> = slots
                .iter()
                .filter(|(_, slot)| is_stale(slot))
                .map(|(id, _)| id.clone())
                .collect();
            ids.iter().filter_map(|id| slots.remove(id)).collect()
        };
        // The ends take the lock when they go.
        drop(stale);
    }

    /// How many are known.
    pub fn count(&self) -> usize {
        lock(&self.0).len()
    }

    /// How many have an end that nobody has taken.
    pub fn untaken(&self) -> usize {
        lock(&self.0).values().filter(|slot| slot.is_untaken()).count()
    }

    /// Takes the writing end. `None`: not of this process. An end can be taken once.
    pub fn take_writer(&self, channel: &ChannelRef) -> Option<Result<ChannelWriter>> {
        self.take(channel, |slot| slot.writer.take())
    }

    /// Takes the reading end. `None`: not of this process. An end can be taken once.
    pub fn take_reader(&self, channel: &ChannelRef) -> Option<Result<ChannelReader>> {
        self.take(channel, |slot| slot.reader.take())
    }

    fn take<T>(&self, channel: &ChannelRef, end: impl Fn(&mut Slot) -> Option<T>) -> Option<Result<T>> {
        let mut slots = lock(&self.0);
        let slot = slots.get_mut(&channel.channel_id)?;
        if slot.access_key != channel.access_key {
            return Some(Err(no_channel(channel)));
        }
        Some(end(slot).ok_or_else(|| Error::coded("channel_taken", "this end of the channel is taken")))
    }
}

impl Bus {
    /// Makes a channel inside this process.
    pub fn create_channel(&self, options: ChannelOptions) -> ChannelPair {
        self.0.channels.create(&self.uuid(), &self.uuid(), options)
    }

    /// Opens the writing end of a channel, wherever its other end is.
    pub async fn open_writer(&self, channel: &ChannelRef) -> Result<ChannelWriter> {
        match self.0.channels.take_writer(channel) {
            Some(writer) => writer,
            None => self.0.transport.open_writer(channel).await,
        }
    }

    /// Opens the reading end of a channel, wherever its other end is.
    pub async fn open_reader(&self, channel: &ChannelRef) -> Result<ChannelReader> {
        match self.0.channels.take_reader(channel) {
            Some(reader) => reader,
            None => self.0.transport.open_reader(channel).await,
        }
    }
}
