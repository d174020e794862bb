//! Contract 01: the wire types, and what of its runtime behaviour shows through the bus.

use std::sync::{Arc, Mutex};

use harness::bus::{Baggage, CallContext, CallOptions, FunctionDef};
use harness::model::call::{block_form, flat_text, is_denied};
use harness::model::event::{CompactionMode, StateChange};
use harness::model::{
    AgentEvent, AgentMessage, AssistantEvent, AssistantMessage, AwaitingCall, ContentBlock, ErrorKind,
    FunctionResult, RawMessage, StopReason, ThinkingLevel, TurnError, TurnState, TurnStateView, Usage,
};
use insta::assert_json_snapshot;
use pretty_assertions::assert_eq;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::support::stub::{Out, done};
use super::support::{TestBus, TestOptions};
use super::turn::{Rig, user};

/// The same value again, through its JSON.
fn again<T: Serialize + DeserializeOwned>(value: &T) -> T {
    serde_json::from_value(serde_json::to_value(value).unwrap()).unwrap()
}

#[test]
fn c01_case_01_the_empty_assistant() {
    let message = serde_json::to_value(AssistantMessage::empty("openai", "gpt-x", 7)).unwrap();
    let keys: Vec<&String> = message.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "role",
            "content",
            "stop_reason",
            "error_message",
            "error_kind",
            "usage",
            "model",
            "provider",
            "timestamp"
        ]
    );
    assert_eq!(
        message,
        json!({ "role": "assistant", "content": [], "stop_reason": "end", "error_message": null, "error_kind": null,
            "usage": null, "model": "gpt-x", "provider": "openai", "timestamp": 7 })
    );
}

#[test]
fn c01_case_02_and_03_synthetic_messages() {
    let made = |reason, text| {
        let message = AssistantMessage::synthetic(reason, text, 7);
        (
            message.content.clone(),
            message.error_message.clone(),
            message.error_kind,
        )
    };
    let transient = Some(ErrorKind::Transient);
    assert_eq!(
        made(StopReason::Aborted, None),
        (vec![], Some("aborted".into()), transient)
    );
    assert_eq!(
        made(StopReason::Error, None),
        (vec![], Some("error".into()), transient)
    );
    assert_eq!(
        made(StopReason::Error, Some("x")),
        (vec![ContentBlock::text("x")], Some("x".into()), transient)
    );
    for reason in [StopReason::End, StopReason::Length, StopReason::FunctionCall] {
        assert_eq!(
            made(reason, Some("x")),
            (vec![ContentBlock::text("x")], None, None)
        );
        assert_eq!(made(reason, None), (vec![], None, None));
    }
}

#[test]
fn c01_case_04_the_spelling_of_call_events() {
    let partial = AssistantMessage::empty("p", "m", 1);
    let event = json!({ "type": "functioncall_delta", "partial": partial, "delta": "{\"a\"" });
    let expected = AssistantEvent::FunctioncallDelta {
        partial: Some(Arc::new(partial)),
        delta: "{\"a\"".into(),
    };
    assert_eq!(AssistantEvent::deserialize(&event).unwrap(), expected);
    let mut misspelt = event;
    misspelt["type"] = json!("function_call_delta");
    assert!(AssistantEvent::deserialize(&misspelt).is_err());
}

#[test]
fn c01_case_05_from_a_value_to_a_result() {
    let result = |text: &str, details: Value| FunctionResult {
        content: vec![ContentBlock::text(text)],
        details,
        terminate: false,
    };
    for (value, expected) in [
        (json!("plain"), result("plain", json!("plain"))),
        (json!({ "a": 1 }), result("{\"a\":1}", json!({ "a": 1 }))),
        (
            json!({ "content": "no array" }),
            result("{\"content\":\"no array\"}", json!({ "content": "no array" })),
        ),
        (Value::Null, result("null", Value::Null)),
        (json!([1]), result("[1]", json!([1]))),
    ] {
        assert_eq!(FunctionResult::from_value(value), expected);
    }
    let own = |content: Value, details: Value, terminate: bool| {
        let value = json!({ "content": content, "details": details, "terminate": terminate });
        FunctionResult::deserialize(value).unwrap()
    };
    assert_eq!(
        FunctionResult::from_value(json!({ "content": [], "terminate": true })),
        own(json!([]), json!({}), true)
    );
    let odd = json!({ "content": [{ "type": "chart", "x": 1 }, 7], "details": null, "terminate": "yes" });
    assert_eq!(
        FunctionResult::from_value(odd.clone()),
        own(odd["content"].clone(), json!({}), false)
    );
}

