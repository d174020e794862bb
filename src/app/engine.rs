//! The engine that the program runs on: which one, and how it is opened.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::net::TcpListener;
use url::Url;

use crate::admin::{EngineInfo, Readiness};
use crate::bus::Transport;
use crate::bus::embedded::listener::ListenOptions;
use crate::bus::embedded::store::Durability;
use crate::bus::embedded::{Embedded, EmbeddedOptions};
use crate::bus::iii::{self, Greeting, Iii, IiiOptions};
use crate::config::{self, Config, DEFAULT_ENGINE_URL, EngineChoice, Env, Loaded, Probe, Secret};
use crate::ids::RandomIds;

/// Limit of the visit to the default engine address.
const PROBE: Duration = Duration::from_millis(500);

/// Which engine, after a visit to the default address when nothing else says it.
pub(super) async fn choose(loaded: &Loaded, env: &dyn Env) -> Result<EngineChoice> {
    choose_at(DEFAULT_ENGINE_URL, loaded, env).await
}

/// The same with another address in the place of the default one.
async fn choose_at(url: &str, loaded: &Loaded, env: &dyn Env) -> Result<EngineChoice> {
    match loaded.engine_choice() {
        EngineChoice::Probe => {
            let name = &loaded.config.engine.worker_name;
            let found = probe(url, name, engine_token(env).as_ref()).await;
            EngineChoice::after_probe(found, name).map_err(anyhow::Error::msg)
        }
        choice => Ok(choice),
    }
}

/// One visit to an engine address.
async fn probe(url: &str, worker_name: &str, token: Option<&Secret>) -> Probe {
    let visit = iii::greet(url, token, worker_name, &RandomIds);
    match tokio::time::timeout(PROBE, visit).await {
        Ok(Ok(Greeting::Free)) => Probe::Engine,
        Ok(Ok(Greeting::NameTaken)) => Probe::NameTaken,
        Ok(Err(error)) => {
            tracing::debug!(%error, "no engine at the default address");
            Probe::NoAnswer
        }
        Err(_) => Probe::NoAnswer,
    }
}

/// What an engine behind a token asks for; the variable is the SDKs'.
pub(crate) fn engine_token(env: &dyn Env) -> Option<Secret> {
    let token = env.var("III_TOKEN")?;
    let token = token.trim();
    (!token.is_empty()).then(|| Secret::from(token.to_owned()))
}

/// The address of an engine on this machine.
fn near(url: &str) -> Option<SocketAddr> {
    let url = Url::parse(url).ok().filter(crate::http::is_loopback)?;
    Some(SocketAddr::new(
        Ipv4Addr::LOCALHOST.into(),
        url.port_or_known_default()?,
    ))
}

/// The engine behind the bus.
pub(super) enum Engine {
    /// In this process, with the socket for outside workers.
    Embedded {
        engine: Arc<Embedded>,
        socket: TcpListener,
        options: ListenOptions,
    },
    /// Elsewhere.
    Connected {
        engine: Arc<Iii>,
        /// Where it listens, when that is this machine.
        near: Option<SocketAddr>,
    },
}

impl Engine {
    /// Opens it, and says in `/readyz` which one it is.
    pub(super) async fn open(
        config: &Config,
        choice: EngineChoice,
        env: &dyn Env,
        readiness: &Readiness,
    ) -> Result<Self> {
        let (engine, mode, reason, listen) = match choice {
            EngineChoice::Embedded { reason } => {
                let embedded = open_embedded(&config.engine)?;
                let socket = bind_listener(config).await?;
                let listen = socket.local_addr()?;
                let options = ListenOptions {
                    token: config.engine.listen_token.clone(),
                    ..ListenOptions::default()
                };
                let engine = Self::Embedded {
                    engine: embedded,
                    socket,
                    options,
                };
                (engine, "embedded", reason, Some(listen))
            }
            EngineChoice::Connect { url, reason } => {
                let near = near(&url);
                let options = IiiOptions {
                    url,
                    worker_name: config.engine.worker_name.clone(),
                    result_holdback: Duration::from_millis(config.engine.result_holdback_ms),
                    token: engine_token(env),
                    ..IiiOptions::default()
                };
                let engine = Iii::new(options);
                (Self::Connected { engine, near }, "connect", reason, None)
            }
            EngineChoice::Probe => bail!("the engine was not chosen"),
        };
        tracing::info!(mode, reason, "engine chosen");
        readiness.set_engine(EngineInfo {
            mode: mode.into(),
            reason,
            listen,
        });
        Ok(engine)
    }

