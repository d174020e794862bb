//! `approval::*` through the bus (contract 03 §2, acceptance cases 1 to 23).

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use harness::bus::{CallContext, FunctionDef};
use harness::clock::ManualClock;
use harness::error::{Error, Result};
use harness::workers::approval;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::rig::{NOW_MS, Rig as Alone};
use crate::support::{TestBus, TestOptions, three_ways};

three_ways! {
    c03_case_01_a_decision_is_stored,
    c03_case_02_a_missing_reason_is_null,
    c03_cases_03_to_06_bad_payloads_write_nothing,
    c03_case_07_aborted_is_a_decision,
    c03_case_09_unknown_ids_are_accepted_and_the_last_decision_wins,
    a1_every_decision_stays_with_its_call,
    c03_case_11_a_fresh_session_has_the_defaults,
    c03_case_12_get_settings_rejects_bad_payloads,
    c03_case_13_set_mode_leaves_the_lists,
    c03_case_14_bad_changes_are_told_and_change_nothing,
    c03_case_16_approve_always_has_its_own_list,
    c03_case_17_remove_takes_one_id,
    c03_case_18_three_changes_at_once_all_survive on 4 threads,
    c03_case_19_twenty_at_once_are_twenty on 4 threads,
    c03_case_20_clear_then_start_anew,
    c03_cases_21_and_22_odd_records,
    c03_case_23_the_default_mode_follows_the_configuration,
    weakness_3_a_change_that_may_release_wakes_the_turn,
}

/// The worker on an engine.
struct Rig {
    t: TestBus,
    clock: Arc<ManualClock>,
}

impl Deref for Rig {
    type Target = TestBus;
    fn deref(&self) -> &TestBus {
        &self.t
    }
}

async fn rig() -> Rig {
    let clock = Arc::new(ManualClock::at(NOW_MS));
    let options = TestOptions {
        clock: clock.clone(),
        workers: vec![approval::worker()],
        ..TestOptions::default()
    };
    let t = TestBus::with(options).await;
    Rig { t, clock }
}

fn ok() -> Value {
    json!({"ok": true})
}

fn failed(error: &str) -> Value {
    json!({"ok": false, "error": error})
}

fn settings(mode: &str, always_allow: &Value, approved_always: &Value, mode_set_at: i64) -> Value {
    json!({"mode": mode, "always_allow": always_allow, "approved_always": approved_always, "mode_set_at": mode_set_at})
}

fn grant(function_id: &str) -> Value {
    json!({"function_id": function_id, "granted_at": NOW_MS, "granted_by": "user_click"})
}

impl Rig {
    async fn resolve(&self, request: Value) -> Value {
        self.ok("approval::resolve", request).await
    }

    async fn settings(&self, session_id: &str) -> Value {
        self.ok("approval::get_settings", json!({ "session_id": session_id }))
            .await
    }

    async fn decisions(&self) -> Value {
        self.ok("state::list", json!({"scope": "approvals"})).await
    }

    async fn default_mode_becomes(&self, mode: &str) {
        self.eventually(async || (self.settings("fresh").await["mode"] == mode).then_some(()))
            .await;
    }
}

fn refused(_: &Value) -> Result<Value> {
    Err(Error::coded("STATE_ERROR", "disk full"))
}

async fn c03_case_01_a_decision_is_stored() {
    let rig = rig().await;
    let request = json!({"session_id": "s1", "function_call_id": "fc-1", "decision": "deny", "reason": "no"});
    assert_eq!(rig.resolve(request).await, ok());
    assert_eq!(
        rig.state("approvals", "s1/fc-1").await,
        json!({"decision": "deny", "reason": "no"})
    );
}

async fn c03_case_02_a_missing_reason_is_null() {
    let rig = rig().await;
    let request = json!({"session_id": "s1", "function_call_id": "fc-1", "decision": "deny", "x": [1]});
    assert_eq!(rig.resolve(request).await, ok());
    assert_eq!(
        rig.state("approvals", "s1/fc-1").await,
        json!({"decision": "deny", "reason": null})
    );
}

