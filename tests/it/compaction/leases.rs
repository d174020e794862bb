//! One compaction at a time, and a reply in time.

use std::sync::Arc;
use std::time::Duration;

use harness::bus::{CallContext, CallOptions, Write};
use harness::clock::ManualClock;
use harness::error::Error;
use harness::workers::context_compaction;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{NOW, PRUNE, Rig, SESSION, m200, talk};
use crate::session_rig::{Restarted, T0};
use crate::support::spy::{Op, Spy};
use crate::support::stub::{Door, Out, says};
use crate::support::{TestBus, TestOptions, three_ways};

three_ways! {
    c10_case_17_a_held_lease_is_busy_and_left_alone,
    c10_case_18_old_and_odd_leases_are_free,
    c10_case_19_one_of_eight_has_it,
    c10_6_2_a_late_summary_is_announced,
}

/// The program, where nobody waits for a lease.
async fn hurried(door: &Door) -> Rig {
    let mut options = TestOptions::default();
    options.config.compaction.busy_timeout_ms = 1;
    held(options, door).await
}

async fn held(options: TestOptions, door: &Door) -> Rig {
    let door = door.clone();
    Rig::with(options, move |_, _| {
        [vec![Out::Wait(door.clone())], says(&["SUM"])].concat()
    })
    .await
}

fn now_ms(rig: &Rig) -> i64 {
    rig.bus().now_ms()
}

async fn c10_case_17_a_held_lease_is_busy_and_left_alone() {
    let rig = hurried(&Door::closed()).await;
    rig.fill(talk()).await;
    let foreign = json!({ "nonce": "x", "ts": now_ms(&rig) - 1_000 });
    rig.set_state("compaction_lease", "s", foreign.clone()).await;
    for function in [NOW, SESSION] {
        let request = json!({ "session_id": "s", "model": m200() });
        assert_eq!(rig.ok(function, request).await, json!({ "status": "busy" }));
    }
    assert_eq!(rig.lease().await, foreign);
    assert_eq!(rig.stub.requests().len(), 0);
    rig.stop().await;
}

async fn c10_case_18_old_and_odd_leases_are_free() {
    let rig = Rig::start().await;
    rig.fill(talk()).await;
    let old = json!({ "nonce": "x", "ts": now_ms(&rig) - 301_000 });
    for row in [
        old,
        json!(1_700_000_000_000_i64),
        json!({ "nonce": "x" }),
        json!("text"),
    ] {
        rig.set_state("compaction_lease", "s", row).await;
        assert_eq!(rig.compact().await["status"], "ok");
        assert!(rig.lease().await["ts"].is_null());
    }
    rig.stop().await;
}

