//! What comes back: events, failures, usage and its cost.

use harness::scripted::{Gate, Reply, Script, Step};
use pretty_assertions::assert_eq;

use super::*;

three_ways! {
    c08_case_13_weakness_02_overflow_by_its_text,
    c08_case_14_v6_an_error_in_the_stream_keeps_the_text,
    c08_case_15_weakness_05_a_later_counter_replaces_an_earlier_one,
    c08_weakness_18_the_cost_follows_from_the_catalog,
    a_cut_stream_is_paid_for_as_far_as_it_was_counted,
    an_overloaded_server_is_asked_again_before_any_content,
    w4_retry_after_as_a_date,
    x1_secrets_are_masked_by_value_and_by_name,
    a_server_that_does_not_stream_is_understood,
}

/// Prices in dollars per million tokens, easy to add up.
fn priced() -> Value {
    json!({"max_output_tokens": 64_000, "pricing": {"input_per_1m": 3, "output_per_1m": 15, "cache_read_per_1m": 0.3,
        "cache_write_per_1m": 3.75}})
}

async fn c08_case_13_weakness_02_overflow_by_its_text() {
    let refusal = |text: &str| {
        let error = json!({"type": "error", "error": {"type": "invalid_request_error", "message": text}});
        Reply::fails(400, error.to_string())
    };
    let cases = [
        (
            "prompt is too long: 210000 tokens > 200000 maximum",
            "context_overflow",
        ),
        ("unknown context_management field", "permanent"),
    ];
    let rig = start(Script::queue(cases.map(|(text, _)| refusal(text)))).await;
    for (text, kind) in cases {
        assert_eq!(rig.say("hi").await.failure(), ("error", kind, text));
    }
}

async fn c08_case_14_v6_an_error_in_the_stream_keeps_the_text() {
    let cases = [
        ("overloaded_error", "Overloaded", "transient"),
        ("api_error", "Internal", "transient"),
        ("timeout_error", "slow", "transient"),
        ("rate_limit_error", "too fast", "rate_limited"),
        ("authentication_error", "bad key", "auth_expired"),
        ("permission_error", "not yours", "auth_expired"),
        ("request_too_large", "large", "context_overflow"),
        (
            "invalid_request_error",
            "prompt is too long: 9 > 8",
            "context_overflow",
        ),
        ("invalid_request_error", "bad field", "permanent"),
        ("new_error", "what", "transient"),
    ];
    let replies = cases.map(|(kind, text, _)| {
        let error = json!({"type": "error", "error": {"type": kind, "message": text}});
        Reply::raw([
            Step::send(half("so far")),
            Step::send(event(&error)),
            Step::Wait(Gate::new()),
        ])
    });
    let rig = start(Script::queue(replies)).await;
    for (_, text, kind) in cases {
        let turn = rig.say("hi").await;
        assert_eq!(turn.failure(), ("error", kind, text));
        let message = turn.message();
        assert_eq!(message["content"], json!([{"type": "text", "text": "so far"}]));
        assert_eq!(message["usage"]["total"], 11);
    }
    rig.server_is_idle().await;
}

async fn c08_case_15_weakness_05_a_later_counter_replaces_an_earlier_one() {
    let usage = json!({"input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": 5});
    let events = [
        json!({"type": "message_start", "message": {"usage": usage}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "x"}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 20}}),
        json!({"type": "message_stop"}),
    ];
    let rig = start(queue([Reply::raw(events.iter().map(|it| Step::send(event(it))))])).await;
    let turn = rig.say("hi").await;
    assert_eq!(
        turn.message()["usage"],
        json!({"input": 10, "output": 20, "cache_read": 5, "cache_write": 0, "total": 35})
    );
}

async fn c08_weakness_18_the_cost_follows_from_the_catalog() {
    let world = World {
        model: priced(),
        ..world()
    };
    let rig = Rig::with(queue([Reply::says("x", 1).with_usage(3_000, 100, 1_000)]), world).await;
    let turn = rig.say("hi").await;
    // 2,000 × 3 + 1,000 × 0.3 + 100 × 15 per million.
    assert_eq!(
        turn.message()["usage"],
        json!({"input": 2000, "output": 100, "cache_read": 1000, "cache_write": 0, "cost_usd": 0.0078, "total": 3100})
    );
}