async fn c03_cases_03_to_06_bad_payloads_write_nothing() {
    let rig = rig().await;
    for request in [
        json!({"session_id": "a/b", "function_call_id": "f", "decision": "allow"}),
        json!({"session_id": "s", "function_call_id": "x/y", "decision": "allow"}),
        json!({"session_id": "s", "function_call_id": "f", "decision": "maybe"}),
        json!({"session_id": "s", "function_call_id": "f", "decision": "ALLOW"}),
        json!({"session_id": "s", "function_call_id": "f", "decision": ["allow"]}),
        json!({"session_id": "s", "function_call_id": "f", "decision": "allow", "reason": 7}),
        json!({"session_id": "", "function_call_id": "f", "decision": "allow"}),
        json!({"session_id": 1, "function_call_id": "f", "decision": "allow"}),
        json!({"session_id": "s", "tool_call_id": "t", "decision": "allow"}),
        json!({"body": {"session_id": "s", "function_call_id": "f", "decision": "allow"}}),
        json!({}),
        json!(null),
        json!("allow"),
        json!([]),
        json!(7),
        json!({"session_id": "s", "function_call_id": "f", "decision": "allow", "x": "y".repeat(17 * 1024 * 1024)}),
    ] {
        assert_eq!(rig.resolve(request).await, failed("invalid_payload"));
    }
    assert_eq!(rig.decisions().await, json!([]));
}

/// No client can write such a payload; another worker of this process can make one.
#[tokio::test]
async fn c03_case_04_a_very_deep_payload_writes_nothing() {
    let rig = rig().await;
    let deep = (0..100_000).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
    assert_eq!(rig.resolve(deep).await, failed("invalid_payload"));
    assert_eq!(rig.decisions().await, json!([]));
}

async fn c03_case_07_aborted_is_a_decision() {
    let rig = rig().await;
    let request =
        json!({"session_id": "s1", "function_call_id": "fc-1", "decision": "aborted", "reason": null});
    assert_eq!(rig.resolve(request).await, ok());
    assert_eq!(
        rig.state("approvals", "s1/fc-1").await,
        json!({"decision": "aborted", "reason": null})
    );
}

#[tokio::test]
async fn c03_case_08_a_refused_write_is_told() {
    let rig = rig().await;
    rig.record_with("state::set", refused);
    let request = json!({"session_id": "s1", "function_call_id": "fc-1", "decision": "allow"});
    assert_eq!(rig.resolve(request).await, failed("resume_failed"));
}

async fn c03_case_09_unknown_ids_are_accepted_and_the_last_decision_wins() {
    let rig = rig().await;
    for decision in ["allow", "deny"] {
        let request = json!({"session_id": "nobody", "function_call_id": "never", "decision": decision});
        assert_eq!(rig.resolve(request).await, ok());
    }
    assert_eq!(
        rig.decisions().await,
        json!([{"decision": "deny", "reason": null}])
    );
}

#[tokio::test]
async fn c03_case_10_one_state_write_and_nothing_else() {
    let rig = rig().await;
    let [writes, events, woken] = ["state::set", "stream::set", "turn::function_awaiting_approval"]
        .map(|id| rig.record(id, Value::Null));
    let request = json!({"session_id": "s", "function_call_id": "f", "decision": "allow"});
    assert_eq!(rig.resolve(request).await, ok());
    let write = json!({"scope": "approvals", "key": "s/f", "value": {"decision": "allow", "reason": null}});
    assert_eq!(writes.all(), [write]);
    assert_eq!((events.count(), woken.count()), (0, 0));
}

async fn a1_every_decision_stays_with_its_call() {
    let rig = rig().await;
    let calls = [
        ("s1", "a", "allow"),
        ("s1", "b", "deny"),
        ("s2", "a", "aborted"),
        ("s2", "b", "allow"),
    ];
    for (session_id, call_id, decision) in calls {
        rig.resolve(json!({"session_id": session_id, "function_call_id": call_id, "decision": decision}))
            .await;
    }
    for (session_id, call_id, decision) in calls {
        let row = rig.state("approvals", &format!("{session_id}/{call_id}")).await;
        assert_eq!(row["decision"], decision);
    }
}

