//! Contract 04 §2 and §3: subscriptions and pushes, through the streams and the state of the embedded engine. What needs
//! a stopped clock (suspension, slow browsers) is beside the code.

use harness::error::Error;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::bridge_rig::{Rig, push};
use crate::support::three_ways;

three_ways! {
    c04_case_06_subscribing_is_idempotent,
    c04_case_07_null_means_all_sessions,
    c04_case_08_missing_browser_id,
    c04_case_09_unsubscribing_from_one_session_keeps_the_other,
    c04_case_10_unsubscribing_from_all_keeps_single_sessions,
    c04_case_11_unknown_browsers_are_no_error,
    c04_case_12_one_exact_push_per_browser,
    c04_case_13_nothing_of_other_sessions,
    c04_case_14_frames_of_all_shapes,
    c04_case_15_a_vanished_browser_is_not_counted_and_comes_back,
    c04_case_16_failing_and_stuck_handlers_keep_their_subscriptions,
    c04_case_17_a_hundred_events_in_order,
    c04_case_17_a_hundred_sessions_and_browsers_at_once on 4 threads,
    c04_case_18_new_sessions_are_announced_to_all_sessions_browsers_only,
    c04_case_19_updates_and_odd_events_are_no_news,
    an_empty_session_id_is_refused,
    c11_case_02_each_event_of_ours_is_delivered_once,
    c11_case_03_all_sessions_browsers_see_both_sessions_and_the_new_one,
    c11_case_25_after_unsubscribing_nothing_comes,
}

const HANDLER: &str = "harness::fanout::agent_event_handler";
const CREATED: &str = "harness::fanout::session_created";

fn ok(total: usize) -> Value {
    json!({"ok": true, "total_browsers": total})
}

fn frame(session: &str, event: Value) -> Value {
    Value::from_iter([("group_id", Value::from(session)), ("data", event)])
}

fn event(name: &str) -> Value {
    json!({ "type": name })
}

async fn c04_case_06_subscribing_is_idempotent() {
    let rig = Rig::start().await;
    assert_eq!(rig.subscribe("b1", json!("s1")).await, ok(1));
    assert_eq!(rig.subscribe("b1", json!("s1")).await, ok(1));
    assert_eq!(rig.subscribe("b2", json!("s1")).await, ok(2));
}

async fn c04_case_07_null_means_all_sessions() {
    let rig = Rig::start().await;
    let inbox = rig.browser("b1");
    let payload = json!({"body": {"browser_id": "b1", "session_id": null}});
    assert_eq!(rig.ok("ui::subscribe", payload).await, ok(1));
    rig.ok(HANDLER, frame("any", event("x"))).await;
    assert_eq!(rig.arrived(&inbox, 1).await, [push("any", event("x"))]);
}

async fn c04_case_08_missing_browser_id() {
    let rig = Rig::start().await;
    for function in ["ui::subscribe", "ui::unsubscribe"] {
        for payload in [
            json!({"session_id": "s1"}),
            json!({"browser_id": ""}),
            json!({"browser_id": ["b"]}),
            json!(null),
            json!("b1"),
            json!(["b1"]),
        ] {
            assert_eq!(rig.error(function, payload).await, "missing browser_id");
        }
    }
    assert_eq!(rig.unsubscribe("b", json!(null)).await, ok(0));
}

async fn c04_case_09_unsubscribing_from_one_session_keeps_the_other() {
    let rig = Rig::start().await;
    let inbox = rig.browser("b1");
    rig.subscribe("b1", json!("s1")).await;
    rig.subscribe("b1", json!("s2")).await;
    assert_eq!(rig.unsubscribe("b1", json!("s1")).await, ok(1));
    rig.ok(HANDLER, frame("s1", event("lost"))).await;
    rig.ok(HANDLER, frame("s2", event("seen"))).await;
    assert_eq!(rig.arrived(&inbox, 1).await, [push("s2", event("seen"))]);
}

async fn c04_case_10_unsubscribing_from_all_keeps_single_sessions() {
    let rig = Rig::start().await;
    let inbox = rig.browser("b1");
    rig.subscribe("b1", json!(null)).await;
    rig.subscribe("b1", json!("s1")).await;
    assert_eq!(rig.unsubscribe("b1", json!(null)).await, ok(1));
    rig.ok(HANDLER, frame("s2", event("lost"))).await;
    rig.ok(HANDLER, frame("s1", event("seen"))).await;
    assert_eq!(rig.arrived(&inbox, 1).await, [push("s1", event("seen"))]);
}

async fn c04_case_11_unknown_browsers_are_no_error() {
    let rig = Rig::start().await;
    assert_eq!(rig.unsubscribe("ghost", json!("s")).await, ok(0));
}

async fn c04_case_12_one_exact_push_per_browser() {
    let rig = Rig::start().await;
    let inbox = rig.browser("b1");
    rig.subscribe("b1", json!("s1")).await;
    rig.subscribe("b1", json!(null)).await;
    rig.foreign("s1", "i-1", event("x")).await;
    rig.foreign("s1", "i-2", event("y")).await;
    assert_eq!(
        rig.arrived(&inbox, 2).await,
        [push("s1", event("x")), push("s1", event("y"))]
    );
}

