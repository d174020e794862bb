//! Links that break and workers that misbehave: it costs them their connection, and nobody else anything.

mod browsers;
mod churn;
mod cuts;
mod deaf;
mod far;
mod flood;
mod killed;
mod malformed;
mod split;

use harness::bus::embedded::listener::Limits;
use harness::model::api::provider::ChannelRef;
use serde_json::{Value, json};

use crate::listener::Open;
use crate::support::proxy::Proxy;
use crate::support::ws::{Socket, Ws, open};

/// An engine that can be joined directly, and through a proxy that spoils the link.
struct Rig {
    open: Open,
    proxy: Proxy,
}

impl Rig {
    async fn start() -> Self {
        Self::limited(Limits::default()).await
    }

    async fn limited(limits: Limits) -> Self {
        let open = Open::limited(limits).await;
        let proxy = Proxy::start(open.address).await;
        Self { open, proxy }
    }

    /// A worker on a good link.
    async fn join(&self) -> Ws {
        self.open.join().await
    }

    /// A worker on the bad link.
    async fn join_badly(&self) -> Ws {
        Ws::join(self.proxy.address()).await
    }

    /// The end of a channel, over the bad link.
    async fn open_badly(&self, end: &ChannelRef, dir: &str) -> Socket {
        let path = channel_path(end, dir);
        open(self.proxy.address(), &path, None).await.unwrap()
    }

    /// Channels that are not over.
    fn channels(&self) -> usize {
        self.open.engine.bus.channels().count()
    }

    /// Everything that workers can leave behind, as others see it.
    async fn everything(&self) -> Value {
        let mut all = Vec::new();
        for list in [
            "engine::functions::list",
            "engine::registered-triggers::list",
            "engine::triggers::list",
            "engine::workers::list",
        ] {
            all.push(self.open.engine.ok(list, json!({"include_internal": true})).await);
        }
        json!(all)
    }

    /// Whether somebody hosts this function.
    async fn hosts(&self, function: &str) -> bool {
        let info = json!({"function_id": function});
        self.open
            .engine
            .call("engine::functions::info", info)
            .await
            .is_ok()
    }

    /// A worker that is not concerned still gets its answers.
    async fn serves(&self, other: &mut Ws) {
        let answer = other.call("state::list", json!({"scope": "nothing"})).await;
        assert_eq!(answer, json!({"result": []}));
    }
}

/// Makes a channel; its writing and its reading end.
async fn channel(worker: &mut Ws, request: Value) -> (ChannelRef, ChannelRef) {
    let mut pair = worker.ok("engine::channels::create", request).await;
    let end = |value: Value| serde_json::from_value(value).unwrap();
    (end(pair["writer"].take()), end(pair["reader"].take()))
}

fn channel_path(end: &ChannelRef, dir: &str) -> String {
    format!("/ws/channels/{}?key={}&dir={dir}", end.channel_id, end.access_key)
}