#[test]
fn c01_case_06_what_is_an_error_result() {
    for (details, is_error) in [
        (json!({ "error": "boom" }), true),
        (json!({ "error": 5 }), false),
        (json!({ "status": "denied" }), true),
        (json!({ "ok": true }), false),
        (json!(["error"]), false),
        (json!("error"), false),
        (Value::Null, false),
    ] {
        let result = FunctionResult {
            content: vec![],
            details: details.clone(),
            terminate: false,
        };
        assert_eq!(result.is_error(), is_error, "{details}");
    }
    assert!(!is_denied(&json!({ "error": "boom" })));
}

#[test]
fn c01_case_07_the_text_of_a_denial() {
    let details = json!({ "status": "denied", "x": 1 });
    assert_eq!(
        flat_text(&[ContentBlock::text("no")], &details),
        "[PERMISSION_DENIED]\n{\"status\":\"denied\",\"x\":1}\n\nno"
    );
}

#[test]
fn c01_case_08_text_and_images_of_a_result() {
    let image = ContentBlock::Image {
        mime: "image/png".into(),
        data: "AA==".into(),
    };
    let content = [ContentBlock::text("a"), image.clone(), ContentBlock::text("b")];
    assert_eq!(flat_text(&content, &json!({})), "a\nb");
    assert_eq!(
        block_form(&content, &json!({})),
        [ContentBlock::text("a\nb"), image.clone()]
    );
    assert_eq!(block_form(std::slice::from_ref(&image), &json!({})), [image]);
}

#[test]
fn thinking_levels_of_neighbouring_releases() {
    for (text, level) in [
        ("off", ThinkingLevel::Off),
        ("minimal", ThinkingLevel::Minimal),
        ("low", ThinkingLevel::Low),
        ("medium", ThinkingLevel::Medium),
        ("high", ThinkingLevel::High),
        ("xhigh", ThinkingLevel::Xhigh),
        ("max", ThinkingLevel::Xhigh),
    ] {
        assert_eq!(ThinkingLevel::deserialize(json!(text)).unwrap(), level);
    }
    assert!(ThinkingLevel::deserialize(json!("huge")).is_err());
}

fn assistant() -> AssistantMessage {
    AssistantMessage {
        content: vec![
            ContentBlock::Thinking {
                text: "hm".into(),
                signature: Some("opaque".into()),
            },
            ContentBlock::text("a"),
            ContentBlock::FunctionCall {
                id: "c-9".into(),
                function_id: "agent_trigger".into(),
                arguments: json!({ "function": "shell::fs::ls", "payload": { "path": "/srv" } }),
            },
        ],
        stop_reason: StopReason::FunctionCall,
        usage: Some(Usage {
            input: Some(812),
            output: Some(31),
            ..Usage::default()
        }),
        ..AssistantMessage::empty("kimi", "m-1", 1_780_000_000_900)
    }
}

fn raw(value: Value) -> RawMessage {
    RawMessage::new(value).unwrap()
}

fn result_message() -> Value {
    json!({ "role": "function_result", "function_call_id": "c-9", "function_id": "shell::fs::ls",
        "content": [{ "type": "text", "text": "{\"entries\":[]}" }], "details": { "entries": [] }, "is_error": false,
        "timestamp": 1_780_000_001_000_i64 })
}

