//! `run::start`, `turn::provisioning`, `turn::get_state`.

use std::sync::{Arc, Mutex};

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Rig, lines, of_type, run, said, user};
use crate::support::spy::Spy;
use crate::support::stub::{Door, Out, says};
use crate::support::{TestOptions, three_ways};
use harness::bus::Write;

three_ways! {
    c02_case_01_a_run_begins,
    c02_case_01_the_session_is_made_before_the_first_message,
    c02_case_02_bad_requests_write_nothing,
    c02_case_03_a_busy_session_takes_no_second_run,
    field_lesson_d7_a_hundred_starts_make_one_run,
    c02_case_04_a_finished_session_takes_a_new_run,
    c02_case_05_a_step_without_its_state_does_nothing,
    c02_case_06_provisioning_attaches_the_tool,
    c02_case_07_an_override_is_the_whole_prompt,
    c02_case_08_an_unknown_provider_is_an_error_of_the_turn,
    the_history_form_appends_only_what_is_new,
    c02_case_42_get_state_shows_the_view_only,
    an_odd_thinking_level_counts_as_absent,
}

fn waiting(door: &Door) -> impl Fn(usize, &Value) -> Vec<Out> + Send + Sync + 'static {
    let door = door.clone();
    move |_, _| [vec![Out::Wait(door.clone())], says(&["ok"])].concat()
}

async fn c02_case_01_a_run_begins() {
    let (spy, door) = (Spy::default(), Door::closed());
    let rig = Rig::new(
        TestOptions {
            wrap: spy.wrap(),
            ..TestOptions::default()
        },
        waiting(&door),
    )
    .await;
    assert_eq!(
        rig.start("s1").await,
        json!({ "session_id": "s1", "started": true })
    );
    rig.t.reaches("s1", "assistant_streaming").await;

    let created = of_type(&rig.t.events_once("s1", 1).await, "turn_state_changed")[0].clone();
    assert_eq!(
        created,
        json!({ "type": "turn_state_changed", "event_type": "state:created",
            "new_value": { "session_id": "s1", "state": "provisioning", "turn_count": 0 } })
    );
    let request = spy.writes().into_iter().find_map(|write| match write {
        Write::StateSet { scope, value, .. } if scope == "run_request" => Some(value),
        _ => None,
    });
    assert_eq!(
        *request.unwrap(),
        json!({ "provider": "stub", "model": "m", "mode": null, "system_prompt": "", "function_schemas": [] })
    );
    assert_eq!(rig.t.calls_of("session-tree::ensure"), 1);
    door.open();
    rig.t.ended("s1", 1).await;
    rig.t.stop().await;
}

/// Kept by others: what is asked of them, in order.
async fn c02_case_01_the_session_is_made_before_the_first_message() {
    for messages in [vec![user("hi")], vec![user("hi"), user("you")], Vec::new()] {
        let mut options = TestOptions::default();
        options.workers.retain(|worker| worker.name != "session");
        let rig = Rig::new(options, |_, _| says(&["ok"])).await;
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        for id in ["ensure", "append", "messages", "compactions"] {
            let asked = Arc::clone(&asked);
            rig.t.serve(&format!("session-tree::{id}"), move |request| {
                asked.lock().unwrap().push(id.to_owned());
                std::future::ready(Ok(json!({ "session_id": request["session_id"], "entry_id": "e",
                    "messages": [], "entries": [] })))
            });
        }
        // Outside functions are there once the workers have heard of them.
        let ensure = json!({ "session_id": "before" });
        rig.t
            .eventually(async || rig.t.call("session-tree::ensure", ensure.clone()).await.ok())
            .await;
        asked.lock().unwrap().clear();
        let mut request = run("s1");
        request["messages"] = json!(messages);
        assert_eq!(rig.t.ok("run::start", request).await["started"], true);
        let writes = asked.lock().unwrap().clone().into_iter();
        let writes: Vec<String> = writes.filter(|id| id == "ensure" || id == "append").collect();
        let ensures = writes.iter().filter(|id| *id == "ensure").count();
        assert_eq!((ensures, &*writes[0]), (1, "ensure"));
        assert!(writes.len() > messages.len(), "{writes:?}");
        rig.t.ended("s1", 1).await;
        rig.t.stop().await;
    }
}

