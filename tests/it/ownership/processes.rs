//! Two real programs: the first one ends in every way, the second one goes on.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use harness::scripted::{Gate, Reply, Request};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{SESSION, Town};
use crate::admin::get;
use crate::crash::model::half;
use crate::crash::place::Life;
use crate::turn::{of_type, user};

const ALLOWING: &str = "rules: ['session-inbox::push', 'provider::openai::complete']";
const ASKING: &str = "rules: []";

fn answer_to(request: &Request, target: &str, payload: &Value) -> Reply {
    if !request.tool_results().is_empty() {
        return Reply::says("Done.", 1);
    }
    match request.last_user_text().as_str() {
        "go" => {
            let arguments = json!({ "function": target, "payload": payload }).to_string();
            Reply::calls([("A", "agent_trigger", arguments.as_str())])
        }
        text => Reply::says(format!("Re: {text}"), 1),
    }
}

pub(super) fn one_end(events: &[Value]) {
    assert_eq!(of_type(events, "agent_end").len(), 1, "{events:#?}");
    assert_eq!(events.last().unwrap()["type"], "agent_end", "{events:#?}");
}

async fn readyz(life: &Life) -> (u16, Value) {
    let admin = life.address("admin server").await;
    let (status, body) = get(&format!("http://{admin}/readyz")).await;
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn a_second_program_stands_by_and_says_so_once() {
    let town = Town::start(|_| Reply::says("hello", 1)).await;
    let (first, second) = town.pair(ALLOWING).await;
    let (status, report) = readyz(&second).await;
    let place = format!("ws://{}", town.address);
    let standby = format!("engine: standby at {place}: a worker named `harness` is connected");
    assert_eq!(status, 503);
    assert_eq!(report["reasons"], json!(["waiting for registrations", standby]));
    assert_eq!(readyz(&first).await.0, 200);
    assert_eq!(town.serving().await, 1);
    assert_eq!(second.log().matches("standing by").count(), 1);
}

#[tokio::test]
async fn killed_while_the_model_streams() {
    let first_asked = AtomicBool::new(true);
    let town = Town::start(move |request| {
        if first_asked.swap(false, SeqCst) {
            return half("Half an ");
        }
        answer_to(request, "", &Value::Null)
    })
    .await;
    let (first, second) = town.pair(ALLOWING).await;
    town.run("hello").await;
    let has_text = |event: &Value| event["llm_event"]["type"] == "text_delta";
    town.eventually(async || town.events().await.iter().any(has_text).then_some(()))
        .await;
    first.kill();
    let events = town.ended().await;
    one_end(&events);
    assert_eq!(town.asked("gpt-5"), 2);
    assert_eq!(
        town.transcript().await,
        ["user hello", "assistant Half an  (error)", "assistant Re: hello"]
    );
    second.says("ready functions=").await;
    assert_eq!(town.serving().await, 1);
}

#[tokio::test]
async fn killed_while_a_call_is_parked() {
    let payload = json!({ "name": "marks", "session_id": "marks", "item": "A" });
    let town = Town::start(move |request| answer_to(request, "session-inbox::push", &payload)).await;
    let (first, second) = town.pair(ASKING).await;
    town.run("go").await;
    town.eventually(async || {
        let record = town.state("turn_state", SESSION).await;
        (record["state"] == "function_awaiting_approval").then_some(())
    })
    .await;
    first.kill();
    second.says("ready functions=").await;
    let decision = json!({ "session_id": SESSION, "function_call_id": "A", "decision": "allow" });
    assert_eq!(town.ok("approval::resolve", decision).await["ok"], true);
    one_end(&town.ended().await);
    let marks = json!({ "name": "marks", "session_id": "marks" });
    assert_eq!(town.ok("session-inbox::peek", marks).await["items"], json!(["A"]));
    assert_eq!(town.asked("gpt-5"), 2);
}

#[tokio::test]
async fn killed_while_a_call_runs() {
    let gate = Gate::new();
    let held = gate.clone();
    let payload = json!({ "model": "slow", "messages": [user("think hard")] });
    let town = Town::start(move |request| match request.model() {
        "slow" => Reply::says("slow answer", 1).after(held.clone()),
        _ => answer_to(request, "provider::openai::complete", &payload),
    })
    .await;
    let (first, _second) = town.pair(ALLOWING).await;
    town.run("go").await;
    town.eventually(async || (town.asked("slow") == 1).then_some(()))
        .await;
    first.kill();
    one_end(&town.ended().await);
    gate.release();
    assert_eq!(town.asked("slow"), 1, "not run again");
    assert_eq!(
        town.transcript().await,
        [
            "user go",
            "assistant calls A",
            "result A interrupted",
            "assistant Done."
        ]
    );
}

#[tokio::test]
async fn a_graceful_stop_hands_over_at_once() {
    let town = Town::start(|request| answer_to(request, "", &Value::Null)).await;
    let (mut first, second) = town.pair(ALLOWING).await;
    first.signal("TERM");
    assert_eq!(first.exit().await.code(), Some(0), "{}", first.log());
    let row = town.state("harness_owner", "harness").await;
    second.says("ready functions=").await;
    let was_free = row["1"]["released"] == true || row.get("2").is_some();
    assert!(was_free, "{row}");
    town.run("hello").await;
    one_end(&town.ended().await);
    assert_eq!(town.transcript().await, ["user hello", "assistant Re: hello"]);
}

#[tokio::test]
async fn a_stand_by_that_is_stopped_just_ends() {
    let town = Town::start(|_| Reply::says("hello", 1)).await;
    let (first, mut second) = town.pair(ALLOWING).await;
    second.signal("TERM");
    assert_eq!(second.exit().await.code(), Some(0), "{}", second.log());
    assert_eq!(readyz(&first).await.0, 200);
}

#[tokio::test]
async fn two_real_programs_started_at_once() {
    let town = Town::start(|_| Reply::says("hello", 1)).await;
    for _ in 0..3 {
        let mut lives = [town.begin(ALLOWING), town.begin(ALLOWING)];
        let served = town
            .eventually(async || {
                let serves = |life: &Life| life.log().contains("ready functions=");
                let waits = |life: &Life| life.log().contains("standing by");
                let serving: Vec<bool> = lives.iter().map(serves).collect();
                let waiting = lives.iter().filter(|life| waits(life)).count();
                let settled = serving.contains(&true) && waiting >= 1;
                settled.then_some(serving)
            })
            .await;
        assert_eq!(served.iter().filter(|serves| **serves).count(), 1);
        assert_eq!(town.serving().await, 1);
        for life in &lives {
            life.signal("TERM");
        }
        for life in &mut lives {
            assert_eq!(life.exit().await.code(), Some(0), "{}", life.log());
        }
    }
}
