//! Pushes over time: suspension, slow browsers, order (contract 04 §3).

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::testing::{Inbox, call, emit, hosted, settle, subscribe};
use crate::bus::{FunctionDef, StreamItem};
use crate::config::Config;
use crate::error::Error;

fn numbered(n: usize) -> Value {
    json!({ "type": "turn_end", "n": n })
}

fn delta(text: &str) -> Value {
    json!({"type": "message_update", "message": {"role": "assistant", "content": []},
           "llm_event": {"type": "text_delta", "delta": text}})
}

fn push(session: &str, event: Value) -> Value {
    Value::from_iter([("session_id", Value::from(session)), ("event", event)])
}

#[tokio::test(start_paused = true)]
async fn c04_case_15_a_vanished_browser_is_not_counted_and_comes_back_without_a_subscription() {
    let bus = hosted(Config::default()).await;
    assert_eq!(subscribe(&bus, "b1", json!("s1")).await, json!(1));
    emit(&bus, "s1", numbered(1));
    settle(10).await;
    assert_eq!(subscribe(&bus, "b2", json!("other")).await, json!(1));

    let inbox = Inbox::browser(&bus, "b1");
    emit(&bus, "s1", numbered(2));
    settle(10).await;
    assert_eq!(
        inbox.take(),
        Vec::<Value>::new(),
        "missed: a push was tried less than a second ago"
    );
    settle(1_000).await;
    emit(&bus, "s1", numbered(3));
    emit(&bus, "s1", numbered(4));
    settle(10).await;
    assert_eq!(inbox.take(), [push("s1", numbered(3)), push("s1", numbered(4))]);
    assert_eq!(subscribe(&bus, "b2", json!("other")).await, json!(2));
}

#[tokio::test(start_paused = true)]
async fn a_browser_that_stays_away_is_forgotten() {
    let bus = hosted(Config::default()).await;
    subscribe(&bus, "b1", json!("s1")).await;
    emit(&bus, "s1", numbered(1));
    settle(30_100).await;
    let inbox = Inbox::browser(&bus, "b1");
    emit(&bus, "s1", numbered(2));
    settle(1_000).await;
    assert_eq!(inbox.take(), Vec::<Value>::new());
}

/// Nothing happens in its session while it is away, nor after it has come back.
#[tokio::test(start_paused = true)]
async fn a_browser_that_came_back_to_a_quiet_session_is_kept() {
    let bus = hosted(Config::default()).await;
    subscribe(&bus, "b1", json!("s1")).await;
    emit(&bus, "s1", numbered(1));
    settle(5_000).await;
    let inbox = Inbox::browser(&bus, "b1");
    settle(60_000).await;
    assert_eq!(subscribe(&bus, "b2", json!("s2")).await, json!(2));
    emit(&bus, "s1", numbered(2));
    settle(10).await;
    assert_eq!(inbox.take(), [push("s1", numbered(2))]);
}

