//! `turn::assistant_streaming`.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Rig, lines, of_type, run, said};
use crate::support::spy::{Op, Spy};
use crate::support::stub::{Door, Out, done, message, says};
use crate::support::{TestBus, TestOptions, three_ways};

three_ways! {
    c02_case_09_and_7_4_a_streamed_answer,
    updates_are_slim_unless_asked_otherwise,
    c02_case_10_a_message_without_deltas_was_not_streamed,
    c01_case_18_usage_is_no_body,
    c02_case_11_and_c01_case_04_odd_frames_are_skipped,
    c02_case_12_a_rejected_call_is_an_error_of_the_turn,
    c02_case_13_no_channel_is_an_error_of_the_turn,
    c02_case_14_a_providers_error_is_passed_on_unchanged,
    a_stream_that_is_cut_keeps_its_text_and_its_cause,
    a_provider_that_falls_silent_ends_the_turn,
    c01_case_09_turn_end_goes_to_its_own_stream_too,
    c01_case_10_and_11_item_ids_count_without_state,
}

async fn c02_case_09_and_7_4_a_streamed_answer() {
    let rig = Rig::allowing(|_, _| says(&["a", "b"])).await;
    let events = rig.run("s1").await;
    assert_eq!(
        lines(&events),
        [
            "created provisioning",
            "updated assistant_streaming",
            "start ",
            "text_delta ab",
            "complete end",
            "updated steering_check",
            "turn_end 0",
            "updated stopped",
            "agent_end",
        ]
    );
    assert_eq!(of_type(&events, "message_complete")[0]["body_streamed"], true);
    let states = of_type(&events, "turn_state_changed");
    assert_eq!(states[2]["new_value"]["turn_count"], 1);
    assert_eq!(
        rig.transcript("s1").await.iter().map(said).collect::<Vec<_>>(),
        ["user hi", "assistant ab"]
    );
    rig.t.stop().await;
}

async fn updates_are_slim_unless_asked_otherwise() {
    let rig = Rig::allowing(|_, _| says(&["a", "b"])).await;
    let events = rig.run("s1").await;
    let update = of_type(&events, "message_update")[1];
    assert_eq!(
        update["llm_event"],
        json!({ "type": "text_delta", "delta": "ab" })
    );
    assert_eq!(update["message"]["content"], json!([]));
    assert_eq!(update["message"]["provider"], "stub");

    rig.t.reconfigure(|config| config.events.slim_updates = false);
    let events = rig.run("s2").await;
    let update = of_type(&events, "message_update")[1];
    let partial = message(json!([{ "type": "text", "text": "ab" }]), "end");
    assert_eq!(
        update["llm_event"],
        json!({ "type": "text_delta", "delta": "ab", "partial": partial })
    );
    assert_eq!(update["message"], partial);
    rig.t.stop().await;
}

async fn c02_case_10_a_message_without_deltas_was_not_streamed() {
    let rig =
        Rig::allowing(|_, _| vec![done(message(json!([{ "type": "text", "text": "x" }]), "end"))]).await;
    let events = rig.run("s1").await;
    assert_eq!(of_type(&events, "message_complete")[0]["body_streamed"], false);
    assert_eq!(of_type(&events, "message_update"), Vec::<&Value>::new());
    rig.t.stop().await;
}

async fn c01_case_18_usage_is_no_body() {
    let answer = |_: usize, _: &Value| {
        vec![
            Out::Event(json!({ "type": "usage", "usage": { "input": 1 } })),
            done(message(json!([{ "type": "text", "text": "x" }]), "end")),
        ]
    };
    let rig = Rig::allowing(answer).await;
    let events = rig.run("s1").await;
    assert_eq!(of_type(&events, "message_complete")[0]["body_streamed"], false);
    rig.t.stop().await;
}

