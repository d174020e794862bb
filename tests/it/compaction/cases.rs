//! `compact_now` and `compact_session`: the acceptance cases.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{NOW, Rig, SESSION, a, m200, said, talk, u};
use crate::support::stub::{Out, Stub, done, message, says};
use crate::support::{TestOptions, three_ways};

three_ways! {
    c10_case_05_07_08_the_tail_is_what_fits,
    c10_case_09_a_session_without_messages_is_empty,
    c10_case_10_a_session_is_compacted,
    c10_case_11_a_session_must_be_named,
    c10_case_13_an_unknown_model_is_no_error,
    c10_case_14_an_open_question_is_left_alone,
    c10_case_15_16_the_question_is_a_user_message_behind_others,
    c10_case_20_21_22_24_failures,
    c10_case_25_36_b_only_what_is_new_is_summarised,
}

async fn c10_case_05_07_08_the_tail_is_what_fits() {
    let rig = Rig::start().await;
    let long = vec![u(4000), a(4000), u(4000), a(4000), u(4000), a(4000)];
    let ids = rig.fill(long).await;
    let result = rig.compact().await;
    assert_eq!(
        (&result["tail_start_id"], &result["tokens_before"]),
        (&ids[2], &json!(2046))
    );
    rig.stop().await;

    for rows in [vec![u(10), a(10), u(10), a(10)], vec![a(10), a(10)], vec![u(10)]] {
        let rig = Rig::start().await;
        rig.fill(rows).await;
        let result = rig.compact().await;
        assert_eq!(
            (&result["status"], &result["tail_start_id"]),
            (&json!("ok"), &Value::Null)
        );
        rig.stop().await;
    }
}

#[tokio::test]
async fn c10_case_06_the_budget_of_the_tail_can_be_set() {
    let mut options = TestOptions::default();
    options.config.compaction.preserve_recent_tokens = Some(2_046);
    let rig = Rig::with(options, |_, _| says(&["SUM"])).await;
    let ids = rig
        .fill(vec![u(4000), a(4000), u(4000), a(4000), u(4000), a(4000)])
        .await;
    let result = rig.compact().await;
    assert_eq!(
        (&result["tail_start_id"], &result["tokens_before"]),
        (&ids[4], &json!(4093))
    );
    rig.stop().await;
}

async fn c10_case_09_a_session_without_messages_is_empty() {
    let rig = Rig::start().await;
    assert_eq!(rig.compact().await, json!({ "status": "empty" }));
    assert_eq!(rig.compact_now(&json!("")).await, json!({ "status": "empty" }));
    assert_eq!(
        (rig.compactions().await, rig.announced().await),
        (Vec::new(), Vec::new())
    );
    assert_eq!(rig.stub.requests().len(), 0);
    rig.stop().await;
}

async fn c10_case_10_a_session_is_compacted() {
    let rig = Rig::start().await;
    rig.fill(talk()).await;
    let result = rig.compact().await;
    let tokens = result["tokens_before"].as_u64().unwrap();
    assert!(tokens > 0);
    assert_eq!(
        result,
        json!({ "status": "ok", "tail_start_id": null, "tokens_before": tokens, "auto_continued": false, "summary_text": "SUM" })
    );
    let entry = rig.compactions().await.remove(0);
    assert_eq!(
        (
            &entry["summary"],
            &entry["tokens_before"],
            &entry["tail_start_id"]
        ),
        (&json!("SUM"), &json!(tokens), &Value::Null)
    );
    let usage = json!({ "input": 1, "output": 1 });
    assert_eq!(
        entry["details"],
        json!({ "read_files": [], "modified_files": [], "usage": usage, "provider": "p", "model": "m" })
    );
    assert_eq!(
        rig.announced().await,
        [
            json!({ "type": "compaction_done", "mode": "sync", "summary_text": "SUM", "tokens_before": tokens,
            "compaction_entry_id": entry["id"], "tail_start_id": null })
        ]
    );
    assert_eq!(rig.rows().await.len(), 4);
    assert_eq!(rig.calls_of("models::get"), 0);
    assert!(rig.state("last_compaction_at", "s").await.is_i64());
    rig.stop().await;
}

async fn c10_case_11_a_session_must_be_named() {
    let rig = Rig::start().await;
    for function in [NOW, SESSION, super::PRUNE] {
        for payload in [
            json!({}),
            json!(null),
            json!({ "session_id": "" }),
            json!({ "session_id": 5 }),
            json!([1]),
        ] {
            assert_eq!(
                rig.error(function, payload).await,
                format!("{function}: session_id is required")
            );
        }
    }
    // Odd members count as absent.
    let odd = json!({ "session_id": "s", "projected_tokens": "x", "last_user_message_id": 5, "model": { "limit": [] } });
    assert_eq!(rig.ok(NOW, odd).await, json!({ "status": "empty" }));
    rig.stop().await;
}

