//! Visits to an engine before the program joins it: is there one, and is it ours to serve? They are made on a socket of
//! their own, which registers nothing, because the SDK takes the name as soon as it connects and does not say who had it.

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
    let mut visit = Visit::begin(url, token).await?;
    let greeting = visit.greet(worker_name, ids).await?;
    visit.end().await;
    Ok(greeting)
}

/// A visit under way.
pub(super) struct Visit {
    socket: Socket,
}

impl Visit {
    /// Opens a socket that the engine answers on.
    pub(super) async fn begin(url: &str, token: Option<&Secret>) -> Result<Self> {
        let socket = open(url, token)
            .await
            .map_err(|error| Error::Unavailable(refusal_of(&error)))?;
        let mut visit = Self { socket };
        while visit.frame().await?.kind != "workerregistered" {}
        Ok(visit)
    }

    /// Asks whether a worker has our name.
    pub(super) async fn greet(&mut self, worker_name: &str, ids: &dyn Ids) -> Result<Greeting> {
        let workers = match self.ask("engine::workers::list", json!({}), ids).await {
            Ok(answer) => Some(answer),
            Err(Error::Coded { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(match count_of(workers.as_ref(), worker_name) {
            0 => Greeting::Free,
            _ => Greeting::NameTaken,
        })
    }

    /// Calls a function of the engine.
    ///
    /// # Errors
    /// What it answers as [`Error::Coded`]; [`Error::Unavailable`] when the visit is over.
    pub(super) async fn ask(&mut self, function: &str, data: Value, ids: &dyn Ids) -> Result<Value> {
        let question = ids.uuid();
        let ask = json!({
            "type": "invokefunction", "invocation_id": question, "function_id": function, "data": data,
        });
        let sent = socket::send(&mut self.socket, Message::text(ask.to_string())).await;
        sent.map_err(|error| Error::Unavailable(error.to_string()))?;
        loop {
            let frame = self.frame().await?;
            if frame.kind != "invocationresult" || frame.invocation_id.as_deref() != Some(&question) {
                continue;
            }
            let member = |error: &Value, name: &str| {
                let text = error.get(name).and_then(Value::as_str).unwrap_or_default();
                clip(text, 200).into_owned()
            };
            return match frame.error {
                Some(error) => Err(Error::coded(member(&error, "code"), member(&error, "message"))),
                None => Ok(frame.result.unwrap_or_default()),
            };
        }
    }

    /// Takes leave, as well as it can be done.
    pub(super) async fn end(mut self) {
        self.socket.close(None).await.ok();
    }

    async fn frame(&mut self) -> Result<Incoming> {
        let frame = next(&mut self.socket)
            .await?
            .ok_or_else(|| Error::Unavailable("the connection was closed".into()))?;
        if frame.kind == "error" {
            let error = frame.error.unwrap_or_default();
            return Err(Error::Unavailable(clip(&error.to_string(), 200).into_owned()));
        }
        Ok(frame)
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
