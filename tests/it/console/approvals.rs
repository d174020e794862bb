//! Calls that wait for a person, and the settings of a session (contract 11 §5).

use harness::scripted::{Reply, Script};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::screen::Screen;
use super::{Console, asks_for, calls_then_says, shown};
use crate::support::three_ways;
use crate::turn::lines;

three_ways! {
    c11_case_12_and_13_a_call_is_asked_for_and_allowed,
    c11_case_14_a_call_is_denied,
    c11_case_15_two_prompts_one_after_the_other,
    c11_case_17_settings_are_whole_objects,
    c11_case_18_approve_always_holds_for_its_session,
}

async fn c11_case_12_and_13_a_call_is_asked_for_and_allowed() {
    let console = Console::open(calls_then_says(&[("c1", "asked")])).await;
    let asked = console.rig.t.record("asked", json!("ran"));
    console.send("console-a", "go").await;
    console.asks("console-a", &["c1"]).await;
    let parked = console.events("console-a").pop().unwrap();
    let hash = &parked["new_value"]["awaiting_approval"][0]["call_hash"];
    let waiting = json!([{ "function_call_id": "c1", "function_id": "asked", "args": { "call": "c1" }, "call_hash": hash }]);
    assert_eq!(
        (
            &parked["new_value"]["state"],
            &parked["new_value"]["awaiting_approval"]
        ),
        (&json!("function_awaiting_approval"), &waiting)
    );
    let record = console
        .ok("turn::get_state", json!({ "session_id": "console-a" }))
        .await;
    assert_eq!(record["awaiting_approval"], waiting);
    // A page that is opened now has the prompt from the record alone.
    let mut reloaded = Screen::default();
    reloaded.take_record(&record);
    assert_eq!(reloaded.prompts, ["c1"]);

    console.decide("console-a", "c1", "allow").await;
    let events = console.watched("console-a").await;
    let screen = shown(&events);
    assert_eq!(
        (screen.cards.len(), screen.cards[0].failed, screen.prompts.len()),
        (1, false, 0)
    );
    assert_eq!(asked.count(), 1);
    let tail = lines(&events);
    let end = tail.iter().position(|line| line == "end c1").unwrap();
    assert!(
        tail[end..].iter().any(|line| line.starts_with("updated ")),
        "{tail:?}"
    );
    let record = console
        .ok("turn::get_state", json!({ "session_id": "console-a" }))
        .await;
    assert_eq!(
        record["awaiting_approval"].as_array().map_or(0, Vec::len),
        0,
        "{record}"
    );
    console.close().await;
}

async fn c11_case_14_a_call_is_denied() {
    let console = Console::open(calls_then_says(&[("c1", "asked")])).await;
    let asked = console.rig.t.record("asked", json!("ran"));
    console.send("console-a", "go").await;
    console.asks("console-a", &["c1"]).await;
    console.decide("console-a", "c1", "deny").await;
    let screen = console.shows("console-a").await;
    let card = &screen.cards[0];
    let details = &card.output.as_ref().unwrap()["details"];
    assert!(card.failed);
    assert_eq!(
        (&details["status"], &details["denied_by"], &details["function_id"]),
        (&json!("denied"), &json!("user"), &json!("asked"))
    );
    assert_eq!((asked.count(), screen.prompts.len()), (0, 0));
    console.close().await;
}

async fn c11_case_15_two_prompts_one_after_the_other() {
    let console = Console::open(calls_then_says(&[
        ("c1", "asked"),
        ("c2", "asked"),
        ("c3", "free"),
    ]))
    .await;
    let (asked, free) = (
        console.rig.t.record("asked", json!("ran")),
        console.rig.t.record("free", json!("free")),
    );
    console.send("console-a", "go").await;
    console.asks("console-a", &["c1", "c2"]).await;
    console.decide("console-a", "c1", "allow").await;
    console.asks("console-a", &["c2"]).await;
    console.decide("console-a", "c2", "deny").await;
    let screen = console.shows("console-a").await;
    let ended: Vec<(&str, bool)> = screen
        .cards
        .iter()
        .map(|card| (card.call.as_str(), card.failed))
        .collect();
    assert_eq!(ended, [("c1", false), ("c2", true), ("c3", false)]);
    assert_eq!((asked.count(), free.count()), (1, 1));
    console.close().await;
}

async fn c11_case_17_settings_are_whole_objects() {
    let console = Console::open(Script::queue([])).await;
    let session = |mut more: Value| {
        more["session_id"] = json!("console-a");
        more
    };
    let fresh = console.ok("approval::get_settings", session(json!({}))).await;
    assert_eq!(
        fresh,
        json!({ "mode": "manual", "always_allow": [], "approved_always": [], "mode_set_at": 0 })
    );

    // First touch: defaults are added before any mode was set.
    let added = console
        .ok(
            "approval::add_always_allow",
            session(json!({ "function_id": "a::b" })),
        )
        .await;
    assert_eq!(
        (&added["mode_set_at"], ids(&added, "always_allow")),
        (&json!(0), vec!["a::b".to_owned()])
    );
    let set = console
        .ok("approval::set_mode", session(json!({ "mode": "auto" })))
        .await;
    assert_eq!(
        (&set["mode"], ids(&set, "always_allow")),
        (&json!("auto"), vec!["a::b".to_owned()])
    );
    assert!(set["mode_set_at"].as_i64().unwrap() > 0);
    let approved = console
        .ok(
            "approval::approve_always",
            session(json!({ "function_id": "c::d" })),
        )
        .await;
    assert_eq!(ids(&approved, "approved_always"), ["c::d"]);
    let removed = console
        .ok(
            "approval::remove_always_allow",
            session(json!({ "function_id": "a::b" })),
        )
        .await;
    assert_eq!(ids(&removed, "always_allow"), Vec::<String>::new());
    assert_eq!(ids(&removed, "approved_always"), ["c::d"]);
    assert_eq!(
        console.ok("approval::get_settings", session(json!({}))).await,
        removed
    );
    console.ok("approval::clear_settings", session(json!({}))).await;
    assert_eq!(
        console.ok("approval::get_settings", session(json!({}))).await,
        fresh
    );
    console.close().await;
}

fn ids(settings: &Value, list: &str) -> Vec<String> {
    let rows = settings[list].as_array().unwrap().iter();
    rows.map(|row| row["function_id"].as_str().unwrap().to_owned())
        .collect()
}

async fn c11_case_18_approve_always_holds_for_its_session() {
    let script = Script::answer(|request| {
        if request.tool_results().is_empty() {
            asks_for(&[("c1", "asked")])
        } else {
            Reply::says("done", 1)
        }
    });
    let console = Console::open(script).await;
    let asked = console.rig.t.record("asked", json!("ran"));
    console.send("console-a", "go").await;
    console.asks("console-a", &["c1"]).await;
    let always = json!({ "session_id": "console-a", "function_id": "asked" });
    console.ok("approval::approve_always", always).await;
    console.decide("console-a", "c1", "allow").await;
    console.watched("console-a").await;

    let seen = console.events("console-a").len();
    console.send("console-a", "again").await;
    let events = console.rig.t.ended("console-a", 2).await;
    let prompts = |events: &[Value]| {
        lines(events)
            .iter()
            .filter(|line| line.contains("awaiting_approval"))
            .count()
    };
    assert_eq!(prompts(&events[seen..]), 0);
    assert_eq!(asked.count(), 2);

    console.send("console-b", "go").await;
    console.asks("console-b", &["c1"]).await;
    console.decide("console-b", "c1", "deny").await;
    console.watched("console-b").await;
    assert_eq!(asked.count(), 2);
    console.close().await;
}
