//! What other agent systems learned about compaction (field lessons K1 to K12), where no other test here has it.

use std::sync::Arc;

use harness::clock::ManualClock;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::preflight::{history, is_summary, rig, rig_with, turns};
use super::{EVENT, NOW, Rig, background, said, talk};
use crate::support::TestOptions;
use crate::support::stub::{Out, calls, message, says};
use crate::turn::{of_type, run, user};

/// Summaries, and `ok` to everything else.
fn plain(_: usize, request: &Value) -> Vec<Out> {
    says(&[if is_summary(request) { "SUM" } else { "ok" }])
}

fn failing(kind: &str, text: &str) -> Vec<Out> {
    let mut failed = message(json!([]), "error");
    failed["error_kind"] = json!(kind);
    failed["error_message"] = json!(text);
    vec![Out::Event(json!({ "type": "error", "error": failed }))]
}

/// The question alone is more than is comfortable, though the window takes it: one compaction, not one per model call.
#[tokio::test]
async fn field_lesson_k1_a_compaction_that_left_too_much_is_not_repeated() {
    let rig = rig(40_000, |_, request| {
        let messages = request["messages"].as_array().unwrap();
        match messages
            .iter()
            .filter(|message| message["role"] == "function_result")
            .count()
        {
            _ if is_summary(request) => says(&["SUM"]),
            3 => says(&["done"]),
            n => calls(&[(&format!("c{n}"), "f", json!({}))]),
        }
    })
    .await;
    rig.t.record("f", json!({ "n": 1 }));
    history(&rig, 2_000).await;
    let mut request = run("s1");
    request["messages"] = json!([user(&"q".repeat(100_000))]);
    rig.t.ok("run::start", request).await;
    let events = rig.t.ended("s1", 1).await;
    assert_eq!(rig.record("s1").await["state"], "stopped");
    assert_eq!(turns(&rig.stub).len(), 4);
    assert_eq!(of_type(&events, "compaction_done").len(), 1);
    assert_eq!(rig.t.calls_of(NOW), 1);
    rig.t.stop().await;
}

#[tokio::test]
async fn field_lesson_k2_a_count_from_before_a_compaction_does_not_lead_to_the_next() {
    let rig = Rig::start().await;
    background::knowing(&rig).await;
    rig.fill(talk()).await;
    assert_eq!(rig.compact().await["status"], "ok");
    let long = said("assistant", &"x".repeat(20_000));
    rig.fill(vec![said("user", "more"), long]).await;
    let compacted = rig.compactions().await[0]["timestamp"].as_i64().unwrap();
    for (timestamp, summaries) in [(compacted - 1, 1), (compacted, 1), (compacted + 1, 2)] {
        let mut message = background::full();
        message["timestamp"] = json!(timestamp);
        rig.ok(EVENT, background::frame(message)).await;
        assert_eq!(rig.stub.requests().len(), summaries);
    }
    rig.stop().await;
}

#[tokio::test]
async fn field_lesson_k2_a_compaction_of_another_branch_is_none() {
    let rig = Rig::start().await;
    let ids = rig.fill(talk()).await;
    assert_eq!(rig.compact().await["status"], "ok");
    let branch = json!({ "session_id": "s", "parent_id": ids[1], "message": said("user", "elsewhere") });
    rig.ok("session-tree::append", branch).await;
    assert_eq!(rig.compact().await["status"], "ok");
    let (system, text) = rig.asked(1);
    assert!(!system.contains("previous-summary"));
    let seen = ["U1", "A1", "U2", "A2", "elsewhere"].map(|word| text.contains(word));
    assert_eq!(seen, [true, true, false, false, true]);
    rig.stop().await;
}

/// What a provider says of its load or of a quota is no reason to summarise.
#[tokio::test]
async fn field_lesson_k6_a_provider_that_is_busy_is_no_overflow() {
    for (kind, text) in [
        ("rate_limited", "429: too many tokens per minute"),
        ("transient", "529: overloaded"),
        ("permanent", "insufficient quota"),
    ] {
        let rig = rig(40_000, move |_, _| failing(kind, text)).await;
        history(&rig, 1_000).await;
        let events = rig.run("s1").await;
        assert_eq!(of_type(&events, "compaction_done").len(), 0);
        assert_eq!(rig.t.calls_of(NOW), 0);
        rig.t.stop().await;
    }
}

