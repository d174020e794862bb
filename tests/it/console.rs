//! Contract 11: the program as the console drives it, with exactly its payloads, over a scripted model server.

mod screen;

use harness::scripted::{Gate, Reply, Script};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::model_rig::ModelRig;
use super::support::bus::Recorded;
use super::support::stub::{Stub, done, message};
use super::support::three_ways;
use super::turn::{lines, of_type, said};
use screen::{Card, Screen};

three_ways! {
    c11_case_01_one_worker_named_harness,
    c11_case_02_a_run_is_delivered_once_however_often_one_subscribes,
    c11_case_03_runs_of_other_sessions_reach_all_sessions_browsers_only,
    c11_case_04_a_stream_trigger_gets_the_same_events,
    c11_case_05_the_kickoff_does_not_wait_for_the_model,
    c11_case_06_a_busy_session_answers_409_and_takes_nothing,
    c11_case_07_newer_and_older_forms_of_the_kickoff,
    c11_case_08_a_text_turn,
    c11_case_09_a_provider_that_does_not_stream,
    c11_case_10_a_provider_error_is_shown_once,
    c11_case_11_an_allowed_call,
    c11_case_12_and_13_a_call_is_asked_for_and_allowed,
    c11_case_14_a_call_is_denied,
    c11_case_15_two_prompts_one_after_the_other,
    c11_case_16_an_unknown_session_has_no_record,
    c11_case_17_settings_are_whole_objects,
    c11_case_18_approve_always_holds_for_its_session,
    c11_case_22_and_23_the_model_picker_works_without_a_credential,
    c11_case_24_a_saved_key_is_used_by_the_next_run,
    c11_case_25_after_unsubscribing_a_run_is_silent,
}

const BROWSER: &str = "console-t1";

/// A browser tab.
struct Console {
    rig: ModelRig,
    frames: Recorded,
    sent: std::cell::Cell<usize>,
}

impl Console {
    async fn open(script: Script) -> Self {
        Self::on(ModelRig::start(script).await)
    }

    fn on(rig: ModelRig) -> Self {
        let frames = rig
            .t
            .record(&format!("ui::session::event::{BROWSER}"), Value::Null);
        Self {
            rig,
            frames,
            sent: std::cell::Cell::new(0),
        }
    }

    async fn ok(&self, id: &str, payload: Value) -> Value {
        self.rig.t.ok(id, payload).await
    }

    async fn subscribe(&self, session: Value) -> Value {
        self.ok(
            "ui::subscribe",
            json!({ "browser_id": BROWSER, "session_id": session }),
        )
        .await
    }

    /// The inner payload of a kickoff (§3.3).
    fn inner(&self, session: &str, text: &str) -> Value {
        self.sent.set(self.sent.get() + 1);
        json!({
            "session_id": session, "message_id": format!("msg-{}", self.sent.get()), "provider": "openai", "model": "gpt-5",
            "mode": "agent",
            "messages": [{ "role": "user", "content": [{ "type": "text", "text": text }], "timestamp": 1_780_000_000_000_i64 }],
        })
    }

    async fn trigger(&self, inner: Value) -> Value {
        let outer =
            json!({ "session_id": inner["session_id"], "message_id": inner["message_id"], "payload": inner });
        self.ok("harness::trigger", outer).await
    }

    /// Steps 1 to 4 of §3; answers the reply of the kickoff.
    async fn send(&self, session: &str, text: &str) -> Value {
        self.subscribe(json!(session)).await;
        self.ok("turn::get_state", json!({ "session_id": session })).await;
        self.trigger(self.inner(session, text)).await
    }

    /// Events of a session that came so far.
    fn events(&self, session: &str) -> Vec<Value> {
        let mine = self
            .frames
            .all()
            .into_iter()
            .filter(|frame| frame["session_id"] == session);
        mine.map(|mut frame| frame["event"].take()).collect()
    }

