//! The exported document.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::entry;
use crate::session_rig::{Rig, a, u};
use crate::support::three_ways;

three_ways! {
    c06_case_28_the_document_of_a_path,
    c06_case_30_a_bad_record_spoils_no_export,
}

pub(super) async fn html(rig: &Rig, request: Value) -> String {
    let mut reply = rig.call("session-tree::export_html", request).await.unwrap();
    let Value::String(html) = reply["html"].take() else {
        panic!("no text: {reply}");
    };
    html
}

async fn c06_case_28_the_document_of_a_path() {
    let rig = Rig::start().await;
    let session = rig.session().await;
    let root = rig
        .append(&session, u("<script>alert(\"x\")</script>"), None)
        .await;
    let left = rig.append(&session, a("left"), Some(&root)).await;
    rig.append(&session, a("hi"), Some(&root)).await;
    let page = html(&rig, json!({ "session_id": session })).await;
    for part in [
        "<!DOCTYPE html>",
        "<pre>&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;</pre>",
        "class=\"entry user\"",
        "<div class=\"entry assistant\"><div class=\"role\">assistant \u{b7} m</div><pre>hi</pre></div>",
        &format!("<title>session {session}</title>"),
    ] {
        assert!(page.contains(part), "{part} is not in {page}");
    }
    assert!(
        !page.contains("<script") && !page.contains("<pre>left</pre>"),
        "{page}"
    );

    let other = html(&rig, json!({"session_id": session, "branch_leaf": left})).await;
    assert!(
        other.contains("<pre>left</pre>") && !other.contains("<pre>hi</pre>"),
        "{other}"
    );
    let empty = html(&rig, json!({"session_id": session, "branch_leaf": "nobody"})).await;
    assert_eq!(
        empty,
        html(
            &rig,
            json!({ "session_id": session, "branch_leaf": "nobody either" })
        )
        .await
    );
    let unknown = html(&rig, json!({"session_id": "ghost"})).await;
    assert!(
        unknown.ends_with("<div class=\"session\">\n</div>\n</body>\n</html>\n"),
        "{unknown}"
    );
}

async fn c06_case_30_a_bad_record_spoils_no_export() {
    let rig = Rig::start().await;
    for row in [
        entry("a", None, 1),
        json!({"type": "message", "id": "b", "parent_id": "a", "timestamp": 2, "message": "hi"}),
        json!({"type": "message", "id": "c", "parent_id": "b", "timestamp": 3, "message": {"role": "user", "content": 5}}),
        entry("d", Some("c"), 4),
    ] {
        rig.write_row("X", row).await;
    }
    let page = html(&rig, json!({"session_id": "X"})).await;
    let body = page.split_once("<div class=\"session\">\n").unwrap().1;
    assert_eq!(
        body,
        "<div class=\"entry user\"><div class=\"role\">user</div><pre>a</pre></div>\n\
         <div class=\"entry unreadable\"><div class=\"role\">unreadable record \u{b7} b</div></div>\n\
         <div class=\"entry user\"><div class=\"role\">user</div><pre>5</pre></div>\n\
         <div class=\"entry user\"><div class=\"role\">user</div><pre>d</pre></div>\n\
         </div>\n</body>\n</html>\n"
    );
}
