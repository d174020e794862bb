//! What turns of both protocols do alike (contract 08 §2, §3, §9): each test is of `openai` and of `anthropic`.

use harness::scripted::{Gate, Reply, Script, Step};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::provider_rig::{Rig, World, chunk, event, half, queue, user};
use super::support::three_ways;

three_ways! {
    c08_case_01_a_turn_in_two_deltas,
    c08_case_12_kinds_of_refusals,
    c08_weakness_03_an_error_in_a_stream_is_no_answer,
    an_answer_that_is_whole_needs_no_goodbye,
    c08_case_16_weakness_07_no_credential_is_told_and_closes_the_channel,
    c08_case_41_complete_answers_the_final_message,
    c08_case_42_weakness_06_a_reader_that_goes_ends_the_request,
    the_providers_declare_themselves,
    a_registry_that_cannot_be_asked_ends_a_hosted_turn_but_not_a_local_one,
}

const BOTH: [&str; 2] = ["openai", "anthropic"];

async fn start(provider: &'static str, script: Script) -> Rig {
    let world = World {
        provider,
        ..World::default()
    };
    Rig::with(script, world).await
}

/// A stream up to its first text, and that text.
fn begun(provider: &str, text: &str) -> String {
    if provider == "openai" {
        chunk(text)
    } else {
        half(text)
    }
}

async fn c08_case_01_a_turn_in_two_deltas() {
    // The Messages protocol counts at the start, too.
    let openai = [
        "start",
        "text_start",
        "text_delta",
        "text_delta",
        "usage",
        "text_end",
        "stop",
        "done",
    ];
    let anthropic = [
        "start",
        "usage",
        "text_start",
        "text_delta",
        "text_delta",
        "text_end",
        "usage",
        "stop",
        "done",
    ];
    for (provider, model, kinds) in [
        ("openai", "gpt-4o", &openai[..]),
        ("anthropic", "claude-sonnet-4-5", &anthropic),
    ] {
        let rig = start(provider, queue([Reply::says("Hello", 2).with_usage(10, 2, 0)])).await;
        let turn = rig.say("hi").await;
        assert_eq!(turn.kinds(), kinds);
        let mut message = turn.message().clone();
        assert!(message["timestamp"].take().as_i64().unwrap() > 1_700_000_000_000);
        assert_eq!(
            message,
            json!({
                "role": "assistant", "content": [{"type": "text", "text": "Hello"}], "stop_reason": "end",
                "error_message": null, "error_kind": null, "model": model, "provider": provider, "timestamp": null,
                "usage": {"input": 10, "output": 2, "cache_read": 0, "cache_write": 0, "total": 12}
            })
        );
        let partials = |kind: &str| -> Vec<_> {
            let events = turn.events.iter().filter(|event| event["type"] == kind);
            events.map(|event| &event["partial"]).collect()
        };
        let start = partials("start")[0];
        assert_eq!((&start["content"], &start["usage"]), (&json!([]), &Value::Null));
        let deltas = partials("text_delta");
        assert_eq!(deltas[0]["content"][0]["text"], "Hel");
        assert_eq!(deltas[1]["content"][0]["text"], "Hello");
        assert!(deltas[1]["usage"]["input"].is_u64());
        assert_eq!(rig.server.violations(), Vec::<String>::new());
    }
}

async fn c08_case_12_kinds_of_refusals() {
    let bad_field = r#"{"type":"error","error":{"type":"invalid_request_error","message":"bad field"}}"#;
    let overloaded = r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#;
    for provider in BOTH {
        let cases = [
            (401, "no", "auth_expired", "no"),
            (403, "", "auth_expired", "http 403"),
            (429, "slow down", "rate_limited", "slow down"),
            (500, "", "transient", "http 500"),
            (503, "<html>503</html>", "transient", "<html>503</html>"),
            (529, overloaded, "transient", "Overloaded"),
            (400, bad_field, "permanent", "bad field"),
            (400, "", "permanent", "http 400"),
            (413, "large", "context_overflow", "large"),
        ];
        let replies = cases.map(|(status, body, ..)| Reply::fails(status, body));
        let rig = start(provider, Script::queue(replies)).await;
        for (status, body, kind, text) in cases {
            let turn = rig.say("hi").await;
            assert_eq!(turn.kinds(), ["error"], "{status}");
            let text = if body.is_empty() {
                format!("{provider} {text}")
            } else {
                text.to_owned()
            };
            assert_eq!(turn.failure(), ("error", kind, text.as_str()), "{status}");
            assert_eq!(turn.message()["content"], json!([]));
        }
    }
}

/// What was streamed stays, and nothing of it is presented as whole.
async fn c08_weakness_03_an_error_in_a_stream_is_no_answer() {
    for provider in BOTH {
        let refusal =
            json!({"type": "error", "error": {"message": "Not this.", "code": "content_policy_violation"}});
        let overflow =
            json!({"type": "error", "error": {"message": "Too big", "code": "context_length_exceeded"}});
        let replies = [
            vec![Step::send(event(&refusal)), Step::Wait(Gate::new())],
            vec![Step::send(event(&overflow)), Step::Wait(Gate::new())],
            vec![
                Step::send("event: error\ndata: gone away\n\n"),
                Step::Wait(Gate::new()),
            ],
            vec![],
            vec![Step::Break],
        ];
        let replies = replies.map(|after| {
            let before = Step::send(begun(provider, "so far"));
            Reply::raw(std::iter::once(before).chain(after))
        });
        let rig = start(provider, Script::queue(replies)).await;
        for (kind, text) in [
            ("transient", "Not this."),
            ("context_overflow", "Too big"),
            ("transient", "gone away"),
            ("transient", "stream closed mid-response"),
            ("transient", "stream read failed"),
        ] {
            let turn = rig.say("hi").await;
            let (reason, seen_kind, seen) = turn.failure();
            assert_eq!((reason, seen_kind), ("error", kind), "{provider}: {text}");
            assert!(seen.starts_with(text), "{provider}: {seen}");
            let kept = json!([{"type": "text", "text": "so far"}]);
            assert_eq!(turn.message()["content"], kept);
        }
        rig.server_is_idle().await;
    }
}

