//! The connection: when it is there, when it is lost, when it is over.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iii_sdk::IIIClient;
use iii_sdk::runtime::IIIConnectionState;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Core, probe, register, stand_by};
use crate::bus::lease::Lease;
use crate::bus::{Bus, Link, WeakBus};
use crate::error::{Error, Result};
use crate::telemetry::name;

/// The SDK tells nobody when its state changes, so it is looked at this often. A lost connection stays visible for the
/// two seconds that the SDK waits before the next attempt.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Most time for each part of taking leave of the engine.
const GOODBYE: Duration = Duration::from_secs(2);

/// The state of the link, for everybody who waits for it.
pub(super) struct Tracker {
    state: watch::Sender<Link>,
    connections: AtomicU64,
    /// Sockets that were lost so far.
    losses: AtomicU64,
    up_since: Mutex<Option<Instant>>,
    /// Why there is no connection.
    failure: Mutex<String>,
    /// The engine is served by somebody else.
    is_stand_by: AtomicBool,
    over: CancellationToken,
}

impl Default for Tracker {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(Link::Down),
            connections: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            up_since: Mutex::default(),
            failure: Mutex::new("not connected yet".to_owned()),
            is_stand_by: AtomicBool::new(false),
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

    /// How long the link has been up; zero when it is not.
    pub(super) fn age(&self) -> Duration {
        lock(&self.up_since).map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Number of the socket in use.
    pub(super) fn socket(&self) -> u64 {
        self.losses.load(Ordering::Acquire)
    }

    /// Why there is no connection.
    pub(super) fn failure(&self) -> String {
        lock(&self.failure).clone()
    }

    /// Whether somebody else serves the engine.
    pub(super) fn is_stand_by(&self) -> bool {
        self.is_stand_by.load(Ordering::Acquire)
    }

    pub(super) fn stands_by(&self, is_so: bool) {
        self.is_stand_by.store(is_so, Ordering::Release);
    }

    /// Whether there will be no further connection.
    pub(super) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    fn rise(&self) -> u64 {
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        *lock(&self.up_since) = Some(Instant::now());
        self.state.send_replace(Link::Up(number));
        number
    }

    /// True when the reason is a new one.
    pub(super) fn fall(&self, why: &str) -> bool {
        let is_new = {
            let mut failure = lock(&self.failure);
            let is_new = *failure != why;
            why.clone_into(&mut failure);
            is_new
        };
        *lock(&self.up_since) = None;
        // Last: who sees it may ask for the reason.
        self.state.send_replace(Link::Down);
        is_new
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the engine is ours to serve, connects, registers all functions, and waits until they are known.
pub(super) async fn start(core: Arc<Core>, bus: Bus) -> Result<()> {
    if core.bus.set(bus.downgrade()).is_err() {
        return Err(Error::Unavailable("the connection was started before".into()));
    }
    core.round_trips
        .get_or_init(|| bus.ports().metrics.counter(name::ENGINE_ROUND_TRIPS_TOTAL, &[]));
    let lease = stand_by::wait(&core, &bus, None, false).await?;
    // Not a task of the bus: work that is drained at the end still needs the link.
    core.tasks.spawn(serve(Arc::clone(&core), bus.downgrade(), lease));
    tokio::select! {
        () = core.link.up() => Ok(()),
        () = bus.shutdown_token().cancelled() => Err(Error::Stopped),
    }
}

/// Serves the engine while it is ours, and stands by while it is somebody else's.
async fn serve(core: Arc<Core>, bus: WeakBus, mut lease: Option<Lease>) {
    while let Some(alive) = bus.upgrade() {
        let client = open(&core, &alive, lease.as_ref());
        drop(alive);
        let why = tokio::select! {
            why = follow(&core, &client) => why,
            why = keep(lease.as_ref()) => Some(why),
        };
        let Some(why) = why else { return };
        tracing::warn!(
            url = core.options.shown_url(),
            why,
            "this process does not serve the engine any more"
        );
        let was_refused = client.fatal_error().is_some();
        core.link.stands_by(true);
        close(&core, &why).await;
        let Some(alive) = bus.upgrade() else { return };
        let Ok(next) = stand_by::wait(&core, &alive, lease.as_ref(), was_refused).await else {
            return;
        };
        lease = next;
    }
}

/// Renews the lease until it is lost. One that there is not, because the engine has no state worker, is never lost.
async fn keep(lease: Option<&Lease>) -> String {
    match lease {
        Some(lease) => lease.keep().await,
        None => std::future::pending().await,
    }
}

/// Opens a connection and registers everything on it.
fn open(core: &Arc<Core>, bus: &Bus, lease: Option<&Lease>) -> IIIClient {
    let client = core.connect();
    core.client.store(Some(Arc::new(client.clone())));
    core.owned
        .send_replace(lease.map(|lease| Arc::from(lease.nonce())));
    *lock(&core.lease) = lease.cloned();
    let bound = core.registrations.start_over();
    for function in bus.functions() {
        register::function(core, &client, &function);
    }
    for trigger in bound {
        if let Err(error) = core.registrations.bind(&client, trigger) {
            tracing::warn!(%error, "trigger not bound again");
        }
    }
    client
}

/// Ends a connection for good: what the SDK has not sent by now is never sent.
async fn close(core: &Core, why: &str) {
    core.owned.send_replace(None);
    *lock(&core.lease) = None;
    core.link.losses.fetch_add(1, Ordering::AcqRel);
    core.link.fall(why);
    let Some(client) = core.client.swap(None) else {
        return;
    };
    let closed = tokio::task::spawn_blocking(move || client.shutdown());
    if timeout(GOODBYE, closed).await.is_err() {
        tracing::warn!("the connection to the engine did not close in time");
    }
}

/// Publishes what becomes of the connection, as long as there is one; then why there is none, or nothing when the program
/// stops.
async fn follow(core: &Arc<Core>, client: &IIIClient) -> Option<String> {
    let stop = &core.link.over;
    let is_connected = || client.get_connection_state() == IIIConnectionState::Connected;
    while until(client, stop, is_connected).await {
        // An answer proves that what was sent before it, the registrations, was taken in.
        if let Err(error) = probe::take_stock(core).await {
            core.link.fall(&format!("the engine does not answer: {error}"));
            sleep(LOOK_EVERY).await;
            continue;
        }
        let number = core.link.rise();
        tracing::info!(url = core.options.shown_url(), number, "connected to the engine");
        let why = tokio::select! {
            _ = until(client, stop, || !is_connected()) => {
                core.link.losses.fetch_add(1, Ordering::AcqRel);
                "the connection was lost"
            }
            () = probe::watch(core, client) => "the engine does not answer",
        };
        if stop.is_cancelled() {
            return None;
        }
        core.link.fall(why);
        tracing::warn!(url = core.options.shown_url(), why, "engine disconnected");
    }
    let error = client.fatal_error()?;
    (!stop.is_cancelled()).then(|| error.to_string())
}

/// Waits until something is so. False: it will not be, because the SDK gave up or the program stops.
async fn until(client: &IIIClient, stop: &CancellationToken, is_so: impl Fn() -> bool) -> bool {
    loop {
        if client.fatal_error().is_some() {
            return false;
        }
        if is_so() {
            return true;
        }
        if stop.run_until_cancelled(sleep(LOOK_EVERY)).await.is_none() {
            return false;
        }
    }
}

/// Takes leave: an answer proves that results and deregistrations before it are out, then the engine is given free and the
/// connection is closed.
pub(super) async fn stop(core: &Arc<Core>) {
    core.link.over.cancel();
    if core.link.now() != Link::Down {
        core.registrations.clear();
        timeout(GOODBYE, probe::ping(core, GOODBYE)).await.ok();
    }
    let lease = lock(&core.lease).take();
    if let Some(lease) = lease
        && core.link.now() != Link::Down
        && !matches!(timeout(GOODBYE, lease.release()).await, Ok(Ok(())))
    {
        tracing::warn!("a stand-by takes over once the lease has lapsed");
    }
    close(core, "stopped").await;
}