#[tokio::test]
async fn c10_case_12_the_model_of_the_last_run_summarises() {
    let rig = Rig::start().await;
    let openai = Stub::of(&rig, "openai", |_, _| says(&["SUM"]));
    rig.set_state(
        "run_request",
        "s",
        json!({ "provider": "openai", "model": "gpt-5-mini" }),
    )
    .await;
    rig.fill(vec![u(10)]).await;
    assert_eq!(
        rig.ok(SESSION, json!({ "session_id": "s" })).await["status"],
        "ok"
    );
    let request = openai.requests().remove(0);
    assert_eq!(
        (&request["model"], &request["tools"]),
        (&json!("gpt-5-mini"), &json!([]))
    );
    rig.stop().await;
}

#[tokio::test]
async fn c10_6_2_the_first_model_with_a_known_window_summarises() {
    let rig = Rig::start().await;
    rig.ok(
        "models::register",
        json!({ "id": "m", "provider": "p", "context_window": 100_000 }),
    )
    .await;
    rig.fill(talk()).await;
    let asked = json!({ "session_id": "s", "model": { "id": "other", "providerID": "p" } });
    assert_eq!(rig.ok(SESSION, asked).await["status"], "ok");
    assert_eq!(rig.stub.requests()[0]["model"], "m");
    rig.stop().await;
}

async fn c10_case_13_an_unknown_model_is_no_error() {
    let rig = Rig::start().await;
    rig.fill(vec![u(10)]).await;
    assert_eq!(
        rig.ok(SESSION, json!({ "session_id": "s" })).await,
        json!({ "status": "overflow", "message": "unknown provider: unknown" })
    );
    rig.stop().await;
}

async fn c10_case_14_an_open_question_is_left_alone() {
    let rig = Rig::start().await;
    let mut rows = talk();
    rows.push(said("user", "U3"));
    let ids = rig.fill(rows).await;
    let result = rig.compact_now(&ids[4]).await;
    assert_eq!(
        (&result["status"], &result["auto_continued"]),
        (&json!("ok"), &json!(true))
    );
    let (_, text) = rig.asked(0);
    assert!(text.contains("U2") && !text.contains("U3"), "{text}");

    let entries = rig.ok("state::list", json!({ "scope": "session_tree:s" })).await;
    let entries = entries.as_array().unwrap();
    let compaction = entries
        .iter()
        .find(|entry| entry["type"] == "compaction")
        .unwrap();
    let prompts: Vec<&Value> = entries
        .iter()
        .filter(|entry| entry["parent_id"] == compaction["id"])
        .collect();
    assert_eq!(prompts.len(), 1);
    assert_eq!(prompts[0]["message"]["role"], "user");
    let rows = rig.rows().await;
    let told = |row: &Value| row["message"]["content"][0]["text"].as_str().unwrap().to_owned();
    let texts: Vec<String> = rows.iter().map(told).collect();
    assert_eq!(texts[..5], ["U1", "A1", "U2", "A2", "U3"]);
    assert!(texts[5].starts_with("Continue if you have next steps") && texts.len() == 6);
    rig.stop().await;
}

async fn c10_case_15_16_the_question_is_a_user_message_behind_others() {
    let rig = Rig::start().await;
    let ids = rig.fill(talk()).await;
    assert_eq!(rig.compact_now(&ids[0]).await, json!({ "status": "empty" }));
    assert_eq!(rig.compactions().await, Vec::<Value>::new());
    let result = rig.compact_now(&ids[3]).await;
    assert_eq!(
        (&result["status"], &result["auto_continued"]),
        (&json!("ok"), &json!(false))
    );
    assert!(rig.asked(0).1.contains("A2"));
    rig.stop().await;
}

