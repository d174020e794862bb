//! The workers `harness` and `models-catalog` alone, and what tests of pushes need beyond [`TestBus`].

use std::collections::HashMap;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

use harness::bus::{StreamItem, Write};
use harness::error::Error;
use harness::workers;
use serde_json::{Value, json};

use super::support::bus::Recorded;
use super::support::{TestBus, TestOptions};

const EVENTS: &str = "agent::events";

/// A program of these two workers.
pub(crate) struct Rig(TestBus);

impl Deref for Rig {
    type Target = TestBus;
    fn deref(&self) -> &TestBus {
        &self.0
    }
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(&[], None).await
    }

    /// With an environment; on disk when there is a directory.
    pub(crate) async fn with(env: &[(&str, &str)], directory: Option<&Path>) -> Self {
        let env: HashMap<String, String> = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let options = TestOptions {
            env,
            data_dir: directory.map(Path::to_owned),
            workers: vec![workers::harness::worker(), workers::models::worker()],
            ..TestOptions::default()
        };
        Self(TestBus::with(options).await)
    }

    /// A function that always fails.
    pub(crate) fn fails(&self, id: &str, error: Error) -> Recorded {
        self.record_with(id, move |_| Err(error.clone()))
    }

    /// A browser's handler of session events.
    pub(crate) fn browser(&self, browser: &str) -> Recorded {
        self.record(&format!("ui::session::event::{browser}"), Value::Null)
    }

    /// Waits until that many calls have come; answers all that came.
    pub(crate) async fn arrived(&self, calls: &Recorded, count: usize) -> Vec<Value> {
        self.eventually(async || (calls.count() >= count).then(|| calls.all()))
            .await
    }

    pub(crate) async fn subscribe(&self, browser: &str, session: Value) -> Value {
        let request = json!({ "browser_id": browser, "session_id": session });
        self.ok("ui::subscribe", request).await
    }

    pub(crate) async fn unsubscribe(&self, browser: &str, session: Value) -> Value {
        let request = json!({ "browser_id": browser, "session_id": session });
        self.ok("ui::unsubscribe", request).await
    }

    /// Writes an event as another process does.
    pub(crate) async fn foreign(&self, session: &str, item: &str, data: Value) {
        let request = json!({"stream_name": EVENTS, "group_id": session, "item_id": item, "data": data});
        self.ok("stream::set", request).await;
    }

    /// Writes an event as this process does: shown first, then stored.
    pub(crate) async fn emit(&self, session: &str, seq: usize, data: Value) {
        let item = StreamItem {
            stream: EVENTS.into(),
            group: session.into(),
            item: format!("{session}-{}-{seq:08}", self.bus().epoch()),
            data: Arc::new(data),
        };
        self.bus().show_to_taps(&item);
        let write = Write::StreamSet {
            stream: EVENTS.into(),
            group: session.into(),
            item: item.item,
            data: item.data,
        };
        self.bus().transport().commit(vec![write]).await.unwrap();
    }

    pub(crate) async fn stop(self) {
        self.0.stop().await;
    }
}

/// What a browser gets for an event.
pub(crate) fn push(session: &str, event: Value) -> Value {
    Value::from_iter([("session_id", Value::from(session)), ("event", event)])
}
