//! A client of an engine: a bus without workers over a transport.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use url::Url;

use super::Trouble;
use crate::app::engine_token;
use crate::bus::iii::{Iii, IiiOptions};
use crate::bus::{Bus, CallContext, CallOptions, FunctionDef, Link, Ports, Transport, TriggerSpec, Worker};
use crate::clock::SystemClock;
use crate::config::{Config, Env, Loaded, ProcessEnv, Secret};
use crate::error;
use crate::ids::RandomIds;
use crate::telemetry::Metrics;

/// To find somebody at the address, and then for the engine to greet.
const REACH: Duration = Duration::from_secs(5);
/// What is under way when a command ends was answered, or nobody waits for it.
const LEAVE: Duration = Duration::from_millis(200);

/// A connected client.
pub(super) struct Client {
    bus: Bus,
}

impl Client {
    /// Connects to the engine of a configuration, under a worker name of its own.
    ///
    /// # Errors
    /// [`Trouble::NoEngine`] when nobody answers there.
    pub(super) async fn connect(loaded: Loaded, functions: Vec<FunctionDef>) -> Result<Self> {
        let (url, token) = address(&loaded.config, &ProcessEnv)?;
        let no_engine = |why: String| Trouble::NoEngine {
            place: shown(&url),
            why,
        };
        reach(&url).await.map_err(no_engine)?;
        let transport = Iii::new(IiiOptions {
            url: url.to_string(),
            worker_name: format!("harness-cli-{}", std::process::id()),
            description: "A command of `harness` at work".into(),
            token,
            ..IiiOptions::default()
        });
        match timeout(REACH, Self::start(transport, loaded.config, functions)).await {
            Ok(Ok(client)) => Ok(client),
            Ok(Err(error)) => Err(no_engine(format!("{error:#}")).into()),
            Err(_) => Err(no_engine(format!("no greeting within {} s", REACH.as_secs())).into()),
        }
    }

    /// A client over any transport.
    pub(super) async fn start(
        transport: Arc<dyn Transport>,
        config: Config,
        functions: Vec<FunctionDef>,
    ) -> Result<Self> {
        let ports = Ports {
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
            env: Arc::new(ProcessEnv),
            config: Arc::new(ArcSwap::from_pointee(config)),
            metrics: Metrics::new(),
        };
        let bus = Bus::new(ports, transport);
        let mut worker = Worker::new("harness-cli", "A command at work", ()).build();
        worker.functions = functions;
        bus.host(vec![worker]).await?;
        Ok(Self { bus })
    }

    /// Calls a function.
    pub(super) async fn call(&self, id: &str, payload: Value) -> error::Result<Value> {
        self.call_with(id, payload, CallOptions::default()).await
    }

    pub(super) async fn call_with(
        &self,
        id: &str,
        payload: Value,
        options: CallOptions,
    ) -> error::Result<Value> {
        self.bus
            .invoke(&CallContext::default(), id, payload, options)
            .await
    }

    /// The engine's functions whose ids begin like this, as it lists them.
    pub(super) async fn functions(&self, prefix: &str) -> error::Result<Vec<Value>> {
        let list = self
            .call("engine::functions::list", json!({ "prefix": prefix }))
            .await?;
        Ok(list["functions"].as_array().cloned().unwrap_or_default())
    }

    /// Whether somebody on the engine hosts this function now.
    pub(super) async fn offers(&self, id: &str) -> error::Result<bool> {
        let rows = self.functions(id).await?;
        Ok(rows.iter().any(|row| row["function_id"] == id))
    }

    /// Has the events of a session sent to a function of this client, instead of those of the session before
    /// (contract 11 §3.1, the form with a stream trigger: its frames carry the ids that put them in order).
    pub(super) async fn listen(&self, function: &str, session: &str) -> Result<()> {
        let trigger = TriggerSpec {
            id: format!("{function}/events"),
            trigger_type: "stream".into(),
            function_id: function.into(),
            config: json!({ "stream_name": super::feed::EVENTS, "group_id": session }),
            metadata: None,
        };
        self.bus
            .transport()
            .bind(trigger)
            .await
            .context("cannot listen to the session's events")
    }

    /// Follows the connection to the engine.
    pub(super) fn link(&self) -> watch::Receiver<Link> {
        self.bus.link()
    }

    /// A fresh id.
    pub(super) fn uuid(&self) -> String {
        self.bus.uuid()
    }

    /// Unix milliseconds.
    pub(super) fn now_ms(&self) -> i64 {
        self.bus.now_ms()
    }

    /// Leaves the engine.
    pub(super) async fn stop(self) {
        self.bus.shutdown(LEAVE).await;
    }
}

/// Where the engine is, and what it wants to see: `engine.url` from flag, variable or file, else where `harness serve` with
/// this configuration listens. Its own token is for nobody else.
fn address(config: &Config, env: &dyn Env) -> Result<(Url, Option<Secret>)> {
    let (engine, token) = (&config.engine, engine_token(env));
    if let Some(url) = &engine.url {
        return Ok((Url::parse(url).context("engine.url")?, token));
    }
    let url = Url::parse(&format!("ws://{}", engine.listen)).context("engine.listen")?;
    Ok((url, token.or_else(|| engine.listen_token.clone())))
}

/// An address for messages, without what must not be shown.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    // An address that cannot have a password has none.
    url.set_password(None).ok();
    url.to_string().trim_end_matches('/').to_owned()
}

/// Whether anybody listens there at all: a quicker and clearer answer than a client that tries again and again.
async fn reach(url: &Url) -> Result<(), String> {
    let port = url.port_or_known_default().unwrap_or_default();
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    match timeout(REACH, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("not reachable within {} s", REACH.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;
    use crate::config::MapEnv;

    #[test]
    fn the_token_of_the_own_listener_is_shown_to_nobody_else() {
        let mut config = Config::default();
        config.engine.listen = "127.0.0.1:7".into();
        config.engine.listen_token = Some(Secret::from("own".to_owned()));
        let found = |config: &Config, env: MapEnv| {
            let (url, token) = address(config, &env).unwrap();
            (url.to_string(), token.map(|token| token.expose().to_owned()))
        };
        let theirs = || MapEnv::from([("III_TOKEN", "theirs")]);
        let own = "ws://127.0.0.1:7/".to_owned();
        assert_eq!(
            found(&config, MapEnv::default()),
            (own.clone(), Some("own".into()))
        );
        assert_eq!(found(&config, theirs()), (own, Some("theirs".into())));
        config.engine.url = Some("ws://elsewhere:1/x".into());
        let elsewhere = "ws://elsewhere:1/x".to_owned();
        assert_eq!(found(&config, MapEnv::default()), (elsewhere.clone(), None));
        assert_eq!(found(&config, theirs()), (elsewhere, Some("theirs".into())));
    }

    #[test]
    fn addresses_are_shown_without_secrets() {
        let url = Url::parse("wss://me:pass@host:1/engine?token=t").unwrap();
        assert_eq!(shown(&url), "wss://me@host:1/engine");
    }
}
