//! Streams that a worker keeps itself (contract 00 §5).

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::Open;

const OPERATIONS: [&str; 6] = ["get", "set", "delete", "update", "list", "list_groups"];

fn event(kind: &str, data: Value) -> Value {
    json!({"type": kind, "data": data})
}

#[tokio::test]
async fn a_worker_keeps_a_stream_and_the_engine_tells_of_it() {
    let open = Open::start().await;
    let (mut keeper, mut caller) = (open.join().await, open.join().await);
    let ids: Vec<String> = OPERATIONS
        .iter()
        .map(|operation| format!("stream::{operation}(kept)"))
        .collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    keeper.host(&ids).await;
    let mut events = open
        .engine
        .watch("p::on", "stream", json!({"stream_name": "kept"}))
        .await;

    let at = json!({"stream_name": "kept", "group_id": "g", "item_id": "i"});
    let with = |name: &str, value: Value| {
        let mut request = at.clone();
        request[name] = value;
        request
    };
    let set = with("data", json!(1));
    let update = with("ops", json!([{"type": "set", "path": "", "value": 3}]));
    let group = json!({"stream_name": "kept", "group_id": "g"});
    for (operation, request, answer, told) in [
        (
            "set",
            set.clone(),
            json!({"old_value": null, "new_value": 1}),
            Some(event("create", json!(1))),
        ),
        (
            "set",
            set,
            json!({"old_value": 1, "new_value": 2}),
            Some(event("update", json!(2))),
        ),
        (
            "update",
            update,
            json!({"old_value": 2, "new_value": 3}),
            Some(event("update", json!(3))),
        ),
        ("get", at.clone(), json!(3), None),
        ("list", group, json!([3]), None),
        ("list_groups", json!({"stream_name": "kept"}), json!(["g"]), None),
        ("delete", at.clone(), json!({"old_value": null}), None),
        (
            "delete",
            at.clone(),
            json!({"old_value": 3}),
            Some(event("delete", json!(3))),
        ),
    ] {
        let id = caller
            .begin(&format!("stream::{operation}"), request.clone())
            .await;
        let call = keeper.called(&format!("stream::{operation}(kept)")).await;
        assert_eq!(call["data"], request);
        keeper.answer(&call, answer.clone()).await;
        assert_eq!(caller.result(&id).await, json!({"result": answer}), "{operation}");
        if let Some(told) = told {
            let seen = events.next().await;
            assert_eq!(seen["event"], told);
            assert_eq!((&seen["groupId"], &seen["id"]), (&json!("g"), &json!("i")));
        }
    }

    // Nothing of it is in the store, and other streams are.
    assert_eq!(
        caller.ok("stream::list_all", json!({})).await,
        json!({"stream": [], "count": 0})
    );
    let other = json!({"stream_name": "other", "group_id": "g", "item_id": "i", "data": 1});
    caller.ok("stream::set", other).await;
    assert_eq!(keeper.untaken(), Vec::<Value>::new());
}

#[tokio::test]
async fn what_the_keeper_fails_is_failed_and_it_leaves_the_store_behind() {
    let open = Open::start().await;
    let (mut keeper, mut caller) = (open.join().await, open.join().await);
    keeper.host(&["stream::set(kept)"]).await;
    let mut events = open
        .engine
        .watch("p::on", "stream", json!({"stream_name": "kept"}))
        .await;
    let set = json!({"stream_name": "kept", "group_id": "g", "item_id": "i", "data": 1});
    let id = caller.begin("stream::set", set.clone()).await;
    let call = keeper.called("stream::set(kept)").await;
    keeper
        .send(json!({
            "type": "invocationresult", "invocation_id": call["invocation_id"], "function_id": "stream::set(kept)",
            "error": {"code": "full", "message": "no room"},
        }))
        .await;
    assert_eq!(
        caller.result(&id).await,
        json!({"error": {"code": "full", "message": "no room"}})
    );
    keeper.leave().await;
    open.workers(1).await;
    assert_eq!(
        caller.ok("stream::set", set).await,
        json!({"old_value": null, "new_value": 1})
    );
    assert_eq!(events.next().await["event"], event("create", json!(1)));
}
