//! Killed while calls wait for a person, and while decisions are carried out.

use pretty_assertions::assert_eq;
use serde_json::json;

use super::model::{Does, Model};
use super::outcome::{outcome, transcript};
use super::place::{ASKING, Place, SESSION};

async fn parked(model: &Model) -> Place {
    let place = Place::new(model, ASKING);
    place.accept("go").await;
    let life = place.start();
    place
        .reaches(|record| record["state"] == "function_awaiting_approval")
        .await;
    life.kill();
    place
}

async fn decide(place: &Place, call: &str, decision: &str) {
    let t = place.open_idle().await;
    let row = json!({ "decision": decision, "reason": null });
    t.set_state("approvals", &format!("{SESSION}/{call}"), row).await;
    t.stop().await;
}

#[tokio::test]
async fn decided_while_down() {
    let model = Model::new(&[("A", Does::Mark), ("B", Does::Mark)]);
    let place = parked(&model).await;
    decide(&place, "B", "allow").await;
    decide(&place, "A", "deny").await;
    place.finish().await;
    let outcome = outcome(&place, &model).await;
    assert_eq!(outcome.marks, ["B"]);
    assert_eq!(
        outcome.transcript,
        [
            "user go",
            "assistant calls A, calls B",
            "result A denied",
            "result B ok",
            "assistant Done."
        ]
    );
}

#[tokio::test]
async fn killed_while_an_approved_call_runs() {
    let model = Model::new(&[("A", Does::AskSlow), ("B", Does::Mark)]);
    let place = Place::new(&model, "rules: []");
    place.accept("go").await;
    let life = place.start();
    place
        .reaches(|record| record["state"] == "function_awaiting_approval")
        .await;
    life.kill();
    decide(&place, "A", "allow").await;
    let life = place.start();
    place
        .eventually(|| (model.asked("slow") == 1).then_some(()))
        .await;
    life.kill();
    decide(&place, "B", "allow").await;
    place.finish().await;
    assert_eq!(model.asked("slow"), 1);
    let outcome = outcome(&place, &model).await;
    assert_eq!(outcome.marks, ["B"]);
    assert_eq!(
        outcome.transcript,
        [
            "user go",
            "assistant calls A, calls B",
            "result A interrupted",
            "result B ok",
            "assistant Done."
        ]
    );
}

/// A decision that came while a sibling still ran survives the crash: nobody is asked twice.
#[tokio::test]
async fn decided_before_the_batch_parked() {
    let model = Model::new(&[("A", Does::Mark), ("B", Does::AskSlow)]);
    let place = Place::new(&model, ASKING);
    place.accept("go").await;
    let life = place.start();
    place
        .eventually(|| (model.asked("slow") == 1).then_some(()))
        .await;
    life.kill();
    decide(&place, "A", "allow").await;
    place.finish().await;
    let outcome = outcome(&place, &model).await;
    assert_eq!(outcome.marks, ["A"]);
    assert_eq!(
        outcome.transcript,
        [
            "user go",
            "assistant calls A, calls B",
            "result A ok",
            "result B interrupted",
            "assistant Done."
        ]
    );
}

/// Field lesson: a session whose process died is listed and readable, its prompt stands, and it can be continued.
#[tokio::test]
async fn r4_parked_over_two_restarts() {
    let model = Model::new(&[("A", Does::Mark)]);
    let place = parked(&model).await;
    let before = (place.record()["awaiting_approval"].clone(), place.events());
    assert_eq!(before.0[0]["function_call_id"], "A");
    for _ in 0..2 {
        let mut life = place.start();
        life.says(" ready").await;
        life.signal("TERM");
        assert!(life.exit().await.success());
        assert_eq!(
            (place.record()["awaiting_approval"].clone(), place.events()),
            before
        );
    }
    let t = place.open().await;
    let view = t.ok("turn::get_state", json!({ "session_id": SESSION })).await;
    assert_eq!(view["state"], "function_awaiting_approval");
    assert_eq!(view["awaiting_approval"], before.0);
    let sessions = t.ok("session-tree::list", json!({})).await;
    assert!(
        sessions.to_string().contains("\"session_id\":\"s\""),
        "{sessions}"
    );
    assert_eq!(transcript(&t).await.1, ["user go", "assistant calls A"]);
    let decision = json!({ "session_id": SESSION, "function_call_id": "A", "decision": "allow" });
    t.ok("approval::resolve", decision).await;
    t.ended(SESSION, 1).await;
    t.stop().await;
    assert_eq!(outcome(&place, &model).await.marks, ["A"]);
}
