//! Death before every single write of a run, one after the other; and writes that fail by themselves.

use std::sync::atomic::{AtomicBool, Ordering};

use pretty_assertions::assert_eq;
use serde_json::json;

use super::model::{Does, Model};
use super::outcome::{Outcome, outcome, push, transcript};
use super::place::{ALLOWING, ASKING, Place, SESSION, saves};
use crate::support::TestOptions;
use crate::support::spy::{Op, Spy};
use crate::support::stub::calls_then_ends;
use crate::turn::{Rig, of_type};

pub(super) fn writes(op: &Op<'_>) -> bool {
    match op {
        Op::Commit(_) => true,
        Op::Call(call) => matches!(
            call.function_id.as_str(),
            "state::set"
                | "state::update"
                | "state::delete"
                | "stream::set"
                | "stream::update"
                | "stream::delete"
        ),
    }
}

/// The n-th write since the run went on, from 1.
fn nth_write(n: usize) -> impl FnMut(&Op<'_>) -> bool + Send + 'static {
    let (mut begun, mut seen) = (false, 0);
    move |op| {
        begun |= saves(op, |_| true);
        seen += usize::from(begun && writes(op));
        seen >= n
    }
}

fn without_results(outcome: &Outcome) -> Vec<&String> {
    outcome
        .transcript
        .iter()
        .filter(|line| !line.starts_with("result") && !line.ends_with(" (error)"))
        .collect()
}

/// Field lesson: entry ids come from run, turn and call, so that a step done twice writes the same entries.
#[tokio::test]
async fn d3_killed_before_each_write_of_a_run() {
    let model = Model::new(&[("A", Does::Mark), ("B", Does::Mark)]);
    let seed = Place::new(&model, ALLOWING);
    seed.accept("go").await;
    let t = seed.open_idle().await;
    push(&t, "followup", "and then?").await;
    t.stop().await;
    let unhurt = outcome(&seed.fork(), &model).await;

    die_before_each_write(&seed, &model, &unhurt, 13).await;
}

/// The same while decisions are carried out.
#[tokio::test]
async fn d12_killed_before_each_write_after_decisions() {
    let model = Model::new(&[("A", Does::Mark), ("B", Does::Mark), ("C", Does::Mark)]);
    let seed = Place::new(&model, ASKING);
    seed.accept("go").await;
    let t = seed.open().await;
    t.reaches(SESSION, "function_awaiting_approval").await;
    t.stop().await;
    let t = seed.open_idle().await;
    for (call, decision) in [("A", "allow"), ("B", "deny"), ("C", "allow")] {
        let row = json!({ "decision": decision, "reason": "so" });
        t.set_state("approvals", &format!("{SESSION}/{call}"), row).await;
    }
    t.stop().await;
    let unhurt = outcome(&seed.fork(), &model).await;
    die_before_each_write(&seed, &model, &unhurt, 8).await;
}

async fn die_before_each_write(seed: &Place, model: &Model, unhurt: &Outcome, at_least: usize) {
    let mut write = 1;
    loop {
        let place = seed.fork();
        if !place.resume_and_die(nth_write(write)).await {
            break;
        }
        let hurt = outcome(&place, model).await;
        // An answer that was cut stays beside the one that replaced it.
        let is_whole = |entry: &&String| !entry.contains("-cut-");
        let entries: Vec<_> = hurt.entries.iter().filter(is_whole).collect();
        assert_eq!(
            entries,
            unhurt.entries.iter().collect::<Vec<_>>(),
            "before write {write}"
        );
        assert_eq!(
            without_results(&hurt),
            without_results(unhurt),
            "before write {write}"
        );
        write += 1;
    }
    assert!(write > at_least, "only {write} writes");
}

/// Field lesson: each step delivered again after it was done changes nothing.
#[tokio::test]
async fn d3_steps_delivered_again_change_nothing() {
    let model = Model::new(&[("A", Does::Mark)]);
    let place = Place::new(&model, ALLOWING);
    place.accept("go").await;
    let t = place.open().await;
    let events = t.ended(SESSION, 1).await;
    let before = transcript(&t).await;
    let steps = [
        "provisioning",
        "assistant_streaming",
        "function_execute",
        "function_awaiting_approval",
        "steering_check",
    ];
    for step in steps.iter().chain(steps.iter().rev()) {
        let reply = t
            .ok(&format!("turn::{step}"), json!({ "session_id": SESSION }))
            .await;
        assert_eq!(reply, json!({ "ok": true, "skipped": true, "reason": "stale" }));
    }
    assert_eq!(transcript(&t).await, before);
    assert_eq!(t.events(SESSION).await, events);
    t.stop().await;
}

/// Field lesson: a failed save after a call does not run the call again.
#[tokio::test]
async fn d2_a_result_that_cannot_be_saved_at_first_is_not_called_for_again() {
    let spy = Spy::default();
    let options = TestOptions {
        wrap: spy.wrap(),
        rules: Some("rules: ['*']"),
        ..TestOptions::default()
    };
    let rig = Rig::new(options, calls_then_ends(vec![("A", "f", json!({}))])).await;
    let target = rig.t.record("f", json!({ "done": true }));
    let failed = AtomicBool::new(false);
    spy.fail_when(move |op| {
        saves(op, |record| record["work"]["executed"].get("A").is_some())
            && !failed.swap(true, Ordering::SeqCst)
    });
    let events = rig.run("s1").await;
    assert_eq!(target.count(), 1);
    assert_eq!(of_type(&events, "function_execution_end").len(), 1);
    let result = &rig.transcript("s1").await[2];
    assert_eq!(
        (&result["details"], &result["is_error"]),
        (&json!({ "done": true }), &json!(false))
    );
    rig.t.stop().await;
}
