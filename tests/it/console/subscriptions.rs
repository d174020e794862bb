//! Who gets the events of a run (contract 11 §3.1).

use harness::scripted::{Reply, Script};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{BROWSER, Console};
use crate::support::three_ways;

three_ways! {
    c11_case_02_a_run_is_delivered_once_however_often_one_subscribes,
    c11_case_03_runs_of_other_sessions_reach_all_sessions_browsers_only,
    c11_case_04_a_stream_trigger_gets_the_same_events,
    c11_case_25_after_unsubscribing_a_run_is_silent,
}

async fn c11_case_02_a_run_is_delivered_once_however_often_one_subscribes() {
    let console = Console::open(Script::queue([Reply::says("hello", 2)])).await;
    for _ in 0..2 {
        assert_eq!(console.subscribe(json!("console-a")).await["ok"], true);
    }
    console.subscribe(Value::Null).await;
    console.trigger(console.inner("console-a", "hi")).await;
    let pushed = console.watched("console-a").await;
    assert_eq!(pushed, console.rig.t.ended("console-a", 1).await);
    console.close().await;
}

async fn c11_case_03_runs_of_other_sessions_reach_all_sessions_browsers_only() {
    let console = Console::open(Script::answer(|_| Reply::says("hello", 1))).await;
    let t = &console.rig.t;
    let all = t.record("ui::session::event::other", Value::Null);
    let changes = t.record("ui::sessions::changed::other", Value::Null);
    t.ok(
        "ui::subscribe",
        json!({ "browser_id": "other", "session_id": null }),
    )
    .await;
    console.subscribe(json!("console-a")).await;
    for session in ["console-c", "console-a"] {
        console.trigger(console.inner(session, "hi")).await;
        t.ended(session, 1).await;
    }
    console.watched("console-a").await;
    assert!(
        console
            .frames
            .all()
            .iter()
            .all(|frame| frame["session_id"] == "console-a")
    );
    let both = t.events("console-a").await.len() + t.events("console-c").await.len();
    t.eventually(async || (all.count() == both).then_some(())).await;
    t.eventually(async || (changes.count() >= 2).then_some(())).await;
    assert_eq!(
        changes.all(),
        ["console-c", "console-a"].map(|id| json!({ "added": [id], "removed": [] }))
    );
    console.close().await;
}

async fn c11_case_04_a_stream_trigger_gets_the_same_events() {
    let console = Console::open(Script::answer(|_| Reply::says("hello there", 2))).await;
    let t = &console.rig.t;
    let handler = format!("iii::console::session_event::{BROWSER}");
    let frames = t.record(&handler, Value::Null);
    let trigger = json!({ "trigger_type": "stream", "function_id": handler,
        "config": { "stream_name": "agent::events", "group_id": "console-a" } });
    t.ok("engine::register_trigger", trigger).await;
    console.send("console-b", "not for it").await;
    console.watched("console-b").await;
    console.send("console-a", "hi").await;
    let pushed = console.watched("console-a").await;
    t.eventually(async || (frames.count() >= pushed.len()).then_some(()))
        .await;
    let frames = frames.all();
    assert!(
        frames
            .iter()
            .all(|frame| frame["groupId"] == "console-a" && frame["streamName"] == "agent::events")
    );
    let events: Vec<Value> = frames
        .iter()
        .map(|frame| frame["event"]["data"].clone())
        .collect();
    assert_eq!(events, pushed);
    console.close().await;
}

async fn c11_case_25_after_unsubscribing_a_run_is_silent() {
    let console = Console::open(Script::answer(|_| Reply::says("hello", 1))).await;
    console.send("console-a", "hi").await;
    let seen = console.watched("console-a").await.len();
    let request = json!({ "browser_id": BROWSER, "session_id": "console-a" });
    assert_eq!(console.ok("ui::unsubscribe", request).await["ok"], true);
    console.trigger(console.inner("console-a", "again")).await;
    console.rig.t.ended("console-a", 2).await;
    // A later session's frames come behind whatever was still under way.
    console.send("console-b", "hi").await;
    console.watched("console-b").await;
    assert_eq!(console.events("console-a").len(), seen);
    console.close().await;
}