    /// Step 5: events until the end of the run, then the tab unsubscribes.
    async fn watched(&self, session: &str) -> Vec<Value> {
        let events = self
            .rig
            .t
            .eventually(async || {
                let events = self.events(session);
                (events.last()?["type"] == "agent_end").then_some(events)
            })
            .await;
        self.ok(
            "ui::unsubscribe",
            json!({ "browser_id": BROWSER, "session_id": session }),
        )
        .await;
        events
    }

    /// What the tab shows once a run has ended.
    async fn shows(&self, session: &str) -> Screen {
        shown(&self.watched(session).await)
    }

    /// Waits until the tab has these buttons.
    async fn asks(&self, session: &str, calls: &[&str]) {
        self.rig
            .t
            .eventually(async || (shown(&self.events(session)).prompts == calls).then_some(()))
            .await;
    }

    async fn decide(&self, session: &str, call: &str, decision: &str) {
        let request = json!({ "session_id": session, "function_call_id": call, "decision": decision });
        assert_eq!(self.ok("approval::resolve", request).await, json!({ "ok": true }));
    }

    async fn close(self) {
        assert_eq!(self.rig.server.violations(), Vec::<String>::new());
        self.rig.t.stop().await;
    }
}

fn shown(events: &[Value]) -> Screen {
    let mut screen = Screen::default();
    for event in events {
        screen.take(event);
    }
    screen
}

/// Calls of one assistant message: id and target.
fn asks_for(calls: &[(&str, &str)]) -> Reply {
    let arguments: Vec<String> = calls
        .iter()
        .map(|(id, target)| json!({ "function": target, "payload": { "call": id } }).to_string())
        .collect();
    let rows = calls.iter().zip(&arguments);
    Reply::calls(rows.map(|((id, _), arguments)| (*id, "agent_trigger", arguments.as_str())))
}

fn calls_then_says(calls: &[(&str, &str)]) -> Script {
    Script::queue([asks_for(calls), Reply::says("done", 1)])
}

async fn c11_case_01_one_worker_named_harness() {
    let console = Console::open(Script::queue([])).await;
    let reply = console.ok("engine::workers::list", json!({})).await;
    let rows = reply["workers"].as_array().unwrap().iter();
    assert_eq!(rows.filter(|row| row["name"] == "harness").count(), 1, "{reply}");
    console.close().await;
}

async fn c11_case_02_a_run_is_delivered_once_however_often_one_subscribes() {
    let console = Console::open(Script::queue([Reply::says("hello", 2)])).await;
    for _ in 0..2 {
        assert_eq!(console.subscribe(json!("console-a")).await["ok"], true);
    }
    console.subscribe(Value::Null).await;
    console.trigger(console.inner("console-a", "hi")).await;
    let pushed = console.watched("console-a").await;
    assert_eq!(pushed, console.rig.t.ended("console-a", 1).await);
    console.close().await;
}

async fn c11_case_03_runs_of_other_sessions_reach_all_sessions_browsers_only() {
    let console = Console::open(Script::answer(|_| Reply::says("hello", 1))).await;
    let t = &console.rig.t;
    let all = t.record("ui::session::event::other", Value::Null);
    let changes = t.record("ui::sessions::changed::other", Value::Null);
    t.ok(
        "ui::subscribe",
        json!({ "browser_id": "other", "session_id": null }),
    )
    .await;
    console.subscribe(json!("console-a")).await;
    for session in ["console-c", "console-a"] {
        console.trigger(console.inner(session, "hi")).await;
        t.ended(session, 1).await;
    }
    console.watched("console-a").await;
    assert!(
        console
            .frames
            .all()
            .iter()
            .all(|frame| frame["session_id"] == "console-a")
    );
    let both = t.events("console-a").await.len() + t.events("console-c").await.len();
    t.eventually(async || (all.count() == both).then_some(())).await;
    t.eventually(async || (changes.count() >= 2).then_some(())).await;
    assert_eq!(
        changes.all(),
        ["console-c", "console-a"].map(|id| json!({ "added": [id], "removed": [] }))
    );
    console.close().await;
}

