//! The admin server over a real socket.

use harness::admin::{self, EngineInfo, Readiness};
use harness::telemetry::{Metrics, name};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub(crate) async fn get(url: &str) -> (u16, String) {
    let response = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .get(url)
        .send()
        .await
        .unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn the_three_pages_and_the_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let (readiness, metrics, shutdown) = (Readiness::new(), Metrics::new(), CancellationToken::new());
    let latch = readiness.latch("registrations");
    let server = admin::serve(listener, readiness.clone(), metrics.clone(), shutdown.clone());
    let client = async {
        assert_eq!(get(&format!("{base}/healthz")).await, (200, "ok\n".into()));

        let (status, body) = get(&format!("{base}/readyz")).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        let expected = json!({"ready": false, "reasons": ["waiting for registrations"], "engine": null});
        assert_eq!((status, body), (503, expected));

        latch.release();
        readiness.set_engine(EngineInfo {
            mode: "embedded".into(),
            reason: "asked for".into(),
            listen: Some("127.0.0.1:49134".parse().unwrap()),
        });
        let (status, body) = get(&format!("{base}/readyz")).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        let engine = json!({"mode": "embedded", "reason": "asked for", "listen": "127.0.0.1:49134"});
        let expected = json!({"ready": true, "reasons": [], "engine": engine});
        assert_eq!((status, body), (200, expected));

        metrics.gauge(name::BUS_CONNECTED, &[]).set(1.0);
        let (status, body) = get(&format!("{base}/metrics")).await;
        assert_eq!((status, body.contains("harness_bus_connected 1\n")), (200, true));

        assert_eq!(get(&format!("{base}/other")).await.0, 404);
        shutdown.cancel();
    };
    let (served, ()) = tokio::join!(server, client);
    assert_eq!(served, Ok(()));
}

#[tokio::test]
async fn a_problem_that_a_probe_finds_is_a_reason() {
    let readiness = harness::admin::Readiness::new();
    let broken = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = std::sync::Arc::clone(&broken);
    readiness.ask("engine", move || {
        seen.load(std::sync::atomic::Ordering::SeqCst)
            .then(|| "disk full".to_owned())
    });
    assert!(readiness.report().ready);
    broken.store(true, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(readiness.report().reasons, ["engine: disk full"]);
}
