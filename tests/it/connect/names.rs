//! Who may have which name.

use std::time::Duration;

use harness::bus::iii::{Greeting, IiiOptions, greet};
use harness::error::Error;
use harness::ids::RandomIds;
use pretty_assertions::assert_eq;
use serde_json::json;

use super::{echo, echo_on, eventually, options, problem};
use crate::support::engine::within;
use crate::support::fake_engine::{FakeEngine, Script};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c00_case_38_registrations_count_once_the_name_is_known() {
    let script = Script {
        waits_for_name: true,
        ..Script::default()
    };
    let engine = FakeEngine::start(script).await;
    let program = echo_on(&engine, options(engine.address)).await;
    assert_eq!(problem(&program), None);
    let described = engine.frames("invokefunction");
    let described = described
        .iter()
        .find(|frame| frame["function_id"] == "engine::workers::register")
        .unwrap();
    assert_eq!(described["action"], json!({ "type": "void" }));
    let facts = &described["data"];
    assert_eq!(facts["name"], "harness");
    assert_eq!(facts["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(facts["description"], env!("CARGO_PKG_DESCRIPTION"));
    assert_eq!(facts["pid"], std::process::id());
    assert_eq!(facts.get("namespace"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c00_case_38_a_refused_function_leaves_the_others() {
    let script = Script {
        refuses_function: Some("test::taken"),
        ..Script::default()
    };
    let engine = FakeEngine::start(script).await;
    let program = echo_on(&engine, options(engine.address)).await;
    program.register(echo("test::taken")).unwrap();
    program.transport().settle().await.unwrap();
    assert_eq!(problem(&program).as_deref(), Some("not registered: test::taken"));
    let limit = std::time::Duration::from_secs(10);
    let answer = engine
        .invoke("test::echo", json!(1), json!({}), limit)
        .await
        .unwrap();
    assert_eq!(answer["result"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_worker_of_our_name_shows() {
    let engine = FakeEngine::start(Script::default()).await;
    let options = IiiOptions {
        heartbeat: Duration::from_secs(1),
        ..options(engine.address)
    };
    let program = echo_on(&engine, options).await;
    engine.rescript(|script| script.workers.push("harness"));
    program.transport().settle().await.unwrap();
    assert_eq!(
        problem(&program).as_deref(),
        Some("another worker named `harness` is connected")
    );
    engine.rescript(|script| {
        script.workers.pop();
    });
    eventually(|| problem(&program).is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_visit_finds_what_is_there() {
    let engine = FakeEngine::start(Script::default()).await;
    let visit =
        |name: &'static str, url: String| async move { within(greet(&url, None, name, &RandomIds)).await };
    assert_eq!(visit("harness", engine.url()).await, Ok(Greeting::Free));
    assert_eq!(visit("iii-state", engine.url()).await, Ok(Greeting::NameTaken));
    // Something that is no engine.
    let web = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", web.local_addr().unwrap());
    let answering = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = web.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(stream.read(&mut request).await.unwrap() > 0);
        let page = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(page).await.unwrap();
    };
    let (found, ()) = futures::future::join(visit("harness", url), answering).await;
    assert_eq!(found, Err(Error::Unavailable("refused with HTTP 404".into())));
}
