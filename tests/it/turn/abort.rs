//! `run::abort` (contract 02 §3.1), whatever the run is doing.

mod any_time;
mod calls;
mod foreign;
mod model;

use serde_json::{Value, json};

use crate::support::TestBus;

async fn abort(t: &TestBus, session: &str) -> Value {
    t.ok("run::abort", json!({ "session_id": session })).await
}

fn aborted(session: &str, state: &str) -> Value {
    json!({ "session_id": session, "aborted": true, "state": state })
}

/// Waits until an event of the session has been stored.
async fn shows(t: &TestBus, session: &str, such: impl Fn(&Value) -> bool) {
    t.eventually(async || t.events(session).await.iter().any(&such).then_some(()))
        .await;
}
