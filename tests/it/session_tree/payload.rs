//! Checks that hold for every caller, and hostile payloads.

use harness::model::RawMessage;
use harness::model::api::session::{
    Append, AppendRequest, Compactions, Ensure, EnsureRequest, Messages, MessagesRequest, SessionRef,
};
use pretty_assertions::assert_eq;
use serde_json::json;

use crate::session_rig::{Rig, u};

#[tokio::test]
async fn typed_and_json_callers_are_checked_alike() {
    let rig = Rig::start().await;
    rig.clear();
    let message = RawMessage::new(u("x")).unwrap();
    for (id, text) in [
        (String::new(), "missing required string field: session_id"),
        ("i".repeat(1 << 20), "invalid session_id: longer than 256 bytes"),
        (
            "a\u{1}b".to_owned(),
            "invalid session_id: contains a control character",
        ),
    ] {
        let append = AppendRequest {
            session_id: id.as_str().into(),
            message: message.clone(),
            parent_id: None,
            entry_id: None,
        };
        let ensure = EnsureRequest {
            session_id: id.as_str().into(),
            display_name: None,
            cwd: None,
        };
        let messages = MessagesRequest::all(id.as_str().into());
        let compactions = SessionRef {
            session_id: id.as_str().into(),
        };
        let typed = [
            rig.typed::<Append>(append).await.unwrap_err(),
            rig.typed::<Ensure>(ensure).await.unwrap_err(),
            rig.typed::<Messages>(messages).await.unwrap_err(),
            rig.typed::<Compactions>(compactions).await.unwrap_err(),
        ];
        for error in typed {
            assert_eq!(error.to_string(), text);
        }
        for function in [
            "append",
            "ensure",
            "messages",
            "compactions",
            "tree",
            "export_html",
            "update_parts",
            "delete",
        ] {
            let request = json!({"session_id": id, "message": u("x")});
            assert_eq!(
                rig.refusal(&format!("session-tree::{function}"), request).await,
                text
            );
        }
    }
    assert_eq!(rig.asked(), []);
}

#[tokio::test]
async fn hostile_payloads_are_refused_and_write_nothing() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    rig.clear();
    let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    let needing_a_session = [
        "ensure",
        "append",
        "append_synthetic",
        "messages",
        "tree",
        "export_html",
        "compact",
        "compactions",
        "update_part",
        "update_parts",
        "reconcile",
        "rename",
        "delete",
    ];
    for function in needing_a_session {
        let id = format!("session-tree::{function}");
        for payload in [
            json!(5),
            json!("s"),
            json!([session]),
            json!(true),
            json!({"session_id": {"a": 1}}),
        ] {
            let text = rig.refusal(&id, payload).await;
            assert_eq!(text, "missing required string field: session_id", "{id}");
        }
        let deep = json!({"session_id": session, "message": u("x"), "more": nested(200)});
        assert_eq!(
            rig.refusal(&id, deep).await,
            "payload is nested deeper than 128 levels"
        );
        let large = json!({"session_id": session, "message": u(&"x".repeat(16 << 20))});
        let error = rig.call(&id, large).await.unwrap_err();
        assert_eq!(error.wire_code(), "payload_too_large");
    }
    for function in ["session-tree::fork", "session-tree::clone"] {
        for payload in [json!(5), json!([session]), json!({"source_session_id": {"a": 1}})] {
            let text = rig.refusal(function, payload).await;
            assert_eq!(text, "missing required string field: source_session_id");
        }
    }
    for function in ["create", "list"] {
        let id = format!("session-tree::{function}");
        let deep = json!({ "more": nested(200) });
        assert_eq!(
            rig.refusal(&id, deep).await,
            "payload is nested deeper than 128 levels"
        );
        let error = rig
            .call(&id, json!({"cwd": "x".repeat(16 << 20)}))
            .await
            .unwrap_err();
        assert_eq!(error.wire_code(), "payload_too_large");
    }
    let mut message = u("x");
    message["details"] = nested(121);
    let text = rig
        .refusal(
            "session-tree::append",
            json!({"session_id": session, "message": message}),
        )
        .await;
    assert_eq!(text, "invalid message: nested deeper than 120 levels");
    assert_eq!(rig.asked(), []);

    let mut message = u("x");
    message["details"] = nested(118);
    rig.append(&session, message.clone(), None).await;
    let rows = rig
        .reborn()
        .await
        .messages(json!({ "session_id": session }))
        .await;
    assert_eq!(rows[0]["message"], message);
}
