//! `harness run`: one prompt.

use harness::scripted::{Gate, Reply, Script, Step};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::home::Ran;
use super::stage::{Deaf, Stage, answers};

/// Exit code, stdout, stderr.
fn all(ran: &Ran) -> (Option<i32>, &str, &str) {
    (ran.code, &ran.out, &ran.err)
}

/// A model that says one word and then waits.
fn hesitating(gate: &Gate) -> Script {
    let delta = |text: &str| {
        Step::send(format!(
            "data: {}\n\n",
            json!({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
        ))
    };
    let gate = gate.clone();
    Script::answer(move |request| {
        if request.last_user_text() != "wait" {
            return answers(request);
        }
        let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
        Reply::raw([
            delta("One"),
            Step::Wait(gate.clone()),
            delta(" two"),
            Step::send(format!("data: {end}\n\ndata: [DONE]\n\n")),
        ])
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_is_all_that_is_on_stdout() {
    let stage = Stage::start().await;
    let ran = stage.run(&["run", "hello there"]).await;
    assert_eq!(all(&ran), (Some(0), "You said: hello there\n", ""));
    let ran = stage.run_with(&["run", "-"], "from\nstdin\n").await;
    assert_eq!(all(&ran), (Some(0), "You said: from\nstdin\n", ""));
    assert_eq!(stage.model.violations(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_told_on_stderr() {
    let stage = Stage::start().await;
    let ran = stage.run(&["run", "weather please"]).await;
    assert_eq!(
        all(&ran),
        (
            Some(0),
            "I got: rain\n",
            "→ test::weather {\"city\":\"Oslo\"}\n← 14 °C rain\n"
        )
    );
    let ran = stage.run(&["run", "wipe it"]).await;
    assert_eq!(ran.code, Some(0));
    assert!(
        ran.err.starts_with("→ test::wipe {}\n✗ test::wipe: ") && ran.err.contains("blocked by policy"),
        "{}",
        ran.err
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_are_the_events_of_the_stream() {
    let stage = Stage::start().await;
    let ran = stage
        .run(&["run", "--json", "--session", "s", "weather please"])
        .await;
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    let lines: Vec<Value> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let events = stage
        .call(
            "stream::list",
            json!({"stream_name": "agent::events", "group_id": "s"}),
        )
        .await;
    assert_eq!(Value::from(lines), events);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_approves_is_denied() {
    let stage = Stage::start().await;
    let ran = stage.run(&["run", "--session", "s", "mail ada"]).await;
    assert_eq!(ran.code, Some(5), "{}", ran.err);
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(
        &lines[..2],
        [
            "→ test::mail {\"to\":\"ada\"}",
            "? test::mail {\"to\":\"ada\"}: denied, nobody is asked (--approve)"
        ]
    );
    assert!(
        lines[2].starts_with("✗ test::mail: ") && lines[2].contains("nobody is there to approve it"),
        "{lines:?}"
    );
    assert_eq!(stage.transcript("s").await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_approved_when_that_is_wanted() {
    let stage = Stage::start().await;
    let ran = stage.run(&["run", "--approve", "all", "mails to both"]).await;
    let (ada, bob) = ("test::mail {\"to\":\"ada\"}", "test::mail {\"to\":\"bob\"}");
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), "I got: sent\n"));
    for line in [
        format!("→ {ada}"),
        format!("→ {bob}"),
        format!("? {ada}: approved"),
        format!("? {bob}: approved"),
        "← sent".to_owned(),
    ] {
        assert!(ran.err.lines().any(|said| said == line), "{line}\n{}", ran.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_asked_about_when_that_is_wanted() {
    let stage = Stage::start().await;
    for (input, code, out) in [
        ("what?\na\n", Some(0), "I got: sent\n"),
        ("d too risky\n", Some(0), ""),
        ("", Some(5), ""),
    ] {
        let ran = stage
            .run_with(&["run", "--approve", "ask", "mail ada"], input)
            .await;
        assert_eq!(ran.code, code, "{}", ran.err);
        assert!(ran.out.starts_with(out), "{}", ran.out);
        assert!(
            ran.err.contains("[a]pprove, [d]eny, a[l]ways, abort\n"),
            "{}",
            ran.err
        );
    }
    let refused = stage.run(&["run", "--approve", "ask", "-"]).await;
    assert_eq!(
        all(&refused),
        (
            Some(2),
            "",
            "--approve ask: stdin has the prompt, so it cannot answer\n"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_fails_exits_with_1() {
    let stage = Stage::start().await;
    let ran = stage.run(&["run", "fail now"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(
        ran.err.starts_with("✗ the response failed: ") && ran.err.contains("no such luck"),
        "{}",
        ran.err
    );
    let ran = stage.run(&["run", "  "]).await;
    assert_eq!(all(&ran), (Some(2), "", "the prompt is empty\n"));
    let ran = stage.run(&["run", "--session", "a/b", "hello"]).await;
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""));
    assert!(ran.err.contains("session_id"), "{}", ran.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_continued_with_its_model() {
    let stage =
        Stage::with(Script::answer(answers).with_models(Reply::models(["gpt-5", "gpt-5-mini"]))).await;
    let ran = stage.run(&["run", "--session", "s", "hello"]).await;
    assert_eq!(
        all(&ran),
        (
            Some(2),
            "",
            "which model? name one (--model, in a chat /model):\n  openai::gpt-5\n  openai::gpt-5-mini\n"
        )
    );
    let first = ["run", "--session", "s", "--model", "openai::gpt-5-mini", "one"];
    assert_eq!(all(&stage.run(&first).await), (Some(0), "You said: one\n", ""));
    assert_eq!(
        all(&stage.run(&["run", "--session", "s", "two"]).await),
        (Some(0), "You said: two\n", "")
    );
    let requests = stage.model.requests();
    let models: Vec<&str> = requests.iter().map(harness::scripted::Request::model).collect();
    assert_eq!(models, ["gpt-5-mini", "gpt-5-mini"]);
    assert_eq!(
        stage.transcript("s").await,
        [
            "user: one",
            "assistant: You said: one",
            "user: two",
            "assistant: You said: two"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_run_may_do_is_sent_along() {
    let stage = Stage::start().await;
    let settings = [
        "run",
        "--system",
        "Be brief.",
        "--thinking",
        "high",
        "--max-turns",
        "1",
        "--mode",
        "ask",
        "--permissions",
        "full",
        "--session",
        "s",
        "--provider",
        "openai",
        "--model",
        "gpt-5",
        "mail ada",
    ];
    let ran = stage.run(&settings).await;
    // Full permissions: nobody is asked. One turn: the result is never looked at.
    assert_eq!(
        (ran.code, ran.err.lines().take(2).collect::<Vec<_>>()),
        (Some(0), vec!["→ test::mail {\"to\":\"ada\"}", "← sent"])
    );
    let requests = stage.model.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(
        requests[0].rows()[0],
        json!({"role": "system", "content": "Be brief."})
    );
    assert_eq!(requests[0].body["reasoning_effort"], "high");
    let request = stage
        .call("state::get", json!({"scope": "run_request", "key": "s"}))
        .await;
    let state = stage.call("turn::get_state", json!({"session_id": "s"})).await;
    assert_eq!(
        (&request["mode"], &state["max_turns"]),
        (&json!("ask"), &json!(1))
    );
    let settings = stage
        .call("approval::get_settings", json!({"session_id": "s"}))
        .await;
    assert_eq!(settings["mode"], "full");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_session_takes_nothing() {
    let gate = Gate::new();
    let stage = Stage::with(hesitating(&gate)).await;
    let first = stage.begin(&["run", "--session", "s", "wait"]);
    first.says("One").await;
    let second = stage.run(&["run", "--session", "s", "hello"]).await;
    assert_eq!(
        all(&second),
        (Some(1), "", "session s is busy: its run is still going on\n")
    );
    gate.release();
    let first = first.ends().await;
    assert_eq!(all(&first), (Some(0), "One two\n", ""));
    assert_eq!(stage.transcript("s").await, ["user: wait", "assistant: One two"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_stops_the_run() {
    let stage = Stage::with(hesitating(&Gate::new())).await;
    let run = stage.begin(&["run", "--session", "s", "wait"]);
    run.says("One").await;
    run.interrupt();
    assert_eq!(all(&run.ends().await), (Some(130), "One\n", "✗ stopped\n"));
    let state = stage.call("turn::get_state", json!({"session_id": "s"})).await;
    assert_eq!(state["state"], "stopped");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_somebody_else_stops_exits_with_4() {
    let stage = Stage::with(hesitating(&Gate::new())).await;
    let run = stage.begin(&["run", "--session", "s", "wait"]);
    run.says("One").await;
    stage.call("run::abort", json!({"session_id": "s"})).await;
    assert_eq!(all(&run.ends().await), (Some(4), "One\n", "✗ stopped\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_leaves_a_run_that_the_engine_cannot_stop() {
    let engine = Deaf::start().await;
    let run = engine.asked(&["run", "--session", "s", "hello"], "").await;
    run.interrupt();
    assert_eq!(
        all(&run.ends().await),
        (
            Some(130),
            "",
            "this engine cannot stop a run; that of session s goes on\n"
        )
    );
    engine.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_followed_over_a_crash_of_the_engine() {
    let gate = Gate::new();
    let mut stage = Stage::with(hesitating(&gate)).await;
    let run = stage.begin(&["run", "--session", "s", "wait"]);
    run.says("One").await;
    stage.kill();
    run.says("the engine is gone; waiting for it").await;
    // One for each process: the first reply may still be waiting.
    gate.release();
    gate.release();
    stage.serve();
    let ran = run.ends().await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (Some(0), "One\nOne two\n"),
        "{}",
        ran.err
    );
    assert_eq!(
        ran.err,
        "the engine is gone; waiting for it\nthe engine is back\n"
    );
    stage.tools_are_back().await;
    assert_eq!(
        stage.transcript("s").await,
        ["user: wait", "assistant: One", "assistant: One two"]
    );
}
