//! `harness chat`, driven over pipes.

use harness::scripted::{Gate, Reply, Script};
use pretty_assertions::assert_eq;
use serde_json::json;

use super::stage::{Deaf, Stage, answers};
use crate::support::engine::within;

const HELP: &str = "; /help lists the commands\n";

/// The whole chat: what was typed, and what stood on the screen behind the greeting.
async fn chat(stage: &Stage, typed: &str) -> String {
    let ran = stage.run_with(&["chat", "--session", "s"], typed).await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{}", ran.out);
    ran.out
        .strip_prefix(&format!("session s{HELP}"))
        .unwrap()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_answered_one_after_the_other() {
    let stage = Stage::start().await;
    assert_eq!(
        chat(&stage, "hello\n\nweather in Oslo\n/quit\nnot read\n").await,
        "You said: hello\n→ test::weather {\"city\":\"Oslo\"}\n← 14 °C rain\nI got: rain\n"
    );
    // The end of the input leaves as well, after the run.
    assert_eq!(
        chat(&stage, "bye\n").await,
        "> hello\n< You said: hello\n> weather in Oslo\n< I got: rain\nYou said: bye\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_approved_denied_and_remembered() {
    let stage = Stage::start().await;
    let call = "test::mail {\"to\":\"ada\"}";
    let asked = format!("→ {call}\n? {call}\n  [a]pprove, [d]eny, a[l]ways, abort\n");
    assert_eq!(
        chat(&stage, "mail 1\na\n").await,
        format!("{asked}← sent\nI got: sent\n")
    );
    let shown = chat(&stage, "/new\nmail 2\nmaybe\nd not today\n").await;
    assert!(
        shown.contains(&format!(
            "{asked}  [a]pprove, [d]eny, a[l]ways, abort\n✗ test::mail: "
        )) && shown.contains("not today"),
        "{shown}"
    );
    let shown = chat(&stage, "/new\nmail 3\nl\nmail 4\n/new\nmail 5\nd\n").await;
    let told = format!("{asked}← sent\nI got: sent\n→ {call}\n← sent\nI got: sent\nsession cli-");
    assert!(shown.contains(&told), "{shown}");
    assert_eq!(shown.matches("? test::mail").count(), 2, "{shown}");
}

/// Without rules everything needs a person, and that is why.
#[tokio::test(flavor = "multi_thread")]
async fn who_decides_is_told_why() {
    let stage = Stage::ruled_by("rules: [{}]", Script::answer(answers)).await;
    let why = "\n  why: no rules are in force, ";
    let shown = chat(&stage, "mail 1\nd\n").await;
    let asked = format!("? test::mail {{\"to\":\"ada\"}}{why}");
    let (_, rest) = shown.split_once(&asked).unwrap();
    assert!(rest.lines().nth(1).unwrap().starts_with("  [a]pprove"), "{shown}");
    let ran = stage.run(&["run", "--approve", "all", "mail 2"]).await;
    let approved = format!("? test::mail {{\"to\":\"ada\"}}: approved{why}");
    assert!(ran.err.contains(&approved), "{}", ran.err);
}

/// What is long is not cut, and what cannot be seen is spelt out.
#[tokio::test(flavor = "multi_thread")]
async fn who_decides_sees_the_whole_call() {
    let long = "x".repeat(200);
    let arguments =
        json!({ "function": "test::mail", "payload": { "text": long, "to": "\u{202e}eve" } }).to_string();
    let stage = Stage::with(Script::answer(move |request| {
        if request.tool_results().is_empty() {
            Reply::calls([("c1", "agent_trigger", arguments.as_str())])
        } else {
            Reply::says("ok", 1)
        }
    }))
    .await;
    let shown = chat(&stage, "mail\nd\n").await;
    let asked = format!(
        "\n? test::mail\n  {{\n    \"text\": \"{}\",\n    \"to\": \"\\u{{202e}}eve\"\n  }}\n  [a]pprove",
        "x".repeat(200)
    );
    assert!(shown.contains(&asked), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_calls_are_asked_about_in_turn() {
    let stage = Stage::start().await;
    let shown = chat(&stage, "mails to both\na\nd\n").await;
    let (ada, bob) = ("? test::mail {\"to\":\"ada\"}", "? test::mail {\"to\":\"bob\"}");
    assert!(shown.find(ada).unwrap() < shown.find(bob).unwrap(), "{shown}");
    assert_eq!(
        (
            shown.matches("← sent").count(),
            shown.matches("✗ test::mail").count()
        ),
        (1, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_input_denies_what_nobody_can_approve() {
    let stage = Stage::start().await;
    let shown = chat(&stage, "mail ada\n").await;
    assert!(
        shown.contains("✗ test::mail: ") && shown.contains("nobody is there to approve it"),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn abort_ends_the_run() {
    let stage = Stage::start().await;
    let shown = chat(&stage, "mail ada\nabort\nhello\n").await;
    let (_, after) = shown.split_once("abort\n✗ test::mail: ").unwrap();
    assert!(after.ends_with("\n✗ stopped\nYou said: hello\n"), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_tell_what_there_is() {
    let stage = Stage::with(Script::answer(answers).with_models(Reply::models(["gpt-5", "gpt-6"]))).await;
    assert_eq!(
        chat(
            &stage,
            "/models\n/sessions\nhello\n/model openai::gpt-6\nhello\n/model\n/sessions\n/compact\n/nonsense\n"
        )
        .await,
        "openai::gpt-5\nopenai::gpt-6\nthere are none\n\
         ✗ which model? name one (--model, in a chat /model):\n  openai::gpt-5\n  openai::gpt-6\n\
         model openai::gpt-6\nYou said: hello\nmodel openai::gpt-6\n\
         s  2 entries  You said: hello\ncompacted 89 tokens\n\
         no such command: /nonsense; /help lists them\n"
    );
    let help = chat(&stage, "/help\n").await;
    assert!(help.contains("/compact") && help.contains("Ctrl-C"), "{help}");
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_is_asked_for_where_it_is_offered() {
    let stage = Stage::start().await;
    stage.offers("context-compaction::compact_session", |payload| async move {
        assert_eq!(
            payload,
            json!({"session_id": "s", "model": {"id": "gpt-5", "providerID": "openai"}})
        );
        Ok(json!({"status": "ok", "tokens_before": 1234}))
    });
    assert_eq!(chat(&stage, "/compact\n").await, "compacted 1234 tokens\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_resumed_where_it_waits() {
    let stage = Stage::start().await;
    let mut first = stage.begin(&["chat", "--session", "s"]);
    first.types("hello\nmail ada\n");
    first.says("[a]pprove").await;
    let mut second = stage.begin(&["chat"]);
    second.types("/resume s\na\n");
    let second = second.ends().await;
    let (_, shown) = second
        .out
        .split_once("session s; /help lists the commands\n")
        .unwrap();
    assert_eq!(
        shown,
        "> hello\n< You said: hello\n> mail ada\n\
         ? test::mail {\"to\":\"ada\"}\n  [a]pprove, [d]eny, a[l]ways, abort\n\
         ← sent\nI got: sent\n"
    );
    // The first one sees the decision of the second.
    first.says("I got: sent").await;
    assert_eq!(first.ends().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_stops_the_run_and_leaves_when_there_is_none() {
    let stage = Stage::with(Script::answer(|_| Reply::says("late", 1).after(Gate::new()))).await;
    let mut chat = stage.begin(&["chat", "--session", "s"]);
    chat.types("hello\n");
    let mut waiting = stage.model.open_replies();
    within(waiting.wait_for(|open| *open == 1)).await.unwrap();
    chat.interrupt();
    chat.says("✗ stopped").await;
    chat.types("/model\n");
    chat.says("model openai::gpt-5").await;
    chat.interrupt();
    assert_eq!(chat.ends().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_twice_leaves_a_run_that_goes_on() {
    let engine = Deaf::start().await;
    let chat = engine.asked(&["chat"], "hello\n").await;
    chat.interrupt();
    chat.says("this engine cannot stop a run: it goes on; Ctrl-C again leaves it")
        .await;
    chat.interrupt();
    assert_eq!(chat.ends().await.code, Some(130));
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_view_goes_on_when_the_engine_is_back() {
    let mut stage = Stage::start().await;
    let mut chat = stage.begin(&["chat", "--session", "s"]);
    chat.types("mail ada\n");
    chat.says("[a]pprove").await;
    stage.kill();
    chat.says("the engine is gone; waiting for it").await;
    stage.serve();
    stage.tools_are_back().await;
    chat.says("the engine is back").await;
    chat.types("a\nhello\n");
    let ran = chat.ends().await;
    assert_eq!(ran.code, Some(0));
    assert!(
        ran.out.contains("← sent\nI got: sent\nYou said: hello\n"),
        "{}",
        ran.out
    );
}
