//! `approval::*` through the bus (contract 03 §2, acceptance cases 1 to 23).

mod default_mode;
mod resolve;
mod settings;

use std::ops::Deref;
use std::sync::Arc;

use harness::clock::ManualClock;
use harness::error::{Error, Result};
use harness::workers::approval;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::rig::NOW_MS;
use crate::support::{TestBus, TestOptions};

/// The worker on an engine.
struct Rig {
    t: TestBus,
    clock: Arc<ManualClock>,
}

impl Deref for Rig {
    type Target = TestBus;
    fn deref(&self) -> &TestBus {
        &self.t
    }
}

async fn rig() -> Rig {
    let clock = Arc::new(ManualClock::at(NOW_MS));
    let options = TestOptions {
        clock: clock.clone(),
        workers: vec![approval::worker()],
        ..TestOptions::default()
    };
    let t = TestBus::with(options).await;
    Rig { t, clock }
}

fn ok() -> Value {
    json!({"ok": true})
}

fn failed(error: &str) -> Value {
    json!({"ok": false, "error": error})
}

fn settings(mode: &str, always_allow: &Value, approved_always: &Value, mode_set_at: i64) -> Value {
    json!({"mode": mode, "always_allow": always_allow, "approved_always": approved_always, "mode_set_at": mode_set_at})
}

fn grant(function_id: &str) -> Value {
    json!({"function_id": function_id, "granted_at": NOW_MS, "granted_by": "user_click"})
}

impl Rig {
    async fn resolve(&self, request: Value) -> Value {
        self.ok("approval::resolve", request).await
    }

    async fn settings(&self, session_id: &str) -> Value {
        self.ok("approval::get_settings", json!({ "session_id": session_id }))
            .await
    }

    async fn decisions(&self) -> Value {
        self.ok("state::list", json!({"scope": "approvals"})).await
    }

    async fn default_mode_becomes(&self, mode: &str) {
        self.eventually(async || (self.settings("fresh").await["mode"] == mode).then_some(()))
            .await;
    }
}

fn refused(_: &Value) -> Result<Value> {
    Err(Error::coded("STATE_ERROR", "disk full"))
}

#[tokio::test]
async fn clients_can_tell_which_functions_are_for_them() {
    let rig = rig().await;
    let catalog = rig.bus().catalog();
    let all: Vec<_> = catalog
        .iter()
        .map(|info| (info.id.as_str(), info.metadata.is_some()))
        .collect();
    assert_eq!(
        all,
        [
            ("approval::add_always_allow", true),
            ("approval::approve_always", true),
            ("approval::clear_settings", true),
            ("approval::get_settings", true),
            ("approval::on_harness_config", false),
            ("approval::remove_always_allow", true),
            ("approval::resolve", true),
            ("approval::set_mode", true),
        ]
    );
    for info in catalog {
        for schema in [info.request_schema.unwrap(), info.response_schema.unwrap()] {
            jsonschema::validator_for(&schema).unwrap();
        }
    }
}
