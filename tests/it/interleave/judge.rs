//! What must hold at the end of every history.

use std::collections::BTreeMap;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::play::{Model, SESSIONS};
use crate::crash::outcome::line;
use crate::matrix::world::World;
use crate::support::TestBus;
use crate::turn::of_type;

pub(super) async fn judge(t: &TestBus, world: &World, model: &Model) {
    assert_eq!(world.server.violations(), Vec::<String>::new());
    let effects = world.effects.lock().unwrap().clone();
    let mut results = BTreeMap::new();
    for (session, id) in SESSIONS.into_iter().enumerate() {
        let view = t.ok("turn::get_state", json!({ "session_id": id })).await;
        assert_eq!(view["state"], "stopped", "{view}");
        for inbox in ["steering", "followup"] {
            let request = json!({ "name": inbox, "session_id": id });
            let left = t.ok("session-inbox::peek", request).await;
            assert_eq!(left["items"], json!([]), "{id} {inbox}");
        }
        let messages = messages(t, id).await;
        let runs = texts(session, &messages, model);
        let told = t.events(id).await;
        if world.line.is_shared() {
            // Its events are written behind the records: a death may take the last ones of a message, but no end.
            assert_eq!(told.last().unwrap()["type"], "agent_end");
            // A start that was refused half-way leaves its message, and is no run.
            let ends = of_type(&told, "agent_end").len();
            assert!(ends <= runs, "{ends} ends of {runs} runs");
        } else {
            events(&told, runs);
        }
        for (call, outcome) in calls(&messages) {
            let may_run = !call.starts_with('C')
                || model.released[session]
                || model.allowed.contains(&(session, call.clone()));
            let ran = effects.iter().filter(|effect| **effect == call).count();
            assert!(ran == 0 || may_run, "{call} ran without permission");
            match outcome.as_str() {
                "ok" => assert_eq!(ran, 1, "{call} is told to have run"),
                "interrupted" => assert!(ran <= 1, "{call} ran {ran} times"),
                _ => assert_eq!(ran, 0, "{call} is told not to have run: {outcome}, {messages:#?}"),
            }
            assert_eq!(results.insert(call, outcome), None);
        }
    }
    for effect in effects {
        assert!(
            results.contains_key(&effect),
            "{effect} ran, and no transcript says so"
        );
    }
}

async fn messages(t: &TestBus, session: &str) -> Vec<Value> {
    let reply = t
        .ok("session-tree::messages", json!({ "session_id": session }))
        .await;
    let rows = reply["messages"].as_array().unwrap();
    rows.iter().map(|row| row["message"].clone()).collect()
}

/// What was acknowledged is there once, in its order; nothing else is. Answers how many runs there were.
fn texts(session: usize, messages: &[Value], model: &Model) -> usize {
    let told: Vec<String> = messages
        .iter()
        .map(line)
        .filter_map(|line| line.strip_prefix("user ").map(str::to_owned))
        .collect();
    let sent = || model.sent.iter().filter(|sent| sent.session == session);
    for sent in sent() {
        let times = told.iter().filter(|text| **text == sent.text).count();
        assert!(
            times == 1 || times == 0 && !sent.acknowledged,
            "{sent:?} is there {times} times: {told:?}"
        );
    }
    for text in &told {
        assert!(sent().any(|sent| sent.text == *text), "nobody said {text:?}");
    }
    let mut runs = 0;
    for way in ["start", "steering", "followup"] {
        let of_way = |text: &&String| sent().any(|sent| sent.way == way && sent.text == **text);
        let ordered: Vec<&String> = sent()
            .filter(|sent| sent.way == way && told.contains(&sent.text))
            .map(|sent| &sent.text)
            .collect();
        assert_eq!(
            told.iter().filter(of_way).collect::<Vec<_>>(),
            ordered,
            "order of {way}"
        );
        if way == "start" {
            runs = ordered.len();
        }
    }
    runs
}

/// Every run ends once, each change of the view starts where the one before it led, each call begins and ends once.
fn events(events: &[Value], runs: usize) {
    assert_eq!(events.last().unwrap()["type"], "agent_end");
    let ended: Vec<&[Value]> = events.split(|event| event["type"] == "agent_end").collect();
    assert_eq!(ended.len() - 1, runs, "ends of runs");
    let mut state = Value::Null;
    let mut calls: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events {
        let kind = event["type"].as_str().unwrap();
        if kind == "turn_state_changed" {
            assert_eq!(event["old_value"]["state"], state);
            state = event["new_value"]["state"].clone();
        }
        if let Some(kind) = kind.strip_prefix("function_execution_") {
            let call = event["function_call_id"].as_str().unwrap().to_owned();
            calls.entry(call).or_default().push(kind.to_owned());
        }
    }
    for (call, events) in calls {
        assert_eq!(events, ["start", "end"], "{call}");
    }
}

/// The calls of the transcript with their results: one each, in the order of the calls, right behind them.
fn calls(messages: &[Value]) -> Vec<(String, String)> {
    let mut results = Vec::new();
    let mut open: Vec<String> = Vec::new();
    for message in messages {
        let line = line(message);
        if let Some((call, outcome)) = line.strip_prefix("result ").and_then(|line| line.split_once(' ')) {
            assert!(
                !open.is_empty() && open.remove(0) == call,
                "{line} answers nothing"
            );
            results.push((call.to_owned(), outcome.to_owned()));
            continue;
        }
        assert_eq!(open, Vec::<String>::new(), "calls without a result before {line}");
        let blocks = message["content"].as_array().into_iter().flatten();
        open = blocks
            .filter(|block| block["type"] == "function_call")
            .map(|block| block["id"].as_str().unwrap().to_owned())
            .collect();
    }
    assert_eq!(open, Vec::<String>::new(), "calls without a result");
    results
}
