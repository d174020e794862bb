//! A socket of a worker: one task reads and writes it until one side ends.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::limits::Limits;
use super::outgoing::Outgoing;
use super::session::Session;
use super::socket::{self, CloseCode, Socket};
use super::wire::{Cut, Outbox, Wire};
use crate::bus::embedded::Core;

/// Binary frames with these beginnings are telemetry, which is not kept.
const TELEMETRY: [&[u8]; 3] = [b"OTLP", b"MTRC", b"LOGS"];

/// Messages that are put together into one write, and their size in bytes.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 256 * 1024;

/// Why a connection ended, for the log and for the farewell.
enum Ending {
    /// The worker left.
    Left,
    /// A rule was broken, or we stop.
    Cut(Cut),
    /// The socket is not usable.
    Failed(String),
}

/// Serves a worker from its upgrade to its end.
pub(super) async fn run(core: &Arc<Core>, socket: Socket, limits: &Arc<Limits>, ip_address: String) {
    let Some(bus) = core.bus().ok().map(|bus| bus.downgrade()) else {
        return;
    };
    let (wire, outbox) = Wire::new(bus, Arc::clone(limits));
    let Ok(session) = Session::open(core, Arc::clone(&wire), Arc::clone(limits), ip_address) else {
        return;
    };
    let ended = End(Arc::clone(&session));
    wire.notify(&Outgoing::WorkerRegistered {
        worker_id: &session.id,
        reattach_token: &session.reattach_token,
    });
    let (mut sink, mut stream) = socket.split();
    let ending = tokio::select! {
        biased;
        () = wire.over() => of(&wire),
        () = core.listener.stopping() => cut(CloseCode::Away, "the engine stops"),
        ending = write(&mut sink, outbox, limits.stall) => ending,
        ending = read(&session, &mut stream) => ending,
    };
    drop(ended);
    match ending {
        Ending::Left => {
            tracing::debug!(worker = %session.id, "worker left");
            // Its Close is answered, if it waits for that.
            tokio::time::timeout(socket::FAREWELL, sink.close()).await.ok();
        }
        Ending::Failed(error) => tracing::debug!(worker = %session.id, error, "worker lost"),
        Ending::Cut(cut) => {
            tracing::info!(worker = %session.id, reason = cut.reason, "worker cut off");
            farewell(&mut sink, cut).await;
        }
    }
}

/// Ends the session whatever happens.
struct End(Arc<Session>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn of(wire: &Wire) -> Ending {
    match wire.cut() {
        Some(cut) => Ending::Cut(cut.clone()),
        None => Ending::Left,
    }
}

fn cut(code: CloseCode, reason: &'static str) -> Ending {
    let last = None;
    Ending::Cut(Cut { code, reason, last })
}

async fn read(session: &Arc<Session>, stream: &mut SplitStream<Socket>) -> Ending {
    let mut is_first = true;
    while let Some(message) = stream.next().await {
        match message {
            Ok(Message::Text(text)) => session.receive(&text, is_first).await,
            Ok(Message::Binary(bytes)) => {
                if TELEMETRY.iter().any(|prefix| bytes.starts_with(prefix)) {
                    continue;
                }
                match std::str::from_utf8(&bytes) {
                    Ok(text) => session.receive(text, is_first).await,
                    Err(error) => session.malformed(&error.to_string()),
                }
            }
            // Pings are answered by the library with the next read.
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
            Ok(Message::Close(_)) => return Ending::Left,
            Err(error) => return broken(&error),
        }
        is_first = false;
    }
    Ending::Left
}

fn broken(error: &SocketError) -> Ending {
    match error {
        SocketError::Capacity(CapacityError::MessageTooLong { .. }) => {
            cut(CloseCode::Size, "message too large")
        }
        SocketError::Utf8(_) => cut(CloseCode::Invalid, "text that is no UTF-8"),
        SocketError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            Ending::Failed(error.to_string())
        }
        SocketError::Protocol(_) => cut(CloseCode::Protocol, "not the WebSocket protocol"),
        other => Ending::Failed(other.to_string()),
    }
}

async fn write(sink: &mut SplitSink<Socket, Message>, mut outbox: Outbox, stall: Duration) -> Ending {
    loop {
        let first = tokio::select! {
            biased;
            Some(notice) = outbox.notices.recv() => notice,
            Some(queued) = outbox.messages.recv() => queued.message,
            else => return Ending::Left,
        };
        if let Err(ending) = batch(sink, first, &mut outbox, stall).await {
            return ending;
        }
    }
}

/// Writes a message and what else is there, then flushes.
async fn batch(
    sink: &mut SplitSink<Socket, Message>,
    first: Message,
    outbox: &mut Outbox,
    stall: Duration,
) -> Result<(), Ending> {
    let mut bytes = first.len();
    feed(sink, first, stall).await?;
    for _ in 1..BATCH {
        if bytes >= BATCH_BYTES {
            break;
        }
        let Some(next) = waiting(outbox) else { break };
        bytes += next.len();
        feed(sink, next, stall).await?;
    }
    taken(stall, sink.flush()).await
}

/// The next message, if one is there.
fn waiting(outbox: &mut Outbox) -> Option<Message> {
    let notice = outbox.notices.try_recv().ok();
    notice.or_else(|| outbox.messages.try_recv().ok().map(|queued| queued.message))
}

async fn feed(
    sink: &mut SplitSink<Socket, Message>,
    message: Message,
    stall: Duration,
) -> Result<(), Ending> {
    for piece in socket::pieces(message) {
        taken(stall, socket::feed(sink, piece)).await?;
    }
    Ok(())
}

/// A worker that is slow may be as slow as it is, as long as it takes something.
async fn taken(
    stall: Duration,
    written: impl Future<Output = Result<(), SocketError>>,
) -> Result<(), Ending> {
    match tokio::time::timeout(stall, written).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Ending::Failed(error.to_string())),
        Err(_) => Err(cut(CloseCode::Policy, "nothing was read")),
    }
}

async fn farewell(sink: &mut SplitSink<Socket, Message>, cut: Cut) {
    let Cut { code, reason, last } = cut;
    let said = async {
        if let Some(last) = last {
            socket::feed(sink, last).await?;
        }
        socket::send(sink, socket::close(code, reason)).await
    };
    if !matches!(tokio::time::timeout(socket::FAREWELL, said).await, Ok(Ok(()))) {
        tracing::debug!(reason, "a worker was left without a farewell");
    }
}
