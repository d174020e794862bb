//! A model server whose answers are written down beforehand: real HTTP, real server-sent events, no model.
//!
//! `harness demo` talks to it, and so do the tests. It speaks Chat Completions and the Messages protocol as strictly as the
//! strictest servers do: a request that breaks the protocol is answered with 400 and kept in [`Server::violations`].
//!
//! ```no_run
//! # use harness::scripted::{Reply, Script, Server};
//! # fn main() -> std::io::Result<()> {
//! let script = Script::queue([
//!     Reply::calls([("c1", "agent_trigger", r#"{"function":"shell::fs::ls"}"#)]),
//!     Reply::says("There is one file.", 3),
//! ]);
//! let server = Server::start(script)?;
//! println!("{}", server.url()); // http://127.0.0.1:…/v1/chat/completions
//! # Ok(()) }
//! ```

mod chat;
mod check;
mod messages;
mod reply;
mod request;
mod serve;

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::HeaderMap;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use reply::{Gate, Reply, Step};
pub use request::Request;

/// A protocol of model servers; the path of a request says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    ChatCompletions,
    Messages,
}

/// Answers of other paths, by path and JSON body.
type Others = Box<dyn Fn(&str, &Value) -> Option<Reply> + Send + Sync>;

/// What the server answers.
pub struct Script {
    answer: Box<dyn Fn(&Request) -> Reply + Send + Sync>,
    /// Pages of the listing; never empty.
    models: Mutex<Vec<Reply>>,
    others: Others,
}

impl Script {
    /// Each request is looked at; right for sessions that run beside each other.
    pub fn answer(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self {
            answer: Box::new(answer),
            models: Mutex::new(vec![Reply::models(["gpt-5"])]),
            others: Box::new(|_, _| None),
        }
    }

    /// One reply after the other; a request beyond the last one is answered with 500.
    pub fn queue(replies: impl IntoIterator<Item = Reply>) -> Self {
        let waiting = Mutex::new(replies.into_iter().collect::<VecDeque<_>>());
        Self::answer(move |_| {
            let next = lock(&waiting).pop_front();
            next.unwrap_or_else(|| Reply::fails(500, "the script has no more replies"))
        })
    }

    /// What `GET /v1/models` answers; one model, `gpt-5`, unless set.
    #[must_use]
    pub fn with_models(self, reply: Reply) -> Self {
        *lock(&self.models) = vec![reply];
        self
    }

    /// What other paths answer, given path and JSON body; 404 where nothing is said.
    #[must_use]
    pub fn with_others(
        mut self,
        answer: impl Fn(&str, &Value) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        self.others = Box::new(answer);
        self
    }
}

/// A running server; it ends when this is dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Ends the accept loop on drop.
    _tasks: JoinSet<()>,
}

struct Shared {
    script: Script,
    seen: Mutex<Seen>,
    /// Replies whose body is not finished, and whose connection still stands.
    open: watch::Sender<usize>,
}

#[derive(Default)]
struct Seen {
    requests: Vec<Request>,
    listings: Vec<HeaderMap>,
    others: Vec<(String, Value)>,
    violations: Vec<String>,
}

impl Server {
    /// Listens on a free port of this machine. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// No port could be had.
    pub fn start(script: Script) -> std::io::Result<Self> {
        Self::on(TcpListener::bind(("127.0.0.1", 0))?, script)
    }

    /// Serves a listener. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// The listener is not usable.
    pub fn on(listener: TcpListener, script: Script) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let shared = Arc::new(Shared {
            script,
            seen: Mutex::default(),
            open: watch::Sender::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve::serve(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            _tasks: tasks,
        })
    }

    /// The chat endpoint, fit for a provider's `api_url`.
    pub fn url(&self) -> String {
        format!("http://{}/v1/chat/completions", self.address)
    }

    /// The endpoint of the Messages protocol, the same.
    pub fn messages_url(&self) -> String {
        format!("http://{}/v1/messages", self.address)
    }

    /// All chat requests so far, refused ones included.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.seen).requests.clone()
    }

    /// How often the models were listed.
    pub fn listings(&self) -> usize {
        lock(&self.shared.seen).listings.len()
    }

    /// The headers with which the models were listed.
    pub fn listing_headers(&self) -> Vec<HeaderMap> {
        lock(&self.shared.seen).listings.clone()
    }

    /// Requests to other paths than those of chat and models, so far: path and JSON body.
    pub fn others(&self) -> Vec<(String, Value)> {
        lock(&self.shared.seen).others.clone()
    }

    /// What was wrong with the requests so far, in order; empty for a correct client.
    pub fn violations(&self) -> Vec<String> {
        lock(&self.shared.seen).violations.clone()
    }

    /// Changes what `GET /v1/models` answers.
    pub fn set_models(&self, reply: Reply) {
        self.set_model_pages([reply]);
    }

    /// The same in pages: `after_id=N` asks for page N, counted from 0.
    pub fn set_model_pages(&self, pages: impl IntoIterator<Item = Reply>) {
        *lock(&self.shared.script.models) = pages.into_iter().collect();
    }

    /// How many replies are being sent right now; a client that hangs up ends its own at once.
    pub fn open_replies(&self) -> watch::Receiver<usize> {
        self.shared.open.subscribe()
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Script")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
