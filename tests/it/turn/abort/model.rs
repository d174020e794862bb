//! While the model speaks, or before it does.

use harness::scripted::{Gate, Reply, Request, Script, Step};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{abort, aborted, shows};
use crate::model_rig::ModelRig;
use crate::support::engine::within;
use crate::support::stub::{Door, Held, Out, says};
use crate::support::timed::Frozen;
use crate::support::{TestOptions, three_ways};
use crate::turn::{Rig, lines, of_type, user};

three_ways! {
    c02_abort_02_a_request_without_an_answer_is_cut,
    c02_abort_03_a_provider_that_does_not_listen_is_left_behind,
    c02_abort_07_a_run_that_has_not_begun_to_speak,
    c02_abort_08_during_the_look_before_the_model_is_asked,
    c02_abort_12_while_a_step_waits_to_be_repeated,
}

fn is_text(event: &Value) -> bool {
    event["llm_event"]["type"] == "text_delta"
}

/// A chunk of a Chat Completions stream.
fn chunk(delta: Value, usage: Value) -> Step {
    let chunk = json!({ "id": "x", "object": "chat.completion.chunk", "created": 0, "model": "gpt-5",
        "choices": [{ "index": 0, "delta": delta, "finish_reason": null }], "usage": usage });
    Step::send(format!("data: {chunk}\n\n"))
}

/// Half an answer and half a call, then nothing.
fn half() -> Reply {
    let text = json!({ "role": "assistant", "content": "Half an " });
    let call = json!({ "tool_calls": [{ "index": 0, "id": "c1", "type": "function",
        "function": { "name": "agent_trigger", "arguments": "{}" } }] });
    let usage = json!({ "prompt_tokens": 100, "completion_tokens": 3, "total_tokens": 103 });
    Reply::raw([
        chunk(text, usage),
        chunk(call, Value::Null),
        Step::Wait(Gate::new()),
    ])
}

#[tokio::test]
async fn c02_abort_01_a_stream_is_cut_and_its_text_kept() {
    let script = Script::answer(|request: &Request| match request.last_user_text().as_str() {
        "hello" => half(),
        text => Reply::says(format!("Re: {text}"), 2),
    });
    let rig = ModelRig::with(script, |options| options.config.events.coalesce_ms = 0).await;
    let request =
        json!({ "session_id": "s1", "provider": "openai", "model": "gpt-5", "messages": [user("hello")] });
    rig.t.ok("run::start", request).await;
    shows(&rig.t, "s1", |event| {
        event["llm_event"]["type"] == "functioncall_delta"
    })
    .await;

    let mut open = rig.server.open_replies();
    assert_eq!(*open.borrow(), 1);
    // The server sees the socket close, and that waits for no timer: none fires now.
    let frozen = Frozen::start();
    let now = tokio::time::Instant::now();
    assert_eq!(abort(&rig.t, "s1").await, aborted("s1", "assistant_streaming"));
    open.wait_for(|open| *open == 0).await.unwrap();
    assert_eq!(tokio::time::Instant::now(), now);
    drop(frozen);
    tokio::time::resume();

    let events = rig.t.ended("s1", 1).await;
    let tail: Vec<String> = lines(&events)
        .into_iter()
        .skip_while(|line| !line.starts_with("complete"))
        .collect();
    assert_eq!(
        tail,
        ["complete aborted", "turn_end 0", "updated stopped", "agent_end"]
    );
    let complete = of_type(&events, "message_complete")[0];
    assert_eq!(complete["body_streamed"], true);
    let message = &complete["message"];
    assert_eq!(
        message["content"],
        json!([{ "type": "text", "text": "Half an " }]),
        "the call never ran"
    );
    assert_eq!(
        (&message["error_message"], &message["error_kind"]),
        (&json!("aborted"), &json!("transient"))
    );
    assert_eq!(
        (&message["usage"]["input"], &message["usage"]["output"]),
        (&json!(100), &json!(3))
    );
    assert_eq!(rig.transcript("s1").await[1], *message);
    assert_eq!(of_type(&events, "turn_end")[0]["message"], *message);

    // The session goes on; the model is told, and the strict server has nothing to refuse.
    rig.run("s1", "and now?", 2).await;
    let rows = rig.server.requests()[1].rows().to_vec();
    let spoken: Vec<&str> = rows
        .iter()
        .filter_map(|row| row["content"].as_str())
        .skip(1)
        .collect();
    assert_eq!(spoken[..2], ["hello", "Half an "]);
    assert!(spoken[2].contains("stopped"), "{spoken:?}");
    assert_eq!(spoken.last(), Some(&"and now?"));
    assert_eq!(rig.server.violations(), Vec::<String>::new());
    rig.t.stop().await;
}

