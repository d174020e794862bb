//! A worker made of raw WebSocket frames, so that a test says what is on the wire.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::engine::within;

pub(crate) type Socket = WebSocketStream<TcpStream>;

/// Opens a socket at a path; the HTTP status when it is refused.
pub(crate) async fn open(
    address: SocketAddr,
    path: &str,
    authorization: Option<&str>,
) -> Result<Socket, u16> {
    let mut request = format!("ws://{address}{path}").into_client_request().unwrap();
    if let Some(text) = authorization {
        request
            .headers_mut()
            .insert("authorization", text.parse().unwrap());
    }
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    match within(tokio_tungstenite::client_async(request, stream)).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => Err(response.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

/// How a socket ended: with the code of a Close frame, or without one.
pub(crate) async fn end_of(socket: &mut Socket) -> Option<CloseCode> {
    within(async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Close(frame))) => return frame.map(|frame| frame.code),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    })
    .await
}

/// A worker.
pub(crate) struct Ws {
    pub(crate) socket: Socket,
    /// The first frame the engine sent.
    pub(crate) greeting: Value,
    /// What came while something else was waited for.
    inbox: VecDeque<Value>,
    calls: u64,
}

impl Ws {
    pub(crate) async fn join(address: SocketAddr) -> Self {
        let mut worker = Self {
            socket: open(address, "/", None).await.unwrap(),
            greeting: Value::Null,
            inbox: VecDeque::new(),
            calls: 0,
        };
        worker.greeting = worker.read().await;
        worker
    }

    pub(crate) fn id(&self) -> &str {
        self.greeting["worker_id"].as_str().unwrap()
    }

    pub(crate) async fn text(&mut self, text: &str) {
        within(self.socket.send(Message::text(text))).await.unwrap();
    }

    pub(crate) async fn binary(&mut self, bytes: &[u8]) {
        let message = Message::Binary(Bytes::copy_from_slice(bytes));
        within(self.socket.send(message)).await.unwrap();
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.text(&message.to_string()).await;
    }

    /// Hosts functions; the engine knows them when this returns.
    pub(crate) async fn host(&mut self, ids: &[&str]) {
        for id in ids {
            self.send(json!({"type": "registerfunction", "id": id, "request_format": null, "response_format": null}))
                .await;
        }
        self.settle().await;
    }

    pub(crate) async fn bind(&mut self, id: &str, trigger_type: &str, function: &str, config: Value) {
        self.send(json!({
            "type": "registertrigger", "id": id, "trigger_type": trigger_type, "function_id": function,
            "config": config,
        }))
        .await;
        self.settle().await;
    }

    /// Everything sent before has been looked at.
    pub(crate) async fn settle(&mut self) {
        self.send(json!({"type": "ping"})).await;
        self.take(|message| message["type"] == "pong").await;
    }

    /// Sends a call and answers its id.
    pub(crate) async fn begin(&mut self, function: &str, data: Value) -> String {
        self.calls += 1;
        let id = format!("00000000-0000-4000-9000-{:012}", self.calls);
        self.send(
            json!({"type": "invokefunction", "invocation_id": id, "function_id": function, "data": data}),
        )
        .await;
        id
    }

    /// The result frame of a call, without its id and type.
    pub(crate) async fn result(&mut self, id: &str) -> Value {
        let mut message = self
            .take(|message| message["type"] == "invocationresult" && message["invocation_id"] == id)
            .await;
        let members = message.as_object_mut().unwrap();
        members.remove("type");
        members.remove("invocation_id");
        members.remove("function_id");
        message
    }

    /// Calls and waits; `{"result": …}`, `{"error": …}` or `{}`.
    pub(crate) async fn call(&mut self, function: &str, data: Value) -> Value {
        let id = self.begin(function, data).await;
        self.result(&id).await
    }

    /// The value of a call that must succeed with one.
    pub(crate) async fn ok(&mut self, function: &str, data: Value) -> Value {
        let mut reply = self.call(function, data).await;
        assert_eq!(reply.get("error"), None, "{function}");
        reply["result"].take()
    }

    /// A call without an answer.
    pub(crate) async fn void(&mut self, function: &str, data: Value) {
        self.send(json!({
            "type": "invokefunction", "invocation_id": null, "function_id": function, "data": data,
            "action": {"type": "void"},
        }))
        .await;
    }

    /// The next call of a function of this worker.
    pub(crate) async fn called(&mut self, function: &str) -> Value {
        self.take(|message| message["type"] == "invokefunction" && message["function_id"] == function)
            .await
    }

    pub(crate) async fn answer(&mut self, call: &Value, result: Value) {
        self.send(json!({
            "type": "invocationresult", "invocation_id": call["invocation_id"], "function_id": call["function_id"],
            "result": result,
        }))
        .await;
    }

    /// The payload of the next call of a function, answered with null.
    pub(crate) async fn event(&mut self, function: &str) -> Value {
        let mut call = self.called(function).await;
        self.answer(&call, Value::Null).await;
        call["data"].take()
    }

    /// The next message that is wanted; others are kept.
    pub(crate) async fn take(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.inbox.iter().position(&wanted) {
            return self.inbox.remove(at).unwrap();
        }
        loop {
            let message = self.read().await;
            if wanted(&message) {
                return message;
            }
            self.inbox.push_back(message);
        }
    }

    /// Messages that came and that nobody took.
    pub(crate) fn untaken(&self) -> Vec<Value> {
        self.inbox.iter().cloned().collect()
    }

    async fn read(&mut self) -> Value {
        within(async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    other => panic!("{other:?}"),
                }
            }
        })
        .await
    }

    /// Leaves politely.
    pub(crate) async fn leave(mut self) {
        within(self.socket.close(None)).await.ok();
        assert_eq!(end_of(&mut self.socket).await, None);
    }
}
