//! A run whose program is cut off from the engine while another one stands by.

use harness::scripted::Reply;
use pretty_assertions::assert_eq;
use serde_json::Value;

use super::Town;
use crate::crash::model::half;
use crate::support::engine::within;
use crate::support::proxy::{End, Proxy};
use crate::turn::of_type;

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
    let first = within(town.join(proxy.address())).await;
    town.run("hello").await;
    let has_text = |event: &Value| event["llm_event"]["type"] == "text_delta";
    town.eventually(async || town.events().await.iter().any(has_text).then_some(()))
        .await;
    let mut streaming = town.server.open_replies();
    assert_eq!(*streaming.borrow_and_update(), 1);
    let (second, ()) = futures::future::join(within(town.join(town.address)), async {
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
