//! What the model sees of a session that was compacted (contract 02 §5.1).

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Rig, user};
use crate::support::stub::says;
use crate::support::three_ways;

three_ways! {
    c02_section_5_1_the_summary_and_its_tail,
}

fn assistant(text: &str) -> Value {
    json!({ "role": "assistant", "content": [{ "type": "text", "text": text }], "stop_reason": "end",
        "model": "m", "provider": "stub", "timestamp": 2 })
}

fn texts(messages: &Value) -> Vec<&str> {
    let messages = messages.as_array().unwrap();
    messages
        .iter()
        .map(|message| message["content"][0]["text"].as_str().unwrap())
        .collect()
}

const SUMMARY: &str = "<conversation-summary>\nS\n</conversation-summary>";

async fn c02_section_5_1_the_summary_and_its_tail() {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    let mut last = Value::Null;
    for n in 0..40 {
        let message = if n % 2 == 0 {
            user(&n.to_string())
        } else {
            assistant(&n.to_string())
        };
        let request = json!({ "session_id": "s1", "message": message });
        last = rig.t.ok("session-tree::append", request).await["entry_id"].take();
    }
    let request = json!({ "session_id": "s1", "summary": "S", "tail_start_id": last });
    rig.t.ok("session-tree::compact", request).await;
    rig.run("s1").await;
    assert_eq!(texts(&rig.stub.requests()[0]["messages"]), [SUMMARY, "39", "hi"]);
    assert_eq!(rig.transcript("s1").await.len(), 42);
    rig.t.stop().await;
}

#[tokio::test]
async fn another_session_worker_answers_everything() {
    let rig = Rig::allowing(|_, _| says(&["ok"])).await;
    let mut ids = Vec::new();
    for text in ["a", "b"] {
        let request = json!({ "session_id": "s1", "message": user(text) });
        ids.push(rig.t.ok("session-tree::append", request).await["entry_id"].take());
    }
    let rows = json!([
        { "entry_id": ids[0], "message": user("a") },
        { "entry_id": ids[1], "message": user("b") },
        { "entry_id": "x", "message": user("hi") },
    ]);
    let compaction = json!({ "id": "k", "summary": "S", "tail_start_id": ids[1], "timestamp": 1 });
    for id in ["session-tree::messages", "session-tree::compactions"] {
        rig.t.bus().unregister(id);
    }
    rig.t
        .record("session-tree::messages", json!({ "messages": rows }));
    rig.t
        .record("session-tree::compactions", json!({ "entries": [compaction] }));
    rig.run("s1").await;
    assert_eq!(texts(&rig.stub.requests()[0]["messages"]), [SUMMARY, "b", "hi"]);
    rig.t.stop().await;
}
