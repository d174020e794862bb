//! Browsers that come late and ask for the current turn (contract 11 weakness 4): the same pushes, from the turn's beginning,
//! none missing and none twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::bridge_rig::{Rig, push};
use super::support::stub::{Door, Out, calls_then_ends, message, says};
use super::turn::{Rig as Turns, lines};

const CHANGED: &str = "turn_state_changed";

fn state(state: &str) -> Value {
    json!({ "type": CHANGED, "event_type": "state:updated", "new_value": { "state": state } })
}

fn delta(text: &str) -> Value {
    json!({ "type": "message_update", "message": { "role": "assistant", "content": [] },
            "llm_event": { "type": "text_delta", "delta": text } })
}

fn late(browser: &str, session: &str) -> Value {
    json!({ "browser_id": browser, "session_id": session, "replay": true })
}

#[tokio::test]
async fn a_late_browser_gets_the_turn_so_far_and_then_what_comes() {
    let rig = Rig::start().await;
    let inbox = rig.browser("b1");
    let told = [
        json!({ "type": CHANGED, "event_type": "state:created", "new_value": { "state": "provisioning" } }),
        state("assistant_streaming"),
        delta("Hel"),
        delta("lo"),
    ];
    for (n, event) in told.iter().enumerate() {
        rig.emit("s1", n, event.clone()).await;
    }
    assert_eq!(
        rig.ok("ui::subscribe", late("b1", "s1")).await,
        json!({ "ok": true, "total_browsers": 1 })
    );
    rig.emit("s1", 4, delta(" there")).await;
    rig.emit("s1", 5, json!({ "type": "message_complete" })).await;
    let expected = [
        told[0].clone(),
        told[1].clone(),
        delta("Hello"),
        delta(" there"),
        json!({ "type": "message_complete" }),
    ];
    assert_eq!(
        rig.arrived(&inbox, 5).await,
        expected.map(|event| push("s1", event))
    );
}

#[tokio::test]
async fn nothing_is_told_again_unasked_or_to_one_who_listens() {
    let rig = Rig::start().await;
    let (plain, listens, everywhere) = (rig.browser("plain"), rig.browser("listens"), rig.browser("all"));
    rig.subscribe("listens", json!("s1")).await;
    rig.subscribe("all", json!(null)).await;
    rig.emit("s1", 0, state("provisioning")).await;
    rig.subscribe("plain", json!("s1")).await;
    for odd in [json!(1), json!("true"), json!(null), json!(false)] {
        let request = json!({ "browser_id": "plain", "session_id": "s1", "replay": odd });
        rig.ok("ui::subscribe", request).await;
    }
    // Whoever listens, to this session or to all, has missed nothing; all sessions are never told again.
    rig.ok("ui::subscribe", late("listens", "s1")).await;
    rig.ok("ui::subscribe", late("all", "s1")).await;
    let all = json!({ "browser_id": "plain", "session_id": null, "replay": true });
    rig.ok("ui::subscribe", all).await;
    rig.emit("s1", 1, json!({ "type": "last" })).await;
    let both = [
        push("s1", state("provisioning")),
        push("s1", json!({ "type": "last" })),
    ];
    assert_eq!(rig.arrived(&plain, 1).await, both[1..]);
    assert_eq!(rig.arrived(&listens, 2).await, both);
    assert_eq!(rig.arrived(&everywhere, 2).await, both);
}

#[tokio::test]
async fn earlier_turns_and_ended_runs_are_not_told_again() {
    let rig = Rig::start().await;
    let inbox = rig.browser("b1");
    for (n, event) in [
        state("provisioning"),
        delta("old"),
        json!({ "type": "turn_end" }),
        state("assistant_streaming"),
    ]
    .into_iter()
    .enumerate()
    {
        rig.emit("s1", n, event).await;
    }
    rig.ok("ui::subscribe", late("b1", "s1")).await;
    assert_eq!(
        rig.arrived(&inbox, 1).await,
        [push("s1", state("assistant_streaming"))]
    );
    rig.emit("s1", 4, json!({ "type": "agent_end", "messages": [] }))
        .await;
    rig.unsubscribe("b1", json!("s1")).await;
    let seen = inbox.count();
    rig.ok("ui::subscribe", late("b1", "s1")).await;
    rig.emit("s1", 5, json!({ "type": "last" })).await;
    let all = rig
        .eventually(async || {
            let all = inbox.all();
            (all.last() == Some(&push("s1", json!({ "type": "last" })))).then_some(all)
        })
        .await;
    assert!(all.len() - seen <= 2, "{:?}", &all[seen..]);
    assert!(!all[seen..].contains(&push("s1", state("assistant_streaming"))));
}

