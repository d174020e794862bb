//! The program dies under the page (contract 11 weakness 10).

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use harness::bus::iii::IiiOptions;
use harness::bus::{Bus, CallContext, CallOptions, FunctionDef};
use harness::scripted::{Gate, Reply, Script, Server};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{BROWSER, shown};
use crate::connect::join;
use crate::crash::place::Life;
use crate::support::engine::within;
use crate::turn::{of_type, user};

const SESSION: &str = "console-a";

/// A page on the real program.
struct Page {
    bus: Bus,
    frames: Arc<Mutex<Vec<Value>>>,
}

impl Page {
    /// Connects, and wants the events of the session.
    async fn open(address: SocketAddr, worker_name: &str) -> Self {
        let options = IiiOptions {
            url: format!("ws://{address}"),
            worker_name: worker_name.to_owned(),
            ..IiiOptions::default()
        };
        let bus = join(options, Vec::new()).await;
        let frames = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&frames);
        let handler = FunctionDef::ad_hoc(format!("ui::session::event::{BROWSER}"), move |frame, _| {
            seen.lock().unwrap().push(frame);
            async { Ok(Value::Null) }
        });
        bus.register(handler).unwrap();
        within(bus.transport().settle()).await.unwrap();
        let page = Self { bus, frames };
        page.ok(
            "ui::subscribe",
            json!({ "browser_id": BROWSER, "session_id": SESSION }),
        )
        .await;
        page
    }

    async fn ok(&self, id: &str, payload: Value) -> Value {
        self.bus
            .invoke(&CallContext::default(), id, payload, CallOptions::default())
            .await
            .unwrap()
    }

    async fn trigger(&self, text: &str) -> Value {
        let payload = json!({ "session_id": SESSION, "message_id": "m", "provider": "openai", "model": "gpt-5",
            "messages": [user(text)] });
        let request = json!({ "session_id": SESSION, "message_id": "m", "payload": payload });
        self.ok("harness::trigger", request).await
    }

    /// Events of the session, once so many runs have ended.
    async fn ended(&self, runs: usize) -> Vec<Value> {
        within(async {
            loop {
                let frames = self.frames.lock().unwrap().clone();
                let events: Vec<Value> = frames
                    .into_iter()
                    .map(|mut frame| frame["event"].take())
                    .collect();
                if of_type(&events, "agent_end").len() >= runs {
                    return events;
                }
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        })
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c11_case_26_a_run_goes_on_after_a_kill_and_the_session_takes_the_next_one() {
    let gate = Gate::new();
    let held = gate.clone();
    let model = Server::start(Script::answer(move |request| {
        match request.last_user_text().as_str() {
            "one" => Reply::says("to one", 1).after(held.clone()),
            text => Reply::says(format!("to {text}"), 1),
        }
    }))
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config.yaml");
    let settings = json!({
        "engine": { "mode": "embedded", "data_dir": dir.path().join("data"), "durability": "normal", "listen": "127.0.0.1:0" },
        "http": { "listen": "" },
        "provider_openai": { "default_api_url": model.url() },
    });
    // JSON is YAML.
    std::fs::write(&config, settings.to_string()).unwrap();

    let life = Life::begin(&config, dir.path().join("life-1.log"));
    let page = Page::open(life.listens().await, "page-1").await;
    assert_eq!(page.trigger("one").await["status_code"], 200);
    within(async {
        while model.requests().is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    life.kill();

    let life = Life::begin(&config, dir.path().join("life-2.log"));
    let page = Page::open(life.listens().await, "page-2").await;
    // The question of the first life may still be waiting.
    gate.release();
    gate.release();
    let events = page.ended(1).await;
    assert_eq!(events.last().unwrap()["type"], "agent_end");
    let screen = shown(&events);
    assert!(screen.finished, "{events:?}");
    assert_eq!(screen.bubbles, ["to one"], "{events:?}");

    let reply = page.trigger("two").await;
    assert_eq!(
        (&reply["status_code"], &reply["body"]["started"]),
        (&json!(200), &json!(true))
    );
    let next = page.ended(2).await.split_off(events.len());
    assert_eq!(of_type(&next, "agent_end").len(), 1);
    assert_eq!(shown(&next).bubbles, ["to two"]);
    assert_eq!(model.violations(), Vec::<String>::new());
}
