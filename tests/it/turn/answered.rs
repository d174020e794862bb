//! A model's answer that is stored already is found wherever it stands.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Rig, of_type, said, user};
use crate::support::stub::{message, says};
use crate::support::way::Way;

/// It may be there without its record on an engine that cannot commit at once.
#[tokio::test]
async fn c02_weakness_10_an_answer_with_something_behind_it_is_not_asked_for_again() {
    Way::Connect.go(answered_before("assistant_streaming")).await;
}

/// The model is asked while the end of the step before is still on its way to the store.
#[tokio::test]
async fn an_answer_that_overtook_the_record_is_not_asked_for_again() {
    Way::Connect.go(answered_before("provisioning")).await;
}

async fn answered_before(state: &str) {
    let rig = Rig::allowing(|_, _| says(&["second"])).await;
    let answer = message(json!([{ "type": "text", "text": "first" }]), "end");
    let append =
        |message: Value, entry: &str| json!({ "session_id": "s1", "message": message, "entry_id": entry });
    for (message, entry) in [
        (user("hi"), "u"),
        (answer, "r-t1-assistant"),
        (user("by the way"), "late"),
    ] {
        rig.t.ok("session-tree::append", append(message, entry)).await;
    }
    rig.t
        .set_state("run_request", "s1", json!({ "provider": "stub", "model": "m" }))
        .await;
    let record = json!({ "session_id": "s1", "state": state, "turn_count": 0, "run_id": "r" });
    rig.t.set_state("turn_state", "s1", record).await;
    rig.t
        .ok(&format!("turn::{state}"), json!({ "session_id": "s1" }))
        .await;
    rig.t.ended("s1", 1).await;
    assert_eq!(rig.stub.requests().len(), 0);
    assert_eq!(
        rig.transcript("s1").await.iter().map(said).collect::<Vec<_>>(),
        ["user hi", "assistant first", "user by the way"]
    );
    rig.t.stop().await;
}

/// It was written, but its life ended, or its link broke, before it could be marked as told.
#[tokio::test]
async fn an_end_that_is_told_again_is_the_same_item() {
    Way::Connect.go(told_before()).await;
}

async fn told_before() {
    let rig = Rig::allowing(|_, _| says(&["hello"])).await;
    let item = json!({
        "stream_name": "agent::events", "group_id": "s1", "item_id": "s1-earlier-00000009",
        "data": { "type": "agent_end", "messages": [] },
    });
    rig.t.ok("stream::set", item).await;
    let record = json!({
        "session_id": "s1", "state": "stopped", "turn_count": 1, "run_id": "r",
        "agent_end_emitted": false, "end_item": "s1-earlier-00000009",
    });
    rig.t.set_state("turn_state", "s1", record).await;
    rig.start("s1").await;
    rig.t.ended("s1", 2).await;
    let events = rig.t.events("s1").await;
    let kinds: Vec<&Value> = events.iter().map(|event| &event["type"]).collect();
    assert_eq!(
        (kinds.first(), kinds.last()),
        (Some(&&json!("agent_end")), Some(&&json!("agent_end")))
    );
    assert_eq!(of_type(&events, "agent_end").len(), 2, "{events:#?}");
    rig.t.stop().await;
}
