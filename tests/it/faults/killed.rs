//! The engine is killed and comes back; the link to it breaks and heals.

use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use harness::bus::embedded::EmbeddedOptions;
use harness::bus::embedded::listener::ListenOptions;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::far::{ALLOWING, ASKING, EngineProcess, Far, SESSION, until};
use crate::support::engine::Engine;
use crate::support::proxy::{End, Mode};
use crate::turn::of_type;

/// Kills the engine and starts it again on the same data.
async fn restart(far: &Far, engine: EngineProcess, directory: &std::path::Path) -> EngineProcess {
    drop(engine);
    let engine = EngineProcess::start(directory).await;
    far.proxy.retarget(engine.address);
    engine
}

async fn decide(far: &Far, call: &str) {
    let decision =
        json!({ "session_id": SESSION, "function_call_id": call, "decision": "allow", "reason": null });
    until(async || {
        let reply = far.call("approval::resolve", decision.clone()).await.ok()?;
        (reply["ok"] == true).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_dies_in_mid_stream() {
    let data = tempfile::tempdir().unwrap();
    let engine = EngineProcess::start(data.path()).await;
    let far = Far::on(engine.address, ALLOWING).await;
    far.start("stream").await;
    until(async || (!of_type(&far.events().await, "message_update").is_empty()).then_some(())).await;
    let engine = restart(&far, engine, data.path()).await;
    far.gate.release();
    assert_eq!(
        far.is_sound().await,
        ["user stream", "assistant First half, second half."]
    );
    // The harness lived on: the model was not asked twice.
    let asked = far
        .model
        .requests()
        .iter()
        .filter(|request| request.last_user_text() == "stream")
        .count();
    assert_eq!(asked, 1);
    far.stop().await;
    drop(engine);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_dies_in_a_call_to_an_outside_function() {
    let data = tempfile::tempdir().unwrap();
    let engine = EngineProcess::start(data.path()).await;
    let far = Far::on(engine.address, ALLOWING).await;
    far.work.hold();
    far.start("go").await;
    until(async || (!far.work.counts().is_empty()).then_some(())).await;
    let engine = restart(&far, engine, data.path()).await;
    far.work.release();
    let transcript = far.is_sound().await;
    assert_eq!(
        transcript
            .iter()
            .filter(|line| !line.starts_with("result A "))
            .collect::<Vec<_>>(),
        ["user go", "assistant calls A", "assistant Done."]
    );
    // Its answer was lost with the engine, so nobody may say it went well.
    assert!(!transcript.contains(&"result A ok".to_owned()), "{transcript:?}");
    far.stop().await;
    drop(engine);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_dies_while_a_call_waits_for_a_person() {
    let data = tempfile::tempdir().unwrap();
    let engine = EngineProcess::start(data.path()).await;
    let far = Far::on(engine.address, ASKING).await;
    far.start("go").await;
    far.reaches("function_awaiting_approval").await;
    let engine = restart(&far, engine, data.path()).await;
    far.reaches("function_awaiting_approval").await;
    assert_eq!(far.work.counts(), []);
    decide(&far, "A").await;
    assert_eq!(
        far.is_sound().await,
        ["user go", "assistant calls A", "result A ok", "assistant Done."]
    );
    far.stop().await;
    drop(engine);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_engine_dies_while_a_decision_is_written() {
    let sweep = (0..5).map(|step| async move {
        let data = tempfile::tempdir().unwrap();
        let engine = EngineProcess::start(data.path()).await;
        let far = Far::on(engine.address, ASKING).await;
        far.start("go").await;
        far.reaches("function_awaiting_approval").await;
        // The moment of the kill moves over the writing; whoever got no answer asks again.
        let killed = async {
            tokio::time::sleep(Duration::from_millis(2 * step)).await;
            restart(&far, engine, data.path()).await
        };
        let ((), engine) = tokio::join!(decide(&far, "A"), killed);
        let transcript = far.is_sound().await;
        assert_eq!(
            transcript.last().map(String::as_str),
            Some("assistant Done."),
            "{transcript:?}"
        );
        // A kill right after the decision takes the call with it: it has a result then too, and did not run twice.
        let results: Vec<_> = transcript
            .iter()
            .filter(|line| line.starts_with("result A "))
            .collect();
        assert_eq!(results.len(), 1, "{transcript:?}");
        assert!(
            results != ["result A ok"] || far.work.counts().len() == 1,
            "{transcript:?}"
        );
        far.stop().await;
        drop(engine);
    });
    join_all(sweep).await;
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_link_breaks_at_random_moments() {
    // Most of each is the SDK's pause before it connects again.
    futures::stream::iter((1..=25).map(broken_link))
        .buffer_unordered(9)
        .collect::<()>()
        .await;
}

async fn broken_link(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    dice.below(1);
    let engine = Engine::start(EmbeddedOptions {
        worker_name: "engine".to_owned(),
        ..EmbeddedOptions::default()
    })
    .await;
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = engine.embedded.listen(socket, ListenOptions::default()).unwrap();
    let far = Far::on(address, ALLOWING).await;
    let breaking = async {
        tokio::time::sleep(Duration::from_millis(dice.below(250))).await;
        let pause = Duration::from_millis(dice.below(1_500));
        let end = if dice.below(2) == 0 { End::Fin } else { End::Rst };
        match dice.below(3) {
            0 => far.proxy.cut(end),
            1 => {
                far.proxy.shut(end);
                tokio::time::sleep(pause).await;
                far.proxy.reopen();
            }
            _ => {
                far.proxy.set(Mode::Hole);
                tokio::time::sleep(pause).await;
                far.proxy.set(Mode::Pass);
            }
        }
    };
    tokio::join!(far.start("two"), breaking);
    let transcript = far.is_sound().await;
    // A start that got no answer may have left its message, and is asked for again.
    let mut said: Vec<_> = transcript
        .iter()
        .filter(|line| !line.starts_with("result "))
        .collect();
    said.dedup();
    assert_eq!(
        said,
        [
            "user two",
            "assistant calls A",
            "assistant calls B",
            "assistant Done."
        ],
        "seed {seed}"
    );
    far.stop().await;
    assert_eq!(
        engine
            .call(
                "stream::list",
                json!({ "stream_name": "none", "group_id": "none" })
            )
            .await,
        Ok(Value::Array(Vec::new()))
    );
    engine.stop().await;
}
