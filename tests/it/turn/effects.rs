//! What the outside sees of calls: keys, classes, and providers that are not ours.

use std::net::SocketAddr;

use futures::SinkExt;
use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Message;

use super::calls::details;
use super::{Rig, lines, of_type, run, said};
use crate::support::spy::{Op, Spy};
use crate::support::stub::{calls_then_ends, message, says};
use crate::support::ws::{Socket, Ws, end_of, open};
use crate::support::{TestBus, TestOptions};

/// A worker that says of each of its functions how it may be retried.
async fn declares(address: SocketAddr, classes: &[(&str, Option<&str>)]) -> Ws {
    let mut worker = Ws::join(address).await;
    for (id, class) in classes {
        let metadata = class.map(|class| json!({ "retry": class }));
        worker
            .send(
                json!({ "type": "registerfunction", "id": id, "request_format": null, "response_format": null,
                "metadata": metadata }),
            )
            .await;
    }
    worker.settle().await;
    worker
}

#[tokio::test]
async fn c02_8_1_an_outside_worker_gets_the_idempotency_key() {
    let list = vec![
        ("A", "far::f", json!({ "x": 1 })),
        ("B", "far::f", json!({ "x": 2 })),
    ];
    let rig = Rig::allowing(calls_then_ends(list)).await;
    let mut worker = Ws::join(rig.t.listen().await).await;
    worker.host(&["far::f"]).await;
    rig.start("s1").await;
    let mut keys = Vec::new();
    for _ in 0..2 {
        let call = worker.called("far::f").await;
        keys.push((
            call["data"]["x"].clone(),
            call["metadata"]["idempotency_key"].clone(),
        ));
        worker.answer(&call, json!({})).await;
    }
    keys.sort_by_key(|(x, _)| x.as_u64());
    rig.t.ended("s1", 1).await;
    let run = rig.record("s1").await["run_id"].as_str().unwrap().to_owned();
    assert_eq!(
        keys,
        [
            (json!(1), json!(format!("s1/{run}/1/A"))),
            (json!(2), json!(format!("s1/{run}/1/B")))
        ]
    );
    rig.t.stop().await;
}

const CLASSES: [(&str, Option<&str>); 5] = [
    ("far::pure", Some("pure")),
    ("far::idempotent", Some("idempotent")),
    ("far::at_most_once", Some("at_most_once")),
    ("far::odd", Some("whenever")),
    ("far::silent", None),
];

/// All of them started, none of them ended: what a dead process left.
fn interrupted() -> Value {
    let call =
        |id: &str| json!({ "route": "dispatch", "call": { "id": id, "function_id": id, "arguments": {} } });
    let prepared: Vec<Value> = CLASSES.iter().map(|(id, _)| call(id)).collect();
    let started: serde_json::Map<String, Value> = CLASSES
        .iter()
        .map(|(id, _)| ((*id).to_owned(), json!(1)))
        .collect();
    json!({
        "session_id": "s1", "state": "function_execute", "turn_count": 1, "awaiting_approval": [], "run_id": "r",
        "last_assistant": message(json!([]), "function_call"),
        "work": { "prepared": prepared, "executed": {}, "started": started },
    })
}

