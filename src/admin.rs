//! The admin server: `/healthz` (alive), `/readyz` (ready, or why not), `/metrics`.
//!
//! Readiness is made of latches, each released once by the part it stands for, of problems that come and go, and of the
//! final "shutting down". Nothing else can make the process unready by accident.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::telemetry::Metrics;

/// How long open connections may hold up the end of the server.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Which engine is in use and why; part of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EngineInfo {
    /// `embedded` or `connect`.
    pub mode: String,
    /// Why this one.
    pub reason: String,
    /// Where outside workers connect; absent when they connect elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

/// The answer of `/readyz`: `{"ready":false,"reasons":["waiting for registrations"],"engine":{"mode":…,"reason":…,"listen":…}}`.
/// `engine` is null until it is chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether work is accepted.
    pub ready: bool,
    /// Why not; empty when ready.
    pub reasons: Vec<String>,
    /// Parts that the engine lacks; what needs them does not work, the rest does.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<&'static str>,
    /// Which engine is in use and why.
    pub engine: Option<EngineInfo>,
}

#[derive(Debug, Default)]
struct Conditions {
    latches: BTreeSet<&'static str>,
    problems: BTreeMap<&'static str, String>,
    is_shutting_down: bool,
    engine: Option<EngineInfo>,
    probes: Probes,
    missing: Missing,
}

/// Questions asked whenever the state of things is: each answers what is wrong now, if anything is.
#[derive(Default)]
struct Probes(Vec<(&'static str, Probe)>);

/// The question after what the engine lacks.
#[derive(Default)]
struct Missing(Option<Box<dyn Fn() -> Vec<&'static str> + Send + Sync>>);

impl std::fmt::Debug for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Missing").field(&self.0.is_some()).finish()
    }
}

type Probe = Box<dyn Fn() -> Option<String> + Send + Sync>;

impl std::fmt::Debug for Probes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Conditions {
    fn report(&self) -> Report {
        let latches = self.latches.iter().map(|name| format!("waiting for {name}"));
        let problems = self
            .problems
            .iter()
            .map(|(name, problem)| format!("{name}: {problem}"));
        let found = self
            .probes
            .0
            .iter()
            .filter_map(|(name, probe)| Some(format!("{name}: {}", probe()?)));
        let shutdown = self.is_shutting_down.then(|| "shutting down".to_owned());
        let reasons: Vec<String> = latches.chain(problems).chain(found).chain(shutdown).collect();
        Report {
            ready: reasons.is_empty(),
            reasons,
            missing: self.missing.0.as_ref().map(|ask| ask()).unwrap_or_default(),
            engine: self.engine.clone(),
        }
    }
}

/// What must be true before work is accepted. A cheap clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Readiness(watch::Sender<Conditions>);

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// Ready, until a latch or a problem is added.
    pub fn new() -> Self {
        Self(watch::Sender::new(Conditions::default()))
    }

    /// Holds readiness back until the latch is released. Dropping it without release keeps the process unready: a part
    /// that failed to start must not look started.
    pub fn latch(&self, name: &'static str) -> Latch {
        self.0.send_modify(|conditions| {
            conditions.latches.insert(name);
        });
        Latch {
            name,
            readiness: self.clone(),
        }
    }

    /// States a problem, or with `None` that it is over.
    pub fn set_problem(&self, name: &'static str, problem: Option<String>) {
        self.0.send_modify(|conditions| {
            match problem {
                Some(problem) => conditions.problems.insert(name, problem),
                None => conditions.problems.remove(name),
            };
        });
    }

    /// Asks this whenever the state of things is asked for: it answers what is wrong now, if anything is.
    pub fn ask(&self, name: &'static str, probe: impl Fn() -> Option<String> + Send + Sync + 'static) {
        self.0
            .send_modify(|conditions| conditions.probes.0.push((name, Box::new(probe))));
    }

    /// Asks this whenever the state of things is asked for: it answers what the engine lacks.
    pub fn ask_missing(&self, probe: impl Fn() -> Vec<&'static str> + Send + Sync + 'static) {
        self.0
            .send_modify(|conditions| conditions.missing = Missing(Some(Box::new(probe))));
    }

    /// States which engine is in use.
    pub fn set_engine(&self, engine: EngineInfo) {
        self.0.send_modify(|conditions| conditions.engine = Some(engine));
    }

    /// Unready for good.
    pub fn shutting_down(&self) {
        self.0
            .send_modify(|conditions| conditions.is_shutting_down = true);
    }

    /// The state of things.
    pub fn report(&self) -> Report {
        self.0.borrow().report()
    }

    /// Waits until the process is ready.
    pub async fn ready(&self) {
        let mut changes = self.0.subscribe();
        // The sender lives in `self`, so this ends only by being ready.
        changes
            .wait_for(|conditions| conditions.report().ready)
            .await
            .ok();
    }
}

/// One thing that must happen before the process is ready.
#[derive(Debug)]
#[must_use = "a latch that is not released keeps the process unready"]
pub struct Latch {
    name: &'static str,
    readiness: Readiness,
}

impl Latch {
    /// It happened.
    pub fn release(self) {
        self.readiness.0.send_modify(|conditions| {
            conditions.latches.remove(self.name);
        });
    }
}

#[derive(Clone)]
struct Shared {
    readiness: Readiness,
    metrics: Metrics,
}

/// Serves on this listener until `shutdown`. Fails only if the socket does.
pub async fn serve(
    listener: TcpListener,
    readiness: Readiness,
    metrics: Metrics,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render_metrics))
        .with_state(Shared { readiness, metrics });
    let server = axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    tokio::select! {
        served = server.into_future() => {
            served.map_err(|error| Error::Unavailable(format!("admin server: {error}")))
        }
        () = async { shutdown.cancelled().await; tokio::time::sleep(CLOSE_TIMEOUT).await } => Ok(()),
    }
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let report = shared.readiness.report();
    let status = if report.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    match serde_json::to_string(&report) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn render_metrics(State(shared): State<Shared>) -> Response {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        shared.metrics.render(),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    fn reasons(readiness: &Readiness) -> Vec<String> {
        readiness.report().reasons
    }

    #[test]
    fn ready_when_the_last_latch_is_released_and_no_problem_is_left() {
        let readiness = Readiness::new();
        let registrations = readiness.latch("registrations");
        let store = readiness.latch("store");
        readiness.set_problem("engine", Some("no connection".into()));
        assert_eq!(
            reasons(&readiness),
            [
                "waiting for registrations",
                "waiting for store",
                "engine: no connection"
            ]
        );
        registrations.release();
        readiness.set_problem("engine", None);
        assert_eq!(reasons(&readiness), ["waiting for store"]);
        store.release();
        assert_eq!(
            readiness.report(),
            Report {
                ready: true,
                reasons: vec![],
                missing: Vec::new(),
                engine: None
            }
        );
        readiness.shutting_down();
        assert_eq!(reasons(&readiness), ["shutting down"]);
    }

    #[test]
    fn a_dropped_latch_is_not_a_released_one() {
        let readiness = Readiness::new();
        drop(readiness.latch("store"));
        assert_eq!(reasons(&readiness), ["waiting for store"]);
    }

    #[tokio::test]
    async fn waiting_ends_with_the_last_reason() {
        let readiness = Readiness::new();
        let latch = readiness.latch("store");
        let waiting = readiness.ready();
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
        latch.release();
        waiting.await;
    }
}