async fn a_cut_stream_is_paid_for_as_far_as_it_was_counted() {
    let begun = event(
        &json!({"type": "message_start", "message": {"usage": {"input_tokens": 1000, "output_tokens": 1}}}),
    );
    let replies = [
        Reply::raw([Step::send(half("so far"))]),
        Reply::raw([Step::send(half("so far")), Step::Break]),
        Reply::raw([Step::send(begun)]),
    ];
    let world = World {
        model: priced(),
        ..world()
    };
    let rig = Rig::with(Script::queue(replies), world).await;
    let kept = json!([{"type": "text", "text": "so far"}]);
    for (text, content, cost) in [
        (
            "stream closed mid-response after 1 output tokens",
            &kept,
            0.000_045,
        ),
        ("stream read failed", &kept, 0.000_045),
        ("stream closed mid-response", &json!([]), 0.003_015),
    ] {
        let turn = rig.say("hi").await;
        let (_, kind, seen) = turn.failure();
        assert_eq!(kind, "transient");
        assert!(seen.starts_with(text), "{seen}");
        assert_eq!(turn.message()["content"], *content);
        assert_eq!(turn.message()["usage"]["cost_usd"], cost);
    }
}

async fn an_overloaded_server_is_asked_again_before_any_content() {
    let mut world = world();
    world.config.provider.max_retries = 1;
    let error = json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let replies = [
        Reply::raw([Step::send(event(&error))]),
        Reply::says("ok", 1),
        Reply::raw([Step::send(half("a")), Step::send(event(&error))]),
    ];
    let rig = Rig::with(Script::queue(replies), world).await;
    let turn = rig.say("hi").await;
    assert_eq!(turn.message()["content"][0]["text"], "ok");
    assert_eq!(turn.kinds().iter().filter(|kind| **kind == "start").count(), 1);
    assert_eq!(
        rig.say("hi").await.failure(),
        ("error", "transient", "Overloaded")
    );
    assert_eq!(rig.server.requests().len(), 3);
}

async fn w4_retry_after_as_a_date() {
    let in_seconds = |seconds: i64| {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
        let date = jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&at)
            .unwrap();
        Reply::fails(529, "busy").with_header("retry-after", &date)
    };
    let mut world = world();
    world.config.provider.max_retries = 1;
    let rig = Rig::with(
        queue([in_seconds(-60), Reply::says("ok", 1), in_seconds(3600)]),
        world,
    )
    .await;
    assert_eq!(rig.say("hi").await.message()["content"][0], text("ok"));
    let turn = rig.say("hi").await;
    let (_, kind, said) = turn.failure();
    assert_eq!(kind, "transient");
    assert!(said.starts_with("busy (the server asks to wait 3"), "{said}");
    assert_eq!(rig.server.requests().len(), 3);
}

async fn x1_secrets_are_masked_by_value_and_by_name() {
    let by_value = json!({"type": "error", "error": {"type": "authentication_error", "message": format!("invalid {KEY}")}});
    let by_name =
        json!({"request": {"x-api-key": "sk-of-somebody", "password": "pw"}, "why": format!("bad {KEY}")});
    let in_stream = json!({"type": "error", "error": {"type": "api_error", "headers": {"authorization": "Bearer sk-other"}}});
    let rig = start(queue([
        Reply::fails(401, by_value.to_string()),
        Reply::fails(500, by_name.to_string()),
        Reply::raw([Step::send(event(&in_stream))]),
    ]))
    .await;
    assert_eq!(rig.say("hi").await.failure().2, "invalid [REDACTED]");
    assert_eq!(
        rig.say("hi").await.failure().2,
        r#"{"request":{"x-api-key":"[REDACTED]","password":"[REDACTED]"},"why":"bad [REDACTED]"}"#
    );
    assert_eq!(
        rig.say("hi").await.failure().2,
        r#"{"type":"api_error","headers":{"authorization":"[REDACTED]"}}"#
    );
}

async fn a_server_that_does_not_stream_is_understood() {
    let answer = json!({"type": "message", "role": "assistant", "content": [text("Hi")], "stop_reason": "max_tokens",
        "usage": {"input_tokens": 7, "output_tokens": 2}});
    let rig = start(queue([Reply::fails(200, answer.to_string())])).await;
    let turn = rig.say("hi").await;
    let message = turn.message();
    assert_eq!(
        (&message["content"], &message["stop_reason"]),
        (&json!([text("Hi")]), &json!("length"))
    );
    assert_eq!(message["usage"]["total"], 9);
}