async fn c02_case_02_bad_requests_write_nothing() {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    let before = rig.t.ok("state::list_groups", json!({})).await;
    let valid = run("s1");
    let mut odd_mode = valid.clone();
    odd_mode["mode"] = json!("invalid");
    let with = |key: &str, value: Value| {
        let mut request = valid.clone();
        request[key] = value;
        request
    };
    for request in [
        json!({}),
        Value::Null,
        json!("x"),
        json!([1]),
        json!({ "session_id": "" }),
        json!({ "session_id": "s" }),
        json!({ "session_id": "s", "provider": "p" }),
        json!({ "session_id": 42, "provider": "p", "model": "m" }),
        odd_mode,
        json!({ "payload": valid }),
        json!({ "data": valid }),
        json!({ "body": valid }),
        with("session_id", json!("a/b")),
        with("session_id", json!("a\u{7}")),
        with("session_id", json!("x".repeat(1 << 20))),
        with("messages", json!("hi")),
        with("messages", json!([{ "role": "nobody", "content": [] }])),
        with("messages", json!(["hi"])),
        with("max_turns", json!("many")),
        with("model", json!("m".repeat(16 * 1024 * 1024))),
    ] {
        let error = rig.t.call("run::start", request.clone()).await.unwrap_err();
        assert!(!error.to_string().is_empty());
    }
    assert_eq!(rig.t.ok("state::list_groups", json!({})).await, before);
    for scope in ["turn_state", "run_request", "session_tree_meta", "turn_lease"] {
        assert_eq!(
            rig.t.ok("state::list", json!({ "scope": scope })).await,
            json!([]),
            "{scope}"
        );
    }
    let message = rig
        .t
        .error(
            "run::start",
            with("messages", json!([{ "role": "nobody", "content": [] }])),
        )
        .await;
    assert!(
        message.contains("invalid message: unknown role `nobody`"),
        "{message}"
    );
    rig.t.stop().await;
}

async fn c02_case_03_a_busy_session_takes_no_second_run() {
    let door = Door::closed();
    let rig = Rig::allowing(waiting(&door)).await;
    rig.start("s1").await;
    rig.t.reaches("s1", "assistant_streaming").await;
    let before = (
        rig.t.calls_of("session-tree::ensure"),
        rig.t.calls_of("session-tree::append"),
    );
    assert_eq!(
        rig.start("s1").await,
        json!({ "session_id": "s1", "started": false, "reason": "session_busy" })
    );
    assert_eq!(
        (
            rig.t.calls_of("session-tree::ensure"),
            rig.t.calls_of("session-tree::append")
        ),
        before
    );
    door.open();
    rig.t.ended("s1", 1).await;
    assert_eq!(
        rig.transcript("s1").await.iter().map(said).collect::<Vec<_>>(),
        ["user hi", "assistant ok"]
    );
    rig.t.stop().await;
}

async fn field_lesson_d7_a_hundred_starts_make_one_run() {
    let door = Door::closed();
    let rig = Rig::allowing(waiting(&door)).await;
    let starts = futures::future::join_all((0..100).map(|_| rig.start("s1"))).await;
    assert_eq!(starts.iter().filter(|reply| reply["started"] == true).count(), 1);
    assert_eq!(
        starts
            .iter()
            .filter(|reply| reply["reason"] == "session_busy")
            .count(),
        99
    );
    door.open();
    rig.t.ended("s1", 1).await;
    assert_eq!(rig.transcript("s1").await.len(), 2);
    rig.t.stop().await;
}

async fn c02_case_04_a_finished_session_takes_a_new_run() {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    rig.run("s1").await;
    let first_ids: Vec<Value> = rig.t.events("s1").await;
    rig.start("s1").await;
    let events = rig.t.ended("s1", 2).await;
    let restarted = &events[first_ids.len()];
    assert_eq!(restarted["event_type"], "state:updated");
    assert_eq!(restarted["old_value"]["state"], "stopped");
    assert_eq!(
        restarted["new_value"],
        json!({ "session_id": "s1", "state": "provisioning", "turn_count": 0 })
    );
    assert_eq!(rig.transcript("s1").await.len(), 4);
    rig.t.stop().await;
}

async fn c02_case_05_a_step_without_its_state_does_nothing() {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    let message = rig
        .t
        .error("turn::provisioning", json!({ "session_id": "none" }))
        .await;
    assert_eq!(message, "turn::provisioning invariant: missing session none");
    let row = json!({ "session_id": "s1", "state": "assistant_streaming", "turn_count": 0 });
    rig.t.set_state("turn_state", "s1", row.clone()).await;
    assert_eq!(
        rig.t
            .ok("turn::provisioning", json!({ "session_id": "s1" }))
            .await,
        json!({ "ok": true, "skipped": true, "reason": "stale" })
    );
    assert_eq!(rig.record("s1").await, row);
    assert_eq!(rig.t.events("s1").await, Vec::<Value>::new());
    for id in [
        "provisioning",
        "assistant_streaming",
        "function_execute",
        "function_awaiting_approval",
        "steering_check",
    ] {
        let message = rig.t.error(&format!("turn::{id}"), json!({})).await;
        assert_eq!(message, "missing required string field: session_id");
    }
    rig.t.stop().await;
}

