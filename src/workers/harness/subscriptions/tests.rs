use super::browser::TRY_EVERY;
use super::*;
use crate::workers::harness::queue::LEAST_HARD;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

const LIMITS: Limits = Limits {
    queue_len: 4,
    suspend: Duration::from_secs(30),
};

fn id(text: &str) -> Id {
    Arc::from(text)
}

fn session(text: &str) -> Member {
    Member::Session(id(text))
}

fn event(text: &str) -> Event {
    Event::new(Arc::new(json!({ "type": text })))
}

fn lane(text: &str) -> Lane {
    Lane::Session(id(text))
}

fn next(browsers: &mut Browsers, browser: &str, lane: &Lane) -> Option<Value> {
    browsers
        .next(&id(browser), lane, Instant::now())
        .map(|push| push.what.into_json())
}

fn offer(browsers: &mut Browsers, name: &str, text: &str) -> Vec<Start> {
    let (starts, evicted) = browsers.offer(&id(name), &event(text), LIMITS, Instant::now());
    assert_eq!(evicted, Vec::<Id>::new());
    starts
}

/// The end of a push that began after everything else.
fn finished(browsers: &mut Browsers, lane: &Lane, outcome: Outcome) -> Effect {
    let heard = heard(browsers);
    let pushed = Pushed { heard, outcome };
    browsers.finished(&id("b"), lane, pushed, LIMITS, Instant::now())
}

fn heard(browsers: &Browsers) -> u64 {
    browsers.known.get(&id("b")).map_or(0, |browser| browser.heard)
}

fn missed(texts: &[&str]) -> Vec<Waiting> {
    texts.iter().map(|text| event(text).into()).collect()
}

#[test]
fn c04_case_06_idempotent_and_counted() {
    let mut browsers = Browsers::default();
    assert_eq!(browsers.subscribe(&id("b1"), session("s1")), 1);
    assert_eq!(browsers.subscribe(&id("b1"), session("s1")), 1);
    assert_eq!(browsers.subscribe(&id("b2"), Member::All), 2);
    assert_eq!(browsers.unsubscribe(&id("b1"), &session("s1")), 1);
    assert_eq!(browsers.unsubscribe(&id("b2"), &Member::All), 0);
    assert!(browsers.is_empty());
}

#[test]
fn a_session_called_like_the_old_sentinel_is_only_a_session() {
    let mut browsers = Browsers::default();
    browsers.subscribe(&id("b"), session("__all__"));
    assert_eq!(offer(&mut browsers, "s1", "x"), vec![]);
    assert_eq!(
        offer(&mut browsers, "__all__", "x"),
        vec![(id("b"), lane("__all__"))]
    );
}

#[test]
fn one_push_per_browser_with_both_subscriptions() {
    let mut browsers = Browsers::default();
    browsers.subscribe(&id("b"), Member::All);
    browsers.subscribe(&id("b"), session("s"));
    assert_eq!(offer(&mut browsers, "s", "x"), vec![(id("b"), lane("s"))]);
    assert_eq!(next(&mut browsers, "b", &lane("s")), Some(json!({"type": "x"})));
    assert_eq!(next(&mut browsers, "b", &lane("s")), None);
}