    /// What the bus runs on.
    pub(super) fn transport(&self) -> Arc<dyn Transport> {
        match self {
            Self::Embedded { engine, .. } => Arc::clone(engine) as _,
            Self::Connected { engine, .. } => Arc::clone(engine) as _,
        }
    }

    /// Where it can be reached on this machine.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Embedded { socket, .. } => socket.local_addr().ok(),
            Self::Connected { near, .. } => *near,
        }
    }

    /// Lets outside workers in, now that everything is registered; who connected before has waited.
    pub(super) fn serve(self) -> Result<Option<SocketAddr>> {
        let Self::Embedded {
            engine,
            socket,
            options,
        } = self
        else {
            return Ok(None);
        };
        let address = engine.listen(socket, options)?;
        tracing::info!(%address, "listening for workers");
        Ok(Some(address))
    }
}

fn open_embedded(engine: &config::Engine) -> Result<Arc<Embedded>> {
    let options = EmbeddedOptions {
        data_dir: Some(PathBuf::from(&engine.data_dir)),
        durability: match engine.durability {
            config::Durability::Full => Durability::Full,
            config::Durability::Normal => Durability::Normal,
        },
        stream_items_per_group: engine.stream_items_per_group as u64,
        trigger_timeout: Duration::from_millis(engine.trigger_timeout_ms),
        worker_name: engine.worker_name.clone(),
        ..EmbeddedOptions::default()
    };
    Ok(Embedded::open(options)?)
}

/// A taken port is an error: workers that look for this program would find somebody else.
async fn bind_listener(config: &Config) -> Result<TcpListener> {
    let address = config.engine.listen.as_str();
    TcpListener::bind(address)
        .await
        .with_context(|| format!("worker listener: cannot listen on {address} (engine.listen)"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{App, Parts};
    use crate::config::{Flags, LoadInput, MapEnv};

    #[tokio::test(flavor = "multi_thread")]
    async fn c12_case_02_a_second_program_beside_an_embedded_one_must_be_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.yaml");
        std::fs::write(&file, "").unwrap();
        let env = Arc::new(MapEnv::default());
        let input = LoadInput {
            path: Some(file),
            flags: Flags::default(),
            env: env.clone(),
        };
        let mut second = Config::load(&input).unwrap();
        let mut config = second.config.clone();
        config.engine.data_dir = dir.path().join("data");
        config.engine.listen = "127.0.0.1:0".into();
        config.http.listen = String::new();
        let parts = Parts {
            config,
            engine: EngineChoice::Embedded {
                reason: "test".into(),
            },
            env: env.clone(),
            workers: Vec::new(),
        };
        let first = App::start(parts).await.unwrap();
        let url = format!("ws://{}", first.listener().unwrap());

        let refusal = choose_at(&url, &second, env.as_ref())
            .await
            .unwrap_err()
            .to_string();
        assert!(
            refusal.contains("already has a worker named `harness`") && refusal.contains("--url"),
            "{refusal}"
        );
        // One of another name may join, and where nobody is the program has an engine of its own.
        second.config.engine.worker_name = "other".into();
        let joins = choose_at(&url, &second, env.as_ref()).await.unwrap();
        assert!(matches!(joins, EngineChoice::Connect { .. }), "{joins:?}");
        assert!(first.stop().await);
        let alone = choose_at(&url, &second, env.as_ref()).await.unwrap();
        assert!(matches!(alone, EngineChoice::Embedded { .. }), "{alone:?}");
    }
}
