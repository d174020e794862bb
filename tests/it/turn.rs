//! Contract 02 through the bus.

use serde_json::json;

use crate::support::{TestBus, TestOptions};

#[tokio::test]
async fn smoke() {
    let t = TestBus::with(TestOptions {
        rules: Some("rules: ['shell::*']"),
        ..TestOptions::default()
    })
    .await;
    let r = t.ok("turn::get_state", json!({"session_id": "x"})).await;
    assert_eq!(r, json!(null));
    t.stop().await;
}