#[tokio::test]
async fn field_lesson_k6_failed_summaries_do_not_stop_later_ones() {
    let rig = rig(40_000, |number, request| {
        if is_summary(request) && number < 4 {
            return failing("transient", "overloaded");
        }
        plain(number, request)
    })
    .await;
    history(&rig, 30_000).await;
    for run_number in 1..=3 {
        rig.t.ok("run::start", run("s1")).await;
        let events = rig.t.ended("s1", run_number).await;
        let compactions = of_type(&events, "compaction_done").len();
        assert_eq!(compactions, usize::from(run_number == 3));
    }
    assert_eq!(rig.record("s1").await["state"], "stopped");
    assert_eq!(turns(&rig.stub).len(), 1);
    rig.t.stop().await;
}

#[tokio::test]
async fn field_lesson_k7_auto_off_holds_before_a_model_call_too() {
    let mut options = TestOptions::default();
    options.config.compaction.auto = false;
    let rig = rig_with(options, 40_000, plain).await;
    history(&rig, 30_000).await;
    rig.run("s1").await;
    assert_eq!(rig.t.calls_of(NOW), 0);
    let asked = rig.stub.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0]["messages"].as_array().unwrap().len(), 9);
    rig.t.stop().await;
}

#[tokio::test]
async fn field_lesson_k8_the_model_of_the_session_summarises_without_reasoning() {
    let rig = rig(40_000, plain).await;
    history(&rig, 30_000).await;
    let mut request = run("s1");
    request["thinking_level"] = json!("high");
    rig.t.ok("run::start", request).await;
    rig.t.ended("s1", 1).await;
    let asked = rig.stub.requests();
    let told: Vec<Value> = asked
        .iter()
        .map(|request| {
            json!([
                is_summary(request),
                request["model"],
                request["thinking_level"],
                request["tools"] == json!([])
            ])
        })
        .collect();
    assert_eq!(
        told,
        [json!([true, "m", null, true]), json!([false, "m", "high", false])]
    );
    rig.t.stop().await;
}

/// The name is that of a model with a large window; what its provider declares is small. Without any record nothing is assumed.
#[tokio::test]
async fn field_lesson_k9_a_declared_window_counts_and_an_unknown_one_is_not_guessed() {
    for (declared, compactions) in [(Some(40_000), 1), (None, 0)] {
        let rig = rig(1_000_000, plain).await;
        if let Some(window) = declared {
            let model = json!({ "id": "gpt-5", "provider": "stub", "context_window": window });
            rig.t.ok("models::register", model).await;
        }
        history(&rig, 30_000).await;
        let mut request = run("s1");
        request["model"] = json!("gpt-5");
        rig.t.ok("run::start", request).await;
        let events = rig.t.ended("s1", 1).await;
        assert_eq!(of_type(&events, "compaction_done").len(), compactions);
        assert_eq!(rig.record("s1").await["state"], "stopped");
        rig.t.stop().await;
    }
}

#[tokio::test]
async fn field_lesson_k10_a_failed_summary_leaves_the_session_as_it_was() {
    let rig = Rig::answering(|_, _| failing("transient", "overloaded")).await;
    rig.fill(talk()).await;
    let before = rig.stored().await;
    assert_eq!(rig.compact().await["status"], "overflow");
    assert_eq!(rig.stored().await, before);
    rig.stop().await;
}

