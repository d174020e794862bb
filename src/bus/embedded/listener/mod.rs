//! The listener: the worker protocol of the iii engine on a WebSocket, so that every SDK can join (contract 00 §1, §8, §16).
//!
//! ```text
//!  accept ─► handshake (path, token) ─► /                 connection ─► session ─► PeerHandle ─► Core
//!                                    ├► /otel             read and dropped
//!                                    └► /ws/channels/{id} channels ─► bus channels
//! ```
//!
//! Invariants: a connection costs nobody else anything: every queue has a bound, who sends too much waits and who reads
//! nothing is cut off; what a worker registered goes with its connection; a call in flight is known before it is sent.
//! Not here: what a function means, RBAC, TLS.

mod channels;
mod connection;
mod facts;
mod frame;
mod handshake;
mod limits;
mod outgoing;
mod register;
mod session;
mod socket;
mod web;
mod wire;

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::StreamExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Core;
use crate::config::Secret;
use crate::error::{Error, Result};
use crate::http;
use handshake::Purpose;
use session::Session;
use socket::Socket;

pub use limits::Limits;

/// How long connections may take to say goodbye.
const STOP: Duration = Duration::from_secs(2);

/// Channels that nobody took are looked for this often.
const SWEEP: Duration = Duration::from_mins(1);

/// After a failed accept, such as one without a free file descriptor.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How a listener is opened.
#[derive(Debug, Clone, Default)]
pub struct ListenOptions {
    /// What workers must show; `None` lets everybody in.
    pub token: Option<Secret>,
    /// What they may use.
    pub limits: Limits,
}

/// The open connections of an engine.
#[derive(Debug, Default)]
pub(in crate::bus::embedded) struct Hub {
    tasks: TaskTracker,
    stop: CancellationToken,
    sessions: Mutex<HashMap<Arc<str>, Weak<Session>>>,
    /// For functions that are URLs.
    http: Arc<http::Clients>,
}

impl Hub {
    /// Open connections of workers.
    pub(in crate::bus::embedded) fn connected(&self) -> usize {
        self.lock().len()
    }

    /// Ends all connections and waits for them, for a while.
    pub(in crate::bus::embedded) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP, self.tasks.wait()).await.is_err() {
            tracing::warn!(left = self.tasks.len(), "connections of workers are cut");
        }
    }

    fn http(&self) -> Arc<http::Clients> {
        Arc::clone(&self.http)
    }

    async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    fn add(&self, session: &Arc<Session>) {
        self.lock()
            .insert(Arc::clone(&session.id), Arc::downgrade(session));
    }

    fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    fn find(&self, id: &str) -> Option<Arc<Session>> {
        self.lock().get(id).and_then(Weak::upgrade)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Weak<Session>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all connections of a listener share.
struct Door {
    core: Arc<Core>,
    token: Option<Secret>,
    limits: Arc<Limits>,
}

/// Serves on a bound socket until the engine ends.
///
/// # Errors
/// The socket has no address.
pub(super) fn serve(core: &Arc<Core>, socket: TcpListener, options: ListenOptions) -> Result<SocketAddr> {
    let address = socket
        .local_addr()
        .map_err(|error| Error::Unavailable(format!("worker listener: {error}")))?;
    let door = Arc::new(Door {
        core: Arc::clone(core),
        token: options.token,
        limits: Arc::new(options.limits),
    });
    core.listener.spawn(accept(door, socket));
    Ok(address)
}

async fn accept(door: Arc<Door>, socket: TcpListener) {
    let places = Arc::new(Semaphore::new(door.limits.connections));
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            () = door.core.listener.stopping() => return,
            _ = sweep.tick() => {
                if let Ok(bus) = door.core.bus() {
                    bus.channels().sweep();
                }
                continue;
            }
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a worker could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(%peer, limit = door.limits.connections, "too many connections, one is refused");
            continue;
        };
        let greeted = Arc::clone(&door);
        door.core.listener.spawn(async move {
            greeted.greet(stream, peer).await;
            drop(place);
        });
    }
}

impl Door {
    async fn greet(&self, stream: TcpStream, peer: SocketAddr) {
        // Small messages must not wait for each other (contract 00 §15, row 9).
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "no-delay not set");
        }
        let upgraded = tokio::select! {
            upgraded = tokio::time::timeout(self.limits.handshake, self.upgrade(stream)) => upgraded,
            () = self.core.listener.stopping() => return,
        };
        let (socket, purpose) = match upgraded {
            Ok(Ok(upgraded)) => upgraded,
            Ok(Err(why)) => return tracing::debug!(%peer, why, "no upgrade"),
            Err(_) => return tracing::debug!(%peer, "no upgrade in time"),
        };
        match purpose {
            Purpose::Worker => connection::run(&self.core, socket, &self.limits, peer.ip().to_string()).await,
            Purpose::Telemetry => self.drop_all(socket).await,
            Purpose::ChannelWriter(writer) => channels::write(&self.core, socket, writer).await,
            Purpose::ChannelReader(reader) => channels::read(&self.core, socket, reader).await,
            Purpose::Taken => channels::refuse(socket).await,
        }
    }

    async fn upgrade(&self, stream: TcpStream) -> Result<(Socket, Purpose), String> {
        let bus = self.core.bus().map_err(|error| error.to_string())?;
        let mut purpose = None;
        let socket = socket::upgrade(stream, &self.limits, |request| {
            purpose = Some(handshake::admit(request, self.token.as_ref(), &bus)?);
            Ok(())
        })
        .await?;
        let purpose = purpose.ok_or("the request was not looked at")?;
        Ok((socket, purpose))
    }

    /// Telemetry: taken, so that its sender does not reconnect for ever, and not kept.
    async fn drop_all(&self, mut socket: Socket) {
        let read = async { while let Some(Ok(_)) = socket.next().await {} };
        tokio::select! {
            () = read => {}
            () = self.core.listener.stopping() => {}
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
