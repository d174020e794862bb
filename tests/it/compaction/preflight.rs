//! The check before a model call, with the real worker.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::TestOptions;
use crate::support::stub::{Out, Stub, calls, done, message, says};
use crate::turn::{Rig, of_type, run, user};

const SUMMARY: &str = "<conversation-summary>\nSUM\n</conversation-summary>";

/// A run whose model answers this way and has this window; summaries come from the same provider.
pub(super) async fn rig(
    window: u64,
    answer: impl Fn(usize, &Value) -> Vec<Out> + Send + Sync + 'static,
) -> Rig {
    rig_with(TestOptions::default(), window, answer).await
}

pub(super) async fn rig_with(
    options: TestOptions,
    window: u64,
    answer: impl Fn(usize, &Value) -> Vec<Out> + Send + Sync + 'static,
) -> Rig {
    let options = TestOptions {
        rules: Some("rules: ['*']"),
        ..options
    };
    let rig = Rig::new(options, answer).await;
    let model = json!({ "id": "m", "provider": "stub", "context_window": window, "max_output_tokens": 1024 });
    rig.t.ok("models::register", model).await;
    rig
}

pub(crate) fn is_summary(request: &Value) -> bool {
    request["messages"][0]["content"][0]["text"]
        .as_str()
        .is_some_and(|text| text.starts_with("Summarise"))
}

/// What the model saw, without summaries.
pub(super) fn turns(stub: &Stub) -> Vec<Value> {
    stub.requests()
        .into_iter()
        .filter(|request| !is_summary(request))
        .collect()
}

fn roles(request: &Value) -> Vec<String> {
    let messages = request["messages"].as_array().unwrap();
    messages
        .iter()
        .map(|message| message["role"].as_str().unwrap().to_owned())
        .collect()
}

fn first_text(request: &Value) -> &str {
    request["messages"][0]["content"][0]["text"].as_str().unwrap()
}

/// A long history, then a question.
pub(crate) async fn history(rig: &Rig, length: usize) {
    for turn in 0..4 {
        let mut answer = message(json!([{ "type": "text", "text": "y".repeat(length) }]), "end");
        answer["usage"] = Value::Null;
        for message in [user(&format!("question {turn}")), answer] {
            let request = json!({ "session_id": "s1", "message": message });
            rig.t.ok("session-tree::append", request).await;
        }
    }
}

#[tokio::test]
async fn c10_case_36_a_the_next_window_is_shorter_and_has_the_question() {
    let rig = rig(40_000, |_, request| {
        if is_summary(request) {
            says(&["SUM"])
        } else {
            says(&["ok"])
        }
    })
    .await;
    history(&rig, 30_000).await;
    let events = rig.run("s1").await;
    assert_eq!(
        of_type(&events, "message_complete")[0]["message"]["stop_reason"],
        "end"
    );
    let asked = turns(&rig.stub);
    assert_eq!(asked.len(), 1);
    assert_eq!(first_text(&asked[0]), SUMMARY);
    let last = asked[0]["messages"].as_array().unwrap().last().unwrap();
    assert_eq!(last["content"][0]["text"], "hi");
    assert_eq!(of_type(&events, "compaction_done").len(), 1);
    rig.t.stop().await;
}

/// One user message and many calls: checked before each request, what is old goes, calls keep their results (K3, K5).
#[tokio::test]
async fn field_lesson_k3_and_k5_a_long_run_of_calls_stays_within_the_window() {
    const CALLS: u64 = 30;
    let rig = rig(30_000, |_, request| {
        if is_summary(request) {
            return says(&["SUM"]);
        }
        let messages = request["messages"].as_array().unwrap();
        let done_calls = messages.last().unwrap()["details"]["n"].as_u64().unwrap_or(0);
        if done_calls >= CALLS {
            return says(&["done"]);
        }
        let id = format!("c{done_calls}");
        calls(&[(&id, "f", json!({}))])
    })
    .await;
    let count = std::sync::atomic::AtomicUsize::new(0);
    rig.t.record_with("f", move |_| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        Ok(json!({ "n": n, "text": "z".repeat(4_000) }))
    });
    let events = rig.run("s1").await;
    assert_eq!(rig.record("s1").await["state"], "stopped");
    assert_eq!(of_type(&events, "function_execution_end").len() as u64, CALLS);
    let compactions = of_type(&events, "compaction_done").len() as u64;
    assert!((2..CALLS).contains(&compactions), "{compactions} compactions");
    for request in turns(&rig.stub) {
        let size = request["messages"].to_string().len() / 4;
        assert!(size < 30_000, "{size} tokens were sent");
        let messages = request["messages"].as_array().unwrap();
        let mut open: Vec<&Value> = Vec::new();
        for message in messages {
            for block in message["content"].as_array().unwrap() {
                if block["type"] == "function_call" {
                    open.push(&block["id"]);
                }
            }
            if message["role"] == "function_result" {
                let at = open.iter().position(|id| **id == message["function_call_id"]);
                open.remove(at.unwrap_or_else(|| panic!("a result without its call: {:?}", roles(&request))));
            }
        }
        assert_eq!(open, Vec::<&Value>::new());
        assert_ne!(roles(&request).last().unwrap(), "assistant");
    }
    rig.t.stop().await;
}

#[tokio::test]
async fn c10_case_36_d_a_small_window_is_usable() {
    let rig = rig(8_192, |_, _| says(&["ok"])).await;
    let events = rig.run("s1").await;
    assert_eq!(
        of_type(&events, "message_complete")[0]["message"]["stop_reason"],
        "end"
    );
    assert_eq!(rig.stub.requests().len(), 1);
    assert_eq!(rig.t.calls_of("context-compaction::compact_now"), 0);
    rig.t.stop().await;
}

/// The provider has counted far less than the estimate: nothing is compacted.
#[tokio::test]
async fn what_the_provider_counted_is_believed() {
    for (counted, compactions) in [(Some(21_000), 0), (None, 1)] {
        let rig = rig(60_000, move |number, request| {
            if is_summary(request) {
                return says(&["SUM"]);
            }
            if number > 0 {
                return says(&["ok"]);
            }
            let mut first = message(json!([{ "type": "text", "text": "y".repeat(170_000) }]), "end");
            first["usage"] = json!(counted.map(|total: u64| json!({ "total": total })));
            first["timestamp"] = json!(5);
            vec![done(first)]
        })
        .await;
        rig.run("s1").await;
        rig.t.ok("run::start", run("s1")).await;
        let events = rig.t.ended("s1", 2).await;
        assert_eq!(of_type(&events, "compaction_done").len(), compactions);
        rig.t.stop().await;
    }
}

/// Nothing can be cut from one message that is too long: the run says so instead of asking again and again (K1).
#[tokio::test]
async fn field_lesson_k1_what_cannot_be_made_to_fit_is_said_at_once() {
    let rig = rig(20_000, |_, request| {
        if is_summary(request) {
            says(&["SUM"])
        } else {
            says(&["ok"])
        }
    })
    .await;
    history(&rig, 1_000).await;
    let mut request = run("s1");
    request["messages"] = json!([user(&"q".repeat(100_000))]);
    rig.t.ok("run::start", request).await;
    rig.t.ended("s1", 1).await;
    let error = rig.record("s1").await["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        error.starts_with("from assistant_streaming: session too large to compact: "),
        "{error}"
    );
    assert!(error.contains("the window of m has 20000"), "{error}");
    assert_eq!(turns(&rig.stub).len(), 0);
    assert_eq!(rig.stub.requests().len(), 1);
    rig.t.stop().await;
}
