//! Models that LM Studio has in memory, loads when a turn needs them, and is told to load (contract 08 §7, §8).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::scripted::{Gate, Step};
use pretty_assertions::assert_eq;

use super::lmstudio::{LOAD, lmstudio, loads};
use super::*;

three_ways! {
    c08_case_27_a_model_that_is_not_loaded_is_loaded,
    c08_case_28_a_server_that_cannot_load,
    c08_case_35_load_model,
    c08_case_36_unload_model,
    c08_section_7_a_second_load_failure_is_told_with_a_hint,
    c08_section_7_no_load_after_the_first_content,
    c08_section_7_a_load_failure_is_known_by_all_of_the_answer,
    x1_the_memory_functions_never_tell_the_key,
    c08_weakness_14_turns_share_a_load,
}

const CRASHED: &str =
    r#"{"error":"The model has crashed without additional information. (Exit code: null)"}"#;
const UNLOAD: &str = "/api/v1/models/unload";

async fn c08_case_27_a_model_that_is_not_loaded_is_loaded() {
    let script = Script::queue([Reply::fails(400, CRASHED), Reply::says("Hello", 2)]).with_others(loads);
    let rig = lmstudio(script).await;
    let turn = rig.say("qwen/q3", "hi").await;
    assert_eq!(
        turn.kinds(),
        [
            "start",
            "text_start",
            "text_delta",
            "text_delta",
            "usage",
            "text_end",
            "stop",
            "done"
        ]
    );
    assert_eq!(turn.message()["content"], says("Hello"));
    assert_eq!(rig.posted(LOAD), [json!({"model": "qwen/q3"})]);
    assert_eq!(rig.server.requests().len(), 2);
}

async fn c08_case_28_a_server_that_cannot_load() {
    let rig = lmstudio(Script::answer(|_| Reply::fails(400, CRASHED))).await;
    let turn = rig.say("m", "hi").await;
    assert_eq!(turn.kinds(), ["error"]);
    let (_, kind, text) = turn.failure();
    assert_eq!(kind, "transient");
    assert_eq!(
        text,
        "auto-load failed: lmstudio load failed (404) for model \"m\": no body; this endpoint needs LM Studio 0.4+"
    );
    assert_eq!(rig.server.requests().len(), 1);
}

async fn c08_case_35_load_model() {
    let rig = lmstudio(
        Script::queue([]).with_others(|path, body| match body["model"].as_str() {
            Some("full") => Some(Reply::fails(500, "no VRAM\u{7}")),
            _ => loads(path, body),
        }),
    )
    .await;
    for (odd, why) in [
        (json!({}), "missing required string field: model"),
        (json!({"model": 1}), "missing required string field: model"),
        (json!(null), "must be a JSON object"),
        (json!("m"), "must be a JSON object"),
    ] {
        assert_eq!(
            rig.call("load_model", odd).await,
            json!({"ok": false, "error": format!("invalid payload: {why}")})
        );
    }
    let request = json!({"model": "m", "context_length": 8192, "unknown": true});
    assert_eq!(
        rig.call("load_model", request).await,
        json!({"type": "llm", "instance_id": "m", "load_time_seconds": 3.2, "status": "loaded"})
    );
    assert_eq!(rig.posted(LOAD), [json!({"model": "m", "context_length": 8192})]);
    let failed = rig.call("load_model", json!({"model": "full"})).await;
    assert_eq!(failed["ok"], false);
    let text = failed["error"].as_str().unwrap();
    assert!(
        text.starts_with("lmstudio load failed (500) for model \"full\": no VRAM; common causes: "),
        "{text}"
    );
    rig.store(json!({"api_url": "http://127.0.0.1:9"})).await;
    let gone = rig.call("load_model", json!({"model": "m"})).await;
    assert_eq!(gone["ok"], false, "{gone}");
}

