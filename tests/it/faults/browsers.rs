//! Browsers of a program whose own link breaks: they are not given up, and nothing is kept from them.

use std::time::Duration;

use harness::bus::iii::{Iii, IiiOptions};
use harness::bus::{Bus, CallContext, CallOptions, FunctionDef, Link, StreamItem};
use harness::config::Config;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::far::{join, until};
use crate::support::engine::{ports, served, within};
use crate::support::proxy::{End, Proxy};

/// The bridge on a bad link, a browser on a good one.
struct Rig {
    bus: Bus,
    proxy: Proxy,
    browser: Bus,
    engine: Bus,
    pushes: mpsc::Receiver<Value>,
    /// The browser answers while this is set.
    answers: watch::Sender<bool>,
}

impl Rig {
    async fn start(push_timeout_ms: u64) -> Self {
        let (engine, address) = served("127.0.0.1:0".parse().unwrap(), None).await;
        let proxy = Proxy::start(address).await;
        let mut config = Config::default();
        config.ui.push_timeout_ms = push_timeout_ms;
        let workers = vec![harness::workers::harness::worker()];
        let bus = join(&proxy, "harness", config, workers).await;
        let options = IiiOptions {
            url: format!("ws://{address}"),
            worker_name: "browser".into(),
            ..IiiOptions::default()
        };
        let browser = Bus::new(ports(), Iii::new(options));
        browser.host(Vec::new()).await.unwrap();
        let (sender, pushes) = mpsc::channel(100);
        let answers = watch::Sender::new(true);
        let open = answers.subscribe();
        let handler = FunctionDef::ad_hoc("ui::session::event::b", move |mut push: Value, _| {
            sender.try_send(push["event"].take()).unwrap();
            let mut open = open.clone();
            async move {
                open.wait_for(|open| *open).await.ok();
                Ok(Value::Null)
            }
        });
        browser.register(handler).unwrap();
        let rig = Self {
            bus,
            proxy,
            browser,
            engine,
            pushes,
            answers,
        };
        let handler = json!({ "function_id": "ui::session::event::b" });
        until(async || {
            rig.call("engine::functions::info", handler.clone())
                .await
                .is_ok()
                .then_some(())
        })
        .await;
        let subscription = json!({ "browser_id": "b", "session_id": "s" });
        rig.call("ui::subscribe", subscription).await.unwrap();
        rig
    }

    async fn call(&self, id: &str, payload: Value) -> harness::error::Result<Value> {
        let options = CallOptions::default();
        self.bus
            .invoke(&CallContext::default(), id, payload, options)
            .await
    }

    fn emit(&self, event: &Value) {
        self.bus.show_to_taps(&StreamItem {
            stream: "agent::events".into(),
            group: "s".into(),
            item: format!("s-{}-00000000", self.bus.epoch()),
            data: std::sync::Arc::new(event.clone()),
        });
    }

    async fn pushed(&mut self) -> Value {
        within(self.pushes.recv()).await.unwrap()
    }

    async fn link_is(&self, is_up: bool) {
        let mut link = self.bus.link();
        within(link.wait_for(|link| (*link != Link::Down) == is_up))
            .await
            .unwrap();
    }

    async fn stop(self) {
        for bus in [self.bus, self.browser, self.engine] {
            assert!(bus.shutdown(Duration::from_secs(10)).await);
        }
    }
}

fn numbered(n: usize) -> Value {
    json!({ "type": "turn_end", "n": n })
}

/// The SDK waits two seconds before it connects again, twenty times as long as a push may take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_while_the_link_is_down_is_pushed_once_it_is_up() {
    let mut rig = Rig::start(100).await;
    rig.emit(&numbered(0));
    assert_eq!(rig.pushed().await, numbered(0));
    rig.proxy.shut(End::Rst);
    rig.link_is(false).await;
    for n in 1..4 {
        rig.emit(&numbered(n));
    }
    rig.emit(&json!({ "type": "agent_end", "messages": [] }));
    rig.proxy.reopen();
    rig.link_is(true).await;
    let mut pushed = vec![numbered(0)];
    while pushed.last().is_some_and(|event| event["type"] != "agent_end") {
        pushed.push(rig.pushed().await);
    }
    // The answer to the first may have been lost.
    pushed.dedup();
    let mut expected: Vec<Value> = (0..4).map(numbered).collect();
    expected.push(json!({ "type": "agent_end", "messages": [] }));
    assert_eq!(pushed, expected);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_that_the_link_lost_is_repeated() {
    let mut rig = Rig::start(20_000).await;
    rig.answers.send_replace(false);
    rig.emit(&numbered(1));
    rig.emit(&numbered(2));
    assert_eq!(rig.pushed().await, numbered(1));
    // It has come, its answer has not: whether it was shown is not known.
    rig.proxy.cut(End::Rst);
    rig.link_is(false).await;
    rig.answers.send_replace(true);
    assert_eq!(rig.pushed().await, numbered(1));
    assert_eq!(rig.pushed().await, numbered(2));
    rig.stop().await;
}
