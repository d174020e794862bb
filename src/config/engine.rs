//! Which engine is used: the part of `engine.mode` that needs no network (contract 12 §3).

use super::choice::EngineMode;
use super::input::Origin;
use super::table::Engine;

/// Address of an engine that nobody named.
pub const DEFAULT_ENGINE_URL: &str = "ws://127.0.0.1:49134";

/// Which engine to use, and why; the reason goes to the log and to `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineChoice {
    /// An engine elsewhere.
    Connect {
        /// Its address.
        url: String,
        /// Why.
        reason: String,
    },
    /// The engine inside this process.
    Embedded {
        /// Why.
        reason: String,
    },
    /// Not known before [`DEFAULT_ENGINE_URL`] was tried once; see [`EngineChoice::after_probe`].
    Probe,
}

/// What the one attempt at [`DEFAULT_ENGINE_URL`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// No `workerregistered` frame in time.
    NoAnswer,
    /// An engine without a worker of our name.
    Engine,
    /// An engine that already lists a worker of our name.
    NameTaken,
}

impl EngineChoice {
    /// The choice as far as the configuration makes it; `url_origin` says where `engine.url` came from.
    pub fn of(engine: &Engine, url_origin: &Origin) -> Self {
        match (engine.mode, &engine.url) {
            (EngineMode::Embedded, _) => Self::Embedded {
                reason: "engine.mode is embedded".into(),
            },
            (EngineMode::Connect | EngineMode::Auto, Some(url)) => Self::Connect {
                url: url.clone(),
                reason: format!("address given by {url_origin}"),
            },
            (EngineMode::Connect, None) => Self::Connect {
                url: DEFAULT_ENGINE_URL.into(),
                reason: "engine.mode is connect; no address given, so the default one".into(),
            },
            (EngineMode::Auto, None) => Self::Probe,
        }
    }

    /// The choice after the attempt. Joining an engine that has our name already must be asked for: that is the error.
    pub fn after_probe(found: Probe, worker_name: &str) -> Result<Self, String> {
        match found {
            Probe::NoAnswer => Ok(Self::Embedded {
                reason: format!("no address given and no engine answers at {DEFAULT_ENGINE_URL}"),
            }),
            Probe::Engine => Ok(Self::Connect {
                url: DEFAULT_ENGINE_URL.into(),
                reason: format!("no address given, an engine answers at {DEFAULT_ENGINE_URL}"),
            }),
            Probe::NameTaken => Err(format!(
                "the engine at {DEFAULT_ENGINE_URL} already has a worker named `{worker_name}`; \
                 to join it as a stand-by, start with --url {DEFAULT_ENGINE_URL}"
            )),
        }
    }
}
