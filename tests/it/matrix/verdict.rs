//! What must hold whatever happened, and what is told of it.

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::world::World;
use super::{SESSION, story};
use crate::crash::outcome::{check_events, line};
use crate::support::TestBus;
use crate::turn::of_type;

/// Checks everything, goes on with a further run, and answers in short what became of the first one. `pushed`: the message
/// "hurry" was accepted.
pub(super) async fn verdict(t: &TestBus, world: &World, pushed: bool) -> String {
    let shared = world.line.is_shared();
    let events = ended(t, world, 1).await;
    let view = t.ok("turn::get_state", json!({ "session_id": SESSION })).await;
    if view["state"] == "failed" {
        return failed(t, world, &events, pushed).await;
    }
    assert_eq!(view["state"], "stopped", "{view}");
    // Where there are no transactions events come behind what they tell of.
    if !shared {
        check_events(&events);
    }
    assert_eq!(inbox(t).await, Vec::<Value>::new(), "what waits in the inbox");
    let told = transcript(t).await;
    let (cut, mut whole): (Vec<String>, Vec<String>) =
        told.iter().cloned().partition(|line| line.ends_with(" (error)"));
    if shared {
        // A start that was refused half-way leaves its message; the client has said it again.
        whole.dedup_by(|one, other| one == "user go" && one == other);
    }
    let outcomes = calls(whole, world);

    assert_eq!(t.ok("run::start", story::start("next")).await["started"], true);
    let all = ended(t, world, 2).await;
    assert_eq!(of_type(&all, "agent_end").len(), 2, "{all:#?}");
    assert!(
        shared || all[..events.len()] == events,
        "events of the first run: {all:#?}"
    );
    let after: Vec<String> = ["user next", "assistant Re: next"].map(str::to_owned).into();
    assert_eq!(transcript(t).await, [told, after].concat());
    assert_eq!(world.server.violations(), Vec::<String>::new());

    let mut notes = outcomes;
    notes.extend(cut.iter().map(|_| "cut answer kept".to_owned()));
    if notes.is_empty() {
        return "as if nothing had happened".to_owned();
    }
    notes.join(", ")
}

/// The store was away for too long: the run says that it failed. What the user said is not lost, and the session goes on.
async fn failed(t: &TestBus, world: &World, events: &[Value], pushed: bool) -> String {
    let shared = world.line.is_shared();
    assert_eq!(of_type(events, "agent_end").len(), 1);
    assert_eq!(events.last().unwrap()["type"], "agent_end");
    let waiting = inbox(t).await.len();
    let told = transcript(t).await;
    assert_eq!(t.ok("run::start", story::start("next")).await["started"], true);
    let all = ended(t, world, 2).await;
    assert!(
        shared || all[..events.len()] == *events,
        "events of the first run: {all:#?}"
    );
    let after = transcript(t).await;
    assert_eq!(after[..told.len()], told);
    assert_eq!(inbox(t).await, Vec::<Value>::new(), "what waits in the inbox");
    let times = |text: &str| after.iter().filter(|line| *line == text).count();
    assert_eq!(times("user next"), 1, "{after:?}");
    assert!(
        times("user go") == 1 || shared && times("user go") > 1,
        "{after:?}"
    );
    assert_eq!(times("user hurry"), usize::from(pushed), "{after:?}");
    let effects = world.effects.lock().unwrap().clone();
    for call in ["A", "B", "C"] {
        let runs = effects.iter().filter(|effect| *effect == call).count();
        let ok = times(&format!("result {call} ok"));
        let results = after
            .iter()
            .filter(|line| line.starts_with(&format!("result {call} ")))
            .count();
        assert!(
            ok <= runs && runs <= 1 && results <= 1,
            "{call} ran {runs} times: {after:?}"
        );
    }
    assert_eq!(world.server.violations(), Vec::<String>::new());
    let says = told.last().is_some_and(|line| line.ends_with(" (error)"));
    let says = if says {
        " and says why"
    } else {
        ", the transcript could not be told"
    };
    let left = if waiting > 0 {
        ", the message waits for the next run"
    } else {
        ""
    };
    format!("run failed{says}{left}")
}

/// Waits for the end of a run; answers all events.
async fn ended(t: &TestBus, world: &World, runs: usize) -> Vec<Value> {
    if !world.line.is_shared() {
        return t.ended(SESSION, runs).await;
    }
    // The mark comes behind the event there.
    t.eventually(async || {
        let row = json!({ "scope": "turn_state", "key": SESSION });
        let record = world.line.peek("state::get", row).await;
        (record["agent_end_emitted"] == true).then_some(())
    })
    .await;
    t.events(SESSION).await
}

/// What is unusual about the calls of a transcript without its failed answers.
fn calls(mut whole: Vec<String>, world: &World) -> Vec<String> {
    let effects = world.effects.lock().unwrap().clone();
    let mut notes = Vec::new();
    if let Some(early) = whole.iter().position(|line| line == "assistant Re: go") {
        whole.remove(early);
        notes.push("the message is answered a turn later".to_owned());
    }
    let results = ["A", "B", "C"].map(|call| {
        let prefix = format!("result {call} ");
        let results: Vec<&str> = whole
            .iter()
            .filter_map(|line| line.strip_prefix(&prefix))
            .collect();
        assert_eq!(results.len(), 1, "results of {call} in {whole:?}");
        let runs = effects.iter().filter(|effect| *effect == call).count();
        match results[0] {
            "ok" => assert_eq!(runs, 1, "{call} is told to have run"),
            "interrupted" => assert!(runs <= 1, "{call} ran {runs} times"),
            other => panic!("{call}: {other}"),
        }
        if results[0] == "interrupted" {
            notes.push(format!(
                "{call} interrupted ({})",
                if runs == 1 { "had run" } else { "had not run" }
            ));
        }
        format!("{prefix}{}", results[0])
    });
    let [a, b, c] = results;
    let expected = [
        "user go".to_owned(),
        "assistant On it., calls A, calls B, calls C".to_owned(),
        a,
        b,
        c,
        "user hurry".to_owned(),
        "assistant Re: hurry".to_owned(),
    ];
    assert_eq!(whole, expected);
    notes
}

/// The messages of the session, oldest first, as short lines.
pub(super) async fn transcript(t: &TestBus) -> Vec<String> {
    let reply = t
        .call("session-tree::messages", json!({ "session_id": SESSION }))
        .await;
    let rows = reply.map_or_else(
        |_| Vec::new(),
        |reply| reply["messages"].as_array().unwrap().clone(),
    );
    rows.iter().map(|row| line(&row["message"])).collect()
}

/// What waits in the steering inbox.
pub(super) async fn inbox(t: &TestBus) -> Vec<Value> {
    let request = json!({ "name": "steering", "session_id": SESSION });
    t.ok("session-inbox::peek", request).await["items"]
        .as_array()
        .unwrap()
        .clone()
}
