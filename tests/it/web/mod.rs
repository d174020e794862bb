//! Contract 05: `web::fetch`.

mod answers;
mod cases;
mod clock;
mod dns;
mod hosts;
mod limits;
mod names;
mod own;
mod pages;
mod redirects;
mod signals;
mod site;
mod tls;
mod wire;

use std::net::IpAddr;
use std::ops::Deref;

use harness::config;
use harness::workers::web::{self, Net, Range, addresses};
use serde_json::{Value, json};

use crate::support::{TestBus, TestOptions};

const FETCH: &str = "web::fetch";

/// The program, and calls of the one function.
struct Rig(TestBus);

impl Deref for Rig {
    type Target = TestBus;
    fn deref(&self) -> &TestBus {
        &self.0
    }
}

impl Rig {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut config::Web)) -> Self {
        let mut options = TestOptions::default();
        change(&mut options.config.web);
        Self(TestBus::with(options).await)
    }

    /// Sees the network another way.
    async fn on(net: Net) -> Self {
        let mut options = TestOptions::default();
        options.workers.retain(|worker| worker.name != "web");
        options.workers.push(web::worker_on(net));
        Self(TestBus::with(options).await)
    }

    async fn fetch(&self, request: Value) -> Value {
        self.ok(FETCH, request).await
    }

    async fn get(&self, url: &str) -> Value {
        self.fetch(json!({ "url": url })).await
    }

    /// Code and message of a call that must fail.
    async fn failure(&self, request: Value) -> (String, String) {
        let reply = self.fetch(request).await;
        let text = |member: &str| {
            reply[member]
                .as_str()
                .unwrap_or_else(|| panic!("{reply}"))
                .to_owned()
        };
        assert_eq!(reply["ok"], false, "{reply}");
        assert_eq!(reply.as_object().unwrap().len(), 3, "{reply}");
        (text("error"), text("message"))
    }

    /// The message of a call to a host that must be blocked.
    async fn blocked(&self, url: &str) -> String {
        let (error, message) = self.failure(json!({ "url": url })).await;
        assert_eq!(error, "blocked_host", "{url}: {message}");
        message
    }

    async fn stop(self) {
        self.0.stop().await;
    }
}

/// `127.0.0.2` to `127.0.0.9` stand for public addresses: a test can only listen on this machine.
fn with_an_outside(address: IpAddr) -> Option<Range> {
    match address {
        IpAddr::V4(v4) if matches!(v4.octets(), [127, 0, 0, 2..=9]) => None,
        _ => addresses::range_of(address),
    }
}
