//! How often a turn is tried, how long it waits, and how it ends early.

use std::time::Duration;

use harness::bus::{CallContext, ChannelOptions, Frame};
use harness::scripted::{Gate, Reply, Script, Server, Step};
use pretty_assertions::assert_eq;
use tokio_util::sync::CancellationToken;

use super::*;

three_ways! {
    c08_case_12_passing_failures_are_tried_again_with_one_start,
    w3_retries_end_and_the_last_failure_is_told,
    w4_w5_no_retry_where_it_makes_no_sense,
    a_server_that_never_answers_times_out_without_a_retry,
    w2_a_silent_stream_times_out_and_keeps_what_was_streamed,
    v9_a_refusal_without_a_word_is_overflow_when_the_prompt_can_hardly_have_fitted,
    nobody_listening_is_a_transient_failure,
}

async fn c08_case_12_passing_failures_are_tried_again_with_one_start() {
    let mut world = World::default();
    world.config.provider.max_retries = 2;
    let failures = [
        Reply::raw([Step::Break]),
        Reply::fails(503, "a").with_header("retry-after", "0"),
        Reply::says("ok", 1),
    ];
    let rig = Rig::with(queue(failures), world).await;
    let turn = rig.say("hi").await;
    assert_eq!(turn.message()["content"][0]["text"], "ok");
    assert_eq!(turn.kinds().iter().filter(|kind| **kind == "start").count(), 1);
    assert_eq!(rig.server.requests().len(), 3);
    let bodies: Vec<_> = rig
        .server
        .requests()
        .into_iter()
        .map(|request| request.body)
        .collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]));
}

async fn w3_retries_end_and_the_last_failure_is_told() {
    let mut world = World::default();
    world.config.provider.max_retries = 1;
    let limited = Reply::fails(429, "slow down").with_header("retry-after", "0");
    let rig = Rig::with(Script::answer(move |_| limited.clone()), world).await;
    let turn = rig.say("hi").await;
    assert_eq!(turn.failure(), ("error", "rate_limited", "slow down"));
    assert_eq!(rig.server.requests().len(), 2);
}

async fn w4_w5_no_retry_where_it_makes_no_sense() {
    let mut world = World::default();
    world.config.provider.max_retries = 2;
    let replies = [
        Reply::fails(400, "bad"),
        Reply::fails(
            429,
            r#"{"error":{"message":"spent","code":"insufficient_quota"}}"#,
        ),
        Reply::fails(503, "busy").with_header("retry-after", "21"),
        Reply::raw([Step::send(chunk("half")), Step::Break]),
        Reply::fails(500, "maximum context length is 8"),
    ];
    let rig = Rig::with(Script::queue(replies), world).await;
    let expected = [
        ("permanent", "bad"),
        ("rate_limited", "spent"),
        ("transient", "busy (the server asks to wait 21 s)"),
        ("transient", "stream read failed"),
        ("context_overflow", "maximum context length is 8"),
    ];
    for (n, (kind, text)) in expected.into_iter().enumerate() {
        let turn = rig.say("hi").await;
        let (_, seen_kind, seen_text) = turn.failure();
        assert_eq!(seen_kind, kind);
        assert!(seen_text.starts_with(text), "{seen_text}");
        assert_eq!(rig.server.requests().len(), n + 1, "{text}");
    }
}

async fn a_server_that_never_answers_times_out_without_a_retry() {
    let mut world = World::default();
    world.config.provider.max_retries = 2;
    world.config.provider.headers_timeout_ms = 150;
    let rig = Rig::with(queue([Reply::hangs(Gate::new())]), world).await;
    let turn = rig.say("hi").await;
    let (_, kind, text) = turn.failure();
    assert_eq!(
        (kind, text),
        ("transient", "openai timed out: no answer within 150 ms")
    );
    assert_eq!(rig.server.requests().len(), 1);
    rig.server_is_idle().await;
}

async fn w2_a_silent_stream_times_out_and_keeps_what_was_streamed() {
    let mut world = World::default();
    world.config.provider.idle_timeout_ms = 150;
    let steps = [Step::send(chunk("a")), Step::Wait(Gate::new())];
    let rig = Rig::with(queue([Reply::raw(steps)]), world).await;
    let turn = rig.say("hi").await;
    let (_, kind, text) = turn.failure();
    assert_eq!((kind, text), ("transient", "timed out: no data for 150 ms"));
    assert_eq!(turn.message()["content"][0]["text"], "a");
}

async fn v9_a_refusal_without_a_word_is_overflow_when_the_prompt_can_hardly_have_fitted() {
    let world = World {
        model: json!({"context_window": 2_000, "max_output_tokens": 100}),
        ..World::default()
    };
    let rig = Rig::with(Script::answer(|_| Reply::fails(400, "")), world).await;
    assert_eq!(
        rig.say("hi").await.failure(),
        ("error", "permanent", "openai http 400")
    );
    assert_eq!(
        rig.say(&"long ".repeat(1_200)).await.failure(),
        (
            "error",
            "context_overflow",
            "openai http 400 (the prompt may be too long)"
        )
    );
}

async fn nobody_listening_is_a_transient_failure() {
    let mut rig = Rig::start(queue([])).await;
    rig.server = Server::start(queue([])).unwrap();
    let turn = rig.say("hi").await;
    let (_, kind, text) = turn.failure();
    assert_eq!(kind, "transient");
    assert!(text.starts_with("openai fetch failed: "), "{text}");
}

/// A port whose queue of waiting connections is full: one more is neither taken nor refused.
#[tokio::test]
async fn a_server_that_takes_no_connection_times_out() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    let is_full = async {
        while let Ok(connected) = tokio::time::timeout(
            Duration::from_millis(100),
            tokio::net::TcpStream::connect(address),
        )
        .await
        {
            waiting.push(connected.unwrap());
        }
    };
    within(is_full).await;
    let mut world = World::default();
    world.config.provider.connect_timeout_ms = 100;
    world.api_url = Some(format!("http://{address}/v1/chat/completions"));
    let rig = Rig::with(queue([]), world).await;
    let turn = rig.say("hi").await;
    let expected = "openai fetch failed: timed out: no connection within 100 ms";
    assert_eq!(turn.failure(), ("error", "transient", expected));
}

#[tokio::test]
async fn a_cancelled_turn_ends_at_once_and_keeps_what_was_streamed() {
    let steps = [Step::send(chunk("so far")), Step::Wait(Gate::new())];
    let rig = Rig::start(queue([Reply::raw(steps)])).await;
    let token = CancellationToken::new();
    let context = CallContext {
        cancel: Some(token.clone()),
        ..CallContext::default()
    };
    let channel = rig.test.bus().create_channel(ChannelOptions::default());
    let mut reader = rig.test.bus().open_reader(&channel.reader).await.unwrap();
    let reading = async {
        let mut events: Vec<Value> = Vec::new();
        while let Some(Frame::Text(text)) = reader.next().await {
            if text.contains("text_delta") {
                token.cancel();
            }
            events.push(serde_json::from_str(&text).unwrap());
        }
        events
    };
    let turn = rig.say_inside(&channel, context);
    let (answer, events) = within(async { tokio::join!(turn, reading) }).await;
    let turn = Turn { events, answer };
    assert_eq!(turn.failure(), ("aborted", "transient", "aborted"));
    assert_eq!(
        turn.message()["content"],
        json!([{"type": "text", "text": "so far"}])
    );
    rig.server_is_idle().await;
}
