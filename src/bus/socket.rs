//! What every WebSocket of ours has in common: frames of channels as messages, and large messages in pieces.

use bytes::Bytes;
use futures::{Sink, SinkExt};
use tokio_tungstenite::tungstenite::protocol::frame::Frame as Piece;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::Frame;
use crate::error::Result;

/// Larger messages are sent in pieces of this size, in bytes: neither an engine nor a client takes a frame above 16 MiB,
/// and the buffer of the socket stays small.
const PIECE: usize = 1024 * 1024;

/// Sends a message, in pieces when it is large; it is on its way when this returns.
pub(super) async fn send<S>(sink: &mut S, message: Message) -> Result<(), SocketError>
where
    S: Sink<Message, Error = SocketError> + Unpin,
{
    for piece in pieces(message) {
        feed(sink, piece).await?;
    }
    sink.flush().await
}

/// Writes a piece of a message. A whole message may wait in the buffer of the socket for a flush; there is no room there
/// for many pieces.
pub(super) async fn feed<S>(sink: &mut S, piece: Message) -> Result<(), SocketError>
where
    S: Sink<Message, Error = SocketError> + Unpin,
{
    match piece {
        Message::Frame(_) => sink.send(piece).await,
        whole => sink.feed(whole).await,
    }
}

/// A message as it goes over the wire: in one piece, or in several when it is large.
pub(super) fn pieces(message: Message) -> impl Iterator<Item = Message> {
    let (mut whole, mut rest, mut kind) = match message {
        Message::Text(text) if text.len() > PIECE => (None, Bytes::from(text), Data::Text),
        Message::Binary(bytes) if bytes.len() > PIECE => (None, bytes, Data::Binary),
        small => (Some(small), Bytes::new(), Data::Text),
    };
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return whole.take();
        }
        let piece = rest.split_to(PIECE.min(rest.len()));
        let frame = Piece::message(piece, OpCode::Data(kind), rest.is_empty());
        kind = Data::Continue;
        Some(Message::Frame(frame))
    })
}

/// A frame of a channel on the wire. `None`, and a line in the log: it cannot be written as JSON.
pub(super) fn outward(frame: Frame) -> Option<Message> {
    match frame {
        Frame::Text(text) => Some(Message::text(text)),
        Frame::Binary(bytes) => Some(Message::Binary(bytes)),
        Frame::Event(event) => match serde_json::to_string(&event) {
            Ok(text) => Some(Message::text(text)),
            Err(error) => {
                tracing::error!(%error, "an event could not be written as JSON");
                None
            }
        },
    }
}

/// What a message is for a reader of the channel.
pub(super) enum Inward {
    /// For the reader.
    Frame(Frame),
    /// Not for the reader.
    Nothing,
    /// The other side has ended the channel.
    End,
}

/// A message from the wire.
pub(super) fn inward(message: Result<Message, SocketError>) -> Inward {
    match message {
        Ok(Message::Text(text)) => Inward::Frame(Frame::Text(text.as_str().to_owned())),
        Ok(Message::Binary(bytes)) => Inward::Frame(Frame::Binary(bytes)),
        Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Inward::Nothing,
        Ok(Message::Close(_)) | Err(_) => Inward::End,
    }
}