/// One of each kind; a new kind does not compile before it is listed here.
fn agent_events() -> Vec<AgentEvent> {
    let view = |state, awaiting: Option<Vec<AwaitingCall>>, error| TurnStateView {
        session_id: "s-1".into(),
        state,
        turn_count: 2,
        max_turns: Some(5.into()),
        awaiting_approval: awaiting,
        error,
        budget_wait: None,
    };
    let parked = AwaitingCall {
        function_call_id: "c-9".into(),
        function_id: "shell::fs::ls".into(),
        args: json!({ "path": "/srv" }),
        call_hash: None,
        reason: None,
    };
    let failed = TurnError {
        kind: "transition_error".into(),
        message: "from provisioning: boom".into(),
    };
    let message = raw(serde_json::to_value(assistant()).unwrap());
    vec![
        AgentEvent::TurnStateChanged {
            event_type: StateChange::Created,
            new_value: view(TurnState::Provisioning, None, None),
            old_value: None,
        },
        AgentEvent::TurnStateChanged {
            event_type: StateChange::Updated,
            new_value: view(TurnState::Failed, None, Some(failed)),
            old_value: Some(view(
                TurnState::FunctionAwaitingApproval,
                Some(vec![parked]),
                None,
            )),
        },
        AgentEvent::MessageUpdate {
            message: raw(serde_json::to_value(AssistantMessage::empty("kimi", "m-1", 1)).unwrap()),
            llm_event: AssistantEvent::TextDelta {
                partial: None,
                delta: "Hel".into(),
            },
        },
        AgentEvent::MessageComplete {
            message: message.clone(),
            body_streamed: Some(true),
        },
        AgentEvent::FunctionExecutionStart {
            function_call_id: "c-9".into(),
            function_id: "shell::fs::ls".into(),
            args: json!({ "path": "/srv" }),
        },
        AgentEvent::FunctionExecutionEnd {
            function_call_id: "c-9".into(),
            function_id: "shell::fs::ls".into(),
            result: FunctionResult::from_value(json!({ "entries": [] })),
            is_error: false,
            duration_ms: 12,
        },
        AgentEvent::TurnEnd {
            message,
            function_results: vec![raw(result_message())],
        },
        AgentEvent::AgentEnd { messages: vec![] },
        AgentEvent::CompactionDone {
            mode: CompactionMode::Sync,
            summary_text: "sum".into(),
            tokens_before: 1000,
            compaction_entry_id: "e-7".into(),
            tail_start_id: None,
        },
    ]
}

fn kind_of_agent_event(event: &AgentEvent) -> &'static str {
    match event {
        AgentEvent::TurnStateChanged { .. } => "turn_state_changed",
        AgentEvent::MessageUpdate { .. } => "message_update",
        AgentEvent::MessageComplete { .. } => "message_complete",
        AgentEvent::FunctionExecutionStart { .. } => "function_execution_start",
        AgentEvent::FunctionExecutionEnd { .. } => "function_execution_end",
        AgentEvent::TurnEnd { .. } => "turn_end",
        AgentEvent::AgentEnd { .. } => "agent_end",
        AgentEvent::CompactionDone { .. } => "compaction_done",
    }
}

#[test]
fn agent_events_on_the_wire() {
    let events = agent_events();
    for event in &events {
        assert_eq!(
            serde_json::to_value(event).unwrap()["type"],
            kind_of_agent_event(event)
        );
        assert_eq!(&again(event), event);
    }
    assert_json_snapshot!(events);
}

fn assistant_events() -> Vec<AssistantEvent> {
    let partial = || Some(Arc::new(AssistantMessage::empty("kimi", "m-1", 1)));
    let delta = || "x".to_owned();
    let message = Arc::new(assistant());
    let error = Arc::new(AssistantMessage::synthetic(StopReason::Error, Some("boom"), 1));
    vec![
        AssistantEvent::Start { partial: partial() },
        AssistantEvent::TextStart { partial: None },
        AssistantEvent::TextDelta {
            partial: partial(),
            delta: delta(),
        },
        AssistantEvent::TextEnd { partial: None },
        AssistantEvent::ThinkingStart { partial: None },
        AssistantEvent::ThinkingDelta {
            partial: None,
            delta: delta(),
        },
        AssistantEvent::ThinkingEnd { partial: None },
        AssistantEvent::FunctioncallStart { partial: None },
        AssistantEvent::FunctioncallDelta {
            partial: None,
            delta: delta(),
        },
        AssistantEvent::FunctioncallEnd { partial: None },
        AssistantEvent::Usage {
            usage: Usage {
                input: Some(1),
                output: Some(2),
                cache_read: Some(3),
                cache_write: Some(4),
                cost_usd: Some(0.5),
                total: Some(10),
            },
        },
        AssistantEvent::Stop {
            stop_reason: StopReason::End,
            error_message: None,
            error_kind: None,
        },
        AssistantEvent::Stop {
            stop_reason: StopReason::Error,
            error_message: Some("boom".into()),
            error_kind: Some(ErrorKind::RateLimited),
        },
        AssistantEvent::Done { message },
        AssistantEvent::Error { error },
    ]
}

