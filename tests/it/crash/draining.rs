//! What is asked of a process that was told to stop and waits for its calls.

use pretty_assertions::assert_eq;
use serde_json::json;

use super::model::{Does, Model};
use super::outcome::outcome;
use super::place::{ALLOWING, Place};
use crate::support::ws::Ws;
use crate::turn::user;

#[tokio::test]
async fn a_run_that_comes_too_late_is_refused_and_stores_nothing() {
    let model = Model::new(&[("A", Does::AskSlow)]);
    let place = Place::new(&model, ALLOWING);
    place.accept("go").await;
    place.configure(60_000);
    let mut life = place.start();
    let mut client = Ws::join(life.listens().await).await;
    place
        .eventually(|| (model.asked("slow") == 1).then_some(()))
        .await;
    life.signal("TERM");
    life.says("stopping").await;
    let request =
        json!({ "session_id": "late", "provider": "openai", "model": "gpt-5", "messages": [user("hello")] });
    let reply = client.call("run::start", request).await;
    assert_eq!(
        (&reply["error"]["code"], &reply["error"]["message"]),
        (
            &json!("invocation_failed"),
            &json!("the program is stopping; start the run again once it is back")
        )
    );
    let read = json!({ "session_id": "late" });
    assert_eq!(
        client.ok("session-tree::messages", read).await,
        json!({ "messages": [] })
    );
    model.slow.release();
    assert_eq!(life.exit().await.code(), Some(0), "{}", life.log());
    place.finish().await;
    assert_eq!(
        outcome(&place, &model).await.transcript,
        ["user go", "assistant calls A", "result A ok", "assistant Done."]
    );
}