/// The engine knows where a browser's handlers are; while it cannot say, nobody is dropped.
#[tokio::test(start_paused = true)]
async fn the_engine_is_asked_for_a_browser_before_it_is_dropped() {
    let bus = hosted(Config::default()).await;
    let asked = Inbox::default();
    let seen = asked.clone();
    let info = FunctionDef::ad_hoc("engine::functions::info", move |payload: Value, _| {
        let (seen, id) = (seen.clone(), payload["function_id"].clone());
        async move {
            seen.push(payload);
            let count = seen.count();
            match id.as_str() {
                _ if count < 3 => Err(Error::Unavailable("starting".into())),
                Some("ui::sessions::changed::there") => Ok(Value::Null),
                _ => Err(Error::coded("NOT_FOUND", "no such function")),
            }
        }
    });
    bus.register(info).unwrap();
    for browser in ["there", "gone"] {
        subscribe(&bus, browser, json!("s1")).await;
    }
    emit(&bus, "s1", numbered(1));
    settle(40_000).await;
    assert_eq!(subscribe(&bus, "other", json!("s2")).await, json!(2));
    let asked = asked.take();
    assert!(asked.len() >= 5, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_suspended_browser_is_tried_at_most_once_a_second() {
    let bus = hosted(Config::default()).await;
    subscribe(&bus, "b1", json!(null)).await;
    let inbox = Inbox::default();
    let seen = inbox.clone();
    let handler = FunctionDef::ad_hoc("ui::session::event::b1", move |payload, _| {
        let seen = seen.clone();
        async move {
            seen.push(payload);
            Err(Error::FunctionNotFound("ui::session::event::b1".into()))
        }
    });
    bus.register(handler).unwrap();
    for n in 0..50 {
        emit(&bus, &format!("s{}", n % 5), numbered(n));
        settle(100).await;
    }
    let tried = inbox.take().len();
    assert!((4..=6).contains(&tried), "{tried} pushes in 5 s");
}

#[tokio::test(start_paused = true)]
async fn without_suspension_a_vanished_browser_is_dropped_at_once() {
    let mut config = Config::default();
    config.ui.suspend_ms = 0;
    let bus = hosted(config).await;
    subscribe(&bus, "b1", json!("s1")).await;
    emit(&bus, "s1", numbered(1));
    settle(10).await;
    let inbox = Inbox::browser(&bus, "b1");
    settle(2_000).await;
    emit(&bus, "s1", numbered(2));
    settle(10).await;
    assert_eq!(inbox.take(), Vec::<Value>::new());
}

#[tokio::test(start_paused = true)]
async fn c04_case_16_a_failing_or_slow_handler_keeps_the_subscription() {
    let bus = hosted(Config::default()).await;
    subscribe(&bus, "slow", json!("s1")).await;
    subscribe(&bus, "broken", json!("s1")).await;
    let slow = Inbox::default();
    slow.listen(&bus, "ui::session::event::slow", Some(5_000));
    let broken = FunctionDef::ad_hoc("ui::session::event::broken", |_, _| async {
        Err(Error::invalid("broken"))
    });
    bus.register(broken).unwrap();
    let started = tokio::time::Instant::now();
    let frame = json!({"groupId": "s1", "id": "i-1", "event": {"type": "create", "data": numbered(1)}});
    assert_eq!(
        call(&bus, "harness::fanout::agent_event_handler", frame).await,
        Ok(Value::Null)
    );
    assert_eq!(started.elapsed().as_millis(), 0, "nobody waits for a browser");
    emit(&bus, "s1", numbered(2));
    settle(1_999).await;
    assert_eq!(slow.take(), [push("s1", numbered(1))], "one push in flight");
    settle(2).await;
    assert_eq!(slow.take(), [push("s1", numbered(2))]);
    assert_eq!(subscribe(&bus, "third", json!("s1")).await, json!(3));
}

#[tokio::test(start_paused = true)]
async fn c04_case_17_order_is_kept_and_nobody_sees_what_is_not_his() {
    const SESSIONS: usize = 100;
    const EVENTS: usize = 30;
    let bus = hosted(Config::default()).await;
    let mut inboxes = Vec::new();
    for n in 0..SESSIONS {
        let (browser, session) = (format!("b{n}"), format!("s{n}"));
        let inbox = Inbox::default();
        inbox.listen(
            &bus,
            &format!("ui::session::event::{browser}"),
            Some(n as u64 % 7),
        );
        subscribe(&bus, &browser, json!(session)).await;
        inboxes.push((session, inbox));
    }
    let everything = Inbox::browser(&bus, "all");
    subscribe(&bus, "all", json!(null)).await;
    for event in 0..EVENTS {
        for session in 0..SESSIONS {
            emit(&bus, &format!("s{session}"), numbered(event));
        }
        settle(u64::from(event % 3 == 0)).await;
    }
    settle(2_000).await;
    let expected =
        |session: &str| -> Vec<Value> { (0..EVENTS).map(|n| push(session, numbered(n))).collect() };
    let all = everything.take();
    assert_eq!(all.len(), SESSIONS * EVENTS);
    for (session, inbox) in inboxes {
        assert_eq!(inbox.take(), expected(&session));
        let of_session: Vec<Value> = all
            .iter()
            .filter(|push| push["session_id"] == session.as_str())
            .cloned()
            .collect();
        assert_eq!(of_session, expected(&session));
    }
}

#[tokio::test(start_paused = true)]
async fn a_browser_that_never_answers_holds_up_nobody_and_loses_no_text() {
    let mut config = Config::default();
    config.ui.queue_len = 8;
    let bus = hosted(config).await;
    let (stuck, quick) = (Inbox::default(), Inbox::browser(&bus, "quick"));
    stuck.listen(&bus, "ui::session::event::stuck", None);
    for browser in ["stuck", "quick"] {
        subscribe(&bus, browser, json!("s1")).await;
    }
    let mut expected = String::new();
    let mut quick_text = String::new();
    for n in 0..1_000 {
        let text = format!("{n} ");
        emit(&bus, "s1", delta(&text));
        expected.push_str(&text);
        tokio::task::yield_now().await;
    }
    emit(&bus, "s1", json!({"type": "agent_end", "messages": []}));
    settle(10).await;
    let text_of = |pushes: &[Value]| -> String {
        pushes
            .iter()
            .filter_map(|push| push.pointer("/event/llm_event/delta")?.as_str())
            .collect()
    };
    let pushes = quick.take();
    quick_text.push_str(&text_of(&pushes));
    assert_eq!(quick_text, expected);
    assert_eq!(
        pushes.last(),
        Some(&push("s1", json!({"type": "agent_end", "messages": []})))
    );

    settle(60_000).await;
    let pushes = stuck.take();
    assert_eq!(text_of(&pushes), expected);
    assert_eq!(
        pushes.last(),
        Some(&push("s1", json!({"type": "agent_end", "messages": []})))
    );
    assert!(pushes.len() <= 10, "{} pushes", pushes.len());
}

#[tokio::test(start_paused = true)]
async fn a_browser_buried_in_events_is_evicted_and_the_others_go_on() {
    let mut config = Config::default();
    config.ui.queue_len = 4;
    let bus = hosted(config).await;
    let (stuck, quick) = (Inbox::default(), Inbox::browser(&bus, "quick"));
    stuck.listen(&bus, "ui::session::event::stuck", None);
    for browser in ["stuck", "quick"] {
        subscribe(&bus, browser, json!(null)).await;
    }
    for n in 0..1_100 {
        emit(&bus, "s1", numbered(n));
        settle(1).await;
    }
    assert_eq!(quick.take().len(), 1_100);
    assert_eq!(stuck.take().len(), 1);
    assert_eq!(subscribe(&bus, "quick", json!(null)).await, json!(1));
}

#[tokio::test(start_paused = true)]
async fn own_frames_that_come_back_are_not_pushed_again() {
    let bus = hosted(Config::default()).await;
    let inbox = Inbox::browser(&bus, "b1");
    subscribe(&bus, "b1", json!("s-1")).await;
    emit(&bus, "s-1", numbered(1));
    let frame = |id: String| {
        json!({"type": "stream", "timestamp": 1, "streamName": "agent::events", "groupId": "s-1", "id": id,
               "event": {"type": "create", "data": numbered(2)}})
    };
    for id in [
        format!("s-1-{}-00000000", bus.epoch()),
        format!("s-1-{}.0001-00000000", bus.epoch()),
    ] {
        call(&bus, "harness::fanout::agent_event_handler", frame(id))
            .await
            .unwrap();
    }
    settle(10).await;
    assert_eq!(inbox.take(), [push("s-1", numbered(1))]);
    let foreign = frame("s-1-another-00000000".to_owned());
    call(&bus, "harness::fanout::agent_event_handler", foreign)
        .await
        .unwrap();
    settle(10).await;
    assert_eq!(inbox.take(), [push("s-1", numbered(2))]);
}

#[tokio::test(start_paused = true)]
async fn a_new_session_is_announced_once_and_a_removed_one_too() {
    let bus = hosted(Config::default()).await;
    let (all, one) = (Inbox::default(), Inbox::default());
    all.listen(&bus, "ui::sessions::changed::b1", Some(0));
    one.listen(&bus, "ui::sessions::changed::b2", Some(0));
    let events = Inbox::browser(&bus, "b1");
    subscribe(&bus, "b1", json!(null)).await;
    subscribe(&bus, "b2", json!("s9")).await;

    let first = json!({"type": "turn_state_changed", "event_type": "state:created", "new_value": {}});
    emit(&bus, "s9", first.clone());
    let created = json!({"type": "state", "event_type": "state:created", "scope": "turn_state", "key": "s9",
                         "old_value": null, "new_value": {}});
    for _ in 0..2 {
        call(&bus, "harness::fanout::session_created", created.clone())
            .await
            .unwrap();
    }
    settle(10).await;
    let added = json!({"added": ["s9"], "removed": []});
    assert_eq!(all.take(), std::slice::from_ref(&added));
    assert_eq!(events.take(), [push("s9", first)]);

    let deleted =
        json!({"event_type": "state:deleted", "key": "s9", "old_value": {"a": 1}, "new_value": null});
    call(&bus, "harness::fanout::session_created", deleted)
        .await
        .unwrap();
    call(&bus, "harness::fanout::session_created", created)
        .await
        .unwrap();
    settle(10).await;
    assert_eq!(all.take(), [json!({"added": [], "removed": ["s9"]}), added]);
    assert_eq!(one.take(), Vec::<Value>::new());
}

#[tokio::test(start_paused = true)]
async fn unsubscribing_stops_what_waits() {
    let bus = hosted(Config::default()).await;
    let inbox = Inbox::default();
    inbox.listen(&bus, "ui::session::event::b1", Some(100));
    subscribe(&bus, "b1", json!("s1")).await;
    for n in 0..5 {
        emit(&bus, "s1", numbered(n));
    }
    settle(10).await;
    let payload = json!({"browser_id": "b1", "session_id": "s1"});
    for _ in 0..2 {
        assert_eq!(
            call(&bus, "ui::unsubscribe", payload.clone()).await,
            Ok(json!({"ok": true, "total_browsers": 0}))
        );
    }
    settle(5_000).await;
    assert_eq!(inbox.take(), [push("s1", numbered(0))]);
}

#[tokio::test(start_paused = true)]
async fn other_streams_and_odd_browsers() {
    let bus = hosted(Config::default()).await;
    let odd = "::{}\u{0}\n 🦀 ../%2e";
    let inbox = Inbox::browser(&bus, odd);
    subscribe(&bus, odd, json!("s 1\u{0}")).await;
    bus.show_to_taps(&StreamItem {
        stream: "agent::turn_end".into(),
        group: "s 1\u{0}".into(),
        item: "x".into(),
        data: std::sync::Arc::new(numbered(0)),
    });
    emit(&bus, "s 1\u{0}", numbered(1));
    settle(10).await;
    assert_eq!(inbox.take(), [push("s 1\u{0}", numbered(1))]);
}

#[tokio::test(start_paused = true)]
async fn shutdown_does_not_wait_for_a_stuck_browser() {
    let bus = hosted(Config::default()).await;
    let stuck = Inbox::default();
    stuck.listen(&bus, "ui::session::event::stuck", Some(60_000));
    subscribe(&bus, "stuck", json!("s1")).await;
    for n in 0..100 {
        emit(&bus, "s1", numbered(n));
    }
    settle(10).await;
    bus.shutdown_token().cancel();
    settle(5_000).await;
    assert_eq!(stuck.take(), [push("s1", numbered(0))]);
}
