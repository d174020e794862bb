//! An upgraded socket: its settings, and sending of what is larger than one frame should be.

use std::time::Duration;

use bytes::Bytes;
use futures::{Sink, SinkExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};

use super::{Limits, handshake};

pub(super) use tokio_tungstenite::tungstenite::Error;
pub(super) use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// A connection after its upgrade.
pub(super) type Socket = WebSocketStream<TcpStream>;

/// Larger messages are sent in pieces of this size, in bytes: a client takes no frame above 16 MiB, and the buffer of
/// the socket stays small.
const PIECE: usize = 1024 * 1024;

/// Pongs for a client that reads nothing pile up here, in bytes; beyond it the connection fails.
const MAX_UNSENT: usize = 4 * 1024 * 1024;

/// The library's default of 128 KiB for each socket is for few and busy ones, in bytes.
const READ_BUFFER: usize = 16 * 1024;

/// How long a farewell may take.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// Upgrades a connection if the request is admitted.
///
/// # Errors
/// Why there is no upgrade, for the log.
#[expect(clippy::result_large_err, reason = "the shape of the library")]
pub(super) async fn upgrade(
    stream: TcpStream,
    limits: &Limits,
    admit: impl FnOnce(&Request) -> Result<(), StatusCode> + Unpin,
) -> Result<Socket, String> {
    let callback = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        match admit(request) {
            Ok(()) => Ok(response),
            Err(status) => Err(handshake::refusal(status)),
        }
    };
    tokio_tungstenite::accept_hdr_async_with_config(stream, callback, Some(config(limits)))
        .await
        .map_err(|error| error.to_string())
}

fn config(limits: &Limits) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .max_write_buffer_size(MAX_UNSENT)
        .max_frame_size(Some(limits.frame_bytes))
        .max_message_size(Some(limits.message_bytes))
}

/// Sends a message, in pieces when it is large; it is on its way when this returns.
pub(super) async fn send<S>(sink: &mut S, message: Message) -> Result<(), Error>
where
    S: Sink<Message, Error = Error> + Unpin,
{
    feed(sink, message).await?;
    sink.flush().await
}

/// Like [`send`], but what fits a buffer may wait there for a flush.
pub(super) async fn feed<S>(sink: &mut S, message: Message) -> Result<(), Error>
where
    S: Sink<Message, Error = Error> + Unpin,
{
    let (mut rest, mut kind) = match message {
        Message::Text(text) if text.len() > PIECE => (Bytes::from(text), Data::Text),
        Message::Binary(bytes) if bytes.len() > PIECE => (bytes, Data::Binary),
        small => return sink.feed(small).await,
    };
    while !rest.is_empty() {
        let piece = rest.split_to(PIECE.min(rest.len()));
        let frame = Frame::message(piece, OpCode::Data(kind), rest.is_empty());
        kind = Data::Continue;
        sink.send(Message::Frame(frame)).await?;
    }
    Ok(())
}

/// A farewell with its reason.
pub(super) fn close(code: CloseCode, reason: &'static str) -> Message {
    Message::Close(Some(CloseFrame {
        code,
        reason: reason.into(),
    }))
}