/// Answers the calls that may be made again, and checks that no other one comes.
async fn answer_again(worker: &mut Ws, t: &TestBus) {
    for id in ["far::pure", "far::idempotent"] {
        let call = worker.called(id).await;
        assert_eq!(
            call["metadata"]["idempotency_key"],
            format!("s1/r/1/{id}"),
            "the key of the first time"
        );
        worker.answer(&call, json!({})).await;
    }
    let events = t.ended("s1", 1).await;
    let ends: Vec<String> = of_type(&events, "function_execution_end")
        .iter()
        .map(|end| {
            let error = end["result"]["details"]["error"].as_str().unwrap_or("ok");
            format!("{} {error}", end["function_call_id"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        ends,
        [
            "far::pure ok",
            "far::idempotent ok",
            "far::at_most_once interrupted",
            "far::odd interrupted",
            "far::silent interrupted"
        ]
    );
    assert_eq!(worker.untaken(), Vec::<Value>::new());
}

#[tokio::test]
async fn c02_6_2_a_function_says_how_it_may_be_retried() {
    let rig = Rig::allowing(|_, _| says(&["done"])).await;
    let mut worker = declares(rig.t.listen().await, &CLASSES).await;
    rig.t.set_state("turn_state", "s1", interrupted()).await;
    rig.t
        .ok(
            "turn::on_approval",
            json!({ "event_type": "state:created", "key": "s1/x", "new_value": { "decision": "allow" } }),
        )
        .await;
    answer_again(&mut worker, &rig.t).await;
    rig.t.stop().await;
}

/// Field lesson D4: the worker comes back later than the session does.
#[tokio::test]
async fn d4_the_class_of_a_function_whose_worker_is_on_its_way_back() {
    let dir = TempDir::new().unwrap();
    let options = || TestOptions {
        rules: Some("rules: ['*']"),
        data_dir: Some(dir.path().join("data")),
        ..TestOptions::default()
    };
    let idle = TestBus::with(TestOptions {
        workers: Vec::new(),
        ..options()
    })
    .await;
    idle.set_state("turn_state", "s1", interrupted()).await;
    idle.stop().await;
    let rig = Rig::new(options(), |_, _| says(&["done"])).await;
    let address = rig.t.listen().await;
    rig.t
        .eventually(async || (rig.t.calls_of("turn::get_state") == 0).then_some(()))
        .await;
    let mut worker = declares(address, &CLASSES).await;
    answer_again(&mut worker, &rig.t).await;
    rig.t.stop().await;
}

/// The provider's end of a run: the channel it was told to write to.
async fn channel(address: SocketAddr, call: &Value) -> Socket {
    let channel = &call["data"]["writer_ref"];
    let path = format!(
        "/ws/channels/{}?key={}&dir=write",
        channel["channel_id"].as_str().unwrap(),
        channel["access_key"].as_str().unwrap()
    );
    open(address, &path, None).await.unwrap()
}

async fn far_provider(rig: &Rig) -> (SocketAddr, Ws) {
    let address = rig.t.listen().await;
    let mut worker = Ws::join(address).await;
    worker.host(&["provider::far::stream"]).await;
    let mut request = run("s1");
    request["provider"] = json!("far");
    rig.t.ok("run::start", request).await;
    (address, worker)
}

#[tokio::test]
async fn c02_5_3_a_provider_of_another_worker_serves_a_run() {
    let rig = Rig::allowing(|_, _| Vec::new()).await;
    let (address, mut worker) = far_provider(&rig).await;
    let call = worker.called("provider::far::stream").await;
    assert_eq!(
        (
            &call["data"]["model"],
            call["data"]["messages"].as_array().map(Vec::len)
        ),
        (&json!("m"), Some(1))
    );
    let mut out = channel(address, &call).await;
    let whole = message(json!([{ "type": "text", "text": "from afar" }]), "end");
    for event in [
        json!({ "type": "text_delta", "delta": "from afar", "partial": whole }),
        json!({ "type": "done", "message": whole }),
    ] {
        out.send(Message::text(event.to_string())).await.unwrap();
    }
    out.close(None).await.unwrap();
    worker.answer(&call, json!({ "ok": true })).await;
    let events = rig.t.ended("s1", 1).await;
    assert_eq!(
        lines(&events)[2..],
        [
            "text_delta from afar",
            "complete end",
            "updated steering_check",
            "turn_end 0",
            "updated stopped",
            "agent_end"
        ]
    );
    assert_eq!(
        rig.transcript("s1").await.iter().map(said).collect::<Vec<_>>(),
        ["user hi", "assistant from afar"]
    );
    rig.t.stop().await;
}

/// Its channel is closed: that is all an outside provider can hear of a stop.
#[tokio::test]
async fn c02_abort_a_provider_of_another_worker_sees_its_channel_close() {
    let rig = Rig::allowing(|_, _| Vec::new()).await;
    let (address, mut worker) = far_provider(&rig).await;
    let call = worker.called("provider::far::stream").await;
    let mut out = channel(address, &call).await;
    let partial = message(json!([{ "type": "text", "text": "from a" }]), "end");
    let event = json!({ "type": "text_delta", "delta": "from a", "partial": partial });
    out.send(Message::text(event.to_string())).await.unwrap();
    rig.t
        .eventually(async || (!of_type(&rig.t.events("s1").await, "message_update").is_empty()).then_some(()))
        .await;
    let reply = rig.t.ok("run::abort", json!({ "session_id": "s1" })).await;
    assert_eq!(reply["state"], "assistant_streaming");
    end_of(&mut out).await;
    let events = rig.t.ended("s1", 1).await;
    let message = &of_type(&events, "message_complete")[0]["message"];
    assert_eq!(message["content"], json!([{ "type": "text", "text": "from a" }]));
    assert_eq!(
        (&message["stop_reason"], &message["usage"]),
        (&json!("aborted"), &json!({ "input": 1, "output": 1 }))
    );
    rig.t.stop().await;
}

/// A conversation that does not fit, and nobody who could compact it.
#[tokio::test]
async fn c02_case_15_without_a_compaction_worker_the_run_fails_and_says_so() {
    let rig = Rig::allowing(|_, _| says(&["never"])).await;
    rig.t.bus().unregister("context-compaction::compact_now");
    let model = json!({ "id": "m", "provider": "stub", "context_window": 10, "max_output_tokens": 5 });
    rig.t.ok("models::register", model).await;
    let events = rig.run("s1").await;
    assert_eq!(
        lines(&events)[2..],
        ["updated failed", "complete error", "agent_end"]
    );
    let why = "from assistant_streaming: Function context-compaction::compact_now not found";
    assert_eq!(
        rig.record("s1").await["error"],
        json!({ "kind": "transition_error", "message": why })
    );
    let last = rig.transcript("s1").await.pop().unwrap();
    assert_eq!(
        (&last["stop_reason"], &last["error_message"]),
        (&json!("error"), &json!(why))
    );
    assert_eq!(rig.stub.requests().len(), 0);

    // Switched off, it is sent as it is.
    rig.t.reconfigure(|config| config.compaction.auto = false);
    rig.start("s1").await;
    rig.t.ended("s1", 2).await;
    assert_eq!(rig.stub.requests().len(), 1);
    rig.t.stop().await;
}

#[tokio::test]
async fn c02_case_27_without_a_contract_when_the_engine_does_not_tell_it() {
    let spy = Spy::default();
    let options = TestOptions {
        wrap: spy.wrap(),
        rules: Some("rules: ['*']"),
        ..TestOptions::default()
    };
    let rig = Rig::new(options, calls_then_ends(vec![("A", "picky", json!({}))])).await;
    let why = "serialization error: missing field \"path\"";
    rig.t
        .serve("picky", move |_| std::future::ready(Err(Error::invalid(why))));
    spy.fail_when(
        |op| matches!(op, Op::Call(call) if call.function_id.as_str() == "engine::functions::info"),
    );
    let events = rig.run("s1").await;
    let message =
        "The arguments do not fit this function. Pass a JSON object that matches its schema; see `contract`.";
    assert_eq!(
        details(&events, "A"),
        json!({ "error": "invalid_arguments", "function": "picky", "message": message, "detail": why })
    );
    rig.t.stop().await;
}