/// The model has said why it stopped; then the connection breaks, or nothing more comes.
async fn an_answer_that_is_whole_needs_no_goodbye() {
    for provider in BOTH {
        let finished = if provider == "openai" {
            let last = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
            format!("data: {last}\n\n")
        } else {
            event(
                &json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}}),
            )
        };
        let ends = [Step::Break, Step::Wait(Gate::new())];
        let replies = ends.map(|end| {
            let steps = [begun(provider, "all"), finished.clone()].map(Step::send);
            Reply::raw(steps.into_iter().chain([end]))
        });
        let mut world = World {
            provider,
            ..World::default()
        };
        world.config.provider.idle_timeout_ms = 100;
        let rig = Rig::with(queue(replies), world).await;
        for _ in 0..2 {
            let turn = rig.say("hi").await;
            let message = turn.message();
            let said = json!([{"type": "text", "text": "all"}]);
            assert_eq!(
                (&message["stop_reason"], &message["content"]),
                (&json!("end"), &said)
            );
        }
        rig.server_is_idle().await;
    }
}

async fn c08_case_16_weakness_07_no_credential_is_told_and_closes_the_channel() {
    for (provider, variable) in [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")] {
        let world = World {
            provider,
            credential: Value::Null,
            ..World::default()
        };
        let rig = Rig::with(queue([]), world).await;
        let turn = rig.say("hi").await;
        assert_eq!(turn.kinds(), ["error"]);
        let (reason, kind, text) = turn.failure();
        assert_eq!((reason, kind), ("error", "auth_expired"));
        let entry = format!("providers.{provider}.api_key");
        assert!(text.contains(variable) && text.contains(&entry), "{text}");
        let error = rig.test.error(&rig.id("complete"), json!({"model": "m"})).await;
        assert_eq!(error, text);
        assert_eq!(rig.server.requests().len(), 0);
    }
}

async fn c08_case_41_complete_answers_the_final_message() {
    for provider in BOTH {
        let rig = start(
            provider,
            queue([Reply::says("Hello", 3), Reply::fails(500, "down")]),
        )
        .await;
        let complete = rig.id("complete");
        for without in [json!({}), json!({"model": ""}), json!({"body": {"model": "m"}})] {
            let error = rig.test.error(&complete, without).await;
            assert_eq!(error, "missing required string field: model");
        }
        let request = json!({"model": "m", "messages": [user("hi")], "tools": "x", "system_prompt": 7});
        let message = rig.test.ok(&complete, request.clone()).await;
        let said = json!([{"type": "text", "text": "Hello"}]);
        assert_eq!(
            (&message["role"], &message["content"]),
            (&json!("assistant"), &said)
        );
        let message = rig.test.ok(&complete, request).await;
        assert_eq!(
            (&message["stop_reason"], &message["error_message"]),
            (&json!("error"), &json!("down"))
        );
    }
}

async fn c08_case_42_weakness_06_a_reader_that_goes_ends_the_request() {
    for provider in BOTH {
        let steps = [Step::send(begun(provider, "a")), Step::Wait(Gate::new())];
        let rig = start(provider, queue([Reply::raw(steps)])).await;
        let until_text = |text: &str| !text.contains("text_delta");
        let answer = rig.read_turn(json!({"messages": [user("hi")]}), until_text).await;
        assert_eq!(answer, json!({"ok": true}));
        rig.server_is_idle().await;
    }
}

async fn the_providers_declare_themselves() {
    for (provider, variable, url) in [
        (
            "openai",
            "OPENAI_API_KEY",
            "https://api.openai.com/v1/chat/completions",
        ),
        (
            "anthropic",
            "ANTHROPIC_API_KEY",
            "https://api.anthropic.com/v1/messages",
        ),
    ] {
        let rig = start(provider, queue([])).await;
        assert_eq!(
            rig.calls("harness::provider::register"),
            [json!({
                "id": provider, "display_name": provider, "credential_env_var": variable,
                "defaults": {"api_url": url, "max_tokens": 8192}, "supports_model_listing": true
            })]
        );
    }
}

async fn a_registry_that_cannot_be_asked_ends_a_hosted_turn_but_not_a_local_one() {
    let with = async |provider| {
        let world = World {
            provider,
            registry_fails: true,
            ..World::default()
        };
        Rig::with(queue([Reply::says("x", 1)]), world).await
    };
    for provider in BOTH {
        let rig = with(provider).await;
        let turn = rig.say("hi").await;
        assert_eq!(turn.kinds(), ["error"]);
        let (_, kind, text) = turn.failure();
        assert_eq!(kind, "transient");
        assert!(text.starts_with("provider settings could not be read"), "{text}");
        assert_eq!(rig.server.requests().len(), 0);
    }
    for (provider, key) in [("llamacpp", ""), ("lmstudio", "Bearer lm-studio")] {
        let rig = with(provider).await;
        assert_eq!(rig.say("hi").await.message()["content"][0]["text"], "x");
        assert_eq!(rig.server.requests()[0].header("authorization"), key);
    }
}
