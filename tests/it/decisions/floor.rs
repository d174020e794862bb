//! What no mode, list, rule or click lets an agent do (contract 03 §4, field lesson A5).

use std::collections::BTreeSet;

use harness::cli::catalog;
use harness::rules::consult;
use harness::workers;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::asks_each_run;
use crate::support::{TestOptions, stub};
use crate::turn::{Rig, of_type};

/// What a change of settings has a session do.
const LOOK: &str = "turn::function_awaiting_approval";

/// Every function that is for people only, and every entry of the floor.
fn forbidden() -> Vec<(&'static str, Value)> {
    let session = || json!({ "session_id": "s1", "function_id": "ask", "mode": "full" });
    let row = |scope: &str| json!({ "scope": scope, "key": "s1", "value": {}, "ops": [] });
    let mut list = vec![
        (
            "run::start",
            json!({ "session_id": "s9", "provider": "stub", "model": "m" }),
        ),
        ("run::abort", session()),
        ("harness::trigger", json!({ "payload": {} })),
        ("configuration::get", json!({ "id": "harness" })),
        ("configuration::set", json!({ "id": "harness", "value": {} })),
        ("configuration::register", json!({ "id": "x" })),
        ("harness::provider::resolve", json!({ "provider": "openai" })),
        ("harness::provider::register", json!({ "id": "x" })),
        ("models::register", json!({ "models": [] })),
        ("session-tree::delete", session()),
        (
            "approval::resolve",
            json!({ "session_id": "s1", "function_call_id": "A", "decision": "allow" }),
        ),
        ("approval::on_harness_config", json!({})),
    ];
    for id in [
        "approval::set_mode",
        "approval::add_always_allow",
        "approval::remove_always_allow",
        "approval::approve_always",
        "approval::get_settings",
        "approval::clear_settings",
    ] {
        list.push((id, session()));
    }
    for id in [
        "budget::alert_set",
        "budget::delete",
        "budget::enforce",
        "budget::exempt",
        "budget::pause",
        "budget::reset",
        "budget::update",
    ] {
        list.push((id, json!({ "budget_id": "b" })));
    }
    for id in ["state::set", "state::update", "state::delete"] {
        for scope in [
            "approvals",
            "approval_settings",
            "turn_state",
            "turn_lease",
            "run_request",
            "budgets",
            "harness_owner",
            "models",
        ] {
            list.push((id, row(scope)));
        }
    }
    for id in ["stream::set", "stream::update", "stream::delete", "stream::send"] {
        let event = json!({ "stream_name": "agent::events", "group_id": "s1", "item_id": "x", "data": {} });
        list.push((id, event));
    }
    list.extend(hidden());
    list.extend(internal().map(|id| (id, row("turn_state"))));
    list
}

/// The same doors, hidden in another call.
fn hidden() -> Vec<(&'static str, Value)> {
    let decision = json!({ "session_id": "s1", "function_call_id": "A", "decision": "allow" });
    let binding =
        |id: &str| json!({ "trigger_type": "subscribe", "function_id": id, "config": { "topic": "t" } });
    let condition = json!({ "topic": "t", "condition_function_id": "approval::set_mode" });
    vec![
        // By position.
        (
            "state::set",
            json!(["approvals", "s1/A", { "decision": "allow" }]),
        ),
        (
            "state::update",
            json!(["approval_settings", "s2", [{ "type": "set", "path": "", "value": {} }]]),
        ),
        ("state::delete", json!(["approvals", "s1/A"])),
        // Called by others.
        (
            "engine::queue::enqueue",
            json!({ "queue": "q", "function_id": "approval::resolve", "data": decision }),
        ),
        (
            "engine::queue::enqueue",
            json!(["q", "approval::resolve", decision]),
        ),
        ("engine::register_trigger", binding("approval::set_mode")),
        ("engine::register_trigger", binding("state::set")),
        ("engine::register_trigger", binding("engine::queue::enqueue")),
        (
            "engine::register_trigger",
            json!({ "trigger_type": "subscribe", "function_id": "free", "config": condition }),
        ),
    ]
}

fn internal() -> impl Iterator<Item = &'static str> {
    [
        "harness::fanout::agent_event_handler",
        "harness::fanout::session_created",
        "hook-fanout::reply_handler",
        "turn::assistant_streaming",
        "turn::function_awaiting_approval",
        "turn::function_execute",
        "turn::on_approval",
        "turn::provisioning",
        "turn::steering_check",
    ]
    .into_iter()
}

#[test]
fn what_only_the_program_calls_is_closed_to_agents() {
    let workers = workers::all();
    let targets = workers
        .iter()
        .flat_map(|worker| &worker.triggers)
        .map(|binding| binding.function_id.to_string());
    let ids: Vec<String> = catalog(&workers)
        .into_iter()
        .map(|function| function.id.to_string())
        .collect();
    let steps = ids
        .iter()
        .filter(|id| id.starts_with("turn::") && *id != "turn::get_state")
        .cloned();
    let expected: BTreeSet<String> = targets.chain(steps).collect();
    let closed: BTreeSet<String> = ids.iter().filter(|id| consult::internal(id)).cloned().collect();
    assert_eq!(closed, expected);
}

