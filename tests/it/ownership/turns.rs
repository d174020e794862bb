//! A run whose program is cut off from the engine while another one stands by.

use std::sync::Arc;
use std::time::Duration;

use harness::bus::Transport;
use harness::bus::iii::Iii;
use harness::config::Config;
use harness::scripted::Reply;
use pretty_assertions::assert_eq;
use serde_json::Value;

use super::{Town, joining};
use crate::crash::model::half;
use crate::crash::place::KEY;
use crate::support::engine::within;
use crate::support::proxy::{End, Proxy};
use crate::support::{TestBus, TestOptions};
use crate::turn::of_type;

async fn program(town: &Town, address: std::net::SocketAddr) -> TestBus {
    let mut config = Config::default();
    config.turn.step_backoff_ms = 10;
    config.provider_openai.default_api_url = town.server.url();
    let options = joining(address, Duration::from_secs(2));
    TestBus::with(TestOptions {
        config,
        env: [(KEY.to_owned(), "not-a-secret".to_owned())].into(),
        wrap: Box::new(move |_| Iii::new(options) as Arc<dyn Transport>),
        ..TestOptions::default()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_driven_by_one_program_at_a_time() {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let town = Town::start(
        move |_| match asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => half("Half an "),
            _ => Reply::says("whole", 1),
        },
    )
    .await;
    let proxy = Proxy::start(town.address).await;
    let first = within(program(&town, proxy.address())).await;
    town.run("hello").await;
    let has_text = |event: &Value| event["llm_event"]["type"] == "text_delta";
    town.eventually(async || town.events().await.iter().any(has_text).then_some(()))
        .await;
    let mut streaming = town.server.open_replies();
    assert_eq!(*streaming.borrow_and_update(), 1);
    let (second, ()) = futures::future::join(within(program(&town, town.address)), async {
        proxy.shut(End::Rst);
        // The request of the one that was cut off is given up before another one can be made.
        within(streaming.wait_for(|open| *open == 0)).await.unwrap();
        assert_eq!(town.asked("gpt-5"), 1);
    })
    .await;
    let events = town.ended().await;
    assert_eq!(of_type(&events, "agent_end").len(), 1, "{events:#?}");
    assert_eq!(town.asked("gpt-5"), 2);
    proxy.reopen();
    town.eventually(async || {
        let problem = first.bus().transport().info().problem.unwrap_or_default();
        problem.starts_with("standby at").then_some(())
    })
    .await;
    let transcript = town.transcript().await;
    assert_eq!(
        transcript,
        ["user hello", "assistant Half an  (error)", "assistant whole"]
    );
    assert_eq!(of_type(&town.events().await, "agent_end").len(), 1);
    first.stop().await;
    second.stop().await;
}