async fn c11_case_04_a_stream_trigger_gets_the_same_events() {
    let console = Console::open(Script::answer(|_| Reply::says("hello there", 2))).await;
    let t = &console.rig.t;
    let handler = format!("iii::console::session_event::{BROWSER}");
    let frames = t.record(&handler, Value::Null);
    let trigger = json!({ "trigger_type": "stream", "function_id": handler,
        "config": { "stream_name": "agent::events", "group_id": "console-a" } });
    t.ok("engine::register_trigger", trigger).await;
    console.send("console-b", "not for it").await;
    console.watched("console-b").await;
    console.send("console-a", "hi").await;
    let pushed = console.watched("console-a").await;
    t.eventually(async || (frames.count() >= pushed.len()).then_some(()))
        .await;
    let frames = frames.all();
    assert!(
        frames
            .iter()
            .all(|frame| frame["groupId"] == "console-a" && frame["streamName"] == "agent::events")
    );
    let events: Vec<Value> = frames
        .iter()
        .map(|frame| frame["event"]["data"].clone())
        .collect();
    assert_eq!(events, pushed);
    console.close().await;
}

async fn c11_case_05_the_kickoff_does_not_wait_for_the_model() {
    let gate = Gate::new();
    let console = Console::open(Script::queue([Reply::says("late", 1).after(gate.clone())])).await;
    let reply = console.send("console-a", "hi").await;
    assert_eq!(
        reply,
        json!({ "status_code": 200, "headers": { "content-type": "application/json" },
            "body": { "session_id": "console-a", "started": true } })
    );
    // The model still holds its answer back.
    console.rig.t.reaches("console-a", "assistant_streaming").await;
    assert!(!shown(&console.events("console-a")).finished);
    gate.release();
    assert_eq!(console.shows("console-a").await.bubbles, ["late"]);
    console.close().await;
}

async fn c11_case_06_a_busy_session_answers_409_and_takes_nothing() {
    let gate = Gate::new();
    let console = Console::open(Script::queue([Reply::says("one", 1).after(gate.clone())])).await;
    console.send("console-a", "first").await;
    let reply = console.trigger(console.inner("console-a", "second")).await;
    assert_eq!(
        reply,
        json!({ "status_code": 409, "headers": { "content-type": "application/json" },
            "body": { "session_id": "console-a", "started": false, "reason": "session_busy" } })
    );
    gate.release();
    console.watched("console-a").await;
    let told: Vec<String> = console
        .rig
        .transcript("console-a")
        .await
        .iter()
        .map(said)
        .collect();
    assert_eq!(told, ["user first", "assistant one"]);
    console.close().await;
}

async fn c11_case_07_newer_and_older_forms_of_the_kickoff() {
    let console = Console::open(Script::answer(|request| {
        Reply::says(format!("to {}", request.last_user_text()), 1)
    }))
    .await;
    let mut newer = console.inner("console-a", "one");
    newer["thinking_level"] = json!("high");
    newer["attachments_of_the_future"] = json!([1]);
    console.subscribe(json!("console-a")).await;
    assert_eq!(console.trigger(newer).await["body"]["started"], true);
    assert_eq!(console.shows("console-a").await.bubbles, ["to one"]);

    // [old]: the whole local history, through the generic form and straight to run::start.
    let user = |text: &str, at: i64| json!({ "role": "user", "content": [{ "type": "text", "text": text }], "timestamp": at });
    let assistant = |text: &str| {
        json!({ "role": "assistant", "content": [{ "type": "text", "text": text }], "stop_reason": "end",
            "model": "gpt-5", "provider": "openai", "timestamp": 7 })
    };
    let mut history = console.inner("console-a", "");
    history["messages"] = json!([user("one", 9), assistant("to one"), user("two", 10)]);
    let outer = json!({ "function_id": "run::start", "session_id": "console-a", "message_id": "msg-old", "payload": history });
    assert_eq!(console.ok("harness::trigger", outer).await["status_code"], 200);
    console.rig.t.ended("console-a", 2).await;
    history["messages"] = json!([
        user("one", 9),
        assistant("to one"),
        user("two", 10),
        assistant("to two"),
        user("two", 11)
    ]);
    assert_eq!(console.ok("run::start", history).await["started"], true);
    console.rig.t.ended("console-a", 3).await;
    let told: Vec<String> = console
        .rig
        .transcript("console-a")
        .await
        .iter()
        .map(said)
        .collect();
    assert_eq!(
        told,
        [
            "user one",
            "assistant to one",
            "user two",
            "assistant to two",
            "user two",
            "assistant to two"
        ]
    );
    console.close().await;
}