async fn c03_case_11_a_fresh_session_has_the_defaults() {
    let rig = rig().await;
    assert_eq!(
        rig.settings("new").await,
        settings("manual", &json!([]), &json!([]), 0)
    );
    assert_eq!(rig.state("approval_settings", "new").await, Value::Null);
}

async fn c03_case_12_get_settings_rejects_bad_payloads() {
    let rig = rig().await;
    for (payload, message) in [
        (json!({}), "missing required string field: session_id"),
        (json!(null), "missing required string field: session_id"),
        (
            json!({"session_id": ""}),
            "missing required string field: session_id",
        ),
        (
            json!({"session_id": 7}),
            "missing required string field: session_id",
        ),
        (json!({"session_id": "a/b"}), "session_id must not contain \"/\""),
    ] {
        assert_eq!(rig.error("approval::get_settings", payload).await, message);
    }
    assert!(rig.call("approval::get_settings", json!([])).await.is_err());
}

async fn c03_case_13_set_mode_leaves_the_lists() {
    let rig = rig().await;
    rig.ok(
        "approval::add_always_allow",
        json!({"session_id": "s", "function_id": "a"}),
    )
    .await;
    rig.clock.advance(5);
    let expected = settings("auto", &json!([grant("a")]), &json!([]), NOW_MS + 5);
    let answer = rig
        .ok("approval::set_mode", json!({"session_id": "s", "mode": "auto"}))
        .await;
    assert_eq!(answer, expected);
    assert_eq!(rig.settings("s").await, expected);
    assert_eq!(rig.state("approval_settings", "s").await, expected);
}

async fn c03_case_14_bad_changes_are_told_and_change_nothing() {
    let rig = rig().await;
    rig.ok("approval::set_mode", json!({"session_id": "s", "mode": "auto"}))
        .await;
    let mode = "mode must be one of manual, auto, full";
    let session = "session_id must be a non-empty string";
    let slash = "session_id must not contain \"/\"";
    let function = "function_id must be a non-empty string";
    let object = "the payload must be an object";
    for (id, payload, error) in [
        (
            "approval::set_mode",
            json!({"session_id": "s", "mode": "root"}),
            mode,
        ),
        (
            "approval::set_mode",
            json!({"session_id": "s", "mode": null}),
            mode,
        ),
        ("approval::set_mode", json!({"session_id": "s"}), mode),
        ("approval::set_mode", json!({"mode": "full"}), session),
        (
            "approval::set_mode",
            json!({"session_id": "a/b", "mode": "full"}),
            slash,
        ),
        ("approval::set_mode", json!("full"), object),
        ("approval::set_mode", json!(null), session),
        ("approval::add_always_allow", json!({"session_id": "s"}), function),
        (
            "approval::add_always_allow",
            json!({"session_id": "s", "function_id": ""}),
            function,
        ),
        (
            "approval::remove_always_allow",
            json!({"session_id": "s", "function_id": ["x"]}),
            function,
        ),
        ("approval::approve_always", json!({"function_id": "x"}), session),
        ("approval::approve_always", json!([]), object),
        ("approval::clear_settings", json!({"session_id": "s/"}), slash),
        ("approval::clear_settings", json!({}), session),
    ] {
        assert_eq!(rig.ok(id, payload).await, failed(error), "{id}");
    }
    assert_eq!(
        rig.settings("s").await,
        settings("auto", &json!([]), &json!([]), NOW_MS)
    );
}

#[tokio::test]
async fn c03_case_15_adding_twice_is_adding_once() {
    let rig = rig().await;
    let request = json!({"session_id": "s", "function_id": "shell::fs::ls"});
    let expected = settings("manual", &json!([grant("shell::fs::ls")]), &json!([]), 0);
    assert_eq!(
        rig.ok("approval::add_always_allow", request.clone()).await,
        expected
    );
    rig.clock.advance(1_000);
    let writes = rig.record("state::set", Value::Null);
    assert_eq!(rig.ok("approval::add_always_allow", request).await, expected);
    assert_eq!(writes.count(), 0);
}

