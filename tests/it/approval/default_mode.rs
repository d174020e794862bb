//! The configuration entry `harness`: the default mode, and whose models are asked for again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness::bus::{CallContext, FunctionDef};
use harness::error::{Error, Result};
use harness::workers::approval;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::{failed, grant, refused, rig, settings};
use crate::rig::Rig as Alone;
use crate::support::three_ways;

three_ways! {
    c03_case_23_the_default_mode_follows_the_configuration,
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
