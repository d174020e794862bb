//! Whole turns against a model server that fails, over real HTTP: the run ends with a clear error, the transcript stays
//! fit for use, and the credential is seen nowhere.

use std::io::{Read, Write};
use std::net::TcpListener;

use harness::scripted::{Gate, Reply, Script, Step};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::model_rig::{KEY, ModelRig};
use super::turn::{lines, of_type, said};

/// Milliseconds; waited out by the cases that hang.
const SHORT_MS: u64 = 200;

/// A reply and what must come of it.
struct Failure {
    reply: Reply,
    kind: &'static str,
    /// Beginning of the error message.
    text: &'static str,
    /// Content that is kept.
    content: Value,
}

fn failure(reply: Reply, kind: &'static str, text: &'static str) -> Failure {
    Failure {
        reply,
        kind,
        text,
        content: json!([]),
    }
}

fn broken(reply: Reply, text: &'static str, content: Value) -> Failure {
    Failure {
        content,
        ..failure(reply, "transient", text)
    }
}

fn chunk(delta: Value) -> Step {
    let chunk = json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": null }] });
    Step::send(format!("data: {chunk}\n\n"))
}

fn half() -> Step {
    chunk(json!({ "content": "half" }))
}

/// A call whose arguments have only begun.
fn half_a_call() -> Step {
    chunk(
        json!({ "tool_calls": [{ "index": 0, "id": "c1", "type": "function",
        "function": { "name": "agent_trigger", "arguments": "{\"function\":\"free\",\"payload\":{" } }] }),
    )
}

fn said_half() -> Value {
    json!([{ "type": "text", "text": "half" }])
}

/// Runs into each failure in a session of its own, then goes on in it.
async fn each(failures: Vec<Failure>) {
    let replies = failures
        .iter()
        .map(|failure| failure.reply.clone())
        .collect::<Vec<_>>();
    // The session's name says which failure is due; whoever asks for more gets it.
    let script = Script::answer(
        move |request| match request.last_user_text().strip_prefix("fail ") {
            Some(n) => replies[n.parse::<usize>().unwrap()].clone(),
            None => Reply::says("fine", 2),
        },
    );
    let rig = ModelRig::with(script, |options| {
        options.config.provider.headers_timeout_ms = SHORT_MS;
        options.config.provider.idle_timeout_ms = SHORT_MS;
    })
    .await;
    let free = rig.t.record("free", json!({}));
    for (n, failure) in failures.iter().enumerate() {
        let session = format!("s{n}");
        let events = rig.run(&session, &format!("fail {n}"), 1).await;
        check_failed(&rig, &session, &events, failure).await;
    }
    rig.t
        .reconfigure(|config| config.provider = harness::config::Config::default().provider);
    for n in 0..failures.len() {
        let session = format!("s{n}");
        let events = rig.run(&session, "and now?", 2).await;
        assert_eq!(lines(&events).last().unwrap(), "agent_end");
        let complete = of_type(&events, "message_complete")[0];
        assert_eq!(complete["message"]["stop_reason"], "end", "{n}: {complete}");
        let told: Vec<String> = rig.transcript(&session).await.iter().map(said).collect();
        assert_eq!(told.len(), 4, "{told:?}");
        assert_eq!(told[2..], ["user and now?", "assistant fine"]);
    }
    assert_eq!(rig.server.violations(), Vec::<String>::new());
    assert_eq!(free.count(), 0, "a call was run that the model never finished");
    assert!(!rig.everything().await.contains(KEY));
    assert!(
        rig.server
            .requests()
            .iter()
            .all(|request| request.header("authorization").ends_with(KEY))
    );
    rig.t.stop().await;
}

/// What every failed run looks like.
async fn check_failed(rig: &ModelRig, session: &str, events: &[Value], failure: &Failure) {
    let completes = of_type(events, "message_complete");
    assert_eq!(completes.len(), 1, "{session}: {:?}", lines(events));
    let message = &completes[0]["message"];
    let told = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        (told("stop_reason").as_str(), told("error_kind").as_str()),
        ("error", failure.kind),
        "{session}: {message}"
    );
    assert!(
        told("error_message").starts_with(failure.text),
        "{session}: {message}"
    );
    assert_eq!(message["content"], failure.content, "{session}");
    assert_eq!(
        (told("provider"), told("model")),
        ("openai".to_owned(), "gpt-5".to_owned())
    );

    let tail = lines(events);
    assert_eq!(
        tail[tail.len() - 4..],
        ["complete error", "turn_end 0", "updated stopped", "agent_end"]
    );
    assert_eq!(&of_type(events, "turn_end")[0]["message"], message);
    let view = rig
        .t
        .ok("turn::get_state", json!({ "session_id": session }))
        .await;
    assert_eq!(view["state"], "stopped");
    let transcript = rig.transcript(session).await;
    assert_eq!(transcript.len(), 2, "{session}");
    assert_eq!(&transcript[1], message);
}

