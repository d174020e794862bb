//! The composition root: configuration → ports → engine → bus → workers → admin → wait → drain. Only this file builds
//! things.

mod engine;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Readiness};
use crate::bus::{Bus, Link, Ports, WorkerDef};
use crate::clock::SystemClock;
use crate::config::{self, Config, EngineChoice, EngineMode, Env, LoadInput, Loaded, Source};
use crate::ids::RandomIds;
use crate::telemetry::{self, Masks, Metrics};
use crate::watch::Watcher;
use engine::Engine;
pub(crate) use engine::engine_token;

/// A running program.
#[derive(Debug)]
pub struct App {
    bus: Bus,
    config: Arc<ArcSwap<Config>>,
    readiness: Readiness,
    metrics: Metrics,
    admin: Option<SocketAddr>,
    listener: Option<SocketAddr>,
    stop_admin: CancellationToken,
    reloading: Option<Watcher>,
}

/// What a program is made of.
pub struct Parts {
    /// Settings, validated.
    pub config: Config,
    /// Which engine, and why.
    pub engine: EngineChoice,
    /// Environment variables.
    pub env: Arc<dyn Env>,
    /// Workers to host.
    pub workers: Vec<WorkerDef>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("engine", &self.engine)
            .finish_non_exhaustive()
    }
}

impl App {
    /// Builds and starts everything. The admin address is bound first, so that `/readyz` can tell what is missing.
    pub async fn start(parts: Parts) -> Result<Self> {
        let Parts {
            config,
            engine,
            env,
            workers,
        } = parts;
        let readiness = Readiness::new();
        let registrations = readiness.latch("registrations");
        let metrics = Metrics::new();
        let stop_admin = CancellationToken::new();
        let admin = serve_admin(&config, &readiness, &metrics, &stop_admin).await?;

        let engine = Engine::open(&config, engine, env.as_ref(), &readiness).await?;
        let transport = engine.transport();
        let asked = Arc::clone(&transport);
        readiness.ask("engine", move || asked.info().problem);
        let asked = Arc::clone(&transport);
        readiness.ask_missing(move || asked.missing());
        let config = Arc::new(ArcSwap::from_pointee(config));
        let ports = Ports {
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
            env,
            config: Arc::clone(&config),
            metrics: metrics.clone(),
        };
        let bus = Bus::new(ports, transport);
        for address in admin.into_iter().chain(engine.address()) {
            bus.note_listener(address);
        }
        bus.spawn(show_link(bus.clone(), metrics.clone()));
        bus.spawn(metrics.clone().keep_up(bus.shutdown_token().clone()));
        let problems = bus.host(workers).await?;
        for problem in &problems {
            tracing::warn!(problem, "serving without it");
        }
        if !problems.is_empty() {
            readiness.set_problem("start", Some(problems.join("; ")));
        }
        let listener = engine.serve()?;
        registrations.release();
        Ok(Self {
            bus,
            config,
            readiness,
            metrics,
            admin,
            listener,
            stop_admin,
            reloading: None,
        })
    }

    /// Reloads the configuration file when it changes, from now on.
    pub fn reload_on_change(&mut self, input: LoadInput) {
        // The outcome is logged by the reload itself.
        match config::watch(input, Arc::clone(&self.config), |_| {}) {
            Ok(watcher) => self.reloading = Some(watcher),
            Err(error) => tracing::warn!(%error, "configuration not watched; changes need a restart"),
        }
    }

    /// The bus.
    pub fn bus(&self) -> &Bus {
        &self.bus
    }

    /// Where `/healthz`, `/readyz` and `/metrics` are.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Where outside workers connect; `None` when that is elsewhere.
    pub fn listener(&self) -> Option<SocketAddr> {
        self.listener
    }

    /// Everything measured so far, as `/metrics` shows it.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Not ready, no new work, drain within the grace time, close the engine. True when nothing was cut.
    pub async fn stop(self) -> bool {
        self.readiness.shutting_down();
        let grace = Duration::from_millis(self.config.load().shutdown.grace_ms);
        let drained = self.bus.shutdown(grace).await;
        self.stop_admin.cancel();
        drained
    }
}

/// `harness serve`: runs until a signal. The first one drains, a second one ends at once.
pub async fn serve(loaded: Loaded, input: LoadInput, workers: Vec<WorkerDef>) -> Result<()> {
    let masks = Masks::default();
    if let Some(token) = &loaded.config.engine.listen_token {
        masks.add(token.expose());
    }
    if let Some(token) = engine::engine_token(input.env.as_ref()) {
        masks.add(token.expose());
    }
    telemetry::init(&loaded.config.log, masks)?;
    announce(&loaded);
    let mut signals = Signals::new()?;
    let engine = engine::choose(&loaded, input.env.as_ref()).await?;
    let parts = Parts {
        config: loaded.config,
        engine,
        env: Arc::clone(&input.env),
        workers,
    };
    let mut app = tokio::select! {
        app = App::start(parts) => app?,
        name = signals.next() => {
            tracing::info!(signal = name, "stopped while starting");
            return Ok(());
        }
    };
    app.reload_on_change(input);
    tracing::info!(functions = app.bus().functions().len(), admin = ?app.admin(), "ready");

    let name = signals.next().await;
    tracing::info!(signal = name, "stopping; a second signal ends at once");
    tokio::select! {
        drained = app.stop() => {
            if drained {
                tracing::info!("stopped");
            } else {
                tracing::warn!("stopped with work cut; it is continued at the next start");
            }
        }
        name = signals.next() => tracing::warn!(signal = name, "ended at once; open work is continued at the next start"),
    }
    Ok(())
}

/// `harness engine`: the embedded engine without workers, for programs that connect to it.
pub async fn serve_engine(mut loaded: Loaded, input: LoadInput) -> Result<()> {
    let engine = &mut loaded.config.engine;
    engine.mode = EngineMode::Embedded;
    // The name of the program belongs to the one that will connect.
    engine.worker_name.push_str("-engine");
    serve(loaded, input, Vec::new()).await
}

fn announce(loaded: &Loaded) {
    match &loaded.source {
        Source::File(path) => tracing::info!(path = %path.display(), "configuration read"),
        Source::NoFile(path) => tracing::info!(path = %path.display(), "no configuration file, all defaults"),
    }
    for warning in &loaded.warnings {
        tracing::warn!("configuration: {warning}");
    }
}

/// Keeps the gauge at what the link is.
async fn show_link(bus: Bus, metrics: Metrics) {
    let gauge = metrics.gauge(telemetry::name::BUS_CONNECTED, &[]);
    let mut link = bus.link();
    loop {
        let is_up = *link.borrow_and_update() != Link::Down;
        gauge.set(if is_up { 1.0 } else { 0.0 });
        let changed = bus.shutdown_token().run_until_cancelled(link.changed());
        if !matches!(changed.await, Some(Ok(()))) {
            return;
        }
    }
}

async fn serve_admin(
    config: &Config,
    readiness: &Readiness,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Result<Option<SocketAddr>> {
    let address = config.http.listen.as_str();
    if address.is_empty() {
        return Ok(None);
    }
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("admin server: cannot listen on {address} (http.listen)"))?;
    let bound = listener.local_addr()?;
    tracing::info!(address = %bound, "admin server");
    let serving = admin::serve(listener, readiness.clone(), metrics.clone(), stop.clone());
    spawn_admin(async move {
        if let Err(error) = serving.await {
            tracing::error!(%error, "admin server ended");
        }
    });
    Ok(Some(bound))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the admin server outlives the bus, so that it can tell of its drain"
)]
fn spawn_admin(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
