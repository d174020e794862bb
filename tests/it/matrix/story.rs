//! The scripted run: calls A and B run side by side, C waits for a person; while it does the user sends "hurry"; then C is
//! approved and the model answers.

use std::time::Duration;

use harness::scripted::{Reply, Request};
use serde_json::{Value, json};

use super::SESSION;
use super::line::Line;
use super::world::{self, World};
use crate::support::TestBus;
use crate::support::engine::within;
use crate::turn::user;

pub(super) fn world(line: Line) -> World {
    World::new(line, reply)
}

fn reply(line: &Line, request: &Request) -> Reply {
    let text = request.last_user_text();
    if !line.reach(format!("model: asked about {text:?}")) {
        return Reply::hangs(harness::scripted::Gate::new());
    }
    match text.as_str() {
        "go" if request.tool_results().is_empty() => {
            world::answer(line, "On it.", &["A", "B", "C"].map(str::to_owned))
        }
        text => world::answer(line, &format!("Re: {text}"), &[]),
    }
}

/// What the client knows of its own doings.
#[derive(Default)]
pub(super) struct Client {
    pub(super) pushed: bool,
    decided: bool,
    /// The end may have been shown to nobody.
    has_died: bool,
}

impl Client {
    /// Does its part until the run has ended; false when the program died before.
    pub(super) async fn play(&mut self, t: &TestBus, line: &Line) -> bool {
        let playing = async {
            loop {
                if self.step(t, line).await {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        line.alive(within(playing)).await.is_some()
    }

    /// After a death it looks what became of what it did last.
    pub(super) async fn remember(&mut self, t: &TestBus) {
        (self.decided, self.has_died) = (false, true);
        let transcript = super::verdict::transcript(t).await;
        let waiting = super::verdict::inbox(t).await;
        self.pushed = !waiting.is_empty() || transcript.iter().any(|line| line == "user hurry");
    }

    /// True once the run has ended.
    async fn step(&mut self, t: &TestBus, line: &Line) -> bool {
        let record = line
            .peek("state::get", json!({ "scope": "turn_state", "key": SESSION }))
            .await;
        let state = record["state"].as_str().unwrap_or_default();
        match state {
            "" => {
                if t.call("run::start", start("go")).await.is_err() {
                    line.heal();
                }
                return false;
            }
            "stopped" | "failed" if line.is_shared() => {
                line.heal();
                // What the safety net does half a minute later: whoever looks at the session ends what was not ended.
                t.call("run::abort", session()).await.ok();
                return record["agent_end_emitted"] == true;
            }
            "stopped" | "failed" => return has_ended(line).await && (line.is_over() || self.has_died),
            "function_awaiting_approval" if !line.is_failing() => self.answer(t, line).await,
            _ => {}
        }
        if line.is_failing() {
            // It gives up when its attempts are used up; only then does the store come back.
            if t.call("turn::steering_check", session()).await.is_err() {
                line.heal();
            }
        } else if line.was_hit() {
            // What the safety net does half a minute later.
            t.call(&format!("turn::{state}"), session()).await.ok();
        }
        false
    }

    async fn answer(&mut self, t: &TestBus, line: &Line) {
        if !self.pushed {
            let item = json!({ "name": "steering", "session_id": SESSION, "item": user("hurry") });
            self.pushed = t.call("session-inbox::push", item).await.is_ok();
            if !self.pushed {
                line.heal();
            }
        } else if !self.decided {
            let decision = json!({ "session_id": SESSION, "function_call_id": "C", "decision": "allow" });
            let reply = t.call("approval::resolve", decision).await;
            self.decided = reply.is_ok_and(|reply| reply["ok"] == true);
            if !self.decided {
                line.heal();
            }
        }
    }
}

async fn has_ended(line: &Line) -> bool {
    let request = json!({ "stream_name": "agent::events", "group_id": SESSION });
    let events = line.peek("stream::list", request).await;
    let mut events = events.as_array().into_iter().flatten();
    events.any(|event| event["type"] == "agent_end")
}

fn session() -> Value {
    json!({ "session_id": SESSION })
}

pub(super) fn start(text: &str) -> Value {
    json!({ "session_id": SESSION, "provider": "openai", "model": "gpt-5", "messages": [user(text)] })
}