/// A provider's cache lives on requests that begin as the last one did: while nothing is compacted, none changes what an
/// earlier one said, over calls, runs and days.
#[tokio::test]
async fn field_lesson_k11_and_k12_each_request_begins_with_the_one_before_it() {
    let clock = Arc::new(ManualClock::at(1_700_000_000_000));
    let options = TestOptions {
        clock: Arc::clone(&clock) as _,
        ..TestOptions::default()
    };
    let rig = rig_with(options, 400_000, |_, request| {
        let messages = request["messages"].as_array().unwrap();
        match messages
            .iter()
            .filter(|message| message["role"] == "function_result")
            .count()
        {
            n if n < 5 => calls(&[(&format!("c{n}"), "f", json!({}))]),
            _ => says(&["done"]),
        }
    })
    .await;
    let moving = Arc::clone(&clock);
    rig.t.record_with("f", move |_| {
        moving.advance(3_600_000);
        Ok(json!({ "text": "z".repeat(50_000) }))
    });
    for run_number in 1..=3 {
        rig.t.ok("run::start", run("s1")).await;
        rig.t.ended("s1", run_number).await;
        clock.advance(24 * 3_600_000);
    }
    let asked = turns(&rig.stub);
    assert_eq!(asked.len(), 8);
    for pair in asked.windows(2) {
        let [before, after] = [&pair[0], &pair[1]].map(|request| request["messages"].as_array().unwrap());
        assert_eq!(after[..before.len()], before[..]);
        for fixed in ["system_prompt", "tools", "model"] {
            assert_eq!(pair[0][fixed].to_string(), pair[1][fixed].to_string());
        }
    }
    rig.t.stop().await;
}

/// Pruned outputs have one fixed text, and stay as they are.
#[tokio::test]
async fn field_lesson_k11_what_was_pruned_is_never_written_again() {
    let clock = Arc::new(ManualClock::at(1_700_000_000_000));
    let options = TestOptions {
        clock: Arc::clone(&clock) as _,
        ..TestOptions::default()
    };
    let rig = Rig::with(options, plain).await;
    let turns = (0..5).flat_map(|_| [super::u(1), super::a(1), super::r(200_000)]);
    rig.fill(turns.collect()).await;
    let prune = json!({ "session_id": "s" });
    assert_eq!(rig.ok(super::PRUNE, prune.clone()).await["pruned_parts"], 3);
    let pruned = rig.rows().await;
    rig.fill(vec![super::u(1), super::a(1), super::r(200_000), super::u(1)])
        .await;
    clock.advance(1);
    assert_eq!(rig.ok(super::PRUNE, prune).await["pruned_parts"], 2);
    let rows = rig.rows().await;
    for (at, row) in pruned.iter().enumerate().filter(|(at, _)| ![11, 14].contains(at)) {
        assert_eq!(&rows[at], row);
    }
    rig.stop().await;
}

/// A second compaction reads what is visible, whatever there was before; so does what looks for the session's model.
#[tokio::test]
async fn c10_weakness_3_a_compaction_reads_only_what_is_visible() {
    for visible in [true, false] {
        let rig = Rig::start().await;
        background::knowing(&rig).await;
        for id in ["session-tree::messages", "session-tree::compactions"] {
            rig.bus().unregister(id);
        }
        let long = "x".repeat(4_000);
        let row = |id: &str, role: &str| json!({ "entry_id": id, "message": said(role, &long) });
        let kept = [row("t", "user"), row("l", "assistant")];
        let compaction = json!({ "id": "k", "summary": "OLD", "tail_start_id": "t", "timestamp": 1, "on_path": true,
            "messages_before": 0 });
        let mut reply = json!({ "messages": kept });
        if visible {
            reply["recent"] = json!({ "compaction": compaction });
        }
        let asked = rig.record("session-tree::messages", reply);
        let listed = rig.record("session-tree::compactions", json!({ "entries": [compaction] }));
        assert_eq!(
            rig.ok(super::SESSION, json!({ "session_id": "s" })).await["status"],
            "ok"
        );
        rig.ok(EVENT, background::frame(json!({ "usage": { "input": 185_000 } })))
            .await;
        for number in 0..2 {
            let (system, text) = rig.asked(number);
            assert!(system.contains("\nOLD\n"));
            assert!(text.contains(&long));
        }
        let asked = asked.all();
        assert!(asked.len() > 4, "{asked:?}");
        for request in asked {
            let bounded = request["after_compaction"] == true
                || request["limit"].as_u64().is_some_and(|limit| limit <= 64);
            assert!(bounded, "{request}");
        }
        // Only a session worker that does not say is asked for all compactions.
        assert_eq!(listed.all().is_empty(), visible);
        rig.stop().await;
    }
}
