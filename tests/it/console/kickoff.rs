//! The kickoff of a run, and what the page asks for before it (contract 11 §3).

use harness::scripted::{Gate, Reply, Script};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Console, shown};
use crate::support::three_ways;
use crate::turn::said;

three_ways! {
    c11_case_01_one_worker_named_harness,
    c11_case_05_the_kickoff_does_not_wait_for_the_model,
    c11_case_06_a_busy_session_answers_409_and_takes_nothing,
    c11_case_07_newer_and_older_forms_of_the_kickoff,
    c11_case_16_an_unknown_session_has_no_record,
}

async fn c11_case_01_one_worker_named_harness() {
    let console = Console::open(Script::queue([])).await;
    let reply = console.ok("engine::workers::list", json!({})).await;
    let rows = reply["workers"].as_array().unwrap().iter();
    assert_eq!(rows.filter(|row| row["name"] == "harness").count(), 1, "{reply}");
    console.close().await;
}

async fn c11_case_05_the_kickoff_does_not_wait_for_the_model() {
    let gate = Gate::new();
    let console = Console::open(Script::queue([Reply::says("late", 1).after(gate.clone())])).await;
    let reply = console.send("console-a", "hi").await;
    assert_eq!(
        reply,
        json!({ "status_code": 200, "headers": { "content-type": "application/json" },
            "body": { "session_id": "console-a", "started": true } })
    );
    // The model still holds its answer back.
    console.rig.t.reaches("console-a", "assistant_streaming").await;
    assert!(!shown(&console.events("console-a")).finished);
    gate.release();
    assert_eq!(console.shows("console-a").await.bubbles, ["late"]);
    console.close().await;
}

async fn c11_case_06_a_busy_session_answers_409_and_takes_nothing() {
    let gate = Gate::new();
    let console = Console::open(Script::queue([Reply::says("one", 1).after(gate.clone())])).await;
    console.send("console-a", "first").await;
    let reply = console.trigger(console.inner("console-a", "second")).await;
    assert_eq!(
        reply,
        json!({ "status_code": 409, "headers": { "content-type": "application/json" },
            "body": { "session_id": "console-a", "started": false, "reason": "session_busy" } })
    );
    gate.release();
    console.watched("console-a").await;
    let told: Vec<String> = console
        .rig
        .transcript("console-a")
        .await
        .iter()
        .map(said)
        .collect();
    assert_eq!(told, ["user first", "assistant one"]);
    console.close().await;
}

async fn c11_case_07_newer_and_older_forms_of_the_kickoff() {
    let console = Console::open(Script::answer(|request| {
        Reply::says(format!("to {}", request.last_user_text()), 1)
    }))
    .await;
    let mut newer = console.inner("console-a", "one");
    newer["thinking_level"] = json!("high");
    newer["attachments_of_the_future"] = json!([1]);
    console.subscribe(json!("console-a")).await;
    assert_eq!(console.trigger(newer).await["body"]["started"], true);
    assert_eq!(console.shows("console-a").await.bubbles, ["to one"]);

    // [old]: the whole local history, through the generic form and straight to run::start.
    let user = |text: &str, at: i64| json!({ "role": "user", "content": [{ "type": "text", "text": text }], "timestamp": at });
    let assistant = |text: &str| {
        json!({ "role": "assistant", "content": [{ "type": "text", "text": text }], "stop_reason": "end",
            "model": "gpt-5", "provider": "openai", "timestamp": 7 })
    };
    let mut history = console.inner("console-a", "");
    history["messages"] = json!([user("one", 9), assistant("to one"), user("two", 10)]);
    let outer = json!({ "function_id": "run::start", "session_id": "console-a", "message_id": "msg-old", "payload": history });
    assert_eq!(console.ok("harness::trigger", outer).await["status_code"], 200);
    console.rig.t.ended("console-a", 2).await;
    history["messages"] = json!([
        user("one", 9),
        assistant("to one"),
        user("two", 10),
        assistant("to two"),
        user("two", 11)
    ]);
    assert_eq!(console.ok("run::start", history).await["started"], true);
    console.rig.t.ended("console-a", 3).await;
    let told: Vec<String> = console
        .rig
        .transcript("console-a")
        .await
        .iter()
        .map(said)
        .collect();
    assert_eq!(
        told,
        [
            "user one",
            "assistant to one",
            "user two",
            "assistant to two",
            "user two",
            "assistant to two"
        ]
    );
    console.close().await;
}

async fn c11_case_16_an_unknown_session_has_no_record() {
    let console = Console::open(Script::queue([])).await;
    let request = json!({ "session_id": "console-never" });
    assert_eq!(console.ok("turn::get_state", request).await, Value::Null);
    console.close().await;
}
