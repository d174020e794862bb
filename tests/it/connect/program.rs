//! The whole program on an engine elsewhere.

use std::collections::HashMap;
use std::sync::Arc;

use harness::app::{App, Parts};
use harness::config::{Config, EngineChoice, MapEnv};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Served, call};
use crate::admin::get;
use crate::support::engine::within;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readiness_and_the_gauge_follow_the_link() {
    let engine = Served::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.http.listen = "127.0.0.1:0".into();
    config.permissions_path = dir.path().join("iii-permissions.yaml");
    let parts = Parts {
        config,
        engine: EngineChoice::Connect {
            url: engine.options().url,
            reason: "test".into(),
        },
        env: Arc::new(MapEnv(HashMap::new())),
        workers: harness::workers::all(),
    };
    let app = within(App::start(parts)).await.unwrap();
    assert_eq!(app.listener(), None);
    let admin = format!("http://{}", app.admin().unwrap());
    let ready = readyz(&admin).await;
    let expected = json!({ "ready": true, "reasons": [], "engine": { "mode": "connect", "reason": "test" } });
    assert_eq!(ready, (200, expected));
    shows(&admin, "harness_bus_connected 1\n").await;
    let listed = call(
        &engine.bus,
        "engine::functions::info",
        json!({ "function_id": "run::start" }),
    )
    .await;
    assert_eq!(listed.unwrap()["worker_name"], "harness");

    let url = engine.options().url;
    engine.stop().await;
    shows(&admin, "harness_bus_connected 0\n").await;
    let (status, report) = readyz(&admin).await;
    let reasons = json!([format!("engine: no connection to {url}: the connection was lost")]);
    assert_eq!((status, &report["reasons"]), (503, &reasons));
    assert!(within(app.stop()).await);
}

async fn readyz(admin: &str) -> (u16, Value) {
    let (status, body) = get(&format!("{admin}/readyz")).await;
    (status, serde_json::from_str(&body).unwrap())
}

async fn shows(admin: &str, line: &str) {
    within(async {
        while !get(&format!("{admin}/metrics")).await.1.contains(line) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}