async fn c02_abort_02_a_request_without_an_answer_is_cut() {
    let hanging = Gate::new();
    let script = Script::queue([Reply::hangs(hanging), Reply::says("Yes.", 1)]);
    let rig = ModelRig::start(script).await;
    let request =
        json!({ "session_id": "s1", "provider": "openai", "model": "gpt-5", "messages": [user("hi")] });
    rig.t.ok("run::start", request).await;
    let mut open = rig.server.open_replies();
    within(open.wait_for(|open| *open == 1)).await.unwrap();
    assert_eq!(abort(&rig.t, "s1").await, aborted("s1", "assistant_streaming"));
    within(open.wait_for(|open| *open == 0)).await.unwrap();
    let events = rig.t.ended("s1", 1).await;
    let message = &of_type(&events, "message_complete")[0]["message"];
    assert_eq!(
        (&message["content"], &message["stop_reason"]),
        (&json!([]), &json!("aborted"))
    );
    assert_eq!(
        (&message["provider"], &message["model"]),
        (&json!("openai"), &json!("gpt-5"))
    );
    rig.run("s1", "still there?", 2).await;
    assert_eq!(rig.server.violations(), Vec::<String>::new());
    rig.t.stop().await;
}

async fn c02_abort_03_a_provider_that_does_not_listen_is_left_behind() {
    let door = Door::closed();
    let held = door.clone();
    let rig = Rig::allowing(move |_, _| {
        let mut out = says(&["half a "]);
        out.pop();
        [out, vec![Out::Wait(held.clone())], says(&["whole"])].concat()
    })
    .await;
    rig.start("s1").await;
    shows(&rig.t, "s1", is_text).await;
    abort(&rig.t, "s1").await;
    let events = rig.t.ended("s1", 1).await;
    door.open();
    let message = &of_type(&events, "message_complete")[0]["message"];
    assert_eq!(message["content"], json!([{ "type": "text", "text": "half a " }]));
    assert_eq!(message["stop_reason"], "aborted");
    rig.t.stop().await;
}

async fn c02_abort_07_a_run_that_has_not_begun_to_speak() {
    let rig = Rig::allowing(|_, _| says(&["never"])).await;
    let held = Held::serve(&rig.t, "models::get", Value::Null);
    rig.start("s1").await;
    held.called().await;
    assert_eq!(abort(&rig.t, "s1").await, aborted("s1", "provisioning"));
    let events = rig.t.ended("s1", 1).await;
    held.answers();
    assert_eq!(
        lines(&events),
        [
            "created provisioning",
            "complete aborted",
            "turn_end 0",
            "updated stopped",
            "agent_end"
        ]
    );
    assert_eq!(rig.stub.requests().len(), 0);
    assert_eq!(rig.transcript("s1").await[1]["stop_reason"], "aborted");
    rig.t.stop().await;
}

/// A compaction before the model is asked may take minutes; a stop does not wait for it.
async fn c02_abort_08_during_the_look_before_the_model_is_asked() {
    let rig = Rig::allowing(|_, _| says(&["never"])).await;
    let model = json!({ "id": "m", "provider": "stub", "context_window": 10, "max_output_tokens": 5 });
    rig.t.ok("models::register", model).await;
    let held = Held::serve(
        &rig.t,
        "context-compaction::compact_now",
        json!({ "status": "ok" }),
    );
    rig.start("s1").await;
    held.called().await;
    assert_eq!(abort(&rig.t, "s1").await, aborted("s1", "assistant_streaming"));
    rig.t.ended("s1", 1).await;
    held.answers();
    assert_eq!(rig.stub.requests().len(), 0);
    rig.t.stop().await;
}

/// A step that waits for better times does not keep a stop waiting.
async fn c02_abort_12_while_a_step_waits_to_be_repeated() {
    let mut options = TestOptions {
        rules: Some("rules: ['*']"),
        ..TestOptions::default()
    };
    options.config.turn.step_backoff_ms = 60_000;
    let rig = Rig::new(options, |_, _| says(&["never"])).await;
    let model = json!({ "id": "m", "provider": "stub", "context_window": 10, "max_output_tokens": 5 });
    rig.t.ok("models::register", model).await;
    let compact = rig
        .t
        .record("context-compaction::compact_now", json!({ "status": "busy" }));
    rig.start("s1").await;
    rig.t
        .eventually(async || (compact.count() == 1).then_some(()))
        .await;
    assert_eq!(abort(&rig.t, "s1").await, aborted("s1", "assistant_streaming"));
    rig.t.ended("s1", 1).await;
    rig.t.stop().await;
}
