//! A process that is frozen, such as that of a paused virtual machine, and wakes up when its lease has long lapsed.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use harness::config::{Env, ProcessEnv};
use harness::scripted::{Gate, Reply};
use pretty_assertions::assert_eq;
use serde_json::json;

use super::processes::one_end;
use super::{Town, problem, program};
use crate::crash::place::Life;
use crate::support::engine::within;
use crate::support::proxy::{End, Proxy};
use crate::turn::user;

/// Set in the process that is frozen: the engine, and the model server.
const ENGINE: &str = "FROZEN_ENGINE";
const MODEL: &str = "FROZEN_MODEL";

const SERVES: &str = "it serves";

/// This test once more, as a process of its own that is told where to go. A real program has a lease of 30 s.
fn apart(town: &Town, address: SocketAddr) -> Life {
    let mut program = Command::new(std::env::current_exe().unwrap());
    program
        .args([
            "--exact",
            "--nocapture",
            "ownership::frozen::frozen_while_the_model_streams",
        ])
        .env(ENGINE, address.to_string())
        .env(MODEL, town.server.url());
    Life::of(&mut program, town.log().1)
}

/// What that process does until it is killed: it serves, and says so, or why it does not.
async fn be_frozen(engine: &str) {
    let life = async {
        let t = program(engine.parse().unwrap(), ProcessEnv.var(MODEL).unwrap()).await;
        let mut said = None;
        loop {
            let problem = problem(t.bus());
            if said.as_ref() != Some(&problem) {
                eprintln!("{}", if problem.is_empty() { SERVES } else { &problem });
                said = Some(problem);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    // Also when nobody is left to kill it.
    tokio::time::timeout(Duration::from_mins(2), life).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frozen_while_the_model_streams() {
    if let Some(engine) = ProcessEnv.var(ENGINE) {
        return be_frozen(&engine).await;
    }
    let gate = Gate::new();
    let held = gate.clone();
    let first_asked = AtomicBool::new(true);
    let town = Town::start(move |request| {
        if first_asked.swap(false, SeqCst) {
            return Reply::says("Too late", 1).after(held.clone());
        }
        Reply::says(format!("Re: {}", request.last_user_text()), 1)
    })
    .await;
    let proxy = Proxy::start(town.address).await;
    let first = apart(&town, proxy.address());
    first.says(SERVES).await;
    let freezing = async {
        town.run("hello").await;
        town.eventually(async || (town.asked("gpt-5") == 1).then_some(()))
            .await;
        first.signal("STOP");
        proxy.shut(End::Rst);
    };
    let (second, ()) = futures::join!(within(town.join(town.address)), freezing);
    one_end(&town.ended().await);
    // The answer that it waited for is there when it wakes up.
    gate.release();
    first.signal("CONT");
    first.says("standby at").await;
    proxy.reopen();
    first.says("a worker named `harness` is connected").await;
    assert_eq!(town.serving().await, 1);
    one_end(&town.events().await);
    assert_eq!(town.transcript().await, ["user hello", "assistant Re: hello"]);
    assert_eq!(town.asked("gpt-5"), 2);
    // It is as good as a new one.
    second.stop().await;
    let start =
        json!({ "session_id": "later", "provider": "openai", "model": "gpt-5", "messages": [user("hello")] });
    assert_eq!(town.ok("run::start", start).await["started"], true);
}
