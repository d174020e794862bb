//! What workers cost an engine in memory: a process of its own, looked at from outside.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::memory::resident_mb;
use crate::support::figures::say;

const CONNECTIONS: usize = 1_000;
const FLOOD: usize = 100_000;

type Socket = WebSocketStream<TcpStream>;

/// The shipped program as an engine without workers.
struct Engine {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Engine {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let log = directory.path().join("log");
        let child = Command::new(env!("CARGO_BIN_EXE_harness"))
            .arg("engine")
            .current_dir(directory.path())
            .env("HARNESS__ENGINE__DATA_DIR", directory.path().join("data"))
            .env("HARNESS__ENGINE__LISTEN", "127.0.0.1:0")
            .env("HARNESS__ENGINE__DURABILITY", "normal")
            .env("HARNESS__HTTP__LISTEN", "127.0.0.1:0")
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).expect("a log"))
            .spawn()
            .expect("the program");
        let address = loop {
            if let Some(address) = listening(&log) {
                break address;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        Self {
            child,
            address,
            _directory: directory,
        }
    }

    async fn join(&self) -> Socket {
        let stream = TcpStream::connect(self.address).await.expect("a connection");
        stream.set_nodelay(true).expect("no-delay");
        let upgraded = client_async(format!("ws://{}/", self.address), stream).await;
        let (mut socket, _) = upgraded.expect("a socket");
        socket.next().await;
        socket
    }

    /// Resident memory once it has settled, in MB.
    async fn resident(&self) -> f64 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        resident_mb(self.child.id())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
    }
}

/// The address in the line that says it listens.
fn listening(log: &Path) -> Option<SocketAddr> {
    let text = std::fs::read_to_string(log).ok()?;
    let line = text.lines().find(|line| line.contains("listening for workers"))?;
    let at = line.split("127.0.0.1:").nth(1)?;
    let port: String = at.chars().take_while(char::is_ascii_digit).collect();
    Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?)))
}

/// Connections that do nothing, connections with what a small worker registers, and what floods leave behind.
pub(crate) async fn report() {
    say(format!("\n## memory of an engine, {CONNECTIONS} connections"));
    let count = f64::from(u32::try_from(CONNECTIONS).expect("a small number"));
    let engine = Engine::start().await;
    let empty = engine.resident().await;
    let mut sockets = Vec::new();
    for _ in 0..CONNECTIONS {
        sockets.push(engine.join().await);
    }
    let idle = engine.resident().await;
    for (n, socket) in sockets.iter_mut().enumerate() {
        for message in registrations(n) {
            send(socket, &message).await;
        }
        settle(socket).await;
    }
    let registered = engine.resident().await;
    drop(sockets);
    let gone = engine.resident().await;
    say(format!(
        "empty {:.1} MB   idle connection {:.1} kB   with two functions and a trigger {:.1} kB   all gone {:.1} MB",
        empty,
        (idle - empty) / count * 1024.0,
        (registered - empty) / count * 1024.0,
        gone,
    ));

    let engine = Engine::start().await;
    let before = engine.resident().await;
    let writes = flooded(&engine, |n| {
        json!({
            "type": "invokefunction", "invocation_id": null, "action": {"type": "void"}, "function_id": "stream::set",
            "data": {"stream_name": "flood", "group_id": "g", "item_id": format!("{}", n % 5_000), "data": "x".repeat(1_000)},
        })
    })
    .await;
    let calls = flooded(&engine, |n| {
        json!({
            "type": "invokefunction", "invocation_id": format!("00000000-0000-4000-9000-{n:012}"),
            "function_id": "no::such", "data": "x".repeat(1_000),
        })
    })
    .await;
    let registrations = flooded(
        &engine,
        |n| json!({"type": "registerfunction", "id": format!("w::{n}")}),
    )
    .await;
    say(format!(
        "before {before:.1} MB   after {FLOOD} stream writes {writes:.1} MB, {FLOOD} calls whose answers nobody reads \
         {calls:.1} MB, {FLOOD} registrations {registrations:.1} MB",
    ));
}

/// Sends without reading, then leaves; the memory afterwards.
async fn flooded(engine: &Engine, message: impl Fn(usize) -> Value) -> f64 {
    let mut socket = engine.join().await;
    for n in 0..FLOOD {
        let sent = socket.feed(Message::text(message(n).to_string()));
        // Who reads nothing may be cut off, or held up for good.
        if !matches!(
            tokio::time::timeout(Duration::from_secs(2), sent).await,
            Ok(Ok(()))
        ) {
            break;
        }
    }
    drop(socket);
    engine.resident().await
}

fn registrations(n: usize) -> [Value; 3] {
    [
        json!({"type": "registerfunction", "id": format!("w{n}::a")}),
        json!({"type": "registerfunction", "id": format!("w{n}::b")}),
        json!({"type": "registertrigger", "id": format!("w{n}/a"), "trigger_type": "state",
               "function_id": format!("w{n}::a"), "config": {"scope": format!("w{n}")}}),
    ]
}

async fn send(socket: &mut Socket, message: &Value) {
    socket
        .send(Message::text(message.to_string()))
        .await
        .expect("sent");
}

async fn settle(socket: &mut Socket) {
    send(socket, &json!({"type": "ping"})).await;
    socket.next().await;
}
