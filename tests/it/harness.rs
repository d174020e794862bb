//! Contract 04 §1: `harness::trigger`, over doubles of `run::start`.

use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::bridge_rig::Rig;
use crate::support::three_ways;

three_ways! {
    c04_case_01_forwarded_with_defaults,
    c04_case_02_03_bad_payloads_start_nothing,
    c04_case_04_errors_are_passed_on,
    c04_case_05_a_busy_session_is_409,
    c11_case_07_fields_of_newer_clients_are_accepted,
}

fn request() -> Value {
    json!({"session_id": "s", "message_id": "m",
           "payload": {"session_id": "s", "provider": "p", "model": "x", "messages": []}})
}

async fn c04_case_01_forwarded_with_defaults() {
    let rig = Rig::start().await;
    // Not the shape of ours: what run::start answers is passed on exactly.
    let starts = rig.record("run::start", json!({"session_id": "s-1", "odd": [1, null]}));
    assert_eq!(
        rig.ok("harness::trigger", request()).await,
        json!({"status_code": 200, "headers": {"content-type": "application/json"},
               "body": {"session_id": "s-1", "odd": [1, null]}})
    );
    assert_eq!(
        starts.all(),
        [json!({"session_id": "s", "provider": "p", "model": "x", "messages": [], "system_prompt": ""})]
    );
}

async fn c04_case_02_03_bad_payloads_start_nothing() {
    let rig = Rig::start().await;
    let starts = rig.record("run::start", json!({}));
    assert_eq!(
        rig.error("harness::trigger", json!({"payload": {"provider": "p"}}))
            .await,
        "invalid run::start payload: session_id is missing, model is missing"
    );
    let mut other_target = request();
    other_target["function_id"] = json!("state::set");
    let mut odd_message = request();
    odd_message["payload"]["messages"] = json!([7]);
    for payload in [
        json!({}),
        json!(null),
        json!("x"),
        json!([request()]),
        json!({"payload": null}),
        json!({"payload": [request()]}),
        json!({"payload": {"payload": request()}}),
        other_target,
        odd_message,
    ] {
        let error = rig.call("harness::trigger", payload.clone()).await.unwrap_err();
        assert_eq!(error.wire_code(), "invocation_failed", "{payload}");
    }
    assert_eq!(starts.all(), Vec::<Value>::new());
}

async fn c04_case_04_errors_are_passed_on() {
    let rig = Rig::start().await;
    rig.fails("run::start", Error::coded("custom", "boom"));
    let error = rig.call("harness::trigger", request()).await.unwrap_err();
    assert_eq!(
        (error.wire_code(), error.to_string()),
        ("custom", "boom".to_owned())
    );
}

async fn c04_case_05_a_busy_session_is_409() {
    let rig = Rig::start().await;
    let body = json!({"session_id": "s", "started": false, "reason": "session_busy"});
    rig.record("run::start", body.clone());
    assert_eq!(
        rig.ok("harness::trigger", json!({ "body": request() })).await,
        json!({"status_code": 409, "headers": {"content-type": "application/json"}, "body": body})
    );
}

async fn c11_case_07_fields_of_newer_clients_are_accepted() {
    let rig = Rig::start().await;
    let starts = rig.record("run::start", json!({"session_id": "s", "started": true}));
    let mut request = request();
    request["function_id"] = json!("run::start");
    request["payload"]["thinking_level"] = json!("high");
    request["payload"]["future"] = json!({"a": 1});
    assert_eq!(
        rig.ok("harness::trigger", request).await["status_code"],
        json!(200)
    );
    assert_eq!(
        starts.all(),
        [
            json!({"session_id": "s", "provider": "p", "model": "x", "messages": [], "system_prompt": "",
                "thinking_level": "high"})
        ]
    );
}