async fn c02_case_11_and_c01_case_04_odd_frames_are_skipped() {
    let answer = |_: usize, _: &Value| {
        let garbage = [
            Out::Garbage("not json"),
            Out::Garbage(r#"{"type":"function_call_delta","delta":"x"}"#),
        ];
        [garbage.to_vec(), says(&["ok"])].concat()
    };
    let rig = Rig::allowing(answer).await;
    let events = rig.run("s1").await;
    assert_eq!(
        of_type(&events, "message_complete")[0]["message"]["stop_reason"],
        "end"
    );
    rig.t.stop().await;
}

async fn c02_case_12_a_rejected_call_is_an_error_of_the_turn() {
    let rig = Rig::allowing(|_, _| vec![Out::Fail("IIIInvocationError: upstream 500")]).await;
    let events = rig.run("s1").await;
    assert_eq!(
        lines(&events)[2..],
        [
            "text_delta upstream 500",
            "complete error",
            "turn_end 0",
            "updated stopped",
            "agent_end"
        ]
    );
    let complete = of_type(&events, "message_complete")[0];
    assert_eq!(complete["message"]["error_message"], "upstream 500");
    assert_eq!(complete["message"]["error_kind"], "transient");
    assert_eq!(rig.record("s1").await["state"], "stopped");
    // The transcript says why; the next request leaves it out.
    assert_eq!(rig.transcript("s1").await[1]["stop_reason"], "error");
    rig.start("s1").await;
    rig.t.ended("s1", 2).await;
    assert_eq!(rig.stub.requests()[1]["messages"].as_array().unwrap().len(), 2);
    rig.t.stop().await;
}

async fn c02_case_13_no_channel_is_an_error_of_the_turn() {
    let spy = Spy::default();
    let t = TestBus::with(TestOptions {
        wrap: spy.wrap(),
        ..TestOptions::default()
    })
    .await;
    t.ok("harness::provider::register", json!({ "id": "outer" }))
        .await;
    spy.fail_when(|op| matches!(op, Op::Call(call) if call.function_id == "engine::channels::create"));
    let mut request = run("s1");
    request["provider"] = json!("outer");
    t.ok("run::start", request).await;
    let events = t.ended("s1", 1).await;
    let complete = of_type(&events, "message_complete")[0];
    let text = complete["message"]["error_message"].as_str().unwrap();
    assert!(text.starts_with("create_channel failed"), "{text}");
    t.stop().await;
}

async fn c02_case_14_a_providers_error_is_passed_on_unchanged() {
    let mut failed = message(json!([]), "error");
    failed["error_message"] = json!("key refused");
    failed["error_kind"] = json!("auth_expired");
    let event = json!({ "type": "error", "error": failed });
    let rig = Rig::allowing(move |_, _| vec![Out::Event(event.clone())]).await;
    let events = rig.run("s1").await;
    assert_eq!(of_type(&events, "message_complete")[0]["message"], failed);
    assert_eq!(rig.record("s1").await["state"], "stopped");
    rig.t.stop().await;
}

async fn a_stream_that_is_cut_keeps_its_text_and_its_cause() {
    let answer = |_: usize, _: &Value| {
        let mut out = says(&["half a "]);
        out.pop();
        out
    };
    let rig = Rig::allowing(answer).await;
    let events = rig.run("s1").await;
    let complete = of_type(&events, "message_complete")[0];
    assert_eq!(
        complete["message"]["content"],
        json!([{ "type": "text", "text": "half a " }])
    );
    assert_eq!(complete["message"]["stop_reason"], "error");
    assert_eq!(
        complete["message"]["error_message"],
        "provider channel closed without final"
    );
    assert_eq!(complete["body_streamed"], true);
    rig.t.stop().await;
}

async fn a_provider_that_falls_silent_ends_the_turn() {
    let door = Door::closed();
    let held = door.clone();
    let mut options = TestOptions::default();
    options.config.turn.stream_timeout_ms = 20;
    let rig = Rig::new(options, move |_, _| vec![Out::Wait(held.clone())]).await;
    let events = rig.run("s1").await;
    let complete = of_type(&events, "message_complete")[0];
    let text = complete["message"]["error_message"].as_str().unwrap();
    assert!(text.contains("timed out"), "{text}");
    door.open();
    rig.t.stop().await;
}

async fn c01_case_09_turn_end_goes_to_its_own_stream_too() {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    let events = rig.run("s1").await;
    let request = json!({ "stream_name": "agent::turn_end", "group_id": "s1" });
    let copies = rig.t.ok("stream::list", request).await;
    let ends: Vec<Value> = of_type(&events, "turn_end").into_iter().cloned().collect();
    assert_eq!(copies, json!(ends));
    rig.t.stop().await;
}

async fn c01_case_10_and_11_item_ids_count_without_state() {
    use harness::bus::Write;
    let spy = Spy::default();
    let rig = Rig::new(
        TestOptions {
            wrap: spy.wrap(),
            ..TestOptions::default()
        },
        |_, _| says(&["ok"]),
    )
    .await;
    rig.run("A").await;
    rig.run("B").await;
    let epoch = rig.t.bus().epoch().to_owned();
    let ids = |session: &str| -> Vec<String> {
        spy.writes()
            .into_iter()
            .filter_map(|write| match write {
                Write::StreamSet {
                    stream, group, item, ..
                } if stream == "agent::events" && group == session => Some(item),
                _ => None,
            })
            .collect()
    };
    for session in ["A", "B"] {
        let expected: Vec<String> = (0..ids(session).len())
            .map(|n| format!("{session}-{epoch}-{n:08}"))
            .collect();
        assert_eq!(ids(session), expected);
    }
    rig.start("A").await;
    rig.t.ended("A", 2).await;
    assert!(
        ids("A")
            .iter()
            .any(|id| *id == format!("A-{epoch}.0001-00000000")),
        "{:?}",
        ids("A")
    );
    assert_eq!(
        ids("A").iter().collect::<std::collections::HashSet<_>>().len(),
        ids("A").len()
    );
    let mut updates = spy.calls();
    // On an engine that others use too the lease is taken with one.
    updates.retain(|(id, scope)| id == "state::update" && scope != "turn_lease");
    assert_eq!(updates, []);
    rig.t.stop().await;
}

#[tokio::test]
async fn c01_case_12_events_that_cannot_be_written_fail_nothing() {
    let spy = Spy::default();
    let rig = Rig::new(
        TestOptions {
            wrap: spy.wrap(),
            ..TestOptions::default()
        },
        |_, _| says(&["ok"]),
    )
    .await;
    spy.fail_when(|op| match op {
        Op::Commit(writes) => writes
            .iter()
            .any(|write| matches!(write, harness::bus::Write::StreamSet { .. })),
        Op::Call(_) => false,
    });
    rig.start("s1").await;
    rig.t.reaches("s1", "stopped").await;
    assert_eq!(rig.t.events("s1").await, Vec::<Value>::new());
    rig.t.stop().await;
}
