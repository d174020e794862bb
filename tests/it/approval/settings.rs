//! The settings of a session, read and changed.

use futures::future::join_all;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{NOW_MS, failed, grant, ok, refused, rig, settings};
use crate::support::three_ways;

three_ways! {
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
    weakness_3_a_change_that_may_release_wakes_the_turn,
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
