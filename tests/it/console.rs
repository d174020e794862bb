//! Contract 11: the program as the console drives it, with exactly its payloads, over a scripted model server.

mod approvals;
mod compaction;
mod kickoff;
mod killed;
mod models;
mod screen;
mod subscriptions;
mod turns;

use harness::scripted::{Reply, Script};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::model_rig::ModelRig;
use super::support::bus::Recorded;
use screen::Screen;

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
