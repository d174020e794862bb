//! Plays a history, keeping a model of what may and must come of it.

use std::collections::BTreeSet;
use std::time::Duration;

use harness::scripted::{Reply, Request};
use serde_json::{Value, json};

use super::judge;
use super::ops::{Op, Verdict};
use crate::matrix::line::Line;
use crate::matrix::world::{WORK, World, answer};
use crate::support::TestBus;
use crate::support::engine::within;
use crate::turn::user;

pub(super) const SESSIONS: [&str; 2] = ["s0", "s1"];

/// A message that somebody sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub(super) session: usize,
    pub(super) text: String,
    /// `start`, or the inbox.
    pub(super) way: &'static str,
    /// It was acknowledged: from then on it may not be lost.
    pub(super) acknowledged: bool,
}

/// What is known about two sessions.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) sent: Vec<Sent>,
    /// Session and call of every permission that was given.
    pub(super) allowed: BTreeSet<(usize, String)>,
    /// Sessions whose calls may run without asking.
    pub(super) released: [bool; 2],
}

/// Panics when something does not hold.
pub(super) fn play(history: &[Op], line: Line) {
    let world = World::new(line, reply);
    let mut model = Model::default();
    let mut ahead = history.iter();
    loop {
        let is_through = world.live(async |t| {
            let line = &world.line;
            for op in ahead.by_ref() {
                line.alive(within(perform(t, line, op, &mut model))).await?;
            }
            line.alive(settle(t, line, &mut model)).await?;
            if !line.calm() {
                return None;
            }
            last_run(t, line, &mut model).await;
            judge::judge(t, &world, &model).await;
            Some(())
        });
        if is_through.is_some() {
            return;
        }
    }
}

/// The words behind the first one are the calls to make.
fn reply(line: &Line, request: &Request) -> Reply {
    if line.is_dead() {
        return Reply::hangs(harness::scripted::Gate::new());
    }
    let text = request.last_user_text();
    let mut words = text.split(' ').map(str::to_owned);
    let name = words.next().unwrap_or_default();
    let calls: Vec<String> = words.filter(|word| word.starts_with(['A', 'C'])).collect();
    if calls.is_empty() || !request.tool_results().is_empty() {
        return answer(line, &format!("Re: {name}"), &[]);
    }
    answer(line, "On it.", &calls)
}

async fn perform(t: &TestBus, line: &Line, op: &Op, model: &mut Model) {
    match op {
        Op::Start { session, text } => start(t, *session, text, model).await,
        Op::Push { session, inbox, text } => {
            let place = model.send(*session, text, inbox);
            let item = json!({ "name": inbox, "session_id": SESSIONS[*session], "item": user(text) });
            t.ok("session-inbox::push", item).await;
            model.sent[place].acknowledged = true;
        }
        Op::Decide {
            session,
            call,
            verdict,
            twice,
        } => {
            for _ in 0..=usize::from(*twice) {
                decide(t, *session, call, *verdict, model).await;
            }
        }
        Op::Always { session } => {
            model.released[*session] = true;
            let grant = json!({ "session_id": SESSIONS[*session], "function_id": WORK });
            t.ok("approval::approve_always", grant).await;
        }
        Op::Mode { session, mode } => {
            model.released[*session] |= *mode == "full";
            let mode = json!({ "session_id": SESSIONS[*session], "mode": mode });
            t.ok("approval::set_mode", mode).await;
        }
        Op::Abort { session } => {
            t.ok("run::abort", json!({ "session_id": SESSIONS[*session] }))
                .await;
        }
        Op::Wake { session } => wake(t, *session).await,
        Op::Crash => line.die(),
        Op::CrashIn { passages } => line.die_in(*passages),
        Op::Rest { ms } => tokio::time::sleep(Duration::from_millis(*ms)).await,
    }
}

async fn start(t: &TestBus, session: usize, text: &str, model: &mut Model) {
    let place = model.send(session, text, "start");
    let reply = t.ok("run::start", run(session, text)).await;
    if reply["started"] == true {
        model.sent[place].acknowledged = true;
    } else {
        assert_eq!(reply["reason"], "session_busy", "{reply}");
        model.sent.remove(place);
    }
}

fn run(session: usize, text: &str) -> Value {
    json!({ "session_id": SESSIONS[session], "provider": "openai", "model": "gpt-5", "messages": [user(text)] })
}

async fn decide(t: &TestBus, session: usize, call: &str, verdict: Verdict, model: &mut Model) {
    let decision = match verdict {
        Verdict::Allow => {
            model.allowed.insert((session, call.to_owned()));
            "allow"
        }
        Verdict::Deny => "deny",
        Verdict::Aborted => "aborted",
    };
    let request = json!({ "session_id": SESSIONS[session], "function_call_id": call, "decision": decision });
    assert_eq!(t.ok("approval::resolve", request).await["ok"], true);
}

/// What a queue delivers twice.
async fn wake(t: &TestBus, session: usize) {
    let states = [
        "provisioning",
        "assistant_streaming",
        "function_execute",
        "function_awaiting_approval",
        "steering_check",
    ];
    for state in states {
        // A session that never began is an error.
        t.call(
            &format!("turn::{state}"),
            json!({ "session_id": SESSIONS[session] }),
        )
        .await
        .ok();
    }
    let event = json!({ "event_type": "state:created", "scope": "approvals",
        "key": format!("{}/C", SESSIONS[session]), "new_value": { "decision": "allow" } });
    t.ok("turn::on_approval", event).await;
}

/// Allows what waits until no session is at work.
async fn settle(t: &TestBus, line: &Line, model: &mut Model) {
    within(async {
        for session in 0..SESSIONS.len() {
            while !rests(t, line, session, model).await {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    })
    .await;
}

async fn rests(t: &TestBus, line: &Line, session: usize, model: &mut Model) -> bool {
    let row = json!({ "scope": "turn_state", "key": SESSIONS[session] });
    let record = line.peek("state::get", row).await;
    for call in record["awaiting_approval"].as_array().into_iter().flatten() {
        let call = call["function_call_id"].as_str().unwrap();
        decide(t, session, call, Verdict::Allow, model).await;
    }
    match record["state"].as_str() {
        None => true,
        // The last event may come behind the record.
        Some("stopped" | "failed") => record["agent_end_emitted"] == true,
        Some(_) => false,
    }
}

/// A last run on each session takes in what the inboxes still hold.
async fn last_run(t: &TestBus, line: &Line, model: &mut Model) {
    for (session, text) in ["last0", "last1"].into_iter().enumerate() {
        start(t, session, text, model).await;
        let last = model.sent.last().unwrap();
        assert_eq!(
            (last.session, last.text.as_str()),
            (session, text),
            "the session is busy for ever"
        );
    }
    settle(t, line, model).await;
}

impl Model {
    fn send(&mut self, session: usize, text: &str, way: &'static str) -> usize {
        self.sent.push(Sent {
            session,
            text: text.to_owned(),
            way,
            acknowledged: false,
        });
        self.sent.len() - 1
    }
}