#[test]
fn assistant_events_on_the_wire() {
    let events = assistant_events();
    for event in &events {
        assert_eq!(&again(event), event);
    }
    assert_json_snapshot!(events);
}

#[test]
fn messages_on_the_wire() {
    let messages = json!([
        { "role": "user", "content": [{ "type": "text", "text": "list /srv" }, { "type": "image", "mime": "image/png",
            "data": "AA==" }], "timestamp": 1_780_000_000_000_i64 },
        assistant(),
        AssistantMessage::synthetic(StopReason::Aborted, None, 1),
        result_message(),
        { "role": "custom", "custom_type": "note", "content": [{ "type": "text", "text": "n" }], "display": "d",
            "details": { "a": 1 }, "timestamp": 5 },
        { "role": "assistant", "content": [{ "type": "function_result", "function_call_id": "c", "content": [],
            "is_error": true }], "stop_reason": "length", "error_message": null, "error_kind": null, "usage": null,
            "model": "", "provider": "", "timestamp": 5 },
    ]);
    let typed: Vec<AgentMessage> = Vec::deserialize(&messages).unwrap();
    assert_eq!(serde_json::to_value(&typed).unwrap(), messages);
    assert_json_snapshot!(typed);
}

#[test]
fn results_on_the_wire() {
    let denial = json!({ "status": "denied", "denied_by": "user", "function_id": "f", "reason": "no" });
    assert_json_snapshot!([
        FunctionResult::from_value(json!("plain")),
        FunctionResult::from_value(json!({ "content": [], "details": { "a": 1 }, "terminate": true })),
        FunctionResult::error(denial),
        FunctionResult::error_code("timeout", "shell::fs::ls", "took too long"),
    ]);
}

#[test]
fn enumerations_have_the_contracts_words() {
    assert_eq!(
        json!([
            StopReason::End,
            StopReason::Length,
            StopReason::FunctionCall,
            StopReason::Aborted,
            StopReason::Error
        ]),
        json!(["end", "length", "function_call", "aborted", "error"])
    );
    assert_eq!(
        json!([
            ErrorKind::AuthExpired,
            ErrorKind::RateLimited,
            ErrorKind::ContextOverflow,
            ErrorKind::Transient,
            ErrorKind::Permanent
        ]),
        json!([
            "auth_expired",
            "rate_limited",
            "context_overflow",
            "transient",
            "permanent"
        ])
    );
    for state in [
        TurnState::Provisioning,
        TurnState::AssistantStreaming,
        TurnState::FunctionExecute,
        TurnState::FunctionAwaitingApproval,
        TurnState::SteeringCheck,
        TurnState::Stopped,
        TurnState::Failed,
    ] {
        assert_eq!(json!(state), json!(state.as_str()));
    }
}

#[test]
fn unknown_members_and_blocks_survive() {
    let foreign = json!({ "role": "assistant", "content": [{ "type": "chart", "points": [1, 2] }, { "type": "text" }, 7],
        "stop_reason": "end", "error_message": null, "error_kind": null, "usage": null, "model": "m", "provider": "p",
        "timestamp": 1, "x_trace": { "a": [null] } });
    assert_eq!(raw(foreign.clone()).to_value(), foreign);
    let typed = AssistantMessage::deserialize(&foreign).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), foreign);
    assert_eq!(
        RawMessage::stored(json!({ "odd": 1 })).unwrap().to_value(),
        json!({ "odd": 1 })
    );
    // Members that are not known are no reason to refuse what is known.
    let event = json!({ "type": "text_delta", "delta": "x", "index": 3 });
    assert!(AssistantEvent::deserialize(&event).is_ok());
}

