//! The connection: when it is there, when it is lost, when it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use iii_sdk::IIIClient;
use iii_sdk::runtime::IIIConnectionState;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Core, probe, register};
use crate::bus::{Bus, Link};
use crate::error::{Error, Result};

/// The SDK tells nobody when its state changes, so it is looked at this often. A lost connection stays visible for the
/// two seconds that the SDK waits before the next attempt.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Most time for taking leave of the engine.
const GOODBYE: Duration = Duration::from_secs(2);

/// The state of the link, for everybody who waits for it.
pub(super) struct Tracker {
    state: watch::Sender<Link>,
    connections: AtomicU64,
    over: CancellationToken,
}

impl Default for Tracker {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(Link::Down),
            connections: AtomicU64::new(0),
            over: CancellationToken::new(),
        }
    }
}

impl Tracker {
    pub(super) fn now(&self) -> Link {
        *self.state.borrow()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Link> {
        self.state.subscribe()
    }

    /// Resolves while the link is up.
    pub(super) async fn up(&self) {
        // The sender lives in `self`.
        self.subscribe().wait_for(|link| *link != Link::Down).await.ok();
    }

    /// Whether there will be no further connection.
    pub(super) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    fn set(&self, link: Link) {
        self.state.send_replace(link);
    }
}

/// Connects, registers all functions, and waits until the engine has them.
pub(super) async fn start(core: Arc<Core>, bus: Bus) -> Result<()> {
    if core.bus.set(bus.downgrade()).is_err() {
        return Err(Error::Unavailable("the connection was started before".into()));
    }
    let client = core.client.get_or_init(|| core.connect()).clone();
    for function in bus.functions() {
        register::function(&core, &client, &function);
    }
    bus.spawn(follow(Arc::clone(&core), client, bus.shutdown_token().clone()));
    tokio::select! {
        () = core.link.up() => Ok(()),
        () = core.link.over.cancelled() => Err(core.refusal()),
        () = bus.shutdown_token().cancelled() => Err(Error::Stopped),
    }
}

/// Publishes what becomes of the connection, as long as there is one.
async fn follow(core: Arc<Core>, client: IIIClient, stop: CancellationToken) {
    loop {
        if !until(&client, &stop, |state| state == IIIConnectionState::Connected).await {
            break;
        }
        // An answer proves that what was sent before it, the registrations, was taken in.
        if let Err(error) = probe::look(&core).await {
            tracing::warn!(%error, "the engine does not answer yet");
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        }
        let number = core.link.connections.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::info!(url = core.options.url, number, "connected to the engine");
        core.link.set(Link::Up(number));
        let stays = until(&client, &stop, |state| state != IIIConnectionState::Connected).await;
        if stop.is_cancelled() {
            return;
        }
        tracing::warn!(url = core.options.url, "connection to the engine lost");
        core.link.set(Link::Down);
        if !stays {
            break;
        }
    }
    if !stop.is_cancelled() {
        tracing::error!(error = %core.refusal(), "the engine refuses this worker");
        core.link.over.cancel();
    }
}

/// Waits for a state. False: there will be none, because the SDK gave up or the program stops.
async fn until(
    client: &IIIClient,
    stop: &CancellationToken,
    wanted: impl Fn(IIIConnectionState) -> bool,
) -> bool {
    loop {
        if client.fatal_error().is_some() {
            return false;
        }
        if wanted(client.get_connection_state()) {
            return true;
        }
        if stop
            .run_until_cancelled(tokio::time::sleep(LOOK_EVERY))
            .await
            .is_none()
        {
            return false;
        }
    }
}

/// Takes leave: an answer proves that results and deregistrations before it are out, then the connection is closed.
pub(super) async fn stop(core: &Arc<Core>) {
    core.link.over.cancel();
    let Ok(client) = core.client().cloned() else {
        return;
    };
    if core.link.now() != Link::Down {
        core.registrations.clear();
        tokio::time::timeout(GOODBYE, probe::ping(core)).await.ok();
    }
    core.link.set(Link::Down);
    let closed = tokio::task::spawn_blocking(move || client.shutdown());
    if tokio::time::timeout(GOODBYE, closed).await.is_err() {
        tracing::warn!("the connection to the engine did not close in time");
    }
}