#[tokio::test]
async fn what_is_for_people_is_denied_in_every_mode() {
    let list: Vec<(String, &str, Value)> = forbidden()
        .into_iter()
        .enumerate()
        .map(|(n, (id, payload))| (format!("c{n:02}"), id, payload))
        .collect();
    for mode in ["manual", "auto", "full"] {
        let calls = list.clone();
        let answer = move |number: usize, _: &Value| {
            let calls: Vec<(&str, &str, Value)> = calls
                .iter()
                .map(|(call, id, payload)| (call.as_str(), *id, payload.clone()))
                .collect();
            if number == 0 {
                stub::calls(&calls)
            } else {
                stub::says(&["done"])
            }
        };
        let rig = Rig::allowing(answer).await;
        let ids: BTreeSet<&str> = list.iter().map(|(_, id, _)| *id).collect();
        for (clicks, id) in (0..).step_by(2).zip(ids) {
            for click in ["approval::approve_always", "approval::add_always_allow"] {
                let request = json!({ "session_id": "s1", "function_id": id });
                rig.t.ok(click, request).await;
            }
            // Each click has the session look at its calls; people are not quicker than that.
            rig.t
                .eventually(async || (rig.t.calls_of(LOOK) > clicks).then_some(()))
                .await;
        }
        let request = json!({ "session_id": "s1", "mode": mode });
        let settings = rig.t.ok("approval::set_mode", request).await;
        let events = rig.run("s1").await;

        let ends = of_type(&events, "function_execution_end");
        let denied: Vec<(&Value, &Value, &Value)> = ends
            .iter()
            .map(|end| {
                let details = &end["result"]["details"];
                (&end["function_call_id"], &details["status"], &details["rule_id"])
            })
            .collect();
        let (status, rule) = (json!("denied"), json!("human_only_function"));
        let calls: Vec<Value> = list.iter().map(|(call, ..)| json!(call)).collect();
        let expected: Vec<_> = calls.iter().map(|call| (call, &status, &rule)).collect();
        assert_eq!(denied, expected, "mode {mode}");
        let now = rig
            .t
            .ok("approval::get_settings", json!({ "session_id": "s1" }))
            .await;
        assert_eq!(now, settings);
        assert_eq!(
            rig.t.ok("state::list", json!({ "scope": "approvals" })).await,
            json!([])
        );
        rig.t.stop().await;
    }
}

#[tokio::test]
async fn the_floor_takes_nothing_else() {
    let list = vec![
        (
            "A",
            "state::set",
            json!({ "scope": "notes", "key": "k", "value": 1 }),
        ),
        ("B", "state::get", json!({ "scope": "approvals", "key": "k" })),
        (
            "C",
            "state::set",
            json!({ "scope": "approvals2", "key": "k", "value": 2 }),
        ),
        (
            "D",
            "engine::register_trigger",
            json!({ "trigger_type": "subscribe", "function_id": "free", "config": { "topic": "t" } }),
        ),
    ];
    let rig = Rig::allowing(asks_each_run(list)).await;
    let events = rig.run("s1").await;
    let ends = of_type(&events, "function_execution_end");
    assert_eq!(
        ends.iter().map(|end| &end["is_error"]).collect::<Vec<_>>(),
        [false, false, false, false]
    );
    assert_eq!(rig.t.state("notes", "k").await, 1);
    rig.t.stop().await;
}

#[tokio::test]
async fn a_click_does_not_lift_a_floor_that_rose_while_the_call_waited() {
    risen("ask", json!({ "n": 1 })).await;
    // Nor for a call inside the one that was shown.
    risen("agent_trigger", json!({ "function": "ask", "payload": {} })).await;
}

async fn risen(function: &'static str, payload: Value) {
    let options = TestOptions {
        rules: Some("rules: []"),
        ..TestOptions::default()
    };
    let rig = Rig::new(options, asks_each_run(vec![("A", function, payload)])).await;
    let asked = rig.t.record(function, json!({}));
    rig.parked("s1").await;
    rig.t
        .reconfigure(|config| config.permissions.deny_floor = vec![json!("ask")]);
    let request = json!({ "session_id": "s1", "mode": "full" });
    rig.t.ok("approval::set_mode", request).await;
    rig.look("s1").await;
    assert_eq!(rig.waiting("s1").await.len(), 1);
    rig.decide("s1", "A", "allow", None).await;
    let events = rig.t.ended("s1", 1).await;
    let details = &of_type(&events, "function_execution_end")[0]["result"]["details"];
    assert_eq!(
        (&details["status"], &details["rule_id"], &details["function_id"]),
        (&json!("denied"), &json!("human_only_function"), &json!("ask"))
    );
    assert_eq!(asked.count(), 0);
    rig.t.stop().await;
}