async fn c11_case_08_a_text_turn() {
    let reply = Reply::thinks("hm").then(Reply::says("Hello, wörld 🦀!", 5));
    let console = Console::open(Script::queue([reply])).await;
    console.send("console-a", "hi").await;
    let events = console.watched("console-a").await;
    let screen = shown(&events);
    assert_eq!(
        (screen.bubbles, screen.notices),
        (vec!["Hello, wörld 🦀!".to_owned()], vec![])
    );
    let completes = of_type(&events, "message_complete");
    assert_eq!(completes.len(), 1);
    assert_eq!(completes[0]["body_streamed"], true);
    let kinds: Vec<&str> = of_type(&events, "message_update")
        .iter()
        .map(|event| event["llm_event"]["type"].as_str().unwrap())
        .collect();
    let thinking: Vec<&&str> = kinds.iter().filter(|kind| kind.starts_with("thinking")).collect();
    assert_eq!(thinking, [&"thinking_start", &"thinking_delta", &"thinking_end"]);
    assert_eq!(
        lines(&events)[lines(&events).len() - 3..],
        ["turn_end 0", "updated stopped", "agent_end"]
    );
    console.close().await;
}

async fn c11_case_09_a_provider_that_does_not_stream() {
    let console = Console::open(Script::queue([])).await;
    Stub::register(&console.rig.t, |_, _| {
        vec![done(message(json!([{ "type": "text", "text": "whole" }]), "end"))]
    });
    let mut inner = console.inner("console-a", "hi");
    inner["provider"] = json!("stub");
    console.subscribe(json!("console-a")).await;
    console.trigger(inner).await;
    let events = console.watched("console-a").await;
    assert_eq!(shown(&events).bubbles, ["whole"]);
    assert_ne!(of_type(&events, "message_complete")[0]["body_streamed"], true);
    console.close().await;
}

async fn c11_case_10_a_provider_error_is_shown_once() {
    let console = Console::open(Script::queue([Reply::fails(
        500,
        r#"{"error":{"message":"it broke"}}"#,
    )]))
    .await;
    console.send("console-a", "hi").await;
    let screen = console.shows("console-a").await;
    assert_eq!(screen.notices, ["response failed: it broke"]);
    assert!(screen.finished);
    console.close().await;
}

