//! An upgraded socket and its settings.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};

use super::{Limits, handshake};

pub(super) use crate::bus::socket::{feed, pieces, send};
pub(super) use tokio_tungstenite::tungstenite::Error;
pub(super) use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// A connection after its upgrade.
pub(super) type Socket = WebSocketStream<TcpStream>;

/// What this end can do, for clients that look. They set no-delay on their end only if it is set on ours too.
const CAPABILITIES: &str = "x-iii-capabilities";

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
    let callback = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        match admit(request) {
            Ok(()) => {
                let headers = response.headers_mut();
                headers.insert(CAPABILITIES, HeaderValue::from_static("tcp-nodelay"));
                Ok(response)
            }
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

/// A farewell with its reason.
pub(super) fn close(code: CloseCode, reason: &'static str) -> Message {
    Message::Close(Some(CloseFrame {
        code,
        reason: reason.into(),
    }))
}