#[tokio::test]
async fn refusals() {
    let slow_down = || Reply::fails(429, r#"{"error":{"message":"slow down"}}"#);
    each(vec![
        failure(
            Reply::fails(401, r#"{"error":{"message":"Incorrect API key"}}"#),
            "auth_expired",
            "Incorrect API key",
        ),
        failure(
            slow_down().with_header("retry-after", "0"),
            "rate_limited",
            "slow down",
        ),
        failure(slow_down(), "rate_limited", "slow down"),
        failure(Reply::fails(500, r#"{"error":"boom"}"#), "transient", "boom"),
        failure(Reply::fails(500, ""), "transient", "openai http 500"),
        failure(
            Reply::fails(503, "<html>down</html>").with_header("content-type", "text/html"),
            "transient",
            "<html>",
        ),
        failure(
            Reply::fails(400, r#"{"error":{"message":"bad field"}}"#),
            "permanent",
            "bad field",
        ),
        failure(
            Reply::fails(400, r#"{"error":{"message":"maximum context length is 8"}}"#),
            "context_overflow",
            "maximum context length",
        ),
    ])
    .await;
}

#[tokio::test]
async fn answers_that_are_none() {
    let html = Reply::fails(200, "<html>\n\n<body>hi</body></html>").with_header("content-type", "text/html");
    each(vec![
        failure(html, "transient", "non-SSE body (text/html)"),
        failure(Reply::raw([]), "transient", "non-SSE body"),
        failure(Reply::fails(200, ""), "transient", "non-SSE body"),
        failure(
            Reply::raw([Step::send("data: {garbage\n\ndata: 7\n\ndata: [1]\n\n")]),
            "transient",
            "non-SSE body",
        ),
        failure(
            Reply::raw([Step::send(vec![0xFF, 0xFE, b'\n', b'\n'])]),
            "transient",
            "",
        ),
    ])
    .await;
}

#[tokio::test]
async fn streams_that_end_too_early() {
    let garbage_between = Reply::raw([
        half(),
        Step::send("data: {\"choices\": 7}\n\nevent: x\n\n"),
        Step::Break,
    ]);
    each(vec![
        broken(Reply::raw([half()]), "stream closed mid-response", said_half()),
        broken(
            Reply::raw([half(), Step::Break]),
            "stream read failed",
            said_half(),
        ),
        broken(garbage_between, "stream read failed", said_half()),
        broken(
            Reply::raw([
                half(),
                Step::send("data: {\"error\":{\"message\":\"overloaded\"}}\n\n"),
            ]),
            "overloaded",
            said_half(),
        ),
        failure(
            Reply::raw([half_a_call()]),
            "transient",
            "stream closed mid-response",
        ),
        failure(
            Reply::raw([half_a_call(), Step::Break]),
            "transient",
            "stream read failed",
        ),
    ])
    .await;
}

#[tokio::test]
async fn servers_that_hang() {
    let silent = Step::Wait(Gate::new());
    each(vec![
        failure(
            Reply::hangs(Gate::new()),
            "transient",
            "openai timed out: no answer within 200 ms",
        ),
        failure(
            Reply::raw([silent.clone()]),
            "transient",
            "timed out: no data for 200 ms",
        ),
        broken(
            Reply::raw([half(), silent]),
            "timed out: no data for 200 ms",
            said_half(),
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_server_that_tells_the_key_does_not_make_it_known() {
    let script = Script::answer(|request| {
        let told = format!("Incorrect API key provided: {}", request.header("authorization"));
        match request.last_user_text().as_str() {
            "401" => Reply::fails(401, json!({ "error": { "message": told } }).to_string()),
            "plain" => Reply::fails(403, told),
            "stream" => Reply::raw([
                half(),
                Step::send(format!("data: {}\n\n", json!({ "error": told }))),
            ]),
            _ => Reply::says("fine", 1),
        }
    });
    let rig = ModelRig::start(script).await;
    for (n, ask) in ["401", "plain", "stream", "go on"].into_iter().enumerate() {
        let events = rig.run("s", ask, n + 1).await;
        let complete = of_type(&events, "message_complete")[0].to_string();
        assert_eq!(complete.contains("[REDACTED]"), ask != "go on", "{complete}");
    }
    let error = rig.t.ok(
        "provider::openai::complete",
        json!({ "model": "gpt-5", "messages": [super::turn::user("401")] }),
    );
    assert!(!error.await.to_string().contains(KEY));
    assert!(!rig.everything().await.contains(KEY));
    assert_eq!(rig.server.violations(), Vec::<String>::new());
    rig.t.stop().await;
}

#[tokio::test]
async fn a_failure_after_a_call_keeps_call_and_result() {
    let script = Script::queue([
        Reply::calls([("c1", "agent_trigger", r#"{"function":"free","payload":{"n":1}}"#)]),
        Reply::fails(500, "boom"),
        Reply::says("fine", 1),
    ]);
    let rig = ModelRig::start(script).await;
    let free = rig.t.record("free", json!({ "ok": 1 }));
    let events = rig.run("s", "go", 1).await;
    let tail = lines(&events);
    assert_eq!(
        tail[tail.len() - 4..],
        ["complete error", "turn_end 0", "updated stopped", "agent_end"]
    );
    rig.run("s", "again", 2).await;
    assert_eq!(free.all(), [json!({ "n": 1 })]);
    let told: Vec<String> = rig.transcript("s").await.iter().map(said).collect();
    assert_eq!(
        told,
        [
            "user go",
            "assistant calls free",
            r#"c1 {"ok":1}"#,
            "assistant ",
            "user again",
            "assistant fine"
        ]
    );
    let roles: Vec<_> = rig.server.requests()[2]
        .rows()
        .iter()
        .map(|row| row["role"].clone())
        .collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "user"]);
    assert_eq!(rig.server.violations(), Vec::<String>::new());
    rig.t.stop().await;
}

#[tokio::test]
async fn a_passing_refusal_is_tried_again_within_the_turn() {
    for refusal in [
        Reply::fails(429, "slow down").with_header("retry-after", "0"),
        Reply::fails(503, "busy"),
        Reply::raw([Step::Break]),
    ] {
        let script = Script::queue([refusal, Reply::says("fine", 1)]);
        let rig = ModelRig::with(script, |options| options.config.provider.max_retries = 1).await;
        let events = rig.run("s", "go", 1).await;
        assert_eq!(of_type(&events, "message_complete").len(), 1);
        let told: Vec<String> = rig.transcript("s").await.iter().map(said).collect();
        assert_eq!(told, ["user go", "assistant fine"]);
        assert_eq!(rig.server.requests().len(), 2);
        rig.t.stop().await;
    }
}

#[tokio::test]
async fn a_wait_that_is_too_long_ends_the_turn_and_says_so() {
    let script = Script::queue([
        Reply::fails(429, "slow down").with_header("retry-after", "3600"),
        Reply::says("fine", 1),
    ]);
    let rig = ModelRig::with(script, |options| options.config.provider.max_retries = 2).await;
    let events = rig.run("s", "go", 1).await;
    let message = &of_type(&events, "message_complete")[0]["message"];
    assert_eq!(message["error_kind"], "rate_limited");
    assert_eq!(
        message["error_message"],
        "slow down (the server asks to wait 3600 s)"
    );
    assert_eq!(rig.server.requests().len(), 1);
    rig.run("s", "again", 2).await;
    assert_eq!(rig.server.violations(), Vec::<String>::new());
    rig.t.stop().await;
}

#[tokio::test]
async fn connections_that_end_before_the_headers_and_nobody_at_all() {
    let rig = ModelRig::start(Script::answer(|_| Reply::says("fine", 1))).await;
    // Three connections that end badly; then the listener is gone and nobody answers.
    let rude = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = rude.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        for answer in [&b""[..], b"HTTP/1.1 200", b"no HTTP at all\r\n\r\n"] {
            let (mut connection, _) = rude.accept().unwrap();
            let mut some = [0; 64];
            assert!(connection.read(&mut some).unwrap() > 0);
            connection.write_all(answer).unwrap();
        }
    });
    let configure = async |url: &str| {
        let value = json!({ "permissions": { "default_mode": "manual" }, "providers": { "openai": { "api_url": url } } });
        rig.t
            .ok("configuration::set", json!({ "id": "harness", "value": value }))
            .await;
    };
    let url = format!("http://{address}/v1/chat/completions");
    for session in ["s0", "s1", "s2", "nobody"] {
        configure(&url).await;
        let events = rig.run(session, "fail", 1).await;
        let failure = failure(Reply::raw([]), "transient", "openai fetch failed: ");
        check_failed(&rig, session, &events, &failure).await;
        configure(&rig.server.url()).await;
        rig.run(session, "and now?", 2).await;
        let told: Vec<String> = rig.transcript(session).await.iter().map(said).collect();
        assert_eq!(told[2..], ["user and now?", "assistant fine"]);
    }
    thread.join().unwrap();
    assert!(!rig.everything().await.contains(KEY));
    assert_eq!(rig.server.violations(), Vec::<String>::new());
    rig.t.stop().await;
}
