//! The yardstick of the wire: a WebSocket that sends back what it gets, and a client that only knows which answer belongs
//! to which question.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, client_async};

/// Answers every message with itself; lives as long as the runtime.
pub(crate) async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    Handle::current().spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).expect("no-delay");
            Handle::current().spawn(async move {
                let mut socket = accept_async(stream).await.expect("a socket");
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_close() || socket.send(message).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<()>>>>;

/// One connection that many callers share.
#[derive(Clone)]
pub(crate) struct Client {
    outgoing: mpsc::Sender<Message>,
    waiting: Waiting,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("no-delay");
        let (socket, _) = client_async(format!("ws://{address}/"), stream)
            .await
            .expect("a socket");
        let (mut sink, mut stream) = socket.split();
        let (outgoing, mut queue) = mpsc::channel::<Message>(1024);
        let waiting = Waiting::default();
        let answers = Arc::clone(&waiting);
        Handle::current().spawn(async move {
            while let Some(message) = queue.recv().await {
                sink.send(message).await.expect("sent");
            }
        });
        Handle::current().spawn(async move {
            while let Some(Ok(message)) = stream.next().await {
                let number = message
                    .to_text()
                    .ok()
                    .and_then(|text| text.split(' ').next()?.parse().ok());
                let answered = number.and_then(|number| lock(&answers).remove(&number));
                answered.map(|answer| answer.send(()));
            }
        });
        Self { outgoing, waiting }
    }

    /// One round trip of a message as long as a small call.
    pub(crate) async fn call(&self, number: u64) {
        let (answer, answered) = oneshot::channel();
        lock(&self.waiting).insert(number, answer);
        let text = format!("{number} {}", "x".repeat(180));
        self.outgoing.send(Message::text(text)).await.expect("sent");
        answered.await.expect("an answer");
    }
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, HashMap<u64, oneshot::Sender<()>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