async fn c08_case_36_unload_model() {
    let rig = lmstudio(Script::queue([]).with_others(|path, body| {
        (path == UNLOAD).then(|| match body["instance_id"].as_str() {
            Some("i") => answers(&json!({})),
            _ => Reply::fails(400, r#"{"error":"not loaded"}"#),
        })
    }))
    .await;
    assert_eq!(
        rig.call("unload_model", json!({"instance_id": "i"})).await,
        json!({"instance_id": "i"})
    );
    assert_eq!(rig.posted(UNLOAD), [json!({"instance_id": "i"})]);
    assert_eq!(
        rig.call("unload_model", json!({"instance_id": "j"})).await,
        json!({"ok": false, "error": "lmstudio unload failed (400): {\"error\":\"not loaded\"}"})
    );
    assert_eq!(
        rig.call("unload_model", json!({})).await,
        json!({"ok": false, "error": "invalid payload: missing required string field: instance_id"})
    );
}

async fn c08_section_7_a_second_load_failure_is_told_with_a_hint() {
    let script = Script::answer(|_| Reply::fails(400, r#"{"error":{"message":"Model not found"}}"#));
    let rig = lmstudio(script.with_others(loads)).await;
    let turn = rig.say("m", "hi").await;
    assert_eq!(
        turn.failure(),
        (
            "error",
            "transient",
            "LM Studio has no usable model in memory; load one with provider::lmstudio::load_model: Model not found"
        )
    );
    assert_eq!((rig.posted(LOAD).len(), rig.server.requests().len()), (1, 2));
}

async fn c08_section_7_no_load_after_the_first_content() {
    let crashed = json!({"error": {"message": "The model has crashed. (Exit code: 9)"}});
    let reply = Reply::raw([Step::send(chunk("so far")), Step::send(event(&crashed))]);
    let rig = lmstudio(Script::queue([reply]).with_others(loads)).await;
    let turn = rig.say("m", "hi").await;
    let (_, kind, text) = turn.failure();
    assert_eq!(kind, "transient");
    assert!(
        text.ends_with(": The model has crashed. (Exit code: 9)"),
        "{text}"
    );
    assert_eq!(turn.message()["content"], says("so far"));
    assert_eq!(rig.posted(LOAD), Vec::<Value>::new());
}

/// Far behind what is shown of it, or in a member that is not shown.
async fn c08_section_7_a_load_failure_is_known_by_all_of_the_answer() {
    let far = format!("{}: no model loaded", "é".repeat(300));
    let replies = [
        Reply::fails(400, json!({"error": far}).to_string()),
        Reply::says("one", 1),
        Reply::fails(400, r#"{"error":{"message":"sorry","code":"model_load_failed"}}"#),
        Reply::says("two", 1),
        Reply::raw([Step::send(event(
            &json!({"error": {"message": "sorry", "code": "model_load_failed"}}),
        ))]),
        Reply::says("three", 1),
    ];
    let rig = lmstudio(Script::queue(replies).with_others(loads)).await;
    for (loaded, said) in [(1, "one"), (2, "two"), (3, "three")] {
        assert_eq!(rig.say("m", "hi").await.message()["content"], says(said));
        assert_eq!(rig.posted(LOAD).len(), loaded);
    }
}

/// Not whole, and not the part of it that a cut leaves.
async fn x1_the_memory_functions_never_tell_the_key() {
    const KEY: &str = "lm-key-0123456789";
    let echo = |body: &str| Reply::fails(401, format!("{body}bad key {KEY}"));
    let script = Script::answer(|_| Reply::fails(400, CRASHED));
    let rig = lmstudio(
        script.with_others(move |path, body| match (path, body["model"].as_str()) {
            (LOAD, Some("edge")) => Some(echo(&"x".repeat(240))),
            (LOAD | UNLOAD, _) => Some(echo("")),
            _ => None,
        }),
    )
    .await;
    rig.store(json!({ "api_key": KEY })).await;
    let text_of = |answer: Value| {
        assert_eq!(answer["ok"], false);
        answer["error"].as_str().unwrap().to_owned()
    };
    let unload = text_of(rig.call("unload_model", json!({"instance_id": "i"})).await);
    assert_eq!(unload, "lmstudio unload failed (401): bad key [REDACTED]");
    let load = text_of(rig.call("load_model", json!({"model": "m"})).await);
    assert!(load.contains(": bad key [REDACTED]; common causes"), "{load}");
    let at_the_edge = text_of(rig.call("load_model", json!({"model": "edge"})).await);
    assert!(!at_the_edge.contains("lm-k"), "{at_the_edge}");
    let turn = rig.say("edge", "hi").await;
    let (_, _, told) = turn.failure();
    assert!(
        told.starts_with("auto-load failed: ") && !told.contains("lm-k"),
        "{told}"
    );
}

async fn c08_weakness_14_turns_share_a_load() {
    let loaded = Arc::new(AtomicBool::new(false));
    let is_loaded = Arc::clone(&loaded);
    let gate = Gate::new();
    let door = gate.clone();
    let script = Script::answer(move |_| {
        if is_loaded.load(Ordering::SeqCst) {
            return Reply::says("ok", 1);
        }
        Reply::fails(400, CRASHED)
    });
    let script = script.with_others(move |path, body| Some(loads(path, body)?.after(door.clone())));
    let rig = lmstudio(script).await;
    let turns = (0..4).map(|_| rig.say("m", "hi"));
    let load_when_all_wait = async {
        rig.test
            .eventually(async || (rig.server.requests().len() == 4).then_some(()))
            .await;
        loaded.store(true, Ordering::SeqCst);
        gate.release();
    };
    let (turns, ()) = tokio::join!(futures::future::join_all(turns), load_when_all_wait);
    for turn in turns {
        assert_eq!(turn.message()["content"], says("ok"));
    }
    assert_eq!(rig.posted(LOAD).len(), 1);
}