async fn c03_case_16_approve_always_has_its_own_list() {
    let rig = rig().await;
    let request = json!({"session_id": "s", "function_id": "shell::exec"});
    let expected = settings("manual", &json!([]), &json!([grant("shell::exec")]), 0);
    assert_eq!(
        rig.ok("approval::approve_always", request.clone()).await,
        expected
    );
    assert_eq!(
        rig.ok("approval::approve_always", request.clone()).await,
        expected
    );
    // Taking it off the other list leaves it where it is.
    assert_eq!(rig.ok("approval::remove_always_allow", request).await, expected);
    assert_eq!(rig.decisions().await, json!([]));
}

async fn c03_case_17_remove_takes_one_id() {
    let rig = rig().await;
    for id in ["a/b", "b"] {
        rig.ok(
            "approval::add_always_allow",
            json!({"session_id": "s", "function_id": id}),
        )
        .await;
    }
    let expected = settings("manual", &json!([grant("b")]), &json!([]), 0);
    for id in ["a/b", "unknown", "B", "b::*"] {
        let request = json!({"session_id": "s", "function_id": id});
        assert_eq!(rig.ok("approval::remove_always_allow", request).await, expected);
    }
}

async fn c03_case_18_three_changes_at_once_all_survive() {
    let rig = rig().await;
    tokio::join!(
        rig.ok("approval::set_mode", json!({"session_id": "s", "mode": "auto"})),
        rig.ok(
            "approval::add_always_allow",
            json!({"session_id": "s", "function_id": "x"})
        ),
        rig.ok(
            "approval::approve_always",
            json!({"session_id": "s", "function_id": "y"})
        ),
    );
    let expected = settings("auto", &json!([grant("x")]), &json!([grant("y")]), NOW_MS);
    assert_eq!(rig.settings("s").await, expected);
}

