//! What a turn shows (contract 11 §4).

use harness::scripted::{Reply, Script};
use pretty_assertions::assert_eq;
use serde_json::json;

use super::screen::Card;
use super::{Console, calls_then_says, shown};
use crate::support::stub::{Stub, done, message};
use crate::support::three_ways;
use crate::turn::{lines, of_type};

three_ways! {
    c11_case_08_a_text_turn,
    c11_case_09_a_provider_that_does_not_stream,
    c11_case_10_a_provider_error_is_shown_once,
    c11_case_11_an_allowed_call,
}

async fn c11_case_08_a_text_turn() {
    let reply = Reply::thinks("hm").then(Reply::says("Hello, wörld 🦀!", 5));
    let console = Console::open(Script::queue([reply])).await;
    console.send("console-a", "hi").await;
    let events = console.watched("console-a").await;
    let screen = shown(&events);
    assert_eq!(
        (screen.bubbles, screen.notices),
        (vec!["Hello, wörld 🦀!".to_owned()], vec![])
    );
    let completes = of_type(&events, "message_complete");
    assert_eq!(completes.len(), 1);
    assert_eq!(completes[0]["body_streamed"], true);
    let kinds: Vec<&str> = of_type(&events, "message_update")
        .iter()
        .map(|event| event["llm_event"]["type"].as_str().unwrap())
        .collect();
    let thinking: Vec<&&str> = kinds.iter().filter(|kind| kind.starts_with("thinking")).collect();
    assert_eq!(thinking, [&"thinking_start", &"thinking_delta", &"thinking_end"]);
    assert_eq!(
        lines(&events)[lines(&events).len() - 3..],
        ["turn_end 0", "updated stopped", "agent_end"]
    );
    console.close().await;
}

async fn c11_case_09_a_provider_that_does_not_stream() {
    let console = Console::open(Script::queue([])).await;
    Stub::register(&console.rig.t, |_, _| {
        vec![done(message(json!([{ "type": "text", "text": "whole" }]), "end"))]
    });
    let mut inner = console.inner("console-a", "hi");
    inner["provider"] = json!("stub");
    console.subscribe(json!("console-a")).await;
    console.trigger(inner).await;
    let events = console.watched("console-a").await;
    assert_eq!(shown(&events).bubbles, ["whole"]);
    assert_ne!(of_type(&events, "message_complete")[0]["body_streamed"], true);
    console.close().await;
}

async fn c11_case_10_a_provider_error_is_shown_once() {
    let console = Console::open(Script::queue([Reply::fails(
        500,
        r#"{"error":{"message":"it broke"}}"#,
    )]))
    .await;
    console.send("console-a", "hi").await;
    let screen = console.shows("console-a").await;
    assert_eq!(screen.notices, ["response failed: it broke"]);
    assert!(screen.finished);
    console.close().await;
}

async fn c11_case_11_an_allowed_call() {
    let console = Console::open(calls_then_says(&[("c1", "free")])).await;
    console.rig.t.record("free", json!({ "entries": [1] }));
    console.send("console-a", "go").await;
    let screen = console.shows("console-a").await;
    let result = json!({ "content": [{ "type": "text", "text": "{\"entries\":[1]}" }], "details": { "entries": [1] },
        "terminate": false });
    let card = Card {
        call: "c1".into(),
        function: "free".into(),
        args: json!({ "call": "c1" }),
        output: Some(result),
        failed: false,
    };
    assert_eq!(screen.cards, [card]);
    assert_eq!(screen.bubbles.last().unwrap(), "done");
    console.close().await;
}
