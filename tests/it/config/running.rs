//! A changed file, and what a running program makes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::app::{App, Parts};
use harness::bus::{CallContext, CallOptions, FunctionDef};
use harness::config::{Config, EngineChoice, MapEnv};
use harness::scripted::{Gate, Reply, Script, Server};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::sync::Barrier;

use super::File;
use crate::support::engine::within;
use crate::turn::user;

/// Two calls of one message.
fn batch(number: usize) -> Reply {
    let arguments = json!({ "function": "test::work", "payload": { "batch": number } }).to_string();
    let ids = [format!("{number}a"), format!("{number}b")];
    Reply::calls(
        ids.iter()
            .map(|id| (id.as_str(), "agent_trigger", arguments.as_str())),
    )
}

/// Calls of the first batch count how many run beside each other; those of the second wait for one another.
fn work(most: Arc<AtomicUsize>) -> FunctionDef {
    let (now, both) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(2)));
    FunctionDef::ad_hoc("test::work", move |payload: Value, _| {
        let (now, most, both) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&both));
        async move {
            if payload["batch"] == 2 {
                both.wait().await;
                return Ok(json!("done"));
            }
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Long enough for another one to begin, if it may.
            tokio::time::sleep(Duration::from_millis(50)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(json!("done"))
        }
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c12_case_11_the_next_batch_uses_a_changed_number_of_parallel_calls() {
    let gate = Gate::new();
    let script = Script::queue([batch(1), batch(2).after(gate.clone()), Reply::says("done", 1)]);
    let model = Server::start(script).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules.yaml");
    std::fs::write(&rules, "rules: ['test::work']").unwrap();
    let settings = |parallel_calls: usize| {
        json!({
            "permissions_path": rules,
            "engine": { "data_dir": dir.path().join("data"), "durability": "normal", "listen": "127.0.0.1:0" },
            "http": { "listen": "" },
            "provider_openai": { "default_api_url": model.url() },
            "turn": { "parallel_calls": parallel_calls },
        })
        .to_string()
    };
    let file = File::new(&settings(1));
    let env = MapEnv::from([("OPENAI_API_KEY", "not-a-secret")]);
    let input = file.input(env.clone());
    let parts = Parts {
        config: Config::load(&input).unwrap().config,
        engine: EngineChoice::Embedded {
            reason: "test".into(),
        },
        env: Arc::new(env),
        workers: harness::workers::all(),
    };
    let mut app = within(App::start(parts)).await.unwrap();
    app.reload_on_change(input);
    let most = Arc::new(AtomicUsize::new(0));
    app.bus().register(work(Arc::clone(&most))).unwrap();
    let call = async |id: &str, payload: Value| {
        app.bus()
            .invoke(&CallContext::default(), id, payload, CallOptions::default())
            .await
            .unwrap()
    };
    let eventually = async |probe: &dyn Fn() -> bool| {
        within(async {
            while !probe() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    };
    let request =
        json!({ "session_id": "s", "provider": "openai", "model": "gpt-5", "messages": [user("go")] });
    assert_eq!(call("run::start", request).await["started"], true);
    eventually(&|| model.requests().len() == 2).await;
    assert_eq!(most.load(Ordering::SeqCst), 1);

    file.replace(&settings(2));
    eventually(&|| app.bus().config().turn.parallel_calls == 2).await;
    gate.release();
    within(async {
        while call("turn::get_state", json!({ "session_id": "s" })).await["state"] != "stopped" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(model.violations(), Vec::<String>::new());
    assert!(within(app.stop()).await);
}
