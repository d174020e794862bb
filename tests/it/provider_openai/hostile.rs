//! Servers that mean no good.

use harness::scripted::{Gate, Reply, Script, Step};
use pretty_assertions::assert_eq;

use super::*;

three_ways! {
    c08_weakness_20_an_endless_refusal_that_echoes_the_key_is_cut_and_masked,
}

async fn c08_weakness_20_an_endless_refusal_that_echoes_the_key_is_cut_and_masked() {
    let echo = format!("\u{1b}[1mIncorrect API key provided: {KEY}. ");
    let endless = Reply::raw([Step::Forever(echo.into())]);
    let mut refusal = endless.with_header("content-type", "text/plain");
    refusal = refusal.with_status(401);
    let in_stream = format!(
        "data: {}\n\n",
        json!({"error": {"message": format!("bad key {KEY}")}})
    );
    let rig = Rig::start(queue([refusal, Reply::raw([Step::send(in_stream)])])).await;
    let turn = rig.say("hi").await;
    let (_, kind, text) = turn.failure();
    assert_eq!(kind, "auth_expired");
    assert!(
        text.starts_with("[1mIncorrect API key provided: [REDACTED]. "),
        "{text}"
    );
    assert_eq!(text.chars().count(), 1024);
    assert_eq!(
        rig.say("hi").await.failure(),
        ("error", "transient", "bad key [REDACTED]")
    );
}

#[tokio::test]
async fn hostile_bodies_end_in_one_error() {
    let html =
        Reply::raw([Step::send("<html>\n\n<body>hi</body></html>")]).with_header("content-type", "text/html");
    let long_line = Step::send([b"data: ".to_vec(), vec![b'x'; 5 * 1024 * 1024]].concat());
    let replies = [
        html,
        Reply::raw([]),
        Reply::raw([Step::send("data: {garbage\n\ndata: 7\n\n")]),
        Reply::raw([long_line]),
        Reply::raw([Step::Forever(vec![b'x'; 64 * 1024].into())]),
        Reply::raw([Step::Forever(
            [vec![b':'; 64 * 1024], b"\n\n".to_vec()].concat().into(),
        )]),
        Reply::raw([
            Step::send(chunk("a")),
            Step::send("data: {\"error\":\"overloaded\"}\n\n"),
            Step::Wait(Gate::new()),
        ]),
    ];
    let rig = Rig::start(Script::queue(replies)).await;
    for expected in [
        "non-SSE body (text/html)",
        "non-SSE body (text/event-stream)",
        "non-SSE body (text/event-stream)",
        "stream read failed: a line is longer than 1048576 bytes",
        "stream read failed: a line is longer than 1048576 bytes",
        "stream read failed: the body is longer than 67108864 bytes",
        "overloaded",
    ] {
        assert_eq!(rig.say("hi").await.failure(), ("error", "transient", expected));
    }
    rig.server_is_idle().await;
}
