//! Bindings and trigger types of outside workers (contract 00 §3).

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::Open;

fn change(kind: &str, old: Value, new: Value) -> Value {
    let mut event = json!({"type": "state", "event_type": format!("state:{kind}"), "scope": "d", "key": "k"});
    event["old_value"] = old;
    event["new_value"] = new;
    event
}

#[tokio::test]
async fn c00_case_07_state_events_over_the_wire() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    worker.host(&["w::on"]).await;
    worker.bind("w/on", "state", "w::on", json!({"scope": "d"})).await;
    let key = json!({"scope": "d", "key": "k"});
    let set = |n: u8| json!({"scope": "d", "key": "k", "value": n});
    assert_eq!(
        worker.ok("state::set", set(1)).await,
        json!({"old_value": null, "new_value": 1})
    );
    assert_eq!(
        worker.ok("state::set", set(2)).await,
        json!({"old_value": 1, "new_value": 2})
    );
    assert_eq!(
        worker.call("state::delete", key.clone()).await,
        json!({"result": 2})
    );
    assert_eq!(worker.call("state::delete", key).await, json!({}));
    for event in [
        change("created", Value::Null, json!(1)),
        change("updated", json!(1), json!(2)),
        change("deleted", json!(2), Value::Null),
        change("deleted", Value::Null, Value::Null),
    ] {
        assert_eq!(worker.event("w::on").await, event);
    }
}

#[tokio::test]
async fn c00_case_17_a_stream_binding_without_a_name_is_refused() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    worker.host(&["w::on"]).await;
    worker
        .bind("w/on", "stream", "w::on", json!({"group_id": "g"}))
        .await;
    assert_eq!(
        worker.untaken(),
        [json!({
            "type": "triggerregistrationresult", "id": "w/on", "trigger_type": "stream", "function_id": "w::on",
            "error": {"code": "trigger_registration_failed", "message": "config: stream_name is required"},
        })]
    );
    assert_eq!(worker.ok("state::list", json!({"scope": "x"})).await, json!([]));
}

#[tokio::test]
async fn c00_case_20_conditions_over_the_wire() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    worker.host(&["w::on", "w::if"]).await;
    let config = json!({"scope": "d", "condition_function_id": "w::if"});
    worker.bind("w/on", "state", "w::on", config).await;
    for (n, verdict) in [
        (1, Some(json!(false))),
        (2, Some(json!(null))),
        (3, None),
        (4, Some(json!("yes"))),
    ] {
        worker
            .ok("state::set", json!({"scope": "d", "key": "k", "value": n}))
            .await;
        let asked = worker.called("w::if").await;
        assert_eq!(asked["data"]["new_value"], n);
        match verdict {
            Some(verdict) => worker.answer(&asked, verdict).await,
            None => {
                worker
                    .send(json!({
                        "type": "invocationresult", "invocation_id": asked["invocation_id"], "function_id": "w::if",
                        "error": {"code": "invocation_failed", "message": "broken"},
                    }))
                    .await;
            }
        }
        if n % 2 == 0 {
            assert_eq!(worker.event("w::on").await["new_value"], n);
        }
    }
    assert_eq!(worker.untaken(), Vec::<Value>::new());
}

#[tokio::test]
async fn metadata_of_a_binding_comes_with_its_events() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    worker.host(&["w::on"]).await;
    worker
        .send(json!({
            "type": "registertrigger", "id": "w/on", "trigger_type": "state", "function_id": "w::on",
            "config": {"scope": "d"}, "metadata": {"mine": 1}, "trigger_namespace": "default",
        }))
        .await;
    worker
        .ok("state::set", json!({"scope": "d", "key": "k", "value": 1}))
        .await;
    assert_eq!(worker.called("w::on").await["metadata"], json!({"mine": 1}));
}

fn offered(id: &str) -> Value {
    json!({
        "type": "registertriggertype", "id": id, "description": "Fires now and then",
        "trigger_request_format": {"type": "object"}, "call_request_format": null,
    })
}

fn binding(id: &str, trigger_type: &str) -> Value {
    json!({
        "type": "registertrigger", "id": id, "trigger_type": trigger_type, "function_id": "b::on",
        "config": {"every": 5}, "metadata": {"m": 1},
    })
}

fn said(id: &str, error: Option<&str>) -> Value {
    let mut result = json!({
        "type": "triggerregistrationresult", "id": id, "trigger_type": "timer", "function_id": "b::on",
    });
    if let Some(message) = error {
        result["error"] = json!({"code": "whatever", "message": message});
    }
    result
}

async fn bindings(open: &Open) -> Vec<Value> {
    let list = open
        .engine
        .ok(
            "engine::registered-triggers::list",
            json!({"trigger_type": "timer"}),
        )
        .await;
    let rows = list["registered_triggers"].as_array().unwrap();
    rows.iter().map(|row| row["id"].clone()).collect()
}

