//! Pushes to many browsers at once, of which some do not answer (contract 04 weaknesses 3 and 7).

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::testing::{Inbox, call, emit, hosted, settle, subscribe};
use crate::config::Config;

fn numbered(n: usize) -> Value {
    json!({ "type": "function_execution_end", "n": n })
}

fn numbers(pushes: &[Value]) -> Vec<u64> {
    pushes
        .iter()
        .filter_map(|push| push["event"]["n"].as_u64())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_push_lasts_as_long_as_configured() {
    let mut config = Config::default();
    config.ui.push_timeout_ms = 50;
    let bus = hosted(config).await;
    let stuck = Inbox::default();
    stuck.listen(&bus, "ui::session::event::stuck", None);
    subscribe(&bus, "stuck", json!("s1")).await;
    for n in 0..3 {
        emit(&bus, "s1", numbered(n));
    }
    settle(49).await;
    assert_eq!(numbers(&stuck.take()), [0]);
    settle(2).await;
    assert_eq!(numbers(&stuck.take()), [1]);
    settle(50).await;
    assert_eq!(numbers(&stuck.take()), [2]);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_session_of_a_browser_holds_up_none_of_its_other_sessions() {
    let bus = hosted(Config::default()).await;
    let inbox = Inbox::default();
    let seen = inbox.clone();
    let handler = crate::bus::FunctionDef::ad_hoc("ui::session::event::b1", move |payload, _| {
        let seen = seen.clone();
        async move {
            let stuck = payload["session_id"] == "stuck";
            seen.push(payload);
            if stuck {
                std::future::pending::<()>().await;
            }
            Ok(Value::Null)
        }
    });
    bus.register(handler).unwrap();
    subscribe(&bus, "b1", json!(null)).await;
    for n in 0..10 {
        emit(&bus, "stuck", numbered(n));
        emit(&bus, "quick", numbered(n));
    }
    settle(10).await;
    let pushes = inbox.take();
    let of = |session: &str| {
        let of_session: Vec<Value> = pushes
            .iter()
            .filter(|push| push["session_id"] == session)
            .cloned()
            .collect();
        numbers(&of_session)
    };
    assert_eq!((of("stuck"), of("quick")), (vec![0], (0..10).collect()));
}

/// Of many browsers that listen to everything every second one hangs: what waits for those is bounded, and the others
/// get all of it.
#[tokio::test(start_paused = true)]
async fn browsers_times_sessions_stay_within_bounds() {
    const BROWSERS: usize = 8;
    const SESSIONS: usize = 50;
    const EVENTS: usize = 100;
    let mut config = Config::default();
    config.ui.queue_len = 8;
    let bus = hosted(config).await;
    let mut quick = Vec::new();
    for n in 0..BROWSERS {
        let (id, inbox) = (format!("b{n}"), Inbox::default());
        let takes_ms = (n % 2 == 0).then_some(0);
        inbox.listen(&bus, &format!("ui::session::event::{id}"), takes_ms);
        subscribe(&bus, &id, json!(null)).await;
        if takes_ms.is_some() {
            quick.push(inbox);
        }
    }
    for n in 0..EVENTS {
        for session in 0..SESSIONS {
            emit(&bus, &format!("s{session}"), numbered(n));
        }
        settle(1).await;
    }
    for inbox in quick {
        assert_eq!(inbox.take().len(), SESSIONS * EVENTS);
    }
    // 4,096 events may wait for one browser; the stuck ones had more to come and are given up.
    let answer = subscribe(&bus, "b0", json!(null)).await;
    assert_eq!(answer, json!(BROWSERS / 2));
}

#[tokio::test(start_paused = true)]
async fn after_a_short_absence_the_same_browser_goes_on() {
    let bus = hosted(Config::default()).await;
    let first = Inbox::browser(&bus, "b1");
    subscribe(&bus, "b1", json!("s1")).await;
    emit(&bus, "s1", numbered(0));
    settle(10).await;
    bus.unregister("ui::session::event::b1");
    for n in 1..4 {
        emit(&bus, "s1", numbered(n));
        settle(10).await;
    }
    let second = Inbox::browser(&bus, "b1");
    settle(1_000).await;
    emit(&bus, "s1", numbered(4));
    settle(10).await;
    emit(&bus, "s1", numbered(5));
    settle(10).await;
    assert_eq!(
        (numbers(&first.take()), numbers(&second.take())),
        (vec![0], vec![4, 5])
    );
}

/// A replayed turn is longer than the queue: it is no sign of a slow browser.
#[tokio::test(start_paused = true)]
async fn a_long_turn_told_again_evicts_nobody() {
    let mut config = Config::default();
    config.ui.queue_len = 2;
    let bus = hosted(config).await;
    let begun = json!({"type": "turn_state_changed", "new_value": {"state": "provisioning"}});
    emit(&bus, "s1", begun);
    for n in 0..400 {
        emit(&bus, "s1", numbered(n));
    }
    let inbox = Inbox::default();
    inbox.listen(&bus, "ui::session::event::b1", Some(10));
    let request = json!({"browser_id": "b1", "session_id": "s1", "replay": true});
    assert_eq!(
        call(&bus, "ui::subscribe", request).await,
        Ok(json!({"ok": true, "total_browsers": 1}))
    );
    emit(&bus, "s1", numbered(400));
    settle(5_000).await;
    assert_eq!(numbers(&inbox.take()), (0..=400).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn subscriptions_are_bounded() {
    let bus = hosted(Config::default()).await;
    for n in 0..4_096 {
        subscribe(&bus, "greedy", json!(format!("s{n}"))).await;
    }
    let request = json!({"browser_id": "greedy", "session_id": "one more"});
    let error = call(&bus, "ui::subscribe", request).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "too many subscriptions of one browser; subscribe to all sessions with null"
    );
    // What it has it may ask for again.
    assert_eq!(subscribe(&bus, "greedy", json!("s7")).await, json!(1));

    // Each new browser beyond the most takes the place of the one not heard of for longest.
    let inbox = Inbox::browser(&bus, "greedy");
    for n in 0..4_095 {
        subscribe(&bus, &format!("b{n}"), json!("s")).await;
    }
    emit(&bus, "s7", numbered(1));
    settle(10).await;
    for n in 0..10 {
        assert_eq!(
            subscribe(&bus, &format!("late{n}"), json!("s")).await,
            json!(4_096)
        );
    }
    emit(&bus, "s7", numbered(2));
    settle(10).await;
    assert_eq!(numbers(&inbox.take()), [1, 2], "heard of after b0 to b9");
    let first = Inbox::browser(&bus, "b9");
    let eleventh = Inbox::browser(&bus, "b10");
    emit(&bus, "s", numbered(3));
    settle(10).await;
    assert_eq!(
        (numbers(&first.take()), numbers(&eleventh.take())),
        (vec![], vec![3])
    );
}