async fn c04_case_13_nothing_of_other_sessions() {
    let rig = Rig::start().await;
    let inbox = rig.browser("b1");
    rig.subscribe("b1", json!("s2")).await;
    rig.ok(HANDLER, frame("s1", event("not for b1"))).await;
    rig.ok(HANDLER, frame("s2", event("for b1"))).await;
    assert_eq!(rig.arrived(&inbox, 1).await, [push("s2", event("for b1"))]);
}

async fn c04_case_14_frames_of_all_shapes() {
    let rig = Rig::start().await;
    let inbox = rig.browser("b1");
    rig.subscribe("b1", json!(null)).await;
    for odd in [
        json!(null),
        json!("x"),
        json!({}),
        json!([]),
        json!(5),
        json!({"groupId": 5, "data": 1}),
    ] {
        assert_eq!(rig.ok(HANDLER, odd).await, Value::Null);
    }
    let shapes = [
        frame("s1", event("y")),
        json!({"groupId": "s1", "id": "i", "event": {"type": "update", "data": event("y")}}),
        json!({"groupId": "s1", "id": "i", "event": {"type": "delete", "data": event("y")}}),
    ];
    for shape in shapes {
        assert_eq!(rig.ok(HANDLER, shape).await, Value::Null);
    }
    assert_eq!(rig.arrived(&inbox, 3).await, vec![push("s1", event("y")); 3]);
}

/// The wire takes no such frame; another worker of this process may make one.
#[tokio::test]
async fn c04_case_14_a_frame_that_is_very_deep() {
    let rig = Rig::start().await;
    let deep = (0..500).fold(json!("x"), |inner, _| json!([inner]));
    assert_eq!(rig.ok(HANDLER, deep).await, Value::Null);
}

async fn c04_case_15_a_vanished_browser_is_not_counted_and_comes_back() {
    let rig = Rig::start().await;
    rig.subscribe("b1", json!("s1")).await;
    rig.ok(HANDLER, frame("s1", event("lost"))).await;
    rig.eventually(async || (rig.unsubscribe("ghost", json!("s")).await == ok(0)).then_some(()))
        .await;

    let inbox = rig.browser("b1");
    rig.eventually(async || {
        rig.ok(HANDLER, frame("s1", event("again"))).await;
        (!inbox.all().is_empty()).then_some(())
    })
    .await;
    assert_eq!(rig.unsubscribe("ghost", json!("s")).await, ok(1));
}

async fn c04_case_16_failing_and_stuck_handlers_keep_their_subscriptions() {
    let rig = Rig::start().await;
    let failing = rig.fails("ui::session::event::b1", Error::invalid("broken"));
    rig.serve("ui::session::event::b2", |_| std::future::pending());
    rig.subscribe("b1", json!("s1")).await;
    rig.subscribe("b2", json!("s1")).await;
    for n in 0..3 {
        assert_eq!(rig.ok(HANDLER, frame("s1", json!(n))).await, Value::Null);
    }
    rig.arrived(&failing, 3).await;
    assert_eq!(rig.unsubscribe("ghost", json!("s")).await, ok(2));
}

async fn c04_case_17_a_hundred_events_in_order() {
    let rig = Rig::start().await;
    let inbox = rig.browser("b1");
    rig.subscribe("b1", json!("s1")).await;
    for n in 0..100 {
        rig.emit("s1", n, json!({"type": "turn_end", "n": n})).await;
    }
    let expected: Vec<Value> = (0..100)
        .map(|n| push("s1", json!({"type": "turn_end", "n": n})))
        .collect();
    assert_eq!(rig.arrived(&inbox, 100).await, expected);
}

async fn c04_case_17_a_hundred_sessions_and_browsers_at_once() {
    let rig = Rig::start().await;
    let mut inboxes = Vec::new();
    for n in 0..100 {
        inboxes.push(rig.browser(&format!("b{n}")));
        rig.subscribe(&format!("b{n}"), json!(format!("s{n}"))).await;
    }
    let rig = &rig;
    let writers = (0..100).map(|session| async move {
        for n in 0..30 {
            rig.emit(&format!("s{session}"), n, json!({ "n": n })).await;
        }
    });
    futures::future::join_all(writers).await;
    for (session, inbox) in inboxes.iter().enumerate() {
        let expected: Vec<Value> = (0..30)
            .map(|n| push(&format!("s{session}"), json!({ "n": n })))
            .collect();
        assert_eq!(rig.arrived(inbox, 30).await, expected);
    }
}