#[tokio::test]
async fn a_browser_whose_handlers_vanished_may_ask_for_what_it_missed() {
    let rig = Rig::start().await;
    rig.emit("s1", 0, state("provisioning")).await;
    // No handler yet: it is suspended at the next event.
    rig.subscribe("b1", json!("s1")).await;
    rig.emit("s1", 1, delta("a")).await;
    rig.eventually(async || {
        (rig.unsubscribe("ghost", json!(null)).await["total_browsers"] == 0).then_some(())
    })
    .await;
    let inbox = rig.browser("b1");
    rig.ok("ui::subscribe", late("b1", "s1")).await;
    assert_eq!(
        rig.arrived(&inbox, 2).await,
        [push("s1", state("provisioning")), push("s1", delta("a"))]
    );
}

/// Browsers come at any moment of a turn; each one has all of it, in order, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whenever_a_browser_comes_it_has_the_whole_turn() {
    const EVENTS: usize = 200;
    let rig = Rig::start().await;
    let numbered = |n: usize| json!({ "type": "function_execution_start", "n": n });
    let done = Arc::new(AtomicBool::new(false));
    let emit = async {
        rig.emit("s1", 0, state("provisioning")).await;
        for n in 0..EVENTS {
            rig.emit("s1", n + 1, numbered(n)).await;
        }
        done.store(true, Ordering::SeqCst);
    };
    let join = async {
        let mut inboxes = Vec::new();
        while !done.load(Ordering::SeqCst) {
            let browser = format!("b{}", inboxes.len());
            inboxes.push(rig.browser(&browser));
            rig.ok("ui::subscribe", late(&browser, "s1")).await;
            tokio::task::yield_now().await;
        }
        inboxes
    };
    let ((), inboxes) = futures::join!(emit, join);
    let mut expected = vec![push("s1", state("provisioning"))];
    expected.extend((0..EVENTS).map(|n| push("s1", numbered(n))));
    assert!(!inboxes.is_empty());
    for inbox in inboxes {
        // The first may have come before the turn began; the others have it from its beginning.
        assert_eq!(rig.arrived(&inbox, EVENTS + 1).await, expected);
    }
}

/// The program itself: a page that is opened while the model streams, and one while a call waits.
#[tokio::test]
async fn a_page_opened_in_the_middle_of_a_run_shows_what_one_opened_before_does() {
    let door = Door::closed();
    let held = door.clone();
    let calls = calls_then_ends(vec![("A", "ask", json!({}))]);
    let rig = Turns::asking(move |number, request| {
        let mut out = calls(number, request);
        if number == 0 {
            let partial = message(json!([{ "type": "text", "text": "Let me see" }]), "end");
            let streamed = json!({ "type": "text_delta", "delta": "Let me see", "partial": partial });
            out.splice(0..0, [Out::Event(streamed), Out::Wait(held.clone())]);
        } else {
            out = says(&["done"]);
        }
        out
    })
    .await;
    rig.t.record("ask", json!({}));
    let inbox = |browser: &str| {
        rig.t
            .record(&format!("ui::session::event::{browser}"), Value::Null)
    };
    let (early, streaming, parked) = (inbox("early"), inbox("streaming"), inbox("parked"));
    let subscribe = async |browser: &str| {
        rig.t.ok("ui::subscribe", late(browser, "s1")).await;
    };
    let shown = |inbox: &crate::support::bus::Recorded| {
        let events: Vec<Value> = inbox.all().iter().map(|push| push["event"].clone()).collect();
        lines(&events)
    };
    let reaches = async |inbox: &crate::support::bus::Recorded, last: &str| {
        rig.t
            .eventually(async || shown(inbox).last().is_some_and(|line| line == last).then_some(()))
            .await;
    };
    subscribe("early").await;
    rig.start("s1").await;
    reaches(&early, "text_delta Let me see").await;
    subscribe("streaming").await;
    door.open();
    reaches(&early, "updated function_awaiting_approval [A]").await;
    subscribe("parked").await;
    reaches(&parked, "updated function_awaiting_approval [A]").await;
    rig.decide("s1", "A", "allow", None).await;
    for inbox in [&early, &streaming, &parked] {
        reaches(inbox, "agent_end").await;
        assert_eq!(inbox.all(), early.all());
    }
    rig.t.stop().await;
}