async fn c03_case_19_twenty_at_once_are_twenty() {
    let rig = rig().await;
    let requests = (0..40).map(|n| json!({"session_id": "s", "function_id": format!("f{}", n % 20)}));
    join_all(requests.map(|request| rig.ok("approval::add_always_allow", request))).await;
    let settings = rig.settings("s").await;
    let mut ids: Vec<_> = settings["always_allow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["function_id"].clone())
        .collect();
    ids.sort_by_key(ToString::to_string);
    let mut expected: Vec<_> = (0..20).map(|n| json!(format!("f{n}"))).collect();
    expected.sort_by_key(ToString::to_string);
    assert_eq!(ids, expected);
}

async fn c03_case_20_clear_then_start_anew() {
    let rig = rig().await;
    rig.ok("approval::set_mode", json!({"session_id": "s", "mode": "auto"}))
        .await;
    for _ in 0..2 {
        assert_eq!(
            rig.ok("approval::clear_settings", json!({"session_id": "s"}))
                .await,
            ok()
        );
    }
    assert_eq!(
        rig.settings("s").await,
        settings("manual", &json!([]), &json!([]), 0)
    );
    assert_eq!(
        rig.ok("state::list", json!({"scope": "approval_settings"})).await,
        json!([])
    );
    rig.ok("approval::set_mode", json!({"session_id": "s", "mode": "full"}))
        .await;
    assert_eq!(rig.state("approval_settings", "s").await["mode"], "full");
}

async fn c03_cases_21_and_22_odd_records() {
    let rig = rig().await;
    let list = json!([{"function_id": "f", "granted_at": 1, "granted_by": "user_click"}]);
    for (key, value, expected) in [
        (
            "partial",
            json!({ "always_allow": list }),
            settings("manual", &list, &json!([]), 0),
        ),
        (
            "garbage",
            json!("garbage"),
            settings("manual", &json!([]), &json!([]), 0),
        ),
    ] {
        rig.ok(
            "state::set",
            json!({"scope": "approval_settings", "key": key, "value": value}),
        )
        .await;
        assert_eq!(rig.settings(key).await, expected);
    }
}

/// A configuration worker of one entry.
#[derive(Clone)]
struct Entry(Arc<Mutex<Result<Value>>>);

impl Entry {
    fn new(rig: &Alone, answer: Result<Value>) -> Self {
        let entry = Self(Arc::new(Mutex::new(answer)));
        let seen = entry.clone();
        rig.double("configuration::get", move |request| {
            assert_eq!(request["id"], "harness");
            seen.answer(request["raw"] == true)
        });
        entry
    }

    /// Values under `raw` answer raw reads only.
    fn answer(&self, raw: bool) -> Result<Value> {
        let value = self.0.lock().unwrap().clone()?;
        match value.get("raw") {
            Some(stored) if raw => Ok(json!({"id": "harness", "value": stored})),
            Some(_) => Err(Error::coded("SCHEMA_INVALID", "providers/x: bad")),
            None => Ok(json!({"id": "harness", "value": value})),
        }
    }

    fn set(&self, answer: Result<Value>) {
        *self.0.lock().unwrap() = answer;
    }
}

fn mode(mode: &str) -> Value {
    json!({"permissions": {"default_mode": mode}, "providers": {}})
}

fn unreachable() -> Result<Value> {
    Err(Error::coded("TIMEOUT", "configuration::get timed out"))
}

async fn changed(rig: &Alone) {
    // What the event carries does not matter.
    let answer = rig
        .ok(
            "approval::on_harness_config",
            json!({"new_value": {"permissions": 7}}),
        )
        .await;
    assert_eq!(answer, Value::Null);
}

impl Alone {
    /// State without an engine: nothing is stored.
    fn without_state(&self) {
        self.double("state::get", |_| Ok(Value::Null));
    }

    async fn default_mode(&self) -> String {
        let settings = self.ok("approval::get_settings", json!({"session_id": "fresh"}));
        settings.await["mode"].as_str().unwrap().to_owned()
    }
}

async fn c03_case_23_the_default_mode_follows_the_configuration() {
    let rig = rig().await;
    let registration = json!({"id": "harness", "name": "harness", "description": "", "schema": {"type": "object"},
        "initial_value": mode("manual")});
    rig.ok("configuration::register", registration).await;
    rig.ok(
        "approval::set_mode",
        json!({"session_id": "own", "mode": "manual"}),
    )
    .await;
    rig.ok(
        "approval::add_always_allow",
        json!({"session_id": "listed", "function_id": "f"}),
    )
    .await;
    rig.ok(
        "configuration::set",
        json!({"id": "harness", "value": mode("auto")}),
    )
    .await;
    rig.default_mode_becomes("auto").await;
    assert_eq!(rig.settings("own").await["mode"], "manual");
    assert_eq!(
        rig.settings("listed").await,
        settings("auto", &json!([grant("f")]), &json!([]), 0)
    );
}

#[tokio::test(start_paused = true)]
async fn the_default_mode_is_read_before_the_start() {
    for (answer, expected) in [
        (Ok(mode("full")), "full"),
        (Ok(mode("yolo")), "manual"),
        (Ok(Value::Null), "manual"),
        (Err(Error::coded("NOT_FOUND", "no entry")), "manual"),
        (
            Err(Error::coded("invocation_failed", "NOT_FOUND: no entry")),
            "manual",
        ),
        (unreachable(), "manual"),
        (
            Ok(json!({"raw": {"permissions": {"default_mode": "full"}}})),
            "manual",
        ),
        (
            Ok(json!({"raw": {"permissions": {"default_mode": "${MODE}"}}})),
            "manual",
        ),
    ] {
        let rig = Alone::alone();
        rig.without_state();
        Entry::new(&rig, answer);
        let rig = rig.host(approval::worker()).await;
        assert_eq!(rig.default_mode().await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_keeps_the_mode_and_is_repeated() {
    let rig = Alone::alone();
    rig.without_state();
    let entry = Entry::new(&rig, Ok(mode("full")));
    let rig = rig.host(approval::worker()).await;
    entry.set(unreachable());
    changed(&rig).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(rig.default_mode().await, "full");
    // No further event: the repeated read finds it, within the longest pause.
    entry.set(Ok(mode("auto")));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(rig.default_mode().await, "auto");
    // "No entry" is an answer.
    entry.set(Err(Error::coded("NOT_FOUND", "no entry")));
    changed(&rig).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(rig.default_mode().await, "manual");
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_entry_at_the_start_is_read_later() {
    let rig = Alone::alone();
    rig.without_state();
    let entry = Entry::new(&rig, unreachable());
    let rig = rig.host(approval::worker()).await;
    assert_eq!(rig.default_mode().await, "manual");
    entry.set(Ok(mode("auto")));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(rig.default_mode().await, "auto");
}

#[tokio::test(start_paused = true)]
async fn weakness_5_an_unreadable_state_means_manual() {
    let rig = Alone::alone();
    Entry::new(&rig, Ok(mode("full")));
    rig.double("state::get", |payload| refused(&payload));
    let rig = rig.host(approval::worker()).await;
    assert_eq!(
        rig.ok("approval::get_settings", json!({"session_id": "s"})).await,
        settings("manual", &json!([]), &json!([]), 0)
    );
    // A change that cannot see the record must not replace it.
    let writes = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&writes);
    rig.double("state::set", move |_| {
        *counted.lock().unwrap() += 1;
        Ok(Value::Null)
    });
    let answer = rig
        .ok("approval::set_mode", json!({"session_id": "s", "mode": "auto"}))
        .await;
    assert_eq!(answer, failed("state::get approval_settings: disk full"));
    assert_eq!(*writes.lock().unwrap(), 0);
}

#[tokio::test]
async fn refused_writes_are_told() {
    let rig = rig().await;
    for id in ["state::set", "state::delete"] {
        rig.record_with(id, refused);
    }
    let request = json!({"session_id": "s", "function_id": "f", "mode": "full"});
    for id in [
        "approval::set_mode",
        "approval::add_always_allow",
        "approval::approve_always",
        "approval::clear_settings",
    ] {
        let refused = if id == "approval::clear_settings" {
            "state::delete"
        } else {
            "state::set"
        };
        let text = format!("{refused} approval_settings: disk full");
        assert_eq!(rig.ok(id, request.clone()).await, failed(&text));
    }
    assert_eq!(
        rig.settings("s").await,
        settings("manual", &json!([]), &json!([]), 0)
    );
}

async fn weakness_3_a_change_that_may_release_wakes_the_turn() {
    let rig = rig().await;
    let woken = rig.record("turn::function_awaiting_approval", Value::Null);
    let request = |session_id: &str| json!({"session_id": session_id, "function_id": "f", "mode": "manual"});
    // These release nothing, those do.
    for id in [
        "approval::set_mode",
        "approval::add_always_allow",
        "approval::clear_settings",
    ] {
        rig.ok(id, request("quiet")).await;
    }
    rig.ok("approval::approve_always", request("approved")).await;
    rig.eventually(async || (woken.count() == 1).then_some(())).await;
    rig.ok(
        "approval::set_mode",
        json!({"session_id": "auto", "mode": "auto"}),
    )
    .await;
    rig.eventually(async || (woken.count() == 2).then_some(())).await;
    rig.ok("approval::add_always_allow", request("auto")).await;
    rig.eventually(async || (woken.count() == 3).then_some(())).await;
    let expected = ["approved", "auto", "auto"].map(|id| json!({ "session_id": id }));
    assert_eq!(woken.all(), expected);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_is_not_valid_may_only_lower_the_mode() {
    let rig = Alone::alone();
    rig.without_state();
    let entry = Entry::new(&rig, Ok(mode("auto")));
    let rig = rig.host(approval::worker()).await;
    let stored = |mode: &str| Ok(json!({"raw": {"permissions": {"default_mode": mode}}}));
    for (answer, expected) in [
        (stored("full"), "auto"),
        (stored("manual"), "manual"),
        (stored("auto"), "manual"),
        (Ok(mode("full")), "full"),
        (stored("auto"), "auto"),
        (stored("yolo"), "manual"),
    ] {
        entry.set(answer);
        changed(&rig).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(rig.default_mode().await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_are_woken_once_their_states_can_be_read() {
    let rig = Alone::alone();
    rig.without_state();
    let entry = Entry::new(&rig, Ok(mode("manual")));
    let is_readable = Arc::new(AtomicBool::new(false));
    let readable = Arc::clone(&is_readable);
    rig.double("state::list", move |request| {
        assert_eq!(request["scope"], "turn_state");
        if !readable.load(Ordering::SeqCst) {
            return Err(Error::coded("TIMEOUT", "state::list timed out"));
        }
        let row = |id: &str, state: &str| json!({ "session_id": id, "state": state });
        Ok(json!([
            row("waits", "function_awaiting_approval"),
            row("works", "function_execute")
        ]))
    });
    let woken = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&woken);
    rig.double("turn::function_awaiting_approval", move |request| {
        seen.lock().unwrap().push(request);
        Ok(Value::Null)
    });
    let rig = rig.host(approval::worker()).await;
    entry.set(Ok(mode("auto")));
    changed(&rig).await;
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(rig.default_mode().await, "auto");
    is_readable.store(true, Ordering::SeqCst);
    // No further event: the repeated attempt finds them, within the longest pause, and is the last.
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert_eq!(*woken.lock().unwrap(), [json!({ "session_id": "waits" })]);
}

#[tokio::test(start_paused = true)]
async fn c09_cases_24_to_26_changed_providers_are_asked_for_their_models() {
    let rig = Alone::alone();
    rig.without_state();
    let value = |default_mode: &str, anthropic: &str, openai: &str| {
        Ok(
            json!({"permissions": {"default_mode": default_mode}, "providers": {
            "anthropic": {"api_key": anthropic, "max_tokens": 1}, "openai": {"api_key": openai}, "mute": {"api_key": openai}}}),
        )
    };
    let entry = Entry::new(&rig, value("manual", "a1", "o1"));
    rig.double("harness::provider::list", |_| {
        let row =
            |id: &str, lists: bool| json!({"id": id, "display_name": id, "supports_model_listing": lists});
        Ok(json!({"providers": [row("anthropic", true), row("openai", true), row("mute", false)]}))
    });
    let asked = Arc::new(Mutex::new(Vec::new()));
    for id in ["anthropic", "openai", "mute"] {
        let asked = Arc::clone(&asked);
        let handler = move |payload: Value, _: CallContext| {
            asked.lock().unwrap().push((id, payload));
            // One that never answers holds nobody up.
            async { std::future::pending().await }
        };
        let function = FunctionDef::ad_hoc(format!("provider::{id}::refresh_models"), handler);
        rig.0.register(function).unwrap();
    }
    let rig = rig.host(approval::worker()).await;
    let settled = async || {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut asked = std::mem::take(&mut *asked.lock().unwrap());
        asked.sort_by_key(|(id, _)| *id);
        asked
    };
    // Equal values, as after our own registration, and a change of the mode alone ask nobody.
    changed(&rig).await;
    assert_eq!(settled().await, []);
    entry.set(value("auto", "a1", "o1"));
    changed(&rig).await;
    assert_eq!(settled().await, []);
    assert_eq!(rig.default_mode().await, "auto");
    entry.set(value("auto", "a1", "o2"));
    changed(&rig).await;
    assert_eq!(settled().await, [("openai", json!({}))]);
    // A burst: each changed provider once.
    entry.set(value("auto", "a2", "o2"));
    changed(&rig).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    entry.set(value("auto", "a2", ""));
    changed(&rig).await;
    assert_eq!(settled().await, [("anthropic", json!({})), ("openai", json!({}))]);
}

#[tokio::test]
async fn clients_can_tell_which_functions_are_for_them() {
    let rig = rig().await;
    let catalog = rig.bus().catalog();
    let all: Vec<_> = catalog
        .iter()
        .map(|info| (info.id.as_str(), info.metadata.is_some()))
        .collect();
    assert_eq!(
        all,
        [
            ("approval::add_always_allow", true),
            ("approval::approve_always", true),
            ("approval::clear_settings", true),
            ("approval::get_settings", true),
            ("approval::on_harness_config", false),
            ("approval::remove_always_allow", true),
            ("approval::resolve", true),
            ("approval::set_mode", true),
        ]
    );
    for info in catalog {
        for schema in [info.request_schema.unwrap(), info.response_schema.unwrap()] {
            jsonschema::validator_for(&schema).unwrap();
        }
    }
}