async fn c02_case_06_provisioning_attaches_the_tool() {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    rig.run("s1").await;
    let request = rig.t.state("run_request", "s1").await;
    let tools = request["function_schemas"].as_array().unwrap();
    assert_eq!(tools.len(), 1);
    assert_eq!(tools[0]["name"], "agent_trigger");
    assert_eq!(tools[0]["parameters"]["required"], json!(["function"]));
    assert_eq!(rig.stub.requests()[0]["tools"], request["function_schemas"]);
    assert_eq!(rig.stub.requests()[0]["system_prompt"], request["system_prompt"]);
    rig.t.stop().await;
}

async fn c02_case_07_an_override_is_the_whole_prompt() {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    let mut request = run("s1");
    request["system_prompt"] = json!("custom");
    request["mode"] = json!("plan");
    rig.t.ok("run::start", request).await;
    rig.t.ended("s1", 1).await;
    assert_eq!(rig.stub.requests()[0]["system_prompt"], "custom");
    rig.t.stop().await;
}

async fn c02_case_08_an_unknown_provider_is_an_error_of_the_turn() {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    let mut request = run("s1");
    request["provider"] = json!("Nobody");
    rig.t.ok("run::start", request).await;
    let events = rig.t.ended("s1", 1).await;
    let complete = of_type(&events, "message_complete")[0];
    assert_eq!(complete["message"]["stop_reason"], "error");
    assert_eq!(complete["message"]["error_message"], "unknown provider: Nobody");
    rig.t.stop().await;
}

async fn the_history_form_appends_only_what_is_new() {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    rig.run("s1").await;
    let mut request = run("s1");
    request["messages"] = json!([
        user("hi"),
        { "role": "assistant", "content": [{ "type": "text", "text": "ok" }], "stop_reason": "end", "timestamp": 9 },
        user("and now?"),
    ]);
    rig.t.ok("run::start", request).await;
    rig.t.ended("s1", 2).await;
    let transcript = rig.transcript("s1").await;
    assert_eq!(
        transcript.iter().map(said).collect::<Vec<_>>(),
        ["user hi", "assistant ok", "user and now?", "assistant ok"]
    );
    rig.t.stop().await;
}

async fn c02_case_42_get_state_shows_the_view_only() {
    let rig = Rig::asking(crate::support::stub::calls_then_ends(vec![(
        "A",
        "f",
        json!({ "x": 1 }),
    )]))
    .await;
    rig.start("s1").await;
    let view = rig.t.reaches("s1", "function_awaiting_approval").await;
    assert_eq!(
        view,
        json!({ "session_id": "s1", "state": "function_awaiting_approval", "turn_count": 1,
            "awaiting_approval": [{ "function_call_id": "A", "function_id": "f", "args": { "x": 1 },
                "call_hash": view["awaiting_approval"][0]["call_hash"] }] })
    );
    assert_eq!(
        rig.t
            .ok("turn::get_state", json!({ "session_id": "unknown" }))
            .await,
        Value::Null
    );
    assert_eq!(
        rig.t.error("turn::get_state", json!({})).await,
        "missing required string field: session_id"
    );
    rig.t.stop().await;
}

async fn an_odd_thinking_level_counts_as_absent() {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    for (session, level) in [("s1", json!("sideways")), ("s2", json!(7))] {
        let mut request = run(session);
        request["thinking_level"] = level;
        rig.t.ok("run::start", request).await;
        rig.t.ended(session, 1).await;
    }
    let mut request = run("s3");
    request["thinking_level"] = json!("high");
    rig.t.ok("run::start", request).await;
    rig.t.ended("s3", 1).await;
    let levels: Vec<Value> = rig
        .stub
        .requests()
        .iter()
        .map(|request| request["thinking_level"].clone())
        .collect();
    assert_eq!(levels, [Value::Null, Value::Null, json!("high")]);
    assert_eq!(lines(&rig.t.events("s3").await).last().unwrap(), "agent_end");
    rig.t.stop().await;
}
