//! Inbox items that are no messages (contract 02 §7: an odd shape counts as empty).

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{Rig, said, user};
use crate::support::stub::{Door, Out, says};
use crate::support::three_ways;

three_ways! {
    what_is_no_message_costs_no_turn,
    what_is_no_message_hides_no_other_inbox,
    what_is_no_message_is_left_out,
}

/// A run that is steered while the model answers: what it has said at the end, and what is left in the inboxes.
async fn steered(items: &[(&str, Value)]) -> (Vec<String>, Vec<Value>) {
    let door = Door::closed();
    let held = door.clone();
    let rig = Rig::allowing(move |number, _| match number {
        0 => [vec![Out::Wait(held.clone())], says(&["one"])].concat(),
        _ => says(&["two"]),
    })
    .await;
    rig.start("s1").await;
    rig.stub.asked(&rig.t, 1).await;
    for (name, item) in items {
        let push = json!({ "name": name, "session_id": "s1", "item": item });
        rig.t.ok("session-inbox::push", push).await;
    }
    door.open();
    rig.t.ended("s1", 1).await;
    let transcript: Vec<String> = rig.transcript("s1").await.iter().map(said).collect();
    let answers = transcript.iter().filter(|line| line.starts_with("assistant"));
    assert_eq!(answers.count(), rig.stub.requests().len());
    let mut left = Vec::new();
    for name in ["steering", "followup"] {
        let inbox = json!({ "name": name, "session_id": "s1" });
        left.push(rig.t.ok("session-inbox::peek", inbox).await["items"].take());
    }
    rig.t.stop().await;
    (transcript, left)
}

fn all_empty() -> Vec<Value> {
    vec![json!([]), json!([])]
}

async fn what_is_no_message_costs_no_turn() {
    let junk = [
        ("steering", json!(42)),
        ("steering", json!({ "role": "nobody", "content": [] })),
        ("followup", Value::Null),
    ];
    let expected = ["user hi", "assistant one"].map(str::to_owned).to_vec();
    assert_eq!(steered(&junk).await, (expected, all_empty()));
}

async fn what_is_no_message_hides_no_other_inbox() {
    let items = [("steering", json!([42])), ("followup", user("more"))];
    let expected = ["user hi", "assistant one", "user more", "assistant two"];
    let expected = expected.map(str::to_owned).to_vec();
    assert_eq!(steered(&items).await, (expected, all_empty()));
}

async fn what_is_no_message_is_left_out() {
    let items = [("steering", json!(42)), ("steering", json!("wait"))];
    let expected = ["user hi", "assistant one", "user wait", "assistant two"];
    let expected = expected.map(str::to_owned).to_vec();
    assert_eq!(steered(&items).await, (expected, all_empty()));
}
