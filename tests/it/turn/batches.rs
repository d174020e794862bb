//! A batch of calls costs no more than it must: nobody waits for a question about a sibling, results that come together are
//! stored together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::bus::{FunctionDef, Write};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::sync::Barrier;

use super::{Rig, of_type, said};
use crate::support::TestOptions;
use crate::support::spy::Spy;
use crate::support::stub::{Held, calls_then_ends};

const IDS: [&str; 8] = ["A", "B", "C", "D", "E", "F", "G", "H"];

fn batch(target: &'static str) -> Vec<(&'static str, &'static str, Value)> {
    IDS.map(|id| (id, target, json!({}))).to_vec()
}

#[tokio::test]
async fn calls_are_asked_about_together_and_run_in_call_order() {
    let rig = Rig::allowing(calls_then_ends(batch("f"))).await;
    rig.t.reconfigure(|config| config.turn.parallel_calls = 4);
    rig.t.record("f", json!({}));
    // Lets four in when four are there, and never more than that are.
    let (all_there, inside, most) = (
        Arc::new(Barrier::new(4)),
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (barrier, now, peak) = (Arc::clone(&all_there), Arc::clone(&inside), Arc::clone(&most));
    rig.t.bus().unregister("policy::check_permissions");
    let policy = FunctionDef::ad_hoc("policy::check_permissions", move |_: Value, _| {
        let (barrier, now, peak) = (Arc::clone(&barrier), Arc::clone(&now), Arc::clone(&peak));
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            barrier.wait().await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(json!({ "decision": "allow", "rule_id": "r" }))
        }
    });
    rig.t.bus().register(policy).unwrap();
    let read = rig.t.calls_of("approval::get_settings");
    let events = rig.run("s1").await;
    assert_eq!(most.load(Ordering::SeqCst), 4);
    assert_eq!(rig.t.calls_of("approval::get_settings"), read + 1);
    let starts: Vec<&Value> = of_type(&events, "function_execution_start")
        .iter()
        .map(|event| &event["function_call_id"])
        .collect();
    assert_eq!(starts, IDS);
    let transcript: Vec<String> = rig.transcript("s1").await.iter().map(said).collect();
    assert_eq!(transcript[2..10], IDS.map(|id| format!("{id} {{}}")));
    rig.t.stop().await;
}

#[tokio::test]
async fn results_that_come_together_are_stored_together() {
    let spy = Spy::default();
    let options = TestOptions {
        wrap: spy.wrap(),
        rules: Some("rules: ['*']"),
        ..TestOptions::default()
    };
    let rig = Rig::new(options, calls_then_ends(batch("held"))).await;
    let held = Held::serve(&rig.t, "held", json!({}));
    rig.start("s1").await;
    for _ in IDS {
        held.called().await;
    }
    for _ in IDS {
        held.answers();
    }
    rig.t.ended("s1", 1).await;
    let mut stored: Vec<usize> = spy
        .writes()
        .iter()
        .filter_map(|write| match write {
            Write::StateSet { scope, value, .. } if scope == "turn_state" => {
                value["work"]["executed"].as_object().map(serde_json::Map::len)
            }
            _ => None,
        })
        .collect();
    stored.dedup();
    // The last ones are stored with what they lead to.
    assert_eq!(stored, [0]);
    rig.t.stop().await;
}
