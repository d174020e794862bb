//! The connection: when it is there, when it is lost, when it is over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use iii_sdk::IIIClient;
use iii_sdk::runtime::IIIConnectionState;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::greet::{Greeting, greet};
use super::{Core, probe, register};
use crate::bus::{Bus, Link};
use crate::error::{Error, Result};
use crate::telemetry::name;

/// The SDK tells nobody when its state changes, so it is looked at this often. A lost connection stays visible for the
/// two seconds that the SDK waits before the next attempt.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Pauses between visits to an engine that is not there yet.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Most time for one visit.
const VISIT_WITHIN: Duration = Duration::from_secs(5);

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
    fn fall(&self, why: &str) -> bool {
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

/// Waits for an engine that has room for our name, connects, registers all functions, and waits until they are known.
pub(super) async fn start(core: Arc<Core>, bus: Bus) -> Result<()> {
    if core.bus.set(bus.downgrade()).is_err() {
        return Err(Error::Unavailable("the connection was started before".into()));
    }
    core.round_trips
        .get_or_init(|| bus.ports().metrics.counter(name::ENGINE_ROUND_TRIPS_TOTAL, &[]));
    visit(&core, &bus).await?;
    let client = core.client.get_or_init(|| core.connect()).clone();
    for function in bus.functions() {
        register::function(&core, &client, &function);
    }
    // Not a task of the bus: work that is drained at the end still needs the link.
    core.tasks.spawn(follow(Arc::clone(&core), client));
    tokio::select! {
        () = core.link.up() => Ok(()),
        () = core.link.over.cancelled() => Err(core.refusal()),
        () = bus.shutdown_token().cancelled() => Err(Error::Stopped),
    }
}

/// Visits the engine until it is there. A worker of our name there is an error: older engines would give our ids to
/// whoever came last, and newer ones refuse the second. This is the one place that decides what becomes of a second
/// process.
async fn visit(core: &Core, bus: &Bus) -> Result<()> {
    let (options, stop) = (&core.options, bus.shutdown_token());
    let mut pauses = ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build();
    loop {
        let visit = greet(
            &options.url,
            options.token.as_ref(),
            &options.worker_name,
            bus.ports().ids.as_ref(),
        );
        let visited = stop.run_until_cancelled(timeout(VISIT_WITHIN, visit)).await;
        let why = match visited.ok_or(Error::Stopped)? {
            Ok(Ok(Greeting::Free)) => return Ok(()),
            Ok(Ok(Greeting::NameTaken)) => {
                return Err(Error::Unavailable(format!(
                    "the engine at {} already has a worker named `{}`; stop it, or set engine.worker_name",
                    options.shown_url(),
                    options.worker_name
                )));
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        if core.link.fall(&why) {
            tracing::warn!(url = options.shown_url(), why, "waiting for the engine");
        }
        let pause = sleep(pauses.next().unwrap_or(LONGEST_PAUSE));
        stop.run_until_cancelled(pause).await.ok_or(Error::Stopped)?;
    }
}

/// Publishes what becomes of the connection, as long as there is one.
async fn follow(core: Arc<Core>, client: IIIClient) {
    let stop = &core.link.over;
    let is_connected = || client.get_connection_state() == IIIConnectionState::Connected;
    while until(&client, stop, is_connected).await {
        // An answer proves that what was sent before it, the registrations, was taken in.
        if let Err(error) = probe::take_stock(&core).await {
            core.link.fall(&format!("the engine does not answer: {error}"));
            sleep(LOOK_EVERY).await;
            continue;
        }
        let number = core.link.rise();
        tracing::info!(url = core.options.shown_url(), number, "connected to the engine");
        let why = tokio::select! {
            _ = until(&client, stop, || !is_connected()) => {
                core.link.losses.fetch_add(1, Ordering::AcqRel);
                "the connection was lost"
            }
            () = probe::silence(&core) => "the engine does not answer",
            never = probe::keep_looking(&core) => match never {},
        };
        if stop.is_cancelled() {
            return;
        }
        core.link.fall(why);
        tracing::warn!(url = core.options.shown_url(), why, "engine disconnected");
    }
    if !stop.is_cancelled() {
        tracing::error!(error = %core.refusal(), "the engine refuses this worker");
        core.link.over.cancel();
    }
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

/// Takes leave: an answer proves that results and deregistrations before it are out, then the connection is closed.
pub(super) async fn stop(core: &Arc<Core>) {
    core.link.over.cancel();
    let Ok(client) = core.client().cloned() else {
        return;
    };
    if core.link.now() != Link::Down {
        core.registrations.clear();
        timeout(GOODBYE, probe::ping(core, GOODBYE)).await.ok();
    }
    core.link.fall("stopped");
    let closed = tokio::task::spawn_blocking(move || client.shutdown());
    if timeout(GOODBYE, closed).await.is_err() {
        tracing::warn!("the connection to the engine did not close in time");
    }
}
