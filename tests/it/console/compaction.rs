//! `/compact` as the console sends it (contract 11 §6).

use harness::scripted::{Gate, Reply, Script};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::Console;
use crate::support::three_ways;
use crate::turn::{of_type, user};

three_ways! {
    c11_case_19_a_history_of_the_page_is_taken_over_and_compacted,
    c11_case_20_a_snapshot_of_what_is_there_changes_nothing,
    c11_case_21_a_slow_summary_is_answered_and_shown,
}

fn answer(text: &str) -> Value {
    json!({ "role": "assistant", "content": [{ "type": "text", "text": text }], "stop_reason": "end", "model": "gpt-5",
        "provider": "openai", "timestamp": 1 })
}

fn compact(session: &str) -> Value {
    json!({ "session_id": session, "model": { "id": "gpt-5", "providerID": "openai",
        "limit": { "context": 200_000, "input": 200_000, "output": 4_096 } } })
}

impl Console {
    /// What the page does before it asks for a summary.
    async fn reconcile(&self, session: &str, history: &[Value]) -> Value {
        self.ok("session-tree::ensure", json!({ "session_id": session }))
            .await;
        let request = json!({ "session_id": session, "state_snapshot": history });
        self.ok("session-tree::reconcile", request).await
    }
}

async fn c11_case_19_a_history_of_the_page_is_taken_over_and_compacted() {
    let console = Console::open(Script::queue([Reply::says("They greeted.", 1)])).await;
    let history = [user("hi"), answer("hello"), user("more"), answer("of it")];
    let repaired = console.reconcile("console-a", &history).await;
    assert_eq!(repaired["tree_count_after"], 4);
    let mut reply = console
        .ok("context-compaction::compact_session", compact("console-a"))
        .await;
    let tokens = reply["tokens_before"].take();
    assert!(tokens.as_u64().unwrap() > 0, "{tokens}");
    assert_eq!(
        reply,
        json!({ "status": "ok", "tail_start_id": null, "tokens_before": null, "auto_continued": false,
            "summary_text": "They greeted." })
    );
    console.close().await;
}

async fn c11_case_20_a_snapshot_of_what_is_there_changes_nothing() {
    let console = Console::open(Script::answer(|_| Reply::says("hello", 1))).await;
    console.send("console-a", "hi").await;
    console.watched("console-a").await;
    let before = console.rig.transcript("console-a").await;
    for history in [&before[..], &before[..1]] {
        let repaired = console.reconcile("console-a", history).await;
        assert_eq!(repaired["repaired"], 0, "{repaired}");
        assert_eq!(console.rig.transcript("console-a").await, before);
    }
    console.close().await;
}

async fn c11_case_21_a_slow_summary_is_answered_and_shown() {
    let gate = Gate::new();
    let slow = Reply::says("They greeted.", 1).after(gate.clone());
    let console = Console::open(Script::queue([slow])).await;
    console
        .reconcile("console-a", &[user("hi"), answer("hello")])
        .await;
    console.subscribe(json!("console-a")).await;
    let asked = console.ok("context-compaction::compact_session", compact("console-a"));
    let released = async {
        console
            .rig
            .t
            .eventually(async || (console.rig.server.requests().len() == 1).then_some(()))
            .await;
        gate.release();
    };
    let (reply, ()) = futures::join!(asked, released);
    assert_eq!(reply["status"], "ok", "{reply}");
    let shown = console
        .rig
        .t
        .eventually(async || {
            let events = console.events("console-a");
            of_type(&events, "compaction_done")
                .first()
                .map(|event| (*event).clone())
        })
        .await;
    for member in ["summary_text", "tokens_before", "tail_start_id"] {
        assert_eq!(shown[member], reply[member]);
    }
    assert_eq!(shown["mode"], "sync");
    console.close().await;
}
