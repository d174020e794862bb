//! Decisions on calls whose siblings run already: what waits for its turn can be taken back, and a store that is away for a
//! moment takes nothing from what runs.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{asks_each_run, fates};
use crate::support::bus::Recorded;
use crate::support::spy::{Op, Spy};
use crate::support::stub::Door;
use crate::support::{TestOptions, engine::within};
use crate::turn::{Rig, of_type};

/// Two parked calls, of which A is allowed and runs until the door opens, and B is not decided on.
async fn first_runs(options: TestOptions) -> (Rig, Door, Recorded) {
    let options = TestOptions {
        rules: Some("rules: []"),
        ..options
    };
    let list = vec![("A", "slow", json!({})), ("B", "ask", json!({}))];
    let rig = Rig::new(options, asks_each_run(list)).await;
    let (asked, door) = (rig.t.record("ask", json!({})), Door::closed());
    let held = door.clone();
    rig.t.serve("slow", move |_| {
        let held = held.clone();
        async move {
            held.pass().await;
            Ok(Value::Null)
        }
    });
    rig.parked("s1").await;
    rig.decide("s1", "A", "allow", None).await;
    rig.t
        .eventually(async || rig.record("s1").await["work"]["started"].get("A").map(|_| ()))
        .await;
    (rig, door, asked)
}

fn one_at_a_time(spy: &Spy) -> TestOptions {
    let mut options = TestOptions {
        wrap: spy.wrap(),
        ..TestOptions::default()
    };
    options.config.turn.parallel_calls = 1;
    options
}

/// How often decisions were read.
fn looks(spy: &Spy) -> usize {
    let calls = spy.calls();
    calls
        .iter()
        .filter(|(id, scope)| id == "state::get" && scope == "approvals")
        .count()
}

/// Allows B while A runs, and waits until that was seen.
async fn second_waits_for_its_turn(rig: &Rig, spy: &Spy) {
    let before = looks(spy);
    rig.decide("s1", "B", "allow", None).await;
    rig.t
        .eventually(async || (looks(spy) > before).then_some(()))
        .await;
}

#[tokio::test]
async fn an_approval_is_taken_back_while_its_call_waits_for_a_free_place() {
    for last in ["deny", "aborted"] {
        let spy = Spy::default();
        let (rig, door, asked) = first_runs(one_at_a_time(&spy)).await;
        second_waits_for_its_turn(&rig, &spy).await;
        rig.decide("s1", "B", last, None).await;
        door.open();
        let events = rig.t.ended("s1", 1).await;
        let mut fates = fates(&events);
        fates.sort();
        assert_eq!(fates, ["A allow".to_owned(), format!("B {last}")]);
        assert_eq!(asked.count(), 0);
        rig.t.stop().await;
    }
}

#[tokio::test]
async fn a_call_that_waits_for_a_free_place_runs_after_all() {
    let spy = Spy::default();
    let (rig, door, asked) = first_runs(one_at_a_time(&spy)).await;
    second_waits_for_its_turn(&rig, &spy).await;
    assert_eq!(asked.count(), 0);
    door.open();
    assert_eq!(fates(&rig.t.ended("s1", 1).await), ["A allow", "B allow"]);
    assert_eq!(asked.count(), 1);
    rig.t.stop().await;
}

#[tokio::test]
async fn the_floor_rises_while_an_allowed_call_waits_for_a_free_place() {
    let spy = Spy::default();
    let (rig, door, asked) = first_runs(one_at_a_time(&spy)).await;
    second_waits_for_its_turn(&rig, &spy).await;
    rig.t
        .reconfigure(|config| config.permissions.deny_floor = vec![json!("ask")]);
    door.open();
    let events = rig.t.ended("s1", 1).await;
    // It may be refused before the other one has ended.
    let ends = of_type(&events, "function_execution_end");
    let end = ends.iter().find(|end| end["function_call_id"] == "B").unwrap();
    assert_eq!(end["result"]["details"]["rule_id"], json!("human_only_function"));
    assert_eq!(asked.count(), 0);
    rig.t.stop().await;
}

#[tokio::test]
async fn a_decision_that_cannot_be_read_takes_nothing_from_what_runs() {
    let spy = Spy::default();
    let options = TestOptions {
        wrap: spy.wrap(),
        ..TestOptions::default()
    };
    let (rig, door, asked) = first_runs(options).await;
    let (failed, mut failures) = tokio::sync::mpsc::channel(64);
    spy.fail_when(move |op| {
        let hit =
            matches!(op, Op::Call(call) if call.function_id == "state::get" && call.payload["key"] == "s1/B");
        hit && failed.try_send(()).is_ok()
    });
    rig.decide("s1", "B", "allow", None).await;
    // It is looked at again by itself.
    for _ in 0..2 {
        within(failures.recv()).await.unwrap();
    }
    spy.heal();
    rig.t
        .eventually(async || (asked.count() == 1).then_some(()))
        .await;
    door.open();
    let events = rig.t.ended("s1", 1).await;
    let mut fates = fates(&events);
    fates.sort();
    assert_eq!(fates, ["A allow", "B allow"]);
    let failed: Vec<&Value> = of_type(&events, "function_execution_end")
        .into_iter()
        .filter(|end| end["is_error"] == true)
        .collect();
    assert_eq!(failed, Vec::<&Value>::new());
    rig.t.stop().await;
}