#[tokio::test]
async fn a_type_of_a_worker_gets_parked_and_new_bindings() {
    let open = Open::start().await;
    let (mut provider, mut binder) = (open.join().await, open.join().await);
    binder.host(&["b::on"]).await;
    binder.send(binding("parked", "timer")).await;
    binder.settle().await;
    assert_eq!(bindings(&open).await, Vec::<Value>::new());

    provider.send(offered("timer")).await;
    assert_eq!(provider.take(|_| true).await, binding("parked", "timer"));
    provider.send(said("parked", None)).await;
    binder.send(binding("new", "timer")).await;
    assert_eq!(provider.take(|_| true).await, binding("new", "timer"));
    provider.send(said("new", Some("every must be even"))).await;
    let mut refused = said("new", Some("every must be even"));
    refused["error"]["code"] = json!("trigger_registration_failed");
    assert_eq!(
        binder
            .take(|message| message["type"] == "triggerregistrationresult")
            .await,
        refused
    );
    assert_eq!(bindings(&open).await, [json!("parked")]);

    let info = provider
        .ok("engine::triggers::info", json!({"id": "timer"}))
        .await;
    assert_eq!(
        info,
        json!({
            "id": "timer", "worker_name": "timer", "description": "Fires now and then", "instance_count": 1,
            "configuration_schema": {"type": "object"},
        })
    );

    // It fires by calling the function.
    let fired = provider.begin("b::on", json!({"tick": 1})).await;
    assert_eq!(binder.event("b::on").await, json!({"tick": 1}));
    assert_eq!(provider.result(&fired).await, json!({}));

    binder
        .send(json!({"type": "unregistertrigger", "id": "parked"}))
        .await;
    assert_eq!(
        provider
            .take(|message| message["type"] == "unregistertrigger")
            .await,
        json!({"type": "unregistertrigger", "id": "parked", "trigger_type": "timer"})
    );
}

#[tokio::test]
async fn bindings_are_parked_again_when_the_provider_goes() {
    let open = Open::start().await;
    let (mut provider, mut binder) = (open.join().await, open.join().await);
    binder.host(&["b::on"]).await;
    provider.send(offered("timer")).await;
    provider.settle().await;
    binder.send(binding("t", "timer")).await;
    provider
        .take(|message| message["type"] == "registertrigger")
        .await;
    drop(provider);
    open.workers(1).await;
    assert_eq!(bindings(&open).await, Vec::<Value>::new());

    let mut next = open.join().await;
    next.send(offered("timer")).await;
    assert_eq!(next.take(|_| true).await, binding("t", "timer"));
    assert_eq!(bindings(&open).await, [json!("t")]);
    drop(binder);
    assert_eq!(
        next.take(|_| true).await,
        json!({"type": "unregistertrigger", "id": "t", "trigger_type": "timer"})
    );
}

#[tokio::test]
async fn a_type_of_the_engine_stays_its_own() {
    let open = Open::start().await;
    let mut worker = open.join().await;
    worker.send(offered("state")).await;
    worker.host(&["w::on"]).await;
    worker.bind("w/on", "state", "w::on", json!({"scope": "d"})).await;
    open.engine.set("d", "k", json!(1)).await;
    assert_eq!(worker.event("w::on").await["new_value"], 1);
    worker.leave().await;
    open.workers(0).await;
    let mut seen = open.engine.watch("p::on", "state", json!({"scope": "d"})).await;
    open.engine.set("d", "k", json!(2)).await;
    assert_eq!(seen.next().await["new_value"], 2);
}

#[tokio::test]
async fn register_trigger_waits_for_the_word_of_the_provider() {
    let open = Open::start().await;
    let mut provider = open.join().await;
    provider.send(offered("timer")).await;
    provider.settle().await;
    for (error, expected) in [
        (None, Ok(())),
        (
            Some("no"),
            Err(("trigger_registration_failed".to_owned(), "no".to_owned())),
        ),
    ] {
        let request = json!({"trigger_type": "timer", "function_id": "b::on", "config": {}});
        let call = open.engine.call("engine::register_trigger", request);
        let word = async {
            let asked = provider
                .take(|message| message["type"] == "registertrigger")
                .await;
            let id = asked["id"].as_str().unwrap().to_owned();
            provider.send(said(&id, error)).await;
            id
        };
        let (outcome, id) = tokio::join!(call, word);
        let outcome = outcome.map(|answer| assert_eq!(answer, json!({"id": id})));
        let outcome = outcome.map_err(|error| (error.wire_code().to_owned(), error.to_string()));
        assert_eq!(outcome, expected);
    }
}