async fn c04_case_18_new_sessions_are_announced_to_all_sessions_browsers_only() {
    let rig = Rig::start().await;
    let all = rig.record("ui::sessions::changed::b1", Value::Null);
    let one = rig.record("ui::sessions::changed::b2", Value::Null);
    rig.subscribe("b1", json!(null)).await;
    rig.subscribe("b2", json!("s9")).await;
    let set = |value: Value| json!({"scope": "turn_state", "key": "s9", "value": value});
    rig.ok("state::set", set(json!({"state": "provisioning"}))).await;
    assert_eq!(
        rig.arrived(&all, 1).await,
        [json!({"added": ["s9"], "removed": []})]
    );
    // An update in between is no news; the removal is (weakness 5).
    rig.ok("state::set", set(json!({"state": "stopped"}))).await;
    rig.ok("state::delete", json!({"scope": "turn_state", "key": "s9"}))
        .await;
    rig.ok("state::delete", json!({"scope": "turn_state", "key": "never"}))
        .await;
    rig.ok("state::set", set(json!({"state": "provisioning"}))).await;
    assert_eq!(
        rig.arrived(&all, 3).await,
        [
            json!({"added": ["s9"], "removed": []}),
            json!({"added": [], "removed": ["s9"]}),
            json!({"added": ["s9"], "removed": []})
        ]
    );
    assert_eq!(one.all(), Vec::<Value>::new());
}

async fn c04_case_19_updates_and_odd_events_are_no_news() {
    let rig = Rig::start().await;
    let all = rig.record("ui::sessions::changed::b1", Value::Null);
    rig.subscribe("b1", json!(null)).await;
    for odd in [
        json!({"event_type": "state:updated", "key": "s9", "old_value": {}, "new_value": {}}),
        json!({"event_type": "state:created"}),
        json!({"event_type": "state:created", "key": ["s9"]}),
        json!(null),
        json!("state:created"),
    ] {
        assert_eq!(rig.ok(CREATED, odd).await, Value::Null);
    }
    rig.ok(CREATED, json!({"event_type": "state:created", "key": "s10"}))
        .await;
    assert_eq!(
        rig.arrived(&all, 1).await,
        [json!({"added": ["s10"], "removed": []})]
    );
}

async fn an_empty_session_id_is_refused() {
    let rig = Rig::start().await;
    let payload = json!({"browser_id": "b1", "session_id": ""});
    assert_eq!(
        rig.error("ui::subscribe", payload).await,
        "session_id must not be empty; use null for all sessions"
    );
}

async fn c11_case_02_each_event_of_ours_is_delivered_once() {
    let rig = Rig::start().await;
    let inbox = rig.browser("console-t1");
    for _ in 0..2 {
        assert_eq!(rig.subscribe("console-t1", json!("console-a")).await, ok(1));
    }
    for n in 0..20 {
        rig.emit("console-a", n, json!({ "n": n })).await;
    }
    // The frames of the stream trigger come later, in write order; this one is behind all of them.
    rig.foreign("console-a", "zz", json!("last")).await;
    let mut expected: Vec<Value> = (0..20).map(|n| push("console-a", json!({ "n": n }))).collect();
    expected.push(push("console-a", json!("last")));
    assert_eq!(rig.arrived(&inbox, 21).await, expected);
}

async fn c11_case_03_all_sessions_browsers_see_both_sessions_and_the_new_one() {
    let rig = Rig::start().await;
    let (one, all) = (rig.browser("t0"), rig.browser("console-t1"));
    let changes = rig.record("ui::sessions::changed::console-t1", Value::Null);
    rig.subscribe("t0", json!("console-a")).await;
    rig.subscribe("console-t1", json!(null)).await;
    let first = json!({"type": "turn_state_changed", "event_type": "state:created", "new_value": {"state": "provisioning"}});
    rig.emit("console-c", 0, first.clone()).await;
    let record = json!({"scope": "turn_state", "key": "console-c", "value": {"state": "provisioning"}});
    rig.ok("state::set", record).await;
    rig.emit("console-b", 0, event("b")).await;
    rig.emit("console-a", 0, event("a")).await;
    assert_eq!(rig.arrived(&one, 1).await, [push("console-a", event("a"))]);
    let mut seen = rig.arrived(&all, 3).await;
    seen.sort_by_key(|push| push["session_id"].to_string());
    assert_eq!(
        seen,
        [
            push("console-a", event("a")),
            push("console-b", event("b")),
            push("console-c", first)
        ]
    );
    // Seen in process and through the state trigger, announced once: the next news comes right behind.
    rig.ok(
        "state::delete",
        json!({"scope": "turn_state", "key": "console-c"}),
    )
    .await;
    assert_eq!(
        rig.arrived(&changes, 2).await,
        [
            json!({"added": ["console-c"], "removed": []}),
            json!({"added": [], "removed": ["console-c"]})
        ]
    );
}

async fn c11_case_25_after_unsubscribing_nothing_comes() {
    let rig = Rig::start().await;
    let (inbox, other) = (rig.browser("console-t1"), rig.browser("t2"));
    rig.subscribe("console-t1", json!("console-a")).await;
    rig.subscribe("t2", json!("console-a")).await;
    for _ in 0..2 {
        assert_eq!(rig.unsubscribe("console-t1", json!("console-a")).await, ok(1));
    }
    rig.emit("console-a", 0, event("x")).await;
    rig.foreign("console-a", "i", event("y")).await;
    assert_eq!(
        rig.arrived(&other, 2).await,
        [push("console-a", event("x")), push("console-a", event("y"))]
    );
    assert_eq!(inbox.all(), Vec::<Value>::new());
}