async fn c10_case_20_21_22_24_failures() {
    let error = |text: &str| {
        let mut failed = message(json!([]), "error");
        failed["error_message"] = json!(text);
        vec![Out::Event(json!({ "type": "error", "error": failed }))]
    };
    let silent = || vec![done(message(json!([]), "end"))];
    let overflow =
        |text: &str| json!({ "status": "overflow", "message": format!("summariser stream error: {text}") });
    for (first, calls, expected) in [
        (error("model: gpt-5-mini"), 2, overflow("model: gpt-5-mini")),
        (
            error("401 unauthorized: invalid_api_key"),
            1,
            overflow("401 unauthorized: invalid_api_key"),
        ),
        (silent(), 1, json!({ "status": "empty" })),
    ] {
        let rig = Rig::answering(move |_, _| first.clone()).await;
        rig.fill(talk()).await;
        assert_eq!(rig.compact().await, expected);
        assert_eq!(rig.stub.requests().len(), calls);
        assert_eq!(rig.compactions().await, Vec::<Value>::new());
        assert_eq!(rig.announced().await, Vec::<Value>::new());
        // Whoever reads the row sees that it is free.
        assert!(rig.lease().await["ts"].is_null());
        rig.stop().await;
    }
    let first = error("transient provider failure");
    let rig = Rig::answering(move |number, _| {
        if number == 0 {
            first.clone()
        } else {
            says(&["SUM"])
        }
    })
    .await;
    rig.fill(talk()).await;
    assert_eq!(rig.compact().await["status"], "ok");
    assert_eq!(rig.stub.requests().len(), 2);
    rig.stop().await;
}

#[tokio::test]
async fn c10_case_23_a_stream_without_an_end_is_a_failure() {
    let rig = Rig::answering(|_, _| vec![Out::Garbage("no event")]).await;
    rig.fill(talk()).await;
    let text = "summariser stream returned without a terminal event";
    assert_eq!(
        rig.compact().await,
        json!({ "status": "overflow", "message": text })
    );
    assert_eq!(rig.stub.requests().len(), 2);
    rig.stop().await;

    let rig = Rig::answering(|_, _| vec![Out::Fail("403 forbidden")]).await;
    rig.fill(talk()).await;
    assert_eq!(
        rig.compact().await,
        json!({ "status": "overflow", "message": "403 forbidden" })
    );
    rig.stop().await;
}

async fn c10_case_25_36_b_only_what_is_new_is_summarised() {
    let rig = Rig::answering(|number, _| says(&[["OLD", "NEW", "NEWER"][number]])).await;
    rig.fill(talk()).await;
    rig.compact().await;
    let (system, _) = rig.asked(0);
    assert!(!system.contains("previous-summary"));
    rig.fill(vec![said("user", "U3"), said("assistant", "A3")]).await;
    rig.compact().await;
    let (system, text) = rig.asked(1);
    assert!(system.contains("<previous-summary>\nOLD\n</previous-summary>"));
    let seen = ["U1", "A1", "U2", "A2", "U3", "A3"].map(|word| text.contains(word));
    assert_eq!(seen, [false, false, false, false, true, true]);
    // Asked again without anything new, the summary itself is made anew (contract 10 §9).
    assert_eq!(rig.compact().await["summary_text"], "NEWER");
    let (system, text) = rig.asked(2);
    assert!(system.contains("\nNEW\n") && !text.contains("U3"));
    assert_eq!(rig.compactions().await.len(), 3);
    rig.stop().await;
}

#[tokio::test]
async fn c10_weakness_4_a_summary_request_fits_a_small_window() {
    let rig = Rig::start().await;
    rig.fill(vec![u(100_000), a(100_000), super::r(100_000), u(10), a(10)])
        .await;
    let small =
        json!({ "id": "m", "providerID": "p", "limit": { "context": 8192, "input": 8192, "output": 8192 } });
    assert_eq!(
        rig.ok(SESSION, json!({ "session_id": "s", "model": small }))
            .await["status"],
        "ok"
    );
    let (system, text) = rig.asked(0);
    assert!(
        system.len() + text.len() <= 8192 / 2 * 3,
        "{} {}",
        system.len(),
        text.len()
    );
    assert_eq!(rig.stub.requests()[0]["max_output_tokens"], 2048);
    rig.stop().await;
}

#[tokio::test]
async fn c10_weakness_20_files_of_the_summarised_calls_are_kept() {
    let rig = Rig::start().await;
    let mut calling = said("assistant", "");
    calling["content"][0] = json!({ "type": "function_call", "id": "fc", "function_id": "agent_trigger",
        "arguments": { "function": "shell::fs::cat", "payload": { "path": "/etc/hosts" } } });
    rig.fill(vec![u(1), calling, super::r(5), a(1)]).await;
    rig.compact().await;
    let details = &rig.compactions().await[0]["details"];
    assert_eq!(details["read_files"], json!(["/etc/hosts"]));
    let model = m200();
    assert_eq!(
        (&details["model"], &details["provider"]),
        (&model["id"], &model["providerID"])
    );
    rig.stop().await;
}
