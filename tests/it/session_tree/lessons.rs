//! Field lessons S1 and S9; S2 to S8 are with the functions they are about.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::catalog::registered;
use crate::session_rig::{Rig, u};
use crate::support::{TestBus, TestOptions, three_ways};

three_ways! {
    field_lesson_s1_a_copy_takes_no_permission_along_and_says_so,
    field_lesson_s9_line_separators_are_data,
}

async fn field_lesson_s1_a_copy_takes_no_permission_along_and_says_so() {
    let t = TestBus::with(TestOptions::default()).await;
    let append = json!({ "session_id": "s", "message": u("hi") });
    let entry = t.ok("session-tree::append", append).await["entry_id"].clone();
    t.ok("approval::set_mode", json!({ "session_id": "s", "mode": "full" }))
        .await;
    t.ok(
        "session-inbox::push",
        json!({ "session_id": "s", "name": "steering", "item": 1 }),
    )
    .await;
    let before = t.state("approval_settings", "s").await;
    assert_eq!(before["mode"], "full");
    for (function, request) in [
        (
            "session-tree::fork",
            json!({ "source_session_id": "s", "from_entry_id": entry }),
        ),
        ("session-tree::clone", json!({ "source_session_id": "s" })),
    ] {
        let copy = t.ok(function, request).await["session_id"].clone();
        let settings = t
            .ok("approval::get_settings", json!({ "session_id": copy }))
            .await;
        assert_eq!(settings["mode"], "manual");
        let waiting = t
            .ok(
                "session-inbox::peek",
                json!({ "session_id": copy, "name": "steering" }),
            )
            .await;
        assert_eq!(waiting, json!({ "items": [] }));
        let info = registered()
            .into_iter()
            .find(|info| &*info.id == function)
            .unwrap();
        let schema = info.request_schema.unwrap().to_string();
        assert!(schema.contains("are not copied"), "{function}: {schema}");
    }
    assert_eq!(t.state("approval_settings", "s").await, before);
    t.stop().await;
}

async fn field_lesson_s9_line_separators_are_data() {
    let rig = Rig::start().await;
    let odd = "a\u{2028}b\u{2029}c\u{85}d\u{b}e\u{c}f\rg";
    let entry = rig.append("s", u(odd), None).await;
    for rig in [rig.clone(), rig.reborn().await] {
        assert_eq!(rig.texts("s").await, [odd]);
    }
    let copy = json!({ "source_session_id": "s", "from_entry_id": entry });
    let copy = rig.call("session-tree::fork", copy).await.unwrap();
    assert_eq!(rig.texts(copy["session_id"].as_str().unwrap()).await, [odd]);
    let page = super::export::html(&rig, json!({ "session_id": "s" })).await;
    assert!(page.contains("a\u{2028}b\u{2029}c"), "{page}");
    let listed: Value = super::list(&rig, json!({})).await;
    let summary = listed["sessions"][1]["last_message_summary"].as_str();
    assert_eq!(summary, Some(odd));
}