#[test]
fn optional_members_may_be_missing() {
    let message = AssistantMessage::deserialize(json!({ "content": [], "stop_reason": "end" })).unwrap();
    assert_eq!(message, AssistantMessage::empty("", "", 0));
    assert_eq!(Usage::deserialize(json!({})).unwrap(), Usage::default());
    let done = json!({ "type": "stop", "stop_reason": "end" });
    assert!(AssistantEvent::deserialize(done).is_ok());
}

#[tokio::test]
async fn transcripts_keep_what_they_were_given() {
    let answer = json!({ "role": "assistant", "content": [{ "type": "text", "text": "a" }, { "type": "chart", "x": 1 }],
        "stop_reason": "end", "error_message": null, "error_kind": null, "usage": { "input": 1 }, "model": "m",
        "provider": "stub", "timestamp": 5, "x_provider": { "id": "r-1" } });
    let out = answer.clone();
    let rig = Rig::allowing(move |_, _| -> Vec<Out> { vec![done(out.clone())] }).await;
    let mut question = user("hi");
    question["x_client"] = json!({ "draft": false });
    question["content"][0]["x_lang"] = json!("en");
    let request = json!({ "session_id": "s", "provider": "stub", "model": "m", "messages": [question], "x_future": [1] });
    rig.t.ok("run::start", request).await;
    rig.t.ended("s", 1).await;
    assert_eq!(rig.transcript("s").await, [question, answer]);
    rig.t.stop().await;
}

#[tokio::test]
async fn c01_case_22_nested_calls_inherit_the_session() {
    let t = TestBus::with(TestOptions {
        rules: Some("rules: ['*']"),
        ..TestOptions::default()
    })
    .await;
    let seen: Arc<Mutex<Vec<Baggage>>> = Arc::default();
    let inner = {
        let seen = Arc::clone(&seen);
        FunctionDef::ad_hoc("test::inner", move |_, context| {
            seen.lock().unwrap().push(context.baggage);
            std::future::ready(Ok(Value::Null))
        })
    };
    let weak = t.bus().downgrade();
    let outer = FunctionDef::ad_hoc("test::outer", move |payload: Value, context: CallContext| {
        let bus = weak.upgrade().unwrap();
        async move {
            bus.invoke(
                &context,
                "test::inner",
                payload["inner"].clone(),
                CallOptions::default(),
            )
            .await
        }
    });
    t.bus().register(inner).unwrap();
    t.bus().register(outer).unwrap();
    t.ok(
        "test::outer",
        json!({ "session_id": "s1", "message_id": "m1", "inner": {} }),
    )
    .await;
    // What the nested call names itself counts for it, and what it does not is inherited.
    t.ok(
        "test::outer",
        json!({ "body": { "session_id": "s1", "message_id": "m1" }, "inner": { "session_id": "s2" } }),
    )
    .await;
    t.ok("test::outer", json!({ "inner": {} })).await;
    let seen: Vec<(Option<String>, Option<String>)> = seen
        .lock()
        .unwrap()
        .iter()
        .map(|baggage| {
            let text = |id: &Option<Arc<str>>| id.as_deref().map(str::to_owned);
            (text(&baggage.session_id), text(&baggage.message_id))
        })
        .collect();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        seen,
        [(some("s1"), some("m1")), (some("s2"), some("m1")), (None, None)]
    );
    t.stop().await;
}

#[tokio::test]
async fn c01_case_29_rows_of_a_scope_with_and_without_a_wrapper() {
    let t = TestBus::with(TestOptions {
        workers: vec![],
        ..TestOptions::default()
    })
    .await;
    for (answer, expected) in [
        (json!([{ "value": 1 }, { "value": 2 }]), json!([1, 2])),
        (json!([1, 2]), json!([1, 2])),
        (
            json!([{ "value": 1, "more": 2 }]),
            json!([{ "value": 1, "more": 2 }]),
        ),
    ] {
        t.record("state::list", answer);
        let context = CallContext::default();
        assert_eq!(
            json!(t.bus().scope(&context, "any").list().await.unwrap()),
            expected
        );
        t.bus().unregister("state::list");
    }
    // An answer of another shape is a failure, not an empty scope.
    t.record("state::list", json!({ "rows": [] }));
    assert!(
        t.bus()
            .scope(&CallContext::default(), "any")
            .list()
            .await
            .is_err()
    );
    t.stop().await;
}
