//! A web server that says exactly what a test wants, also what no proper server would.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::engine::within;
use crate::support::stub::Door;

/// A request as the server got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) method: String,
    pub(super) path: String,
    /// Names as they came.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
    /// Number of its connection.
    pub(super) connection: usize,
}

impl Asked {
    /// The path without its slash.
    pub(super) fn rest(&self) -> &str {
        self.path.trim_start_matches('/')
    }

    /// The values of a header.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let found = self
            .headers
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a header that is there at most once.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name}: {all:?}");
        all.first().copied()
    }
}

/// One part of what the server does with a request.
#[derive(Clone)]
pub(super) enum Act {
    /// Sends this.
    Say(Vec<u8>),
    /// Waits.
    Wait(Duration),
    /// Waits until the test lets it go on.
    Hold(Door),
    /// Sends this again and again, with a pause, until the client is gone.
    Repeat(Vec<u8>, Duration),
    /// Ends the connection.
    Close,
    /// Says nothing more until the client is gone.
    Hang,
}

/// A whole answer with its length.
pub(super) fn answer(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<Act> {
    let mut bytes = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len()).into_bytes();
    for (name, value) in headers {
        bytes.extend(format!("{name}: {value}\r\n").bytes());
    }
    bytes.extend(b"\r\n");
    bytes.extend(body);
    vec![Act::Say(bytes)]
}

/// A plain answer with status 200.
pub(super) fn ok(body: &str) -> Vec<Act> {
    answer("200 OK", &[], body.as_bytes())
}

/// A redirect.
pub(super) fn to(status: &str, location: &str) -> Vec<Act> {
    answer(status, &[("location", location)], b"")
}

/// The server; it is gone when this is dropped.
pub(super) struct Site {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// One for each connection that is open.
    open: Arc<()>,
    _tasks: JoinSet<()>,
}

type Handler = dyn Fn(&Asked) -> Vec<Act> + Send + Sync;

impl Site {
    pub(super) async fn start(handler: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", handler).await
    }

    pub(super) async fn at(
        address: &str,
        handler: impl Fn(&Asked) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, open) = (Arc::default(), Arc::new(()));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(
            listener,
            Arc::new(handler),
            Arc::clone(&asked),
            Arc::downgrade(&open),
        ));
        Self {
            address,
            asked,
            open,
            _tasks: tasks,
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The requests so far, in order.
    pub(super) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The only request.
    pub(super) fn only(&self) -> Asked {
        let asked = self.asked();
        assert_eq!(asked.len(), 1, "{asked:?}");
        asked[0].clone()
    }

    /// Waits until all connections have ended.
    pub(super) async fn is_left_alone(&self) {
        within(async {
            while Arc::strong_count(&self.open) > 1 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }

    /// Method and path of each request.
    pub(super) fn lines(&self) -> Vec<String> {
        let asked = self.asked();
        asked
            .iter()
            .map(|asked| format!("{} {}", asked.method, asked.path))
            .collect()
    }
}

async fn accept(listener: TcpListener, handler: Arc<Handler>, asked: Arc<Mutex<Vec<Asked>>>, open: Weak<()>) {
    let mut connections = JoinSet::new();
    for connection in 0.. {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let (handler, asked, open) = (Arc::clone(&handler), Arc::clone(&asked), open.upgrade());
        connections.spawn(async move {
            let mut stream = stream;
            while let Some(request) = read(&mut stream, connection).await {
                asked.lock().unwrap().push(request.clone());
                if !act(&mut stream, handler(&request)).await {
                    break;
                }
            }
            drop(open);
        });
    }
}

/// Does what was said; false when the connection is over.
async fn act(stream: &mut TcpStream, acts: Vec<Act>) -> bool {
    for act in acts {
        match act {
            Act::Say(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return false;
                }
            }
            Act::Wait(time) => tokio::time::sleep(time).await,
            Act::Hold(door) => door.pass().await,
            Act::Repeat(bytes, pause) => {
                while stream.write_all(&bytes).await.is_ok() {
                    tokio::time::sleep(pause).await;
                }
                return false;
            }
            Act::Close => return false,
            Act::Hang => {
                let mut rest = Vec::new();
                // Ends when the client does.
                return stream.read_to_end(&mut rest).await.is_err();
            }
        }
    }
    true
}

async fn read(stream: &mut TcpStream, connection: usize) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut asked = Asked {
        method,
        path,
        headers,
        body: String::new(),
        connection,
    };
    // A chunked body is not read: none may come.
    let length = asked
        .header("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    asked.body = String::from_utf8(body).unwrap();
    Some(asked)
}