async fn c11_case_11_an_allowed_call() {
    let console = Console::open(calls_then_says(&[("c1", "free")])).await;
    console.rig.t.record("free", json!({ "entries": [1] }));
    console.send("console-a", "go").await;
    let screen = console.shows("console-a").await;
    let result = json!({ "content": [{ "type": "text", "text": "{\"entries\":[1]}" }], "details": { "entries": [1] },
        "terminate": false });
    let card = Card {
        call: "c1".into(),
        function: "free".into(),
        args: json!({ "call": "c1" }),
        output: Some(result),
        failed: false,
    };
    assert_eq!(screen.cards, [card]);
    assert_eq!(screen.bubbles.last().unwrap(), "done");
    console.close().await;
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

async fn c11_case_16_an_unknown_session_has_no_record() {
    let console = Console::open(Script::queue([])).await;
    let request = json!({ "session_id": "console-never" });
    assert_eq!(console.ok("turn::get_state", request).await, Value::Null);
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

#[tokio::test]
async fn c11_case_20_a_snapshot_of_what_is_there_changes_nothing() {
    let console = Console::open(Script::answer(|_| Reply::says("hello", 1))).await;
    if !console.rig.t.bus().hosts("session-tree::reconcile") {
        return console.close().await;
    }
    console.send("console-a", "hi").await;
    console.watched("console-a").await;
    let before = console.rig.transcript("console-a").await;
    console
        .ok("session-tree::ensure", json!({ "session_id": "console-a" }))
        .await;
    let request = json!({ "session_id": "console-a", "state_snapshot": before });
    console.ok("session-tree::reconcile", request).await;
    assert_eq!(console.rig.transcript("console-a").await, before);
    console.close().await;
}

async fn c11_case_22_and_23_the_model_picker_works_without_a_credential() {
    let rig = ModelRig::with(Script::queue([]), |options| options.env.clear()).await;
    let console = Console::on(rig);
    for provider in ["anthropic", "openai", "kimi", "lmstudio", "llamacpp"] {
        // In parallel and with every error ignored, as the refresh button does.
        let id = format!("provider::{provider}::refresh_models");
        let refresh = console.rig.t.call(&id, json!({}));
        let answer = tokio::time::timeout(std::time::Duration::from_secs(5), refresh).await;
        assert!(answer.is_ok(), "{provider} does not answer");
    }
    assert_eq!(
        console.ok("models::list", json!({})).await,
        json!({ "models": [] })
    );
    assert_eq!(console.rig.server.listings(), 0);
    console.close().await;

    let console = Console::open(Script::queue([]).with_models(Reply::models(["gpt-5", "o3"]))).await;
    console.ok("provider::openai::refresh_models", json!({})).await;
    let models = console.ok("models::list", json!({})).await;
    let rows = models["models"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "{models}");
    for row in rows {
        for member in ["id", "provider", "display_name"] {
            assert!(!row[member].as_str().unwrap().is_empty(), "{row}");
        }
    }
    let providers = console.ok("harness::provider::list", json!({})).await;
    let text = format!("{models}{providers}");
    assert!(
        !text.contains(super::model_rig::KEY) && !text.contains("api_key"),
        "{text}"
    );
    console.close().await;
}

async fn c11_case_24_a_saved_key_is_used_by_the_next_run() {
    let console = Console::open(Script::answer(|_| Reply::says("hello", 1))).await;
    for (n, key) in ["sk-new-1", "${NEW_KEY:sk-new-2}"].into_iter().enumerate() {
        let value = json!({ "permissions": { "default_mode": "manual" }, "providers": { "openai": { "api_key": key } } });
        let saved = console
            .ok("configuration::set", json!({ "id": "harness", "value": value }))
            .await;
        assert_eq!(saved["new_value"], value);
        // The page shows what was saved, templates as they are.
        let shown = console
            .ok("configuration::get", json!({ "id": "harness", "raw": true }))
            .await;
        assert_eq!(shown["value"], value);
        console.send("console-a", "hi").await;
        console.rig.t.ended("console-a", n + 1).await;
        let last = console.rig.server.requests().pop().unwrap();
        assert_eq!(last.header("authorization"), format!("Bearer sk-new-{}", n + 1));
    }
    console.close().await;
}

async fn c11_case_25_after_unsubscribing_a_run_is_silent() {
    let console = Console::open(Script::answer(|_| Reply::says("hello", 1))).await;
    console.send("console-a", "hi").await;
    let seen = console.watched("console-a").await.len();
    let request = json!({ "browser_id": BROWSER, "session_id": "console-a" });
    assert_eq!(console.ok("ui::unsubscribe", request).await["ok"], true);
    console.trigger(console.inner("console-a", "again")).await;
    console.rig.t.ended("console-a", 2).await;
    // A later session's frames come behind whatever was still under way.
    console.send("console-b", "hi").await;
    console.watched("console-b").await;
    assert_eq!(console.events("console-a").len(), seen);
    console.close().await;
}
