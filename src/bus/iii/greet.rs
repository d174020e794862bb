//! A short visit before the program joins an engine: is there one, and is our name free? It is made on a socket of its own,
//! which registers nothing, because the SDK takes the name as soon as it connects and does not say who had it.

use futures::StreamExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::AUTHORIZATION;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::super::socket;
use crate::config::Secret;
use crate::error::{Error, Result};
use crate::ids::Ids;
use crate::model::text::clip;

/// A socket to the engine.
pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What the visit found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// An engine without a worker of our name.
    Free,
    /// An engine that lists a worker of our name.
    NameTaken,
}

/// How a token is shown.
pub(super) fn bearer(token: &Secret) -> String {
    format!("Bearer {}", token.expose())
}

/// Visits the engine. Has no limit of its own.
///
/// # Errors
/// [`Error::Unavailable`]: there is no engine, or none that lets us in; the text says what was found instead.
pub async fn greet(url: &str, token: Option<&Secret>, worker_name: &str, ids: &dyn Ids) -> Result<Greeting> {
    let mut socket = open(url, token)
        .await
        .map_err(|error| Error::Unavailable(refusal_of(&error)))?;
    let question = ids.uuid();
    loop {
        let Some(frame) = next(&mut socket).await? else {
            return Err(Error::Unavailable("the connection was closed".into()));
        };
        match frame.kind.as_str() {
            "workerregistered" => {
                let ask = json!({
                    "type": "invokefunction", "invocation_id": question,
                    "function_id": "engine::workers::list", "data": {},
                });
                let sent = socket::send(&mut socket, Message::text(ask.to_string())).await;
                sent.map_err(|error| Error::Unavailable(error.to_string()))?;
            }
            "invocationresult" if frame.invocation_id.as_deref() == Some(&question) => {
                // Best effort: the connection is dropped anyway.
                socket.close(None).await.ok();
                let taken = count_of(frame.result.as_ref(), worker_name) > 0;
                return Ok(if taken {
                    Greeting::NameTaken
                } else {
                    Greeting::Free
                });
            }
            "error" => {
                let error = frame.error.unwrap_or_default();
                return Err(Error::Unavailable(clip(&error.to_string(), 200).into_owned()));
            }
            _ => {}
        }
    }
}

/// How many workers of this name an answer of `engine::workers::list` holds.
pub(super) fn count_of(answer: Option<&Value>, worker_name: &str) -> usize {
    let rows = answer
        .and_then(|answer| answer.get("workers"))
        .and_then(Value::as_array);
    rows.into_iter()
        .flatten()
        .filter(|row| row.get("name").and_then(Value::as_str) == Some(worker_name))
        .count()
}

#[derive(Deserialize)]
struct Incoming {
    #[serde(rename = "type")]
    kind: String,
    invocation_id: Option<String>,
    result: Option<Value>,
    error: Option<Value>,
}

async fn next(socket: &mut Socket) -> Result<Option<Incoming>> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => {
                let frame = serde_json::from_str(&text);
                return frame
                    .map(Some)
                    .map_err(|error| Error::Unavailable(format!("not an engine: {error}")));
            }
            Some(Ok(Message::Close(_))) | None => return Ok(None),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(Error::Unavailable(error.to_string())),
        }
    }
}

/// Opens a socket of the engine.
pub(super) async fn open(url: &str, token: Option<&Secret>) -> Result<Socket, SocketError> {
    let mut request = url.into_client_request()?;
    if let Some(token) = token {
        let value =
            HeaderValue::from_str(&bearer(token)).map_err(|error| SocketError::HttpFormat(error.into()))?;
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    // Boxed: it is large, and inside everything that waits for it.
    let (socket, _) = Box::pin(connect_async_with_config(request, None, true)).await?;
    Ok(socket)
}

/// Why a socket was not opened, without more of a stranger's answer than its status.
pub(super) fn refusal_of(error: &SocketError) -> String {
    match error {
        SocketError::Http(response) => format!("refused with HTTP {}", response.status().as_u16()),
        other => other.to_string(),
    }
}