#[test]
fn unsubscribing_forgets_what_waits_but_not_the_push_in_flight() {
    let mut browsers = Browsers::default();
    browsers.subscribe(&id("b"), session("s"));
    offer(&mut browsers, "s", "1");
    offer(&mut browsers, "s", "2");
    next(&mut browsers, "b", &lane("s"));
    browsers.unsubscribe(&id("b"), &session("s"));
    browsers.subscribe(&id("b"), session("s"));
    // "1" is still in flight: its pump goes on with what came later, nobody starts a second one.
    assert_eq!(offer(&mut browsers, "s", "3"), vec![]);
    assert_eq!(next(&mut browsers, "b", &lane("s")), Some(json!({"type": "3"})));
    browsers.unsubscribe(&id("b"), &session("s"));
    assert_eq!(next(&mut browsers, "b", &lane("s")), None);
    assert!(browsers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_suspended_browser_is_tried_once_a_second_and_restored_by_success() {
    let mut browsers = Browsers::default();
    browsers.subscribe(&id("b"), session("s"));
    browsers.subscribe(&id("b"), session("t"));
    offer(&mut browsers, "s", "1");
    offer(&mut browsers, "s", "2");
    next(&mut browsers, "b", &lane("s"));
    let until = Instant::now() + LIMITS.suspend;
    assert_eq!(
        finished(&mut browsers, &lane("s"), Outcome::NotFound),
        Effect::Suspended(1, until)
    );
    assert_eq!(browsers.total(), 0);
    // Missed, not replayed.
    assert_eq!(next(&mut browsers, "b", &lane("s")), None);
    assert_eq!(offer(&mut browsers, "s", "3"), vec![]);

    tokio::time::advance(TRY_EVERY).await;
    assert_eq!(offer(&mut browsers, "s", "4"), vec![(id("b"), lane("s"))]);
    assert_eq!(next(&mut browsers, "b", &lane("s")), Some(json!({"type": "4"})));
    assert_eq!(offer(&mut browsers, "t", "5"), vec![]);
    assert_eq!(finished(&mut browsers, &lane("s"), Outcome::Failed), Effect::None);
    assert_eq!(browsers.total(), 0);
    assert_eq!(next(&mut browsers, "b", &lane("s")), None);

    tokio::time::advance(TRY_EVERY).await;
    offer(&mut browsers, "t", "6");
    next(&mut browsers, "b", &lane("t"));
    offer(&mut browsers, "t", "7");
    assert_eq!(
        finished(&mut browsers, &lane("t"), Outcome::Delivered),
        Effect::None
    );
    assert_eq!(browsers.total(), 1);
    assert_eq!(next(&mut browsers, "b", &lane("t")), Some(json!({"type": "7"})));
    assert!(!browsers.expire(&id("b"), 1));
}

#[test]
fn the_end_of_a_suspension_drops_everything() {
    let mut browsers = Browsers::default();
    browsers.subscribe(&id("b"), session("s"));
    browsers.subscribe(&id("b"), Member::All);
    offer(&mut browsers, "s", "1");
    next(&mut browsers, "b", &lane("s"));
    finished(&mut browsers, &lane("s"), Outcome::NotFound);
    assert!(browsers.expire(&id("b"), 1));
    assert_eq!(next(&mut browsers, "b", &lane("s")), None);
    assert!(browsers.is_empty());
}

#[test]
fn subscribing_again_ends_a_suspension_and_keeps_the_other_subscriptions() {
    let mut browsers = Browsers::default();
    browsers.subscribe(&id("b"), session("s"));
    offer(&mut browsers, "s", "1");
    next(&mut browsers, "b", &lane("s"));
    finished(&mut browsers, &lane("s"), Outcome::NotFound);
    next(&mut browsers, "b", &lane("s"));
    assert_eq!(browsers.subscribe(&id("b"), session("t")), 1);
    assert_eq!(offer(&mut browsers, "s", "2"), vec![(id("b"), lane("s"))]);
    assert!(!browsers.expire(&id("b"), 1));
}

/// The lane of a suspended browser still has a push in flight and something waiting when it asks for what it missed.
#[test]
fn what_is_told_again_replaces_what_waits_on_a_running_lane() {
    let mut browsers = Browsers::default();
    browsers.subscribe(&id("b"), session("s"));
    offer(&mut browsers, "s", "1");
    let first = browsers.next(&id("b"), &lane("s"), Instant::now()).unwrap();
    finished(&mut browsers, &lane("t"), Outcome::NotFound);
    for text in ["2", "3"] {
        offer(&mut browsers, "s", text);
    }
    assert!(browsers.misses(&id("b"), &id("s")));
    browsers.subscribe(&id("b"), session("s"));
    assert_eq!(
        browsers.replay(&id("b"), &id("s"), missed(&["0", "1", "2", "3"])),
        None
    );
    offer(&mut browsers, "s", "4");
    // The push in flight went to a handler that is gone: that says nothing of the one that is there now.
    let late = Pushed {
        heard: first.heard,
        outcome: Outcome::NotFound,
    };
    let late = browsers.finished(&id("b"), &lane("s"), late, LIMITS, Instant::now());
    assert_eq!(late, Effect::None);
    browsers.put_back(&id("b"), &lane("s"), first.what);
    for text in ["0", "1", "2", "3", "4"] {
        assert_eq!(
            next(&mut browsers, "b", &lane("s")),
            Some(json!({ "type": text }))
        );
        assert_eq!(
            finished(&mut browsers, &lane("s"), Outcome::Delivered),
            Effect::None
        );
    }
    assert_eq!(next(&mut browsers, "b", &lane("s")), None);
    browsers.unsubscribe(&id("b"), &session("s"));
    assert!(browsers.is_empty());
}

#[test]
fn a_long_turn_told_again_evicts_nobody() {
    let mut browsers = Browsers::default();
    browsers.subscribe(&id("b"), session("s"));
    let texts: Vec<String> = (0..8 * LEAST_HARD).map(|n| n.to_string()).collect();
    let turn = texts.iter().map(|text| event(text).into()).collect();
    assert_eq!(
        browsers.replay(&id("b"), &id("s"), turn),
        Some((id("b"), lane("s")))
    );
    assert_eq!(offer(&mut browsers, "s", "more"), vec![]);
    for text in texts.iter().map(String::as_str).chain(["more"]) {
        assert_eq!(
            next(&mut browsers, "b", &lane("s")),
            Some(json!({ "type": text }))
        );
    }
    assert_eq!(next(&mut browsers, "b", &lane("s")), None);
}

#[test]
fn a_browser_that_is_there_again_is_restored_once() {
    let mut browsers = Browsers::default();
    browsers.subscribe(&id("b"), session("s"));
    offer(&mut browsers, "s", "1");
    next(&mut browsers, "b", &lane("s"));
    finished(&mut browsers, &lane("s"), Outcome::NotFound);
    browsers.restore(&id("b"), 7);
    assert_eq!(browsers.total(), 0);
    browsers.restore(&id("b"), 1);
    assert_eq!((browsers.total(), browsers.expire(&id("b"), 1)), (1, false));
}

#[test]
fn a_missing_changes_handler_does_not_hold_up_session_events() {
    let mut browsers = Browsers::default();
    browsers.subscribe(&id("b"), Member::All);
    browsers.offer_change(&event("news"), LIMITS, Instant::now());
    next(&mut browsers, "b", &Lane::Changes);
    offer(&mut browsers, "s", "1");
    finished(&mut browsers, &Lane::Changes, Outcome::NotFound);
    assert_eq!(browsers.total(), 0);
    assert_eq!(next(&mut browsers, "b", &lane("s")), Some(json!({"type": "1"})));
    finished(&mut browsers, &lane("s"), Outcome::Delivered);
    assert_eq!(browsers.total(), 1);
}

#[test]
fn suspension_can_be_switched_off() {
    let mut browsers = Browsers::default();
    browsers.subscribe(&id("b"), session("s"));
    offer(&mut browsers, "s", "1");
    next(&mut browsers, "b", &lane("s"));
    let limits = Limits {
        suspend: Duration::ZERO,
        ..LIMITS
    };
    let pushed = Pushed {
        heard: heard(&browsers),
        outcome: Outcome::NotFound,
    };
    let effect = browsers.finished(&id("b"), &lane("s"), pushed, limits, Instant::now());
    assert_eq!(effect, Effect::Removed);
    assert_eq!(next(&mut browsers, "b", &lane("s")), None);
    assert!(browsers.is_empty());
}

#[test]
fn a_browser_far_too_slow_is_evicted_alone() {
    let mut browsers = Browsers::default();
    browsers.subscribe(&id("slow"), session("s"));
    browsers.subscribe(&id("quick"), session("s"));
    let mut evicted = Vec::new();
    for n in 0..LEAST_HARD + 10 {
        let (_, gone) = browsers.offer(&id("s"), &event(&n.to_string()), LIMITS, Instant::now());
        evicted.extend(gone);
        assert_eq!(
            next(&mut browsers, "quick", &lane("s")),
            Some(json!({"type": n.to_string()}))
        );
    }
    assert_eq!(evicted, vec![id("slow")]);
    assert_eq!(browsers.total(), 1);
}