async fn c10_case_19_one_of_eight_has_it() {
    let door = Door::closed();
    let rig = hurried(&door).await;
    rig.fill(talk()).await;
    let first = async {
        let all = futures::future::join_all((0..8).map(|_| rig.compact())).await;
        let mut statuses: Vec<Value> = all.iter().map(|result| result["status"].clone()).collect();
        statuses.sort_by_key(ToString::to_string);
        assert_eq!(
            Value::Array(statuses),
            json!(["busy", "busy", "busy", "busy", "busy", "busy", "busy", "ok"])
        );
    };
    let second = async {
        rig.stub.asked(&rig, 1).await;
        // Everybody can read who holds it.
        let held = rig
            .eventually(async || Some(rig.lease().await).filter(|row| row["ts"].is_i64()))
            .await;
        assert!(held["nonce"].is_string());
        // Pruning has a lease of its own.
        assert_eq!(
            rig.ok(PRUNE, json!({ "session_id": "s" })).await["scanned_parts"],
            0
        );
        assert_eq!(rig.compact().await, json!({ "status": "busy" }));
        door.open();
    };
    futures::future::join(first, second).await;
    assert_eq!(rig.compactions().await.len(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn c10_case_19_an_outage_is_never_a_win() {
    let spy = Spy::default();
    let mut options = TestOptions {
        wrap: spy.wrap(),
        ..TestOptions::default()
    };
    options.config.compaction.busy_timeout_ms = 1;
    let rig = Rig::with(options, |_, _| says(&["SUM"])).await;
    rig.fill(talk()).await;
    spy.fail_when(|op| matches!(op, Op::Call(call) if &*call.function_id == "state::update"));
    assert_eq!(rig.compact().await, json!({ "status": "busy" }));
    assert_eq!(rig.ok(PRUNE, json!({ "session_id": "s" })).await["busy"], true);
    spy.heal();
    assert_eq!(rig.compact().await["status"], "ok");
    rig.stop().await;
}

#[tokio::test]
async fn c10_case_34_an_event_that_is_not_stored_changes_nothing() {
    let spy = Spy::default();
    let options = TestOptions {
        wrap: spy.wrap(),
        ..TestOptions::default()
    };
    let rig = Rig::with(options, |_, _| says(&["SUM"])).await;
    rig.fill(talk()).await;
    spy.fail_when(|op| matches!(op, Op::Commit(writes) if writes.iter().any(|write| matches!(write, Write::StreamSet { .. }))));
    assert_eq!(rig.compact().await["status"], "ok");
    assert_eq!(
        (rig.compactions().await.len(), rig.announced().await.len()),
        (1, 0)
    );
    rig.stop().await;
}

async fn c10_6_2_a_late_summary_is_announced() {
    let door = Door::closed();
    let mut options = TestOptions::default();
    options.config.compaction.session_reply_ms = 1;
    let rig = held(options, &door).await;
    rig.fill(talk()).await;
    assert_eq!(rig.compact().await, json!({ "status": "busy" }));
    door.open();
    let announced = rig
        .eventually(async || Some(rig.announced().await).filter(|events| !events.is_empty()))
        .await;
    assert_eq!(
        (&announced[0]["mode"], &announced[0]["summary_text"]),
        (&json!("sync"), &json!("SUM"))
    );
    rig.eventually(async || rig.lease().await["ts"].is_null().then_some(()))
        .await;
    rig.stop().await;
}

#[tokio::test]
async fn a_message_that_comes_meanwhile_is_not_lost() {
    let door = Door::closed();
    let rig = held(TestOptions::default(), &door).await;
    rig.fill(talk()).await;
    let late = async {
        rig.stub.asked(&rig, 1).await;
        let id = rig.fill(vec![super::said("user", "LATE")]).await.remove(0);
        door.open();
        id
    };
    let (result, late) = futures::future::join(rig.compact(), late).await;
    assert_eq!(result["tail_start_id"], late);
    let newest = rig.compactions().await.pop().unwrap();
    assert_eq!(newest["tail_start_id"], late);
    assert_eq!(rig.announced().await[0]["compaction_entry_id"], newest["id"]);
    rig.stop().await;
}

#[tokio::test]
async fn a_compaction_waits_for_the_one_before() {
    let door = Door::closed();
    let rig = held(TestOptions::default(), &door).await;
    rig.fill(talk()).await;
    let open = async {
        rig.stub.asked(&rig, 1).await;
        door.open();
        door.open();
    };
    let (first, second, ()) = futures::future::join3(rig.compact(), rig.compact(), open).await;
    assert_eq!(
        (&first["status"], &second["status"]),
        (&json!("ok"), &json!("ok"))
    );
    assert_eq!(rig.compactions().await.len(), 2);
    rig.stop().await;
}

/// Lets timers see that a little more than a third of the life of a lease has passed. No part of a compaction has a shorter limit.
async fn until_renewal() {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(101)).await;
    tokio::time::resume();
}

/// A program whose summariser waits for the door, with a clock of its own.
async fn slow(spy: &Spy, clock: &Arc<ManualClock>, door: &Door) -> Rig {
    let mut options = TestOptions {
        wrap: spy.wrap(),
        clock: Arc::clone(clock) as _,
        ..TestOptions::default()
    };
    options.config.compaction.busy_timeout_ms = 1;
    let rig = held(options, door).await;
    rig.fill(talk()).await;
    rig
}

/// Compacts without a limit, however far time jumps.
async fn patiently(t: &TestBus) -> Result<Value, Error> {
    let request = json!({ "session_id": "s", "model": m200() });
    let options = CallOptions::timeout_ms(3_600_000);
    t.bus()
        .invoke(&CallContext::default(), NOW, request, options)
        .await
}

/// Another process on the engine of this one.
async fn beside(rig: &Rig, spy: &Spy, clock: &Arc<ManualClock>) -> TestBus {
    let (engine, wrap) = (rig.engine(), spy.wrap());
    let mut options = TestOptions {
        wrap: Box::new(move |_| wrap(Arc::new(Restarted(engine)))),
        clock: Arc::clone(clock) as _,
        workers: vec![context_compaction::worker()],
        ..TestOptions::default()
    };
    options.config.compaction.busy_timeout_ms = 1;
    TestBus::with(options).await
}

#[tokio::test]
async fn the_lease_of_a_long_summary_is_renewed() {
    for spy in [Spy::default(), Spy::sharing()] {
        let (clock, door) = (Arc::new(ManualClock::at(T0)), Door::closed());
        let rig = slow(&spy, &clock, &door).await;
        let rival = beside(&rig, &spy, &clock).await;
        let longer = async {
            rig.stub.asked(&rig, 1).await;
            assert_eq!(rig.lease().await["ts"], T0);
            clock.advance(200_000);
            until_renewal().await;
            rig.eventually(async || (rig.lease().await["ts"] == T0 + 200_000).then_some(()))
                .await;
            // Longer than a lease lasts.
            clock.advance(200_000);
            let second = patiently(&rival).await.unwrap();
            assert_eq!(second, json!({ "status": "busy" }));
            assert_eq!(patiently(&rig).await.unwrap(), json!({ "status": "busy" }));
            door.open();
        };
        let (result, ()) = futures::future::join(patiently(&rig), longer).await;
        assert_eq!(result.unwrap()["status"], "ok");
        assert_eq!(rig.compactions().await.len(), 1);
        assert!(rig.lease().await["ts"].is_null());
        rival.stop().await;
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_compaction_whose_lease_is_lost_appends_nothing() {
    let others = [
        (Spy::default(), json!({ "nonce": "x", "ts": T0 })),
        (
            Spy::sharing(),
            json!({ "7": { "claims": [{ "nonce": "x", "ts": T0 }] } }),
        ),
    ];
    for (spy, foreign) in others {
        let (clock, door) = (Arc::new(ManualClock::at(T0)), Door::closed());
        let rig = slow(&spy, &clock, &door).await;
        let taken = async {
            rig.stub.asked(&rig, 1).await;
            rig.set_state("compaction_lease", "s", foreign.clone()).await;
            until_renewal().await;
            // The renewal leaves a whole row alone; beside epochs it adds to its own.
            rig.eventually(async || {
                let row = rig.lease().await;
                (row["nonce"] == "x" || row["1"]["renewed"].is_i64()).then_some(())
            })
            .await;
            door.open();
        };
        let (result, ()) = futures::future::join(patiently(&rig), taken).await;
        assert_eq!(result.unwrap_err().to_string(), "the compaction lease is lost");
        assert_eq!(rig.lease().await["nonce"], foreign["nonce"]);
        assert_eq!(
            (rig.compactions().await, rig.announced().await),
            (Vec::new(), Vec::new())
        );
        assert_eq!(rig.rows().await.len(), 4);
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_session_that_is_deleted_meanwhile_does_not_come_back() {
    for spy in [Spy::default(), Spy::sharing()] {
        let (clock, door) = (Arc::new(ManualClock::at(T0)), Door::closed());
        let rig = slow(&spy, &clock, &door).await;
        let deleted = async {
            rig.stub.asked(&rig, 1).await;
            let reply = rig.ok("session-tree::delete", json!({ "session_id": "s" })).await;
            assert_eq!(reply["deleted"], true);
            door.open();
        };
        let (result, ()) = futures::future::join(patiently(&rig), deleted).await;
        assert_eq!(
            result.unwrap_err().to_string(),
            "what was summarised was deleted meanwhile"
        );
        let listed = rig.ok("session-tree::list", json!({})).await;
        assert_eq!(listed["total"], 0);
        rig.stop().await;
    }
}
