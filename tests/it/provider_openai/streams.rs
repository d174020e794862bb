//! What comes back, and how it goes on to the reader.

use std::time::Duration;

use harness::bus::{CallContext, ChannelOptions, Frame};
use harness::model::AssistantEvent;
use harness::scripted::{Gate, Reply, Script, Step};
use harness::workers::providers::openai;
use pretty_assertions::assert_eq;

use super::*;
use crate::support::{TestBus, TestOptions};

three_ways! {
    c08_case_19_usage_of_the_wire,
    c08_case_20_half_a_stream_is_an_error,
    c08_case_21_weakness_04_crlf_without_space,
    c08_case_22_a_character_cut_between_reads,
    a_byte_order_mark_does_no_harm,
    sessions_beside_each_other_do_not_mix,
}

async fn c08_case_19_usage_of_the_wire() {
    let rig = Rig::start(queue([Reply::says("x", 1).with_usage(1500, 200, 1200)])).await;
    let turn = rig.say("hi").await;
    assert_eq!(
        turn.message()["usage"],
        json!({"input": 1500, "output": 200, "cache_read": 1200, "cache_write": 0, "total": 1700})
    );
}

async fn c08_case_20_half_a_stream_is_an_error() {
    let rig = Rig::start(queue([Reply::raw([Step::send(chunk("half"))])])).await;
    let turn = rig.say("hi").await;
    assert_eq!(
        turn.failure(),
        ("error", "transient", "stream closed mid-response")
    );
    assert_eq!(
        turn.message()["content"],
        json!([{"type": "text", "text": "half"}])
    );
}

async fn c08_case_21_weakness_04_crlf_without_space() {
    let text = include_str!("../../fixtures/streams/text_crlf.sse");
    let rig = Rig::start(queue([Reply::raw([Step::send(text)])])).await;
    assert_eq!(rig.say("hi").await.message()["content"][0]["text"], "Hello 😀");
}

async fn c08_case_22_a_character_cut_between_reads() {
    let frame = chunk("a😀b").into_bytes();
    let cut = frame.iter().position(|byte| *byte == 0xF0).unwrap() + 2;
    let gate = Gate::new();
    let (head, tail) = frame.split_at(cut);
    let steps = [
        Step::send(chunk("first")),
        Step::send(head),
        Step::Wait(gate.clone()),
        Step::send(tail),
        Step::send("data: [DONE]\n\n"),
    ];
    let rig = Rig::start(queue([Reply::raw(steps)])).await;
    let mut deltas = Vec::new();
    let look = |text: &str| {
        let event: Value = serde_json::from_str(text).unwrap();
        if event["type"] == "text_delta" {
            deltas.push(event["delta"].as_str().unwrap().to_owned());
            // The first one arrived, so the cut character is on its way.
            gate.release();
        }
        true
    };
    let answer = rig.read_turn(json!({"messages": [user("hi")]}), look).await;
    assert_eq!(answer, json!({"ok": true}));
    assert_eq!(deltas, ["first", "a😀b"]);
}

async fn a_byte_order_mark_does_no_harm() {
    let text = format!("\u{feff}{}data: [DONE]\n\n", chunk("a"));
    let rig = Rig::start(queue([Reply::raw([Step::send(text)])])).await;
    assert_eq!(rig.say("hi").await.message()["content"][0]["text"], "a");
}

async fn sessions_beside_each_other_do_not_mix() {
    let script = Script::answer(|request| Reply::says(request.last_user_text().repeat(3), 3));
    let rig = Rig::start(script).await;
    let turns = (0..20).map(|n| {
        let rig = &rig;
        async move {
            let text = format!("<{n}>");
            let turn = rig.say(&text).await;
            (
                turn.message()["content"][0]["text"].clone(),
                Value::from(text.repeat(3)),
            )
        }
    });
    for (seen, expected) in futures::future::join_all(turns).await {
        assert_eq!(seen, expected);
    }
}

#[tokio::test]
async fn c08_weakness_01_a_slim_channel_gets_typed_events_without_the_message_so_far() {
    let rig = Rig::start(queue([Reply::says("Hello", 2)])).await;
    let channel = rig.test.bus().create_channel(ChannelOptions {
        slim: true,
        ..ChannelOptions::default()
    });
    let mut reader = rig.test.bus().open_reader(&channel.reader).await.unwrap();
    let reading = async {
        let mut events = Vec::new();
        while let Some(frame) = reader.next().await {
            let Frame::Event(event) = frame else {
                panic!("{frame:?}")
            };
            events.push(event);
        }
        events
    };
    let turn = rig.say_inside(&channel, CallContext::default());
    let (answer, mut events) = within(async { tokio::join!(turn, reading) }).await;
    assert_eq!(answer, json!({"ok": true}));
    assert!(
        events
            .iter_mut()
            .all(|event| event.partial_mut().is_none_or(|partial| partial.is_none()))
    );
    let text: String = events
        .iter()
        .filter_map(|event| Some(event.delta()?.1.to_owned()))
        .collect();
    assert_eq!(text, "Hello");
    assert!(matches!(events.last(), Some(AssistantEvent::Done { message }) if message.content.len() == 1));
}

#[tokio::test]
async fn c08_weakness_01_a_long_message_is_not_sent_again_for_every_delta() {
    let text = "0123456789".repeat(2_000);
    let rig = Rig::start(queue([Reply::says(text.clone(), 2_000)])).await;
    let turn = rig.say("hi").await;
    let deltas: Vec<_> = turn
        .events
        .iter()
        .filter(|event| event["type"] == "text_delta")
        .collect();
    let joined: String = deltas
        .iter()
        .map(|event| event["delta"].as_str().unwrap())
        .collect();
    assert_eq!(joined, text);
    assert!(deltas.len() < 1_000, "{} frames", deltas.len());
    assert_eq!(turn.message()["content"][0]["text"], Value::from(text));
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_comes_late_is_waited_for() {
    let test = TestBus::with(TestOptions {
        workers: vec![openai::worker()],
        ..TestOptions::default()
    })
    .await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let declared = test.record("harness::provider::register", json!({"ok": true}));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(declared.count(), 1);
}
