//! Many runs at once on one small cap: it holds at every step, and nobody is forgotten (field lessons B1, B7).

use std::sync::Arc;

use futures::future::join_all;
use harness::bus::Write;
use harness::config::AtCeiling;
use harness::model::Usd;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::runs::{budget, costs, numbers, rig, start};
use crate::support::spy::Spy;
use crate::support::stub::{Door, Out};
use crate::turn::{Rig, of_type};

const RUNS: usize = 30;

/// All that was stored of the budget: spent and set aside never passed the ceiling.
fn holds(spy: &Spy, id: &str) -> usize {
    let key = format!("budget:{id}");
    let writes = spy.writes().into_iter();
    let rows: Vec<Arc<Value>> = writes
        .filter_map(|write| match write {
            Write::StateSet { key: of, value, .. } if *of == *key => Some(value),
            _ => None,
        })
        .collect();
    for row in &rows {
        let usd = |value: &Value| serde_json::from_value::<Usd>(value.clone()).unwrap();
        let reserved = row["reservations"].as_array().into_iter().flatten();
        let reserved: Usd = reserved.map(|reservation| usd(&reservation["amount_usd"])).sum();
        assert!(
            usd(&row["spent_usd"]) + reserved <= usd(&row["ceiling_usd"]),
            "{row}"
        );
    }
    rows.len()
}

async fn resting(rig: &Rig) -> usize {
    let turns = rig.t.ok("state::list", json!({ "scope": "turn_state" })).await;
    let turns = turns.as_array().unwrap();
    turns
        .iter()
        .filter(|turn| turn["budget_wait"].is_object())
        .count()
}

/// Each call may cost a dollar and costs half of one; five dollars are there, then twenty.
#[tokio::test]
async fn a_small_cap_holds_and_what_one_run_releases_the_next_one_gets() {
    let (spy, door) = (Spy::default(), Door::closed());
    let (wrap, held) = (spy.wrap(), door.clone());
    let change = |options: &mut crate::support::TestOptions| {
        options.wrap = wrap;
        options.config.budgets.at_ceiling = AtCeiling::Park;
    };
    let rig = rig(change, move |_, _| {
        [vec![Out::Wait(held.clone())], costs(500)].concat()
    })
    .await;
    let id = budget(&rig, 5.0).await;
    let sessions: Vec<String> = (0..RUNS).map(|number| format!("s{number}")).collect();
    join_all(sessions.iter().map(|session| start(&rig, session, &id))).await;
    let rest = async |count: usize| {
        rig.t
            .eventually(async || (resting(&rig).await == count).then_some(()))
            .await;
    };
    rest(RUNS - 5).await;
    assert_eq!(rig.stub.requests().len(), 5);
    assert_eq!(numbers(&rig, &id).await, (json!(0), vec![json!(1); 5]));

    // What is done makes room for others as long as a dollar is left: the ninth call ends at four dollars and a half.
    for _ in 0..9 {
        door.open();
    }
    rig.t
        .eventually(async || (numbers(&rig, &id).await == (json!(4.5), vec![])).then_some(()))
        .await;
    rest(RUNS - 9).await;
    assert_eq!(rig.stub.requests().len(), 9);

    let raise = json!({"budget_id": id, "patch": {"ceiling_usd": 20}});
    rig.t.ok("budget::update", raise).await;
    for _ in 9..RUNS {
        door.open();
    }
    let events = join_all(sessions.iter().map(|session| rig.t.ended(session, 1))).await;
    for events in events {
        assert_eq!(of_type(&events, "agent_end").len(), 1);
        assert_eq!(of_type(&events, "turn_end")[0]["message"]["stop_reason"], "end");
    }
    assert_eq!(rig.stub.requests().len(), RUNS);
    assert_eq!(numbers(&rig, &id).await, (json!(15), vec![]));
    assert!(holds(&spy, &id) > 3);
    rig.t.stop().await;
}
