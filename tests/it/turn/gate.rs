//! What the gate sees of a call (contract 02 §8, 03 §4): the raw arguments, and the target under every wrapper.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::Rig;
use super::calls::details;
use crate::support::TestOptions;
use crate::support::stub::calls_then_ends;

fn rules(rules: &'static str) -> TestOptions {
    TestOptions {
        rules: Some(rules),
        ..TestOptions::default()
    }
}

/// The payload of `agent_trigger` around a call, so many times.
fn wrapped(times: usize, function: &str, payload: Value) -> Value {
    (0..times).fold(
        json!({ "function": function, "payload": payload }),
        |inner, _| json!({ "function": "agent_trigger", "payload": inner }),
    )
}

#[tokio::test]
async fn c03_weakness_7_rules_see_the_callers_arguments_and_no_envelope() {
    let text = "rules:\n\
        - {rule_id: session, function: f, action: deny, args: {session_id: {matches: '.'}}}\n\
        - {rule_id: call, function: f, action: deny, args: {function_call: {equals: 1}}}\n\
        - f\n";
    let list = vec![
        ("A", "f", json!({ "x": 1 })),
        ("B", "f", json!({ "session_id": "other" })),
        ("C", "f", json!({ "function_call": 1 })),
        ("D", "f", json!([1])),
        ("E", "f", json!({ "function_id": "g", "function_call_id": "z" })),
    ];
    let rig = Rig::new(rules(text), calls_then_ends(list)).await;
    let target = rig.t.record("f", json!({}));
    let events = rig.run("s1").await;
    let denied_by = ["A", "B", "C", "D", "E"].map(|call| details(&events, call)["rule_id"].clone());
    let by = |id: &str| Value::from(id);
    assert_eq!(
        denied_by,
        // Of an array nobody can say what its target finds in it.
        [Value::Null, by("session"), by("call"), by("session"), Value::Null]
    );
    let mut seen = target.all();
    seen.sort_by_key(Value::to_string);
    assert_eq!(
        seen,
        [
            json!({ "function_id": "g", "function_call_id": "z" }),
            json!({ "x": 1 })
        ]
    );
    rig.t.stop().await;
}

#[tokio::test]
async fn p1_no_wrapper_hides_its_target() {
    let text = "rules: ['!secret', agent_trigger, open, 'approval::*']";
    let texts = wrapped(1, "secret", json!({})).to_string();
    let list = vec![
        ("A", "agent_trigger", wrapped(0, "secret", json!({}))),
        ("B", "agent_trigger", wrapped(4, "secret", json!({}))),
        // Given as text, as models do.
        (
            "C",
            "agent_trigger",
            json!({ "function": "agent_trigger", "payload": texts }),
        ),
        (
            "D",
            "agent_trigger",
            wrapped(1, "approval::set_mode", json!({ "mode": "full" })),
        ),
        (
            "E",
            "agent_trigger",
            wrapped(1, "state::set", json!({ "scope": "budgets" })),
        ),
        ("F", "agent_trigger", wrapped(2, "open", json!({}))),
    ];
    let rig = Rig::new(rules(text), calls_then_ends(list)).await;
    // Somebody's function of that name, which would call what it is told to.
    let dispatcher = rig.t.record("agent_trigger", json!({}));
    let events = rig.run("s1").await;
    let denials = ["A", "B", "C", "D", "E", "F"].map(|call| {
        let details = details(&events, call);
        (details["function_id"].clone(), details["rule_id"].clone())
    });
    let denied = |function: &str, rule: &str| (Value::from(function), Value::from(rule));
    assert_eq!(
        denials,
        [
            denied("secret", "secret"),
            denied("secret", "secret"),
            denied("secret", "secret"),
            denied("approval::set_mode", "human_only_function"),
            denied("state::set", "human_only_function"),
            (Value::Null, Value::Null),
        ]
    );
    assert_eq!(dispatcher.all(), [wrapped(2, "open", json!({}))]);
    rig.t.stop().await;
}

#[tokio::test]
async fn p1_a_wrapper_is_asked_about_as_its_target_is() {
    // Neither the click on the wrapper nor the rule for it answers for the target.
    let list = vec![("A", "agent_trigger", wrapped(0, "unknown", json!({})))];
    let rig = Rig::new(rules("rules: [agent_trigger]"), calls_then_ends(list)).await;
    let dispatcher = rig.t.record("agent_trigger", json!({}));
    let click = async |function: &str| {
        let request = json!({ "session_id": "s1", "function_id": function });
        rig.t.ok("approval::approve_always", request).await
    };
    click("agent_trigger").await;
    rig.start("s1").await;
    rig.t.reaches("s1", "function_awaiting_approval").await;
    assert_eq!(dispatcher.count(), 0);
    click("unknown").await;
    rig.t.ended("s1", 1).await;
    assert_eq!(dispatcher.count(), 1);
    rig.t.stop().await;
}

#[tokio::test]
async fn the_reason_for_a_question_reaches_the_person() {
    let list = vec![("A", "f", json!({}))];
    let rig = Rig::new(rules("rules: ['!']"), calls_then_ends(list)).await;
    rig.start("s1").await;
    let view = rig.t.reaches("s1", "function_awaiting_approval").await;
    let reason = view["awaiting_approval"][0]["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("no rules are in force, ") && reason.ends_with("line 1: rule 1: no function id"),
        "{reason}"
    );
    rig.t.stop().await;
}
