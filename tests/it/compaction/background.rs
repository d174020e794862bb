//! `on_agent_event`, and what a browser that comes late sees of it.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{EVENT, Rig, talk};
use crate::support::stub::{Door, Out, says};
use crate::support::{TestOptions, three_ways};

three_ways! {
    c10_case_31_odd_frames_do_nothing,
    c10_case_32_a_turn_that_filled_the_window_is_compacted_once,
    c10_case_33_the_session_says_which_model_it_was,
    c10_case_35_the_trigger_is_bound_once,
}

pub(super) async fn knowing(rig: &Rig) {
    let model = json!({ "id": "m", "provider": "p", "context_window": 200_000, "max_output_tokens": 4096 });
    rig.ok("models::register", model).await;
}

pub(super) fn frame(message: Value) -> Value {
    json!({ "type": "stream", "streamName": "agent::turn_end", "groupId": "s", "id": "x",
        "event": { "type": "create", "data": { "type": "turn_end", "message": message, "function_results": [] } } })
}

pub(super) fn full() -> Value {
    json!({ "usage": { "input": 185_000 }, "provider": "p", "model": "m" })
}

async fn c10_case_31_odd_frames_do_nothing() {
    let rig = Rig::start().await;
    knowing(&rig).await;
    rig.fill(talk()).await;
    let mut update = frame(full());
    update["event"]["data"]["type"] = json!("message_update");
    for odd in [
        json!({}),
        json!(null),
        json!(42),
        update,
        frame(json!({ "provider": "p", "model": "m" })),
    ] {
        assert_eq!(rig.ok(EVENT, odd).await, Value::Null);
    }
    assert_eq!(
        (rig.stub.requests().len(), rig.compactions().await),
        (0, Vec::new())
    );
    rig.stop().await;
}

async fn c10_case_32_a_turn_that_filled_the_window_is_compacted_once() {
    let rig = Rig::start().await;
    knowing(&rig).await;
    rig.fill(talk()).await;
    for small in [json!({ "input": 100 }), json!({ "input": 100_000 })] {
        let mut message = full();
        message["usage"] = small;
        assert_eq!(rig.ok(EVENT, frame(message)).await, Value::Null);
    }
    assert_eq!(rig.stub.requests().len(), 0);
    futures::future::join(rig.ok(EVENT, frame(full())), rig.ok(EVENT, frame(full()))).await;
    let entries = rig.compactions().await;
    assert_eq!(entries.len(), 1);
    let announced = rig.announced().await;
    assert_eq!(announced.len(), 1);
    assert_eq!(
        (&announced[0]["mode"], &announced[0]["compaction_entry_id"]),
        (&json!("async"), &entries[0]["id"])
    );
    // A count from before it (field lesson K2), and nothing to gain (K1).
    let mut earlier = full();
    earlier["timestamp"] = json!(entries[0]["timestamp"].as_i64().unwrap() - 1);
    rig.ok(EVENT, frame(earlier)).await;
    rig.ok(EVENT, frame(full())).await;
    assert_eq!(rig.stub.requests().len(), 1);
    rig.stop().await;
}

async fn c10_case_33_the_session_says_which_model_it_was() {
    let rig = Rig::start().await;
    knowing(&rig).await;
    rig.fill(talk()).await;
    rig.ok(EVENT, frame(json!({ "usage": { "total": 185_000 } })))
        .await;
    assert_eq!(rig.stub.requests()[0]["model"], "m");
    rig.stop().await;
}

async fn c10_case_35_the_trigger_is_bound_once() {
    let rig = Rig::start().await;
    let bound = rig
        .eventually(async || {
            let reply = rig.ok("engine::registered-triggers::list", json!({})).await;
            let rows = reply["registered_triggers"].as_array().unwrap().clone();
            let ours: Vec<Value> = rows
                .into_iter()
                .filter(|row| row["function_id"] == EVENT)
                .collect();
            (!ours.is_empty()).then_some(ours)
        })
        .await;
    assert_eq!(bound.len(), 1);
    assert_eq!(
        (&bound[0]["trigger_type"], &bound[0]["config"]),
        (&json!("stream"), &json!({ "stream_name": "agent::turn_end" }))
    );
    rig.stop().await;
}

#[tokio::test]
async fn c10_case_36_d_a_small_window_is_not_compacted_for_its_prompt() {
    let rig = Rig::start().await;
    rig.ok(
        "models::register",
        json!({ "id": "m", "provider": "p", "context_window": 8192 }),
    )
    .await;
    rig.set_state(
        "run_request",
        "s",
        json!({ "system_prompt": "x".repeat(12_000), "function_schemas": [] }),
    )
    .await;
    rig.fill(talk()).await;
    let mut message = full();
    message["usage"] = json!({ "input": 3_100 });
    rig.ok(EVENT, frame(message.clone())).await;
    assert_eq!(rig.stub.requests().len(), 0);
    message["usage"] = json!({ "input": 5_100 });
    rig.ok(EVENT, frame(message)).await;
    assert_eq!(rig.stub.requests().len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn field_lesson_k7_auto_off_is_off() {
    let mut options = TestOptions::default();
    options.config.compaction.auto = false;
    let rig = Rig::with(options, |_, _| says(&["SUM"])).await;
    knowing(&rig).await;
    rig.fill(talk()).await;
    rig.ok(EVENT, frame(full())).await;
    assert_eq!(rig.stub.requests().len(), 0);
    assert_eq!(rig.compact().await["status"], "ok");
    rig.stop().await;
}

#[tokio::test]
async fn a_browser_that_comes_later_learns_of_a_compaction() {
    let door = Door::closed();
    let held = door.clone();
    let rig = Rig::answering(move |_, _| [vec![Out::Wait(held.clone())], says(&["SUM"])].concat()).await;
    knowing(&rig).await;
    rig.fill(talk()).await;
    let compacted = async {
        rig.stub.asked(&rig, 1).await;
        door.open();
    };
    futures::future::join(rig.ok(EVENT, frame(full())), compacted).await;
    let inbox = rig.record("ui::session::event::b", Value::Null);
    let late = json!({ "browser_id": "b", "session_id": "s", "replay": true });
    rig.ok("ui::subscribe", late).await;
    let pushed = rig.eventually(async || inbox.all().into_iter().next()).await;
    assert_eq!(
        (&pushed["event"]["type"], &pushed["event"]["mode"]),
        (&json!("compaction_done"), &json!("async"))
    );
    rig.stop().await;
}
